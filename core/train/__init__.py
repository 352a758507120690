"""Batches, tasks and the loop that trains a net."""

__all__ = ["landmark_loader", "loader", "tasks", "trainer"]

"""Training of a net: its batches, its task, and the loop over the epochs."""

__all__ = ["landmark_loader", "loader", "log", "tasks", "trainer", "trunk"]

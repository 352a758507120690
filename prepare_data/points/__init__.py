"""Faces with landmark points: reads the lists and folders they come in, checks, cuts and labels them."""

__all__ = ["cuts", "face_sets", "sets"]

"""Faces with landmark points: reads the lists and folders they come in, checks them, cuts them out
of their pictures, and gives them the points that a net finds."""

__all__ = ["cuts", "face_sets", "readers", "sets"]

"""Figures and pictures about detections and points."""

__all__ = [
    "detections",
    "landmark_pictures",
    "landmarks",
    "metrics",
    "plots",
    "stage_figures",
    "stages",
]

"""Figures and pictures about detections and landmark points."""

__all__ = [
    "detections",
    "landmark_pictures",
    "landmarks",
    "metrics",
    "plots",
    "stage_figures",
    "stages",
]

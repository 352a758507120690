"""From annotated photographs to packed stores of samples."""

__all__ = [
    "drawn",
    "face_crop",
    "held_out",
    "joints",
    "landmark_samples",
    "mine",
    "mosaic",
    "points",
    "samples",
    "store",
    "teacher",
    "wider",
]

"""From annotated photographs to packed stores of samples."""

__all__ = [
    "drawn",
    "face_crop",
    "held_out",
    "joints",
    "landmark_samples",
    "mat_file",
    "mine",
    "mosaic",
    "points",
    "samples",
    "store",
    "teacher",
    "wider",
]

"""Faces in pictures, and their landmarks, by cascades of small nets: pictures in, faces out.

    from facelet import FaceDetector

    detector = FaceDetector.open()              # or a folder of your own nets
    faces = detector.detect("picture.jpg")      # or bytes, an array, a PIL image, a list of these
    print(faces)
    faces.boxes, faces.scores, faces.landmarks  # (N, 4), (N,), (N, 5, 2)

It stands by itself: NumPy, OpenCV and onnxruntime are all that it imports. The nets are trained
and exported by the toolkit that it is part of.
"""

import os
from typing import TYPE_CHECKING

# onnxruntime's own builds report their use to Microsoft, and note an id in the user's home.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

if TYPE_CHECKING:
    from facelet.console import Problem
    from facelet.detector import FaceDetector
    from facelet.faces import Face, Faces
    from facelet.picture import BrokenPicture

__version__ = "1.0.0"
__all__ = ["BrokenPicture", "Face", "FaceDetector", "Faces", "Problem"]

# Imported when first asked for: messages and files need neither OpenCV nor onnxruntime.
_WHERE = {
    "BrokenPicture": "picture",
    "FaceDetector": "detector",
    "Faces": "faces",
    "Face": "faces",
    "Problem": "console",
}


def __getattr__(name: str) -> object:
    if name not in _WHERE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"{__name__}.{_WHERE[name]}"), name)

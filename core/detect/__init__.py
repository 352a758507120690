"""The detector of facelet for nets of any kind, checkpoints among them, and YuNet beside it."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from core.detect.detector import FaceDetector

__all__ = ["FaceDetector", "detector", "mxnet_net", "nets", "yunet"]


def __getattr__(name):
    if name != "FaceDetector":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    # Imported when first asked for: YuNet needs none of what the detector does.
    from core.detect.detector import FaceDetector

    return FaceDetector

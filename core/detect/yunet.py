"""YuNet, a face detector by others that OpenCV runs: a teacher, and a rival to measure against.

Its models are not part of this toolkit; yunet_n_640_640.onnx and yunet_s_640_640.onnx are two that
OpenCV loads.
"""

from pathlib import Path

import cv2
import numpy as np

from facelet import boxes as geometry
from facelet.console import Problem
from facelet.opencv import SILENT, set_log_level

# OpenCV fills pictures up to multiples of 32. With a side of 32, where a map is a single cell
# wide, version 4.11 takes boxes out of memory that nobody has written.
SMALLEST = 64
CANDIDATES = 5000  # boxes that go into non-maximum suppression, the best


class YuNet:
    """A model file, run by OpenCV.

    score -- from which a box is kept; nms -- greatest IoU of two boxes

    Raises Problem for a file that is none.
    """

    def __init__(self, path, score=0.9, nms=0.3):
        if not Path(path).is_file():
            raise Problem(f"{path} is not there, or no file")
        before = set_log_level(SILENT)  # the Problem says it all
        try:
            self.model = cv2.FaceDetectorYN.create(
                str(path), "", (SMALLEST, SMALLEST), score, nms, CANDIDATES
            )
            self.detect(np.zeros((SMALLEST, SMALLEST, 3), np.uint8))
        except cv2.error:
            raise Problem(
                f"{path} is no YuNet model that OpenCV reads: give one of a fixed size, "
                "e.g. yunet_n_640_640.onnx, which takes pictures of any"
            ) from None
        finally:
            set_log_level(before)

    def detect(self, picture):
        """The faces in a picture uint8 (H, W, 3) BGR, at its own size: boxes (N, 4) float32, x1 y1
        x2 y2, which may reach over the border, and scores (N,) float32."""
        height, width = picture.shape[:2]
        if min(height, width) < SMALLEST:
            picture = cv2.copyMakeBorder(
                picture,
                0,
                max(SMALLEST - height, 0),
                0,
                max(SMALLEST - width, 0),
                cv2.BORDER_CONSTANT,
            )
        self.model.setInputSize(picture.shape[1::-1])
        found = self.model.detect(picture)[1]
        found = np.zeros((0, 15), np.float32) if found is None else found
        boxes = np.concatenate([found[:, :2], found[:, :2] + found[:, 2:4]], axis=1)
        kept = geometry.whole(boxes)
        return boxes[kept], found[kept, 14]

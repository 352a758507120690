"""What is found in a picture."""

from dataclasses import dataclass
from typing import Optional

import numpy as np


@dataclass(frozen=True)
class Faces:
    """What was found in a picture, best first.

    boxes -- (N, 4) float32, x1 y1 x2 y2 in continuous pixel coordinates; may reach over the border
    scores -- (N,) float32, probability of a face
    landmarks -- (N, P, 2) float32, x and y with (0, 0) the centre of the first pixel; None
        without a net that gives points
    windows -- (N, 4) float32, what the net that found each looked at: windows of a Pnet, squares
        around the boxes of the net before; None where that isn't known
    """

    boxes: np.ndarray
    scores: np.ndarray
    landmarks: Optional[np.ndarray] = None
    windows: Optional[np.ndarray] = None

    def __len__(self):
        return len(self.boxes)

    def chosen(self, index):
        """Those of an index array."""
        return Faces(
            *(
                None if values is None else values[index]
                for values in (self.boxes, self.scores, self.landmarks, self.windows)
            )
        )

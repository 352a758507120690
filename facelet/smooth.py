"""Points of faces in videos, steadied by the One-Euro filter (Casiez, Roussel and Vogel 2012).

A point is low-pass filtered, the less the faster it moves: a still face does not tremble, a moving
one is followed. What that costs is lag, 1 / (2 pi f) seconds for a point that moves evenly, where f
is the cut-off frequency at its speed, Smoothing.still + Smoothing.moving * speed, in sides
of the face's box a second. So it comes 0.16 s late at most, and trails the face by less than
1 / (2 pi moving), 1.6 %, of the box's side however fast that is; by more in the moment in which it
starts, 4 % at two sides a second. On faces that are still but for the noise of the picture, points
move a third as much from frame to frame as they do unfiltered. (Going halfway to the new ones gives
two fifths, and a lag of a frame at any speed: 8 % at two sides a second.)
"""

from dataclasses import replace
from typing import Any, Optional

import numpy as np

from facelet import boxes as geometry
from facelet.arrays import Array
from facelet.console import Problem
from facelet.faces import Faces
from facelet.settings import Smoothing

USUAL = Smoothing()
SAME_FACE = 0.5  # IoU from which boxes of successive frames are one face's


def lag(speed: float, settings: Smoothing = USUAL) -> float:
    """Seconds by which points are late that move evenly at `speed`, sides of the box a second."""
    return 1 / (2 * np.pi * (settings.still + settings.moving * speed))


TRAIL = 1 / (2 * np.pi * USUAL.moving)  # at most, of points that move evenly; box sides


class Smoother:
    """The filter for one video.

    rate -- frames a second; settings -- how strongly
    """

    def __init__(self, rate: float, settings: Smoothing = USUAL) -> None:
        self.rate, self.settings = rate, settings
        # Of the frame before: boxes, points as detected, points as smoothed, velocities (N, P, 2).
        self.last: Optional[tuple[Array, Array, Array, Array]] = None

    def __call__(self, faces: Faces) -> Faces:
        """The Faces of the next frame with their points smoothed. A face that was not there in the
        frame before keeps its points. Raises Problem for Faces without points."""
        if faces.landmarks is None:
            raise Problem("there is nothing to smooth: these faces have no points")
        points = faces.landmarks.copy()
        velocities = np.zeros_like(points)
        if self.last is not None and len(self.last[0]) and len(faces):
            boxes, found, smoothed, before = self.last
            overlap = geometry.iou(faces.boxes, boxes)
            nearest = overlap.argmax(axis=1)
            mutual = overlap.argmax(axis=0)[nearest] == np.arange(len(faces))
            same = np.flatnonzero(mutual & (overlap.max(axis=1) >= SAME_FACE))
            old = nearest[same]
            new = (faces.landmarks[same] - found[old]) * self.rate
            velocities[same] = before[old] + self._part(self.settings.change) * (new - before[old])
            sides = np.max(faces.boxes[same, 2:] - faces.boxes[same, :2], axis=1)[:, None]
            speed = np.linalg.norm(velocities[same], axis=2) / sides
            part = self._part(self.settings.still + self.settings.moving * speed)[:, :, None]
            points[same] = smoothed[old] + part * (points[same] - smoothed[old])
        self.last = faces.boxes, faces.landmarks, points, velocities
        return replace(faces, landmarks=points)

    def _part(self, frequency: Any) -> Any:
        """Part of the new value in the output of a low-pass filter of a cut-off frequency, Hz."""
        return 1 / (1 + self.rate / (2 * np.pi * frequency))

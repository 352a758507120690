"""What is found in a picture."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from typing import Any, Optional, Union, overload

import cv2
import numpy as np

from facelet import boxes as geometry
from facelet import picture as pictures
from facelet import schemes
from facelet.arrays import Array, Floats, Pixels
from facelet.console import Problem
from facelet.picture import Picture

# Where the eyes, the nose and the corners of the mouth are in an aligned crop of 112 x 112 pixels,
# as nets for face recognition want them (those of ArcFace's authors); (0, 0) is the centre of the
# first pixel.
ALIGNED = np.array(
    [
        [38.2946, 51.6963],
        [73.5318, 51.5014],
        [56.0252, 71.7366],
        [41.5493, 92.3655],
        [70.7299, 92.2041],
    ]
)
ALIGNED_SIZE = 112
ALIGNED_PLACES = (
    "left eye",
    "right eye",
    "nose tip",
    "left corner of the mouth",
    "right corner of the mouth",
)
FACES_SHOWN = 5  # when Faces are printed


def _equal(one: Any, other: Any) -> Any:
    """Whether two objects of one dataclass have equal fields, arrays or None among them."""
    if type(one) is not type(other):
        return NotImplemented
    pairs = [(getattr(one, field.name), getattr(other, field.name)) for field in fields(one)]
    return all((a is None) == (b is None) and np.array_equal(a, b) for a, b in pairs)


@dataclass(frozen=True, eq=False, repr=False)
class Face:
    """A face in a picture.

    box -- (4,) float32, x1 y1 x2 y2 in continuous pixel coordinates, in which the first pixel
        reaches from 0 to 1; may reach over the border of the picture
    score -- probability of a face
    landmarks -- (P, 2) float32, x and y with (0, 0) the centre of the first pixel; None without
        a net that gives points
    scheme -- name of the order of the points (facelet.schemes), None where it isn't known
    """

    box: Floats
    score: float
    landmarks: Optional[Floats] = None
    scheme: Optional[str] = None

    __eq__ = _equal

    def __repr__(self) -> str:
        return f"<Face: {_words(self)}{_points(self.landmarks)}>"


@dataclass(frozen=True, eq=False, repr=False)
class Faces:
    """The faces in a picture, best first: arrays, and a sequence of Face.

    boxes -- (N, 4) float32, x1 y1 x2 y2 in continuous pixel coordinates, in which the first pixel
        reaches from 0 to 1; may reach over the border of the picture
    scores -- (N,) float32, probability of a face
    landmarks -- (N, P, 2) float32, x and y with (0, 0) the centre of the first pixel; None
        without a net that gives points
    windows -- (N, 4) float32, the part of the picture that the net saw which found each: windows
        of a Pnet, squares around the boxes of the net before; None where that isn't known
    scheme -- name of the order of the points (facelet.schemes); None without points, or where it
        isn't known

    faces[0] is a Face; faces[:3], faces[faces.scores > 0.9] and faces[[2, 0]] are Faces.
    """

    boxes: Floats
    scores: Floats
    landmarks: Optional[Floats] = None
    windows: Optional[Floats] = None
    scheme: Optional[str] = None

    __eq__ = _equal

    def __len__(self) -> int:
        return len(self.boxes)

    def __iter__(self) -> Iterator[Face]:
        return (self[i] for i in range(len(self)))

    @overload
    def __getitem__(self, index: int) -> Face: ...

    @overload
    def __getitem__(self, index: Union[slice, Sequence[int], Array]) -> "Faces": ...

    def __getitem__(self, index: Any) -> Union[Face, "Faces"]:
        """The Face at a place, or the Faces of a slice, a list or array of places, or a mask."""
        points, windows = self.landmarks, self.windows
        if isinstance(index, (int, np.integer)) and not isinstance(index, bool):
            own = None if points is None else points[index]
            return Face(self.boxes[index], float(self.scores[index]), own, self.scheme)
        if not isinstance(index, slice):
            index = np.asarray(index)
            index = index.astype(np.intp) if not index.size and index.dtype != bool else index
        return Faces(
            self.boxes[index],
            self.scores[index],
            None if points is None else points[index],
            None if windows is None else windows[index],
            self.scheme,
        )

    def __repr__(self) -> str:
        if not len(self):
            return "<no faces>"
        lines = [f"{i}: {_words(face)}" for i, face in enumerate(self[:FACES_SHOWN])]
        more = [f"and {len(self) - FACES_SHOWN} more"] * (len(self) > FACES_SHOWN)
        count = f"{len(self)} face{'s' * (len(self) > 1)}"
        each = _points(None if self.landmarks is None else self.landmarks[0])
        return f"<{count}{each}\n " + "\n ".join([*lines, *more]) + ">"

    def crops(self, picture: Picture, size: int = ALIGNED_SIZE, order: str = "BGR") -> Pixels:
        """The square around each box, as a net would see it: (N, size, size, 3) uint8, black
        outside the picture.

        picture -- what they were detected in, of any kind that detect() takes
        order -- of the colours in `picture`, if it is an array, and in the crops

        Raises BrokenPicture, and Problem for a size or order that is none.
        """
        source = _opened(picture, size, order)
        squares = geometry.squares(self.boxes)
        return _stacked([pictures.crop(source, square, size) for square in squares], size, order)

    def aligned(self, picture: Picture, size: int = ALIGNED_SIZE, order: str = "BGR") -> Pixels:
        """Each face shifted, turned and scaled so that its eyes, nose and corners of the mouth come
        nearest, in least squares, to where nets for face recognition want them (the template of
        ArcFace, Deng et al. 2019): (N, size, size, 3) uint8, black outside the picture.

        picture -- what they were detected in, of any kind that detect() takes
        order -- of the colours in `picture`, if it is an array, and in the crops

        Raises BrokenPicture, and Problem for faces whose points don't include those places, and for
        a size or order that is none.
        """
        points, source = self._alignment_points(), _opened(picture, size, order)
        scale = size / ALIGNED_SIZE
        target = ALIGNED * scale + (scale - 1) / 2
        crops = [cv2.warpAffine(source, _similarity(face, target), (size, size)) for face in points]
        return _stacked(crops, size, order)

    @property
    def can_be_aligned(self) -> bool:
        """Whether the points include the places that aligned() goes by."""
        return self._alignment_order() is not None

    def _alignment_order(self) -> Optional[schemes.Scheme]:
        if self.landmarks is None:
            return None
        name = self.scheme or schemes.usual(self.landmarks.shape[1])
        order = None if name is None else schemes.get(name)
        return order if order and {*ALIGNED_PLACES} <= {*order.places} else None

    def _alignment_points(self) -> Array:
        """(N, 5, 2), in the order of ALIGNED."""
        order = self._alignment_order()
        if order is None or self.landmarks is None:
            count = 0 if self.landmarks is None else self.landmarks.shape[1]
            raise Problem(
                "faces are aligned by their eyes, nose tip and corners of the mouth, and these "
                f"{f'{count} points are not known to include them' if count else 'have no points'}"
                ": detect with a net that gives 5 or 68 points, or use crops()"
            )
        places = [list(order.places[place]) for place in ALIGNED_PLACES]
        return np.stack([self.landmarks[:, points].mean(axis=1) for points in places], axis=1)


def _words(face: Face) -> str:
    return f"box {' '.join(f'{value:.1f}' for value in face.box)}, score {face.score:.4f}"


def _points(landmarks: Optional[Array]) -> str:
    return "" if landmarks is None else f", {len(landmarks)} points"


def _opened(picture: Picture, size: int, order: str) -> Pixels:
    """The picture, BGR. Raises Problem for a size of crops that is none."""
    if not isinstance(size, (int, np.integer)) or size < 1:
        raise Problem(f"size is {size!r}: it must be a whole number of pixels from 1")
    return pictures.open_any(picture, order)


def _stacked(crops: Sequence[Array], size: int, order: str) -> Pixels:
    """Crops (size, size, 3) BGR as (N, size, size, 3) in an order of colours."""
    stacked = np.stack(crops) if crops else np.zeros((0, size, size, 3), np.uint8)
    return stacked if order == "BGR" else np.ascontiguousarray(stacked[..., ::-1])


def _similarity(points: Array, target: Array) -> Array:
    """The matrix (2, 3) of the shift, turn and scale that brings points (N, 2) nearest to a target
    (N, 2), in least squares."""
    # As complex numbers, a turn with a scale is a product.
    here, there = (values.astype(np.float64) @ [1, 1j] for values in (points, target))
    spread = here - here.mean()
    turn = np.vdot(spread, there) / max(np.vdot(spread, spread).real, 1e-12)
    shift = there.mean() - turn * here.mean()
    return np.array([[turn.real, -turn.imag, shift.real], [turn.imag, turn.real, shift.imag]])

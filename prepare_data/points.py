"""Readers for faces with landmark points, into one form; a reader is a row of READERS.

    list5   path x y w h x1 y1 ... x5 y5    left eye, right eye, nose, left and right corner of the
                                            mouth; left and right as seen in the picture
"""
import itertools
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Callable, Optional

import numpy as np

from core.console import Problem
from core.picture import SUFFIXES

FARTHEST = 1e6     # px: where a coordinate is no longer one of any picture
LOOKED_FOR = 100   # faces whose pictures are looked for, where it isn't said in which folder

# Points that lie left and right of each other in a face that is upright, by scheme.
SIDES = {"5": ((0, 1, "eyes"), (3, 4, "corners of the mouth"))}

# The square that a face detector gives a face, going by its points: its side in units of their root
# mean square distance from their mean, and how far its centre is above that mean, in sides.
# Measured by the five points: the squares that published Pnets and Rnets show an Onet are 4.1 with
# a centre 0.09 above the mean (2,000 faces; the side scatters by 12 %, the centre by 0.08 sides
# across and 0.06 along); boxes of a published Onet and of YuNet, as their longer side, 4.5 and 4.7,
# both 0.08 above; labels of photographs, eyebrows to chin, 4.4 and 0.05; drawn faces 4.6 and 0.08.
BOX_OF_POINTS = {"5": (4.4, 0.07)}


@dataclass(frozen=True)
class Face:
    """A face with its points.

    path -- of the picture, relative to the set's folder of images
    line -- of the list it comes from, counted from 1
    points -- (P, 2) float32, x y with (0, 0) the centre of the first pixel
    box -- (4,) float32, x1 y1 x2 y2 in continuous pixel coordinates, or None
    """
    path: str
    line: int
    points: np.ndarray
    box: Optional[np.ndarray]


@dataclass(frozen=True)
class PointSet:
    """Faces with points in the pictures below one folder.

    scheme -- the order of the points, a key of core.schemes.PARTNERS
    rejected -- a line for each face left out: file, line and reason
    """
    images: Path
    truth: Path
    scheme: str
    faces: list
    rejected: list = field(default_factory=list)

    @property
    def points(self):
        """How many points a face has."""
        return len(self.faces[0].points)

    def pictures(self):
        """Faces by the path of their picture, in the order of the list."""
        found = {}
        for face in self.faces:
            found.setdefault(face.path, []).append(face)
        return found

    def describe(self):
        return (f"{self.truth}: {len(self.faces):,} faces with {self.points} points in "
                f"{len(self.pictures()):,} pictures; rejected {len(self.rejected):,}")


def box_of_points(points, scheme):
    """The square that a detector would give a face, (4,) float64 x1 y1 x2 y2, by its points (P, 2)
    and BOX_OF_POINTS."""
    side_per_spread, above = BOX_OF_POINTS[scheme]
    points = points.astype(np.float64)
    mean = points.mean(axis=0)
    side = side_per_spread * np.sqrt(((points - mean) ** 2).sum(axis=1).mean())
    centre = mean + 0.5 - (0, above * side)
    return np.concatenate([centre - side / 2, centre + side / 2])


class Unusable(ValueError):
    """Why a face can't be used."""


def _number(word):
    try:
        return float(word)
    except ValueError:
        return None


def _listed(line, box, points):
    """Path, box or None, and points of a line `path [x y w h] x1 y1 ...`; the path may have
    spaces. Raises Unusable."""
    numbers = [_number(word) for word in reversed(line.split())]
    numbers = list(itertools.takewhile(lambda number: number is not None, numbers))[::-1]
    wanted = 4 * box + 2 * points
    if len(numbers) != wanted:
        raise Unusable(f"{len(numbers)} numbers at its end, where a path and {wanted} numbers were "
                       "expected")
    path = line.rsplit(None, wanted)[0].strip()
    if not path.lower().endswith(SUFFIXES):
        raise Unusable(f"{path[:60]!r} is no picture's path")
    values = np.array(numbers, np.float64)
    if not np.all(np.abs(values) < FARTHEST):  # NaN neither
        raise Unusable("a number that is none, or lies nowhere")
    values = values.astype(np.float32)
    found = None
    if box and min(values[2:4]) > 0:
        found = np.concatenate([values[:2], values[:2] + values[2:4]])
    return path, found, values[4 * box:].reshape(points, 2)


@dataclass(frozen=True)
class Reader:
    """How a kind of list is read: parse(line) -> path, box or None, points (P, 2) float32; it
    raises Unusable."""
    scheme: str
    parse: Callable


READERS = {"list5": Reader("5", lambda line: _listed(line, True, 5))}


def _check(points, scheme):
    """Raise Unusable for points (P, 2) that can't be those of a face."""
    if len(np.unique(points, axis=0)) < len(points):
        raise Unusable("points that are identical")
    for left, right, name in SIDES[scheme]:
        if points[left, 0] > points[right, 0]:
            raise Unusable(f"the {name} are swapped, or the face is upside down")


def _folder(images, truth, faces):
    """The folder that the pictures are in: `images` if it is given."""
    tried = [Path(images)] if images else [truth.parent / "images", truth.parent,
                                           truth.parent.parent]
    for folder in tried:
        if any((folder / face.path).is_file() for face in faces[:LOOKED_FOR]):
            return folder
    raise Problem(f"none of the first pictures that {truth} lists is in "
                  f"{' or '.join(map(str, tried))}; the first is {faces[0].path}: say where they "
                  "are with --images")


def open_set(truth, images=None, reader="list5"):
    """The PointSet of a list of faces.

    images -- folder that the list's paths are relative to; None looks for it in `images` beside the
        list, beside it, and in the folder above
    reader -- key of READERS

    Raises Problem when the list can't be read, no face in it can be used, or its pictures aren't
    there.
    """
    truth, row = Path(truth), READERS[reader]
    try:
        lines = truth.read_text().splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise Problem(f"{truth} can't be read ({getattr(error, 'strerror', 0) or error})") from None
    faces, rejected = [], []
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            path, box, found = row.parse(line)
            _check(found, row.scheme)
            faces.append(Face(path, number, found, box))
        except Unusable as reason:
            rejected.append(f"{truth}, line {number}: {reason}")
    if not faces:
        raise Problem(f"{truth} has no face that can be used"
                      + (f"; the first: {rejected[0]}" if rejected else ": it is empty"))
    return PointSet(_folder(images, truth, faces), truth, row.scheme, faces, rejected)


def split(point_set, fraction, seed):
    """Two PointSets, (training, held out), by whole pictures: a `fraction` of them is held out, the
    same for each seed. What was rejected is named by the first. Raises Problem for a share that is
    none, or when a part comes out empty."""
    if not 0 < fraction < 1:
        raise Problem(f"a share of {fraction} can't be held out: it must be between 0 and 1")
    paths = list(point_set.pictures())
    order = np.random.default_rng([seed, 3]).permutation(len(paths))
    chosen = {paths[i] for i in order[:round(fraction * len(paths))]}
    if not 0 < len(chosen) < len(paths):
        raise Problem(f"a share of {fraction} of the {len(paths)} pictures that {point_set.truth} "
                      f"lists leaves none to {'train on' if chosen else 'hold out'}")
    training = [face for face in point_set.faces if face.path not in chosen]
    held_out = [face for face in point_set.faces if face.path in chosen]
    return replace(point_set, faces=training), replace(point_set, faces=held_out, rejected=[])

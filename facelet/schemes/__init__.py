"""Orders of landmark points: which point stands for what, and how a net's numbers hold them.

A scheme is a JSON file in this folder, known by its name; a new one needs no more than its file:

    about      what it is, and where it is from
    points     how many points it has
    partners   {point: point it becomes in a mirrored picture}, those in the middle left out; null
               where nobody says (such points can't be mirrored)
    groups     {part of the face: its points}, each point in one
    colours    {group: [blue, green, red]} to draw it in
    lines      points to join by lines in a drawing, each a row
    places     {name: points whose mean lies there}, by the names of PLACES; schemes are compared,
               and errors normalised, at these
    box        the square that a detector gives a face, going by its points, or null: its side in
               units of the points' root mean square distance from their mean, and how far its
               centre is above that mean, in sides
    bounds     the bounding square of the points (its side is their larger range) in that square,
               or null: its side, and how far its centre is below the other's, in sides of the
               detector's

Points are counted from 0 and written as "33-42 64-71"; "9-7" goes backwards. Left and right are as
seen in the picture. A file with "from" (a scheme) and "row" has that scheme's points in another
order: point i of the other is point row[i] of this.
"""

import functools
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Optional

import numpy as np

from facelet.arrays import Array
from facelet.console import Problem
from facelet.files import read_json

__all__ = [
    "NAMES",
    "PLACES",
    "Scheme",
    "asymmetry",
    "convert",
    "flip",
    "get",
    "guess",
    "of",
    "pack",
    "partners",
    "shared",
    "unpack",
    "usual",
]

FOLDER = Path(__file__).parent
NAMES = tuple(sorted(file.stem for file in FOLDER.glob("*.json")))
MOST = 10_000  # points of a scheme
KEYS = {"about", "points", "partners", "groups", "colours", "lines", "places", "box", "bounds"}
PLACES = (
    "left eye",
    "right eye",
    "outer corner of the left eye",
    "inner corner of the left eye",
    "inner corner of the right eye",
    "outer corner of the right eye",
    "nose tip",
    "left corner of the mouth",
    "right corner of the mouth",
    "chin",
)


@dataclass(frozen=True)
class Scheme:
    """An order of landmark points.

    partners -- the point that each becomes in a mirrored picture, a list, or None
    groups -- {name: list of points}; each point is in one
    colours -- {name of a group: (blue, green, red)}
    lines -- lists of points to join by a line; closed where the last is the first
    places -- {one of PLACES: tuple of points whose mean lies there}
    box -- as in a scheme's file, (side per spread, above), or None
    bounds -- likewise, (side, below), or None
    base, row -- the scheme that this one is a new order of, or itself, and which point each of
        that one's is here, a list
    """

    name: str
    about: str
    points: int
    partners: Optional[list[int]]
    groups: dict[str, list[int]]
    colours: dict[str, tuple[int, int, int]]
    lines: list[list[int]]
    places: dict[str, tuple[int, ...]]
    box: Optional[tuple[float, float]]
    bounds: Optional[tuple[float, float]]
    base: str
    row: list[int]

    def _pair(self, left: str, right: str) -> Optional[tuple[tuple[int, ...], tuple[int, ...]]]:
        return (self.places[left], self.places[right]) if {left, right} <= {*self.places} else None

    @property
    def eyes(self) -> Optional[tuple[tuple[int, ...], tuple[int, ...]]]:
        """Points whose means are the centres of the left and the right eye, two tuples; or None."""
        return self._pair("left eye", "right eye")

    @property
    def corners(self) -> Optional[tuple[int, int]]:
        """The points that are the outer corners of the left and the right eye; or None."""
        found = self._pair("outer corner of the left eye", "outer corner of the right eye")
        return (found[0][0], found[1][0]) if found else None

    @property
    def mouth(self) -> Optional[tuple[tuple[int, ...], tuple[int, ...]]]:
        """As eyes, the left and the right corner of the mouth."""
        return self._pair("left corner of the mouth", "right corner of the mouth")

    @property
    def sides(self) -> list[tuple[tuple[int, ...], tuple[int, ...], str]]:
        """What lies left and right of each other in an upright face: (points, points, name)."""
        return [
            (*pair, name)
            for pair, name in ((self.eyes, "eyes"), (self.mouth, "corners of the mouth"))
            if pair
        ]

    @property
    def point_colours(self) -> list[tuple[int, int, int]]:
        """The colour of each point, a list of (blue, green, red)."""
        colours = [(0, 0, 0)] * self.points
        for name, points in self.groups.items():
            for point in points:
                colours[point] = self.colours[name]
        return colours


def _row(text: str) -> list[int]:
    """The points that "33-42 64-71" names, a list."""
    found: list[int] = []
    for word in text.split():
        start, _, stop = word.partition("-")
        first, last = int(start), int(stop or start)
        if max(first, last) >= MOST:
            raise ValueError(f"a point above {MOST - 1}")
        found += range(first, last + 1) if first <= last else range(first, last - 1, -1)
    return found


def _partners(pairs: dict[str, str], points: int) -> list[int]:
    partners = list(range(points))
    for left, right in pairs.items():
        some, others = _row(left), _row(right)
        if len(some) != len(others) or any(partners[i] != i for i in some + others):
            raise ValueError(f"partners of {some} are {others}")
        for one, other in zip(some, others):
            partners[one], partners[other] = other, one
    return partners


def _read(name: str, values: dict[str, Any]) -> Scheme:
    """The Scheme of a file's values. Raises ValueError, and others of its kind, for wrong ones."""
    if "from" in values:
        return _reordered(name, values["about"], get(values["from"]), _row(values["row"]))
    if {*values} != KEYS:
        raise ValueError(f"it must have {', '.join(sorted(KEYS))}, not {', '.join(sorted(values))}")
    points, partners = values["points"], values["partners"]
    if type(points) is not int or not 0 < points <= MOST:
        raise ValueError(f"its number of points is none from 1 to {MOST}")
    groups = {group: _row(text) for group, text in values["groups"].items()}
    places = {place: tuple(_row(text)) for place, text in values["places"].items()}
    lines = [_row(text) for text in values["lines"]]
    if sorted(sum(groups.values(), [])) != list(range(points)):
        raise ValueError(f"the groups don't hold each of the points 0 to {points - 1} once")
    if any(point >= points for row in (*places.values(), *lines) for point in row):
        raise ValueError(f"a point above {points - 1} in its places or lines")
    if not {*places} <= {*PLACES} or not all(places.values()):
        raise ValueError("a place that is none, or without points")
    colours = {group: tuple(values["colours"][group]) for group in groups}
    return Scheme(
        name,
        values["about"],
        points,
        None if partners is None else _partners(partners, points),
        groups,
        colours,
        lines,
        places,
        values["box"] and tuple(values["box"]),
        values["bounds"] and tuple(values["bounds"]),
        name,
        list(range(points)),
    )


def _reordered(name: str, about: str, scheme: Scheme, row: list[int]) -> Scheme:
    """A Scheme whose point row[i] is the i-th of another."""
    if sorted(row) != list(range(scheme.points)):
        raise ValueError(f"its row doesn't hold each of the points 0 to {scheme.points - 1} once")
    partners = None
    if scheme.partners is not None:
        partners = [0] * scheme.points
        for i, partner in enumerate(scheme.partners):
            partners[row[i]] = row[partner]

    def here(points: Iterable[int]) -> list[int]:
        return [row[point] for point in points]

    return Scheme(
        name,
        about,
        scheme.points,
        partners,
        {group: here(points) for group, points in scheme.groups.items()},
        scheme.colours,
        [here(line) for line in scheme.lines],
        {place: tuple(here(points)) for place, points in scheme.places.items()},
        scheme.box,
        scheme.bounds,
        scheme.name,
        row,
    )


@functools.cache
def get(name: str) -> Scheme:
    """The Scheme of a name. Raises Problem for a name that is none and for a broken file."""
    if name not in NAMES:
        raise Problem(
            f"there is no scheme of points {name!r}: it must be one of "
            f"{', '.join(NAMES)}, or a new file in {FOLDER}"
        )
    path = FOLDER / f"{name}.json"
    try:
        return _read(name, read_json(path))
    except (ValueError, KeyError, TypeError, AttributeError, IndexError) as error:
        raise Problem(f"{path} is no scheme of points: {error}") from None


def of(points: int) -> list[Scheme]:
    """The Schemes with a number of points."""
    return [scheme for scheme in map(get, NAMES) if scheme.points == points]


def usual(points: int) -> Optional[str]:
    """Name of the scheme that a number of points has where none is given; None where there are
    several or none is known."""
    fitting = of(points)
    return fitting[0].name if len(fitting) == 1 else None


def partners(name: str) -> list[int]:
    """The point that each of a scheme becomes in a mirrored picture, a list. Raises Problem for a
    scheme that doesn't say."""
    found = get(name).partners
    if found is None:
        raise Problem(
            f"points of the scheme {name!r} can't be mirrored: its file says nothing of "
            "partners; add them, or train without mirroring"
        )
    return found


def shared(first: str, second: str) -> dict[str, tuple[tuple[int, ...], tuple[int, ...]]]:
    """Places that two schemes both have, by name: {place: (points of the first, of the second)},
    tuples of points whose mean lies there."""
    ours, theirs = get(first).places, get(second).places
    return {
        place: (ours[place], theirs[place]) for place in PLACES if place in ours and place in theirs
    }


def convert(points: Array, source: str, target: str) -> Array:
    """Points (..., P, 2) of one scheme in the order of another, in a new array. Raises Problem
    where they are not orders of the same points."""
    before, after = get(source), get(target)
    if before.base != after.base:
        raise Problem(
            f"points of the scheme {source!r} can't be put in the order of "
            f"{target!r}: they are other points"
        )
    out = np.empty_like(points)
    out[..., after.row, :] = points[..., before.row, :]
    return out


def unpack(values: Array) -> Array:
    """Landmark outputs (N, 2 P) as points (N, P, 2), x and y in units of the crop's side. Five
    points are held as x1..x5 y1..y5, other numbers of them as x1 y1 x2 y2 ..."""
    if values.shape[1] == 10:
        return np.stack([values[:, :5], values[:, 5:]], axis=2)
    return values.reshape(len(values), values.shape[1] // 2, 2)


def pack(points: Array) -> Array:
    """The inverse of unpack(): points (N, P, 2) as a net's numbers (N, 2 P), in a new array."""
    if points.shape[1] == 5:
        return np.concatenate([points[:, :, 0], points[:, :, 1]], axis=1)
    return points.reshape(len(points), 2 * points.shape[1]).copy()


def flip(points: Array, scheme: str) -> Array:
    """Points (N, P, 2) in units of the crop's side as they are in the mirrored crop, in a new
    array. Raises Problem for a scheme without partners."""
    flipped = points[:, partners(scheme)]
    flipped[:, :, 0] = 1 - flipped[:, :, 0]
    return flipped


def asymmetry(points: Array, scheme: str) -> float:
    """How far points (P, 2) are from being their own mirror image under a scheme, as a part of
    their spread: near 0 for a face seen from the front in the right order. Raises Problem for a
    scheme without partners."""
    centred = points - points.mean(axis=0)
    mirrored = centred[partners(scheme)] * [-1, 1]
    return float(np.linalg.norm(centred - mirrored) / max(float(np.linalg.norm(centred)), 1e-12))


def guess(points: Array) -> Optional[str]:
    """Name of the scheme that the points (P, 2) of a mean face must be in, going by its mirror
    symmetry; None where that does not tell.

    A net's mean face is the shift (beta) of its landmark head's batch norm, unpacked: training
    makes that the mean of what the net gives. Of train-mtcnn's released nets with 106 points it
    has an asymmetry of 0.006 to 0.045 under the right scheme and of 0.60 to 0.71 under the other.
    """
    found = sorted(
        (asymmetry(points, scheme.name), scheme.name)
        for scheme in of(len(points))
        if scheme.partners
    )
    clear = found and found[0][0] < 0.2 and all(found[0][0] < other / 3 for other, _ in found[1:])
    return found[0][1] if clear else None

"""Reads lists of bodies with joints: path x y w h, then x y visible of each joint, visible 0 or 1.

Joints are in the order of the scheme "14" of facelet.schemes. The numbers of one
that is not visible do not count.
"""

import collections
import hashlib
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from facelet import isolated, schemes
from facelet import picture as pictures
from facelet.console import Problem
from prepare_data.points.readers import READERS, Unusable, folder_of, parsed_entries
from prepare_data.wider import FARTHEST, file_of, outside_of

SCHEME = "14"
OUTSIDE = 1.0  # px: farther out of the picture a joint is nowhere
FEWEST = 2  # visible joints: one alone says nothing of a body


@dataclass(frozen=True)
class Body:
    """A body with its joints.

    path -- of the picture, relative to the set's folder of images
    source -- the list and its line, counted from 1
    points -- (P, 2) float32, in continuous coordinates; FARTHEST where a joint is not visible, so
        that it is out of every crop
    box -- (4,) float32, likewise, x1 y1 x2 y2
    """

    path: str
    source: str
    points: np.ndarray
    box: np.ndarray


@dataclass(frozen=True)
class Bodies:
    """Bodies with joints in the pictures below one folder; the interface of
    prepare_data.points.face_sets.Cuts.

    path -- of the list; sha256 -- of its content
    rejected -- a line for each body left out: file, line and reason
    reasons -- {reason: how many were left out for it}
    """

    images: Path
    path: Path
    sha256: str
    bodies: list
    rejected: list = field(default_factory=list)
    reasons: dict = field(default_factory=dict)
    scheme, size = SCHEME, None

    def __post_init__(self):
        object.__setattr__(self, "points_of", np.stack([body.points for body in self.bodies]))
        object.__setattr__(self, "boxes", np.stack([body.box for body in self.bodies]))

    def __len__(self):
        return len(self.bodies)

    @property
    def points(self):
        """How many joints a body has."""
        return self.points_of.shape[1]  # type: ignore[attr-defined]

    @property
    def facts(self):
        return {
            "file": self.path.name,
            "sha256": self.sha256,
            "bodies": len(self),
            "pictures": len(set(self.names())),
        }

    def names(self):
        return [body.path for body in self.bodies]

    def read(self, i):
        """Picture of body i. Raises BrokenPicture, too where the body can't be in it."""
        body = self.bodies[i]
        picture = isolated.read(self.images / body.path)
        height, width = picture.shape[:2]
        places = body.points[visible(body.points)]
        if (places < -OUTSIDE).any() or (places > np.array([width, height]) + OUTSIDE).any():
            raise pictures.BrokenPicture(
                f"{body.source}: joints out of the picture, which is {width}x{height}"
            )
        if outside_of(body.box[None], width, height)[0]:
            raise pictures.BrokenPicture(
                f"{body.source}: a box of which most is out of the picture, which is "
                f"{width}x{height}"
            )
        return picture

    def describe(self):
        why = ", ".join(f"{reason}: {count:,}" for reason, count in self.reasons.items())
        return (
            f"{self.path}: {len(self):,} bodies with {self.points} joints in "
            f"{self.facts['pictures']:,} pictures; rejected {len(self.rejected):,}"
            + (f" ({why})" if why else "")
        )


def visible(points):
    """Which joints (..., P, 2) of bodies are: (..., P) bool."""
    return points[..., 0] < FARTHEST


def _body(source, path, numbers, count, min_side):
    """The Body of a line's numbers. Raises Unusable."""
    wanted = 4 + 3 * count
    if len(numbers) != wanted:
        raise Unusable(
            "another number of numbers",
            f": {len(numbers)}, where {wanted} are expected, a box and {count} joints",
        )
    values = np.array(numbers[4:], np.float64).reshape(count, 3)
    points, seen = values[:, :2] + 0.5, values[:, 2] == 1
    if not np.isin(values[:, 2], (0, 1)).all():
        raise Unusable("a joint that is neither visible, 1, nor not, 0")
    if not (np.abs([*numbers[:4], *points[seen].ravel()]) < FARTHEST).all():  # NaN neither
        raise Unusable("a number that is none, or lies nowhere")
    box = np.array(numbers[:4], np.float32)
    if not (box[2:] > 0).all():
        raise Unusable("a box without an area")
    if max(box[2:]) < min_side:
        raise Unusable(f"a body smaller than {min_side} px")
    if seen.sum() < FEWEST:
        raise Unusable(f"fewer than {FEWEST} visible joints")
    if len(np.unique(points[seen], axis=0)) <= seen.sum() // 2:
        raise Unusable("joints that are identical")
    points = np.where(seen[:, None], points, FARTHEST).astype(np.float32)
    return Body(path, source, points, np.concatenate([box[:2], box[:2] + box[2:]]))


def _distinct(images, bodies):
    """{source: Body} of those that are not listed before; a picture that is listed by several
    paths, links to one file, has the first of them."""
    kept, known, first = {}, set(), {}
    files = {path: file_of(images, path) for path in {body.path for body in bodies}}
    for body in bodies:
        path = first.setdefault(files[body.path], body.path)
        same = path, body.box.tobytes(), body.points.tobytes()
        if same not in known:
            known.add(same)
            kept[body.source] = replace(body, path=path)
    return kept


def open_set(truth, images=None, min_side=1):
    """The Bodies of a list.

    images -- folder that its paths are relative to; None looks in `images` beside the list, beside
        it, and above
    min_side -- those whose box is smaller, by its larger side, are left out, px

    Raises Problem when the list can't be read, no body in it can be used, or its pictures aren't
    there.
    """
    truth, digest, count = Path(truth), hashlib.sha256(), schemes.get(SCHEME).points
    reader, reasons = READERS["list"], collections.Counter()
    bodies, rejected = [], []
    for source, path, found in parsed_entries(reader.entries(truth, truth, digest), reader.parse):
        try:
            if path is None:
                raise found
            bodies.append(_body(source, path, found, count, min_side))
        except Unusable as reason:
            rejected.append(f"{source}: {reason}")
            reasons[reason.reason] += 1
    if not bodies:
        raise Problem(
            f"{truth} has no body that can be used"
            + (f"; the first: {rejected[0]}" if rejected else ": it is empty")
        )
    folder = folder_of(images, truth, reader.folders, bodies)
    kept = _distinct(folder, bodies)
    reason = "a body that is listed already"
    rejected += [f"{body.source}: {reason}" for body in bodies if body.source not in kept]
    if len(kept) < len(bodies):
        reasons[reason] = len(bodies) - len(kept)
    return Bodies(folder, truth, digest.hexdigest(), list(kept.values()), rejected, dict(reasons))

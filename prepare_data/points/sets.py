"""Sets of faces with landmark points: the faces of a list or folder (prepare_data.points.readers),
in the order of a scheme, without those that can't be used.
"""

import collections
import hashlib
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Optional

import numpy as np

from facelet import schemes
from facelet.console import Problem
from facelet.files import read_json
from prepare_data import held_out
from prepare_data.points.readers import READERS, Unusable, folder_of, parsed_entries, recognised
from prepare_data.wider import FARTHEST

# The places whose points must differ, as far as a scheme has them.
FEATURES = (
    "left eye",
    "right eye",
    "nose tip",
    "left corner of the mouth",
    "right corner of the mouth",
)


@dataclass(frozen=True)
class Face:
    """A face with its points.

    path -- of the picture, relative to the set's folder of images
    source -- where it is from: the list and its line, counted from 1, or its own file
    points -- (P, 2) float32, x y with (0, 0) the centre of the first pixel
    box -- (4,) float32, x1 y1 x2 y2 in continuous pixel coordinates, or None
    """

    path: str
    source: str
    points: np.ndarray
    box: Optional[np.ndarray]


@dataclass(frozen=True)
class PointSet:
    """Faces with points in the pictures below one folder.

    truth -- the list, or the folder of files with points
    sha256 -- of the list, or of names and content of the files
    scheme -- the order of the points, one of facelet.schemes.NAMES
    rejected -- a line for each face left out: file, line and reason
    reasons -- {reason: how many were left out for it}
    teacher -- file of the net that gave the points, of pseudo-labels (prepare_data.points.label),
        or None
    """

    images: Path
    truth: Path
    sha256: str
    scheme: str
    faces: list
    rejected: list = field(default_factory=list)
    reasons: dict = field(default_factory=dict)
    teacher: Optional[str] = None

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
        order = "" if schemes.usual(self.points) else f" in the order {self.scheme}"
        why = ", ".join(f"{reason}: {count:,}" for reason, count in self.reasons.items())
        whose = f", pseudo-labels by {self.teacher}," if self.teacher else ""
        return (
            f"{self.truth}: {len(self.faces):,} faces with {self.points} points{order}{whose} "
            f"in {len(self.pictures()):,} pictures; rejected {len(self.rejected):,}"
            + (f" ({why})" if why else "")
        )


# Where the box of scheme 5 is from: the squares that train-mtcnn's Pnets and Rnets pass to an Onet
# are 4.1 with a centre 0.09 above the mean (2,000 faces; the side scatters by 12 %, the centre by
# 0.08 sides across and 0.06 along); boxes of train-mtcnn's Onet and of YuNet, as their longer side,
# 4.5 and 4.7, both 0.08 above; labels of photographs, eyebrows to chin, 4.4 and 0.05; drawn faces
# 4.6 and 0.08.
def box_of_points(points, scheme):
    """The square that a detector would give a face, (4,) float64 x1 y1 x2 y2, by its points (P, 2)
    and its scheme's box. Raises Problem for a scheme without."""
    rule = schemes.get(scheme).box
    if rule is None:
        raise Problem(
            f"a detector's box isn't known for points of the scheme {scheme!r}: its file has none"
        )
    side_per_spread, above = rule
    points = points.astype(np.float64)
    mean = points.mean(axis=0)
    side = side_per_spread * np.sqrt(((points - mean) ** 2).sum(axis=1).mean())
    centre = mean + 0.5 - (0, above * side)
    return np.concatenate([centre - side / 2, centre + side / 2])


def _layout(truth, row, counts, scheme):
    """(Layout, number of points) of the most faces; counts -- {number of numbers: faces}."""
    known = [scheme.points] if scheme else {schemes.get(name).points for name in schemes.NAMES}
    for count, _ in counts.most_common():
        for layout in row.layouts:
            points, odd = divmod(count - layout.before - layout.after, 2)
            if not odd and points in known:
                return layout, points
    most = counts.most_common(1)[0][0]
    raise Problem(
        f"{truth}: {most} numbers ({most / 2:g} points) a face go with "
        + (
            f"no list of the {scheme.points} points of the scheme {scheme.name!r}"
            if scheme
            else f"no scheme of points: there are {', '.join(schemes.NAMES)}, and "
            "a new one is a file in facelet/schemes"
        )
    )


def _other_number(count, layout, points):
    """Unusable for a face of another number of numbers than most."""
    found, odd = divmod(count - layout.before - layout.after, 2)
    has = f"{count} numbers" if odd or found < 0 else f"{found} points"
    return Unusable(
        "another number of points",
        f": {has}, where {points} points" + (" and a box" if layout.box else "") + " are expected",
    )


def _guessed(truth, points):
    """The Scheme of faces (N, P, 2), by their number and their mean face."""
    found = schemes.of(points.shape[1])
    if len(found) == 1:
        return found[0]
    centred = points - points.mean(axis=1, keepdims=True)
    spread = np.sqrt((centred**2).sum(axis=2).mean(axis=1))
    there = spread > 0
    name = (
        schemes.guess(np.median(centred[there] / spread[there, None, None], axis=0))
        if there.any()
        else None
    )
    if name is None:
        raise Problem(
            f"{truth}: its mean face doesn't tell in which order its {points.shape[1]} "
            f"points are; name it: --scheme "
            f"{' or '.join(scheme.name for scheme in found)}"
        )
    return schemes.get(name)


def _distinct(points):
    """How many different points there are of each of (N, P, 2): (N,)."""
    ordered = np.sort(points[..., 0] + 1j * points[..., 1], axis=1)
    return 1 + (np.diff(ordered, axis=1) != 0).sum(axis=1)


def _against(points, scheme):
    """[(reason, (N,) bool: the faces it is against)] for points (N, P, 2) that can't be those of a
    face: the eyes' centres, the tip of the nose and the corners of the mouth differ, and lie left
    and right; of the others half may be the same, as those of closed lips are."""

    def middle(point):
        return points[:, list(point)].mean(axis=1)

    features = [scheme.places[name] for name in FEATURES if name in scheme.places]
    same = _distinct(points) <= points.shape[1] // 2
    if features:
        same |= _distinct(np.stack([middle(point) for point in features], 1)) < len(features)
    return [("points that are identical", same)] + [
        (
            f"the {name} are swapped, or the face is upside down",
            middle(left)[:, 0] > middle(right)[:, 0],
        )
        for left, right, name in scheme.sides
    ]


def open_set(truth, images=None, reader=None, scheme=None, counted_from=None):
    """The PointSet of a list of faces, or of a folder of files with points.

    images -- folder that paths are relative to; None is the folder itself, or looks for the list's
        in `images` (or a name that its kind has for it) beside it, beside it, and above
    reader -- key of READERS; None tells by the content
    scheme -- one of facelet.schemes.NAMES; None goes by the number of points, and where several
        have it by the mean face
    counted_from -- the coordinate that the first pixel's centre has in the set; None is the
        reader's: 0, of .pts files 1

    Raises Problem when the set can't be read, no face in it can be used, or its pictures aren't
    there.
    """
    truth, scheme = Path(truth), scheme and schemes.get(scheme)
    row = READERS[reader or recognised(truth)]
    digest, origin = hashlib.sha256(), row.counted_from if counted_from is None else counted_from
    parsed = list(parsed_entries(row.entries(truth, Path(images or truth), digest), row.parse))
    reasons = {i: found for i, (_, path, found) in enumerate(parsed) if path is None}
    faces = []
    if len(reasons) < len(parsed):
        scheme, faces = _faces(truth, row, parsed, reasons, scheme, origin)
    rejected = [f"{parsed[i][0]}: {reasons[i]}" for i in sorted(reasons)]
    if not faces:
        raise Problem(
            f"{truth} has no face that can be used"
            + (f"; the first: {rejected[0]}" if rejected else ": it is empty")
        )
    folder = (
        Path(images or truth) if truth.is_dir() else folder_of(images, truth, row.folders, faces)
    )
    counted = collections.Counter(reason.reason for reason in reasons.values())
    return PointSet(
        folder,
        truth,
        digest.hexdigest(),
        scheme.name,
        faces,
        rejected,
        dict(counted.most_common()),
        _teacher(truth),
    )


def sidecar(truth):
    """Path of what prepare_data.points.label writes beside a list."""
    return truth.with_name(f"{truth.name}.json")


def _teacher(truth):
    """File of the net that gave a list its points, or None."""
    if not sidecar(truth).is_file():
        return None
    try:
        return read_json(sidecar(truth))["pseudo_labels_by"]["file"]
    except (KeyError, TypeError):
        raise Problem(
            f"{sidecar(truth)} doesn't say whose points {truth.name} has: remove it, or "
            "make both again"
        ) from None


def _faces(truth, row, parsed, reasons, scheme, origin):
    """The Scheme and the Faces of entries, as of parsed_entries(); why one can't be used is put
    into `reasons` at its place."""
    counts = collections.Counter(
        len(numbers) for i, (*_, numbers) in enumerate(parsed) if i not in reasons
    )
    layout, count = _layout(truth, row, counts, scheme)
    before, wanted = layout.before, layout.before + 2 * count + layout.after
    for i, (*_, numbers) in enumerate(parsed):
        if i not in reasons and len(numbers) != wanted:
            reasons[i] = _other_number(len(numbers), layout, count)
    rows = [i for i in range(len(parsed)) if i not in reasons]
    values = np.array([parsed[i][2] for i in rows])
    points = values[:, before : before + 2 * count].reshape(-1, count, 2) - origin
    nowhere = ~(np.abs(values) < FARTHEST).all(axis=1)  # NaN neither
    scheme = scheme or _guessed(truth, points[~nowhere])
    against = [
        ("a number that is none, or lies nowhere", nowhere),
        *_against(np.where(nowhere[:, None, None], 0, points), scheme),
    ]
    for reason, which in reversed(against):  # the first counts
        reasons.update((rows[at], Unusable(reason)) for at in np.flatnonzero(which))
    boxes = np.full((len(rows), 4), np.nan)
    if layout.box:
        boxes = layout.box(values[:, :before], values[:, wanted - layout.after :]) - origin
    there = (boxes[:, 2:] > boxes[:, :2]).all(axis=1)
    points, boxes = points.astype(np.float32), boxes.astype(np.float32)
    return scheme, [
        Face(parsed[i][1], parsed[i][0], points[at], boxes[at] if there[at] else None)
        for at, i in enumerate(rows)
        if i not in reasons
    ]


def split(point_set, fraction, seed):
    """Two PointSets, (training, held out), by whole pictures and the rule of prepare_data.held_out.
    What was rejected is named by the first. Raises Problem for a share that is none, or when a part
    comes out empty."""
    if not 0 < fraction < 1:
        raise Problem(f"a share of {fraction} can't be held out: it must be between 0 and 1")
    paths = [face.path for face in point_set.faces]
    pictures = list(point_set.pictures())
    rule = held_out.rule_of(pictures, fraction, seed)
    parts = held_out.split(
        held_out.is_held_out(paths, rule),
        fraction,
        f"the {len(pictures)} pictures of {point_set.truth}",
        "the share to hold out",
    )
    training, rest = ([point_set.faces[i] for i in part] for part in parts)
    return (
        replace(point_set, faces=training),
        replace(point_set, faces=rest, rejected=[], reasons={}),
    )


# ---- programs ------------------------------------------------------------------------------


def arguments(parser):
    """Adds what says how a set is to be read, for from_args()."""
    parser.add_argument(
        "--images",
        metavar="DIR",
        help="folder that the paths of pictures are "
        "relative to (default: looked for near the list)",
    )
    parser.add_argument(
        "--reader",
        choices=READERS,
        help="kind of the list or folder (default: told by its content)",
    )
    parser.add_argument(
        "--scheme",
        choices=schemes.NAMES,
        help="order of the points (default: by "
        "their number, and where several have it by the mean face)",
    )
    parser.add_argument(
        "--from",
        type=float,
        dest="counted_from",
        metavar="N",
        help="coordinate of the first pixel's centre (default: 0; of .pts files 1)",
    )


def from_args(path, args):
    """The PointSet at a path, as the arguments of a program say (arguments())."""
    return open_set(path, args.images, args.reader, args.scheme, args.counted_from)

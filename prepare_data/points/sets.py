"""Sets of faces with landmark points, from the lists and folders that data sets come in.

A set is a list or a folder, of a kind that is told by its content; a kind is a row of READERS:

    list           path [x y w h] x1 y1 x2 y2 ..., any number of points that a scheme has
    cnn_facepoint  trainImageList.txt: path left right top bottom x1 y1 ... x5 y5
    celeba         list_landmarks_celeba.txt, list_landmarks_align_celeba.txt: path x1 y1 ... x5 y5
                   below two lines; the boxes that come with it, apart, are bad, and not read
    wflw           x0 y0 ... x97 y97 [x1 y1 x2 y2, six attributes] path
    ibug           a folder of .pts, each beside its picture, counted from 1
    jd106          a folder of .jpg.txt (106, then a line a point), each beside its picture or in
                   `landmark` beside `picture`
"""

import collections
import hashlib
import itertools
import re
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Callable, Optional

import numpy as np

from facelet import schemes
from facelet.console import Problem
from facelet.files import read_json
from facelet.picture import SUFFIXES, in_folder

FARTHEST = 1e6  # px: where a coordinate is no longer one of any picture
LOOKED_FOR = 100  # lines that a kind is told by, faces whose pictures are looked for
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
    teacher -- file of the net that gave the points, of pseudo-labels (prepare_data.points.label); or None
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


# Where the box of scheme 5 is from: the squares that published Pnets and Rnets show an Onet are
# 4.1 with a centre 0.09 above the mean (2,000 faces; the side scatters by 12 %, the centre by 0.08
# sides across and 0.06 along); boxes of a published Onet and of YuNet, as their longer side, 4.5
# and 4.7, both 0.08 above; labels of photographs, eyebrows to chin, 4.4 and 0.05; drawn faces 4.6
# and 0.08.
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


# ---- kinds of lists and folders ------------------------------------------------------------


class Unusable(ValueError):
    """Why a face can't be used: what faces are counted by, and what is particular to this one."""

    def __init__(self, reason, more=""):
        super().__init__(reason + more)
        self.reason = reason


@dataclass(frozen=True)
class Entry:
    """A face as it is found: where, its line or its file's text, and its picture's path, None
    where the text has that."""

    source: str
    text: str
    path: Optional[str] = None


@dataclass(frozen=True)
class Layout:
    """What the numbers of a face are: so many before its points, its points, so many after them.
    box(before, after) is its box, x1 y1 x2 y2, from arrays (N, before) and (N, after): (N, 4)."""

    before: int = 0
    after: int = 0
    box: Optional[Callable] = None


@dataclass(frozen=True)
class Reader:
    """How a kind of set is read.

    entries -- entries(truth, images, digest) -> Entries; the bytes that are read go into `digest`
    parse -- parse(Entry) -> path of the picture, numbers; raises Unusable
    layouts -- what the numbers may be
    folders -- names of folders that its pictures are in, as downloaded
    counted_from -- the coordinate of the first pixel's centre
    """

    entries: Callable
    parse: Callable
    layouts: tuple = (Layout(),)
    folders: tuple = ("images",)
    counted_from: float = 0.0


def _text(path, digest):
    try:
        data = path.read_bytes()
        digest.update(data)
        return data.decode("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise Problem(f"{path} can't be read ({getattr(error, 'strerror', 0) or error})") from None


def _lines(heading):
    """Entries of a list below so many lines."""

    def entries(truth, images, digest):
        for number, line in enumerate(_text(truth, digest).splitlines(), 1):
            if number > heading and line.strip():
                yield Entry(f"{truth}, line {number}", line)

    return entries


def _files(ending):
    """Entries of a folder of files whose names end so, instead of in a picture's suffix."""

    def entries(truth, images, digest):
        pictures = {
            path.with_suffix("").as_posix(): path.as_posix()
            for path in (file.relative_to(images) for file in in_folder(images))
        }
        for file in _ending(truth, ending):
            name = file.relative_to(truth).as_posix()
            digest.update(name.encode())
            place = ending.sub("", name)
            apart = re.sub("(^|/)landmark(/[^/]*)$", r"\1picture\2", place)
            yield Entry(
                str(file), _text(file, digest), pictures.get(place, pictures.get(apart, ""))
            )

    return entries


def _ending(folder, ending):
    return [file for file in in_folder(folder, (".pts", ".txt")) if ending.search(file.name)]


PTS, JPG_TXT = re.compile(r"\.pts$"), re.compile(r"\.(jpg|jpeg|png)\.txt$", re.IGNORECASE)


def _is_picture(path):
    return path.strip().lower().endswith(SUFFIXES)


def _numbers(words):
    """Words as numbers, NaN for those that are none."""
    found = []
    for word in words:
        try:
            found.append(float(word))
        except ValueError:
            found.append(np.nan)
    return found


def _leading(words):
    """Words as numbers, as far as they are numbers."""
    found = []
    for word in words:
        try:
            found.append(float(word))
        except ValueError:
            break
    return found


def _path_first(entry):
    """`path numbers`; the path may have spaces."""
    words = entry.text.split()
    numbers = _leading(reversed(words))[::-1]
    path = entry.text.rsplit(None, len(numbers))[0] if len(numbers) < len(words) else words[0]
    return path.strip(), numbers


def _path_last(entry):
    """`numbers path`; the path may have spaces."""
    words = entry.text.split()
    numbers = _leading(words)
    return entry.text.split(None, min(len(numbers), len(words) - 1))[-1].strip(), numbers


def _pts(entry):
    """`version: 1`, `n_points: 68`, and between { and } x y a line."""
    inside = re.search(r"\{([^{}]*)\}", entry.text)
    if not inside:
        raise Unusable("no points between { and }")
    return entry.path, _numbers(inside.group(1).split())


def _jpg_txt(entry):
    """The number of points, then x y a line."""
    said, *numbers = _numbers(entry.text.split()) or [0]
    if len(numbers) != 2 * said:
        raise Unusable(
            "another number of points than its first line says",
            f": {said:g}, and then {len(numbers)} numbers",
        )
    return entry.path, numbers


def _xywh(before, _):
    return np.concatenate([before[:, :2], before[:, :2] + before[:, 2:]], axis=1)


def _left_right_top_bottom(before, _):
    return before[:, [0, 2, 1, 3]]


READERS = {
    "list": Reader(_lines(0), _path_first, (Layout(), Layout(before=4, box=_xywh))),
    "cnn_facepoint": Reader(
        _lines(0), _path_first, (Layout(before=4, box=_left_right_top_bottom),)
    ),
    "celeba": Reader(_lines(2), _path_first, folders=("img_celeba", "Img/img_celeba")),
    "celeba_aligned": Reader(
        _lines(2), _path_first, folders=("img_align_celeba", "Img/img_align_celeba")
    ),
    "wflw": Reader(
        _lines(0),
        _path_last,
        (Layout(), Layout(after=10, box=lambda _, after: after[:, :4])),
        folders=("WFLW_images",),
    ),
    "ibug": Reader(_files(PTS), _pts, counted_from=1.0),
    "jd106": Reader(_files(JPG_TXT), _jpg_txt),
}


def _recognised(truth):
    """The kind of a list or folder, a key of READERS, by its content."""
    if truth.is_dir():
        for kind, ending in (("ibug", PTS), ("jd106", JPG_TXT)):
            if _ending(truth, ending):
                return kind
        raise Problem(
            f"{truth} is a folder without .pts and .jpg.txt files: give such a folder, or a list"
        )
    try:
        with open(truth, encoding="utf-8-sig", errors="replace") as file:
            lines = [line for line in itertools.islice(file, LOOKED_FOR) if line.strip()]
    except OSError as error:
        raise Problem(f"{truth} can't be read ({error.strerror})") from None
    if len(lines) > 1 and lines[0].strip().isdigit() and lines[1].split()[0].isidentifier():
        return "celeba_aligned" if "align" in truth.name else "celeba"
    if sum(map(_is_picture, lines)) > len(lines) / 2:
        return "wflw"
    # 14 numbers are a box and five points, which lie in it.
    rows = [
        numbers
        for _, numbers in (_path_first(Entry("", line)) for line in lines)
        if len(numbers) == 14
    ]
    rows = np.array(rows, np.float64).reshape(-1, 14)
    middle = rows[:, 4:].reshape(-1, 5, 2).mean(axis=1)
    held = {}
    for kind, box in (("list", _xywh), ("cnn_facepoint", _left_right_top_bottom)):
        found = box(rows[:, :4], None)
        held[kind] = ((middle > found[:, :2]) & (middle < found[:, 2:])).all(axis=1).sum()
    return max(held, key=held.get)


# ---- sets ----------------------------------------------------------------------------------


def parsed_entries(entries, parse):
    """Entries as (source, path of the picture, numbers), or (source, None, Unusable)."""
    for entry in entries:
        try:
            path, numbers = parse(entry)
            if path == "":
                raise Unusable("no picture of its name")
            if not _is_picture(path):
                raise Unusable("no picture's path", f": {path[:60]!r}")
            yield entry.source, path.replace("\\", "/"), numbers
        except Unusable as reason:
            yield entry.source, None, reason


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


def folder_of(images, truth, names, faces):
    """The folder that the pictures of faces (with .path) are in: `images` if it is given, else one
    of the `names`, or none of them, beside the list `truth` or up to three folders above. Raises
    Problem where they are in none."""
    near = [truth.parent, *itertools.islice(truth.resolve().parents, 1, 4)]
    tried = (
        [Path(images)]
        if images
        else [folder for place in near for folder in (*(place / name for name in names), place)]
    )
    for folder in tried:
        if any((folder / face.path).is_file() for face in faces[:LOOKED_FOR]):
            return folder
    raise Problem(
        f"none of the first pictures that {truth} lists is in "
        f"{images or 'a folder near it'}; the first is {faces[0].path}: say where they "
        "are with --images"
    )


def open_set(truth, images=None, reader=None, scheme=None, counted_from=None):
    """The PointSet of a list of faces, or of a folder of files with points.

    images -- folder that paths are relative to; None is the folder itself, or looks for the list's
        in `images` (or a name that its kind has for it) beside it, beside it, and above
    reader -- key of READERS; None tells by the content
    scheme -- one of facelet.schemes.NAMES; None goes by the number of points, and where several have
        it by the mean face
    counted_from -- the coordinate that the first pixel's centre has in the set; None is the
        reader's: 0, of .pts files 1

    Raises Problem when the set can't be read, no face in it can be used, or its pictures aren't
    there.
    """
    truth, scheme = Path(truth), scheme and schemes.get(scheme)
    row = READERS[reader or _recognised(truth)]
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


def about(truth):
    """Path of what prepare_data.points.label writes beside a list."""
    return truth.with_name(f"{truth.name}.json")


def _teacher(truth):
    """File of the net that gave a list its points, or None."""
    if not about(truth).is_file():
        return None
    try:
        return read_json(about(truth))["pseudo_labels_by"]["file"]
    except (KeyError, TypeError):
        raise Problem(
            f"{about(truth)} doesn't say whose points {truth.name} has: remove it, or "
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
    """Two PointSets, (training, held out), by whole pictures: a `fraction` of them is held out, the
    same for each seed. What was rejected is named by the first. Raises Problem for a share that is
    none, or when a part comes out empty."""
    if not 0 < fraction < 1:
        raise Problem(f"a share of {fraction} can't be held out: it must be between 0 and 1")
    paths = list(point_set.pictures())
    order = np.random.default_rng([seed, 3]).permutation(len(paths))
    chosen = {paths[i] for i in order[: round(fraction * len(paths))]}
    if not 0 < len(chosen) < len(paths):
        raise Problem(
            f"a share of {fraction} of the {len(paths)} pictures that {point_set.truth} "
            f"lists leaves none to {'train on' if chosen else 'hold out'}"
        )
    training = [face for face in point_set.faces if face.path not in chosen]
    held_out = [face for face in point_set.faces if face.path in chosen]
    return (
        replace(point_set, faces=training),
        replace(point_set, faces=held_out, rejected=[], reasons={}),
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

"""Reads the lists and folders that faces with landmark points come in: where each face is from, its
picture's path, its numbers. A kind is a row of READERS, and is told by the content:

    list           path [x y w h] x1 y1 x2 y2 ..., any number of points that a scheme has
    cnn_facepoint  trainImageList.txt: path left right top bottom x1 y1 ... x5 y5
    celeba         list_landmarks_celeba.txt, list_landmarks_align_celeba.txt: path x1 y1 ... x5 y5
                   below two lines; the boxes that come with it, apart, are bad, and not read
    wflw           x0 y0 ... x97 y97 [x1 y1 x2 y2, six attributes] path
    ibug           a folder of .pts, each beside its picture, counted from 1; of several pictures
                   of its name the JPEG is taken
    jd106          a folder of .jpg.txt (106, then a line a point), each beside its picture or in
                   `landmark` beside `picture`
"""

import itertools
import re
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Callable, Optional

import numpy as np

from facelet.console import Problem
from facelet.files import OUTSIDE, decode_text, stays_inside, text_lines
from facelet.picture import SUFFIXES, in_folder
from facelet.settings import outside
from prepare_data.wider import picture_path

USUAL = (".jpg", ".jpeg")  # what a picture is before its mask is, where both have its name
FIRST = 100  # lines that a kind is told by, faces whose pictures are looked for


class Unusable(ValueError):
    """Why a face can't be used: what faces are counted by, and what is particular to this one."""

    def __init__(self, reason, more=""):
        super().__init__(reason + more)
        self.reason = reason


@dataclass(frozen=True)
class Entry:
    """A face as it is found: where, its line or its file's text, its picture's path, None where the
    text has that, and why its file can't be read."""

    source: str
    text: str
    path: Optional[str] = None
    problem: Optional[Unusable] = None


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
    except OSError as error:
        raise Problem(f"{path} can't be read ({error.strerror})") from None
    digest.update(data)
    return decode_text(data, path)


def _lines(heading):
    """Entries of a list below so many lines."""

    def entries(truth, images, digest):
        for number, line in enumerate(text_lines(_text(truth, digest)), 1):
            if number > heading and line.strip():
                yield Entry(f"{truth}, line {number}", line)

    return entries


def _files(ending):
    """Entries of a folder of files whose names end so, instead of in a picture's suffix."""

    def entries(truth, images, digest):
        pictures, chosen = {}, 0
        for path in (file.relative_to(images) for file in in_folder(images)):
            pictures.setdefault(path.with_suffix("").as_posix(), []).append(path.as_posix())
        for file in _ending(truth, ending):
            name = file.relative_to(truth).as_posix()
            digest.update(name.encode())
            place = ending.sub("", name)
            apart = re.sub("(^|/)landmark(/[^/]*)$", r"\1picture\2", place)
            found = pictures.get(place) or pictures.get(apart, [])
            try:
                picture = _picture_of(file, found)
                yield Entry(str(file), _text(file, digest), picture)
                chosen += len(found) > 1
            except Unusable as reason:
                yield Entry(str(file), "", "", reason)
            except Problem as problem:  # of one face
                yield Entry(
                    str(file), "", "", Unusable("a file that can't be read", f": {problem}")
                )
        if chosen:
            print(
                f"{truth}: beside {chosen:,} faces there are several pictures of their name, masks "
                f"maybe: taken are those that end in {' or '.join(USUAL)}"
            )

    return entries


def _picture_of(file, found):
    """The path among those `found`, of pictures of the name of a file with points, that is its
    picture: the one that it names itself (a.jpg.txt), else the only one of the usual kind, as those
    beside it are masks or depths of it. Raises Unusable where that doesn't tell."""
    if len(found) < 2:
        return found[0] if found else ""
    named = [path for path in found if PurePosixPath(path).name == file.stem]
    usual = [path for path in found if path.lower().endswith(USUAL)]
    (picture, *others) = named or usual or found
    if others:
        raise Unusable("several pictures of its name", ": " + ", ".join(found))
    return picture


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
    count, *numbers = _numbers(entry.text.split()) or [0]
    if len(numbers) != 2 * count:
        raise Unusable(
            "another number of points than its first line says",
            f": {count:g}, and then {len(numbers)} numbers",
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


def recognised(truth):
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
            lines = [line for line in itertools.islice(file, FIRST) if line.strip()]
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


def parsed_entries(entries, parse):
    """Entries as (source, path of the picture, numbers), or (source, None, Unusable)."""
    for entry in entries:
        try:
            if entry.problem:
                raise entry.problem
            path, numbers = parse(entry)
            if path == "":
                raise Unusable("no picture of its name")
            if not _is_picture(path):
                raise Unusable("no picture's path", f": {path[:60]!r}")
            path = picture_path(path)
            if not (outside() or stays_inside(path)):
                raise Unusable("a picture outside of the set's folder", f": {path!r} {OUTSIDE}")
            yield entry.source, path, numbers
        except Unusable as reason:
            yield entry.source, None, reason


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
        if any((folder / face.path).is_file() for face in faces[:FIRST]):
            return folder
    raise Problem(
        f"none of the first pictures that {truth} lists is in "
        f"{images or 'a folder near it'}; the first is {faces[0].path}: say where they "
        "are with --images"
    )

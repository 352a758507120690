"""Lists of detections, in memory and in files.

In memory they are a dict: the picture's name -> (boxes (N, 4) float, x1 y1 x2 y2 in continuous
pixel coordinates, scores (N,) float). In files they are

    a text      per picture its name, the number of detections, and a line `x y w h score` for
                each: FDDB's layout; names without suffix
    a folder    of texts of one picture each, at <event>/<picture>.txt: WIDER FACE's layout, where
                the name is that of the file
    *.jsonl     detections.jsonl of core.detect
"""

import json
from pathlib import Path

import numpy as np

from facelet import picture as pictures
from facelet.console import Problem
from facelet.files import read_lines
from prepare_data.wider import FARTHEST, picture_path

LIST = (  # help of --detections
    "what was found: detections.jsonl of core.detect, a text in FDDB's layout (per picture its "
    "name, the number of boxes, and a line x y w h score for each), or a folder of such texts in "
    "WIDER FACE's, <event>/<picture>.txt"
)


def read(path):
    """The detections in a text, folder or .jsonl, by the names that they have there. Raises
    Problem: it is not there or broken, a picture comes twice, a number is NaN or out of range."""
    path = Path(path)
    if path.is_dir():
        return read_folder(path)
    return _read_jsonl(path) if path.suffix == ".jsonl" else dict(_texts(path))


def groups(path, valid, width, what, repeated=False):
    """Yields (name, rows (N, width) float64) of a text with a name, a number and as many rows for
    each picture. Raises Problem naming the line that is broken.

    valid -- function of a row, a list of at least `width` finite numbers: whether it is a right
    one; what -- a row in words; repeated -- whether a picture may come more than once
    """
    lines, at, seen = read_lines(path), 0, set()

    def broken(expected, found):
        return Problem(f"{path}, line {at + 1}: expected {expected}, found {found[:60]!r}")

    while at < len(lines):
        if not lines[at].strip():
            at += 1
            continue
        name = picture_path(lines[at])
        if (name in seen and not repeated) or _is_row(name):  # more rows than the number says
            raise broken("the name of another picture", name)
        seen.add(name)
        at += 1
        number = lines[at].strip() if at < len(lines) else ""
        if not number.isdecimal() or len(number) > 9:
            raise broken(f"the number of rows of {name}", number)
        at += 1
        rows = []
        for _ in range(int(number)):
            row = lines[at].split() if at < len(lines) else []
            try:
                values = [float(value) for value in row]
                if len(row) < width or not np.all(np.abs(values) < FARTHEST) or not valid(values):
                    raise ValueError
            except ValueError:
                raise broken(f"{what} in {name}", " ".join(row)) from None
            rows.append(values[:width])
            at += 1
        yield name, np.array(rows, np.float64).reshape(-1, width)


def _is_row(line):
    try:
        return len([float(value) for value in line.split()]) > 1
    except ValueError:
        return False


def _texts(path):
    for name, rows in groups(
        path, lambda row: min(row[2:4]) >= 0, 5, "a detection as x y w h score"
    ):
        yield name, (np.concatenate([rows[:, :2], rows[:, :2] + rows[:, 2:4]], axis=1), rows[:, 4])


def read_folder(folder):
    """The detections in a folder of WIDER FACE's layout, by <event>/<picture>. Raises Problem."""
    folder = Path(folder)
    files = sorted(folder.glob("*/*.txt"))
    if not files:
        raise Problem(f"{folder} holds no results: no file there is called <event>/<picture>.txt")
    found = {}
    for file in files:
        parts = [values for _, values in _texts(file)]
        if len(parts) != 1:
            raise Problem(f"{file} has {len(parts)} pictures: it must have one")
        found[f"{file.parent.name}/{file.stem}"] = parts[0]
    return found


def _read_jsonl(path):
    found = {}
    for number, line in enumerate(read_lines(path), 1):
        if not line.strip():
            continue
        try:
            record = json.loads(line)
            name = record["file"]
            boxes = np.array(record["boxes"], np.float64).reshape(-1, 4)
            scores = np.array(record["scores"], np.float64)
            if (
                not isinstance(name, str)
                or scores.shape != boxes.shape[:1]
                or not np.all(np.abs(np.append(boxes, scores)) < FARTHEST)
                or np.any(boxes[:, 2:] < boxes[:, :2])
            ):
                raise ValueError
        except (ValueError, KeyError, TypeError, OverflowError, RecursionError):
            raise Problem(
                f"{path}, line {number}: expected a record of core.detect with file, "
                f"boxes and as many scores, found {line[:60]!r}"
            ) from None
        if "frame" in record:
            raise Problem(f"{path}, line {number} is of a video, which has no ground truth")
        if name in found:
            raise Problem(f"{path}, line {number}: {name} comes twice")
        found[name] = boxes, scores
    return found


def text(name, boxes, scores):
    """The lines of a picture in a text; hundredths of a pixel, scores to the last digit."""
    lines = [
        f"{x1:.2f} {y1:.2f} {x2 - x1:.2f} {y2 - y1:.2f} {score:.9g}"
        for (x1, y1, x2, y2), score in zip(boxes.tolist(), scores.tolist())
    ]
    return "\n".join([name, str(len(lines)), *lines]) + "\n"


def _bare(name):
    suffix = Path(name).suffix
    return name[: -len(suffix)] if suffix.lower() in pictures.SUFFIXES else name


def fitted(found, names, path, also=None):
    """Detections by the names of the ground truth's pictures, from those in a file `path`, whose
    names may have no suffix, another one, or folders before them. Says how many pictures the file
    lacks: they count as pictures without detections. Raises Problem: the ground truth lacks a
    picture, or a picture comes twice.

    also -- {other name of a picture: its name}: detections of the other name stand in where there
        are none of its own
    """
    known, result = {_bare(name): name for name in names}, {}
    if len(known) < len(names):
        raise Problem("two pictures of the ground truth differ in nothing but their suffix")
    others = {_bare(name): of for name, of in (also or {}).items() if _bare(name) not in known}
    unknown, spare = [], {}
    for name, values in found.items():
        parts = Path(_bare(name.replace("\\", "/"))).parts
        ends = ["/".join(parts[i:]) for i in range(len(parts))]
        picture = next((known[end] for end in ends if end in known), None)
        other = next((others[end] for end in ends if end in others), None)
        if picture is None and other is not None:
            spare.setdefault(other, values)
            continue
        if picture is None:
            unknown.append(name)
        elif picture in result:
            raise Problem(f"{path} has {picture} twice")
        result[picture] = values
    result = {**spare, **result}
    if unknown:
        raise Problem(
            f"{path} has detections for {len(unknown):,} pictures that the ground "
            f"truth lacks; the first: {unknown[0]}"
        )
    if len(result) < len(known):
        print(
            f"{path} lacks {len(known) - len(result):,} of the {len(known):,} pictures of the "
            "ground truth: they count as pictures without detections"
        )
    return result


def rule_of_list(found, path):
    """What figures of detections from a file `path` hold for, in words."""
    lowest = min((scores.min() for _, scores in found.values() if len(scores)), default=0)
    return f"boxes of {path}, with input size and NMS as they were made, scores from {lowest:g}"

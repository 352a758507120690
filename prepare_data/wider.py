"""Readers for WIDER FACE as it is downloaded, and for sets laid out like it.

DIR/WIDER_train/images/<event>/<file>.jpg           or DIR/images/<event>/<file>.jpg
DIR/wider_face_split/wider_face_train_bbx_gt.txt    or .mat, or DIR/<any>_train_bbx_gt.txt
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Optional

import numpy as np

from facelet.console import Problem

INVALID = 3  # index of the invalid flag among the six attributes after x y w h
FARTHEST = 1e6  # px: where a coordinate is no longer one of any picture


@dataclass
class Annotation:
    """The faces of one picture.

    path -- of the picture, relative to the set's folder of images
    boxes -- (N, 4) float32, x1 y1 x2 y2: faces to learn
    ignored -- (M, 4) float32: marked invalid, neither face nor background
    unsure -- (K, 4) float32: what a teacher holds for a face and no label has
        (prepare_data.teacher); neither face nor background
    rows -- (R,) bool: which rows of the ground truth `boxes` are; all if not given
    """

    path: str
    boxes: np.ndarray
    ignored: np.ndarray
    unsure: np.ndarray = field(default_factory=lambda: np.zeros((0, 4), np.float32))
    rows: Optional[np.ndarray] = None

    def __post_init__(self):
        if self.rows is None:
            self.rows = np.ones(len(self.boxes), bool)


@dataclass
class FaceSet:
    """Annotated pictures below one folder."""

    images: Path
    truth: Path
    annotations: list
    # pictures, faces, invalid, zero_sized; unsure and hopeless where labels were checked
    counts: dict = field(default_factory=dict)
    checked_by: dict = field(default_factory=dict)  # files (prepare_data.teacher.clean_labels)

    def describe(self):
        left_out = [
            (self.counts["invalid"], "invalid"),
            (self.counts["zero_sized"], "zero-sized"),
            *((self.counts[kind], kind) for kind in ("hopeless", "unsure") if kind in self.counts),
        ]
        return (
            f"{self.truth}: {self.counts['pictures']:,} pictures, {self.counts['faces']:,} "
            "faces; left out " + ", ".join(f"{n:,} {kind}" for n, kind in left_out)
        )


def _annotation(path, xywh, invalid, counts):
    """Sort the boxes of a picture (N, 4) into faces, ignored and nothing. Raises ValueError where
    they are none, or flags (N,) are missing."""
    xywh = np.asarray(xywh, np.float64).reshape(-1, 4)
    invalid = np.asarray(invalid, bool).reshape(-1)
    if len(invalid) != len(xywh):
        raise ValueError(f"{path} has {len(xywh)} boxes and {len(invalid)} flags")
    if not np.all(np.abs(xywh) < FARTHEST):  # NaN neither
        raise ValueError(f"{path} has a box that lies nowhere")
    xywh = xywh.astype(np.float32)
    real = (xywh[:, 2:] > 0).all(axis=1)
    boxes = np.concatenate([xywh[:, :2], xywh[:, :2] + xywh[:, 2:]], axis=1)
    counts["pictures"] += 1
    counts["zero_sized"] += int((~real).sum())
    counts["invalid"] += int((real & invalid).sum())
    counts["faces"] += int((real & ~invalid).sum())
    faces = real & ~invalid
    return Annotation(path, boxes[faces], boxes[real & invalid], rows=faces)


def _no_counts():
    return dict(pictures=0, faces=0, invalid=0, zero_sized=0)


def read_txt(path):
    """Annotations and counts of a *_bbx_gt.txt: per picture its path, the number of faces, and a
    line `x y w h` and six attributes for each; a picture without faces has the number 0 and may
    have one line of zeros. Raises Problem naming the line that is broken."""
    path = Path(path)
    try:
        lines = path.read_text().splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise Problem(f"{path} can't be read ({getattr(error, 'strerror', 0) or error})") from None
    annotations, counts, at = [], _no_counts(), 0

    def broken(what):
        return Problem(f"{path}, line {at + 1}: {what}")

    while at < len(lines):
        name = lines[at].strip()
        if not name:
            at += 1
            continue
        if "." not in name.rsplit("/", 1)[-1]:
            raise broken(f"expected a picture's path, found {name[:60]!r}")
        at += 1
        number = lines[at].strip() if at < len(lines) else ""
        if not number.isdecimal() or len(number) > 9:
            raise broken(f"expected the number of faces of {name}, found {number[:60]!r}")
        at += 1
        rows = []
        for _ in range(int(number)):
            values = lines[at].split() if at < len(lines) else []
            try:
                row = [float(value) for value in values]
                if len(row) not in (4, 10) or not np.all(np.abs(row) < FARTHEST):
                    raise ValueError
            except ValueError:
                raise broken(
                    f"expected a face of {name} as x y w h and six attributes, found "
                    f"{' '.join(values)[:60]!r}"
                ) from None
            rows.append((row + [0.0] * 10)[:10])
            at += 1
        if number == "0" and at < len(lines) and not lines[at].replace("0", "").strip():
            at += 1
        rows = np.array(rows, np.float32).reshape(-1, 10)
        annotations.append(_annotation(name, rows[:, :4], rows[:, 4 + INVALID] > 0, counts))
    return annotations, counts


def read_mat(path):
    """Annotations and counts of a wider_face_*.mat. Raises Problem when it isn't one."""
    from scipy.io import loadmat  # here, as it takes a while to import

    annotations, counts = [], _no_counts()
    try:
        data = loadmat(path)
        events, files = data["event_list"], data["file_list"]
        boxes, invalid = data["face_bbx_list"], data["invalid_label_list"]
        for i in range(len(events)):
            event = str(events[i, 0][0])
            for j in range(len(files[i, 0])):
                name = f"{event}/{files[i, 0][j, 0][0]}.jpg"
                annotations.append(
                    _annotation(name, boxes[i, 0][j, 0], invalid[i, 0][j, 0], counts)
                )
    except Exception as error:  # of a damaged file SciPy raises whatever it meets
        reason = " ".join(f"{type(error).__name__} {error}".split())[:160]
        raise Problem(f"{path} is no WIDER FACE .mat file, or a damaged one ({reason})") from None
    return annotations, counts


def _first(candidates, what, folder):
    for candidate in candidates:
        if candidate.exists():
            return candidate
    raise Problem(
        f"no {what} in {folder}: looked for "
        + ", ".join(str(c.relative_to(folder)) for c in candidates)
    )


def open_set(folder, split):
    """The FaceSet of a split ("train" or "val") of a folder laid out as above.

    Raises Problem when the folder, its pictures or its ground truth are not there, or when the
    ground truth is empty or broken.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise Problem(
            f"{folder} is not there, or no folder: --data takes a set laid out like WIDER FACE"
        )
    images = _first(
        [folder / f"WIDER_{split}" / "images", folder / "images"], f"pictures for {split}", folder
    )
    named = folder / "wider_face_split" / f"wider_face_{split}_bbx_gt.txt"
    truth = _first(
        [
            named,
            named.with_name(f"wider_face_{split}.mat"),
            *sorted(folder.glob(f"*_{split}_bbx_gt.txt")),
            folder / f"{split}_bbx_gt.txt",
        ],
        f"ground truth for {split}",
        folder,
    )
    annotations, counts = (read_mat if truth.suffix == ".mat" else read_txt)(truth)
    if not annotations:
        raise Problem(f"{truth} lists no pictures")
    if not any((images / a.path).exists() for a in annotations):
        raise Problem(
            f"none of the {len(annotations):,} pictures that {truth} lists is in "
            f"{images}; the first is {annotations[0].path}"
        )
    return FaceSet(images, truth, annotations, counts)

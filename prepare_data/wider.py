"""Readers for WIDER FACE as it is downloaded, and for sets laid out like it.

DIR/WIDER_train/images/<event>/<file>.jpg           or DIR/images/<event>/<file>.jpg
DIR/wider_face_split/wider_face_train_bbx_gt.txt    or .mat, or DIR/<any>_train_bbx_gt.txt

A picture may be listed more than once, by one path, by several spellings of it, or by links to one
file: its entries are merged, as the faces of one entry would be background by the others. Of boxes
that are exactly equal one counts; it is invalid if one of them is.

Faces of which less than half lies in their picture are neither learned nor background (in_picture),
and a list that has many is refused, as one that was made for pictures of another size.
"""

import os
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import Optional

import numpy as np

from facelet import boxes as geometry
from facelet import picture as pictures
from facelet.console import Problem
from facelet.files import read_lines, refuse_outside
from prepare_data import mat_file

# The six attributes after x y w h, each with what its values mean.
ATTRIBUTES = {
    "blur": ("clear", "normal blur", "heavy blur"),
    "expression": ("typical expression", "exaggerated expression"),
    "illumination": ("normal light", "extreme light"),
    "invalid": ("valid", "invalid"),
    "occlusion": ("not covered", "partly covered", "heavily covered"),
    "pose": ("typical pose", "other pose"),
}
INVALID = list(ATTRIBUTES).index("invalid")
FARTHEST = 1e6  # px: where a coordinate is no longer one of any picture
LEAST_INSIDE = 0.5  # part of a face's area that lies in its picture
# Part of the faces outside from which a list is refused. Sound lists have few, whatever their
# pictures; of faces spread over pictures half as large as those that a list was made for three of
# four are, over pictures four fifths as large one of three.
MANY_OUTSIDE = 0.25
SIZED = 40  # pictures, spread over the list, whose sizes tell its scale
FACTORS = (1.25, 1.5, 2, 2.5, 3, 4, 5, 6, 8, 10, 12, 16)  # between sizes of pictures
FITTING, ROUNDING = 0.95, 0.02  # boxes that lie in their pictures by the right factor; how nearly


@dataclass
class Annotation:
    """The faces of one picture.

    path -- of the picture, relative to the set's folder of images
    boxes -- (N, 4) float32, x1 y1 x2 y2: faces to learn
    ignored -- (M, 4) float32: marked invalid, neither face nor background
    unsure -- (K, 4) float32: what a teacher holds for a face and no label has
        (prepare_data.teacher); neither face nor background
    rows -- (R,) bool: which rows of the ground truth `boxes` are; all if not given
    also -- other paths that the same picture is listed by
    attributes -- (N, 6) int8 of `boxes`, as ATTRIBUTES has them; zeros if not given
    """

    path: str
    boxes: np.ndarray
    ignored: np.ndarray
    unsure: np.ndarray = field(default_factory=lambda: np.zeros((0, 4), np.float32))
    rows: Optional[np.ndarray] = None
    also: tuple = ()
    attributes: Optional[np.ndarray] = None

    def __post_init__(self):
        if self.attributes is None:
            self.attributes = np.zeros((len(self.boxes), len(ATTRIBUTES)), np.int8)
        if self.rows is None:
            self.rows = np.ones(len(self.boxes), bool)

    def only(self, kept):
        """The Annotation with those of its faces that are `kept`, (N,) bool."""
        rows = self.rows.copy()
        rows[rows] = kept
        attributes = self.attributes[kept]
        return replace(self, boxes=self.boxes[kept], rows=rows, attributes=attributes)

    def ignoring(self, which):
        """The Annotation with some of its faces, (N,) bool, moved to `ignored`."""
        return replace(self.only(~which), ignored=np.concatenate([self.ignored, self.boxes[which]]))


@dataclass
class FaceSet:
    """Annotated pictures below one folder."""

    images: Path
    truth: Path
    annotations: list
    # pictures, faces, invalid, zero_sized; unsure and hopeless where labels were checked; merged
    # (entries) and repeated (boxes) where there are any
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


def _annotation(path, xywh, attributes, counts):
    """Sort the boxes of a picture (N, 4) into faces, ignored and nothing. Raises ValueError where
    they are none, or attributes (N, 6) are missing."""
    xywh = np.asarray(xywh, np.float64).reshape(-1, 4)
    attributes = np.asarray(attributes, np.float64).reshape(-1, len(ATTRIBUTES))
    if len(attributes) != len(xywh):
        raise ValueError(f"{path} has {len(xywh)} boxes and attributes of {len(attributes)}")
    invalid = attributes[:, INVALID] > 0
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
    attributes = np.clip(attributes[faces], 0, 127).astype(np.int8)
    return _distinct(
        Annotation(path, boxes[faces], boxes[real & invalid], rows=faces, attributes=attributes),
        counts,
    )


def _no_counts():
    return dict(pictures=0, faces=0, invalid=0, zero_sized=0)


def picture_path(text):
    """A picture's path in a list, in the one spelling of this toolkit: slashes, none twice, no
    `./`. Lists that were made on Windows have backslashes."""
    return PurePosixPath(text.strip().replace("\\", "/")).as_posix()


def _distinct(annotation, counts):
    """The Annotation with each box once, as invalid where it is that as well."""
    invalid = len(annotation.ignored)
    every = np.concatenate([annotation.ignored, annotation.boxes])
    first = np.unique(every, axis=0, return_index=True)[1]
    if len(first) == len(every):
        return annotation
    kept = np.isin(np.arange(len(every)), first)
    counts["repeated"] = counts.get("repeated", 0) + int((~kept).sum())
    counts["invalid"] -= int((~kept[:invalid]).sum())
    counts["faces"] -= int((~kept[invalid:]).sum())
    return replace(annotation.only(kept[invalid:]), ignored=annotation.ignored[kept[:invalid]])


def _merged(annotations, counts, key):
    """Annotations with those of the same key(annotation) as one, where the first of them was."""
    entries = {}
    for annotation in annotations:
        entries.setdefault(key(annotation), []).append(annotation)
    if len(entries) == len(annotations):
        return annotations
    counts["merged"] = counts.get("merged", 0) + len(annotations) - len(entries)
    counts["pictures"] = len(entries)
    return [
        parts[0]
        if len(parts) == 1
        else _distinct(
            Annotation(
                parts[0].path,
                **{
                    name: np.concatenate([getattr(part, name) for part in parts])
                    for name in ("boxes", "ignored", "unsure", "rows", "attributes")
                },
                also=tuple(
                    dict.fromkeys(
                        path
                        for part in parts
                        for path in (part.path, *part.also)
                        if path != parts[0].path
                    )
                ),
            ),
            counts,
        )
        for parts in entries.values()
    ]


def file_of(images, path):
    """What tells the file at a path in a folder from others, the same for links to it; the path
    where there is none."""
    try:
        found = os.stat(Path(images) / path)
    except (OSError, ValueError):
        return path
    return (found.st_dev, found.st_ino) if found.st_ino else path


def read_txt(path):
    """Annotations and counts of a *_bbx_gt.txt, a text of an entry for each picture, those of the
    same path merged: its path, the number of faces, and a
    line `x y w h` and six attributes for each; a picture without faces has the number 0 and may
    have one line of zeros. Raises Problem naming the line that is broken."""
    path = Path(path)
    lines, annotations, counts, at = read_lines(path), [], _no_counts(), 0

    def broken(what):
        return Problem(f"{path}, line {at + 1}: {what}")

    while at < len(lines):
        name = lines[at].strip()
        if not name:
            at += 1
            continue
        if "." not in picture_path(name).rsplit("/", 1)[-1]:
            raise broken(f"expected a picture's path, found {name[:60]!r}")
        refuse_outside(picture_path(name), f"{path}, line {at + 1}")
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
        annotations.append(_annotation(picture_path(name), rows[:, :4], rows[:, 4:], counts))
    return _merged(annotations, counts, lambda one: one.path), counts


def read_mat(path):
    """Annotations and counts of a wider_face_*.mat, as read_txt(). Raises Problem when it isn't
    one."""
    annotations, counts = [], _no_counts()
    lists = ["event_list", "file_list", "face_bbx_list"]
    try:
        data = mat_file.load(path, [*lists, *(f"{name}_label_list" for name in ATTRIBUTES)])
        events, files, boxes = (data[name] for name in lists)
        # Its test set's lists have but some of the attributes.
        labels = {name: data.get(f"{name}_label_list") for name in ATTRIBUTES}
        if labels["invalid"] is None:
            raise KeyError("invalid_label_list")
        for i, event in enumerate(events):
            for j, file in enumerate(files[i]):
                name, xywh = picture_path(f"{event}/{file}.jpg"), boxes[i][j]
                refuse_outside(name, path)
                attributes = np.column_stack(
                    [
                        np.zeros(len(xywh)) if label is None else label[i][j]
                        for label in labels.values()
                    ]
                )
                annotations.append(_annotation(name, xywh, attributes, counts))
    except Problem:
        raise
    except Exception as error:  # whatever a file with other things in it leads to
        reason = " ".join(f"{type(error).__name__} {error}".split())[:160]
        raise Problem(f"{path} is no WIDER FACE .mat file, or a damaged one ({reason})") from None
    return _merged(annotations, counts, lambda one: one.path), counts


def read(truth, images=None):
    """Annotations and counts of a *_bbx_gt.txt or a wider_face_*.mat; prints how many entries were
    merged and boxes repeated.

    images -- folder that its paths are relative to, where it is known: entries of one file are
        merged by whatever names they have

    Raises Problem when the file is broken or lists no picture.
    """
    truth = Path(truth)
    annotations, counts = (read_mat if truth.suffix == ".mat" else read_txt)(truth)
    if not annotations:
        raise Problem(f"{truth} lists no pictures")
    if images is not None:
        annotations = _merged(annotations, counts, lambda one: file_of(images, one.path))
    if "merged" in counts:
        print(
            f"{truth}: merged {counts['merged']:,} entries of pictures that are listed more than "
            f"once: {counts['pictures']:,} pictures are left"
        )
    if "repeated" in counts:
        print(
            f"{truth}: left out {counts['repeated']:,} boxes that are exactly equal to another of "
            "their picture: one counts, as invalid if one of them is"
        )
    return annotations, counts


# ---- boxes and their pictures --------------------------------------------------------------


def in_picture(annotation, width, height):
    """The Annotation of a picture of a size, its faces of which less than half (LEAST_INSIDE) lies
    in it moved to `ignored`, as what there is of them is no background; and a line for each."""
    outside = outside_of(annotation.boxes, width, height)
    if not outside.any():
        return annotation, []
    return annotation.ignoring(outside), [
        outside_words(annotation.path, box, width, height) for box in annotation.boxes[outside]
    ]


def outside_words(path, box, width, height):
    """What is said of a face that in_picture() leaves out."""
    x1, y1, x2, y2 = box.tolist()
    return (
        f"{path}: the face {x1:g} {y1:g} {x2 - x1:g} {y2 - y1:g} (x y w h) lies outside "
        f"of the picture, which is {width}x{height}, or more than half of it"
    )


def outside_of(boxes, width, height):
    """Which boxes (N, 4) lie outside of a picture of a size, or more than half of them: (N,)."""
    frame = np.array([[0, 0, width, height]], np.float64)
    return geometry.covered(boxes.astype(np.float64), frame)[:, 0] < LEAST_INSIDE


def check_scale(truth, images, faces):
    """Raise Problem where many of the boxes of a list `truth` lie outside of their pictures.

    faces -- [(path of a picture, boxes (N, 4))]; of some the headers are read
    """
    faces, found = [(path, boxes) for path, boxes in faces if len(boxes)], []
    for path, boxes in faces[:: max(1, len(faces) // SIZED)][:SIZED]:
        try:
            width, height = pictures.size(Path(images) / path)
        except pictures.BrokenPicture:
            continue  # whoever wants the picture says so
        found.append((boxes.astype(np.float64), width, height))
    outside = sum(int(outside_of(*one).sum()) for one in found)
    every = sum(len(boxes) for boxes, *_ in found)
    if not outside or outside < MANY_OUTSIDE * every or (outside < 3 and outside < every):
        return
    raise Problem(
        f"{truth}: of {every:,} boxes looked at {outside:,} lie outside of their pictures, or more "
        f"than half of them: {_reason(found)}"
    )


def _reason(found):
    """Why boxes may lie outside, in words; found -- [(boxes, width, height)]."""
    boxes = np.concatenate([boxes for boxes, *_ in found])
    sizes = np.concatenate([[size] * len(boxes) for boxes, *size in found])
    corners = np.concatenate([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]], axis=1)
    if np.mean(geometry.whole(corners) & (corners[:, 2:] <= sizes).all(axis=1)) >= FITTING:
        return "they look like x1 y1 x2 y2, where x y width height are expected"
    reach = (boxes[:, 2:] / sizes).max(axis=1) - ROUNDING
    for factor in FACTORS:
        if np.mean(reach <= factor) >= FITTING and boxes.min() >= -ROUNDING * sizes.max():
            return (
                "the list seems to be made for pictures of another scale; divided by about "
                f"{factor:g} they would lie in these"
            )
    return (
        "the list seems to be made for pictures of another scale, or for other pictures; no one "
        "factor mends it"
    )


# ---- sets ----------------------------------------------------------------------------------


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
    ground truth is empty or broken, or many of its boxes lie outside of their pictures.
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
    annotations, counts = read(truth, images)
    if not any((images / a.path).exists() for a in annotations):
        raise Problem(
            f"none of the {len(annotations):,} pictures that {truth} lists is in "
            f"{images}; the first is {annotations[0].path}"
        )
    check_scale(truth, images, [(a.path, a.boxes) for a in annotations])
    return FaceSet(images, truth, annotations, counts)

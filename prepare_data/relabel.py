"""Writes a set's labels anew, with a teacher's boxes: for labels by another convention, or that are
missing.

    python -m prepare_data.teacher --data DIR --split train --teacher DETECTOR --out FILE.json
    python -m prepare_data.relabel --data DIR --split train --teacher-boxes FILE.json --out LIST

LIST is a *_bbx_gt.txt of the same pictures, in which

  a labelled face has the box of the teacher's that fits it best, if one has an IoU of teacher.iou
  with it, each box for one face; else it keeps its own, and is marked invalid where it is smaller
  than teacher.min_face, as nobody knows by which convention its box is drawn;
  a box from the score teacher.score on that fits no label is a face that was missing;
  one below that, down to teacher.floor, is marked invalid: neither face nor background.

Labels from a teacher are no ground truth: measure on labels that people have set.
"""

import argparse
from dataclasses import replace

import numpy as np

from config import config, override
from core.base import options
from facelet import boxes as geometry
from facelet.console import Problem, program
from facelet.files import write_text
from facelet.locks import locked
from prepare_data import combine, teacher, wider

COUNTED = ("moved to the teacher's box", "kept", "kept as invalid", "added", "added as invalid")


def relabelled(annotation, rows, settings):
    """An Annotation with the boxes of a teacher, rows (N, 5) of x1 y1 x2 y2 score, best first or
    not; and counts in the order of COUNTED. settings -- as config.teacher"""
    boxes, scores = rows[:, :4], rows[:, 4]
    labels = annotation.boxes.copy()
    overlap = geometry.iou(labels, boxes)
    left, moved = overlap.copy(), np.zeros(len(labels), bool)
    while left.size and left.max() >= settings.iou:
        face, box = np.unravel_index(left.argmax(), left.shape)
        labels[face], moved[face] = boxes[box], True
        left[face], left[:, box] = -1, -1
    # A box that fits a label, though another fits it better, is of that face.
    known = np.concatenate([labels, annotation.boxes, annotation.ignored])
    apart = geometry.iou(boxes, known).max(axis=1, initial=0) < settings.iou
    sure = apart & (scores >= settings.score)
    doubtful = apart & ~sure
    sides = (annotation.boxes[:, 2:] - annotation.boxes[:, :2]).max(axis=1, initial=0)
    small = ~moved & (sides < settings.min_face)
    found = replace(
        annotation,
        rows=None,  # of the ground truth: its rows are others now
        boxes=np.concatenate([labels[~small], boxes[sure]]).astype(np.float32),
        ignored=np.concatenate([annotation.ignored, labels[small], boxes[doubtful]]).astype(
            np.float32
        ),
        attributes=np.concatenate(
            [
                annotation.attributes[~small],
                np.zeros((int(sure.sum()), len(wider.ATTRIBUTES)), np.int8),
            ]
        ),
    )
    kept = ~moved & ~small
    return found, np.array([one.sum() for one in (moved, kept, small, sure, doubtful)], int)


def relabel(face_set, path, out, settings):
    """Write the list `out` of a FaceSet after the boxes that prepare_data.teacher wrote to `path`;
    pictures that it could not read keep their labels. Prints counts, and returns them by COUNTED.

    settings -- as config.teacher. Raises Problem.
    """
    with locked(out):
        return _relabel(face_set, path, out, settings)


def _relabel(face_set, path, out, settings):
    found, lines, unread = teacher.read_boxes(path, face_set, settings.floor), [], 0
    counts = np.zeros(len(COUNTED), int)
    for annotation in face_set.annotations:
        rows = found.get(annotation.path)
        if rows is None:
            unread += 1
        else:
            annotation, counted = relabelled(annotation, rows, settings)
            counts += counted
        lines += combine.entry(annotation)
    if unread == len(face_set.annotations):
        raise Problem(f"{path} has boxes of no picture: the teacher could read none")
    by_name = dict(zip(COUNTED, counts.tolist()))
    write_text(out, "\n".join(lines) + "\n")
    print(f"{out}: faces " + ", ".join(f"{n:,} {what}" for what, n in by_name.items()))
    if unread:
        print(f"{unread:,} pictures that the teacher could not read keep their labels")
    return by_name


def main(argv):
    parser = argparse.ArgumentParser(
        prog="python -m prepare_data.relabel",
        description="Write a set's labels anew, with a teacher's boxes.",
        epilog="Settings of the section teacher are overridden as section.key=value, e.g. "
        "teacher.score=0.6; config.py explains each.",
    )
    parser.add_argument("--data", required=True, metavar="DIR", help="laid out like WIDER FACE")
    parser.add_argument("--split", default="train", choices=("train", "val"))
    parser.add_argument(
        "--teacher-boxes",
        required=True,
        metavar="FILE",
        help="what the teacher finds in these pictures, made by python -m prepare_data.teacher",
    )
    parser.add_argument("--out", required=True, metavar="LIST", help="the *_bbx_gt.txt to write")
    args = options.parse(parser, argv)
    settings = override(config, args.settings)
    face_set = wider.open_set(args.data, args.split)
    relabel(face_set, args.teacher_boxes, args.out, settings.teacher)


if __name__ == "__main__":
    program(main)

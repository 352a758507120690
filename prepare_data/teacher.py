"""Checks the labels of a set with another detector, a teacher: faces without a label, and labelled
faces that nobody could learn from.

    python -m prepare_data.teacher --data DIR --split train --teacher DETECTOR --out FILE

DETECTOR is a folder with a cascade's nets or a YuNet model. FILE is JSON, with the teacher's boxes
and scores by picture. Whatever cuts samples takes it (`--teacher-boxes FILE`) and

  keeps background clear of what the teacher holds for a face and no label has: unsure;
  makes no positives of labelled faces that score too low with it, and no background there either.

The scores of labelled faces may also come from a text (`--scores FILE`) of train-mtcnn's form: a
picture's path and a probability for every face of the ground truth, in its order.

The defaults of config.teacher were chosen by looking at what YuNet (yunet_n_640_640.onnx) finds in
6,000 photographs with 11,500 labelled faces. Of its boxes without label nearly all are faces from
0.8 on, four of five from 0.6 to 0.8, every other from 0.45 to 0.6. Under teacher.hopeless, labels
that nobody could learn from, are 73 % of the labelled faces under 8 px (larger side), 28 % from 8,
10 % from 12, 6 % from 15, 2 % from 20 and 1 % from 25 px on; those from 20 px are labels beside the
face, drawings, animals, and faces that are hidden, in the dark or seen from behind.
"""

import argparse
import re
from dataclasses import replace
from functools import lru_cache
from pathlib import Path

import numpy as np

from config import config, override
from core.base import options, parallel
from core.base.journal import Journal
from core.detect import nets
from facelet import boxes as geometry
from facelet import isolated
from facelet import picture as pictures
from facelet.console import Problem, Progress, program
from facelet.files import read_json, read_lines, sha256, to_json, write_text
from facelet.locks import locked
from prepare_data import wider

VERSION = 1
PICTURES_PER_JOB = 32
JOURNAL = 2  # the format of what a job gives


# ---- running the teacher ----------------------------------------------------------------------


@lru_cache(maxsize=1)  # in each process once
def _detector(path, min_face, thresholds):
    """A function of a picture uint8 (H, W, 3) BGR that gives boxes (N, 4) and scores (N,)."""
    if Path(path).is_dir():
        from core.detect.detector import FaceDetector

        detector = FaceDetector.open(path, min_face=min_face, thresholds=thresholds)

        def detect(picture):
            faces = detector.detect(picture)
            return faces.boxes, faces.scores

        return detect
    from core.detect.yunet import YuNet

    return YuNet(path, score=thresholds[-1]).detect


def _job(arguments):
    """Of some pictures: rows of picture, x1 y1 x2 y2, score; why any was skipped; and labelled
    faces outside of them."""
    detector, images, numbered = arguments
    detect, rows, skipped, outside = _detector(*detector), [np.zeros((0, 6))], [], []
    for number, annotation in numbered:
        parallel.at(images / annotation.path)
        try:
            picture = isolated.read(images / annotation.path)
        except pictures.BrokenPicture as error:
            skipped.append([str(number), str(error)])
            continue
        boxes, scores = detect(picture)
        outside += wider.in_picture(annotation, *picture.shape[1::-1])[1]
        rows.append(np.column_stack([np.full(len(boxes), number), boxes, scores]))
    return {
        "rows": np.concatenate(rows),
        "skipped": np.array(skipped, str).reshape(-1, 2),
        "outside": np.array(outside, str),
    }


def run_teacher(face_set, detector, out, settings, workers=None):
    """Run a detector over a FaceSet and write what it finds to the file `out`; killed, the same
    call goes on. Prints progress. Returns the number of boxes.

    detector -- path of a folder of nets or of a YuNet model; settings -- the whole config
    Raises Problem.
    """
    detector, out = Path(detector), Path(out)
    if out.is_dir():
        raise Problem(f"{out} is a folder: --out takes the file to write")
    with locked(out):
        return _run_teacher(face_set, detector, out, settings, workers)


def _run_teacher(face_set, detector, out, settings, workers):
    workers = workers or parallel.cores()
    thresholds = (*settings.detect.thresholds[:2], settings.teacher.floor)
    opening = str(detector), settings.detect.min_face, thresholds
    _detector(*opening)  # what is wrong with it shows here, as one line
    files = nets.in_folder(detector)[0].values() if detector.is_dir() else [detector]
    facts = {
        "version": VERSION,
        "detector": {Path(f).name: sha256(f) for f in files},
        "source": _source(face_set),
        "settings": {"min_face": settings.detect.min_face, "thresholds": thresholds},
    }
    paths = [annotation.path for annotation in face_set.annotations]
    jobs = [
        (opening, face_set.images, list(enumerate(face_set.annotations))[i : i + PICTURES_PER_JOB])
        for i in range(0, len(paths), PICTURES_PER_JOB)
    ]
    journal = Journal(
        out.with_name(f".{out.name}.journal"), {**facts, "jobs": len(jobs), "format": JOURNAL}
    )
    print(
        f"{face_set.truth}: {len(paths):,} pictures on {workers} processes"
        + (f", going on after {len(journal.done) * PICTURES_PER_JOB:,}" if journal.done else "")
    )
    found, skipped, outside = {path: [] for path in paths}, {}, []
    progress = Progress(len(paths), "pictures")
    for job, result in zip(jobs, journal.run(_job, jobs, workers)):
        for number, *box, score in result["rows"].tolist():
            found[paths[int(number)]].append([*(round(x, 2) for x in box), round(score, 4)])
        skipped.update((paths[int(number)], reason) for number, reason in result["skipped"])
        outside += map(str, result["outside"])
        progress.step(len(job[-1]))
    progress.close()
    if len(skipped) == len(paths):
        journal.remove()
        raise Problem(f"not one picture could be read; the first: {skipped[paths[0]]}")
    write_text(
        out,
        to_json(
            {
                **facts,
                "skipped": skipped,
                "pictures": {path: rows for path, rows in found.items() if path not in skipped},
            }
        )
        + "\n",
    )
    journal.remove()
    for reason in list(skipped.values())[:10]:
        print(f"skipped {reason}")
    if outside:
        print(
            f"{len(outside):,} labelled faces lie outside of their pictures; no samples take them:"
        )
    for reason in outside[:10]:
        print(f"  {reason}")
    return sum(map(len, found.values()))


def _source(face_set):
    return {"file": face_set.truth.name, "sha256": sha256(face_set.truth)}


# ---- labels after its boxes -------------------------------------------------------------------


def read_boxes(path, face_set, lowest):
    """Boxes and scores (N, 5) float32 by picture, from a file that run_teacher() wrote for a
    FaceSet; pictures that could not be read are not among them. Raises Problem, also for a file
    that does not reach down to the score `lowest`."""
    made = read_json(path)
    try:
        if made["version"] != VERSION:
            raise Problem(
                f"{path} has the format {made['version']}, this program reads "
                f"{VERSION}: make it again"
            )
        source, floor = made["source"], made["settings"]["thresholds"][-1]
        found = {
            wider.picture_path(picture): np.array(rows, np.float32).reshape(-1, 5)
            for picture, rows in made["pictures"].items()
        }
        if source != _source(face_set):
            raise Problem(
                f"{path} was made for {source['file']}, and not for what {face_set.truth}"
                " holds now: make it again with python -m prepare_data.teacher"
            )
        if floor > lowest:
            raise Problem(
                f"{path} has boxes with scores from {floor} only, {lowest} is asked for: "
                f"make it again with teacher.floor={lowest}"
            )
        missing = [
            a.path
            for a in face_set.annotations
            if a.path not in found and a.path not in made["skipped"]
        ]
    except (KeyError, IndexError, TypeError, ValueError, AttributeError):
        raise Problem(f"{path} was not made by python -m prepare_data.teacher") from None
    if missing:
        raise Problem(f"{path} has nothing of {missing[0]}: it is damaged, make it again")
    return found


def add_unlabelled(face_set, path, settings):
    """The FaceSet with `unsure` filled from a file that run_teacher() wrote: what has a score from
    settings.score on, and an IoU below settings.iou with all that is labelled. Raises Problem.

    settings -- as config.teacher
    """
    found, annotations = read_boxes(path, face_set, settings.score), []
    for annotation in face_set.annotations:
        rows = found.get(annotation.path, np.zeros((0, 5), np.float32))
        boxes = rows[rows[:, 4] >= settings.score, :4]
        labelled = np.concatenate([annotation.boxes, annotation.ignored])
        near = geometry.iou(boxes, labelled).max(axis=1, initial=0) >= settings.iou
        annotations.append(replace(annotation, unsure=boxes[~near]))
    counts = {**face_set.counts, "unsure": sum(len(a.unsure) for a in annotations)}
    return replace(face_set, annotations=annotations, counts=counts)


def label_scores(face_set, path, settings):
    """Scores of the labelled faces, (N,) for each annotation, from a file that run_teacher() wrote:
    the best of a box with IoU settings.iou with the face, 0 where there is none; NaN for faces
    that are too small (settings.min_face) and in pictures that could not be read. Raises Problem.

    settings -- as config.teacher
    """
    found, scores = read_boxes(path, face_set, settings.hopeless), []
    for annotation in face_set.annotations:
        boxes, rows = annotation.boxes, found.get(annotation.path)
        if rows is None:
            scores.append(np.full(len(boxes), np.nan))
            continue
        same = geometry.iou(boxes, rows[:, :4]) >= settings.iou
        best = np.where(same, rows[:, 4], 0).max(axis=1, initial=0)
        side = np.maximum(boxes[:, 2] - boxes[:, 0], boxes[:, 3] - boxes[:, 1])
        scores.append(np.where(side < settings.min_face, np.nan, best))
    return scores


# A path may have blanks; its last word is never a number, having a suffix.
SCORES_LINE = re.compile(r"(.*?\S)((?:\s+[-+.\deE]+)*)\s*")


def read_label_scores(path, face_set):
    """Scores of the labelled faces, (N,) for each annotation, from a text of train-mtcnn's form.

    Each line has a picture's path, which may be that of another machine as long as it ends in the
    set's own, and a probability for every row of the ground truth, invalid and zero-sized ones
    too. A picture that is listed more than once has a line for each entry, in their order, or one
    for all of them. Raises Problem naming the line that is wrong.
    """
    by_path, found = {}, {}
    for annotation in face_set.annotations:
        by_path.update(dict.fromkeys((annotation.path, *annotation.also), annotation))
    for number, line in enumerate(read_lines(path), 1):
        if not line.strip():
            continue
        name, values = SCORES_LINE.fullmatch(line).groups()
        parts = wider.picture_path(name).split("/")
        tails = ("/".join(parts[i:]) for i in range(len(parts)))
        annotation = next((by_path[tail] for tail in tails if tail in by_path), None)
        if annotation is None or not len(annotation.boxes):
            continue  # a file of more pictures, or of no face that matters
        try:
            values = np.array(values.split(), float)
        except ValueError:
            values = np.array([np.nan])
        if not np.all((values >= 0) & (values <= 1)):
            raise Problem(
                f"{path}, line {number}: expected a picture's path and probabilities "
                f"from 0 to 1, found {line[-60:]!r}"
            )
        before = found.get(annotation.path, (0, np.zeros(0)))[1]
        found[annotation.path] = number, np.concatenate([before, values])
    scores = {}
    for name, (number, values) in found.items():
        rows = by_path[name].rows
        if len(values) != len(rows):
            raise Problem(
                f"{path}, line {number}: {len(values)} probabilities for the "
                f"{len(rows)} rows of {name} in {face_set.truth}"
            )
        scores[name] = values[rows]
    missing = [a.path for a in face_set.annotations if len(a.boxes) and a.path not in scores]
    if missing:
        raise Problem(
            f"{path} has no line for {missing[0]}"
            + (f" and {len(missing) - 1:,} other pictures" if missing[1:] else "")
            + f" of {face_set.truth}"
        )
    return [scores.get(a.path, np.zeros(0)) for a in face_set.annotations]


def without_hopeless(face_set, scores, settings):
    """The FaceSet with faces whose score is below settings.hopeless moved to `ignored`; scores,
    (N,) for each annotation, are NaN where none is known."""
    annotations, hopeless = [], 0
    for annotation, score in zip(face_set.annotations, scores):
        low = score < settings.hopeless
        annotations.append(annotation.ignoring(low))
        hopeless += int(low.sum())
    counts = {
        **face_set.counts,
        "faces": face_set.counts["faces"] - hopeless,
        "hopeless": face_set.counts.get("hopeless", 0) + hopeless,
    }
    return replace(face_set, annotations=annotations, counts=counts)


def clean_labels(face_set, settings, boxes=None, scores=None):
    """The FaceSet with what files of run_teacher()'s (boxes) and of scores (a text) say of its
    labels, where given; the files are noted in its `checked_by`.

    settings -- as config.teacher. Raises Problem.
    """
    files = {
        name: {"file": Path(file).name, "sha256": sha256(file)}
        for name, file in (("teacher", boxes), ("scores", scores))
        if file is not None
    }
    if boxes is not None:
        face_set = add_unlabelled(face_set, boxes, settings)
        if settings.hopeless:
            face_set = without_hopeless(face_set, label_scores(face_set, boxes, settings), settings)
    if scores is not None:
        face_set = without_hopeless(face_set, read_label_scores(scores, face_set), settings)
    return replace(face_set, checked_by={**files, "settings": dict(settings)} if files else {})


RENAMED = {"--second": "--teacher-boxes"}


def arguments(parser):
    """Add --teacher-boxes and --scores, for clean_labels(), to a program's ArgumentParser."""
    parser.add_argument(
        "--teacher-boxes",
        metavar="FILE",
        help="what another detector finds in these pictures, made by python -m "
        "prepare_data.teacher: no background where it finds faces without label, no positives of "
        "labelled faces that score too low with it",
    )
    parser.add_argument(
        "--scores",
        metavar="FILE",
        help="a text with a path and a probability for each face a line: no "
        "positives of faces under teacher.hopeless",
    )


def main(argv):
    parser = argparse.ArgumentParser(
        prog="python -m prepare_data.teacher",
        description="Write down what another detector finds in a set, for faces without label and "
        "labels that nobody could learn from. Killed, the same command goes on.",
        epilog="Settings of the sections teacher and detect are overridden as section.key=value; "
        "config.py explains each.",
    )
    parser.add_argument("--data", required=True, metavar="DIR", help="laid out like WIDER FACE")
    parser.add_argument("--split", default="train", choices=("train", "val"))
    parser.add_argument(
        "--teacher",
        required=True,
        metavar="DETECTOR",
        help="a folder of a cascade's nets, or a YuNet model that OpenCV reads",
    )
    parser.add_argument("--out", required=True, help="JSON file to write")
    parser.add_argument("--workers", type=int, help="processes (default: all cores)")
    args = options.parse(parser, argv, {"--detector": "--teacher"})
    settings = override(config, args.settings)
    face_set = wider.open_set(args.data, args.split)
    boxes = run_teacher(face_set, args.teacher, args.out, settings, args.workers)
    counts = clean_labels(face_set, settings.teacher, args.out).counts
    print(
        f"{args.out}: {boxes:,} boxes with scores from {settings.teacher.floor}; "
        f"{counts['unsure']:,} faces without label (teacher.score={settings.teacher.score}); "
        f"{counts.get('hopeless', 0):,} hopeless ones of {face_set.counts['faces']:,} labelled"
    )


if __name__ == "__main__":
    program(main)

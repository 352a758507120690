"""Mines hard examples: what a cascade so far takes for faces, cut into a packed store.

    python -m prepare_data.mine --data DIR --nets DIR --for rnet --size 24 --out STORE

The rounds of train-mtcnn: a Pnet for itself, a Pnet for the Rnet, Pnet and Rnet for the Onet, at
the thresholds of config.mine. A square is what the net that learns from it sees in the detector:
the window itself where a net is mined for itself, else the square around a box of the net before.

A square with less IoU than mine.max_negative_iou with every face is a negative; those that touch
an ignored box, or come as near to a face that only a teacher finds (prepare_data.teacher), are left
out and counted. With mine.parts and mine.positives, squares near a face give parts and positives by
the rules of config.samples.

The detector runs once over the pictures; squares are noted in a journal beside the store, so that
a kill loses little, and which are kept is told by numbers drawn for each from the seed and its
picture's path alone. They are cut at the end: nothing is held in memory but the squares.
"""

import argparse
import time
from functools import lru_cache, partial
from pathlib import Path

import numpy as np

from config import config, override
from core.base import options, parallel, shards
from core.base.journal import Journal
from core.detect import nets as net_files
from core.detect.detector import FaceDetector
from facelet import boxes as geometry
from facelet import isolated
from facelet import picture as pictures
from facelet.console import Problem, Progress, program
from facelet.files import sha256
from prepare_data import samples, store, teacher, wider

STAGES = ("pnet", "rnet", "onet")
PICTURES_PER_JOB = 16
JOURNAL = 2  # the format of what a job gives
ESTIMATE_FROM = 24  # pictures that the estimate of size and time is made from
LEFT_OUT = ("near faces", "ignored", "unlabelled", "small", "outside", "over the cap")


def cascade_for(target, given):
    """Paths of the nets that a mining round needs, by stage, of those `given`.

    Raises Problem when nets are missing."""
    wanted = ["pnet"] if target == "pnet" else list(STAGES[: STAGES.index(target)])
    missing = [stage for stage in wanted if stage not in given]
    if missing:
        raise Problem(
            f"mining for the {target} takes {' and '.join(wanted)}: no "
            f"{' and no '.join(missing)} is given"
        )
    return {stage: net_files.file_of(given[stage]) for stage in wanted}


def goes_by(settings, target):
    """Of the whole configuration what a round for a target depends on, by section: the rest may be
    otherwise when it goes on, such as thresholds of other rounds."""
    used = {
        "mine": [key for key in settings.mine if key == target or key not in STAGES],
        "detect": ("min_face", "factor", "max_pixels"),
        "samples": ("min_face", "min_part_iou", "min_positive_iou"),
    }
    return {
        section: {key: settings[section][key] for key in keys} for section, keys in used.items()
    }


@lru_cache(maxsize=1)  # a process opens its detector once
def _detector(nets, min_face, factor, thresholds):
    return FaceDetector(
        **{stage: path for stage, path, _ in nets},
        min_face=min_face,
        factor=factor,
        thresholds=thresholds,
    )


def _open(nets, target, settings):
    detect, chosen = settings.detect, list(settings.mine[target])
    return _detector(
        tuple((stage, path, path.stat().st_mtime_ns) for stage, path in nets.items()),
        detect.min_face,
        detect.factor,
        tuple((chosen + detect.thresholds)[: len(detect.thresholds)]),
    )


def squares_of(picture, annotation, detector, target, settings):
    """What a detector's last net finds in a picture uint8 (H, W, 3), as samples.

    Returns squares (N, 4) int, labels (N,) int8, offsets (N, 4) float32, ranks (N,) float64 drawn
    in [0, 1), and counts of the boxes left out, in the order of LEFT_OUT.
    """
    mine = settings.mine
    found = detector.found(picture)
    squares = geometry.squares(found.windows if target in detector.nets else found.boxes)
    left_out = np.zeros(len(LEFT_OUT), np.int64)

    def leave_out(reason, chosen):
        left_out[LEFT_OUT.index(reason)] += int(chosen.sum())
        return ~chosen

    height, width = picture.shape[:2]
    centre = (squares[:, :2] + squares[:, 2:]) / 2
    squares = squares[leave_out("outside", ~((centre >= 0) & (centre < (width, height))).all(1))]
    squares = squares[leave_out("small", squares[:, 2] - squares[:, 0] < mine.min_side)]
    touching = geometry.intersections(squares, annotation.ignored).sum(axis=1) > 0
    squares = squares[leave_out("ignored", touching)]
    unsure = _nearest(squares, annotation.unsure)[1] >= mine.max_negative_iou
    squares = squares[leave_out("unlabelled", unsure)]
    nearest, overlap = _nearest(squares, annotation.boxes)
    labels = np.full(len(squares), -9, np.int8)
    labels[overlap < mine.max_negative_iou] = 0
    offsets = np.zeros((len(squares), 4), np.float32)
    if len(annotation.boxes):
        faces = annotation.boxes[nearest]
        large = (faces[:, 2:] - faces[:, :2]).max(axis=1) >= settings.samples.min_face
        near = large & (overlap >= settings.samples.min_part_iou)
        positive = near & (overlap >= settings.samples.min_positive_iou)
        if mine.positives:
            labels[positive] = 1
        if mine.parts:
            labels[near & ~positive] = -1
        moved = np.abs(labels) == 1
        offsets[moved] = geometry.offsets(squares[moved], faces[moved])
    kept = leave_out("near faces", labels == -9)
    squares, labels, offsets = squares[kept], labels[kept], offsets[kept]
    ranks = samples.generator(mine.seed, annotation.path).uniform(size=len(squares))
    first = np.isin(np.arange(len(squares)), _lowest(labels, ranks, mine.per_picture))
    left_out[LEFT_OUT.index("over the cap")] = int((~first).sum())
    return (squares[first].astype(np.int32), labels[first], offsets[first], ranks[first], left_out)


def _nearest(squares, faces):
    """Index of the face (M, 4) with the greatest IoU with each square, and that; 0 without any."""
    if not len(faces) or not len(squares):
        return np.zeros(len(squares), int), np.zeros(len(squares))
    overlap = geometry.iou(squares.astype(np.float64), faces.astype(np.float64))
    return overlap.argmax(axis=1), overlap.max(axis=1)


def _detect_job(arguments):
    """The samples of some pictures without their crops: a dict of arrays for the journal."""
    images, numbered, nets, target, settings = arguments
    detector = _open(nets, target, settings)
    rows, left_out, skipped, outside = [], np.zeros(len(LEFT_OUT), np.int64), [], []
    for index, annotation in numbered:
        parallel.at(images / annotation.path)
        try:
            picture = isolated.read(images / annotation.path)
        except pictures.BrokenPicture as error:
            skipped.append(str(error))
            continue
        annotation, reasons = wider.in_picture(annotation, *picture.shape[1::-1])
        outside += reasons
        squares, labels, offsets, ranks, out = squares_of(
            picture, annotation, detector, target, settings
        )
        rows.append((np.full(len(squares), index, np.int32), squares, labels, offsets, ranks))
        left_out += out
    empty = (
        np.zeros(0, np.int32),
        np.zeros((0, 4), np.int32),
        np.zeros(0, np.int8),
        np.zeros((0, 4), np.float32),
        np.zeros(0),
    )
    joined = [np.concatenate(parts) for parts in zip(empty, *rows)]
    return dict(
        zip(("picture", "squares", "labels", "offsets", "ranks"), joined),
        left_out=left_out,
        skipped=np.array(skipped, str),
        outside=np.array(outside, str),
    )


def _cut(row, images, size):
    """The chosen samples of one picture as a chunk of a store, and why there are none."""
    index, path, squares, labels, offsets = row
    parallel.at(images / path)
    try:
        picture = isolated.read(images / path)
    except pictures.BrokenPicture as error:
        return samples.chunk(size, index), [str(error)]
    return samples.chunk(
        size, index, pictures.crops(picture, squares, size), labels, offsets, squares
    ), []


def _lowest(labels, ranks, number):
    """Indices, in order, of the samples with the lowest ranks, at most `number` of each kind."""
    kept = []
    for label in (0, -1, 1):
        of_kind = np.flatnonzero(labels == label)
        kept.append(of_kind[np.argsort(ranks[of_kind], kind="stable")[:number]])
    return np.sort(np.concatenate(kept))


def _estimate(face_set, nets, target, size, settings, workers):
    """Samples, bytes and seconds to expect, from a few pictures spread over the set."""
    numbered = list(enumerate(face_set.annotations))
    chosen = numbered[:: max(1, len(numbered) // ESTIMATE_FROM)][:ESTIMATE_FROM]
    _open(nets, target, settings)
    start = time.perf_counter()
    result = _detect_job((face_set.images, chosen, nets, target, settings))
    seconds = time.perf_counter() - start
    scale = len(numbered) / len(chosen)
    count = sum(
        min(int((result["labels"] == label).sum() * scale), settings.mine.total)
        for label in (0, -1, 1)
    )
    return count, count * store.sample_bytes(size), seconds * scale / min(workers, len(numbered))


def make_store(face_set, nets, target, size, out, settings, workers=None, part=None):
    """Mine hard examples in a FaceSet into a store at `out`; prints an estimate, progress and what
    it made, and draws `out`/mosaic.png. Returns counts by kind.

    nets -- paths by stage; those before the target are used, for a Pnet itself
    target -- "pnet", "rnet" or "onet": which net is to learn from them
    size -- of the crops, pixels; settings -- the whole configuration
    part -- core.base.shards.Shard: the detector runs over its pictures alone, for MERGE to choose
        from all and to cut

    Stopped at any moment, the same call goes on. Raises Problem: nets that are missing or can't be
    these stages, disk too small, not one box found, a journal of other nets or settings.
    """
    if size not in samples.SIZES:
        raise Problem(f"--size {size}: it must be one of {', '.join(map(str, samples.SIZES))}")
    out, nets = Path(out), cascade_for(target, nets)
    with shards.writing(out, part):
        return _make_store(face_set, nets, target, size, out, settings, workers, part)


def _make_store(face_set, nets, target, size, out, settings, workers, part):
    workers = workers or parallel.cores()
    opened = _open(nets, target, settings).nets
    facts = {
        "for": target,
        "settings": goes_by(settings, target),
        "nets": {
            stage: {"net": opened[stage].facts["net"], "sha256": sha256(path)}
            for stage, path in nets.items()
        },
        "source": {
            "file": face_set.truth.name,
            "sha256": sha256(face_set.truth),
            **face_set.counts,
            **face_set.checked_by,
        },
    }
    journal_folder = shards.folder_of(out)
    identity = {**facts, "pictures": len(face_set.annotations), "format": JOURNAL}
    left = Journal(journal_folder, identity) if journal_folder.is_dir() else None
    counts = samples.finished(out, size, facts, "hard", journal=left)
    if counts is not None:
        return counts
    print(face_set.describe())
    jobs = _jobs(face_set, nets, target, settings)
    if isinstance(part, shards.Shard):
        shards.do(part, out, identity, _detect_job, jobs, workers, _pictures_of)
        return None
    if part:
        journal = shards.journal_to_merge(out, identity, jobs)
    else:
        count, *expected = _estimate(face_set, nets, target, size, settings, workers)
        samples.expect(out, size, count, *expected, workers)
        journal = left or Journal(journal_folder, identity)
    found, left_out, unread, outside = _detect(face_set, jobs, journal, workers)
    kept = _lowest(found["labels"], found["ranks"], settings.mine.total)
    left_out[LEFT_OUT.index("over the cap")] += len(found["labels"]) - len(kept)
    left_out = dict(zip(LEFT_OUT, left_out.tolist()))
    words = ", ".join(f"{n:,} {reason}" for reason, n in left_out.items() if n) or "none"
    if not len(kept):
        raise Problem(
            f"not one hard example in {len(face_set.annotations):,} pictures (boxes left "
            f"out: {words}): lower the thresholds, mine.{target}"
        )
    print(f"left out: {words}")
    samples.print_some("skipped", unread, f"all named in {out / 'store.json'}")
    samples.print_some("skipped", outside, f"all named in {out / 'store.json'}")
    rows = [
        (
            int(index),
            face_set.annotations[index].path,
            *(found[name][part] for name in ("squares", "labels", "offsets")),
        )
        for index, part in _by_picture(found["picture"], kept)
    ]
    counts = samples.cut_store(
        out,
        size,
        rows,
        partial(_cut, images=face_set.images, size=size),
        [a.path for a in face_set.annotations],
        {
            **facts,
            "unread": unread,
            "left_out": left_out,
            **({"outside": outside} if outside else {}),
        },
        workers,
        what="hard",
    )
    journal.remove()
    return counts


def _by_picture(picture, kept):
    """Yields (index of a picture, which of the samples `kept` are of it)."""
    for part in np.split(kept, np.flatnonzero(np.diff(picture[kept])) + 1):
        yield picture[part[0]], part


def _jobs(face_set, nets, target, settings):
    """What _detect_job() takes, for all pictures."""
    numbered = list(enumerate(face_set.annotations))
    return [
        (face_set.images, numbered[i : i + PICTURES_PER_JOB], nets, target, settings)
        for i in range(0, len(numbered), PICTURES_PER_JOB)
    ]


def _pictures_of(job):
    return len(job[1])


def _detect(face_set, jobs, journal, workers):
    """All samples without their crops, as arrays; counts left out; pictures that can't be read, and
    faces outside of theirs."""
    pictures_in_all = len(face_set.annotations)
    if journal.done:
        print(f"going on: {len(journal.done) * PICTURES_PER_JOB:,} pictures are done already")
    progress, parts = Progress(pictures_in_all, "pictures"), []
    for job, result in zip(jobs, journal.run(_detect_job, jobs, workers)):
        parts.append(result)
        progress.step(_pictures_of(job))
    progress.close()
    joined = {
        name: np.concatenate([part[name] for part in parts])
        for name in ("picture", "squares", "labels", "offsets", "ranks")
    }
    skipped, outside = (
        [str(reason) for part in parts for reason in part[name]] for name in ("skipped", "outside")
    )
    if len(skipped) == pictures_in_all:
        raise Problem(f"not one picture could be used; the first: {skipped[0]}")
    return joined, sum(part["left_out"] for part in parts), skipped, outside


def main(argv):
    parser = argparse.ArgumentParser(
        prog="python -m prepare_data.mine",
        description="Cut what a cascade wrongly takes for faces into a packed store.",
        epilog="Settings of the sections mine, detect and samples are overridden as "
        "section.key=value, e.g. mine.rnet=0.4 mine.positives=True; config.py explains "
        "each.",
    )
    parser.add_argument("--data", required=True, metavar="DIR", help="laid out like WIDER FACE")
    parser.add_argument("--split", default="train", choices=("train", "val"))
    parser.add_argument("--nets", metavar="DIR", help="folder with the nets so far")
    for stage in STAGES[:2]:
        parser.add_argument(
            f"--{stage}", metavar="FILE", help=f"the {stage}: a file or a run's folder"
        )
    parser.add_argument(
        "--for",
        dest="target",
        required=True,
        choices=STAGES,
        help="the net that is to learn from them",
    )
    parser.add_argument(
        "--size",
        type=int,
        required=True,
        help="side of the samples in pixels: " + ", ".join(map(str, samples.SIZES)),
    )
    teacher.arguments(parser)
    parser.add_argument("--out", required=True, help="folder to make the store in")
    options.workers(parser)
    shards.arguments(parser)
    args = options.parse(parser, argv, teacher.RENAMED)
    settings = override(config, args.settings)
    given = {stage: path for stage in STAGES[:2] if (path := getattr(args, stage))}
    if args.nets:
        given = {**net_files.in_folder(args.nets, given)[0], **given}
    face_set = teacher.clean_labels(
        wider.open_set(args.data, args.split), settings.teacher, args.teacher_boxes, args.scores
    )
    make_store(face_set, given, args.target, args.size, args.out, settings, args.workers, args.part)


if __name__ == "__main__":
    program(main)

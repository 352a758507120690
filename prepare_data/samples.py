"""Cuts training samples out of annotated photographs, into a packed store.

    python -m prepare_data.samples --data DIR --size 20 --out STORE

The rules are train-mtcnn's: random negatives all over the picture, negatives near each face,
positives and parts around it, told apart by their IoU with it. Where it differs: it ends on every
picture; crops that reach over the border are padded with black, as the detector pads them, so
faces there are kept; offsets keep their precision; negatives keep clear of boxes marked invalid,
and of what another detector holds for a face (prepare_data.teacher); and what is drawn for
a picture depends on the seed and the picture's path alone.
"""

import argparse
import json
import shutil
import time
import zlib
from functools import partial
from pathlib import Path

import numpy as np

from config import config, override
from core.base import options, parallel, shards
from facelet import boxes as geometry
from facelet import isolated
from facelet import picture as pictures
from facelet.console import Problem, Progress, clock, program
from facelet.files import check_new, is_new, sha256, to_json
from prepare_data import mosaic, store, teacher, wider
from prepare_data.face_crop import crop, rotation

SIZES = (12, 16, 20, 24, 48)
TRIES = 20  # draws per negative wanted, then a picture makes do with what was found
PICTURES_PER_JOB = 8
JOURNAL = 1  # the format of what a job gives
ESTIMATE_FROM = 40  # pictures that the estimate of size and time is made from
FREE_SPACE_MARGIN = 1.1
MOSAIC = "mosaic.png"  # of a store, which counts as done when it is there


def generator(seed, path):
    """Random numbers of one picture: the same whatever the other pictures and processes."""
    return np.random.default_rng([seed, zlib.crc32(path.encode())])


def _squares(x, y, side):
    return np.stack([x, y, x + side, y + side], axis=-1)


def _negatives(candidates, annotation, settings):
    """Which squares (N, 4) are background: bool (N,)."""
    clear = np.ones(len(candidates), bool)
    if len(annotation.boxes):
        overlap = geometry.iou(candidates, annotation.boxes).max(axis=1)
        clear &= overlap < settings.max_negative_iou
    neither = np.concatenate([annotation.ignored, annotation.unsure])
    if len(neither):
        overlap = geometry.covered(candidates, neither).max(axis=1)
        clear &= overlap < settings.max_negative_iou
    return clear


def _random_negatives(rng, annotation, width, height, size, settings):
    wanted = settings.base_num * settings.negatives
    shorter = min(width, height)
    # Sides up to half the picture, as in train-mtcnn; a small picture gives what it can.
    largest = max(size + 1, shorter // 2)
    side = rng.integers(size, min(largest, shorter + 1), wanted * TRIES)
    x = rng.integers(0, width - side + 1)
    y = rng.integers(0, height - side + 1)
    candidates = _squares(x, y, side)
    return candidates[_negatives(candidates, annotation, settings)][:wanted]


def _near_negatives(rng, annotation, face, width, height, size, settings):
    tries = settings.base_num * settings.near_negatives
    shorter = min(width, height)
    side = rng.integers(size, min(max(size + 1, shorter // 2), shorter + 1), tries)
    x1, y1, x2, y2 = face
    x = x1 + rng.uniform(np.maximum(-side, -x1), max(x2 - x1, 1e-3))
    y = y1 + rng.uniform(np.maximum(-side, -y1), max(y2 - y1, 1e-3))
    candidates = _squares(np.maximum(x, 0).astype(int), np.maximum(y, 0).astype(int), side)
    inside = (candidates[:, 2] <= width) & (candidates[:, 3] <= height)
    candidates = candidates[inside]
    return candidates[_negatives(candidates, annotation, settings)]


def _around_face(rng, face, settings):
    """Squares (N, 4) around a face, their labels (N,), 1 or -1, degrees (N,) that the picture is
    turned by about the face's centre, and the boxes (N, 4) that the face has in it then."""
    tries = settings.base_num * settings.positives
    x1, y1, x2, y2 = face
    width, height = x2 - x1, y2 - y1
    low, high = int(0.8 * min(width, height)), int(np.ceil(1.25 * max(width, height)))
    side = rng.integers(max(low, 1), max(high, low + 1, 2), tries)
    centre_x = (x1 + x2) / 2 + width * rng.uniform(-0.2, 0.2, tries)
    centre_y = (y1 + y2) / 2 + height * rng.uniform(-0.2, 0.2, tries)
    squares = _squares(
        np.round(centre_x - side / 2).astype(int), np.round(centre_y - side / 2).astype(int), side
    )
    degrees, faces = np.zeros(tries), np.broadcast_to(face, (tries, 4))
    if settings.turned:
        some = rng.uniform(size=tries) < settings.turned
        degrees = np.where(some, rng.uniform(-settings.angle, settings.angle, tries), 0)
        faces = geometry.turned(face, degrees)
    overlap = geometry.paired_iou(squares, faces)
    positive = overlap >= settings.min_positive_iou
    part = ~positive & (overlap >= settings.min_part_iou)
    part &= rng.uniform(size=tries) < settings.keep_part
    kept = positive | part
    return squares[kept], np.where(positive, 1, -1)[kept], degrees[kept], faces[kept]


def squares_of(annotation, width, height, size, settings):
    """All sample squares of a picture of width x height pixels.

    Returns squares (N, 4) int, labels (N,) int8, offsets (N, 4) float32, and turns (N, 3): the
    degrees that the picture is turned by before the square is cut, and about which place in it. A
    picture smaller than `size` gives none.
    """
    rng = generator(settings.seed, annotation.path)
    found = [(np.zeros((0, 4), int), np.zeros(0), np.zeros((0, 4)), np.zeros((0, 3)))]

    def add_negatives(squares):
        n = len(squares)
        found.append((squares, np.zeros(n), np.zeros((n, 4)), np.zeros((n, 3))))

    if min(width, height) >= size:
        add_negatives(_random_negatives(rng, annotation, width, height, size, settings))
        for face in annotation.boxes.astype(np.float64):
            if max(face[2] - face[0], face[3] - face[1]) < settings.min_face:
                continue
            add_negatives(_near_negatives(rng, annotation, face, width, height, size, settings))
            squares, labels, degrees, faces = _around_face(rng, face, settings)
            centres = np.broadcast_to((face[:2] + face[2:]) / 2, (len(squares), 2))
            offsets = geometry.offsets(squares.astype(np.float64), faces)
            found.append((squares, labels, offsets, np.column_stack([degrees, centres])))
    squares, labels, offsets, turns = map(np.concatenate, zip(*found))
    return squares, labels.astype(np.int8), offsets.astype(np.float32), turns


def cut(images, annotation, index, size, settings):
    """The samples of one picture as a chunk of a store, and why there are none of it, or of some of
    its faces, a line each."""
    parallel.at(images / annotation.path)
    try:
        picture = isolated.read(images / annotation.path)
    except pictures.BrokenPicture as error:
        return chunk(size, index), [str(error)]
    height, width = picture.shape[:2]
    if min(width, height) < size:
        return (
            chunk(size, index),
            [f"{images / annotation.path}: {width}x{height} is smaller than the net's {size}"],
        )
    annotation, outside = wider.in_picture(annotation, width, height)
    squares, labels, offsets, turns = squares_of(annotation, width, height, size, settings)
    crops = [
        _turned_crop(picture, square, turn, size)
        if turn[0]
        else pictures.crop(picture, square, size)
        for square, turn in zip(squares, turns)
    ]
    return chunk(size, index, crops, labels, offsets, squares), outside


def _turned_crop(picture, square, turn, size):
    """The crop of a square (4,) of a picture that is turned by degrees, about x, y: (3,)."""
    degrees, centre = turn[:1], turn[1:]
    middle = (square[:2] + square[2:]) / 2
    moved = rotation(-degrees)[0] @ (middle - centre) + centre - middle
    return crop(picture, square + np.tile(moved, 2), -degrees[0], size)


def chunk(size, index, crops=(), labels=(), offsets=(), squares=()):
    """Samples of picture `index` as arrays by field of the store."""
    n = len(crops)
    sources = np.empty((n, 5), np.int32)
    sources[:, 0] = index
    sources[:, 1:] = np.reshape(squares, (n, 4))
    return {
        "crops": np.array(crops, np.uint8).reshape(n, size, size, 3),
        "labels": np.array(labels, np.int8),
        "sources": sources,
        "offsets": np.array(offsets, np.float32).reshape(n, 4),
    }


def _job(arguments):
    """The samples of some pictures as a chunk of a store, with "skipped", why there are none of
    some."""
    cut_picture, items = arguments
    found = [cut_picture(item) for item in items]
    return {
        **{name: np.concatenate([part[name] for part, _ in found]) for name in found[0][0]},
        "skipped": np.array([reason for _, reasons in found for reason in reasons], str),
    }


def _pictures_of(job):
    return len(job[1])


def _estimate(items, cut_picture, bytes_each, workers):
    """Samples, bytes and seconds to expect, from a few pictures spread over all."""
    chosen = items[:: max(1, len(items) // ESTIMATE_FROM)][:ESTIMATE_FROM]
    start = time.perf_counter()
    found = sum(len(cut_picture(item)[0]["labels"]) for item in chosen)
    seconds = time.perf_counter() - start
    scale = len(items) / len(chosen)
    samples = int(found * scale)
    return samples, samples * bytes_each, seconds * scale / workers


def expect(out, size, samples, size_bytes, seconds, workers):
    """Print what is to be expected of a store. Raises Problem where the disk is too small."""
    print(
        f"expected: {samples:,} samples of {size} px, {size_bytes / 1e6:,.0f} MB, "
        f"{clock(seconds)} on {workers} processes"
    )
    out.parent.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(out.parent).free
    if free < size_bytes * FREE_SPACE_MARGIN:
        raise Problem(
            f"{out.parent} has {free / 1e6:,.0f} MB free, the store needs about "
            f"{size_bytes / 1e6:,.0f} MB: free some space or choose another --out"
        )


def finished(out, size, facts, what="samples", points=None, journal=None, keep=False):
    """Do what a kill has left undone of a store at `out` that is there already: its mosaic, and
    the removal of the Journal that it was made from. Returns its counts by kind, None where
    nothing is there yet.

    size, facts, what, points -- of the store that is to be there
    keep -- whether a store of which nothing is missing may be there

    Raises Problem where something else is there, or nothing is missing."""
    if is_new(out):
        return None
    try:
        found = store.Store(out, size)
    except Problem:
        check_new(out)
    made = {**found.facts, "what": found.what, "points": found.points}
    wanted = json.loads(to_json({**facts, "what": what, "points": points}))
    picture = Path(out) / MOSAIC
    whole = picture.is_file() and not journal
    if {key: made.get(key) for key in wanted} != wanted or (whole and not keep):
        check_new(out)
    if not picture.is_file():
        _draw_mosaic(found)
    elif whole:
        print(f"{out} is there already and stays as it is")
    if journal:
        journal.remove()
    return found.facts["counts"]


def _draw_mosaic(made):
    mosaic.draw(made, made.path / MOSAIC)
    print(f"{made.path / MOSAIC}: samples by kind with their boxes or points")


def cut_store(out, size, items, cut_picture, paths, facts, workers=None, part=None, **kinds):
    """Cut samples out of many pictures into a store at `out`: prints an estimate, progress and
    what it made, and draws `out`/mosaic.png. Returns counts by kind.

    items -- what `cut_picture` takes for each picture; it returns a chunk of a store (maybe
        empty) and a list of reasons why the picture, or a face in it, could not be used. It runs
        in other processes
    paths -- of the pictures, what the chunks' sources count in
    facts -- to keep in store.json, beside the reasons as "skipped"
    part -- core.base.shards.Shard: its pictures alone, for MERGE to make the store of; it has none
    kinds -- `what` and `points` of store.write_store

    Raises Problem: disk too small, nothing to cut.
    """
    out = Path(out)
    check_new(out)
    workers = workers or parallel.cores()
    jobs = [
        (cut_picture, items[i : i + PICTURES_PER_JOB])
        for i in range(0, len(items), PICTURES_PER_JOB)
    ]
    identity = {**facts, **kinds, "size": size, "pictures": len(items), "format": JOURNAL}
    if isinstance(part, shards.Shard):
        shards.do(part, out, identity, _job, jobs, workers, _pictures_of)
        return None
    if part:
        journal = shards.journal_to_merge(out, identity, jobs)
        results = journal.run(_job, jobs, workers)
    else:
        bytes_each = store.sample_bytes(size, kinds.get("points"))
        expect(out, size, *_estimate(items, cut_picture, bytes_each, workers), workers)
        results = parallel.in_order(_job, jobs, workers)
    skipped, progress = [], Progress(len(items), "pictures")

    def chunks():
        made = 0
        for job, found in zip(jobs, results):
            made += len(found["labels"])
            skipped.extend(map(str, found["skipped"]))
            yield found
            progress.step(_pictures_of(job))
        progress.close()
        if not made:
            raise Problem(
                "not one picture could be used"
                + (f"; the first: {skipped[0]}" if skipped else ": they give no samples")
            )

    counts = store.write_store(
        out,
        size,
        chunks(),
        paths,
        lambda: {"pictures": len(items), "skipped": skipped, **facts},
        **kinds,
    )
    print_some("skipped", skipped, f"all named in {out / 'store.json'}")
    print(f"{out}: " + ", ".join(f"{n:,} {kind}" for kind, n in counts.items()))
    _draw_mosaic(store.Store(out))
    if part:
        journal.remove()
    return counts


def print_some(word, reasons, where):
    """Print the first of some reasons, one a line, and how many more there are."""
    for reason in reasons[:10]:
        print(f"{word} {reason}")
    if len(reasons) > 10:
        print(f"... and {len(reasons) - 10:,} more, {where}")


def _cut_numbered(numbered, images, size, settings):
    index, annotation = numbered
    return cut(images, annotation, index, size, settings)


def make_store(face_set, size, out, settings, workers=None, part=None):
    """Cut the samples of a FaceSet into a store at `out`, as cut_store() does. Returns counts by
    kind. Stopped between the store and its mosaic, the same call draws that.

    settings -- as config.samples; part -- of cut_store(). Raises Problem: disk too
    small, nothing to cut.
    """
    if size not in SIZES:
        raise Problem(f"--size {size}: it must be one of {', '.join(map(str, SIZES))}")
    facts = {
        "settings": dict(settings),
        "source": {
            "file": face_set.truth.name,
            "sha256": sha256(face_set.truth),
            **face_set.counts,
            **face_set.checked_by,
        },
    }
    with shards.writing(out, part):
        counts = finished(out, size, facts, journal=shards.left(out, part))
        if counts is not None:
            return counts
        print(face_set.describe())
        return cut_store(
            out,
            size,
            list(enumerate(face_set.annotations)),
            partial(_cut_numbered, images=face_set.images, size=size, settings=settings),
            [a.path for a in face_set.annotations],
            facts,
            workers,
            part,
        )


def main(argv):
    parser = argparse.ArgumentParser(
        prog="python -m prepare_data.samples",
        description="Cut positives, parts and negatives out of photographs into a packed store.",
        epilog="Settings of the sections samples and teacher are overridden as section.key=value, "
        "e.g. samples.min_face=40; config.py explains each. "
        "`python -m prepare_data.drawn` draws a set to try.",
    )
    parser.add_argument("--data", required=True, metavar="DIR", help="laid out like WIDER FACE")
    parser.add_argument("--split", default="train", choices=("train", "val"))
    parser.add_argument(
        "--size",
        type=int,
        required=True,
        help="side of the samples in pixels: " + ", ".join(map(str, SIZES)),
    )
    parser.add_argument("--out", required=True, help="folder to make the store in")
    teacher.arguments(parser)
    options.workers(parser)
    shards.arguments(parser)
    args = options.parse(parser, argv, teacher.RENAMED)
    settings = override(config, args.settings)
    face_set = teacher.clean_labels(
        wider.open_set(args.data, args.split), settings.teacher, args.teacher_boxes, args.scores
    )
    make_store(face_set, args.size, args.out, settings.samples, args.workers, args.part)


if __name__ == "__main__":
    program(main)

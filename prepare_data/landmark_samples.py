"""Cuts samples with landmark points out of annotated faces, into a packed store.

    python -m prepare_data.landmark_samples --faces FACES --size 48 --out STORE

A net with landmarks only ever sees squares around boxes that a detector gave: that is what is cut
here, squares around the box of each face with a detector's scatter in place and size, turned a
little by one affine warp. (train-mtcnn cuts squares of half to 0.85 times the box about the nose,
out of whole pictures that it has turned, and may try for ever.) What is drawn for a picture depends
on the seed and the picture's path alone. Training mirrors samples as it goes (core.train.loader).
"""

import argparse
from functools import lru_cache, partial
from pathlib import Path

import numpy as np

from config import config, for_landmarks, override
from core.base import options, parallel, shards
from facelet import boxes as geometry
from facelet import isolated, schemes
from facelet import picture as pictures
from facelet.console import Problem, program
from prepare_data import samples, store
from prepare_data.face_crop import crop, plain, to_crop, to_picture
from prepare_data.points import face_sets
from prepare_data.points import sets as landmarks

SIZES = (12, 24, 48, 64, 80, 96, 112)
TRIES = 20  # draws per sample wanted, then a face makes do with what was found
# Places of a crop, in sides, by which the part of it that is padding is measured: spread evenly in
# every direction (Roberts's sequence), as the rows of a grid would lie in or out as one.
PLACES = np.arange(1, 129)[:, None] * (0.7548776662, 0.5698402910) % 1


def box_of(face, scheme, settings):
    """The box of a Face that its samples are cut around: its list's or, from its points, the square
    that a detector would give; of a scheme that has none, the plain crop of its points' bounds."""
    if settings.box == "list" and face.box is not None:
        return face.box.astype(np.float64)
    if schemes.get(scheme).box:
        return landmarks.box_of_points(face.points, scheme)
    (square,) = plain(face.points[None] + 0.5, None, _crop(len(face.points), scheme), scheme)
    return square


@lru_cache
def _crop(points, scheme):
    return for_landmarks(points, scheme=scheme).crop


def _padding(squares, degrees, width, height):
    """Part of each turned square that lies outside of a picture: (N,)."""
    places = to_picture(squares, degrees, PLACES)
    inside = ((places >= 0) & (places <= (width, height))).all(axis=2)
    return 1 - inside.mean(axis=1)


def squares_of(rng, points, box, width, height, settings):
    """Sample squares of a face with points (P, 2) and a box (4,) in a picture of width x height:
    squares (N, 4) int as they are before they are turned, degrees (N,), and the points in them
    (N, P, 2) float32 in units of the crop's side; at most settings.base_num."""
    tries = settings.base_num * TRIES
    side = max(box[2:] - box[:2]) * np.exp(rng.uniform(*np.log(settings.scale), tries))
    centre = (box[:2] + box[2:]) / 2 + rng.uniform(
        -settings.shift, settings.shift, (tries, 2)
    ) * side[:, None]
    degrees = rng.uniform(-settings.angle, settings.angle, tries)
    half = side[:, None] / 2
    squares = geometry.squares(np.concatenate([centre - half, centre + half], axis=1)).astype(int)
    placed = to_crop(squares, degrees, points + 0.5)
    margin = settings.margin
    good = ((placed >= margin) & (placed <= 1 - margin)).all(axis=(1, 2))
    good &= _padding(squares, degrees, width, height) <= settings.padding
    kept = np.flatnonzero(good)[: settings.base_num]
    return squares[kept], degrees[kept], placed[kept].astype(np.float32)


def _reason_against(face, box, width, height, settings):
    """Why a Face can't be used in a picture of width x height, or None."""
    if max(box[2:] - box[:2]) < settings.min_face:
        return f"a face of {max(box[2:] - box[:2]):.0f} px is smaller than {settings.min_face}"
    return face_sets.reason_against(face, width, height)


def cut(numbered, images, truth, scheme, size, settings):
    """The samples of one picture's faces, (index, (path, faces)), as a chunk of a store, and why
    there are none of some, a line each."""
    index, (path, faces) = numbered
    chunk = partial(_chunk, size, index, len(faces[0].points))
    parallel.at(images / path)
    try:
        picture = isolated.read(images / path)
    except pictures.BrokenPicture as error:
        return chunk(), [str(error)]
    crops, squares, placed, reasons = [], [], [], []
    height, width = picture.shape[:2]
    rng = samples.generator(settings.seed, path)
    for face in faces:
        box = box_of(face, scheme, settings)
        reason = _reason_against(face, box, width, height, settings)
        if not reason:
            found, degrees, points = squares_of(rng, face.points, box, width, height, settings)
            crops += [crop(picture, *how, size) for how in zip(found, degrees)]
            squares.append(found)
            placed.append(points)
            if not len(found):
                reason = "no square around it keeps to landmark_samples.padding and .margin"
        if reason:
            reasons.append(f"{face.source}: {reason}")
    return chunk(crops, squares, placed), reasons


def _chunk(size, index, points, crops=(), squares=(), placed=()):
    n = len(crops)
    return {
        **samples.chunk(
            size,
            index,
            crops,
            np.full(n, store.KINDS["landmark"]),
            np.zeros((n, 4)),
            np.concatenate([np.zeros((0, 4), int), *squares]),
        ),
        "landmarks": np.concatenate([np.zeros((0, points, 2), np.float32), *placed]),
    }


def make_store(point_set, size, out, settings, workers=None, keep=False, part=None):
    """Cut the samples of a PointSet into a store of what="landmark" at `out`, as
    prepare_data.samples.cut_store() does. Returns counts by kind. Stopped between the store and its
    mosaic, the same call draws that.

    settings -- as config.landmark_samples; keep -- whether the store may be there already; part --
    of cut_store(). Raises Problem: disk too small, nothing to cut.
    """
    if size not in SIZES:
        raise Problem(f"--size {size}: it must be one of {', '.join(map(str, SIZES))}")
    faces = point_set.pictures()
    kinds = {"what": "landmark", "points": point_set.points}
    facts = {
        "scheme": point_set.scheme,
        "settings": dict(settings),
        "rejected": point_set.rejected,
        "source": {
            "file": point_set.truth.name,
            "sha256": point_set.sha256,
            "pictures": len(faces),
            "faces": len(point_set.faces),
        },
    }
    cut_picture = partial(
        cut,
        images=point_set.images,
        truth=point_set.truth,
        scheme=point_set.scheme,
        size=size,
        settings=settings,
    )
    with shards.writing(out, part):
        journal = shards.left(out, part)
        counts = samples.finished(out, size, facts, journal=journal, keep=keep, **kinds)
        if counts is not None:
            return counts
        face_sets.check_scale(point_set)
        print(point_set.describe())
        where = f"all named in {Path(out) / 'store.json'}"
        samples.print_some("rejected", point_set.rejected, where)
        items = list(enumerate(faces.items()))
        return samples.cut_store(
            out, size, items, cut_picture, list(faces), facts, workers, part, **kinds
        )


def main(argv):
    parser = argparse.ArgumentParser(
        prog="python -m prepare_data.landmark_samples",
        description="Cut faces with landmark points out of pictures into a packed store.",
        epilog="Settings are overridden as landmark_samples.key=value, e.g. "
        "landmark_samples.base_num=10; config.py explains each. `python -m "
        "prepare_data.drawn` draws a set to try, with landmarks/train_5.txt.",
    )
    parser.add_argument(
        "--faces",
        required=True,
        metavar="FACES",
        help="a list or folder of faces with points (prepare_data.points)",
    )
    landmarks.arguments(parser)
    parser.add_argument(
        "--size",
        type=int,
        required=True,
        help="side of the samples in pixels: " + ", ".join(map(str, SIZES)),
    )
    parser.add_argument("--out", required=True, help="folder to make the store in")
    parser.add_argument(
        "--val-fraction",
        type=float,
        metavar="F",
        help="hold out this share of the pictures, in a second store at OUT-val",
    )
    options.workers(parser)
    shards.arguments(parser)
    args = options.parse(parser, argv, {"--points": "--faces"})
    settings = override(config, args.settings).landmark_samples
    point_set, parts = landmarks.from_args(args.faces, args), {}
    if args.val_fraction is None:
        parts[args.out] = point_set
    else:
        parts[args.out], parts[f"{args.out}-val"] = landmarks.split(
            point_set, args.val_fraction, settings.seed
        )
    # Stopped between the two, the first may be there.
    keep = not all((Path(out) / samples.MOSAIC).is_file() for out in parts)
    for out, part in parts.items():
        make_store(part, args.size, out, settings, args.workers, keep, args.part)


if __name__ == "__main__":
    program(main)

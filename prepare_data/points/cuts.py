"""Cuts faces with points out of their pictures, with room for every augmentation, into one store.

    python -m prepare_data.points cut --faces FACES --size 112 --out STORE

--size is the longer side of a cut in pixels; smaller ones stay as they are. A cut is a good two
sides of the crops that training makes of it: 112 is enough for nets of 48 pixels, 224 for nets of
96 and 112. The room is for every row of config.CROPS, and for crop.* settings given here.

A store is a folder:

    faces.bin     the cuts as JPEG files, one behind the other
    index.npy     int64 (N + 1,)      where each begins in faces.bin, and where the last ends
    points.npy    float32 (N, P, 2)   in the cut; (0, 0) is the first corner of its first pixel
    boxes.npy     float32 (N, 4)      box of the list in the cut, x1 y1 x2 y2; NaN where it has none
    rooms.npy     float32 (N,)        px of the cut that crops may reach from the face's middle
    sources.npy   int32 (N, 5)        index of the picture, x1 y1 x2 y2 of the cut in it
    pictures.txt  path of each picture, relative to the set's images
    cuts.json     scheme, points, size, quality, settings, what it was made from, what was rejected,
                  checksums of the files above
"""

from functools import partial
from pathlib import Path

import cv2
import numpy as np

from config import CROPS, for_landmarks
from core.base import parallel
from facelet import isolated, schemes
from facelet import picture as pictures
from facelet.console import Problem, Progress
from facelet.files import check_new, checksums, whole_folder, write_json
from prepare_data import face_crop
from prepare_data.points import sets as landmarks
from prepare_data.points.face_sets import (
    JPEG,
    VERSION,
    Cuts,
    check_scale,
    listed,
    reason_against,
    source_of,
)
from prepare_data.samples import print_some
from prepare_data.store import write_pictures

QUALITY = 95  # of JPEG files made here; one that is cut to nothing less is kept as it is
EDGE = 2  # px of a picture, around the room, that interpolation may read
PICTURES_PER_JOB = 16
OFFLINE = 10  # crops of each face, made once, that a store is compared with ...
ESTIMATED_FROM = 200  # ... by those of as many faces


# ---- making a store ------------------------------------------------------------------------


def _rooms(points, listed, settings, scheme):
    """Middle (2,) of a face (1, P, 2) and how far from it crops reach, by any of the settings."""
    found = [face_crop.reach(points, listed, crop, scheme) for crop in settings]
    low = np.min([centre - reach for centre, reach in found], axis=0)[0]
    high = np.max([centre + reach for centre, reach in found], axis=0)[0]
    return (low + high) / 2, (high - low).max() / 2


def cut(picture, data, face, settings, scheme, size):
    """A Face cut out of its picture, whose file holds `data`: JPEG bytes, points (P, 2) and box
    (4,) in the cut, how far crops may reach in it, px, and x1 y1 x2 y2 of the cut in the
    picture."""
    points, box = face.points[None] + np.float32(0.5), listed(face)[None]
    middle, room = _rooms(points, box, settings, scheme)
    height, width = picture.shape[:2]
    low = np.maximum(np.floor(middle - room).astype(int) - EDGE, 0)
    high = np.minimum(np.ceil(middle + room).astype(int) + EDGE, (width, height))
    part = picture[low[1] : high[1], low[0] : high[0]]
    scale = np.minimum(size / max(high - low), 1)
    if scale < 1:
        # Averaged over areas: bilinear interpolation would skip pixels.
        part = cv2.resize(
            part,
            tuple(np.maximum(np.round((high - low) * scale).astype(int), 1).tolist()),
            interpolation=cv2.INTER_AREA,
        )
    scale = np.array(part.shape[1::-1]) / (high - low)
    if part.shape != picture.shape or data[:2] != JPEG:
        data = cv2.imencode(".jpg", part, [cv2.IMWRITE_JPEG_QUALITY, QUALITY])[1].tobytes()
    return (
        data,
        ((points[0] - low) * scale).astype(np.float32),
        ((box[0] - np.tile(low, 2)) * np.tile(scale, 2)).astype(np.float32),
        room * scale.min(),
        [*low, *high],
    )


def _cut_all(numbered, images, settings, scheme, size, least):
    """[(index of the picture, its bytes, cuts, reasons)] of some pictures."""
    found = []
    for index, (path, faces) in numbered:
        parallel.at(images / path)
        try:
            data = (images / path).read_bytes()
            picture = isolated.read(images / path)
        except OSError as error:
            found.append((index, 0, [], [f"{images / path}: {error.strerror}"]))
            continue
        except pictures.BrokenPicture as error:
            found.append((index, 0, [], [str(error)]))
            continue
        cuts, reasons = [], []
        for face in faces:
            reason = reason_against(face, *picture.shape[1::-1])
            side = np.ptp(face.points, axis=0).max()
            if not reason and side < least:
                reason = f"points over {side:.0f} px: crop.min_face is {least}"
            if reason:
                reasons.append(f"{face.source}: {reason}")
            else:
                cuts.append(cut(picture, data, face, settings, scheme, size))
        found.append((index, len(data), cuts, reasons))
    return found


def make_store(point_set, size, out, settings, workers=None):
    """Cut the faces of a PointSet into a store at `out`, whole or not at all. Returns its Cuts.

    size -- longer side of a cut at most, px; settings -- as config.crop, what there must be room
        for beside every row of config.CROPS

    Raises Problem: nothing to cut."""
    out, workers = Path(out), workers or parallel.cores()
    if size < 16:
        raise Problem(f"--size {size}: it must be at least 16")
    check_new(out)
    check_scale(point_set)
    print(point_set.describe())
    print_some("rejected", point_set.rejected, f"all named in {out / 'cuts.json'}")
    rows = [pair[point_set.points != 5] for pair in CROPS.values()]
    if schemes.get(point_set.scheme).box is None:  # nobody knows where a detector's box would be
        rows = [row for row in rows if row["box"] == "bounds"]
    every = [settings, *(type(settings)({**settings, **row}) for row in rows)]
    faces = point_set.pictures()
    numbered = list(enumerate(faces.items()))
    jobs = [numbered[i : i + PICTURES_PER_JOB] for i in range(0, len(numbered), PICTURES_PER_JOB)]
    work = partial(
        _cut_all,
        images=point_set.images,
        settings=every,
        scheme=point_set.scheme,
        size=size,
        least=settings.min_face,
    )
    index, points, boxes, rooms, sources, rejected = [0], [], [], [], [], []
    progress, read = Progress(len(numbered), "pictures"), 0
    with whole_folder(out) as part:
        with open(part / "faces.bin", "wb") as file:
            for results in parallel.in_order(work, jobs, workers):
                for picture, length, cuts, reasons in results:
                    read += length
                    rejected += reasons
                    for data, places, box, room, square in cuts:
                        file.write(data)
                        index.append(index[-1] + len(data))
                        points.append(places)
                        boxes.append(box)
                        rooms.append(room)
                        sources.append([picture, *square])
                progress.step(len(results))
        progress.close()
        if not points:
            raise Problem(
                "not one face could be cut" + (f"; the first: {rejected[0]}" if rejected else "")
            )
        for name, values, kind in (
            ("index", index, np.int64),
            ("points", points, np.float32),
            ("boxes", boxes, np.float32),
            ("rooms", rooms, np.float32),
            ("sources", sources, np.int32),
        ):
            np.save(part / f"{name}.npy", np.array(values, kind))
        write_pictures(part, faces)
        write_json(
            part / "cuts.json",
            {
                "version": VERSION,
                "points": point_set.points,
                "scheme": point_set.scheme,
                "faces": len(points),
                "size": size,
                "quality": QUALITY,
                "settings": dict(settings),
                "source": source_of(point_set),
                "rejected": point_set.rejected + rejected,
                "checksums": checksums(part),
            },
        )
    print_some("rejected", rejected, f"all named in {out / 'cuts.json'}")
    made = Cuts(out)
    print(_saved(made, read, settings))
    return made


def _saved(cuts, read, settings):
    """What a store saves, in words."""
    bytes_made = sum(file.stat().st_size for file in cuts.path.iterdir())
    rng = np.random.default_rng(0)
    chosen = rng.permutation(len(cuts))[:ESTIMATED_FROM]
    squares, degrees = face_crop.draw(
        cuts.points_of[chosen], cuts.boxes[chosen], settings, cuts.scheme, rng
    )
    size = cuts.facts["size"] // 2
    crops = [face_crop.crop(cuts.read(i), *how, size) for i, *how in zip(chosen, squares, degrees)]
    offline = np.mean([len(cv2.imencode(".jpg", crop)[1]) for crop in crops])
    return (
        f"{cuts.path}: {len(cuts):,} faces, {bytes_made / 1e6:,.1f} MB; their pictures as they "
        f"are {read / 1e6:,.1f} MB; {OFFLINE} crops of {size} px of each as JPEG files "
        f"{offline * OFFLINE * len(cuts) / 1e6:,.1f} MB"
    )


def arguments(parser):
    parser.add_argument(
        "--faces", required=True, metavar="FACES", help="a list or folder of faces with points"
    )
    landmarks.arguments(parser)
    parser.add_argument("--size", type=int, required=True, help="longer side of a cut, px")
    parser.add_argument("--out", required=True, metavar="STORE", help="folder to make")
    parser.add_argument("--workers", type=int, help="processes (default: all cores)")


def main(args, settings):
    del settings  # crop.* depends on the number of points
    point_set = landmarks.from_args(args.faces, args)
    make_store(
        point_set,
        args.size,
        args.out,
        for_landmarks(point_set.points, args.settings).crop,
        args.workers,
    )

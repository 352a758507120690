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
from core.base import options, parallel, shards
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
ARRAYS = ("points", "boxes", "rooms", "sources")  # of a store, a row for each cut
JOURNAL = 1  # the format of what a job gives


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
    """The cuts of some pictures, arrays by name: "data", their bytes one behind the other, "ends"
    of each in there, points, boxes, rooms and sources as in a store; "read", bytes of the pictures;
    "rejected", reasons."""
    cuts, sources, rejected, read = [], [], [], 0
    for index, (path, faces) in numbered:
        parallel.at(images / path)
        try:
            data = (images / path).read_bytes()
            picture = isolated.read(images / path)
        except OSError as error:
            rejected.append(f"{images / path}: {error.strerror}")
            continue
        except pictures.BrokenPicture as error:
            rejected.append(str(error))
            continue
        read += len(data)
        for face in faces:
            reason = reason_against(face, *picture.shape[1::-1])
            side = np.ptp(face.points, axis=0).max()
            if not reason and side < least:
                reason = f"points over {side:.0f} px: crop.min_face is {least}"
            if reason:
                rejected.append(f"{face.source}: {reason}")
            else:
                *made, square = cut(picture, data, face, settings, scheme, size)
                cuts.append(made)
                sources.append([index, *square])
    points = len(numbered[0][1][1][0].points)
    data, places, boxes, rooms = zip(*cuts) if cuts else ((), (), (), ())
    return {
        "data": np.frombuffer(b"".join(data), np.uint8),
        "ends": np.cumsum([len(one) for one in data], dtype=np.int64),
        "points": np.array(places, np.float32).reshape(-1, points, 2),
        "boxes": np.array(boxes, np.float32).reshape(-1, 4),
        "rooms": np.array(rooms, np.float32),
        "sources": np.array(sources, np.int32).reshape(-1, 5),
        "read": np.array(read),
        "rejected": np.array(rejected, str),
    }


def make_store(point_set, size, out, settings, workers=None, part=None):
    """Cut the faces of a PointSet into a store at `out`, whole or not at all. Returns its Cuts.

    size -- longer side of a cut at most, px; settings -- as config.crop, what there must be room
        for beside every row of config.CROPS
    part -- core.base.shards.Shard: its pictures alone, for MERGE to make the store of; it has none

    Raises Problem: nothing to cut."""
    out, workers = Path(out), workers or parallel.cores()
    if not 16 <= size <= 4096:
        raise Problem(f"--size {size}: it must be from 16 to 4,096")
    with shards.writing(out, part):
        return _make_store(point_set, size, out, settings, workers, part)


def _make_store(point_set, size, out, settings, workers, part):
    journal = shards.left(out, part)
    if journal:  # a merge was stopped when all was made
        made = Cuts(out)
        journal.remove()
        return made
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
    facts = {
        "version": VERSION,
        "points": point_set.points,
        "scheme": point_set.scheme,
        "size": size,
        "quality": QUALITY,
        "settings": dict(settings),
        "source": source_of(point_set),
    }
    identity = {**facts, "pictures": len(numbered), "format": JOURNAL}
    if isinstance(part, shards.Shard):
        shards.do(part, out, identity, work, jobs, workers)
        return None
    if part:
        journal = shards.journal_to_merge(out, identity, jobs)
        results = journal.run(work, jobs, workers)
    else:
        results = parallel.in_order(work, jobs, workers)
    rejected, read, length = [], 0, 0
    ends, arrays = [np.zeros(1, np.int64)], {name: [] for name in ARRAYS}
    progress = Progress(len(numbered), "pictures")
    with whole_folder(out) as folder:
        with open(folder / "faces.bin", "wb") as file:
            for job, found in zip(jobs, results):
                file.write(found["data"])
                ends.append(length + found["ends"])
                length += len(found["data"])
                for name in ARRAYS:
                    arrays[name].append(found[name])
                read += int(found["read"])
                rejected += map(str, found["rejected"])
                progress.step(len(job))
        progress.close()
        if not sum(map(len, arrays["points"])):
            raise Problem(
                "not one face could be cut" + (f"; the first: {rejected[0]}" if rejected else "")
            )
        np.save(folder / "index.npy", np.concatenate(ends))
        for name, values in arrays.items():
            np.save(folder / f"{name}.npy", np.concatenate(values))
        write_pictures(folder, faces)
        facts["rejected"] = point_set.rejected + rejected
        facts["faces"] = sum(map(len, arrays["points"]))
        write_json(folder / "cuts.json", {**facts, "checksums": checksums(folder)})
    print_some("rejected", rejected, f"all named in {out / 'cuts.json'}")
    made = Cuts(out)
    print(_saved(made, read, settings))
    if part:
        journal.remove()
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
    options.workers(parser)
    shards.arguments(parser)


def main(args, settings):
    del settings  # crop.* depends on the number of points
    point_set = landmarks.from_args(args.faces, args)
    make_store(
        point_set,
        args.size,
        args.out,
        for_landmarks(point_set.points, args.settings).crop,
        args.workers,
        args.part,
    )

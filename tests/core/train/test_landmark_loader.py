"""Batches of faces with points: targets held against the pixels of faces made of coloured dots, the
same batches from any number of processes, what can't be read or doesn't go together."""

import os
import signal
import time
from multiprocessing import get_context
from typing import Any

import cv2
import numpy as np
import pytest
from dotted import COLOURS, FACE, dots, dotted, point_set, tilted

from config import config, for_landmarks
from core.base import parallel
from core.train import sheets
from core.train.landmark_loader import LandmarkBatches
from facelet import picture as pictures
from facelet import schemes
from facelet.console import Problem
from prepare_data import face_crop, landmark_samples
from prepare_data import store as stores
from prepare_data.points import cuts, face_sets
from prepare_data.points.face_sets import Crops, plain

SIZE = 64
# Nothing but geometry, with all points inside.
BARE = (
    "train.batch=20",
    "augment.brightness=1",
    "augment.gray=0",
    "augment.color=0",
    "augment.noise=0,0",
    "crop.blur=0,1",
    "crop.preset=detector",
    "crop.occlusion=0,0.1,0.4",
    "crop.margin=0.1,0.1,0.1,0.1",
    "crop.scale=1,1.3",
)


def draw_set(folder, count=12, seed=0):
    """A PointSet of pictures with a face of five dots each."""
    rng, faces = np.random.default_rng(seed), []
    for i in range(count):
        places = tilted(rng)
        faces.append(
            (f"{seed}-{i}.png", dotted(places), (*places.min(axis=0) - 20, 95, 90), places)
        )
    return point_set(folder, faces)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """(Cuts, Pictures, Crops) of one set."""
    folder = tmp_path_factory.mktemp("loader")
    found = draw_set(folder / "set")
    landmark_samples.make_store(found, SIZE, folder / "crops", config.landmark_samples, 1)
    return (
        cuts.make_store(found, 400, folder / "cuts", for_landmarks(5, BARE).crop, 1),
        face_sets.Pictures(found),
        Crops(stores.Store(folder / "crops")),
    )


def batches_of(sets, *assignments, indices=None, size=SIZE, **more):
    settings = for_landmarks(5, [*BARE, *assignments])
    indices = indices or [np.resize(np.arange(len(faces)), 40) for faces in sets]
    return LandmarkBatches(
        sets, indices, size, settings.train, settings.crop, settings.augment, **more
    )


def images(batch):
    values = batch["data"].transpose(0, 2, 3, 1) / config.input.scale + config.input.mean
    return np.round(values).astype(np.uint8)


@pytest.mark.parametrize("kind", [0, 1, 2])
def test_targets_are_where_the_pixels_are(made, kind):
    """Dots found in the net's input, to a seventh of a pixel; of mirrored samples those of the
    partners."""
    batches, partners, mirrored, checked = batches_of([made[kind]]), [1, 0, 2, 4, 3], 0, 0
    for number in range(2):
        batch = batches.make(number)
        assert batch["data"].shape == (20, 3, SIZE, SIZE) and batch["data"].dtype == np.float32
        assert batch["landmark_target"].shape == (20, 10)
        targets = np.stack([batch["landmark_target"][:, :5], batch["landmark_target"][:, 5:]], 2)
        for crop, target in zip(images(batch), targets):
            found = (dots(crop) + 0.5) / SIZE
            flipped = found[0, 0] > found[1, 0]
            mirrored += flipped
            if np.abs(target - 0.5).max() < 0.4:  # whole dots
                checked += 1
                wanted = target[partners] if flipped else target
                assert np.abs(found - wanted).max() * SIZE < (0.15 if kind < 2 else 0.3)
    assert 10 < mirrored < 30 and checked > 20


def test_without_flip_nothing_is_mirrored(made):
    batch = batches_of(made[:1], "augment.flip=False").make(0)
    for crop in images(batch):
        found = dots(crop)
        assert found[0, 0] < found[1, 0]


def test_the_same_batches_from_any_number_of_processes(made):
    """With all of the augmentation; also after the first was left in the middle."""
    heavy = (
        "augment.noise=1,10",
        "augment.gray=0.5",
        "crop.blur=0.7,12",
        "crop.occlusion=0.5,0.1,0.4",
    )
    alone = batches_of(made[:2], *heavy)
    wanted = [alone.make(number) for number in range(5)]
    assert all(not np.array_equal(wanted[0]["data"], batch["data"]) for batch in wanted[1:])
    for workers in (0, 2):
        batches = batches_of(made[:2], *heavy, workers=workers)
        for batch, waited in batches.ahead(range(3, 9)):
            assert np.array_equal(batch["data"], wanted[3]["data"]) and waited >= 0
            break
        for number, (batch, _) in enumerate(batches.ahead(range(5))):
            for name in ("data", "landmark_target"):
                np.testing.assert_array_equal(batch[name], wanted[number][name])
        assert number == 4
        batches.close()
    other = batches_of(made[:2], *heavy, "train.seed=1").make(0)
    assert not np.array_equal(other["data"], wanted[0]["data"])


def test_an_epoch_shows_each_face_once_and_otherwise_the_next_time(made):
    """By its points: a face's shape does not depend on the crop."""
    faces = made[0]
    batches = batches_of(
        [faces], "train.batch=4", "augment.flip=False", indices=[np.arange(12).repeat(2)]
    )
    assert batches.steps == 6

    def shapes(numbers):
        """(distance of the eyes, distance of the corners of the mouth), as a ratio."""
        found = np.concatenate([batches.make(number)["landmark_target"] for number in numbers])
        points = schemes.unpack(found)
        return points, np.linalg.norm(points[:, 1] - points[:, 0], axis=1) / np.linalg.norm(
            points[:, 3] - points[:, 0], axis=1
        )

    known = faces.points_of
    ratios = np.linalg.norm(known[:, 1] - known[:, 0], axis=1) / np.linalg.norm(
        known[:, 3] - known[:, 0], axis=1
    )
    first, seen = shapes(range(6))
    second, again = shapes(range(6, 12))
    for found in (seen, again):
        np.testing.assert_allclose(np.sort(found), np.sort(np.repeat(ratios, 2)), rtol=1e-4)
    assert not np.intersect1d(first[:, 0, 0], second[:, 0, 0]).size
    alone = batches_of([faces], "train.batch=4", "augment.flip=False", indices=[np.zeros(8, int)])
    found = np.concatenate([alone.make(number)["landmark_target"] for number in range(20)])
    assert len(np.unique(found[:, 0])) == 80


def test_shares_of_sets(made, tmp_path):
    """Faces of each set by its colour of the ground."""
    places = FACE + (200, 160)
    sets = [
        face_sets.Pictures(
            point_set(
                tmp_path / str(ground),
                [
                    (f"{i}.png", dotted(places, ground=ground), (150, 110, 90, 90), places)
                    for i in range(3)
                ],
            )
        )
        for ground in (0, 30)
    ]
    for shares, counts in ((None, [15, 5]), ([1, 3], [5, 15]), ([0, 1], [0, 20])):
        batches = batches_of(
            sets, indices=[np.resize(range(3), 60), np.resize(range(3), 20)], shares=shares
        )
        assert batches.counts == counts and batches.steps == 4
        ground = np.median(images(batches.make(0)).reshape(20, -1), axis=1)
        assert [(ground < 15).sum(), (ground > 15).sum()] == counts


# ---- what can't be read --------------------------------------------------------------------


@pytest.fixture()
def broken(tmp_path):
    """Pictures of ten, of which the second is truncated and the fifth missing; each is of one
    grey."""
    places, faces = FACE + (200, 160), []
    for i in range(10):
        scene = dotted(places, ground=5 * i)
        data = cv2.imencode(".jpg", scene)[1].tobytes()
        faces.append(
            (
                f"{i}.jpg",
                data[:2000] if i == 1 else None if i == 4 else data,
                (150, 110, 90, 90),
                places,
            )
        )
    return face_sets.Pictures(point_set(tmp_path / "set", faces))


@pytest.mark.parametrize("workers", [0, 2])
def test_an_unreadable_picture_gives_way_to_the_next(broken, workers, capsys):
    batches = batches_of([broken], "train.batch=10", indices=[np.arange(10)], workers=workers)
    wanted = [
        batches_of([broken], "train.batch=10", indices=[np.arange(10)]).make(i)["data"]
        for i in range(2)
    ]
    for number, (batch, _) in enumerate(batches.ahead(range(2))):
        np.testing.assert_array_equal(batch["data"], wanted[number])
        ground = np.sort(np.median(images(batch).reshape(10, -1), axis=1))
        np.testing.assert_allclose(ground, [0, 10, 10, 15, 25, 25, 30, 35, 40, 45], atol=1)
    batches.close()
    folder = broken.set.images
    assert sorted(batches.unreadable.values()) == [
        f"{folder / '1.jpg'}: a truncated JPEG",
        f"{folder / '4.jpg'}: No such file or directory",
    ]
    said = capsys.readouterr().err.splitlines()
    assert sorted(said) == [f"left out {reason}" for reason in sorted(batches.unreadable.values())]


@pytest.mark.parametrize("workers", [0, 1])
def test_nothing_readable_at_all(broken, workers):
    for file in broken.set.images.iterdir():
        file.write_bytes(b"no picture")
    batches = batches_of([broken], "train.batch=4", indices=[np.arange(10)], workers=workers)
    with pytest.raises(Problem, match="one picture after the other can't be read, the last: .*no"):
        list(batches.ahead(range(3)))
    batches.close()


def test_points_out_of_a_picture_of_another_size(tmp_path):
    places = FACE + (200, 160)
    faces = face_sets.Pictures(
        point_set(
            tmp_path / "set",
            [
                ("a.png", dotted(places), (150, 110, 90, 90), places),
                ("b.png", dotted(places)[:150], (150, 110, 90, 90), places),
            ],
        )
    )
    batches = batches_of([faces], "train.batch=2", indices=[np.arange(2)])
    batches.make(0)
    (reason,) = batches.unreadable.values()
    assert reason.endswith("line 2: points out of the picture, which is 400x150")
    with pytest.raises(pictures.BrokenPicture, match="points out of the picture"):
        plain(faces, [0, 1], SIZE, batches.crop)


def test_a_process_that_dies(made):
    batches = batches_of(made[:1], workers=1)
    with pytest.raises(
        Problem, match=r"a worker process died \(SIGKILL\) while working on .*: is there memory"
    ):
        for _ in batches.ahead(range(1000)):
            for process in batches._ahead.pool.pids:
                os.kill(process, signal.SIGKILL)
    batches.close()


kept: Any = None  # what _use() makes: it must not be collected as long as its process lives


def _use(path, pipe, forever):
    """Take a batch, tell the processes that make them, and end or wait; close nothing."""
    global kept
    kept = batches_of([face_sets.Cuts(path)], workers=1)
    for _ in kept.ahead(range(9)):
        break
    pipe.send(kept._ahead.pool.pids)
    if forever:
        time.sleep(600)


@pytest.mark.parametrize("killed", [False, True])
def test_processes_end_with_the_one_that_uses_them(made, killed):
    """Also where that is itself a process of multiprocessing, whose end waits for its own."""
    context = get_context("spawn")
    pipe, other = context.Pipe()
    process = context.Process(target=_use, args=(made[0].path, other, killed))
    process.start()
    try:
        workers = pipe.recv()
        if killed:
            process.kill()
        process.join(60)
        assert process.exitcode == (-signal.SIGKILL if killed else 0)
    finally:
        process.kill()
    until = time.monotonic() + 60
    while any(os.path.exists(f"/proc/{worker}") for worker in workers):
        assert time.monotonic() < until
        time.sleep(0.05)


# ---- what doesn't go together --------------------------------------------------------------


class Other:
    """A set of faces of a scheme."""

    size, path = None, "other"

    def __init__(self, scheme):
        self.scheme, self.points = scheme, schemes.get(scheme).points
        self.points_of = np.random.default_rng(0).uniform(100, 200, (30, self.points, 2))
        self.boxes = np.full((30, 4), np.nan)

    def __len__(self):
        return 30


def test_sets_that_do_not_go_together(made, tmp_path):
    with pytest.raises(Problem, match=r"other has 68 points \(68\), .* one net learns one scheme"):
        batches_of([made[0], Other("68")])
    with pytest.raises(Problem, match="train.batch is 50, more than the 40 faces"):
        batches_of(made[:1], "train.batch=50")
    with pytest.raises(Problem, match="holds crops of 64 pixels, the net takes 48"):
        batches_of(made[2:], size=48)
    with pytest.raises(Problem, match="has no faces to train on"):
        batches_of(made[:2], indices=[np.arange(12).repeat(2), np.arange(0)])
    with pytest.raises(Problem, match="was cut with less room than the settings crop"):
        batches_of(made[:1], "crop.scale=1,9")
    assert batches_of(made[1:2], "crop.scale=1,9")  # pictures as they are have all the room


def test_a_scheme_without_partners(monkeypatch):
    lonely = schemes.get("14")
    monkeypatch.setattr(
        schemes, "get", lambda name: type(lonely)(**{**vars(lonely), "partners": None})
    )
    with pytest.raises(Problem, match="points of the scheme '14' can't be mirrored"):
        batches_of([Other("14")], "crop.box=bounds")
    batches_of([Other("14")], "crop.box=bounds", "augment.flip=False")


def test_crops_need_landmarks(tmp_path):
    stores.write_store(tmp_path / "store", 20, [], [], {})
    with pytest.raises(Problem, match="holds no landmarks"):
        Crops(stores.Store(tmp_path / "store"))


# ---- validation, held-out faces, pictures ----------------------------------------------------


@pytest.mark.parametrize("kind", [0, 1, 2])
def test_plain_crops(made, kind):
    faces, crop = made[kind], for_landmarks(5, BARE).crop
    found, placed, squares = plain(faces, [3, 0, 3], SIZE, crop)
    assert found.shape == (3, SIZE, SIZE, 3) and placed.dtype == np.float32
    for image, points in zip(found, placed):
        where = dots(image)
        inside = ~np.isnan(where)
        assert inside.sum() >= 8
        assert np.abs((where + 0.5 - points * SIZE)[inside]).max() < 0.3
    np.testing.assert_array_equal(found[0], found[2])
    if faces.size:
        np.testing.assert_array_equal(found[1], faces.read(0))
    else:
        np.testing.assert_allclose(
            squares, face_crop.plain(faces.points_of[[3, 0, 3]], faces.boxes[[3, 0, 3]], crop, "5")
        )
        _, moved, _ = plain(faces, [3, 3], SIZE, crop, np.random.default_rng(0), (0.1, 0.1, 0.1))
        assert np.abs(moved[0] - moved[1]).max() > 0.01


def test_a_mosaic_shows_the_points(made, tmp_path):
    """In the colours of the scheme, where the batch has them."""
    batches = batches_of(made[:1])
    sheets.landmark_samples(batches, tmp_path / "mosaic.png")
    sheet, tile = pictures.read(tmp_path / "mosaic.png"), sheets.TILE
    cell, colours = tile + sheets.GAP, schemes.get("5").point_colours
    points = schemes.unpack(np.concatenate([batches.make(i)["landmark_target"] for i in range(3)]))
    for at in range(60):
        row, column = divmod(at, sheets.COLUMNS)
        for (x, y), colour in zip(points[at] * tile, colours):
            pixel = sheet[int(sheets.TITLE + row * cell + y), int(column * cell + x)]
            assert np.abs(pixel.astype(int) - colour).max() < 3
    assert not set(map(tuple, colours)) & set(map(tuple, COLOURS))


def test_workers_by_default_are_all_cores(made):
    assert batches_of(made[:1]).workers == parallel.cores()

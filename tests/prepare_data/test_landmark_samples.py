"""Samples with landmarks: where the points are in crops, held against pictures whose points can be
found again by their pixels."""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from dotted import FACE, dots, dotted, point_set, tilted

from config import config, override
from facelet import picture as pictures
from facelet.console import Problem
from facelet.files import sha256
from prepare_data import face_crop, landmark_samples, store
from prepare_data.points import sets as points

SIZE = 48
FIELDS = ("crops", "labels", "offsets", "sources", "landmarks")


def settings(*assignments):
    return override(config, [f"landmark_samples.{text}" for text in assignments]).landmark_samples


@pytest.fixture(scope="module")
def dotted_set(tmp_path_factory):
    """Twelve pictures with a face of five dots each, tilted, anywhere in the middle."""
    rng, faces = np.random.default_rng(0), []
    for i in range(12):
        places = tilted(rng)
        corner = places.min(axis=0) - 20
        faces.append((f"{i}.png", dotted(places), (*corner, 95, 95), places))
    return point_set(tmp_path_factory.mktemp("dotted") / "set", faces)


def made(found, out, *assignments, size=SIZE, workers=1):
    landmark_samples.make_store(found, size, out, settings(*assignments), workers)
    return store.Store(out, size)


@pytest.mark.parametrize("angle", ["0.0", "40.0"])
@pytest.mark.parametrize("size", [48, 112])
def test_points_are_where_the_pixels_are(dotted_set, tmp_path, angle, size):
    """Dots found in crops, to a tenth of a pixel."""
    samples = made(dotted_set, tmp_path / "out", f"angle={angle}", "margin=0.14", size=size)
    assert len(samples) == 5 * 12
    assert samples.landmarks.shape == (60, 5, 2) and samples.landmarks.dtype == np.float32
    errors = np.array([dots(crop) for crop in samples.crops]) + 0.5 - samples.landmarks * size
    assert np.abs(errors).max() < 0.1
    assert np.abs(errors.mean(axis=0)).max() < 0.02
    # How much each was turned: not at all, or by anything up to the angle, either way.
    for i in range(0, 60, 5):
        face = dotted_set.faces[samples.sources[i, 0]].points
        before = np.arctan2(*(face[1] - face[0])[::-1])
        eyes = samples.landmarks[i : i + 5, 1] - samples.landmarks[i : i + 5, 0]
        turned = np.degrees(np.arctan2(eyes[:, 1], eyes[:, 0]) - before)
        if angle == "0.0":
            assert np.abs(turned).max() < 0.01
        else:
            assert np.abs(turned).max() < 40.01 and np.ptp(turned) > 5


def test_sources_are_the_squares_before_turning(dotted_set, tmp_path):
    """Turning about the square's centre keeps distances from there."""
    samples = made(dotted_set, tmp_path / "out", "angle=30.0")
    for (picture, *square), found in zip(samples.sources.tolist(), samples.landmarks):
        square = np.array(square)
        side = square[2] - square[0]
        assert side == square[3] - square[1]
        face = dotted_set.faces[picture].points.astype(float)
        away = (face + 0.5 - (square[:2] + square[2:]) / 2) / side
        np.testing.assert_allclose(
            np.linalg.norm(found - 0.5, axis=1), np.linalg.norm(away, axis=1), atol=1e-5
        )


def test_unturned_crops_are_what_a_detector_cuts(dotted_set, tmp_path):
    samples = made(dotted_set, tmp_path / "out", "angle=0.0")
    for (picture, *square), crop in zip(samples.sources.tolist(), samples.crops):
        scene = pictures.read(dotted_set.images / dotted_set.faces[picture].path)
        np.testing.assert_allclose(crop.astype(int), pictures.crop(scene, square, SIZE), atol=4)


def test_what_is_cut_is_near_the_box(dotted_set, tmp_path):
    """Sides, shifts and margins, around the box by the points and that of the list."""
    for box in ("points", "list"):
        samples = made(
            dotted_set,
            tmp_path / box,
            f"box={box}",
            "base_num=20",
            "scale=0.9,1.2",
            "shift=0.1",
            "margin=0.15",
            "angle=10.0",
        )
        sides, shifts = [], []
        for picture, *square in samples.sources.tolist():
            face = dotted_set.faces[picture]
            x1, y1, x2, y2 = face.box if box == "list" else points.box_of_points(face.points, "5")
            sides.append((square[2] - square[0]) / (x2 - x1))
            shifts.append(
                [
                    (square[0] + square[2] - x1 - x2) / 2 / (square[2] - square[0]),
                    (square[1] + square[3] - y1 - y2) / 2 / (square[2] - square[0]),
                ]
            )
        assert 0.88 < min(sides) < 0.93 and 1.17 < max(sides) < 1.22
        assert np.abs(shifts).max() < 0.11 and np.ptp(shifts, axis=0).min() > 0.17
        assert samples.landmarks.min() >= 0.15 and samples.landmarks.max() <= 0.85


@pytest.mark.parametrize("angle", ["0.0", "30.0"])
def test_padding_is_black_and_bounded(tmp_path, angle):
    """White pictures with a face in the corner: what is black is padding."""
    white = np.full((80, 80, 3), 255, np.uint8)
    found = point_set(
        tmp_path / "set", [(f"{i}.png", white, (0, 0, 40, 40), FACE / 3 + 18 + i) for i in range(8)]
    )
    part = {}
    for padding in ("1.0", "0.1", "0.0"):
        samples = made(found, tmp_path / padding, f"padding={padding}", f"angle={angle}")
        part[padding] = 1 - samples.crops[:].mean(axis=(1, 2, 3)) / 255
        assert part[padding].max() < float(padding) + 0.04
    assert part["1.0"].max() > 0.2 and part["0.1"].max() > 0.05 and part["0.1"].mean() < 0.08


def test_turned_by_right_angles():
    """Clockwise about the centre: what was in the top right corner comes to the top left one."""
    scene = np.random.default_rng(0).integers(0, 255, (60, 70, 3), np.uint8)
    square = np.array([7, 4, 55, 52])
    for quarter in range(-1, 4):
        np.testing.assert_array_equal(
            face_crop.crop(scene, square, 90.0 * quarter, 48), np.rot90(scene[4:52, 7:55], quarter)
        )


def test_far_end_of_a_long_picture():
    """OpenCV warps no picture of 32,768 pixels and more a side."""
    scene = np.random.default_rng(0).integers(0, 255, (60, 70, 3), np.uint8)
    long = np.zeros((60, 40_000, 3), np.uint8)
    long[:, -70:] = scene
    square, moved = np.array([10, 5, 62, 57]), np.array([39_930, 0, 39_930, 0])
    np.testing.assert_array_equal(
        face_crop.crop(long, square + moved, 20.0, 48), face_crop.crop(scene, square, 20.0, 48)
    )
    nowhere = face_crop.crop(scene, np.array([200, 5, 252, 57]), 20.0, 48)
    assert nowhere.shape == (48, 48, 3) and not nowhere.any()


def test_same_samples_whatever_the_processes(drawn_set, tmp_path):
    found = points.open_set(drawn_set / "landmarks" / "train_5.txt")
    one, two = made(found, tmp_path / "1"), made(found, tmp_path / "2", workers=2)
    other = made(found, tmp_path / "3", "seed=1")
    assert len(one) > 100
    for name in FIELDS:
        np.testing.assert_array_equal(getattr(one, name), getattr(two, name))
    assert not np.array_equal(one.sources[:20], other.sources[:20])


def test_a_picture_alone_has_the_same_samples(dotted_set, tmp_path):
    """Seed and path decide, not the other pictures."""
    samples = made(dotted_set, tmp_path / "all")
    face = dotted_set.faces[7]
    alone = made(
        point_set(
            tmp_path / "set",
            [
                (
                    face.path,
                    pictures.read(dotted_set.images / face.path),
                    (*face.box[:2], *(face.box[2:] - face.box[:2])),
                    face.points,
                )
            ],
        ),
        tmp_path / "alone",
    )
    for name in FIELDS[:3] + FIELDS[4:]:
        np.testing.assert_array_equal(
            getattr(alone, name), getattr(samples, name)[samples.sources[:, 0] == 7]
        )


def test_what_cant_be_used_is_told_by_line(dotted_set, tmp_path, capsys):
    picture, places, box = dotted(FACE + 150), FACE + 150, (100, 100, 100, 100)
    found = point_set(
        tmp_path / "set",
        [
            ("good.png", picture, box, places),
            ("good.png", None, box, places - (0, 200)),  # above the picture
            ("gone.png", None, box, places),
            ("good.png", None, box, places[[1, 0, 2, 3, 4]]),  # swapped
            ("good.png", None, box, FACE / 20 + 150),  # tiny
            ("good.png", None, box, FACE + (24, 150)),  # half outside, its points just not
            ("good.png", None, box, places),
        ],
    )
    (tmp_path / "set" / "images" / "cut.png").write_bytes(b"\x89PNG\r\n")
    file = tmp_path / "set" / "list.txt"
    file.write_text(file.read_text().replace("gone.png", "cut.png"))
    found = points.open_set(file)
    samples = made(found, tmp_path / "out", "padding=0.02", "scale=1.2,1.25")
    assert samples.facts["counts"] == {"landmark": 10} and len(samples) == 10
    assert samples.pictures() == ["good.png", "cut.png"]
    rejected, skipped = samples.facts["rejected"], samples.facts["skipped"]
    assert len(rejected) == 1 and "line 4: the eyes are swapped" in rejected[0]
    for says, line in zip(
        (
            "line 2: points out of the picture, which is 400x320",
            "line 5: a face of 6 px is smaller than 20",
            "line 6: no square around it keeps to landmark_samples.padding and",
            "cut.png: no picture that OpenCV can read",
        ),
        skipped,
    ):
        assert says in line
    assert len(skipped) == 4
    printed = capsys.readouterr().out.splitlines()
    assert sum(line.startswith(("skipped", "rejected")) for line in printed) == 5


def test_ends_where_nothing_fits(dotted_set, tmp_path):
    with pytest.raises(Problem, match="not one picture could be used; the first: .*line 1: "):
        made(dotted_set, tmp_path / "out", "margin=0.49")
    with pytest.raises(Problem, match="--size 50: it must be one of 12, 24, 48"):
        made(dotted_set, tmp_path / "out", size=50)
    assert not list(tmp_path.iterdir())


def test_what_a_store_holds(dotted_set, tmp_path, store20):
    samples = made(dotted_set, tmp_path / "out", workers=2)
    assert (samples.what, samples.points, samples.scheme) == ("landmark", 5, "5")
    assert (samples.labels[:] == -2).all() and not samples.offsets[:].any()
    facts = json.loads((tmp_path / "out" / "store.json").read_text())
    assert facts["what"] == "landmark" and facts["settings"] == dict(config.landmark_samples)
    assert facts["source"]["faces"] == facts["source"]["pictures"] == 12
    assert cv2.imread(str(tmp_path / "out" / "mosaic.png")) is not None
    with pytest.raises(Problem, match="out is there already"):
        made(dotted_set, tmp_path / "out")
    with open(tmp_path / "out" / "landmarks.npy", "r+b") as file:
        file.truncate(500)
    with pytest.raises(Problem, match="landmarks.npy is damaged"):
        store.Store(tmp_path / "out")


def test_program_holds_out_pictures(drawn_set, tmp_path, capsys):
    file, out = drawn_set / "landmarks" / "train_5.txt", tmp_path / "out"
    line = [
        "--faces",
        str(file),
        "--size",
        "24",
        "--out",
        str(out),
        "--workers",
        "1",
        "--val-fraction",
        "0.25",
        "landmark_samples.base_num=2",
    ]
    landmark_samples.main(line)
    training, held_out = store.Store(out, 24), store.Store(f"{out}-val", 24)
    assert len(training) > len(held_out) > 0
    assert not set(training.pictures()) & set(held_out.pictures())
    together = {text.split()[0] for text in file.read_text().splitlines()}
    assert set(training.pictures()) | set(held_out.pictures()) == together
    capsys.readouterr()
    (out / "store.json").rename(tmp_path / "kept")
    for path in sorted(out.iterdir()):
        path.unlink()
    out.rmdir()
    kept = sha256(Path(f"{out}-val") / "store.json")
    landmark_samples.main(line)  # a kill may have left one of the two
    assert "out-val is there already and stays as it is" in capsys.readouterr().out
    assert store.Store(out, 24).facts == training.facts
    assert sha256(Path(f"{out}-val") / "store.json") == kept
    with pytest.raises(Problem, match="out is there already: remove it"):
        landmark_samples.main(line)
    (out / "mosaic.png").unlink()
    with pytest.raises(Problem, match="out is there already: remove it"):
        landmark_samples.main([*line[:-1], "landmark_samples.base_num=3"])
    with pytest.raises(Problem, match="landmark_samples.box is both: it must be points or list"):
        landmark_samples.main([*line, "landmark_samples.box=both"])

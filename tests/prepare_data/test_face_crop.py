"""Squares about faces: held against brute force, and against pictures whose points can be found
again by their pixels."""

import cv2
import numpy as np
import pytest
from dotted import FACE, dots, dotted

from config import CROPS, for_landmarks
from facelet import schemes
from facelet.console import Problem
from prepare_data import face_crop
from prepare_data.points import sets as landmarks

NO_BOX = np.full(4, np.nan)


def crop_settings(points, *assignments):
    assignments = ("preset=train-mtcnn", *assignments)
    return for_landmarks(points, [f"crop.{text}" for text in assignments]).crop


def faces_of(scheme, count, seed=0):
    """Points (N, P, 2) and boxes (N, 4) of made-up faces: five points that lean, or many in an
    ellipse, some wide and some high."""
    rng = np.random.default_rng(seed)
    if scheme == "5":
        base = np.tile(FACE, (count, 1, 1))
    else:
        base = rng.normal(0, 1, (count, schemes.get(scheme).points, 2))
        base *= 25 / np.linalg.norm(base, axis=2, keepdims=True).clip(1)
    stretched = base * rng.uniform(0.6, 1.4, (count, 1, 2)) + rng.normal(0, 2, base.shape)
    points = stretched + rng.uniform(100, 200, (count, 1, 2))
    centre, side = points.mean(axis=1) + rng.uniform(-5, 5, (count, 2)), rng.uniform(80, 120, count)
    boxes = np.concatenate([centre - side[:, None] / 2, centre + side[:, None] / 2], axis=1)
    return points.astype(np.float32), boxes.astype(np.float32)


def turned_back(points, degrees):
    """Points (P, 2) turned counter-clockwise on the screen, by complex numbers."""
    found = (points[:, 0] + 1j * points[:, 1]) * np.exp(-1j * np.radians(degrees))
    return np.stack([found.real, found.imag], axis=1)


@pytest.mark.parametrize("preset", CROPS)
@pytest.mark.parametrize("scheme", ["5", "68", "migu"])
def test_draws_keep_to_the_rules(preset, scheme):
    """Each of many draws, checked alone, in the coordinates of the turned picture."""
    settings = crop_settings(schemes.get(scheme).points, f"preset={preset}")
    points, boxes = faces_of(scheme, 300)
    squares, degrees = face_crop.draw(points, boxes, settings, scheme, np.random.default_rng(1))
    plain = face_crop.plain(points, boxes, settings, scheme)
    drawn = (squares != plain).any(axis=1)
    assert drawn.mean() > 0.9
    scales, shifts = [], []
    for square, angle, face, box in zip(squares, degrees, points.astype(float), boxes):
        if (square == face_crop.plain(face[None], box[None], settings, scheme)[0]).all():
            continue
        centre, side = (
            turned_back((square[None, :2] + square[None, 2:]) / 2, angle)[0],
            np.ptp(square[::2]),
        )
        places = turned_back(face, angle)
        middle = face[[0, 1, 3, 4]].mean(axis=0)
        if settings.box == "bounds":
            box_centre = (places.min(axis=0) + places.max(axis=0)) / 2
            box_side = np.ptp(places, axis=0).max()
        elif settings.box == "half":
            box_side = np.ptp(box.reshape(2, 2), axis=0).mean() / 2
            box_centre = turned_back(middle[None], angle)[0]
        else:
            made = landmarks.box_of_points(face - 0.5, scheme)
            box_side = np.ptp(made[::2])
            box_centre = turned_back((made[None, :2] + made[None, 2:]) / 2, angle)[0]
        if settings.nose:
            places = np.concatenate([places, turned_back((2 * middle - face[2])[None], angle)])
        low, high = centre - side / 2, centre + side / 2
        left, top, right, bottom = settings.margin
        slack = 1e-4 * side
        assert (places >= low + (left * side, top * side) - slack).all()
        assert (places <= high - (right * side, bottom * side) + slack).all()
        assert (np.ptp(places, axis=0) ** 2).sum() >= settings.spread * side**2 - slack
        scales.append(side / box_side)
        shifts.append((centre - box_centre) / box_side)
    low, high = settings.scale
    assert low - 1e-4 <= min(scales) and max(scales) <= high + 1e-4
    assert np.ptp(scales) > (high - low) / 3
    assert np.abs(shifts).max() <= settings.shift + 1e-4
    assert np.abs(shifts).max() > settings.shift * 0.7 and abs(np.mean(shifts)) < 0.1
    assert np.abs(degrees).max() <= settings.angle and np.ptp(degrees) > 1.8 * settings.angle


def test_half_of_a_box_that_lies_beside_its_face():
    """train-mtcnn's rule, written out: (|x1-cx| + |x2-cx| + |y1-cy| + |y2-cy|) / 4."""
    points = (FACE + (100, 90))[None]
    x, y = points[0, [0, 1, 3, 4]].mean(axis=0)
    centre, side = face_crop.boxes_of(points, np.array([[10.0, 20, 90, 200]]), "half", "5")
    assert side == pytest.approx((x - 10 + x - 90 + y - 20 + 200 - y) / 4)
    np.testing.assert_allclose(centre, [[x, y]])


def test_without_a_listed_box_a_detectors_stands_in():
    points, boxes = faces_of("5", 4)
    boxes[1::2] = NO_BOX
    made = np.array([landmarks.box_of_points(face - 0.5, "5") for face in points])
    centre, side = face_crop.boxes_of(points, boxes, "list", "5")
    for i, wanted in enumerate((boxes[0], made[1], boxes[2], made[3])):
        assert side[i] == pytest.approx(np.ptp(wanted[::2]), rel=1e-4)
        np.testing.assert_allclose(centre[i], (wanted[:2] + wanted[2:]) / 2, rtol=1e-4)
    _, half = face_crop.boxes_of(points, boxes, "half", "5")
    np.testing.assert_allclose(half[1::2], side[1::2] / 2)


def test_a_face_that_no_draw_suits_gets_the_plain_crop_at_its_own_scale():
    settings = crop_settings(5, "spread=1.9", "scale=2.0,2.5")
    points, boxes = faces_of("5", 20)
    squares, degrees = face_crop.draw(points, boxes, settings, "5", np.random.default_rng(0))
    assert not degrees.any()
    placed = face_crop.to_crop(squares, degrees, points)
    _, half = face_crop.boxes_of(points, boxes, "half", "5")
    for face, square, found, box_side in zip(points, squares, placed, half):
        side = square[2] - square[0]
        assert side == pytest.approx(settings.plain * box_side)
        np.testing.assert_allclose(found, (face - square[:2]) / side, atol=1e-6)


@pytest.mark.parametrize("tries", [1, 4, 5, 300])
def test_no_more_draws_than_said(tries, monkeypatch):
    counts = []
    draw = face_crop._Faces.draw

    def counted(self, rows, count, rng):
        counts.append(count)
        return draw(self, rows, count, rng)

    monkeypatch.setattr(face_crop._Faces, "draw", counted)
    settings = crop_settings(5, "spread=1.9", "scale=2.0,2.5", f"tries={tries}")
    face_crop.draw(*faces_of("5", 2), settings, "5", np.random.default_rng(0))
    assert sum(counts) == tries


def test_upright_turns_the_face_first():
    for lean in (-170, -60, 35, 90):
        face = turned_back(FACE, -lean)[None] + 150
        settings = crop_settings(5, "upright=True", "angle=0")
        squares, degrees = face_crop.draw(
            face, NO_BOX[None], settings, "5", np.random.default_rng(0)
        )
        assert degrees[0] == pytest.approx(lean)
        left, right, _, below, _ = face_crop.to_crop(squares, degrees, face)[0]
        assert left[1] == pytest.approx(right[1]) and left[0] < right[0] and below[1] > left[1]


@pytest.mark.parametrize("preset", CROPS)
@pytest.mark.parametrize("scheme", ["5", "68"])
def test_crops_stay_within_reach(preset, scheme):
    """An upper bound, and not a lavish one."""
    settings = crop_settings(schemes.get(scheme).points, f"preset={preset}")
    points, boxes = faces_of(scheme, 60)
    centre, reach = face_crop.reach(points, boxes, settings, scheme)
    rng, farthest = np.random.default_rng(2), np.zeros(len(points))
    for _ in range(60):
        squares, degrees = face_crop.draw(points, boxes, settings, scheme, rng)
        corners = face_crop.to_picture(squares, degrees, face_crop.CORNERS)
        away = np.linalg.norm(corners - centre[:, None], axis=2).max(axis=1)
        farthest = np.maximum(farthest, away)
    assert (farthest <= reach * 1.005).all()
    assert (farthest / reach).mean() > 0.8


@pytest.mark.parametrize("mirrored", [False, True])
def test_warped_dots_are_where_the_points_are(mirrored):
    rng, size = np.random.default_rng(3), 64
    places = FACE + (200, 160)
    scene = dotted(places)
    centre, side = (200.5, 160.5) + rng.uniform(-6, 6, (12, 2)), rng.uniform(104, 124, (12, 1))
    squares = np.concatenate([centre - side / 2, centre + side / 2], axis=1)
    degrees = rng.uniform(-30, 30, 12)
    flags = np.full(12, mirrored)
    for matrix, found in zip(
        face_crop.matrices(squares, degrees, size, flags),
        face_crop.to_crop(squares, degrees, places + 0.5),
    ):
        crop = face_crop.warp(scene, matrix, size)
        if mirrored:
            found = np.stack([1 - found[:, 0], found[:, 1]], axis=1)
        errors = dots(crop) + 0.5 - found * size
        assert np.abs(errors).max() < 0.15


def test_mirrored_crops_are_the_mirror_images():
    scene = cv2.resize(
        np.random.default_rng(0).integers(0, 255, (40, 50, 3)).astype(np.uint8),
        (400, 320),
        interpolation=cv2.INTER_CUBIC,
    )
    square, degrees = np.array([[100.3, 80.2, 260.3, 240.2]]), np.array([17.0])
    plain, mirror = (
        face_crop.warp(scene, face_crop.matrices(square, degrees, 48, np.array([flag]))[0], 48)
        for flag in (False, True)
    )
    assert np.abs(plain[:, ::-1].astype(int) - mirror).max() <= 4
    assert np.abs(plain.astype(int) - mirror).max() > 40


def test_warp_into_an_array_and_out_of_large_pictures():
    scene = dotted(FACE + (200, 160), ground=90)
    matrix = face_crop.matrices(np.array([[150, 100, 260, 210.0]]), np.array([20.0]), 48)[0]
    wanted, out = face_crop.warp(scene, matrix, 48), np.full((48, 48, 3), 7, np.uint8)
    face_crop.warp(scene, matrix, 48, out)
    np.testing.assert_array_equal(out, wanted)
    wide = np.zeros((320, 33_000, 3), np.uint8)  # more columns than OpenCV's warp can reach
    wide[:, 32_500:32_900] = scene
    moved = matrix + [[0, 0, 32_500], [0, 0, 0]]
    np.testing.assert_array_equal(face_crop.warp(wide, moved, 48), wanted)
    out[:] = 7
    face_crop.warp(wide, matrix - [[0, 0, 900], [0, 0, 0]], 48, out)  # beside the picture
    assert not out.any()


def test_jitter_scatters_as_said():
    points, boxes = faces_of("5", 1)
    many = np.repeat(points, 4000, axis=0), np.repeat(boxes, 4000, axis=0)
    settings = crop_settings(5, "preset=detector")
    exact = face_crop.plain(*many, settings, "5")
    squares = face_crop.plain(*many, settings, "5", np.random.default_rng(0), (0.12, 0.08, 0.06))
    side = np.ptp(exact[0, ::2])
    assert np.log(np.ptp(squares[:, ::2], axis=1) / side).std() == pytest.approx(0.12, rel=0.06)
    centres = (squares[:, :2] + squares[:, 2:] - exact[:, :2] - exact[:, 2:]) / 2 / side
    np.testing.assert_allclose(centres.std(axis=0), (0.08, 0.06), rtol=0.06)


@pytest.mark.parametrize(
    "words, assignments",
    [
        ("doesn't say where a detector's boxes are, and crop.box=detector", ["box=detector"]),
        ("has no nose, and crop.nose asks", ["nose=True"]),
        ("has no eyes or no mouth, and crop.upright", ["upright=True"]),
    ],
)
def test_what_a_scheme_lacks(words, assignments):
    points = np.random.default_rng(0).uniform(0, 100, (2, 14, 2))
    with pytest.raises(Problem, match=words):
        face_crop.draw(
            points,
            np.tile(NO_BOX, (2, 1)),
            crop_settings(14, *assignments),
            "14",
            np.random.default_rng(0),
        )


def test_presets():
    """Of the command line, the preset first and then what is said beside it."""
    five, many = crop_settings(5), crop_settings(68)
    assert (five.box, five.nose, many.box, many.scale) == ("half", True, "bounds", [1.0, 1.5])
    settings = for_landmarks(68, ["crop.shift=0.3", "crop.preset=detector", "train.batch=7"])
    assert (settings.crop.box, settings.crop.shift, settings.train.batch) == ("detector", 0.3, 7)
    with pytest.raises(Problem, match="crop.preset is mine: it must be train-mtcnn or detector"):
        for_landmarks(5, ["crop.preset=mine"])
    with pytest.raises(Problem, match="crop.margin is .*: it must be four numbers"):
        for_landmarks(5, ["crop.margin=0.1"])
    assert for_landmarks(5).crop.angle == 30 and for_landmarks(5, ["crop.angle=3"]).crop.angle == 3

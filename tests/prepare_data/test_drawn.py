"""The sample set: the same every time, its lists say what is drawn, its points lie on the face."""

from pathlib import Path

import cv2
import numpy as np
import pytest

from facelet.console import Problem
from prepare_data.drawn import sets as drawn
from prepare_data.drawn.face import (
    SUBSETS,
    Head,
    face_points,
    neutral_shape,
    random_shape,
    rotation,
)
from prepare_data.drawn.paint import random_appearance, render
from prepare_data.drawn.picture import FACE_SCHEMES, draw_picture

COUNT, SEED = 10, 3

# the mirror partner of each of the 106 points, as train-mtcnn's flip has it
PARTNER = (
    list(range(32, -1, -1))
    + list(range(42, 32, -1))
    + [43, 44, 45, 46]
    + list(range(51, 46, -1))
    + [61, 60, 59, 58, 63, 62]
    + [55, 54, 53, 52, 57, 56]
    + list(range(71, 63, -1))
    + [75, 76, 77, 72, 73, 74]
    + [79, 78, 81, 80, 83, 82]
    + list(range(90, 83, -1))
    + list(range(95, 90, -1))
    + list(range(100, 95, -1))
    + [103, 102, 101, 105, 104]
)


@pytest.fixture(scope="module")
def pictures():
    return [draw_picture(SEED, index) for index in range(COUNT)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    out = tmp_path_factory.mktemp("drawn") / "set"
    summary = drawn.draw_sample_set(out, COUNT, 0.3, SEED, workers=1)
    assert summary["train"]["pictures"] == 7 and summary["val"]["pictures"] == 3
    return out


def read_gt(path):
    """{picture: rows of ten numbers}, by the rules of WIDER's text format."""
    lines, out = Path(path).read_text().splitlines(), {}
    while lines:
        name, count = lines.pop(0), int(lines.pop(0))
        rows = [list(map(int, lines.pop(0).split())) for _ in range(max(count, 1))]
        assert all(len(row) == 10 for row in rows)
        if not count:
            assert rows == [[0] * 10]
        out[name] = rows[:count]
    return out


def index_of(path):
    return int(Path(path).stem.split("_")[-1])


def test_same_bytes_whatever_the_processes(folder, tmp_path):
    drawn.draw_sample_set(tmp_path / "two", COUNT, 0.3, SEED, workers=2)
    files = sorted(p.relative_to(folder) for p in folder.rglob("*") if p.is_file())
    assert files == sorted(
        p.relative_to(tmp_path / "two") for p in (tmp_path / "two").rglob("*") if p.is_file()
    )
    for name in files:
        assert (folder / name).read_bytes() == (tmp_path / "two" / name).read_bytes(), name


def test_a_picture_depends_on_seed_and_index(pictures):
    again, faces = draw_picture(SEED, 4)
    assert np.array_equal(again, pictures[4][0])
    assert all(np.array_equal(a.points[106], b.points[106]) for a, b in zip(faces, pictures[4][1]))
    other = draw_picture(SEED + 1, 4)[0]
    assert other.shape != again.shape or not np.array_equal(other, again)


def test_an_existing_folder_is_left_alone(folder):
    with pytest.raises(Problem):
        drawn.draw_sample_set(folder, COUNT)


def test_ground_truth_says_what_is_drawn(folder, pictures):
    seen = 0
    for split in ("train", "val"):
        gt = read_gt(folder / "wider_face_split" / f"wider_face_{split}_bbx_gt.txt")
        root = folder / f"WIDER_{split}" / "images"
        assert sorted(gt) == sorted(str(p.relative_to(root)) for p in root.rglob("*.jpg"))
        for name, rows in gt.items():
            image, faces = pictures[index_of(name)]
            stored = cv2.imread(str(root / name))
            assert stored.shape == image.shape
            assert np.abs(stored.astype(int) - image).mean() < 12  # JPEG
            assert len(rows) == len(faces)
            for (x, y, w, h, *attributes), face in zip(rows, faces):
                assert np.abs(np.array([x, y, x + w, y + h]) - face.box).max() <= 0.5
                assert tuple(attributes) == face.attributes
                assert 0 <= x and 0 <= y and x + w <= image.shape[1] and y + h <= image.shape[0]
                assert w > 0 and h > 0
            seen += 1
    assert seen == COUNT


@pytest.mark.parametrize("scheme", FACE_SCHEMES)
def test_landmark_lists_say_what_is_drawn(folder, pictures, scheme):
    for split in ("train", "val"):
        lines = (folder / "landmarks" / f"{split}_{scheme}.txt").read_text().splitlines()
        paths = [line.split()[0] for line in lines]
        expected = [
            (path, face)
            for path in dict.fromkeys(paths)
            for face in pictures[index_of(path)][1]
            if face.valid and (face.box[2:] - face.box[:2]).max() >= 40
        ]
        assert [path for path, _ in expected] == paths
        for line, (path, face) in zip(lines, expected):
            assert (folder / path).is_file() and path.startswith(f"WIDER_{split}/")
            numbers = np.array(line.split()[1:], float)
            if scheme == 5:
                box, numbers = numbers[:4], numbers[4:]
                assert np.allclose(box, [*face.box[:2], *(face.box[2:] - face.box[:2])], atol=0.01)
            assert np.allclose(numbers.reshape(scheme, 2), face.points[scheme], atol=0.01)


def test_points_are_in_their_box(pictures):
    faces = [face for _, faces in pictures for face in faces]
    assert len(faces) > 10
    for face in faces:
        assert face.box.dtype == np.float32 and face.box.shape == (4,)
        for scheme in FACE_SCHEMES:
            points = face.points[scheme] + 0.5  # the box's coordinates
            assert points.shape == (scheme, 2) and points.dtype == np.float32
            assert (points >= face.box[:2] - 0.01).all() and (points <= face.box[2:] + 0.01).all()


def test_the_neutral_face_is_symmetric():
    assert sorted(PARTNER) == list(range(106))
    flat = face_points(neutral_shape())
    assert np.array_equal(flat[33:, 0], -flat[PARTNER, 0][33:])
    assert np.array_equal(flat[33:, 1], flat[PARTNER, 1][33:])
    points = Head(neutral_shape(), np.random.default_rng(0)).points
    assert np.allclose(points * (-1, 1, 1), points[PARTNER], atol=1e-4)


def test_the_order_of_the_points():
    p, _ = Head(neutral_shape(), np.random.default_rng(0)).seen(np.eye(3))
    x, y = p.T
    assert (np.diff(x[:33]) > 0).all() and y[16] == y.max()  # contour, by the chin
    assert (np.diff(x[33:43]) > 0).all() and (np.diff(x[64:72]) > 0).all()  # brows
    assert (np.diff(y[43:47]) > 0).all() and (np.diff(x[47:52]) > 0).all()  # nose
    for outer, inner, above, below, middle in ((52, 55, 72, 73, 74), (61, 58, 75, 76, 77)):
        assert abs(x[outer]) > abs(x[middle]) > abs(x[inner])
        assert y[above] < y[middle] < y[below]
    assert x[84] == x[84:104].min() and x[90] == x[84:104].max()
    assert y[87] < y[98] <= y[102] < y[93]  # lips
    assert np.allclose(p[[104, 105]], p[[74, 77]])
    sets = SUBSETS
    assert np.allclose(p[sets[68]][36:42], p[52:58]) and np.allclose(p[sets[68]][8], p[16])
    assert np.allclose(p[sets[68]][[48, 54, 57, 62, 66]], p[[84, 90, 93, 98, 102]])
    assert np.allclose(p[sets[5]], p[[74, 77, 46, 84, 90]])


@pytest.mark.parametrize("seed", range(6))
def test_pupils_and_brows_are_drawn_where_the_points_are(seed):
    rng = np.random.default_rng(seed)
    shape, look = random_shape(rng, expression=0), random_appearance(rng)
    shape.lid_left = shape.lid_right = 1.0
    look.glasses, look.mask, look.hair = "", None, np.float32((20, 25, 30))
    look.skin = np.float32((140, 175, 225))
    head = Head(shape, rng, "bald")
    turned = rotation(rng.uniform(-25, 25), rng.uniform(-10, 10), rng.uniform(-20, 20))
    centre, unit = np.array([250.3, 230.7]), 90.0
    sprite = render(head, look, turned, centre, unit, (500, 500))
    grey = np.zeros((500, 500), np.float32)
    height, width = sprite.opacity.shape
    grey[sprite.y0 : sprite.y0 + height, sprite.x0 : sprite.x0 + width] = sprite.colour.mean(axis=2)

    def bright(point):
        x, y = np.round(centre + unit * point - 0.5).astype(int)
        return grey[y - 1 : y + 2, x - 1 : x + 2].mean()

    points, _ = head.seen(turned)
    for pupil, outer, inner, brow, under in (
        (104, 52, 55, (35, 65), 74),
        (105, 61, 58, (40, 70), 77),
    ):
        # the white of the eye is on one side at least, as the face may look aside
        white = max(bright(0.6 * points[corner] + 0.4 * points[under]) for corner in (outer, inner))
        assert bright(points[pupil]) < 0.5 * white
        middle = points[list(brow)].mean(axis=0)
        above = middle - 0.6 * (points[under] - middle)
        assert bright(middle) < 0.7 * bright(above)

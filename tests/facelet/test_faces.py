"""What is found in a picture: as a sequence, printed, cut out."""

import pickle

import cv2
import numpy as np
import pytest

from facelet import BrokenPicture, Face, Faces, Problem, schemes
from facelet import picture as pictures
from facelet.faces import ALIGNED


def noise(seed, width=120, height=90):
    blocks = np.random.default_rng(seed).integers(0, 256, (9, 12, 3), dtype=np.uint8)
    return cv2.resize(blocks, (width, height))


def some(count, points=5, scheme="5"):
    rng = np.random.default_rng(count)
    corners = rng.uniform(0, 50, (count, 2))
    return Faces(
        np.concatenate([corners, corners + rng.uniform(5, 40, (count, 2))], 1).astype(np.float32),
        np.linspace(0.99, 0.7, count, dtype=np.float32),
        rng.uniform(0, 90, (count, points, 2)).astype(np.float32) if points else None,
        rng.uniform(0, 90, (count, 4)).astype(np.float32),
        scheme if points else None,
    )


# ---- a sequence ----------------------------------------------------------------------------


def test_a_sequence_of_faces():
    faces = some(4)
    assert len(faces) == len(list(faces)) == 4
    for i, face in enumerate(faces):
        assert face == faces[i] == faces[np.int64(i)] == faces[i - 4]
        assert np.array_equal(face.box, faces.boxes[i]) and face.score == float(faces.scores[i])
        assert np.array_equal(face.landmarks, faces.landmarks[i]) and face.scheme == "5"
        assert type(face.score) is float
    for wrong in (4, -5):
        with pytest.raises(IndexError):
            faces[wrong]
    assert [face.landmarks for face in some(2, 0)] == [None, None]


@pytest.mark.parametrize(
    "index, places",
    [
        (slice(1, 3), [1, 2]),
        (slice(None, None, -2), [3, 1]),
        (slice(9), [0, 1, 2, 3]),
        ([2, 0], [2, 0]),
        (np.array([3, -4]), [3, 0]),
        ([], []),
        (np.zeros(0), []),
        ([True, False, False, True], [0, 3]),
        (np.zeros(4, bool), []),
    ],
)
def test_some_of_the_faces(index, places):
    faces = some(4)
    found = faces[index]
    assert isinstance(found, Faces) and found.scheme == "5" and len(found) == len(places)
    for name in ("boxes", "scores", "landmarks", "windows"):
        expected = [getattr(faces, name)[place] for place in places]
        assert np.array_equal(
            getattr(found, name), np.reshape(expected, getattr(found, name).shape)
        )
    assert some(4, 0)[index].landmarks is None


def test_equal_and_pickled():
    faces = some(3)
    for one in (faces, faces[1], some(2, 0), some(0)):
        assert pickle.loads(pickle.dumps(one)) == one
    assert faces == some(3) and faces != some(4) and faces != faces[::-1] and faces != 3
    assert faces[0] != faces[1] and faces != some(3, 0) and faces != some(3, scheme=None)
    assert Face(faces.boxes[0], 0.5) == Face(faces.boxes[0].copy(), 0.5) != Face(faces.boxes[0], 1)


def test_printed():
    faces = Faces(
        np.float32([[1, 2, 30.04, 40], *[[0, 0, 1, 1]] * 7]),
        np.linspace(0.98766, 0.1, 8, dtype=np.float32),
        np.zeros((8, 68, 2), np.float32),
    )
    lines = str(faces).splitlines()
    assert lines[0] == "<8 faces, 68 points"
    assert lines[1] == " 0: box 1.0 2.0 30.0 40.0, score 0.9877"
    assert len(lines) == 7 and lines[-1] == " and 3 more>"
    assert str(faces[0]) == "<Face: box 1.0 2.0 30.0 40.0, score 0.9877, 68 points>"
    assert str(some(1, 0)).startswith("<1 face\n 0: box ") and str(some(0)) == "<no faces>"


# ---- crops ---------------------------------------------------------------------------------


def test_crops_are_the_squares_around_the_boxes():
    picture = noise(1)
    faces = Faces(np.float32([[10, 20, 40, 40], [-5, -5, 15, 11]]), np.float32([0.9, 0.8]))
    crops = faces.crops(picture, 30)
    assert crops.shape == (2, 30, 30, 3) and crops.dtype == np.uint8
    assert np.array_equal(crops[0], picture[15:45, 10:40])
    padded = np.pad(picture, ((7, 0), (5, 0), (0, 0)))
    square = cv2.resize(padded[0:20, 0:20], (30, 30))  # from (-5, -7) to (15, 13)
    assert np.abs(crops[1].astype(int) - square).max() <= 1
    assert faces[:0].crops(picture, 30).shape == (0, 30, 30, 3)


def usual_place(scale=1.0):
    """A scene, and the matrix that brings points of an aligned crop into it."""
    turn, size = np.radians(35), 1.7 * scale
    there = np.array(
        [
            [size * np.cos(turn), -size * np.sin(turn), 120],
            [size * np.sin(turn), size * np.cos(turn), 15],
        ]
    )
    return cv2.GaussianBlur(noise(5, 112, 112), (0, 0), 2), there


def with_points(points, scheme=None):
    points = np.asarray(points, np.float32)[None]
    return Faces(np.float32([[0, 0, 9, 9]]), np.float32([0.9]), points, scheme=scheme)


def test_a_crop_is_turned_upright():
    """A face in the usual place, moved away by a known shift, turn and scale, comes back."""
    face, there = usual_place()
    picture = cv2.warpAffine(face, there, (400, 400))
    points = ALIGNED @ there[:, :2].T + there[:, 2]
    (crop,) = with_points(points).aligned(picture)
    assert crop.shape == (112, 112, 3)
    assert np.abs(crop[2:-2, 2:-2].astype(int) - face[2:-2, 2:-2]).mean() < 2
    # points that no such move brings there: as near as any does
    uneven = (points + np.random.default_rng(0).normal(0, 6, points.shape)).astype(np.float32)
    x, y = uneven.T.astype(np.float64)
    ones, zeros = np.ones(5), np.zeros(5)
    system = np.concatenate([np.stack([x, -y, ones, zeros], 1), np.stack([y, x, zeros, ones], 1)])
    a, b, dx, dy = np.linalg.lstsq(system, ALIGNED.T.reshape(-1), rcond=None)[0]
    assert np.array_equal(
        with_points(uneven).aligned(picture)[0],
        cv2.warpAffine(picture, np.array([[a, -b, dx], [b, a, dy]]), (112, 112)),
    )
    assert with_points(np.full((5, 2), 7.0)).aligned(picture).shape == (1, 112, 112, 3)


def test_aligned_in_another_size():
    """Twice the size is the crop of 112 px enlarged: centres of pixels stay where they were."""
    face, there = usual_place()
    picture = cv2.warpAffine(face, there, (400, 400))
    faces = with_points(ALIGNED @ there[:, :2].T + there[:, 2])
    large = faces.aligned(picture, 224)
    assert large.shape == (1, 224, 224, 3)
    difference = large[0].astype(int) - cv2.resize(faces.aligned(picture)[0], (224, 224))
    assert np.abs(difference[8:-8, 8:-8]).mean() < 1


@pytest.mark.parametrize("scheme", ["68", "98", "jingdong", "migu"])
def test_aligned_by_other_points(scheme):
    """Points whose means at the five places are those of the five points."""
    face, there = usual_place()
    picture = cv2.warpAffine(face, there, (400, 400))
    five = ALIGNED @ there[:, :2].T + there[:, 2]
    order = schemes.get(scheme)
    points = np.random.default_rng(3).uniform(0, 400, (order.points, 2))
    for place, target in zip(schemes.get("5").places, five):
        chosen = list(order.places[place])
        points[chosen] += target - points[chosen].mean(axis=0)
    expected = with_points(five).aligned(picture)[0].astype(int)
    assert np.abs(with_points(points, scheme).aligned(picture)[0] - expected).mean() < 0.1


def test_faces_that_cannot_be_aligned():
    picture = noise(0)
    for faces, says in (
        (some(2, 0), "these have no points"),
        (some(2, 106, None), "these 106 points are not known to include them"),
        (some(2, 14, "14"), "these 14 points"),
        (some(0, 7, None), "these 7 points"),
    ):
        assert not faces.can_be_aligned
        with pytest.raises(Problem, match=says):
            faces.aligned(picture)
    assert some(0).aligned(picture).shape == (0, 112, 112, 3)


def test_what_crops_are_cut_out_of(tmp_path):
    """Any picture; an order is that of the array and of the crops."""
    picture = noise(2)
    faces = some(3)
    pictures.write(tmp_path / "a.png", picture)
    for cut in (faces.crops, faces.aligned):
        bgr = cut(picture, 40)
        assert np.array_equal(cut(tmp_path / "a.png", 40), bgr)
        rgb = cut(picture[..., ::-1], 40, order="RGB")
        assert np.array_equal(rgb[..., ::-1], bgr) and rgb.flags.c_contiguous
        for size in (0, -1, 2.5, "8"):
            with pytest.raises(Problem, match="size is .*: it must be a whole number of pixels"):
                cut(picture, size)
        with pytest.raises(Problem, match="order is 'GBR'"):
            cut(picture, 40, "GBR")
        with pytest.raises(BrokenPicture, match="gone.png"):
            cut("gone.png")

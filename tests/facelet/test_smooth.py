"""Points in videos, steadied: against the filter written out for one number at a time, its lag, and
which face of a frame is which of the one before."""

from math import pi

import numpy as np
import pytest

from facelet.faces import Faces
from facelet.settings import Smoothing
from facelet.smooth import TRAIL, Smoother, lag

RATE = 25


def faces_at(*boxes, points=0.0):
    """Faces with five points each, `points` from their box's corner."""
    boxes = np.array(boxes, np.float32).reshape(-1, 4)
    landmarks = np.broadcast_to(np.float32(points), (len(boxes), 5, 2)) + boxes[:, None, :2]
    return Faces(boxes, np.ones(len(boxes), np.float32), landmarks)


def slow(track, side, rate, still, moving, change):
    """The filter of one point's (x, y), frame by frame."""

    def part(frequency):
        return 1 / (1 + rate / (2 * pi * frequency))

    given, velocity, out = track[0], (0.0, 0.0), [track[0]]
    for (x0, y0), (x1, y1) in zip(track, track[1:]):
        velocity = [
            v + part(change) * ((b - a) * rate - v) for v, a, b in zip(velocity, (x0, y0), (x1, y1))
        ]
        speed = (velocity[0] ** 2 + velocity[1] ** 2) ** 0.5 / side
        p = part(still + moving * speed)
        given = [g + p * (new - g) for g, new in zip(given, (x1, y1))]
        out.append(given)
    return out


def test_against_the_filter_written_out():
    """Two faces of another size each, their points on paths of their own."""
    rng = np.random.default_rng(0)
    settings = Smoothing(still=0.7, moving=4, change=1.5)
    boxes = np.float32([[0, 0, 40, 50], [100, 20, 180, 90]])
    tracks = boxes[:, :2] + np.cumsum(rng.normal(0, 2, (30, 5, 2, 2)), axis=0)  # (t, P, N, 2)
    smoother, found = Smoother(30, settings), []
    for frame in tracks.astype(np.float32):
        faces = Faces(boxes, np.ones(2, np.float32), frame.transpose(1, 0, 2))
        before = faces.landmarks.copy()
        found.append(smoother(faces))
        assert np.array_equal(faces.landmarks, before) and found[-1].landmarks.dtype == np.float32
        assert found[-1].boxes is faces.boxes
    for face, side in enumerate((50, 80)):
        for point in range(5):
            expected = slow(tracks[:, point, face].tolist(), side, 30, 0.7, 4, 1.5)
            np.testing.assert_allclose(
                [one.landmarks[face, point] for one in found], expected, atol=1e-3
            )


@pytest.mark.parametrize("rate", [15, 25, 60])
@pytest.mark.parametrize("speed", [0.05, 0.5, 2.0])
def test_lag(rate, speed):
    """Of a face that moves evenly: seconds as lag() has them, never more than they may trail."""
    side, smoother = 100, Smoother(rate)
    for t in range(8 * rate):
        x = speed * side * t / rate
        faces = faces_at([x, 0, x + side, side], points=50)
        late = (faces.landmarks - smoother(faces).landmarks)[0]
    assert np.allclose(late[:, 1], 0, atol=1e-3)
    assert np.allclose(late[:, 0] / side, lag(speed) * speed, rtol=0.01)
    assert late.max() / side < TRAIL == pytest.approx(0.0159, abs=1e-4)
    assert lag(speed) < lag(0) == pytest.approx(0.159, abs=1e-3)


def test_what_is_told_of_a_start():
    """4 % of the side at two sides a second, as the module says; a still face trembles less."""
    side, smoother, late = 100, Smoother(RATE), []
    for t in range(60):
        x = 2 * side * max(0, t - 10) / RATE
        faces = faces_at([x, 0, x + side, side], points=50)
        late.append((faces.landmarks - smoother(faces).landmarks)[0, 0, 0] / side)
    assert max(late) == pytest.approx(0.04, abs=0.005) and late[-1] < TRAIL
    rng, smoother, before, after = np.random.default_rng(1), Smoother(RATE), [], []
    for _ in range(200):
        faces = faces_at([0, 0, 100, 100], points=50 + rng.normal(0, 0.7, (5, 2)))
        before.append(faces.landmarks)
        after.append(smoother(faces).landmarks)
    moves = [np.diff(points, axis=0).std() for points in (before, after)]
    assert moves[1] < 0.4 * moves[0]
    assert np.abs(np.mean(after, axis=0) - 50).max() < 0.2


def test_each_face_goes_on_from_its_own():
    left, right, far = [0, 0, 10, 10], [20, 0, 30, 10], [100, 100, 110, 110]
    smoother = Smoother(RATE)
    first = smoother(faces_at(left, right, points=4))
    assert np.array_equal(first.landmarks, faces_at(left, right, points=4).landmarks)
    second = smoother(faces_at(right, far, left, points=8))  # in another order, and a new face
    step = np.array(slow([(4, 4), (8, 8)], 10, RATE, 1, 10, 1)[1])
    assert 4 < step[0] < 7.9
    np.testing.assert_allclose(
        second.landmarks[:, 0], [step + [20, 0], [108, 108], step], atol=1e-5
    )
    assert len(smoother(faces_at())) == 0
    assert smoother(faces_at(left, points=0)).landmarks[0, 0].tolist() == [0, 0]  # seen anew
    moved = smoother(faces_at([6, 0, 16, 10], points=8))  # IoU 0.25: another one
    assert moved.landmarks[0, 0].tolist() == [14, 8]
    # of two boxes on one face, the nearer takes its points over
    twice = smoother(faces_at([6, 0, 16, 10], [7, 0, 17, 10], points=0)).landmarks[:, 0]
    assert 0 < twice[0, 1] < 8 and twice[1].tolist() == [7, 0]

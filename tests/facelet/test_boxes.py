"""Geometry against loops that count one pair, and one pixel, at a time."""

import numpy as np
import pytest
from oracles import slow_nms

from facelet import boxes as geometry


def random_boxes(count, seed, whole=False, side=40):
    rng = np.random.default_rng(seed)
    corner = rng.uniform(0, side, (count, 2))
    boxes = np.concatenate([corner, corner + rng.uniform(1, side, (count, 2))], axis=1)
    return np.round(boxes) if whole else boxes


def pixels(box):
    """A box of whole coordinates as the set of pixels it covers: column j is [j, j + 1)."""
    x1, y1, x2, y2 = (int(v) for v in box)
    return {(x, y) for x in range(x1, x2) for y in range(y1, y2)}


def one_iou(a, b):
    width = max(min(a[2], b[2]) - max(a[0], b[0]), 0)
    height = max(min(a[3], b[3]) - max(a[1], b[1]), 0)
    total = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - width * height
    return width * height / total


def test_overlaps_by_counting_pixels():
    boxes, others = random_boxes(12, 0, whole=True), random_boxes(15, 1, whole=True)
    iou, covered = geometry.iou(boxes, others), geometry.covered(boxes, others)
    shared = geometry.intersections(boxes, others)
    assert iou.shape == covered.shape == shared.shape == (12, 15)
    for i, box in enumerate(map(pixels, boxes)):
        assert geometry.areas(boxes)[i] == len(box)
        for j, other in enumerate(map(pixels, others)):
            assert shared[i, j] == len(box & other)
            assert np.isclose(iou[i, j], len(box & other) / len(box | other))
            assert np.isclose(covered[i, j], len(box & other) / len(box))


def test_iou_of_fractions():
    boxes, others = random_boxes(20, 2), random_boxes(7, 3)
    expected = [[one_iou(a, b) for b in others] for a in boxes]
    assert np.allclose(geometry.iou(boxes, others), expected)
    assert np.allclose(np.diag(geometry.iou(boxes, boxes)), 1)


def test_edges_and_empty_boxes():
    """Boxes that share an edge do not overlap; an empty box overlaps nothing, without NaN."""
    box = np.array([[0, 0, 10, 10]], float)
    others = np.array([[10, 0, 20, 10], [0, 10, 10, 20], [5, 5, 5, 5], [-9, -9, -1, -1]], float)
    assert geometry.iou(box, others).tolist() == [[0, 0, 0, 0]]
    assert geometry.covered(others, box).tolist() == [[0], [0], [0], [0]]
    assert geometry.iou(others[2:3], others[2:3]).tolist() == [[0]]
    assert geometry.iou(np.zeros((0, 4)), box).shape == (0, 1)
    assert geometry.iou(box, np.zeros((0, 4))).shape == (1, 0)


OVERLAPS = pytest.mark.parametrize("overlap", ["union", "minimum"])


@OVERLAPS
@pytest.mark.parametrize("threshold", [0.0, 0.2, 0.5, 0.7, 1.0])
def test_nms_by_pairs(threshold, overlap):
    for seed in range(6):
        # boxes of all sizes, so that some lie within others
        boxes = random_boxes(60, 10 + seed, side=40 if seed % 2 else 15)
        boxes[:20, 2:] = boxes[:20, :2] + (boxes[:20, 2:] - boxes[:20, :2]) / 4
        # scores of few values, so that there are ties: the earlier box goes first
        scores = np.round(np.random.default_rng(seed).uniform(0, 1, 60), 1)
        kept = geometry.nms(boxes, scores, threshold, overlap)
        assert kept.tolist() == slow_nms(boxes, scores, threshold, overlap)
        assert kept.dtype == np.int64


@OVERLAPS
@pytest.mark.parametrize("block", [1, 2, 7, 100, 119, 120])
def test_nms_in_blocks(monkeypatch, block, overlap):
    """Boxes kept in one block suppress those of the blocks after it."""
    boxes = random_boxes(120, 30, side=60)
    scores = np.round(np.random.default_rng(3).uniform(0, 1, 120), 2)
    expected = slow_nms(boxes, scores, 0.4, overlap)
    assert 15 < len(expected) < 100
    monkeypatch.setattr(geometry, "NMS_BLOCK", block)
    assert geometry.nms(boxes, scores, 0.4, overlap).tolist() == expected


def test_nms_of_more_boxes_than_a_block():
    count = geometry.NMS_BLOCK + 100
    boxes = random_boxes(count, 31, whole=True, side=400)
    scores = np.random.default_rng(4).uniform(0, 1, count)
    expected = slow_nms(boxes, scores, 0.3)
    assert 100 < len(expected) < geometry.NMS_BLOCK
    assert geometry.nms(boxes, scores, 0.3).tolist() == expected


def test_nms_of_a_chain():
    """Each box is over the next alone: every other one is kept, however long it is."""
    left = np.arange(200) * 4.0
    boxes = np.stack([left, left * 0, left + 10, left * 0 + 10], axis=1)  # IoU 6 / 14
    scores = np.linspace(1, 0.5, 200)
    assert geometry.nms(boxes, scores, 0.4).tolist() == list(range(0, 200, 2))
    shuffled = np.random.default_rng(0).permutation(200)
    kept = geometry.nms(boxes[shuffled], scores[shuffled], 0.4)
    assert shuffled[kept].tolist() == list(range(0, 200, 2))


@OVERLAPS
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_nms_of_either_precision(dtype, overlap):
    """Whole corners and a threshold that is a power of two: nothing is rounded in either."""
    boxes = random_boxes(80, 32, whole=True)
    scores = np.round(np.random.default_rng(5).uniform(0, 1, 80), 1)
    kept = geometry.nms(boxes.astype(dtype), scores.astype(dtype), 0.25, overlap)
    assert kept.tolist() == slow_nms(boxes, scores.astype(dtype), 0.25, overlap)


@OVERLAPS
@pytest.mark.parametrize("threshold", [0.0, 0.5])
def test_nms_of_boxes_without_area(threshold, overlap):
    """Empty ones, and ones turned inside out in either or both directions: they are over
    nothing, so nothing goes, least of all what lies far off."""
    boxes = np.array(
        [
            [0, 0, 10, 10],
            [20, 0, 30, 10],
            [5, 5, 5, 5],
            [5, 0, 5, 9],
            [3, 3, 3, 3],
            [25, 0, 5, 9],
            [0, 9, 30, 2],
            [30, 30, 0, 0],
        ],
        float,
    )
    scores = np.array([0.5, 0.4, 0.9, 0.3, 0.9, 0.95, 0.2, 0.99])
    for turned in (scores, -scores):
        kept = geometry.nms(boxes, turned, threshold, overlap)
        assert kept.tolist() == slow_nms(boxes, turned, threshold, overlap)
        assert len(kept) == len(boxes)


def test_nms_at_the_threshold_and_of_nothing():
    """An overlap equal to the threshold is let be."""
    boxes = np.array([[0, 0, 10, 10], [0, 5, 10, 15]], np.float32)  # 50 shared, of 150 and 100
    scores = np.array([0.9, 0.8], np.float32)
    assert geometry.nms(boxes, scores, 0.34).tolist() == [0, 1]
    assert geometry.nms(boxes, scores, 0.33).tolist() == [0]
    assert geometry.nms(np.array([[0, 0, 2, 4], [0, 0, 2, 2.0]]), scores, 0.5).tolist() == [0, 1]
    assert geometry.nms(boxes, scores, 0.5, "minimum").tolist() == [0, 1]
    assert geometry.nms(boxes, scores, 0.49, "minimum").tolist() == [0]
    nothing = geometry.nms(np.zeros((0, 4)), np.zeros(0), 0.5)
    assert nothing.shape == (0,) and nothing.dtype == np.int64


def test_a_box_within_another_counts_over_the_smaller_one():
    boxes = np.array([[0, 0, 100, 100], [40, 40, 50, 50]], np.float32)  # IoU 0.01
    scores = np.array([0.8, 0.9], np.float32)
    assert geometry.nms(boxes, scores, 0.7).tolist() == [1, 0]
    assert geometry.nms(boxes, scores, 0.7, "minimum").tolist() == [1]


@pytest.mark.parametrize(
    "box, square",
    [
        ([10, 20, 30, 40], [10, 20, 30, 40]),
        ([0, 0, 10, 20], [-5, 0, 15, 20]),  # as large as the larger side, same centre
        ([0, 0, 20, 10], [0, -5, 20, 15]),
        ([0.4, 0.4, 10.6, 10.4], [0, 0, 10, 10]),  # side 10.2, corner 0.4, 0.3
        ([-30.6, -8, -10.2, 12], [-31, -8, -11, 12]),  # side 20.4, corner -30.6, -8.2
        ([5, 5, 5, 5], [4, 4, 5, 5]),  # corner 4.5, to the even one
        ([7.2, 3.2, 7.3, 3.3], [7, 3, 8, 4]),
        ([9, 9, 3, 4], [6, 6, 7, 7]),
    ],
)  # turned inside out: one pixel at its centre
def test_squares_by_hand(box, square):
    found = geometry.squares(np.array([box], np.float32))
    assert found.dtype == np.float32 and found.tolist() == [square]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_squares_hold_their_boxes(dtype):
    boxes = random_boxes(300, 40, side=300).astype(dtype)
    boxes[::3] -= 200
    boxes[1::3, 2:] = boxes[1::3, :2] + np.random.default_rng(1).uniform(0, 2, (100, 2))
    squares = geometry.squares(boxes)
    assert squares.dtype == np.float32 and squares.shape == boxes.shape
    assert np.array_equal(squares, np.round(squares))
    for box, square in zip(boxes.astype(float), squares.astype(float)):
        side = square[2] - square[0]
        assert side == square[3] - square[1] >= 1
        assert abs(side - max(box[2] - box[0], box[3] - box[1], 1)) <= 0.5 + 1e-4
        # the corner is rounded and so is the side: each is off by half a pixel at most
        assert np.all(square[:2] <= box[:2] + 0.5 + 1e-4)
        assert np.all(square[2:] >= box[2:] - 1 - 1e-4)
        assert np.abs((square[:2] + square[2:] - box[:2] - box[2:]) / 2).max() <= 0.75 + 1e-4
    assert geometry.squares(np.zeros((0, 4), dtype)).shape == (0, 4)


def test_offsets_by_hand_and_back():
    crops, faces = random_boxes(30, 20), random_boxes(30, 21)
    values = geometry.offsets(crops, faces)
    for value, crop, face in zip(values, crops, faces):
        width, height = crop[2] - crop[0], crop[3] - crop[1]
        assert np.allclose(
            value,
            [
                (face[0] - crop[0]) / width,
                (face[1] - crop[1]) / height,
                (face[2] - crop[2]) / width,
                (face[3] - crop[3]) / height,
            ],
        )
    assert np.allclose(geometry.apply_offsets(crops, values), faces)


def test_offsets_of_the_mirrored_crop():
    """Mirror crop and face in a picture 100 wide, then take the offsets anew."""
    crops, faces = random_boxes(30, 22), random_boxes(30, 23)

    def mirrored(boxes):
        return np.stack([100 - boxes[:, 2], boxes[:, 1], 100 - boxes[:, 0], boxes[:, 3]], axis=1)

    values = geometry.offsets(crops, faces)
    flipped = geometry.flip_offsets(values)
    assert np.allclose(flipped, geometry.offsets(mirrored(crops), mirrored(faces)))
    assert np.array_equal(geometry.flip_offsets(flipped), values)
    assert geometry.flip_offsets(values.astype(np.float32)).dtype == np.float32


# ---- voting and turning --------------------------------------------------------------------


def test_votes_are_weighted_means_of_those_that_overlap():
    rng = np.random.default_rng(7)
    corner = rng.uniform(0, 30, (60, 2))
    boxes = np.concatenate([corner, corner + rng.uniform(10, 40, (60, 2))], axis=1)
    scores = rng.uniform(0.1, 1, 60)
    kept = geometry.nms(boxes, scores, 0.3)
    found = geometry.votes(boxes, scores, kept, 0.5)
    for index, box in zip(kept, found):
        total, weight = np.zeros(4), 0.0
        for other, score in zip(boxes, scores):
            w = min(boxes[index][2], other[2]) - max(boxes[index][0], other[0])
            h = min(boxes[index][3], other[3]) - max(boxes[index][1], other[1])
            shared = max(w, 0) * max(h, 0)
            areas = [(b[2] - b[0]) * (b[3] - b[1]) for b in (boxes[index], other)]
            if shared / (sum(areas) - shared) >= 0.5:
                total, weight = total + score * other, weight + score
        np.testing.assert_allclose(box, total / weight)
    np.testing.assert_allclose(geometry.votes(boxes, scores, kept, 1.0), boxes[kept])
    np.testing.assert_allclose(geometry.votes(boxes, np.zeros(60), kept, 0.5), boxes[kept])
    assert geometry.votes(boxes, scores, kept[:0], 0.5).shape == (0, 4)


def test_turned_boxes_hold_the_turned_ellipse():
    box, degrees = np.array([10.0, 20, 50, 90]), np.array([0.0, 30, -45, 90, 200])
    around = np.linspace(0, 2 * np.pi, 2000)
    ellipse = np.stack([20 * np.cos(around), 35 * np.sin(around)])
    for angle, found in zip(np.radians(degrees), geometry.turned(box, degrees)):
        turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
        places = (turn @ ellipse).T + (30, 55)
        wanted = [*places.min(axis=0), *places.max(axis=0)]
        np.testing.assert_allclose(found, wanted, atol=1e-3)


def test_paired_iou_is_the_diagonal():
    rng = np.random.default_rng(8)
    boxes, others = (np.sort(rng.uniform(0, 9, (30, 2, 2)), axis=1).reshape(30, 4) for _ in "ab")
    np.testing.assert_allclose(
        geometry.paired_iou(boxes, others), geometry.iou(boxes, others).diagonal()
    )

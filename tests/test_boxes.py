"""Geometry against loops that count one pair, and one pixel, at a time."""
import numpy as np
import pytest

from core import boxes as geometry


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


def slow_nms(boxes, scores, threshold):
    order = sorted(range(len(boxes)), key=lambda i: (-scores[i], i))
    kept = []
    for i in order:
        if all(one_iou(boxes[i], boxes[k]) <= threshold for k in kept):
            kept.append(i)
    return kept


@pytest.mark.parametrize("threshold", [0.0, 0.2, 0.5, 0.7, 1.0])
def test_nms_by_pairs(threshold):
    for seed in range(6):
        boxes = random_boxes(60, 10 + seed)
        # scores of few values, so that there are ties: the earlier box goes first
        scores = np.round(np.random.default_rng(seed).uniform(0, 1, 60), 1)
        kept = geometry.nms(boxes, scores, threshold)
        expected = slow_nms(boxes, scores, threshold)
        assert kept.tolist() == expected and kept.dtype == np.int64
        assert geometry.nms(boxes, scores, threshold, at_most=5).tolist() == expected[:5]


def test_nms_at_the_threshold_and_of_nothing():
    """An overlap equal to the threshold is let be."""
    boxes = np.array([[0, 0, 10, 10], [0, 5, 10, 15]], np.float32)  # IoU 50 / 150
    scores = np.array([0.9, 0.8], np.float32)
    assert geometry.nms(boxes, scores, 0.34).tolist() == [0, 1]
    assert geometry.nms(boxes, scores, 0.33).tolist() == [0]
    assert geometry.nms(np.array([[0, 0, 2, 4], [0, 0, 2, 2.]]), scores, 0.5).tolist() == [0, 1]
    assert geometry.nms(np.zeros((0, 4)), np.zeros(0), 0.5).shape == (0,)


def test_offsets_by_hand_and_back():
    crops, faces = random_boxes(30, 20), random_boxes(30, 21)
    values = geometry.offsets(crops, faces)
    for value, crop, face in zip(values, crops, faces):
        width, height = crop[2] - crop[0], crop[3] - crop[1]
        assert np.allclose(value, [(face[0] - crop[0]) / width, (face[1] - crop[1]) / height,
                                   (face[2] - crop[2]) / width, (face[3] - crop[3]) / height])
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

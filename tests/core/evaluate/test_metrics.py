"""Figures of merit against loops over samples."""

import math

import numpy as np
import pytest
from oracles import crowded, larger, matches_by_loop

from core.evaluate import metrics


def by_loop(prob, label):
    losses, right, found, called = [], [], [], []
    for p, y in zip(prob.astype(float), label):
        if y not in (0, 1):
            continue
        losses.append(-math.log(max(p if y == 1 else 1 - p, 1e-14)))
        right.append((p >= 0.5) == (y == 1))
        if y == 1:
            found.append(p >= 0.5)
        if p >= 0.5:
            called.append(y == 1)

    def mean(values):
        return sum(values) / len(values) if values else float("nan")

    order = sorted(range(len(losses)), key=lambda i: -losses[i])[: 7 * len(losses) // 10]
    return {
        "cls_loss": mean(losses),
        "accuracy": mean(right),
        "accuracy_hard": mean([right[i] for i in order]),
        "precision": mean(called),
        "recall": mean(found),
    }


def same(figures, expected):
    assert set(figures) == set(expected)
    for key, value in expected.items():
        assert type(figures[key]) is float
        assert figures[key] == pytest.approx(value, rel=1e-6, nan_ok=True), key


@pytest.mark.parametrize("count", [1, 2, 3, 10, 57, 200])
def test_classification_by_loop(count):
    rng = np.random.default_rng(count)
    for _ in range(5):
        prob = rng.uniform(0, 1, count).astype(np.float32)
        label = rng.choice([1, 0, -1, -2], count)
        same(metrics.classification(prob, label), by_loop(prob, label))


@pytest.mark.parametrize("count", [10, 30, 90, 170, 350])
def test_hardest_seven_tenths_exactly(count):
    """0.7 n is whole here; in binary it may come out a little less, and must not lose one. One
    sample is right, the easiest of the hardest 70 %: it shows whether it is among them."""
    prob = np.full(count, 0.2)
    hard = 7 * count // 10
    prob[hard - 1 :] = np.linspace(0.6, 0.9, count - hard + 1)
    figures = metrics.classification(prob, np.ones(count))
    assert figures["accuracy_hard"] == pytest.approx(1 / hard)


def test_classification_by_hand():
    prob = np.array([0.9, 0.4, 0.5, 0.1, 0.99, 0.0])
    label = np.array([1, 1, 0, 0, -1, -2])
    figures = metrics.classification(prob, label)
    assert figures["accuracy"] == 0.5 and figures["precision"] == 0.5 and figures["recall"] == 0.5
    assert figures["cls_loss"] == pytest.approx(-np.log([0.9, 0.4, 0.5, 0.9]).mean())
    # floor(0.7 * 4) = 2: the wrong ones, 0.4 for a face and 0.5 for none
    assert figures["accuracy_hard"] == 0


def test_nothing_gives_nan():
    for prob, label in ((np.zeros(0), np.zeros(0)), (np.array([0.5]), np.array([-2]))):
        figures = metrics.classification(prob, label)
        assert len(figures) == 5 and all(math.isnan(value) for value in figures.values())
    figures = metrics.classification(np.array([0.1, 0.2]), np.array([0, 0]))
    assert math.isnan(figures["recall"]) and math.isnan(figures["precision"])
    assert figures["accuracy"] == 1
    empty = np.zeros((0, 4))
    assert math.isnan(metrics.box_error(empty, empty, np.zeros(0))["box_error"])


def test_a_wrong_certainty_is_finite():
    assert metrics.classification(np.array([0.0, 1.0]), np.array([1, 0]))["cls_loss"] == (
        pytest.approx(-math.log(1e-14))
    )


def test_box_error_by_loop():
    rng = np.random.default_rng(3)
    offsets, target = rng.normal(0, 1, (40, 4)), rng.normal(0, 1, (40, 4))
    label = rng.choice([1, 0, -1, -2], 40)
    errors = [
        abs(offsets[i, j] - target[i, j])
        for i in range(40)
        if label[i] in (1, -1)
        for j in range(4)
    ]
    assert metrics.box_error(offsets, target, label)["box_error"] == pytest.approx(
        sum(errors) / len(errors)
    )
    assert math.isnan(metrics.box_error(offsets, target, np.zeros(40))["box_error"])


def test_found_by_loop():
    rng = np.random.default_rng(4)

    def boxes(count):
        corner = rng.uniform(0, 30, (count, 2))
        return np.concatenate([corner, corner + rng.uniform(10, 30, (count, 2))], axis=1)

    def overlap(a, b):
        width = max(min(a[2], b[2]) - max(a[0], b[0]), 0)
        height = max(min(a[3], b[3]) - max(a[1], b[1]), 0)
        return (
            width
            * height
            / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - width * height)
        )

    some = boxes(9), boxes(25)
    expected = [any(overlap(face, box) >= 0.4 for box in some[0]) for face in some[1]]
    assert 0 < sum(expected) < 25
    assert metrics.found(*some, 0.4).tolist() == expected
    assert metrics.found(np.zeros((0, 4)), some[1], 0.4).tolist() == [False] * 25
    assert metrics.found(some[0], np.zeros((0, 4)), 0.4).shape == (0,)
    assert metrics.found(some[0], some[0], 1.0).all()  # equal to the threshold is enough


# ---- average precision ---------------------------------------------------------------------


IOUS = np.array([0.3, 0.5, 0.7, 0.9])


def test_matches_by_loop():
    seen = []
    for seed in range(80):
        boxes, scores, faces, ignored = crowded(seed)
        for min_face in (0, 20, 30):
            outcome, counted = metrics.matches(boxes, scores, faces, ignored, IOUS, min_face)
            assert outcome.dtype == np.int8 and outcome.shape == (4, len(boxes))
            assert counted.tolist() == [larger(face) >= min_face for face in faces]
            expected = [
                matches_by_loop(boxes, scores, faces, ignored, iou, min_face) for iou in IOUS
            ]
            assert outcome.tolist() == expected, seed
            seen += [value for row in expected for value in row]
    assert min(map(seen.count, (metrics.HIT, metrics.NEITHER, metrics.FALSE))) > 500


def test_each_rule_by_hand():
    """A face of 30 px, one of 10, an ignored box; seven boxes with what each is."""
    faces = [[0, 0, 30, 30], [50, 0, 60, 10]]
    ignored = [[100, 0, 140, 40]]
    boxes, outcomes = zip(
        ([0, 0, 30, 29], metrics.FALSE),  # the face, but a better one has it
        ([1, 0, 30, 30], metrics.HIT),
        ([48, 0, 62, 20], metrics.FALSE),  # IoU with the small face is 100 / 280
        ([49, 0, 60, 21], metrics.FALSE),  # 100 / 231
        ([50, 0, 60, 16], metrics.NEITHER),  # smaller than min_face itself
        ([90, 0, 120, 40], metrics.NEITHER),  # two thirds on the ignored box
        ([80, 0, 119, 40], metrics.FALSE),
    )  # 19 / 39 of it
    outcome, _ = metrics.matches(boxes, np.arange(7) / 7, faces, ignored, [0.5], 20)
    assert outcome[0].tolist() == list(outcomes)
    # A face under min_face is taken once: the worse one of two is false.
    small = [[50, 0, 65, 15]]
    twice, counted = metrics.matches(
        [[50, 0, 70, 15], [50, 0, 71, 15]], [0.2, 0.8], small, np.zeros((0, 4)), [0.5], 20
    )
    assert twice[0].tolist() == [metrics.FALSE, metrics.NEITHER] and not counted.any()


def pictures_of(count):
    detections, truth = {}, {}
    rng = np.random.default_rng(1)
    for seed in range(count):
        boxes, scores, faces, ignored = crowded(seed)
        truth[seed] = faces, ignored
        if seed % 7:  # some pictures have none
            detections[seed] = boxes, rng.uniform(0, 1, len(boxes))
    return detections, truth


@pytest.mark.parametrize("min_face", [0, 20, 30])
def test_precision_and_recall_are_those_of_pycocotools(min_face, capsys):
    """Precision at its 101 recalls, and the greatest recall, at each of its ten IoUs."""
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    detections, truth = pictures_of(80)
    labels, found = [], []
    for picture, (faces, ignored) in truth.items():
        for crowd, boxes in enumerate((faces, ignored)):
            labels += [
                {
                    "id": len(labels) + i + 1,
                    "image_id": picture,
                    "category_id": 1,
                    "iscrowd": crowd,
                    "area": larger(b),
                    "bbox": [b[0], b[1], b[2] - b[0], b[3] - b[1]],
                }
                for i, b in enumerate(boxes)
            ]
    for picture, (boxes, scores) in detections.items():
        found += [
            {
                "image_id": picture,
                "category_id": 1,
                "score": score,
                "bbox": [b[0], b[1], b[2] - b[0], b[3] - b[1]],
            }
            for b, score in zip(boxes, scores)
        ]
    ground = COCO()
    ground.dataset = {
        "images": [{"id": picture} for picture in truth],
        "annotations": labels,
        "categories": [{"id": 1}],
    }
    ground.createIndex()
    results = ground.loadRes(found)
    for row in results.dataset["annotations"]:  # it compares areas: here, larger sides
        row["area"] = max(row["bbox"][2:])
    judge = COCOeval(ground, results, "bbox")
    judge.params.areaRng, judge.params.areaRngLbl = [[min_face, 1e9]], ["all"]
    judge.params.maxDets = [1000]
    judge.evaluate()
    judge.accumulate()
    capsys.readouterr()
    curves = metrics.precision_recall(detections, truth, metrics.IOUS, min_face)
    assert len(curves) == 10
    for i, curve in enumerate(curves):
        envelope = np.append(np.maximum.accumulate(curve.precision[::-1])[::-1], 0)
        ours = envelope[np.searchsorted(curve.recall, judge.params.recThrs)]
        np.testing.assert_allclose(ours, judge.eval["precision"][i, :, 0, 0, 0], atol=1e-9)
        assert curve.recall[-1] == pytest.approx(judge.eval["recall"][i, 0, 0, 0])
    assert 0.2 < metrics.average_precision(curves[0]) < 0.95


def test_curve_and_area_by_loop():
    """Counted anew at every score there is, ties among them."""
    detections, truth = pictures_of(40)
    detections = {p: (boxes, np.round(scores, 1)) for p, (boxes, scores) in detections.items()}
    curve = metrics.precision_recall(detections, truth, [0.4], 20)[0]
    every = sorted({s for _, scores in detections.values() for s in scores}, reverse=True)
    faces = sum(larger(face) >= 20 for labelled, _ in truth.values() for face in labelled)
    assert curve.faces == faces and curve.scores.tolist() == every
    outcomes = {
        p: metrics.matches(boxes, scores, *truth[p], [0.4], 20)[0][0]
        for p, (boxes, scores) in detections.items()
    }
    precision, recall = [], []
    for score in every:
        kept = [
            o
            for p, (_, scores) in detections.items()
            for o, s in zip(outcomes[p], scores)
            if s >= score
        ]
        hits = kept.count(metrics.HIT)
        precision.append(hits / (hits + kept.count(metrics.FALSE)))
        recall.append(hits / faces)
    np.testing.assert_allclose(curve.precision, precision)
    np.testing.assert_allclose(curve.recall, recall)
    steps = [recall[0], *(b - a for a, b in zip(recall, recall[1:]))]
    assert metrics.average_precision(curve) == pytest.approx(
        sum(step * max(precision[i:]) for i, step in enumerate(steps))
    )


def test_equal_scores_have_no_order():
    """A hit and a false alarm with one score: the same, whichever picture comes first."""
    face, away = [[0, 0, 30, 30]], [[100, 100, 130, 130]]
    nothing = np.zeros((0, 4))
    for order in ("ab", "ba"):
        truth = {name: (face, nothing) for name in order}
        curve = metrics.precision_recall(
            {"a": (face, np.array([0.5])), "b": (away, np.array([0.5]))}, truth
        )[0]
        assert curve.precision.tolist() == [0.5] and curve.recall.tolist() == [0.5]
        assert metrics.average_precision(curve) == 0.25


def test_precision_of_nothing():
    face, nothing = np.array([[0, 0, 30, 30]]), np.zeros((0, 4))
    missed = metrics.precision_recall({}, {"a": (face, nothing)})[0]
    assert len(missed.scores) == 0 and metrics.average_precision(missed) == 0
    for detections in ({}, {"a": (face, np.array([0.5]))}):
        nobody = metrics.precision_recall(detections, {"a": (nothing, nothing)})[0]
        assert nobody.faces == 0 and math.isnan(metrics.average_precision(nobody))
    perfect = metrics.precision_recall({"a": (face, np.array([0.5]))}, {"a": (face, nothing)})[0]
    assert metrics.average_precision(perfect) == 1


# ---- landmark points -----------------------------------------------------------------------


def sizes_by_loop(points, eyes, corners):
    rows = []
    for face in points.tolist():
        left, right = (
            [sum(face[i][axis] for i in around) / len(around) for axis in (0, 1)] for around in eyes
        )
        x, y = zip(*face)
        rows.append(
            (
                math.dist(face[corners[0]], face[corners[1]]),
                math.dist(left, right),
                math.sqrt((max(x) - min(x)) * (max(y) - min(y))),
            )
        )
    return np.array(rows).T


def test_sizes_of_faces_by_loop():
    rng, eyes, corners = np.random.default_rng(0), ((1, 2, 7), (3, 5)), (2, 8)
    points = rng.uniform(0, 90, (30, 9, 2))
    sizes = metrics.face_sizes(points, eyes, corners)
    assert list(sizes) == ["inter-ocular", "inter-pupil", "box"]
    np.testing.assert_allclose(list(sizes.values()), sizes_by_loop(points, eyes, corners))
    assert list(metrics.face_sizes(points, None, None)) == ["box"]
    assert list(metrics.face_sizes(points, eyes, None)) == ["inter-pupil", "box"]


def test_a_face_without_size_counts_nowhere():
    """Both eyes in one place, and points on a line: no error can be told by these rules."""
    face = np.array([[1, 1], [1, 1], [1, 5], [1, 7.0]])
    points = np.stack([face, face + [[0, 0], [4, 0], [0, 0], [0, 0]]])
    sizes = metrics.face_sizes(points, ((0,), (1,)), (0, 1))
    assert all(math.isnan(size[0]) and size[1] > 0 for size in sizes.values())
    errors = metrics.point_errors(points + [0, 2], points, sizes["inter-pupil"]).mean(axis=1)
    figures = metrics.error_figures(errors)
    assert figures["faces"] == 1 and figures["mean"] == figures["median"] == 0.5
    assert metrics.cumulative(errors, np.array([0.4, 0.5])).tolist() == [0, 1]


def test_point_errors_by_hand():
    truth = np.array([[[0, 0], [10, 0]], [[0, 0], [0, 20.0]]])
    errors = metrics.point_errors(truth + [3, 4], truth, np.array([10.0, 20.0]))
    np.testing.assert_allclose(errors, [[0.5, 0.5], [0.25, 0.25]])


@pytest.mark.parametrize("count", [1, 2, 7, 400])
def test_curve_of_errors_by_counting(count):
    """The area is that under the curve, sampled finely; failures are what the curve leaves out."""
    errors = np.random.default_rng(count).gamma(3, 0.025, count)
    errors[0] = 0.08  # at the limit is no failure
    figures = metrics.error_figures(errors)
    assert figures["faces"] == count and figures["mean"] == pytest.approx(sum(errors) / count)
    assert figures["median"] == pytest.approx(
        sorted(errors)[count // 2] if count % 2 else sum(sorted(errors)[count // 2 - 1 :][:2]) / 2
    )
    for limit in (0.08, 0.10):
        steps = (np.arange(20000) + 0.5) * limit / 20000
        share = metrics.cumulative(errors, steps)
        np.testing.assert_array_equal(
            share[::999], [sum(e <= at for e in errors) / count for at in steps[::999]]
        )
        assert figures["auc"][f"{limit:.2f}"] == pytest.approx(share.mean(), abs=1e-4)
        assert figures["failures"][f"{limit:.2f}"] == pytest.approx(
            sum(e > limit for e in errors) / count
        )


def test_movement_by_hand():
    """Of three places, 3 px aside twice and 0 once: a variance of 3; a face without size is none's,
    and a point that is wrong but stays doesn't move."""
    off = np.zeros((3, 2, 2, 2))
    off[:2, 0, 0, 1] = 3
    off[:, 0, 1] = 7
    assert metrics.movement(off[:, :1]) == pytest.approx(math.sqrt(3) / 2)
    off[:, 1] = np.nan
    assert metrics.movement(off) == pytest.approx(math.sqrt(3) / 2)


def test_errors_of_nobody():
    figures = metrics.error_figures(np.full(3, np.nan))
    assert figures["faces"] == 0 and math.isnan(figures["mean"]) and math.isnan(figures["median"])
    assert math.isnan(figures["auc"]["0.08"]) and math.isnan(figures["failures"]["0.10"])
    assert metrics.cumulative(np.zeros(0), [0.1]).tolist() == [0]


def test_coordinate_errors_by_hand():
    truth = np.zeros((2, 2, 2), np.float32)
    found = np.array([[[0.1, -0.2], [0, 0]], [[0, 0.3], [0.2, 0]]], np.float32)
    errors = metrics.coordinate_errors(found, truth)
    assert errors["l1"] == pytest.approx(0.8 / 8) and errors["l2"] == pytest.approx(0.18 / 8)


@pytest.mark.parametrize("side, faces", [("larger", [0, 1]), ("smaller", [0])])
def test_the_side_that_is_a_face_s_size(side, faces):
    """A tall face of 12 x 30 px counts from 20 px by its larger side alone; one that doesn't count
    makes the box on it neither right nor wrong."""
    boxes = np.array([[0, 0, 24, 30], [100, 0, 112, 30], [200, 0, 212, 30]], float)
    outcome, counted = metrics.matches(
        boxes, np.array([0.9, 0.8, 0.7]), boxes[:2], np.zeros((0, 4)), [0.5], 20, side
    )
    assert np.flatnonzero(counted).tolist() == faces
    small = metrics.FALSE if side == "larger" else metrics.NEITHER
    assert outcome[0].tolist() == [
        metrics.HIT,
        metrics.HIT if side == "larger" else metrics.NEITHER,
        small,
    ]

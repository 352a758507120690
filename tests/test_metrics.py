"""Figures of merit against loops over samples."""
import math

import numpy as np
import pytest

from core import metrics


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

    order = sorted(range(len(losses)), key=lambda i: -losses[i])[:7 * len(losses) // 10]
    return {"cls_loss": mean(losses), "accuracy": mean(right),
            "accuracy_hard": mean([right[i] for i in order]), "precision": mean(called),
            "recall": mean(found)}


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
    prob[hard - 1:] = np.linspace(0.6, 0.9, count - hard + 1)
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
        pytest.approx(-math.log(1e-14)))


def test_box_error_by_loop():
    rng = np.random.default_rng(3)
    offsets, target = rng.normal(0, 1, (40, 4)), rng.normal(0, 1, (40, 4))
    label = rng.choice([1, 0, -1, -2], 40)
    errors = [abs(offsets[i, j] - target[i, j]) for i in range(40) if label[i] in (1, -1)
              for j in range(4)]
    assert metrics.box_error(offsets, target, label)["box_error"] == pytest.approx(
        sum(errors) / len(errors))
    assert math.isnan(metrics.box_error(offsets, target, np.zeros(40))["box_error"])


def test_found_by_loop():
    rng = np.random.default_rng(4)

    def boxes(count):
        corner = rng.uniform(0, 30, (count, 2))
        return np.concatenate([corner, corner + rng.uniform(10, 30, (count, 2))], axis=1)

    def overlap(a, b):
        width = max(min(a[2], b[2]) - max(a[0], b[0]), 0)
        height = max(min(a[3], b[3]) - max(a[1], b[1]), 0)
        return width * height / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1])
                                 - width * height)

    some = boxes(9), boxes(25)
    expected = [any(overlap(face, box) >= 0.4 for box in some[0]) for face in some[1]]
    assert 0 < sum(expected) < 25
    assert metrics.found(*some, 0.4).tolist() == expected
    assert metrics.found(np.zeros((0, 4)), some[1], 0.4).tolist() == [False] * 25
    assert metrics.found(some[0], np.zeros((0, 4)), 0.4).shape == (0,)
    assert metrics.found(some[0], some[0], 1.0).all()  # equal to the threshold is enough

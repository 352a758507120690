"""Rules written out in plain loops, and facts from elsewhere, that tests hold results against."""

import numpy as np

from core.evaluate import metrics
from prepare_data.drawn.face import SUBSETS


def slow_nms(boxes, scores, threshold, overlap="union"):
    """Box by box in Python's own numbers: what is shared against what is covered, by area."""
    boxes = [[float(v) for v in box] for box in boxes]

    def sides(box):
        return max(box[2] - box[0], 0), max(box[3] - box[1], 0)

    def too_near(a, b):
        width, height = sides((max(a[0], b[0]), max(a[1], b[1]), min(a[2], b[2]), min(a[3], b[3])))
        (aw, ah), (bw, bh), shared = sides(a), sides(b), width * height
        whole = min(aw * ah, bw * bh) if overlap == "minimum" else aw * ah + bw * bh - shared
        return shared > threshold * whole

    order = sorted(range(len(boxes)), key=lambda i: (-scores[i], i))
    kept = []
    for i in order:
        if not any(too_near(boxes[i], boxes[k]) for k in kept):
            kept.append(i)
    return kept


# Point i of the second order is the point here of "migu": 68 and 98 points are among the 106.
IN_MIGU = {
    "68": SUBSETS[68],
    "98": np.r_[
        0:38,
        67,
        66,
        65,
        64,
        38:43,
        71,
        70,
        69,
        68,
        43:47,
        47:52,
        52,
        53,
        72,
        54,
        55,
        56,
        73,
        57,
        58,
        59,
        75,
        60,
        61,
        62,
        76,
        63,
        84:106,
    ],
}


def overlap(a, b):
    width = max(min(a[2], b[2]) - max(a[0], b[0]), 0)
    height = max(min(a[3], b[3]) - max(a[1], b[1]), 0)
    return width * height


def area(a):
    return (a[2] - a[0]) * (a[3] - a[1])


def larger(a):
    return max(a[2] - a[0], a[3] - a[1])


def matches_by_loop(boxes, scores, faces, ignored, iou, min_face):
    """Outcomes, one detection after the other, in words of the rule."""
    taken, outcome = set(), [None] * len(boxes)
    for i in sorted(range(len(boxes)), key=lambda i: (-scores[i], i)):

        def fits(small):
            pairs = [
                (overlap(boxes[i], f) / (area(boxes[i]) + area(f) - overlap(boxes[i], f)), j)
                for j, f in enumerate(faces)
                if j not in taken and (larger(f) < min_face) == small
            ]
            return [pair for pair in pairs if pair[0] >= iou]

        counted, neither = fits(False), fits(True)
        neither += [
            (overlap(boxes[i], r) / area(boxes[i]), None)
            for r in ignored
            if overlap(boxes[i], r) / area(boxes[i]) >= iou
        ]
        if counted:
            taken.add(max(counted)[1])
            outcome[i] = metrics.HIT
        elif neither:
            taken.add(max(neither, key=lambda pair: pair[0])[1])
            outcome[i] = metrics.NEITHER
        else:
            outcome[i] = metrics.NEITHER if larger(boxes[i]) < min_face else metrics.FALSE
        taken.discard(None)
    return outcome


def crowded(seed):
    """A picture where everything overlaps: boxes, scores, faces, ignored."""
    rng = np.random.default_rng(seed)

    def some(count):
        corner = rng.uniform(0, 60, (count, 2))
        return np.concatenate([corner, corner + rng.uniform(8, 40, (count, 2))], axis=1)

    faces, ignored = some(rng.integers(0, 9)), some(rng.integers(0, 3))
    near = np.concatenate([faces, faces, ignored])
    boxes = np.concatenate([near + rng.normal(0, 3, near.shape), some(rng.integers(0, 8))])
    boxes[:, 2:] = np.maximum(boxes[:, 2:], boxes[:, :2] + 1)
    return boxes, rng.permutation(len(boxes)) / 50 + rng.uniform(0, 0.01), faces, ignored

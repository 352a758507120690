"""Figures of merit: pure functions on arrays."""

from dataclasses import dataclass

import numpy as np

from facelet import boxes as geometry

HARD_TENTHS = 7  # train-mtcnn's accuracies are over the hardest 70 % of the samples


def classification(prob, label):
    """Figures of face scores.

    prob -- (N,) probability of face; label -- (N,) 1 face, 0 not; others are left out
    Returns cls_loss (mean cross entropy), accuracy, accuracy_hard (over the hardest 70 %, as
    train-mtcnn's tables have it), precision and recall at 0.5; NaN where there is no sample.
    """
    known = (label == 0) | (label == 1)
    prob, face = prob[known].astype(np.float64), label[known] == 1
    right = (prob >= 0.5) == face
    loss = -np.log(np.maximum(np.where(face, prob, 1 - prob), 1e-14))
    hardest = np.argsort(-loss, kind="stable")[: HARD_TENTHS * len(loss) // 10]
    found = (prob >= 0.5) & face
    return {
        "cls_loss": _mean(loss),
        "accuracy": _mean(right),
        "accuracy_hard": _mean(right[hardest]),
        "precision": _mean(face[prob >= 0.5]),
        "recall": _mean(found[face]),
    }


def box_error(offsets, target, label):
    """Mean absolute error of box offsets (N, 4) per coordinate, in crop sides, over positives
    and parts."""
    known = np.abs(label) == 1
    return {"box_error": _mean(np.abs(offsets[known] - target[known]))}


def point_error(points, truth):
    """Mean distance of landmark points (N, P, 2) from the true ones, in crop sides."""
    return _mean(np.linalg.norm(points - truth, axis=2))


def _mean(values):
    return float(np.mean(values)) if len(values) else float("nan")


def found(boxes, faces, iou):
    """Which faces (M, 4) have a box (N, 4) with at least this IoU: bool (M,)."""
    if not len(boxes) or not len(faces):
        return np.zeros(len(faces), bool)
    return geometry.iou(faces, boxes).max(axis=1) >= iou


# ---- average precision ---------------------------------------------------------------------

HIT, FALSE, NEITHER = 1, 0, -1  # what a detection is
SIDES = {"larger": np.max, "smaller": np.min}  # which side of a box is its size
IOUS = np.arange(50, 100, 5) / 100  # 0.5:0.95


def sides(boxes, side="larger"):
    """The larger or the smaller side of boxes, (N, 4) -> (N,)."""
    return SIDES[side](boxes[:, 2:] - boxes[:, :2], axis=1)


def matches(boxes, scores, faces, ignored, ious, min_face=0, side="larger"):
    """What each detection in a picture is, at each IoU that a match needs at least.

    boxes -- (N, 4), scores -- (N,): the detections; faces -- (M, 4) labelled, ignored -- (K, 4);
    ious -- (T,); min_face -- of a face that counts, px; side -- which one of SIDES is its size
    Returns int8 (T, N) of HIT, FALSE and NEITHER, and bool (M,): which faces count.

    The rule is COCO's, with a side of a box for its area and ignored boxes for crowds.
    Detections have their turn best score first, equal ones in their order. Each takes the face
    that counts, is still free, and has the greatest IoU with it, if that is enough: a HIT. One
    that gets none is NEITHER if there is a face under min_face, still free, with enough IoU, which
    it takes, or an ignored box on which as great a part of it lies, which any number may share; or
    if it is itself smaller than min_face. The rest are FALSE alarms.
    """
    boxes, faces, ignored = (
        np.asarray(b, np.float64).reshape(-1, 4) for b in (boxes, faces, ignored)
    )
    counted = sides(faces, side) >= min_face
    overlap = np.concatenate([geometry.iou(boxes, faces), geometry.covered(boxes, ignored)], axis=1)
    needed = np.asarray(ious, np.float64)[:, None]
    # A face that counts goes before all else, however small its overlap.
    rank = overlap + 2 * np.append(counted, np.zeros(len(ignored)))
    outcome = np.where(sides(boxes, side) < min_face, NEITHER, FALSE)
    outcome = np.tile(outcome.astype(np.int8), (len(needed), 1))
    free = np.ones((len(needed), overlap.shape[1]), bool)
    near = overlap.max(axis=1, initial=0) >= needed.min()
    order = np.argsort(-np.asarray(scores), kind="stable")
    for i in order[near[order]]:
        fits = free & (overlap[i] >= needed)
        rows = np.flatnonzero(fits.any(axis=1))
        best = np.where(fits[rows], rank[i], -1).argmax(axis=1)
        outcome[rows, i] = np.where(rank[i, best] >= 2, HIT, NEITHER)
        free[rows, best] = best >= len(faces)
    return outcome, counted


@dataclass(frozen=True)
class Curve:
    """Precision and recall of the detections with a score of at least scores[k], for each score
    that there is, falling: (K,) each. faces -- how many there are to find; NaN recall if none."""

    scores: np.ndarray
    precision: np.ndarray
    recall: np.ndarray
    faces: int


def precision_recall(detections, truth, ious=(0.5,), min_face=0, progress=None, side="larger"):
    """A Curve for each of `ious` over all pictures, detections being what matches() says.

    detections -- picture: (boxes (N, 4), scores (N,)); pictures it lacks have none
    truth -- picture: (faces (M, 4), ignored (K, 4))
    progress -- a facelet.console.Progress, stepped once a picture
    """
    parts, scores, faces = [], [], 0
    nothing = np.zeros((0, 4)), np.zeros(0)
    for picture, (labelled, ignored) in truth.items():
        found = detections.get(picture, nothing)
        outcome, counted = matches(*found, labelled, ignored, ious, min_face, side)
        parts.append(outcome)
        scores.append(found[1])
        faces += int(counted.sum())
        if progress:
            progress.step()
    outcome = np.concatenate([np.zeros((len(ious), 0), np.int8), *parts], axis=1)
    return [_curve(np.concatenate([np.zeros(0), *scores]), row, faces) for row in outcome]


def _curve(scores, outcome, faces):
    order = np.argsort(-scores, kind="stable")
    order = order[outcome[order] != NEITHER]
    scores, hits = scores[order], np.cumsum(outcome[order] == HIT)
    last = np.flatnonzero(np.append(scores[1:] != scores[:-1], True)[: len(scores)])
    with np.errstate(invalid="ignore"):
        return Curve(scores[last], hits[last] / (last + 1), hits[last] / np.float64(faces), faces)


def average_precision(curve):
    """The area under a Curve made to fall: at each recall the best precision that there is at it
    or beyond, summed over all steps of recall (not at 11 or 101 points). NaN without faces."""
    if not curve.faces:
        return float("nan")
    envelope = np.maximum.accumulate(curve.precision[::-1])[::-1]
    return float(np.sum(np.diff(curve.recall, prepend=0) * envelope))


# ---- landmark points -----------------------------------------------------------------------

LIMITS = (0.08, 0.10)  # errors that curves are measured up to, and from which a face is a failure


def face_sizes(points, eyes, corners):
    """What distances in faces with points (N, P, 2) are divided by, in their unit: {rule: (N,)}.

    eyes -- indices of the points around the left and around the right eye; corners -- those of the
        eyes' outer corners; None where there are none

    "inter-ocular" is between the outer corners, "inter-pupil" between the eyes' centres, the means
    of the points around them, "box" the root of width times height of the box around all points. A
    rule that lacks its points is left out; a face that has no size by a rule gets NaN.
    """
    sizes = {}
    if corners is not None:
        sizes["inter-ocular"] = np.linalg.norm(
            points[:, corners[0]] - points[:, corners[1]], axis=1
        )
    if eyes is not None:
        left, right = (points[:, list(around)].mean(axis=1) for around in eyes)
        sizes["inter-pupil"] = np.linalg.norm(left - right, axis=1)
    sizes["box"] = np.sqrt(np.prod(np.ptp(points, axis=1), axis=1))
    return {rule: np.where(size > 0, size, np.nan) for rule, size in sizes.items()}


def point_errors(points, truth, size):
    """Distances of points (N, P, 2) from the true ones in sizes (N,) of their faces: (N, P)."""
    return np.linalg.norm(points - truth, axis=2) / size[:, None]


def error_figures(errors):
    """Figures of faces' errors (N,), each the mean of its points'; NaN, faces without a size, are
    left out: how many there are, mean, median, and by limit, a key like "0.08", auc, the area under
    cumulative() up to the limit as a part of what it can be, and failures, the part of the faces
    with a greater error."""
    errors = errors[~np.isnan(errors)]
    return {
        "faces": len(errors),
        "mean": _mean(errors),
        "median": float(np.median(errors)) if len(errors) else float("nan"),
        # Each face adds a step that is 1 from its error on.
        "auc": {f"{limit:.2f}": _mean(np.maximum(1 - errors / limit, 0)) for limit in LIMITS},
        "failures": {f"{limit:.2f}": _mean(errors > limit) for limit in LIMITS},
    }


def cumulative(errors, limits):
    """The cumulative error distribution: parts of the faces whose errors (N,) are no greater than
    each of `limits` (K,): (K,). NaN is left out."""
    errors = np.sort(errors[~np.isnan(errors)])
    return np.searchsorted(errors, limits, side="right") / max(len(errors), 1)


def coordinate_errors(points, truth):
    """Errors of points (N, P, 2) per coordinate, in units of theirs: l1, mean absolute, and l2,
    mean squared. In crop sides these are what train-mtcnn's tables of landmark nets report."""
    off = (points - truth).astype(np.float64)
    return {"l1": _mean(np.abs(off)), "l2": _mean(off**2)}


def movement(off):
    """How far points move with the box that they are found from: the root mean square distance of
    each from its mean place, the mean over all.

    off -- (D, N, P, 2): from the true points to those found from D boxes of each of N faces, in
        sizes of the face; NaN, faces without a size, is left out
    """
    around = off - off.mean(axis=0)
    each = np.sqrt((around**2).sum(axis=(0, 3)) / (len(off) - 1))
    return _mean(each[~np.isnan(each)])

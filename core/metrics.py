"""Figures of merit: pure functions on arrays."""
import numpy as np

from core import boxes as geometry

HARD_TENTHS = 7  # the published accuracies are over the hardest 70 % of the samples


def classification(prob, label):
    """Figures of face scores.

    prob -- (N,) probability of face; label -- (N,) 1 face, 0 not; others are left out
    Returns cls_loss (mean cross entropy), accuracy, accuracy_hard (over the hardest 70 %, as
    the published tables have it), precision and recall at 0.5; NaN where there is no sample.
    """
    known = (label == 0) | (label == 1)
    prob, face = prob[known].astype(np.float64), label[known] == 1
    right = (prob >= 0.5) == face
    loss = -np.log(np.maximum(np.where(face, prob, 1 - prob), 1e-14))
    hardest = np.argsort(-loss, kind="stable")[:HARD_TENTHS * len(loss) // 10]
    found = (prob >= 0.5) & face
    return {"cls_loss": _mean(loss), "accuracy": _mean(right),
            "accuracy_hard": _mean(right[hardest]),
            "precision": _mean(face[prob >= 0.5]), "recall": _mean(found[face])}


def box_error(offsets, target, label):
    """Mean absolute error of box offsets (N, 4) per coordinate, in crop sides, over positives
    and parts."""
    known = np.abs(label) == 1
    return {"box_error": _mean(np.abs(offsets[known] - target[known]))}


def _mean(values):
    return float(np.mean(values)) if len(values) else float("nan")


def found(boxes, faces, iou):
    """Which faces (M, 4) have a box (N, 4) with at least this IoU: bool (M,)."""
    if not len(boxes) or not len(faces):
        return np.zeros(len(faces), bool)
    return geometry.iou(faces, boxes).max(axis=1) >= iou

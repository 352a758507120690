"""Geometry of boxes: pure functions on arrays.

The one convention of the toolkit: a box is x1 y1 x2 y2 in continuous pixel coordinates, where
pixel column j covers [j, j + 1). Its width is x2 - x1, and two boxes that share an edge do not
overlap. (train-mtcnn added 1 to widths in some places and not in others.) Landmark points are
kept as annotations give them, with (0, 0) the centre of the first pixel, so a point p lies at
p + 0.5 in a box's coordinates.
"""

from typing import Callable

import numpy as np

from facelet.arrays import Array, Floats


def areas(boxes: Array) -> Array:
    """(N, 4) -> (N,)"""
    found: Array = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    return found


def whole(boxes: Array) -> Array:
    """Which boxes have an area, being neither empty nor turned inside out: (N, 4) -> (N,) bool."""
    found: Array = (boxes[:, 2] > boxes[:, 0]) & (boxes[:, 3] > boxes[:, 1])
    return found


def intersections(boxes: Array, others: Array) -> Array:
    """Area shared by each pair: (N, 4), (M, 4) -> (N, M) float."""
    width = np.minimum(boxes[:, None, 2], others[None, :, 2]) - np.maximum(
        boxes[:, None, 0], others[None, :, 0]
    )
    height = np.minimum(boxes[:, None, 3], others[None, :, 3]) - np.maximum(
        boxes[:, None, 1], others[None, :, 1]
    )
    shared: Array = np.maximum(width, 0) * np.maximum(height, 0)
    return shared


def iou(boxes: Array, others: Array) -> Array:
    """Intersection over union of each pair: (N, 4), (M, 4) -> (N, M) float; 0 where both boxes
    are empty."""
    shared = intersections(boxes, others)
    union = areas(boxes)[:, None] + areas(others)[None, :] - shared
    overlaps: Array = shared / np.maximum(union, 1e-12)
    return overlaps


def paired_iou(boxes: Array, others: Array) -> Array:
    """As iou() of each box and the other at the same place: (N, 4), (N, 4) -> (N,) float."""
    low, high = np.maximum(boxes[:, :2], others[:, :2]), np.minimum(boxes[:, 2:], others[:, 2:])
    shared = np.maximum(high - low, 0).prod(axis=1)
    overlaps: Array = shared / np.maximum(areas(boxes) + areas(others) - shared, 1e-12)
    return overlaps


def covered(boxes: Array, others: Array) -> Array:
    """Part of each box that one of `others` covers: (N, 4), (M, 4) -> (N, M) float."""
    parts: Array = intersections(boxes, others) / np.maximum(areas(boxes), 1e-12)[:, None]
    return parts


OVERLAPS: dict[
    str, Callable[[Array, Array, Array], Array]
] = {  # of boxes with the areas a and b that share s: the part of what they cover ...
    "union": lambda a, b, shared: a + b - shared,  # ... together
    "minimum": lambda a, b, shared: np.minimum(a, b),  # ... of the smaller one
}
NMS_BLOCK = 512  # boxes compared with each other at a time, which bounds the memory


def nms(boxes: Array, scores: Array, threshold: float, overlap: str = "union") -> Array:
    """Greedy non-maximum suppression: indices of the boxes kept, best score first. A box goes
    when its overlap with a better one that is kept is over the threshold; ties go to the earlier.

    overlap -- "union": shared area over the area of both (IoU); "minimum": over the smaller area
    """
    order = np.argsort(-scores, kind="stable")
    box_areas = np.maximum(areas(boxes), 0)  # a box turned inside out is over nothing

    def over(rows: Array, columns: Array) -> Array:
        shared = intersections(boxes[rows], boxes[columns])
        whole = OVERLAPS[overlap](box_areas[rows, None], box_areas[None, columns], shared)
        suppressed: Array = shared > threshold * whole
        return suppressed

    kept = np.zeros(0, np.int64)
    for start in range(0, len(order), NMS_BLOCK):
        block = order[start : start + NMS_BLOCK]
        for earlier in range(0, len(kept), NMS_BLOCK):
            block = block[~over(kept[earlier : earlier + NMS_BLOCK], block).any(axis=0)]
        kept = np.concatenate([kept, block[_greedy(np.triu(over(block, block), 1))]])
    return kept


def _greedy(over: Array) -> Array:
    """Which of some boxes, best first, are kept; over[i, j] tells that j has to go if i is kept,
    for i < j. All that no box still in play stands over are kept at once, so there are as many
    rounds as the longest chain has links, not as there are boxes."""
    undecided = np.ones(len(over), bool)
    kept = np.zeros(len(over), bool)
    while undecided.any():
        free = undecided & ~over[undecided].any(axis=0)
        kept |= free
        undecided &= ~free & ~over[free].any(axis=0)
    return kept


def votes(boxes: Array, scores: Array, kept: Array, overlap: float) -> Array:
    """For each of the boxes `kept` (K,) indices, the mean, weighted by scores (N,), of those of all
    boxes (N, 4) whose IoU with it is `overlap` or more: (K, 4). Source: Gidaris, Komodakis, Object
    detection via a multi-region CNN (2015), section 5."""
    weights = np.where(iou(boxes[kept], boxes) >= overlap, scores, 0)
    weights[np.arange(len(kept)), kept] = np.maximum(scores[kept], 1e-12)
    means: Array = weights @ boxes / weights.sum(axis=1, keepdims=True)
    return means


def squares(boxes: Array) -> Floats:
    """Squares around the centres of boxes (N, 4), as large as the larger side, with corners
    rounded to whole pixels and sides of at least one: (N, 4) float32."""
    side = np.maximum(np.maximum(boxes[:, 2] - boxes[:, 0], boxes[:, 3] - boxes[:, 1]), 1)
    corner = np.round((boxes[:, :2] + boxes[:, 2:] - side[:, None]) / 2)
    found: Array = np.concatenate([corner, corner + np.round(side)[:, None]], axis=1)
    return found.astype(np.float32)


def offsets(crops: Array, faces: Array) -> Array:
    """Box targets, (N, 4), (N, 4) -> (N, 4): corners of the face relative to those of its crop,
    in units of the crop's side."""
    side = np.stack([crops[:, 2] - crops[:, 0], crops[:, 3] - crops[:, 1]] * 2, axis=1)
    values: Array = (faces - crops) / side
    return values


def apply_offsets(crops: Array, values: Array) -> Array:
    """The inverse of offsets(): (N, 4), (N, 4) -> boxes (N, 4)."""
    side = np.stack([crops[:, 2] - crops[:, 0], crops[:, 3] - crops[:, 1]] * 2, axis=1)
    boxes: Array = crops + values * side
    return boxes


def flip_offsets(values: Array) -> Array:
    """Offsets (N, 4) of the mirrored crop."""
    flipped: Array = values[:, [2, 1, 0, 3]] * np.array([-1, 1, -1, 1], dtype=values.dtype)
    return flipped


def turned(box: Array, degrees: Array) -> Array:
    """The boxes (N, 4) about the ellipse that fits a box (4,), turned by degrees (N,) about its
    centre. A head is nearer to that ellipse than to its box, whose own corners would reach over."""
    centre, half = (box[:2] + box[2:]) / 2, (box[2:] - box[:2]) / 2
    angle = np.radians(degrees)[:, None]
    half = np.hypot(half * np.cos(angle), half[::-1] * np.sin(angle))
    boxes: Array = np.concatenate([centre - half, centre + half], axis=1)
    return boxes

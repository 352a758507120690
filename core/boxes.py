"""Geometry of boxes: pure functions on arrays.

The one convention of the toolkit: a box is x1 y1 x2 y2 in continuous pixel coordinates, where
pixel column j covers [j, j + 1). Its width is x2 - x1, and two boxes that share an edge do not
overlap. (The reference added 1 to widths in some places and not in others.) Landmark points are
kept as annotations give them, with (0, 0) the centre of the first pixel, so a point p lies at
p + 0.5 in a box's coordinates.
"""
import numpy as np


def areas(boxes):
    """(N, 4) -> (N,)"""
    return (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])


def intersections(boxes, others):
    """Area shared by each pair: (N, 4), (M, 4) -> (N, M) float."""
    width = (np.minimum(boxes[:, None, 2], others[None, :, 2])
             - np.maximum(boxes[:, None, 0], others[None, :, 0]))
    height = (np.minimum(boxes[:, None, 3], others[None, :, 3])
              - np.maximum(boxes[:, None, 1], others[None, :, 1]))
    return np.maximum(width, 0) * np.maximum(height, 0)


def iou(boxes, others):
    """Intersection over union of each pair: (N, 4), (M, 4) -> (N, M) float; 0 where both boxes
    are empty."""
    shared = intersections(boxes, others)
    union = areas(boxes)[:, None] + areas(others)[None, :] - shared
    return shared / np.maximum(union, 1e-12)


def covered(boxes, others):
    """Part of each box that one of `others` covers: (N, 4), (M, 4) -> (N, M) float."""
    return intersections(boxes, others) / np.maximum(areas(boxes), 1e-12)[:, None]


def nms(boxes, scores, threshold, at_most=None):
    """Greedy non-maximum suppression: indices of the boxes kept, best score first. A box goes
    when its IoU with a better one that is kept is over the threshold; ties go to the earlier."""
    left = np.argsort(-scores, kind="stable")
    box_areas = areas(boxes)
    kept = []
    while left.size and (at_most is None or len(kept) < at_most):
        best, left = left[0], left[1:]
        kept.append(best)
        width = (np.minimum(boxes[best, 2], boxes[left, 2])
                 - np.maximum(boxes[best, 0], boxes[left, 0]))
        height = (np.minimum(boxes[best, 3], boxes[left, 3])
                  - np.maximum(boxes[best, 1], boxes[left, 1]))
        shared = np.maximum(width, 0) * np.maximum(height, 0)
        left = left[shared <= threshold * (box_areas[best] + box_areas[left] - shared)]
    return np.array(kept, dtype=np.int64)


def offsets(crops, faces):
    """Box targets, (N, 4), (N, 4) -> (N, 4): corners of the face relative to those of its crop,
    in units of the crop's side."""
    side = np.stack([crops[:, 2] - crops[:, 0], crops[:, 3] - crops[:, 1]] * 2, axis=1)
    return (faces - crops) / side


def apply_offsets(crops, values):
    """The inverse of offsets(): (N, 4), (N, 4) -> boxes (N, 4)."""
    side = np.stack([crops[:, 2] - crops[:, 0], crops[:, 3] - crops[:, 1]] * 2, axis=1)
    return crops + values * side


def flip_offsets(values):
    """Offsets (N, 4) of the mirrored crop."""
    return values[:, [2, 1, 0, 3]] * np.array([-1, 1, -1, 1], dtype=values.dtype)

"""The stages of the detector as functions of arrays; nets come in as functions.

Boxes are x1 y1 x2 y2 in continuous pixel coordinates of the picture, float32 (see facelet.boxes).
"""

from collections.abc import Mapping
from typing import Callable, Optional

import cv2
import numpy as np

from facelet import boxes as geometry
from facelet import picture as pictures
from facelet.arrays import Array, Floats, Pixels
from facelet.settings import Settings

# A net: inputs (N, 3, H, W) -> outputs by task.
Run = Callable[[Floats], Mapping[str, Floats]]

# Input of a net at a time, in pixels. More brings nothing but memory: what a net makes of this much
# stays in the processor's cache.
TILE_PIXELS = 100_000
BATCH_PIXELS = 20_000
CROPS_AT_ONCE = 256
# By how much the box of a window is wider than the window, on each side, in pixels of the picture.
# train-mtcnn counts in whole pixels, first to last, which makes its boxes one pixel wider.
WINDOW_MARGIN = 0.5


def scales(width: int, height: int, cell: int, min_face: float, factor: float) -> list[float]:
    """Factors to resize a picture by, so that a net with a window of `cell` pixels meets faces
    from min_face pixels on: the first makes such a face as large as the window, each next is
    `factor` times smaller, down to the window itself. At least one where the picture is no
    smaller than the window at that factor."""
    found: list[float] = []
    scale = cell / min_face
    while min(int(width * scale), int(height * scale)) >= cell:
        found.append(scale)
        scale *= factor
    return found


def window_boxes(
    rows: Array, columns: Array, cell: int, stride: int, scale_x: float, scale_y: float
) -> Floats:
    """Boxes (N, 4) of a fully convolutional net's outputs, in the unscaled picture: what each
    window sees and WINDOW_MARGIN around it."""
    x1, y1 = columns * stride, rows * stride
    windows = np.stack(
        [x1 / scale_x, y1 / scale_y, (x1 + cell) / scale_x, (y1 + cell) / scale_y], axis=1
    )
    boxes: Array = windows + WINDOW_MARGIN * np.array([-1, -1, 1, 1])
    return boxes.astype(np.float32)


def _spans(
    length: int, cell: int, stride: int, longest: int
) -> list[tuple[int, int, Optional[int]]]:
    """Parts [start, stop) of a side of `length` pixels that a net is run on one after another,
    each with the outputs of it that are kept, as (start, stop, outputs); None: all of them.

    A window may reach a little over its cell, where pooling hangs over the edge of its input, so
    the last output of each part but the last is not used.
    """
    outputs = (longest - cell) // stride
    start = 0
    spans: list[tuple[int, int, Optional[int]]] = []
    while start + longest < length:
        spans.append((start, start + longest, outputs))
        start += outputs * stride
    return [*spans, (start, length, None)]


def maps(picture: Pixels, net: Run, cell: int, stride: int) -> tuple[Floats, Floats]:
    """Face probabilities (h, w) and box offsets (4, h, w) of a fully convolutional net on a whole
    picture, uint8 (H, W, 3), tile by tile: the memory doesn't grow with the picture.

    net -- function of an input (1, 3, H, W) giving outputs by task
    """
    height, width = picture.shape[:2]
    across = max(4 * cell, min(width, TILE_PIXELS // (4 * cell)))
    down = max(4 * cell, TILE_PIXELS // min(width, across))
    rows = []
    for top, bottom, kept_rows in _spans(height, cell, stride, down):
        row = []
        for left, right, kept_columns in _spans(width, cell, stride, across):
            out = net(pictures.to_input(picture[None, top:bottom, left:right]))
            both = np.concatenate([out["cls"][0, -1:], out["bbox"][0]])
            row.append(both[:, :kept_rows, :kept_columns])
        rows.append(np.concatenate(row, axis=2))
    both = np.concatenate(rows, axis=1)
    return both[0], both[1:]


def suppress_on_grid(
    prob: Array, threshold: float, cell: int, stride: int, overlap: float
) -> tuple[Array, Array]:
    """Greedy non-maximum suppression among the windows of a map (h, w): rows and columns of those
    kept, best first. The same as facelet.boxes.nms of the windows with a score over `threshold`,
    but neighbours are found by where they are.

    overlap -- greatest IoU of two windows kept
    """
    rows, columns = np.nonzero(prob > threshold)
    if not len(rows):
        return rows, columns
    reach = (cell - 1) // stride
    aside = np.maximum(cell - stride * np.abs(np.arange(-reach, reach + 1)), 0)
    shared = aside[:, None] * aside[None, :]
    near = (shared > overlap * (2 * cell**2 - shared)).astype(np.uint8)
    near[reach, reach] = 1  # itself, even where no overlap is too much
    order = np.argsort(-prob[rows, columns], kind="stable")
    rank = np.zeros(prob.shape, np.float32)
    rank[rows[order], columns[order]] = np.arange(len(order), 0, -1)
    place, kept = rank.copy(), np.zeros(prob.shape, bool)
    while True:  # all that no neighbour in play is better than are kept at once
        best = (rank > 0) & (rank == cv2.dilate(rank, near))
        if not best.any():
            break
        kept |= best
        rank[cv2.dilate(best.astype(np.uint8), near) > 0] = 0
    rows, columns = np.nonzero(kept)
    order = np.argsort(-place[rows, columns])
    return rows[order], columns[order]


def propose(
    picture: Pixels, net: Run, cell: int, stride: int, settings: Settings
) -> tuple[Floats, Floats, Floats]:
    """Boxes that a Pnet proposes.

    picture -- uint8 (H, W, 3) BGR; net, cell, stride -- see maps(); settings -- see
        facelet.settings

    Returns boxes (N, 4) float32, scores (N,) float32 and the windows (N, 4) float32 that they
    come from, best first; nothing in each when there is nothing. Boxes may reach over the border
    of the picture.
    """
    height, width = picture.shape[:2]
    found = [(np.zeros((0, 4), np.float32), np.zeros(0, np.float32), np.zeros((0, 4), np.float32))]
    for scale in scales(width, height, cell, settings.min_face, settings.factor):
        scaled_width, scaled_height = int(width * scale), int(height * scale)
        scaled = pictures.resize(picture, scaled_width, scaled_height)
        prob, offsets = maps(scaled, net, cell, stride)
        # Suppressed as windows, moved to the face only afterwards: windows of one scale lie on
        # a grid, so their overlap tells neighbours apart.
        rows, columns = suppress_on_grid(
            prob, settings.thresholds[0], cell, stride, settings.nms_scale
        )
        windows = window_boxes(
            rows, columns, cell, stride, scaled_width / width, scaled_height / height
        )
        found.append(
            (
                geometry.apply_offsets(windows, offsets[:, rows, columns].T),
                prob[rows, columns],
                windows,
            )
        )
    boxes, scores, windows = map(np.concatenate, zip(*found))
    whole = geometry.whole(boxes)
    boxes, scores, windows = boxes[whole], scores[whole], windows[whole]
    kept = geometry.nms(boxes, scores, settings.nms[0])
    return boxes[kept], scores[kept], windows[kept]


def run_on_crops(
    picture: Pixels, squares: Array, net: Run, size: int, mirror: bool = False
) -> Optional[dict[str, Floats]]:
    """Outputs of a net on squares of a picture.

    squares -- (N, 4), whole numbers; what lies outside the picture is black
    net -- function of an input (n, 3, size, size) giving outputs by task
    mirror -- whether "cls" and "bbox" are means over a square and its mirror image

    Returns outputs (N, ...) by task, None when N is 0.
    """
    parts: list[Mapping[str, Floats]] = []
    for start in range(0, len(squares), CROPS_AT_ONCE):
        crops = pictures.crops(picture, squares[start : start + CROPS_AT_ONCE], size)
        batch = max(1, BATCH_PIXELS // size**2)
        for some in (crops[i : i + batch] for i in range(0, len(crops), batch)):
            out = net(pictures.to_input(some))
            if mirror:
                other = net(pictures.to_input(some[:, :, ::-1]))
                bbox = geometry.flip_offsets(other["bbox"])
                out = {
                    **out,
                    "cls": (out["cls"] + other["cls"]) / 2,
                    "bbox": (out["bbox"] + bbox) / 2,
                }
            parts.append(out)
    return (
        {task: np.concatenate([part[task] for part in parts]) for task in parts[0]}
        if parts
        else None
    )

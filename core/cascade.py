"""The stages of the detector as pure functions on arrays; nets come in as functions.

Boxes are x1 y1 x2 y2 in continuous pixel coordinates of the picture, float32 (see core.boxes).
"""
import numpy as np

from core import boxes as geometry
from core import picture as pictures


def scales(width, height, cell, min_face, factor):
    """Factors to resize a picture by, so that a net with a window of `cell` pixels meets faces
    from min_face pixels on: the first makes such a face as large as the window, each next is
    `factor` times smaller, down to the window itself. At least one where the picture is no
    smaller than the window at that factor."""
    found, scale = [], cell / min_face
    while min(int(width * scale), int(height * scale)) >= cell:
        found.append(scale)
        scale *= factor
    return found


def window_boxes(rows, columns, cell, stride, scale_x, scale_y):
    """The windows of a fully convolutional net's outputs, in the unscaled picture: (N, 4)."""
    x1, y1 = columns * stride, rows * stride
    return np.stack([x1 / scale_x, y1 / scale_y, (x1 + cell) / scale_x, (y1 + cell) / scale_y],
                    axis=1).astype(np.float32)


def propose(picture, net, cell, stride, settings):
    """Boxes that a Pnet proposes.

    picture -- uint8 (H, W, 3) BGR
    net -- function of an input (1, 3, h, w): face probabilities (h', w'), offsets (4, h', w')
    settings -- as config.detect

    Returns boxes (N, 4) float32 and scores (N,) float32, best first; (0, 4) and (0,) when there
    is nothing. Boxes may reach over the border of the picture.
    """
    height, width = picture.shape[:2]
    all_boxes, all_scores = [], []
    for scale in scales(width, height, cell, settings.min_face, settings.factor):
        scaled_width, scaled_height = int(width * scale), int(height * scale)
        scaled = pictures.resize(picture, scaled_width, scaled_height)
        prob, offsets = net(pictures.to_input(scaled[None]))
        rows, columns = np.nonzero(prob > settings.threshold)
        windows = window_boxes(rows, columns, cell, stride, scaled_width / width,
                               scaled_height / height)
        scores = prob[rows, columns].astype(np.float32)
        # Suppressed as windows, moved to the face only afterwards: windows of one scale lie on
        # a grid, so their overlap tells neighbours apart.
        kept = geometry.nms(windows, scores, settings.nms_scale)
        all_boxes.append(geometry.apply_offsets(
            windows[kept], offsets[:, rows[kept], columns[kept]].T.astype(np.float32)))
        all_scores.append(scores[kept])
    if not all_boxes:
        return np.zeros((0, 4), np.float32), np.zeros(0, np.float32)
    boxes, scores = np.concatenate(all_boxes), np.concatenate(all_scores)
    kept = geometry.nms(boxes, scores, settings.nms_all)
    boxes, scores = boxes[kept], scores[kept]
    whole = (boxes[:, 2] > boxes[:, 0]) & (boxes[:, 3] > boxes[:, 1])
    return boxes[whole], scores[whole]


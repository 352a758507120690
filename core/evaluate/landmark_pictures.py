"""Pictures of faces with the points that a net predicts and the true ones."""

import cv2
import numpy as np

from facelet import draw
from facelet import picture as pictures
from prepare_data import face_crop

COLUMNS, CELL = 6, 240  # of the grid of faces
FEW = 20  # points that are drawn a little larger
SHOWN = 12  # faces of each kind in a net's picture
LEGEND = "green: the true points; red: the net's; yellow: from one to the other"


def sheet(path, parts, legend=()):
    """Write parts of faces, one below the other, as one picture.

    parts -- [(title, crops, truth, found, words)] with crops uint8 (N, S, S, 3), the points truth
        and found (N, P, 2) in crop sides, and words on each face
    legend -- further lines at the top
    """
    rows = []
    for title, crops, truth, found, words in parts:
        tiles = [face(*one) for one in zip(crops, truth, found, words)]
        faces = (
            draw.grid(tiles, COLUMNS, CELL) if tiles else np.zeros((0, COLUMNS * CELL, 3), np.uint8)
        )
        rows.append(draw.headed([title], faces))
    pictures.write(path, draw.headed([LEGEND, *legend], np.vstack(rows)))


def face(crop, truth, found, words):
    """A crop uint8 (S, S, 3) as a tile of CELL pixels with both sets of points (P, 2), in crop
    sides."""
    tile = cv2.resize(
        crop, (CELL, CELL), interpolation=cv2.INTER_CUBIC if len(crop) < CELL else cv2.INTER_AREA
    )
    # Places count from the first pixel's corner, drawn ones from its centre.
    truth, found = truth * CELL - 0.5, found * CELL - 0.5
    for start, end in zip(np.round(truth).astype(int), np.round(found).astype(int)):
        cv2.line(tile, start.tolist(), end.tolist(), draw.YELLOW, 1, cv2.LINE_AA)
    radius = 3 if len(truth) <= FEW else 2
    for points, color in ((truth, draw.GREEN), (found, draw.RED)):
        for x, y in np.round(points).astype(int).tolist():
            cv2.circle(tile, (x, y), radius, color, cv2.FILLED, cv2.LINE_AA)
    draw.text(tile, words, 4, CELL - 6)
    cv2.rectangle(tile, (0, 0), (CELL - 1, CELL - 1), draw.BACKGROUND, 2)
    return tile


def worst(dataset, title, rule, comparison, predicted, errors, path):
    """Write the picture of a net's worst faces, and of those in the middle.

    dataset -- a core.evaluate.landmark_figures.EvaluationSet; title -- of the net; rule -- of its
    crops; comparison -- of its points with the true ones; predicted -- its points in exact crops of
    all faces, (N, P, 2) in crop sides; errors -- their Errors
    """
    size_rule, values = next(iter(errors.by_rule.items()))
    values = values[0].mean(axis=1)
    order = np.argsort(-np.nan_to_num(values), kind="stable")
    middle = max(0, len(order) // 2 - SHOWN // 2)
    parts = []
    for kind, chosen in (
        ("worst", order[:SHOWN]),
        ("in the middle", order[middle : middle + SHOWN]),
    ):
        indices = dataset.indices[chosen]
        squares = dataset.squares(indices, rule)
        crops = np.stack(
            [
                face_crop.crop(dataset.faces.read(index), square, 0, CELL)
                for index, square in zip(indices.tolist(), squares)
            ]
        )
        parts.append(
            (
                f"{kind}: {len(chosen)} of {len(values):,} faces",
                crops,
                comparison.of_truth(dataset.truth(indices, squares)),
                comparison.of_net(predicted[chosen]),
                [f"{value:.4f}" for value in values[chosen]],
            )
        )
    sheet(path, parts, [f"{title}, crops {rule}; errors by {size_rule}, exact boxes"])

"""A picture of what is in a store: samples by kind, with their boxes or points drawn."""

import cv2
import numpy as np

from facelet import boxes as geometry
from facelet import picture as pictures
from prepare_data.store import KINDS

TILE = 72  # side a sample is drawn at, pixels
MARGIN = 18  # room around it, as boxes reach out
COLUMNS, ROWS = 16, 3  # per kind
TITLE = 26
GREEN, WHITE, BACKGROUND = (60, 220, 60), (255, 255, 255), (40, 40, 40)
FIRST, LAST = (60, 60, 255), (60, 255, 255)  # points, fading from red to yellow in their order


def _tile(crop, offsets=None, points=None):
    """One sample on a dark ground; offsets (4,) of its face and its points (P, 2) where it has
    them."""
    cell = TILE + 2 * MARGIN
    tile = np.full((cell, cell, 3), BACKGROUND, np.uint8)
    tile[MARGIN:-MARGIN, MARGIN:-MARGIN] = cv2.resize(
        crop, (TILE, TILE), interpolation=cv2.INTER_NEAREST
    )
    if offsets is not None:
        whole = np.array([[MARGIN, MARGIN, MARGIN + TILE, MARGIN + TILE]], np.float32)
        x1, y1, x2, y2 = (
            int(round(v)) for v in geometry.apply_offsets(whole, offsets[None])[0].tolist()
        )
        cv2.rectangle(tile, (x1, y1), (x2 - 1, y2 - 1), GREEN, 1)
    if points is not None:
        places = np.round((MARGIN + points * TILE - 0.5) * 16).astype(int)
        for (x, y), part in zip(places.tolist(), np.linspace(0, 1, len(points))):
            colour = np.add(FIRST, np.subtract(LAST, FIRST) * part).tolist()
            cv2.circle(tile, (x, y), 24, colour, -1, cv2.LINE_AA, 4)
    return tile


def draw(store, path, seed=0):
    """Write the mosaic of a Store to a picture file: rows of samples drawn at random for each
    kind, the labelled face's box in green (it may reach out of its crop), landmark samples with
    their points."""
    rng = np.random.default_rng(seed)
    bands = []
    for kind in store.facts["counts"]:
        label = KINDS[kind]
        indices = np.flatnonzero(store.labels == label)
        total = len(indices)
        indices = rng.permutation(indices)[: COLUMNS * ROWS]
        tiles = [
            _tile(store.crops[i], points=store.landmarks[i])
            if kind == "landmark"
            else _tile(store.crops[i], store.offsets[i] if label else None)
            for i in indices
        ]
        cell = TILE + 2 * MARGIN
        tiles += [np.full((cell, cell, 3), BACKGROUND, np.uint8)] * (COLUMNS * ROWS - len(tiles))
        title = np.zeros((TITLE, COLUMNS * cell, 3), np.uint8)
        cv2.putText(
            title,
            f"{kind}: {total:,} of {store.size} px",
            (6, TITLE - 8),
            cv2.FONT_HERSHEY_SIMPLEX,
            0.55,
            WHITE,
            1,
            cv2.LINE_AA,
        )
        bands.append(title)
        bands.extend(
            np.hstack(tiles[row * COLUMNS : (row + 1) * COLUMNS])
            for row in range(ROWS if total else 0)
        )
    pictures.write(path, np.vstack(bands))

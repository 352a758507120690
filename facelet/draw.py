"""Boxes and points drawn on pictures."""

from collections.abc import Iterable, Sequence
from typing import Optional

import cv2
import numpy as np

from facelet import schemes
from facelet.arrays import Array, Pixels

Colour = tuple[int, int, int]  # blue, green, red

GREEN, YELLOW, RED, GRAY = (60, 220, 60), (40, 220, 250), (60, 60, 255), (170, 170, 170)
BACKGROUND, LINE = (40, 40, 40), 22  # of what surrounds pictures; height of a line of words, px
ROOM_FOR_SCORE = 28  # width in pixels from which a box has its score above it
SHIFT = 4  # bits of a pixel's parts, in OpenCV's coordinates
SUBPIXELS = 1 << SHIFT
POINTS_PER_SPREAD = 25  # how many radii of a point make the spread of five points
SPREAD_PER_LINE = 250  # spread of points per pixel of the width of the lines that join them


def boxes(
    picture: Pixels, found: Array, color: Colour, thickness: int = 1, scores: Optional[Array] = None
) -> None:
    """Draw boxes (N, 4) on a picture in place; if given, the score of each that is wide enough
    to have it above."""
    for i, box in enumerate(np.round(found).astype(int)):
        x1, y1, x2, y2 = box.tolist()
        cv2.rectangle(picture, (x1, y1), (x2 - 1, y2 - 1), color, thickness)
        if scores is not None and x2 - x1 >= ROOM_FOR_SCORE:
            cv2.putText(
                picture,
                f"{scores[i]:.2f}",
                (x1, max(y1 - 3, 9)),
                cv2.FONT_HERSHEY_SIMPLEX,
                0.35,
                color,
                1,
                cv2.LINE_AA,
            )


def text(
    picture: Pixels,
    words: str,
    x: int,
    y: int,
    color: Colour = (255, 255, 255),
    scale: float = 0.45,
) -> None:
    """Write words on a picture in place, in letters with a dark edge, from (x, y) to the right."""
    for ink, thickness in ((BACKGROUND, 3), (color, 1)):
        cv2.putText(
            picture, words, (x, y), cv2.FONT_HERSHEY_SIMPLEX, scale, ink, thickness, cv2.LINE_AA
        )


def headed(lines: Sequence[str], picture: Pixels) -> Pixels:
    """A picture with lines of words above it."""
    strip = np.full((LINE * len(lines) + 8, picture.shape[1], 3), BACKGROUND, np.uint8)
    for i, line in enumerate(lines):
        text(strip, line, 8, LINE * (i + 1) - 4)
    return np.vstack([strip, picture])


def points(picture: Pixels, found: Array, color: Colour) -> None:
    """Draw points (N, P, 2), (0, 0) being the centre of the first pixel, on a picture in place, as
    dots that grow with how far the P points spread, and are smaller where there are many."""
    for one in found:
        _dots(picture, one, [color] * len(one))


def landmarks(picture: Pixels, found: Array, scheme: Optional[str]) -> None:
    """As points(), in the colours of a scheme's groups (facelet.schemes) and with its lines;
    yellow, and without lines, where the scheme is None."""
    if scheme is None:
        points(picture, found, YELLOW)
        return
    order = schemes.get(scheme)
    colours = order.point_colours
    for one in found:
        places = np.round(one * SUBPIXELS).astype(np.int32)
        thickness = max(1, round(float(np.ptp(one, axis=0).max()) / SPREAD_PER_LINE))
        for line in order.lines:
            cv2.polylines(
                picture, [places[line]], False, colours[line[0]], thickness, cv2.LINE_AA, SHIFT
            )
        _dots(picture, one, colours)


def _dots(picture: Pixels, one: Array, colours: Sequence[Colour]) -> None:
    radius = max(
        1,
        round(float(np.ptp(one, axis=0).max()) / (POINTS_PER_SPREAD * max(1, len(one) / 5) ** 0.5)),
    )
    for (x, y), colour in zip(np.round(one).astype(int).tolist(), colours):
        cv2.circle(picture, (x, y), radius, colour, cv2.FILLED, cv2.LINE_AA)


def grid(
    pictures: Iterable[Pixels], columns: int, cell: int, background: Colour = BACKGROUND
) -> Pixels:
    """Pictures of any sizes, each fitted into a cell x cell square, as one picture."""
    tiles = []
    for picture in pictures:
        scale = cell / max(picture.shape[:2])
        size = [max(1, round(side * scale)) for side in picture.shape[1::-1]]
        tile = np.full((cell, cell, 3), background, np.uint8)
        small = cv2.resize(picture, size, interpolation=cv2.INTER_AREA)
        tile[: small.shape[0], : small.shape[1]] = small
        tiles.append(tile)
    tiles += [np.full((cell, cell, 3), background, np.uint8)] * (-len(tiles) % columns)
    return np.vstack([np.hstack(tiles[i : i + columns]) for i in range(0, len(tiles), columns)])

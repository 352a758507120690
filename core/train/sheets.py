"""Pictures of what nets are trained on and of what they predict: samples of landmark nets with
their points, bodies with joints and heat maps."""

import cv2
import numpy as np

from config import config
from core.train.heatmaps import decode, inside
from facelet import draw, schemes
from facelet import picture as pictures

COLUMNS, ROWS, TILE, GAP, TITLE = 10, 6, 128, 4, 28  # of a sheet of faces: samples, px
BODIES, BODIES_IN_A_ROW, BODY_TILE = 24, 6, 168  # of a sheet of bodies: how many; px of a crop
DRAWN_FROM = 0.3  # height of a map's peak from which its joint is drawn


def samples_of(batches, count, target, batches_at_most):
    """The first `count` samples that batches make, as the net sees them, fewer if so many batches
    have no more: crops, uint8 (S, S, 3), and what stands for each in the array `target`."""
    crops, targets, number = [], [], 0
    while len(crops) < count and number < batches_at_most:
        batch, number = batches.make(number), number + 1
        values = batch["data"].transpose(0, 2, 3, 1) / config.input.scale + config.input.mean
        crops += list(np.clip(np.round(values), 0, 255).astype(np.uint8))
        targets += list(batch[target])
    return np.stack(crops[:count]), np.stack(targets[:count])


def landmark_samples(batches, path):
    """Write a picture of the first samples that a LandmarkBatches makes, with their points."""
    count = COLUMNS * ROWS
    crops, targets = samples_of(batches, count, "landmark_target", count)
    colours = schemes.get(batches.scheme).point_colours
    cell = TILE + GAP
    sheet = np.full((TITLE + ROWS * cell, COLUMNS * cell, 3), 40, np.uint8)
    cv2.putText(
        sheet,
        f"{batches.size} px, {batches.points} points; crop.box={batches.crop.box}",
        (6, TITLE - 9),
        cv2.FONT_HERSHEY_SIMPLEX,
        0.55,
        (255, 255, 255),
        1,
        cv2.LINE_AA,
    )
    for at, (crop, points) in enumerate(zip(crops, schemes.unpack(targets))):
        row, column = divmod(at, COLUMNS)
        tile = cv2.resize(crop, (TILE, TILE), interpolation=cv2.INTER_LINEAR)
        radius = 2 * 16 if batches.points <= 14 else 20
        for (x, y), colour in zip(
            np.round((points * TILE - 0.5) * 16).astype(int).tolist(), colours
        ):
            cv2.circle(tile, (x, y), radius, colour, -1, cv2.LINE_AA, 4)
        top, left = TITLE + row * cell, column * cell
        sheet[top : top + TILE, left : left + TILE] = tile
    pictures.write(path, sheet)


def skeleton(picture, joints, there, scheme, colour=None):
    """Draw those of joints (P, 2), in units of the picture's side, that are there, (P,) bool, and
    the lines between them, in place; in the colours of the scheme's groups if none is given."""
    found = schemes.get(scheme)
    colours = [colour] * found.points if colour else found.point_colours
    places = np.round((joints * len(picture) - 0.5) * draw.SUBPIXELS).astype(np.int32).tolist()
    for line in found.lines:
        for one, other in zip(line, line[1:]):
            if there[one] and there[other]:
                cv2.line(
                    picture, places[one], places[other], colours[other], 1, cv2.LINE_AA, draw.SHIFT
                )
    for place in np.flatnonzero(there):
        cv2.circle(
            picture,
            places[place],
            3 * draw.SUBPIXELS,
            colours[place],
            cv2.FILLED,
            cv2.LINE_AA,
            draw.SHIFT,
        )


def heat_maps(crops, values, layout, scheme, path, truth=None):
    """Write a picture of crops (N, S, S, 3) with the joints that maps (N, numbers) show and, if
    given, the true ones (N, P, 2) in white; right of each, its joints' maps as light on it."""
    stages, maps, side = layout
    last = values.reshape(-1, stages, maps, side, side)[:, -1, :-1]
    joints, heights = decode(values, layout)
    tiles = []
    for i, crop in enumerate(crops):
        left = cv2.resize(crop, (BODY_TILE, BODY_TILE), interpolation=cv2.INTER_LINEAR)
        light = np.clip(cv2.resize(last[i].max(axis=0), (BODY_TILE, BODY_TILE)), 0, 1)
        right = left // 3 + np.multiply.outer(light, (60, 170, 170)).astype(np.uint8)
        if truth is not None:
            skeleton(left, truth[i], inside(truth[i]), scheme, (255, 255, 255))
        skeleton(left, joints[i], heights[i] >= DRAWN_FROM, scheme)
        tiles.append(np.hstack([left, right]))
    tiles += [np.zeros_like(tiles[0])] * (-len(tiles) % BODIES_IN_A_ROW)
    starts = range(0, len(tiles), BODIES_IN_A_ROW)
    pictures.write(path, np.vstack([np.hstack(tiles[i : i + BODIES_IN_A_ROW]) for i in starts]))

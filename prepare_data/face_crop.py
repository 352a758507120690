"""Squares about faces with landmark points: which are cut, how they are turned, and where the
points lie in them.

Points and squares are in continuous coordinates of the picture: (0, 0) is the first corner of the
first pixel, (0.5, 0.5) its centre. Crops are turned clockwise, as seen on the screen, about their
own centres; places in them are in units of their side, (0, 0) their first corner.
"""

import cv2
import numpy as np

from facelet import schemes
from facelet.console import Problem

FIRST_TRIES, MOST_TRIES = 4, 128  # draws for a face at a time
ANGLE_STEP = 2.5  # degrees between the angles by which it is measured how far crops reach
WARP_LIMIT = 32_767  # rows and columns that cv2.warpAffine can't reach
CORNERS = np.array([[0, 0], [1, 0], [0, 1], [1, 1]], float)


def rotation(degrees):
    """(N,) -> (N, 2, 2): turns clockwise as seen on the screen, y pointing down."""
    angle = np.radians(degrees)
    return np.stack([np.cos(angle), -np.sin(angle), np.sin(angle), np.cos(angle)], axis=-1).reshape(
        -1, 2, 2
    )


def to_picture(squares, degrees, places):
    """Places (M, 2) or (N, M, 2) in crops as coordinates (N, M, 2) in the picture, for squares
    (N, 4) that are turned by degrees (N,)."""
    side = (squares[:, 2] - squares[:, 0])[:, None, None]
    centre = (squares[:, None, :2] + squares[:, None, 2:]) / 2
    return centre + side * ((places - 0.5) @ rotation(degrees).transpose(0, 2, 1))


def to_crop(squares, degrees, places):
    """The inverse of to_picture(), for places (M, 2) or (N, M, 2) in the picture: (N, M, 2)."""
    side = (squares[:, 2] - squares[:, 0])[:, None, None]
    centre = (squares[:, None, :2] + squares[:, None, 2:]) / 2
    return ((places - centre) @ rotation(degrees)) / side + 0.5


def matrices(squares, degrees, size, mirrored=None):
    """What warp() takes for crops of size x size pixels: (N, 2, 3) float64, from centres of a
    crop's pixels to centres of the picture's; mirrored (N,) bool: which are to be mirror images."""
    origin, right, below = to_picture(squares, degrees, CORNERS[:3]).transpose(1, 0, 2)
    if mirrored is not None:
        swap = mirrored[:, None]
        origin, right, below = (
            np.where(swap, right, origin),
            np.where(swap, origin, right),
            np.where(swap, below + right - origin, below),
        )
    columns = np.stack([right - origin, below - origin], axis=2) / size
    shift = origin + columns.sum(axis=2) / 2 - 0.5
    return np.concatenate([columns, shift[:, :, None]], axis=2)


def warp(picture, matrix, size, out=None):
    """The crop of size x size pixels that a matrix of matrices() takes out of a picture, into `out`
    if there is one; what lies outside of the picture is black."""
    if max(picture.shape[:2]) >= WARP_LIMIT:
        corners = CORNERS * size - 0.5
        reached = corners @ matrix[:, :2].T + matrix[:, 2]
        height, width = picture.shape[:2]
        low = np.clip(np.floor(reached.min(axis=0)).astype(int) - 1, 0, (width, height))
        high = np.clip(np.ceil(reached.max(axis=0)).astype(int) + 2, 0, (width, height))
        picture = picture[low[1] : high[1], low[0] : high[0]]
        if not picture.size:
            picture = np.zeros((1, 1, 3), np.uint8)
        matrix = matrix - np.column_stack([np.zeros((2, 2)), low])
    return cv2.warpAffine(
        picture,
        matrix,
        (size, size),
        dst=out,
        flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
        borderMode=cv2.BORDER_CONSTANT,
    )


def crop(picture, square, degrees, size):
    """The crop of a square (4,) of a picture, as warp()."""
    return warp(picture, matrices(square[None], np.array([degrees]), size)[0], size)


def _middle(points, scheme):
    """Mean of eyes and corners of the mouth of faces (N, P, 2), or of all points where the scheme
    doesn't say which these are: (N, 2)."""
    places = schemes.get(scheme).places
    rows = [
        places.get(name)
        for name in (
            "left eye",
            "right eye",
            "left corner of the mouth",
            "right corner of the mouth",
        )
    ]
    if None in rows:
        return points.mean(axis=1)
    return np.mean([points[:, row].mean(axis=1) for row in rows], axis=0)


def boxes_of(points, listed, rule, scheme):
    """The boxes that crops of faces are cut around: centres (N, 2) and sides (N,), for points
    (N, P, 2), the boxes of their list (N, 4), NaN where it has none, and a rule of config.crop.box.
    Without a box of the list, a detector's stands in for it. Raises Problem for a scheme that
    doesn't say where a detector's boxes are."""
    points = points.astype(np.float64)
    if rule == "bounds":
        low, high = points.min(axis=1), points.max(axis=1)
        return (low + high) / 2, (high - low).max(axis=1)
    centre, side = np.full((len(points), 2), np.nan), np.full(len(points), np.nan)
    if rule in ("list", "half"):
        low, high = listed[:, :2].astype(np.float64), listed[:, 2:].astype(np.float64)
        centre, side = (low + high) / 2, (high - low).max(axis=1)
        if rule == "half":
            middle = _middle(points, scheme)
            side = (np.abs(low - middle) + np.abs(high - middle)).sum(axis=1) / 4
    unlisted = np.isnan(side)
    if unlisted.any():
        row = schemes.get(scheme).box
        if row is None:
            raise Problem(
                f"the scheme {scheme!r} doesn't say where a detector's boxes are, and "
                f"crop.box={rule} asks for them: take crop.box=bounds"
            )
        mean = points[unlisted].mean(axis=1)
        spread = np.sqrt(((points[unlisted] - mean[:, None]) ** 2).sum(axis=2).mean(axis=1))
        side[unlisted] = row[0] * spread * (0.5 if rule == "half" else 1)
        centre[unlisted] = mean - row[1] * (row[0] * spread)[:, None] * (0, 1)
    if rule == "half":
        centre = _middle(points, scheme)
    return centre, side


def plain(points, listed, settings, scheme, rng=None, jitter=None):
    """Squares (N, 4) about the boxes of faces, as boxes_of(), of settings.plain sides, neither
    turned nor moved; with a Generator, jittered: jitter is the scatter (one standard deviation) of
    the logarithm of the side, and of the centre in x and in y, in sides of the box."""
    centre, side = boxes_of(points, listed, settings.box, scheme)
    half = side[:, None] * settings.plain / 2
    if rng is not None:
        draws = rng.standard_normal((len(points), 3)) * jitter
        centre = centre + side[:, None] * draws[:, 1:]
        half = half * np.exp(draws[:, :1])
    return np.concatenate([centre - half, centre + half], axis=1)


def _uprights(points, scheme):
    """Degrees that faces (N, P, 2) are turned by: (N,)."""
    found = schemes.get(scheme)
    mouth = [found.places.get(f"{side} corner of the mouth") for side in ("left", "right")]
    if found.eyes is None or None in mouth:
        raise Problem(
            f"the scheme {scheme!r} has no eyes or no mouth, and crop.upright goes by them"
        )
    eyes, mouth = (
        np.mean([points[:, row].mean(axis=1) for row in rows], axis=0)
        for rows in (found.eyes, mouth)
    )
    x, y = (mouth - eyes).T
    return np.degrees(np.arctan2(-x, y))


class _Faces:
    """What draws need to know of faces: points (N, P, 2), boxes of their list (N, 4)."""

    def __init__(self, points, listed, settings, scheme):
        points = points.astype(np.float64)
        self.settings = settings
        self.angle = _uprights(points, scheme) if settings.upright else np.zeros(len(points))
        # About which they are turned, and from which the rest is measured.
        self.anchor, self.side = boxes_of(points, listed, settings.box, scheme)
        if settings.nose:
            places = schemes.get(scheme).places
            if "nose tip" not in places:
                raise Problem(
                    f"the scheme {scheme!r} has no nose, and crop.nose asks for it: crop.nose=False"
                )
            nose = points[:, places["nose tip"]].mean(axis=1)
            mirrored = 2 * _middle(points, scheme) - nose
            points = np.concatenate([points, mirrored[:, None]], axis=1)
        self.offsets = points - self.anchor[:, None]

    def turned(self, rows, degrees):
        """Some faces as crops turned by degrees (N, K) have them: least and greatest x and y of
        their points (2, N, K), and their boxes' centres, likewise, and sides (N, K)."""
        cos, sin = np.cos(np.radians(degrees))[..., None], np.sin(np.radians(degrees))[..., None]
        x, y = self.offsets[rows].transpose(2, 0, 1)[:, :, None]
        x, y = x * cos + y * sin, y * cos - x * sin
        low = np.stack([x.min(axis=2), y.min(axis=2)])
        high = np.stack([x.max(axis=2), y.max(axis=2)])
        if self.settings.box == "bounds":  # those of the turned points
            return low, high, (low + high) / 2, (high - low).max(axis=0)
        return low, high, np.zeros_like(low), np.broadcast_to(self.side[rows, None], degrees.shape)

    def draw(self, rows, count, rng):
        """`count` draws for each of some faces: which of them were accepted (N,), and squares
        (N, 4) and degrees (N,), of use for these alone."""
        settings, shape = self.settings, (len(rows), count)
        degrees = self.angle[rows, None] + rng.uniform(-settings.angle, settings.angle, shape)
        low, high, centre, box_side = self.turned(rows, degrees)
        side = box_side * rng.uniform(*settings.scale, shape)
        centre = centre + box_side * rng.uniform(-settings.shift, settings.shift, (2, *shape))
        first, last = (
            np.reshape(pair, (2, 1, 1)) for pair in (settings.margin[:2], settings.margin[2:])
        )
        good = (
            (low - centre >= (first - 0.5) * side) & (centre - high >= (last - 0.5) * side)
        ).all(axis=0)
        good &= ((high - low) ** 2).sum(axis=0) >= settings.spread * side**2
        best = np.arange(len(rows)), good.argmax(axis=1)
        degrees, half = degrees[best], side[best][:, None] / 2
        centre = (rotation(degrees) @ centre[:, best[0], best[1]].T[..., None])[..., 0]
        centre += self.anchor[rows]
        return good[best], np.concatenate([centre - half, centre + half], axis=1), degrees


def draw(points, listed, settings, scheme, rng):
    """Crops for training: squares (N, 4) and degrees (N,) of faces with points (N, P, 2) and boxes
    of their list (N, 4), NaN where it has none, by config.crop. A face that settings.tries draws
    don't suit gets its plain() crop. Raises Problem for settings that the scheme can't follow."""
    faces = _Faces(points, listed, settings, scheme)
    squares, degrees = plain(points, listed, settings, scheme), np.zeros(len(points))
    left, count, tries = np.arange(len(points)), FIRST_TRIES, settings.tries
    while len(left) and tries:
        count = min(count, tries)
        accepted, found, angles = faces.draw(left, count, rng)
        squares[left[accepted]], degrees[left[accepted]] = found[accepted], angles[accepted]
        left, tries, count = left[~accepted], tries - count, min(2 * count, MOST_TRIES)
    return squares, degrees


def reach(points, listed, settings, scheme):
    """How far crops of faces may reach from their boxes' centres (N, 2): these, and px (N,)."""
    faces = _Faces(points, listed, settings, scheme)
    steps = max(1, int(np.ceil(settings.angle / ANGLE_STEP)))
    degrees = faces.angle[:, None] + np.linspace(-settings.angle, settings.angle, 2 * steps + 1)
    low, high, centre, box_side = faces.turned(np.arange(len(points)), degrees)
    side = box_side * settings.scale[1]
    if settings.spread:
        side = np.minimum(side, np.hypot(*(high - low)) / np.sqrt(settings.spread))
    moved = np.hypot(*centre) + box_side * settings.shift * np.sqrt(2)
    reached = (moved + side / np.sqrt(2)).max(axis=1)
    return faces.anchor, np.maximum(reached, faces.side * settings.plain / np.sqrt(2))

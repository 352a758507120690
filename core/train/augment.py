"""Pixel augmentation of whole batches, straight to what a net takes in; and before, what makes
photographs of faces hard: blur, occlusion, few pixels, compression, light.

As train-mtcnn's with a fault mended: brightness, then grey or a colour cast, then noise. (There the
flags for grey and colour are swapped, and each picture is augmented alone.) One pass makes
normalised float32 planes of uint8 pictures.
"""

import cv2
import numpy as np

from config import config

GRAY = np.array([0.114, 0.587, 0.299], np.float32)  # weights of B, G, R (ITU-R BT.601)
NOISE_TABLE = 1 << 20
CACHED = 1 << 17  # values worked on at a time
DOWN = (cv2.INTER_AREA, cv2.INTER_LINEAR, cv2.INTER_NEAREST)  # kernels of pictures made smaller ...
UP = (cv2.INTER_LINEAR, cv2.INTER_CUBIC, cv2.INTER_NEAREST)  # ... and larger
LEVELS = np.linspace(0, 1, 256)
BOXED = 5  # radius from which means over squares stand in for a Gaussian, px


class Augment:
    """Augments batches with the given config.augment; random numbers come with each call."""

    def __init__(self, settings, seed=0):
        self.settings = settings
        # Drawing normal numbers for every pixel costs more than all the rest: they are cut, at
        # a place drawn for each picture, from one long row.
        self.noise = np.random.default_rng([seed, 1]).standard_normal(NOISE_TABLE, dtype=np.float32)

    def __call__(self, crops, rng, out=None, rows=slice(None)):
        """crops (N, H, W, 3) uint8 BGR -> (N, 3, H, W) float32, (value - mean) * scale; in `out`
        if it is given; some `rows` of that, as they are in it, if these are."""
        settings, n, pixels = self.settings, len(crops), crops[0].size
        mean, scale = np.float32(config.input.mean), np.float32(config.input.scale)
        gains = rng.choice(np.array(settings.brightness, np.float32), n)[:, None]
        gray = rng.uniform(size=n) < settings.gray
        cast = rng.uniform(1 - settings.color, 1 + settings.color, (n, 3)).astype(np.float32)
        gains = np.where(gray[:, None], gains, gains * cast) * scale
        low, high = (0 - mean) * scale, (255 - mean) * scale
        least, most = settings.noise
        if most > 0:
            deviation = np.sqrt(rng.integers(least, most + 1, n)).astype(np.float32) * scale
            windows = np.lib.stride_tricks.sliding_window_view(self.noise, pixels)
            starts = rng.integers(0, len(windows), n)[rows]
            deviation = deviation[rows]
        crops, gains, gray = crops[rows], gains[rows], gray[rows]
        n = len(crops)
        if out is None:
            out = np.empty((n, 3, *crops.shape[1:3]), np.float32)
        # A few at a time, so that they stay in the processor's cache from step to step.
        step = max(1, CACHED // pixels)
        for some in (slice(begin, begin + step) for begin in range(0, n, step)):
            planes = out[some].reshape(len(crops[some]), 3, -1)
            np.multiply(
                crops[some].reshape(len(planes), -1, 3).transpose(0, 2, 1),
                gains[some, :, None],
                out=planes,
            )
            if gray[some].any():
                planes[gray[some]] = np.matmul(GRAY, planes[gray[some]])[:, None]
            planes -= mean * scale
            np.clip(planes, low, high, out=planes)
            if most > 0:
                noise = windows[starts[some]]
                noise *= deviation[some, None]
                planes += noise.reshape(planes.shape)
                np.clip(planes, low, high, out=planes)
        return out


def blur(crops, probability, largest, rng):
    """Blur some of crops (N, H, W, 3) uint8 in place, by Gaussians of 3 x 3 pixels up to a largest
    radius, each as likely, with the sigma that OpenCV gives to a kernel of that width."""
    chosen = np.flatnonzero(rng.uniform(size=len(crops)) < probability)
    for i, radius in zip(chosen, rng.integers(1, int(largest) + 1, len(chosen)).tolist()):
        if radius < BOXED:
            cv2.GaussianBlur(crops[i], (2 * radius + 1, 2 * radius + 1), 0, dst=crops[i])
        else:
            # Two means over squares of w pixels have the variance (w^2 - 1) / 6 and cost the same
            # for all w. (OpenCV's stackBlur gives other values with another number of threads.)
            sigma = 0.3 * (radius - 1) + 0.8
            half = ((6 * sigma**2 + 1) ** 0.5 - 1) / 2
            for width in (2 * int(half) + 1, 2 * round(half) + 1):
                cv2.blur(crops[i], (width, width), dst=crops[i])


def occlude(crops, probability, least, most, rng):
    """Cover some of crops (N, S, S, 3) uint8 in place by a patch from anywhere in another of them;
    its width and height are drawn between least and most, in sides of a crop."""
    n, size = crops.shape[:2]
    chosen = np.flatnonzero(rng.uniform(size=n) < probability)
    extents = np.maximum(np.round(rng.uniform(least, most, (len(chosen), 2)) * size), 1).astype(int)
    corners = (rng.uniform(size=(2, len(chosen), 2)) * (size + 1 - extents)).astype(int)
    others = (chosen + rng.integers(1, max(n, 2), len(chosen))) % n
    for i, other, (w, h), (x, y), (u, v) in zip(chosen, others, extents, *corners):
        crops[i, y : y + h, x : x + w] = crops[other, v : v + h, u : u + w]


def shrink(crops, probability, least, rng):
    """Take pixels away from some of crops (N, S, S, 3) uint8, in place: scaled down to a side drawn
    between `least` and 1 of theirs and up again, by kernels drawn for each way."""
    size = crops.shape[1]
    chosen = np.flatnonzero(rng.uniform(size=len(crops)) < probability)
    sides = np.maximum(np.round(rng.uniform(least, 1, len(chosen)) * size), 2).astype(int).tolist()
    downs, ups = rng.integers(0, len(DOWN), len(chosen)), rng.integers(0, len(UP), len(chosen))
    for i, side, down, up in zip(chosen, sides, downs, ups):
        small = cv2.resize(crops[i], (side, side), interpolation=DOWN[down])
        cv2.resize(small, (size, size), dst=crops[i], interpolation=UP[up])


def motion(crops, probability, longest, rng):
    """Blur some of crops (N, S, S, 3) uint8 in place along a straight line, of a direction drawn
    from all and a length drawn up to `longest` sides of a crop."""
    size = crops.shape[1]
    chosen = np.flatnonzero(rng.uniform(size=len(crops)) < probability)
    halves = rng.uniform(1, max(1, longest * size / 2), len(chosen))
    angles = rng.uniform(0, np.pi, len(chosen))
    for i, half, angle in zip(chosen, halves.tolist(), angles.tolist()):
        radius = int(np.ceil(half))
        places = np.arange(-radius, radius + 1)
        x, y = np.meshgrid(places, places)
        along = np.abs(x * np.cos(angle) + y * np.sin(angle))
        aside = np.abs(y * np.cos(angle) - x * np.sin(angle))
        kernel = np.clip(half + 0.5 - along, 0, 1) * np.clip(1 - aside, 0, 1)
        kernel = (kernel / kernel.sum()).astype(np.float32)
        cv2.filter2D(crops[i], -1, kernel, dst=crops[i])


def compress(crops, probability, lowest, rng):
    """Put some of crops (N, S, S, 3) uint8 through JPEG in place, of a quality drawn from `lowest`
    to 95."""
    chosen = np.flatnonzero(rng.uniform(size=len(crops)) < probability)
    for i, quality in zip(chosen, rng.integers(int(lowest), 96, len(chosen)).tolist()):
        coded = cv2.imencode(".jpg", crops[i], [cv2.IMWRITE_JPEG_QUALITY, quality])[1]
        crops[i] = cv2.imdecode(coded, cv2.IMREAD_COLOR)


def relight(crops, probability, most, rng):
    """Change the gamma of some of crops (N, S, S, 3) uint8 in place, by a factor drawn between
    1/most and most, each as likely as its inverse."""
    chosen = np.flatnonzero(rng.uniform(size=len(crops)) < probability)
    for i, power in zip(chosen, most ** rng.uniform(-1, 1, len(chosen))):
        cv2.LUT(crops[i], (255 * LEVELS**power).astype(np.uint8), dst=crops[i])


# By their keys in config.degrade, in the order in which light, things and cameras do it.
DEGRADE = {
    "gamma": relight,
    "occlusion": occlude,
    "motion": motion,
    "blur": blur,
    "shrink": shrink,
    "jpeg": compress,
}


def degrade(crops, settings, rng):
    """Make some of crops (N, S, S, 3) uint8 worse, in place, as config.degrade says."""
    for key, function in DEGRADE.items():
        probability, *rest = settings[key]
        if probability > 0:
            function(crops, probability, *rest, rng)

"""Pixel augmentation of whole batches, straight to what a net takes in.

The original's, put right: brightness, then grey or a colour cast, then noise. (There the flags for
grey and colour were crossed, and each picture was drawn alone.) One pass makes normalised float32
planes of uint8 pictures.
"""
import numpy as np

from config import config

GRAY = np.array([0.114, 0.587, 0.299], np.float32)  # weights of B, G, R (ITU-R BT.601)
NOISE_TABLE = 1 << 20


class Augment:
    """Augments batches with the given config.augment; random numbers come with each call."""

    def __init__(self, settings, seed=0):
        self.settings = settings
        # Drawing normal numbers for every pixel costs more than all the rest: they are cut, at
        # a place drawn for each picture, from one long row.
        self.noise = np.random.default_rng([seed, 1]).standard_normal(
            NOISE_TABLE, dtype=np.float32)

    def __call__(self, crops, rng):
        """crops (N, H, W, 3) uint8 BGR -> (N, 3, H, W) float32, (value - mean) * scale."""
        settings, n = self.settings, len(crops)
        mean, scale = np.float32(config.input.mean), np.float32(config.input.scale)
        planes = crops.transpose(0, 3, 1, 2).reshape(n, 3, -1)
        gains = rng.choice(np.array(settings.brightness, np.float32), n)[:, None]
        gray = rng.uniform(size=n) < settings.gray
        cast = rng.uniform(1 - settings.color, 1 + settings.color, (n, 3)).astype(np.float32)
        gains = np.where(gray[:, None], gains, gains * cast) * scale
        out = np.empty(planes.shape, np.float32)
        np.multiply(planes, gains[:, :, None], out=out)
        if gray.any():
            out[gray] = np.matmul(GRAY, out[gray])[:, None]
        out -= mean * scale
        low, high = (0 - mean) * scale, (255 - mean) * scale
        np.clip(out, low, high, out=out)
        least, most = settings.noise
        if most > 0:
            deviation = np.sqrt(rng.integers(least, most + 1, n)).astype(np.float32) * scale
            pixels = out[0].size
            windows = np.lib.stride_tricks.sliding_window_view(self.noise, pixels)
            noise = windows[rng.integers(0, len(windows), n)]
            noise *= deviation[:, None]
            out.reshape(n, -1)[...] += noise
            np.clip(out, low, high, out=out)
        return out.reshape(n, 3, *crops.shape[1:3])

"""Joints of bodies as heat maps: the maps that a net is to make, the joints that its maps show,
batches of crops with their maps, and figures.

A map is a square picture of one joint, high where the joint is. A net makes one for each joint and
one for the background, once for each of its stages; a layout, (stages, maps, side), says how its
numbers are cut up into maps. Places are in units of the crop's side: the pixel (0, 0) of a map has
its centre at 0.5 / side.
"""

from math import inf, isqrt

import numpy as np

from core.train.landmark_loader import LandmarkBatches
from facelet import schemes
from symbols import graph, zoo
from symbols.architectures import HEATMAP_STAGES

FLOOR = 1e-3  # of maps, below which a value says nothing of a peak's place
FLAT = 1e-6  # curvature at a peak below which it has no summit
FOUND_WITHIN = 0.1  # PCK: distance of a joint that is found, in larger sides of the joints' bounds


# ---- maps ----------------------------------------------------------------------------------


def layout_of(net, options):
    """The layout (stages, maps, side) of a heat-map net of the zoo with its options."""
    found, size = graph.describe(net, **options), zoo.spec(net).size
    (numbers,) = graph.shapes(found, size, size)[found.outputs["heatmap"]]
    maps = options.get("points", zoo.spec(net).points) + 1
    return HEATMAP_STAGES, maps, isqrt(numbers // (HEATMAP_STAGES * maps))


def inside(places):
    """Which places (..., 2) lie in the crop: (...,) bool."""
    return ((places >= 0) & (places < 1)).all(axis=-1)


def targets(joints, layout, sigma):
    """What the maps of joints (N, P, 2) should be: (N, numbers) float32.

    The map of a joint is exp(-d^2 / sigma^2), d being the distance from it in pixels of the map; of
    a joint out of the crop it is 0. That of the background is 1 less the highest of all others.
    """
    stages, maps, side = layout
    pixels = np.arange(side, dtype=np.float32)
    across, down = (
        np.exp(-(((pixels - (joints[..., axis, None] * side - 0.5)) / sigma) ** 2))
        for axis in (0, 1)
    )
    made = np.empty((len(joints), maps, side, side), np.float32)
    made[:, :-1] = down[..., :, None] * (across * inside(joints)[..., None])[..., None, :]
    made[:, -1] = 1 - made[:, :-1].max(axis=1)
    return np.tile(made.reshape(len(joints), -1), (1, stages))


def decode(values, layout):
    """The joints that maps (N, numbers) show, by the last stage: places (N, P, 2) and the heights
    of their peaks (N, P). A place is the summit of a Gaussian through the highest pixel and those
    beside it, so it may lie between pixels."""
    stages, maps, side = layout
    found = values.reshape(-1, stages, maps, side, side)[:, -1, :-1].astype(np.float64)
    peaks = found.reshape(*found.shape[:2], -1).argmax(axis=2)
    y, x = np.divmod(peaks, side)
    rows = np.take_along_axis(found, y[..., None, None], 2)[:, :, 0]
    columns = np.take_along_axis(found, x[..., None, None], 3)[..., 0]
    places = np.stack([_summit(rows, x), _summit(columns, y)], axis=2)
    return (places + 0.5) / side, np.take_along_axis(rows, x[..., None], 2)[..., 0]


def _summit(lines, at):
    """Where lines of pixels (N, P, S) with their highest at (N, P) have their summit: (N, P)."""
    middle = np.clip(at, 1, lines.shape[2] - 2)
    before, here, after = (
        np.log(np.maximum(np.take_along_axis(lines, (middle + step)[..., None], 2)[..., 0], FLOOR))
        for step in (-1, 0, 1)
    )
    curvature = 2 * here - before - after
    shift = np.where(curvature > FLAT, (after - before) / (2 * np.maximum(curvature, FLAT)), 0)
    return np.clip(middle + shift, at - 0.5, at + 0.5)


# ---- figures -------------------------------------------------------------------------------


def pck(joints, truth, within=FOUND_WITHIN):
    """Part of the true joints (N, P, 2) in the crop that are found: joints (N, P, 2) not farther
    from them than `within` larger sides of the body's bounds (percentage of correct keypoints; Yang
    and Ramanan 2013). NaN without any."""
    there = inside(truth)
    low, high = (np.where(there[..., None], truth, odd) for odd in (inf, -inf))
    side = np.max(high.max(axis=1) - low.min(axis=1), axis=1)
    near = np.linalg.norm(joints - truth, axis=2) <= within * side[:, None]
    return float(near[there].mean()) if there.any() else float("nan")


def joint_error(joints, truth):
    """Mean distance of joints (N, P, 2) from the true ones in the crop, in crop sides."""
    there = inside(truth)
    distance = np.linalg.norm(joints - truth, axis=2)[there]
    return float(distance.mean()) if len(distance) else float("nan")


# ---- batches -------------------------------------------------------------------------------


def crop_of(settings):
    """config.joints as settings of prepare_data.face_crop: crops about the list's boxes, wherever
    the joints are in them."""
    return type(settings)(
        {
            **settings,
            "box": "list",
            "margin": [-inf] * 4,
            "spread": 0.0,
            "nose": False,
            "upright": False,
            "tries": 1,
        }
    )


class HeatmapBatches(LandmarkBatches):
    """Batches of crops with the maps of their joints; interface of LandmarkBatches.

    bodies -- prepare_data.joints.Bodies; indices -- which of them
    layout -- of the maps; size -- of the crops, px
    train -- config.train; settings -- config.joints; augment -- config.augment
    """

    def __init__(self, bodies, indices, layout, size, train, settings, augment, workers=None):
        super().__init__(
            [bodies], [indices], size, train, crop_of(settings), augment, workers=workers
        )
        self.layout, self.sigma = layout, settings.sigma

    @property
    def shapes(self):
        return {
            "data": super().shapes["data"],
            "heatmap_target": (self.batch, int(np.prod(self.layout)) * self.layout[2]),
        }

    def make(self, number, out=None):
        """Batch `number`: data (N, 3, S, S) and heatmap_target (N, numbers), float32; in the arrays
        of `out` if it is given."""
        if out is None:
            out = {name: np.empty(shape, np.float32) for name, shape in self.shapes.items()}
        joints = np.empty((self.batch, 2 * self.points), np.float32)
        super().make(number, {"data": out["data"], "landmark_target": joints})
        out["heatmap_target"][...] = targets(schemes.unpack(joints), self.layout, self.sigma)
        return out

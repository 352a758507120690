"""Joints of bodies as heat maps: what a net of such maps is taught, and what its maps say.

A map is a square picture of one joint, high where the joint is. A net makes one for each joint and
one for the background, once for each of its stages; a layout, (stages, maps, side), says how its
numbers are cut up into maps. Places are in units of the crop's side: the pixel (0, 0) of a map has
its centre at 0.5 / side.
"""

from functools import cached_property
from math import inf, isqrt
from pathlib import Path

import cv2
import numpy as np

from config import config
from core.train.landmark_loader import LandmarkBatches
from facelet import draw, schemes
from facelet import picture as pictures
from facelet.console import Problem
from prepare_data import face_crop
from prepare_data.held_out import split_faces
from prepare_data.points.face_sets import plain
from symbols import graph, zoo
from symbols.architectures import HEATMAP_STAGES

FLOOR = 1e-3  # of maps, below which a value says nothing of a peak's place
FLAT = 1e-6  # curvature at a peak below which it has no summit
FOUND_WITHIN = 0.1  # PCK: distance of a joint that is found, in larger sides of the joints' bounds
BODIES_LOOKED_AT = 2000  # of those held out, at most
SHOWN, COLUMNS, TILE = 24, 6, 168  # bodies in a picture, bodies in a row, side of a crop in px
SEEN = 0.3  # height of a map's peak from which its joint is drawn


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
    """What prepare_data.face_crop takes, of config.joints: crops about the list's boxes, wherever the
    joints are in them."""
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


# ---- the lesson ----------------------------------------------------------------------------


class Joints:
    """What core.train.trainer teaches a heat-map net; see core.train.tasks for the interface.

    bodies -- prepare_data.joints.Bodies; settings -- the whole configuration
    """

    sections, mix = ("input", "loss", "augment", "joints", "train"), {}

    def __init__(self, spec, options, bodies, settings, workers=None):
        self.bodies, self.layout, self.size = bodies, layout_of(spec.name, options), spec.size
        if bodies.points != self.layout[1] - 1:
            raise Problem(
                f"{spec.name} learns {self.layout[1] - 1} joints, {bodies.path} has {bodies.points}"
            )
        self.crop, self.sigma = crop_of(settings.joints), settings.joints.sigma
        (self.training,), (held_out,), self.rule = split_faces(
            [bodies], settings.train.val_fraction, settings.train.seed
        )
        self.held_out, self.batch = held_out[:BODIES_LOOKED_AT], settings.train.batch
        self.batches = HeatmapBatches(
            bodies,
            self.training,
            self.layout,
            spec.size,
            settings.train,
            settings.joints,
            settings.augment,
            workers,
        )
        self.data = [bodies.facts]
        self.manifest = {
            "scheme": bodies.scheme,
            "crop": {"box": "list", "scale": settings.joints.plain},
        }

    def __str__(self):
        return (
            f"{len(self.training):,} bodies, {len(self.held_out):,} held out (whole pictures), "
            f"maps of {self.layout[2]} x {self.layout[2]}"
        )

    def loss(self, options, row=None):
        return options

    @cached_property
    def shown_to(self):
        """The held-out bodies: crops (N, S, S, 3), joints (N, P, 2); those that can't be read are
        left out."""
        found = []
        for i in self.held_out:
            try:
                crops, joints, _ = plain(self.bodies, [i], self.size, self.crop)
                found.append((crops[0], joints[0]))
            except pictures.BrokenPicture:
                continue
        if not found:
            raise Problem(f"{self.bodies.path}: no picture that was held out can be read")
        return tuple(map(np.stack, zip(*found)))

    @cached_property
    def mean_body(self):
        """Mean of the visible joints in crops of the training bodies, each as it is and mirrored:
        (P, 2)."""
        points, boxes = self.bodies.points_of[self.training], self.bodies.boxes[self.training]
        squares = face_crop.plain(points, boxes, self.crop, self.bodies.scheme)
        joints = face_crop.to_crop(squares, np.zeros(len(points)), points)
        joints = np.concatenate([joints, schemes.flip(joints, self.bodies.scheme)])
        there = inside(joints)[..., None]
        return np.where(there, joints, 0).sum(axis=0) / np.maximum(there.sum(axis=0), 1)

    def begin(self, folder):
        """Leave samples.png: the first samples as the net sees them, and their maps."""
        found, number = [], 0
        while len(found) < SHOWN:
            batch, number = self.batches.make(number), number + 1
            values = batch["data"].transpose(0, 2, 3, 1) / config.input.scale + config.input.mean
            found += zip(
                np.clip(np.round(values), 0, 255).astype(np.uint8), batch["heatmap_target"]
            )
        pictures.write(
            Path(folder) / "samples.png",
            sheet(*map(np.stack, zip(*found[:SHOWN])), self.layout, self.bodies.scheme),
        )

    def _maps(self, trainer, crops, joints):
        """What a net says of crops, in order: yields values (n, numbers)."""
        for start in range(0, len(crops), self.batch):
            rows = np.arange(start, min(start + self.batch, len(crops)))
            filled = np.resize(rows, self.batch)
            yield trainer.predict(
                {
                    "data": pictures.to_input(crops[filled]),
                    "heatmap_target": targets(joints[filled], self.layout, self.sigma),
                }
            )["heatmap_pred"][: len(rows)]

    def validate(self, trainer):
        """Figures over the held-out bodies; those of the mean body stand beside the net's."""
        crops, truth = self.shown_to
        found = np.concatenate(
            [decode(values, self.layout)[0] for values in self._maps(trainer, crops, truth)]
        )
        mean = np.broadcast_to(self.mean_body, truth.shape)
        return {
            "joint_error": joint_error(found, truth),
            "pck": pck(found, truth),
            "mean_body_error": joint_error(mean, truth),
            "mean_body_pck": pck(mean, truth),
        }

    def shown(self, trainer, folder):
        """Leave joints.png: held-out bodies, what the net says of them, and the truth in white."""
        crops, truth = (values[:SHOWN] for values in self.shown_to)
        values = np.concatenate(list(self._maps(trainer, crops, truth)))
        pictures.write(
            Path(folder) / "joints.png",
            sheet(crops, values, self.layout, self.bodies.scheme, truth),
        )


# ---- pictures ------------------------------------------------------------------------------


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


def sheet(crops, values, layout, scheme, truth=None):
    """A picture of crops (N, S, S, 3) with the joints that maps (N, numbers) show and, if given,
    the true ones (N, P, 2) in white; right of each, the maps of its joints as light on it."""
    stages, maps, side = layout
    last = values.reshape(-1, stages, maps, side, side)[:, -1, :-1]
    joints, heights = decode(values, layout)
    tiles = []
    for i, crop in enumerate(crops):
        left = cv2.resize(crop, (TILE, TILE), interpolation=cv2.INTER_LINEAR)
        light = np.clip(cv2.resize(last[i].max(axis=0), (TILE, TILE)), 0, 1)
        right = left // 3 + np.multiply.outer(light, (60, 170, 170)).astype(np.uint8)
        if truth is not None:
            skeleton(left, truth[i], inside(truth[i]), scheme, (255, 255, 255))
        skeleton(left, joints[i], heights[i] >= SEEN, scheme)
        tiles.append(np.hstack([left, right]))
    tiles += [np.zeros_like(tiles[0])] * (-len(tiles) % COLUMNS)
    return np.vstack([np.hstack(tiles[i : i + COLUMNS]) for i in range(0, len(tiles), COLUMNS)])

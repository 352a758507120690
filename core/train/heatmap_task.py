"""The training task of nets that give the joints of bodies as heat maps."""

from functools import cached_property
from pathlib import Path

import numpy as np

from core.train import sheets
from core.train.heatmaps import (
    HeatmapBatches,
    crop_of,
    decode,
    inside,
    joint_error,
    layout_of,
    pck,
    targets,
)
from core.train.loader import quiet
from facelet import picture as pictures
from facelet import schemes
from facelet.console import Problem
from prepare_data import face_crop
from prepare_data.held_out import split_faces
from prepare_data.points.face_sets import plain

MOST_HELD_OUT = 2000  # bodies that are validated on, of those held out


class HeatmapTask:
    """Training of a heat-map net; core.train.tasks has the interface.

    bodies -- prepare_data.joints.Bodies; settings -- the whole configuration
    """

    sections, mix = ("input", "loss", "augment", "joints", "train"), {}
    pictures = "samples.png", "joints.png"

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
        self.held_out, self.batch = held_out[:MOST_HELD_OUT], settings.train.batch
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
        self._validation_set = None
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

    def init_head(self, checkpoint):
        """Nothing: maps have no mean that a fresh head could begin at."""

    def validation_set(self, report=quiet):
        """The held-out bodies: crops (N, S, S, 3), joints (N, P, 2); those that can't be read are
        left out."""
        if self._validation_set is None:
            self._validation_set = self._read_held_out(report)
        return self._validation_set

    def _read_held_out(self, report):
        found = []
        for number, i in enumerate(self.held_out):
            report("reading bodies held out", number, len(self.held_out))
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

    def save_samples(self, folder):
        """Write samples.png: the first samples as the net sees them, and their maps."""
        crops, maps = sheets.samples_of(
            self.batches, sheets.BODIES, "heatmap_target", sheets.BODIES
        )
        sheets.heat_maps(
            crops, maps, self.layout, self.bodies.scheme, Path(folder) / self.pictures[0]
        )

    def _predict(self, trainer, crops, joints, report=quiet):
        """The maps that a net makes of crops, in order: yields values (n, numbers)."""
        for start in range(0, len(crops), self.batch):
            report("validation", start, len(crops))
            rows = np.arange(start, min(start + self.batch, len(crops)))
            filled = np.resize(rows, self.batch)
            yield trainer.predict(
                {
                    "data": pictures.to_input(crops[filled]),
                    "heatmap_target": targets(joints[filled], self.layout, self.sigma),
                }
            )["heatmap_pred"][: len(rows)]

    def validate(self, trainer, report=quiet):
        """Figures over the held-out bodies; those of the mean body stand beside the net's."""
        crops, truth = self.validation_set(report)
        found = np.concatenate(
            [
                decode(values, self.layout)[0]
                for values in self._predict(trainer, crops, truth, report)
            ]
        )
        mean = np.broadcast_to(self.mean_body, truth.shape)
        return {
            "joint_error": joint_error(found, truth),
            "pck": pck(found, truth),
            "mean_body_error": joint_error(mean, truth),
            "mean_body_pck": pck(mean, truth),
        }

    def save_predictions(self, trainer, folder):
        """Write joints.png: held-out bodies, the net's maps and joints, and the truth in white."""
        crops, truth = (values[: sheets.BODIES] for values in self.validation_set())
        values = np.concatenate(list(self._predict(trainer, crops, truth)))
        sheets.heat_maps(
            crops, values, self.layout, self.bodies.scheme, Path(folder) / self.pictures[1], truth
        )

"""What a net is taught: the batches of its training, and the figures on what was held out.

A lesson goes by the tasks of the net (lesson()): faces and boxes, with or without landmarks, from
packed stores of samples; landmarks alone, from faces whose crops are cut as training goes; joints
as heat maps. All have

    batches     .steps of an epoch; .ahead(numbers) yields (batch, seconds waited for it), each a
                function of the seed and its number alone
    mix         samples of each kind in a batch where there are several, JSON values
    data        what the lesson is made from, JSON values
    sections    sections of the configuration that it depends on
    manifest    what goes into a checkpoint's manifest beside the figures
    rule        which pictures are held out (prepare_data.held_out)
    loss(options, row)          config.loss as the net's graph takes it after the epoch of a row of
                                the log; None before the first
    settle(checkpoint)          gives fresh parameters what is known of the targets
    begin(folder)               leaves a picture of what is taught
    validate(trainer)           figures over what was held out, without augmentation
    shown(trainer, folder)      leaves a picture of what the net says of it
"""

from functools import cached_property
from pathlib import Path

import numpy as np

from core.evaluate import landmark_pictures, metrics
from core.train import landmark_loader
from core.train.landmark_loader import LandmarkBatches
from core.train.loader import MIXED, Batches, Samples, plain_batches, split_by_picture
from facelet import schemes
from facelet.console import Problem
from facelet.files import sha256
from facelet.picture import BrokenPicture, to_input
from prepare_data import held_out
from prepare_data.points import face_sets
from prepare_data.points.face_sets import Crops
from prepare_data.store import KINDS, Store

FACES_LOOKED_AT = 2000  # of those held out, and of those that make the mean face, at most
FACES_SHOWN = 24
SETTLED_BY = 500  # samples that the head of a fresh net is given the mean of
FEWEST = 5  # points, of the nets that are published


def lesson(spec, options, data, settings):
    """The lesson of a net of the zoo (symbols.spec) with options.

    data -- Stores of samples or, for nets with landmarks alone, faces (prepare_data.points.face_sets.Cuts,
        prepare_data.points.face_sets.Pictures, prepare_data.points.face_sets.Crops)

    Raises Problem where they can't teach it.
    """
    tasks = {head.task for head in spec.heads}
    if tasks == {"heatmap"}:
        from core.train.heatmaps import Joints  # beside landmarks, hardly anybody's

        only, *others = data
        if others:
            raise Problem(f"{spec.name} learns from one list of bodies, not from {len(data)}")
        return Joints(spec, options, only, settings)
    return (Landmarks if tasks == {"landmark"} else Boxes)(spec, options, data, settings)


class Boxes:
    """Faces, boxes and, beside them, landmarks, from stores of samples."""

    sections, manifest = ("input", "loss", "augment", "train"), {}

    def __init__(self, spec, options, stores, settings):
        self.samples = samples = _checked(spec, options, stores)
        share = settings.train.val_fraction, settings.train.seed
        self.training, self.held_out = split_by_picture(samples, *share)
        self.rule = samples.held_out_rule(*share)
        self.landmarks = any(head.task == "landmark" for head in spec.heads)
        self.batches = Batches(
            samples, self.training, settings.train, settings.augment, self.landmarks
        )
        self.mean_face = _mean_of_samples(samples, self.training) if self.landmarks else None
        self.mix = dict(zip(MIXED, self.batches.mix))
        self.data = [
            {
                "what": store.what,
                "counts": store.facts["counts"],
                "source": store.facts["source"],
                "sha256": sha256(store.path / "store.json"),
            }
            for store in stores
        ]
        self.batch = settings.train.batch

    def __str__(self):
        mix = ", ".join(f"{n} {kind}" for kind, n in self.batches.shares.items() if n)
        return (
            f"{len(self.training):,} samples, {len(self.held_out):,} held out (whole "
            f"pictures), a batch of {mix}"
        )

    def loss(self, options, row=None):
        if not self.landmarks:
            return options
        return {**options, "landmark": _weighted(options.landmark, self.samples.scheme, row)}

    def settle(self, checkpoint):
        if self.landmarks:
            chosen = self.training[self.samples.labels[self.training] == KINDS["landmark"]]
            _settle(checkpoint, schemes.pack(self.samples.landmarks(chosen)))

    def begin(self, folder):
        """Nothing: each store has its own mosaic."""

    def shown(self, trainer, folder):
        """Nothing: detections say more."""

    def validate(self, trainer):
        """Figures over the held-out samples; where landmarks are learnt, the error of the mean face
        of the training samples beside theirs."""
        samples, indices = self.samples, self.held_out
        outputs = {"cls": "cls_prob", "bbox": "bbox_pred", "landmark": "landmark_pred"}
        found = {task: [] for task in trainer.tasks}
        for filled, real in plain_batches(samples, indices, self.batch, self.landmarks):
            results = trainer.predict(filled)
            for task in found:
                found[task].append(results[outputs[task]][:real])
        found = {task: np.concatenate(parts) for task, parts in found.items()}
        labels = samples.labels[indices]
        figures = {
            **metrics.classification(found["cls"][:, 1], labels),
            **metrics.box_error(found["bbox"], samples.offsets[indices], labels),
        }
        if "landmark" in found:
            chosen = labels == KINDS["landmark"]
            truth = samples.landmarks(indices[chosen])
            points = schemes.unpack(found["landmark"][chosen])
            figures["landmark_error"] = metrics.point_error(points, truth)
            figures["by_point"] = _by_point(points, truth)
            figures["mean_face_error"] = metrics.point_error(
                np.broadcast_to(self.mean_face, truth.shape), truth
            )
        return figures


def _checked(spec, options, stores):
    """The Samples of stores for a net. Raises Problem where they can't teach it."""
    for store in stores:
        if store.size != spec.size:
            raise Problem(
                f"{store.path} holds samples of {store.size} pixels, {spec.name} takes "
                f"{spec.size}: make a store with --size {spec.size}"
            )
    samples = Samples(stores)
    points = options.get("points", spec.points)
    learnt = any(head.task == "landmark" for head in spec.heads)
    if learnt and samples.points != points:
        raise Problem(
            f"{spec.name} learns {points} landmark points, {samples} "
            + (
                f"has {samples.points}"
                if samples.points
                else "has none: give a store of "
                "landmark samples as well, made by python -m "
                "prepare_data.landmark_samples"
            )
        )
    return samples


def _mean_of_samples(samples, indices):
    """Mean of the landmarks of samples, each as it is and mirrored: (P, 2) in crop sides; None
    without any."""
    chosen = indices[samples.labels[indices] == KINDS["landmark"]]
    if not len(chosen):
        return None
    return _mean_with_mirrored(samples.landmarks(chosen), samples.scheme)


class Landmarks:
    """Landmarks alone, from sets of faces (prepare_data.points.cuts) whose crops are cut as training goes,
    or that were made once (stores of landmark samples)."""

    sections, mix = ("input", "loss", "augment", "crop", "train"), {}

    def __init__(self, spec, options, sets, settings):
        self.sets = [Crops(faces) if isinstance(faces, Store) else faces for faces in sets]
        first, points = self.sets[0], options.get("points", spec.points)
        if first.points != points:
            raise Problem(
                f"{spec.name} learns {points} landmark points, {first.path} has "
                f"{first.points}: train it with --points {first.points}"
            )
        self.size, self.scheme, self.crop = spec.size, first.scheme, settings.crop
        self.training, self.held_out, self.rule = held_out.split_faces(
            self.sets, settings.train.val_fraction, settings.train.seed
        )
        self.batches = LandmarkBatches(
            self.sets, self.training, spec.size, settings.train, settings.crop, settings.augment
        )
        self.batch, self.seed = settings.train.batch, settings.train.seed
        self.scatter = settings.evaluate.box_scatter
        # Faces that were rejected are named in their store; a manifest goes out into the world.
        self.data = [
            {key: len(value) if key == "rejected" else value for key, value in faces.facts.items()}
            for faces in self.sets
        ]
        self.manifest = {
            "scheme": self.scheme,
            "crop": {"box": self.crop.box, "scale": self.crop.plain},
        }

    def __str__(self):
        return (
            f"{sum(map(len, self.training)):,} faces with {self.sets[0].points} points "
            f"({self.scheme}), {sum(map(len, self.held_out)):,} held out (whole pictures)"
        )

    def loss(self, options, row=None):
        own = _weighted(options.landmark, self.scheme, row)
        # The loss of a face is a sum over its coordinates: as that of five points, it goes with one
        # learning rate however many there are.
        own.weight *= FEWEST / self.sets[0].points
        return {**options, "landmark": own}

    def _crops(self, parts, most):
        """Crops and points, (N, S, S, 3) and (N, P, 2), of faces of each set, as a net gets them in
        use: not turned, about boxes that scatter as a detector's do. Pictures that can't be read
        are left out."""
        found, rng = [], np.random.default_rng([self.seed, 8])
        for faces, indices in zip(self.sets, parts):
            for i in indices[:: max(1, len(indices) * len(self.sets) // most)]:
                try:
                    crops, points, _ = face_sets.plain(
                        faces, [i], self.size, self.crop, rng, self.scatter
                    )
                except BrokenPicture:
                    continue
                found.append((crops[0], points[0]))
        if not found:
            raise Problem(f"{self.sets[0].path}: none of the pictures held out can be read")
        return tuple(map(np.stack, zip(*found)))

    @cached_property
    def shown_to(self):
        """Crops and points of the held-out faces."""
        return self._crops(self.held_out, FACES_LOOKED_AT)

    @cached_property
    def mean_face(self):
        """What a net that knew nothing would say: the mean of the training faces, (P, 2)."""
        return _mean_with_mirrored(self._crops(self.training, FACES_LOOKED_AT)[1], self.scheme)

    def settle(self, checkpoint):
        _settle(
            checkpoint,
            np.concatenate(
                [
                    self.batches.make(number)["landmark_target"]
                    for number in range(max(1, SETTLED_BY // self.batch))
                ]
            ),
        )

    def begin(self, folder):
        """Leave samples.png: the first samples as the net sees them."""
        landmark_loader.mosaic(self.batches, Path(folder) / "samples.png")

    def _said(self, trainer, crops, truth):
        """The points (N, P, 2) that a net finds in crops."""
        found = []
        for start in range(0, len(crops), self.batch):
            rows = np.arange(start, min(start + self.batch, len(crops)))
            filled = np.resize(rows, self.batch)
            found.append(
                trainer.predict(
                    {
                        "data": to_input(crops[filled]),
                        "landmark_target": schemes.pack(truth[filled]),
                    }
                )["landmark_pred"][: len(rows)]
            )
        return schemes.unpack(np.concatenate(found))

    def validate(self, trainer):
        """Figures over the held-out faces: mean distance in crop sides, of the mean face as well,
        by point, and over the distance of the eyes' outer corners where the scheme has these."""
        crops, truth = self.shown_to
        found = self._said(trainer, crops, truth)
        figures = {
            "landmark_error": metrics.point_error(found, truth),
            "mean_face_error": metrics.point_error(
                np.broadcast_to(self.mean_face, truth.shape), truth
            ),
        }
        scheme = schemes.get(self.scheme)
        sizes = metrics.face_sizes(truth, scheme.eyes, scheme.corners).get("inter-ocular")
        if sizes is not None:
            figures["inter_ocular"] = float(np.nanmean(metrics.point_errors(found, truth, sizes)))
        return {**figures, "by_point": _by_point(found, truth)}

    def shown(self, trainer, folder):
        """Leave points.png: held-out faces with the true points and what the net says."""
        crops, truth = (
            values[:: max(1, len(values) // FACES_SHOWN)][:FACES_SHOWN] for values in self.shown_to
        )
        found = self._said(trainer, crops, truth)
        errors = np.linalg.norm(found - truth, axis=2).mean(axis=1)
        landmark_pictures.sheet(
            Path(folder) / "points.png",
            [
                (
                    "held-out faces; mean distance in crop sides",
                    crops,
                    truth,
                    found,
                    [f"{error:.3f}" for error in errors],
                )
            ],
        )


def _weighted(options, scheme, row):
    """config.loss.landmark with the weights of points, after the epoch of a row of the log."""
    from symbols.losses import point_weights  # takes MXNet

    errors = row and np.array(row["val"]["by_point"])
    return type(options)({**options, "weights": point_weights(options, scheme, errors)})


def _settle(checkpoint, targets):
    """Let the landmark head of fresh parameters begin at the mean of targets (N, 2 P), and spread
    as they do: what is left to be learnt is where in that spread a face lies."""
    (head,) = (head for head in checkpoint.spec.heads if head.task == "landmark")
    arguments = checkpoint.arguments
    if head.bn:
        arguments[f"{head.bn}_beta"][:] = targets.mean(axis=0)
        arguments[f"{head.bn}_gamma"][:] = targets.std(axis=0)
    else:  # the classic nets
        arguments[f"{head.layer}_bias"][:] = targets.mean(axis=0)


def _by_point(found, truth):
    """Mean distance of each point of (N, P, 2) from the true one: a list of P."""
    return np.linalg.norm(found - truth, axis=2).mean(axis=0).tolist()


def _mean_with_mirrored(points, scheme):
    return np.concatenate([points, schemes.flip(points, scheme)]).mean(axis=0)

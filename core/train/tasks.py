"""Training tasks: the batches that a net learns from, and its figures on what was held out.

Which task it is goes by the heads of the net (task_of()): faces and boxes, with or without
landmarks, from packed stores of samples; landmarks alone, from faces whose crops are cut as
training goes; joints as heat maps (core.train.heatmap_task). All have

    batches     .steps of an epoch; .ahead(numbers, note) yields (batch, seconds waited for it),
                each a function of the seed and its number alone
    mix         samples of each kind in a batch where there are several, JSON values
    data        what the samples come from, JSON values
    sections    sections of the configuration that the result depends on
    manifest    what goes into a checkpoint's manifest beside the figures
    rule        which pictures are held out (prepare_data.held_out)
    loss(options, row)          config.loss as the net's graph takes it after the epoch of a row of
                                the log; None before the first
    init_head(checkpoint)       sets the head of fresh parameters to the mean of the targets
    pictures                    names of those that the next two write, None where they don't
    save_samples(folder)        writes a picture of training samples
    validate(trainer, report)   figures over what was held out, without augmentation;
                                report(what, done, total) is told how far it is
    save_predictions(trainer, folder)   writes a picture of what the net predicts on it
"""

from pathlib import Path

import numpy as np

from core.evaluate import landmark_pictures, metrics
from core.train import sheets
from core.train.landmark_loader import LandmarkBatches
from core.train.loader import MIXED, Batches, Samples, plain_batches, quiet, split_by_picture
from facelet import schemes
from facelet.console import Problem
from facelet.files import sha256
from facelet.picture import BrokenPicture, to_input
from prepare_data import held_out
from prepare_data.points import face_sets
from prepare_data.points.face_sets import Crops
from prepare_data.store import KINDS, Store

MOST_FACES = 2000  # that are validated on, of those held out; and that make the mean face
FACES_DRAWN = 24
HEAD_INIT_SAMPLES = 500  # whose mean the head of a fresh net begins at
POINTS_OF_LOSS = 5  # number of points that config.loss.landmark.weight is for


def task_of(spec, options, data, settings):
    """The training task of a net of the zoo.

    spec -- symbols.net.Net; options -- of symbols.build
    data -- Stores of samples or, for nets with landmarks alone, sets of faces (Cuts, Pictures or
        Crops of prepare_data.points.face_sets); for heat maps one prepare_data.joints.Bodies
    settings -- the whole configuration

    Raises Problem where the net can't learn from the data.
    """
    heads = {head.task for head in spec.heads}
    if heads == {"heatmap"}:
        from core.train.heatmap_task import HeatmapTask  # seldom used

        only, *others = data
        if others:
            raise Problem(f"{spec.name} learns from one list of bodies, not from {len(data)}")
        return HeatmapTask(spec, options, only, settings)
    return (LandmarkTask if heads == {"landmark"} else DetectionTask)(spec, options, data, settings)


class DetectionTask:
    """Faces, boxes and, beside them, landmarks, from stores of samples."""

    sections, manifest = ("input", "loss", "augment", "degrade", "train"), {}
    pictures = None, None

    def __init__(self, spec, options, stores, settings):
        self.samples = samples = _checked(spec, options, stores)
        share = settings.train.val_fraction, settings.train.seed
        self.training, self.held_out = split_by_picture(samples, *share)
        self.rule = samples.held_out_rule(*share)
        self.landmarks = any(head.task == "landmark" for head in spec.heads)
        self.batches = Batches(samples, self.training, settings, self.landmarks)
        self.mean_face = _mean_of_samples(samples, self.training) if self.landmarks else None
        self.mix = dict(zip(MIXED, self.batches.mix))
        self.data = [
            {
                "what": store.what,
                "counts": store.facts["counts"],
                "source": store.facts.get("source"),
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

    def init_head(self, checkpoint):
        if self.landmarks:
            chosen = self.training[self.samples.labels[self.training] == KINDS["landmark"]]
            _init_landmark_head(checkpoint, schemes.pack(self.samples.landmarks(chosen)))

    def save_samples(self, folder):
        """Nothing: each store has its own mosaic."""

    def save_predictions(self, trainer, folder):
        """Nothing: detections tell more."""

    def validate(self, trainer, report=quiet):
        """Figures over the held-out samples; where landmarks are learnt, the error of the mean face
        of the training samples beside theirs."""
        samples, indices = self.samples, self.held_out
        outputs = {"cls": "cls_prob", "bbox": "bbox_pred", "landmark": "landmark_pred"}
        found, done = {head: [] for head in trainer.heads}, 0
        for filled, real in plain_batches(samples, indices, self.batch, self.landmarks):
            report("validation", done, len(indices))
            results, done = trainer.predict(filled), done + real
            for head in found:
                found[head].append(results[outputs[head]][:real])
        found = {head: np.concatenate(parts) for head, parts in found.items()}
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
    """The Samples of stores for a net. Raises Problem where it can't learn from them."""
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


class LandmarkTask:
    """Landmarks alone, from sets of faces (prepare_data.points.face_sets) whose crops are cut as
    training goes, or that were made once (stores of landmark samples)."""

    sections, mix = ("input", "loss", "augment", "crop", "train"), {}
    pictures = "samples.png", "points.png"

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
        self._validation_set, self._mean_face = None, None
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
        own.weight *= POINTS_OF_LOSS / self.sets[0].points
        return {**options, "landmark": own}

    def _crops(self, parts, what, report):
        """Crops and points, (N, S, S, 3) and (N, P, 2), of faces of each set, as a net gets them in
        use: not turned, about boxes that scatter as a detector's do. Pictures that can't be read
        are left out."""
        found, rng = [], np.random.default_rng([self.seed, 8])
        chosen = [
            indices[:: max(1, len(indices) * len(self.sets) // MOST_FACES)] for indices in parts
        ]
        for faces, indices in zip(self.sets, chosen):
            for i in indices:
                report(f"reading {what}", len(found), sum(map(len, chosen)))
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

    def validation_set(self, report=quiet):
        """Crops and points of the held-out faces."""
        if self._validation_set is None:
            self._validation_set = self._crops(self.held_out, "faces held out", report)
        return self._validation_set

    def mean_face(self, report=quiet):
        """The constant prediction that errors are compared with: the mean of the training faces,
        (P, 2)."""
        if self._mean_face is None:
            points = self._crops(self.training, "faces for the mean face", report)[1]
            self._mean_face = _mean_with_mirrored(points, self.scheme)
        return self._mean_face

    def init_head(self, checkpoint):
        _init_landmark_head(
            checkpoint,
            np.concatenate(
                [
                    self.batches.make(number)["landmark_target"]
                    for number in range(max(1, HEAD_INIT_SAMPLES // self.batch))
                ]
            ),
        )

    def save_samples(self, folder):
        """Write samples.png: the first samples as the net sees them."""
        sheets.landmark_samples(self.batches, Path(folder) / self.pictures[0])

    def _predict(self, trainer, crops, truth, report=quiet):
        """The points (N, P, 2) that a net finds in crops."""
        found = []
        for start in range(0, len(crops), self.batch):
            report("validation", start, len(crops))
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

    def validate(self, trainer, report=quiet):
        """Figures over the held-out faces: mean distance in crop sides, of the mean face as well,
        by point, and over the distance of the eyes' outer corners where the scheme has these."""
        crops, truth = self.validation_set(report)
        found = self._predict(trainer, crops, truth, report)
        figures = {
            "landmark_error": metrics.point_error(found, truth),
            "mean_face_error": metrics.point_error(
                np.broadcast_to(self.mean_face(report), truth.shape), truth
            ),
        }
        scheme = schemes.get(self.scheme)
        sizes = metrics.face_sizes(truth, scheme.eyes, scheme.corners).get("inter-ocular")
        if sizes is not None:
            figures["inter_ocular"] = float(np.nanmean(metrics.point_errors(found, truth, sizes)))
        return {**figures, "by_point": _by_point(found, truth)}

    def save_predictions(self, trainer, folder):
        """Write points.png: held-out faces with the true points and the net's."""
        crops, truth = (
            values[:: max(1, len(values) // FACES_DRAWN)][:FACES_DRAWN]
            for values in self.validation_set()
        )
        found = self._predict(trainer, crops, truth)
        errors = np.linalg.norm(found - truth, axis=2).mean(axis=1)
        landmark_pictures.sheet(
            Path(folder) / self.pictures[1],
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


def _init_landmark_head(checkpoint, targets):
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

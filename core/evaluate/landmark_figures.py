"""Errors of landmark points, measured: the numbers of core.evaluate.landmarks."""

from dataclasses import dataclass

import numpy as np

from core.evaluate import metrics
from facelet import schemes
from facelet.console import Problem, Progress
from facelet.picture import BrokenPicture, to_input
from prepare_data import face_crop
from prepare_data.held_out import is_held_out, split_faces

BATCH = 64
OTHERS = 2000  # faces that the mean face is made of, at most
EXACT, SCATTERED = "exact", "scattered"  # boxes that crops are cut around
NET, MEAN_FACE = "net", "mean_face"  # predictors: the net, and the mean face, which sees nothing


class EvaluationSet:
    """Faces that nets are measured on, and others.

    faces -- prepare_data.points.face_sets.Cuts, or what is like it
    indices -- which of them are measured; others -- which make the mean face: they are not among
        those unless all are measured
    skipped -- a line for each that is to be measured but can't be read
    """

    def __init__(self, faces, held_out, settings):
        self.faces, self.scheme, self.settings = faces, schemes.get(faces.scheme), settings
        seed = settings.train.seed
        self.indices = self.others = np.arange(len(faces))
        self.held_out, self.apart = held_out, held_out < 1
        if self.apart:
            (self.others,), (self.indices,), _ = split_faces([faces], held_out, seed)
        rng = np.random.default_rng([seed, 5])
        self.others = np.sort(rng.permutation(self.others)[:OTHERS])
        self.indices, self.skipped = readable(faces, self.indices)
        draws = settings.evaluate.box_draws if self.scheme.box else 0
        self.draws = (
            rng.standard_normal((draws, len(self.indices), 3)) * settings.evaluate.box_scatter
        )

    def leave_out_trained_on(self, opened):
        """Measure no face of a picture that one of some nets was trained on, as far as they say
        (prepare_data.held_out); unless all faces are measured. Returns how many are left out.
        Raises Problem where no face stays."""
        rules = [rule for net in opened for rule in net.facts.get("held_out", [])]
        if not self.apart or not rules:
            return 0
        names = self.faces.names()
        kept = is_held_out([names[index] for index in self.indices], *rules)
        if not kept.any():
            raise Problem(
                f"{self.faces.path}: of the pictures to measure none was held out from the "
                "training of every net; with train.seed and train.val_fraction as in training some "
                "are, and --held-out 1 measures all"
            )
        self.indices, self.draws = self.indices[kept], self.draws[:, kept]
        return int((~kept).sum())

    def squares(self, indices, rule):
        """Exact crops of faces: (N, 4)."""
        crop = {**self.settings.crop, "box": rule.box, "plain": rule.side}
        return face_crop.plain(
            self.faces.points_of[indices],
            self.faces.boxes[indices],
            type(self.settings.crop)(crop),
            self.faces.scheme,
        )

    def scattered(self, indices, squares, draws):
        """Crops (N, 4) of faces moved and scaled by draws (D, N, 3): (D, N, 4)."""
        _, side = face_crop.boxes_of(
            self.faces.points_of[indices], self.faces.boxes[indices], "detector", self.faces.scheme
        )
        centre = (squares[:, :2] + squares[:, 2:]) / 2 + draws[:, :, 1:] * side[:, None]
        half = (squares[:, 2:] - squares[:, :2]) / 2 * np.exp(draws[:, :, :1])
        return np.concatenate([centre - half, centre + half], axis=2)

    def boxes(self, rule):
        """Crops of the faces measured, {EXACT: (1, N, 4), SCATTERED: (D, N, 4)}: there are no
        scattered ones of a scheme that doesn't say where a detector's boxes are."""
        squares = self.squares(self.indices, rule)
        if not len(self.draws):
            return {EXACT: squares[None]}
        return {EXACT: squares[None], SCATTERED: self.scattered(self.indices, squares, self.draws)}

    def truth(self, indices, squares):
        """True points in crops (..., N, 4) of faces: (..., N, P, 2) in crop sides."""
        corner, side = squares[..., None, :2], (squares[..., 2] - squares[..., 0])[..., None, None]
        return (self.faces.points_of[indices] - corner) / side

    def mean_face(self, rule):
        """The mean face in crops by a rule, (P, 2) in crop sides."""
        placed = self.truth(self.others, self.squares(self.others, rule))
        if self.scheme.partners:
            placed = np.concatenate([placed, schemes.flip(placed, self.faces.scheme)])
        return placed.mean(axis=0)

    def sizes(self, placed):
        """Sizes of faces with points (N, P, 2) by rule, in their unit: {rule: (N,)}."""
        return metrics.face_sizes(placed, self.scheme.eyes, self.scheme.corners)


def readable(faces, indices):
    """Those of `indices` whose pictures can be read, and why the others can't. Raises Problem where
    there are none."""
    kept, skipped, progress = [], [], Progress(len(indices), "faces read")
    for index in indices.tolist():
        try:
            faces.read(index)
            kept.append(index)
        except BrokenPicture as error:
            skipped.append(str(error))
        progress.step()
    if not kept:
        raise Problem(
            f"none of the {len(indices):,} faces to measure can be read"
            + (f"; the first: {skipped[0]}" if skipped else "")
        )
    progress.close()
    return np.array(kept), skipped


def predictions(net, faces, indices, squares, progress=None):
    """The points that a net predicts in crops (D, N, 4) of N faces: (D, N, P, 2) float64 in crop
    sides. Raises Problem where they are no numbers."""
    size, found = net.facts["input"]["size"], []
    for start in range(0, len(indices), BATCH):
        chosen = slice(start, start + BATCH)
        images = [faces.read(index) for index in indices[chosen].tolist()]
        found.append(
            [
                schemes.unpack(
                    net(
                        to_input(
                            np.stack([face_crop.crop(*each, 0, size) for each in zip(images, some)])
                        )
                    )["landmark"]
                )
                for some in squares[:, chosen]
            ]
        )
        if progress:
            progress.step(len(images) * len(squares))
    found = np.concatenate(found, axis=1).astype(np.float64)
    if not np.isfinite(found).all():
        raise Problem(
            f"{net.name} gives points that are no numbers: its training has gone astray, "
            "or the file is damaged"
        )
    return found


@dataclass(frozen=True)
class Errors:
    """Errors of points in D crops of N faces, at P places.

    by_rule -- {rule of size: (D, N, P) in sizes of the face}, NaN for faces without that size
    moved -- {rule of size: metrics.movement()}; None where there is one crop a face
    coordinates -- metrics.coordinate_errors()
    """

    by_rule: dict
    moved: dict
    coordinates: dict


def errors(found, truth, sizes):
    """The Errors of points against the true ones.

    found -- (D, N, P, 2), or (P, 2) for all crops; truth -- (D, N, P, 2); sizes -- of the faces by
    rule, {rule: (D, N)}; all in crop sides
    """
    off = {rule: (found - truth) / size[..., None, None] for rule, size in sizes.items()}
    return Errors(
        {rule: np.linalg.norm(values, axis=3) for rule, values in off.items()},
        {rule: metrics.movement(values) for rule, values in off.items()}
        if len(truth) > 1
        else None,
        metrics.coordinate_errors(found, truth),
    )


def measure(net, rule, dataset, compared, progress=None):
    """Measure a net on an EvaluationSet, with crops by a Rule, by Comparisons {name: Comparison}.

    Returns {name of the comparison: {boxes: {predictor: Errors}}}, and the points that the net
    predicts in exact crops, (N, P, 2) in crop sides.
    """
    results, mean_face = {name: {} for name in compared}, dataset.mean_face(rule)
    for boxes, squares in dataset.boxes(rule).items():
        found = predictions(net, dataset.faces, dataset.indices, squares, progress)
        truth = dataset.truth(dataset.indices, squares)
        sizes = [dataset.sizes(some) for some in truth]
        sizes = {
            name: np.stack([some[name] for some in sizes])
            for name, first in sizes[0].items()
            if np.isfinite(first).any()
        }
        for name, comparison in compared.items():
            true = comparison.of_truth(truth)
            results[name][boxes] = {
                NET: errors(comparison.of_net(found), true, sizes),
                MEAN_FACE: errors(comparison.of_truth(mean_face), true, sizes),
            }
        if boxes == EXACT:
            exact = found[0]
    return results, exact


def figures(found, comparison):
    """JSON values of Errors at the places of a Comparison."""
    by_rule = {}
    for rule, values in found.by_rule.items():
        by_rule[rule] = {
            **metrics.error_figures(values.mean(axis=2).ravel()),
            "groups": {
                name: float(np.nanmean(values[:, :, places]))
                for name, places in comparison.groups.items()
            },
            "places": np.nanmean(values, axis=(0, 1)).tolist(),
        }
        if found.moved:
            by_rule[rule]["moved"] = found.moved[rule]
    return {"by_rule": by_rule, "per_coordinate": found.coordinates}

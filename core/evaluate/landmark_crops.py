"""Which crops a landmark net is measured on."""

from dataclasses import dataclass

import numpy as np

from config import config, for_landmarks, override
from core.evaluate import metrics
from core.evaluate.landmark_figures import predictions, readable
from facelet.console import Problem, Progress
from prepare_data import face_crop

TRIED_ON = 200  # faces, at most, that `--crop best` is found on
TRIED = 1.1 ** np.arange(-1, 14)  # sides of crops tried, in sides of the square about the points
BEST, USUAL = "best", "usual"  # in place of a Rule


@dataclass(frozen=True)
class Rule:
    """What a net's crops are: the box that they are cut around, one of those of config.crop.box,
    and their side in sides of it."""

    box: str
    side: float

    def __str__(self):
        return f"{self.box} x {self.side:.4g}"


def parse(text, settings):
    """The Rule that "bounds:1.25" stands for; BEST and USUAL stay. Raises Problem."""
    if text in (BEST, USUAL):
        return text
    box, colon, side = text.partition(":")
    if not colon:
        raise Problem(
            f"--crop {text}: write best, usual, or a box and the crop's side in its "
            "sides, like bounds:1.25"
        )
    crop = override(settings, [f"crop.box={box}", f"crop.plain={side}"]).crop
    return Rule(crop.box, crop.plain)


def usual(net, assignments):
    """The Rule that a net was trained by, as its facts have it, or else that of config.crop."""
    recorded = net.facts.get("crop")
    if recorded is not None:
        try:
            return parse(f"{recorded.get('box')}:{recorded.get('scale')}", config)
        except Problem:
            raise Problem(
                f"{net.name} says that it was trained on crops of {recorded}: that can't be; "
                "train or export it anew"
            ) from None
    crop = for_landmarks(net.facts["points"], assignments).crop
    return Rule(crop.box, crop.plain)


def best(net, dataset, comparison):
    """The Rule that gives a net the smallest mean error over faces that are not measured, and
    [(Rule, error)] of all that were tried. Raises Problem if there are no other faces.

    Crops are scattered, where the scheme has a detector's box, one of each face: the smaller exact
    crops are, the more they give away of where the points are."""
    if not dataset.apart:
        raise Problem(
            "--crop best takes faces that are not measured: measure a share of them, "
            "with --held-out below 1"
        )
    indices, _ = readable(dataset.faces, dataset.others[:TRIED_ON])
    points_of, listed = dataset.faces.points_of[indices], dataset.faces.boxes[indices]
    (_, unit), tried = face_crop.boxes_of(points_of, listed, "bounds", dataset.faces.scheme), []
    boxes = ("bounds", "detector") if dataset.scheme.box else ("bounds",)
    rng = np.random.default_rng([dataset.settings.train.seed, 6])
    scatter = rng.standard_normal((1, len(indices), 3)) * dataset.settings.evaluate.box_scatter
    progress = Progress(len(boxes) * len(TRIED), "crops tried")
    for box in boxes:
        _, side = face_crop.boxes_of(points_of, listed, box, dataset.faces.scheme)
        for rule in [Rule(box, float(f"{times * np.median(unit / side):.2f}")) for times in TRIED]:
            squares = dataset.squares(indices, rule)[None]
            if dataset.scheme.box:
                squares = dataset.scattered(indices, squares[0], scatter)
            truth = dataset.truth(indices, squares)[0]
            size = next(iter(dataset.sizes(truth).values()))
            found = comparison.of_net(predictions(net, dataset.faces, indices, squares)[0])
            off = metrics.point_errors(found, comparison.of_truth(truth), size)
            tried.append((rule, float(np.nanmean(off))))
            progress.step()
    progress.close()
    return min(tried, key=lambda row: row[1])[0], tried

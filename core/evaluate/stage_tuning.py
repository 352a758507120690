"""Thresholds of a cascade for a wanted recall or time, found by running it.

The thresholds of the nets before the last one are taken from CANDIDATES. Recall and time both fall
as one of them rises, so those that reach the goal and those that don't lie on two sides of a
border; it is walked along, from the lowest threshold of the Pnet and the highest of the Rnet, which
takes as many runs as there are candidates for both, not for each pair. Every run is one of the real
detector. For the last net a single run tells all: the boxes over a higher threshold are those
of a lower one that have the score.

recall=R -- of those that reach the recall the fastest; the last threshold is as high as it may be
ms=T -- of those within the time the one with the best average precision, which doesn't depend on
    the last threshold; that is left as it is
"""

import dataclasses
import math

import numpy as np

from core.evaluate import metrics
from core.evaluate.run_detector import CASCADE
from core.evaluate.stage_figures import measure
from facelet.console import Problem, Progress

CANDIDATES = (0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
STEP = 1000  # the last threshold is a whole number of these parts of 1


def parse(text):
    """("recall" or "ms", number) of what --tune is given. Raises Problem."""
    what, _, number = text.partition("=")
    try:
        wanted = float(number)
    except ValueError:
        wanted = math.nan
    if not {"recall": 0 < wanted <= 1, "ms": 0 < wanted < math.inf}.get(what):
        raise Problem(f"--tune {text}: write recall=0.90, or ms=20 for milliseconds a picture")
    return what, wanted


def last_threshold(scores, recall, floor):
    """The highest threshold over which so large a part of faces is found, of those that are
    multiples of 1/STEP, and no less than the floor. scores -- (F,), best of each face"""
    needed = math.ceil(recall * len(scores) - 1e-9)
    lowest = np.sort(scores)[-needed]  # of those that have to be found
    # Rounded, as a float32 may lie a little over the number that it stands for.
    return max(floor, (math.ceil(round(float(lowest) * STEP, 3)) - 1) / STEP)


def search(trial, what, wanted, nets):
    """Try thresholds for a goal: the rows that trial() gave, in their order, and the best of them,
    None where none reaches the goal.

    trial -- function of thresholds (nets - 1,) giving a dict with "recall", "ms" and "ap"
    """
    columns = [CANDIDATES if i < nets - 1 else (None,) for i in range(2)]
    first, second, rows, good = 0, len(columns[1]) - 1, [], []
    while first < len(columns[0]) and second >= 0:
        pair = columns[0][first], columns[1][second]
        row = trial([value for value in pair if value is not None])
        rows.append(row)
        reached = row["recall"] >= wanted if what == "recall" else row["ms"] <= wanted
        good += [row] if reached else []
        # Recall wants thresholds low, time wants them high.
        if reached == (what == "recall"):
            first += 1
        else:
            second -= 1
    rank = {"recall": lambda row: -row["ms"], "ms": lambda row: row["ap"]}[what]
    return rows, max(good, key=rank, default=None)


def tune(detector, face_set, settings, goal, subset):
    """Thresholds (as many as config.detect.thresholds has) of a detector for a goal, see parsed(),
    measured on `subset` pictures spread over a FaceSet. Prints the table of what was tried.

    Raises Problem when nothing that was tried reaches the goal.
    """
    what, wanted = goal
    nets, before = sum(stage in detector.nets for stage in CASCADE), detector.settings.thresholds
    if what == "ms" and nets == 1:
        raise Problem(
            "--tune ms takes a cascade: the time of a Pnet by itself hardly depends on "
            "its threshold"
        )
    every = face_set.annotations
    step = max(1, len(every) // subset)
    face_set = dataclasses.replace(face_set, annotations=every[::step][:subset])
    progress = Progress(None, "pictures")
    iou, count = settings.evaluate.iou, len(face_set.annotations)
    print(f"thresholds for {what}={wanted:g}, on {count:,} pictures")
    print(f"{'thresholds':<20}{'recall':>8}{'boxes':>8}{'CPU ms':>8}{'AP':>8}")

    def trial(inner):
        last = before[nets - 1] if nets > 1 else CANDIDATES[0]
        measured = measure(
            detector.changed(thresholds=[*inner, last, *before[nets:]]),
            face_set,
            settings,
            progress,
        )
        scores = measured.face_scores(iou)
        if what == "recall":
            last = last_threshold(scores, wanted, measured.floor)
        row = {
            "thresholds": [*inner, last],
            "recall": float((scores > last).mean()),
            "boxes": sum((one.scores > last).sum() for one in measured.results)
            / len(measured.results),
            "ms": 1000 * measured.seconds.sum() / len(measured.results),
            "ap": metrics.average_precision(measured.curve(iou, settings.evaluate.min_face)),
        }
        print(
            f"{_text(row):<20}{row['recall']:>8.4f}{row['boxes']:>8.2f}{row['ms']:>8.1f}"
            f"{row['ap']:>8.4f}",
            flush=True,
        )
        return row

    rows, best = search(trial, what, wanted, nets)
    progress.close()
    if best is None:
        near = max(rows, key=lambda row: row["recall"] if what == "recall" else -row["ms"])
        raise Problem(
            f"no thresholds tried reach {what}={wanted:g}; the nearest, {_text(near)}, "
            f"have a recall of {near['recall']:.4f} and take {near['ms']:.1f} ms"
        )
    thresholds = [*best["thresholds"], *before[nets:]]
    print(f"detect.thresholds={','.join(f'{value:g}' for value in thresholds)}")
    return thresholds


def _text(row):
    return ",".join(f"{value:g}" for value in row["thresholds"])

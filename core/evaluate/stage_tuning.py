"""Settings of a cascade for a wanted recall, precision or time, found by running it.

The thresholds of the nets before the last one are taken from CANDIDATES. Recall and time both fall
as one of them rises, so those that reach the goal and those that don't lie on two sides of a
border; it is walked along, from the lowest threshold of the Pnet and the highest of the Rnet, which
takes as many runs as there are candidates for both, not for each pair. Every run is one of the real
detector. For the last net a single run tells all: the boxes over a higher threshold are those
of a lower one that have the score.

recall=R -- of those that reach the recall the fastest; the last threshold is as high as it may be
ms=T -- of those within the time the one with the best average precision, which doesn't depend on
    the last threshold; that is left as it is
precision=P -- the one with the best average precision; the last threshold is as low as it may be

For a time and a precision, OPTIONS are tried after it, one after another, and each kept that raises
the average precision, within the time.
"""

import dataclasses
import math

import numpy as np

from core.evaluate import metrics
from core.evaluate.run_detector import CASCADE
from core.evaluate.stage_figures import measure
from facelet.console import Problem, Progress

CANDIDATES = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
# Of what a mode keeps (facelet.nets.SETTINGS), for three nets; the factor also for two.
OPTIONS = {
    "factor": (0.6, 0.709, 0.79, 0.84),
    "mirror": (False, True),
    "vote": (1.0, 0.6, 0.5, 0.4),
    "blend": (0.0, 0.15, 0.3, 0.45),
}
STEP = 1000  # the last threshold is a whole number of these parts of 1


def parse(text):
    """("recall", "ms" or "precision", number) of what --tune is given. Raises Problem."""
    what, _, number = text.partition("=")
    try:
        wanted = float(number)
    except ValueError:
        wanted = math.nan
    part = 0 < wanted <= 1
    if not {"recall": part, "precision": part, "ms": 0 < wanted < math.inf}.get(what):
        raise Problem(
            f"--tune {text}: write recall=0.90, precision=0.95, or ms=20 for milliseconds a picture"
        )
    return what, wanted


def last_threshold(scores, recall, floor):
    """The highest threshold over which so large a part of faces is found, of those that are
    multiples of 1/STEP, and no less than the floor. scores -- (F,), best of each face"""
    needed = math.ceil(recall * len(scores) - 1e-9)
    lowest = np.sort(scores)[-needed]  # of those that have to be found
    # Rounded, as a float32 may lie a little over the number that it stands for.
    return max(floor, (math.ceil(round(float(lowest) * STEP, 3)) - 1) / STEP)


def lowest_threshold(curve, precision, floor):
    """The lowest threshold over which so large a part of boxes are faces, of those that are
    multiples of 1/STEP and no less than the floor; None where none is. curve -- a
    core.evaluate.metrics.Curve, of all boxes over the floor"""
    good = np.flatnonzero(curve.precision >= precision)
    if not len(good):
        return None
    if good[-1] == len(curve.scores) - 1:
        return floor
    # Over the score of the first box that is one too many.
    return max(floor, math.ceil(round(float(curve.scores[good[-1] + 1]) * STEP, 3)) / STEP)


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
        reached = _reaches(row, what, wanted)
        good += [row] if reached else []
        # Recall wants thresholds low, time wants them high.
        if reached == (what == "recall"):
            first += 1
        else:
            second -= 1
    return rows, max(good, key=_rank(what), default=None)


def _reaches(row, what, wanted):
    if what == "recall":
        return row["recall"] >= wanted
    return what == "precision" or row["ms"] <= wanted


def _rank(what):
    return (lambda row: -row["ms"]) if what == "recall" else (lambda row: row["ap"])


def refine(trial, best, what, wanted, options):
    """The best row, and {option: value}, after trying OPTIONS from `best` on, one after another.

    trial -- function of {option: value} giving a row; options -- {name: (its value now, others)}
    """
    chosen = {}
    for name, (now, values) in options.items():
        for value in values:
            if value == now:
                continue
            row = trial({**chosen, name: value})
            if _reaches(row, what, wanted) and row["ap"] > best["ap"]:
                best, chosen = row, {**chosen, name: value}
    return best, chosen


def tune(detector, face_set, settings, goal, subset):
    """Settings (facelet.settings.Settings) of a detector for a goal, see parse(), measured on
    `subset` pictures spread over a FaceSet: {name: value}, thresholds as many as
    config.detect.thresholds has. Prints the table of what was tried.

    Raises Problem when nothing that was tried reaches the goal.
    """
    what, wanted = goal
    nets, before = sum(stage in detector.nets for stage in CASCADE), detector.settings.thresholds
    if what != "recall" and nets == 1:
        raise Problem(
            f"--tune {what} takes a cascade: a Pnet by itself is measured over its threshold only"
        )
    every = face_set.annotations
    step = max(1, len(every) // subset)
    face_set = dataclasses.replace(face_set, annotations=every[::step][:subset])
    progress = Progress(None, "pictures")
    iou, count = settings.evaluate.iou, len(face_set.annotations)
    print(f"thresholds for {what}={wanted:g}, on {count:,} pictures")
    print(f"{'thresholds':<20}{'recall':>8}{'boxes':>8}{'CPU ms':>8}{'AP':>8}")

    def trial(inner, options=()):
        last = before[nets - 1] if nets > 1 else CANDIDATES[0]
        thresholds = [*inner, last, *before[nets:]]
        measured = measure(
            detector.changed(thresholds=thresholds, **dict(options)), face_set, settings, progress
        )
        scores = measured.face_scores(iou)
        curve = measured.curve(iou, settings.evaluate.min_face)
        if what == "recall":
            last = last_threshold(scores, wanted, measured.floor)
        if what == "precision":
            last = lowest_threshold(curve, wanted, measured.floor)
        over = 1 if last is None else last
        row = {
            "thresholds": [*inner, last],
            "recall": float((scores > over).mean()),
            "boxes": sum((one.scores > over).sum() for one in measured.results)
            / len(measured.results),
            "ms": 1000 * measured.seconds.sum() / len(measured.results),
            "ap": metrics.average_precision(curve),
        }
        named = " ".join(f"{name}={value:g}" for name, value in dict(options).items())
        print(
            f"{_text(row):<20}{row['recall']:>8.4f}{row['boxes']:>8.2f}{row['ms']:>8.1f}"
            f"{row['ap']:>8.4f}  {named}".rstrip(),
            flush=True,
        )
        return row

    rows, best = search(trial, what, wanted, nets)
    chosen = {}
    if best is not None and what != "recall":
        inner = best["thresholds"][:-1]
        names = ["factor"] if nets == 2 else list(OPTIONS)
        options = {name: (getattr(detector.settings, name), OPTIONS[name]) for name in names}
        best, chosen = refine(lambda some: trial(inner, some), best, what, wanted, options)
    progress.close()
    if best is None or best["thresholds"][-1] is None:
        near = max(rows, key=_nearest(what))
        raise Problem(
            f"no thresholds tried reach {what}={wanted:g}; the nearest, {_text(near)}, "
            f"have a recall of {near['recall']:.4f} and take {near['ms']:.1f} ms"
        )
    found = {"thresholds": [*best["thresholds"], *before[nets:]], **chosen}
    print(" ".join(f"detect.{name}={_value(value)}" for name, value in found.items()))
    return found


def _nearest(what):
    return (lambda row: -row["ms"]) if what == "ms" else (lambda row: row["recall"])


def _value(value):
    return ",".join(f"{one:g}" for one in value) if isinstance(value, list) else f"{value}"


def _text(row):
    return ",".join("none" if value is None else f"{value:g}" for value in row["thresholds"])

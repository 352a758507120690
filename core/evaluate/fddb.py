"""ROC curves by FDDB's rule.

    python -m core.evaluate fddb --data DIR --nets DIR --out FOLDER
    python -m core.evaluate fddb --data DIR --detections LIST --out FOLDER

leaves in FOLDER DiscROC.txt and ContROC.txt in the layout of FDDB's own evaluation, roc.png,
fddb.json, and with --nets what was found, detections.txt. FDDB as it is downloaded:

    DIR/FDDB-folds/FDDB-fold-01-ellipseList.txt     or DIR/<any>ellipseList.txt
    DIR/originalPics/2002/07/19/big/img_130.jpg     or DIR/2002/...; not needed with --detections

The rule: ellipses and boxes are masks of whole pixels, cut off at the picture's border. At every
score that there is, the boxes from it on and the ellipses of a picture are paired anew so that
the sum of their IoUs is greatest. A pair with IoU over 0.5 is a true positive of the discrete
curve; the continuous one sums IoUs instead. All other boxes are false positives, in both. Rates
are over the number of ellipses.

Ellipses reach over the border, and where it is only the pictures say. Where there are none they
are taken for 450 x 450 px, which no picture of FDDB exceeds.
"""

import sys
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from core.evaluate import detections, plots, run_detector
from facelet.console import Problem
from facelet.files import refuse_outside, write_json, write_text

LARGEST = 450  # px, longer side of FDDB's pictures
IOU = 0.5
FALSE_POSITIVES = (100, 500, 1000, 2000)  # where the curves are read


@dataclass(frozen=True)
class Roc:
    """What boxes with a score of at least scores[k], falling, do: (K,) each.

    false -- boxes that are no true positives; true -- those that are; shared -- sum of the IoUs of
    all pairs; faces -- ellipses
    """

    scores: np.ndarray
    false: np.ndarray
    true: np.ndarray
    shared: np.ndarray
    faces: int

    def at(self, false):
        """The last k with so many false positives or fewer; None if there is none."""
        few = np.flatnonzero(self.false <= false)
        return int(few[-1]) if len(few) else None


def overlaps(boxes, ellipses, width, height):
    """IoU of the masks of boxes (N, 4) and ellipses (F, 5) in a picture of a size: (N, F).

    ellipses -- radii along the axis and across it, the axis's angle from the x axis in radians,
        centre x and y

    Pixels as FDDB's evaluation takes them: corners and centres rounded, both corners within a box,
    radii cut to whole ones.
    """
    border = np.array([width, height] * 2)
    x1, y1, x2, y2 = np.clip(np.rint(boxes) + [0, 0, 1, 1], 0, border).astype(int).T
    areas = (x2 - x1) * (y2 - y1)
    result = np.zeros((len(boxes), len(ellipses)))
    for i, (long, short, angle, x, y) in enumerate(ellipses.tolist()):
        mask = np.zeros((height, width), np.uint8)
        cv2.ellipse(
            mask,
            (round(x), round(y)),
            (int(long), int(short)),
            np.degrees(angle),
            0,
            360,
            1,
            cv2.FILLED,
        )
        above = cv2.integral(mask)  # [y, x]: pixels of the ellipse above and left
        shared = above[y2, x2] - above[y1, x2] - above[y2, x1] + above[y1, x1]
        result[:, i] = shared / np.maximum(areas + above[-1, -1] - shared, 1)
    return result


def _steps(overlap, scores):
    """What a picture adds at each of its scores, falling: (K, 4) score, boxes, true, shared."""
    from scipy.optimize import linear_sum_assignment  # here, as it takes a while to import

    steps, before = [], np.zeros(3)
    for score in np.unique(scores)[::-1]:
        chosen = overlap[scores >= score]
        touching = chosen[chosen.any(axis=1)]
        pairs = touching[linear_sum_assignment(touching, maximize=True)]
        now = np.array([len(chosen), (pairs > IOU).sum(), pairs.sum()])
        steps.append([score, *(now - before)])
        before = now
    return np.reshape(steps, (-1, 4))


def roc(found, truth, sizes):
    """The Roc of detections.

    found -- picture: (boxes (N, 4), scores (N,)); truth -- picture: ellipses (F, 5) as in
    overlaps(); sizes -- picture: (width, height), where they are known
    """
    steps = [np.zeros((0, 4))]
    for name, (boxes, scores) in found.items():
        size = sizes.get(name, (LARGEST, LARGEST))
        steps.append(_steps(overlaps(boxes, truth[name], *size), scores))
    steps = np.concatenate(steps)
    steps = steps[np.argsort(-steps[:, 0], kind="stable")]
    scores, (count, true, shared) = steps[:, 0], np.cumsum(steps[:, 1:], axis=0).T
    last = np.flatnonzero(np.append(scores[1:] != scores[:-1], True)[: len(scores)])
    faces = sum(map(len, truth.values()))
    return Roc(scores[last], (count - true)[last], true[last], shared[last], faces)


# ---- files ---------------------------------------------------------------------------------


def read_truth(folder):
    """The ellipses of each picture in the lists in a folder, {name: (F, 5)}; a picture that comes
    more than once has those of all its entries, of equal ones one. Prints how many entries were
    merged. Raises Problem."""
    folder = Path(folder)
    lists = [
        *sorted(folder.glob("FDDB-folds/*ellipseList.txt")),
        *sorted(folder.glob("*ellipseList.txt")),
    ]
    if not lists:
        raise Problem(
            f"{folder} has no ground truth of FDDB: looked for FDDB-folds/"
            "FDDB-fold-01-ellipseList.txt and *ellipseList.txt"
        )
    truth, merged = {}, 0
    for file in lists:
        for name, rows in detections.groups(
            file,
            lambda row: min(row[:2]) > 0,
            5,
            "an ellipse as two radii, angle, centre x y and 1",
            repeated=True,
        ):
            refuse_outside(name, file)
            if name in truth:
                merged += 1
                rows = np.concatenate([truth[name], rows])
                rows = rows[np.sort(np.unique(rows, axis=0, return_index=True)[1])]
            truth[name] = rows
    if not sum(map(len, truth.values())):
        raise Problem(f"{lists[0]} has no ellipse")
    if merged:
        print(
            f"{folder}: merged {merged:,} entries of pictures that are listed more than once, each "
            f"ellipse once: {len(truth):,} pictures are left"
        )
    return truth


def find_pictures(folder, names):
    """The files of pictures below a folder of FDDB, {name: path}, or {} if there are none."""
    for images in (Path(folder) / "originalPics", Path(folder)):
        files = {name: images / f"{name}.jpg" for name in names}
        if any(file.exists() for file in files.values()):
            return files
    return {}


def official(curve):
    """Texts of the discrete and the continuous curve in the layout of FDDB's own evaluation: from
    the lowest score on `rate false positives score` and `rate false positives`."""
    rows = list(
        zip(curve.true / curve.faces, curve.shared / curve.faces, curve.false, curve.scores)
    )[::-1] + [(0, 0, 0, sys.float_info.max)]
    return (
        "".join(f"{true:g} {false:g} {score:g}\n" for true, _, false, score in rows),
        "".join(f"{shared:g} {false:g}\n" for _, shared, false, _ in rows),
    )


# ---- the program ---------------------------------------------------------------------------


def figures(curve, rule):
    """The figures of a Roc as fddb.json has them."""
    rows = []
    for false in FALSE_POSITIVES:
        k = curve.at(false)
        rows.append(
            {
                "false": false,
                "reached": bool(curve.false.max(initial=0) >= false),
                "true": 0 if k is None else int(curve.true[k]),
                "rate": 0.0 if k is None else curve.true[k] / curve.faces,
                "continuous": 0.0 if k is None else curve.shared[k] / curve.faces,
            }
        )
    return {
        "rule": rule,
        "faces": curve.faces,
        "boxes": int((curve.true + curve.false)[-1] if len(curve.true) else 0),
        "at": rows,
    }


def show(result):
    """The figures as lines."""
    print(f"{result['faces']:,} faces, {result['boxes']:,} boxes; {result['rule']}")
    print(f"{'false positives':>16}{'true':>8}{'rate':>9}{'continuous':>12}")
    for row in result["at"]:
        print(
            f"{row['false']:>16,}{row['true']:>8,}{row['rate']:>9.4f}{row['continuous']:>12.4f}"
            + ("" if row["reached"] else "  all boxes: there are no more false ones")
        )


def arguments(parser):
    parser.add_argument(
        "--data", required=True, metavar="DIR", help="ground truth: FDDB as it is downloaded"
    )
    made = parser.add_mutually_exclusive_group(required=True)
    made.add_argument("--nets", metavar="DIR", help=run_detector.NETS)
    made.add_argument("--detections", metavar="LIST", help=detections.LIST)
    parser.add_argument("--out", required=True, metavar="FOLDER", help="for figures and curves")


def main(args, settings):
    truth, out, path = read_truth(args.data), Path(args.out), args.detections
    files = find_pictures(args.data, truth)
    if args.nets:
        if not files:
            raise Problem(
                f"{args.data} has no pictures of FDDB: looked for originalPics/"
                f"{next(iter(truth))}.jpg"
            )
        detector = run_detector.open_floored(args.nets, args.settings, settings)
        path, sizes, texts = out / "detections.txt", {}, []
        for name, boxes, scores, size in run_detector.run(detector, files):
            sizes[name] = size
            texts.append(detections.text(name, boxes, scores))
        write_text(path, "".join(texts))
    else:
        sizes = run_detector.sizes(files) if files else {}
    found = detections.fitted(detections.read(path), truth, path)
    rule = run_detector.rule(detector) if args.nets else detections.rule_of_list(found, path)
    if len(sizes) < len(truth):
        rule += (
            f"; {len(truth) - len(sizes):,} of {len(truth):,} pictures are not there and "
            f"taken for {LARGEST} x {LARGEST} px"
        )
    curve = roc(found, truth, sizes)
    result = figures(curve, rule)
    show(result)
    for name, lines in zip(("DiscROC.txt", "ContROC.txt"), official(curve)):
        write_text(out / name, lines)
    write_json(out / "fddb.json", result)
    plots.roc(curve, out / "roc.png", rule)
    print(
        f"in {out}: DiscROC.txt, ContROC.txt, roc.png, fddb.json"
        + (", detections.txt" if args.nets else "")
    )

"""Average precision of any list of detections.

    python -m core.evaluate list --data FILE|DIR --detections LIST --out FOLDER
    python -m core.evaluate list --data FILE|DIR --detections LIST --iou 0.5:0.95 --out FOLDER

leaves in FOLDER list.json and curves.png.

The ground truth is a *_bbx_gt.txt, a wider_face_*.mat or a set's folder (prepare_data.wider);
boxes that it marks invalid are ignored. The list is detections.jsonl of core.detect, a text in
FDDB's layout or a folder in WIDER's (core.evaluate.detections). Pictures that it lacks count as
pictures without detections.

Faces count from each of evaluate.sizes on; core.evaluate.metrics.matches has the rule, COCO's.
Average precision is the area under the curve made to fall; 0.5:0.95 is the mean over ten IoUs,
0.05 apart.
"""

from pathlib import Path

import numpy as np

from core.evaluate import detections, metrics, plots, run_detector
from facelet.console import Problem, Progress
from facelet.files import write_json
from prepare_data import wider

STEP = 0.05  # between IoUs
PRECISIONS = (0.99, 0.95, 0.9, 0.8, 0.5)  # at which recall is shown


def read_truth(path, split):
    """The annotations in a file or, of a split, in a set's folder; there, faces outside of their
    pictures are left out (wider.in_picture), and named. Raises Problem."""
    path = Path(path)
    if not path.is_dir():
        return wider.read(path)[0]
    face_set = wider.open_set(path, split)
    files = {one.path: face_set.images / one.path for one in face_set.annotations if len(one.boxes)}
    sizes, annotations, outside = run_detector.sizes(files), [], []
    for one in face_set.annotations:
        if one.path in sizes:
            one, reasons = wider.in_picture(one, *sizes[one.path])
            outside += reasons
        annotations.append(one)
    run_detector.print_outside(outside)
    return annotations


def parse_ious(text):
    """IoUs of "0.5" or "0.5:0.95". Raises Problem."""
    try:
        low, colon, high = text.partition(":")
        low, high = float(low), float(high if colon else low)
        if not 0 < low <= high <= 1:
            raise ValueError
    except ValueError:
        raise Problem(
            f"--iou {text}: it must be a number in (0, 1], or two like 0.5:0.95"
        ) from None
    return np.round(low + STEP * np.arange(int((high - low) / STEP + 1.001)), 9)


def levels(curve):
    """Of a core.evaluate.metrics.Curve, for each of PRECISIONS the greatest recall with as much and
    the score from which it is reached: [(precision, recall, score), ...], None where there is
    none."""
    rows = []
    for precision in PRECISIONS:
        enough = np.flatnonzero(curve.precision >= precision)
        rows.append(
            (precision, float(curve.recall[enough[-1]]), float(curve.scores[enough[-1]]))
            if len(enough)
            else (precision, None, None)
        )
    return rows


def evaluate(found, annotations, ious, sizes, side="larger"):
    """Figures and curves of detections, which have the names that annotations have.

    Returns a list with a dict for each of `sizes` (px): "min_face", "faces", "ious",
    "average_precision" (one for each IoU), "mean", "levels" (see levels(), at the first IoU); and
    the Curves at the first IoU. Raises Problem where no face is that large.
    """
    truth = {
        one.path: (one.boxes, np.concatenate([one.ignored, one.unsure])) for one in annotations
    }
    rows, first = [], []
    progress = Progress(len(sizes) * len(truth), "pictures compared")
    for size in sizes:
        results = metrics.precision_recall(found, truth, ious, size, progress, side)
        if not results[0].faces:
            raise Problem(
                f"the ground truth has no face of {size:g} px or more: give other evaluate.sizes"
            )
        values = [metrics.average_precision(curve) for curve in results]
        rows.append(
            {
                "min_face": size,
                "faces": results[0].faces,
                "ious": [round(float(iou), 4) for iou in ious],
                "average_precision": values,
                "mean": float(np.mean(values)),
                "levels": levels(results[0]),
            }
        )
        first.append(results[0])
    progress.close()
    return rows, first


def show(rows):
    """The figures as lines."""
    ious = rows[0]["ious"]
    span = f"{ious[0]:g}" + (f":{ious[-1]:g}" if len(ious) > 1 else "")
    for row in rows:
        print(
            f"average precision at IoU {span}: {row['mean']:.4f} over {row['faces']:,} faces of "
            f"{row['min_face']:g} px and more"
        )
        if len(ious) > 1:
            print(
                "  "
                + "  ".join(
                    f"{iou:g}: {value:.4f}" for iou, value in zip(ious, row["average_precision"])
                )
            )
        print(f"  at IoU {ious[0]:g}{'precision':>12}{'recall':>9}{'scores from':>14}")
        for precision, recall, score in row["levels"]:
            print(
                f"{'':>{9 + len(f'{ious[0]:g}')}}{precision:>12g}"
                + (f"{'never':>9}" if recall is None else f"{recall:>9.4f}{score:>14.6g}")
            )


def arguments(parser):
    parser.add_argument(
        "--data",
        required=True,
        metavar="FILE|DIR",
        help="ground truth: a *_bbx_gt.txt, a wider_face_*.mat, or a folder laid out like WIDER "
        "FACE",
    )
    parser.add_argument(
        "--split", default="val", choices=("train", "val"), help="of a folder (default %(default)s)"
    )
    parser.add_argument("--detections", required=True, metavar="LIST", help=detections.LIST)
    parser.add_argument(
        "--iou", metavar="IOU", help="one, or several like 0.5:0.95 (default evaluate.iou)"
    )
    parser.add_argument("--out", required=True, metavar="FOLDER", help="for figures and curves")


def main(args, settings):
    ious = parse_ious(args.iou or str(settings.evaluate.iou))
    annotations, out = read_truth(args.data, args.split), Path(args.out)
    found = detections.fitted(
        detections.read(args.detections),
        [one.path for one in annotations],
        args.detections,
        {name: one.path for one in annotations for name in one.also},
    )
    rule = detections.rule_of_list(found, args.detections)
    rows, curves = evaluate(
        found, annotations, ious, settings.evaluate.sizes, settings.evaluate.side
    )
    boxes = sum(len(scores) for _, scores in found.values())
    print(f"{len(annotations):,} pictures, {boxes:,} boxes; {rule}")
    show(rows)
    write_json(out / "list.json", {"rule": rule, "truth": str(args.data), "figures": rows})
    plots.precision_recall(
        {
            f"faces from {row['min_face']:g} px: {row['average_precision'][0]:.3f}": curve
            for row, curve in zip(rows, curves)
        },
        out / "curves.png",
        f"IoU {ious[0]:g}\n{rule}",
    )
    print(f"in {out}: list.json, curves.png")

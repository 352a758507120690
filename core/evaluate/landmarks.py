"""Errors of the landmark points that nets give to annotated faces.

    python -m core.evaluate landmarks --weights FILE ... --faces FACES --out FOLDER
    python -m core.evaluate landmarks --weights A B --crop bounds:1.25,best --faces F --out FOLDER

leaves in FOLDER landmarks.json, errors-all.png and for each net faces-1.png: its worst faces and
those in the middle. FACES is a store of prepare_data.points cut, or what prepare_data.points check
takes. If a net's points are not those that the faces have, all nets are compared at the places that
their points and the faces' have in common (errors-shared.png); those with the faces' own points at
all of these too.

Measured are the faces of the pictures that training holds out (train.val_fraction, train.seed), or
of another share, but for pictures that a net compared was trained on, as its manifest has it
(prepare_data.held_out). The error of a face is the mean distance of its points from the true ones
over a size of the face, by each rule of core.evaluate.metrics.face_sizes. Beside each net stands
the mean face, which predicts the same for every crop: the mean of the points in exact crops of
other faces, each as it is and mirrored.

Crops are made from the true points, each net's by its own rule (prepare_data.face_crop.boxes_of).
Exact ones give away where the face is, and how large. So nets are measured on scattered ones too,
evaluate.box_draws of each face, the same for all nets: moved and scaled as a detector's boxes
scatter about faces (evaluate.box_scatter). How far the points of a face move with them, the root
mean square distance from their mean place, stands beside. No crop is turned.
"""

from pathlib import Path

from core.detect import nets
from core.evaluate import landmark_crops, landmark_pictures, landmark_tables, plots
from core.evaluate.landmark_comparisons import common_places, comparisons
from core.evaluate.landmark_crops import BEST, USUAL
from core.evaluate.landmark_figures import EXACT, NET, EvaluationSet, figures, measure
from core.formats.checkpoint import describe
from facelet.console import Problem, Progress
from facelet.files import write_json
from prepare_data.points import face_sets
from prepare_data.points import sets as points


def evaluate(opened, rules, dataset, out, settings, assignments=()):
    """Measure nets on an EvaluationSet; prints the figures, leaves them and pictures in the folder
    `out` and returns them, JSON values.

    opened -- the nets, each from open_net()
    rules -- for each net a landmark_crops.Rule, or BEST or USUAL for those that best() or usual()
        of that module give
    settings -- the whole config; assignments -- what was given of it, as "section.key=value"

    Raises Problem for points that can't be compared.
    """
    out = Path(out)
    trained_on = dataset.leave_out_trained_on(opened)
    truth = dataset.faces.scheme
    places = common_places([net.facts["scheme"] for net in opened], truth)
    result = {
        "faces": len(dataset.indices),
        "set": dataset.faces.describe(),
        "scheme": truth,
        "held_out": dataset.held_out,
        "skipped": dataset.skipped,
        "trained_on": trained_on,
        "mean_face_of": len(dataset.others),
        "nets": [],
        "boxes": {"draws": len(dataset.draws), "scatter": settings.evaluate.box_scatter},
    }
    worst, every_error, every_comparison = [], {}, {}
    for number, (net, rule) in enumerate(zip(opened, rules), 1):
        compared = comparisons(net.facts["scheme"], truth, places)
        every_comparison.update(compared)
        first, tried = next(iter(compared)), []
        if rule == BEST:
            rule, tried = landmark_crops.best(net, dataset, compared[first])
        elif rule == USUAL:
            rule = landmark_crops.usual(net, assignments)
        progress = Progress(len(dataset.indices) * (1 + len(dataset.draws)), "crops")
        found, exact = measure(net, rule, dataset, compared, progress)
        progress.close()
        result["nets"].append(
            {
                "file": net.name,
                "net": describe(net.facts["net"], net.facts["options"]),
                "points": net.facts["points"],
                "scheme": net.facts["scheme"],
                "crop": {"box": rule.box, "side": rule.side},
                "tried": [
                    {"box": one.box, "side": one.side, "error": error} for one, error in tried
                ],
                "views": _figures(found, compared),
            }
        )
        for name, by_boxes in found.items():
            every_error.setdefault(name, {})[number] = by_boxes
        worst.append((rule, compared[first], exact, found[first][EXACT][NET]))
    result["places"] = {name: one.names for name, one in every_comparison.items()}
    landmark_tables.show(result)
    out.mkdir(parents=True, exist_ok=True)
    written = []
    for name, comparison in every_comparison.items():
        written.append(f"errors-{name}.png")
        title = landmark_tables.picture_title(result, name)
        plots.landmarks(every_error[name], comparison, out / written[-1], title)
    for number, (row, one) in enumerate(zip(result["nets"], worst), 1):
        written.append(f"faces-{number}.png")
        landmark_pictures.worst(dataset, f"{row['file']}: {row['net']}", *one, out / written[-1])
    # Last: the figures count as whole when it is there.
    write_json(out / "landmarks.json", result)
    print(f"in {out}: {', '.join(['landmarks.json', *written])}")
    return result


def _figures(found, compared):
    """What measure() gives as JSON values."""
    return {
        name: {
            boxes: {
                predictor: figures(errors, compared[name])
                for predictor, errors in by_predictor.items()
            }
            for boxes, by_predictor in by_boxes.items()
        }
        for name, by_boxes in found.items()
    }


def open_net(path):
    """The net in a file (core.detect.nets.open_net), as evaluate() takes it. Raises Problem for one
    that gives no points, or gives them in an order that is not known."""
    net = nets.open_net(path)
    if "landmark" not in net.tasks or net.facts["stride"]:
        raise Problem(
            f"{net.name} holds {net.facts['net']}, which gives "
            f"{', '.join(net.tasks)}: a net that takes crops and gives points is needed"
        )
    if net.facts["scheme"] is None:
        raise Problem(
            f"{net.name} doesn't say in which order its {net.facts['points']} points "
            "are: convert it with python -m core.convert, or export it anew"
        )
    return net


def arguments(parser):
    parser.add_argument(
        "--weights",
        required=True,
        nargs="+",
        metavar="FILE",
        help="nets that give points: .params files, ONNX models or runs' folders",
    )
    parser.add_argument(
        "--crop",
        default=USUAL,
        metavar="BOX:SIDE|best|usual,...",
        help="what crops are cut around (crop.box) and their side in its sides, one for all nets "
        "or one each; best is looked for on faces that are not measured (default: usual, as the "
        "net was trained, or else crop.box and crop.plain)",
    )
    parser.add_argument(
        "--faces",
        required=True,
        metavar="FACES",
        help="faces with points: a store of prepare_data.points cut, a list or a folder",
    )
    points.arguments(parser)
    parser.add_argument(
        "--held-out",
        type=float,
        metavar="SHARE",
        help="share of the pictures to measure; 1: all (default: train.val_fraction)",
    )
    parser.add_argument("--out", required=True, metavar="FOLDER", help="for figures and pictures")


def main(args, settings):
    held_out = settings.train.val_fraction if args.held_out is None else args.held_out
    if not 0 < held_out <= 1:
        raise Problem(f"--held-out {held_out}: it must be over 0 and up to 1")
    rules = [landmark_crops.parse(text, settings) for text in args.crop.split(",")]
    if len(rules) not in (1, len(args.weights)):
        raise Problem(
            f"--crop names {len(rules)} crops for {len(args.weights)} nets: give one for all "
            "or one each"
        )
    opened = [open_net(path) for path in args.weights]
    faces = face_sets.open_faces(args.faces, args)
    dataset = EvaluationSet(faces, held_out, settings)
    rules *= len(opened) // len(rules)
    evaluate(opened, rules, dataset, args.out, settings, args.settings)

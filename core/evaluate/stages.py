"""What every net of a cascade lets through, on annotated pictures.

    python -m core.evaluate stages --nets DIR --data DIR --split val --out FOLDER
    python -m core.evaluate stages --pnet FILE --data DIR --out FOLDER        # a Pnet by itself
    python -m core.evaluate stages --nets DIR --data DIR --out FOLDER --tune recall=0.90

leaves in FOLDER stages.json (core.evaluate.stage_figures.figures says what is in it), recall.png,
detections.png, misses.png and false_alarms.png.

Pictures are taken at their own size. A face counts if its side (evaluate.side) is
evaluate.min_face or more and it isn't marked invalid; it is found when a box over the net's
threshold has an IoU with it that is large enough. One that is not found in the end was lost in the
net after which no box has had it any more. Milliseconds are of processor time, of all threads
together.

Average precision is over the last net's boxes with scores over evaluate.floor, if its threshold
isn't lower: boxes over a score that non-maximum suppression leaves are the same, whatever lower
score it began from. What matches an ignored, an unsure or a smaller face counts neither way
(core.evaluate.metrics.matches has the rule). A Pnet by itself is measured over its threshold only.
"""

from pathlib import Path

from core.base import options
from core.evaluate import plots, run_detector, stage_pictures, stage_tuning
from core.evaluate.stage_figures import figures, measure
from facelet.console import Problem, Progress
from facelet.detector import STAGES
from facelet.files import write_json
from facelet.nets import SETTINGS, write_mode
from prepare_data import teacher, wider

NAMES = {"pnet": "Pnet", "rnet": "Rnet", "onet": "Onet", "landmark": "net for landmark points"}
SUBSET = 200  # pictures that thresholds are tuned on
SKIPPED = 10  # pictures skipped that are named


def evaluate(detector, face_set, out, settings, drawn=20):
    """Measure a core.detect.FaceDetector of one, two or three nets on a FaceSet, with thresholds
    and whatever else it was made with. Prints the figures, leaves them and the pictures (`drawn`
    of them in detections.png) in the folder `out`, and returns them: see stage_figures.figures.

    settings -- the whole config, of which `evaluate` counts. Raises Problem as measure() does.
    """
    out, iou = Path(out), settings.evaluate.iou
    progress = Progress(len(face_set.annotations), "pictures")
    measured = measure(detector, face_set, settings, progress)
    progress.close()
    result, curves = figures(measured, detector, settings)
    result["rule"]["words"] = run_detector.rule(detector)
    show(result)
    out.mkdir(parents=True, exist_ok=True)
    write_json(out / "stages.json", result)
    plots.stages(result, curves, out / "recall.png")
    stage_pictures.detections(measured, out / "detections.png", drawn, iou)
    stage_pictures.misses(measured, out / "misses.png", iou)
    stage_pictures.false_alarms(measured, out / "false_alarms.png", iou)
    print(f"in {out}: stages.json, recall.png, detections.png, misses.png, false_alarms.png")
    return result


def show(result):
    """The figures as lines, with the rule that they hold by."""
    rule, stages, sizes = result["rule"], result["stages"], result["sizes"]
    print(
        f"{' + '.join(row['net'] for row in stages)}: {result['pictures']:,} pictures, "
        f"{result['faces']:,} faces of {rule['counted_from']:g} px and more"
    )
    print(f"rule: {rule['words']}")
    columns = ["all"] + [
        f"{size['from']:g}-" + (f"{size['to']:g}" if size["to"] else "") for size in sizes[1:]
    ]
    print(
        f"\n{'':<9}{'score':>6}{'boxes':>8}{'CPU ms':>8}{'':>6}  recall, by {rule['side']} side of "
        "the face, px"
    )
    print(
        f"{'':<9}{'over':>6}{'a pict.':>8}{'a pict.':>8}{'IoU':>6}"
        + "".join(f"{column:>9}" for column in columns)
    )
    for row in stages:
        first = (
            f"{row['stage']:<9}{row['threshold']:>6g}{row['boxes_per_picture']:>8.2f}"
            f"{row['ms_per_picture']:>8.2f}"
        )
        for iou, recall in row["recall"].items():
            print(f"{first:<31}{iou:>6}" + "".join(f"{value:>9.4f}" for value in recall))
            first = ""
    if result["landmark"]:
        print(f"{'landmark':<23}{result['landmark']['ms_per_picture']:>8.2f}")
    print(f"{'together':<23}{result['ms_per_picture']:>8.2f}")
    print(f"\n{'faces':<37}" + "".join(f"{size['faces']:>9,}" for size in sizes))
    for row in stages:
        title = f"lost in the {row['stage'].capitalize()}, IoU {result['iou']:g}"
        print(f"{title:<37}" + "".join(f"{lost:>9,}" for lost in row["lost"]))
    print(
        f"\naverage precision at IoU {result['iou']:g}, boxes with scores over "
        f"{rule['floor']:g}; ignored and unsure boxes ({result['neither']:,}) and smaller faces "
        "count neither way"
    )
    for row in result["average_precision"]:
        print(
            f"  {row['value']:.4f} over {row['faces']:,} faces of {row['min_face']:g} px and more"
        )
    if result["kinds"]:
        print(
            f"\nrecall at IoU {result['iou']:g} over {stages[-1]['threshold']:g}, by kind of face"
        )
    for row in result["kinds"]:
        print(f"  {row['kind']:<24}{row['recall']:>8.4f} of {row['faces']:,}")
    for reason in result["skipped"][:SKIPPED]:
        print(f"  skipped {reason}")
    if len(result["skipped"]) > SKIPPED:
        print(f"  skipped {len(result['skipped']):,} pictures in all")
    outside = result.get("outside", [])
    for reason in outside[:SKIPPED]:
        print(f"  left out {reason}")
    if outside:
        print(
            f"  left out {len(outside):,} faces outside of their pictures: they count neither way"
        )


def arguments(parser):
    parser.add_argument("--nets", metavar="DIR", help=run_detector.NETS)
    for stage in STAGES:
        parser.add_argument(
            f"--{stage}",
            metavar="FILE",
            help=f"the {NAMES[stage]}: a .params file, an ONNX model or a run's folder; it takes "
            "the place of the one in DIR",
        )
    parser.add_argument(
        "--data", required=True, metavar="DIR", help="pictures with boxes, laid out like WIDER FACE"
    )
    parser.add_argument("--split", default="val", choices=("train", "val"))
    parser.add_argument(
        "--teacher-boxes",
        metavar="FILE",
        help="what another detector finds in these pictures, made by python -m "
        "prepare_data.teacher: faces that it finds and nobody labelled count neither way",
    )
    parser.add_argument("--out", required=True, metavar="FOLDER", help="for figures and pictures")
    parser.add_argument(
        "--drawn",
        type=options.whole(1, 1000),
        default=20,
        metavar="N",
        help="pictures in detections.png (default %(default)s)",
    )
    parser.add_argument(
        "--tune",
        metavar="recall=R|precision=P|ms=T",
        help="first find the settings for this recall or precision after the last net, or for "
        "milliseconds a picture",
    )
    parser.add_argument(
        "--write",
        metavar="MODE",
        help="put the settings into the detector.json of --nets, as a mode of this name (fast, "
        "precise, ...)",
    )
    parser.add_argument("--mode", help="settings that the detector.json of --nets has under modes")
    parser.add_argument(
        "--subset",
        type=options.whole(1, options.MOST_PICTURES),
        default=SUBSET,
        metavar="N",
        help="pictures that --tune runs on (default %(default)s)",
    )


def main(args, settings):
    if not (args.nets or args.pnet):
        raise Problem("there are no nets: give --nets DIR or --pnet FILE")
    for option in ("write", "mode"):
        if getattr(args, option) and not args.nets:
            raise Problem(f"--{option} goes by the detector.json of --nets DIR: give one")
    goal = stage_tuning.parse(args.tune) if args.tune else None
    face_set = wider.open_set(args.data, args.split)
    if args.teacher_boxes:
        face_set = teacher.add_unlabelled(face_set, args.teacher_boxes, settings.teacher)
    files = {stage: getattr(args, stage) for stage in STAGES if getattr(args, stage)}
    detector = run_detector.open_detector(args.settings, settings, args.nets, args.mode, **files)
    if goal:
        tuned = stage_tuning.tune(detector, face_set, settings, goal, args.subset)
        detector = detector.changed(**tuned)
        print()
    evaluate(detector, face_set, args.out, settings, args.drawn)
    if args.write:
        used = {name: getattr(detector.settings, name) for name in SETTINGS}
        print(f"{write_mode(args.nets, args.write, used)}: has the mode {args.write} now")

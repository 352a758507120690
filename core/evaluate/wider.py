"""Average precision by WIDER FACE's rule.

    python -m core.evaluate wider --data DIR --nets DIR --out FOLDER
    python -m core.evaluate wider --data DIR --detections LIST --out FOLDER

leaves in FOLDER wider.json, curves.png and, with --nets, what was found in WIDER's own submission
layout, results/<event>/<picture>.txt. The same command goes on where it was stopped; results of
other nets or settings are made anew. WIDER FACE as it is downloaded:

    DIR/WIDER_val/images/<event>/<picture>.jpg      or DIR/images/...; not needed with --detections
    DIR/wider_face_split/wider_face_val.mat         or in any of the folders below
    DIR/eval_tools/ground_truth/wider_easy_val.mat  and medium, hard; or in DIR/ground_truth,
                                                    DIR/wider_face_split, DIR

The rule: scores of the whole set are brought to 0 to 1 and counted from 1,000 thresholds. In each
picture, best score first, a box belongs to the labelled box of greatest IoU, if that is 0.5 or
more, the first if there are several; boxes reach to the end of their last pixel (1 is added to
differences). A face is found by the first box that belongs to it, and others that do are false.
Those that belong to faces not of the difficulty count neither way. Average precision is the area
under the curve made to fall.

Before any figure the ground truth is taken for detections, which must score 1.
"""

import shutil
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from core.evaluate import detections, metrics, plots, run_detector
from facelet.console import Problem
from facelet.files import is_new, path_to_write, read_json, refuse_outside, write_json, write_text
from prepare_data import mat_file, wider

DIFFICULTIES = ("easy", "medium", "hard")
LISTS = ["event_list", "file_list", "face_bbx_list"]
IOU, THRESHOLDS = 0.5, 1000
PLACES = ("", "wider_face_split", "eval_tools/ground_truth", "ground_truth")


@dataclass(frozen=True)
class Truth:
    """The official ground truth: {picture: (M, 4) float64, x1 y1 x2 y2} of all labelled boxes, by
    difficulty {picture: (M,) bool}, which of them count, and {another name of a picture: its name}.
    Pictures are <event>/<file>, bare."""

    boxes: dict
    counted: dict
    also: dict = field(default_factory=dict)


def read_truth(folder, images=None):
    """The Truth in the .mat files in a folder, or where they are after download. Entries of one
    picture are merged, of their boxes that are equal one counts, if it does in each of them; prints
    how many. Raises Problem.

    images -- folder of the pictures, where it is known: names of one file are of one picture
    """
    mats = {name: _mat(folder, name) for name in ("face", *DIFFICULTIES)}
    entries, counted = [], {name: [] for name in DIFFICULTIES}
    listed = path = mats["face"][0]
    try:
        data = mats["face"][1]
        for i, event in enumerate(data["event_list"]):
            for j, file in enumerate(data["file_list"][i]):
                picture = wider.picture_path(f"{event}/{file}")
                xywh = np.asarray(data["face_bbx_list"][i][j], np.float64).reshape(-1, 4)
                refuse_outside(picture, path)
                if not (np.abs(xywh) < wider.FARTHEST).all():
                    raise ValueError(f"a box of {picture} that lies nowhere")
                corners = np.concatenate([xywh[:, :2], xywh[:, :2] + xywh[:, 2:]], axis=1)
                entries.append((picture, corners))
        for name in DIFFICULTIES:
            path, data = mats[name]
            for row in data["gt_list"]:
                for index in row:
                    picture, boxes = entries[len(counted[name])]
                    mask = np.zeros(len(boxes), bool)
                    # MATLAB counts from 1.
                    chosen = np.asarray(index, np.int64).reshape(-1)
                    if chosen.size and chosen.min() < 1:
                        raise IndexError(picture)
                    mask[chosen - 1] = True
                    counted[name].append(mask)
            if len(counted[name]) < len(entries):
                raise ValueError(f"{len(counted[name])} pictures")
            if not any(map(np.any, counted[name])):
                raise ValueError("no face")
    except Problem:
        raise
    except Exception as error:  # whatever a file with other things in it leads to
        reason = " ".join(f"{type(error).__name__} {error}".split())[:160]
        raise Problem(
            f"{path} is no ground truth of WIDER FACE's evaluation, or not of these "
            f"pictures ({reason})"
        ) from None
    truth = _merged(entries, counted, images)
    if len(truth.boxes) < len(entries):
        print(
            f"{listed}: merged {len(entries) - len(truth.boxes):,} entries of pictures that are "
            f"listed more than once: {len(truth.boxes):,} pictures are left"
        )
    return truth


def _merged(entries, counted, images):
    """The Truth of entries (picture, boxes) and which of these count, (M,) bool for each entry by
    difficulty."""
    truth, first = Truth({}, {name: {} for name in DIFFICULTIES}), {}
    for at, (name, boxes) in enumerate(entries):
        key = f"{name}.jpg" if images is None else wider.file_of(images, f"{name}.jpg")
        picture = first.setdefault(key, name)
        if picture != name:
            truth.also[name] = picture
        before = truth.boxes.get(picture, np.zeros((0, 4)))
        # Boxes that are equal within one entry stay, as the rule has it.
        same = (boxes[:, None] == before[None]).all(axis=2)
        new = ~same.any(axis=1)
        truth.boxes[picture] = np.concatenate([before, boxes[new]])
        for level in DIFFICULTIES:
            mask = counted[level][at]
            kept = truth.counted[level].get(picture, np.zeros(0, bool))
            kept = kept & ~(same & ~mask[:, None]).any(axis=0)
            truth.counted[level][picture] = np.concatenate([kept, mask[new]])
    return truth


def in_pictures(truth, images, path):
    """The Truth without those faces, of which most is outside of their pictures, counting: they
    count neither way, and are named. Raises Problem where many are.

    images -- folder of the pictures; path -- of the ground truth
    """
    faces = {}
    for picture, boxes in truth.boxes.items():
        real = np.flatnonzero((boxes[:, 2:] > boxes[:, :2]).all(axis=1))
        if len(real):
            faces[picture] = real
    wider.check_scale(
        path, images, [(f"{name}.jpg", truth.boxes[name][real]) for name, real in faces.items()]
    )
    sizes = run_detector.sizes({name: images / f"{name}.jpg" for name in faces})
    counted, reasons = {level: dict(truth.counted[level]) for level in DIFFICULTIES}, []
    for name, size in sizes.items():
        out = faces[name][wider.outside_of(truth.boxes[name][faces[name]], *size)]
        for level in DIFFICULTIES if len(out) else ():
            counted[level][name] = counted[level][name].copy()
            counted[level][name][out] = False
        reasons += [wider.outside_words(name, truth.boxes[name][i], *size) for i in out]
    run_detector.print_outside(reasons)
    return replace(truth, counted=counted)


def _mat(folder, name):
    places = [Path(folder) / place / f"wider_{name}_val.mat" for place in PLACES]
    path = next((place for place in places if place.exists()), None)
    if path is None:
        raise Problem(
            f"{places[0].name} is neither in {folder} nor in "
            f"{', '.join(PLACES[1:])} there: it comes with WIDER FACE's evaluation tools"
        )
    try:
        return path, mat_file.load(path, LISTS if name == "face" else ["gt_list"])
    except mat_file.ReaderError as error:
        raise Problem(f"{path} is no .mat file, or a damaged one ({error!s:.160})") from None


def curves(found, truth):
    """The core.evaluate.metrics.Curve of each difficulty, over thresholds of scores brought to 0 to
    1.

    found -- picture: (boxes (N, 4), scores (N,)); truth -- Truth
    """
    every = np.concatenate([np.zeros(0), *(scores for _, scores in found.values())])
    low, high = (every.min(), every.max()) if len(every) else (0, 0)
    given = {name: [np.zeros(0)] for name in DIFFICULTIES}  # scores of boxes that count ...
    hits = {name: [np.zeros(0)] for name in DIFFICULTIES}  # ... and of those that find a face
    for picture, (boxes, scores) in found.items():
        faces = truth.boxes[picture]
        if not len(boxes) or not len(faces):
            continue
        order = np.argsort(-scores, kind="stable")
        boxes, scores = boxes[order].astype(np.float64), scores[order].astype(np.float64)
        scores = (scores - low) / (high - low) if high > low else np.ones(len(scores))
        overlap = _iou(boxes, faces)
        best, belongs = overlap.argmax(axis=1), overlap.max(axis=1) >= IOU
        for name in DIFFICULTIES:
            wanted = truth.counted[name][picture][best]
            given[name].append(scores[wanted | ~belongs])
            finding = np.flatnonzero(wanted & belongs)
            hits[name].append(scores[finding[np.unique(best[finding], return_index=True)[1]]])
    thresholds = 1 - np.arange(1, THRESHOLDS + 1) / THRESHOLDS
    result = {}
    for name in DIFFICULTIES:
        boxes, right = (_from(np.concatenate(part[name]), thresholds) for part in (given, hits))
        faces = sum(int(mask.sum()) for mask in truth.counted[name].values())
        result[name] = metrics.Curve(thresholds, right / np.maximum(boxes, 1), right / faces, faces)
    return result


def _iou(boxes, others):
    """IoU of boxes whose corners are pixels, both within."""

    def sides(low, high):
        return np.maximum(np.minimum(*high) - np.maximum(*low) + 1, 0)

    def areas(of):
        return (of[:, 2] - of[:, 0] + 1) * (of[:, 3] - of[:, 1] + 1)

    pairs = [(boxes[:, None, i], others[None, :, i]) for i in range(4)]
    shared = sides(pairs[0], pairs[2]) * sides(pairs[1], pairs[3])
    return shared / np.where(shared > 0, areas(boxes)[:, None] + areas(others)[None] - shared, 1)


def _from(scores, thresholds):
    """How many scores are at each threshold or over it."""
    return len(scores) - np.searchsorted(np.sort(scores), thresholds)


def self_check(truth):
    """Average precision of the ground truth taken for detections, by difficulty: 1, less what no
    detection can find by the rule, which are boxes without an area and those drawn twice. Prints
    it. Raises Problem if it is anything else."""
    found, lost = {}, dict.fromkeys(DIFFICULTIES, 0)
    for picture, boxes in truth.boxes.items():
        first = np.sort(np.unique(boxes, axis=0, return_index=True)[1])
        usable = first[(boxes[first, 2:] - boxes[first, :2] > -1).all(axis=1)]
        found[picture] = boxes[usable], np.ones(len(usable))
        for name in DIFFICULTIES:
            lost[name] += int(np.delete(truth.counted[name][picture], usable).sum())
    words = []
    for name, curve in curves(found, truth).items():
        value = metrics.average_precision(curve)
        if abs(value - (1 - lost[name] / curve.faces)) > 1e-9:
            raise Problem(
                f"the ground truth taken for detections scores {value:.6f} for {name}, "
                "not 1: its files are damaged"
            )
        words.append(
            f"{value:.4f} {name}"
            + (f" ({lost[name]} of its boxes are empty or drawn twice)" if lost[name] else "")
        )
    print(f"self-check, the ground truth taken for detections: {', '.join(words)}")


# ---- the program ---------------------------------------------------------------------------


def find(detector, facts, images, names, out):
    """Run a detector over pictures of a folder, <event>/<picture>.jpg, into out/results. What is
    there already by the same `facts`, in out/results.json, is left. Raises Problem."""
    results, made_by = out / "results", out / "results.json"
    if not is_new(results) and not made_by.exists():
        raise Problem(
            f"{results} is there, and no {made_by.name} beside it that says what it was "
            "made by: remove it or choose another folder"
        )
    if made_by.exists() and read_json(made_by) != facts:
        print(f"{results} is by other nets or settings: it is made anew")
        shutil.rmtree(results, ignore_errors=True)
    write_json(made_by, facts)
    files = {name: path_to_write(results, f"{name}.txt") for name in names}
    missing = {name: images / f"{name}.jpg" for name in names if not files[name].exists()}
    if len(missing) < len(names):
        print(f"{results} has {len(names) - len(missing):,} of {len(names):,} pictures already")
    for name, boxes, scores, _ in run_detector.run(detector, missing):
        write_text(files[name], detections.text(f"{name}.jpg", boxes, scores))
    return results


def arguments(parser):
    parser.add_argument(
        "--data",
        required=True,
        metavar="DIR",
        help="ground truth: WIDER FACE as it is downloaded, or a folder of the four .mat files",
    )
    made = parser.add_mutually_exclusive_group(required=True)
    made.add_argument("--nets", metavar="DIR", help=run_detector.NETS)
    made.add_argument("--detections", metavar="LIST", help=detections.LIST)
    parser.add_argument("--out", required=True, metavar="FOLDER", help="for figures and curves")


def main(args, settings):
    images = next(
        (
            images
            for images in (Path(args.data) / "WIDER_val" / "images", Path(args.data) / "images")
            if images.is_dir()
        ),
        None,
    )
    truth, out, path = read_truth(args.data, images), Path(args.out), args.detections
    self_check(truth)
    if images is not None:
        truth = in_pictures(truth, images, args.data)
    if args.nets:
        if images is None:
            raise Problem(f"{args.data} has no pictures: looked for WIDER_val/images and images")
        detector = run_detector.open_floored(args.nets, args.settings, settings)
        path = find(
            detector, run_detector.facts(args.nets, detector), images, list(truth.boxes), out
        )
    found = detections.fitted(detections.read(path), truth.boxes, path, truth.also)
    rule = run_detector.rule(detector) if args.nets else detections.rule_of_list(found, path)
    result = curves(found, truth)
    values = {name: metrics.average_precision(curve) for name, curve in result.items()}
    boxes = sum(len(scores) for _, scores in found.values())
    print(f"{len(truth.boxes):,} pictures, {boxes:,} boxes; {rule}")
    for name, curve in result.items():
        print(f"  {name:<8}{values[name]:.4f}  over {curve.faces:,} faces")
    write_json(
        out / "wider.json",
        {
            "rule": rule,
            "iou": IOU,
            "pictures": len(truth.boxes),
            "average_precision": values,
            "faces": {n: c.faces for n, c in result.items()},
        },
    )
    plots.precision_recall(
        {f"{name}: {values[name]:.3f}": curve for name, curve in result.items()},
        out / "curves.png",
        f"WIDER FACE, validation set\n{rule}",
    )
    print(f"in {out}: wider.json, curves.png" + (", results" if args.nets else ""))

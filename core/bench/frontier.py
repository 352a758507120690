"""The benchmark of precision against time: core.bench frontier.

Each detector is measured at several settings, on one thread, on all pictures of a set with boxes:
cascades in each of their modes and from several smallest faces, YuNet models at several input
sizes, facenet-pytorch where it is installed. Average precision is over boxes with scores over
evaluate.floor, milliseconds are of detection at the detector's own last threshold, the median of
rounds in which all take their turns.
"""

import json
import os
import statistics
import tempfile
from pathlib import Path

import numpy as np

from config import config
from core.bench.common import machine, title
from core.bench.detect import PACKAGES, detecting
from core.bench.interleave import interleave
from core.evaluate import metrics, plots
from facelet import picture as pictures
from facelet.console import Problem, Progress
from facelet.files import read_json, write_json
from facelet.nets import MODES, place
from prepare_data import wider

IOUS, SIZES = (0.5, 0.7), (20, 40)  # of average precision: IoU, and faces from so many px
MIN_FACES = (20, 28, 40)  # that a cascade looks for, px
INPUTS = (0.35, 0.5, 0.7, 1.0)  # that a YuNet sees a picture at, of its size
TIMED = 24  # pictures that times are measured on
SECONDS = 2  # of a measurement
FACENET_FLOOR = 0.6, 0.7  # thresholds of its first two nets: its own


def points(nets, yunets, with_facenet):
    """What is measured, in order: [{"detector", "setting", and what detector_of() needs}]."""
    found = []
    for folder in nets:
        manifest = place(folder)[1]
        modes = list(read_json(manifest).get(MODES, {})) if manifest else []
        for mode in [None, *modes]:
            for min_face in MIN_FACES:
                found.append(
                    {
                        "detector": " ".join([Path(folder).name, *([mode] if mode else [])]),
                        "setting": f"faces from {min_face} px",
                        "nets": str(folder),
                        "mode": mode,
                        "min_face": min_face,
                    }
                )
    for model in yunets:
        for scale in INPUTS:
            found.append(
                {
                    "detector": Path(model).stem,
                    "setting": f"input {scale:g} of the size",
                    "yunet": str(model),
                    "scale": scale,
                }
            )
    if with_facenet:
        found.append({"detector": "facenet-pytorch", "setting": "its own, faces from 20 px"})
    return found


def detector_of(point, floor=None):
    """A function of a picture that gives boxes (N, 4) and scores (N,); floor -- the last
    threshold, None for the detector's own."""
    if "nets" in point:
        from core.detect.detector import FaceDetector

        found = FaceDetector.open(
            point["nets"], mode=point["mode"], min_face=point["min_face"], points=0
        )
        if floor is not None:
            found = found.changed(thresholds=(*found.settings.thresholds[:2], floor))
        return lambda picture: _both(found.detect(picture))
    if "yunet" in point:
        from core.detect.yunet import YuNet

        model, scale = YuNet(point["yunet"], floor or 0.6), point["scale"]

        def run(picture):
            height, width = picture.shape[:2]
            small = pictures.resize(picture, round(width * scale), round(height * scale))
            boxes, scores = model.detect(small if scale < 1 else picture)
            return boxes / scale, scores

        return run
    import torch
    from facenet_pytorch import MTCNN

    torch.set_num_threads(1)
    model = MTCNN(
        keep_all=True, min_face_size=20, thresholds=[*FACENET_FLOOR, floor or 0.7], device="cpu"
    )

    def run_facenet(picture):
        boxes, scores = model.detect(picture[:, :, ::-1].copy())
        return (np.zeros((0, 4)), np.zeros(0)) if boxes is None else (boxes, scores)

    return run_facenet


def _both(faces):
    return faces.boxes, faces.scores


def _timed(point):
    """As core.bench.detect.detecting() takes it."""
    run = detector_of(point)
    return lambda picture: len(run(picture)[0]), {}


def precisions(run, face_set, side):
    """Average precision of a function of a picture on a FaceSet, [by IOUS][by SIZES]; side -- of
    core.evaluate.metrics.SIDES."""
    found, truth = {}, {}
    progress = Progress(len(face_set.annotations), "pictures")
    for number, annotation in enumerate(face_set.annotations):
        picture = pictures.read(face_set.images / annotation.path)
        annotation, _ = wider.in_picture(annotation, *picture.shape[1::-1])
        found[number] = run(picture)
        truth[number] = annotation.boxes, annotation.ignored
        progress.step()
    progress.close()
    by_size = [metrics.precision_recall(found, truth, IOUS, size, side=side) for size in SIZES]
    return [[metrics.average_precision(curves[i]) for curves in by_size] for i in range(len(IOUS))]


def run(nets, data, split, yunets, with_facenet, rounds, out, as_json, side="larger"):
    """Measure, print, and leave frontier.json and frontier.png in `out`. Raises Problem."""
    os.environ.update(OMP_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1")
    face_set, wanted = wider.open_set(data, split), points(nets, yunets, with_facenet)
    names = [f"{point['detector']}, {point['setting']}" for point in wanted]
    if len(set(names)) < len(names):
        raise Problem("two folders or models have the same name: rename one, so rows can be told")
    rows = []
    for point, name in zip(wanted, names):
        print(name)
        found = precisions(detector_of(point, config.evaluate.floor), face_set, side)
        rows.append({**point, "average_precision": found})
    with tempfile.TemporaryDirectory() as folder:
        files, every = [], face_set.annotations
        for annotation in every[:: max(1, len(every) // TIMED)][:TIMED]:
            files.append(str(Path(folder) / f"{len(files)}.npy"))
            np.save(files[-1], pictures.read(face_set.images / annotation.path))
        competitors = {
            name: (detecting, _timed, point, files) for name, point in zip(names, wanted)
        }
        slices = interleave(competitors, rounds, SECONDS, "detection")
    for row, name in zip(rows, names):
        row["ms"] = statistics.median(one["ms"] for one in slices[name])
        row["best_ms"] = min(one["ms"] for one in slices[name])
    result = {
        "machine": machine(PACKAGES),
        "set": f"{face_set.truth.name}, {len(face_set.annotations):,} pictures",
        "ious": IOUS,
        "sizes": SIZES,
        "side": side,
        "floor": config.evaluate.floor,
        "rows": rows,
    }
    out = Path(out)
    out.mkdir(parents=True, exist_ok=True)
    write_json(out / "frontier.json", result)
    plots.frontier(result, out / "frontier.png")
    if as_json:
        print(json.dumps(result, indent=1))
        return
    show(result)
    print(f"in {out}: frontier.json, frontier.png")


def show(result):
    """The figures as a table."""
    print(title(result["machine"]))
    print(
        f"{result['set']}; one thread; scores over {result['floor']:g}; average precision of faces "
        f"by their {result['side']} side"
    )
    columns = [f"{size}px {iou:g}" for iou in result["ious"] for size in result["sizes"]]
    heads = "".join(f"{column:>10}" for column in columns)
    print(f"{'':<26}{'':<28}{heads}{'ms':>9}{'best':>9}")
    for row in result["rows"]:
        values = "".join(f"{v:>10.4f}" for by_size in row["average_precision"] for v in by_size)
        print(
            f"{row['detector']:<26}{row['setting']:<28}{values}{row['ms']:>9.2f}"
            f"{row['best_ms']:>9.2f}"
        )

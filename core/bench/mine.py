"""The benchmark of mining: core.bench mine.

The same pictures, nets and thresholds, from reading the first picture to the last sample on disk:

ours -- prepare_data.mine on all cores, with the start of its processes, and without its caps
baseline -- as train-mtcnn does: one process, in which MXNet may use all cores, detects in every
    picture as core.bench.detect says, keeps all boxes, then reads every picture again, takes the
    squares of 20 pixels and more that lie inside it, compares each with the faces, and writes each
    crop as a JPEG file
"""

import contextlib
import io
import json
import statistics
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np

from config import config, override
from core.bench.interleave import interleave
from facelet import picture as pictures
from facelet.console import Problem
from prepare_data import wider

SIZES = {"pnet": 20, "rnet": 24, "onet": 48}  # of the crops by the net they are for, px
PACKAGES = ("onnxruntime", "mxnet", "numpy", "opencv-python-headless")


def _sample(folder, split, count):
    """A FaceSet of up to `count` pictures that can be read, spread over a set."""
    face_set = wider.open_set(folder, split)
    every = face_set.annotations
    chosen = []
    for annotation in every[:: max(1, len(every) // count)][:count]:
        with contextlib.suppress(pictures.BrokenPicture):
            pictures.read(face_set.images / annotation.path)
            chosen.append(annotation)
    return replace(face_set, annotations=chosen)


# ---- competitors: whole runs over the pictures, giving seconds and samples -------------------


def ours(face_set, nets, target):
    from prepare_data import mine

    settings = override(config, ["mine.per_picture=100000", "mine.total=1000000000"])

    def run(folder):
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            return sum(
                mine.make_store(
                    face_set, nets, target, SIZES[target], folder / "store", settings
                ).values()
            )

    return run


def baseline(face_set, nets, target):
    from core.bench.detect import train_mtcnn

    detect = train_mtcnn(nets, config.mine[target])
    detect(cv2.imread(str(face_set.images / face_set.annotations[0].path)))  # MXNet makes its own

    def run(folder):
        found = [
            detect(cv2.imread(str(face_set.images / annotation.path)))
            for annotation in face_set.annotations
        ]
        written = 0
        for annotation, boxes in zip(face_set.annotations, found):
            picture = cv2.imread(str(face_set.images / annotation.path))
            for crop in _crops(picture, boxes, annotation.boxes, SIZES[target]):
                cv2.imwrite(str(folder / f"{written}.jpg"), crop)
                written += 1
        return written

    return run


def _crops(picture, boxes, faces, size):
    from core.bench.detect import whole_pixel_squares

    height, width = picture.shape[:2]
    areas = (faces[:, 2] - faces[:, 0] + 1) * (faces[:, 3] - faces[:, 1] + 1)
    for x1, y1, x2, y2 in whole_pixel_squares(boxes).astype(int):
        if (
            x2 - x1 + 1 < config.mine.min_side
            or x1 < 0
            or y1 < 0
            or x2 > width - 1
            or y2 > height - 1
        ):
            continue
        shared = np.maximum(
            0, np.minimum(x2, faces[:, 2]) - np.maximum(x1, faces[:, 0]) + 1
        ) * np.maximum(0, np.minimum(y2, faces[:, 3]) - np.maximum(y1, faces[:, 1]) + 1)
        overlap = shared / (areas + (x2 - x1 + 1) * (y2 - y1 + 1) - shared)
        if overlap.max(initial=0) < config.mine.max_negative_iou:
            yield cv2.resize(picture[y1 : y2 + 1, x1 : x2 + 1], (size, size))


def mining(make, face_set, nets, target):
    """Measures a competitor: whole runs, whatever the seconds."""
    run = make(face_set, nets, target)

    def measure_for(seconds):
        with tempfile.TemporaryDirectory() as folder:
            start = time.perf_counter()
            samples = run(Path(folder))
            return time.perf_counter() - start, samples

    return measure_for


# ---- the program -----------------------------------------------------------------------------


def measure(face_set, nets, target, rounds):
    """Rows of the table for one net that is mined for, ours first."""
    from prepare_data import mine

    nets = {stage: str(path) for stage, path in mine.cascade_for(target, nets).items()}
    figures = interleave(
        {make.__name__: (mining, make, face_set, nets, target) for make in (ours, baseline)},
        rounds,
        0,
        f"mining for the {target}",
    )
    rows, count = [], len(face_set.annotations)
    for name, slices in figures.items():
        rates = [count / seconds for seconds, _ in slices]
        rows.append(
            {
                "for": target,
                "competitor": name,
                "pictures": count,
                "median": statistics.median(rates),
                "best": max(rates),
                "samples": slices[-1][1],
            }
        )
    for row in rows:
        row["ratio"] = row["median"] / rows[-1]["median"]
    return rows


def run(nets, data, split, count, targets, rounds, as_json):
    """Measure and print. Raises Problem."""
    from core.bench.common import machine, title
    from core.detect.nets import in_folder

    if count < 1:
        raise Problem(f"--count {count}: it must be at least 1")
    paths = in_folder(nets)[0]
    if any(Path(path).suffix == ".onnx" for path in paths.values()):
        raise Problem(
            f"{nets} holds ONNX models, which the baseline can't run: give a folder of "
            ".params files"
        )
    facts, every = machine(PACKAGES), []
    with tempfile.TemporaryDirectory() as made:
        if data is None:
            from prepare_data.drawn import sets as drawn

            with contextlib.redirect_stderr(io.StringIO()):
                drawn.draw_sample_set(Path(made) / "drawn", count=count, val_fraction=0)
        face_set = _sample(data or Path(made) / "drawn", split, count)
        if not as_json:
            print(title(facts))
            print(
                f"{len(face_set.annotations)} pictures from {data or 'the drawn set'}, faces "
                f"from {config.detect.min_face} px"
            )
            print(f"{'':<24}{'pictures/s':>12}{'best':>10}{'ratio':>9}{'samples':>10}", flush=True)
        for target in targets:
            rows = measure(face_set, paths, target, rounds)
            every += rows
            if not as_json:
                for row in rows:
                    print(
                        f"for the {target:<6}{row['competitor']:<10}{row['median']:>12.1f}"
                        f"{row['best']:>10.1f}{row['ratio']:>8.2f}x{row['samples']:>10,}",
                        flush=True,
                    )
    if as_json:
        print(json.dumps([{**row, "machine": facts} for row in every], indent=1))

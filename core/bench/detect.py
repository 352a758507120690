"""The benchmark of detectors: core.bench detect.

Everything runs on one thread, but for a row that says otherwise, at the same smallest face, on the
same pictures brought to the same size. The baseline runs the same nets as train-mtcnn does, in
MXNet: one call per scale, for which the Pnet is bound to its input anew; a loop over the crops, in
batches of one size that repetitions fill; whole-pixel boxes. Others are measured where they are
installed (facenet-pytorch, with the weights of its package) or given (YuNet models, which take a
picture once, at its own size: through OpenCV, or, where the model leaves the size open, the net
alone in onnxruntime).
"""

import json
import os
import resource
import statistics
import tempfile
import time
from functools import partial
from itertools import cycle
from pathlib import Path

import cv2
import numpy as np

from config import config
from core.bench.interleave import interleave
from facelet import picture as pictures
from facelet.console import Problem

SIZES = ("320x240", "640x480", "short side 416", "1920x1080")
ORT = "ours, onnxruntime"  # the same detector without its engine
TWO = "ours, two threads"
# How many times the speed of a competitor is aimed at, by size; for TWO, its own to that of one.
TARGETS: dict[str, dict[str, float]] = {
    TWO: {"1920x1080": 1.7},
    "baseline": {"640x480": 6, "short side 416": 6, "1920x1080": 3},
    "facenet": {"640x480": 5, "short side 416": 5},
    ORT: {"640x480": 3, "short side 416": 3, "1920x1080": 4},
}
PICTURES = 12  # measured on, at most
YUNET_STRIDE = 32  # of its coarsest map: sides of its input are multiples
SECONDS = 3  # of a measurement
BASELINE_BATCH = {1: 256, 2: 16}  # crops for train-mtcnn's Rnet, Onet
PACKAGES = ("onnxruntime", "mxnet", "numpy", "opencv-python-headless", "facenet-pytorch", "torch")


def sized(picture, size):
    """A picture at one of SIZES: scaled, and for the fixed ones its middle cut out."""
    height, width = picture.shape[:2]
    if size == "short side 416":
        scale = 416 / min(height, width)
        return pictures.resize(picture, round(width * scale), round(height * scale))
    across, down = map(int, size.split("x"))
    scale = max(across / width, down / height)
    picture = pictures.resize(
        picture, max(across, round(width * scale)), max(down, round(height * scale))
    )
    top, left = (picture.shape[0] - down) // 2, (picture.shape[1] - across) // 2
    return np.ascontiguousarray(picture[top : top + down, left : left + across])


# ---- competitors: functions of a picture that give the number of faces -----------------------


def ours(nets, min_face, engine, threads=1):
    from core.detect.detector import FaceDetector

    detector = FaceDetector(**nets, min_face=min_face, engine=engine, threads=threads)
    spent = {}

    def run(picture):
        if engine != "onnxruntime":  # the engine makes all stages in one call
            return len(detector.found(picture))
        start = time.perf_counter()
        for stage, faces in detector.stages(picture):
            now = time.perf_counter()
            seconds, boxes = spent.get(stage, (0, 0))
            spent[stage] = seconds + now - start, boxes + len(faces)
            start = now
        return len(faces)

    return run, spent


def _whole_pixel_nms(boxes, scores, threshold, smaller=False):
    x1, y1, x2, y2 = boxes.T
    area, left, kept = (x2 - x1 + 1) * (y2 - y1 + 1), scores.argsort()[::-1], []
    while left.size:
        best, left = left[0], left[1:]
        kept.append(best)
        shared = np.maximum(
            0, np.minimum(x2[best], x2[left]) - np.maximum(x1[best], x1[left]) + 1
        ) * np.maximum(0, np.minimum(y2[best], y2[left]) - np.maximum(y1[best], y1[left]) + 1)
        whole = np.minimum(area[best], area[left]) if smaller else area[best] + area[left] - shared
        left = left[shared <= threshold * whole]
    return kept


def _whole_pixel_sides(boxes):
    return np.stack([boxes[:, 2] - boxes[:, 0] + 1, boxes[:, 3] - boxes[:, 1] + 1] * 2, axis=1)


def whole_pixel_squares(boxes):
    sides = _whole_pixel_sides(boxes)
    side = sides.max(axis=1)
    corner = boxes[:, :2] + (sides[:, :2] - side[:, None]) / 2
    return np.round(np.concatenate([corner, corner + side[:, None] - 1], axis=1))


def train_mtcnn(nets, thresholds, min_face=None):
    """A function of a picture that gives boxes (N, 4) as train-mtcnn does, from first to last
    pixel; `nets` are paths of a Pnet, or a Pnet and an Rnet, or all three, by stage."""
    from core.detect.mxnet_net import MxNet
    from core.formats import checkpoint

    stages = [checkpoint.load(nets[stage]) for stage in ("pnet", "rnet", "onet") if stage in nets]
    settings, cell, stride = config.detect, stages[0].spec.cell, stages[0].spec.stride
    min_face = settings.min_face if min_face is None else min_face
    proposing = MxNet(stages[0], kept=1)  # each scale has another shape: bound anew every time
    refining = {number: MxNet(stages[number]) for number in range(1, len(stages))}

    def made(picture):
        return ((picture.astype(np.float32) - config.input.mean) * config.input.scale).transpose(
            2, 0, 1
        )[None]

    def proposals(picture):
        height, width = picture.shape[:2]
        found, scale = [(np.zeros((0, 4)), np.zeros(0), np.zeros((0, 4)))], cell / min_face
        while min(int(height * scale), int(width * scale)) > cell:
            scaled = cv2.resize(picture, (int(width * scale), int(height * scale)))
            out = proposing(made(scaled))
            prob, offsets = out["cls"][0, 1], out["bbox"][0]
            rows, columns = np.where(prob > thresholds[0])
            boxes = np.round(
                np.stack(
                    [
                        stride * columns,
                        stride * rows,
                        stride * columns + cell,
                        stride * rows + cell,
                    ],
                    axis=1,
                )
                / scale
            )
            kept = _whole_pixel_nms(boxes, prob[rows, columns], settings.nms_scale)
            found.append(
                (boxes[kept], prob[rows, columns][kept], offsets[:, rows, columns].T[kept])
            )
            scale *= settings.factor
        boxes, scores, offsets = map(np.concatenate, zip(*found))
        kept = _whole_pixel_nms(boxes, scores, settings.nms[0])
        return boxes[kept] + offsets[kept] * _whole_pixel_sides(boxes[kept])

    def crop(picture, box, size):
        height, width = picture.shape[:2]
        x1, y1, x2, y2 = box.astype(int)
        whole = np.zeros((y2 - y1 + 1, x2 - x1 + 1, 3), np.uint8)
        left, top = max(x1, 0), max(y1, 0)
        part = picture[top : y2 + 1, left : x2 + 1] if x2 >= 0 and y2 >= 0 else picture[:0]
        whole[top - y1 : top - y1 + part.shape[0], left - x1 : left - x1 + part.shape[1]] = part
        return made(cv2.resize(whole, (size, size)))

    def refined(picture, boxes, number):
        squares = whole_pixel_squares(boxes)
        size, batch = stages[number].spec.size, BASELINE_BATCH[number]
        crops = np.concatenate([crop(picture, box, size) for box in squares])
        out = [
            refining[number](np.resize(crops[i : i + batch], (batch, *crops.shape[1:])))
            for i in range(0, len(crops), batch)
        ]
        scores, offsets = (
            np.concatenate([part[task] for part in out])[: len(crops)] for task in ("cls", "bbox")
        )
        scores = scores[:, 1]
        chosen = scores > thresholds[number]
        squares, scores, offsets = squares[chosen], scores[chosen], offsets[chosen]
        moved = squares + offsets * _whole_pixel_sides(squares)
        kept = (
            _whole_pixel_nms(squares, scores, settings.nms[1])
            if number == 1
            else _whole_pixel_nms(moved, scores, settings.nms[2], smaller=True)
        )
        return moved[kept]

    def run(picture):
        boxes = proposals(picture)
        for number in refining:
            boxes = boxes[(boxes[:, 2:] > boxes[:, :2]).all(axis=1)]
            if len(boxes):
                boxes = refined(picture, boxes, number)
        return boxes

    return run


def baseline(nets, min_face):
    detect = train_mtcnn(nets, config.detect.thresholds, min_face)
    return lambda picture: len(detect(picture)), {}


def facenet(nets, min_face):
    import torch
    from facenet_pytorch import MTCNN

    torch.set_num_threads(1)
    detector = MTCNN(keep_all=True, min_face_size=min_face, device="cpu")

    def run(picture):
        boxes, _ = detector.detect(picture[:, :, ::-1].copy())
        return 0 if boxes is None else len(boxes)

    return run, {}


def yunet(nets):
    from core.detect.yunet import YuNet

    detector = YuNet(nets["model"])
    return lambda picture: len(detector.detect(picture)[0]), {}


def yunet_net(nets):
    """The net of a YuNet model of any size, without what makes boxes of its maps: no faces."""
    from onnxruntime import InferenceSession, SessionOptions

    options = SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = InferenceSession(nets["model"], options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name

    def run(picture):
        down, right = (-side % YUNET_STRIDE for side in picture.shape[:2])
        picture = cv2.copyMakeBorder(picture, 0, down, 0, right, cv2.BORDER_CONSTANT)
        session.run(None, {name: picture.astype(np.float32).transpose(2, 0, 1)[None]})
        return 0

    return run, {}


def _any_size(model):
    """Whether an ONNX model leaves the height of its input open. Raises Problem."""
    from onnxruntime import InferenceSession

    try:
        session = InferenceSession(str(model), providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's own, of several kinds
        raise Problem(f"{model} can't be read: {str(error).splitlines()[0]}") from None
    return not isinstance(session.get_inputs()[0].shape[2], int)


def detecting(make, nets, files):
    """Measures detection on the pictures in `files` (.npy): figures as a dict."""
    cv2.setNumThreads(1)
    run, spent = make(nets)
    loaded = [np.load(file) for file in files]
    for picture in loaded[:2]:
        run(picture)

    def measure_for(seconds):
        spent.clear()
        times, faces, start = [], 0, time.perf_counter()
        for picture in cycle(loaded):
            before = time.perf_counter()
            faces += run(picture)
            times.append(time.perf_counter() - before)
            if times[-1] + before - start >= seconds and len(times) >= len(loaded):
                break
        return {
            "ms": 1000 * statistics.mean(times),
            "faces": faces / len(times),
            "mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
            "stages": {
                stage: (1000 * seconds / len(times), boxes / len(times))
                for stage, (seconds, boxes) in spent.items()
            },
        }

    return measure_for


# ---- the program -----------------------------------------------------------------------------


def _pictures(folder, drawn_into):
    """Up to PICTURES pictures, spread over a folder or else drawn."""
    if folder is None:
        from prepare_data.drawn import sets as drawn

        drawn.draw_sample_set(drawn_into / "drawn", count=PICTURES, val_fraction=0)
        folder = drawn_into / "drawn"
    paths = pictures.in_folder(folder)
    if not paths:
        raise Problem(f"{folder} holds no pictures")
    return [pictures.read(path) for path in paths[:: max(1, len(paths) // PICTURES)][:PICTURES]]


def _installed(package):
    from importlib.util import find_spec

    return find_spec(package) is not None


def measure(nets, size, sample, yunets, rounds, seconds=SECONDS, min_face=None):
    """Rows of the table for one of SIZES, ours first."""
    min_face = config.detect.min_face if min_face is None else min_face
    with tempfile.TemporaryDirectory() as folder:
        files = []
        for number, picture in enumerate(sample):
            files.append(str(Path(folder) / f"{number}.npy"))
            np.save(files[-1], sized(picture, size))
        competitors = {
            "ours": (detecting, partial(ours, min_face=min_face, engine="auto"), nets, files),
            TWO: (
                detecting,
                partial(ours, min_face=min_face, engine="auto", threads=2),
                nets,
                files,
            ),
            ORT: (detecting, partial(ours, min_face=min_face, engine="onnxruntime"), nets, files),
        }
        if set(nets) >= {"pnet", "rnet", "onet"}:
            competitors["baseline"] = detecting, partial(baseline, min_face=min_face), nets, files
        if _installed("facenet_pytorch"):
            competitors["facenet"] = detecting, partial(facenet, min_face=min_face), {}, files
        for model in yunets:
            make = yunet_net if _any_size(model) else yunet
            name = Path(model).stem + (", net" if make is yunet_net else "")
            competitors[name] = (detecting, make, {"model": str(model)}, files)
        figures = interleave(competitors, rounds, seconds, f"detection, {size}")
    rows = []
    for name, slices in figures.items():
        ms = statistics.median(one["ms"] for one in slices)
        row = {
            "size": size,
            "min_face": min_face,
            "competitor": name,
            "ms": ms,
            "best_ms": min(s["ms"] for s in slices),
            "faces": slices[-1]["faces"],
            "mb": max(one["mb"] for one in slices),
            "stages": {
                stage: (
                    statistics.median(one["stages"][stage][0] for one in slices),
                    slices[-1]["stages"][stage][1],
                )
                for stage in slices[-1]["stages"]
            },
        }
        row["ratio"] = ms / rows[0]["ms"] if rows else 1.0
        row["target"] = TARGETS.get(name, {}).get(size)
        rows.append(row)
    return rows


def _show(rows):
    for row in rows:
        times = 1 / row["ratio"] if row["competitor"] == TWO else row["ratio"]
        verdict = (
            ""
            if row["target"] is None
            else (f"{row['target']}x, {'met' if times >= row['target'] else 'missed'}")
        )
        print(
            f"{row['size']:<16}{row['competitor']:<22}{row['ms']:>9.1f}{row['best_ms']:>9.1f}"
            f"{row['ratio']:>8.2f}x{row['faces']:>8.1f}{row['mb']:>8.0f}  {verdict}".rstrip()
        )
        for stage, (ms, boxes) in row["stages"].items():
            print(f"{'':<16}  {stage:<20}{ms:>9.1f}{'':>18}{boxes:>8.1f}")
    print(flush=True)


def run(nets, folder, yunets, rounds, as_json, min_faces=None):
    """Measure and print, for each smallest face. Raises Problem."""
    min_faces = min_faces or [config.detect.min_face]
    from core.bench.common import machine, title
    from core.detect.nets import in_folder

    # Before any competitor's process starts, as these are read once, at import.
    os.environ.update(OMP_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1")
    paths = {stage: str(path) for stage, path in in_folder(nets)[0].items()}
    if any(Path(path).suffix == ".onnx" for path in paths.values()):
        raise Problem(
            f"{nets} holds ONNX models, which the baseline can't run: give a folder of "
            ".params files"
        )
    with tempfile.TemporaryDirectory() as made:
        sample = _pictures(folder, Path(made))
    facts = machine(PACKAGES)
    if not as_json:
        print(title(facts))
        print(
            "one thread, "
            + ", ".join(Path(path).name for path in paths.values())
            + f", {len(sample)} pictures from {folder or 'the drawn set'}, thresholds "
            f"{config.detect.thresholds}"
        )
        if not _installed("facenet_pytorch"):
            print(
                "facenet-pytorch is not installed: pip install --no-deps facenet-pytorch==2.6.0 "
                "beside torch measures it too"
            )
        print(f"{'':<38}{'ms':>9}{'best':>9}{'to ours':>9}{'faces':>8}{'MB':>8}  target")
    every = []
    for min_face in min_faces:
        if not as_json:
            print(f"faces from {min_face:g} px")
        for size in SIZES:
            rows = measure(paths, size, sample, yunets, rounds, min_face=min_face)
            every += rows
            if not as_json:
                _show(rows)
    if as_json:
        print(json.dumps([{**row, "machine": facts} for row in every], indent=1))

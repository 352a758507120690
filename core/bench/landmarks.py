"""The benchmark of training batches of landmark nets: core.bench landmarks.

For each size of crops, from one store of cuts, under the settings of training:

loader ours -- core.train.landmark_loader on all cores, from its JPEG files to batches in memory
loader baseline -- as train-mtcnn does: four Python threads; a file of its own for each cut, read
    by cv2.imread, turned whole, cut, resized, augmented alone, as core.bench.train's baseline
step -- updates of a net alone, on one batch again and again
both -- training as it is, loader and net on the same cores
waiting -- the share of that time in which the net waits for batches
"""

import contextlib
import io
import statistics
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from pathlib import Path

import cv2
import numpy as np

from config import for_landmarks
from core.bench.common import WAITING_TARGET
from core.bench.interleave import interleave, rate
from core.bench.train import BATCH, READERS, SECONDS, WARM_UP, augmented
from core.train.landmark_loader import LandmarkBatches
from prepare_data import face_crop
from prepare_data.drawn import sets as drawn
from prepare_data.points import cuts, face_sets
from prepare_data.points import sets as landmarks

NETS = {48: "Lnet_v2", 64: "Lnet_v3", 96: "Lnet106_96_v2", 112: "Lnet106_112r_small"}  # by size
AIMS = {(48, 5): 8000, (96, 106): 2500}  # samples/s of the loader, by size and points
SCHEMES = {5: "5", 106: "migu"}  # of drawn faces
CUT_SIDES = {5: 112, 106: 208}  # of drawn faces, px
PICTURES = 60  # drawn
COMPETITORS = ("baseline", "ours", "step", "both")


def draw_cuts(folder, points):
    """A store of drawn faces with a number of points, below a folder; returns its path."""
    out = folder / f"cuts{points}"
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        if not (folder / "drawn").exists():
            drawn.draw_sample_set(folder / "drawn", PICTURES, 0)
        faces = landmarks.open_set(
            folder / "drawn" / "landmarks" / f"train_{points}.txt", scheme=SCHEMES[points]
        )
        cuts.make_store(faces, CUT_SIDES[points], out, for_landmarks(points).crop)
    return out


def _settings(faces):
    batch = min(BATCH["Lnet"], len(faces) // 2)  # some faces are held out
    # Crops as the baseline cuts them.
    return for_landmarks(faces.points, ["crop.preset=train-mtcnn", f"train.batch={batch}"])


def _batches(faces, size, settings):
    return LandmarkBatches(
        [faces], [np.arange(len(faces))], size, settings.train, settings.crop, settings.augment
    )


# ---- competitors: functions of seconds, giving a figure --------------------------------------


def read_one(path, points, listed, scheme, size, settings):
    """A sample made as by train-mtcnn: net's input (3, S, S), points (P, 2) in crop sides."""
    picture = cv2.imread(str(path))
    height, width = picture.shape[:2]
    (middle,), (side,) = face_crop.boxes_of(points[None], listed[None], settings.box, scheme)
    centre, turned, matrix = middle, points, None
    for _ in range(settings.tries):
        angle = np.random.randint(-int(settings.angle), int(settings.angle) + 1)
        matrix = cv2.getRotationMatrix2D(tuple(middle.tolist()), -angle, 1)
        turned = points @ matrix[:, :2].T + matrix[:, 2]
        low, high = turned.min(axis=0), turned.max(axis=0)
        if settings.box == "bounds":
            centre, side = (low + high) / 2, max(high - low)
        crop = side * np.random.uniform(*settings.scale)
        corner = centre + side * np.random.uniform(-settings.shift, settings.shift, 2) - crop / 2
        margin = np.multiply(settings.margin, crop)
        if (
            (low - corner >= margin[:2]).all()
            and (corner + crop - high >= margin[2:]).all()
            and ((high - low) ** 2).sum() >= settings.spread * crop**2
        ):
            break
    picture = cv2.warpAffine(picture, matrix, (width, height))
    x1, y1 = np.round(corner).astype(int)
    x2, y2 = x1 + max(int(crop), 1), y1 + max(int(crop), 1)
    part = picture[max(y1, 0) : max(y2, 0), max(x1, 0) : max(x2, 0)]
    part = cv2.copyMakeBorder(
        part, max(-y1, 0), max(y2 - height, 0), max(-x1, 0), max(x2 - width, 0), cv2.BORDER_CONSTANT
    )
    part = cv2.resize(part, (size, size))
    chance, largest = settings.blur
    if np.random.uniform() < chance:
        radius = np.random.randint(1, int(largest) + 1)
        part = cv2.GaussianBlur(part, (2 * radius + 1, 2 * radius + 1), 0)
    return augmented(part), (turned - corner) / crop


def baseline(path, folder, size):
    faces = face_sets.Cuts(path)
    settings, pool, rng = _settings(faces), ThreadPoolExecutor(READERS), np.random.default_rng(0)
    for i in range(len(faces)):
        begin, end = faces.index[i : i + 2]
        (folder / f"{i}.jpg").write_bytes(faces.bytes[begin:end].tobytes())

    def sample(i):
        return read_one(
            folder / f"{i}.jpg",
            faces.points_of[i],
            faces.boxes[i],
            faces.scheme,
            size,
            settings.crop,
        )

    def make():
        chosen = rng.permutation(len(faces))[: settings.train.batch]
        parts = pool.map(lambda part: [sample(i) for i in part], np.array_split(chosen, READERS))
        found = [pair for part in parts for pair in part]
        return (
            np.array([data for data, _ in found], np.float32),
            np.array([points for _, points in found], np.float32),
        )

    return lambda seconds: rate(make, settings.train.batch, seconds)


def ours(path, size):
    faces = face_sets.Cuts(path)
    settings = _settings(faces)
    batches = _batches(faces, size, settings)

    def measure(seconds):
        with contextlib.closing(batches.ahead(count())) as feed:
            for _ in range(2 * batches.prefetch):  # those made while nobody took any
                next(feed)
            return rate(lambda: next(feed), settings.train.batch, seconds)

    return measure


def _training(path, size):
    """Trainer and batches of the net of a size."""
    from core.formats import checkpoint
    from core.train.tasks import task_of
    from core.train.trainer import Trainer
    from symbols import spec

    faces = face_sets.Cuts(path)
    settings, net = _settings(faces), spec(NETS[size])
    options = {} if net.points == faces.points else {"points": faces.points}
    task = task_of(net, options, [faces], settings)
    start = checkpoint.initial(net.name, options, settings.train.seed, settings.train.prelu_slope)
    trainer = Trainer(start, settings.train, task.loss(settings.loss), task.batches.steps)
    return trainer, task.batches


def step(path, size):
    trainer, batches = _training(path, size)
    batch = batches.make(0)
    for _ in range(WARM_UP):
        trainer.step(batch)
    return lambda seconds: rate(lambda: trainer.step(batch), batches.batch, seconds)


def both(path, size):
    """Measures (samples/s, share of the time that the net waits)."""
    trainer, batches = _training(path, size)

    def measure(seconds):
        with contextlib.closing(batches.ahead(count())) as feed:
            for _ in range(2 * batches.prefetch):
                trainer.step(next(feed)[0])
            waited, steps, start = 0.0, 0, time.perf_counter()
            for batch, wait in feed:
                trainer.step(batch)
                waited, steps, spent = waited + wait, steps + 1, time.perf_counter() - start
                if spent >= seconds:
                    return steps * batches.batch / spent, waited / spent

    return measure


# ---- the table -----------------------------------------------------------------------------


def bench(size, faces, rounds, seconds=SECONDS, competitors=COMPETITORS):
    """Rows of a size; faces -- path of a store of cuts, None for drawn ones."""
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        if faces is None:
            faces = draw_cuts(folder, 5 if size < 80 else 106)
        points, batch = face_sets.Cuts(faces).points, _settings(face_sets.Cuts(faces)).train.batch
        files = folder / "files"
        files.mkdir()
        makers = {
            "baseline": (baseline, faces, files, size),
            "ours": (ours, faces, size),
            "step": (step, faces, size),
            "both": (both, faces, size),
        }
        figures = interleave(
            {name: makers[name] for name in competitors}, rounds, seconds, f"{size} px"
        )
    about = {"what": f"{size} px, {points}", "batch": batch}
    waits = [share for _, share in figures.get("both", [])]
    if waits:
        figures["both"] = [speed for speed, _ in figures["both"]]
    medians, rows = {name: statistics.median(found) for name, found in figures.items()}, []
    for name, found in figures.items():
        aim = AIMS.get((size, points)) if name == "ours" else None
        rows.append(
            {
                **about,
                "unit": "samples/s",
                "competitor": name,
                "median": medians[name],
                "best": max(found),
                "target": aim,
                "ratio": (
                    medians[name] / medians["baseline"] if name in ("baseline", "ours") else None
                ),
                "aim": f"{aim:,}/s" if aim else None,
                "met": medians[name] >= aim if aim else None,
            }
        )
    if waits:
        share = statistics.median(waits)
        rows.append(
            {
                **about,
                "unit": "share of a step",
                "competitor": "waiting",
                "median": share,
                "best": min(waits),
                "ratio": None,
                "target": WAITING_TARGET,
                "aim": f"at most {WAITING_TARGET:.0%}",
                "met": share <= WAITING_TARGET,
            }
        )
    return rows

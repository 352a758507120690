"""Kills of programs at random moments, as by the system when memory is short: the parent alone. The
same command is then run again, and what it leaves compared with what an undisturbed run left."""

import contextlib
import hashlib
import itertools
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import cv2

from core.base import arrays
from core.formats import params_file
from facelet.console import Problem
from tests import tiny
from tests.attack.damage import FAILED, OWN, SAME, in_child

ROOT = Path(__file__).resolve().parents[2]
SHARED = Path("/dev/shm")
SECONDS = 1800  # that a run may take
GRACE = 15  # s: that what a killed program has started may go on for
TICK = 0.02  # s: how often the folder is looked at
# Values that tell how long something took, and when.
TIMES = re.compile(r"seconds|samples_per_second|waiting|ms_per_picture|^ms$|^time$|milliseconds")
# In records of core.pipeline's steps: checksums of files, of some that tell of time.
SUMS = {"result", "reads"}
EVENTS = "events.out.tfevents"  # of TensorBoard: a name and records with the time


@dataclass(frozen=True)
class Program:
    """A program on small data.

    words -- function of the folder with inputs and of that for outputs: its command line
    goes_on -- whether it says that the same command ends what was begun; else it may say that there
        is something already, and leave it to the user
    ignored -- endings of files that say when or how fast they were made
    later -- files that a second run leaves and a first one does not
    every -- round in which it has its turn: 3 for one in three
    """

    name: str
    words: Callable
    goes_on: bool = True
    ignored: tuple = ()
    later: tuple = ()
    every: int = 1


def _program(name, text, goes_on=True, **more):
    """Of a command line with {data}, {out}, and folders of the world as {world}."""
    return Program(
        name,
        lambda world, out: [word.format(world=world, out=out, root=ROOT) for word in text.split()],
        goes_on,
        **more,
    )


TRAIN = "train.epochs=3 train.batch=20 train.warmup=2 train.mine_from=2 train.val_fraction=0.25"
FEW = "samples.negatives=6 samples.positives=4"
PROGRAMS = (
    _program("export", "core.export {world}/run --out {out}/nets --format onnx ncnn zqcnn"),
    _program("drawn", "prepare_data.drawn --out {out}/set --count 12 --workers 2"),
    _program(
        "samples", f"prepare_data.samples --data {{world}}/set --size 12 --out {{out}}/s {FEW}"
    ),
    _program(
        "mine",
        "prepare_data.mine --data {world}/set --nets {world}/nets --for onet --size 48 "
        "--out {out}/s detect.min_face=60 mine.onet=0.1,0.1 mine.max_negative_iou=0.3",
    ),
    _program(
        "cut",
        "prepare_data.points cut --faces {world}/set/landmarks/train_5.txt --size 48 --out {out}/c",
    ),
    _program(
        "landmark samples",
        "prepare_data.landmark_samples --faces {world}/set/landmarks/train_5.txt --size 48 "
        "--val-fraction 0.3 --out {out}/s landmark_samples.base_num=2",
    ),
    _program(
        "label",
        "prepare_data.points label --weights {world}/nets/Lnet_v2.onnx --average 2 "
        "--faces {world}/set/landmarks/train_5.txt --out {out}/list.txt",
    ),
    _program(
        "check", "prepare_data.points check {world}/set/landmarks/train_5.txt --out {out}/check.png"
    ),
    _program(
        "teacher",
        "prepare_data.teacher --data {world}/set --teacher {world}/nets --out {out}/boxes.json "
        "--workers 2 detect.min_face=60",
    ),
    _program(
        "train, cascade",
        f"core.train --net Pnet20_v1 --samples {{world}}/store20 --out {{out}}/run {TRAIN}",
    ),
    _program(
        "train, landmarks",
        "core.train --net Lnet_v2 --base 8 --faces {world}/cuts64 --out {out}/run "
        f"{TRAIN.replace('batch=20', 'batch=4')}",
    ),
    _program("convert", "core.convert {world}/pair.zqparams --out {out}/nets"),
    _program(
        "detect",
        "core.detect {world}/set/WIDER_train/images --nets {world}/nets --out {out}/found "
        "--min-face 60",
        goes_on=False,
    ),
    _program(
        "evaluate, stages",
        "core.evaluate stages --nets {world}/nets --data {world}/set --split train --out {out}/f "
        "detect.min_face=60",
    ),
    _program(
        "evaluate, list",
        "core.evaluate list --data {world}/found.jsonl.txt --detections {world}/found.jsonl "
        "--out {out}/f",
    ),
    _program(
        "evaluate, wider",
        "core.evaluate wider --data {world}/official --nets {world}/nets --out {out}/f "
        "detect.min_face=60",
    ),
    _program(
        "evaluate, fddb",
        "core.evaluate fddb --data {world}/FDDB --detections {world}/found.txt --out {out}/f",
    ),
    _program(
        "evaluate, landmarks",
        "core.evaluate landmarks --weights {root}/models/Lnet_v2-0030.params --held-out 1 "
        "--faces {world}/cuts64 --out {out}/f evaluate.box_draws=2",
    ),
    _program(
        "landmarks",
        "core.landmarks --net Lnet_v2 --base 8 --faces {world}/set/landmarks/train_5.txt "
        f"--out {{out}}/run {TRAIN.replace('batch=20', 'batch=4').replace('epochs=3', 'epochs=2')}",
        ignored=(".html",),
    ),
    _program(
        "pipeline",
        f"core.pipeline --out {{out}}/run --pictures {tiny.PICTURES} " + " ".join(tiny.SETTINGS),
        ignored=(".html",),
        later=("run/steps/pictures.json",),
        every=3,
    ),
)


# ---- inputs ----------------------------------------------------------------------------------


def make_inputs(world):
    """What the programs need beside the files of tests.attack.kinds."""
    from config import config, for_landmarks, override
    from prepare_data import samples, wider
    from prepare_data.points import cuts, sets
    from tests.attack.kinds import make_world

    make_world(world, pictures=12)
    with open(os.devnull, "w") as nowhere, contextlib.redirect_stdout(nowhere):
        with contextlib.redirect_stderr(nowhere):
            face_set = wider.open_set(world / "set", "train")
            few = override(config, FEW.split()).samples
            samples.make_store(face_set, 20, world / "store20", few, workers=1)
            faces = sets.open_set(world / "set" / "landmarks" / "train_5.txt")
            cuts.make_store(faces, 64, world / "cuts64", for_landmarks(5).crop, workers=1)
    truth = [
        f"0--Event/{n}.jpg\n2\n10 10 40 50 0 0 0 0 0 0\n70 20 30 30 0 0 0 0 0 0" for n in range(4)
    ]
    (world / "found.jsonl.txt").write_text("\n".join(truth) + "\n")
    official = world / "official"
    shutil.copytree(world / "mats", official)
    image = cv2.resize(cv2.imread(str(ROOT / "docs" / "sample.jpg")), (320, 240))
    for name in ("0--Event/a", "0--Event/b", "1--Other/c", "1--Other/d"):
        path = official / "images" / f"{name}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(path), image)


# ---- what there is ---------------------------------------------------------------------------


def _timeless(value, without=frozenset()):
    """JSON values without those that tell of time, and those of some keys."""
    if isinstance(value, dict):
        return {
            key: _timeless(inner, without)
            for key, inner in value.items()
            if not TIMES.search(key) and key not in without
        }
    return [_timeless(inner, without) for inner in value] if isinstance(value, list) else value


def _content(path):
    if path.suffix in (".json", ".jsonl"):
        lines = path.read_text().splitlines() if path.suffix == ".jsonl" else [path.read_text()]
        try:
            without = SUMS if path.parent.name == "steps" else ()
            values = [_timeless(json.loads(line), without) for line in lines]
            return json.dumps(values, sort_keys=True)
        except ValueError:
            return "no JSON"
    return hashlib.sha256(path.read_bytes()).hexdigest()


def snapshot(folder, ignored):
    """{path: content} of all files in a folder, hidden ones too; None where content may differ."""
    found = {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if path.name.startswith(EVENTS):
            name = f"{Path(name).parent}/{EVENTS}"
        if path.is_dir():
            found[f"{name}/"] = None
        elif path.name.startswith(EVENTS) or path.suffix in ignored:
            found[name] = None
        else:
            found[name] = _content(path)
    return found


def _broken(path):
    """Whether a file is none of its kind: half-written."""
    try:
        if path.suffix == ".json":
            json.loads(path.read_text())
        elif path.suffix == ".jsonl":
            [json.loads(line) for line in path.read_text().splitlines()]
        elif path.suffix == ".npy":
            arrays.mapped(path, "")
        elif path.suffix in (".png", ".jpg"):
            return cv2.imread(str(path)) is None
        elif path.suffix == ".params":
            params_file.read(path)
        elif path.suffix in (".txt", ".param", ".zqparams"):
            return not path.read_bytes().endswith(b"\n")
        else:
            return (
                path.suffix in (".bin", ".onnx", ".nchwbin", ".states") and not path.stat().st_size
            )
    except (ValueError, OSError, Problem):
        return True
    return False


def half_written(folder):
    """Files under their own names that are broken. What is hidden is on its way."""
    return [
        path.relative_to(folder).as_posix()
        for path in folder.rglob("*")
        if path.is_file()
        and not any(part.startswith(".") for part in path.relative_to(folder).parts)
        and _broken(path)
    ]


# ---- processes -------------------------------------------------------------------------------


def _session(number):
    """Processes of a session, but for those that have ended: {number: command line}."""
    found = {}
    for folder in Path("/proc").iterdir():
        if not folder.name.isdecimal():
            continue
        with contextlib.suppress(OSError, IndexError):
            state, _, _, session = (folder / "stat").read_text().rsplit(") ", 1)[1].split()[:4]
            if session == str(number) and state != "Z":
                found[int(folder.name)] = (folder / "cmdline").read_bytes().decode(errors="replace")
    return found


def _shared():
    """Names of shared memory and semaphores of multiprocessing."""
    names = {path.name for path in SHARED.iterdir()} if SHARED.is_dir() else set()
    return {name for name in names if name.startswith(("sem.mp", "pym-", "mp-", "psm_"))}


def _litter(before):
    """Those that were not there before, and that no process has open: others may run meanwhile."""
    found = _shared() - before
    for maps in Path("/proc").glob("[0-9]*/maps") if found else ():
        with contextlib.suppress(OSError):
            text = maps.read_text()
            found = {name for name in found if name not in text}
    return found & _shared()


def _start(program, world, out):
    environment = {**os.environ, "OMP_WAIT_POLICY": "passive", "OMP_NUM_THREADS": "2"}
    module, *words = program.words(world, out)
    return subprocess.Popen(
        [sys.executable, "-m", module, *words],
        cwd=ROOT,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def _end(number):
    """End all processes of a session, and wait until they have ended."""
    while left := _session(number):
        for each in left:
            with contextlib.suppress(ProcessLookupError):
                os.kill(each, signal.SIGKILL)
        time.sleep(TICK)


def _left(number):
    """Processes of a session that go on when its first one has ended, in words; ends them."""
    end = time.monotonic() + GRACE
    while (left := _session(number)) and time.monotonic() < end:
        time.sleep(TICK)
    _end(number)
    first = " ".join(next(iter(left.values()), "").replace("\0", " ").split())
    return f"{len(left)} processes go on without it: {first[-160:]}" if left else ""


def _run(program, world, out):
    """Status, what it says on stderr, and what goes on after it."""
    process = _start(program, world, out)
    try:
        _, errors = process.communicate(timeout=SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
        errors = f"no end after {SECONDS} s"
    return process.returncode, errors, _left(process.pid)


@dataclass
class Undisturbed:
    """How a program runs that nobody kills: its result, when it begins to write and ends, s."""

    result: dict
    begins: float
    ends: float


def undisturbed(program, world, out):
    out.mkdir()
    start, begins = time.monotonic(), None
    process = _start(program, world, out)
    while process.poll() is None:
        if begins is None and any(out.iterdir()):
            begins = time.monotonic() - start
        if time.monotonic() - start > SECONDS:
            _end(process.pid)
        time.sleep(TICK)
    ends, errors = time.monotonic() - start, process.stderr.read()
    if process.returncode:
        raise RuntimeError(f"it fails when nobody kills it: {errors.strip()[-300:]}")
    result = {**snapshot(out, program.ignored), **dict.fromkeys(program.later)}
    shutil.rmtree(out)
    return Undisturbed(result, ends if begins is None else begins, ends)


def kill(program, world, out, usual, moment):
    """Kill a program after so many seconds, and run it again: verdict, words."""
    out.mkdir()
    before = _shared()
    process = _start(program, world, out)
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(moment)
    process.kill()
    process.wait()
    process.stderr.close()
    left = _left(process.pid)
    at = f"killed after {moment:.2f} s of {usual.ends:.2f}"
    if left:
        return FAILED, f"{at}: {left}"
    litter = _litter(before)
    if litter:
        return FAILED, f"{at}: {sorted(litter)[0]} and {len(litter) - 1} more stay in {SHARED}"
    broken = half_written(out)
    if broken:
        return FAILED, f"{at}: {broken[0]} is half-written"
    status, errors, left = _run(program, world, out)
    if left:
        return FAILED, f"{at}, again: {left}"
    lines = [line for line in errors.splitlines() if line.startswith("error: ")]
    if status not in (0, 2) or "Traceback" in errors or status == 2 and len(lines) != 1:
        return FAILED, f"{at}, again: status {status}: {errors.strip()[-300:]}"
    found = snapshot(out, program.ignored)
    difference = differing({**found, **dict.fromkeys(program.later)}, usual.result)
    if not difference:
        return (SAME if status == 0 else OWN), lines[0] if lines else ""
    if status == 2 and not program.goes_on:
        return OWN, lines[0]
    return FAILED, f"{at}, again: {lines[0] if lines else 'it says that all is well'}; {difference}"


def differing(found, right):
    """How what there is differs from what there should be, in words."""
    for name in sorted({*found, *right}):
        if name not in found:
            return f"{name} is missing"
        if name not in right:
            return f"{name} is left over"
        if found[name] != right[name]:
            return f"{name} is another than that of an undisturbed run"
    return ""


def turns(programs):
    """Yields the programs in turn, for ever."""
    for number in itertools.count():
        yield from (program for program in programs if number % program.every == 0)


def kill_all(programs, count, seed, folder):
    """Yields (program, "kills", number, verdict, words) of `count` kills, the programs in turn."""
    world, out, usual = folder / "world", folder / "out", {}
    in_child(lambda: make_inputs(world))
    for number, program in zip(range(count), turns(programs)):
        try:
            if program.name not in usual:
                usual[program.name] = undisturbed(program, world, out)
            known = usual[program.name]
            rng = random.Random(f"{seed} {program.name} kills {number}")
            # Seldom while it is only starting.
            begin = 0.2 if rng.random() < 0.1 else max(0.2, known.begins - 0.1)
            verdict, words = kill(program, world, out, known, rng.uniform(begin, known.ends))
        except RuntimeError as error:
            verdict, words = FAILED, str(error)
        yield program.name, "kills", number, verdict, words
        shutil.rmtree(out, ignore_errors=True)

"""Workers that train together: what comes out against one machine's, and how they end."""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from config import config
from core.formats import checkpoint
from core.train import launch
from facelet.console import Problem
from prepare_data import samples, wider

ROOT = Path(__file__).resolve().parents[3]
QUICK = [
    "train.batch=61",  # which two workers can't halve
    "train.epochs=3",
    "train.warmup=5",
    "train.val_fraction=0.25",
    "train.lr=0.002",
]
ONE_THREAD = {**os.environ, "OMP_NUM_THREADS": "1"}


@pytest.fixture(scope="module")
def store12(drawn_set, tmp_path_factory):
    """Samples for a net without batch norms."""
    out = tmp_path_factory.mktemp("stores") / "12"
    samples.make_store(wider.open_set(drawn_set, "train"), 12, out, config.samples, workers=1)
    return out


def command(store, out, *more, net="Pnet12"):
    words = ["--net", net, "--samples", store, "--out", out, *QUICK, *more]
    return [sys.executable, "-m", "core.train", *map(str, words)]


def run(*words, **options):
    return subprocess.run(
        command(*words, **options), cwd=ROOT, capture_output=True, text=True, env=ONE_THREAD
    )


def learnt(folder, epoch, net="Pnet12"):
    """Parameters after an epoch, and the optimiser's states."""
    arguments, auxiliary = checkpoint.read_params(folder / f"{net}-{epoch:04d}.params")
    states = {}
    if (folder / f"{net}-{epoch:04d}.states").exists():
        states = checkpoint.params_file.read(folder / f"{net}-{epoch:04d}.states")
    return {**arguments, **auxiliary, **states}


def figures(folder):
    rows = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    speed = ("samples_per_second", "waiting")
    return [{k: v for k, v in row["train"].items() if k not in speed} for row in rows]


@pytest.fixture(scope="module")
def together(store12, tmp_path_factory):
    """A run of two workers that went through, and what it printed."""
    out = tmp_path_factory.mktemp("runs") / "two"
    result = run(store12, out, "--workers", 2, "--servers", 2)
    assert result.returncode == 0, result.stderr
    return out, result.stdout


def test_two_workers_learn_what_one_machine_does(together, store12, tmp_path):
    """With Adam, and with the hardest samples mined out of the whole batch."""
    out, printed = together
    alone = run(store12, tmp_path / "one")
    assert alone.returncode == 0, alone.stderr
    ours, theirs = learnt(out, 3), learnt(tmp_path / "one", 3)
    begun = checkpoint.initial("Pnet12", {}, config.train.seed, config.train.prelu_slope)
    assert ours.keys() == theirs.keys()
    moved = max(np.abs(theirs[name] - value).max() for name, value in begun.arguments.items())
    apart = max(np.abs(theirs[name] - ours[name]).max() for name in ours)
    assert moved > 0.05 and apart < 2e-4
    for one, other in zip(figures(out), figures(tmp_path / "one")):
        assert one == pytest.approx(other, rel=1e-3, abs=2e-3)
    # Said once.
    assert len([line for line in printed.splitlines() if line.startswith("epoch")]) == 3
    manifest = json.loads((out / "Pnet12-0003.json").read_text())
    assert manifest["workers"] == {"count": 2, "compression": "none"}

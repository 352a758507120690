"""The benchmark of several workers: core.bench dist.

A net is trained on made-up crops by core.train itself, alone and with workers of one thread each on
this machine, in turn; the figures are those of its log.
"""

import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import symbols
from core.bench.train import BATCH, make_store
from core.train import log
from facelet.console import Problem, Status

ROOT = Path(__file__).resolve().parents[2]
CROPS = 8_000
EPOCHS = 2  # of which the last is measured
COLUMNS = "workers  compression   steps/s    ratio  communicating"


def _trained(net, store, out, batch, workers, compression):
    """Steps a second of a run, and the part of the time that went by in communication."""
    words = ["--net", net, "--samples", store, "--out", out, f"train.batch={batch}"]
    words += [f"train.epochs={EPOCHS}", "train.val_fraction=0.05", "train.mine_from=1"]
    if workers:
        words += ["--workers", workers, "--compression", compression]
    ended = subprocess.run(
        [sys.executable, "-m", "core.train", *map(str, words)],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
    )
    if ended.returncode:
        raise Problem(f"training with {workers} workers failed: {ended.stderr.strip()[-500:]}")
    figures = log.read(out / "log.jsonl")[-1]["train"]
    return figures["samples_per_second"] / batch, figures.get("communicating", 0.0)


def bench(net, workers, rounds, crops=CROPS, batch=None):
    """Rows of the table, dicts: by number of workers, 0 for training without any, and compression
    of their gradients."""
    spec = symbols.spec(net)
    batch = batch or BATCH[spec.family]
    if {head.task for head in spec.heads} != {"cls", "bbox"}:
        raise Problem(f"{spec.name}: the benchmark has crops with boxes alone; take a Pnet or Rnet")
    kinds = [(0, "none"), *((n, "none") for n in workers), (workers[-1], "fp16")]
    found = {kind: [] for kind in kinds}
    with tempfile.TemporaryDirectory() as folder, Status() as status:
        folder = Path(folder)
        status.set(f"{crops:,} crops are made up")
        make_store(folder, spec.size, crops, pictures=100)
        for number in range(rounds):
            for kind in kinds:
                status.set(f"round {number + 1} of {rounds}, {kind[0]} workers, {kind[1]}")
                out = folder / f"run-{number}-{kind[0]}-{kind[1]}"
                found[kind].append(_trained(spec.name, folder / "store", out, batch, *kind))
    rows = []
    for (count, compression), figures in found.items():
        speed, communicating = map(statistics.median, zip(*figures))
        rows.append(
            {
                "net": spec.name,
                "batch": batch,
                "workers": count,
                "compression": compression,
                "steps_per_second": speed,
                "ratio": speed / (rows[0]["steps_per_second"] if rows else speed),
                "communicating": communicating,
            }
        )
    return rows


def line(row):
    return (
        f"{row['workers'] or 'none':>7}  {row['compression']:<11}{row['steps_per_second']:>10.2f}"
        f"{row['ratio']:>8.2f}x{row['communicating']:>14.1%}"
    )

"""Workers that train a net together, through MXNet's parameter server.

Each makes the same batches and computes its rows of them. What the gradients of all rows add up to
comes back to each, and each makes the same update: the servers hold sums, nothing else. The number
of a worker is the launcher's (core.train.launch), which compares what they are and looks after
them; the parameter server's own number does not count.
"""

import hashlib
import itertools
import json
import time
from pathlib import Path

import numpy as np

from facelet.console import Problem
from facelet.files import sha256
from symbols.mxnet_import import mx, one_line

ROOT = Path(__file__).resolve().parents[2]
SOURCES = ("config.py", "core", "facelet", "prepare_data", "symbols")
COMPRESSION = {"none": np.float32, "fp16": np.float16}  # what numbers are sent as


class Alone:
    """The one worker of a run on one machine."""

    rank, count, alone = 0, 1, True
    seconds = None  # that went by in adding up, and in waiting for others to; of a Cluster

    def check_same(self, facts):
        """Nothing to compare with."""

    def rows(self, length):
        """Which rows of a batch are this worker's."""
        return slice(None)

    def share(self, value):
        """The first worker's value, JSON, to all."""
        return value

    def total(self, *numbers):
        """What each of some numbers adds up to over the workers."""
        return numbers

    def alive(self, step=None):
        """Said at every step of an epoch, with its number, and between epochs."""

    def manifest(self):
        """What a checkpoint says of it, JSON values."""
        return {}


class Cluster(Alone):
    """One of several workers, in a process that the launcher has started.

    rank -- of this worker; count -- of workers
    lifeline -- core.train.lifeline.Lifeline, to the launcher
    compression -- of gradients on their way: a key of COMPRESSION
    """

    alone = False

    def __init__(self, rank, count, lifeline, compression):
        self.rank, self.count, self.lifeline = rank, count, lifeline
        self.compression, self.seconds = compression, 0.0
        self._store, self._buffers, self._steps = None, {}, itertools.count()

    def check_same(self, facts):
        """Go on when all workers have said the same `facts`, {what it is in words: text}; the
        launcher ends them otherwise. From then on they can add up."""
        self.lifeline.join(facts)
        with one_line("the parameter server"):
            self._store = mx.kv.create("dist_sync")

    def rows(self, length):
        # One of every kind in turn, as a batch is in the order of kinds.
        return slice(self.rank, length, self.count)

    def add(self, values, compression="none"):
        """The sum of float32 arrays (N,), one of each worker, with the same N: (N,)."""
        kind, begun = COMPRESSION[compression], time.perf_counter()
        key = f"{len(values)} {kind.__name__}"
        with one_line("the parameter server"):
            if key not in self._buffers:
                self._buffers[key] = mx.nd.zeros(len(values), dtype=kind)
                self._store.init(key, self._buffers[key])
            self._buffers[key][:] = mx.nd.array(values, dtype=kind)
            self._store.push(key, self._buffers[key])
            self._store.pull(key, self._buffers[key])
            found = self._buffers[key].asnumpy().astype(np.float32)
        self.seconds += time.perf_counter() - begun
        return found

    def first(self, values):
        """The first worker's array (N,) of float32, to all."""
        return self.add(values if self.rank == 0 else np.zeros_like(values))

    def share(self, value):
        text = np.frombuffer(json.dumps(value).encode(), np.uint8).astype(np.float32)
        length = int(self.first(np.float32([len(text)]))[0])
        text = self.first(np.resize(text, length))
        return json.loads(text.astype(np.uint8).tobytes())

    def total(self, *numbers):
        return self.add(np.float32(numbers)).tolist()

    def alive(self, step=None):
        self.lifeline.alive(None if step is None else next(self._steps))

    def manifest(self):
        return {"workers": {"count": self.count, "compression": self.compression}}

    def __str__(self):
        return f"{self.count} workers"


_joined = Alone()


def join(cluster):
    """Let what this process trains from now on be trained in a Cluster."""
    global _joined
    _joined = cluster


def joined():
    """The Cluster of this process, or Alone."""
    return _joined


def facts(identity):
    """What has to be the same with all workers, {words: text}. identity -- of their run, JSON."""
    return {
        "code": _of_sources(),
        "settings": json.dumps({**identity, "data": None}),
        "what is learnt from": json.dumps(identity["data"]),
        "MXNet and NumPy": f"{mx.__version__} {np.__version__}",
    }


def _of_sources():
    """A hash of the toolkit's sources."""
    digest = hashlib.sha256()
    for folder in SOURCES:
        for path in sorted((ROOT / folder).rglob("*.py")) or [ROOT / folder]:
            digest.update(f"{path.relative_to(ROOT)} {sha256(path)}\n".encode())
    return digest.hexdigest()


def check(settings):
    """Raise Problem for settings, as config.train, that workers can't follow together."""
    if not joined().alone and len(settings.gpus) > 1:
        raise Problem(
            f"train.gpus is {settings.gpus}: of several workers each has one device; start as many "
            "workers as there are GPUs"
        )
    if joined().count > settings.batch:
        raise Problem(
            f"train.batch is {settings.batch}, less than the {joined().count} workers: each has "
            "rows of its own"
        )

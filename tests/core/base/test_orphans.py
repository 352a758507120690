"""Processes of pools end with their parent, however that ends.

Run as a program it is that parent: `test_orphans.py POOL`.
"""

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from core.base import parallel
from core.bench.interleave import interleave

ROOT = Path(__file__).resolve().parents[3]
LIMIT = 20  # s for what takes tenths on an idle machine


def work(*_):
    """What a process of a pool does: says which it is, and goes on for long."""
    print(os.getpid(), flush=True)
    time.sleep(600)


def competitor():
    print(os.getpid(), flush=True)
    return time.sleep


POOLS = {
    "in_order": lambda: list(parallel.in_order(work, range(9), 2)),
    "Ahead": lambda: next(parallel.Ahead(work, {"a": (1000,)}, 2, 2).batches(range(9))),
    "interleave": lambda: interleave(dict.fromkeys("ab", (competitor,)), 1, 600, "nothing"),
}


def alive(pid):
    """Whether a process runs; one that has ended and that nobody has asked after does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def shared_memory(pid):
    """Files in shared memory that a process has open and that have a name there: semaphores."""
    maps = Path(f"/proc/{pid}/maps").read_text()
    opened = {int(number) for number in re.findall(r" (\d+) +/dev/shm/", maps)}
    return [path for path in Path("/dev/shm").iterdir() if path.stat().st_ino in opened]


@pytest.mark.parametrize("sent", [signal.SIGKILL, signal.SIGTERM])
@pytest.mark.parametrize("pool", POOLS)
def test_orphans_end_and_leave_nothing(pool, sent):
    parent = subprocess.Popen(
        [sys.executable, __file__, pool],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    workers = [int(parent.stdout.readline()) for _ in range(2)]
    left = shared_memory(parent.pid)
    assert all(map(alive, workers))
    assert left or pool != "interleave"  # the others' pools have pipes alone
    parent.send_signal(sent)
    parent.wait()
    end = time.monotonic() + LIMIT
    try:
        while any(map(alive, workers)) or any(map(os.path.exists, left)):
            there = [*filter(alive, workers)], [*filter(os.path.exists, left)]
            assert time.monotonic() < end, there
            time.sleep(0.05)
    finally:
        for pid in filter(alive, workers):
            os.kill(pid, signal.SIGKILL)


if __name__ == "__main__":
    POOLS[sys.argv[1]]()

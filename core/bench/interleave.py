"""Competitors of a benchmark, each in its own process, measured alternately.

A measurement lasts a second or so, so that whatever else the machine does hits all of them; medians
are compared. A process is stopped while another is measured: threads that wait for work spin, and
would take the cores from it.
"""

import ctypes
import os
import signal
import statistics
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import ExitStack, contextmanager
from multiprocessing import get_context

from core.base import parallel
from facelet.console import Problem, Status

PR_SET_PDEATHSIG = 1  # of <sys/prctl.h>


def rate(step, items, seconds):
    """Items a second of a step, repeated for `seconds`."""
    step()  # untimed: others had the caches, and the pool's threads sleep
    steps, start = 0, time.perf_counter()
    while True:
        step()
        steps, spent = steps + 1, time.perf_counter() - start
        if spent >= seconds:
            return steps * items / spent


_measure = None  # in a competitor's process: its function of seconds, which gives a figure


def _start_process():
    parallel.end_with_parent()
    if sys.platform == "linux":
        # A process that is stopped runs no thread: when the thread that started it, the main one,
        # ends, the kernel ends it.
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def _start(make, arguments):
    global _measure
    _measure = make(*arguments)


def _run(seconds):
    return _measure(seconds)


@contextmanager
def _running(process):
    """A process of a competitor goes on in this block, and is stopped after it."""
    os.kill(process, signal.SIGCONT)
    try:
        yield
    finally:
        os.kill(process, signal.SIGSTOP)


def interleave(competitors, rounds, seconds, what):
    """Figures by name, one per round.

    competitors -- (make, *arguments) by name; make(*arguments), called in the competitor's own
        process, gives a function that measures it for some seconds and returns a figure
    what -- is measured, in words, for the line that tells how far this is
    """
    figures = {name: [] for name in competitors}
    with ExitStack() as stack:
        status = stack.enter_context(Status())
        pools = {
            name: stack.enter_context(
                ProcessPoolExecutor(1, get_context("spawn"), initializer=_start_process)
            )
            for name in competitors
        }
        try:
            processes = {name: pool.submit(os.getpid).result() for name, pool in pools.items()}
            stack.callback(lambda: [os.kill(p, signal.SIGCONT) for p in processes.values()])
            for name, (make, *arguments) in competitors.items():
                status.set(f"{what}: {name} is prepared")
                with _running(processes[name]):
                    pools[name].submit(_start, make, arguments).result()
            for number in range(1, rounds + 1):
                for name, pool in pools.items():
                    status.set(f"{what}: round {number} of {rounds}, {name}")
                    with _running(processes[name]):
                        figures[name].append(pool.submit(_run, seconds).result())
        except (BrokenProcessPool, ProcessLookupError):
            raise Problem(f"the process of {name} died: is there memory enough?") from None
    return figures


def compare(competitors, rounds, seconds, target, **about):
    """Rows of the table; `competitors` hold a baseline, `target` is for ours; `about` is in every
    row, `what` is measured among it."""
    figures = interleave(competitors, rounds, seconds, about["what"])
    medians = {name: statistics.median(rates) for name, rates in figures.items()}
    rows = []
    for name, rates in figures.items():
        ratio, aim = medians[name] / medians["baseline"], target if name == "ours" else None
        rows.append(
            {
                **about,
                "competitor": name,
                "median": medians[name],
                "best": max(rates),
                "ratio": ratio,
                "target": aim,
                "met": ratio >= aim if aim else None,
            }
        )
    return rows

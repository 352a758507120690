"""Competitors of a benchmark, each in its own process, taking turns.

Turns last a second or so, so that whatever else the machine does hits all of them; medians are
compared. A process is stopped while it is not its turn: threads that wait for work spin, and would
take the cores from the one that is measured.
"""

import os
import signal
import statistics
import time
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import ExitStack, contextmanager
from multiprocessing import get_context

from facelet.console import Problem


def rate(step, items, seconds):
    """Items a second of a step, repeated for `seconds`."""
    step()  # untimed: others had the caches, and the pool's threads sleep
    steps, start = 0, time.perf_counter()
    while True:
        step()
        steps, spent = steps + 1, time.perf_counter() - start
        if spent >= seconds:
            return steps * items / spent


_slice = None  # in a competitor's process: its function of seconds, which gives a figure


def _start(make, arguments):
    global _slice
    _slice = make(*arguments)


def _run(seconds):
    return _slice(seconds)


@contextmanager
def _awake(process):
    """A process of a competitor, stopped again afterwards."""
    os.kill(process, signal.SIGCONT)
    try:
        yield
    finally:
        os.kill(process, signal.SIGSTOP)


def take_turns(competitors, rounds, seconds):
    """Figures by name, one per round; competitors are (make, *arguments) by name, where make
    gives the slices."""
    figures = {name: [] for name in competitors}
    with ExitStack() as stack:
        pools = {
            name: stack.enter_context(ProcessPoolExecutor(1, get_context("spawn")))
            for name in competitors
        }
        try:
            processes = {name: pool.submit(os.getpid).result() for name, pool in pools.items()}
            stack.callback(lambda: [os.kill(p, signal.SIGCONT) for p in processes.values()])
            for name, (make, *arguments) in competitors.items():
                with _awake(processes[name]):
                    pools[name].submit(_start, make, arguments).result()
            for _ in range(rounds):
                for name, pool in pools.items():
                    with _awake(processes[name]):
                        figures[name].append(pool.submit(_run, seconds).result())
        except (BrokenProcessPool, ProcessLookupError):
            raise Problem(f"the process of {name} died: is there memory enough?") from None
    return figures


def compare(competitors, rounds, seconds, target, **about):
    """Rows of the table; `competitors` hold a baseline, `target` is for ours."""
    figures = take_turns(competitors, rounds, seconds)
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

"""Work spread over processes, with results in order."""

import contextlib
import math
import multiprocessing
import os
import signal
import threading
import time
from collections import deque
from concurrent.futures import ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from itertools import islice
from multiprocessing import get_context
from multiprocessing.util import Finalize

import cv2
import numpy as np

from facelet.console import Problem

AHEAD = 4  # results waiting per process: enough to keep all busy, little enough to hold in memory


def cores():
    """Processors that this process may use."""
    return len(os.sched_getaffinity(0))


def _start():
    end_with_parent()
    cv2.setNumThreads(1)  # the processes share the cores already


def end_with_parent():
    """Called in a process of a pool: let it end when its parent is killed, which has nobody to
    tell it to. (The kernel of Linux would see to that, but counts the thread that started a process
    as its parent.) Semaphores and shared memory go when the last of them has ended."""

    def watch():
        multiprocessing.parent_process().join()
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


@contextlib.contextmanager
def _ignoring_interrupts():
    """Processes started in this block ignore ctrl-C, even while they start: it is the
    parent's to answer. Only the main thread may set handlers, and only there ctrl-C arrives."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    handler = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, handler)


def in_order(function, jobs, workers):
    """Yield function(job) for each job, in the order of the jobs. With one worker the work is
    done in this process."""
    if workers == 1:
        yield from map(function, jobs)
        return
    jobs = iter(jobs)
    # A fork of a process where OpenCV or MXNet has threads can hang: workers start afresh.
    with ProcessPoolExecutor(workers, get_context("spawn"), initializer=_start) as pool:
        try:
            with _ignoring_interrupts():
                waiting = deque(pool.submit(function, job) for job in islice(jobs, AHEAD * workers))
            while waiting:
                yield waiting.popleft().result()
                waiting.extend(pool.submit(function, job) for job in islice(jobs, 1))
        except BaseException:
            # What they write goes to a folder that is removed next.
            pool.shutdown(wait=True, cancel_futures=True)
            raise


# ---- batches made ahead, in shared memory ----------------------------------------------------

_making = None  # in a worker: the function that makes a batch, and the memory it goes to


def _start_making(make, shapes, memory):
    global _making
    _start()
    _making = make, [_arrays(shapes, slot) for slot in memory]


def _arrays(shapes, memory):
    """Arrays by name, float32 (shapes by name), in a slot of shared memory."""
    values, begin, found = np.frombuffer(memory, np.float32), 0, {}
    for name, shape in shapes.items():
        end = begin + math.prod(shape)
        found[name], begin = values[begin:end].reshape(shape), end
    return found


def _fill(number, slot):
    make, slots = _making
    return make(number, slots[slot])


def _shut(pool):
    pool.shutdown(cancel_futures=True)


class Ahead:
    """Makes batches in processes before they are asked for, into shared memory.

    make -- make(number, arrays) fills float32 arrays, given by name, and returns a note; it goes to
        the processes as it is
    shapes -- of the arrays, by name
    workers -- processes; ahead -- batches on their way at a time

    The processes start when the first batch is asked for, and end with close() or when nobody holds
    this any more."""

    def __init__(self, make, shapes, workers, ahead):
        self.shapes, self.ahead = shapes, max(ahead, workers)
        context = get_context("spawn")
        length = sum(map(math.prod, shapes.values()))
        # One more than are on their way: that which the caller looks at.
        self.memory = [context.RawArray("f", length) for _ in range(self.ahead + 1)]
        self.pool = ProcessPoolExecutor(
            workers, context, initializer=_start_making, initargs=(make, shapes, self.memory)
        )
        # Where this is itself in a process that multiprocessing made, its end would wait for these
        # processes, and they for work. (Queues, by which they are told to end, close at 10.)
        self.close = Finalize(self, _shut, (self.pool,), exitpriority=100)

    def batches(self, numbers):
        """Yields (arrays by name, note, seconds waited for it) for each of `numbers`, in their
        order. The arrays are of use until the next is asked for. Raises what `make` raises, and
        Problem when a process dies."""
        numbers, free, waiting = iter(numbers), deque(range(len(self.memory))), deque()

        def ask():
            for number in islice(numbers, 1):
                slot = free.popleft()
                waiting.append((self.pool.submit(_fill, number, slot), slot))

        try:
            with _ignoring_interrupts():
                for _ in range(self.ahead):
                    ask()
            while waiting:
                future, slot = waiting.popleft()
                start = time.perf_counter()
                note = future.result()
                spent = time.perf_counter() - start
                ask()
                yield _arrays(self.shapes, self.memory[slot]), note, spent
                free.append(slot)
        except BrokenProcessPool:
            raise Problem("a process that makes batches died: is there memory enough?") from None
        finally:
            # Whoever comes next uses the same memory.
            for future, _ in waiting:
                future.cancel()
            wait([future for future, _ in waiting])

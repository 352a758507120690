"""Work spread over processes, with results in order."""
import contextlib
import os
import signal
import threading
from collections import deque
from concurrent.futures import ProcessPoolExecutor
from itertools import islice
from multiprocessing import get_context

import cv2

AHEAD = 4  # results waiting per process: enough to keep all busy, little enough to hold in memory


def cores():
    """Processors that this process may use."""
    return len(os.sched_getaffinity(0))


def _start():
    cv2.setNumThreads(1)  # the processes share the cores already


@contextlib.contextmanager
def _deaf_to_interrupts():
    """Processes started in this block never hear ctrl-C, not even while they start: it is the
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
            with _deaf_to_interrupts():
                waiting = deque(pool.submit(function, job)
                                for job in islice(jobs, AHEAD * workers))
            while waiting:
                yield waiting.popleft().result()
                waiting.extend(pool.submit(function, job) for job in islice(jobs, 1))
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise

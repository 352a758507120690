"""Work spread over processes, with results in order."""

import contextlib
import math
import multiprocessing
import os
import signal
import threading
import time
import traceback
from collections import deque
from concurrent.futures import Future, wait
from itertools import islice
from multiprocessing import get_context
from multiprocessing.util import Finalize
from queue import Empty, SimpleQueue

import cv2
import numpy as np

from facelet.console import Problem
from facelet.isolated import PATIENCE, TICK, signal_name
from facelet.settings import max_seconds

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
    done in this process. Raises what the function raises, and Problem as a Pool does."""
    if workers == 1:
        yield from map(function, jobs)
        return
    jobs = iter(jobs)
    first = list(islice(jobs, AHEAD * workers))
    pool = Pool(function, min(workers, len(first)))
    try:
        waiting = deque(pool.submit(job) for job in first)
        while waiting:
            yield waiting.popleft().result()
            waiting.extend(pool.submit(job) for job in islice(jobs, 1))
    finally:
        # What they write goes to a folder that is removed next.
        pool.close()


# ---- processes that may die ------------------------------------------------------------------

_connection = None  # in a worker: to the process that it works for


def at(what):
    """Called by a function that works on several things, before each of them: what it is, in
    words. Where the process dies, or gives no sign of life any more, an error names it."""
    if _connection is not None:
        _connection.send((None, str(what)))


class Pool:
    """Processes that call a function.

    function -- goes to the processes as it is, as do its arguments and results
    start, arguments -- a function that is called there first

    A future raises what the function raises. Where a process dies, or gives no sign of life (a
    result, or at()) for PATIENCE times settings.max_seconds(), it raises Problem, which says what
    that process was working on; the pool is to be closed then."""

    def __init__(self, function, workers, start=_start, arguments=()):
        # A fork of a process where OpenCV or MXNet has threads can hang: workers start afresh.
        context = get_context("spawn")
        pairs = []
        with _ignoring_interrupts():
            for _ in range(workers):
                ours, theirs = context.Pipe()
                process = context.Process(target=_work, args=(theirs, function, start, arguments))
                process.start()
                theirs.close()  # so that its end is noticed
                pairs.append((process, ours))
        self.pids = [process.pid for process, _ in pairs]
        # A thread for each process, as the standard library's executor doesn't tell which job a
        # process died of, nor notices one that stands still.
        self._jobs = SimpleQueue()
        threads = [
            threading.Thread(target=_feed, args=(self._jobs, *pair), daemon=True) for pair in pairs
        ]
        for thread in threads:
            thread.start()
        # Before multiprocessing waits, as this process ends, for those that it has made.
        self.close = Finalize(self, _end, (self._jobs, threads, pairs), exitpriority=100)

    def submit(self, *arguments):
        """The future of function(*arguments)."""
        future = Future()
        self._jobs.put((future, arguments))
        return future


def _end(jobs, threads, pairs):
    """End processes at once, whatever they are at."""
    with contextlib.suppress(Empty):
        while True:
            jobs.get_nowait()[0].cancel()
    for process, _ in pairs:
        process.kill()
    for _ in threads:
        jobs.put(None)
    for thread in threads:
        thread.join()
    for process, connection in pairs:
        process.join()
        connection.close()


def _feed(jobs, process, connection):
    """Give jobs to a process until there is None."""
    while (job := jobs.get()) is not None:
        future, arguments = job
        if future.set_running_or_notify_cancel():
            try:
                future.set_result(_answer(process, connection, arguments))
            except BaseException as error:
                future.set_exception(error)


def _answer(process, connection, arguments):
    what = "what it was given"
    try:
        connection.send(arguments)
        while True:
            if not _says_something(connection):
                process.kill()
                seconds = PATIENCE * max_seconds()
                raise Problem(
                    f"a worker process gave no sign of life for {seconds:g} s while working on "
                    f"{what}, and was ended: if that takes so long, set detect.max_seconds, a "
                    "tenth of it"
                )
            value, note = connection.recv()
            if value is None:
                what = note
            elif isinstance(value, BaseException):
                raise value from RuntimeError(f"in a worker process:\n{note}")
            else:
                return value[0]
    except (EOFError, ConnectionError):
        process.join()
        raise Problem(
            f"a worker process died ({_end_of(process)}) while working on {what}: is there memory "
            "enough?"
        ) from None


def _says_something(connection):
    """Whether there is something to receive before the time is over; what passes while this process
    itself is stopped doesn't count."""
    left = PATIENCE * max_seconds()
    while left > 0:
        if connection.poll(min(left, TICK)):
            return True
        left -= TICK
    return connection.poll()


def _end_of(process):
    status = process.exitcode
    return signal_name(-status) if status < 0 else f"status {status}"


def _work(connection, function, start, arguments):
    """What a worker does: answers with (None, words), (exception, traceback) or ((result,), None)
    to arguments, until there are no more."""
    global _connection
    _connection = connection
    start(*arguments)
    while True:
        try:
            job = connection.recv()
        except (EOFError, ConnectionError):
            return
        try:
            answer = (function(*job),), None
        except BaseException as error:
            answer = error, traceback.format_exc()
        try:
            connection.send(answer)
        except ConnectionError:
            return
        except Exception:  # what can't be pickled
            connection.send((RuntimeError("an error that can't be sent"), traceback.format_exc()))


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
    at(f"batch {number}")
    make, slots = _making
    return make(number, slots[slot])


class Ahead:
    """Makes batches in processes before they are asked for, into shared memory.

    make -- make(number, arrays) fills float32 arrays, given by name, and returns a note; it goes to
        the processes as it is
    shapes -- of the arrays, by name
    workers -- processes; ahead -- batches on their way at a time

    The processes start when the first batch is asked for, and end with close() or when nobody holds
    this any more."""

    def __init__(self, make, shapes, workers, ahead):
        self.shapes, self.ahead, self.workers = shapes, max(ahead, workers), workers
        length = sum(map(math.prod, shapes.values()))
        # One more than are on their way: that which the caller looks at.
        context = get_context("spawn")
        self.memory = [context.RawArray("f", length) for _ in range(self.ahead + 1)]
        self.make, self.pool = make, None

    def close(self):
        """End the processes."""
        if self.pool is not None:
            self.pool.close()
            self.pool = None

    def batches(self, numbers):
        """Yields (arrays by name, note, seconds waited for it) for each of `numbers`, in their
        order. The arrays are of use until the next is asked for. Raises what `make` raises, and
        Problem when a process dies."""
        if self.pool is None:
            given = self.make, self.shapes, self.memory
            self.pool = Pool(_fill, self.workers, _start_making, given)
        numbers, free, waiting = iter(numbers), deque(range(len(self.memory))), deque()

        def ask():
            for number in islice(numbers, 1):
                slot = free.popleft()
                waiting.append((self.pool.submit(number, slot), slot))

        try:
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
        finally:
            # Whoever comes next uses the same memory.
            for future, _ in waiting:
                future.cancel()
            wait([future for future, _ in waiting])

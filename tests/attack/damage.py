"""Tries of damaged and changed files: each is read in a process of its own kind, made by fork, so
that a crash or a hang of a reader is seen, and costs no more than the next process."""

import contextlib
import dataclasses
import hashlib
import json
import os
import random
import resource
import select
import signal
import sys
import time
import traceback
import warnings
from pathlib import Path

import cv2
import numpy as np

from facelet.console import Problem, describe_os_error, one_line
from tests.attack.mutate import GRAMMARS, damaged

SAME, DIFFERS, OWN, FAILED = "same", "differs", "own error", "failure"
SECONDS = 30  # that a reader may take
MEMORY = 4 << 30  # bytes that it may take
cv2.setNumThreads(1)  # a process with threads can't be forked


def content(kind, how, number, seed, data):
    """The bytes of a try: the same for the same arguments."""
    rng = random.Random(f"{seed} {kind.name} {how} {number}")
    if how == "flips":
        return damaged(data, rng)
    for _ in range(20):
        made = GRAMMARS[kind.grammar](data, rng)
        if made != data:
            return made
    return data


def digest(value):
    """Of what a reader gives, by content."""
    found = hashlib.sha256()

    def add(part):
        found.update(type(part).__name__.encode())
        if dataclasses.is_dataclass(part):
            part = {field.name: getattr(part, field.name) for field in dataclasses.fields(part)}
        if isinstance(part, dict):
            for key in part:
                add(key)
                add(part[key])
        elif isinstance(part, (list, tuple, set)):
            found.update(b"%d" % len(part))
            for inner in sorted(part) if isinstance(part, set) else part:
                add(inner)
        elif isinstance(part, np.ndarray) and part.dtype != object:
            found.update(
                f"{part.dtype}{part.shape}".encode() + np.ascontiguousarray(part).tobytes()
            )
        else:
            found.update(repr(part).encode("utf-8", "backslashreplace"))

    add(value)
    return found.hexdigest()


def judge(kind, world, right):
    """The verdict on a file as it lies there, and words; right -- digest of what it says when it is
    sound."""
    try:
        said = digest(kind.read(world))
    except Problem as problem:
        words = one_line(str(problem))  # as facelet.console.program prints it
        return (OWN, words) if words.strip() else (FAILED, "an error without words")
    except OSError as error:  # facelet.console.program makes a line of it, if it says of what file
        words = one_line(describe_os_error(error))
        named = error.filename is not None
        return (OWN, words) if named else (FAILED, f"OSError without a file: {words}")
    except BaseException as error:
        where = traceback.extract_tb(error.__traceback__)
        ours = [one for one in where if "site-packages" not in one.filename] or where
        at = f"{Path(ours[-1].filename).name}:{ours[-1].lineno}"
        return FAILED, f"{type(error).__name__}: {' '.join(str(error).split())[:200]} ({at})"
    if said == right:
        return SAME, ""
    return (
        (FAILED, "it says something else, and no checksum noticed") if kind.sums else (DIFFERS, "")
    )


def _limits():
    """No output, little memory, one thread."""
    nowhere = os.open(os.devnull, os.O_RDWR)
    for stream in (0, 1, 2):
        os.dup2(nowhere, stream)
    # As facelet.console.program sets them.
    sys.stdout = sys.stderr = open(os.devnull, "w", errors="backslashreplace")
    warnings.simplefilter("ignore")
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    most = pages * resource.getpagesize() + MEMORY
    resource.setrlimit(resource.RLIMIT_AS, (most, most))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def _work(kind, world, tries, seed, send):
    """Read a file anew for each of some tries; sends a line about each."""
    path = world / kind.path
    sound = path.read_bytes()
    right = digest(kind.read(world))
    send(["ready"])
    for how, number in tries:
        path.write_bytes(content(kind, how, number, seed, sound))
        send(judge(kind, world, right))
        path.write_bytes(sound)


def _fork(work):
    """Run work(send) in a process made by fork: its number, and the pipe that it sends to."""
    ours, theirs = os.pipe()
    sys.stdout.flush()
    sys.stderr.flush()
    number = os.fork()
    if number:
        os.close(theirs)
        return number, ours
    try:
        os.setsid()
        os.close(ours)
        _limits()
        work(lambda said: os.write(theirs, json.dumps(said).encode() + b"\n"))
    except BaseException:
        with contextlib.suppress(OSError):
            os.write(theirs, json.dumps(["broken", traceback.format_exc()]).encode() + b"\n")
    finally:
        os._exit(0)


def _lines(pipe):
    """Yields the lines from a pipe, None for each time that none came for SECONDS; ends with it."""
    rest, last = b"", time.monotonic()
    while True:
        there, _, _ = select.select([pipe], [], [], max(0, last + SECONDS - time.monotonic()))
        if not there:
            yield None
            last = time.monotonic()
            continue
        data = os.read(pipe, 1 << 16)
        if not data:
            return
        last = time.monotonic()
        *lines, rest = (rest + data).split(b"\n")
        yield from map(json.loads, lines)


def in_child(work):
    """Run work() in a process of its own: what uses threads in this one could not be forked."""
    child, pipe = _fork(lambda send: (work(), send(["done"])))
    said = [line[-1] if line else "it hangs" for line in _lines(pipe)]
    os.close(pipe)
    os.waitpid(child, 0)
    if said != ["done"]:
        raise RuntimeError("\n".join(said))


def attack(kind, world, tries, seed):
    """Yields (how, number, verdict, words) of tries [(how, number)] at a kind of file."""
    path, waiting = world / kind.path, list(tries)
    sound = path.read_bytes()
    while waiting:
        child, pipe = _fork(lambda send: _work(kind, world, waiting, seed, send))
        hung = ready = False
        try:
            for said in _lines(pipe):
                if said is None:
                    hung = True
                    break
                if said[0] == "broken":
                    raise RuntimeError(f"{kind.name}: the tool itself is broken: {said[1]}")
                if said[0] == "ready":
                    ready = True
                else:
                    yield (*waiting.pop(0), *said)
        finally:
            with contextlib.suppress(ProcessLookupError):  # with what it has started
                os.killpg(child, signal.SIGKILL)
            status = os.waitpid(child, 0)[1]
            os.close(pipe)
            path.write_bytes(sound)
        if waiting:
            if not ready:
                raise RuntimeError(f"{kind.name}: a sound file can't be read")
            by_signal = os.WIFSIGNALED(status)
            ended = f"signal {os.WTERMSIG(status)}" if by_signal else f"status {status >> 8}"
            words = f"no answer for {SECONDS} s" if hung else f"the process died, {ended}"
            yield (*waiting.pop(0), FAILED, words)

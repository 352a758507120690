"""Decoders and other readers in a process of their own: on a damaged or hostile file they may crash
or hang, and then cost that file alone.

    picture = isolated.read(path)       # as facelet.picture.read()

The process starts with the first call and ends with this one, however that ends. It is started
afresh, without what this process has imported, so that programs need no guard of __main__, and
after each crash again. Its time is limited by `settings.max_seconds()`.
"""

import contextlib
import importlib
import json
import os
import queue
import signal
import subprocess
import sys
import threading
import weakref
from collections.abc import Iterator
from multiprocessing.connection import wait
from pathlib import Path
from typing import Any, BinaryIO, Callable, Optional

import numpy as np

from facelet import picture as pictures
from facelet import video as videos
from facelet.arrays import Pixels
from facelet.console import Problem
from facelet.files import AnyPath
from facelet.settings import allow_pixels, max_pixels, max_seconds

TICK = 1.0  # s: what is waited at a time
STARTING = 60.0  # s: for it to start
PATIENCE = 10  # times what a decoder may take: for what takes longer
PIPE = 1 << 20  # bytes: what Linux lets a pipe hold; by default it is a 16th
_START = "import sys; sys.path[:] = {path!r}; from facelet.isolated import serve; serve()"


class Crashed(Exception):
    """The process died, or was ended for taking too long; says which."""


class Process:
    """A process that calls functions, one at a time."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._process: Optional[subprocess.Popen[bytes]] = None
        self._kill: Callable[[], object] = bool
        self._limit = STARTING

    def call(self, function: str, *arguments: Any, patience: float = 1) -> Any:
        """What a function gives there: JSON values, or an array of uint8.

        function -- "module:name"; arguments -- JSON values
        patience -- times max_seconds(), that it may take

        Raises BrokenPicture and Problem as it does, Crashed, and RuntimeError for any other error.
        """
        request = {"function": function, "arguments": arguments, "pixels": max_pixels()}
        with self._lock:
            if self._process is None or self._process.poll() is not None:
                self._start()
            self._limit = patience * max_seconds()
            try:
                return self._ask(request)
            except BaseException as error:  # among them ctrl-C: an answer would still be on its way
                if not isinstance(error, (Problem, RuntimeError)):
                    self._end()
                raise

    def close(self) -> None:
        with self._lock:
            self._end()

    def _start(self) -> None:
        self._end()
        path = [os.path.abspath(folder) for folder in sys.path]
        self._process = process = subprocess.Popen(
            [
                *(sys.executable, *subprocess._args_from_interpreter_flags()),  # type: ignore[attr-defined]
                *("-c", _START.format(path=path)),
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            bufsize=0,
            start_new_session=True,  # ctrl-C is for this process to answer
        )
        self._kill = weakref.finalize(self, _kill, process)  # also when this process ends
        if sys.platform == "linux":
            import fcntl

            assert process.stdout
            with contextlib.suppress(OSError):  # a user may have so many only
                fcntl.fcntl(process.stdout, 1031, PIPE)  # F_SETPIPE_SZ, which Python 3.9 has not
        self._limit = STARTING
        try:
            self._header()
        except Crashed as error:
            raise Problem(f"the process that reads files can't start: {error}") from None
        except BaseException:  # ctrl-C
            self._end()
            raise

    def _end(self) -> None:
        self._kill()
        self._process = None

    def _ask(self, request: Any) -> Any:
        assert self._process and self._process.stdin
        try:
            self._process.stdin.write(json.dumps(request).encode() + b"\n")
        except OSError:
            raise Crashed(self._why()) from None
        answer = self._header()
        if "broken" in answer:
            raise pictures.BrokenPicture(answer["broken"])
        if "problem" in answer:
            raise Problem(answer["problem"])
        if "error" in answer:
            raise RuntimeError(f"in the process that reads files:\n{answer['error']}")
        if "shape" not in answer:
            return answer["value"]
        array: Any = np.empty(answer["shape"], np.uint8)
        self._fill(memoryview(array.reshape(-1)))
        return array

    def _header(self) -> Any:
        """The next answer, as far as it is JSON."""
        size = bytearray(8)
        self._fill(memoryview(size))
        text = bytearray(int.from_bytes(size, "big"))
        self._fill(memoryview(text))
        return json.loads(text)

    def _fill(self, memory: memoryview) -> None:
        """Read so many bytes. Raises Crashed."""
        assert self._process and self._process.stdout
        stream: Any = self._process.stdout
        done = 0
        while done < len(memory):
            if not _readable(stream, self._limit):
                self._process.kill()
                self._process.wait()
                raise Crashed(f"takes longer than {self._limit:g} s")
            count = stream.readinto(memory[done:])
            if not count:
                raise Crashed(self._why())
            done += count

    def _why(self) -> str:
        assert self._process
        status = self._process.wait()
        return f"dies of {signal_name(-status)}" if status < 0 else f"ends with status {status}"


def signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def _kill(process: "subprocess.Popen[bytes]") -> None:
    process.kill()
    process.wait()
    for stream in (process.stdin, process.stdout):
        if stream:
            stream.close()


def _readable(stream: BinaryIO, seconds: float) -> bool:
    """Whether there is something to read before the time is over. What passes while this process
    is stopped doesn't count. (Windows can't wait for pipes: there the time is not limited.)"""
    if os.name == "nt":
        return True
    left = seconds
    while left > 0:
        if wait([stream.fileno()], min(left, TICK)):
            return True
        left -= TICK
    return bool(wait([stream.fileno()], 0))


# ---- there --------------------------------------------------------------------------------------


def serve() -> None:
    """Answer requests, until the process that asks is gone."""
    source, target = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb", buffering=0)
    os.dup2(2, 1)  # what libraries print is no answer
    requests: queue.SimpleQueue[bytes] = queue.SimpleQueue()

    def receive() -> None:
        for line in source:
            requests.put(line)
        os._exit(0)  # also while a decoder hangs

    threading.Thread(target=receive, daemon=True).start()
    _send(target, "{}")
    while True:
        request = json.loads(requests.get())
        allow_pixels(request["pixels"])
        module, _, name = request["function"].partition(":")
        try:
            value = getattr(importlib.import_module(module), name)(*request["arguments"])
            if not isinstance(value, np.ndarray):
                value = json.dumps({"value": value})
        except pictures.BrokenPicture as error:
            _send(target, json.dumps({"broken": str(error)}))
        except Problem as error:
            _send(target, json.dumps({"problem": str(error)}))
        except Exception:
            import traceback

            _send(target, json.dumps({"error": traceback.format_exc()}))
        else:
            if isinstance(value, str):
                _send(target, value)
            else:
                _send(target, json.dumps({"shape": value.shape}), np.ascontiguousarray(value))


def _send(target: Any, answer: str, array: Any = None) -> None:
    """An answer is the length of a JSON text, that text, and the array, if there is one."""
    text = answer.encode()
    head: Any = len(text).to_bytes(8, "big") + text
    for part in (head,) if array is None else (head, array.reshape(-1)):
        left = memoryview(part)
        while left:
            try:
                left = left[target.write(left) :]
            except BrokenPipeError:  # whoever asked is gone
                os._exit(0)


# ---- pictures -----------------------------------------------------------------------------------

_process = Process()


def read(path: AnyPath) -> Pixels:
    """As facelet.picture.read(). Raises BrokenPicture, too, where the decoder crashes or hangs."""
    name = os.fspath(path)
    try:
        picture: Pixels = _process.call("facelet.isolated:read_there", os.path.abspath(name), name)
    except Crashed as error:
        raise _broken(name, error) from None
    return picture


def read_there(path: str, name: str) -> Pixels:
    return pictures.read(path, name)


def call(function: str, *arguments: Any, patience: float = 1) -> Any:
    """As Process.call(), in the process that read() uses."""
    return _process.call(function, *arguments, patience=patience)


def close() -> None:
    """End the process that these functions use; the next call starts another one."""
    _process.close()


def _broken(name: object, error: Crashed) -> pictures.BrokenPicture:
    return pictures.BrokenPicture(
        f"{name}: the decoder {error} on it: it is damaged, or made to do that"
    )


# ---- videos -------------------------------------------------------------------------------------


class Video:
    """As facelet.video.Video, of a file. Where the decoder crashes or hangs, BrokenPicture is
    raised if that is at the first frame; elsewhere the video ends, and `remark` says why."""

    def __init__(self, path: AnyPath) -> None:
        self._name, self.remark = os.fspath(path), ""
        self._process = Process()
        try:
            self.rate, self.promised = self._process.call(
                "facelet.isolated:open_video", os.path.abspath(path), self._name
            )
        except Crashed as error:
            raise _broken(self._name, error) from None

    def __iter__(self) -> Iterator[Pixels]:
        count = 0
        try:
            while (frame := self._process.call("facelet.isolated:next_frame")) is not None:
                yield frame
                count += 1
            self.remark = self._process.call("facelet.isolated:remark")
        except Crashed as error:
            if not count:
                raise _broken(self._name, error) from None
            self.remark = f"the decoder {error} at frame {count}: what comes then is left out"
        finally:
            self._process.close()


def count(path: AnyPath) -> int:
    """As facelet.video.count(), of a file; 0 as well where the decoder crashes."""
    try:
        frames: int = _process.call("facelet.isolated:count_there", os.path.abspath(path))
    except Crashed:
        return 0
    return frames


_open: tuple[videos.Video, Iterator[Pixels]]  # there: the one video that is read


def open_video(path: str, name: str) -> tuple[float, int]:
    global _open
    video = videos.Video(Path(path), name)
    _open = video, iter(video)
    return video.rate, video.promised


def next_frame() -> Optional[Pixels]:
    return next(_open[1], None)


def remark() -> str:
    return _open[0].remark


def count_there(path: str) -> int:
    return videos.count(Path(path))

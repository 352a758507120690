"""What every program shares with its user: one-line errors, exit codes, progress."""

import contextlib
import io
import re
import shutil
import signal
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from typing import Callable, Optional, TextIO, Union


class Problem(Exception):
    """Something the user can mend: says what is wrong, where, and what to do, in one line."""


# Characters of an error: of a longer one, as damaged files make them, both ends are enough.
LONGEST = 1200
UNSAFE = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029]+")  # controls of terminals, ends of lines


def one_line(text: str) -> str:
    """A text as a line of ordinary length: what a file or its name holds may break lines, clear the
    screen, or have no end."""
    line = UNSAFE.sub(lambda found: ascii(found.group())[1:-1], text)
    if len(line) > LONGEST:
        line = f"{line[: LONGEST * 2 // 3]} ... {line[-LONGEST // 3 :]}"
    return line


def describe_os_error(error: OSError) -> str:
    """One line for an OSError: the system's reason and the file it is about."""
    where = f": {error.filename}" if error.filename else ""
    hint = "; free some space and run the same command again" if error.errno == 28 else ""
    return f"{error.strerror or error}{where}{hint}"


class Terminated(KeyboardInterrupt):
    """The system, or another program, asks this one to end."""


_stop: Optional[type[KeyboardInterrupt]] = None  # what the user or the system has asked for
_held = 0  # stops_held() that are entered


def _interrupt(*_: object) -> None:
    global _stop
    _stop = KeyboardInterrupt
    if not _held:
        raise KeyboardInterrupt


def _terminate(*_: object) -> None:
    global _stop
    _stop = Terminated
    if not _held:
        raise Terminated


def check_stop() -> None:
    """Raise again what ctrl-C or SIGTERM has raised in a program() before. Python drops what is
    raised where it calls back, such as in the __del__ of an object: long loops ask at each step."""
    if _stop is not None:
        raise _stop


@contextlib.contextmanager
def stops_held() -> Iterator[None]:
    """ctrl-C and SIGTERM of a program() wait for the end of the block: for calls of libraries that
    call back into Python, and crash where that raises something."""
    global _held
    _held += 1
    try:
        yield
    finally:
        _held -= 1
    if not _held:
        check_stop()


def program(main: Callable[[list[str]], object], argv: Optional[Sequence[str]] = None) -> None:
    """Run main(argv) and leave the process: 0 when it returns, 2 with one line on stderr for
    a Problem or a failure of the file system, 130 when interrupted (ctrl-C), 143 when asked to end
    (SIGTERM), which is taken as ctrl-C is."""
    # Names of files may hold what a terminal, or a file that it is sent to, can't be sent.
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    global _stop
    before = {}
    with contextlib.suppress(ValueError):  # not in the main thread
        before[signal.SIGTERM] = signal.signal(signal.SIGTERM, _terminate)
        # Ignored, as in the background of a shell, it stays ignored.
        if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
            before[signal.SIGINT] = signal.signal(signal.SIGINT, _interrupt)
    try:
        main(list(sys.argv[1:] if argv is None else argv))
        sys.stdout.flush()
    except Problem as problem:
        sys.exit(_fail(one_line(f"error: {problem}"), 2))
    except BrokenPipeError:  # the reader of a pipe went away: `... | head`
        sys.stderr.close()
        sys.exit(0)
    except OSError as error:
        sys.exit(_fail(one_line(f"error: {describe_os_error(error)}"), 2))
    except KeyboardInterrupt as stop:
        words = str(stop) or "stopped: nothing is half-written; the same command goes on"
        sys.exit(_fail(words, 143 if isinstance(stop, Terminated) else 130))
    finally:  # for who goes on in this process
        for number, handler in before.items():
            signal.signal(number, handler)
        _stop = None


def _fail(line: str, status: int) -> int:
    print(line, file=sys.stderr, flush=True)
    return status


def clock(seconds: float) -> str:
    """1:02:03 or 2:03 for a number of seconds."""
    minutes, seconds = divmod(int(seconds + 0.5), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{seconds:02d}" if hours else f"{minutes}:{seconds:02d}"


class Progress:
    """A line with count, rate and time to go: redrawn in place on a terminal, printed every
    `interval` seconds elsewhere (a log file stays readable).

    total -- how many steps there will be; None if that is not known
    label -- what a step is, in the plural ("pictures")
    """

    def __init__(
        self,
        total: Optional[int],
        label: str,
        interval: float = 10.0,
        stream: Optional[TextIO] = None,
    ) -> None:
        self.total, self.label, self.done = total, label, 0
        self.stream = stream or sys.stderr
        self.live = self.stream.isatty()
        self.interval = 0.2 if self.live else interval
        self.start = self.shown = time.perf_counter()

    def step(self, n: int = 1) -> None:
        check_stop()
        self.done += n
        now = time.perf_counter()
        if now - self.shown >= self.interval:
            self.shown = now
            self._show(now, "\r" if self.live else "", "" if self.live else "\n")

    def close(self) -> None:
        """Print the last line; the total is what was really done."""
        self._show(time.perf_counter(), "\r" if self.live else "", "\n", final=True)

    def _show(self, now: float, before: str, after: str, final: bool = False) -> None:
        spent = max(now - self.start, 1e-9)
        rate = self.done / spent
        if final or self.total is None:
            tail = f"in {clock(spent)}"
        else:
            tail = f"{clock((self.total - self.done) / rate)} to go" if self.done else "..."
        total = "" if self.total is None else f"/{self.total:,}"
        line = f"  {self.done:,}{total} {self.label}  {rate:,.1f}/s  {tail}"
        print(f"{before}{line:<70}", end=after, file=self.stream, flush=True)


class Status:
    """What a long job is doing, for work whose steps last seconds or hours: on a terminal a line
    that is redrawn in place, elsewhere a line whenever `interval` seconds went by without one. A
    thread of its own shows it, so that work which blocks is told of as well; setting it costs
    next to nothing.

        with Status() as status:
            status.set("making the first batches")
            ...
            status.set(lambda seconds: f"step {n} of {total}")
            status.print("a line of output")

    interval -- seconds, where the stream is no terminal
    """

    def __init__(self, interval: float = 30.0, stream: Optional[TextIO] = None) -> None:
        self.stream = stream or sys.stderr
        self.live = self.stream.isatty()
        self.interval = 0.5 if self.live else interval
        self._state: tuple[Union[str, Callable[[float], str]], float] = "", time.monotonic()
        self._width, self._shown = 0, time.monotonic()
        self._lock, self._ended = threading.Lock(), threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> "Status":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()
        with self._lock:
            self._wipe()

    def set(self, text: Union[str, Callable[[float], str]]) -> None:
        """text -- what is shown from now on, or a function of the seconds since now that gives it;
        it is called when it is shown, in another thread."""
        self._state = text, time.monotonic()

    def clear(self) -> None:
        """Show nothing from now on."""
        with self._lock:
            self._wipe()
            self.set("")

    def print(self, line: str, stream: Optional[TextIO] = None) -> None:
        """Print a line of its own, to stdout or another stream."""
        with self._lock:
            self._wipe()
            print(line, file=stream or sys.stdout, flush=True)
            self._shown = time.monotonic()

    def _watch(self) -> None:
        while not self._ended.wait(max(0.0, self._shown + self.interval - time.monotonic())):
            self._show_if_due()

    def _show_if_due(self) -> None:
        with self._lock:
            if time.monotonic() - self._shown >= self.interval:
                self._shown, (text, since) = time.monotonic(), self._state
                seconds = self._shown - since
                line = text(seconds) if callable(text) else text and f"{text}, {clock(seconds)}"
                if line:
                    self._draw(line)

    def _draw(self, line: str) -> None:
        if self.live:
            line = f"  {line}"[: shutil.get_terminal_size().columns - 1]
            print(f"\r{line:<{self._width}}", end="", file=self.stream, flush=True)
            self._width = len(line)
        else:
            print(f"  {line}", file=self.stream, flush=True)

    def _wipe(self) -> None:
        """Leave the terminal's line empty."""
        if self._width:
            print(f"\r{'':<{self._width}}\r", end="", file=self.stream, flush=True)
            self._width = 0

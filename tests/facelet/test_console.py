"""The status line of long steps, on a terminal and in a log; errors, a line each."""

import io
import os
import signal
import time

import pytest

from facelet import console
from facelet.console import Problem, Progress, Status, check_stop, one_line, program, stops_held


class Terminal(io.StringIO):
    def isatty(self):
        return True


class Now:
    """A clock that is set: wait() lets time go by for a status, which looks at it as its thread
    would, every tenth of a second."""

    def __init__(self):
        self.seconds = 1000.0

    def wait(self, seconds, *statuses):
        for _ in range(round(10 * seconds)):
            self.seconds += 0.1
            for status in statuses:
                status._show_if_due()


@pytest.fixture
def now(monkeypatch):
    clock = Now()
    monkeypatch.setattr(console.time, "monotonic", lambda: clock.seconds)
    return clock


def screen(text):
    """Lines as a terminal shows them: after a carriage return it writes over what is there."""
    lines = []
    for line in text.split("\n"):
        shown = ""
        for part in line.split("\r"):
            shown = part + shown[len(part) :]
        lines.append(shown.rstrip())
    return lines


def test_in_a_log_a_line_whenever_there_was_none_for_a_while(now):
    log = io.StringIO()
    status = Status(stream=log)
    status.set("reading")
    now.wait(29.5, status)
    assert not log.getvalue()
    now.wait(31, status)
    assert log.getvalue().splitlines() == ["  reading, 0:30", "  reading, 1:00"]
    for _ in range(3):  # lines of its own are lines
        now.wait(25, status)
        status.print("epoch", log)
    now.wait(25, status)
    status.set(lambda seconds: f"step 3, {seconds:.0f}")
    now.wait(10, status)
    assert log.getvalue().splitlines()[2:] == ["epoch"] * 3 + ["  step 3, 5"]
    status.clear()
    now.wait(100, status)
    assert len(log.getvalue().splitlines()) == 6


def test_on_a_terminal_one_line_that_gives_way(now, monkeypatch):
    monkeypatch.setenv("COLUMNS", "30")
    terminal = Terminal()
    status = Status(stream=terminal)
    status.set(lambda seconds: "a text that is longer than the line is")
    now.wait(2, status)
    assert screen(terminal.getvalue()) == ["  a text that is longer than"]
    status.set("short")
    now.wait(1, status)
    assert screen(terminal.getvalue()) == ["  short, 0:01"]
    status.print("epoch 1", terminal)
    assert screen(terminal.getvalue()) == ["epoch 1", ""]
    now.wait(1, status)
    assert screen(terminal.getvalue()) == ["epoch 1", "  short, 0:02"]
    status.clear()
    now.wait(1, status)
    assert screen(terminal.getvalue()) == ["epoch 1", ""]


def test_it_tells_of_work_that_blocks_and_ends_with_it():
    """Nobody calls it while a long call lasts; an exception leaves no thread and no line behind."""
    terminal = Terminal()
    with pytest.raises(KeyboardInterrupt), Status(stream=terminal) as status:
        status.set("one long call")
        end = time.monotonic() + 20
        while terminal.getvalue().count("one long call") < 2 and time.monotonic() < end:
            time.sleep(0.1)
        raise KeyboardInterrupt
    assert terminal.getvalue().count("one long call") >= 2
    assert not status._thread.is_alive() and screen(terminal.getvalue()) == [""]


class Swallows:
    """Python drops what is raised in __del__."""

    def __init__(self, number):
        self.number = number

    def __del__(self):
        os.kill(os.getpid(), self.number)
        for _ in range(1000):  # the handler runs between two instructions
            pass


@pytest.fixture
def handlers():
    """The handlers of a program that runs in the foreground, put back in the end."""
    numbers = signal.SIGINT, signal.SIGTERM
    before = [signal.getsignal(number) for number in numbers]
    signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    for number, handler in zip(numbers, before):
        signal.signal(number, handler)
    console._stop = None


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("number, status", [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
@pytest.mark.parametrize("asks", ["a loop", "the progress of one"])
def test_a_stop_that_python_drops_ends_the_program_all_the_same(number, status, asks, handlers):
    done = []
    step = check_stop if asks == "a loop" else Progress(2, "steps", stream=io.StringIO()).step

    def main(argv):
        step()
        Swallows(number)
        done.append("goes on")
        step()
        done.append("after a step")

    with pytest.raises(SystemExit) as stopped:
        program(main, [])
    assert stopped.value.code == status and done == ["goes on"]
    program(lambda argv: check_stop(), [])  # another program has not been stopped


@pytest.mark.parametrize("number, status", [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_stop_waits_while_it_is_held(number, status, handlers):
    done = []

    def main(argv):
        with stops_held():
            with stops_held():
                os.kill(os.getpid(), number)
                done.append("inside")
            done.append("outer")
        done.append("after")

    with pytest.raises(SystemExit) as stopped:
        program(main, [])
    assert stopped.value.code == status and done == ["inside", "outer"]


def test_ctrl_c_that_was_ignored_stays_ignored(handlers):
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    program(lambda argv: os.kill(os.getpid(), signal.SIGINT), [])
    assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN


@pytest.mark.parametrize(
    "text, line",
    [
        ("a.jpg: no picture", "a.jpg: no picture"),
        ("Bild größer 图.jpg", "Bild größer 图.jpg"),
        ("a\nb\r\x1b[2J\u2028c\0", "a\\nb\\r\\x1b[2J\\u2028c\\x00"),
    ],
)
def test_an_error_is_a_line_whatever_is_in_it(text, line, capsys):
    def fails(_):
        raise Problem(text)

    with pytest.raises(SystemExit):
        program(fails, [])
    assert capsys.readouterr().err == f"error: {line}\n"


def test_a_long_error_keeps_both_ends():
    line = one_line("list.txt, line 3: " + "9" * 100_000 + " is no number")
    assert len(line) < 1300 and line.startswith("list.txt") and line.endswith("is no number")

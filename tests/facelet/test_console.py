"""The status line of long steps, on a terminal and in a log."""

import io
import time

from facelet.console import Status


class Terminal(io.StringIO):
    def isatty(self):
        return True


def screen(text):
    """Lines as a terminal shows them: after a carriage return it writes over what is there."""
    lines = []
    for line in text.split("\n"):
        shown = ""
        for part in line.split("\r"):
            shown = part + shown[len(part) :]
        lines.append(shown.rstrip())
    return lines


def test_in_a_log_a_line_whenever_there_was_none_for_a_while():
    log = io.StringIO()
    with Status(interval=0.2, stream=log) as status:
        status.set("reading")
        time.sleep(0.5)
        assert log.getvalue() == "  reading, 0:00\n" * 2
        for _ in range(6):  # lines of its own are lines
            time.sleep(0.1)
            status.print("epoch", log)
        status.clear()
        time.sleep(0.5)
    assert log.getvalue() == "  reading, 0:00\n" * 2 + "epoch\n" * 6


def test_nothing_in_a_log_of_a_short_job():
    log = io.StringIO()
    with Status(stream=log) as status:
        status.set("reading")
        status.print("done", log)
    assert log.getvalue() == "done\n"


def test_on_a_terminal_one_line_that_gives_way(monkeypatch):
    monkeypatch.setenv("COLUMNS", "30")
    terminal, seconds = Terminal(), []
    with Status(stream=terminal) as status:
        status.interval = 0.1
        status.set(lambda spent: seconds.append(spent) or "a text that is longer than the line is")
        time.sleep(0.8)
        assert screen(terminal.getvalue()) == ["  a text that is longer than"]
        status.set("short")
        time.sleep(0.3)
        assert screen(terminal.getvalue()) == ["  short, 0:00"]
        status.print("epoch 1", terminal)
        assert screen(terminal.getvalue()) == ["epoch 1", ""]
        time.sleep(0.3)
        assert screen(terminal.getvalue()) == ["epoch 1", "  short, 0:00"]
    assert screen(terminal.getvalue()) == ["epoch 1", ""]
    assert 0 < seconds[0] < seconds[-1] < 1


def test_it_tells_of_work_that_blocks_and_of_its_end():
    """Nobody calls it while a long call lasts; an exception leaves no thread behind."""
    log = io.StringIO()
    try:
        with Status(interval=0.05, stream=log) as status:
            status.set("one long call")
            time.sleep(0.3)
            raise KeyboardInterrupt
    except KeyboardInterrupt:
        pass
    told = log.getvalue()
    assert told.count("one long call") >= 3 and not status._thread.is_alive()
    time.sleep(0.2)
    assert log.getvalue() == told

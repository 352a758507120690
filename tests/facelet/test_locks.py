"""Locks on what is written: held by processes, and gone with them."""

import errno
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from facelet import files, locks
from facelet.console import Problem
from facelet.locks import locked

ROOT = Path(__file__).resolve().parents[2]
HOLD = """
import sys
from facelet.locks import locked
with locked(sys.argv[1]):
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def hold():
    """Starts a process that holds the lock of a path; it ends with its stdin."""
    started = []

    def start(path):
        words = [sys.executable, "-c", HOLD, str(path)]
        pipe = subprocess.PIPE
        started.append(subprocess.Popen(words, cwd=ROOT, stdin=pipe, stdout=pipe, text=True))
        assert started[-1].stdout.readline() == "held\n"
        return started[-1]

    yield start
    for process in started:
        process.kill()
        process.communicate()


def refused(path):
    with pytest.raises(Problem) as problem, locked(path):
        pass
    return str(problem.value)


@pytest.mark.parametrize("ends", ["well", "killed"])
def test_the_second_of_two_processes_is_told_who_is_first(tmp_path, hold, ends):
    """In whatever words the path is written; and a dead process has no lock."""
    out = tmp_path / "deep" / "out"
    first = hold(out)
    (tmp_path / "link").symlink_to(out, target_is_directory=True)
    for path in (out, tmp_path / "deep" / ".." / "deep" / "out", tmp_path / "link"):
        line = refused(path)
        assert line.startswith(f"{path} is being written by process {first.pid} on ")
        assert socket.gethostname() in line and "sys.stdin.read()" in line and "\n" not in line
    if ends == "well":
        first.communicate()
        assert [path.name for path in tmp_path.iterdir()] == ["link"]  # nothing came of the folder
    else:
        first.send_signal(signal.SIGKILL)
        first.communicate()
    with locked(out):
        assert not out.exists()
    assert not list(tmp_path.rglob("*.lock"))


def test_a_folder_is_empty_and_has_its_content_whether_locked_or_not(tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    with locked(out):
        assert not list(out.iterdir()) and files.is_new(out)
        with locked(out):  # again, as a part of the same work
            (out / "a").touch()
        assert [path.name for path in tmp_path.iterdir()] != ["out"]
        assert list(files.checksums(out)) == ["a"]
    assert [path.name for path in tmp_path.iterdir()] == ["out"] and not files.is_new(out)


def test_threads_of_one_process_exclude_each_other_too(tmp_path):
    found = []
    with locked(tmp_path / "out"):
        thread = threading.Thread(target=lambda: found.append(refused(tmp_path / "out")))
        thread.start()
        thread.join()
    assert f"process {os.getpid()} on " in found[0]


def test_a_lock_in_the_folder_where_none_can_be_beside(tmp_path, monkeypatch):
    """Of a mount point, as containers have them; it counts as empty all the same."""
    monkeypatch.setattr(os.path, "ismount", lambda path: Path(path) == tmp_path)
    with locked(tmp_path):
        assert [path.name for path in tmp_path.iterdir()] == [locks.INSIDE]
        assert files.is_new(tmp_path)
        with pytest.raises(Problem, match="is a mount point.*: choose a folder in it"):
            with files.whole_folder(tmp_path):
                pass
    assert not list(tmp_path.iterdir())


def test_a_file_that_its_holder_has_just_taken_away_is_no_lock(tmp_path, monkeypatch):
    """Opened before and locked after that: the next process would make a new one, and have it."""
    take, calls = locks._take, []

    def taken_away_before(handle):
        if not calls:
            (tmp_path / ".out.lock").unlink()
        calls.append(handle)
        take(handle)

    monkeypatch.setattr(locks, "_take", taken_away_before)
    with locked(tmp_path / "out"):
        assert len(calls) == 2 and (tmp_path / ".out.lock").exists()


def test_a_parent_that_vanished_meanwhile(tmp_path):
    with locked(tmp_path / "deep" / "out"):
        shutil.rmtree(tmp_path / "deep")
    assert not list(tmp_path.iterdir())


def test_without_locks_in_the_file_system_that_is_said(tmp_path, monkeypatch, capsys):
    def none(handle):
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(locks, "_take", none)
    with locked(tmp_path / "out"):
        assert not list(tmp_path.iterdir())
    assert "without locks" in capsys.readouterr().err


def test_a_link_in_its_place_is_not_written_through(tmp_path):
    (tmp_path / "theirs").write_text("theirs")
    (tmp_path / ".out.lock").symlink_to(tmp_path / "theirs")
    with pytest.raises(OSError), locked(tmp_path / "out"):
        pass
    assert (tmp_path / "theirs").read_text() == "theirs"

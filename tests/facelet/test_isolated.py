"""A decoder that crashes or hangs costs one file; everything else is as without it."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from facelet import isolated, program, settings
from facelet import picture as pictures
from facelet.console import Problem
from tests import crashing

SAYS = {"abort": "dies of SIGABRT", "fault": "dies of SIGSEGV"} | dict.fromkeys(
    ("hangs", "stops"), "takes longer than 0.2 s"
)


@pytest.fixture
def deadly(tmp_path, monkeypatch):
    crashing.install(tmp_path / "deadly", monkeypatch)
    yield
    isolated.close()  # the next test gets one without it


def drawn(path, seed=0, size=(40, 60)):
    pixels = np.random.default_rng(seed).integers(0, 256, (*size, 3), dtype=np.uint8)
    cv2.imwrite(str(path), pixels)
    return path


def lines(out):
    return [json.loads(line) for line in (out / "detections.jsonl").read_text().splitlines()]


@pytest.mark.parametrize("what", crashing.DOES)
def test_a_crash_costs_one_picture(what, deadly, tmp_path, monkeypatch):
    good, bad = (drawn(tmp_path / f"{name}.png") for name in ("good", "bad"))
    crashing.add(bad, what)
    assert np.array_equal(isolated.read(good), pictures.read(good))
    monkeypatch.setenv(settings.MAX_SECONDS_VARIABLE, "0.2")
    with pytest.raises(pictures.BrokenPicture, match=f"{bad}: the decoder {SAYS[what]} on it"):
        isolated.read(bad)
    monkeypatch.delenv(settings.MAX_SECONDS_VARIABLE)
    assert np.array_equal(isolated.read(good), pictures.read(good))


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".bmp", ".webp", ".tif"])
def test_pictures_are_the_same(suffix, tmp_path):
    path = drawn(tmp_path / f"a{suffix}")
    assert np.array_equal(isolated.read(path), pictures.read(path))


def test_errors_are_the_same(tmp_path, monkeypatch):
    """Of paths as they are given, whatever folder the process was started in."""
    isolated.read(drawn(tmp_path / "a.png"))
    monkeypatch.chdir(tmp_path)
    Path("text.png").write_text("text")
    Path("cut.png").write_bytes(Path("a.png").read_bytes()[:1000])
    for name in ("text.png", "cut.png", "none.png", ".", "a\0b.png", os.fsdecode(b"\xd5.png")):
        with pytest.raises(pictures.BrokenPicture) as one:
            pictures.read(name)
        with pytest.raises(pictures.BrokenPicture) as other:
            isolated.read(name)
        assert str(one.value) == str(other.value) and str(one.value).startswith(name[:1])
    monkeypatch.setenv(settings.MAX_PIXELS_VARIABLE, "10")
    with pytest.raises(pictures.BrokenPicture, match="more than the limit of 10 pixels"):
        isolated.read("a.png")


def test_a_folder_with_a_picture_that_crashes(deadly, tmp_path, capsys):
    (tmp_path / "in").mkdir()
    for i in range(3):
        drawn(tmp_path / "in" / f"{i}.png", i)
    crashing.add(tmp_path / "in" / "1.png", "fault")
    with pytest.raises(Problem, match="1 of 3 files can't be read; the first: .*1.png: the dec"):
        program.main([str(tmp_path / "in"), "--out", str(tmp_path / "out")])
    assert [Path(line["file"]).name for line in lines(tmp_path / "out")] == ["0.png", "2.png"]
    assert "passed over" in capsys.readouterr().out


def test_a_video_ends_where_its_decoder_crashes(deadly, tmp_path, capsys):
    path = tmp_path / "a.avi"
    made = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 10, (64, 48))
    for i in range(6):
        made.write(np.full((48, 64, 3), 40 * i, np.uint8))
    made.release()
    crashing.add(path, "abort")
    program.main([str(path), "--out", str(tmp_path / "out")])
    assert len(lines(tmp_path / "out")) == 3
    assert "the decoder dies of SIGABRT at frame 3" in capsys.readouterr().out


def test_the_limit_of_time_is_an_option(deadly, tmp_path, monkeypatch):
    monkeypatch.setenv(settings.MAX_SECONDS_VARIABLE, "9")
    crashing.add(drawn(tmp_path / "a.png"), "hangs")
    with pytest.raises(Problem, match="takes longer than 0.3 s"):
        program.main([str(tmp_path / "a.png"), "--max-seconds", "0.3", "--out", "none"])
    for seconds in ("0", "-1", "nan", "inf"):
        with pytest.raises(Problem, match="max_seconds is .*more than 0"):
            program.main([str(tmp_path / "a.png"), "--max-seconds", seconds])


def test_it_ends_with_the_process_that_reads(deadly, tmp_path):
    """Also while the decoder hangs: who reads is killed then, and stderr is closed by both."""
    crashing.add(drawn(tmp_path / "a.png"), "hangs")
    code = "import sys; from facelet import isolated; isolated.read(sys.argv[1])"
    command = [sys.executable, "-c", code, str(tmp_path / "a.png")]
    with subprocess.Popen(command, stderr=subprocess.PIPE) as reading:
        assert b"hangs" in reading.stderr.readline()
        reading.send_signal(signal.SIGKILL)
        assert reading.communicate(timeout=20) == (None, b"")

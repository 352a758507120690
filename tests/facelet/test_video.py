"""Videos as phones, shops and networks have them; names of files of every kind; folders."""

import functools
import http.server
import json
import os
import struct
import subprocess
import sys
import threading
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from facelet import picture as pictures
from facelet import program, settings, video
from facelet.console import program as leave

ROOT = Path(__file__).resolve().parents[2]
NOT_UTF8 = os.fsdecode(b"\xd5\xd5\xc6\xac.png")  # a Chinese ZIP's


def frame(seed, width=128, height=96):
    blocks = np.random.default_rng(seed).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    return cv2.resize(blocks, (width, height))


def write_video(path, frames, codec="mp4v"):
    made = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*codec), 10, frames[0].shape[1::-1])
    assert made.isOpened()
    for one in frames:
        made.write(one)
    made.release()
    return path


def run(*arguments):
    """The program's exit status."""
    with pytest.raises(SystemExit) as left:
        leave(lambda argv: (program.main(argv), sys.exit(0)), [str(text) for text in arguments])
    return left.value.code


def records(out):
    return [json.loads(line) for line in (out / "detections.jsonl").read_text().splitlines()]


# ---- rotation ----------------------------------------------------------------------------------


@pytest.mark.parametrize("degrees", [0, 90, 180, 270])
def test_frames_are_upright(degrees, tmp_path):
    """The matrix of the track's header turns by so much, clockwise, as phones have it."""
    path, frames = tmp_path / "a.mp4", [frame(i) for i in range(4)]
    plain = list(video.Video(write_video(path, frames)))
    data = bytearray(path.read_bytes())
    at = data.index(b"tkhd") + 44
    a, b = {0: (1, 0), 90: (0, 1), 180: (-1, 0), 270: (0, -1)}[degrees]
    matrix = [a, b, 0, -b, a, 0, 0, 0, 0x4000]
    data[at : at + 36] = struct.pack(">9i", *(value << 16 for value in matrix))
    path.write_bytes(data)
    shown = list(video.Video(path))
    assert len(shown) == 4
    for one, before in zip(shown, plain):
        assert np.array_equal(one, np.rot90(before, -degrees // 90))
    out = tmp_path / "out"
    assert run(path, "--out", out) == 0
    height, width = shown[0].shape[:2]
    assert {(line["width"], line["height"]) for line in records(out)} == {(width, height)}
    drawn = list(video.Video(out / "drawn" / "a.mp4"))
    assert [one.shape for one in drawn] == [one.shape for one in shown]


# ---- what is wrong with frames ---------------------------------------------------------------


SIZES = {"small": (128, 96), "large": (200, 152), "high": (128, 152)}


@pytest.mark.parametrize("codec, suffix", [("MJPG", "avi"), ("mp4v", "ts")])
@pytest.mark.parametrize("first, then", [("small", "large"), ("large", "small"), ("high", "small")])
def test_a_size_that_changes_half_way_is_said(first, then, codec, suffix, tmp_path, capsys):
    """Two videos in one file, as a switch of a stream's quality leaves them. OpenCV 5 follows, and
    brings them to one size."""
    parts = [
        write_video(
            tmp_path / f"{i}.{suffix}", [frame(i + k, *SIZES[name]) for k in range(20)], codec
        )
        for i, name in ((0, first), (100, then))
    ]
    both = tmp_path / f"both.{suffix}"
    both.write_bytes(b"".join(part.read_bytes() for part in parts))
    shown = video.Video(both)
    frames = list(shown)
    assert len(frames) == 40
    if cv2.__version__ >= "5":
        for made, one in zip(frames[20:], video.Video(parts[1])):
            apart = np.abs(made.astype(int) - cv2.resize(one, SIZES[first]))
            assert apart.mean() < 5
        assert shown.remark == ""
    else:
        says = "from frame 19 on, or changes its size there"
        if first != "small":
            says = "from frame 20 on nothing changes but its upper 96 rows"
        assert says in shown.remark
        assert run(both, "--out", tmp_path / "out") == 0
        assert says in capsys.readouterr().out
    for part in parts:
        whole = video.Video(part)
        assert len(list(whole)) == 20 and whole.remark == ""


def test_what_stays_below_is_no_smaller_frame(tmp_path):
    """A room before which something moves, bars below a film from its beginning and later on, and
    a still picture below it."""
    room, moving = frame(0), []
    for i in range(20):
        moving.append(room.copy())
        moving[-1][10 + i : 40 + i, 5 + 2 * i : 35 + 2 * i] = 255 - 5 * i
    film, bar, still = [frame(i) for i in range(20)], np.zeros((30, 128, 3), np.uint8), room[:30]
    barred = [np.vstack([one, bar]) for one in film]
    later = [one if i < 9 else np.vstack([one[:-30], bar]) for i, one in enumerate(film)]
    below = [np.vstack([one, still]) for one in film]
    for i, frames in enumerate((moving, barred, later, below)):
        shown = video.Video(write_video(tmp_path / f"{i}.avi", frames, "FFV1"))
        assert len(list(shown)) == 20 and shown.remark == ""


def test_a_video_that_repeats_its_last_frame_for_ever(tmp_path, monkeypatch):
    class Endless:
        real, last = cv2.VideoCapture, None

        def __init__(self, *arguments):
            self.video = Endless.real(*arguments)

        def __getattr__(self, name):
            return getattr(self.video, name)

        def read(self):
            there, now = self.video.read()
            self.last = now if there else self.last
            return True, self.last.copy()

    path = write_video(tmp_path / "a.avi", [frame(i) for i in range(7)], "MJPG")
    monkeypatch.setattr(cv2, "VideoCapture", Endless)
    shown = video.Video(path)
    assert 7 < len(list(shown)) < 2 * video.STUCK
    assert "one and the same" in shown.remark and "from frame 6 on" in shown.remark


def test_frames_beyond_the_limit(tmp_path, monkeypatch, capsys):
    path = write_video(tmp_path / "a.avi", [frame(0)], "MJPG")
    monkeypatch.setenv(settings.MAX_PIXELS_VARIABLE, "1")
    assert run(path, "--max-pixels", 12_287, "--out", tmp_path / "out") == 2
    assert "frames of 128 x 96 pixels, more than the limit of 12,287" in capsys.readouterr().err
    assert run(path, "--max-pixels", 12_288, "--out", tmp_path / "out") == 0


@pytest.mark.parametrize("name", ["12:30:05.mp4", "http:a.mp4", os.fsdecode(b"\xd5\xd5.mp4")])
def test_names_of_videos(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_video("plain.mp4", [frame(0)] * 3)
    os.rename("plain.mp4", name)
    assert run(name, "--out", "out") == 0
    assert [line["file"] for line in records(Path("out"))] == [name] * 3


# ---- streams -----------------------------------------------------------------------------------


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_):
        pass


@pytest.fixture
def served(tmp_path):
    """A folder, and the address that it is served at."""
    folder = tmp_path / "served"
    folder.mkdir()
    handler = functools.partial(Quiet, directory=str(folder))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield folder, f"127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()
    thread.join()


def test_a_stream(served, tmp_path, capsys):
    folder, address = served
    write_video(folder / "a.avi", [frame(i) for i in range(6)], "MJPG")
    out = tmp_path / "out"
    assert run(f"http://me:secret@{address}/a.avi", "--out", out) == 0
    assert [line["frame"] for line in records(out)] == list(range(6))
    assert {line["file"] for line in records(out)} == {f"http://{address}/a.avi"}
    assert len(list(video.Video(out / "drawn" / "stream.mp4"))) == 6
    printed = "".join(capsys.readouterr())
    assert f"http://{address}/a.avi: " in printed and "secret" not in printed


def test_a_stream_that_is_none(served, tmp_path, capsys):
    _, address = served
    assert run(f"http://me:secret@{address}/gone.avi", "--out", tmp_path / "out") == 2
    assert capsys.readouterr().err == f"error: http://{address}/gone.avi can't be opened\n"
    assert not (tmp_path / "out").exists()
    assert run(f"rtsp://{address}/a", ROOT / "docs" / "sample.jpg") == 2
    assert f"rtsp://{address}/a runs until ctrl-C: give nothing beside" in capsys.readouterr().err


# ---- folders and names ---------------------------------------------------------------------


def test_nothing_in_a_folder_is_passed_over_in_silence(tmp_path, capsys):
    folder = tmp_path / "album"
    folder.mkdir()
    image = Image.fromarray(frame(0)[:, :, ::-1])
    for name, kind in (("a.jfif", "jpeg"), ("b.JPE", "jpeg"), ("c.gif", "gif"), ("d.jpg", "jpeg")):
        image.save(folder / name, kind)
    write_video(folder / "e.3gp", [frame(1)] * 2)
    write_video(folder / "f.ts", [frame(1)] * 2)
    (folder / "g.avif").write_bytes(b"\0\0\0\x1cftypavif")
    for name in ("h.heic", "i.heic", "notes.txt", ".hidden"):
        (folder / name).touch()
    os.mkfifo(folder / "pipe.jpg")
    (folder / "dead.png").symlink_to("nowhere.png")
    assert run(folder, "--out", tmp_path / "out") == (2 if pictures.reads("AVIF") else 0)
    found = {Path(line["file"]).name for line in records(tmp_path / "out")}
    assert found == {"a.jfif", "b.JPE", "c.gif", "d.jpg", "e.3gp", "f.ts"}
    printed = capsys.readouterr().out
    assert f"files in {folder} that are no picture or video by their names: 2 .heic, " in printed
    for kind in ("1 .txt", "1 .png", "1 .jpg", *(["1 .avif"] * (not pictures.reads("AVIF")))):
        assert kind in printed
    drawn = {path.name for path in (tmp_path / "out" / "drawn").iterdir()}
    assert drawn == {"a.jfif.png", "b.JPE.png", "c.gif.png", "d.jpg", "e.3gp.mp4", "f.ts.mp4"}


def test_linked_folders_are_followed_once(tmp_path):
    """Links to themselves, to what is there anyway, and to one folder twice."""
    for name in ("album/b", "elsewhere/deep", "other"):
        (tmp_path / name).mkdir(parents=True)
    for name in ("album/b/1.png", "elsewhere/2.png", "elsewhere/deep/3.png", "other/4.png"):
        (tmp_path / name).touch()
    for link, target in (
        ("album/a", "album/b"),
        ("album/b/loop", "album"),
        ("album/c", "elsewhere"),
        ("album/d", "elsewhere/deep"),
        ("album/.hidden", "other"),
        ("elsewhere/more", "other"),
        ("other/up", "album"),
    ):
        (tmp_path / link).symlink_to(tmp_path / target)
    found = [
        str(path.relative_to(tmp_path / "album")) for path in pictures.in_folder(tmp_path / "album")
    ]
    assert sorted(Path(name).name for name in found) == ["1.png", "2.png", "3.png", "4.png"]
    assert "b/1.png" in found and found == sorted(found)
    (tmp_path / "linked").symlink_to(tmp_path / "album")
    assert len(pictures.in_folder(tmp_path / "linked")) == 4


def test_an_unset_variable_is_refused(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    pictures.write("a.png", frame(0))
    for inputs in ([""], ["a.png", ""]):
        assert run(*inputs) == 2
        assert "an empty name is given" in capsys.readouterr().err
    assert os.listdir() == ["a.png"]


def test_pipes_and_devices_do_not_hang(tmp_path, capsys):
    for name in ("pipe.jpg", "pipe.mp4"):
        os.mkfifo(tmp_path / name)
        assert run(tmp_path / name, "--out", tmp_path / "out") == 2
        assert capsys.readouterr().err == (
            f"error: {tmp_path / name}: no regular file, but a pipe or a device\n"
        )


@pytest.mark.parametrize("coding", ["utf-8", "ascii", "cp1252"])
def test_names_that_are_no_text_are_printed_everywhere(coding, tmp_path):
    """In a run of its own, as the streams of this one are pytest's."""
    pictures.write(tmp_path / "a.png", frame(0))
    bad = tmp_path / "in" / NOT_UTF8
    bad.parent.mkdir()
    os.rename(tmp_path / "a.png", bad)
    broken = bad.with_name(NOT_UTF8.replace(".png", "\u7167.jpg"))
    broken.write_text("no picture")
    done = subprocess.run(
        [sys.executable, "-m", "facelet", bad.parent, "--out", tmp_path / "out", "--crops"],
        cwd=ROOT,
        capture_output=True,
        env={**os.environ, "PYTHONIOENCODING": coding},
    )
    errors = done.stderr.decode(coding)
    assert done.returncode == 2 and "Traceback" not in errors, errors
    assert "1 of 2 files can't be read" in errors and r"\udcd5" in errors
    assert r"\udcd5" in done.stdout.decode(coding)
    (line,) = records(tmp_path / "out")
    assert line["file"] == str(bad) and Path(line["file"]).exists()
    assert [path.name for path in (tmp_path / "out" / "drawn").iterdir()] == [
        NOT_UTF8.encode(errors="backslashreplace").decode()
    ]

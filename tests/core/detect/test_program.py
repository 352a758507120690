"""The program that detects, and how it finds its nets; with nets of seeded parameters."""

import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import zlib
from pathlib import Path

import cv2
import matplotlib
import numpy as np
import onnx
import pytest

import facelet
from core.detect import nets
from core.detect.__main__ import main
from core.detect.detector import FaceDetector, open_stage
from core.formats import checkpoint, fuse, onnx_file, params_file
from facelet import boxes as geometry
from facelet import draw, schemes, smooth
from facelet import picture as pictures
from facelet import program as detect
from facelet.console import Problem, program
from facelet.detector import landmark_squares
from facelet.faces import ALIGNED
from facelet.files import write_json
from facelet.settings import OUTSIDE_VARIABLE
from symbols.graph import shapes

ROOT = Path(__file__).resolve().parents[3]
STAGES = {
    "pnet": ("Pnet20_v0", {}),
    "rnet": ("Rnet_v1", {}),
    "onet": ("Onet_v1", {}),
    "landmark": ("Lnet_v2", {"base": 4}),
}
EXTRA = ["--thresholds", "0.2,0.1,0.1", "--min-face", "30", "--max-faces", "4"]
OPTIONS = dict(thresholds=(0.2, 0.1, 0.1), min_face=30, max_faces=4)


def seeded(net, seed=1, **options):
    """A Checkpoint whose boxes stay near the crops they are made from, and whose points are about
    where they are in a face."""
    made = checkpoint.initial(net, options, seed, prelu_slope=0.25)
    for head in made.spec.heads:
        if head.task != "cls":
            made.arguments[f"{head.bn}_gamma"] *= np.float32(0.02)
        if head.task == "landmark":
            where = np.resize(ALIGNED / 112, (1, made.facts()["points"], 2))
            made.arguments[f"{head.bn}_beta"][:] = schemes.pack(where)[0]
    return made


def save_params(folder, name, net, seed=1, **options):
    made = seeded(net, seed, **options)
    params_file.write(
        folder / f"{name}.params",
        {
            **{f"arg:{key}": value for key, value in made.arguments.items()},
            **{f"aux:{key}": value for key, value in made.auxiliary.items()},
        },
    )


def save_onnx(folder, name, net, seed=1, **options):
    made = seeded(net, seed, **options)
    graph, size = fuse.merge(made.graph()), made.spec.size
    onnx.save(
        onnx_file.model(graph, made.facts(), shapes(graph, size, size)), folder / f"{name}.onnx"
    )


@pytest.fixture(scope="module")
def nets_folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("nets")
    for net, options in STAGES.values():
        save_params(folder, f"{net.lower()}-0016", net, **options)
    return folder


@pytest.fixture(scope="module")
def onnx_folder(tmp_path_factory):
    """The same nets, which open faster."""
    folder = tmp_path_factory.mktemp("onnx")
    for net, options in STAGES.values():
        save_onnx(folder, net, net, **options)
    return folder


@pytest.fixture(scope="module")
def detector(onnx_folder):
    return FaceDetector.open(onnx_folder, **OPTIONS)


def noise(seed, width=120, height=90):
    blocks = np.random.default_rng(seed).integers(0, 256, (9, 12, 3), dtype=np.uint8)
    return cv2.resize(blocks, (width, height))


def write_video(path, frames, codec="MJPG"):
    codec = cv2.VideoWriter_fourcc(*codec)  # type: ignore[attr-defined]
    video = cv2.VideoWriter(str(path), codec, 10, frames[0].shape[1::-1])
    assert video.isOpened()
    for frame in frames:
        video.write(frame)
    video.release()


def frames_of(path):
    video, frames = cv2.VideoCapture(str(path)), []
    while True:
        there, frame = video.read()
        if not there:
            return frames
        frames.append(frame)


def records(out):
    return [json.loads(line) for line in (out / "detections.jsonl").read_text().splitlines()]


def below(folder):
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def agrees(record, picture, faces):
    """A line says what the detector finds in a picture, to the digits it is rounded to."""
    assert (record["height"], record["width"]) == picture.shape[:2]
    assert np.allclose(np.reshape(record["boxes"], (-1, 4)), faces.boxes, atol=0.006)
    assert np.allclose(record["scores"], faces.scores, atol=1e-6)
    assert np.allclose(np.reshape(record["points"], (-1, 5, 2)), faces.landmarks, atol=0.006)
    assert record["scheme"] == "5"


@pytest.fixture
def run(onnx_folder):
    """Runs the program on inputs; returns its exit status."""

    def run(*arguments):
        try:
            program(main, [*map(str, arguments), "--nets", str(onnx_folder), *EXTRA])
        except SystemExit as stopped:
            return stopped.code
        return 0

    return run


# ---- pictures ------------------------------------------------------------------------------


@pytest.fixture
def album(tmp_path):
    """Four pictures in folders, two of one name, and what else may lie there."""
    folder = tmp_path / "album"
    for seed, name in enumerate(("a/one.png", "b/one.png", "b/deep/TWO.JPG", "z.bmp")):
        pictures.write(folder / name, noise(seed))
    pictures.write(folder / ".trash" / "old.png", noise(9))
    (folder / "b" / "notes.txt").write_text("no picture")
    return folder


def test_a_folder(album, tmp_path, run, detector, capsys):
    (album / "b" / "broken.jpg").write_text("no picture")
    out = tmp_path / "out"
    assert run(album, "--out", out, "--crops") == 2
    errors = capsys.readouterr()
    assert errors.err.strip().splitlines()[-1] == (
        f"error: 1 of 5 files can't be read; the first: {album}/b/broken.jpg: no picture that "
        "OpenCV can read, or a truncated one"
    )
    assert "4/5 pictures" in errors.err and f"passed over {album}/b/broken.jpg" in errors.out
    names = ["a/one.png", "b/deep/TWO.JPG", "b/one.png", "z.bmp"]
    found = records(out)
    assert [record["file"] for record in found] == [str(album / name) for name in names]
    assert below(out / "drawn") == set(names)
    made = set()
    for record, name in zip(found, names):
        picture = pictures.read(album / name)
        faces = detector.detect(picture)
        assert len(faces) > 1 and "frame" not in record
        agrees(record, picture, faces)
        draw.boxes(drawn := picture.copy(), faces.boxes, draw.GREEN, 1, faces.scores)
        draw.landmarks(drawn, faces.landmarks, "5")
        lossy = 12 if name.endswith("JPG") else 0
        assert np.abs(pictures.read(out / "drawn" / name).astype(int) - drawn).mean() <= lossy
        made |= {f"{name}-{i}.png" for i in range(len(faces))}
        for i, aligned in enumerate(faces.aligned(picture)):
            crop = pictures.read(out / "crops" / f"{name}-{i}.png")
            assert np.array_equal(crop, aligned)
    assert below(out / "crops") == made
    assert below(out) == {
        "detections.jsonl",
        *(f"drawn/{n}" for n in names),
        *(f"crops/{n}" for n in made),
    }


def test_names_of_what_is_drawn(album, tmp_path):
    """Below the common folder, no two the same, each with a suffix that can be written."""

    def names(*inputs):
        return {str(name): source for source, name in detect.listed([*map(str, inputs)])}

    assert set(names(album / "b")) == {"one.png", "deep/TWO.JPG"}
    assert set(names(album / "a", album / "b")) == {"a/one.png", "b/one.png", "b/deep/TWO.JPG"}
    assert set(names(album / "a" / "one.png", album / "b" / "one.png")) == {
        "a/one.png",
        "b/one.png",
    }
    assert set(names(album / "z.bmp")) == {"z.bmp"}
    # a file that is in a folder given too, and by a roundabout way, is taken once
    assert len(names(album, album / "z.bmp", album / "a" / ".." / "z.bmp")) == 4
    for name in ("clip.avi", "clip.mp4", "clip.avi.mp4", "photo", "photo.png"):
        (tmp_path / name).touch()
    assert names(
        *(
            tmp_path / name
            for name in ("clip.avi.mp4", "clip.mp4", "clip.avi", "photo", "photo.png")
        )
    ) == {
        "clip.avi.mp4": tmp_path / "clip.avi.mp4",
        "clip.mp4": tmp_path / "clip.mp4",
        "clip.avi_.mp4": tmp_path / "clip.avi",
        "photo.png": tmp_path / "photo",
        "photo_.png": tmp_path / "photo.png",
    }


def test_number_as_a_camera_or_a_file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert detect.listed(["0"]) == [(0, Path("camera0.mp4"))]
    Path("0").touch()
    assert detect.listed(["0"]) == [(Path("0"), Path("0.png"))]


def test_without_landmarks(album, tmp_path, onnx_folder):
    """Points are null and crops the squares around the boxes, black outside the picture."""
    out = tmp_path / "out"
    three = {
        f"--{stage}": onnx_folder / f"{STAGES[stage][0]}.onnx" for stage in ("pnet", "rnet", "onet")
    }
    main(
        [
            str(album / "z.bmp"),
            "--out",
            str(out),
            "--crops",
            *EXTRA,
            *(str(part) for pair in three.items() for part in pair),
        ]
    )
    (record,) = records(out)
    assert record["points"] is record["scheme"] is None and len(record["boxes"]) > 1
    picture = np.pad(pictures.read(album / "z.bmp"), ((200, 200), (200, 200), (0, 0)))
    for i, (x1, y1, x2, y2) in enumerate(record["boxes"]):
        crop = pictures.read(out / "crops" / f"z.bmp-{i}.png")
        side = len(crop)
        assert abs(side - max(x2 - x1, y2 - y1)) <= 0.51
        left, top = round((x1 + x2 - side) / 2), round((y1 + y2 - side) / 2)
        found = [
            np.array_equal(
                crop,
                picture[
                    200 + top + dy : 200 + top + dy + side, 200 + left + dx : 200 + left + dx + side
                ],
            )
            for dx in (-1, 0, 1)
            for dy in (-1, 0, 1)
        ]
        assert any(found)


def test_points_are_drawn_where_they_are():
    picture = np.zeros((60, 60, 3), np.uint8)
    draw.points(picture, np.array([[[10.2, 20.4], [40, 50]]]), draw.YELLOW)
    rows, columns = np.nonzero(picture.any(axis=2))
    assert tuple(picture[20, 10]) == tuple(picture[50, 40]) == draw.YELLOW
    near = np.minimum(np.hypot(rows - 20, columns - 10), np.hypot(rows - 50, columns - 40))
    assert near.max() <= 3


def test_landmarks_are_drawn_by_their_scheme():
    """In the colours of their groups and joined by its lines; in one colour where none is known."""
    rng, scheme = np.random.default_rng(0), schemes.get("68")
    points = np.stack(np.meshgrid(np.arange(10), np.arange(7)), 2).reshape(-1, 2)[:68] * 40.0 + 30
    rng.shuffle(points)
    picture = np.zeros((340, 460, 3), np.uint8)
    draw.landmarks(picture, points[None], "68")
    found = {}
    for name, members in scheme.groups.items():
        for i in members:
            x, y = points[i].astype(int)
            found.setdefault(tuple(picture[y, x].tolist()), set()).add(name)
    assert found == {tuple(scheme.colours[name]): {name} for name in scheme.groups}
    for line in scheme.lines:
        middle = (points[line[0]] + points[line[1]]) / 2
        x, y = np.round(middle).astype(int)
        assert picture[y - 1 : y + 2, x - 1 : x + 2].any()
    plain, expected = np.zeros_like(picture), np.zeros_like(picture)
    draw.landmarks(plain, points[None], None)
    draw.points(expected, points[None], draw.YELLOW)
    assert np.array_equal(plain, expected)


# ---- videos --------------------------------------------------------------------------------


def test_a_video(tmp_path, run, detector, capsys):
    clip, out = tmp_path / "clip.avi", tmp_path / "out"
    write_video(clip, [noise(i, 128, 96) for i in range(6)])
    assert run(clip, "--out", out) == 0
    frames, found = frames_of(clip), records(out)
    assert [record["frame"] for record in found] == list(range(6))
    for record, frame in zip(found, frames):
        assert record["file"] == str(clip)
        agrees(record, frame, detector.detect(frame))
    drawn = out / "drawn" / "clip.avi.mp4"
    assert [frame.shape for frame in frames_of(drawn)] == [(96, 128, 3)] * 6
    for frame, shown in zip(frames, frames_of(drawn)):
        faces = detector.detect(frame)
        draw.boxes(frame, faces.boxes, draw.GREEN, 1, faces.scores)
        draw.landmarks(frame, faces.landmarks, "5")
        assert np.abs(frame.astype(int) - shown).mean() < 15  # 50 of a frame upside down
    assert cv2.VideoCapture(str(drawn)).get(cv2.CAP_PROP_FPS) == 10
    printed = capsys.readouterr().out
    assert f"{clip}: " in printed and " frames/s" in printed and "it ends after" not in printed


def test_a_truncated_video(tmp_path, run, capsys):
    clip, out = tmp_path / "clip.avi", tmp_path / "out"
    write_video(clip, [noise(i, 128, 96) for i in range(10)])
    clip.write_bytes(clip.read_bytes()[: clip.stat().st_size // 2])
    there = len(frames_of(clip))
    assert 2 < there < 8
    assert run(clip, "--out", out) == 0
    assert f"ends after {there} of the 10 frames" in capsys.readouterr().out
    assert len(records(out)) == len(frames_of(out / "drawn" / "clip.avi.mp4")) == there


def test_a_video_that_says_nothing(tmp_path, run, capsys):
    """A text, and an mp4 that lost its end, where its index is."""
    text, lost = tmp_path / "text.mp4", tmp_path / "lost.mp4"
    text.write_text("no video")
    write_video(lost, [noise(0)] * 5, "mp4v")
    lost.write_bytes(lost.read_bytes()[:-200])
    assert run(text, lost, "--out", tmp_path / "out") == 2
    assert capsys.readouterr().err == (
        f"error: 2 of 2 files can't be read; the first: {text}: no "
        "video that OpenCV can read, or a truncated one\n"
    )
    assert not (tmp_path / "out").exists()


def test_a_video_that_cannot_be_written(tmp_path, run, capsys, monkeypatch):
    """A full disk, of which OpenCV says nothing: frames get lost."""
    clip, out = tmp_path / "clip.avi", tmp_path / "out"
    write_video(clip, [noise(0)] * 4)
    real = cv2.VideoWriter

    class Losing:
        fourcc = real.fourcc

        def __init__(self, *arguments):
            self.real, self.left = real(*arguments), 3

        def write(self, frame):
            self.left -= 1
            if self.left >= 0:
                self.real.write(frame)

        def release(self):
            self.real.release()

    monkeypatch.setattr(cv2, "VideoWriter", Losing)
    assert run(clip, "--out", out) == 2
    assert "clip.avi.mp4 can't be written" in capsys.readouterr().err
    assert below(out) == {"detections.jsonl"}


def test_smoothing_by_the_program(tmp_path, run, detector):
    clip, out = tmp_path / "clip.avi", tmp_path / "out"
    still = noise(4, 128, 96)
    write_video(clip, [still, np.roll(still, 1, axis=1)])
    assert run(clip, "--smooth", "--out", out) == 0
    smoother, frames, found = smooth.Smoother(10), frames_of(clip), records(out)
    for record, frame in zip(found, frames):
        agrees(record, frame, smoother(detector.detect(frame)))
    with pytest.raises(AssertionError):  # faces are the same ones, so there was something to do
        agrees(found[1], frames[1], detector.detect(frames[1]))


# ---- interrupted ---------------------------------------------------------------------------


class Interrupted:
    """A detector that is interrupted, `times` times, while it looks at the picture `at`."""

    def __init__(self, monkeypatch, at, times=1):
        real, seen = FaceDetector.detect, []

        def look(self, picture, order="BGR"):
            seen.append(picture)
            for _ in range(times if len(seen) == at else 0):
                os.kill(os.getpid(), signal.SIGINT)
            return real(self, picture, order)

        monkeypatch.setattr(FaceDetector, "detect", look)


def test_ctrl_c_keeps_what_was_found(album, tmp_path, run, capsys, monkeypatch):
    before, out = signal.getsignal(signal.SIGINT), tmp_path / "out"
    Interrupted(monkeypatch, at=2)
    assert run(album, "--out", out) == 130
    assert capsys.readouterr().err.strip().splitlines()[-1] == (
        f"stopped: {out} has what was found until then"
    )
    assert below(out) == {"detections.jsonl", "drawn/a/one.png", "drawn/b/deep/TWO.JPG"}
    assert len(records(out)) == 2
    assert signal.getsignal(signal.SIGINT) is before


def test_ctrl_c_in_a_video(tmp_path, run, monkeypatch):
    clip, out = tmp_path / "clip.avi", tmp_path / "out"
    write_video(clip, [noise(i) for i in range(8)])
    Interrupted(monkeypatch, at=3)
    assert run(clip, "--out", out) == 130
    assert len(records(out)) == len(frames_of(out / "drawn" / "clip.avi.mp4")) == 3


def test_ctrl_c_twice_ends_at_once(tmp_path, run, monkeypatch):
    clip, out = tmp_path / "clip.avi", tmp_path / "out"
    write_video(clip, [noise(i) for i in range(8)])
    Interrupted(monkeypatch, at=3, times=2)
    assert run(clip, "--out", out) == 130
    assert len(records(out)) == 2 and below(out) == {"detections.jsonl"}


def test_a_camera_runs_until_ctrl_c(tmp_path, run, monkeypatch, capsys):
    """A camera that is none: what comes from it is a file."""
    clip, out = tmp_path / "clip.avi", tmp_path / "out"
    write_video(clip, [noise(i) for i in range(8)])
    real = cv2.VideoCapture
    monkeypatch.setattr(
        cv2, "VideoCapture", lambda source, *api: real(str(clip) if source == 0 else source)
    )
    Interrupted(monkeypatch, at=4)
    assert run(0, "--out", out) == 0
    assert len(records(out)) == len(frames_of(out / "drawn" / "camera0.mp4")) == 4
    assert records(out)[3]["file"] == "0" and records(out)[3]["frame"] == 3
    assert "4 pictures" in capsys.readouterr().err


def test_a_full_disk_leaves_whole_lines(tmp_path):
    path, line = tmp_path / "lines.jsonl", {"text": "x" * 600}
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2000, limits[1]))
    try:
        with pytest.raises(OSError), detect._lines(path) as add:
            for _ in range(5):
                add(line)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert [json.loads(text) for text in path.read_text().splitlines()] == [line] * 3
    assert below(tmp_path) == {"lines.jsonl"}


def test_a_failure_keeps_the_lines(album, tmp_path, run, monkeypatch, capsys):
    real, written = pictures.write, []

    def write(path, picture):
        if len(written) == 2:
            raise OSError(28, "No space left on device", str(path))
        written.append(path)
        real(path, picture)

    monkeypatch.setattr(pictures, "write", write)
    assert run(album, "--out", tmp_path / "out") == 2
    assert capsys.readouterr().err.startswith("error: No space left on device: ")
    assert len(records(tmp_path / "out")) == 3


# ---- bad input -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "arguments, says",
    [
        (["empty", "--out", "out"], ["empty holds no picture or video"]),
        (["gone.jpg", "--out", "out"], ["gone.jpg is not there"]),
        (["text.png", "--out", "out"], ["text.png: no picture that OpenCV can read"]),
        (["huge.png", "--out", "out"], ["huge.png: 200,000 x 200,000 pixels by its header"]),
        (["one.png", "--out", "empty/../one.png"], ["is there already"]),
        (["one.png", "--out", "one.png/sub"], ["Not a directory"]),
        (["one.png", "--out", "."], [". is there already"]),
        (["one.png", "--out", "out", "--thresholds", "nan,0.5,0.5"], ["thresholds is (nan"]),
        (["one.png", "--out", "out", "--thresholds", "high"], ["thresholds is ['high']"]),
        (["one.png", "--out", "out", "--max-faces", "0"], ["max_faces is 0"]),
        (["one.png", "--out", "out", "--min-face", "nan"], ["min_face is nan"]),
        (["one.png", "--out", "out", "--factor", "1"], ["factor is 1.0"]),
        (["one.png", "--out", "out", "--threads", "0"], ["--threads 0"]),
        (["one.png", "--out", "out", "--pnet", "text.params"], ["text.params is no MXNet .params"]),
        (["0", "one.png", "--out", "out"], ["camera 0 runs until ctrl-C"]),
    ],
)
def test_bad_input_is_one_line(arguments, says, onnx_folder, tmp_path, capfd, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("empty").mkdir()
    pictures.write("one.png", noise(0))
    for name in ("text.png", "text.params"):
        Path(name).write_text("no picture")
    # the header of a picture of 200,000 pixels squared
    header = cv2.imencode(".png", noise(0))[1].tobytes()
    size = (200_000).to_bytes(4, "big")
    crc = zlib.crc32(b"IHDR" + size + size + header[24:29]).to_bytes(4, "big")
    Path("huge.png").write_bytes(header[:16] + size + size + header[24:29] + crc + header[33:])
    with pytest.raises(SystemExit) as stopped:
        program(main, ["--nets", str(onnx_folder), *arguments])
    lines = capfd.readouterr().err.strip().splitlines()
    assert stopped.value.code == 2 and len(lines) == 1 and lines[0].startswith("error: "), lines
    for text in says:
        assert text in lines[0]
    assert not Path("out").exists()


def test_smoothing_needs_points(tmp_path, onnx_folder):
    pictures.write(tmp_path / "one.png", noise(0))
    pnet = str(onnx_folder / "Pnet20_v0.onnx")
    with pytest.raises(Problem, match="--smooth smooths points"):
        main(
            [str(tmp_path / "one.png"), "--pnet", pnet, "--out", str(tmp_path / "out"), "--smooth"]
        )


HOPPER = (172, 155, 357, 337)  # the face, eyebrows to chin, in matplotlib's grace_hopper.jpg


def test_the_nets_that_come_along_find_a_face(tmp_path, monkeypatch):
    """A photograph that came with matplotlib, with no argument but the picture, twice."""
    monkeypatch.chdir(tmp_path)
    picture = Path(matplotlib.get_data_path()) / "sample_data" / "grace_hopper.jpg"
    main([str(picture)])
    main([str(picture), "--max-faces", "1"])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["found", "found-2"]
    for out in ("found", "found-2"):
        found = json.loads((tmp_path / out / "detections.jsonl").read_text())
        boxes = np.array(found["boxes"])
        assert len(boxes) == 1 and found["scores"][0] > 0.9
        assert geometry.iou(boxes, np.array([HOPPER]))[0, 0] > 0.6
        (left, right, nose, *mouth), (x1, y1, x2, y2) = np.array(found["points"])[0], boxes[0]
        assert x1 < left[0] < nose[0] < right[0] < x2 and y1 < left[1] < nose[1] < mouth[0][1] < y2


def test_detection_imports_no_mxnet(album, nets_folder, tmp_path):
    arguments = [str(album), "--nets", str(nets_folder), "--out", str(tmp_path / "out"), *EXTRA]
    code = (
        "import sys; import facelet.detector, facelet.nets, core.detect.__main__; "
        f"core.detect.__main__.main({arguments!r}); "
        "print([name for name in sys.modules if name.partition('.')[0] == 'mxnet'])"
    )
    result = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert result.stdout.splitlines()[-1] == "[]"
    assert len(records(tmp_path / "out")) == 4


# ---- the nets in a folder ------------------------------------------------------------------


def names(found):
    return {stage: path.name for stage, path in found[0].items()}


def another_model(path):
    """An ONNX model that is none of ours."""
    from onnx import helper

    value = [helper.make_tensor_value_info(name, 1, [1]) for name in "ab"]
    onnx.save(
        helper.make_model(
            helper.make_graph([helper.make_node("Relu", ["a"], ["b"])], "g", value[:1], value[1:]),
            opset_imports=[helper.make_opsetid("", 13)],
            ir_version=8,
        ),
        path,
    )


def test_nets_are_found_by_content(nets_folder, tmp_path):
    assert names(nets.in_folder(nets_folder)) == {
        stage: f"{net.lower()}-0016.params" for stage, (net, _) in STAGES.items()
    }
    assert nets.in_folder(str(nets_folder))[1] == {}
    for number, file in enumerate(sorted(nets_folder.glob("*.params"))):
        shutil.copy(file, tmp_path / f"file{number}.params")
    another_model(tmp_path / "yunet.onnx")
    (tmp_path / "ncnn.param").write_text("7767517")
    found = nets.in_folder(tmp_path)[0]
    assert {stage: checkpoint.load(path).net for stage, path in found.items()} == {
        stage: net for stage, (net, _) in STAGES.items()
    }


def test_which_file_of_a_net(tmp_path):
    save_params(tmp_path, "pnet20_v1-0009", "Pnet20_v0")
    assert names(nets.in_folder(tmp_path)) == {"pnet": "pnet20_v1-0009.params"}
    save_params(tmp_path, "pnet20_v1-0016", "Pnet20_v0")
    save_params(tmp_path, "pnet20_v1-10000", "Pnet20_v0")
    assert names(nets.in_folder(tmp_path)) == {"pnet": "pnet20_v1-10000.params"}
    save_onnx(tmp_path, "Pnet20_v0-int8", "Pnet20_v0")
    assert names(nets.in_folder(tmp_path)) == {"pnet": "pnet20_v1-10000.params"}
    save_onnx(tmp_path, "Pnet20_v0", "Pnet20_v0")
    assert names(nets.in_folder(tmp_path)) == {"pnet": "Pnet20_v0.onnx"}
    assert names(nets.in_folder(tmp_path, backend="mxnet")) == {"pnet": "pnet20_v1-10000.params"}
    alone = tmp_path / "alone"
    alone.mkdir()
    shutil.copy(tmp_path / "Pnet20_v0-int8.onnx", alone)
    assert names(nets.in_folder(alone)) == {"pnet": "Pnet20_v0-int8.onnx"}


def test_several_nets_for_a_stage(tmp_path):
    save_onnx(tmp_path, "a", "Pnet20_v0")
    save_params(tmp_path, "b-0001", "Pnet16_v0")
    save_onnx(tmp_path, "c", "Lnet_v2", base=4)
    with pytest.raises(
        Problem,
        match=r"several nets for the pnet: a.onnx \(Pnet20_v0\), "
        r"b-0001.params \(Pnet16_v0\); name one in detector.json there, "
        r"or give pnet=\.\.\. in Python, --pnet to a program",
    ):
        nets.in_folder(tmp_path)
    assert names(nets.in_folder(tmp_path, given={"pnet": "a.onnx"})) == {"landmark": "c.onnx"}
    save_params(tmp_path, "d", "Lnet_v2", base=8)  # wider, so another
    with pytest.raises(Problem, match="several nets for the landmark"):
        nets.in_folder(tmp_path, given=["pnet"])
    for name in "bd":
        next(tmp_path.glob(f"{name}*")).unlink()
    save_params(tmp_path, "e-0001", "Pnet20_v0")
    save_params(tmp_path, "f-0001", "Pnet20_v0")
    assert names(nets.in_folder(tmp_path)) == {"pnet": "a.onnx", "landmark": "c.onnx"}
    (tmp_path / "a.onnx").unlink()  # two files of one net, neither newer
    with pytest.raises(Problem, match="e-0001.params .*, f-0001.params"):
        nets.in_folder(tmp_path)


def test_a_folder_without_a_pnet(tmp_path):
    with pytest.raises(Problem, match="no Pnet.* found: no net at all"):
        nets.in_folder(tmp_path)
    save_onnx(tmp_path, "r", "Rnet_v1")
    another_model(tmp_path / "yunet.onnx")
    with pytest.raises(Problem, match="no Pnet.* found: r.onnx, yunet.onnx"):
        nets.in_folder(tmp_path)
    assert names(nets.in_folder(tmp_path, given=["pnet"])) == {"rnet": "r.onnx"}
    (tmp_path / "bad.onnx").write_text("no model")
    with pytest.raises(Problem, match="bad.onnx is no ONNX model"):
        nets.in_folder(tmp_path)
    with pytest.raises(Problem, match="r.onnx is no folder"):
        nets.in_folder(tmp_path / "r.onnx")


def test_a_run_that_is_not_finished(tmp_path):
    run = tmp_path / "run"
    checkpoint.save(run / "pnet", seeded("Pnet20_v0"), 1, {})
    for made in (FaceDetector, facelet.FaceDetector):
        with pytest.raises(Problem) as caught:
            made.open(run)
        assert str(caught.value) == (
            f"{run} is a run that is not finished: go on with it, or give --pnet {run / 'pnet'} "
            "(pnet=... in Python)"
        )
    assert list(FaceDetector.open(run, pnet=run / "pnet").nets) == ["pnet"]
    with pytest.raises(Problem, match="pnet is a folder, not an ONNX model: export it first"):
        facelet.FaceDetector.open(run, pnet=run / "pnet")
    checkpoint.save(run / "pnet_hard", seeded("Pnet20_v0"), 1, {})
    with pytest.raises(Problem, match="give --pnet .*/pnet_hard "):
        FaceDetector.open(run)


def test_a_manifest_says_which(nets_folder, tmp_path, monkeypatch):
    monkeypatch.setenv(OUTSIDE_VARIABLE, "1")
    save_onnx(tmp_path, "a", "Pnet20_v0")
    save_onnx(tmp_path, "b", "Pnet16_v0")
    manifest = {
        "pnet": "b.onnx",
        "rnet": str(nets_folder / "rnet_v1-0016.params"),
        "thresholds": [0.3, 0.2, 0.1],
        "min_face": 33,
    }
    (tmp_path / "detector.json").write_text(json.dumps(manifest))
    paths, settings = nets.in_folder(tmp_path)
    assert paths == {"pnet": tmp_path / "b.onnx", "rnet": nets_folder / "rnet_v1-0016.params"}
    assert settings == {"thresholds": [0.3, 0.2, 0.1], "min_face": 33}
    made = FaceDetector.open(tmp_path)
    assert made.settings.min_face == 33 and made.settings.thresholds == (0.3, 0.2, 0.1)
    assert made.nets["pnet"].facts["net"] == "Pnet16_v0" and set(made.nets) == {"pnet", "rnet"}
    made = FaceDetector.open(tmp_path, min_face=50, pnet=tmp_path / "a.onnx", max_faces=2)
    assert made.settings.min_face == 50 and made.settings.thresholds == (0.3, 0.2, 0.1)
    assert made.nets["pnet"].facts["net"] == "Pnet20_v0" and made.max_faces == 2
    (tmp_path / "b.onnx").unlink()
    assert names(nets.in_folder(tmp_path, given=["pnet"])) == {"rnet": "rnet_v1-0016.params"}


def test_a_manifest_that_names_files_elsewhere(tmp_path, monkeypatch, capsys):
    """Such nets are opened where that is allowed alone."""
    folder = tmp_path / "nets"
    folder.mkdir()
    save_onnx(tmp_path, "a", "Pnet20_v0")
    cv2.imwrite(str(tmp_path / "a.png"), np.zeros((40, 40, 3), np.uint8))
    monkeypatch.setenv(OUTSIDE_VARIABLE, "0")
    for name in ("../a.onnx", str(tmp_path / "a.onnx")):
        for value in ({"pnet": name}, {"pnet": "b.onnx", "landmark": {"5": name}}):
            (folder / "detector.json").write_text(json.dumps(value))
            with pytest.raises(Problem, match="detector.json: '.*a.onnx' lies outside .*--outside"):
                FaceDetector.open(folder)
    (folder / "detector.json").write_text(json.dumps({"pnet": "../a.onnx"}))
    command = [str(tmp_path / "a.png"), "--nets", str(folder), "--out", str(tmp_path / "out")]
    main([*command, "--outside"])
    assert (tmp_path / "out" / "detections.jsonl").exists()


@pytest.mark.parametrize(
    "manifest, says",
    [
        ("[]", "holds no JSON object"),
        ("{", "not valid JSON"),
        ('{"pnet": "a.onnx", "treshold": 1}', "has 'treshold': known are pnet, .*thresholds"),
        ('{"pnet": 3}', "has 3 for the pnet"),
        ('{"pnet": "gone.onnx"}', "gone.onnx for the pnet"),
        ('{"rnet": "a.onnx"}', "no Pnet"),
        ('{"pnet": "a.onnx", "min_face": "small"}', "min_face is 'small'"),
        ('{"pnet": "a.onnx", "thresholds": [0.1]}', "thresholds is"),
        ('{"pnet": "a.onnx", "rnet": "a.onnx"}', "can't be the rnet"),
    ],
)
def test_a_bad_manifest(manifest, says, tmp_path):
    save_onnx(tmp_path, "a", "Pnet20_v0")
    (tmp_path / "detector.json").write_text(manifest)
    with pytest.raises(Problem, match=says):
        FaceDetector.open(tmp_path)


# ---- nets for landmarks by their number of points --------------------------------------------


@pytest.fixture(scope="module")
def by_points(onnx_folder, tmp_path_factory):
    """A folder whose detector.json names nets for landmarks by points; its Onet gives 5 as well."""
    folder = tmp_path_factory.mktemp("points")
    save_onnx(folder, "onet", "Onet_v1", landmark=True)
    for points in (5, 68, 106):
        options = {} if points == 5 else {"points": points}
        save_onnx(folder, f"l{points}", "Lnet_v2", base=4, **options)
    for name in ("Pnet20_v0.onnx", "Rnet_v1.onnx"):
        shutil.copy(onnx_folder / name, folder)
    (folder / "detector.json").write_text(
        json.dumps(
            {
                "pnet": "Pnet20_v0.onnx",
                "rnet": "Rnet_v1.onnx",
                "onet": "onet.onnx",
                "landmark": {"5": "l5.onnx", "68": "l68.onnx"},
            }
        )
    )
    return folder


@pytest.mark.parametrize(
    "wanted, net, points, scheme",
    [
        (None, None, 5, "5"),
        (5, "l5.onnx", 5, "5"),
        (68, "l68.onnx", 68, "68"),
        (0, None, None, None),
    ],
)
def test_nets_by_points(by_points, wanted, net, points, scheme):
    assert names(nets.in_folder(by_points, points=wanted)).get("landmark") == net
    made = FaceDetector.open(by_points, points=wanted, **OPTIONS)
    assert ("landmark" in made.nets) == (net is not None) and made.scheme == scheme
    faces = made.detect(noise(0))
    assert len(faces) > 1
    assert faces.landmarks is None if points is None else faces.landmarks.shape[1:] == (points, 2)
    none = made.detect(np.zeros((9, 9, 3), np.uint8))
    assert none.landmarks is None if points is None else none.landmarks.shape == (0, points, 2)


def test_points_that_no_net_gives(by_points, onnx_folder):
    for detector_class in (FaceDetector, facelet.FaceDetector):
        with pytest.raises(
            Problem, match=r"points\d* has nets for 5 and 68 points, none for 106: ask for"
        ):
            detector_class.open(by_points, points=106)
    with pytest.raises(
        Problem,
        match=r"^no net gives 106 points \(the onet gives 5, the landmark gives 68\): name one "
        "that does as the landmark$",
    ):
        FaceDetector.open(by_points, points=106, landmark=by_points / "l68.onnx")
    made = FaceDetector.open(by_points, points=106, landmark=by_points / "l106.onnx", **OPTIONS)
    assert made.scheme is None and made.detect(noise(0)).landmarks.shape[1] == 106
    # a net for landmarks that gives others than are asked for, beside an Onet that gives them
    made = FaceDetector.open(by_points, points=5, landmark=by_points / "l106.onnx", **OPTIONS)
    assert "landmark" not in made.nets and made.detect(noise(0)).landmarks.shape[1] == 5
    pnet, rnet = onnx_folder / "Pnet20_v0.onnx", onnx_folder / "Rnet_v1.onnx"
    with pytest.raises(Problem, match=r"no net gives 5 points \(nor any others\)"):
        FaceDetector(pnet, rnet, points=5)
    assert FaceDetector(pnet, points=0).scheme is FaceDetector(pnet).scheme is None
    for wrong in (-1, "5", 2.5):
        with pytest.raises(Problem, match="points is .*: it must be a whole number from 0"):
            FaceDetector(pnet, points=wrong)


def test_points_of_nets_found_by_content(by_points, onnx_folder, tmp_path):
    for path in (onnx_folder / "Pnet20_v0.onnx", by_points / "l5.onnx", by_points / "l68.onnx"):
        shutil.copy(path, tmp_path)
    with pytest.raises(Problem, match=r"several nets for the landmark: l5.onnx .*, l68.onnx"):
        nets.in_folder(tmp_path)
    assert names(nets.in_folder(tmp_path, points=68))["landmark"] == "l68.onnx"
    assert set(names(nets.in_folder(tmp_path, points=7))) == {"pnet"}
    assert "landmark" not in FaceDetector.open(tmp_path, points=0).nets


@pytest.mark.parametrize("said", ['{"five": "a.onnx"}', '{"5": null}', '{"5": {}}'])
def test_a_bad_manifest_of_several_nets(said, tmp_path):
    save_onnx(tmp_path, "a", "Pnet20_v0")
    (tmp_path / "detector.json").write_text('{"pnet": "a.onnx", "landmark": ' + said + "}")
    with pytest.raises(Problem, match="for the landmark: it must be a number of points and a file"):
        nets.in_folder(tmp_path)


def test_points_by_the_program(by_points, tmp_path, capsys):
    picture = tmp_path / "one.png"
    pictures.write(picture, noise(0))

    def found(points):
        out = tmp_path / points
        program(
            main,
            [str(picture), "--nets", str(by_points), "--points", points, "--out", str(out), *EXTRA],
        )
        return records(out)[0], pictures.read(out / "drawn" / "one.png")

    (many, drawn), (none, plain) = found("68"), found("none")
    assert np.shape(many["points"])[1:] == (68, 2) and many["scheme"] == "68"
    assert none["points"] is none["scheme"] is None and none["boxes"] == many["boxes"]
    draw.landmarks(plain, np.float32(many["points"]), "68")
    assert np.abs(plain.astype(int) - drawn).mean() < 0.2  # but for the rounding of the points
    for points, says in (
        ("7", "has nets for 5 and 68 points, none for 7"),
        ("all", "--points all: it must be"),
    ):
        with pytest.raises(SystemExit):
            found(points)
        assert says in capsys.readouterr().err


# ---- what a net for landmarks looks at ---------------------------------------------------------


@pytest.mark.parametrize(
    "crop, points, side, below",
    [
        (None, 68, 1, 0),
        ({"box": "detector", "scale": 1.1}, 68, 1.1, 0),
        ({"box": "list", "scale": 1}, 5, 1, 0),
        ({"box": "half", "scale": 2.0}, 5, 1, 0.02),
        ({"box": "bounds", "scale": 1.25}, 68, 1.25 * 0.82, 0.08),
        ({"box": "bounds", "scale": 1.5}, 5, 1.5 * 0.41, 0.02),
        ({"box": "bounds", "scale": 1.2}, 7, 1.2, 0),
    ],
)  # of which nothing is known
def test_a_net_sees_what_it_was_trained_on(crop, points, side, below, tmp_path):
    """By its manifest, and by the metadata of the model exported from it."""
    options = {"base": 4, **({"points": points} if points != 5 else {})}
    save_params(tmp_path, "net", "Lnet_v2", **options)
    write_json(
        tmp_path / "net.json",
        {"net": "Lnet_v2", "options": options, **({"crop": crop} if crop else {})},
    )
    again = checkpoint.load(path := tmp_path / "net.params")
    assert again.facts().get("crop") == crop
    graph = fuse.merge(again.graph())
    onnx.save(onnx_file.model(graph, again.facts(), shapes(graph, 48, 48)), tmp_path / "net.onnx")
    boxes = np.float32([[100, 50, 300, 210], [-20, 7, 130, 160]])
    for file in (path, tmp_path / "net.onnx"):
        net = nets.open_net(file)
        assert net.facts.get("crop") == crop
        squares = landmark_squares(boxes, net)
        sides, centres = np.array([200, 153]), (boxes[:, :2] + boxes[:, 2:]) / 2
        assert np.allclose(squares[:, 2:] - squares[:, :2], (side * sides)[:, None], atol=0.51)
        shift = (squares[:, :2] + squares[:, 2:]) / 2 - centres
        assert np.allclose(shift, np.stack([0 * sides, below * sides], 1), atol=1.01)
        assert np.array_equal(squares, np.round(squares))
        assert len(landmark_squares(boxes[:0], net)) == 0


@pytest.mark.parametrize(
    "crop",
    [
        {},
        {"box": "face", "scale": 1},
        {"box": "bounds"},
        {"box": "bounds", "scale": "1"},
        {"box": "bounds", "scale": 0},
    ],
)
def test_crops_that_cannot_be(crop, tmp_path):
    class Net:
        name, facts = "odd.onnx", {"crop": crop, "scheme": "5"}

    with pytest.raises(Problem, match="odd.onnx says that it was trained on crops of"):
        landmark_squares(np.float32([[0, 0, 9, 9]]), Net)
    save_params(tmp_path, "odd", "Lnet_v2", base=4)
    write_json(tmp_path / "odd.json", {"net": "Lnet_v2", "options": {"base": 4}, "crop": crop})
    if crop:  # an empty one says nothing
        with pytest.raises(Problem, match="odd.params says that it was trained on crops of"):
            open_stage("landmark", tmp_path / "odd.params")

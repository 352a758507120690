"""The package as others install it: a wheel, in a fresh environment, beside files of the same
names."""

import json
import os
import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import matplotlib
import numpy
import pytest

import facelet
from facelet.engine import build

ROOT = Path(__file__).resolve().parents[2]
LIBRARY = f"facelet/engine/{build.LIBRARY}"
PHOTO = Path(matplotlib.get_data_path()) / "sample_data" / "grace_hopper.jpg"
# What may be seen of the environment of the tests: the packages that are asked for, with the
# shared libraries beside them.
NEEDED = ("numpy", "cv2", "opencv_python_headless", "onnxruntime")
OFFLINE = ("--no-build-isolation", "--no-deps", "--no-index")
USE = """
import sys
from facelet import FaceDetector

if __name__ == "__main__":
    detector = FaceDetector.open(engine="c")
    faces = detector.detect(sys.argv[1])
    (more,) = detector.detect([sys.argv[1]])
    assert len(faces) == 1 and faces == more and faces.landmarks.shape == (1, 5, 2)
    many = FaceDetector.open(points=68).detect(iter([sys.argv[1]]))
    assert next(many).landmarks.shape == (1, 68, 2)
    strangers = {"mxnet", "symbols", "config", "core", "onnx", "easydict", "facelet.program"}
    assert not strangers & set(sys.modules)
    print(faces[0].score)
"""


def run(*command, where):
    """What a command prints; it gets no path of ours."""
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    words = [str(word) for word in command]
    done = subprocess.run(words, cwd=where, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def pip(*arguments, where):
    python = [sys.executable, "-m", "pip", "-q", "--disable-pip-version-check", "--no-input"]
    return run(*python, *arguments, where=where)


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    out = tmp_path_factory.mktemp("wheel")
    pip("wheel", ROOT, *OFFLINE, "-w", out, where=out)
    (path,) = out.glob("*.whl")
    platform = sysconfig.get_platform().replace("-", "_").replace(".", "_")
    assert path.name == f"facelet-{facelet.__version__}-py3-none-{platform}.whl"
    return path


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory):
    """The bin folder of an environment that has the wheel, and what it asks for, alone."""
    folder = tmp_path_factory.mktemp("environment") / "venv"
    venv.create(folder, symlinks=True)
    python = folder / "bin" / "python"
    pip("--python", python, "install", "--no-deps", "--no-index", wheel, where=folder)
    place = "import sysconfig; print(sysconfig.get_path('purelib'))"
    packages = Path(run(python, "-c", place, where=folder).strip())
    for path in Path(numpy.__file__).parents[1].iterdir():
        if path.name.startswith(NEEDED):
            (packages / path.name).symlink_to(path)
    return python.parent


@pytest.fixture
def elsewhere(tmp_path):
    """A folder of somebody's own, whose modules have the names of the toolkit's."""
    for name in ("config.py", "core/__init__.py", "symbols.py", "models.py", "boxes.py"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("raise RuntimeError('imported from beside the program')")
    return tmp_path


def contents(wheel):
    with zipfile.ZipFile(wheel) as archive:
        return {
            name: archive.read(name) for name in archive.namelist() if ".dist-info/" not in name
        }


def test_what_is_in_it(wheel):
    """The package, and of models/ what it runs on."""
    package = ROOT / "facelet"
    expected = {
        f"facelet/{path.relative_to(package).as_posix()}": path
        for path in package.rglob("*")
        if path.is_file() and path.suffix != ".pyc"
    }
    for path in (ROOT / "models").iterdir():
        if path.suffix == ".onnx" or path.match("detector*.json") or path.name == "README.md":
            expected[f"facelet/models/{path.name}"] = path
    assert {
        "facelet/py.typed",
        "facelet/schemes/68.json",
        "facelet/models/Onet_v2.onnx",
        LIBRARY,
    } < {*expected}
    assert contents(wheel) == {name: path.read_bytes() for name, path in expected.items()}
    with zipfile.ZipFile(wheel) as archive:
        assert {name.split("/")[0] for name in archive.namelist()} == {
            "facelet",
            f"facelet-{facelet.__version__}.dist-info",
        }


def test_the_source_archive_gives_the_same(wheel, tmp_path):
    build = "from hatchling import build; import sys; print(build.build_sdist(sys.argv[1]))"
    archive = tmp_path / run(sys.executable, "-c", build, tmp_path, where=ROOT).strip()
    pip("wheel", archive, *OFFLINE, "-w", tmp_path, where=tmp_path)
    (again,) = tmp_path.glob("*.whl")
    assert contents(again) == contents(wheel)


def test_it_is_used_elsewhere(installed, elsewhere):
    (elsewhere / "use.py").write_text(USE)
    assert float(run(installed / "python", "use.py", PHOTO, where=elsewhere)) > 0.9


def test_the_command(installed, elsewhere):
    out = run(installed / "facelet", PHOTO, "--points", "68", "--crops", where=elsewhere)
    assert "faces: 1, pictures: 1" in out
    record = json.loads((elsewhere / "found" / "detections.jsonl").read_text())
    assert record["scheme"] == "68" and len(record["points"][0]) == 68
    assert (elsewhere / "found" / "crops" / f"{PHOTO.name}-0.png").exists()
    usage = " ".join(run(installed / "facelet", "--help", where=elsewhere).split())
    bundled = json.loads((ROOT / "models" / "detector.json").read_text())
    assert f"default {','.join(map(str, bundled['thresholds']))} for the included nets" in usage

"""Detectors as C source: compiled, they find what FaceDetector finds, on this processor and on a
board's; bad input gives a code."""

import json
import os
import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from core import export, parity
from core.doctor import __main__ as doctor
from core.formats import c_source
from core.formats import checkpoint as checkpoints
from facelet import FaceDetector
from facelet import picture as pictures
from facelet.console import Problem, program
from facelet.engine.description import describe
from facelet.nets import MODELS, read_manifest
from facelet.onnx_net import OnnxNet

ROOT = Path(__file__).resolve().parents[2]
STRICT = ("-std=c11", "-Wall", "-Wextra", "-pedantic", "-Werror")
INSTRUCTIONS = Path(__file__).with_name("instructions.json")
PLACES, SCORES = 0.01, 1e-5  # pixels; of a score
WITHIN = 0.03  # of the instructions
ARM = ("aarch64-linux-gnu-gcc", "qemu-aarch64")


def run(*words, status=0, **more):
    done = subprocess.run([str(word) for word in words], capture_output=True, text=True, **more)
    assert done.returncode == status, done.stderr
    return done.stdout + done.stderr


def compiler(name):
    if not shutil.which(name):
        pytest.skip(f"{name} is not installed here")
    return name


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    folder = tmp_path_factory.mktemp("c") / "out"
    export.export(MODELS, folder, ["c"])
    return folder


@pytest.fixture(scope="module")
def objects(source):
    """The engine and the nets, compiled as strictly as can be."""
    made = [source.parent / "facelet.o", source.parent / "nets.o"]
    for path in made:
        run(compiler("cc"), *STRICT, "-O2", "-c", source / f"{path.stem}.c", "-o", path)
    return made


@pytest.fixture(scope="module")
def faces(source, objects):
    """The example."""
    out = source.parent / "faces"
    run("cc", *STRICT, "-O2", source / "main.c", *objects, "-lm", "-o", out)
    return out


@pytest.fixture(scope="module")
def scene():
    """A picture of one face, that no vector and no strip fits."""
    return np.ascontiguousarray(pictures.read(ROOT / "docs" / "sample.jpg")[31:210, 137:306])


def ppm(folder, picture):
    path = folder / "picture.ppm"
    height, width = picture.shape[:2]
    path.write_bytes(
        b"P6 # a remark\n%d %d\n255\n" % (width, height) + picture[..., ::-1].tobytes()
    )
    return path


def agrees(printed, found):
    """Whether lines of the example are these Faces."""
    rows = [[float(word) for word in line.split()] for line in printed.splitlines()]
    assert len(rows) == len(found)
    for row, face in zip(rows, found):
        np.testing.assert_allclose(row[:4], face.box, rtol=0, atol=PLACES)
        assert abs(row[4] - face.score) < SCORES
        points = np.zeros(0) if face.landmarks is None else face.landmarks.ravel()
        assert len(row) == 5 + len(points)
        np.testing.assert_allclose(row[5:], points, rtol=0, atol=PLACES)
    return len(rows)


@pytest.mark.parametrize("points, mode", [(5, None), (68, "precise"), (0, "fast")])
def test_what_it_finds(faces, scene, points, mode, tmp_path):
    detector = FaceDetector.open(points=points, mode=mode, engine="onnxruntime")
    printed = run(faces, ppm(tmp_path, scene), points, *([mode] if mode else []))
    assert agrees(printed, detector.detect(scene)) == 1


def test_points_that_go_without_saying(faces, scene, tmp_path):
    path = ppm(tmp_path, scene)
    assert run(faces, path) == run(faces, path, 5)


def test_instructions(faces, scene, tmp_path):
    """As many as were counted before: a build that is slower shows, however busy the machine is."""
    before = json.loads(INSTRUCTIONS.read_text())
    compiled_by = [run("cc", f"-dump{what}").strip() for what in ("machine", "version")]
    if compiled_by != before["compiler"]:
        pytest.skip(f"cc is {compiled_by}, and {INSTRUCTIONS.name} has {before['compiler']}")
    valgrind = [compiler("valgrind"), "--tool=callgrind", "--toggle-collect=facelet_find"]
    words = [*valgrind, f"--callgrind-out-file={os.devnull}", faces, ppm(tmp_path, scene), 5]
    count = int(re.search(r"Collected : (\d+)", run(*words))[1])
    assert abs(count / before["instructions"] - 1) < WITHIN, count


def test_on_aarch64(source, scene, tmp_path):
    """Correctness only: under qemu nothing can be said of speed."""
    missing = [name for name in ARM if not shutil.which(name)]
    if missing:
        pytest.skip(f"not installed here: {', '.join(missing)}")
    out = tmp_path / "faces"
    run(ARM[0], "-O1", "-static", *sorted(source.glob("*.c")), "-lm", "-o", out)
    picture = np.ascontiguousarray(scene[::2, ::2])
    expected = FaceDetector.open(points=5, engine="onnxruntime").detect(picture)
    assert agrees(run(ARM[1], out, ppm(tmp_path, picture), 5), expected) == 1


def test_weights_are_bit_for_bit_those_of_the_models(source):
    written = c_source.descriptions(source / "nets.c")
    files, _ = read_manifest(MODELS / "detector.json")
    named = [*files.pop("landmark").values(), *files.values()]
    assert sorted(written) == sorted(Path(file).stem for file in named)
    for name, text in written.items():
        net = OnnxNet(MODELS / f"{name}.onnx")
        assert text == describe(net.model, net.facts)


CALLS = r"""
#include "facelet.h"
#include <assert.h>
#include <stdio.h>
#include <string.h>

int main()
{
    static uint8_t pixels[40 * 160];
    facelet_detector *one = NULL, *other = NULL;
    facelet_faces faces;
    assert(facelet_open(NULL, 5, NULL) == FACELET_NULL);
    assert(facelet_open("none such", 5, &one) == FACELET_ABSENT && !one);
    assert(facelet_open(NULL, 6, &one) == FACELET_ABSENT && !one);
    assert(facelet_open(NULL, -2, &one) == FACELET_ABSENT && !one);
    assert(facelet_find(NULL, pixels, 50, 40, 160, &faces) == FACELET_NULL);
    assert(facelet_open(NULL, 5, &one) == FACELET_OK && one);
    assert(facelet_open("fast", 0, &other) == FACELET_OK && other);
    assert(facelet_find(one, pixels, 50, 40, 160, &faces) == FACELET_OK);
    assert(faces.count == 0 && faces.points == 5);
    assert(facelet_find(other, pixels, 50, 40, 160, &faces) == FACELET_OK && faces.points == 0);
    assert(facelet_find(one, NULL, 50, 40, 160, &faces) == FACELET_NULL);
    assert(facelet_find(one, pixels, 50, 40, 160, NULL) == FACELET_NULL);
    assert(facelet_find(one, pixels, 50, 40, 149, &faces) == FACELET_SIZE);
    assert(facelet_find(one, pixels, 0, 40, 160, &faces) == FACELET_SIZE);
    assert(facelet_find(one, pixels, 50, -40, 160, &faces) == FACELET_SIZE);
    assert(facelet_find(one, pixels, INT64_MAX, 40, INT64_MAX, &faces) == FACELET_SIZE);
    facelet_settings_of(one)->factor = 1;
    assert(facelet_find(one, pixels, 50, 40, 160, &faces) == FACELET_SETTINGS);
    assert(!facelet_settings_of(NULL));
    assert(strlen(facelet_error(FACELET_ABSENT)) && strlen(facelet_error(12345)));
    for (int i = 0; i < facelet_nets_count; i++) { /* a net by itself */
        facelet_net *net = NULL;
        facelet_facts facts;
        assert(facelet_net_new(facelet_nets[i].words, facelet_nets[i].bytes, NULL, &net) == 0);
        assert(facelet_net_facts(net, &facts) == 0 && facts.points == facelet_nets[i].points);
        facelet_net_free(net);
        assert(facelet_net_new(facelet_nets[i].words, facelet_nets[i].bytes - 4, NULL, &net));
        assert(!net);
    }
    facelet_close(one);
    facelet_close(other);
    facelet_close(NULL);
    puts("as it should be");
    return 0;
}
"""


@pytest.mark.parametrize("language, name", [("c", "cc"), ("c++", "g++")])
def test_calls_that_can_not_be(source, objects, tmp_path, language, name):
    """In C, and from C++."""
    (tmp_path / "calls").write_text(CALLS)
    words = ["-Wall", "-Wextra", "-Werror", f"-I{source}", "-x", language, tmp_path / "calls"]
    run(compiler(name), *words, "-x", "none", *objects, "-lm", "-o", tmp_path / "run")
    assert run(tmp_path / "run") == "as it should be\n"


@pytest.mark.parametrize(
    "content, says",
    [
        (None, "is no PPM"),
        (b"", "is no PPM"),
        (b"P5 2 2 255 xxxx", "is no PPM"),
        (b"P6 2 2 65535\n" + bytes(24), "is no PPM"),
        (b"P6 99999999999 9 255\n", "is no PPM"),
        (b"P6 20 20 255\n" + bytes(1199), "is no PPM"),
    ],
)
def test_pictures_that_are_none(faces, tmp_path, content, says):
    path = tmp_path / "picture.ppm"
    if content is not None:
        path.write_bytes(content)
    assert says in run(faces, path, status=2)


def test_the_example_says_what_is_wrong(faces, scene, tmp_path):
    assert "usage" in run(faces, status=2)
    assert "no such net" in run(faces, ppm(tmp_path, scene), 7, status=2)


def test_the_manifest_and_the_doctor(source, tmp_path, capsys):
    copy = Path(shutil.copytree(source, tmp_path / "copy"))
    manifest = json.loads((copy / "facelet.json").read_text())
    assert manifest["nets"]["Pnet20_v2"] == "pnet" and manifest["modes"]["precise"]["mirror"]
    path = copy / "facelet.json"
    doctor.main([str(path)])
    said = capsys.readouterr().out
    assert "a detector as C source" in said and "as they were made" in said
    text = (copy / "nets.c").read_text()
    (copy / "nets.c").write_text(text.replace("0x3", "0x2", 1))
    with pytest.raises(SystemExit):
        program(doctor.main, [str(path)])
    assert "nets.c" in capsys.readouterr().out


def test_a_program_of_ones_own_stays(tmp_path, capsys):
    """Only the engine and the nets are written anew."""
    net = MODELS / "Pnet20_v2-0012.params"
    export.export(net, tmp_path, ["c"])
    (tmp_path / "main.c").write_text("mine")
    os.remove(tmp_path / "nets.c")
    capsys.readouterr()
    export.export(net, tmp_path, ["c"])
    assert (tmp_path / "main.c").read_text() == "mine" and (tmp_path / "nets.c").exists()
    assert f"{tmp_path / 'main.c'} was there already and stays as it is" in capsys.readouterr().out


@pytest.mark.parametrize("number", range(2))
def test_programs_of_the_documentation(source, tmp_path, number):
    """They compile. That with the camera is not run."""
    text = (ROOT / "docs" / "how-to" / "on-a-board.md").read_text()
    language, program = re.findall(r"```(c|cpp)\n(.*?)```", text, re.DOTALL)[number]
    path = tmp_path / f"program.{language}"
    path.write_text(program)
    name = compiler({"c": "cc", "cpp": "g++"}[language])
    run(name, "-Wall", "-Wextra", "-Werror", f"-I{source}", "-fsyntax-only", path)


def test_folders_without_a_manifest(tmp_path):
    folder = tmp_path / "nets"
    for net in ("Pnet16_v0", "Lnet_v2"):
        checkpoints.save(folder / net, parity.seeded(net, {}), 1, {})
    files = sorted(folder.rglob("*.params"))
    export.export(files, tmp_path / "out", ["c"])
    nets = json.loads((tmp_path / "out" / "facelet.json").read_text())["nets"]
    assert nets == {"Pnet16_v0": "pnet", "Lnet_v2": "landmark"}
    checkpoints.save(folder / "more", parity.seeded("Pnet16_v1", {}), 1, {})
    with pytest.raises(Problem, match="several nets for the pnet"):
        export.export(sorted(folder.rglob("*.params")), tmp_path / "other", ["c"])
    assert not (tmp_path / "other").exists()

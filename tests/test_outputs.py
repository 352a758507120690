"""What every program does with the place that it is told to write to: an empty folder that is there
already is as good as none, and one that another run is writing is left alone."""

import importlib
import subprocess
import sys
from argparse import _SubParsersAction
from pathlib import Path

import pytest
from trained import sensible

from core.base import parallel
from core.formats import checkpoint
from facelet import picture as pictures
from facelet.console import program
from prepare_data import wider
from scripts import reference

ROOT = Path(__file__).resolve().parents[1]
NETS = {"pnet": ("Pnet20_v1", {}), "lnet": ("Lnet_v2", {"base": 8})}
CUT = "--data {drawn} --workers 1"
LISTED = "--faces {drawn}/landmarks/train_5.txt"
QUICK = "train.batch=8 train.epochs=1 train.warmup=2 train.val_fraction=0.3"
# Arguments of each program, the place left out; a file where it writes one.
PROGRAMS = {
    "core.bench frontier": "--data {drawn} --nets {nets} --rounds 1",
    "core.convert": "{pnet}",
    "core.detect": "{picture} --pnet {pnet} --thresholds 0.9,0.9,0.9",
    "core.evaluate fddb": "--data {drawn} --detections {found}",
    "core.evaluate landmarks": f"--weights {{lnet}} {LISTED}",
    "core.evaluate list": "--data {drawn} --detections {found}",
    "core.evaluate stages": "--data {drawn} --pnet {pnet} detect.min_face=80",
    "core.evaluate wider": "--data {drawn} --detections {found}",
    "core.export": "{pnet}",
    "core.landmarks": f"--net Lnet_v2 --base 4 {LISTED} {QUICK}",
    "core.pipeline": "--upto data --pictures 2",
    "core.train": f"--net Lnet_v2 --base 4 {LISTED} {QUICK}",
    "facelet": "{picture} --nets models",
    "prepare_data.combine": "--source one {drawn}/WIDER_train/images "
    "{drawn}/wider_face_split/wider_face_train_bbx_gt.txt",
    "prepare_data.drawn": "--count 1 --workers 1",
    "prepare_data.landmark_samples": f"{LISTED} --size 24 --workers 1 landmark_samples.base_num=1",
    "prepare_data.mine": f"{CUT} --pnet {{pnet}} --for rnet --size 24 detect.min_face=80",
    "prepare_data.points check": "{drawn}/landmarks/train_5.txt",
    "prepare_data.points cut": f"{LISTED} --size 48 --workers 1",
    "prepare_data.points label": f"--weights {{lnet}} {LISTED} --average 1",
    "prepare_data.relabel": "--data {drawn} --teacher-boxes {found}",
    "prepare_data.samples": f"{CUT} --size 12 samples.negatives=1 samples.positives=1",
    "prepare_data.teacher": f"{CUT} --teacher {{nets}} detect.min_face=80",
}
FILES = {
    "prepare_data.points check",
    "prepare_data.points label",
    "prepare_data.relabel",
    "prepare_data.teacher",
}
# Run into empty folders by tests of their own: they need data of another kind, or take long.
ELSEWHERE = {"core.bench frontier", "core.evaluate fddb", "core.evaluate wider", "core.landmarks"}
HOLD = """
import sys
from facelet.locks import locked
with locked(sys.argv[1]):
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.fixture(scope="module")
def inputs(drawn_set, tmp_path_factory):
    folder = tmp_path_factory.mktemp("inputs")
    picture = sorted(drawn_set.rglob("*.jpg"))[0]
    found = {"drawn": drawn_set, "picture": picture, "nets": folder / "pnet"}
    for key, net in NETS.items():
        found[key] = checkpoint.save(folder / key, sensible(pictures.read(picture), *net), 1, {})
    found["found"] = folder / "found.txt"
    name = wider.open_set(drawn_set, "val").annotations[0].path
    found["found"].write_text(f"{name}\n1\n10 10 50 50 0.9\n")
    return found


def run(name, inputs, out, monkeypatch):
    """Run a program in this process, without workers."""
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(parallel, "cores", lambda: 1)
    module, *command = name.split()
    words = PROGRAMS[name].format(**inputs).split()
    suffix = {"prepare_data.points check": ".png"}.get(name, "")
    found = importlib.import_module("facelet.program" if module == "facelet" else module)
    if hasattr(found, "__path__"):
        found = importlib.import_module(f"{module}.__main__")
    # Before the settings.
    program(found.main, [*command, *words, "--out", f"{out}{suffix}"])


def test_all_programs_with_an_output_are_here():
    found = set()
    for name in reference.programs():
        parser = reference.parser_of(name)
        commands = [a.choices for a in parser._actions if isinstance(a, _SubParsersAction)]
        for command, inner in (commands[0] if commands else {"": parser}).items():
            if any("--out" in action.option_strings for action in inner._actions):
                found.add(f"{name} {command}".strip())
    assert found == {*PROGRAMS}


@pytest.mark.parametrize("name", sorted({*PROGRAMS} - FILES - ELSEWHERE))
def test_an_empty_folder_is_as_good_as_none(name, inputs, tmp_path, monkeypatch):
    out = tmp_path / "deep" / "out"
    out.mkdir(parents=True)
    run(name, inputs, out, monkeypatch)
    assert any(out.iterdir())
    assert [path.name for path in out.parent.iterdir()] == ["out"]


@pytest.fixture(scope="module")
def held(tmp_path_factory):
    """A place that another process writes, and its id."""
    out = tmp_path_factory.mktemp("held") / "out"
    words = [sys.executable, "-c", HOLD]
    pipe = subprocess.PIPE
    with (
        subprocess.Popen([*words, str(out)], cwd=ROOT, stdin=pipe, stdout=pipe) as process,
        subprocess.Popen([*words, f"{out}.png"], cwd=ROOT, stdin=pipe, stdout=pipe) as other,
    ):
        assert process.stdout.readline() and other.stdout.readline()
        yield out, (process.pid, other.pid)
        process.stdin.close()
        other.stdin.close()


@pytest.mark.parametrize("name", sorted(PROGRAMS))
def test_a_place_that_another_run_is_writing_is_left_alone(name, inputs, held, monkeypatch, capsys):
    out, pids = held
    before = sorted(out.parent.iterdir())
    with pytest.raises(SystemExit) as stopped:
        run(name, inputs, out, monkeypatch)
    line = capsys.readouterr().err.strip().splitlines()[-1]
    assert stopped.value.code == 2 and line.startswith("error: ")
    assert any(f"is being written by process {pid} on " in line for pid in pids), line
    assert sorted(out.parent.iterdir()) == before

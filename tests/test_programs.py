"""The programs as a user meets them: the main job, help, bad input, set-up."""

import importlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from facelet.console import program
from scripts import reference

ROOT = Path(__file__).resolve().parents[1]


def python(module, *arguments, **options):
    return subprocess.run(
        [sys.executable, "-m", module, *map(str, arguments)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        **options,
    )


def one_line(status, errors, *says):
    """A run failed, with one line on stderr that says all of `says`."""
    lines = errors.strip().splitlines()
    assert status == 2, errors
    assert len(lines) == 1 and lines[0].startswith("error: "), errors
    for text in says:
        assert text in lines[0], lines[0]


def main_of(module):
    """The main() that `python -m module` runs."""
    found = importlib.import_module(module)
    if hasattr(found, "__path__"):
        found = importlib.import_module(f"{module}.__main__")
    return found.main


@pytest.fixture
def fails(capsys):
    """Runs a program in this process, which saves its start, and expects one line."""

    def run(module, *arguments, says):
        main = main_of(module)
        with pytest.raises(SystemExit) as stopped:
            program(main, [str(a) for a in arguments])
        one_line(stopped.value.code, capsys.readouterr().err, *says)

    return run


@pytest.mark.parametrize("module", sorted({*reference.programs()} - {"facelet"}))
def test_help(module, capsys):
    with pytest.raises(SystemExit) as stopped:
        main_of(module)(["--help"])
    printed = capsys.readouterr().out
    assert stopped.value.code == 0 and "usage: " in printed
    assert len(printed.splitlines()) > 5


@pytest.fixture(scope="module")
def main_job(tmp_path_factory):
    """README's first command, made small."""
    out = tmp_path_factory.mktemp("main") / "out"
    arguments = (
        "--upto",
        "pnet",
        "--out",
        out,
        "--pictures",
        30,
        "train.epochs=2",
        "train.batch=100",
        "pipeline.floors=0,0,0",
        "pipeline.most_boxes=1e9,1e9,1e9",
    )
    return out, arguments, python("core.pipeline", *arguments)


def test_main_job_leaves_what_it_names(main_job):
    out, _, result = main_job
    assert result.returncode == 0, result.stderr
    summary = json.loads((out / "summary.json").read_text())
    for made in summary["made"].values():
        assert Path(made).is_file() and made in result.stdout
    assert 0 <= summary["recall"] <= 1
    assert f"held-out pictures {summary['recall']:.3f}" in result.stdout
    assert summary["figures"]["pictures"] == 6

    assert set(summary["made"]) == {
        "checkpoint",
        "training curves",
        "sample mosaic",
        "detections",
        "report",
    }


def test_main_job_again_does_nothing(main_job):
    out, arguments, _ = main_job
    made = {p: p.stat().st_mtime_ns for p in out.rglob("*.npy")}
    result = python("core.pipeline", *arguments)
    assert result.returncode == 0 and result.stdout.count("there already") == 4
    assert "epoch 1/" not in result.stdout
    assert {p: p.stat().st_mtime_ns for p in out.rglob("*.npy")} == made


def test_other_settings_in_the_same_folder(main_job):
    """Said, and made anew; nothing but what depends on them."""
    out, arguments, _ = main_job
    result = python("core.pipeline", *arguments, "evaluate.min_face=30")
    assert result.returncode == 0 and result.stdout.count("there already") == 3
    assert "made anew: evaluate.min_face was 20, is 30" in result.stdout


def test_under_its_floor_the_main_job_fails_with_one_line(main_job):
    _, arguments, _ = main_job
    result = python(
        "core.pipeline",
        *arguments,
        "evaluate.min_face=30",
        "detect.thresholds=1,1,1",
        "pipeline.floors=0.5,0,0",
    )
    one_line(
        result.returncode,
        "\n".join(
            line for line in result.stderr.splitlines() if "pictures" not in line or "error" in line
        ),
        "pnet: recall on held-out pictures is 0.000",
        "scripts/run.sh core.pipeline --upto pnet",
        "pipeline.floors=0,0,0",
    )
    assert "the report so far" in result.stdout


@pytest.mark.parametrize(
    "module, arguments, says",
    [
        ("core.pipeline", ["--data", "nowhere"], ["nowhere", "is not there"]),
        ("core.pipeline", ["--net", "Pnet20_v9"], ["Pnet20_v9", "near: Pnet20_v"]),
        ("core.pipeline", ["--net", "Lnet_v1"], ["Lnet_v1", "a cascade has nets of"]),
        ("core.pipeline", ["train.epoch=3"], ["no setting 'train.epoch'", "train.epochs"]),
        ("core.pipeline", ["train.epochs=many"], ["train.epochs=many", "a whole number"]),
        ("prepare_data.samples", ["--data", "nowhere", "--size", "20", "--out", "x"], ["nowhere"]),
        (
            "core.train",
            ["--net", "Pnet20_v1", "--samples", "nowhere", "--out", "x"],
            ["nowhere is no store"],
        ),
        (
            "core.train",
            ["--net", "Pnet21", "--samples", "nowhere", "--out", "x"],
            ["Pnet21", "near"],
        ),
        (
            "core.evaluate",
            ["stages", "--pnet", "nowhere.params", "--data", "tests", "--out", "x"],
            ["no pictures for val"],
        ),
        ("core.flops", ["--net", "nothing"], ["no net is called 'nothing'"]),
    ],
)
def test_bad_input_is_one_line(module, arguments, says, tmp_path, fails):
    arguments = [str(tmp_path / a) if a == "nowhere" else a for a in arguments]
    if module == "core.pipeline":
        arguments += ["--out", str(tmp_path / "out")]
    fails(module, *arguments, says=says)
    assert not (ROOT / "x").exists()


def test_wrong_size_and_existing_store(main_job, tmp_path, fails):
    data = main_job[0] / "drawn"
    fails(
        "prepare_data.samples",
        "--data",
        data,
        "--size",
        21,
        "--out",
        tmp_path / "s",
        says=["--size 21"],
    )
    fails(
        "prepare_data.samples",
        "--data",
        data,
        "--size",
        24,
        "--out",
        data,
        says=["is there already"],
    )


def test_checkpoint_of_crops_makes_no_proposals(main_job, tmp_path, fails):
    from core.formats import checkpoint

    rnet = checkpoint.initial("Rnet_v1", {}, 0, 0.25)
    checkpoint.save(tmp_path, rnet, 1, {})
    fails(
        "core.evaluate",
        "stages",
        "--pnet",
        tmp_path,
        "--data",
        main_job[0] / "drawn",
        "--out",
        tmp_path / "e",
        says=["Rnet_v1, which takes crops"],
    )


def test_ctrl_c_while_sampling_leaves_nothing_and_says_so(main_job, tmp_path):
    process = subprocess.Popen(
        [
            sys.executable,
            "-m",
            "prepare_data.samples",
            "--data",
            str(main_job[0] / "drawn"),
            "--size",
            "48",
            "--out",
            str(tmp_path / "store"),
            "samples.base_num=8",
        ],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    for line in process.stdout:
        if line.startswith("expected"):
            break
    time.sleep(0.5)  # while the workers start
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does: workers get it too
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert errors.strip().splitlines()[-1].startswith("stopped: ")
    assert "Traceback" not in errors
    assert list(tmp_path.iterdir()) == []


def test_full_disk_is_one_line(main_job, tmp_path):
    """A file system of a few kilobytes, where the system lets us have one; else a file-size
    limit, which fails the same writes."""
    limit = ["bash", "-c", "trap '' XFSZ; ulimit -f 200; exec \"$@\"", "-"]
    result = subprocess.run(
        [
            *limit,
            sys.executable,
            "-m",
            "prepare_data.samples",
            "--data",
            str(main_job[0] / "drawn"),
            "--size",
            "20",
            "--out",
            str(tmp_path / "store"),
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert result.returncode == 2
    assert result.stderr.strip().splitlines()[-1].startswith("error: File too large")
    assert "Traceback" not in result.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def clone(tmp_path):
    """A copy of what set-up and help need."""
    shutil.copytree(ROOT / "scripts", tmp_path / "scripts")
    shutil.copytree(ROOT / "docs" / "reference", tmp_path / "docs" / "reference")
    for name in ("requirements.txt", "requirements-gpu.txt"):
        shutil.copy(ROOT / name, tmp_path)
    return tmp_path


def setup(clone, *arguments, **environment):
    return subprocess.run(
        ["bash", clone / "scripts" / "setup.sh", *arguments],
        text=True,
        capture_output=True,
        env={**os.environ, **environment},
    )


FAKE_PYTHON = """#!/bin/sh
case "$*" in
    --version) echo Python 3.11.7 ;;
    "-m venv "*) mkdir -p "$3/bin"; cp "$0" "$3/bin/python" ;;
    "-m pip install"*) echo "Collecting a"; echo "  Downloading a-1.0-py3-none-any.whl (49.1 MB)"
        echo "  Using cached b-2.0-py3-none-any.whl (1.0 MB)"
        echo "Installing collected packages: a, b"; exit ${PIP_STATUS:-0} ;;
esac
"""


@pytest.fixture
def fake_python(tmp_path):
    path = tmp_path / "fake-python"
    path.write_text(FAKE_PYTHON)
    path.chmod(0o755)
    return str(path)


def test_setup_says_what_it_downloads_and_how_far_it_is(clone, fake_python):
    result = setup(clone, PYTHON=fake_python)
    assert result.returncode == 0, result.stderr
    first, second, *lines = result.stdout.splitlines()
    assert first.startswith("setting up ") and first.endswith("Python 3.11.7")
    assert " MB " in second and "GB of disk" in second and "minutes" in second
    assert [line.split()[0] for line in lines] == [
        "a-1.0-py3-none-any.whl",
        "b-2.0-py3-none-any.whl",
        "unpacking",
    ]
    again = setup(clone, PYTHON=fake_python)
    assert again.returncode == 0 and not again.stdout


def test_setup_that_failed_is_begun_anew(clone, fake_python):
    assert setup(clone, PYTHON=fake_python, PIP_STATUS="1").returncode == 1
    assert not (clone / ".venv" / "installed").exists()
    assert "setting up" in setup(clone, PYTHON=fake_python).stdout


@pytest.mark.parametrize(
    "script, arguments, wanted",
    [
        ("run.sh", ["core.flops", "--help"], "core.flops"),
        ("run.sh", ["core.evaluate", "stages", "-h"], "core.evaluate stages"),
        ("run.sh", ["core.evaluate", "--help"], "core.evaluate"),
        ("P20_train.sh", ["--data", "my pictures", "--help"], "core.pipeline"),
        ("L_train.sh", ["-h"], "core.landmarks"),
    ],
)
def test_help_does_not_wait_for_set_up(clone, script, arguments, wanted):
    """It is what the program itself would print, and nothing is installed."""
    result = subprocess.run(
        [clone / "scripts" / script, *arguments],
        text=True,
        capture_output=True,
        env={**os.environ, "PYTHON": "/bin/false"},
    )
    assert result.returncode == 0, result.stderr
    name, *command = wanted.split()
    parser = reference.parser_of(name)
    for word in command:
        parser = reference.commands(parser)[word]
    assert result.stdout == reference.help_of(parser)
    assert not (clone / ".venv").exists()


@pytest.mark.parametrize("flag", ["--help", "-h"])
@pytest.mark.parametrize("name", ["run.sh", "setup.sh", "check.sh", "docs.sh", "test.sh", "web.sh"])
def test_help_of_a_script_does_nothing_else(clone, name, flag):
    result = subprocess.run(
        [clone / "scripts" / name, flag],
        text=True,
        capture_output=True,
        env={**os.environ, "PYTHON": "/bin/false"},
    )
    assert result.returncode == 0 and not result.stderr, result.stderr
    usage, empty, *text = result.stdout.splitlines()
    assert usage.startswith(f"usage: scripts/{name} ") and not empty
    assert text and text[-1].endswith(".") and not any(line.startswith("set ") for line in text)
    assert not list(clone.glob(".venv*")) and not (clone / "site").exists()


@pytest.mark.parametrize("name", ["rooms.py", "reference.py", "try_docs.py"])
def test_help_of_a_script_in_python_does_nothing_else(clone, name):
    """With no packages (-S), as before the first set-up."""
    before = {path: path.read_bytes() for path in clone.rglob("*.md")}
    result = subprocess.run(
        [sys.executable, "-I", "-S", clone / "scripts" / name, "--help"],
        text=True,
        capture_output=True,
    )
    assert result.returncode == 0 and not result.stderr, result.stderr
    assert result.stdout.startswith(f"usage: {name} ")
    assert {path: path.read_bytes() for path in clone.rglob("*.md")} == before


def test_help_after_set_up_is_the_program_s(clone, fake_python):
    """Also where requirements have changed since: help never installs."""
    assert setup(clone, PYTHON=fake_python).returncode == 0
    python = clone / ".venv" / "bin" / "python"
    python.write_text('#!/bin/sh\nshift 2; echo itself "$@"\n')
    (clone / "requirements.txt").write_text("other\n")
    result = subprocess.run(
        [clone / "scripts" / "all.sh", "--help"], text=True, capture_output=True
    )
    assert result.stdout == f"itself {clone} core.pipeline --help\n", result.stderr


def test_setup_without_a_fitting_python(clone):
    result = setup(clone, PYTHON="/bin/false")
    one_line(
        result.returncode, result.stderr, "no Python 3.9 to 3.12", "apt-get install", "/bin/false"
    )
    assert not (clone / ".venv").exists()


@pytest.mark.parametrize(
    "script, passed",
    [
        ("all.sh", []),
        ("P20_train.sh", ["--upto", "pnet"]),
        ("R_gen_imglist_with_hard.sh", ["--mix", "rnet"]),
        ("O_train_with_hard.sh", ["--no-landmarks", "--upto", "onet"]),
    ],
)
def test_scripts_run_the_pipeline_in_its_environment(clone, script, passed):
    """From any folder, with what the user adds; set-up finds its environment up to date."""
    fake = clone / ".venv" / "bin" / "python"
    fake.parent.mkdir(parents=True)
    fake.write_text('#!/bin/sh\n[ -z "$2" ] || { shift 2; echo "$@"; }\n')
    fake.chmod(0o755)
    sums = subprocess.run(
        ["cksum"], stdin=open(clone / "requirements.txt"), text=True, capture_output=True
    ).stdout.strip()
    (clone / ".venv" / "installed").write_text(f"requirements.txt {sums}\n")
    result = subprocess.run(
        [clone / "scripts" / script, "--data", "my pictures"],
        text=True,
        capture_output=True,
        cwd="/",
    )
    assert result.returncode == 0, result.stderr
    assert result.stdout.split() == [
        str(clone),
        "core.pipeline",
        *passed,
        "--data",
        "my",
        "pictures",
    ]


def test_what_is_no_program_is_refused_before_a_set_up(clone):
    for words in ([], ["core.nothing"], ["../x", "--help"]):
        result = subprocess.run(
            ["bash", clone / "scripts" / "run.sh", *words], text=True, capture_output=True
        )
        one_line(result.returncode, result.stderr, "is no program of the repository")
    assert not (clone / ".venv").exists()


def test_programs_are_those_of_the_repository_wherever_they_are_run(tmp_path):
    """Not those of a config.py and a core/ that lie in the current folder; workers neither."""
    (tmp_path / "core").mkdir()
    for name in ("config.py", "core/__init__.py", "numpy.py"):
        (tmp_path / name).write_text("raise SystemExit('the wrong one')\n")
    start = re.search(r"-c '(.*?)' ", (ROOT / "scripts" / "run.sh").read_text(), re.DOTALL)[1]
    result = subprocess.run(
        [sys.executable, "-c", start, ROOT, "prepare_data.drawn", "--out", "drawn"]
        + ["--count", "3", "--workers", "2"],
        text=True,
        capture_output=True,
        cwd=tmp_path,
    )
    assert result.returncode == 0, result.stderr
    assert (tmp_path / "drawn").is_dir()


def test_asked_to_end_it_stops_as_by_ctrl_c(tmp_path):
    process = subprocess.Popen(
        [sys.executable, "-m", "prepare_data.drawn", "--out", str(tmp_path / "drawn")],
        cwd=ROOT,
        stderr=subprocess.PIPE,
        text=True,
    )
    time.sleep(3)
    process.send_signal(signal.SIGTERM)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 143, errors
    assert errors.strip().splitlines()[-1].startswith("stopped: ")
    assert "Traceback" not in errors and "leaked" not in errors
    assert list(tmp_path.iterdir()) == []


def test_setup_refuses_unknown_options(clone):
    result = setup(clone, "--cuda")
    one_line(result.returncode, result.stderr, "unknown option --cuda")


def test_setup_does_nothing_when_nothing_changed():
    """The environment these tests run in, if it is the project's own, is not touched."""
    stamp = ROOT / ".venv" / "installed"
    before = stamp.stat().st_mtime_ns if stamp.exists() else None
    if before is None:
        assert "VIRTUAL_ENV" in os.environ or sys.prefix != str(ROOT / ".venv")
        return
    start = time.perf_counter()
    result = setup(ROOT)
    assert result.returncode == 0 and not result.stdout
    assert stamp.stat().st_mtime_ns == before and time.perf_counter() - start < 5

"""From pictures to a detector: what a run leaves, how it goes on, what stops it. One tiny run of
everything (tests.tiny) is what most tests look at."""

import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tiny

from config import config
from core.detect import __main__ as detect
from core.detect.detector import FaceDetector
from core.formats import checkpoint
from core.pipeline import __main__ as program_module
from core.pipeline import cascade_steps, estimates, limits, recipes
from core.pipeline.run import Run
from core.pipeline.steps import ANEW, DONE, MAYBE
from facelet.console import Problem
from facelet.picture import read
from prepare_data import samples, wider
from prepare_data.store import Store

ROOT = Path(__file__).resolve().parents[3]
STEPS = [
    "data",
    "samples_pnet",
    "pnet",
    "recall_pnet",
    "mine_pnet",
    "pnet_hard",
    "recall_pnet_hard",
    "samples_rnet",
    "mine_rnet",
    "rnet",
    "recall_rnet",
    "samples_onet",
    "mine_onet",
    "landmarks_onet",
    "onet",
    "evaluate",
    "export",
]


def run_of(out, *more, **options):
    """The Run of a tiny run with more settings."""
    options = {"pictures": tiny.PICTURES, **options}
    return Run(out, assignments=[*tiny.SETTINGS, *more], **options)


def states(run):
    return {step.name: state for step, state in run.plan.states(list(run.plan.steps.values()))}


def fingerprints(out):
    """Content of the nets, stores and lists of a run."""
    return {
        str(path.relative_to(out)): path.read_bytes()
        for path in out.rglob("*")
        if path.suffix in (".params", ".npy", ".onnx") or path.name == "store.json"
    }


@pytest.fixture
def copy(tiny_run, tmp_path):
    """A copy of the run that a test may spoil."""
    out = tmp_path / "copy"
    shutil.copytree(tiny_run, out)
    return out


def test_every_step_leaves_its_result(tiny_run):
    run = run_of(tiny_run)
    assert list(run.plan.steps) == STEPS
    assert {state.kind for state in states(run).values()} == {DONE}
    stores = {
        name: Store(tiny_run / name)
        for name in STEPS
        if name.startswith(("samples", "mine", "landmarks"))
    }
    assert {name: (store.size, store.what) for name, store in stores.items()} == {
        "samples_pnet": (20, "samples"),
        "mine_pnet": (20, "hard"),
        "samples_rnet": (24, "samples"),
        "mine_rnet": (24, "hard"),
        "samples_onet": (48, "samples"),
        "mine_onet": (48, "hard"),
        "landmarks_onet": (48, "landmark"),
    }
    nets = {
        name: checkpoint.load(tiny_run / name) for name in ("pnet", "pnet_hard", "rnet", "onet")
    }
    assert [net.net for net in nets.values()] == ["Pnet20_v1", "Pnet20_v1", "Rnet_v1", "Onet_v1"]
    assert nets["onet"].options == {"landmark": True}
    used = {name: [one["sha256"] for one in net.manifest["data"]] for name, net in nets.items()}
    proofs = {name: run.plan.record(run.plan.steps[name])["result"] for name in stores}
    assert used == {
        "pnet": [proofs["samples_pnet"]],
        "pnet_hard": [proofs["samples_pnet"], proofs["mine_pnet"]],
        "rnet": [proofs["samples_rnet"], proofs["mine_rnet"]],
        "onet": [proofs["samples_onet"], proofs["mine_onet"], proofs["landmarks_onet"]],
    }
    found_by = {
        name: [net["sha256"] for net in stores[name].facts["nets"].values()]
        for name in ("mine_pnet", "mine_rnet", "mine_onet")
    }
    hashes = {name: net.manifest["sha256"] for name, net in nets.items()}
    assert found_by == {
        "mine_pnet": [hashes["pnet"]],
        "mine_rnet": [hashes["pnet_hard"]],
        "mine_onet": [hashes["pnet_hard"], hashes["rnet"]],
    }


def test_the_detector_is_the_nets_of_the_run(tiny_run):
    detector = FaceDetector.open(tiny_run / "detector")
    assert detector.settings.thresholds == (0.05,) * 3 and detector.settings.min_face == 80
    picture = read(next((tiny_run / "drawn" / "WIDER_val").rglob("*.jpg")))
    own = FaceDetector(
        tiny_run / "pnet_hard",
        tiny_run / "rnet",
        tiny_run / "onet",
        thresholds=[0.05] * 3,
        min_face=80,
    )
    found, expected = detector.detect(picture), own.detect(picture)
    np.testing.assert_allclose(found.boxes, expected.boxes, atol=0.01)
    assert len(found) and found.landmarks.shape == (len(found), 5, 2)


def test_what_is_measured_is_what_the_cascade_finds(tiny_run):
    """Recall of the last net anew, face by face."""
    summary = json.loads((tiny_run / "summary.json").read_text())
    detector = FaceDetector.open(tiny_run / "detector")
    hits = []
    for annotation in wider.open_set(tiny_run / "drawn", "val").annotations:
        boxes = detector.detect(tiny_run / "drawn" / "WIDER_val" / "images" / annotation.path).boxes
        for x1, y1, x2, y2 in annotation.boxes:
            shared = np.clip(
                np.minimum(boxes[:, 2], x2) - np.maximum(boxes[:, 0], x1), 0, None
            ) * np.clip(np.minimum(boxes[:, 3], y2) - np.maximum(boxes[:, 1], y1), 0, None)
            areas = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
            if max(x2 - x1, y2 - y1) >= 20:
                hits.append((shared / (areas + (x2 - x1) * (y2 - y1) - shared)).max() >= 0.5)
    assert summary["net"] == "onet" and summary["figures"]["faces"] == len(hits)
    assert summary["recall"] == pytest.approx(np.mean(hits))
    for made in summary["made"].values():
        assert Path(made).is_file()


def test_it_ends_with_a_line_to_try_the_detector(copy, monkeypatch, capsys):
    tiny.run(monkeypatch, copy)
    line = capsys.readouterr().out.splitlines()[-1]
    words = shlex.split(line.partition("your own: ")[2])
    assert words[:2] == ["scripts/run.sh", "core.detect"] and "WIDER_val" in words[2]
    detect.main([*words[2:], "--out", str(copy / "found")])
    assert list((copy / "found").iterdir())


def test_again_nothing_is_done(tiny_run, monkeypatch, capsys):
    before = {path: path.stat().st_mtime_ns for path in tiny_run.rglob("*") if path.is_file()}
    tiny.run(monkeypatch, tiny_run)
    printed = capsys.readouterr().out
    assert printed.count("there already, nothing it depends on changed") == len(STEPS)
    assert "epoch" not in printed
    changed = {path.name for path, then in before.items() if path.stat().st_mtime_ns != then}
    assert changed - {"pictures.json"} == {"summary.json", "report.html"}


def test_a_mosaic_that_a_kill_has_left_out_is_all_that_is_made(copy, monkeypatch, capsys):
    before, mosaics = fingerprints(copy), sorted(copy.rglob("mosaic.png"))
    lost = [path for path in mosaics if path.parent.name != "drawn"]
    drawn = [path.read_bytes() for path in lost]
    for path in lost:
        path.unlink()
    (copy / ".mine_rnet.journal").mkdir()
    tiny.run(monkeypatch, copy)
    printed = capsys.readouterr().out
    assert printed.count("there already, nothing it depends on changed") == len(STEPS) - len(lost)
    assert printed.count(" lacks a part") == len(lost) == 7
    assert [path.read_bytes() for path in lost] == drawn and fingerprints(copy) == before
    assert not list(copy.glob(".*"))


def test_dry_run_says_it_all_and_does_nothing(tmp_path, monkeypatch, capsys):
    tiny.run(monkeypatch, tmp_path / "out", "--dry-run")
    printed = capsys.readouterr().out
    at = [printed.index(f"\n  {name} ") for name in STEPS]
    assert at == sorted(at) and printed.count("to do") == len(STEPS)
    assert "reads samples_onet, mine_onet, landmarks_onet; writes onet" in printed
    rows = re.findall(r"to do +([\d,]+) +(\d+):(\d\d)  ", printed)
    together = re.search(
        r"together about ([\d,]+) MB and (\d+):(\d\d) on 1 processor, a rough estimate; "
        r"[\d,]+ MB are free",
        printed,
    ).groups()

    def figures(row):
        return int(row[0].replace(",", "")), 60 * int(row[1]) + int(row[2])

    assert len(rows) == len(STEPS)
    np.testing.assert_allclose(
        np.sum([figures(row) for row in rows], axis=0), figures(together), atol=len(STEPS) / 2
    )
    assert not (tmp_path / "out").exists()


def test_estimates_are_near_what_comes(tiny_run):
    run = run_of(tiny_run)
    unmade = run_of(
        tiny_run.parent / "unmade",
        data=tiny_run / "drawn",
        faces=tiny_run / "drawn" / "landmarks" / "train_5.txt",
    )
    for name in ("samples_pnet", "samples_onet", "mine_pnet"):
        expected, there = estimates.samples(unmade, name), estimates.samples(run, name)
        assert there / 2.5 < expected < there * 2.5, name


@pytest.mark.parametrize(
    "more, kinds",
    [
        (
            ("rnet.train.lr=0.2",),
            {
                "rnet": ANEW,
                "recall_rnet": MAYBE,
                "mine_onet": MAYBE,
                "onet": MAYBE,
                "evaluate": MAYBE,
                "export": MAYBE,
            },
        ),
        (
            ("detect.thresholds=0.05,0.05,0.1",),
            {name: ANEW for name in STEPS if name.startswith(("recall", "eval", "exp"))},
        ),
        (
            ("mine.onet=0.1,0.1",),
            {"mine_onet": ANEW, "onet": MAYBE, "evaluate": MAYBE, "export": MAYBE},
        ),
        (
            ("landmark_samples.seed=5",),
            {"landmarks_onet": ANEW, "onet": MAYBE, "evaluate": MAYBE, "export": MAYBE},
        ),
        (
            ("samples.seed=5",),
            {
                name: ANEW if name.startswith("samples") else MAYBE
                for name in STEPS
                if name not in ("data", "landmarks_onet")
            },
        ),
        (("pipeline.floors=0.1,0.1,0.1",), {}),
    ],
)
def test_a_setting_touches_what_depends_on_it_alone(tiny_run, more, kinds):
    found = {name: state.kind for name, state in states(run_of(tiny_run, *more)).items()}
    assert {name: kind for name, kind in found.items() if kind != DONE} == kinds


def test_what_changed_is_said(tiny_run):
    found = states(run_of(tiny_run, "rnet.train.lr=0.2"))
    assert found["rnet"].why == "train.lr was 0.02, is 0.2"
    assert found["onet"].why == "made anew if mine_onet comes out differently"
    other = states(run_of(tiny_run, nets=["Onet_v2"]))
    assert other["onet"].why == "net was Onet_v1, is Onet_v2"
    assert other["export"].kind == MAYBE
    without = states(run_of(tiny_run, landmarks=False))
    assert "landmarks_onet" not in without
    assert without["onet"].why == "landmark was True, is None, landmarks_onet is left out"


def test_one_net_anew_sets_the_old_one_aside(copy, monkeypatch, capsys):
    old = (copy / "rnet" / "Rnet_v1-0001.params").read_bytes()
    tiny.run(monkeypatch, copy, "--upto", "rnet", "rnet.train.lr=0.2")
    printed = capsys.readouterr().out
    assert "made anew: train.lr was 0.02, is 0.2" in printed
    assert f"{copy / 'rnet'} is set aside as {copy / 'rnet-1'}" in printed
    assert (copy / "rnet-1" / "Rnet_v1-0001.params").read_bytes() == old
    assert (copy / "rnet" / "Rnet_v1-0001.params").read_bytes() != old
    assert printed.count("[") and "mine_onet:" not in printed
    assert states(run_of(copy, "rnet.train.lr=0.2"))["mine_onet"].why == "rnet is another one"


def killed_at(arguments, start):
    """Run the pipeline, kill it at its first line that begins so."""
    process = subprocess.Popen(
        [sys.executable, "-m", "core.pipeline", *arguments],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
    )
    for line in process.stdout:
        if line.startswith(start):
            os.kill(process.pid, signal.SIGKILL)
            break
    process.stdout.read()
    assert process.wait() == -signal.SIGKILL


def test_killed_in_the_middle_of_training_it_ends_with_the_same_nets(
    tiny_run, tmp_path, monkeypatch, capsys
):
    out = tmp_path / "out"
    killed_at(tiny.arguments(out, "--upto", "pnet"), "Pnet20_v1: ")
    assert states(run_of(out))["pnet"].kind == "goes on"
    tiny.run(monkeypatch, out, "--upto", "pnet")
    assert capsys.readouterr().out.count("there already") == 2
    expected = fingerprints(tiny_run)
    found = fingerprints(out)
    assert {"pnet/Pnet20_v1-0001.params", "samples_pnet/crops.npy"} <= set(found)
    for name, content in found.items():
        assert content == expected[name], name


def test_ctrl_c_is_130_and_the_report_of_what_is_there_can_be_had(copy, monkeypatch, capsys):
    from core.train import trainer

    def press(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(trainer, "train", press)
    with pytest.raises(KeyboardInterrupt):
        tiny.run(monkeypatch, copy, "onet.train.lr=0.2")
    assert "set aside as" in capsys.readouterr().out
    assert states(run_of(copy, "onet.train.lr=0.2"))["onet"].kind == "goes on"
    (copy / "report.html").unlink()
    tiny.run(monkeypatch, copy, "--stage", "report")
    assert (copy / "report.html").is_file()


def fails(monkeypatch, *arguments, match):
    with pytest.raises(Problem, match=match) as found:
        tiny.run(monkeypatch, *arguments)
    assert "\n" not in str(found.value)


def test_out_of_order(tmp_path, monkeypatch):
    fails(
        monkeypatch,
        tmp_path / "out",
        "--stage",
        "samples_rnet",
        match="samples_rnet needs data, which isn't there yet: run --stage data first, or --upto "
        "samples_rnet",
    )
    assert not [path for path in (tmp_path / "out").rglob("*") if path.is_file()]


def test_out_of_order_names_the_script(tiny_run, tmp_path, monkeypatch):
    fails(
        monkeypatch,
        tmp_path / "out",
        "--data",
        tiny_run / "drawn",
        "--stage",
        "pnet",
        match=r"pnet needs samples_pnet, .* run --stage samples_pnet \(scripts/P20_gen_data.sh\) "
        "first",
    )


def test_a_stage_with_other_settings_than_what_it_reads(tiny_run, monkeypatch):
    fails(
        monkeypatch,
        tiny_run,
        "--stage",
        "rnet",
        "rnet.samples.positives=11",
        match=r"rnet needs samples_rnet, which is not what is asked for now \(samples.positives "
        r"was 10, is 11\)",
    )


def test_a_store_of_another_configuration(copy, monkeypatch):
    shutil.rmtree(copy / "samples_rnet")
    other = recipes.settings_of(recipes.RECIPES["train-mtcnn"], (), True, ["samples.negatives=4"])[
        0
    ]
    samples.make_store(
        wider.open_set(copy / "drawn", "train"), 24, copy / "samples_rnet", other.samples, workers=1
    )
    fails(
        monkeypatch,
        copy,
        match=r"samples_rnet has changed since it was made, it is of another "
        r"configuration or damaged: remove it",
    )


def test_a_net_of_another_size_put_in_its_place(copy, monkeypatch):
    (copy / "rnet" / "Rnet_v1-0001.params").write_bytes(
        (copy / "onet" / "Onet_v1-0001.params").read_bytes()
    )
    fails(monkeypatch, copy, match=r"rnet has changed since it was made")


def test_a_folder_that_is_not_its_own(tiny_run, tmp_path, monkeypatch):
    (tmp_path / "out" / "samples_pnet").mkdir(parents=True)
    (tmp_path / "out" / "samples_pnet" / "notes.txt").touch()
    fails(
        monkeypatch,
        tmp_path / "out",
        "--data",
        tiny_run / "drawn",
        match="samples_pnet is there, and this run has not made it: remove it or choose",
    )


def test_an_empty_stage(copy, monkeypatch):
    fails(
        monkeypatch,
        copy,
        "mine.pnet=1",
        match="not one hard example in 10 pictures .* lower the thresholds, mine.pnet",
    )
    assert not (copy / "mine_pnet").exists()
    # what depends on it is still there
    assert (copy / "pnet_hard" / "Pnet20_v1-0001.params").is_file()


def test_no_boxes_at_all_is_a_recall_of_nothing(copy, monkeypatch, capsys):
    fails(
        monkeypatch,
        copy,
        "--upto",
        "pnet",
        "detect.thresholds=1,1,1",
        "pipeline.floors=.1,0,0",
        match=r"recall on held-out pictures is 0.000 \(IoU 0.5\) with 0.0 boxes a face, below the",
    )


def test_a_net_under_its_floor_stops_the_run(copy, monkeypatch, capsys):
    (copy / "report.html").unlink()
    fails(
        monkeypatch,
        copy,
        "pipeline.floors=0,1,0",
        match=r"rnet: recall on held-out pictures is 0\.\d+ \(IoU 0.5\) with [\d.]+ boxes a face, "
        r"below the floor of 1: look at .*misses.png; train longer \(rnet.train.epochs, now 1\)"
        r".*; to continue anyway: scripts/run.sh core.pipeline .* pipeline.floors=0,0\.\d+,0",
    )
    printed = capsys.readouterr().out
    assert "recall_rnet" in printed and "mine_onet" not in printed
    assert "report.html: the report so far" in printed
    assert (copy / "report.html").is_file()
    tiny.run(monkeypatch, copy)  # with its floor of 0 again
    assert capsys.readouterr().out.count("there already") == len(STEPS)


def test_too_many_boxes_stop_the_run(copy, monkeypatch):
    """And the command that the message ends with goes on."""
    with pytest.raises(Problem) as found:
        tiny.run(monkeypatch, copy, "--upto", "rnet", "pipeline.most_boxes=1e9,.01,1e9")
    message = str(found.value)
    assert re.match(
        r"rnet: recall on held-out pictures is 0\.\d+ \(IoU 0.5\) with [\d.]+ boxes a face, more "
        r"than the 0.01 allowed: look at .*false_alarms.png; train longer",
        message,
    )
    command = shlex.split(message.partition("to continue anyway: ")[2])
    assert command[:2] == ["scripts/run.sh", "core.pipeline"]
    assert sum(word.startswith("pipeline.most_boxes=") for word in command) == 1
    assert {*tiny.SETTINGS} - {*command} == {"pipeline.most_boxes=1e9,1e9,1e9"}
    program_module.main(command[2:])


@pytest.mark.parametrize(
    "recall, boxes, missed",
    [
        (0.954, 817, "more than the 100 allowed"),
        (0.870, 244, None),
        (0.849, 244, "below the floor of 0.85"),
        (0.954, 401, "more than the 100 allowed"),
        (0.850, 400, None),
    ],
)
def test_recall_counts_with_its_boxes(recall, boxes, missed, tmp_path):
    """By default, of a Pnet on pictures with four faces each."""
    figures = {
        "recall": recall,
        "iou": 0.5,
        "boxes_per_picture": boxes,
        "pictures": 50,
        "faces": 200,
    }
    if missed is None:
        limits.check("pnet", figures, tmp_path, config, config)
    else:
        with pytest.raises(limits.LimitMissed, match=missed):
            limits.check("pnet", figures, tmp_path, config, config)


def test_old_spellings_work_and_say_so(tiny_run, monkeypatch, capsys):
    """Of what scripts may hold; the nets that these options named are files elsewhere."""
    faces = tiny_run / "drawn" / "landmarks" / "train_5.txt"
    old = ("--pnet", "Pnet20_v2", "--onet", "Onet_v2", "--points", faces)
    tiny.run(monkeypatch, tiny_run / "none", "--data", tiny_run / "drawn", *old, "--dry-run")
    printed = capsys.readouterr()
    assert "Pnet20_v2, Rnet_v1, Onet_v2, landmarks for onet" in printed.out
    assert f"faces with points, {faces}" in printed.out
    assert "--pnet is now --net" in printed.err and "--points is now --faces" in printed.err


def test_a_picture_that_has_vanished(copy, monkeypatch):
    gone = sorted((copy / "drawn" / "WIDER_train").rglob("*.jpg"))[3]
    picture = gone.read_bytes()
    gone.unlink()
    before = fingerprints(copy)
    fails(
        monkeypatch,
        copy,
        match=re.escape(str(gone)) + " vanished since this run began: put it back, or take it out",
    )
    assert fingerprints(copy) == before
    gone.write_bytes(picture)
    assert {state.kind for state in states(run_of(copy)).values()} == {DONE}


def test_a_damaged_list_of_its_pictures(copy, monkeypatch):
    noted = copy / "steps" / "pictures.json"
    for value in ("[]", "7", '{"train": 7}', '{"train": {"truth": "x", "sizes": []}}'):
        noted.write_text(value)
        fails(monkeypatch, copy, match=f"{re.escape(str(noted))} is damaged: remove it")


@pytest.fixture(scope="module")
def photos(tiny_run, tmp_path_factory):
    """The drawn pictures as somebody's own: a folder without val split."""
    data = tmp_path_factory.mktemp("sets") / "photos"
    shutil.copytree(tiny_run / "drawn", data)
    (data / "wider_face_split" / "wider_face_val_bbx_gt.txt").unlink()
    return data


def test_own_pictures_without_val_a_teacher_and_the_classic_recipe(
    tiny_run, photos, tmp_path, monkeypatch, capsys
):
    out = tmp_path / "out"
    tiny.run(
        monkeypatch,
        out,
        "--data",
        photos,
        "--recipe",
        "classic",
        "--teacher",
        tiny_run / "detector",
        "--faces",
        photos / "landmarks" / "train_5.txt",
        "--upto",
        # an untrained detector holds any label for hopeless
        "pnet",
        "teacher.score=0.02",
        "teacher.floor=0.01",
        "teacher.hopeless=0",
        "train.lr=0.02",
    )
    printed = capsys.readouterr().out
    net = checkpoint.load(out / "pnet")
    assert (net.net, net.options) == ("Pnet12", {"landmark": True})
    assert net.manifest["mix"] == {
        "positive": 1,
        "part": 1,
        "negative": 3,
        "hard": 0,
        "landmark": 1,
    }
    assert net.manifest["config"]["loss"]["bbox"]["weight"] == 0.5
    assert f"no ground truth for val in {photos}" in printed
    assert "measured on the 2 training pictures held out instead" in printed
    assert Store(out / "samples_pnet").size == 12
    # the teacher is heard: fewer squares are background
    assert (
        Store(out / "samples_pnet").facts["counts"]["negative"]
        != Store(tiny_run / "samples_pnet").facts["counts"]["negative"]
    )
    asked = {
        "teacher": tiny_run / "detector",
        "recipe": "classic",
        "data": photos,
        "faces": photos / "landmarks" / "train_5.txt",
    }
    again = states(
        run_of(out, "teacher.score=0.5", "teacher.floor=0.01", "teacher.hopeless=0", **asked)
    )
    assert again["teacher_boxes"].kind == DONE and again["samples_pnet"].kind == ANEW
    assert "teacher.score was 0.02, is 0.5" in again["samples_pnet"].why
    # new labels change everything behind them
    truth = photos / "wider_face_split" / "wider_face_train_bbx_gt.txt"
    text = truth.read_text()
    truth.write_text(text.replace("\n1\n", "\n1\n", 1) + "nothing.jpg\n0\n0 0 0 0 0 0 0 0 0 0\n")
    again = states(
        run_of(out, "teacher.score=0.02", "teacher.floor=0.01", "teacher.hopeless=0", **asked)
    )
    truth.write_text(text)
    assert again["teacher_boxes"].why == "data is another one"
    assert again["samples_pnet"].kind == ANEW and again["recall_pnet"].kind == ANEW


def test_val_pictures_are_measured_on_and_nothing_else(tiny_run, tmp_path):
    """Other ones, or first ones, change no training."""

    def reads(data):
        plan = run_of(tmp_path / "out", data=data).plan
        return {name: step.reads for name, step in plan.steps.items()}

    shutil.copytree(tiny_run / "drawn", tmp_path / "data")
    val = tmp_path / "data" / "wider_face_split" / "wider_face_val_bbx_gt.txt"
    proofs = []
    for text in (val.read_text(), val.read_text() * 2):
        val.write_text(text)
        plan = run_of(tmp_path / "out", data=tmp_path / "data").plan
        proofs.append([plan.result(plan.steps[name]) for name in ("data", "val")])
    assert proofs[0][0] == proofs[1][0] and proofs[0][1] != proofs[1][1]
    with_val = reads(tmp_path / "data")
    val.unlink()
    without = reads(tmp_path / "data")
    for name in with_val:
        read = {*with_val[name]} ^ {*without.get(name, ())}
        assert read == ({"val", "data"} if name.startswith(("recall", "evaluate")) else set()), name


def test_held_out_pictures_are_those_that_training_holds_out(tiny_run, photos, tmp_path):
    run = run_of(tmp_path, data=photos)
    measured = run.data.held_out(Store(tiny_run / "samples_pnet"), run.own["pnet"].train)
    held_out = {annotation.path for annotation in measured.annotations}
    store = Store(tiny_run / "samples_rnet")  # of another size: the pictures are the same
    from core.train.loader import Samples, split_by_picture

    _, chosen = split_by_picture(Samples([store]), 0.2, 0)
    names = np.array(store.pictures())
    assert {str(name) for name in names[store.sources[chosen, 0]]} == held_out


def test_mix_lists_what_training_draws_from(tiny_run, monkeypatch, capsys):
    tiny.run(monkeypatch, tiny_run, "--mix", "onet")
    printed = capsys.readouterr().out
    rows = {
        row[0]: [int(n.replace(",", "")) for n in row[1:]]
        for row in re.findall(r"^  (\w+) +([\d,]+) +([\d,]+) +([\d,]+) +([\d,]+)$", printed, re.M)
    }
    counts = {
        **Store(tiny_run / "samples_onet").facts["counts"],
        "hard": Store(tiny_run / "mine_onet").facts["counts"]["negative"],
        "landmark": Store(tiny_run / "landmarks_onet").facts["counts"]["landmark"],
    }
    assert {kind: sum(row[:2]) for kind, row in rows.items()} == counts
    assert sum(row[2] for row in rows.values()) == 50
    steps = int(re.search(r"an epoch is (\d+) batches of 50", printed).group(1))
    assert all(row[3] == steps * row[2] for row in rows.values())
    assert f"{steps} steps of 50 an epoch" not in printed  # nothing is trained


def test_scripts_name_steps(tiny_run, photos):
    """Each published name runs the step that it says, and each step knows its script."""
    run = run_of(tiny_run)
    names = {}
    for script in sorted((ROOT / "scripts").glob("[PRO]*_*.sh")):
        text = script.read_text()
        assert os.access(script, os.X_OK) and len(text.splitlines()) <= 4
        names[script.name] = re.search(r"--(upto|mix) (\w+) ", text).groups()
        assert run.plan.named(names[script.name][1])
    for stage in ("P20", "R", "O"):
        for part in ("gen_data", "gen_hard_example", "gen_imglist_with_hard", "train_with_hard"):
            assert f"{stage}_{part}.sh" in names
    assert {"P20_gen_imglist.sh", "P20_train.sh"} <= set(names)
    for step, script in cascade_steps.SCRIPTS.items():
        assert names[script] == ("upto", step) and run.plan.steps[step].script == script


@pytest.mark.parametrize(
    "arguments, match",
    [
        (["--net", "Rnet_v1", "Rnet_v2"], "Rnet_v1 and Rnet_v2 are both of the family Rnet"),
        (["--net", "Pnet20_v2", "--net", "Pnet12"], "both of the family Pnet: a cascade has one"),
        (["--net", "Lnet_v2"], "Lnet_v2 is of the family Lnet, and a cascade has nets of Pnet, Rn"),
        (["--net", "Onet_v9"], "no net is called 'Onet_v9'"),
        (["--data", "nowhere"], "nowhere is not there"),
        (["--teacher", "nowhere"], "nowhere is not there"),
        (["--faces", "nowhere"], "nowhere is not there"),
        (
            ["--faces", __file__, "--net", "Onet_p"],
            "none of Pnet20_v1, Rnet_v1, Onet_p is to have a landmark head",
        ),
        (["--epochs", "3"], "no option --epochs: did you mean train.epochs=3"),
        (["--pnet-train-epochs", "3"], r"did you mean pnet.train.epochs=3\?"),
        (["onet.train.epochs", "3"], r"did you mean onet.train.epochs=VALUE\?"),
        (["--upto", "qnet"], "no step 'qnet' here; there are data, samples_pnet"),
        (["pipeline.floors=2,0,0"], r"pipeline.floors is \[2, 0, 0\]: it must be three numbers"),
        (["pnet.train.epoch=3"], "setting of pnet: there is no setting 'train.epoch'; near"),
        (["--pictures", "0"], "argument --pictures: 0: it must be a whole number from 1"),
        (["train.gpus=0"], "train.gpus is .0., and MXNet sees 0 GPUs"),
    ],
)
def test_bad_input(arguments, match, tmp_path, monkeypatch):
    fails(monkeypatch, tmp_path / "out", *arguments, match=match)


def test_mxnet_is_not_imported_by_workers():
    """They import this file, and what cuts and mines."""
    code = (
        "import sys, core.pipeline, prepare_data.mine, prepare_data.landmark_samples; "
        "sys.exit('mxnet' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == 0


def test_default_folders():
    named = [
        program_module._default_out(recipe, nets, data).name
        for recipe, nets, data in (
            ("train-mtcnn", [], None),
            ("classic", [], "x/photos"),
            ("train-mtcnn", ["Onet_v1", "Pnet20_v4"], "/y/faces/"),
        )
    ]
    assert named == ["train-mtcnn-drawn", "classic-photos", "train-mtcnn-Pnet20_v4-faces"]

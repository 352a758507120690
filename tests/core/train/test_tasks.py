"""Nets of landmarks alone: what a training leaves, how it resumes, which trunk it keeps."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from config import for_landmarks
from core.formats import checkpoint
from core.train import __main__ as program
from core.train import tasks, trainer
from facelet import schemes
from facelet.console import Problem
from prepare_data.held_out import is_held_out, split_faces
from prepare_data.points import cuts, face_sets
from prepare_data.points import sets as points
from symbols import zoo
from symbols.mxnet_import import mx

ROOT = Path(__file__).resolve().parents[3]
QUICK = [
    "train.batch=8",
    "train.epochs=2",
    "train.warmup=2",
    "train.val_fraction=0.3",
    "train.lr=0.02",
    "crop.preset=detector",
]
NET = ("Lnet_v2", {"base": 4})


def cut(drawn_set, tmp_path_factory, scheme):
    out = tmp_path_factory.mktemp("cuts") / scheme
    faces = points.open_set(drawn_set / "landmarks" / f"train_{scheme}.txt")
    return cuts.make_store(faces, 112, out, for_landmarks(faces.points, QUICK).crop, workers=1)


@pytest.fixture(scope="module")
def five(drawn_set, tmp_path_factory):
    return cut(drawn_set, tmp_path_factory, "5")


@pytest.fixture(scope="module")
def many(drawn_set, tmp_path_factory):
    return cut(drawn_set, tmp_path_factory, "68")


@pytest.fixture(scope="module")
def finished(five, tmp_path_factory):
    out = tmp_path_factory.mktemp("runs") / "finished"
    trainer.train(*NET, [five], out, for_landmarks(5, QUICK))
    return out


def log(out):
    return [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]


def parameters(params):
    arguments, auxiliary = checkpoint.read_params(params)
    return {**arguments, **auxiliary}


def equal(first, second):
    first, second = parameters(first), parameters(second)
    return all(np.array_equal(first[name], second[name]) for name in first)


def test_what_a_run_leaves(finished):
    rows = log(finished)
    assert [row["epoch"] for row in rows] == [1, 2]
    assert {"landmark_error", "mean_face_error", "by_point"} <= set(rows[-1]["val"])
    for name in ("samples.png", "points.png", "curves.png"):
        assert (finished / name).read_bytes()[:4] == b"\x89PNG"
    manifest = json.loads((finished / "Lnet_v2-0002.json").read_text())
    assert (manifest["scheme"], manifest["points"]) == ("5", 5)
    assert manifest["crop"] == {"box": "detector", "scale": 1.0}
    assert [faces["rejected"] for faces in manifest["data"]] == [0]  # how many, not their paths
    assert checkpoint.load(finished / "Lnet_v2-0002.params").facts()["crop"] == manifest["crop"]


def test_figures_are_those_of_the_saved_net(finished, five):
    """The log's last row, computed anew through the test graph; the mean face's, too."""
    task = tasks.task_of(zoo.spec("Lnet_v2"), {"base": 4}, [five], for_landmarks(5, QUICK))
    crops, truth = task.validation_set()
    symbol, arguments, auxiliary = mx.model.load_checkpoint(str(finished / "Lnet_v2"), 2)
    data = (crops.transpose(0, 3, 1, 2).astype(np.float32) - 127.5) / 128
    net = symbol.bind(mx.cpu(), {"data": mx.nd.array(data), **arguments}, aux_states=auxiliary)
    values = net.forward(is_train=False)[0].asnumpy()
    found = np.stack([values[:, :5], values[:, 5:]], axis=2)
    logged = log(finished)[-1]["val"]
    distance = np.hypot(*(found - truth).transpose(2, 0, 1))
    assert logged["landmark_error"] == pytest.approx(distance.mean(), rel=1e-4)
    np.testing.assert_allclose(logged["by_point"], distance.mean(axis=0), rtol=1e-4)
    mean = np.hypot(*(task.mean_face() - truth).transpose(2, 0, 1)).mean()
    assert logged["mean_face_error"] == pytest.approx(mean, rel=1e-6)
    # Held out by whole pictures, and trained on by nobody.
    held = {five.names()[i] for i in task.held_out[0]}
    (rule,) = checkpoint.load(finished / "Lnet_v2-0002.params").facts()["held_out"]
    assert {name for name in five.names() if is_held_out([name], rule)} == held
    assert held and not held & {five.names()[i] for i in task.training[0]}


def test_stopped_and_resumed_ends_the_same(finished, five, tmp_path, monkeypatch):
    """As after kill -9 in the middle of the second epoch."""
    made = tasks.LandmarkTask.validate

    def dies(self, trainer, report):
        if (tmp_path / "run" / "Lnet_v2-0001.params").exists():
            raise KeyboardInterrupt
        return made(self, trainer, report)

    monkeypatch.setattr(tasks.LandmarkTask, "validate", dies)
    with pytest.raises(KeyboardInterrupt):
        trainer.train(*NET, [five], tmp_path / "run", for_landmarks(5, QUICK))
    monkeypatch.undo()
    params = trainer.train(*NET, [five], tmp_path / "run", for_landmarks(5, QUICK))
    assert equal(params, finished / "Lnet_v2-0002.params")


def test_pictures_that_a_kill_has_left_out_are_made_by_a_rerun(
    finished, five, tmp_path, monkeypatch
):
    """An epoch whose picture is missing doesn't count; what was lost otherwise is drawn again."""
    out, kept = tmp_path / "run", ("samples.png", "points.png", "curves.png")
    shutil.copytree(finished, out)
    for name in kept:
        (out / name).unlink()
    shutil.copy(finished / "Lnet_v2-0002.states", out / "Lnet_v2-0001.states")  # left by a kill
    with monkeypatch.context() as patch:
        patch.setattr(trainer, "_train_epoch", None)
        trainer.train(*NET, [five], out, for_landmarks(5, QUICK))
    for name in kept:
        assert (out / name).read_bytes() == (finished / name).read_bytes()
    assert sorted(path.name for path in out.glob("*.states")) == ["Lnet_v2-0002.states"]

    draw, again = tasks.LandmarkTask.save_predictions, tmp_path / "again"

    def dies_in_the_last_epoch(self, made, folder):
        if (folder / "Lnet_v2-0001.json").exists():
            raise KeyboardInterrupt
        draw(self, made, folder)

    with monkeypatch.context() as patch:
        patch.setattr(tasks.LandmarkTask, "save_predictions", dies_in_the_last_epoch)
        with pytest.raises(KeyboardInterrupt):
            trainer.train(*NET, [five], again, for_landmarks(5, QUICK))
    params = trainer.train(*NET, [five], again, for_landmarks(5, QUICK))
    assert equal(params, finished / "Lnet_v2-0002.params")
    assert (again / "points.png").read_bytes() == (finished / "points.png").read_bytes()


def test_faces_of_unreadable_pictures_are_counted(drawn_set, tmp_path, capsys):
    """Two of the pictures trained on are gone: every epoch says how many faces it lacks."""
    shutil.copytree(drawn_set, tmp_path / "set")
    faces = face_sets.Pictures(points.open_set(tmp_path / "set" / "landmarks" / "train_5.txt"))
    settings = for_landmarks(5, QUICK)
    (training,), _, _ = split_faces([faces], settings.train.val_fraction, settings.train.seed)
    gone = sorted({faces.names()[i] for i in training})[:2]
    lost = sum(faces.names()[i] in gone for i in training)
    for name in gone:
        (path,) = (tmp_path / "set").rglob(Path(name).name)
        path.unlink()
    trainer.train(*NET, [faces], tmp_path / "run", settings)
    assert [row["train"]["left_out"] for row in log(tmp_path / "run")] == [lost, lost]
    assert f", {lost} unreadable left out" in capsys.readouterr().out


def test_another_head_keeps_the_trunk(finished, many, tmp_path, capsys):
    """Two epochs at a rate of next to nothing: the trunk is that of the five points' net."""
    settings = for_landmarks(
        68, [*QUICK, "train.epochs=1", "train.lr=1e-9", "train.val_fraction=0.5"]
    )
    params = trainer.train(
        "Lnet_v2", {"base": 4, "points": 68}, [many], tmp_path / "run", settings, finished
    )
    assert "its trunk is kept" in capsys.readouterr().out
    old, new = parameters(finished / "Lnet_v2-0002.params"), parameters(params)
    assert new["conv6_3_weight"].shape[0] == 136
    np.testing.assert_allclose(new["conv3_dw_weight"], old["conv3_dw_weight"], atol=1e-6)
    fresh = checkpoint.initial("Lnet_v2", {"base": 4, "points": 68}, 0, 0.25)
    assert np.abs(fresh.arguments["conv3_dw_weight"] - old["conv3_dw_weight"]).max() > 0.01
    # Half of the pictures are held out now, but the trunk has seen some of these.
    before, after = (
        checkpoint.load(path).facts()["held_out"]
        for path in (finished / "Lnet_v2-0002.params", params)
    )
    assert after == before
    with pytest.raises(Problem, match="does not fit Lnet_v2"):  # another trunk
        trainer.train(
            "Lnet_v2", {"base": 8, "points": 68}, [many], tmp_path / "other", settings, finished
        )


def test_the_loss_is_that_of_five_points_however_many_there_are(five, many):
    settings = for_landmarks(68, [*QUICK, "loss.landmark.weight=3"])
    made = tasks.task_of(zoo.spec("Lnet_v2"), {"points": 68}, [many], settings)
    assert made.loss(settings.loss)["landmark"]["weight"] == pytest.approx(3 * 5 / 68)
    adaptive = for_landmarks(5, [*QUICK, "loss.landmark.adaptive=1"])
    made = tasks.task_of(zoo.spec("Lnet_v2"), {}, [five], adaptive)
    assert made.loss(adaptive.loss)["landmark"]["weights"] is None
    group = next(iter(schemes.get("5").groups.values()))
    errors = np.where(np.isin(np.arange(5), group), 0.2, 0.1).tolist()
    weights = made.loss(adaptive.loss, {"val": {"by_point": errors}})["landmark"]["weights"]
    assert weights[group[0]] == pytest.approx(
        2 * weights[next(i for i in range(5) if i not in group)]
    )


def test_a_fresh_head_begins_at_the_mean_face(five):
    """Whatever the picture: the untrained net's error is about that of the mean of its targets."""
    task = tasks.task_of(zoo.spec("Lnet_v2"), {"base": 4}, [five], for_landmarks(5, QUICK))
    fresh = checkpoint.initial("Lnet_v2", {"base": 4}, 0, 0.25)
    task.init_head(fresh)
    targets = np.concatenate([task.batches.make(i)["landmark_target"] for i in range(20)])
    np.testing.assert_allclose(fresh.arguments["bn6_3_beta"], targets.mean(axis=0), atol=0.02)
    np.testing.assert_allclose(fresh.arguments["bn6_3_gamma"], targets.std(axis=0), atol=0.03)


def test_the_scale_of_a_landmark_head_follows_slowly(five):
    """A hundredth of the step that plain SGD would make of the same gradient."""
    task = tasks.task_of(zoo.spec("Lnet_v2"), {"base": 4}, [five], for_landmarks(5, QUICK))
    settings = for_landmarks(
        5,
        [
            *QUICK,
            "train.optimizer=sgd",
            "train.warmup=0",
            "train.momentum=0",
            "train.weight_decay=0",
        ],
    )
    first = checkpoint.initial("Lnet_v2", {"base": 4}, 0, 0.25)
    task.init_head(first)
    net = trainer.Trainer(first, settings.train, task.loss(settings.loss), steps=10)
    net.step(task.batches.make(0))
    gradients = dict(
        zip(
            net.module._exec_group.param_names,
            (rows[0].asnumpy() for rows in net.module._exec_group.grad_arrays),
        )
    )
    after = net.checkpoint().arguments
    for name, rate in (("bn6_3_gamma", 0.01), ("bn6_3_beta", 1), ("conv1_weight", 1)):
        np.testing.assert_allclose(
            after[name] - first.arguments[name],
            -settings.train.lr * rate * gradients[name],
            rtol=0.02,
            atol=1e-6,
        )


def test_what_a_net_can_not_learn_from(five, many, store20, tmp_path):
    with pytest.raises(
        Problem, match="learns 5 landmark points, .* has 68: train it with --points 68"
    ):
        trainer.train("Lnet_v2", {}, [many], tmp_path / "a", for_landmarks(5, QUICK))
    with pytest.raises(Problem, match="one net learns one scheme"):
        trainer.train("Lnet_v2", {}, [five, many], tmp_path / "a", for_landmarks(5, QUICK))
    assert not (tmp_path / "a").exists()


def test_commands(five, tmp_path):
    """Five points at the command line; a list that has none of a net's points."""

    def run(*arguments):
        return subprocess.run(
            [sys.executable, "-m", "core.train", *map(str, arguments)],
            cwd=ROOT,
            capture_output=True,
            text=True,
        )

    done = run(
        "--net",
        "Lnet_v2",
        "--base",
        4,
        "--faces",
        five.path,
        "--out",
        tmp_path / "run",
        *QUICK,
        "train.epochs=1",
    )
    assert done.returncode == 0, done.stderr
    assert "points" in done.stdout and (tmp_path / "run" / "Lnet_v2-0001.params").exists()
    empty = tmp_path / "empty.txt"
    empty.write_text("")
    done = run("--net", "Lnet_v2", "--faces", empty, "--out", tmp_path / "none")
    assert done.returncode == 2 and done.stderr.startswith("error: ")
    assert done.stderr.count("\n") == 1 and not (tmp_path / "none").exists()


def test_the_old_spelling_of_faces(five, tmp_path, capsys):
    """--data was both: of a net of landmarks alone it means --faces; settings may follow."""
    program.main(
        ["--net", "Lnet_v2", "--base", "4", "--data", str(five.path), *QUICK, "train.epochs=1"]
        + ["--out", str(tmp_path / "run")]
    )
    out, err = capsys.readouterr()
    assert "--data is now --faces" in err and "epoch 1/1" in out


@pytest.mark.parametrize(
    "arguments, says",
    [
        (["--net", "Lnet_v2"], "needs something to learn from: give --faces FACES"),
        (["--net", "Rnet_v1"], "needs something to learn from: give --samples STORE"),
        (["--net", "Rnet_v1", "--faces", "x"], "stores of samples: give --samples, not --faces"),
        (["--net", "L14_heatmap", "--samples", "x"], "list of bodies: give --faces, not --samples"),
        (["--net", "Rnet_v1", "--samples", "x", "--base", "0"], "Rnet_v1 has no option base"),
        (["--net", "Lnet_v2", "--faces", "x", "--base", "0"], "base is 0: it must be a whole"),
        (["--net", "Lnet_v2", "--faces", "x", "--points", "0"], "points is 0: it must be a whole"),
        (["--net", "Lnet_v2", "--faces", "x", "--points", "-5"], "points is -5: it must be"),
        (["--net", "Lnet_v2", "--faces", "x", "--points", "9999999"], "parameters, more than"),
        (["--net", "Lnet_v2", "--faces", "x", "--epochs", "3"], "did you mean train.epochs=3"),
        (["--net", "Lnet_v2", "--faces", "nowhere", "train.epochs=2"], "nowhere"),
    ],
)
def test_command_lines_that_are_refused(arguments, says, tmp_path):
    with pytest.raises(Problem, match=says):
        program.main([*arguments, "--out", str(tmp_path / "run")])
    assert not (tmp_path / "run").exists()


def test_progress_between_and_within_epochs(five, tmp_path, monkeypatch):
    """A status that is asked at every chance tells the steps, and what is done between them."""
    told, texts = [], []

    class Asked(trainer.Status):
        def set(self, text):
            super().set(text)
            told.append(text if isinstance(text, str) else text(1))
            texts.append(text)

    monkeypatch.setattr(trainer, "Status", Asked)
    made = trainer.Trainer.step

    def step(self, batch):
        told.append(texts[-1](1))
        return made(self, batch)

    monkeypatch.setattr(trainer.Trainer, "step", step)
    trainer.train(*NET, [five], tmp_path / "run", for_landmarks(5, QUICK))
    steps = [text for text in told if text.startswith("epoch 2/2: step")]
    held_out = len(
        tasks.task_of(zoo.spec("Lnet_v2"), {}, [five], for_landmarks(5, QUICK)).held_out[0]
    )
    assert "epoch 1/2: step 0/" in " ".join(told) and "first batches are made" in told[1]
    assert len(steps) == int(steps[-1].split("/")[2].split(",")[0]) + 1
    assert re.search(r", [\d,]+ samples/s, left: epoch 0:0\d, run 0:0\d$", steps[-1])
    assert f"epoch 1/2: reading faces held out, 0/{held_out}" in told
    assert f"epoch 2/2: validation, 0/{held_out}" in told and "epoch 2/2: saving" in told


def test_time_left_of_a_run(monkeypatch):
    """Two of four epochs' steps in 10 s, the run having gone on after the first of five."""
    now = [0.0]
    monkeypatch.setattr(trainer.time, "perf_counter", lambda: now[0])
    progress = trainer.Progress(None, first=1, epochs=5, steps=100, batch=8)
    assert progress.seconds_left() is None
    progress.epoch, progress.done, now[0] = 3, 100, 10.0
    assert progress.seconds_left() == pytest.approx(10)
    progress.done = 50
    assert progress.seconds_left() == pytest.approx(10 / 1.5 * 2.5)

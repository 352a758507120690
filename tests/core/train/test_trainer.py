"""Training runs: what they leave, and how they stop and go on."""

import json
import math
import os
import pickle
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from config import config, override
from core.formats import checkpoint
from core.train import run, tasks, trainer
from core.train.loader import Samples, split_by_picture
from facelet import console
from facelet.console import Problem
from facelet.files import sha256
from prepare_data.store import Store
from symbols.mxnet_import import mx, threads

ROOT = Path(__file__).resolve().parents[3]
QUICK = ["train.batch=100", "train.epochs=3", "train.warmup=5", "train.val_fraction=0.25"]


def command(store, out, *settings):
    return [
        sys.executable,
        "-m",
        "core.train",
        "--net",
        "Pnet20_v1",
        "--samples",
        str(store),
        "--out",
        str(out),
        *QUICK,
        *settings,
    ]


def train(store, out, *settings, **options):
    return subprocess.run(
        command(store, out, *settings), cwd=ROOT, capture_output=True, text=True, **options
    )


def parameters(folder, epoch):
    arguments, auxiliary = checkpoint.read_params(folder / f"Pnet20_v1-{epoch:04d}.params")
    return {**arguments, **auxiliary}


@pytest.fixture(scope="module")
def finished(store20, tmp_path_factory):
    """A run that went through, and what it printed."""
    out = tmp_path_factory.mktemp("runs") / "finished"
    result = train(store20, out)
    assert result.returncode == 0, result.stderr
    return out, result.stdout


def test_what_a_run_leaves(finished, store20):
    out, printed = finished
    rows = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    assert [row["epoch"] for row in rows] == [1, 2, 3]
    for row in rows:
        assert {"cls_loss", "bbox_loss", "accuracy_hard", "samples_per_second", "waiting"} <= set(
            row["train"]
        )
        assert {"cls_loss", "accuracy", "accuracy_hard", "precision", "recall", "box_error"} <= set(
            row["val"]
        )
        assert 0 <= row["train"]["waiting"] < 1 and row["train"]["samples_per_second"] > 0
    assert len([line for line in printed.splitlines() if line.startswith("epoch")]) == 3
    assert (out / "curves.png").read_bytes()[:4] == b"\x89PNG"
    saved = json.loads((out / "config.json").read_text())
    assert saved["config"]["train"]["batch"] == 100 and saved["net"] == "Pnet20_v1"
    manifest = json.loads((out / "Pnet20_v1-0003.json").read_text())
    assert manifest["input"] == {
        "size": 20,
        "order": "BGR",
        "layout": "NCHW",
        "mean": 127.5,
        "scale": 1 / 128,
    }
    assert (manifest["cell"], manifest["stride"], manifest["epoch"]) == (20, 4, 3)
    assert manifest["figures"] == rows[-1]
    assert manifest["data"][0]["counts"] == Store(store20).facts["counts"]


def test_any_mxnet_user_can_load_it(finished):
    """MXNet's own loader and Module, and the graph has MXNet's own operators alone."""
    out, _ = finished
    symbol, arguments, auxiliary = mx.model.load_checkpoint(str(out / "Pnet20_v1"), 3)
    assert "Custom" not in symbol.tojson()
    module = mx.mod.Module(symbol, label_names=None)
    module.bind([("data", (2, 3, 20, 20))], for_training=False)
    module.set_params(arguments, auxiliary)
    module.forward(mx.io.DataBatch([mx.nd.ones((2, 3, 20, 20))]))
    prob, offsets = (o.asnumpy() for o in module.get_outputs())
    assert prob.shape == (2, 2, 1, 1) and offsets.shape == (2, 4, 1, 1)
    np.testing.assert_allclose(prob.sum(axis=1), 1, atol=1e-5)


def test_validation_figures_are_those_of_the_saved_net(finished, store20):
    """The log's last row, computed anew through the test graph."""
    out, _ = finished
    made = Store(store20)
    settings = override(config, QUICK)
    _, held_out = split_by_picture(Samples([made]), 0.25, settings.train.seed)
    symbol, arguments, auxiliary = mx.model.load_checkpoint(str(out / "Pnet20_v1"), 3)
    data = (made.crops[held_out].transpose(0, 3, 1, 2).astype(np.float32) - 127.5) / 128
    net = symbol.bind(mx.cpu(), {"data": mx.nd.array(data), **arguments}, aux_states=auxiliary)
    prob, offsets = (o.asnumpy().reshape(len(data), -1) for o in net.forward(is_train=False))
    labels, targets = made.labels[held_out], made.offsets[held_out]
    known = labels >= 0
    losses = -np.log(prob[known, labels[known]])
    right = (prob[known, 1] >= 0.5) == (labels[known] == 1)
    hardest = np.argsort(-losses)[: int(0.7 * len(losses))]
    logged = json.loads((out / "log.jsonl").read_text().splitlines()[-1])["val"]
    assert logged["cls_loss"] == pytest.approx(losses.mean(), rel=1e-4)
    assert logged["accuracy"] == pytest.approx(right.mean(), abs=1e-9)
    assert logged["accuracy_hard"] == pytest.approx(right[hardest].mean(), abs=2e-3)
    box = np.abs(labels) == 1
    assert logged["box_error"] == pytest.approx(np.abs(offsets - targets)[box].mean(), rel=1e-4)


def kill_after_line(arguments, start, sent):
    """Run a command, send a signal at its first line that begins with `start`; its exit code
    and standard error."""
    process = subprocess.Popen(
        arguments, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    for line in process.stdout:
        if line.startswith(start):
            time.sleep(0.05)  # into the next epoch, which takes some tenths of a second
            os.kill(process.pid, sent)
            break
    _, errors = process.communicate()
    return process.returncode, errors


@pytest.mark.parametrize(
    "sent, epochs, code",
    [(signal.SIGKILL, ("epoch 1/", "epoch 2/"), -9), (signal.SIGINT, ("epoch 1/",), 130)],
)
def test_stopped_and_resumed_ends_the_same(finished, store20, tmp_path, sent, epochs, code):
    """Once before and once after mining sets in, where the trainer is rebuilt."""
    out = tmp_path / "run"
    for start in epochs:
        returned, errors = kill_after_line(command(store20, out), start, sent)
        assert returned == code, errors[-3000:]
        if sent == signal.SIGINT:
            assert errors.strip().splitlines()[-1].startswith("stopped: ")
    result = train(store20, out)
    assert result.returncode == 0 and "going on after epoch" in result.stdout
    expected, found = parameters(finished[0], 3), parameters(out, 3)
    assert expected.keys() == found.keys()
    for name in expected:
        np.testing.assert_array_equal(found[name], expected[name], err_msg=name)
    rows = [json.loads(line)["epoch"] for line in (out / "log.jsonl").read_text().splitlines()]
    assert rows == [1, 2, 3]


def test_half_written_epoch_is_made_again(finished, store20, tmp_path):
    """A kill between an epoch's files: the epoch does not count."""
    out = tmp_path / "run"
    shutil.copytree(finished[0], out)
    (out / "Pnet20_v1-0003.json").unlink()
    shutil.copy(out / "Pnet20_v1-0003.states", out / "Pnet20_v1-0002.states")
    found = run.Run(out, "Pnet20_v1", json.loads((out / "config.json").read_text()))
    assert found.epoch == 2 and [row["epoch"] for row in found.log] == [1, 2]


def test_finished_run_is_left_alone(finished, store20):
    out, _ = finished
    before = {p.name: p.stat().st_mtime_ns for p in out.glob("*.params")}
    assert train(store20, out).returncode == 0
    assert {p.name: p.stat().st_mtime_ns for p in out.glob("*.params")} == before


@pytest.mark.parametrize(
    "settings, says",
    [
        (["train.lr=0.2"], "config.train.lr was 0.02, is 0.2"),
        (["train.seed=4"], "train.seed was 0, is 4"),
    ],
)
def test_other_settings_are_refused(finished, store20, settings, says):
    result = train(store20, finished[0], *settings)
    assert result.returncode == 2 and says in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1


def test_folder_of_another_net_is_refused(finished, store20):
    before = {p.name: p.read_bytes() for p in finished[0].iterdir() if p.is_file()}
    with pytest.raises(Problem, match="net was Pnet20_v1, is Pnet20_v0"):
        trainer.train("Pnet20_v0", {}, [Store(store20)], finished[0], override(config, QUICK))
    assert {p.name: p.read_bytes() for p in finished[0].iterdir() if p.is_file()} == before


def test_run_that_never_began_may_be_started_otherwise(tmp_path):
    run.Run(tmp_path / "run", "Pnet20_v1", {"lr": 1})
    assert run.Run(tmp_path / "run", "Pnet20_v1", {"lr": 2}).epoch == 0


def test_folder_of_something_else_is_refused(store20, tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(Problem, match="is not empty and holds no run"):
        trainer.train("Pnet20_v1", {}, [Store(store20)], tmp_path)


def test_loss_that_is_not_finite_stops_the_run(store20, tmp_path):
    result = train(
        store20, tmp_path / "run", "train.lr=1000", "train.warmup=0", "train.optimizer=sgd"
    )
    assert result.returncode == 2
    line = result.stderr.strip().splitlines()[-1]
    assert "loss is" in line and "learning rate is 1000.0" in line
    assert not list((tmp_path / "run").glob("*.params"))


def test_wrong_store_and_net(store20, tmp_path):
    with pytest.raises(Problem, match="Rnet_v1 takes 24: make a store with --size 24"):
        trainer.train("Rnet_v1", {}, [Store(store20)], tmp_path / "a")
    with pytest.raises(Problem, match="holds no landmarks: make crops with"):
        trainer.train("Lnet_v1", {}, [Store(store20)], tmp_path / "a")
    assert not (tmp_path / "a").exists()


def test_gpus_that_are_not_there(store20, tmp_path):
    with pytest.raises(Problem, match=r"train.gpus is \[97\], and MXNet sees"):
        trainer.train(
            "Pnet20_v1", {}, [Store(store20)], tmp_path / "run", override(config, ["train.gpus=97"])
        )
    assert not (tmp_path / "run").exists()


def test_schedules():
    settings = override(
        config,
        [
            "train.lr=0.5",
            "train.warmup=10",
            "train.epochs=4",
            "train.schedule=step",
            "train.lr_steps=2,3",
        ],
    ).train
    step = trainer.Schedule(settings, steps=100)
    assert [step(n) for n in (1, 5, 10, 200)] == pytest.approx([0.05, 0.25, 0.5, 0.5])
    assert [step(n) for n in (201, 300, 301, 400)] == pytest.approx([0.05, 0.05, 0.005, 0.005])
    cosine = trainer.Schedule(
        override({"train": settings}, ["train.schedule=cosine"])["train"], steps=100
    )
    assert cosine(201) == pytest.approx(0.25)
    assert cosine(400) == pytest.approx(0.25 * (1 + math.cos(math.pi * 399 / 400)))
    with pytest.raises(Problem, match="train.schedule"):
        trainer.Schedule(override({"train": settings}, ["train.schedule=linear"])["train"], 1)


def momentum(state, grad, weight, number):
    """v = m v - lr g, w += v, m 0.8."""
    state["v"] = 0.8 * state.get("v", 0.0) - 0.1 * grad
    return weight + state["v"]


def adam(state, grad, weight, number):
    """Kingma and Ba 2015, section 2, with the bias correction put into the rate."""
    state["m"] = 0.8 * state.get("m", 0.0) + 0.2 * grad
    state["v"] = 0.999 * state.get("v", 0.0) + 0.001 * grad**2
    rate = 0.1 * np.sqrt(1 - 0.999**number) / (1 - 0.8**number)
    return weight - rate * state["m"] / (np.sqrt(state["v"]) + 1e-8)


@pytest.mark.parametrize("optimizer, rule", [("sgd", momentum), ("adam", adam)])
def test_two_updates_follow_the_rule_with_decay_on_weights_alone(optimizer, rule):
    settings = override(
        config,
        [
            "train.batch=20",
            "train.lr=0.1",
            "train.warmup=0",
            "train.schedule=step",
            "train.weight_decay=0.1",
            "train.momentum=0.8",
            f"train.optimizer={optimizer}",
        ],
    )
    start = checkpoint.initial("Pnet20_v0", {}, 0, 0.25)
    made = trainer.Trainer(start, settings.train, settings.loss, steps=1000)
    rng = np.random.default_rng(0)
    batch = {
        "data": rng.uniform(-1, 1, (20, 3, 20, 20)).astype(np.float32),
        "label": rng.integers(-1, 2, 20).astype(np.float32),
        "bbox_target": rng.normal(0, 0.1, (20, 4)).astype(np.float32),
    }
    weights = {k: v.astype(float) for k, v in start.arguments.items()}
    states = {k: {} for k in weights}
    group = made.module._exec_group
    for number in (1, 2):
        made.step(batch)
        grads = dict(zip(group.param_names, (g[0].asnumpy() for g in group.grad_arrays)))
        for name in weights:
            decay = 0.1 if name.endswith(("_weight", "_gamma")) else 0
            weights[name] = rule(
                states[name], grads[name] + decay * weights[name], weights[name], number
            )
    for name, value in made.checkpoint().arguments.items():
        np.testing.assert_allclose(value, weights[name], rtol=1e-4, atol=1e-5)


def test_it_learns(store20, tmp_path):
    """From 78 % background to telling faces, on 24 pictures and in seconds; mining, which wants
    more steps than these, is left out."""
    params = trainer.train(
        "Pnet20_v1",
        {},
        [Store(store20)],
        tmp_path / "run",
        override(
            config,
            [
                *QUICK,
                "train.batch=50",
                "train.epochs=20",
                "train.lr=0.1",
                "train.warmup=50",
                "train.mine_from=99",
            ],
        ),
    )
    val = json.loads(params.with_suffix(".json").read_text())["figures"]["val"]
    assert val["accuracy"] > 0.86 and val["recall"] > 0.6


def test_it_begins_from_given_parameters(finished, store20, tmp_path):
    """With steps too small to see, an epoch leaves what it began from; a run remembers that."""
    still = override(config, [*QUICK, "train.epochs=1", "train.lr=1e-12"])
    params = trainer.train("Pnet20_v1", {}, [Store(store20)], tmp_path / "run", still, finished[0])
    before, after = (checkpoint.load(path).arguments for path in (finished[0], params))
    assert all(np.allclose(before[name], after[name], atol=1e-7) for name in before)
    held = [checkpoint.load(path).facts()["held_out"] for path in (finished[0], params)]
    assert (
        held[0]
        == held[1]
        == [Samples([Store(store20)]).held_out_rule(still.train.val_fraction, still.train.seed)]
    )
    seen = override(still, ["train.val_fraction=0.5"])
    params = trainer.train("Pnet20_v1", {}, [Store(store20)], tmp_path / "more", seen, finished[0])
    assert checkpoint.load(params).facts()["held_out"] == held[0]
    with pytest.raises(Problem, match="start was .*, is None"):
        trainer.train("Pnet20_v1", {}, [Store(store20)], tmp_path / "run", still)
    with pytest.raises(Problem, match="Pnet20_v1.* does not fit Pnet20_v0"):
        trainer.train("Pnet20_v0", {}, [Store(store20)], tmp_path / "other", still, finished[0])
    assert not (tmp_path / "other").exists()


def test_what_mxnet_can_not_do_is_one_line():
    """Its errors come with a stack of C++; the place in its sources is left out too."""
    start = checkpoint.initial("Pnet20_v0", {}, 0, 0.25)
    settings = override(config, ["train.batch=4"])
    made = trainer.Trainer(start, settings.train, settings.loss, steps=10)
    batch = {
        "data": np.zeros((4, 3, 20, 20), np.float32),
        "label": np.zeros(4, np.float32),
        "bbox_target": np.zeros((4, 5), np.float32),
    }
    for run_it in (made.step, made.predict):
        with pytest.raises(Problem, match="^Pnet20_v0, batches of 4: MXNet failed: ") as caught:
            run_it(batch)
        text = str(caught.value)
        assert "\n" not in text and ".cc:" not in text and ".h:" not in text
    start.arguments["conv1_weight"] = start.arguments["conv1_weight"][:3]
    with pytest.raises(Problem, match="batches of 4: MXNet failed: "):
        trainer.Trainer(start, settings.train, settings.loss, steps=10)


def flip(data):
    return data[:200] + bytes([data[200] ^ 1]) + data[201:]


@pytest.mark.parametrize(
    "damage, says",
    [
        (lambda data: b"", "is damaged .its content is not what"),
        (lambda data: b"text", "is damaged .its content is not what"),
        (flip, "is damaged .its content is not what"),
        (lambda data: pickle.dumps({0: data}), "is a pickle, as former versions wrote it: .*"),
    ],
)
def test_damaged_states(finished, store20, tmp_path, damage, says):
    """Of the optimiser: what can be done then is said."""
    out = tmp_path / "run"
    shutil.copytree(finished[0], out)
    (out / "Pnet20_v1-0003.json").unlink()
    data = (out / "Pnet20_v1-0003.states").read_bytes()
    (out / "Pnet20_v1-0002.states").write_bytes(damage(data))
    with pytest.raises(Problem, match=f"0002.states {says} .*--start .*Pnet20_v1-0002.params"):
        trainer.train("Pnet20_v1", {}, [Store(store20)], out, override(config, QUICK))


class Command:
    """Pickled, it makes a file when it is read."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


def test_states_run_no_code(finished, store20, tmp_path):
    """Also where the manifest was written for them."""
    out = tmp_path / "run"
    shutil.copytree(finished[0], out)
    (out / "Pnet20_v1-0003.json").unlink()
    states, manifest = out / "Pnet20_v1-0002.states", out / "Pnet20_v1-0002.json"
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        states.write_bytes(pickle.dumps(Command(tmp_path / "made"), protocol))
        facts = json.loads(manifest.read_text())
        facts["checksums"][states.name] = sha256(states)
        manifest.write_text(json.dumps(facts))
        with pytest.raises(Problem, match="0002.states is (damaged|a pickle)"):
            trainer.train("Pnet20_v1", {}, [Store(store20)], out, override(config, QUICK))
    assert not (tmp_path / "made").exists()


def batch_of(seed):
    rng = np.random.default_rng(seed)
    return {
        "data": rng.uniform(-1, 1, (20, 3, 20, 20)).astype(np.float32),
        "label": rng.integers(-1, 2, 20).astype(np.float32),
        "bbox_target": rng.normal(0, 0.1, (20, 4)).astype(np.float32),
    }


@pytest.mark.parametrize("devices", [1, 2])
@pytest.mark.parametrize(
    "settings",
    [
        ["train.optimizer=sgd"],
        ["train.optimizer=adam"],
        ["train.optimizer=sgd", "train.momentum=0"],
    ],
)
def test_saved_states_go_on_to_the_same_bits(tmp_path, monkeypatch, settings, devices):
    """Of every optimiser; on several devices MXNet keeps them elsewhere."""
    monkeypatch.setattr(trainer, "devices", lambda gpus: [mx.cpu(i) for i in range(devices)])
    settings = override(config, ["train.batch=20", *settings])
    start = checkpoint.initial("Pnet20_v0", {}, 0, 0.25)
    straight = trainer.Trainer(start, settings.train, settings.loss, 10)
    for number in range(4):
        if number == 2:
            straight.save_states(2, tmp_path / "a.states")
            half = straight.checkpoint()
        straight.step(batch_of(number))
    half.manifest["checksums"] = {"a.states": sha256(tmp_path / "a.states")}
    resumed = trainer.Trainer(half, settings.train, settings.loss, 10, 2, tmp_path / "a.states")
    for number in (2, 3):
        resumed.step(batch_of(number))
    wanted, found = straight.checkpoint(), resumed.checkpoint()
    for name, value in wanted.arguments.items():
        np.testing.assert_array_equal(found.arguments[name], value, err_msg=name)
    with pytest.raises(Problem, match="a.states is damaged .it was saved after 2 steps, not 3"):
        trainer.Trainer(half, settings.train, settings.loss, 10, 3, tmp_path / "a.states")
    other = checkpoint.initial("Pnet20_v1", {}, 0, 0.25)
    other.manifest = half.manifest
    with pytest.raises(Problem, match="a.states is damaged .it is not of this net and optimiser"):
        trainer.Trainer(
            other,
            override({"train": settings.train}, ["train.optimizer=adam"])["train"],
            settings.loss,
            10,
            2,
            tmp_path / "a.states",
        )


@pytest.mark.parametrize(
    "name, content, says",
    [
        (
            "log.jsonl",
            b'{"epoch": 1, "train": {}, "val": {}}\n{"epo',
            "log.jsonl, line 2 is damaged",
        ),
        ("log.jsonl", b"\xff\xfe", "log.jsonl, line 1 is damaged"),
        ("log.jsonl", b"[1]\n", "log.jsonl, line 1 is damaged"),
        ("log.jsonl", b"", "log.jsonl has 0 epochs, and 3 are finished"),
        ("config.json", b"[]", "config.json is no configuration of a run"),
    ],
)
def test_damaged_files_of_a_run_are_one_line(finished, tmp_path, name, content, says):
    out = tmp_path / "run"
    shutil.copytree(finished[0], out)
    identity = json.loads((out / "config.json").read_text())
    (out / name).write_bytes(content)
    with pytest.raises(Problem, match=says):
        run.Run(out, "Pnet20_v1", identity)
    assert (out / name).read_bytes() == content


def test_another_number_of_threads_is_said(store20, tmp_path, monkeypatch, capsys):
    """Sums come out otherwise with it; a run that goes on as it was says nothing."""
    out, settings = tmp_path / "run", override(config, [*QUICK, "train.epochs=2"])
    epoch_of = trainer._train_epoch

    def stopped(made, batches, epoch, *rest):
        if epoch == 2:
            raise KeyboardInterrupt
        return epoch_of(made, batches, epoch, *rest)

    def printed():
        with pytest.raises(KeyboardInterrupt):
            trainer.train("Pnet20_v1", {}, [Store(store20)], out, settings)
        return "".join(capsys.readouterr())

    monkeypatch.setattr(trainer, "_train_epoch", stopped)
    assert "it ran with" not in printed()
    manifest = out / "Pnet20_v1-0001.json"
    facts = json.loads(manifest.read_text())
    assert facts["threads"] == threads() >= 1
    again = printed()
    assert "going on after epoch 1" in again and "it ran with" not in again
    manifest.write_text(json.dumps({**facts, "threads": threads() + 1}))
    line = f"it ran with {threads() + 1} threads and goes on with {threads()}: "
    assert printed().count(line) == 1
    manifest.write_text(json.dumps({key: facts[key] for key in facts if key != "threads"}))
    assert "it ran with" not in printed()


class Vanishes:
    """A training whose folder is removed, or gives way to another, after its first step."""

    def __init__(self, monkeypatch, folder, act):
        self.steps, step = 0, trainer.Trainer.step

        def stepped(made, batch):
            self.steps += 1
            if self.steps == 1:
                act(folder)
            return step(made, batch)

        monkeypatch.setattr(trainer.Trainer, "step", stepped)


def _rename(folder):
    folder.rename(folder.with_name("aside"))


def _replace(folder):
    _rename(folder)
    folder.mkdir()


@pytest.mark.parametrize("act", [shutil.rmtree, _rename, _replace])
def test_a_folder_that_vanishes_is_noticed_at_the_next_step(store20, tmp_path, monkeypatch, act):
    out = tmp_path / "run"
    watched = Vanishes(monkeypatch, out, act)
    with pytest.raises(Problem, match="run has gone while this run was training into it"):
        trainer.train("Pnet20_v1", {}, [Store(store20)], out, override(config, QUICK))
    assert watched.steps == 1 and not (out / "log.jsonl").exists()


def test_a_folder_that_vanishes_is_noticed_in_validation_too(store20, tmp_path, monkeypatch):
    out, validate = tmp_path / "run", tasks.DetectionTask.validate

    def gone(self, made, report):
        shutil.rmtree(out)
        return validate(self, made, report)

    monkeypatch.setattr(tasks.DetectionTask, "validate", gone)
    with pytest.raises(Problem, match="run has gone"):
        trainer.train("Pnet20_v1", {}, [Store(store20)], out, override(config, QUICK))
    assert not out.exists()


def test_a_stop_that_python_dropped_ends_training_at_the_next_step(store20, tmp_path, monkeypatch):
    monkeypatch.setattr(console, "_stop", console.Terminated)
    with pytest.raises(console.Terminated):
        trainer.train("Pnet20_v1", {}, [Store(store20)], tmp_path / "run", override(config, QUICK))


def test_two_trainings_into_one_folder(store20, tmp_path):
    """The second is told who trains there, and leaves no trace."""
    out = tmp_path / "run"
    with subprocess.Popen(command(store20, out), cwd=ROOT, stdout=subprocess.PIPE) as first:
        first.stdout.readline()
        first.send_signal(signal.SIGSTOP)
        before = {path.name for path in out.iterdir()}
        says = f"run is being written by process {first.pid} on .*core.train --net Pnet20_v1"
        with pytest.raises(Problem, match=says):
            trainer.train("Pnet20_v1", {}, [Store(store20)], out, override(config, QUICK))
        assert {path.name for path in out.iterdir()} == before
        first.kill()

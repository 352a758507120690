"""Workers that train together: what comes out against one machine's, and how they end."""

import contextlib
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from config import config
from core.formats import checkpoint
from core.train import launch, lifeline
from facelet.console import Problem
from prepare_data import samples, wider

ROOT = Path(__file__).resolve().parents[3]
QUICK = [
    "train.batch=61",  # which two workers can't halve
    "train.epochs=3",
    "train.warmup=5",
    "train.val_fraction=0.25",
    "train.lr=0.002",
]
ONE_THREAD = {**os.environ, "OMP_NUM_THREADS": "1"}


@pytest.fixture(scope="module")
def store12(drawn_set, tmp_path_factory):
    """Samples for a net without batch norms."""
    out = tmp_path_factory.mktemp("stores") / "12"
    samples.make_store(wider.open_set(drawn_set, "train"), 12, out, config.samples, workers=1)
    return out


def command(store, out, *more, net="Pnet12"):
    words = ["--net", net, "--samples", store, "--out", out, *QUICK, *more]
    return [sys.executable, "-m", "core.train", *map(str, words)]


def run(*words, **options):
    return subprocess.run(
        command(*words, **options), cwd=ROOT, capture_output=True, text=True, env=ONE_THREAD
    )


def learnt(folder, epoch, net="Pnet12"):
    """Parameters after an epoch, and the optimiser's states."""
    arguments, auxiliary = checkpoint.read_params(folder / f"{net}-{epoch:04d}.params")
    states = {}
    if (folder / f"{net}-{epoch:04d}.states").exists():
        states = checkpoint.params_file.read(folder / f"{net}-{epoch:04d}.states")
    return {**arguments, **auxiliary, **states}


def figures(folder):
    rows = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    speed = ("samples_per_second", "waiting", "communicating")
    return [{k: v for k, v in row["train"].items() if k not in speed} for row in rows]


@pytest.fixture(scope="module")
def together(store12, tmp_path_factory):
    """A run of two workers that went through, and what it printed."""
    out = tmp_path_factory.mktemp("runs") / "two"
    result = run(store12, out, "--workers", 2)
    assert result.returncode == 0, result.stderr
    return out, result.stdout


def test_two_workers_learn_what_one_machine_does(together, store12, tmp_path):
    """With Adam, and with the hardest samples mined out of the whole batch."""
    out, printed = together
    alone = run(store12, tmp_path / "one")
    assert alone.returncode == 0, alone.stderr
    ours, theirs = learnt(out, 3), learnt(tmp_path / "one", 3)
    begun = checkpoint.initial("Pnet12", {}, config.train.seed, config.train.prelu_slope)
    assert ours.keys() == theirs.keys()
    moved = max(np.abs(theirs[name] - value).max() for name, value in begun.arguments.items())
    apart = max(np.abs(theirs[name] - ours[name]).max() for name in ours)
    assert moved > 0.05 and apart < 2e-4
    for one, other in zip(figures(out), figures(tmp_path / "one")):
        assert one == pytest.approx(other, rel=1e-3, abs=2e-3)
    # Said once.
    assert len([line for line in printed.splitlines() if line.startswith("epoch")]) == 3
    manifest = json.loads((out / "Pnet12-0003.json").read_text())
    assert manifest["workers"] == {"count": 2, "compression": "none"}


def children(pid):
    """Of a launcher: pids in the order in which it starts them, the last a worker's."""
    found = []
    with contextlib.suppress(OSError):
        for task in Path(f"/proc/{pid}/task").iterdir():
            found += map(int, (task / "children").read_text().split())
    return sorted(found)


def is_there(pid):
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    return False


def test_a_run_that_lost_a_worker_goes_on(together, store12, tmp_path):
    """Killed in the second epoch all end, and the same command learns what it would have."""
    out, words = tmp_path / "run", ("--workers", 2)
    process = subprocess.Popen(
        command(store12, out, *words),
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=ONE_THREAD,
    )
    for line in process.stdout:
        if line.startswith("epoch 1/"):
            break
    nodes = children(process.pid)
    assert len(nodes) == 4
    os.kill(nodes[-1], signal.SIGKILL)
    _, errors = process.communicate(timeout=30)
    assert not any(map(is_there, nodes)) and process.returncode == 2
    assert errors.strip().splitlines()[-1].startswith("error: worker 1 died (SIGKILL): all have")
    again = run(store12, out, *words)
    assert again.returncode == 0 and "going on after epoch" in again.stdout, again.stderr
    ours, theirs = learnt(out, 3), learnt(together[0], 3)
    assert all(np.array_equal(ours[name], theirs[name]) for name in theirs)


def test_a_process_ends_with_its_launcher():
    node = subprocess.Popen(
        launch.COMMAND, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    # It waits for workers that never come.
    environment = {
        "DMLC_ROLE": "scheduler",
        "DMLC_PS_ROOT_URI": "127.0.0.1",
        "DMLC_PS_ROOT_PORT": "0",
        "DMLC_NUM_WORKER": "1",
        "DMLC_NUM_SERVER": "1",
    }
    given = {"role": "scheduler", "rank": 0, "argv": [], "environment": environment}
    node.stdin.write(json.dumps(given) + "\n")
    node.stdin.flush()
    assert node.stdout.readline().startswith(lifeline.MARK) and node.poll() is None
    node.stdin.close()
    assert node.wait(30) == 1


# ---- the launcher, with processes that only speak ------------------------------------------

SPEAKS = """
import json, sys, time
given = json.loads(sys.stdin.readline())
def say(**words):
    print("\\x01" + json.dumps(words), flush=True)
who = f"{given['role']} {given['rank']}"
facts = {"code": "1", "settings": "2"}
if given["role"] != "worker":
    while True:
        say(step=None)
        time.sleep(0.1)
"""
ENDS = {
    "well": "say(facts=facts); sys.stdin.readline(); print('learnt', who); say(done=True)",
    "silent": "say(facts=facts); time.sleep(60 if who == 'worker 1' else 0)\n"
    "while True: say(step=None); time.sleep(0.1)",
    "other code": "facts['code'] = who; say(facts=facts)\n"
    "while True: say(step=None); time.sleep(0.1)",
    "standing": "say(facts=facts)\nwhile True: say(step=7); time.sleep(0.1)",
    "a problem": "say(problem='the disk is full') if who == 'worker 1' else time.sleep(60)",
    "an end": "sys.exit(3) if who == 'worker 1' else time.sleep(60)",
}


@pytest.mark.parametrize(
    "how, words",
    [
        ("well", None),
        ("silent", "worker 1 has given no sign of life for 2 s"),
        ("other code", "worker 1 has not the same as worker 0: code; bring all hosts"),
        ("standing", "no worker has made a step for 2 s"),
        ("a problem", "worker 1: the disk is full"),
        ("an end", "worker 1 ended with status 3: all have ended; the same command goes on"),
    ],
)
def test_the_launcher_ends_all(how, words, monkeypatch, capfd):
    monkeypatch.setattr(launch, "COMMAND", (sys.executable, "-c", SPEAKS + ENDS[how]))
    monkeypatch.setattr(launch, "SILENT", 2)
    monkeypatch.setattr(launch, "STALLED", 2)
    started, real = [], launch.Node
    monkeypatch.setattr(launch, "Node", lambda *how: started.append(real(*how)) or started[-1])
    expected = pytest.raises(Problem, match=words) if words else contextlib.nullcontext()
    with expected:
        launch.launch([], "RUN", 2, 1)
    assert [node.name for node in started] == ["scheduler", "server 0", "worker 0", "worker 1"]
    assert all(node.process.poll() is not None for node in started)
    if how == "well":
        assert sorted(capfd.readouterr().out.splitlines()) == ["learnt worker 0", "learnt worker 1"]


def test_hosts_are_reached_by_ssh(monkeypatch, tmp_path, capfd):
    """What ssh is asked to run is run by a shell, as it would be there."""
    ssh = tmp_path / "ssh"
    ssh.write_text(
        "#!/bin/sh\nhost=\nfor last; do before=$host; host=$last; done\n"
        'echo "$before" >> "$0.log"\nexec sh -c "$last"\n'
    )
    ssh.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setattr(launch, "COMMAND", (sys.executable, "-c", SPEAKS + ENDS["well"]))
    hosts = tmp_path / "hosts"
    hosts.write_text("127.0.0.1  # here\n\nsomebody@localhost\n")
    launch.launch([], "RUN", 3, 1, launch.read_hosts(hosts))
    assert len(capfd.readouterr().out.splitlines()) == 3
    asked = Path(f"{ssh}.log").read_text().split()
    assert sorted(asked) == ["127.0.0.1"] * 4 + ["somebody@localhost"]


@pytest.mark.parametrize("text", ["", "# none\n", "-oProxyCommand=touch\n", "a b\n"])
def test_a_list_of_hosts_that_is_none(text, tmp_path):
    (tmp_path / "hosts").write_text(text)
    with pytest.raises(Problem, match="host"):
        launch.read_hosts(tmp_path / "hosts")

"""The engine of the pipeline on steps that write small files.

Run as a program it is the child of the test that kills: `test_steps.py FOLDER BEFORE RATE`.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from core.pipeline import proofs, steps
from core.pipeline.steps import ANEW, DONE, GO_ON, MAYBE, TO_DO, Plan, Step
from facelet.console import Problem, program
from facelet.files import checksums, sha256, whole_folder, write_json, write_text

ROOT = Path(__file__).resolve().parents[3]


class Chain:
    """Pictures -> samples -> net -> hard -> net again: results are functions of what is read."""

    def __init__(self, folder, rate=0.1, size=20, stop_after=None, floor=0.0):
        self.folder, self.ran, self.stop_after = Path(folder), [], stop_after
        self.given = self.folder / "pictures.txt"
        out = self.folder / "out"

        def store(name, reads, settings):
            path = out / name

            def run():
                self.ran.append(name)
                with whole_folder(path) as part:
                    text = "".join(
                        (out / read / "x").read_text()
                        if read != "pictures"
                        else self.given.read_text()
                        for read in reads
                    )
                    write_text(part / "x", f"{name} {settings} of ({text})")

            return Step(name, f"makes {name}", path, proofs.file("x"), run, reads, settings)

        def net(name, reads, judge=lambda: None, after=()):
            path = out / name

            def run():  # three epochs, each kept: it goes on after the last
                self.ran.append(name)
                path.mkdir(exist_ok=True, parents=True)
                text = "".join((out / read / "x").read_text() for read in reads)
                for epoch in range(1, 4):
                    if (path / f"{epoch}.params").exists():
                        continue
                    if self.stop_after == (name, epoch - 1):
                        raise KeyboardInterrupt
                    before = (path / f"{epoch - 1}.params").read_text() if epoch > 1 else text
                    write_text(path / f"{epoch}.params", f"{before} {rate}")
                write_text(path / "x", (path / "3.params").read_text())

            return Step(
                name,
                f"trains {name}",
                path,
                proofs.file("x"),
                run,
                reads,
                {"train": {"lr": rate}},
                keep=True,
                judge=judge,
                after=after,
            )

        def judge():
            if len((out / "measured" / "x").read_text()) < floor:
                raise Problem("too little")

        measured = store("measured", ("net",), {"iou": 0.5})
        measured = Step(
            **{**measured.__dict__, "judge": judge, "also": ("net",), "script": "measure.sh"}
        )
        hard = store("hard", ("pictures", "net"), {})
        hard = Step(**{**hard.__dict__, "after": ("measured",)})
        self.plan = Plan(
            [
                Step("pictures", "given", self.given, proofs.file("")),
                store("samples", ("pictures",), {"size": size}),
                net("net", ("samples",)),
                measured,
                hard,
                net("net_hard", ("samples", "hard")),
            ],
            out,
        )

    def run(self, *names):
        every = [step for step in self.plan.steps.values() if step.run]
        self.plan.run([step for name in names for step in self.plan.named(name)] or every)
        return self.ran

    def kinds(self):
        return {
            step.name: state.kind
            for step, state in self.plan.states(list(self.plan.steps.values()))
        }

    def whys(self):
        return {
            step.name: state.why for step, state in self.plan.states(list(self.plan.steps.values()))
        }


def pictures(folder):
    folder.mkdir()
    (folder / "pictures.txt").write_text("a b c")
    return folder


@pytest.fixture
def folder(tmp_path):
    return pictures(tmp_path / "chain")


def tree(folder):
    """Content of all files but the records', in which times stand."""
    return {
        str(path.relative_to(folder)): path.read_text()
        for path in folder.rglob("*")
        if path.is_file() and path.parent.name != "steps"
    }


ALL = ["samples", "net", "measured", "hard", "net_hard"]


def test_each_runs_once_and_then_none(folder, capsys):
    assert Chain(folder).kinds() == {"pictures": DONE, **dict.fromkeys(ALL, TO_DO)}
    assert Chain(folder).run() == ALL
    before = tree(folder)
    assert Chain(folder).run() == []
    assert tree(folder) == before
    assert capsys.readouterr().out.count("there already, nothing it depends on changed") == 5


def test_only_what_is_needed(folder):
    assert Chain(folder).run("net") == ["samples", "net", "measured"]  # it is part of net
    assert Chain(folder).run("hard") == ["hard"]
    assert Chain(folder).run("samples") == []


def test_a_changed_setting_makes_anew_what_depends_on_it(folder, capsys):
    Chain(folder).run()
    old = (folder / "out" / "net" / "3.params").read_text()
    chain = Chain(folder, rate=0.3)
    assert chain.kinds() == {
        "pictures": DONE,
        "samples": DONE,
        "net": ANEW,
        "measured": MAYBE,
        "hard": MAYBE,
        "net_hard": ANEW,
    }
    assert chain.whys()["net"] == "train.lr was 0.1, is 0.3"
    assert chain.whys()["measured"] == "made anew if net comes out differently"
    capsys.readouterr()
    assert chain.run() == ["net", "measured", "hard", "net_hard"]
    printed = capsys.readouterr().out
    assert "made anew: train.lr was 0.1, is 0.3" in printed
    assert f"{folder / 'out' / 'net'} is set aside as {folder / 'out' / 'net-1'}" in printed
    assert "made anew: net is another one" in printed
    assert (folder / "out" / "net-1" / "3.params").read_text() == old
    Chain(folder, rate=0.5).run("net")
    assert {p.name for p in (folder / "out").iterdir()} == {
        "samples",
        "net",
        "net-1",
        "net-2",
        "measured",
        "hard",
        "net_hard",
        "net_hard-1",
        "steps",
    }


def test_changed_pictures_change_all_and_changed_back_need_new_ones(folder):
    first = Chain(folder)
    first.run()
    wanted = (folder / "out" / "net_hard" / "x").read_text()
    (folder / "pictures.txt").write_text("a b")
    chain = Chain(folder)
    assert chain.whys()["samples"] == "pictures is another one"
    assert chain.run() == ALL
    (folder / "pictures.txt").write_text("a b c")
    Chain(folder).run()
    assert (folder / "out" / "net_hard" / "x").read_text() == wanted


def test_a_result_that_comes_out_the_same_changes_nothing_behind_it(folder):
    Chain(folder).run()
    os.remove(folder / "out" / "samples" / "x")
    os.rmdir(folder / "out" / "samples")
    chain = Chain(folder)
    assert chain.kinds() == {
        "pictures": DONE,
        "samples": GO_ON,
        "net": MAYBE,
        "measured": MAYBE,
        "hard": MAYBE,
        "net_hard": MAYBE,
    }
    assert chain.whys()["samples"].endswith("samples is gone")
    assert chain.run() == ["samples"]


def test_stopped_in_the_middle_it_goes_on(folder, capsys):
    with pytest.raises(KeyboardInterrupt):
        Chain(folder, stop_after=("net", 2)).run()
    made = (folder / "out" / "net" / "2.params").stat().st_mtime_ns
    chain = Chain(folder)
    assert chain.kinds()["net"] == GO_ON
    spent = json.loads((folder / "out" / "steps" / "net.json").read_text())["seconds"]
    assert chain.run() == ["net", "measured", "hard", "net_hard"]
    assert (folder / "out" / "net" / "2.params").stat().st_mtime_ns == made
    assert chain.plan.seconds()["net"] > spent > 0


def test_stopped_and_asked_for_otherwise_it_begins_anew(folder):
    with pytest.raises(KeyboardInterrupt):
        Chain(folder, stop_after=("net", 2)).run()
    (folder / "out" / ".net.journal").mkdir()
    Chain(folder, rate=0.3).run()
    fresh = pictures(folder / "fresh")
    Chain(fresh, rate=0.3).run()
    aside = folder / "out" / "net-1"
    assert sorted(p.name for p in aside.iterdir()) == ["1.params", "2.params"]
    for path in aside.iterdir():
        path.unlink()
    aside.rmdir()
    assert tree(folder / "out") == tree(fresh / "out")
    assert not (folder / "out" / ".net.journal").exists()


@pytest.mark.parametrize("before, rate", [("0", "0.1"), ("0.1", "0.3")])
def test_killed_at_any_moment_it_ends_the_same(tmp_path, before, rate):
    """From nothing, and over a finished run with another rate, whose nets are set aside."""
    child = subprocess.run(
        [sys.executable, __file__, str(tmp_path), before, rate],
        cwd=ROOT,
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert child.returncode == 0, child.stderr
    *killed, whole = sorted(tmp_path.iterdir())
    assert whole.name == "whole" and len(killed) > 15
    for folder in killed:
        assert tree(folder) == tree(whole), f"killed before change {folder.name}"


def test_a_step_that_failed_is_tried_again(folder):
    chain = Chain(folder)
    broken = Step(**{**chain.plan.steps["samples"].__dict__, "run": lambda: 1 / 0})
    with pytest.raises(ZeroDivisionError):
        Plan([chain.plan.steps["pictures"], broken], folder / "out").run([broken])
    assert chain.kinds()["samples"] == GO_ON and chain.plan.seconds() == {}
    assert chain.run()[0] == "samples"


def test_a_full_disk_is_one_line_and_the_next_run_goes_on(folder, monkeypatch, capsys):
    """In the middle of a net, where the record can't be written either."""
    chain, write = Chain(folder), steps.write_json

    def full(*_):
        raise OSError(28, "No space left on device", "x")

    net = Step(
        **{
            **chain.plan.steps["net"].__dict__,
            "run": lambda: (monkeypatch.setattr(steps, "write_json", full), full()),
        }
    )
    plan = Plan(
        [net if name == "net" else step for name, step in chain.plan.steps.items()], folder / "out"
    )
    with pytest.raises(SystemExit) as stopped:
        program(lambda _: plan.run([net]), [])
    assert stopped.value.code == 2
    assert capsys.readouterr().err == (
        "error: No space left on device: x; free some space and run the same command again\n"
    )
    monkeypatch.setattr(steps, "write_json", write)
    assert chain.kinds()["net"] == GO_ON
    assert Chain(folder).run() == ["net", "measured", "hard", "net_hard"]


def test_what_it_has_not_made_is_not_touched(folder):
    (folder / "out" / "samples").mkdir(parents=True)
    (folder / "out" / "samples" / "x").write_text("mine")
    with pytest.raises(Problem, match="samples is there, and this run has not made it: remove it"):
        Chain(folder).run()
    assert (folder / "out" / "samples" / "x").read_text() == "mine"


def test_what_was_changed_behind_its_back_is_not_used(folder):
    Chain(folder).run()
    (folder / "out" / "samples" / "x").write_text("of another configuration")
    with pytest.raises(Problem, match="samples has changed since it was made, .* remove it"):
        Chain(folder).run()
    with pytest.raises(Problem, match="samples has changed since"):
        Chain(folder).plan.run_only(Chain(folder).plan.named("net_hard"))


def test_a_damaged_record_is_one_line(folder):
    chain = Chain(folder)
    chain.run()
    path = folder / "out" / "steps" / "samples.json"
    right = json.loads(path.read_text())
    wrong = [[], 7, {}, {**right, "depends": []}, {**right, "result": 7}, {**right, "seconds": "1"}]
    for reads in (None, 7, ["pictures"]):
        wrong.append({**right, "depends": {**right["depends"], "reads": reads}})
    for value in wrong:
        path.write_text(json.dumps(value))
        with pytest.raises(Problem, match="samples.json is damaged: put it back, or remove it and"):
            Chain(folder).run()


def test_one_step_alone(folder, capsys):
    chain = Chain(folder)
    with pytest.raises(
        Problem,
        match=r"net needs samples, which isn't there yet: run --stage "
        r"samples first, or --upto net$",
    ):
        chain.plan.run_only(chain.plan.named("net"))
    chain.plan.run_only(chain.plan.named("samples"))
    chain.plan.run_only(chain.plan.named("net"))
    assert chain.ran == ["samples", "net", "measured"]
    chain.plan.run_only(chain.plan.named("hard"))
    other = Chain(folder, size=24)
    with pytest.raises(
        Problem,
        match=r"net_hard needs samples, which is not what is asked for now "
        r"\(size was 20, is 24\): run --stage samples first",
    ):
        other.plan.run_only(other.plan.named("net_hard"))
    assert other.ran == []


def test_a_hint_names_the_script(folder):
    chain = Chain(folder)
    shown = Step("shown", "", folder / "shown", proofs.file("x"), lambda: None, ("measured",))
    plan = Plan([*chain.plan.steps.values(), shown], folder / "out")
    chain.run("samples")
    with pytest.raises(Problem, match="needs net, "):
        plan.run_only([shown])
    chain.plan.run_only([chain.plan.steps["net"]])
    with pytest.raises(Problem, match=r"run --stage measured \(scripts/measure.sh\) first"):
        plan.run_only([shown])


def test_a_judge_stops_the_run_each_time_and_a_lower_floor_goes_on(folder):
    for _ in range(2):
        chain = Chain(folder, floor=1e9)
        with pytest.raises(Problem, match="too little"):
            chain.run("hard")
        assert "hard" not in chain.ran
    assert Chain(folder).run("hard") == ["hard"]


def test_no_such_step(folder):
    with pytest.raises(Problem, match="no step 'nets' here; there are samples, net, measured"):
        Chain(folder).run("nets")


def test_a_small_disk_is_noticed_before_anything_is_done(folder):
    chain = Chain(folder)
    large = Step(**{**chain.plan.steps["hard"].__dict__, "expected": lambda: (1e18, 0)})
    plan = Plan([*(s for n, s in chain.plan.steps.items() if n != "hard"), large], folder / "out")
    with pytest.raises(Problem, match=r"MB free, and about 1,000,000,000,000 MB are needed"):
        plan.run([large])
    assert chain.ran == []


def test_differences():
    now, then = {"a": {"b": 1, "c": [1]}, "d": None}, {"a": {"b": 2, "c": [1]}, "e": 3}
    assert steps.differences(now, then) == ["a.b was 2, is 1", "e was 3, is None"]


def killed(folder, rate, change):
    """Run the chain in a process that ends, as by kill -9, before a change of a name, counted
    from 0. Returns whether it came to that."""
    process = os.fork()
    if process:
        status = os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])
        assert status in (0, 9)
        return status == 9
    rename, done = os.replace, []

    def replace(*paths):
        if len(done) == change:
            os._exit(9)
        done.append(paths)
        rename(*paths)

    os.replace = replace
    try:
        Chain(folder, rate).run()
        os._exit(0)
    finally:
        os._exit(1)


def kill_at_each_change(work, before, rate):
    """Leaves folders of chains that were killed once and run again, and `whole`."""

    def begun(name):
        folder = pictures(Path(work) / name)
        if before:
            Chain(folder, before).run()
        return folder

    change = 0
    while killed(folder := begun(f"{change:03d}"), rate, change):
        Chain(folder, rate).run()
        change += 1
    folder.rename(folder.with_name("whole"))


if __name__ == "__main__":  # a process of few threads, which may be forked
    kill_at_each_change(sys.argv[1], float(sys.argv[2]), float(sys.argv[3]))


def test_a_damaged_store_is_made_anew(tmp_path):
    """Bytes of a large file that no program would notice; what reads the store may come out
    otherwise, and does not."""
    ran, data = [], np.random.default_rng(0).bytes(1 << 20)

    def make():
        ran.append("samples")
        with whole_folder(tmp_path / "samples") as part:
            (part / "crops.npy").write_bytes(data)
            write_json(part / "store.json", {"checksums": checksums(part)})

    def train():
        ran.append("net")
        write_text(tmp_path / "net", sha256(tmp_path / "samples" / "crops.npy"))

    proof = proofs.listed("store.json")
    plan = Plan(
        [
            Step("samples", "", tmp_path / "samples", proof, make),
            Step("net", "", tmp_path / "net", proofs.file(), train, ("samples",)),
        ],
        tmp_path,
    )
    steps = list(plan.steps.values())

    def kinds():
        return [state.kind for _, state in plan.states(steps)]

    plan.run(steps)
    assert ran == ["samples", "net"] and kinds() == [DONE, DONE]
    (tmp_path / "samples" / "mosaic.png").write_bytes(b"drawn later")
    assert kinds() == [DONE, DONE]
    for damaged in (data[:1000] + bytes(200_000) + data[201_000:], data[:-1], None):
        path = tmp_path / "samples" / "crops.npy"
        path.write_bytes(damaged) if damaged else path.unlink()
        states = [state for _, state in plan.states(steps)]
        assert [state.kind for state in states] == [ANEW, MAYBE]
        says = "has changed since it was made" if damaged else "is not there"
        assert states[0].why == f"{tmp_path / 'samples'} is damaged: crops.npy {says}"
        with pytest.raises(Problem, match="net needs samples, which .*crops.npy"):
            plan.run_only([plan.steps["net"]])
        plan.run(steps)
        assert ran.pop() == "samples" and ran == ["samples", "net"]
        assert path.read_bytes() == data and kinds() == [DONE, DONE]
    (tmp_path / "samples" / "store.json").write_text("{")
    assert kinds() == [ANEW, MAYBE]


def test_a_store_without_checksums_is_taken(tmp_path):
    (tmp_path / "store.json").write_text("{}")
    assert proofs.listed("store.json")(tmp_path) == sha256(tmp_path / "store.json")

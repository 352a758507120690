"""Steps that know by content what they were made from.

A step's record, in the run's folder below steps/, says what its result depends on: settings, and
the fingerprints of the results it reads. It is done while all of that is as it was, goes on where
it was stopped, and is made anew when something differs: what differs is said, what can be made
again is removed, a trained net is set aside as NAME-1, NAME-2 ...
"""

import json
import os
import shutil
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Callable, Optional

from core.pipeline.proofs import Damaged
from facelet.console import Problem, clock
from facelet.files import differences, is_new, read_json, write_json
from facelet.locks import locked

DONE, MAYBE, GO_ON, ANEW, TO_DO = "done", "depends", "goes on", "made anew", "to do"
SHOWN = 3  # differences that a line names
FREE_SPACE_MARGIN = 1.1


@dataclass(frozen=True)
class Step:
    """One step of a plan.

    name, title -- what it goes by, and what it does in a few words
    path -- file or folder that is there when it is done
    proof -- function of the path: fingerprint of the content, None while it isn't whole
    run -- function that makes it, going on where it was stopped if it can; None: it is given
    reads -- names of the steps whose results it depends on, earlier ones
    settings -- JSON values that it depends on besides
    after -- names of steps that must have let the run go on before this one
    also -- names of steps that it is part of: who asks for them gets it too
    keep -- whether a result that is to be made anew is set aside
    judge -- function that raises Problem when what it found forbids going on; asked also where it
        was found in an earlier run
    expected -- function giving bytes and seconds to expect
    script -- of scripts/, for those who run it by hand
    """

    name: str
    title: str
    path: Path
    proof: Callable
    run: Optional[Callable] = None
    reads: tuple = ()
    settings: dict = field(default_factory=dict)
    after: tuple = ()
    also: tuple = ()
    keep: bool = False
    judge: Callable = lambda: None
    expected: Callable = lambda: (0, 0)
    script: Optional[str] = None


@dataclass(frozen=True)
class State:
    """How things are with a step: one of DONE, MAYBE, GO_ON, ANEW, TO_DO, and why."""

    kind: str
    why: str = ""


class Plan:
    """Steps, in an order in which they can be run, and the folder with their records."""

    def __init__(self, steps, folder):
        self.steps, self.folder = {step.name: step for step in steps}, Path(folder)

    def record(self, step):
        """What is known of a step: depends, result (None until it is finished), seconds."""
        path = self._record_path(step)
        if not path.exists():
            return None
        found = read_json(path)
        if not _is_record(found):
            raise Problem(
                f"{path} is damaged: put it back, or remove it and {step.path}, which is made again"
            )
        return found

    def _record_path(self, step):
        return self.folder / "steps" / f"{step.name}.json"

    def _write(self, step, depends, result, seconds):
        write_json(
            self._record_path(step), {"depends": depends, "result": result, "seconds": seconds}
        )

    def named(self, name):
        """The steps that are asked for by a name. Raises Problem."""
        found = [
            step for step in self.steps.values() if step.run and name in (step.name, *step.also)
        ]
        if not found:
            names = [step.name for step in self.steps.values() if step.run]
            raise Problem(f"there is no step {name!r} here; there are {', '.join(names)}")
        return found

    def needed(self, wanted, judged=True):
        """`wanted` steps and all that they need, in order; those that only judge unless that
        isn't wanted."""
        names, pending = set(), [step.name for step in wanted]
        while pending:
            name = pending.pop()
            if name not in names:
                names.add(name)
                pending += (*self.steps[name].reads, *(self.steps[name].after if judged else ()))
        return [step for name, step in self.steps.items() if name in names]

    # ---- looking --------------------------------------------------------------------------

    def states(self, steps):
        """(Step, State) of each, taking it that those before it are run; with a step come all
        that it reads. Raises Problem for what no step has made."""
        known, found = {}, []
        for step in steps:
            state = self._state(step, known)
            known[step.name] = (
                self.result(step) or step.proof(step.path) if state.kind == DONE else None
            )
            found.append((step, state))
        return found

    def result(self, step):
        """Fingerprint of a finished step's result, None of another's."""
        return (self.record(step) or {}).get("result") if step.run else step.proof(step.path)

    def _state(self, step, known):
        """known -- fingerprints of what it reads, None where that isn't made yet"""
        if step.run is None:
            return State(DONE)
        record = self.record(step)
        if record is None:
            if not is_new(step.path):
                raise Problem(
                    f"{step.path} is there, and this run has not made it: remove it or "
                    "choose another --out"
                )
            return State(TO_DO)
        depends, then = self._depends(step, known), record["depends"]
        unknown = [name for name, proof in depends["reads"].items() if proof is None]
        changed = _changed(depends, then, unknown)
        if changed:
            return State(ANEW, changed)
        try:
            proof = step.proof(step.path)
        except Damaged as damaged:
            return State(ANEW, str(damaged))
        if proof is None:
            gone = "is gone" if is_new(step.path) else "lacks a part"
            why = f"{step.path} {gone}" if record["result"] else "it was stopped"
            return State(GO_ON, why)
        if record["result"] not in (None, proof):
            raise Problem(
                f"{step.path} has changed since it was made, it is of another "
                "configuration or damaged: remove it, and it is made again"
            )
        if unknown:
            return State(MAYBE, f"made anew if {' or '.join(unknown)} comes out differently")
        return State(DONE)

    def _depends(self, step, known):
        return {
            "settings": json.loads(json.dumps(step.settings)),
            "reads": {name: known[name] for name in step.reads},
        }

    # ---- running --------------------------------------------------------------------------

    def run(self, wanted):
        """Run the wanted steps and all that they need; those that are done are passed over."""
        steps = self.needed(wanted)
        self.check_disk(self.states(steps))
        known = {}
        for number, step in enumerate(steps, 1):
            if step.run:
                self._bring(step, known, f"[{number}/{len(steps)}] {step.name}")
            known[step.name] = self.result(step)
            step.judge()

    def run_only(self, wanted):
        """Run these steps alone. Raises Problem where something they need isn't there, or isn't
        what the settings ask for."""
        for step, state in self.states(self.needed(wanted, judged=False)):
            if step in wanted or state.kind == DONE:
                continue
            what = (
                f"is not what is asked for now ({state.why})"
                if state.kind == ANEW
                else "isn't there yet"
            )
            script = f" (scripts/{step.script})" if step.script else ""
            raise Problem(
                f"{wanted[0].name} needs {step.name}, which {what}: run --stage "
                f"{step.name}{script} first, or --upto {wanted[0].name}"
            )
        self.check_disk((step, State(TO_DO)) for step in wanted)
        known = {name: self.result(self.steps[name]) for step in wanted for name in step.reads}
        for step in wanted:
            self._bring(step, known, step.name)
            known[step.name] = self.result(step)
            step.judge()

    def check_disk(self, states):
        """Raise Problem when the disk has no room for what is to be made."""
        needed = sum(step.expected()[0] for step, state in states if state.kind != DONE)
        place = self.folder
        while not place.exists():
            place = place.parent
        if not place.is_dir():
            raise Problem(f"{place} is a file: choose another --out")
        free = shutil.disk_usage(place).free
        if free < needed * FREE_SPACE_MARGIN:
            raise Problem(
                f"{place} has {free / 1e6:,.0f} MB free, and about {needed / 1e6:,.0f} "
                "MB are needed: free some space or choose another --out"
            )

    def _bring(self, step, known, label):
        with locked(step.path):
            self._bring_locked(step, known, label)

    def _bring_locked(self, step, known, label):
        state = self._state(step, known)
        depends, record = self._depends(step, known), self.record(step)
        if state.kind == DONE:
            if record["result"] is None:  # stopped after the last thing it did
                self._write(step, depends, step.proof(step.path), record["seconds"])
            print(f"\n{label}: there already, nothing it depends on changed", flush=True)
            return
        print(f"\n{label}: {step.title}", flush=True)
        if state.why:
            print(f"{state.kind}: {state.why}", flush=True)
        if state.kind == ANEW:
            _clear(step)
        spent = record["seconds"] if state.kind == GO_ON else 0
        self._write(step, depends, None, spent)
        started = time.perf_counter()
        try:
            step.run()
        finally:
            spent += time.perf_counter() - started
            self._write(step, depends, None, spent)
        proof = step.proof(step.path)
        if proof is None:
            raise Problem(f"{step.name} ended without leaving {step.path} whole")
        self._write(step, depends, proof, spent)
        print(f"{step.path}: made in {clock(spent)}", flush=True)

    def seconds(self):
        """What each finished step took, by name."""
        records = {name: self.record(step) for name, step in self.steps.items() if step.run}
        return {
            name: record["seconds"]
            for name, record in records.items()
            if record and record["result"]
        }


def _is_record(values):
    """Whether JSON values are as Plan._write() writes them."""
    if not isinstance(values, dict) or not isinstance(values.get("depends"), dict):
        return False
    depends = values["depends"]
    return (
        all(isinstance(depends.get(key), dict) for key in ("settings", "reads"))
        and isinstance(values.get("result", 0), (str, type(None)))
        and isinstance(values.get("seconds", ""), (int, float, type(None)))
        and abs(values["seconds"] or 0) < 1e12  # NaN is not
    )


def _changed(now, then, unknown):
    """The differences of two depends in words, "" without; those of reads whose results aren't
    known are left out."""
    found = differences(now["settings"], then["settings"])
    for name in sorted({*now["reads"], *then["reads"]} - {*unknown}):
        a, b = now["reads"].get(name), then["reads"].get(name)
        if a != b:
            found.append(
                f"{name} is " + ("left out" if a is None else "new" if b is None else "another one")
            )
    more = f" and {len(found) - SHOWN} more" if len(found) > SHOWN else ""
    return ", ".join(found[:SHOWN]) + more


def _clear(step):
    """Make room for another result, and for what a stopped run of it left beside it."""
    path = step.path
    if step.keep and any(path.rglob("*.params")):
        number = 1
        while (aside := path.with_name(f"{path.name}-{number}")).exists():
            number += 1
        os.replace(path, aside)
        print(f"{path} is set aside as {aside}", flush=True)
    if path.exists():  # renamed first: a kill leaves it whole or gone
        os.replace(path, path.with_name(f".{path.name}.part"))
    for left in path.parent.glob(f".{path.name}.*"):
        if left.suffix == ".lock":
            continue
        shutil.rmtree(left) if left.is_dir() else left.unlink()

"""From pictures to a detector, by one command that can be stopped anywhere.

    python -m core.pipeline                            draws a sample set to try it on
    python -m core.pipeline --data DIR                 photographs laid out like WIDER FACE
    python -m core.pipeline --data DIR --dry-run       what it would do, and what that takes
    python -m core.pipeline --data DIR --upto pnet     as far as the first Pnet
    python -m core.pipeline --data DIR --stage rnet    this step alone

Every step leaves its result below --out and knows by content what that was made from (core.pipeline.steps):
run again, the command goes on where it was stopped, makes anew what no longer fits, and passes
over the rest. After each net recall is measured on held-out pictures; under the net's floor,
pipeline.floors, the run stops. It leaves one page, report.html.
"""

import dataclasses
import hashlib
import shutil
import time
from functools import cached_property
from pathlib import Path

from config import config, values
from core.base import parallel
from core.pipeline import recipes
from core.pipeline.recipes import RECIPES, STAGES, TRAINED
from core.pipeline.steps import DONE, Plan, Step, file_proof
from facelet.console import Problem, clock
from facelet.files import read_json, sha256, write_json
from facelet.nets import MANIFEST, SETTINGS
from prepare_data import samples, wider
from prepare_data.drawn import sets as drawn
from prepare_data.store import Store, sample_bytes
from symbols import spec

SAMPLE_PICTURES = 500
# What --dry-run reckons with. Rough: a drawn picture with its faces, samples per face, hard
# examples per picture, and rates on 2 cores.
DRAWN_BYTES, DRAWN_FACES, DRAWN_PER_SECOND = 70_000, 4, 14
SAMPLES_PER_FACE, HARD_PER_PICTURE = 13, {"pnet": 60, "rnet": 60, "onet": 10}
CUT_PER_SECOND, LOOKED_AT_PER_SECOND, MEASURED_PER_SECOND = 25_000, 50, 25
TRAINED_PER_SECOND = {"pnet": 8_000, "rnet": 3_000, "onet": 1_000}
NET_BYTES, MEASURED_BYTES, OPINION_BYTES = 1_000_000, 4_000_000, 500
# The names under which those who know the original run the steps.
SCRIPTS = {
    "samples_pnet": "P20_gen_data.sh",
    "pnet": "P20_train.sh",
    "mine_pnet": "P20_gen_hard_example.sh",
    "pnet_hard": "P20_train_with_hard.sh",
    "samples_rnet": "R_gen_data.sh",
    "mine_rnet": "R_gen_hard_example.sh",
    "rnet": "R_train_with_hard.sh",
    "samples_onet": "O_gen_data.sh",
    "mine_onet": "O_gen_hard_example.sh",
    "landmarks_onet": "O_gen_landmark.sh",
    "onet": "O_train_with_hard_landmark.sh",
}
MEASURES = {
    "pnet": "recall_pnet",
    "pnet_hard": "recall_pnet_hard",
    "rnet": "recall_rnet",
    "onet": "evaluate",
}  # the step that measures the cascade as far as each net


class UnderFloor(Problem):
    """A net that lets too few faces through."""


def _shared(seconds):
    """What work that takes 2 processors so long takes all that there are."""
    return seconds * 2 / parallel.cores()


def _picture_list(face_set):
    """Size in bytes by path of the pictures that are there."""
    sizes = {}
    for annotation in face_set.annotations:
        try:
            sizes[annotation.path] = (face_set.images / annotation.path).stat().st_size
        except OSError:  # missing from the start: passed over and named by every step
            pass
    return sizes


def _content(path):
    """Fingerprint of a file, or of all files in a folder."""
    if path.is_file():
        return sha256(path)
    digest = hashlib.sha256()
    for file in sorted(file for file in path.rglob("*") if file.is_file()):
        digest.update(f"{sha256(file)} {file.relative_to(path)}\n".encode())
    return digest.hexdigest()


def _measured_proof(path):
    there = (path / "false_alarms.png").exists()  # what is written last
    return sha256(path / "stages.json") if there else None


def _detector_proof(path):
    return _content(path) if (path / MANIFEST).exists() else None


class Run:
    """What one command asks for: the pictures, the nets, the settings; and the steps to there.

    data -- folder with pictures, None to draw some, `pictures` of them
    nets -- names by stage; landmarks -- whether nets may have landmark heads
    points -- file with landmarks, None: those of the drawn set, if it is that
    second -- a detector whose opinion of the labels is asked, or None
    assignments -- section.key=value

    Raises Problem for nets that can't be their stage, and settings that aren't there.
    """

    def __init__(
        self,
        out,
        data=None,
        recipe="train-mtcnn",
        nets=None,
        points=None,
        second=None,
        pictures=SAMPLE_PICTURES,
        landmarks=True,
        assignments=(),
    ):
        self.out, self.pictures, self.drawn = Path(out), pictures, data is None
        self.recipe, self.second = recipe, second and Path(second)
        row = RECIPES[recipe]
        self.nets = {**row.nets, **(nets or {})}
        recipes.check_nets(self.nets)
        self.data = self.out / "drawn" if self.drawn else Path(data)
        self.points = (
            Path(points)
            if points
            else (self.data / "landmarks" / "train_5.txt" if self.drawn else None)
        )
        self.landmarks = [
            stage
            for stage in row.landmarks
            if landmarks and self.points and spec(self.nets[stage]).landmark
        ]
        if points and not self.landmarks:
            raise Problem(
                f"--points {points}: none of {', '.join(self.nets.values())} is to have "
                "a landmark head"
            )
        for path in filter(None, (self.second, points and self.points)):
            if not path.exists():
                raise Problem(f"{path} is not there")
        self.settings, self.own = recipes.settings_of(row, self.landmarks, self.drawn, assignments)
        self.plan = Plan(self._steps(), self.out)

    # ---- the course -----------------------------------------------------------------------

    def _steps(self):
        if self.drawn:
            found = [
                Step(
                    "data",
                    f"the sample set: {self.pictures} drawn pictures",
                    self.data,
                    lambda path: self._proof(*self.sets) if path.exists() else None,
                    self._draw,
                    settings={"pictures": self.pictures},
                    expected=lambda: (
                        self.pictures * DRAWN_BYTES,
                        _shared(self.pictures / DRAWN_PER_SECOND),
                    ),
                )
            ]
        else:
            found = [
                Step(
                    name,
                    f"{self.data}, {split}",
                    self.data,
                    lambda path, split=split: self._proof(split),
                )
                for name, split in (("data", "train"), ("val", "val"))
                if split in self.sets
            ]
        self._measured_on = found[-1].name
        if self.points and not self.drawn and self.landmarks:
            found.append(Step("points", str(self.points), self.points, _content))
        if self.second:
            found += [
                Step("second", str(self.second), self.second, _content),
                self._second_opinion(),
            ]
        for name, (stage, before) in TRAINED.items():
            if name == stage:
                found.append(self._samples(stage))
            if before:
                found.append(self._mining(name, stage, before))
            if name == stage and stage in self.landmarks:
                found.append(self._landmarks(stage))
            found += [self._training(name, stage, before), self._measuring(name, stage, before)]
        return [*found, self._export()]

    # ---- the pictures ---------------------------------------------------------------------

    def _draw(self):
        self.__dict__.pop("sets", None)
        drawn.draw_sample_set(self.data, self.pictures)

    @cached_property
    def sets(self):
        """The FaceSets by split; val may be missing."""
        found = {"train": wider.open_set(self.data, "train")}
        try:
            found["val"] = wider.open_set(self.data, "val")
        except Problem as problem:
            self.no_val = str(problem)
        return found

    def _proof(self, *splits):
        """Fingerprint of the ground truth of splits: content, paths and sizes of the pictures."""
        digest = hashlib.sha256()
        for split in splits:
            face_set = self.sets[split]
            digest.update(f"{split} {sha256(face_set.truth)}\n".encode())
            for picture, size in _picture_list(face_set).items():
                digest.update(f"{size} {picture}\n".encode())
        return digest.hexdigest()

    @cached_property
    def face_set(self):
        """The training pictures, with the second detector's opinion if there is one."""
        if not self.second:
            return self.sets["train"]
        from prepare_data import teacher

        return teacher.clean_labels(
            self.sets["train"], self.settings.teacher, self.out / "second_opinion.json"
        )

    def held_out(self):
        """What to measure on: the set's val split or, where it has none, the training pictures
        that were held out."""
        if "val" in self.sets:
            return self.sets["val"]
        from prepare_data.held_out import is_held_out, rule_of

        train, face_set = self.own["pnet"].train, self.sets["train"]
        paths = Store(self._path("samples_pnet")).pictures()
        rule = rule_of(paths, train.val_fraction, train.seed)
        chosen = [i for i, out in enumerate(is_held_out(paths, rule)) if out]
        print(f"{self.no_val}; measured on the {len(chosen)} training pictures held out instead")
        return dataclasses.replace(face_set, annotations=[face_set.annotations[i] for i in chosen])

    def check_pictures(self):
        """Raise Problem where pictures that were there have gone, while the ground truth still
        has them. Keeps the list of those that are there."""
        noted = self.out / "steps" / "pictures.json"
        if self.drawn and not self.data.exists():
            return
        now = {
            split: {
                "truth": sha256(face_set.truth),
                "images": str(face_set.images),
                "sizes": _picture_list(face_set),
            }
            for split, face_set in self.sets.items()
        }
        for split, before in (read_json(noted) if noted.exists() else {}).items():
            if split not in now or before["truth"] != now[split]["truth"]:
                continue
            gone = sorted(set(before["sizes"]) - set(now[split]["sizes"]))
            if gone:
                more = f" and {len(gone) - 1:,} more" if gone[1:] else ""
                raise Problem(
                    f"{now[split]['images']}/{gone[0]}{more} vanished since this run "
                    "began: put it back, or take it out of the ground truth to go on "
                    "without"
                )
        if not noted.exists() or read_json(noted) != now:
            write_json(noted, now)

    # ---- the steps ------------------------------------------------------------------------

    def _path(self, name):
        return self.out / name

    def size(self, stage):
        return spec(self.nets[stage]).size

    def _second_opinion(self):
        def run():
            from prepare_data import teacher

            teacher.run_teacher(self.sets["train"], self.second, path, self.settings)

        path = self.out / "second_opinion.json"
        detect = self.settings.detect
        settings = {"floor": self.settings.teacher.floor}
        if self.second.is_dir():  # a cascade of ours
            settings.update(min_face=detect.min_face, thresholds=detect.thresholds[:2])
        return Step(
            "second_opinion",
            f"what {self.second.name} finds in the pictures",
            path,
            file_proof(""),
            run,
            ("data", "second"),
            settings,
            expected=lambda: (
                self._counts()[0] * OPINION_BYTES,
                _shared(self._counts()[0] / LOOKED_AT_PER_SECOND),
            ),
        )

    def _labels(self):
        """What training samples depend on beside their own settings: steps, settings."""
        if not self.second:
            return ("data",), {}
        return ("data", "second_opinion"), {"second": self.settings.teacher}

    def _samples(self, stage):
        name, size = f"samples_{stage}", self.size(stage)
        path, settings = self._path(name), self.own[stage].samples
        reads, more = self._labels()
        return Step(
            name,
            f"samples of {size} px",
            path,
            file_proof("store.json"),
            lambda: samples.make_store(self.face_set, size, path, settings),
            reads,
            {"size": size, "samples": settings, **more},
            expected=lambda: self._cutting(name),
            script=SCRIPTS[name],
        )

    def _mining(self, name, stage, before):
        called = f"mine_{stage}"
        size, own, path = self.size(stage), self.own[name], self._path(called)
        nets = dict(zip(STAGES, before))

        def run():
            from prepare_data import mine

            paths = {of: self.params(net) for of, net in nets.items()}
            mine.make_store(self.face_set, paths, stage, size, path, own)

        reads, more = self._labels()
        # Thresholds of other rounds, and of the detector's later nets, are none of its business.
        settings = {
            "size": size,
            "samples": {
                key: own.samples[key] for key in ("min_face", "min_part_iou", "min_positive_iou")
            },
            "mine": {key: own.mine[key] for key in own.mine if key == stage or key not in STAGES},
            "detect": {key: own.detect[key] for key in own.detect if key != "thresholds"},
            **more,
        }
        return Step(
            called,
            f"hard examples of {size} px, found by {' and '.join(before)}",
            path,
            file_proof("store.json"),
            run,
            (*reads, *before),
            settings,
            after=(MEASURES[before[-1]],),
            expected=lambda: self._cutting(called),
            script=SCRIPTS[called],
        )

    def _landmarks(self, stage):
        name = f"landmarks_{stage}"
        size, path = self.size(stage), self._path(name)
        settings = self.own[stage].landmark_samples

        def run():
            from prepare_data import landmark_samples
            from prepare_data.points import sets as points

            landmark_samples.make_store(points.open_set(self.points), size, path, settings)

        return Step(
            name,
            f"landmark samples of {size} px",
            path,
            file_proof("store.json"),
            run,
            ("data",) if self.drawn else ("points",),
            {"size": size, "landmark_samples": settings},
            expected=lambda: self._cutting(name),
            script=SCRIPTS.get(name),
        )

    def stores(self, name):
        """The steps whose samples a net of TRAINED learns from."""
        stage, before = TRAINED[name]
        return (
            f"samples_{stage}",
            *([f"mine_{stage}"] if before else []),
            *([f"landmarks_{stage}"] if stage in self.landmarks else []),
        )

    def options(self, name):
        """Of the net, as for symbols.build."""
        return {"landmark": True} if TRAINED[name][0] in self.landmarks else {}

    def _training(self, name, stage, before):
        net, own, path = spec(self.nets[stage]).name, self.own[name], self._path(name)
        stores, options = self.stores(name), self.options(name)

        def run():
            # MXNet takes its time and memory, and worker processes import this file.
            from core.train import trainer

            trainer.train(
                net,
                options,
                [Store(self._path(store), self.size(stage)) for store in stores],
                path,
                own,
            )

        hard = ", with hard examples" if before else ""
        points = ", with landmarks" if options else ""
        return Step(
            name,
            f"training {net}{hard}{points}",
            path,
            lambda path: self._params_proof(name),
            run,
            stores,
            {
                "net": net,
                **options,
                "input": own.input,
                "loss": own.loss,
                "augment": own.augment,
                "train": own.train,
            },
            keep=True,
            expected=lambda: (
                NET_BYTES,
                _shared(self._drawn_from(name) * own.train.epochs / TRAINED_PER_SECOND[stage]),
            ),
            script=SCRIPTS[name],
        )

    def params(self, name):
        """Path of a net of TRAINED after its last epoch."""
        net = spec(self.nets[TRAINED[name][0]]).name
        return self._path(name) / f"{net}-{self.own[name].train.epochs:04d}.params"

    def _params_proof(self, name):
        params = self.params(name)  # whole when its manifest is there
        return sha256(params) if params.with_suffix(".json").exists() and params.exists() else None

    def cascade(self, name):
        """The nets of TRAINED as far as one of them, by stage."""
        return dict(zip(STAGES, (*TRAINED[name][1], name) if name != "pnet_hard" else (name,)))

    def _measuring(self, name, stage, before):
        nets, called = self.cascade(name), MEASURES[name]
        path, held_out = self.path_of_measure(name), self.own["pnet"].train

        def run():
            from core.detect.detector import FaceDetector
            from core.evaluate import stages as evaluate_stages

            detect = self.settings.detect
            detector = FaceDetector(
                **{of: self.params(net) for of, net in nets.items()},
                **{key: detect[key] for key in SETTINGS},
            )
            detector = detector.changed(nms=detect.nms, nms_scale=detect.nms_scale)
            evaluate_stages.evaluate(detector, self.held_out(), path, self.settings)

        def judge():
            figures = read_json(path / "stages.json")
            floor = self.floor(name)
            if figures["recall"] < floor:
                raise UnderFloor(
                    f"{name} lets {figures['recall']:.3f} of the held-out faces through (IoU "
                    f"{figures['iou']:g}), under its floor of {floor:g}: look at "
                    f"{path / 'misses.png'}; lower its threshold in detect.thresholds "
                    f"({self.settings.detect.thresholds}), train longer ({name}.train.epochs, "
                    f"{self.own[name].train.epochs} now), label missing faces or give --second; or "
                    "go on with a lower pipeline.floors"
                )

        return Step(
            called,
            f"recall of {' + '.join(nets.values())} on held-out pictures",
            path,
            _measured_proof,
            run,
            (self._measured_on, "samples_pnet", *nets.values()),
            {
                "detect": self.settings.detect,
                "evaluate": self.settings.evaluate,
                "held out": {"val_fraction": held_out.val_fraction, "seed": held_out.seed},
            },
            also=(name,),
            judge=judge,
            expected=lambda: (MEASURED_BYTES, self._counts("val")[0] / MEASURED_PER_SECOND),
        )

    def _export(self):
        nets, detect, path = self.cascade("onet"), self.settings.detect, self._path("detector")
        settings = {key: detect[key] for key in SETTINGS}

        def run():
            from core import export
            from core.formats import checkpoint

            for name in nets.values():
                params = self.params(name)
                export.export(params, path)
                net, _, epoch = params.stem.rpartition("-")
                for file in checkpoint.paths(params.parent, net, int(epoch)):
                    shutil.copy(file, path)
            write_json(path / "recipe.json", self.made_how())
            # Last: the folder counts as whole when it is there.
            write_json(
                path / MANIFEST,
                {**{of: f"{spec(self.nets[of]).name}.onnx" for of in nets}, **settings},
            )

        return Step(
            "export",
            "the nets as ONNX models, and their checkpoints",
            path,
            _detector_proof,
            run,
            ("evaluate", *nets.values()),
            settings,
            expected=lambda: (3_000_000, 5),
        )

    def differing(self):
        """Settings that are not at their defaults: (key, value, default); NAME.key where only a
        net of TRAINED has it so."""
        usual, common = values(config), values(self.settings)
        found = [(key, value, usual[key]) for key, value in common.items() if value != usual[key]]
        for name, own in self.own.items():
            found += [
                (f"{name}.{key}", value, usual[key])
                for key, value in values(own).items()
                if value != common[key]
            ]
        return found

    def made_how(self):
        """How the detector was made and what it reaches, JSON values to keep beside it."""
        stores = sorted({store for name in TRAINED for store in self.stores(name)})
        return {
            "recipe": self.recipe,
            "nets": self.nets,
            "landmarks": self.landmarks,
            "settings": {key: value for key, value, _ in self.differing()},
            "data": {split: face_set.counts for split, face_set in self.sets.items()},
            "second detector": self.second and self.second.name,
            "points": self.points and self.points.name,
            "samples": {
                store: read_json(self._path(store) / "store.json")["counts"] for store in stores
            },
            "figures": read_json(self._path("evaluate") / "stages.json"),
        }

    # ---- what was found -------------------------------------------------------------------

    def path_of_measure(self, name):
        """Folder with the figures of the cascade as far as a net of TRAINED."""
        return self._path(MEASURES[name])

    def floor(self, name):
        return self.settings.pipeline.floors[list(STAGES).index(TRAINED[name][0])]

    def budget(self, name):
        """The net's record of core.flops."""
        from core import flops

        return flops.record(self.nets[TRAINED[name][0]], landmark=bool(self.options(name)))

    # ---- what to expect -------------------------------------------------------------------

    def _counts(self, split="train"):
        """Pictures and faces of a split, or what they will be."""
        if self.drawn and not self.data.exists():
            share = 0.8 if split == "train" else 0.2
            return self.pictures * share, self.pictures * share * DRAWN_FACES
        fraction = 1 if split in self.sets else self.own["pnet"].train.val_fraction
        counts = self.sets.get(split, self.sets["train"]).counts
        return counts["pictures"] * fraction, counts["faces"] * fraction

    def _expected_samples(self, step):
        """How many a step of samples has, or will have."""
        if (self._path(step) / "store.json").exists():
            return sum(read_json(self._path(step) / "store.json")["counts"].values())
        pictures, faces = self._counts()
        kind, stage = step.split("_")
        own = self.own["pnet_hard" if step == "mine_pnet" else stage]
        if kind == "mine":
            return min(
                pictures * min(HARD_PER_PICTURE[stage], own.mine.per_picture), own.mine.total
            )
        if kind == "landmarks":
            return faces * own.landmark_samples.base_num
        return own.samples.base_num * (own.samples.negatives * pictures + SAMPLES_PER_FACE * faces)

    def _drawn_from(self, name):
        return sum(map(self._expected_samples, self.stores(name)))

    def _cutting(self, step):
        count, size = self._expected_samples(step), self.size(step.split("_")[1])
        looked_at = self._counts()[0] if step.startswith("mine") else 0
        return (
            int(count * sample_bytes(size)),
            _shared(count / CUT_PER_SECOND + looked_at / LOOKED_AT_PER_SECOND),
        )

    # ---- what a command does --------------------------------------------------------------

    def show_plan(self, steps):
        """Print what each step reads and writes, how things are with it, and what it takes."""
        states, bytes_, seconds = self.plan.states(self.plan.needed(steps)), 0, 0.0
        print(
            f"{self.out}: recipe {self.recipe}, {', '.join(self.nets.values())}"
            + (f", landmarks for {', '.join(self.landmarks)}" if self.landmarks else "")
        )
        for step, state in states:
            if step not in steps:
                continue
            words = f"{state.kind}: {state.why}" if state.why else state.kind
            print(f"  {step.name:<18}{step.title}; {'given' if step.run is None else words}")
            if step.run is None:
                continue
            line = f"reads {', '.join(step.reads)}; writes" if step.reads else "writes"
            if state.kind != DONE:
                needed, takes = step.expected()
                bytes_, seconds = bytes_ + needed, seconds + takes
                line += f" {step.path}, about {needed / 1e6:,.0f} MB, {clock(takes)}"
            else:
                line += f" {step.path}"
            print(f"  {'':<18}{line}")
        place = next(p for p in (self.out, *self.out.resolve().parents) if p.exists())
        print(
            f"together about {bytes_ / 1e6:,.0f} MB and {clock(seconds)} on {parallel.cores()} "
            f"processors, roughly estimated; {shutil.disk_usage(place).free / 1e6:,.0f} MB are "
            "free"
        )

    def show_mix(self, name):
        """Print what the training of a net draws from, in place of the original's lists."""
        from core.train.loader import MIXED, Batches, Samples, split_by_picture

        stage, own = TRAINED[name][0], self.own[name]
        data = Samples([Store(self._path(step), self.size(stage)) for step in self.stores(name)])
        chosen, held_out = split_by_picture(data, own.train.val_fraction, own.train.seed)
        batches = Batches(data, chosen, own.train, own.augment, bool(self.options(name)))
        print(
            f"{name}, {self.nets[stage]}: no list is written, as training draws from the stores; "
            f"an epoch is {batches.steps:,} batches of {own.train.batch}"
        )
        print(
            f"  {'kind':<10}{'to train on':>12}{'held out':>10}{'in a batch':>12}"
            f"{'in an epoch':>13}"
        )
        for number, kind in enumerate(MIXED):
            there, kept = ((data.mixed[part] == number).sum() for part in (chosen, held_out))
            share = batches.shares[kind]
            print(f"  {kind:<10}{there:>12,}{kept:>10,}{share:>12,}{share * batches.steps:>13,}")

    def made(self, steps):
        """What to look at after these steps: a file by label."""
        names = [step.name for step in steps]
        trained = [name for name in TRAINED if name in names]
        found = {}
        if trained:
            found["checkpoint"] = self.params(trained[-1])
            found["training curves"] = self._path(trained[-1]) / "curves.png"
        stores = [
            name
            for name in names
            if (self._path(name) / "mosaic.png").exists()
            and name.startswith(("samples", "mine", "landmarks"))
        ]
        if stores:
            found["sample mosaic"] = self._path(stores[-1]) / "mosaic.png"
        measured = [MEASURES[name] for name in trained if MEASURES[name] in names]
        if measured:
            found["detections"] = self._path(measured[-1]) / "detections.png"
        if "export" in names:
            found["detector"] = self._path("detector") / MANIFEST
        return {label: path for label, path in found.items() if path.exists()}

    def figures(self, steps):
        """The last net's figures that these steps have left, its name first; None without."""
        names = [step.name for step in steps]
        for name in reversed(TRAINED):
            path = self._path(MEASURES[name]) / "stages.json"
            if MEASURES[name] in names and path.exists():
                return name, read_json(path)
        return None

    def report(self):
        from core.pipeline import report

        path = self.out / "report.html"
        report.write(path, self)
        return path

    def go(self, steps, only=False):
        """Run steps (of self.plan) and what they need, or them alone; writes the report, also
        where a net is under its floor. Returns the summary that is left as summary.json."""
        started = time.perf_counter()
        try:
            (self.plan.run_only if only else self.plan.run)(steps)
        except UnderFloor:
            print(f"\n{self.report()}: the report so far", flush=True)
            raise
        steps = steps if only else self.plan.needed(steps)
        measured = self.figures(steps)
        name, figures = measured or (None, None)
        summary = {
            "net": name,
            "recall": figures and figures["recall"],
            "figures": figures,
            "seconds": time.perf_counter() - started,
            "made": {
                label: str(path)
                for label, path in {**self.made(steps), "report": self.report()}.items()
            },
        }
        write_json(self.out / "summary.json", summary)
        return summary

    def show(self, summary):
        """The summary as lines."""
        words = f"\nDone in {clock(summary['seconds'])}"
        if summary["net"]:
            nets = " + ".join(self.nets[stage] for stage in self.cascade(summary["net"]))
            words += (
                f": {nets}, recall on held-out pictures {summary['recall']:.3f} at IoU "
                f"{summary['figures']['iou']:g}, "
                f"{summary['figures']['boxes_per_picture']:.0f} boxes a picture"
            )
        print(words)
        for label, path in summary["made"].items():
            print(f"  {label:<16} {path}")

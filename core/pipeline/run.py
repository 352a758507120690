"""A run of the pipeline: what one command asks for, where its results lie, and the order to make
them in."""

import time
from functools import cached_property
from pathlib import Path

from config import config, values
from core.evaluate import stage_figures
from core.pipeline import cascade_steps, limits, recipes, summary
from core.pipeline.data import Data
from core.pipeline.recipes import MEASURES, RECIPES, STAGES, TRAINED
from core.pipeline.steps import Plan
from facelet.console import Problem
from facelet.files import write_json
from facelet.locks import locked
from prepare_data.store import facts_of
from symbols import spec

SAMPLE_PICTURES = 500


class Run:
    """What one command asks for: the pictures, the nets, the settings; and the steps to there.

    out -- folder for everything made
    data -- folder with pictures, None to draw some, `pictures` of them
    nets -- names of nets of the zoo, in place of the recipe's of the same family
    faces -- list of faces with points; None: that of the drawn set, if it is that
    teacher -- another detector that is asked about the labels, or None
    landmarks -- whether nets may have landmark heads
    assignments -- section.key=value

    Raises Problem for nets that can be no stage, and settings that aren't there.
    """

    def __init__(
        self,
        out,
        data=None,
        recipe="train-mtcnn",
        nets=(),
        faces=None,
        teacher=None,
        pictures=SAMPLE_PICTURES,
        landmarks=True,
        assignments=(),
    ):
        if pictures < 1:
            raise Problem(f"--pictures {pictures}: it must be at least 1")
        self.out, self.recipe = Path(out), recipe
        self.data = Data(self.out / "drawn", pictures) if data is None else Data(data)
        row = RECIPES[recipe]
        self.nets = {**row.nets, **recipes.by_stage(nets)}
        self.teacher = teacher and Path(teacher)
        self.faces = Path(faces) if faces else None
        for path in filter(None, (self.teacher, self.faces)):
            if not path.exists():
                raise Problem(f"{path} is not there")
        if self.data.drawn and not faces:
            self.faces = self.data.folder / "landmarks" / "train_5.txt"
        self.landmarks = [
            stage
            for stage in row.landmarks
            if landmarks and self.faces and spec(self.nets[stage]).landmark
        ]
        if faces and not self.landmarks:
            raise Problem(
                f"--faces {faces}: none of {', '.join(self.nets.values())} is to have "
                "a landmark head"
            )
        self.settings, self.own = recipes.settings_of(
            row, self.landmarks, self.data.drawn, assignments
        )
        gpus = sorted({gpu for own in self.own.values() for gpu in own.train.gpus})
        if gpus:  # said now, not when the samples are cut
            from symbols.mxnet_import import devices  # MXNet takes its time and memory

            devices(gpus)
        self.plan = Plan(cascade_steps.steps(self), self.out)

    def __str__(self):
        return f"{self.out}: recipe {self.recipe}, {', '.join(self.nets.values())}, " + (
            f"landmarks for {', '.join(self.landmarks)}" if self.landmarks else "no landmarks"
        )

    # ---- where results lie, and what they are made from -------------------------------------

    def path(self, name):
        """Of what a step leaves, or the folder of a net of TRAINED."""
        return self.out / name

    def size(self, stage):
        """Side of a stage's samples, px."""
        return spec(self.nets[stage]).size

    def stores(self, name):
        """The steps whose samples a net of TRAINED learns from."""
        stage, before = TRAINED[name]
        return (
            f"samples_{stage}",
            *([f"mine_{stage}"] if before else []),
            *([f"landmarks_{stage}"] if stage in self.landmarks else []),
        )

    def options(self, name):
        """Of a net of TRAINED, as for symbols.build."""
        return {"landmark": True} if TRAINED[name][0] in self.landmarks else {}

    def params(self, name):
        """Path of a net of TRAINED after its last epoch."""
        net = spec(self.nets[TRAINED[name][0]]).name
        return self.path(name) / f"{net}-{self.own[name].train.epochs:04d}.params"

    def cascade(self, name):
        """The nets of TRAINED as far as one of them, by stage."""
        return dict(zip(STAGES, (*TRAINED[name][1], name) if name != "pnet_hard" else (name,)))

    def figures_folder(self, name):
        """Folder with the figures of the cascade as far as a net of TRAINED."""
        return self.path(MEASURES[name])

    @cached_property
    def teacher_boxes(self):
        """File with what the teacher finds in the training pictures."""
        return self.out / "teacher_boxes.json"

    @cached_property
    def face_set(self):
        """The training pictures, with what the teacher says of the labels if there is one."""
        if not self.teacher:
            return self.data.sets["train"]
        from prepare_data import teacher

        return teacher.clean_labels(
            self.data.sets["train"], self.settings.teacher, self.teacher_boxes
        )

    # ---- how it was made --------------------------------------------------------------------

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
            "data": {split: face_set.counts for split, face_set in self.data.sets.items()},
            "teacher": self.teacher and self.teacher.name,
            "faces": self.faces and self.faces.name,
            "samples": {
                store: facts_of(self.path(store) / "store.json")["counts"] for store in stores
            },
            "figures": stage_figures.read(self.figures_folder("onet") / "stages.json"),
        }

    def budget(self, name):
        """The record of core.flops of a net of TRAINED."""
        from core import flops

        return flops.record(self.nets[TRAINED[name][0]], landmark=bool(self.options(name)))

    # ---- running ----------------------------------------------------------------------------

    def report(self):
        """Write the page about what there is; returns its path."""
        from core.pipeline import report

        path = self.out / "report.html"
        report.write(path, self)
        return path

    def go(self, steps, only=False):
        """Run steps (of self.plan) and what they need, or them alone; writes the report, also
        where a net misses its limits. Returns the summary that is left as summary.json."""
        with locked(self.out):
            return self._go(steps, only)

    def _go(self, steps, only):
        self.data.check_pictures(self.out / "steps" / "pictures.json")
        started = time.perf_counter()
        try:
            (self.plan.run_only if only else self.plan.run)(steps)
        except limits.LimitMissed:
            print(f"\n{self.report()}: the report so far", flush=True)
            raise
        steps = steps if only else self.plan.needed(steps)
        found = summary.of(self, steps, time.perf_counter() - started, self.report())
        write_json(self.out / "summary.json", found)
        return found

"""From faces with points to a net of landmarks, by one command that can be stopped anywhere.

    python -m core.landmarks --net Lnet_v2                    on a sample set that it draws
    python -m core.landmarks --net Lnet_v2 --faces FACES      a list or folder of faces with points
    python -m core.landmarks --net Lnet_v2 --faces FACES --dry-run     the plan, disk and time
    python -m core.landmarks --net Lnet106_96_v2 --points 68 --faces FACES
    python -m core.landmarks --net Lnet106_64_v3 --offline    crops made once, before training

Steps below --out, each done once and made anew when what it depends on has changed: the faces are
cut out of their pictures with room for every augmentation, into one store (with --offline, into
finished crops); the net is trained, its crops cut as that goes; it is measured on the faces held
out, beside the mean face, with pictures; and it is exported. Several nets may share a folder, and
with it the cuts.

Any value of config.py is overridden as section.key=value, e.g. train.epochs=100 crop.angle=20.
"""

import argparse
from dataclasses import replace
from functools import cached_property
from pathlib import Path

from config import for_landmarks
from core.base import options as command_line
from core.formats import checkpoint
from core.pipeline import estimates, plan_text, proofs
from core.pipeline.steps import Plan, Step
from facelet import schemes
from facelet.console import Problem, program
from facelet.files import is_new, sha256
from facelet.locks import locked
from prepare_data import landmark_samples, samples
from prepare_data.drawn import sets as drawn
from prepare_data.points import cuts, face_sets
from prepare_data.points import sets as points
from prepare_data.store import Store, sample_bytes
from symbols import spec

ROOT = Path(__file__).resolve().parents[1]
SAMPLE_PICTURES = 500
DRAWN_POINTS = (5, 68, 106)
CUT = {True: 112, False: 224}  # longer side of cuts, px, for nets up to SMALL_NETS and larger ones
SMALL_NETS = 64
# Of the drawn set, which is small: in batches of 64 its epochs would be a dozen steps.
DRAWN = {"train.batch": 32, "train.warmup": 100}
# For the plan, on 2 processors: bytes of a cut face by size, faces cut a second, multiply-adds of
# training and of measuring a second.
CUT_BYTES, CUT_PER_SECOND = {112: 4_500, 224: 15_000}, 60
TRAINED_MACS, MEASURED_MACS, FIGURES_BYTES = 5e9, 2e10, 2_000_000


def _lists(path):
    """A drawn set's proof: of all its lists, as nets with other points may share it."""
    lists = [path / "landmarks" / f"train_{points}.txt" for points in DRAWN_POINTS]
    return None if is_new(path) else " ".join(map(sha256, lists))


class LandmarkRun:
    """What one command asks for, as steps.

    net -- of landmarks alone; options -- its "points" and "base" where they are said
    faces -- list or folder of faces with points, None: those of the drawn set
    offline -- whether crops are made once
    start -- .params file or run's folder to begin from, or None
    args -- of the program, for points.from_args()

    Raises Problem for a net that gives no landmarks, faces that can't be read, and settings that
    aren't there.
    """

    def __init__(
        self, out, net, options, faces=None, offline=False, start=None, args=None, assignments=()
    ):
        found = spec(net)
        if [head.task for head in found.heads] != ["landmark"]:
            raise Problem(f"{net} is no net of landmarks alone: an Lnet is")
        self.out, self.net, self.options, self.size = Path(out), found.name, options, found.size
        self.points = options.get("points", found.points)
        if not faces and self.points not in DRAWN_POINTS:
            raise Problem(
                f"the drawn faces have {', '.join(map(str, DRAWN_POINTS[:-1]))} or "
                f"{DRAWN_POINTS[-1]} points, not {self.points}: give --faces"
            )
        self.assignments, self.args = assignments, args
        self.given, self.drawn = faces and Path(faces), self.out / "drawn"
        usual = [] if faces else [f"{key}={value}" for key, value in DRAWN.items()]
        self.settings = for_landmarks(
            self.points, [*usual, *assignments], self.faces.scheme if faces else None
        )
        self.start, self.offline = start and Path(start), offline
        if self.start and not self.start.exists():
            raise Problem(f"--start {start} is not there")
        self.name = "-".join(
            [
                self.net,
                *(f"{key}{value}" for key, value in sorted(options.items())),
                *(["offline"] if offline else []),
            ]
        )
        self.params = checkpoint.paths(self.out / self.name, net, self.settings.train.epochs)[1]
        self.measured = self.out / f"{self.name}-measured"
        self.exported = self.out / f"{self.name}-exported"
        cut = self._cutting()
        self.plan = Plan(
            [self._faces(), cut, self._training(cut.path), self._measuring(), self._export()],
            self.out,
        )

    def __str__(self):
        ways = f"cut as training goes (crop.box={self.settings.crop.box})"
        if self.offline:
            ways = f"made once (landmark_samples.box={self.settings.landmark_samples.box})"
        about = f"{self.out}: {checkpoint.describe(self.net, self.options)}, crops {ways}"
        known = [schemes.get(self.faces.scheme)] if self.given else []
        if known and known[0].box is None:
            about += (
                f"; the scheme {known[0].name} has no detector's box, so by default crops are cut "
                "around the points' bounds"
            )
        return about

    @cached_property
    def faces(self):
        """The PointSet to learn from."""
        if self.given:
            return points.from_args(self.given, self.args)
        return points.open_set(self.drawn / "landmarks" / f"train_{self.points}.txt")

    def check(self):
        """Raise Problem for what is wrong with the net, its start, the settings or the faces, as
        far as that can be known before a face is cut: all that training asks of them."""
        from core.train import tasks, trainer
        from symbols import build
        from symbols.mxnet_import import devices

        build(self.net, **self.options)
        train = self.settings.train
        devices(train.gpus)
        trainer.Schedule(train, steps=1)
        fresh = checkpoint.initial(self.net, self.options, train.seed, train.prelu_slope)
        if self.start:
            checkpoint.begun_from(self.start, fresh)
        if not self.given and is_new(self.drawn):
            return
        # No face gives more finished crops than these.
        times = self.settings.landmark_samples.base_num if self.offline else 1
        most = face_sets.Pictures(replace(self.faces, faces=self.faces.faces * times))
        task = tasks.task_of(spec(self.net), self.options, [most], self.settings)
        task.loss(self.settings.loss)

    # ---- the steps --------------------------------------------------------------------------

    def _faces(self):
        if self.given:
            return Step(
                "data",
                self.faces.describe(),
                self.given,
                lambda path: self.faces.sha256 if path.exists() else None,
            )
        return Step(
            "data",
            f"the sample set: {SAMPLE_PICTURES} drawn pictures",
            self.drawn,
            _lists,
            lambda: drawn.draw_sample_set(self.drawn, SAMPLE_PICTURES),
            expected=lambda: estimates.drawing(SAMPLE_PICTURES),
        )

    def _cutting(self):
        size = CUT[self.size <= SMALL_NETS]
        crop, offline = self.settings.crop, self.settings.landmark_samples

        def make():
            self.check()  # the drawn faces are there by now
            if self.offline:
                landmark_samples.make_store(self.faces, self.size, store, offline)
            else:
                cuts.make_store(self.faces, size, store, crop)

        if self.offline:
            store = self.out / f"crops_{self.points}_{self.size}"
            return Step(
                store.name,
                f"{offline.base_num} finished crops of {self.size} px of each face",
                store,
                proofs.listed("store.json", samples.MOSAIC),
                make,
                ("data",),
                {"size": self.size, "landmark_samples": dict(offline)},
                expected=lambda: self._cut_expected(
                    sample_bytes(self.size, self.points) * offline.base_num
                ),
            )
        store = self.out / f"cuts_{self.points}_{size}"
        room = {key: crop[key] for key in ("box", "scale", "plain", "shift", "min_face")}
        return Step(
            store.name,
            f"faces cut out with room, up to {size} px",
            store,
            proofs.listed("cuts.json"),
            make,
            ("data",),
            {"size": size, "crop": room},
            expected=lambda: self._cut_expected(CUT_BYTES[size]),
        )

    def _training(self, store):
        settings, start = self.settings, {}
        if self.start:
            from core.detect.nets import file_of

            start = {"start": sha256(file_of(self.start))}

        def make():
            from core.train import trainer  # MXNet takes its time and memory

            data = Store(store, self.size) if self.offline else face_sets.Cuts(store)
            trainer.train(
                self.net, self.options, [data], self.out / self.name, settings, self.start
            )

        own = {
            section: dict(settings[section])
            for section in ("input", "loss", "augment", "crop", "train")
        }
        times = settings.landmark_samples.base_num if self.offline else 1
        return Step(
            self.name,
            f"training {checkpoint.describe(self.net, self.options)}",
            self.out / self.name,
            lambda path: proofs.parameters(self.params),
            make,
            (store.name,),
            {"net": self.net, "options": self.options, **own, **start},
            keep=True,
            expected=lambda: (
                estimates.NET_BYTES,
                self._seconds(
                    self._count()
                    * (1 - settings.train.val_fraction)
                    * times
                    * settings.train.epochs,
                    TRAINED_MACS,
                ),
            ),
        )

    def _measuring(self):
        settings = self.settings

        def make():
            from core.evaluate import landmarks as evaluate_landmarks

            part = evaluate_landmarks.EvaluationSet(
                face_sets.Pictures(self.faces), settings.train.val_fraction, settings
            )
            usual = [evaluate_landmarks.USUAL]
            evaluate_landmarks.evaluate(
                [evaluate_landmarks.open_net(self.params)],
                usual,
                part,
                self.measured,
                settings,
                self.assignments,
            )

        return Step(
            self.measured.name,
            "errors on held-out faces",
            self.measured,
            proofs.file("landmarks.json"),
            make,
            (self.name, "data"),
            {"evaluate": dict(settings.evaluate)},
            expected=lambda: (
                FIGURES_BYTES,
                self._seconds(
                    self._count() * settings.train.val_fraction * (1 + settings.evaluate.box_draws),
                    MEASURED_MACS,
                ),
            ),
        )

    def _export(self):
        def make():
            from core import export

            export.export(self.params, self.exported)

        return Step(
            self.exported.name,
            "the net as an ONNX model",
            self.exported,
            proofs.file(f"{self.net}.onnx"),
            make,
            (self.name,),
            expected=lambda: estimates.EXPORTED,
        )

    # ---- what to expect ---------------------------------------------------------------------

    def _count(self):
        """Faces that there are, or will be."""
        if self.given or not is_new(self.drawn):
            return len(self.faces.faces)
        share = estimates.DRAWN_SHARES["train"]
        return SAMPLE_PICTURES * share * estimates.DRAWN_FACES

    def _cut_expected(self, bytes_of_face):
        return self._count() * bytes_of_face, estimates.shared(self._count() / CUT_PER_SECOND)

    def _seconds(self, crops, rate):
        """What so many crops take, at multiply-adds a second."""
        from core import flops

        macs = flops.record(self.net, **self.options)["macs"]
        return estimates.shared(crops * macs / rate)

    # ---- running ----------------------------------------------------------------------------

    def go(self):
        """Check what can be checked, then run what has not been run."""
        steps = list(self.plan.steps.values())
        with locked(self.out):
            self.plan.states(steps)
            self.check()
            print(self, flush=True)
            self.plan.run(steps[-2:])
        for label, path in {
            "net": self.params,
            "training curves": self.out / self.name / "curves.png",
            "samples": self.out / self.name / "samples.png",
            "held-out faces": self.out / self.name / "points.png",
            "figures": self.measured,
            "exported": self.exported,
        }.items():
            print(f"  {label:<16} {path}")

    def show_plan(self):
        """Print what go() would do."""
        self.check()
        plan_text.show(self.plan, list(self.plan.steps.values()), str(self))


def main(argv):
    parser = argparse.ArgumentParser(
        prog="python -m core.landmarks",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--net", required=True, metavar="NAME", help="of the zoo, e.g. Lnet_v2, Lnet106_96_v2"
    )
    parser.add_argument(
        "--points", type=int, metavar="N", help="how many points (default: the net's own)"
    )
    parser.add_argument(
        "--base", type=int, metavar="N", help="the net's width (default: the net's own)"
    )
    parser.add_argument(
        "--faces",
        metavar="FACES",
        help="list or folder of faces with points (default: a sample set drawn by the program)",
    )
    points.arguments(parser)
    parser.add_argument(
        "--offline",
        action="store_true",
        help="make the crops once, landmark_samples.base_num of each face",
    )
    parser.add_argument(
        "--start",
        metavar="FILE",
        help="a .params file or a run's folder to begin from; it may have other points",
    )
    parser.add_argument(
        "--out",
        metavar="RUN",
        help="folder for everything made (default: runs/landmarks-FACES in the repository)",
    )
    parser.add_argument("--dry-run", action="store_true", help="show the plan and do nothing")
    args = command_line.parse(parser, argv, {"--data": "--faces"})
    options = {name: getattr(args, name) for name in ("points", "base") if getattr(args, name)}
    out = args.out or ROOT / "runs" / (
        "landmarks-" + (Path(args.faces).resolve().stem if args.faces else "drawn")
    )
    run = LandmarkRun(
        out, args.net, options, args.faces, args.offline, args.start, args, args.settings
    )
    if args.dry_run:
        run.show_plan()
    else:
        run.go()


if __name__ == "__main__":
    program(main)

"""From faces with points to a net of landmarks, by one command that can be stopped anywhere.

    python -m core.landmarks --net Lnet_v2                    on a sample set that it draws
    python -m core.landmarks --net Lnet_v2 --data FACES       a list or folder of faces with points
    python -m core.landmarks --net Lnet106_96_v2 --points 68 --data FACES
    python -m core.landmarks --net Lnet106_64_v3 --offline    crops made once, in place of on line

Four steps below --out, each done once and made anew when what it depends on has changed
(core.pipeline.steps): the faces are cut out of their pictures with room for every augmentation, into one
store (with --offline, into finished crops); the net is trained, its crops cut as that goes; it is
measured on the faces held out, beside the mean face, with pictures; and it is exported. Several
nets may share a folder, and with it the cuts.
"""

import argparse
from pathlib import Path

from config import for_landmarks
from core.base import parallel
from core.formats import checkpoint
from core.pipeline.steps import Plan, Step, file_proof
from facelet.console import Problem, program
from facelet.files import sha256
from prepare_data import landmark_samples
from prepare_data.drawn import sets as drawn
from prepare_data.points import cuts, face_sets
from prepare_data.points import sets as points
from prepare_data.store import Store
from symbols import spec

ROOT = Path(__file__).resolve().parents[1]
SAMPLE_PICTURES = 500
DRAWN_POINTS = (5, 68, 106)
CUT = {True: 112, False: 224}  # longer side of cuts, px, for nets up to SMALL_NETS and larger ones
SMALL_NETS = 64
# Of the drawn set, which is small: in batches of 64 its epochs would be a dozen steps.
DRAWN = {"crop.preset": "detector", "train.batch": 32, "train.warmup": 100}


def _lists(path):
    """A drawn set's proof: of all its lists, as nets with other points may share it."""
    lists = [path / "landmarks" / f"train_{points}.txt" for points in DRAWN_POINTS]
    return " ".join(map(sha256, lists)) if path.exists() else None


class Course:
    """What one command asks for, as steps.

    data -- list or folder of faces with points, None: those of the drawn set
    net -- of landmarks alone; options -- its "points" and "base" where they are said
    offline -- whether crops are made once
    args -- of the program, for points.from_args()

    Raises Problem for a net that gives no landmarks, or more than these.
    """

    def __init__(
        self, out, net, options, data=None, offline=False, start=None, args=None, assignments=()
    ):
        found = spec(net)
        if [head.task for head in found.heads] != ["landmark"]:
            raise Problem(f"{net} is no net of landmarks alone: an Lnet is")
        self.out, self.net, self.options, self.size = Path(out), found.name, options, found.size
        self.points = options.get("points", found.points)
        usual = [] if data else [f"{key}={value}" for key, value in DRAWN.items()]
        self.settings = for_landmarks(self.points, [*usual, *assignments])
        self.assignments, self.args = assignments, args
        self.data = Path(data) if data else None
        self.drawn = self.out / "drawn"
        self.start, self.offline = start and Path(start), offline
        name = "-".join(
            [
                self.net,
                *(f"{key}{value}" for key, value in sorted(options.items())),
                *(["offline"] if offline else []),
            ]
        )
        self.plan = Plan(self._steps(name), self.out)

    def faces(self):
        """The PointSet to learn from."""
        if self.data:
            return points.from_args(self.data, self.args)
        return points.open_set(self.drawn / "landmarks" / f"train_{self.points}.txt")

    def _steps(self, name):
        if self.data:
            first = Step(
                "data",
                str(self.data),
                self.data,
                lambda path: self.faces().sha256 if path.exists() else None,
            )
        else:
            if self.points not in DRAWN_POINTS:
                raise Problem(
                    f"the drawn faces have 5, 68 or 106 points, not {self.points}: give --data"
                )
            first = Step(
                "data",
                f"the sample set: {SAMPLE_PICTURES} drawn pictures",
                self.drawn,
                _lists,
                lambda: drawn.draw_sample_set(self.drawn, SAMPLE_PICTURES),
            )
        size = CUT[self.size <= SMALL_NETS]
        crop, offline = dict(self.settings.crop), dict(self.settings.landmark_samples)
        if self.offline:
            store = self.out / f"crops_{self.points}_{self.size}"
            cut = Step(
                store.name,
                f"finished crops of {self.size} px",
                store,
                file_proof("store.json"),
                lambda: landmark_samples.make_store(
                    self.faces(), self.size, store, self.settings.landmark_samples
                ),
                ("data",),
                {"size": self.size, "landmark_samples": offline},
            )
        else:
            store = self.out / f"cuts_{self.points}_{size}"
            room = {key: crop[key] for key in ("box", "scale", "plain", "shift", "min_face")}
            cut = Step(
                store.name,
                f"faces cut out with room, up to {size} px",
                store,
                file_proof("cuts.json"),
                lambda: cuts.make_store(self.faces(), size, store, self.settings.crop),
                ("data",),
                {"size": size, "crop": room},
            )
        run, start = self.out / name, {}
        if self.start:
            from core.detect.nets import file_of

            start = {"start": sha256(file_of(self.start))}
        params = checkpoint.paths(run, self.net, self.settings.train.epochs)[1]

        def trained(path):
            return sha256(params) if params.with_suffix(".json").exists() else None

        def train():
            from core.train import trainer  # MXNet takes its time and memory

            data = Store(store, self.size) if self.offline else face_sets.Cuts(store)
            trainer.train(self.net, self.options, [data], run, self.settings, self.start)

        def measure():
            from core.evaluate import landmarks as evaluate_landmarks

            part = evaluate_landmarks.EvaluationSet(
                face_sets.Pictures(self.faces()), self.settings.train.val_fraction, self.settings
            )
            evaluate_landmarks.evaluate(
                [evaluate_landmarks.open_net(params)],
                [evaluate_landmarks.USUAL],
                part,
                measured,
                self.settings,
                self.assignments,
            )

        def export():
            from core import export

            export.export(params, exported)

        measured, exported = self.out / f"{name}-measured", self.out / f"{name}-exported"
        self.made = {
            "net": params,
            "training curves": run / "curves.png",
            "samples": run / "samples.png",
            "held-out faces": run / "points.png",
            "figures": measured,
            "exported": exported,
        }
        own = {
            section: dict(self.settings[section])
            for section in ("input", "loss", "augment", "crop", "train")
        }
        return [
            first,
            cut,
            Step(
                name,
                f"training {checkpoint.describe(self.net, self.options)}",
                run,
                trained,
                train,
                (cut.name,),
                {"net": self.net, "options": self.options, **own, **start},
                keep=True,
            ),
            Step(
                measured.name,
                "errors on held-out faces",
                measured,
                file_proof("landmarks.json"),
                measure,
                (name, "data"),
                {"evaluate": dict(self.settings.evaluate)},
            ),
            Step(
                exported.name,
                "the net as an ONNX model",
                exported,
                file_proof(f"{self.net}.onnx"),
                export,
                (name,),
            ),
        ]

    def go(self):
        """Run what has not been run."""
        print(
            f"{self.out}: {checkpoint.describe(self.net, self.options)}, "
            f"{'crops made once' if self.offline else 'crops cut as training goes'}, on "
            f"{parallel.cores()} processors",
            flush=True,
        )
        self.plan.run(
            self.plan.named(list(self.plan.steps)[-1]) + self.plan.named(list(self.plan.steps)[-2])
        )
        for label, path in self.made.items():
            print(f"  {label:<16} {path}")


def main(argv):
    parser = argparse.ArgumentParser(
        prog="python -m core.landmarks",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="Settings of config.py are overridden as section.key=value, e.g. train.epochs=100 "
        "crop.preset=detector.",
    )
    parser.add_argument("--net", required=True, help="e.g. Lnet_v2, Lnet106_96_v2")
    parser.add_argument("--points", type=int, help="how many (default: the net's own)")
    parser.add_argument("--base", type=int, help="its width (default: the net's own)")
    parser.add_argument(
        "--data",
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
        "--out", help="folder for everything made (default: runs/landmarks-DATA in the repository)"
    )
    parser.add_argument("settings", nargs="*", metavar="section.key=value")
    args = parser.parse_intermixed_args(argv)
    options = {name: getattr(args, name) for name in ("points", "base") if getattr(args, name)}
    out = args.out or ROOT / "runs" / (
        "landmarks-" + (Path(args.data).resolve().stem if args.data else "drawn")
    )
    Course(out, args.net, options, args.data, args.offline, args.start, args, args.settings).go()


if __name__ == "__main__":
    program(main)

"""The steps of a run, from pictures to an exported cascade: what each reads, how it is made, and
what its result depends on.

Modules that take MXNet, which needs time and memory, are imported where they run: worker processes
import this file.
"""

import shutil

from core.evaluate import stage_figures
from core.pipeline import estimates, limits, proofs
from core.pipeline.recipes import MEASURES, STAGES, TRAINED
from core.pipeline.steps import Step
from facelet.files import is_new, write_json
from facelet.nets import MANIFEST, SETTINGS
from prepare_data import mine, samples
from prepare_data.store import Store
from symbols import spec

# The names under which those who know train-mtcnn run the steps.
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


def steps(run):
    """The Steps of a core.pipeline.run.Run, in order."""
    found = _data(run)
    measured_on = found[-1].name
    if run.landmarks and not run.data.drawn:
        found.append(Step("faces", f"faces with points, {run.faces}", run.faces, proofs.content))
    if run.teacher:
        found += [
            Step("teacher", f"another detector, {run.teacher}", run.teacher, proofs.content),
            _teacher_boxes(run),
        ]
    for name, (stage, before) in TRAINED.items():
        if name == stage:
            found.append(_samples(run, stage))
        if before:
            found.append(_mining(run, name, stage, before))
        if name == stage and stage in run.landmarks:
            found.append(_landmarks(run, stage))
        found += [_training(run, name), _measuring(run, name, measured_on)]
    return [*found, _export(run)]


def _data(run):
    data = run.data
    if data.drawn:
        return [
            Step(
                "data",
                f"the sample set: {data.count} drawn pictures",
                data.folder,
                lambda path: None if is_new(path) else data.proof(*data.sets),
                data.draw,
                settings={"pictures": data.count},
                expected=lambda: estimates.drawing(data.count),
            )
        ]
    return [
        Step(
            name,
            f"{data.folder}, {split}",
            data.folder,
            lambda path, split=split: data.proof(split),
        )
        for name, split in (("data", "train"), ("val", "val"))
        if split in data.sets
    ]


def _teacher_boxes(run):
    def make():
        from prepare_data import teacher

        teacher.run_teacher(run.data.sets["train"], run.teacher, run.teacher_boxes, run.settings)

    detect = run.settings.detect
    settings = {"floor": run.settings.teacher.floor}
    if run.teacher.is_dir():  # a cascade of ours
        settings.update(min_face=detect.min_face, thresholds=detect.thresholds[:2])
    return Step(
        "teacher_boxes",
        f"what {run.teacher.name} finds in the training pictures",
        run.teacher_boxes,
        proofs.file(),
        make,
        ("data", "teacher"),
        settings,
        expected=lambda: estimates.asking(run),
    )


def _labels(run):
    """What training samples depend on beside their own settings: steps, settings."""
    if not run.teacher:
        return ("data",), {}
    return ("data", "teacher_boxes"), {"teacher": run.settings.teacher}


def _samples(run, stage):
    name, size = f"samples_{stage}", run.size(stage)
    path, settings = run.path(name), run.own[stage].samples
    reads, more = _labels(run)
    return Step(
        name,
        f"samples of {size} px",
        path,
        proofs.listed("store.json", samples.MOSAIC),
        lambda: samples.make_store(run.face_set, size, path, settings),
        reads,
        {"size": size, "samples": settings, **more},
        expected=lambda: estimates.cutting(run, name),
        script=SCRIPTS[name],
    )


def _mining(run, name, stage, before):
    called = f"mine_{stage}"
    size, own, path = run.size(stage), run.own[name], run.path(called)
    nets = dict(zip(STAGES, before))

    def make():
        paths = {of: run.params(net) for of, net in nets.items()}
        mine.make_store(run.face_set, paths, stage, size, path, own)

    reads, more = _labels(run)
    settings = {"size": size, **mine.goes_by(own, stage), **more}
    return Step(
        called,
        f"hard examples of {size} px, found by {' and '.join(before)}",
        path,
        proofs.listed("store.json", samples.MOSAIC),
        make,
        (*reads, *before),
        settings,
        after=(MEASURES[before[-1]],),
        expected=lambda: estimates.cutting(run, called),
        script=SCRIPTS[called],
    )


def _landmarks(run, stage):
    name = f"landmarks_{stage}"
    size, path = run.size(stage), run.path(name)
    settings = run.own[stage].landmark_samples

    def make():
        from prepare_data import landmark_samples
        from prepare_data.points import sets as points

        landmark_samples.make_store(points.open_set(run.faces), size, path, settings)

    return Step(
        name,
        f"landmark samples of {size} px",
        path,
        proofs.listed("store.json", samples.MOSAIC),
        make,
        ("data",) if run.data.drawn else ("faces",),
        {"size": size, "landmark_samples": settings},
        expected=lambda: estimates.cutting(run, name),
        script=SCRIPTS.get(name),
    )


def _training(run, name):
    stage, before = TRAINED[name]
    net, own, path = spec(run.nets[stage]).name, run.own[name], run.path(name)
    stores, options = run.stores(name), run.options(name)

    def make():
        from core.train import trainer

        opened = [Store(run.path(store), run.size(stage)) for store in stores]
        trainer.train(net, options, opened, path, own)

    hard = ", with hard examples" if before else ""
    points = ", with landmarks" if options else ""
    return Step(
        name,
        f"training {net}{hard}{points}",
        path,
        lambda path: proofs.parameters(run.params(name)),
        make,
        stores,
        {
            "net": net,
            **options,
            "input": own.input,
            "loss": own.loss,
            "augment": own.augment,
            "degrade": own.degrade,
            "train": own.train,
        },
        keep=True,
        expected=lambda: estimates.training(run, name),
        script=SCRIPTS[name],
    )


def _measuring(run, name, measured_on):
    nets, called = run.cascade(name), MEASURES[name]
    path, held_out = run.path(called), run.own["pnet"].train

    def make():
        from core.detect.detector import FaceDetector
        from core.evaluate import stages as evaluate_stages

        detect = run.settings.detect
        detector = FaceDetector(
            **{of: run.params(net) for of, net in nets.items()},
            **{key: detect[key] for key in SETTINGS},
        )
        detector = detector.changed(nms=detect.nms, nms_scale=detect.nms_scale)
        face_set = run.data.held_out(Store(run.path("samples_pnet")), held_out)
        evaluate_stages.evaluate(detector, face_set, path, run.settings)

    return Step(
        called,
        f"recall of {' + '.join(nets.values())} on held-out pictures",
        path,
        proofs.figures,
        make,
        (measured_on, "samples_pnet", *nets.values()),
        {
            "detect": {k: v for k, v in run.settings.detect.items() if k != "max_seconds"},
            "evaluate": run.settings.evaluate,
            "held out": {"val_fraction": held_out.val_fraction, "seed": held_out.seed},
        },
        also=(name,),
        judge=lambda: limits.check(
            name, stage_figures.read(path / "stages.json"), path, run.settings, run.own[name]
        ),
        expected=lambda: estimates.measuring(run),
    )


def _export(run):
    nets, detect, path = run.cascade("onet"), run.settings.detect, run.path("detector")
    settings = {key: detect[key] for key in SETTINGS}

    def make():
        from core import export
        from core.formats import checkpoint

        for name in nets.values():
            params = run.params(name)
            export.export(params, path)
            net, _, epoch = params.stem.rpartition("-")
            for file in checkpoint.paths(params.parent, net, int(epoch)):
                shutil.copy(file, path)
        write_json(path / "recipe.json", run.made_how())
        # Last: the folder counts as whole when it is there.
        write_json(
            path / MANIFEST, {**{of: f"{spec(run.nets[of]).name}.onnx" for of in nets}, **settings}
        )

    return Step(
        "export",
        "the nets as ONNX models, and their checkpoints",
        path,
        proofs.detector,
        make,
        ("evaluate", *nets.values()),
        settings,
        expected=lambda: estimates.EXPORTED,
    )

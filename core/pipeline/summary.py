"""What a run of core.pipeline has made, as values to keep and as text to show."""

import shlex

from core.evaluate import stage_figures
from core.pipeline.recipes import MEASURES, TRAINED
from facelet.console import clock
from facelet.nets import MANIFEST


def made(run, steps):
    """What to look at after these steps: a file by label."""
    names = [step.name for step in steps]
    trained = [name for name in TRAINED if name in names]
    found = {}
    if trained:
        found["checkpoint"] = run.params(trained[-1])
        found["training curves"] = run.path(trained[-1]) / "curves.png"
    stores = [
        name
        for name in names
        if (run.path(name) / "mosaic.png").exists()
        and name.startswith(("samples", "mine", "landmarks"))
    ]
    if stores:
        found["sample mosaic"] = run.path(stores[-1]) / "mosaic.png"
    measured = [MEASURES[name] for name in trained if MEASURES[name] in names]
    if measured:
        found["detections"] = run.path(measured[-1]) / "detections.png"
    if "export" in names:
        found["detector"] = run.path("detector") / MANIFEST
    return {label: path for label, path in found.items() if path.exists()}


def figures(run, steps):
    """(name, figures) of the last net of TRAINED that these steps have measured, or None."""
    names = [step.name for step in steps]
    for name in reversed(TRAINED):
        path = run.figures_folder(name) / "stages.json"
        if MEASURES[name] in names and path.exists():
            return name, stage_figures.read(path)
    return None


def of(run, steps, seconds, report):
    """The summary after these steps, JSON values.

    seconds -- that they took; report -- path of the page about them
    """
    name, found = figures(run, steps) or (None, None)
    return {
        "net": name,
        "recall": found and found["recall"],
        "figures": found,
        "seconds": seconds,
        "made": {
            label: str(path) for label, path in {**made(run, steps), "report": report}.items()
        },
    }


def show(run, summary):
    """Print a summary."""
    print()
    if summary["net"]:
        nets = " + ".join(run.nets[stage] for stage in run.cascade(summary["net"]))
        found = summary["figures"]
        print(
            f"{nets}: recall on held-out pictures {summary['recall']:.3f} at IoU "
            f"{found['iou']:g}, {found['boxes_per_picture']:.1f} boxes a picture"
        )
    print(f"finished in {clock(summary['seconds'])}; made:")
    for label, path in summary["made"].items():
        print(f"  {label:<16} {path}")
    if "detector" in summary["made"]:
        words = ["core.detect", str(_held_out_picture(run)), "--nets", str(run.out)]
        print(f"try it on a held-out picture, or on your own: {command(words)}")


def _held_out_picture(run):
    """The one with the most faces."""
    face_set = run.data.sets.get("val", run.data.sets["train"])
    most = max(face_set.annotations, key=lambda annotation: len(annotation.boxes))
    return face_set.images / most.path


def command(words):
    """A program's command line, to be pasted in the clone: its module and arguments."""
    return shlex.join(["scripts/run.sh", *words])


def command_with(argv, setting):
    """core.pipeline's command line with another value of a setting."""
    key = setting.partition("=")[0]
    kept = [word for word in argv if not word.startswith(f"{key}=")]
    return command(["core.pipeline", *kept, setting])


def show_mix(run, name):
    """Print what the training of a net draws from, in place of train-mtcnn's lists."""
    from core.train.loader import MIXED, Batches, Samples, split_by_picture
    from prepare_data.store import Store

    stage, own = TRAINED[name][0], run.own[name]
    data = Samples([Store(run.path(step), run.size(stage)) for step in run.stores(name)])
    chosen, held_out = split_by_picture(data, own.train.val_fraction, own.train.seed)
    batches = Batches(data, chosen, own, bool(run.options(name)))
    print(
        f"{name}, {run.nets[stage]}: no list is written, as training draws from the stores; "
        f"an epoch is {batches.steps:,} batches of {own.train.batch}"
    )
    print(f"  {'kind':<10}{'to train on':>12}{'held out':>10}{'in a batch':>12}{'in an epoch':>13}")
    for number, kind in enumerate(MIXED):
        there, kept = ((data.mixed[part] == number).sum() for part in (chosen, held_out))
        share = batches.shares[kind]
        print(f"  {kind:<10}{there:>12,}{kept:>10,}{share:>12,}{share * batches.steps:>13,}")

"""From pictures to a trained Pnet, by one command.

    python -m core.pipeline                  draws a sample set to try it on
    python -m core.pipeline --data DIR       photographs laid out like WIDER FACE

Steps: the sample set (without --data), samples, training, recall and detections on held-out
pictures. Each leaves its result whole in its own folder below --out; run again, the command goes
on where it was stopped.
"""
import argparse
import dataclasses
import time
from pathlib import Path

from config import config, override
from core.console import Problem, clock, program
from core.files import write_json
from core.loader import held_out_pictures
from prepare_data import drawn, samples, wider
from prepare_data.store import Store
from symbols import spec

ROOT = Path(__file__).resolve().parents[1]
SAMPLE_PICTURES = 500
# The sample set is small, so it is gone through more often. Settings on the command line come
# after these.
SAMPLE_SETTINGS = ["train.epochs=20"]


def _step(number, total, title):
    print(f"\n[{number}/{total}] {title}", flush=True)


def _store(face_set, size, path, settings):
    """The store at `path`, made now or found. Raises Problem if it was made otherwise."""
    if path.exists():
        store = Store(path, size)
        made_with = store.facts["settings"]
        if made_with != dict(settings) or store.facts["source"]["file"] != face_set.truth.name:
            raise Problem(f"{path} was made of other pictures or with other settings "
                          f"({made_with}): remove it or choose another --out")
        print(f"{path}: there already, {store.describe()}")
        return store
    samples.make_store(face_set, size, path, settings)
    return Store(path, size)


def _held_out(data, store, face_set, settings):
    """What to measure on: the set's val split or, where it has none, the training pictures that
    were held out."""
    try:
        return wider.open_set(data, "val")
    except Problem as problem:
        chosen = held_out_pictures(store, settings.train.val_fraction, settings.train.seed)
        print(f"{problem}; measured on the {len(chosen)} training pictures held out instead")
        return dataclasses.replace(face_set, annotations=[face_set.annotations[i]
                                                          for i in chosen])


def run(net, data, out, settings, pictures=SAMPLE_PICTURES):
    """All steps; returns the summary that is also written to out/summary.json."""
    # Not at the top: worker processes import this file, and MXNet takes its time and memory.
    from core import evaluate, trainer
    net = spec(net)
    if not net.stride:
        raise Problem(f"{net.name} takes crops: this recipe trains a Pnet, like Pnet20_v1")
    started, out = time.perf_counter(), Path(out)
    total = 3 if data else 4
    if not data:
        data = out / "drawn"
        _step(1, total, f"the sample set: {pictures} drawn pictures")
        if data.exists():
            print(f"{data}: there already")
        else:
            drawn.draw_sample_set(data, pictures)
    data = Path(data)
    face_set = wider.open_set(data, "train")

    _step(total - 2, total, f"samples of {net.size} px from {data}")
    store = _store(face_set, net.size, out / f"samples{net.size}", settings.samples)

    _step(total - 1, total, f"training {net.name}")
    run_folder = out / net.name
    params = trainer.train(net.name, {}, store, run_folder, settings)

    _step(total, total, "recall and detections on held-out pictures")
    figures = evaluate.evaluate(params, _held_out(data, store, face_set, settings),
                                out / "evaluation", settings)
    summary = {"net": net.name, "recall": figures["recall"], "figures": figures,
               "seconds": time.perf_counter() - started,
               "made": {"checkpoint": str(params), "curves": str(run_folder / "curves.png"),
                        "mosaic": str(store.path / "mosaic.png"),
                        "detections": str(out / "evaluation" / "detections.png")}}
    write_json(out / "summary.json", summary)
    return summary


def show(summary):
    """The summary as lines."""
    print(f"\nDone in {clock(summary['seconds'])}: {summary['net']}, recall of its proposals on "
          f"held-out pictures {summary['recall']:.3f} at IoU {summary['figures']['iou']}, "
          f"{summary['figures']['proposals_per_picture']:.0f} proposals a picture")
    labels = {"checkpoint": "checkpoint", "curves": "training curves", "mosaic": "sample mosaic",
              "detections": "detections"}
    for key, label in labels.items():
        print(f"  {label:<16} {summary['made'][key]}")


def main(argv):
    parser = argparse.ArgumentParser(
        prog="scripts/P20_train.sh", description="From pictures to a trained Pnet.",
        epilog="Any value of config.py is overridden as section.key=value, e.g. train.epochs=8 "
               "samples.min_face=40.")
    parser.add_argument("--data", help="photographs laid out like WIDER FACE (default: a sample "
                                       "set drawn by the program)")
    parser.add_argument("--net", default="Pnet20_v1", help="default: %(default)s")
    parser.add_argument("--out", help="folder for everything made (default: runs/NET-DATA in the "
                                      "repository)")
    parser.add_argument("--pictures", type=int, default=SAMPLE_PICTURES,
                        help="size of the drawn sample set (default: %(default)s)")
    parser.add_argument("settings", nargs="*", metavar="section.key=value")
    args = parser.parse_args(argv)
    settings = override(config, [*([] if args.data else SAMPLE_SETTINGS), *args.settings])
    name = Path(args.data).resolve().name if args.data else "drawn"
    out = args.out or ROOT / "runs" / f"{args.net}-{name}"
    show(run(args.net, args.data, out, settings, args.pictures))


if __name__ == "__main__":
    program(main)

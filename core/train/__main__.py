"""Trains a net of the zoo.

    python -m core.train --net Pnet20_v1 --data STORE --out RUN
    python -m core.train --net Onet_v1 --landmark --data STORE MINED LANDMARKS --out RUN
    python -m core.train --net Lnet_v2 --base 16 --data CUTS --out RUN
    python -m core.train --net Lnet106_96_v2 --points 68 --data CUTS --out RUN
    python -m core.train --net L14_heatmap --data LIST --out RUN

Nets that tell faces learn from stores of samples (prepare_data.samples, .mine, .landmark_samples).
Nets of landmarks alone learn from faces whose crops are cut as training goes: from stores of cuts
(prepare_data.points cut) or, slower, the pictures that a list names, as they are; or from crops
made once (prepare_data.landmark_samples). Several sets, one of labels and one of pseudo-labels
(prepare_data.points label), are learnt from in the shares of their sizes.

Stopped at any moment, the same command goes on after the last finished epoch and ends with the
same parameters.
"""

import argparse
from pathlib import Path

from config import config, for_landmarks, override
from facelet.console import program
from prepare_data import joints
from prepare_data.points import face_sets
from prepare_data.points import sets as points
from prepare_data.store import Store
from symbols import spec


def opened(path, net, args, settings):
    """What a net can learn from at a path: a Store, Cuts, Pictures or, for heat maps, Bodies."""
    tasks = {head.task for head in net.heads}
    if (Path(path) / "store.json").is_file() or "cls" in tasks:
        return Store(path, net.size)
    if "heatmap" in tasks:
        return joints.open_set(path, args.images, settings.joints.min_side)
    return face_sets.open_faces(path, args)


def main(argv):
    parser = argparse.ArgumentParser(
        prog="python -m core.train",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="Settings of the sections train, loss, augment, crop and joints are overridden as "
        "section.key=value, e.g. train.epochs=8 loss.bbox.kind=smooth_l1; config.py "
        "explains each.",
    )
    parser.add_argument("--net", required=True, help="e.g. Pnet20_v1, Rnet_v1, Onet_v1, Lnet_v2")
    parser.add_argument("--landmark", action="store_true", help="with its landmark head")
    parser.add_argument("--points", type=int, help="how many landmark points it is to give")
    parser.add_argument("--base", type=int, help="its width, the base of its table of layers")
    parser.add_argument(
        "--data", required=True, nargs="+", metavar="DATA", help="stores, lists: see above"
    )
    points.arguments(parser)
    parser.add_argument(
        "--start",
        metavar="FILE",
        help="a .params file or a run's folder to begin "
        "from; a net of landmarks alone may have other points",
    )
    parser.add_argument(
        "--out", required=True, metavar="RUN", help="folder for checkpoints, log and curves"
    )
    parser.add_argument("settings", nargs="*", metavar="section.key=value")
    args = parser.parse_intermixed_args(argv)
    from core.train import trainer  # here, so that MXNet missing is one line

    net, options = spec(args.net, args.landmark), {}
    for name in ("landmark", "points", "base"):
        if getattr(args, name):
            options[name] = getattr(args, name)
    only = [head.task for head in net.heads] == ["landmark"]
    settings = (
        for_landmarks(options.get("points", net.points), args.settings)
        if only
        else override(config, args.settings)
    )
    data = [opened(path, net, args, settings) for path in args.data]
    params = trainer.train(net.name, options, data, args.out, settings, args.start)
    print(f"{params}: the trained net; curves.png, log.jsonl and config.json beside it")


if __name__ == "__main__":
    program(main)

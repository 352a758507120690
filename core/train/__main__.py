"""Trains a net of the zoo.

    python -m core.train --net Pnet20_v1 --samples STORE --out RUN
    python -m core.train --net Onet_v1 --landmark-head --samples STORE MINED LANDMARKS --out RUN
    python -m core.train --net Lnet_v2 --base 16 --faces CUTS --out RUN
    python -m core.train --net Lnet106_96_v2 --points 68 --faces CUTS --out RUN
    python -m core.train --net L14_heatmap --faces LIST --out RUN

Nets that classify faces (Pnets, Rnets, Onets) learn from stores of samples: prepare_data.samples,
.mine, .landmark_samples. Nets of landmarks alone (Lnets) learn from faces whose crops are cut as
training goes: stores of cuts (prepare_data.points cut) or, slower, the pictures that a list names,
as they are; or from crops made once, stores of prepare_data.landmark_samples. Several sets, one of
labels and one of pseudo-labels (prepare_data.points label), are learnt from in the shares of their
sizes. L14_heatmap learns from a list of bodies with joints.

With --workers, that many processes train it together, here or, with --hosts, on several machines
(docs/scale.md).

Stopped at any moment, the same command goes on after the last finished epoch and ends with the
same parameters.
"""

import argparse
from pathlib import Path

from config import config, for_landmarks, override
from core.base.options import parse, whole
from core.train.launch import MOST, launch, read_hosts
from facelet.console import Problem, program
from prepare_data import joints
from prepare_data.points import face_sets
from prepare_data.points import sets as points
from prepare_data.store import Store
from symbols import graph, spec


def _heads(net):
    return {head.task for head in net.heads}


def _renamed(argv):
    """Old spellings of options; what --data was goes by the net."""
    finder = argparse.ArgumentParser(add_help=False)
    finder.add_argument("--net")
    name = finder.parse_known_args(argv)[0].net
    data = "--samples" if not name or "cls" in _heads(spec(name)) else "--faces"
    return {"--data": data, "--landmark": "--landmark-head"}


def opened(net, args, settings):
    """What a net is to learn from: Stores, Cuts, Pictures or, for heat maps, Bodies. Raises Problem
    where it can't learn from such."""
    heads = _heads(net)
    if args.faces and "cls" in heads:
        raise Problem(f"{net.name} learns from stores of samples: give --samples, not --faces")
    if args.samples and "heatmap" in heads:
        raise Problem(f"{net.name} learns from a list of bodies: give --faces, not --samples")
    if not args.samples and not args.faces:
        wanted = "--samples STORE" if "cls" in heads else "--faces FACES"
        raise Problem(f"{net.name} needs something to learn from: give {wanted}")
    stores = [Store(path, net.size) for path in args.samples]
    if "heatmap" in heads:
        least = settings.joints.min_side
        return [joints.open_set(path, args.images, least) for path in args.faces]
    # A store of crops made once is one of faces as well.
    return stores + [
        Store(path, net.size)
        if (Path(path) / "store.json").is_file()
        else face_sets.open_faces(path, args)
        for path in args.faces
    ]


def parsed(argv):
    """The arguments of the program."""
    parser = argparse.ArgumentParser(
        prog="python -m core.train",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="Settings of the sections train, loss, augment, crop and joints are overridden as "
        "section.key=value, e.g. train.epochs=8 loss.bbox.kind=smooth_l1; config.py "
        "explains each.",
    )
    parser.add_argument(
        "--net", required=True, metavar="NAME", help="e.g. Pnet20_v1, Rnet_v1, Onet_v1, Lnet_v2"
    )
    parser.add_argument("--landmark-head", action="store_true", help="with its landmark head")
    parser.add_argument("--points", type=int, metavar="N", help="number of its landmark points")
    parser.add_argument(
        "--base", type=int, metavar="N", help="width of an Lnet: multiplies its channels"
    )
    parser.add_argument(
        "--samples", nargs="+", default=[], metavar="STORE", help="packed stores of samples"
    )
    parser.add_argument(
        "--faces",
        nargs="+",
        default=[],
        metavar="FACES",
        help="faces with points: stores of cuts, lists, folders",
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
    parser.add_argument(
        "--workers",
        type=whole(1, MOST),
        metavar="N",
        help="processes that train it together, each with its rows of every batch",
    )
    parser.add_argument(
        "--servers",
        type=whole(1, MOST),
        metavar="N",
        help="processes that add up what the workers have (default: 1)",
    )
    parser.add_argument(
        "--hosts",
        metavar="FILE",
        help="machines that they run on in turn, over ssh: a NAME or USER@NAME a line",
    )
    parser.add_argument(
        "--compression",
        default="none",
        choices=("none", "fp16"),
        help="of gradients between the workers",
    )
    args = parse(parser, argv, renamed=_renamed(argv))
    if not args.workers and (args.servers or args.hosts):
        raise Problem("--servers and --hosts go with --workers: say how many")
    return args


def train(args):
    """Train a net in this process, whether alone or as one of several workers."""
    from core.train import trainer  # here, so that MXNet missing is one line

    net, options = spec(args.net, args.landmark_head), {}
    if args.landmark_head:
        options["landmark"] = True
    options.update(
        {
            name: value
            for name, value in (("points", args.points), ("base", args.base))
            if value is not None
        }
    )
    graph.describe(net.name, **options)  # what is wrong with the net shows before its data is read
    settings = (
        for_landmarks(options.get("points", net.points), args.settings)
        if _heads(net) == {"landmark"}
        else override(config, args.settings)
    )
    data = opened(net, args, settings)
    params = trainer.train(net.name, options, data, args.out, settings, args.start)
    print(f"{params}: the trained net; curves.png, log.jsonl and config.json beside it")


def main(argv):
    args = parsed(argv)
    if not args.workers:
        train(args)
        return
    hosts = read_hosts(args.hosts) if args.hosts else None
    launch(argv, args.out, args.workers, args.servers or 1, hosts)


if __name__ == "__main__":
    program(main)

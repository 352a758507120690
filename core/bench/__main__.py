"""Speed of this toolkit against programs written as train-mtcnn is, measured in one run.

    python -m core.bench train [--net NAME ...] [--rounds N] [--torch] [--json]
    python -m core.bench load [--size 20 48] [--rounds N] [--json]
    python -m core.bench landmarks [--faces STORE] [--size 48 96] [--rounds N] [--json]
    python -m core.bench detect --nets DIR [--pictures DIR] [--yunet FILE] [--min-face PX ...]
        [--rounds N] [--json]
    python -m core.bench memory [--nets DIR] [--picture FILE] [--size 640x480] [--json]
    python -m core.bench mine --nets DIR [--data DIR] [--count N] [--for NET ...] [--rounds N]
                              [--json]
    python -m core.bench dist [--net NAME] [--workers N ...] [--rounds N] [--json]

train: images/s of whole training steps, from arrays to the outputs as arrays (core.bench.train).
--torch adds the same net in PyTorch (channels last, cross entropy and L2 without mining).

load: samples/s of training batches, and the share of training that is spent waiting for ours.

landmarks: samples/s of training batches of faces with points, from a store of cuts, of the net's
updates, and of both at once (core.bench.landmarks).

detect: pictures/s of detectors on one thread, ours by stage (core.bench.detect).

memory: what a detector of facelet takes beside the interpreter and its imports, and its first call
(core.bench.memory).

mine: pictures/s of mining hard examples (core.bench.mine).

dist: steps/s of training by several workers on this machine, and the share of the time that goes by
in communication (core.bench.dist).
"""

import argparse
import json
import re

import numpy as np

from core.base.options import parse, whole
from core.bench.common import (
    FED_NETS,
    LANDMARK_SIZES,
    LOAD_TARGETS,
    TRAIN_TARGETS,
    WAITING_TARGET,
    machine,
    title,
)
from facelet import picture as pictures
from facelet.console import Problem, program
from facelet.locks import locked
from facelet.nets import MODELS


def _line(row):
    share, ratio = row["unit"] == "share of a step", row["ratio"]
    aim = row.get("aim") or (f"at most {WAITING_TARGET:.0%}" if share else f"{row['target']}x")
    number, ratio = "9.1%" if share else "9,.0f", "" if ratio is None else f"{ratio:.2f}x"
    verdict = "" if row["met"] is None else f"{aim}, {'met' if row['met'] else 'missed'}"
    return (
        f"{row['what']:<14}{row['batch']:>6}  {row['competitor']:<9}{row['median']:{number}}"
        f"{row['best']:{number}}  {row['unit']:<16}{ratio:>7}  {verdict}"
    ).rstrip()


def _train(args):
    from core.bench import train as bench_train

    list(map(bench_train.tasks_of, args.net))  # a wrong name shows now, not minutes later
    facts = machine(["mxnet", "numpy", *(["torch"] if args.torch else [])])
    if args.torch and "torch" not in facts:
        raise Problem(
            "--torch needs PyTorch, which is not installed here: pip install torch, "
            "or leave the option out"
        )
    return facts, (bench_train.bench_train(net, args.rounds, args.torch) for net in args.net)


def _load(args):
    from core.bench import train as bench_train

    return machine(["mxnet", "numpy"]), (
        bench_train.bench_load(side, args.rounds) for side in args.size
    )


def _landmarks(args):
    from core.bench import landmarks as bench_landmarks
    from prepare_data.points.face_sets import Cuts

    if args.faces is not None:
        Cuts(args.faces)  # a wrong path shows now
    return (
        machine(["mxnet", "numpy", "opencv-python-headless"]),
        (bench_landmarks.bench(size, args.faces, args.rounds) for size in args.size),
    )


def _table(facts, runs, as_json):
    if as_json:
        print(json.dumps([{**row, "machine": facts} for rows in runs for row in rows], indent=1))
        return
    print(title(facts))
    print(
        f"{'':<14}{'batch':>6}  {'':<9}{'median':>9}{'best':>9}  {'':<16}{'ratio':>7}  target",
        flush=True,
    )
    for rows in runs:
        print("\n".join(map(_line, rows)), flush=True)


def main(argv):
    parser = argparse.ArgumentParser(
        prog="python -m core.bench", description="Speed against programs written as train-mtcnn is."
    )
    commands = parser.add_subparsers(dest="command", required=True)
    train = commands.add_parser("train", help="training steps, images/s")
    train.add_argument("--net", nargs="+", default=list(TRAIN_TARGETS), metavar="NAME")
    train.add_argument("--torch", action="store_true", help="PyTorch too")
    load = commands.add_parser("load", help="training batches, samples/s")
    load.add_argument(
        "--size",
        nargs="+",
        type=int,
        default=list(LOAD_TARGETS),
        choices=list(FED_NETS),
        help="of the crops, px",
    )
    landmarks = commands.add_parser(
        "landmarks", help="training batches of faces with points, samples/s"
    )
    landmarks.add_argument(
        "--faces",
        metavar="STORE",
        help="store of prepare_data.points cut "
        "(default: drawn faces, with 5 points and from 80 px on with 106)",
    )
    landmarks.add_argument(
        "--size",
        nargs="+",
        type=int,
        default=list(LANDMARK_SIZES),
        choices=LANDMARK_SIZES,
        help="of the crops, px",
    )
    detect = commands.add_parser("detect", help="detectors on one thread, pictures/s")
    detect.add_argument(
        "--nets", required=True, metavar="DIR", help="folder with a detector's .params files"
    )
    detect.add_argument(
        "--pictures", metavar="DIR", help="folder of pictures (default: drawn ones)"
    )
    detect.add_argument(
        "--yunet",
        nargs="+",
        default=[],
        metavar="FILE",
        help="YuNet models, to be measured too; of one that leaves the size open, the net alone",
    )
    detect.add_argument(
        "--min-face",
        nargs="+",
        type=float,
        metavar="PX",
        help="smallest faces to measure with, one after another (default: detect.min_face)",
    )
    frontier = commands.add_parser(
        "frontier", help="average precision against time, of detectors at several settings"
    )
    frontier.add_argument(
        "--nets", nargs="+", default=[], metavar="DIR", help="folders with the nets of a detector"
    )
    frontier.add_argument(
        "--data", required=True, metavar="DIR", help="pictures with boxes, laid out like WIDER FACE"
    )
    frontier.add_argument("--split", default="val", choices=("train", "val"))
    frontier.add_argument(
        "--yunet", nargs="+", default=[], metavar="FILE", help="YuNet models that OpenCV reads"
    )
    frontier.add_argument(
        "--facenet", action="store_true", help="facenet-pytorch too, which must be installed"
    )
    frontier.add_argument(
        "--side",
        default="larger",
        choices=("larger", "smaller"),
        help="of a face that is its size (default %(default)s)",
    )
    frontier.add_argument("--out", required=True, metavar="FOLDER", help="for table and picture")
    memory = commands.add_parser("memory", help="of a detector, and its first call")
    memory.add_argument(
        "--nets",
        default=MODELS,
        metavar="DIR",
        help="folder with a detector's ONNX models (default: the included ones)",
    )
    memory.add_argument(
        "--picture", metavar="FILE", help="a picture (default: one of a single colour)"
    )
    memory.add_argument("--size", default="640x480", metavar="WxH", help="it is brought to")
    memory.add_argument("--json", action="store_true", help="print a list of objects")
    mine = commands.add_parser("mine", help="mining of hard examples, pictures/s")
    mine.add_argument(
        "--nets", required=True, metavar="DIR", help="folder with the .params files so far"
    )
    mine.add_argument(
        "--data", metavar="DIR", help="a set laid out like WIDER FACE (default: a drawn one)"
    )
    mine.add_argument("--split", default="train", choices=("train", "val"))
    mine.add_argument("--count", type=int, default=200, help="pictures (default %(default)s)")
    mine.add_argument(
        "--for",
        dest="targets",
        nargs="+",
        default=["rnet", "onet"],
        choices=("pnet", "rnet", "onet"),
        help="the nets that are to learn from them",
    )
    dist = commands.add_parser("dist", help="training by several workers, steps/s")
    dist.add_argument("--net", default="Pnet20_v1", metavar="NAME")
    dist.add_argument(
        "--workers",
        nargs="+",
        type=whole(1, 100),
        default=[1, 2],
        metavar="N",
        help="numbers of them to measure with (default: 1 2)",
    )
    for command in (train, load, landmarks, detect, frontier, mine, dist):
        command.add_argument(
            "--rounds", type=int, default=5, help="measurements of each competitor"
        )
        command.add_argument("--json", action="store_true", help="print a list of objects")
    args = parse(parser, argv, renamed={"--sizes": "--size"}, settings=False)
    if args.command != "memory" and args.rounds < 1:
        raise Problem(f"--rounds {args.rounds}: it must be at least 1")
    if args.command == "detect":
        from core.bench import detect as bench_detect

        bench_detect.run(
            args.nets, args.pictures, args.yunet, args.rounds, args.json, args.min_face
        )
    elif args.command == "frontier":
        from core.bench import frontier as bench_frontier

        if not args.nets and not args.yunet:
            raise Problem("there is nothing to measure: give --nets DIR, or --yunet FILE")
        with locked(args.out):
            bench_frontier.run(
                args.nets,
                args.data,
                args.split,
                args.yunet,
                args.facenet,
                args.rounds,
                args.out,
                args.json,
                args.side,
            )
    elif args.command == "memory":
        from core.bench import memory as bench_memory

        if not re.fullmatch(r"[1-9]\d{1,3}x[1-9]\d{1,3}", args.size):
            raise Problem(f"--size {args.size}: it must be like 640x480")
        picture = (
            pictures.read(args.picture) if args.picture else np.full((480, 640, 3), 128, np.uint8)
        )
        bench_memory.run(args.nets, picture, args.size, args.json)
    elif args.command == "dist":
        from core.bench import dist as bench_dist

        facts = machine(["mxnet", "numpy"])
        rows = bench_dist.bench(args.net, args.workers, args.rounds)
        if args.json:
            print(json.dumps([{**row, "machine": facts} for row in rows], indent=1))
            return
        print(f"{title(facts)}; {args.net}, batches of {rows[0]['batch']:,}, a thread a worker")
        print("\n".join([bench_dist.COLUMNS, *map(bench_dist.line, rows)]))
    elif args.command == "mine":
        from core.bench import mine as bench_mine

        bench_mine.run(
            args.nets, args.data, args.split, args.count, args.targets, args.rounds, args.json
        )
    else:
        _table(
            *{"train": _train, "load": _load, "landmarks": _landmarks}[args.command](args),
            args.json,
        )


if __name__ == "__main__":
    program(main)

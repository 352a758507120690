"""Speed of this toolkit against programs of the reference's form, measured in one run.

    python -m core.bench train [--net NAME ...] [--rounds N] [--torch] [--json]
    python -m core.bench load [--size 20 48] [--rounds N] [--json]
    python -m core.bench landmarks [--faces CUTS] [--sizes 48 96] [--rounds N] [--json]
    python -m core.bench detect --nets DIR [--pictures DIR] [--yunet FILE] [--rounds N] [--json]
    python -m core.bench mine --nets DIR [--data SET] [--count N] [--for NET ...] [--rounds N]
                              [--json]

train: images/s of whole training steps, from arrays to the outputs as arrays (core.bench_train).
--torch adds the same net in PyTorch (channels last, cross entropy and L2 without mining).

load: samples/s of training batches, and the share of training that is spent waiting for ours.

landmarks: samples/s of training batches of faces with points, from a store of cuts, of the net's
updates, and of both at once (core.bench_landmarks).

detect: pictures/s of detectors on one thread, ours by stage (core.bench_detect).

mine: pictures/s of mining hard examples (core.bench_mine).
"""
import argparse
import json
import platform
from importlib import metadata
from pathlib import Path

from core.console import Problem, program
from core.parallel import cores

# How many times the baseline's speed is aimed at.
TRAIN_TARGETS = {"Pnet20_v1": 4, "Rnet_v1": 5, "Onet_v1": 5, "Lnet106_v2": 5}
LOAD_TARGETS = {20: 6, 48: 3}
WAITING_TARGET = 0.1
LANDMARK_SIZES = (48, 64, 96, 112)  # px
FED_NETS = {20: "Pnet20_v1", 24: "Rnet_v1", 48: "Onet_v1"}  # by size of the crops, px


def machine(packages):
    """What the figures were measured on: the machine, and the versions of the packages that are
    installed."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    models = [line.partition(": ")[2] for line in lines if line.startswith("model name")]
    facts = {"cpu": models[0] if models else platform.machine(), "cores": cores(),
             "python": platform.python_version()}
    for package in packages:
        try:
            facts[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            pass
    return facts


def _line(row):
    share, ratio = row["unit"] == "share of a step", row["ratio"]
    aim = row.get("aim") or (f"at most {WAITING_TARGET:.0%}" if share else f"{row['target']}x")
    number, ratio = "9.1%" if share else "9,.0f", "" if ratio is None else f"{ratio:.2f}x"
    verdict = "" if row["met"] is None else f"{aim}, {'met' if row['met'] else 'missed'}"
    return (f"{row['what']:<14}{row['batch']:>6}  {row['competitor']:<9}{row['median']:{number}}"
            f"{row['best']:{number}}  {row['unit']:<16}{ratio:>7}  {verdict}").rstrip()


def _train(args):
    from core import bench_train
    list(map(bench_train.tasks_of, args.net))  # a wrong name shows now, not minutes later
    facts = machine(["mxnet", "numpy", *(["torch"] if args.torch else [])])
    if args.torch and "torch" not in facts:
        raise Problem("--torch needs PyTorch, which is not installed here: pip install torch, "
                      "or leave the option out")
    return facts, (bench_train.bench_train(net, args.rounds, args.torch) for net in args.net)


def _load(args):
    from core import bench_train
    return machine(["mxnet", "numpy"]), (bench_train.bench_load(side, args.rounds)
                                         for side in args.size)


def _landmarks(args):
    from core import bench_landmarks
    from prepare_data.cuts import Cuts
    if args.faces is not None:
        Cuts(args.faces)  # a wrong path shows now
    return (machine(["mxnet", "numpy", "opencv-python-headless"]),
            (bench_landmarks.bench(size, args.faces, args.rounds) for size in args.sizes))


def _table(facts, runs, as_json):
    if as_json:
        print(json.dumps([{**row, "machine": facts} for rows in runs for row in rows], indent=1))
        return
    print(title(facts))
    print(f"{'':<14}{'batch':>6}  {'':<9}{'median':>9}{'best':>9}  {'':<16}{'ratio':>7}  target",
          flush=True)
    for rows in runs:
        print("\n".join(map(_line, rows)), flush=True)


def title(facts):
    """The machine as a line."""
    return (f"{facts['cpu']}, {facts['cores']} cores; "
            + ", ".join(f"{name} {facts[name]}" for name in list(facts)[2:]))


def main(argv):
    parser = argparse.ArgumentParser(
        prog="python -m core.bench", description="Speed against programs of the reference's form.")
    commands = parser.add_subparsers(dest="command", required=True)
    train = commands.add_parser("train", help="training steps, images/s")
    train.add_argument("--net", nargs="+", default=list(TRAIN_TARGETS), metavar="NAME")
    train.add_argument("--torch", action="store_true", help="PyTorch too")
    load = commands.add_parser("load", help="training batches, samples/s")
    load.add_argument("--size", nargs="+", type=int, default=list(LOAD_TARGETS),
                      choices=list(FED_NETS), help="of the crops, px")
    landmarks = commands.add_parser("landmarks", help="training batches of faces with points, "
                                                      "samples/s")
    landmarks.add_argument("--faces", metavar="CUTS", help="store of prepare_data.points cut "
                           "(default: drawn faces, with 5 points and from 80 px on with 106)")
    landmarks.add_argument("--sizes", nargs="+", type=int, default=list(LANDMARK_SIZES),
                           choices=LANDMARK_SIZES, help="of the crops, px")
    detect = commands.add_parser("detect", help="detectors on one thread, pictures/s")
    detect.add_argument("--nets", required=True, help="folder with a detector's .params files")
    detect.add_argument("--pictures", help="folder of pictures (default: drawn ones)")
    detect.add_argument("--yunet", nargs="+", default=[], metavar="FILE",
                        help="YuNet models that OpenCV reads, to be measured too")
    mine = commands.add_parser("mine", help="mining of hard examples, pictures/s")
    mine.add_argument("--nets", required=True, help="folder with the .params files so far")
    mine.add_argument("--data", help="a set laid out like WIDER FACE (default: a drawn one)")
    mine.add_argument("--split", default="train", choices=("train", "val"))
    mine.add_argument("--count", type=int, default=200, help="pictures (default %(default)s)")
    mine.add_argument("--for", dest="targets", nargs="+", default=["rnet", "onet"],
                      choices=("pnet", "rnet", "onet"), help="the nets that are to learn from them")
    for command in (train, load, landmarks, detect, mine):
        command.add_argument("--rounds", type=int, default=5, help="slices of each competitor")
        command.add_argument("--json", action="store_true", help="print a list of objects")
    args = parser.parse_args(argv)
    if args.rounds < 1:
        raise Problem(f"--rounds {args.rounds}: it must be at least 1")
    if args.command == "detect":
        from core import bench_detect
        bench_detect.run(args.nets, args.pictures, args.yunet, args.rounds, args.json)
    elif args.command == "mine":
        from core import bench_mine
        bench_mine.run(args.nets, args.data, args.split, args.count, args.targets, args.rounds,
                       args.json)
    else:
        _table(*{"train": _train, "load": _load, "landmarks": _landmarks}[args.command](args),
               args.json)


if __name__ == "__main__":
    program(main)

"""Trains a net on stores of samples.

    python -m core.train --net Pnet20_v1 --data STORE --out RUN
    python -m core.train --net Onet_v1 --landmark --data STORE MINED LANDMARKS --out RUN

Stopped at any moment, the same command goes on after the last finished epoch and ends with the
same parameters.
"""
import argparse

from config import config, override
from core.console import program
from prepare_data.store import Store
from symbols import spec


def main(argv):
    parser = argparse.ArgumentParser(
        prog="python -m core.train", description="Train a net of the zoo on stores of samples.",
        epilog="Settings of the sections train, loss and augment are overridden as "
               "section.key=value, e.g. train.epochs=8 loss.bbox.kind=smooth_l1; config.py "
               "explains each.")
    parser.add_argument("--net", required=True, help="e.g. Pnet20_v1, Rnet_v1, Onet_v1")
    parser.add_argument("--landmark", action="store_true", help="with its landmark head")
    parser.add_argument("--data", required=True, nargs="+", metavar="STORE",
                        help="made by python -m prepare_data.samples, .mine, .landmark_samples")
    parser.add_argument("--start", metavar="FILE", help="a .params file or a run's folder of the "
                                                        "same net to begin from")
    parser.add_argument("--out", required=True, metavar="RUN",
                        help="folder for checkpoints, log and curves")
    parser.add_argument("settings", nargs="*", metavar="section.key=value")
    args = parser.parse_args(argv)
    from core import trainer  # here, so that MXNet missing is one line
    settings = override(config, args.settings)
    net = spec(args.net, args.landmark)
    params = trainer.train(net.name, {"landmark": True} if args.landmark else {},
                           [Store(path, net.size) for path in args.data], args.out, settings,
                           args.start)
    print(f"{params}: the trained net; curves.png, log.jsonl and config.json beside it")


if __name__ == "__main__":
    program(main)

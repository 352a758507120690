"""Draws a sample set: see prepare_data.drawn.sets."""

import argparse
from pathlib import Path

from config import SEEDS
from core.base import options
from facelet.console import program
from prepare_data.drawn.sets import draw_sample_set


def main(argv):
    parser = argparse.ArgumentParser(
        prog="python -m prepare_data.drawn",
        description="Draw a sample set: pictures with faces, exact boxes and points.",
    )
    parser.add_argument("--out", required=True, help="folder to make")
    parser.add_argument(
        "--count",
        type=options.whole(1, options.MOST_PICTURES),
        default=500,
        help="pictures (default %(default)s)",
    )
    parser.add_argument(
        "--seed", type=options.whole(0, SEEDS), default=0, help="default %(default)s"
    )
    parser.add_argument(
        "--val-fraction",
        type=float,
        default=0.2,
        help="share of the pictures for validation (default %(default)s)",
    )
    options.workers(parser)
    args = options.parse(parser, argv, settings=False)
    summary = draw_sample_set(args.out, args.count, args.val_fraction, args.seed, args.workers)
    for split, counts in summary.items():
        print(
            f"{split}: {counts['pictures']:,} pictures, {counts['faces']:,} faces, "
            f"{counts['landmark_faces']:,} of them with points"
        )
    print(f"see {Path(args.out) / 'mosaic.png'}")


if __name__ == "__main__":
    program(main)

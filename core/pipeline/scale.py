"""What a set of any size takes: disk and hours by step, on one machine and on several.

    python -m core.pipeline.scale --pictures 12880 --faces 159000 [--machines 1 8 64]

The rates are those of --dry-run (core.pipeline.estimates), of a machine with as many processors as
this one. Samples are cut and mined in shards (--shard), so that many machines take the part of the
time each, not counting the merge; a net is trained on one. The pictures themselves are not counted.
"""

import argparse
from pathlib import Path
from types import SimpleNamespace

from core.base import options, parallel
from core.pipeline import estimates, recipes
from core.pipeline.recipes import RECIPES, TRAINED
from core.pipeline.run import Run
from facelet.console import program

MOST = 10**12
STORES = ("samples_pnet", "mine_pnet", "samples_rnet", "mine_rnet", "samples_onet", "mine_onet")


class Imagined:
    """A core.pipeline.run.Run of pictures that nobody has, as far as estimates go."""

    size, stores = Run.size, Run.stores

    def __init__(self, recipe, pictures, faces, assignments):
        self.nets, self.landmarks = RECIPES[recipe].nets, []
        self.settings, self.own = recipes.settings_of(RECIPES[recipe], [], False, assignments)
        counts = {"pictures": pictures, "faces": faces}
        sets = dict.fromkeys(("train", "val"), SimpleNamespace(counts=counts))
        self.data = SimpleNamespace(drawn=False, sets=sets)

    def path(self, name):
        return Path("/nonexistent") / name


def table(run, machines):
    """Rows of steps: (name, bytes, hours by number of machines)."""
    rows = []
    for step in STORES:
        size, seconds = estimates.cutting(run, step)
        rows.append((step, size, [seconds / 3600 / n for n in machines]))
    for name in TRAINED:
        size, seconds = estimates.training(run, name)
        rows.append((f"training {name}", size, [seconds / 3600] * len(machines)))
    return rows


def main(argv):
    parser = argparse.ArgumentParser(
        prog="python -m core.pipeline.scale",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    count = options.whole(1, MOST)
    parser.add_argument("--pictures", type=count, required=True, metavar="N", help="how many")
    parser.add_argument("--faces", type=count, required=True, metavar="N", help="in all of them")
    parser.add_argument(
        "--machines", type=count, nargs="+", default=[1, 8, 64], metavar="N", help="numbers of them"
    )
    parser.add_argument(
        "--recipe", default="train-mtcnn", choices=RECIPES, help="default: %(default)s"
    )
    args = options.parse(parser, argv, prefixes=TRAINED)
    run = Imagined(args.recipe, args.pictures, args.faces, args.settings)
    rows = table(run, args.machines)
    rows.append(
        ("together", sum(row[1] for row in rows), [sum(h) for h in zip(*(row[2] for row in rows))])
    )
    heads = "".join(f"{f'x {n:,}':>12}" for n in args.machines)
    print(
        f"{args.pictures:,} pictures, {args.faces:,} faces; hours on machines of "
        f"{parallel.cores()} processors, a rough estimate\n\n{'step':<20}{'GB':>10}{heads}"
    )
    for name, size, hours in rows:
        print(f"{name:<20}{size / 1e9:>10,.1f}" + "".join(f"{h:>12,.2f}" for h in hours))


if __name__ == "__main__":
    program(main)

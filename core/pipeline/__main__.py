"""From pictures to a detector, by one command that can be stopped anywhere.

    python -m core.pipeline                            draws a sample set to try it on
    python -m core.pipeline --data DIR                 photographs laid out like WIDER FACE
    python -m core.pipeline --data DIR --dry-run       what it would do, and what that takes
    python -m core.pipeline --data DIR --upto pnet     as far as the first Pnet
    python -m core.pipeline --data DIR --stage rnet    this step alone

Every step leaves its result below --out and knows by content what that was made from (core.pipeline.steps):
run again, the command goes on where it was stopped, makes anew what no longer fits, and passes
over the rest. After each net recall is measured on held-out pictures; under the net's floor,
pipeline.floors, the run stops. It leaves one page, report.html.
"""

import argparse
from pathlib import Path

from core.pipeline.course import SAMPLE_PICTURES, Run
from core.pipeline.recipes import RECIPES, STAGES, TRAINED
from facelet.console import program
from symbols import spec

ROOT = Path(__file__).resolve().parents[2]


def _default_out(recipe, nets, data):
    """Below runs/ in the repository, by what it is made with and from."""
    other = [net for stage, net in nets.items() if net != RECIPES[recipe].nets[stage]]
    return (
        ROOT / "runs" / "-".join([recipe, *other, Path(data).resolve().name if data else "drawn"])
    )


def main(argv):
    parser = argparse.ArgumentParser(
        prog="python -m core.pipeline",
        description="From pictures to a detector.",
        epilog="Any value of config.py is overridden as section.key=value, e.g. "
        "samples.min_face=40, or for one net alone as pnet.train.epochs=8, "
        "pnet_hard.... (pnet holds for both), rnet...., onet....",
    )
    parser.add_argument(
        "--data",
        help="photographs laid out like WIDER FACE (default: a sample set drawn by the program)",
    )
    parser.add_argument(
        "--out", help="folder for everything made (default: runs/RECIPE-DATA in the repository)"
    )
    parser.add_argument(
        "--recipe", default="train-mtcnn", choices=RECIPES, help="default: %(default)s"
    )
    for stage in STAGES:
        parser.add_argument(
            f"--{stage}",
            metavar="NET",
            help=f"default: {RECIPES['train-mtcnn'].nets[stage]}, classic "
            f"{RECIPES['classic'].nets[stage]}",
        )
    parser.add_argument(
        "--points", metavar="FILE", help="landmarks to learn as well (the drawn set has its own)"
    )
    parser.add_argument("--no-landmarks", action="store_true", help="no landmark heads")
    parser.add_argument(
        "--second",
        metavar="DETECTOR",
        help="ask a folder of nets or a YuNet model what it thinks of the labels",
    )
    parser.add_argument(
        "--pictures",
        type=int,
        default=SAMPLE_PICTURES,
        help="size of the drawn sample set (default: %(default)s)",
    )
    what = parser.add_mutually_exclusive_group()
    what.add_argument(
        "--upto", metavar="STEP", help="this step and all that it needs; --dry-run lists them"
    )
    what.add_argument("--stage", metavar="STEP", help="this step alone")
    what.add_argument(
        "--mix",
        metavar="NET",
        choices=TRAINED,
        help=f"list what a net ({', '.join(TRAINED)}) is trained on, making that if it isn't there",
    )
    parser.add_argument("--dry-run", action="store_true", help="show the plan and do nothing")
    parser.add_argument("settings", nargs="*", metavar="section.key=value")
    args = parser.parse_intermixed_args(argv)
    nets = {stage: spec(net).name for stage in STAGES if (net := getattr(args, stage))}
    out = args.out or _default_out(args.recipe, nets, args.data)
    run = Run(
        out,
        args.data,
        args.recipe,
        nets,
        args.points,
        args.second,
        args.pictures,
        not args.no_landmarks,
        args.settings,
    )
    plan = run.plan
    if args.stage == "report" and not args.dry_run:
        print(f"{run.report()}: the report of what is there")
        return
    if args.mix:
        wanted = [plan.steps[name] for name in run.stores(args.mix)]
    elif args.stage or args.upto not in (None, "report"):
        wanted = plan.named(args.stage or args.upto)
    else:
        wanted = [step for step in plan.steps.values() if step.run]
    if args.dry_run:
        run.show_plan(wanted if args.stage else plan.needed(wanted))
        return
    run.check_pictures()
    summary = run.go(wanted, only=bool(args.stage))
    if args.mix:
        run.show_mix(args.mix)
    run.show(summary)


if __name__ == "__main__":
    program(main)

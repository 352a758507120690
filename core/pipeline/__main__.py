"""From pictures to a detector, by one command that can be stopped anywhere.

    python -m core.pipeline                            draws a sample set to try it on
    python -m core.pipeline --data DIR                 photographs laid out like WIDER FACE
    python -m core.pipeline --data DIR --dry-run       what it would do, and what that takes
    python -m core.pipeline --data DIR --upto pnet     as far as the first Pnet
    python -m core.pipeline --data DIR --stage rnet    this step alone

Every step leaves its result below --out and knows by content what that was made from: run again,
the command goes on where it was stopped, makes anew what no longer fits, and passes over the rest.
After each net its recall is measured on held-out pictures. Where that is under pipeline.floors, or
takes more boxes than pipeline.most_boxes, the run stops. It leaves one page, report.html.

Any value of config.py is overridden as section.key=value, e.g. samples.min_face=40; for one net
alone as pnet.train.epochs=8 (both Pnets), pnet_hard.train.epochs=8, rnet...., onet....
"""

import argparse
from pathlib import Path

from core.base import options
from core.pipeline import plan_text, summary
from core.pipeline.limits import LimitMissed
from core.pipeline.recipes import RECIPES, STAGES, TRAINED, by_stage
from core.pipeline.run import SAMPLE_PICTURES, Run
from facelet.console import Problem, program

ROOT = Path(__file__).resolve().parents[2]
RENAMED = {
    "--points": "--faces",
    "--second": "--teacher",
    **{f"--{stage}": "--net" for stage in STAGES},
}


def _default_out(recipe, nets, data):
    """Below runs/ in the repository, by what it is made with and from."""
    other = [net for stage, net in by_stage(nets).items() if net != RECIPES[recipe].nets[stage]]
    return (
        ROOT / "runs" / "-".join([recipe, *other, Path(data).resolve().name if data else "drawn"])
    )


def _parser():
    parser = argparse.ArgumentParser(
        prog="python -m core.pipeline",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--data",
        metavar="DIR",
        help="photographs laid out like WIDER FACE (default: a sample set drawn by the program)",
    )
    parser.add_argument(
        "--faces",
        metavar="FACES",
        help="list or folder of faces with points: the nets get landmark heads (default: those of "
        "the drawn set, if it is that)",
    )
    parser.add_argument("--no-landmarks", action="store_true", help="no landmark heads")
    parser.add_argument(
        "--recipe", default="train-mtcnn", choices=RECIPES, help="default: %(default)s"
    )
    parser.add_argument(
        "--net",
        nargs="+",
        action="extend",
        default=[],
        metavar="NAME",
        help="nets of the zoo, each in place of the recipe's of its family ("
        + "; ".join(f"{name}: {', '.join(row.nets.values())}" for name, row in RECIPES.items())
        + ")",
    )
    parser.add_argument(
        "--teacher",
        metavar="DETECTOR",
        help="another detector asked about the labels: a folder of nets, or a YuNet model",
    )
    parser.add_argument(
        "--pictures",
        type=options.whole(1, options.MOST_PICTURES),
        default=SAMPLE_PICTURES,
        metavar="N",
        help="size of the drawn sample set (default: %(default)s)",
    )
    parser.add_argument(
        "--out",
        metavar="RUN",
        help="folder for everything made (default: runs/RECIPE-DATA in the repository)",
    )
    parser.add_argument(
        "--upto", metavar="STEP", help="this step and all that it needs; --dry-run lists them"
    )
    # Either goes before --upto, which scripts give.
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--stage", metavar="STEP", help="this step alone")
    what.add_argument(
        "--mix",
        metavar="STEP",
        choices=TRAINED,
        help=f"list what a net ({', '.join(TRAINED)}) is trained on, making that if it isn't there",
    )
    parser.add_argument("--dry-run", action="store_true", help="show the plan and do nothing")
    return parser


def main(argv):
    # A setting may be of one net alone.
    args = options.parse(_parser(), argv, RENAMED, prefixes=TRAINED)
    run = Run(
        args.out or _default_out(args.recipe, args.net, args.data),
        args.data,
        args.recipe,
        args.net,
        args.faces,
        args.teacher,
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
        plan_text.show(plan, wanted if args.stage else plan.needed(wanted), str(run))
        return
    try:
        found = run.go(wanted, only=bool(args.stage))
    except LimitMissed as missed:
        again = summary.command_with(argv, missed.setting)
        raise Problem(f"{missed}; to continue anyway: {again}") from None
    if args.mix:
        summary.show_mix(run, args.mix)
    summary.show(run, found)


if __name__ == "__main__":
    program(main)

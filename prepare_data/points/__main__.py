"""Sets of faces with landmark points: checks them, makes others of them.

    python -m prepare_data.points check FACES     what a set holds, what of it can't be used
    python -m prepare_data.points cut ...         its faces with room around them, in one store
    python -m prepare_data.points label ...       points that a net gives to faces

FACES is a list or a folder, of a kind that is told by its content; prepare_data.points.readers has
the kinds.
"""

import argparse

from config import config, override
from core.base import options
from facelet.console import program
from prepare_data.points import check, cuts, label


def main(argv):
    parser = argparse.ArgumentParser(
        prog="python -m prepare_data.points",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    modules = {"check": check, "cut": cuts, "label": label}
    for name, module in modules.items():
        command = commands.add_parser(
            name,
            description=module.__doc__,
            help=module.__doc__.splitlines()[0],
            formatter_class=argparse.RawDescriptionHelpFormatter,
            epilog="Settings of config.py are overridden as section.key=value.",
        )
        module.arguments(command)
    args = options.parse(parser, argv, {"--points": "--faces", "--net": "--weights"})
    modules[args.command].main(args, override(config, args.settings))


if __name__ == "__main__":
    program(main)

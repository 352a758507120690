"""Sets of faces with landmark points: checks them, makes others of them.

    python -m prepare_data.points check FACES     what a set holds, what of it can't be used
    python -m prepare_data.points cut ...         its faces with room around them, in one store
    python -m prepare_data.points label ...       points that a net gives to faces

FACES is a list or a folder, of a kind that is told by its content; prepare_data.points.readers has
the kinds.
"""

import contextlib

from config import config, override
from core.base import options
from facelet.console import program
from facelet.locks import locked
from prepare_data.points import check, cuts, label

COMMANDS = {"check": check, "cut": cuts, "label": label}


def main(argv):
    parser = options.of_commands("python -m prepare_data.points", __doc__, COMMANDS)
    args = options.parse(parser, argv, {"--points": "--faces", "--net": "--weights"})
    with locked(args.out) if args.out else contextlib.nullcontext():
        COMMANDS[args.command].main(args, override(config, args.settings))


if __name__ == "__main__":
    program(main)

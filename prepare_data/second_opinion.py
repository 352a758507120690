"""The old name of prepare_data.teacher: the command goes on working for a while."""

import sys

from facelet.console import program
from prepare_data import teacher


def main(argv):
    print(
        "note: python -m prepare_data.second_opinion is now prepare_data.teacher", file=sys.stderr
    )
    teacher.main(argv)


if __name__ == "__main__":
    program(main)

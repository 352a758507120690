"""Detectors and their figures of merit, a command each.

python -m core.evaluate stages ...    what every net of a cascade lets through
python -m core.evaluate wider ...     average precision by WIDER FACE's rule
python -m core.evaluate fddb ...      ROC curves by FDDB's
python -m core.evaluate list ...      average precision of detections of any kind
python -m core.evaluate landmarks ... errors of landmark points
"""

import sys

from config import config, override
from core.base import options
from core.evaluate import fddb as evaluate_fddb
from core.evaluate import landmarks as evaluate_landmarks
from core.evaluate import lists as evaluate_list
from core.evaluate import stages as evaluate_stages
from core.evaluate import wider as evaluate_wider
from facelet.console import program
from facelet.locks import locked

COMMANDS = {
    "stages": evaluate_stages,
    "wider": evaluate_wider,
    "fddb": evaluate_fddb,
    "list": evaluate_list,
    "landmarks": evaluate_landmarks,
}
RENAMED = {  # old spellings of options, by command
    "stages": {"--second": "--teacher-boxes"},
    "wider": {"--results": "--detections"},
    "list": {"--truth": "--data"},
    "landmarks": {"--net": "--weights"},
}


def main(argv):
    parser = options.of_commands("python -m core.evaluate", __doc__, COMMANDS)
    if argv[:1] == ["--landmarks"]:
        print("note: --landmarks is now landmarks; the old spelling will go", file=sys.stderr)
        argv = ["landmarks", *argv[1:]]
    args = options.parse(parser, argv, RENAMED.get(argv[0]) if argv else None)
    with locked(args.out):
        COMMANDS[args.command].main(args, override(config, args.settings))


if __name__ == "__main__":
    program(main)

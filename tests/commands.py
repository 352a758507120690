"""Programs run in the tests' own process, which saves their start."""

from core.evaluate import __main__ as evaluate
from facelet.console import program


def evaluated(capsys, *arguments):
    """core.evaluate with arguments: what it prints, its exit status, what it says on stderr."""
    status = 0
    try:
        program(evaluate.main, [str(argument) for argument in arguments])
    except SystemExit as stopped:
        status = stopped.code
    printed = capsys.readouterr()
    return printed.out, status, printed.err.strip()

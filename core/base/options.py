"""Command lines of the programs: settings among the options, spellings that have changed, and what
was meant by an option that isn't there."""

import argparse
import difflib
import re
import sys

from config import config, override, values
from facelet.console import Problem
from facelet.settings import MOST_THREADS, allow_outside, allow_pixels, allow_seconds

# A path that looks like one is written ./a.b=c.
SETTING = re.compile(r"[A-Za-z_0-9]+(\.[A-Za-z_0-9]+)+=")
# Settings that hold for whatever reads pictures, in all processes.
OF_READING = {
    "detect.max_pixels": allow_pixels,
    "detect.max_seconds": allow_seconds,
    "data.outside": allow_outside,
}
USAGE = "[section.key=value ...]"
MOST_PICTURES = 10_000_000  # that a program draws, or takes as a number


def whole(low, high):
    """The type of an option that takes a whole number from one to another."""

    def number(text):
        try:
            value = int(text)
        except ValueError:
            value = None
        if value is None or not low <= value <= high:
            raise argparse.ArgumentTypeError(
                f"{text}: it must be a whole number from {low:,} to {high:,}"
            )
        return value

    return number


def workers(parser):
    """Add --workers to the options of a program."""
    parser.add_argument(
        "--workers", type=whole(1, MOST_THREADS), help="processes (default: all cores)"
    )


def parse(parser, argv, renamed=None, settings=True, prefixes=()):
    """The arguments of a program, of the chosen command of one that has several. A word
    `section.key=value` anywhere among them, up to `--`, is a setting, in `settings`, a list, and
    never the value of an option that takes several; or it is refused where a program has none.

    renamed -- {old spelling of an option: the new one}: the old one works where the program has no
        option of that spelling, and a line says so
    settings -- whether the program has any
    prefixes -- what a setting may begin with besides: PREFIX.section.key=value

    Raises Problem, in place of argparse's usage and exit: for an option that isn't there naming the
    nearest option or setting.
    """
    parsers = _chosen(parser, argv)
    for one in parsers:
        one.error = _raised(one)
        if settings and one is parsers[-1] and not _commands(one):
            one.usage = f"{one.format_usage()[len('usage: ') :].rstrip()} {USAGE}".replace(
                "%", "%%"
            )
    found, rest = _apart(argv)
    if found and not settings:
        raise Problem(f"{found[0]!r}: {parser.prog} has no settings")
    known = {text for one in parsers for text in one._option_string_actions}
    rest = _new_spellings(
        rest, {old: new for old, new in (renamed or {}).items() if old not in known}
    )
    _check_options(parsers[-1], rest, known, prefixes)
    # Positional words may stand between options; argparse can't have that with commands or with --.
    if not _commands(parser) and "--" not in rest:
        args, unknown = parser.parse_known_intermixed_args(rest)
    else:
        args, unknown = parser.parse_known_args(rest)
    if unknown:
        meant = _settings_called(unknown[0], prefixes) if "." in unknown[0] else []
        raise Problem(
            f"{unknown[0]!r} is not expected here: "
            + (
                f"did you mean {' or '.join(f'{key}=VALUE' for key in meant)}?"
                if meant
                else f"{parsers[-1].prog} --help lists what is"
            )
        )
    args.settings = found
    for setting in found:
        key = setting.partition("=")[0]
        if key in OF_READING:
            OF_READING[key](values(override(config, [setting]))[key])
    return args


def of_commands(prog, doc, modules):
    """A parser for a program with a command for each of `modules`, {name: module}: its docstring is
    the command's description, its function arguments(parser) adds the options."""
    parser = argparse.ArgumentParser(
        prog=prog, description=doc, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for name, module in modules.items():
        command = commands.add_parser(
            name,
            description=module.__doc__,
            help=module.__doc__.splitlines()[0],
            formatter_class=argparse.RawDescriptionHelpFormatter,
            epilog="Settings of config.py are overridden as section.key=value.",
        )
        module.arguments(command)
    return parser


def _chosen(parser, argv):
    """A parser and, where it has commands, that of the one that is asked for."""
    commands = _commands(parser)
    chosen = [commands[word] for word in argv if word in commands][:1]
    return [parser, *(_chosen(chosen[0], argv) if chosen else [])]


def _commands(parser):
    """Parsers by command."""
    found = [action for action in parser._actions if action.nargs == argparse.PARSER]
    return found[0].choices if found else {}


def _raised(parser):
    def error(message):
        raise Problem(f"{message}; {parser.prog} --help explains")

    return error


def _apart(argv):
    """(settings, all else) of the words of a command line; what comes after -- is no setting."""
    end = argv.index("--") if "--" in argv else len(argv)
    settings = [word for word in argv[:end] if SETTING.match(word)]
    return settings, [word for word in argv[:end] if not SETTING.match(word)] + argv[end:]


def _new_spellings(argv, renamed):
    end = argv.index("--") if "--" in argv else len(argv)
    found = []
    for word in argv[:end]:
        option, equals, value = word.partition("=")
        if option in renamed:
            new = renamed[option]
            print(f"note: {option} is now {new}; the old spelling will go", file=sys.stderr)
            word = new + equals + value
        found.append(word)
    return found + argv[end:]


def _settings_called(name, prefixes):
    """Settings that an option or a word may stand for: by the key alone, or by all of it, with
    dots, dashes or underscores."""
    name = name.lstrip("-").replace("-", "_").replace(".", "_")
    keys = list(values(config))
    whole = keys + [f"{prefix}.{key}" for prefix in prefixes for key in keys]
    return [key for key in keys if key.rsplit(".", 1)[1] == name] + [
        key for key in whole if key.replace(".", "_") == name
    ]


def _check_options(parser, argv, known, prefixes):
    """Raise Problem for the first option of a command line that is none of those `known`: what may
    have been meant is said before what else is wrong."""
    end = argv.index("--") if "--" in argv else len(argv)
    for at, word in enumerate(argv[:end]):
        option, _, value = word.partition("=")
        if not option.startswith("--") or any(text.startswith(option) for text in known):
            continue
        following = argv[at + 1] if at + 1 < end and not argv[at + 1].startswith("-") else "VALUE"
        meant = [f"{key}={value or following}" for key in _settings_called(option, prefixes)]
        meant += difflib.get_close_matches(option, sorted(known), n=2, cutoff=0.7)
        raise Problem(
            f"{parser.prog} has no option {option}"
            + (f": did you mean {' or '.join(meant)}?" if meant else "; --help lists them")
        )

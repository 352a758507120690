"""Command lines of the programs: settings among the options, spellings that have changed, and what
was meant by an option that isn't there."""

import difflib
import re
import sys

from config import config, values
from facelet.console import Problem

SETTING = re.compile(r"[A-Za-z_0-9]+(\.[A-Za-z_0-9]+)+=")


def parse(parser, argv, renamed=None):
    """The arguments of a program. `section.key=value` anywhere among them is a setting, in
    `settings`, a list, and never the value of an option that takes several.

    renamed -- {old spelling of an option: the new one}: the old one works, and a line says so

    Raises Problem for an option that isn't there, naming the nearest option or setting.
    """
    settings, rest = _apart(argv)
    rest = [_new_spelling(word, renamed or {}) for word in rest]
    args, unknown = parser.parse_known_args(rest)
    if unknown:
        raise Problem(_not_known(parser, unknown, rest))
    args.settings = settings
    return args


def _apart(argv):
    """(settings, all else) of the words of a command line; what comes after -- is no setting."""
    end = argv.index("--") if "--" in argv else len(argv)
    settings = [word for word in argv[:end] if SETTING.match(word)]
    return settings, [word for word in argv[:end] if not SETTING.match(word)] + argv[end:]


def _new_spelling(word, renamed):
    option, equals, value = word.partition("=")
    if option not in renamed:
        return word
    print(f"note: {option} is now {renamed[option]}; the old spelling will go", file=sys.stderr)
    return renamed[option] + equals + value


def _not_known(parser, unknown, argv):
    """What is wrong with words that a parser doesn't know, and what may have been meant."""
    word = next((word for word in unknown if word.startswith("--")), unknown[0])
    if not word.startswith("--"):
        return f"{word!r} is not expected here: {parser.prog} --help lists what is"
    option, _, value = word.partition("=")
    at = argv.index(word) + 1
    value = value or (argv[at] if at < len(argv) and not argv[at].startswith("-") else "VALUE")
    name = option.lstrip("-").replace("-", "_")
    keys = [key for key in values(config) if key.rsplit(".", 1)[1] == name]
    options = [text for action in parser._actions for text in action.option_strings]
    near = difflib.get_close_matches(option, options, n=2, cutoff=0.7)
    meant = [f"{key}={value}" for key in keys] + near
    return f"{parser.prog} has no option {option}" + (
        f": did you mean {' or '.join(meant)}?" if meant else "; --help lists them"
    )

"""Attacks the toolkit, and counts what holds.

    .venv/bin/python -m tests.attack            half a minute
    .venv/bin/python -m tests.attack --long     hours: 200 kills, 200 flips a kind, 100,000 changes

Three attacks. Programs are killed at random moments, and run again by the same command. Bytes of
every kind of file that is read are flipped, cut off, put in. Inputs are changed by their own
grammar: numbers that are too large, missing keys, lines that come twice. Each try has a verdict:

    same       the result is that of a sound file, of a run that nobody killed
    differs    the file says something else and no checksum is there to notice
    own error  one line that says what is wrong, and status 2
    failure    anything else: a traceback, a crash, a hang, another result in silence, a file
               half-written, a process or shared memory left over

The status is 1 where anything failed. A try is the same again by its name: --again NAME.
"""

import argparse
import collections
import json
import sys
import tempfile
import time
from fnmatch import fnmatch
from pathlib import Path

from facelet.console import Problem, Progress, clock, program
from facelet.files import write_text
from tests.attack import damage
from tests.attack.damage import DIFFERS, FAILED, OWN, SAME
from tests.attack.kills import PROGRAMS, kill_all
from tests.attack.kinds import KINDS, make_world

SHORT = {"kills": 1, "flips": 2, "mutations": 600}
LONG = {"kills": 200, "flips": 200, "mutations": 100_000}
SLOW = 0.1  # share of tries that kinds get which take long
SHOWN = 3  # failures of a kind
MARK = "<!-- of tests.attack -->"  # before and after the table in docs/reliability.md
VERDICTS = (SAME, DIFFERS, OWN, FAILED)


def tries_of(kinds, flips, mutations):
    """[(kind, [(how, number), ...])]; flips of each kind, mutations in all."""
    weights = [SLOW if kind.slow else 1 for kind in kinds]
    shares = [round(mutations * weight / sum(weights)) for weight in weights]
    return [
        (kind, [("flips", i) for i in range(flips)] + [("mutations", i) for i in range(share)])
        for kind, share in zip(kinds, shares)
    ]


def run(kinds, programs, numbers, seed, folder):
    """Yields (kind or program, how, number, verdict, words) of all tries."""
    if numbers["flips"] or numbers["mutations"]:
        world = folder / "world"
        damage.in_child(lambda: make_world(world))
        there = [kind for kind in kinds if (world / kind.path).exists()]
        for kind in kinds:
            if kind not in there:
                print(f"{kind.name}: this OpenCV writes none: left out", file=sys.stderr)
        planned = tries_of(there, numbers["flips"], numbers["mutations"])
        progress = Progress(sum(len(tries) for _, tries in planned), "files")
        for kind, tries in planned:
            for row in damage.attack(kind, world, tries, seed):
                progress.step()
                yield kind.name, *row
        progress.close()
    if numbers["kills"] and programs:
        progress = Progress(numbers["kills"], "kills")
        for row in kill_all(programs, numbers["kills"], seed, folder / "kills"):
            progress.step()
            yield row
        progress.close()


def table(rows):
    """Lines of a Markdown table of tries by kind."""
    counts = collections.defaultdict(collections.Counter)
    for name, how, _, verdict, _ in rows:
        counts[how, name][verdict] += 1
    lines = [
        f"| attack | on | tries | {' | '.join(VERDICTS)} |",
        f"|---|---|{'--:|' * (1 + len(VERDICTS))}",
    ]
    order = {"kills": 0, "flips": 1, "mutations": 2}
    for how, name in sorted(counts, key=lambda pair: order[pair[0]]):
        numbers = counts[how, name]
        cells = [sum(numbers.values()), *(numbers[verdict] for verdict in VERDICTS)]
        lines.append(f"| {how} | {name} | {' | '.join(f'{cell:,}' for cell in cells)} |")
    for how in order:
        sums = collections.Counter(verdict for _, kind, _, verdict, _ in rows if kind == how)
        if sums:
            cells = [sum(sums.values()), *(sums[verdict] for verdict in VERDICTS)]
            lines.append(f"| **{how}** | all | {' | '.join(f'{cell:,}' for cell in cells)} |")
    return lines


def failures(rows):
    """Lines on what failed: the first of each kind, each reason once."""
    found = collections.defaultdict(dict)
    for name, how, number, verdict, words in rows:
        if verdict == FAILED:
            found[how, name].setdefault(words, []).append(number)
    for (how, name), reasons in found.items():
        for words, numbers in list(reasons.items())[:SHOWN]:
            yield f"{name}:{how}:{numbers[0]} ({len(numbers):,} times): {words}"
        if len(reasons) > SHOWN:
            yield f"{name}:{how}: and {len(reasons) - SHOWN:,} other reasons"


def again(name, seed, folder):
    """Make the one try of a name, and say what comes of it; a failure's traceback is not caught."""
    kind_name, how, number = name.rsplit(":", 2)
    if how == "kills":
        raise Problem("a kill comes at another moment each time: run its program with --only NAME")
    kind = next((kind for kind in KINDS if kind.name == kind_name), None)
    if kind is None or how not in ("flips", "mutations"):
        raise Problem(f"{name} is no try: it is KIND:flips:NUMBER or KIND:mutations:NUMBER")
    world = folder / "world"
    make_world(world)
    path = world / kind.path
    made = damage.content(kind, how, int(number), seed, path.read_bytes())
    kept = Path(tempfile.gettempdir()) / f"attack-{path.name}"
    kept.write_bytes(made)
    path.write_bytes(made)
    print(f"the file is {kept}")
    try:
        print(str(kind.read(world))[:2000])
    except Problem as problem:
        print(f"own error: {problem}")


def _write(path, lines):
    """Write lines to a file, in a page between its two MARKS."""
    text = "\n".join(lines)
    if path.exists():
        parts = path.read_text(encoding="utf-8").split(MARK)
        if len(parts) != 3:
            raise Problem(f"{path} is there, without two lines {MARK} to write between")
        text = f"{MARK}\n{text}\n{MARK}".join(parts[::2])
    write_text(path, text)


def main(argv):
    parser = argparse.ArgumentParser(
        prog="python -m tests.attack",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--long", action="store_true", help="the long form")
    for what, number in SHORT.items():
        parser.add_argument(
            f"--{what}", type=int, metavar="N", help=f"default {number}, long {LONG[what]:,}"
        )
    parser.add_argument("--only", nargs="+", metavar="NAME", help="kinds and programs, or patterns")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--again", metavar="KIND:HOW:NUMBER", help="make one try, and nothing else")
    parser.add_argument("--json", action="store_true", help="print a list of tries that failed")
    parser.add_argument(
        "--markdown",
        metavar="FILE",
        help="write the table to a new file, or to docs/reliability.md",
    )
    args = parser.parse_args(argv)
    usual = LONG if args.long else SHORT
    numbers = {
        what: usual[what] if getattr(args, what) is None else getattr(args, what) for what in usual
    }
    wanted = args.only or ["*"]

    def chosen(rows):
        return [row for row in rows if any(fnmatch(row.name, pattern) for pattern in wanted)]

    kinds, programs = chosen(KINDS), chosen(PROGRAMS)
    if not kinds and not programs:
        names = ", ".join(row.name for row in (*KINDS, *PROGRAMS))
        raise Problem(f"nothing is called {' '.join(wanted)}; there are {names}")
    if not kinds:
        numbers.update(flips=0, mutations=0)
    start = time.perf_counter()
    with tempfile.TemporaryDirectory(prefix="attack-", ignore_cleanup_errors=True) as folder:
        if args.again:
            again(args.again, args.seed, Path(folder))
            return
        rows, stopped = [], ""
        try:
            for row in run(kinds, programs, numbers, args.seed, Path(folder)):
                rows.append(row)
        except KeyboardInterrupt:
            stopped = ", stopped before its end"
    lines, wrong = table(rows), list(failures(rows))
    seconds = time.perf_counter() - start
    summary = f"{len(rows):,} tries in {clock(seconds)}, seed {args.seed}{stopped}"
    if args.markdown:
        _write(Path(args.markdown), [*lines, "", f"{summary}.", *(f"- {one}" for one in wrong)])
    if args.json:
        keys = ("on", "attack", "number", "verdict", "words")
        print(json.dumps([dict(zip(keys, row)) for row in rows if row[3] == FAILED], indent=1))
    print("\n".join([*lines, summary]), file=sys.stderr if args.json else sys.stdout)
    for one in wrong:
        print(f"failed: {one}", file=sys.stderr)
    if wrong or stopped:
        sys.exit(1)


if __name__ == "__main__":
    program(main)

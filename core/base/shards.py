"""A work cut into shards, for machines that know nothing of one another: each keeps the results of
its jobs in a journal beside what is to be made, and whoever has them all makes it of them.

The journals of machines that share no file system are put together by copying their files into one
folder. What a shard has done is not done again, whatever stops it.
"""

import argparse
from dataclasses import dataclass
from pathlib import Path

from core.base.journal import IDENTITY, Journal
from facelet.console import Problem, Progress
from facelet.files import is_new, read_json
from facelet.locks import locked

MOST = 100_000
MERGE = "merge"  # in place of a Shard: what is made of all of them


@dataclass(frozen=True)
class Shard:
    """Shard `number` of `count`, counted from 1: every count-th of the jobs."""

    number: int
    count: int

    def __str__(self):
        return f"{self.number}/{self.count}"


def _shard(text):
    number, _, count = text.partition("/")
    if number.isdecimal() and count.isdecimal() and 1 <= int(number) <= int(count) <= MOST:
        return Shard(int(number), int(count))
    raise argparse.ArgumentTypeError(
        f"{text}: it must be a shard and how many there are, as 3/16, up to {MOST:,}"
    )


def arguments(parser):
    """Add --shard and --merge to the options of a program; both give `part`."""
    group = parser.add_mutually_exclusive_group()
    group.add_argument(
        "--shard",
        dest="part",
        type=_shard,
        metavar="K/N",
        help="do the K-th of N parts only, for --merge to use; N machines do one each",
    )
    group.add_argument(
        "--merge",
        dest="part",
        action="store_const",
        const=MERGE,
        help="make OUT of what the shards have done",
    )


def folder_of(out):
    """The journal of what is made at `out`."""
    out = Path(out)
    return out.with_name(f".{out.name}.journal")


def writing(out, part):
    """The lock that keeps others from what is made at `out`, or from the same shard of it."""
    shard = isinstance(part, Shard)
    return locked(f"{out}.shard-{part.number}-of-{part.count}" if shard else out)


def left(out, part):
    """The Journal that a merge has left if it was stopped when `out` was made; None without."""
    folder = folder_of(out)
    if part != MERGE or is_new(out) or not (folder / IDENTITY).is_file():
        return None
    return Journal(folder, read_json(folder / IDENTITY))


def do(shard, out, identity, function, jobs, workers, size=len):
    """Do the jobs of a shard that are not done yet, for what is to be made at `out`; within
    writing().

    identity, function, jobs -- as Journal and its run() take them; size -- pictures of a job"""
    folder = folder_of(out)
    journal = Journal(folder, identity)
    own = range(shard.number - 1, len(jobs), shard.count)
    progress = Progress(sum(size(jobs[number]) for number in own), "pictures")
    for number in journal.do(function, jobs, workers, own):
        progress.step(size(jobs[number]))
    progress.close()
    print(
        f"{folder}: shard {shard} is done, {len(own):,} of {len(jobs):,} jobs; when all shards "
        f"are, the same command with --merge makes {out}"
    )


def journal_to_merge(out, identity, jobs):
    """The Journal that shards have filled. Raises Problem where some of it is missing."""
    folder = folder_of(out)
    if not folder.is_dir():
        raise Problem(f"{folder} is not there: no shard of {out} has been done")
    journal = Journal(folder, identity)
    missing = sorted(set(range(len(jobs))) - journal.done)
    if missing:
        raise Problem(
            f"{folder} lacks {len(missing):,} of {len(jobs):,} jobs, the first number "
            f"{missing[0]:,}: run the shards that are not done, of N shards that is "
            f"number {missing[0]:,} modulo N, plus 1"
        )
    return journal

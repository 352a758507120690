"""Which pictures are held out of training, to measure on: one rule for stores of samples, faces
with points and lists of them.

A picture has a number by the seed and its file's name alone; held out are those with numbers up to
a bound, the one that holds out exactly a fraction of a reference list: the first that a net learns
from. Another list of the same collection, longer or shorter, gives another bound. So a net's
manifest records its own, as "held_out", and what measures the net goes by that.

A rule is {"seed": S, "bound": B}, JSON values; B is -1 where nothing is held out.
"""

import zlib
from pathlib import PurePosixPath

import numpy as np

from facelet.console import Problem


def name_numbers(paths, seed):
    """uint32 (N,), a number for each path by the seed and the file's name, so that sets of the same
    pictures, each with folders of its own, agree."""
    return np.array(
        [zlib.crc32(f"{seed} {PurePosixPath(path).name}".encode()) for path in paths], np.uint32
    )


def rule_of(paths, fraction, seed):
    """The rule that holds out round(fraction * N) of N pictures, given by path, each once; more
    where file names are the same."""
    count = round(fraction * len(paths))
    return {
        "seed": seed,
        "bound": int(np.sort(name_numbers(paths, seed))[count - 1]) if count else -1,
    }


def is_held_out(paths, *rules):
    """bool (N,): which paths every rule holds out. Raises Problem for a rule that is none."""
    chosen = [name_numbers(paths, seed) <= bound for seed, bound in map(_checked, rules)]
    return np.logical_and.reduce([np.ones(len(paths), bool), *chosen])


def _checked(rule):
    try:
        return int(rule["seed"]), int(rule["bound"])
    except (KeyError, TypeError, ValueError, OverflowError):
        raise Problem(f"held_out holds {rule!r}: that does not say which pictures were") from None


def in_common(rules):
    """The rules that hold out what each of some does: of those with the same seed, the lowest
    bound."""
    bounds = {}
    for seed, bound in map(_checked, rules):
        bounds[seed] = min(bound, bounds.get(seed, bound))
    return [{"seed": seed, "bound": bound} for seed, bound in bounds.items()]


def split(held_out, fraction, source, option="train.val_fraction"):
    """Indices (training, held out) by is_held_out() of samples or faces, bool (N,).

    fraction, source, option -- of what, and by which option, for the Problem that is raised when a
        part comes out empty
    """
    if held_out.all() or not held_out.any():
        raise Problem(
            f"{option} is {fraction}: of {source} that leaves none to "
            f"{'train on' if held_out.any() else 'hold out'}"
        )
    return np.flatnonzero(~held_out), np.flatnonzero(held_out)


def split_faces(sets, fraction, seed):
    """([training], [held out], rule): indices of the faces of each of some sets, by the rule of the
    first one's pictures.

    sets -- with names(), the path of each face's picture, and path

    Raises Problem when a part of the whole comes out empty.
    """
    rule = rule_of(list(dict.fromkeys(sets[0].names())), fraction, seed)
    chosen = [is_held_out(faces.names(), rule) for faces in sets]
    words = ", ".join(f"{faces.path} ({len(faces):,} faces)" for faces in sets)
    split(np.concatenate(chosen), fraction, words)
    return [np.flatnonzero(~one) for one in chosen], [np.flatnonzero(one) for one in chosen], rule

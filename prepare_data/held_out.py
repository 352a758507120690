"""Which pictures are held out: kept from training, to measure on."""

import zlib
from pathlib import PurePosixPath

import numpy as np

from facelet.console import Problem


def name_numbers(paths, seed):
    """A number for each path that goes by the seed and the file's name alone, so that stores made
    of one set of pictures, each with folders of its own, agree."""
    return np.array(
        [zlib.crc32(f"{seed} {PurePosixPath(path).name}".encode()) for path in paths], np.uint32
    )


def held_out_bound(paths, fraction, seed):
    """Pictures that training never sees are those with name_numbers up to this: about a `fraction`,
    exactly so of `paths`; -1 for none."""
    count = round(fraction * len(paths))
    return int(np.sort(name_numbers(paths, seed))[count - 1]) if count else -1


def held_out_pictures(store, fraction, seed):
    """Indices of the pictures of a store that training never sees: the same for each seed."""
    paths = store.pictures()
    return np.flatnonzero(name_numbers(paths, seed) <= held_out_bound(paths, fraction, seed))


def split(faces, fraction, seed):
    """Indices of faces (training, held out), by whole pictures: held out are those whose file names
    have small numbers for the seed, so that other sets of the same pictures hold out the same.
    Raises Problem when a part comes out empty."""
    held_out = name_numbers(faces.names(), seed) < fraction * 2**32
    if held_out.all() or not held_out.any():
        raise Problem(
            f"train.val_fraction is {fraction}, and {faces.path} has {len(faces)} faces: "
            f"that leaves none to {'train on' if held_out.any() else 'hold out'}"
        )
    return np.flatnonzero(~held_out), np.flatnonzero(held_out)

"""NumPy's files of arrays (.npy, .npz), read so that a damaged one is told of in a line."""

import struct
import tokenize
import zipfile
import zlib

import numpy as np

from facelet.console import Problem

# What NumPy's reader of headers, Python's own of literals, and that of archives raise for damaged
# ones.
DAMAGED = (
    AttributeError,
    EOFError,
    IndexError,
    KeyError,
    MemoryError,
    NotImplementedError,
    OSError,
    OverflowError,
    RecursionError,
    RuntimeError,
    SyntaxError,
    TypeError,
    ValueError,
    struct.error,
    tokenize.TokenError,
    zipfile.BadZipFile,
    zlib.error,
)


def _problem(path, error, remedy):
    if isinstance(error, OSError) and error.filename is not None:
        return Problem(f"{path} can't be read ({error.strerror}): {remedy}")
    reason = str(error).splitlines() or [type(error).__name__]
    return Problem(f"{path} is damaged ({reason[0]}): {remedy}")


def mapped(path, remedy):
    """The array in an .npy file, memory mapped. Raises Problem, whose last words are `remedy`."""
    try:
        return np.lib.format.open_memmap(path, mode="r")
    except DAMAGED as error:
        raise _problem(path, error, remedy) from None


def archive(path, remedy):
    """The arrays in an .npz file by name. Raises Problem, whose last words are `remedy`."""
    try:
        with np.load(path) as arrays:
            return dict(arrays)
    except DAMAGED as error:
        raise _problem(path, error, remedy) from None

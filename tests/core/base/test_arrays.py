"""Damaged files of arrays are one line that names the file, whatever the damage is."""

import random
import zipfile

import numpy as np
import pytest

from core.base import arrays
from facelet.console import Problem

HEADERS = (
    "{'descr': '<f4', 'fortran_order': False, 'shape': (3,), ",  # TokenError
    "{'descr': '<f4', 'fortran_order': False, 'shape': (3",
    "{'descr': '|O', 'fortran_order': False, 'shape': (3,)}",
    "{'descr': '<f4', 'fortran_order': False, 'shape': (%s,)}" % ("9" * 30),
    "{'descr': '<f4', 'fortran_order': False, 'shape': (-1,)}",
    "{'descr': ['x'], 'fortran_order': False, 'shape': (3,)}",
    "[" * 400,
    "\0",
)


def with_header(path, header):
    text = header.encode().ljust(500)
    path.write_bytes(b"\x93NUMPY\1\0" + len(text).to_bytes(2, "little") + text + bytes(12))
    return path


@pytest.mark.parametrize("header", HEADERS, ids=range(len(HEADERS)))
def test_headers(header, tmp_path):
    path = with_header(tmp_path / "a.npy", header)
    with pytest.raises(Problem, match=r"a\.npy is damaged \(.*make it again$"):
        arrays.mapped(path, "make it again")
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as file:
        file.write(path, "a.npy")
    with pytest.raises(Problem, match=r"a\.npz is damaged \(.*remove it$"):
        arrays.archive(tmp_path / "a.npz", "remove it")


def test_archives(tmp_path):
    """Every byte of an archive's own tables: packed otherwise, encrypted, of another version."""
    path = tmp_path / "a.npz"
    np.savez(path, rows=np.arange(6), names=np.array(["a"]))
    sound, rng = path.read_bytes(), random.Random(0)
    begin = sound.index(b"PK\1\2")
    for at in [*range(40), *range(begin, len(sound))]:
        for value in {0, 1, 0xFF, rng.randrange(256)} - {sound[at]}:
            path.write_bytes(sound[:at] + bytes([value]) + sound[at + 1 :])
            try:
                arrays.archive(path, "remove it")
            except Problem as problem:
                assert str(problem).startswith(str(path)), (at, value)


def test_what_is_not_there(tmp_path):
    for read in (arrays.mapped, arrays.archive):
        with pytest.raises(Problem, match="none can't be read .No such file.*: copy it"):
            read(tmp_path / "none", "copy it")

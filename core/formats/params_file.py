"""MXNet's .params files, read and written without MXNet.

Layout, little-endian: u64 0x112, u64 0; u64 number of arrays; the arrays; u64 number of names; the
names, each a u64 length and its bytes. An array is u32 0xF993FAC9 (or ..FACA), i32 storage type (0:
dense), then as since MXNet 0.12: i32 number of dimensions, i64 for each, i32 device type, i32
device number, i32 type, the values in C order. Older files have u32 0xF993FAC8 and no storage type,
or in place of both the number of dimensions and u32 ones.

Sizes are checked against the file before anything of that size is made, so a damaged file can't
make a reader run away, as it can MXNet's own.
"""

import struct
from math import prod
from pathlib import Path

import numpy as np

from facelet.console import Problem
from facelet.files import whole_file

HEADER, DENSE = 0x112, 0
V1, V2, V3 = 0xF993FAC8, 0xF993FAC9, 0xF993FACA
TYPES = {0: "<f4", 1: "<f8", 2: "<f2", 3: "u1", 4: "<i4", 5: "i1", 6: "<i8"}
MOST_DIMENSIONS = 8


class _Damaged(Exception):
    pass


class _Bytes:
    """Takes numbers off the front of a file's content."""

    def __init__(self, data):
        self.data, self.at = data, 0

    def take(self, count):
        if not 0 <= count <= len(self.data) - self.at:
            raise _Damaged(f"it ends within what begins at byte {self.at:,}")
        self.at += count
        return self.data[self.at - count : self.at]

    def numbers(self, kind, count=1):
        return struct.unpack(f"<{count}{kind}", self.take(count * struct.calcsize(f"<{kind}")))

    def count(self, smallest):
        """A number of things that take `smallest` bytes each at the least."""
        (count,) = self.numbers("Q")
        if count * smallest > len(self.data) - self.at:
            raise _Damaged(
                f"at byte {self.at - 8:,} it promises {count:,} entries, more than it has room for"
            )
        return count


def _array(file):
    (magic,) = file.numbers("I")
    wide = "q"
    if magic in (V2, V3):
        (storage,) = file.numbers("i")
        if storage != DENSE:
            raise _Damaged("it holds a sparse array")
        (dimensions,) = file.numbers("i")
    elif magic == V1:
        (dimensions,) = file.numbers("I")
    else:
        dimensions, wide = magic, "I"
    if not 0 < dimensions <= MOST_DIMENSIONS:
        raise _Damaged(f"an array at byte {file.at:,} has {dimensions} dimensions")
    shape = file.numbers(wide, dimensions)
    _, _, kind = file.numbers("i", 3)
    if kind not in TYPES or min(shape) < 1:
        raise _Damaged(f"an array at byte {file.at:,} has type {kind} and shape {shape}")
    kind = np.dtype(TYPES[kind])
    values = file.take(prod(shape) * kind.itemsize)
    return np.frombuffer(values, kind).reshape(shape)


def read(path):
    """{name: array} of a file, arguments "arg:..." and auxiliary states "aux:...", floating point
    numbers as float32. Raises Problem for anything but a whole .params file with names."""
    path = Path(path)
    if not path.is_file():
        raise Problem(f"{path} is not there: give a .params file")
    file = _Bytes(path.read_bytes())
    try:
        if file.numbers("Q") != (HEADER,):
            raise _Damaged("it begins otherwise")
        file.numbers("Q")
        arrays = [_array(file) for _ in range(file.count(smallest=4))]
        names = [file.take(file.count(smallest=1)).decode() for _ in range(file.count(smallest=8))]
        if len(names) != len(set(names)) or len(names) != len(arrays) or not names:
            raise _Damaged(f"it has {len(arrays)} arrays and {len(set(names))} names")
        if file.at != len(file.data):
            raise _Damaged(f"{len(file.data) - file.at:,} bytes follow after its end")
    except (_Damaged, UnicodeDecodeError) as reason:
        raise Problem(
            f"{path} is no MXNet .params file, or a damaged one ({reason}): "
            f"`python -m core.doctor {path}` says what it is"
        ) from None
    with np.errstate(over="ignore", invalid="ignore"):  # doubles may be too large: infinite then
        return {
            name: array.astype(np.float32) if array.dtype.kind == "f" else array.copy()
            for name, array in zip(names, arrays)
        }


def write(path, arrays):
    """Write {name: array} as float32, whole or not at all; MXNet's mx.nd.load reads it."""
    with whole_file(path) as part, open(part, "wb") as file:
        file.write(struct.pack("<3Q", HEADER, 0, len(arrays)))
        for array in arrays.values():
            array = np.ascontiguousarray(array, "<f4")
            file.write(struct.pack("<Iii", V2, DENSE, array.ndim))
            file.write(struct.pack(f"<{array.ndim}q", *array.shape))
            file.write(struct.pack("<3i", 1, 0, 0))  # the CPU, float32
            file.write(array.tobytes())
        file.write(struct.pack("<Q", len(arrays)))
        for name in map(str.encode, arrays):
            file.write(struct.pack("<Q", len(name)) + name)

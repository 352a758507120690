"""The packed store of samples: a folder of a few memory-mapped files in place of millions of
JPEGs.

    crops.npy    uint8 (N, S, S, 3)   BGR
    labels.npy   int8 (N,)            1 positive, 0 negative, -1 part, -2 landmark
    offsets.npy  float32 (N, 4)       box targets (facelet.boxes.offsets), zeros where none are
    sources.npy  int32 (N, 5)         index of the picture, x1 y1 x2 y2 of the crop in it
    landmarks.npy  float32 (N, P, 2)  points, (point + 0.5 - corner) / side of the crop; only in
                                      stores of landmark samples
    pictures.txt                      path of each picture, relative to the set's images
    store.json                        what it holds, size, counts, settings, what it was made from;
                                      of landmark samples "points", P, and "scheme", their order

Any program can read the .npy files with numpy.load(..., mmap_mode="r").
"""

import json
from pathlib import Path

import numpy as np

from facelet.console import Problem
from facelet.files import read_json, whole_folder, write_json

VERSION = 1
KINDS = {"positive": 1, "part": -1, "negative": 0, "landmark": -2}
FACES = ("positive", "part", "negative")
# What a store can be of, and the kinds of samples it may hold then: cut by rule around faces and
# beside them, mined with a detector, or cut around landmarks.
WHAT = {"samples": FACES, "hard": FACES, "landmark": ("landmark",)}


def fields(size, points=None):
    """File, type and shape of one sample, by field; with landmarks if there are `points`."""
    found = {
        "crops": ("crops.npy", np.uint8, (size, size, 3)),
        "labels": ("labels.npy", np.int8, ()),
        "offsets": ("offsets.npy", np.float32, (4,)),
        "sources": ("sources.npy", np.int32, (5,)),
    }
    if points:
        found["landmarks"] = ("landmarks.npy", np.float32, (points, 2))
    return found


def sample_bytes(size, points=None):
    return sum(
        np.dtype(kind).itemsize * int(np.prod(shape))
        for _, kind, shape in fields(size, points).values()
    )


class _GrowingArray:
    """An .npy file of a length that is known at the end: the header is written with room for
    any length and filled in by close()."""

    HEADER = 128

    def __init__(self, path, kind, shape):
        self.kind, self.shape, self.length = np.dtype(kind), shape, 0
        self.file = open(path, "wb")
        self.file.write(b" " * self.HEADER)

    def append(self, values):
        values = np.ascontiguousarray(values, self.kind)
        if values.shape[1:] != self.shape:
            raise ValueError(f"{values.shape[1:]} for {self.shape}")
        self.file.write(values.data)
        self.length += len(values)

    def close(self):
        header = repr(
            {
                "descr": np.lib.format.dtype_to_descr(self.kind),
                "fortran_order": False,
                "shape": (self.length, *self.shape),
            }
        ).encode()
        start = np.lib.format.magic(1, 0) + (self.HEADER - 10).to_bytes(2, "little")
        self.file.seek(0)
        self.file.write(start + header.ljust(self.HEADER - 11) + b"\n")
        self.file.close()


def write_store(path, size, chunks, pictures, facts, what="samples", points=None):
    """Write a store at `path`, whole or not at all; returns its counts by kind.

    chunks -- iterable of dicts of arrays, one per field, in the order they are to have
    pictures -- paths, what sources[:, 0] counts in
    facts -- a dict of JSON values to keep in store.json, or a function giving it at the end
    what -- key of WHAT; points -- how many landmarks a sample has, None where it has none
    """
    begin = {"version": VERSION, "what": what, "size": size}
    if points:
        begin["points"] = points
    with whole_folder(path) as part:
        arrays = {
            name: _GrowingArray(part / file, kind, shape)
            for name, (file, kind, shape) in fields(size, points).items()
        }
        counts = dict.fromkeys(WHAT[what], 0)
        try:
            for chunk in chunks:
                for name, array in arrays.items():
                    array.append(chunk[name])
                for kind in counts:
                    counts[kind] += int((chunk["labels"] == KINDS[kind]).sum())
        finally:
            for array in arrays.values():
                array.close()
        (part / "pictures.txt").write_text("".join(f"{p}\n" for p in pictures))
        write_json(
            part / "store.json",
            {**begin, "counts": counts, **(facts() if callable(facts) else facts)},
        )
    return counts


class Store:
    """A store opened for reading; `crops`, `labels`, `offsets`, `sources` and, where there are
    any, `landmarks` (else None) are arrays, memory mapped. `what` is a key of WHAT; `points` and
    `scheme` are None without landmarks. Raises Problem when it is missing, damaged, or not of
    `size`."""

    crops: np.ndarray
    labels: np.ndarray
    offsets: np.ndarray
    sources: np.ndarray

    def __init__(self, path, size=None):
        self.path = Path(path)
        if not (self.path / "store.json").is_file():
            raise Problem(
                f"{path} is no store of samples: make one with `python -m prepare_data.samples`"
            )
        self.facts = read_json(self.path / "store.json")
        if self.facts.get("version") != VERSION:
            raise Problem(
                f"{path} has the format {self.facts.get('version')}, this program "
                f"reads {VERSION}: make the store again"
            )
        self.size = self.facts["size"]
        if size is not None and size != self.size:
            raise Problem(
                f"{path} holds samples of {self.size} pixels, the net takes {size}: "
                f"make a store with --size {size}"
            )
        self.what = self.facts.get("what", "samples")  # stores made before there were others
        self.points, self.scheme = self.facts.get("points"), self.facts.get("scheme")
        self.landmarks = None
        total = sum(self.facts["counts"].values())
        for name, (file, kind, shape) in fields(self.size, self.points).items():
            try:
                array = np.load(self.path / file, mmap_mode="r")
            except (OSError, ValueError) as error:
                raise Problem(
                    f"{self.path / file} can't be read ({error}): make the store again"
                ) from None
            if array.shape != (total, *shape) or array.dtype != kind:
                raise Problem(
                    f"{self.path / file} holds {array.dtype}{array.shape}, not "
                    f"{np.dtype(kind)}{(total, *shape)}: make the store again"
                )
            setattr(self, name, array)

    def __len__(self):
        return len(self.labels)

    def pictures(self):
        return (self.path / "pictures.txt").read_text().splitlines()

    def describe(self):
        return json.dumps(self.facts["counts"])

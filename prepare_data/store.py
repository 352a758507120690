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
                                      of landmark samples "points", P, and "scheme", their order;
                                      "checksums", sha256 of the files above

Any program can read the .npy files with numpy.load(..., mmap_mode="r").
"""

import json
from pathlib import Path

import numpy as np

from core.base import arrays
from facelet.console import Problem
from facelet.files import checksums, damage, known_sums, read_json, whole_folder, write_json

VERSION = 1
KINDS = {"positive": 1, "part": -1, "negative": 0, "landmark": -2}
REMEDY = "make the store again"
MOST_SIDES = 10  # of its crop that a target may be away: one farther off is none
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
        write_pictures(part, pictures)
        write_json(
            part / "store.json",
            {
                **begin,
                "counts": counts,
                **(facts() if callable(facts) else facts),
                "checksums": checksums(part),
            },
        )
    return counts


# ---- what stores of samples and of cuts have in common ----------------------------------------


def write_pictures(folder, pictures):
    """Write the paths of pictures, a line each; bytes of names that are no UTF-8 stay as they
    are."""
    text = "".join(f"{path}\n" for path in pictures)
    (folder / "pictures.txt").write_bytes(text.encode("utf-8", "surrogateescape"))


def read_pictures(folder, remedy):
    """Those paths. Raises Problem, whose last words are `remedy`."""
    path = folder / "pictures.txt"
    try:
        text = path.read_bytes().decode("utf-8", "surrogateescape")
    except OSError as error:
        raise Problem(f"{path} can't be read ({error.strerror}): {remedy}") from None
    return text.split("\n")[:-1]


def read_array(path, kind, shape, remedy):
    """The array in an .npy file, memory mapped. Raises Problem, whose last words are `remedy`,
    unless it has this type and shape and nothing follows after it."""
    array = arrays.mapped(path, remedy)
    if array.shape != shape or array.dtype != kind or not array.flags.c_contiguous:
        raise Problem(
            f"{path} holds {array.dtype}{array.shape}, not {np.dtype(kind)}{shape}: {remedy}"
        )
    return array


def read_facts(path, version, kinds, remedy):
    """The JSON values in a store's file at `path`. Raises Problem unless they are of this version
    of the format, and each of `kinds`, {key: type}, is there and of its type."""
    facts = read_json(path)
    if not isinstance(facts, dict):
        raise Problem(f"{path} holds {type(facts).__name__}, not an object: {remedy}")
    if facts.get("version") != version:
        raise Problem(
            f"{path.parent} has the format {facts.get('version')}, this program reads {version}: "
            f"{remedy}"
        )
    wrong = [
        key
        for key, kind in kinds.items()
        if type(facts.get(key)) is not kind or kind is int and facts[key] < 0
    ]
    if wrong:
        raise Problem(f"{path} is damaged: its {', '.join(wrong)} can't be used: {remedy}")
    return facts


def check_rows(path, wrong, what, remedy):
    """Raise Problem where any of `wrong`, bool (N,), says that a row of the array in a file is not
    as it can be."""
    count = np.count_nonzero(wrong)
    if count:
        raise Problem(
            f"{path} is damaged: {count:,} of {len(wrong):,} {what}, the first in row "
            f"{int(np.argmax(wrong)):,}: {remedy}"
        )


def outside(values, most):
    """Which rows (N,) of an array (N, ...) hold a number that is NaN or farther from 0 than
    `most`."""
    # NaN compares as False; the extremes of all, which are fast, tell almost always
    if not values.size or (values.min() >= -most and values.max() <= most):
        return np.zeros(len(values), bool)
    return ~(np.abs(values) <= most).all(axis=tuple(range(1, values.ndim)))


def check_sources(path, sources, pictures, remedy):
    """Raise Problem unless sources (N, 5) are of pictures that there are, and their squares have an
    area."""
    index, x1, y1, x2, y2 = sources.T
    of_none = (index < 0) | (index >= len(pictures))
    check_rows(path, of_none, f"are of none of the {len(pictures):,} pictures", remedy)
    check_rows(path, (x2 <= x1) | (y2 <= y1), "crops have no area", remedy)


def check_sums(folder, sums, large, remedy):
    """Raise Problem where files of a store, but the `large` one, aren't as they were made."""
    found = damage(folder, {name: digest for name, digest in sums.items() if name != large})
    if found:
        raise Problem(f"{folder} is damaged: {', '.join(found[:3])}: {remedy}")


def facts_of(path):
    """The JSON values in a store.json at `path`. Raises Problem where they can't be those of a
    store, as far as others than Store read them."""
    facts = read_facts(path, VERSION, {"size": int, "counts": dict}, REMEDY)
    right = {
        "counts": {*facts["counts"]} <= {*KINDS}
        and all(type(count) is int and count >= 0 for count in facts["counts"].values()),
        "left_out": isinstance(facts.get("left_out", {}), dict)
        and all(type(count) is int for count in facts.get("left_out", {}).values()),
        "skipped": isinstance(facts.get("skipped", []), list),
    }
    for key, fine in right.items():
        if not fine:
            raise Problem(f"{path} is damaged: its {key} can't be used: {REMEDY}")
    return facts


# ---- reading -------------------------------------------------------------------------------


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
        facts_path = self.path / "store.json"
        self.facts = facts_of(facts_path)
        self.size, counts = self.facts["size"], self.facts["counts"]
        self.what = self.facts.get("what", "samples")  # stores made before there were others
        self.points, self.scheme = self.facts.get("points"), self.facts.get("scheme")
        wrong = [
            key
            for key, right in (
                ("what", self.what in tuple(WHAT)),
                ("points", self.points is None or type(self.points) is int and self.points > 0),
                ("source", type(self.facts.get("source", {})) is dict),
                ("scheme", self.scheme is None or type(self.scheme) is str),
            )
            if not right
        ]
        if wrong:
            raise Problem(f"{facts_path} is damaged: its {wrong[0]} can't be used: {REMEDY}")
        if size is not None and size != self.size:
            raise Problem(
                f"{path} holds samples of {self.size} pixels, the net takes {size}: "
                f"make a store with --size {size}"
            )
        self.landmarks = None
        total = sum(counts.values())
        for name, (file, kind, shape) in fields(self.size, self.points).items():
            setattr(self, name, read_array(self.path / file, kind, (total, *shape), REMEDY))
        self._pictures = read_pictures(self.path, REMEDY)
        self._check_values(counts)
        check_sums(self.path, known_sums(self.facts, facts_path), "crops.npy", REMEDY)

    def _check_values(self, counts):
        path = self.path / "labels.npy"
        known = sorted(KINDS.values())
        check_rows(path, ~np.isin(self.labels, known), f"labels are none of {known}", REMEDY)
        for kind, label in KINDS.items():
            found = np.count_nonzero(self.labels == label)
            if found != counts.get(kind, 0):
                raise Problem(
                    f"{path} is damaged: it holds {found:,} of kind {kind}, not "
                    f"{counts.get(kind, 0):,}: {REMEDY}"
                )
        for name in ("offsets", "landmarks"):
            targets = getattr(self, name)
            if targets is not None:
                check_rows(
                    self.path / f"{name}.npy",
                    outside(targets, MOST_SIDES),
                    f"targets are NaN, or more than {MOST_SIDES} sides away",
                    REMEDY,
                )
        check_sources(self.path / "sources.npy", self.sources, self._pictures, REMEDY)

    def __len__(self):
        return len(self.labels)

    def pictures(self):
        return self._pictures

    def describe(self):
        return json.dumps(self.facts["counts"])

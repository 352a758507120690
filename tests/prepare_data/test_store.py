"""Stores of samples are checked when they are opened, and know their files by content."""

import json
import shutil

import numpy as np
import pytest

from facelet.console import Problem
from prepare_data import store
from prepare_data.store import KINDS, Store, write_store

COUNT, SIZE, POINTS = 400, 12, 5


def rows(rng, points=None):
    labels = np.full(COUNT, KINDS["landmark"]) if points else rng.choice([1, 0, -1], COUNT)
    corners = rng.integers(-5, 50, (COUNT, 2))
    return {
        "crops": rng.integers(0, 256, (COUNT, SIZE, SIZE, 3)),
        "labels": labels,
        "offsets": rng.normal(0, 0.2, (COUNT, 4)),
        "sources": np.hstack([rng.integers(0, 3, (COUNT, 1)), corners, corners + 20]),
        **({"landmarks": rng.uniform(0, 1, (COUNT, points, 2))} if points else {}),
    }


@pytest.fixture(params=[None, POINTS], ids=["boxes", "landmarks"])
def made(request, tmp_path):
    points = request.param
    facts = {"source": {}, **({"scheme": "5"} if points else {})}
    chunks = [rows(np.random.default_rng(0), points)]
    what = "landmark" if points else "samples"
    names = ["a.jpg", "sub/b c.jpg", "\udcff\u2028.jpg"]  # no UTF-8; what splits other lines
    write_store(tmp_path / "store", SIZE, chunks, names, facts, what, points)
    assert Store(tmp_path / "store", SIZE).pictures() == names
    return tmp_path / "store"


def change(path, at, value):
    array = np.load(path)
    array[at] = value
    np.save(path, array)


@pytest.mark.parametrize(
    "file, at, value, says",
    [
        ("labels.npy", slice(200), 77, "200 of 400 labels are none of"),
        ("offsets.npy", slice(30), np.nan, "30 of 400 targets are NaN, or more than 10 sides"),
        ("offsets.npy", (7, 2), -np.inf, "1 of 400 targets .*the first in row 7"),
        ("offsets.npy", (7, 2), 1e4, "1 of 400 targets .*the first in row 7"),
        ("offsets.npy", (7, 2), 0.123, "offsets.npy has changed since it was made"),
        ("sources.npy", (9, 0), 3, "1 of 400 are of none of the 3 pictures"),
        ("sources.npy", (9, 0), -1, "1 of 400 are of none of the 3 pictures"),
        ("sources.npy", (9, 3), -100, "1 of 400 crops have no area"),
    ],
)
def test_damaged_values(made, file, at, value, says):
    change(made / file, at, value)
    with pytest.raises(Problem, match=f"^{made}.*{says}.*: make the store again$"):
        Store(made)


def test_one_label_for_another(made):
    labels = np.load(made / "labels.npy")
    change(made / "labels.npy", 0, 0 if labels[0] else 1)
    with pytest.raises(Problem, match="labels.npy is damaged: it holds .* of kind .*, not "):
        Store(made)


def test_damaged_landmarks(made):
    if not (made / "landmarks.npy").exists():
        return
    change(made / "landmarks.npy", (3, 1, 0), np.nan)
    with pytest.raises(Problem, match="landmarks.npy is damaged: 1 of 400 targets .* in row 3"):
        Store(made)


@pytest.mark.parametrize(
    "file", ["crops.npy", "labels.npy", "offsets.npy", "sources.npy", "pictures.txt", "store.json"]
)
def test_any_damage_is_one_line_or_none(made, file, tmp_path):
    """Flips, cuts and fillings anywhere in a file, most of all where its header is."""
    rng, whole = np.random.default_rng(1), (made / file).read_bytes()
    refused = 0
    for number in range(150):
        data = bytearray(whole)
        at = int(rng.integers(min(len(data), 128 if number % 2 else len(data))))
        if number % 3 == 0:
            data[at] ^= 1 << int(rng.integers(8))
        elif number % 3 == 1:
            del data[at:]
        else:
            data[at : at + 16] = rng.bytes(16)
        (made / file).write_bytes(data)
        try:
            Store(made)
        except Problem as problem:
            refused += 1
            assert "\n" not in str(problem)
    assert refused > (60 if file in ("crops.npy", "store.json") else 140)


@pytest.mark.parametrize(
    "key, value",
    [
        ("size", "12"),
        ("size", -1),
        ("counts", [1]),
        ("counts", {"positive": "x"}),
        ("counts", {"of another kind": 400}),
        ("what", 3),
        ("points", "5"),
        ("checksums", []),
        ("checksums", {"../../etc/passwd": "0"}),
        ("checksums", {"/etc/passwd": "0"}),
    ],
)
def test_damaged_facts(made, key, value):
    path = made / "store.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), key: value}))
    with pytest.raises(Problem, match=f"store.json is damaged.* {key} can't be used"):
        Store(made)


def test_stores_of_former_versions_open(made):
    path = made / "store.json"
    facts = json.loads(path.read_text())
    del facts["checksums"]
    path.write_text(json.dumps(facts))
    assert len(Store(made)) == COUNT


def test_a_whole_store_lists_all_its_files(made):
    facts = json.loads((made / "store.json").read_text())
    assert {*facts["checksums"], "store.json"} == {path.name for path in made.iterdir()}


def test_trailing_files_do_not_count(made):
    (made / "mosaic.png").write_bytes(b"x")
    shutil.copytree(made, made.parent / "copy")
    assert len(store.Store(made.parent / "copy")) == COUNT

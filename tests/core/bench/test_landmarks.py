"""The benchmark of landmark batches measures what it says."""

import math

import cv2
import numpy as np
import pytest
from dotted import dots, dotted, point_set, tilted

from config import config, for_landmarks
from core.bench import __main__ as bench
from core.bench import landmarks as bench_landmarks
from facelet.console import Problem
from prepare_data.points import cuts, face_sets


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """The path of a store of cuts of six faces of five dots; by their names two are held out."""
    folder, rng = tmp_path_factory.mktemp("bench"), np.random.default_rng(0)
    faces = [
        (f"{i}.png", dotted(places), (*places.min(axis=0) - 20, 95, 90), places)
        for i, places in ((i, tilted(rng)) for i in (1, 2, 3, 4, 12, 24))
    ]
    out = folder / "cuts"
    cuts.make_store(point_set(folder / "set", faces), 400, out, for_landmarks(5).crop, 1)
    return out


def test_the_baseline_makes_samples_with_their_points(store, tmp_path, monkeypatch):
    """Dots found in what it makes, to a pixel and a bit, as it rounds corners."""
    faces = face_sets.Cuts(store)
    settings = for_landmarks(5, ["crop.preset=detector", "crop.blur=0,1"]).crop
    monkeypatch.setattr(
        bench_landmarks, "augmented", lambda crop: crop.transpose(2, 0, 1).astype(np.float32)
    )
    np.random.seed(0)
    checked = 0
    for i in np.resize(range(6), 30):
        cv2.imwrite(str(tmp_path / "a.png"), faces.read(i))
        data, points = bench_landmarks.read_one(
            tmp_path / "a.png", faces.points_of[i], faces.boxes[i], "5", 64, settings
        )
        assert data.shape == (3, 64, 64) and points.shape == (5, 2)
        if np.abs(points - 0.5).max() < 0.38:
            checked += 1
            found = dots(data.transpose(1, 2, 0).astype(np.uint8)) + 0.5
            assert np.abs(found - points * 64).max() < 1.3
    assert checked > 8


def test_rows(store):
    rows = bench_landmarks.bench(48, store, 1, seconds=0.01)
    assert [row["competitor"] for row in rows] == ["baseline", "ours", "step", "both", "waiting"]
    for row in rows:
        assert row["what"] == "48 px, 5" and row["batch"] == 3
        assert math.isfinite(row["median"]) and row["median"] <= row["best"] or row is rows[-1]
    assert rows[1]["ratio"] == pytest.approx(rows[1]["median"] / rows[0]["median"])
    assert rows[1]["aim"] == "8,000/s" and rows[1]["met"] is (rows[1]["median"] >= 8000)
    assert rows[2]["met"] is None and 0 <= rows[4]["median"] <= 1
    lines = [bench._line(row) for row in rows]
    assert "8,000/s, " in lines[1] and lines[2].endswith("samples/s")
    assert "%" in lines[4] and "at most 10%" in lines[4]


def test_its_own_faces(tmp_path, monkeypatch):
    monkeypatch.setattr(bench_landmarks, "PICTURES", 3)
    for points in (5, 106):
        found = face_sets.Cuts(bench_landmarks.draw_cuts(tmp_path, points))
        assert found.points == points and len(found) >= 1
        assert max(found.read(0).shape[:2]) <= bench_landmarks.CUT_SIDES[points]


def test_a_wrong_store_shows_at_once(tmp_path):
    with pytest.raises(Problem, match="cuts.json is not there"):
        bench.main(["landmarks", "--faces", str(tmp_path)])
    assert set(bench_landmarks.NETS) == set(bench.LANDMARK_SIZES)
    assert config.train.prefetch > 1

"""FDDB's curves against masks pixel by pixel and pairings by trying all."""

import itertools
import json
import math
from functools import partial

import cv2
import numpy as np
import pytest
from commands import evaluated

from core.evaluate import fddb as evaluate_fddb
from core.evaluate import run_detector
from facelet.faces import Faces


def box_mask(box, width, height):
    """Pixels within rounded corners, both of them."""
    x1, y1, x2, y2 = (round(float(v)) for v in box)
    return np.array(
        [[x1 <= x <= x2 and y1 <= y <= y2 for x in range(width)] for y in range(height)]
    )


def ellipse_mask(ellipse, width, height):
    """Pixels within the ellipse of cut radii around the rounded centre: (surely, perhaps), for
    OpenCV draws it with straight lines."""
    long, short, angle, x0, y0 = ellipse
    cos, sin = math.cos(angle), math.sin(angle)
    y, x = np.mgrid[:height, :width]
    x, y = x - round(x0), y - round(y0)
    along, across = x * cos + y * sin, y * cos - x * sin

    def within(more):
        return (along / (int(long) + more)) ** 2 + (across / (int(short) + more)) ** 2 <= 1

    return within(-1), within(1)


def some_ellipses(rng, count):
    """Radii from 4 px, any angle, anywhere in about 40 x 40 px, also over their border."""
    long = rng.uniform(6, 14, count)
    return np.stack(
        [
            long,
            long * rng.uniform(0.6, 1, count),
            rng.uniform(-3, 3, count),
            *rng.uniform(-2, 42, (2, count)),
        ],
        axis=1,
    )


def some_boxes(rng, ellipses, count):
    """Boxes around ellipses and elsewhere, scores with ties."""
    long, short, angle, x, y = ellipses.T
    across = np.hypot(long * np.cos(angle), short * np.sin(angle))
    down = np.hypot(long * np.sin(angle), short * np.cos(angle))
    around = np.stack([x - across, y - down, x + across, y + down], axis=1)
    corner = rng.uniform(-5, 35, (count, 2))
    boxes = np.concatenate(
        [around, around, np.concatenate([corner, corner + rng.uniform(5, 20, (count, 2))], axis=1)]
    )
    boxes += rng.normal(0, 2, boxes.shape)
    boxes[:, 2:] = np.maximum(boxes[:, 2:], boxes[:, :2])
    return boxes, rng.integers(1, 8, len(boxes)) / 10


def test_overlaps_pixel_by_pixel():
    """Areas of boxes exactly; ellipses between the one a pixel smaller and a pixel larger."""
    rng = np.random.default_rng(0)
    for _ in range(20):
        ellipses = some_ellipses(rng, 3)
        boxes, _ = some_boxes(rng, ellipses, 3)
        ours = evaluate_fddb.overlaps(boxes, ellipses, 41, 37)
        for j, ellipse in enumerate(ellipses):
            surely, perhaps = ellipse_mask(ellipse, 41, 37)
            drawn = np.zeros((37, 41), np.uint8)
            cv2.ellipse(
                drawn,
                (round(ellipse[3]), round(ellipse[4])),
                (int(ellipse[0]), int(ellipse[1])),
                math.degrees(ellipse[2]),
                0,
                360,
                1,
                -1,
            )
            assert np.all(surely <= drawn) and np.all(drawn <= perhaps)
            for i, box in enumerate(boxes):
                mask = box_mask(box, 41, 37)
                shared, both = (mask & drawn).sum(), (mask | drawn).sum()
                assert ours[i, j] == pytest.approx(shared / max(both, 1), abs=1e-12)
        assert (ours > 0.5).any()


def by_trying(found, truth, size):
    """[(score, false, true, shared)] at each score: all ways to pair are tried."""
    rows = []
    for score in sorted({s for _, scores in found.values() for s in scores}, reverse=True):
        boxes = true = shared = 0
        for name, (every, scores) in found.items():
            kept = every[scores >= score]
            boxes += len(kept)
            overlap = evaluate_fddb.overlaps(kept, truth[name], *size)
            if overlap.shape[0] > overlap.shape[1]:
                overlap = overlap.T
            ways = itertools.permutations(range(overlap.shape[1]), len(overlap))
            best = max(([overlap[i, j] for i, j in enumerate(way)] for way in ways), key=sum)
            true += sum(value > 0.5 for value in best)
            shared += sum(best)
        rows.append((score, boxes - true, true, shared))
    return rows


def test_curve_by_trying_all_pairs():
    rng = np.random.default_rng(2)
    truth = {name: some_ellipses(rng, count) for name, count in zip("abcd", (1, 3, 2, 2))}
    truth["b"][1] = truth["b"][0] + [0.5, 0, 0.1, 6, 2]  # two that boxes have to share
    found = {name: some_boxes(rng, truth[name], 1) for name in "abc"}
    found["c"] = found["c"][0][:0], found["c"][1][:0]
    curve = evaluate_fddb.roc(found, truth, {name: (41, 37) for name in truth})
    rows = np.array(by_trying(found, truth, (41, 37)))
    assert curve.faces == 8 and len(rows) > 4
    np.testing.assert_allclose(
        np.stack([curve.scores, curve.false, curve.true, curve.shared], 1), rows, atol=1e-9
    )


def test_pairs_are_made_anew():
    """A better box that comes later takes the ellipse: one true positive all along, more IoU. Two
    ellipses: the best sum, not the best pair first."""
    circle = np.array([[20, 20, 0, 100, 100]])
    boxes = np.array([[82, 82, 130, 130], [80, 80, 120, 120]])
    curve = evaluate_fddb.roc({"a": (boxes, np.array([0.9, 0.5]))}, {"a": circle}, {})
    assert curve.true.tolist() == [1, 1] and curve.false.tolist() == [0, 1]
    alone = evaluate_fddb.overlaps(boxes, circle, 450, 450)[:, 0]
    assert curve.shared.tolist() == alone.tolist() and alone[1] > alone[0] + 0.1


def test_the_border_cuts():
    """Without a size, 450 x 450 px; half an ellipse on the border is a box that has that half."""
    ellipse, box = np.array([[30, 30, 0, 200, 100]]), np.array([[170, 70, 199, 130]])
    found, truth = {"a": (box, np.array([1.0]))}, {"a": ellipse}
    assert evaluate_fddb.roc(found, truth, {}).true.tolist() == [0]
    cut = evaluate_fddb.roc(found, truth, {"a": (200, 450)})
    assert cut.true.tolist() == [1] and cut.shared[0] > 0.75


# ---- the program ---------------------------------------------------------------------------

ELLIPSES = """2002/07/19/big/img_1
2
20.5 15.5 1.5 100 100  1
20 15 -1.5 200 100  1
2002/07/19/big/img_2
1
30 20 1.5 60 70  1
"""
# One true, one of nothing; one of too little; picture 2 found late.
FOUND = """2002/07/19/big/img_1
3
85 80 30 40 0.9
300 300 30 40 0.8
190 90 10 10 0.7
2002/07/19/big/img_2
1
40 40 40 60 0.25
"""


@pytest.fixture
def run(tmp_path, capsys):
    """Runs the program with --out out; see commands.evaluated."""
    return partial(evaluated, capsys, "fddb", "--out", tmp_path / "out")


@pytest.fixture
def data(tmp_path):
    folder = tmp_path / "data"
    (folder / "FDDB-folds").mkdir(parents=True)
    first, second = ELLIPSES[: ELLIPSES.index("2002/07/19/big/img_2")], 0
    second = ELLIPSES[len(first) :]
    (folder / "FDDB-folds" / "FDDB-fold-01-ellipseList.txt").write_text(first)
    (folder / "FDDB-folds" / "FDDB-fold-02-ellipseList.txt").write_text(second)
    (tmp_path / "found.txt").write_text(FOUND)
    return folder


def test_files_in_the_official_layout(data, tmp_path, run):
    (tmp_path / "out").mkdir()
    printed, status, error = run("--data", data, "--detections", tmp_path / "found.txt")
    assert status == 0, error
    out = tmp_path / "out"
    discrete = [line.split() for line in (out / "DiscROC.txt").read_text().splitlines()]
    assert discrete == [
        ["0.666667", "2", "0.25"],
        ["0.333333", "2", "0.7"],
        ["0.333333", "1", "0.8"],
        ["0.333333", "0", "0.9"],
        ["0", "0", "1.79769e+308"],
    ]
    continuous = np.loadtxt(out / "ContROC.txt")
    assert continuous[:, 1].tolist() == [2, 2, 1, 0, 0]
    overlap = evaluate_fddb.overlaps(
        np.array([[85, 80, 115, 120], [190, 90, 200, 100]]),
        np.array([[20, 15, 1.5, 100, 100], [20, 15, -1.5, 200, 100]]),
        450,
        450,
    )
    assert continuous[3, 0] == pytest.approx(overlap[0, 0] / 3, abs=1e-6)
    assert continuous[1, 0] == pytest.approx((overlap[0, 0] + overlap[1, 1]) / 3, abs=1e-6)
    figures = json.loads((out / "fddb.json").read_text())
    assert [row["true"] for row in figures["at"]] == [2] * 4 and figures["faces"] == 3
    assert not any(row["reached"] for row in figures["at"])
    assert "scores from 0.25" in printed and "2 of 2 pictures are not there" in printed
    assert cv2.imread(str(out / "roc.png")).std() > 5


def test_pictures_in_several_entries(data, capsys):
    """Of one list or of several: all of their ellipses, and those that are equal once."""
    (first, *_) = sorted(data.rglob("*ellipseList.txt"))
    sound = evaluate_fddb.read_truth(data)
    assert capsys.readouterr().out == ""
    first.write_text(
        first.read_text() + ".//2002/07/19/big/img_2\n2\n9 8 0.5 30 40 1\n9 8 0.5 30 40 1\n"
    )
    name, faces = "2002/07/19/big/img_2", evaluate_fddb.read_truth(data)
    assert faces.keys() == sound.keys() and len(faces[name]) == len(sound[name]) + 1
    assert {tuple(row) for row in faces[name]} == {*map(tuple, sound[name]), (9, 8, 0.5, 30, 40)}
    assert "merged 1 entries" in capsys.readouterr().out


def test_curves_are_read_where_they_were_last(monkeypatch):
    curve = evaluate_fddb.Roc(
        np.array([0.9, 0.8, 0.7]),
        np.array([1, 3, 3]),
        np.array([5, 6, 8]),
        np.array([4.0, 5, 6]),
        10,
    )
    assert [curve.at(false) for false in range(5)] == [None, 0, 0, 2, 2]
    monkeypatch.setattr(evaluate_fddb, "FALSE_POSITIVES", (0, 2, 3, 4))
    rows = evaluate_fddb.figures(curve, "")["at"]
    assert [(row["true"], row["rate"], row["continuous"], row["reached"]) for row in rows] == [
        (0, 0, 0, True),
        (5, 0.5, 0.4, True),
        (8, 0.8, 0.6, True),
        (8, 0.8, 0.6, False),
    ]


class Fake:
    """A detector that finds the box of img_2, and whether a picture is as wide as it should."""

    def detect(self, picture):
        assert picture.shape == (90, 95, 3)
        return Faces(np.array([[40, 40, 80, 100]], np.float32), np.array([0.5], np.float32))


def test_program_runs_a_detector(data, tmp_path, run, monkeypatch):
    """Over the pictures that there are, which have sizes; the other is one without detections."""
    picture = data / "originalPics" / "2002" / "07" / "19" / "big" / "img_2.jpg"
    picture.parent.mkdir(parents=True)
    cv2.imwrite(str(picture), np.zeros((90, 95, 3), np.uint8))
    monkeypatch.setattr(run_detector, "open_floored", lambda *_: Fake())
    monkeypatch.setattr(run_detector, "rule", lambda _: "the rule of it")
    printed, status, error = run("--data", data, "--nets", "x")
    assert status == 0, error
    assert "the rule of it; 1 of 2 pictures are not there" in printed
    assert "skipped 1 of 2 pictures" in printed
    found = tmp_path / "out" / "detections.txt"
    assert found.read_text() == "2002/07/19/big/img_2\n1\n40.00 40.00 40.00 60.00 0.5\n"
    expected = (
        evaluate_fddb.overlaps(
            np.array([[40, 40, 80, 100]]), np.array([[30, 20, 1.5, 60, 70]]), 95, 90
        )[0, 0]
        / 3
    )
    first = np.loadtxt(tmp_path / "out" / "ContROC.txt")[0]
    assert first[0] == pytest.approx(expected, abs=1e-6) and first[1] == 0
    again, _, _ = run("--data", data, "--detections", found)
    assert "lacks 1 of the 2 pictures" in again
    assert np.loadtxt(tmp_path / "out" / "ContROC.txt")[0].tolist() == first.tolist()


@pytest.mark.parametrize(
    "text, says",
    [
        ("2002/07/19/big/img_1\n1\n85 80 30 nan 0.9\n", "line 3: expected a detection as x y w h"),
        ("2002/07/19/big/img_1\n1\n85 80 30 40 nan\n", "line 3: expected a detection"),
        ("2002/07/19/big/img_1\n1\n85 80 30 40 inf\n", "line 3: expected a detection"),
        ("2002/07/19/big/img_1\n1\n85 80 30 -1 0.9\n", "line 3: expected a detection"),
        ("2002/07/19/big/img_1\n3\n1 2 3 4 5\n", "line 4: expected a detection"),
        ("2002/07/19/big/img_1\n0\n1 2 3 4 5\n", "line 3: expected the name of another picture"),
        ("2002/07/19/big/img_1\n0\n2002/07/19/big/img_1\n0\n", "line 3: expected the name"),
        ("2002/07/19/big/img_1\n", "line 2: expected the number of rows"),
        (
            "2002/07/19/big/img_9\n0\n",
            "1 pictures that the ground truth lacks; the first: 2002/07/19/",
        ),
        (
            "a/2002/07/19/big/img_1.jpg\n0\n2002/07/19/big/img_1\n0\n",
            "has 2002/07/19/big/img_1 twice",
        ),
    ],
)
def test_broken_detections(data, tmp_path, run, text, says):
    (tmp_path / "found.txt").write_text(text)
    _, status, error = run("--data", data, "--detections", tmp_path / "found.txt")
    assert status == 2 and len(error.splitlines()) == 1 and error.startswith("error: ")
    assert "found.txt" in error and says in error
    assert not (tmp_path / "out").exists()


def test_names_that_leave_the_folder(data, tmp_path, run):
    (first, *_) = sorted(data.rglob("*ellipseList.txt"))
    first.write_text("../../secret\n1\n9 8 0 20 20 1\n")
    _, status, error = run("--data", data, "--detections", tmp_path)
    assert status == 2 and f"{first}: '../../secret' lies outside" in error


@pytest.mark.parametrize(
    "change, says",
    [
        (
            lambda folder: (
                (folder / "FDDB-fold-01-ellipseList.txt").rename(folder / "other.txt")
                and (folder / "FDDB-fold-02-ellipseList.txt").unlink()
            ),
            "has no ground truth of FDDB",
        ),
        (
            lambda folder: (folder / "FDDB-fold-02-ellipseList.txt").write_text(
                "x\n1\n30 0 1 2 3 1\n"
            ),
            "fold-02-ellipseList.txt, line 3: expected an ellipse as two radii",
        ),
        (
            lambda folder: (
                [file.write_text("x\n0\n") for file in [*folder.iterdir()][:1]]
                and [*folder.iterdir()][1].unlink()
            ),
            "has no ellipse",
        ),
    ],
    ids=range(3),
)
def test_broken_ground_truth(data, tmp_path, run, change, says):
    change(data / "FDDB-folds")
    _, status, error = run("--data", data, "--detections", tmp_path / "found.txt")
    assert status == 2 and len(error.splitlines()) == 1 and says in error


def test_what_is_not_there(data, tmp_path, run):
    _, status, error = run("--data", data, "--nets", tmp_path)
    assert status == 2 and "has no pictures of FDDB: looked for originalPics/2002/" in error
    _, status, error = run("--data", data, "--detections", tmp_path / "gone.txt")
    assert status == 2 and "gone.txt can't be read (No such file" in error
    (tmp_path / "found.txt").write_bytes(b"\xff\xfe\x00")
    _, status, error = run("--data", data, "--detections", tmp_path / "found.txt")
    assert status == 2 and "found.txt can't be read" in error

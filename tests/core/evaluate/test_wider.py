"""WIDER FACE's average precision against the official procedure in loops; results in files."""

import json
from functools import partial
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
from commands import evaluated
from scipy.io import savemat

from core.evaluate import detections, metrics, run_detector
from core.evaluate import wider as evaluate_wider
from facelet import settings
from facelet.console import Problem
from facelet.faces import Faces

LEVELS = evaluate_wider.DIFFICULTIES


def cell(values):
    out = np.empty((len(values), 1), object)
    for i, value in enumerate(values):
        out[i, 0] = value
    return out


def save_truth(folder, events):
    """The four .mat files of {event: {file: (xywh (M, 4), {difficulty: counted (M,) bool})}}."""
    common = {
        "event_list": cell(list(events)),
        "file_list": cell([cell(list(files)) for files in events.values()]),
        "face_bbx_list": cell(
            [cell([xywh for xywh, _ in files.values()]) for files in events.values()]
        ),
    }
    folder.mkdir(parents=True, exist_ok=True)
    savemat(folder / "wider_face_val.mat", common)
    for name in LEVELS:
        savemat(
            folder / f"wider_{name}_val.mat",
            {
                **common,
                "gt_list": cell(
                    [
                        cell(
                            [
                                np.flatnonzero(counted[name])[:, None] + 1
                                for _, counted in files.values()
                            ]
                        )
                        for files in events.values()
                    ]
                ),
            },
        )


def some_events(seed, pictures=6, crowded=True):
    rng = np.random.default_rng(seed)
    events = {"0--Parade": {}, "1--Hand shaking": {}}
    for i in range(pictures):
        count = rng.integers(0 if i else 3, 9)
        room = 60 if crowded else 900
        xywh = np.concatenate(
            [rng.integers(0, room, (count, 2)), rng.integers(10, 40, (count, 2))], axis=1
        ).astype(np.int32)
        hard = rng.uniform(size=count) < 0.8
        medium = hard & (rng.uniform(size=count) < 0.7)
        event = list(events)[i % 2]
        events[event][f"{event[0]}_{i}"] = (
            xywh,
            {"hard": hard, "medium": medium, "easy": medium & (rng.uniform(size=count) < 0.6)},
        )
    first = events["0--Parade"]["0_0"][1]
    for name in LEVELS:
        first[name][0] = True
    return events


def some_results(seed, events):
    """{event/file: rows x y w h score}, several near each face, some elsewhere; scores on a grid,
    so that there are ties."""
    rng, found = np.random.default_rng(seed), {}
    for event, files in events.items():
        for name, (xywh, _) in files.items():
            near = np.concatenate([xywh, xywh]) + rng.normal(0, 3, (2 * len(xywh), 4))
            rows = np.concatenate([near, rng.uniform(5, 60, (rng.integers(0, 5), 4))])
            rows[:, 2:] = np.maximum(rows[:, 2:], 1)
            scores = rng.integers(-30, 90, (len(rows), 1)) / 7
            found[f"{event}/{name}"] = np.round(np.concatenate([rows, scores], axis=1), 2)
    found.pop("0--Parade/0_2")  # a picture without results
    return found


def official(events, found):
    """Average precision by difficulty: the official program's steps, one by one."""
    every = [row[4] for rows in found.values() for row in rows]
    low, high = min(every), max(every)
    result = {}
    for level in LEVELS:
        table, faces = np.zeros((1000, 2)), 0
        for event, files in events.items():
            for name, (xywh, counted) in files.items():
                faces += int(counted[level].sum())
                rows = sorted(found.get(f"{event}/{name}", []), key=lambda row: -row[4])
                if not len(rows) or not len(xywh):
                    continue
                taken, proposal, recalled = {}, [], []
                for x, y, w, h, _ in rows:
                    best, at = -1, None
                    for j, (fx, fy, fw, fh) in enumerate(xywh.tolist()):
                        across = min(x + w, fx + fw) - max(x, fx) + 1
                        down = min(y + h, fy + fh) - max(y, fy) + 1
                        iou = 0
                        if across > 0 and down > 0:
                            iou = (
                                across
                                * down
                                / ((w + 1) * (h + 1) + (fw + 1) * (fh + 1) - across * down)
                            )
                        if iou > best:
                            best, at = iou, j
                    proposal.append(1)
                    if best >= 0.5:
                        if not counted[level][at]:
                            proposal[-1] = 0
                        else:
                            taken[at] = True
                    recalled.append(len(taken))
                scores = [(row[4] - low) / (high - low) for row in rows]
                for t in range(1000):
                    last = sum(score >= 1 - (t + 1) / 1000 for score in scores)
                    if last:
                        table[t] += sum(proposal[:last]), recalled[last - 1]
        precision = [0.0, *(hit / count if count else 0 for count, hit in table), 0.0]
        recall = [0.0, *(table[:, 1] / faces), 1.0]
        for i in range(len(precision) - 2, -1, -1):
            precision[i] = max(precision[i], precision[i + 1])
        result[level] = sum(
            (recall[i] - recall[i - 1]) * precision[i] for i in range(1, len(recall))
        )
    return result


def in_memory(found):
    return {
        name: (np.concatenate([rows[:, :2], rows[:, :2] + rows[:, 2:4]], axis=1), rows[:, 4])
        for name, rows in found.items()
    }


@pytest.mark.parametrize("seed", range(6))
def test_average_precision_is_the_official_one(tmp_path, seed):
    events = some_events(seed)
    found = some_results(seed + 100, events)
    save_truth(tmp_path, events)
    truth = evaluate_wider.read_truth(tmp_path)
    expected = official(events, found)
    for name, curve in evaluate_wider.curves(in_memory(found), truth).items():
        assert metrics.average_precision(curve) == pytest.approx(expected[name], abs=1e-12)
    assert len(set(expected.values())) == 3 and min(expected.values()) > 0.1


@pytest.fixture
def run(tmp_path, capsys):
    """Runs the program with --out out; see commands.evaluated."""
    return partial(evaluated, capsys, "wider", "--out", tmp_path / "out")


def save_results(folder, found):
    for name, rows in found.items():
        file = folder / f"{name}.txt"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(
            "\n".join(
                [f"{name}.jpg", str(len(rows)), *(" ".join(map(str, row)) for row in rows.tolist())]
            )
            + "\n"
        )


def test_program_on_a_folder_of_results(tmp_path, run):
    events = some_events(1)
    found = some_results(101, events)
    save_truth(tmp_path / "data" / "eval_tools" / "ground_truth", events)
    save_results(tmp_path / "results", found)
    printed, status, _ = run("--data", tmp_path / "data", "--detections", tmp_path / "results")
    assert status == 0
    values = json.loads((tmp_path / "out" / "wider.json").read_text())["average_precision"]
    expected = official(events, found)
    for name in LEVELS:
        assert values[name] == pytest.approx(expected[name], abs=1e-12)
        assert f"{name:<8}{expected[name]:.4f}" in printed
    assert "self-check" in printed and "lacks 1 of the 6 pictures" in printed
    lowest = min(rows[:, 4].min() for rows in found.values() if len(rows))
    assert f"scores from {lowest:g}" in printed
    assert cv2.imread(str(tmp_path / "out" / "curves.png")).std() > 5


def test_self_check(tmp_path, capsys):
    """The ground truth scores 1, except for what can't be found: a box drawn twice, one turned
    inside out."""
    events = some_events(3, crowded=False)
    save_truth(tmp_path, events)
    truth = evaluate_wider.read_truth(tmp_path)
    evaluate_wider.self_check(truth)
    assert "1.0000 easy, 1.0000 medium, 1.0000 hard\n" in capsys.readouterr().out
    xywh, counted = events["0--Parade"]["0_0"]
    xywh[1], xywh[2, 2] = xywh[0], -5
    for name in LEVELS:
        counted[name][:3] = True
    save_truth(tmp_path, events)
    evaluate_wider.self_check(evaluate_wider.read_truth(tmp_path))
    printed = capsys.readouterr().out
    assert printed.count("(2 of its boxes are empty or drawn twice)") == 3
    assert "1.0000" not in printed


def test_a_rule_that_is_wrong_fails_the_self_check(tmp_path, run, monkeypatch):
    events = some_events(3, crowded=False)
    save_truth(tmp_path, events)
    monkeypatch.setattr(evaluate_wider, "IOU", 1.01)
    printed, status, error = run("--data", tmp_path, "--detections", tmp_path)
    assert status == 2 and "taken for detections scores 0.000000 for easy, not 1" in error
    assert not (tmp_path / "out").exists()


# ---- entries of one picture, boxes outside ---------------------------------------------------


def one_picture(boxes, counted):
    """A picture of save_truth()'s, the same boxes counting for every difficulty."""
    return np.array(boxes), dict.fromkeys(LEVELS, np.array(counted))


def test_entries_of_one_picture_are_merged(tmp_path, capsys):
    """By one name, by another spelling, and by a link; equal boxes are one, which counts if it does
    in each entry."""
    a, b, c = [1, 2, 30, 40], [50, 60, 20, 20], [70, 5, 20, 30]
    apart = {"a": one_picture([a, b, c, c], [True, False, True, True]), "b": one_picture([a], [1])}
    listed = {
        "a": one_picture([a, b], [True, True]),
        "./a": one_picture([b, c, c], [False, True, True]),
        "b": one_picture([a], [True]),
        "link": one_picture([a], [True]),
    }
    for name in ("a", "b"):
        path = tmp_path / "images" / "0--Parade" / f"{name}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(path), np.zeros((100, 100, 3), np.uint8))
    path.with_name("link.jpg").symlink_to(path)
    save_truth(tmp_path / "apart", {"0--Parade": apart})
    save_truth(tmp_path / "listed", {"0--Parade": listed})
    expected = evaluate_wider.read_truth(tmp_path / "apart")
    assert "merged" not in capsys.readouterr().out
    found = evaluate_wider.read_truth(tmp_path / "listed", tmp_path / "images")
    assert "merged 2 entries of pictures that are listed more than once: 2 pictures" in (
        capsys.readouterr().out
    )
    assert found.also == {"0--Parade/link": "0--Parade/b"} and list(found.boxes) == [
        *expected.boxes
    ]
    for name, boxes in expected.boxes.items():
        np.testing.assert_array_equal(found.boxes[name], boxes)
        for level in LEVELS:
            np.testing.assert_array_equal(found.counted[level][name], expected.counted[level][name])


def test_faces_outside_of_their_pictures_count_neither_way(tmp_path, run, capsys):
    boxes = [[10 * i, 10, 8, 8] for i in range(9)]
    events = {"0--Parade": {"a": one_picture([*boxes, [500, 500, 20, 20]], [True] * 10)}}
    save_truth(tmp_path, events)
    rows = np.column_stack([boxes, np.ones(9)])
    save_results(tmp_path / "found", {"0--Parade/a": rows})
    path = tmp_path / "images" / "0--Parade" / "a.jpg"
    path.parent.mkdir(parents=True)
    cv2.imwrite(str(path), np.zeros((100, 100, 3), np.uint8))
    printed, status, error = run("--data", tmp_path, "--detections", tmp_path / "found")
    assert status == 0, error
    assert "left out 1 faces outside of their pictures" in printed
    assert "0--Parade/a: the face 500 500 20 20" in printed and "easy    1.0000  over 9" in printed
    cv2.imwrite(str(path), np.zeros((20, 20, 3), np.uint8))
    _, status, error = run("--data", tmp_path, "--detections", tmp_path / "found")
    assert status == 2 and "made for pictures of another scale" in error


@pytest.mark.parametrize("event, file", [("../../x", "a"), ("/abs/x", "a"), ("x", "../../../a")])
def test_names_that_leave_the_folder(tmp_path, run, monkeypatch, event, file):
    """They are neither read nor, where reading is allowed, written."""
    save_truth(tmp_path / "set", {event: {file: one_picture([[1, 1, 9, 9]], [True])}})
    (tmp_path / "set" / "images").mkdir()
    monkeypatch.setattr(run_detector, "open_floored", lambda *_: Fake())
    monkeypatch.setattr(run_detector, "facts", lambda *_: {})
    monkeypatch.setenv(settings.OUTSIDE_VARIABLE, "0")
    before = list(tmp_path.rglob("*"))
    _, status, error = run("--data", tmp_path / "set", "--nets", "x")
    assert status == 2 and "face_val.mat: " in error and "data.outside=True" in error
    _, status, error = run("--data", tmp_path / "set", "--nets", "x", "data.outside=True")
    assert status == 2 and "it is not written" in error
    made = {*tmp_path.rglob("*")} - {*before}
    assert {path.name for path in made} <= {"out", "results.json"}


# ---- a detector's results ------------------------------------------------------------------


class Fake:
    """A detector that finds a box as wide as the picture is bright in its corner."""

    settings = {"min_face": 20}

    def __init__(self):
        self.seen = 0

    def detect(self, picture):
        self.seen += 1
        side = float(picture[0, 0, 0])
        return Faces(np.array([[1, 2.25, 1 + side, 3.25]], np.float32), np.array([side / 255]))


def test_results_are_made_once(tmp_path, capsys):
    """Stopped and run again, only what is missing is made; with other facts everything; what the
    program hasn't written is left alone."""
    images, out, names = tmp_path / "images", tmp_path / "out", []
    for i, side in enumerate((50, 60, 70)):
        names.append(f"0--Parade/{i}")
        (images / "0--Parade").mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(images / f"{names[-1]}.jpg"), np.full((9, 9, 3), side, np.uint8))
    detector = Fake()
    results = evaluate_wider.find(detector, {"nets": 1}, images, names, out)
    assert (results / "0--Parade" / "1.txt").read_text() == (
        f"0--Parade/1.jpg\n1\n1.00 2.25 60.00 1.00 {60 / 255:.9g}\n"
    )
    assert sorted(detections.read_folder(results)) == names
    (results / "0--Parade" / "2.txt").unlink()
    evaluate_wider.find(detector, {"nets": 1}, images, names, out)
    assert detector.seen == 4 and "has 2 of 3 pictures already" in capsys.readouterr().out
    (images / "0--Parade" / "2.jpg").write_bytes(b"broken")
    evaluate_wider.find(detector, {"nets": 2}, images, names, out)
    printed = capsys.readouterr().out
    assert detector.seen == 6 and "by other nets or settings: it is made anew" in printed
    assert "skipped 1 of 3 pictures" in printed and not (results / "0--Parade" / "2.txt").exists()
    (out / "results.json").unlink()
    with pytest.raises(Problem, match="remove it or choose another folder"):
        evaluate_wider.find(detector, {"nets": 2}, images, names, out)
    assert detector.seen == 6


def test_program_runs_a_detector(tmp_path, run, monkeypatch):
    events = some_events(4)
    save_truth(tmp_path / "wider_face_split", events)
    for event, files in events.items():
        for name in files:
            path = tmp_path / "WIDER_val" / "images" / event / f"{name}.jpg"
            path.parent.mkdir(parents=True, exist_ok=True)
            cv2.imwrite(str(path), np.full((110, 110, 3), 30, np.uint8))
    monkeypatch.setattr(run_detector, "open_floored", lambda *_: Fake())
    monkeypatch.setattr(run_detector, "facts", lambda *_: {})
    monkeypatch.setattr(run_detector, "rule", lambda _: "the rule of it")
    (tmp_path / "out" / "results").mkdir(parents=True)  # empty folders are as good as none
    printed, status, error = run("--data", tmp_path, "--nets", "x")
    assert status == 0, error
    assert "6 pictures, 6 boxes; the rule of it" in printed
    assert len(list((tmp_path / "out" / "results").rglob("*.txt"))) == 6


# ---- bad input -----------------------------------------------------------------------------


@pytest.fixture
def good(tmp_path):
    """Folders of ground truth and of results that go together."""
    events = some_events(2)
    save_truth(tmp_path / "truth", events)
    save_results(tmp_path / "results", some_results(102, events))
    return SimpleNamespace(
        truth=tmp_path / "truth",
        results=tmp_path / "results",
        file=tmp_path / "results" / "0--Parade" / "0_0.txt",
    )


@pytest.mark.parametrize(
    "lines, says",
    [
        ("a.jpg\n2\n1 2 3 4 0.5\n", "line 4: expected a detection as x y w h score"),
        ("a.jpg\n1\n1 2 3 4 nan\n", "line 3: expected a detection"),
        ("a.jpg\n1\n1 2 -3 4 0.5\n", "line 3: expected a detection"),
        ("a.jpg\n1\n1 2 3 4\n", "line 3: expected a detection"),
        ("a.jpg\n1\n1 2 3 4 0.5\n1 2 3 4 0.5\n", "line 4: expected the name of another picture"),
        ("a.jpg\nmany\n", "line 2: expected the number of rows of a.jpg, found 'many'"),
        ("a.jpg\n0\nb.jpg\n0\n", "has 2 pictures"),
        ("", "has 0 pictures"),
    ],
)
def test_broken_results(good, run, lines, says):
    good.file.write_text(lines)
    _, status, error = run("--data", good.truth, "--detections", good.results)
    assert status == 2 and error.startswith("error: ") and len(error.splitlines()) == 1
    assert str(good.file) in error and says in error


def test_results_of_other_pictures(good, run):
    good.file.rename(good.file.with_name("0_99.txt"))
    _, status, error = run("--data", good.truth, "--detections", good.results)
    assert status == 2 and "1 pictures that the ground truth lacks; the first: 0--Parade/0_99" in (
        error
    )
    _, status, error = run("--data", good.truth, "--detections", good.truth)
    assert status == 2 and "holds no results" in error


@pytest.mark.parametrize(
    "damage, says",
    [
        (lambda path: path.unlink(), "wider_hard_val.mat is neither in"),
        (lambda path: path.write_bytes(path.read_bytes()[:300]), "no .mat file, or a damaged one"),
        (lambda path: savemat(path, {"other": 1}), "no ground truth of WIDER FACE's evaluation"),
        (
            lambda path: savemat(path, {"gt_list": cell([cell([[[1]]])])}),
            "or not of these pictures",
        ),
        (lambda path: savemat(path, {"gt_list": cell([cell([[[99]]] * 3)] * 2)}), "IndexError"),
        (lambda path: savemat(path, {"gt_list": cell([cell([[[0]]] * 3)] * 2)}), "IndexError"),
        (
            lambda path: savemat(path, {"gt_list": cell([cell([np.zeros((0, 1))] * 3)] * 2)}),
            "no face",
        ),
    ],
    ids=range(7),
)
def test_broken_ground_truth(good, run, damage, says):
    damage(good.truth / "wider_hard_val.mat")
    printed, status, error = run("--data", good.truth, "--detections", good.results)
    assert status == 2 and len(error.splitlines()) == 1
    assert says in error and "wider_hard_val.mat" in error
    assert not printed


def test_no_pictures_to_run_on(good, run):
    _, status, error = run("--data", good.truth, "--nets", good.truth)
    assert status == 2 and "has no pictures: looked for WIDER_val/images and images" in error

"""Labels checked with a teacher: what it finds, and what becomes of them."""

import json
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path

import cv2
import fake_yunet
import numpy as np
import pytest
from trained import sensible

import config as config_module
from config import config, override
from core.detect.detector import FaceDetector
from core.formats import checkpoint
from facelet.console import Problem, program
from prepare_data import samples, second_opinion, store, teacher, wider

ROOT = Path(__file__).resolve().parents[2]
SIDE = 96  # of the pictures, px
SETTINGS = override(config, ["teacher.min_face=6"])


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """Of a detector that sees white cells of 8x8 pixels, by their brightness."""
    return fake_yunet.save(tmp_path_factory.mktemp("model") / "cells.onnx")


@pytest.fixture(scope="module")
def cells_set(tmp_path_factory):
    """Folder of a set, and the cells (x1, y1, x2, y2, score) of each picture. Faces are labelled
    near cells and elsewhere; some are invalid, some have no size, some are small."""
    folder, rng = tmp_path_factory.mktemp("sets") / "cells", np.random.default_rng(5)
    text, cells = "", {}
    (folder / "images" / "some where").mkdir(parents=True)
    for number in range(29):
        path = f"some where/{number} {number}.png"
        picture, cells[path], rows = np.zeros((SIDE, SIDE, 3), np.uint8), [], []
        for cell in rng.permutation((SIDE // 8) ** 2)[: rng.integers(0, 9)]:
            x, y = 8 * (int(cell) % (SIDE // 8)), 8 * (int(cell) // (SIDE // 8))
            brightness = int(rng.integers(28, 256))
            picture[y : y + 8, x : x + 8] = brightness
            cells[path].append((x, y, x + 8, y + 8, brightness / 255))
            if rng.uniform() < 0.7:  # labelled, more or less
                corner = np.round([x, y] + rng.uniform(-4, 4, 2), 1)
                rows.append((*corner, *np.round(rng.uniform(5, 12, 2), 1), rng.uniform() < 0.2))
        if number % 2:
            rows.append((*rng.integers(0, SIDE - 20, 2), 20, 20, 0))
            rows.insert(0, (3, 3, 0, 0, 0))
        cv2.imwrite(str(folder / "images" / path), picture)
        text += f"{path}\n{len(rows)}\n" + "".join(
            f"{x} {y} {w} {h} 0 0 0 {int(invalid)} 0 0\n" for x, y, w, h, invalid in rows
        )
    (folder / "images" / "cut.png").write_bytes(b"\x89PNG")
    (folder / "any_train_bbx_gt.txt").write_text(text + "cut.png\n1\n4 4 30 30 0 0 0 0 0 0\n")
    return folder, cells


@pytest.fixture(scope="module")
def found_boxes(model, cells_set, tmp_path_factory):
    """The file, by two processes."""
    out = tmp_path_factory.mktemp("out") / "boxes.json"
    teacher.run_teacher(face_set(cells_set), model, out, SETTINGS, workers=2)
    return out


def face_set(cells_set):
    return wider.open_set(cells_set[0], "train")


def test_what_is_found(cells_set, found_boxes, model):
    made = json.loads(found_boxes.read_text())
    assert made["pictures"].keys() == cells_set[1].keys()
    for path, cells in cells_set[1].items():
        found = np.array(made["pictures"][path]).reshape(-1, 5)
        expected = np.array(cells).reshape(-1, 5)
        found, expected = (rows[np.lexsort(rows.T[:2].round())] for rows in (found, expected))
        np.testing.assert_allclose(found[:, :4], expected[:, :4], atol=0.02)
        np.testing.assert_allclose(found[:, 4], expected[:, 4], atol=1e-3)
    assert list(made["skipped"]) == ["cut.png"] and "no picture" in made["skipped"]["cut.png"]
    assert list(made["detector"]) == [model.name] and len(made["source"]["sha256"]) == 64
    # The journal is gone.
    assert [path.name for path in found_boxes.parent.iterdir()] == [found_boxes.name]


def test_killed_and_run_again(cells_set, model, found_boxes, tmp_path):
    """kill -9 after four jobs of two pictures; the rest makes the same file."""
    out = tmp_path / "boxes.json"
    script = textwrap.dedent("""
        import os, signal, sys
        from config import config, override
        from prepare_data import teacher, wider
        folder, model, out, jobs = sys.argv[1:]
        teacher.PICTURES_PER_JOB, job, asked = 2, teacher._job, []
        def mortal(arguments):
            if len(asked) == int(jobs):
                os.kill(os.getpid(), signal.SIGKILL)
            asked.append(arguments)
            return job(arguments)
        teacher._job = mortal
        teacher.run_teacher(wider.open_set(folder, "train"), model, out, config, workers=1)
        print(len(asked))
    """)

    def run(jobs):
        return subprocess.run(
            [sys.executable, "-c", script, cells_set[0], model, out, str(jobs)],
            cwd=ROOT,
            capture_output=True,
            text=True,
        )

    assert run(4).returncode == -9 and not out.exists()
    with pytest.raises(Problem, match="settings.thresholds was .*, is .*0.2"):
        teacher.run_teacher(
            face_set(cells_set), model, out, override(config, ["teacher.floor=0.2"])
        )
    again = run(99)
    assert again.stdout.splitlines()[-1] == "11", again.stderr  # jobs of the 15
    assert "going on after 8" in again.stdout
    assert out.read_bytes() == found_boxes.read_bytes()


def test_a_cascade_of_ours(tmp_path):
    rng, text = np.random.default_rng(0), ""
    (tmp_path / "images").mkdir()
    for number in range(3):
        scene = cv2.resize(rng.integers(0, 255, (12, 15, 3), np.uint8), (300, 240))
        cv2.imwrite(str(tmp_path / "images" / f"{number}.png"), scene)
        text += f"{number}.png\n0\n"
    (tmp_path / "val_bbx_gt.txt").write_text(text)
    faces = wider.open_set(tmp_path, "val")
    checkpoint.save(tmp_path / "nets", sensible(scene, "Pnet20_v0", {}), 1, {})
    settings = override(config, ["detect.min_face=40", "detect.thresholds=0.8,0.5,0.5"])
    teacher.run_teacher(faces, tmp_path / "nets", tmp_path / "out.json", settings, workers=1)
    made = json.loads((tmp_path / "out.json").read_text())["pictures"]
    detector = FaceDetector.open(tmp_path / "nets", min_face=40, thresholds=(0.8, 0.5, 0.5))
    for annotation in faces.annotations:
        expected = detector.detect(faces.images / annotation.path)
        found = np.array(made[annotation.path])
        assert len(found) > 5
        np.testing.assert_allclose(found[:, :4], expected.boxes, atol=0.006)
        np.testing.assert_allclose(found[:, 4], expected.scores, atol=0.00006)


def iou_by_hand(a, b):
    shared = max(min(a[2], b[2]) - max(a[0], b[0]), 0) * max(min(a[3], b[3]) - max(a[1], b[1]), 0)
    return shared / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - shared)


def test_unsure_and_hopeless_by_hand(cells_set, found_boxes):
    """Against the cells, box by box."""
    labelled, settings = face_set(cells_set), SETTINGS.teacher
    seen = teacher.clean_labels(labelled, settings, boxes=found_boxes)
    unsure, hopeless, small = 0, 0, 0
    for before, after in zip(labelled.annotations, seen.annotations):
        cells = cells_set[1].get(before.path, [])
        every = [*before.boxes.tolist(), *before.ignored.tolist()]
        expected = {
            cell[:4]
            for cell in cells
            if cell[4] >= 0.5 and all(iou_by_hand(cell, face) < 0.3 for face in every)
        }
        assert {tuple(box) for box in after.unsure.round().tolist()} == expected
        kept, lost = [], before.ignored.tolist()
        for face in before.boxes.tolist():
            score = max([cell[4] for cell in cells if iou_by_hand(cell, face) >= 0.3], default=0)
            counted = max(face[2] - face[0], face[3] - face[1]) >= 6 and before.path != "cut.png"
            small += score < 0.15 and not counted
            (lost if score < 0.15 and counted else kept).append(face)
        assert after.boxes.tolist() == kept and after.ignored.tolist() == lost
        assert after.unsure.dtype == after.boxes.dtype == after.ignored.dtype == np.float32
        unsure, hopeless = unsure + len(expected), hopeless + len(before.boxes) - len(kept)
    assert unsure > 5 and hopeless > 5 and small > 0
    assert seen.counts == {
        **labelled.counts,
        "faces": labelled.counts["faces"] - hopeless,
        "unsure": unsure,
        "hopeless": hopeless,
    }
    assert f"{hopeless} hopeless, {unsure} unsure" in seen.describe()
    assert seen.checked_by["teacher"]["file"] == "boxes.json"
    never = override(SETTINGS, ["teacher.hopeless=0"]).teacher
    assert "hopeless" not in teacher.clean_labels(labelled, never, boxes=found_boxes).counts


def scores_text(folder, labelled, change=lambda path, values: (path, values)):
    """A text of scores for every row of the ground truth, and those of the faces by path."""
    rng, lines, scores = np.random.default_rng(1), [], {}
    for annotation in labelled.annotations:
        values = [round(float(v), 3) for v in rng.uniform(size=len(annotation.rows))]
        scores[annotation.path] = [v for v, face in zip(values, annotation.rows) if face]
        path, values = change(annotation.path, values)
        lines.append(" ".join([path, *map(str, values)]))
    (folder / "prob.txt").write_text("\n".join(lines) + " \n\n")
    return folder / "prob.txt", scores


@pytest.mark.parametrize("prefix", ["", "C:\\sets\\wider images/", "/data/x 1 2/"])
def test_scores_of_a_text(cells_set, tmp_path, prefix):
    """In the order of the ground truth, invalid and zero-sized rows counted."""
    labelled = face_set(cells_set)
    assert labelled.counts["invalid"] and labelled.counts["zero_sized"]
    path, expected = scores_text(tmp_path, labelled, lambda path, values: (prefix + path, values))
    found = teacher.read_label_scores(path, labelled)
    assert [list(one) for one in found] == list(expected.values())
    seen = teacher.clean_labels(
        labelled, override(config, ["teacher.hopeless=0.4"]).teacher, scores=path
    )
    for annotation, score, before in zip(seen.annotations, found, labelled.annotations):
        np.testing.assert_array_equal(annotation.boxes, before.boxes[score >= 0.4])
        assert len(annotation.rows) == len(before.rows) and not len(annotation.unsure)
    assert 0 < seen.counts["hopeless"] < labelled.counts["faces"]


def test_scores_of_a_picture_that_is_listed_twice(tmp_path):
    """A line for each of its entries, or one for both; of a face listed twice the first counts."""
    (tmp_path / "images").mkdir()
    cv2.imwrite(str(tmp_path / "images" / "a.png"), np.zeros((100, 100, 3), np.uint8))
    row = " 20 20 0 0 0 0 0 0\n"
    (tmp_path / "train_bbx_gt.txt").write_text(
        f"a.png\n2\n10 10{row}50 10{row}./a.png\n2\n10 10{row}10 50{row}"
    )
    labelled = wider.open_set(tmp_path, "train")
    for text in ("a.png 0.1 0.2\n./a.png 0.3 0.4\n", "a.png 0.1 0.2 0.3 0.4"):
        (tmp_path / "prob.txt").write_text(text)
        (scores,) = teacher.read_label_scores(tmp_path / "prob.txt", labelled)
        assert scores.tolist() == [0.1, 0.2, 0.4]
    (tmp_path / "prob.txt").write_text("a.png 0.1 0.2\n")
    with pytest.raises(Problem, match="line 1: 2 probabilities for the 4 rows of a.png"):
        teacher.read_label_scores(tmp_path / "prob.txt", labelled)


def test_both(cells_set, found_boxes, tmp_path):
    """A face stays when neither finds it hopeless; rows are still those of the ground truth."""
    labelled, settings = face_set(cells_set), SETTINGS.teacher
    path, _ = scores_text(tmp_path, labelled)
    both = teacher.clean_labels(labelled, settings, boxes=found_boxes, scores=path)
    one, other = (
        teacher.clean_labels(labelled, settings, **given)
        for given in ({"boxes": found_boxes}, {"scores": path})
    )
    for a, b, c in zip(both.annotations, one.annotations, other.annotations):
        assert {tuple(x) for x in a.boxes} == {tuple(x) for x in b.boxes} & {
            tuple(x) for x in c.boxes
        }
        np.testing.assert_array_equal(a.unsure, b.unsure)
    assert both.counts["hopeless"] > max(one.counts["hopeless"], other.counts["hopeless"])
    assert both.counts["faces"] + both.counts["hopeless"] == labelled.counts["faces"]


@pytest.mark.parametrize(
    "change, says",
    [
        (
            lambda path, values: (path, [*values, 0.5]),
            "line 1: .* probabilities for the .* rows of",
        ),
        (lambda path, values: (path, [1.5] * len(values)), "line 1: expected a picture's path"),
        (lambda path, values: (path, ["1e"] * len(values)), "line 1: expected a picture's path"),
        (
            lambda path, values: (path[:-1], values),
            r"has no line for some.* and \d+ other pictures",
        ),
    ],
)
def test_texts_of_something_else(cells_set, tmp_path, change, says):
    labelled = face_set(cells_set)
    labelled.annotations = [a for a in labelled.annotations if len(a.boxes)]
    path, _ = scores_text(tmp_path, labelled, change)
    with pytest.raises(Problem, match=f"prob.txt.*{says}"):
        teacher.read_label_scores(path, labelled)
    with pytest.raises(Problem, match="nowhere can't be read"):
        teacher.read_label_scores(tmp_path / "nowhere", labelled)
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(Problem, match="prob.txt can't be read"):
        teacher.read_label_scores(path, labelled)


@pytest.mark.parametrize(
    "change, says",
    [
        (
            lambda made: {**made, "version": 0},
            "has the format 0, this program reads 1: make it again",
        ),
        (lambda made: {**made, "source": {"file": "x.txt", "sha256": ""}}, "was made for x.txt"),
        (
            lambda made: {**made, "settings": {"thresholds": [0.5, 0.5, 0.2]}},
            "has boxes with scores from 0.2 only, 0.15 is asked for.*teacher.floor=0.15",
        ),
        (lambda made: {**made, "skipped": {}}, "has nothing of cut.png"),
        (lambda made: {**made, "pictures": {"a": [[1, 2, 3]]}}, "was not made by"),
        (lambda made: {**made, "pictures": []}, "was not made by"),
        (lambda made: {"version": 1}, "was not made by"),
        (lambda made: [made], "was not made by"),
    ],
)
def test_files_of_something_else(cells_set, found_boxes, tmp_path, change, says):
    path = tmp_path / "boxes.json"
    path.write_text(json.dumps(change(json.loads(found_boxes.read_text()))))
    with pytest.raises(Problem, match=f"boxes.json {says}"):
        teacher.clean_labels(face_set(cells_set), SETTINGS.teacher, boxes=path)


def test_detectors_that_are_none(cells_set, tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "text.onnx").write_text("x")
    for name, says in (
        ("empty", "has no Pnet"),
        ("text.onnx", "is no YuNet model"),
        ("nowhere", "is not there"),
    ):
        with pytest.raises(Problem, match=says):
            teacher.run_teacher(face_set(cells_set), tmp_path / name, tmp_path / "o.json", config)
    with pytest.raises(Problem, match="empty is a folder"):
        teacher.run_teacher(face_set(cells_set), "x", tmp_path / "empty", config)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["empty", "text.onnx"]


def test_nothing_readable(cells_set, model, tmp_path):
    faces = face_set(cells_set)
    faces.annotations = [a for a in faces.annotations if a.path == "cut.png"]
    with pytest.raises(Problem, match="not one picture could be read; the first: .*cut.png"):
        teacher.run_teacher(faces, model, tmp_path / "o.json", config, workers=1)
    assert list(tmp_path.iterdir()) == []


def test_the_programs(cells_set, model, tmp_path, capsys):
    """From the detector to a store whose samples keep to what it says."""

    def run(main, *arguments):
        program(main, [str(a) for a in arguments])
        return capsys.readouterr().out

    boxes, data = tmp_path / "boxes.json", ("--data", cells_set[0])
    printed = run(
        teacher.main,
        *data,
        "--teacher",
        model,
        "--out",
        boxes,
        "--workers",
        1,
        "teacher.min_face=6",
    )
    seen = teacher.clean_labels(face_set(cells_set), SETTINGS.teacher, boxes=boxes)
    cells = sum(map(len, cells_set[1].values()))
    assert f"{cells} boxes with scores from 0.1; {seen.counts['unsure']} faces" in printed
    assert "skipped" in printed and "cut.png" in printed
    scores, _ = scores_text(tmp_path, face_set(cells_set))
    seen = teacher.clean_labels(face_set(cells_set), SETTINGS.teacher, boxes, scores)
    printed = run(
        samples.main,
        *data,
        "--size",
        12,
        "--teacher-boxes",
        boxes,
        "--scores",
        scores,
        "--out",
        tmp_path / "store",
        "--workers",
        1,
        "samples.min_face=1",
        "teacher.min_face=6",
    )
    assert seen.describe() in printed
    made = store.Store(tmp_path / "store")
    assert made.facts["source"]["hopeless"] == seen.counts["hopeless"] > 0
    assert made.facts["source"]["teacher"]["file"] == "boxes.json"
    for index, annotation in enumerate(seen.annotations):
        chosen = made.sources[:, 0] == index
        squares, labels = made.sources[chosen, 1:].tolist(), made.labels[chosen]
        for square, label, offsets in zip(squares, labels, made.offsets[chosen]):
            if label == 0:
                for box in [*annotation.unsure.tolist(), *annotation.ignored.tolist()]:
                    shared = max(min(square[2], box[2]) - max(square[0], box[0]), 0) * max(
                        min(square[3], box[3]) - max(square[1], box[1]), 0
                    )
                    assert shared < 0.3 * (square[2] - square[0]) ** 2
            else:
                face = np.array(square) + offsets * (square[2] - square[0])
                assert np.abs(annotation.boxes - face).max(axis=1).min() < 1e-3


def test_old_spellings(cells_set, model, found_boxes, tmp_path, capsys):
    """The command, its option and its settings by their old names: the same file, a line each."""
    out = tmp_path / "boxes.json"
    config_module._new_spelling.cache_clear()
    argv = ["--data", cells_set[0], "--detector", model, "--out", out, "second.min_face=6"]
    second_opinion.main([*map(str, argv), "--workers", "1"])
    assert out.read_bytes() == found_boxes.read_bytes()
    assert [line for line in capsys.readouterr().err.splitlines() if "note" in line] == [
        "note: python -m prepare_data.second_opinion is now prepare_data.teacher",
        "note: --detector is now --teacher; the old spelling will go",
        "note: second.min_face is now teacher.min_face; the old spelling will go",
    ]


def test_labelled_faces_outside_of_their_pictures_are_named(cells_set, model, tmp_path, capsys):
    shutil.copytree(cells_set[0], tmp_path / "set")
    (truth,) = (tmp_path / "set").rglob("*_bbx_gt.txt")
    picture = face_set(cells_set).annotations[0].path
    truth.write_text(f"{truth.read_text().rstrip()}\n{picture}\n1\n9000 9 20 20 0 0 0 0 0 0\n")
    teacher.run_teacher(
        wider.open_set(tmp_path / "set", "train"), model, tmp_path / "o.json", SETTINGS, workers=1
    )
    printed = capsys.readouterr().out
    assert " labelled faces lie outside of their pictures" in printed
    assert f"{picture}: the face 9000 9 20 20" in printed

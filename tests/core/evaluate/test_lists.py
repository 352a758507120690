"""Average precision of lists of detections in each of their files; the detector that makes them."""

import json
from functools import partial
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
from commands import evaluated
from oracles import crowded, larger, matches_by_loop
from trained import sensible

from config import config, override
from core.detect.detector import FaceDetector
from core.evaluate import detections, metrics, run_detector
from core.evaluate import lists as evaluate_list
from core.formats import checkpoint
from facelet.console import Problem


@pytest.fixture
def run(tmp_path, capsys):
    """Runs the program with --out out; see commands.evaluated."""
    return partial(evaluated, capsys, "list", "--out", tmp_path / "out")


def rounded(boxes):
    """To hundredths, with width and height that are whole hundredths."""
    return np.round(boxes, 2)


@pytest.fixture(scope="module")
def example():
    """Names, detections and truth of pictures where everything overlaps."""
    rng, found, truth = np.random.default_rng(0), {}, {}
    for seed in range(12):
        boxes, _, faces, ignored = crowded(seed)
        name = f"{seed % 3}--Event/{seed}.jpg"
        truth[name] = rounded(faces), rounded(ignored)
        if seed != 5:
            found[name] = rounded(boxes), rng.permutation(len(boxes)) / 64
    return SimpleNamespace(found=found, truth=truth)


@pytest.fixture
def truth_file(example, tmp_path):
    lines = []
    for name, (faces, ignored) in example.truth.items():
        lines += [name, str(len(faces) + len(ignored))]
        lines += [
            f"{x1:.2f} {y1:.2f} {x2 - x1:.2f} {y2 - y1:.2f} 0 0 0 {flag} 0 0"
            for flag, boxes in enumerate((faces, ignored))
            for x1, y1, x2, y2 in boxes
        ]
    path = tmp_path / "any_val_bbx_gt.txt"
    path.write_text("\n".join(lines) + "\n")
    return path


def as_jsonl(found, folder):
    path = folder / "detections.jsonl"
    path.write_text(
        "".join(
            json.dumps(
                {
                    "file": f"../photos/images/{name}",
                    "width": 99,
                    "height": 99,
                    "boxes": boxes.tolist(),
                    "scores": scores.tolist(),
                    "points": None,
                }
            )
            + "\n"
            for name, (boxes, scores) in found.items()
        )
    )
    return path


def as_text(found, folder):
    path = folder / "found.txt"
    path.write_text("".join(detections.text(name[:-4], *values) for name, values in found.items()))
    return path


def as_folder(found, folder):
    for name, values in found.items():
        path = folder / "results" / f"{name[:-4]}.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(detections.text(name, *values))
    return folder / "results"


def ap_by_loop(example, iou, min_face):
    """Average precision from outcomes by loop."""
    rows = []
    for name, (boxes, scores) in example.found.items():
        rows += zip(scores, matches_by_loop(boxes, scores, *example.truth[name], iou, min_face))
    faces = sum(
        larger(face) >= min_face for labelled, _ in example.truth.values() for face in labelled
    )
    precision, recall = [], []
    for score in sorted({score for score, _ in rows}, reverse=True):
        kept = [outcome for s, outcome in rows if s >= score]
        hits, false = kept.count(metrics.HIT), kept.count(metrics.FALSE)
        if hits + false:
            precision.append(hits / (hits + false))
            recall.append(hits / faces)
    return sum(
        (r - (recall[i - 1] if i else 0)) * max(precision[i:]) for i, r in enumerate(recall)
    ), faces


@pytest.mark.parametrize("write", [as_jsonl, as_text, as_folder])
def test_average_precision_of_each_kind_of_file(example, truth_file, tmp_path, run, write):
    path = write(example.found, tmp_path)
    printed, status, error = run("--data", truth_file, "--detections", path, "evaluate.sizes=20,30")
    assert status == 0, error
    result = json.loads((tmp_path / "out" / "list.json").read_text())["figures"]
    for row, size in zip(result, (20, 30)):
        value, faces = ap_by_loop(example, 0.5, size)
        # Boxes come from x y w h, or are rounded to float32 in the ground truth: none is so near
        # a threshold.
        assert row["average_precision"] == [pytest.approx(value, abs=1e-9)]
        assert (row["min_face"], row["faces"], row["ious"]) == (size, faces, [0.5])
        assert f"at IoU 0.5: {value:.4f} over {faces} faces of {size} px" in printed
    assert "lacks 1 of the 12 pictures" in printed
    lowest = min(scores.min() for _, scores in example.found.values() if len(scores))
    assert f"boxes of {path}, with input size and NMS as they were made" in printed
    assert f"scores from {lowest:g}\n" in printed
    assert cv2.imread(str(tmp_path / "out" / "curves.png")).std() > 5


def test_mean_over_ious(example, truth_file, tmp_path, run):
    found = as_text(example.found, tmp_path)
    printed, status, _ = run(
        "--data", truth_file, "--detections", found, "--iou", "0.5:0.95", "evaluate.sizes=20"
    )
    (row,) = json.loads((tmp_path / "out" / "list.json").read_text())["figures"]
    assert row["ious"] == [0.5, 0.55, 0.6, 0.65, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95]
    expected = [ap_by_loop(example, iou, 20)[0] for iou in row["ious"]]
    np.testing.assert_allclose(row["average_precision"], expected, atol=1e-9)
    assert row["mean"] == pytest.approx(np.mean(expected))
    assert status == 0 and f"at IoU 0.5:0.95: {row['mean']:.4f}" in printed


def test_levels_of_precision():
    """The greatest recall with as much precision, though precision falls below it before."""
    curve = metrics.Curve(
        np.array([0.9, 0.8, 0.7, 0.6]),
        np.array([1, 0.75, 0.85, 0.4]),
        np.array([0.1, 0.3, 0.5, 0.6]),
        10,
    )
    assert evaluate_list.levels(curve) == [
        (0.99, 0.1, 0.9),
        (0.95, 0.1, 0.9),
        (0.9, 0.1, 0.9),
        (0.8, 0.5, 0.7),
        (0.5, 0.5, 0.7),
    ]
    none = metrics.Curve(np.zeros(0), np.zeros(0), np.zeros(0), 10)
    assert evaluate_list.levels(none)[0] == (0.99, None, None)


def test_of_a_set(drawn_set, tmp_path, run):
    """The ground truth of a folder, found by its own boxes, scores 1; without a box, 0."""
    from prepare_data import wider

    annotations = wider.open_set(drawn_set, "val").annotations
    found = {one.path: (one.boxes, np.linspace(0.5, 0.9, len(one.boxes))) for one in annotations}
    printed, status, error = run(
        "--data", drawn_set, "--split", "val", "--detections", as_jsonl(found, tmp_path)
    )
    assert status == 0, error
    for row in json.loads((tmp_path / "out" / "list.json").read_text())["figures"]:
        assert row["mean"] == 1 and row["levels"][0] == [0.99, 1.0, pytest.approx(0.5, abs=0.3)]
    nothing = {name: (boxes[:0], scores[:0]) for name, (boxes, scores) in found.items()}
    printed, _, _ = run("--data", drawn_set, "--detections", as_jsonl(nothing, tmp_path))
    assert "0.0000 over" in printed and "never" in printed


# ---- what is written is read ---------------------------------------------------------------


def test_text_keeps_scores_to_the_last_digit(tmp_path):
    rng = np.random.default_rng(0)
    boxes = rng.uniform(-20, 500, (50, 4)).astype(np.float32)
    boxes[:, 2:] = boxes[:, :2] + rng.uniform(0, 99, (50, 2))
    scores = np.append(rng.uniform(0, 1, 49), 1 - 2.0**-24).astype(np.float32)
    (tmp_path / "x.txt").write_text(
        detections.text("a b.jpg", boxes, scores) + detections.text("c", boxes[:0], scores[:0])
    )
    read = detections.read(tmp_path / "x.txt")
    assert list(read) == ["a b.jpg", "c"] and read["c"][0].shape == (0, 4)
    assert np.array_equal(read["a b.jpg"][1].astype(np.float32), scores)
    np.testing.assert_allclose(read["a b.jpg"][0], boxes, atol=0.011)


def test_names_that_fit(capsys):
    def values(number):
        return np.zeros((0, 4)), np.full(0, number)

    names = ["e/1.jpg", "e/2.png", "1.jpg"]
    found = {"/a/b/e/1.jpg": values(1), "e/2": values(2), "./x/1.jpg": values(3)}
    fitted = detections.fitted(found, names, "list")
    assert {name: found_as for name, found_as in zip(fitted, found)} == {
        "e/1.jpg": "/a/b/e/1.jpg",
        "e/2.png": "e/2",
        "1.jpg": "./x/1.jpg",
    }
    assert capsys.readouterr().out == ""
    with pytest.raises(Problem, match="list has e/1.jpg twice"):
        detections.fitted({"e/1": values(1), "x/e/1.jpg": values(2)}, names, "list")
    with pytest.raises(Problem, match="differ in nothing but their suffix"):
        detections.fitted({}, ["a.jpg", "a.png"], "list")


# ---- the detector --------------------------------------------------------------------------

STAGES = {"pnet": "Pnet20_v0", "rnet": "Rnet_v1", "onet": "Onet_v1"}


@pytest.fixture(scope="module")
def nets(tmp_path_factory):
    folder = tmp_path_factory.mktemp("nets")
    blocks = np.random.default_rng(0).integers(0, 256, (30, 40, 3), dtype=np.uint8)
    picture = cv2.resize(blocks, (320, 240))
    for net in STAGES.values():
        made = sensible(picture, net, {})
        checkpoint.save(folder / net, made, 1, {})
        (folder / f"{net}.params").write_bytes(checkpoint.newest(folder / net).read_bytes())
    return folder, picture


def test_detector_goes_down_to_the_floor(nets):
    """Only the last net's threshold; what is over the usual one is the same."""
    folder, picture = nets
    given = [
        "detect.min_face=40",
        "detect.thresholds=0.4,0.4,0.6",
        "evaluate.floor=0.1",
        "detect.nms=0.6,0.6,0.5",
    ]
    settings = override(config, given)
    opened = run_detector.open_floored(folder, given, settings)
    assert opened.settings.thresholds == (0.4, 0.4, 0.1) and opened.settings.min_face == 40
    assert opened.settings.nms == (0.6, 0.6, 0.5)
    words = run_detector.rule(opened)
    for part in ("from 40 px", "0.4 (pnet), 0.4 (rnet), 0.1 (onet)", "0.6, 0.6, 0.5", "own size"):
        assert part in words
    usual = FaceDetector.open(folder, min_face=40, thresholds=(0.4, 0.4, 0.6))
    usual = usual.changed(nms=[0.6, 0.6, 0.5])
    few, many = usual.detect(picture), opened.detect(picture)
    assert 0 < len(few) < len(many) and many.scores.min() < 0.6
    assert np.array_equal(many.boxes[: len(few)], few.boxes)
    higher = run_detector.open_floored(folder, given, override(settings, ["evaluate.floor=0.9"]))
    assert higher.settings.thresholds == (0.4, 0.4, 0.6)
    (folder / "detector.json").write_text(json.dumps({"pnet": "Pnet20_v0.params", "min_face": 33}))
    try:
        alone = run_detector.open_floored(folder, [], config)
        assert alone.settings.min_face == 33  # the folder's, as none is given
        assert alone.settings.thresholds == tuple(config.detect.thresholds)
        facts = run_detector.facts(folder, alone)
        assert list(facts["nets"]) == ["pnet"] and json.loads(json.dumps(facts)) == facts
        assert facts != run_detector.facts(
            folder,
            run_detector.open_floored(
                folder, ["detect.min_face=34"], override(config, ["detect.min_face=34"])
            ),
        )
    finally:
        (folder / "detector.json").unlink()


def test_run_over_pictures(nets, tmp_path, capsys):
    folder, picture = nets
    detector = run_detector.open_floored(folder, [], config)
    cv2.imwrite(str(tmp_path / "a.png"), picture)
    (tmp_path / "b.png").write_bytes(b"none")
    files = {"x/a": tmp_path / "a.png", "x/b": tmp_path / "b.png"}
    ((name, boxes, scores, size),) = run_detector.run(detector, files)
    expected = detector.detect(picture)
    assert name == "x/a" and size == (320, 240)
    assert np.array_equal(boxes, expected.boxes) and np.array_equal(scores, expected.scores)
    assert "skipped 1 of 2 pictures" in capsys.readouterr().out
    with pytest.raises(Problem, match="not one picture could be read; the first: .*b.png"):
        list(run_detector.run(detector, {"x/b": tmp_path / "b.png"}))


# ---- bad input -----------------------------------------------------------------------------


def record(**changes):
    return json.dumps(
        {"file": "0--Event/0.jpg", "boxes": [[1, 2, 3, 4]], "scores": [0.5], **changes}
    )


@pytest.mark.parametrize(
    "line, says",
    [
        ("{", "line 1: expected a record of core.detect"),
        ("3", "line 1: expected"),
        (record(scores=[]), "line 1: expected"),
        (record(scores=[float("nan")]), "line 1: expected"),
        (record(scores=[None]), "line 1: expected"),
        (record(boxes=[[1, 2, 3]]), "line 1: expected"),
        (record(boxes=[[1, 2, 0, 4]]), "line 1: expected"),
        (record(file=3), "line 1: expected"),
        (record(boxes="x"), "line 1: expected"),
        (record(scores=[10**400]), "line 1: expected"),
        (record(boxes=[[0, 0, 10**400, 4]]), "line 1: expected"),
        (record(frame=3), "line 1 is of a video"),
        (record() + "\n" + record(), "line 2: 0--Event/0.jpg comes twice"),
        (
            record(file="e/gone.jpg"),
            "1 pictures that the ground truth lacks; the first: e/gone.jpg",
        ),
    ],
)
def test_broken_jsonl(truth_file, tmp_path, run, line, says):
    (tmp_path / "x.jsonl").write_text(line + "\n")
    _, status, error = run("--data", truth_file, "--detections", tmp_path / "x.jsonl")
    assert status == 2 and len(error.splitlines()) == 1 and error.startswith("error: ")
    assert "x.jsonl" in error and says in error
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("iou", ["0", "1.1", "x", "0.9:0.5", "nan", "0.5:", ":"])
def test_ious_that_are_none(truth_file, tmp_path, run, iou):
    (tmp_path / "x.txt").write_text("")
    _, status, error = run("--data", truth_file, "--detections", tmp_path / "x.txt", "--iou", iou)
    assert status == 2 and f"--iou {iou}: it must be a number in (0, 1]" in error


def test_other_bad_input(truth_file, tmp_path, run):
    (tmp_path / "x.txt").write_text("")
    _, status, error = run(
        "--data", truth_file, "--detections", tmp_path / "x.txt", "evaluate.sizes=900"
    )
    assert status == 2 and "no face of 900 px or more" in error
    _, status, error = run("--data", tmp_path / "gone.txt", "--detections", tmp_path / "x.txt")
    assert status == 2 and "gone.txt can't be read" in error
    (tmp_path / "empty.txt").write_text("")
    _, status, error = run("--data", tmp_path / "empty.txt", "--detections", tmp_path / "x.txt")
    assert status == 2 and "empty.txt lists no pictures" in error
    _, status, error = run("--data", truth_file, "--detections", tmp_path / "gone")
    assert status == 2 and "gone can't be read" in error


@pytest.mark.parametrize("other", ["a.jpg", "./a.jpg", "link.jpg"])
def test_a_picture_listed_twice(tmp_path, run, other):
    """Its faces by one entry are not false by the other, whatever it is called there."""
    (tmp_path / "images").mkdir()
    cv2.imwrite(str(tmp_path / "images" / "a.jpg"), np.zeros((200, 200, 3), np.uint8))
    (tmp_path / "images" / "link.jpg").symlink_to("a.jpg")
    (tmp_path / "val_bbx_gt.txt").write_text(
        f"a.jpg\n1\n10 10 40 40 0 0 0 0 0 0\n{other}\n1\n100 100 40 40 0 0 0 0 0 0\n"
    )
    boxes = np.array([[10, 10, 50, 50], [100, 100, 140, 140]])
    names = ["a.jpg", "link.jpg"] if other == "link.jpg" else ["a.jpg"]
    found = as_jsonl({name: (boxes, np.array([0.9, 0.8])) for name in names}, tmp_path)
    printed, status, error = run("--data", tmp_path, "--detections", found, "evaluate.sizes=20")
    assert status == 0, error
    assert "average precision at IoU 0.5: 1.0000 over 2 faces" in printed
    assert "merged 1 entries" in printed


def test_faces_outside_of_their_pictures_count_neither_way(tmp_path, run):
    (tmp_path / "images").mkdir()
    cv2.imwrite(str(tmp_path / "images" / "a.jpg"), np.zeros((200, 200, 3), np.uint8))
    inside = [[10 + 60 * i, 10, 50 + 60 * i, 50] for i in range(3)]
    (tmp_path / "val_bbx_gt.txt").write_text(
        "a.jpg\n4\n" + "".join(f"{x} {y} 40 40\n" for x, y, *_ in [*inside, [300, 300]])
    )
    found = as_jsonl({"a.jpg": (np.array(inside), np.array([0.9, 0.8, 0.7]))}, tmp_path)
    printed, status, error = run("--data", tmp_path, "--detections", found, "evaluate.sizes=20")
    assert status == 0, error
    assert "average precision at IoU 0.5: 1.0000 over 3 faces" in printed
    assert "left out a.jpg: the face 300 300 40 40" in printed


@pytest.mark.parametrize("write", [as_jsonl, as_text])
def test_detections_written_on_windows(example, tmp_path, write):
    """A byte order mark, ends of lines, blanks and slashes as there: nothing is lost."""
    path = write(example.found, tmp_path)
    sound = detections.fitted(detections.read(path), list(example.truth), path)
    slash = "\\\\" if write is as_jsonl else "\\"
    text = path.read_text().replace("/", slash).rstrip().replace("\n", " \t\r\n")
    path.write_bytes(("\ufeff" + text).encode())
    found = detections.fitted(detections.read(path), list(example.truth), path)
    assert found.keys() == sound.keys()
    assert all(np.array_equal(found[name][0], sound[name][0]) for name in sound)

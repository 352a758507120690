"""What every net lets through: against loops, by detectors that are faked; with real nets, that a
lower threshold of the last one changes nothing; thresholds found for a goal; the pictures."""

import hashlib
import json
from dataclasses import replace
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
from trained import sensible

from config import config, override
from core.detect.detector import FaceDetector
from core.evaluate import __main__ as evaluate
from core.evaluate import metrics, plots, stage_figures, stage_pictures, stage_tuning
from core.evaluate.stages import evaluate as evaluate_stages
from core.formats import checkpoint
from facelet import draw
from facelet import picture as pictures
from facelet.console import Problem, Progress
from facelet.faces import Faces
from facelet.files import read_json
from facelet.nets import SETTINGS
from facelet.settings import Settings
from prepare_data import wider

NAMES = ("pnet", "rnet", "onet")


class Fake(FaceDetector):
    """A cascade that finds given boxes after each net, in each picture.

    outputs -- by picture (its array), (boxes, scores) of each net
    """

    def __init__(self, outputs, thresholds=(0.5, 0.5, 0.5), landmark=False):
        self.outputs = {self.key(picture): stages for picture, stages in outputs}
        names = NAMES[: len(outputs[0][1])] + ("landmark",) * landmark
        self.nets = {name: SimpleNamespace(facts={"net": f"Fake{name}"}) for name in names}
        self.settings = Settings(thresholds=thresholds)
        self.marked = []

    @staticmethod
    def key(picture):
        return hashlib.md5(picture.tobytes()).digest()

    def stages(self, picture):
        for i, (boxes, scores) in enumerate(self.outputs[self.key(picture)]):
            order = np.argsort(-scores, kind="stable")
            order = order[scores[order] > self.settings.thresholds[i]]
            yield NAMES[i], Faces(boxes[order], scores[order])

    def with_landmarks(self, picture, faces):
        self.marked.append(len(faces))


@pytest.fixture(scope="module")
def face_set(tmp_path_factory):
    """24 pictures, no two the same, with up to 5 faces of 10 to 250 px, an ignored and an unsure
    box in each. A detector that is faked needs no more than their first pixels."""
    rng, folder = np.random.default_rng(1), tmp_path_factory.mktemp("fake")
    annotations = []
    for i in range(24):
        few = rng.integers(0, 255, (8, 8, 3), np.uint8)
        pictures.write(folder / f"{i}.png", np.pad(few, [(0, 652), (0, 652), (0, 0)]))
        corner = rng.uniform(0, 400, (rng.integers(0, 6), 2))
        boxes = np.concatenate([corner, corner + 10 * 25 ** rng.uniform(0, 1, corner.shape)], 1)
        annotations.append(
            wider.Annotation(
                f"{i}.png",
                boxes.astype(np.float32),
                np.array([[5, 5, 45, 50]], np.float32),
                unsure=np.array([[60, 5, 110, 65]], np.float32),
            )
        )
    return wider.FaceSet(folder, folder / "truth.txt", annotations)


def fake_outputs(face_set, stages=3, seed=0):
    """Boxes near the faces, the ignored, the unsure and anywhere, with scores by chance."""
    rng, every = np.random.default_rng(seed), []
    for one in face_set.annotations:
        targets = np.concatenate(
            [
                one.boxes,
                one.boxes,
                one.ignored,
                one.unsure,
                rng.uniform(0, 60, (3, 2)) @ [[1, 0, 2, 1], [0, 1, 1, 2.0]],
            ]
        )
        found = []
        for _ in range(stages):
            sides = np.tile(targets[:, 2:] - targets[:, :2], 2)
            boxes = targets + sides * rng.normal(0, 0.12, targets.shape)
            boxes = boxes[rng.uniform(size=len(boxes)) < 0.8].astype(np.float32)
            boxes = boxes[(boxes[:, 2:] > boxes[:, :2]).all(axis=1)]
            found.append((boxes, rng.uniform(0, 1, len(boxes)).astype(np.float32)))
        every.append((pictures.read(face_set.images / one.path), found))
    return every


def overlap(a, b):
    a, b = [float(v) for v in a], [float(v) for v in b]
    wide, high = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    shared = max(wide, 0) * max(high, 0)
    return shared / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - shared)


def larger(box):
    return max(float(box[2]) - float(box[0]), float(box[3]) - float(box[1]))


def measured(detector, face_set, settings):
    return stage_figures.measure(detector, face_set, settings, Progress(None, "pictures"))


def by_loop(outputs, face_set, thresholds, ious, min_face):
    """Per face that counts: its side and, per net and IoU, whether a box has it; boxes by net."""
    rows, boxes = [], [0] * len(thresholds)
    for (_, stages), one in zip(outputs, face_set.annotations):
        kept = [
            [box for box, score in zip(*stage) if score > threshold]
            for stage, threshold in zip(stages, thresholds)
        ]
        boxes = [count + len(stage) for count, stage in zip(boxes, kept)]
        for face in one.boxes:
            if larger(face) >= min_face:
                rows.append(
                    (
                        larger(face),
                        [
                            [any(overlap(face, box) >= iou for box in stage) for iou in ious]
                            for stage in kept
                        ],
                    )
                )
    return rows, boxes


@pytest.mark.parametrize(
    "stages, thresholds, min_face",
    [
        (3, (0.3, 0.4, 0.5), 20),
        (3, (0.0, 0.0, 0.01), 20),
        (2, (0.2, 0.6, 0.9), 40),
        (1, (0.4, 0.5, 0.5), 35),
    ],
)
def test_figures_by_loop(face_set, stages, thresholds, min_face):
    settings = override(config, [f"evaluate.min_face={min_face}"])
    found = fake_outputs(face_set, stages)
    detector = Fake(found, thresholds)
    figures, _ = stage_figures.figures(measured(detector, face_set, settings), detector, settings)
    rows, boxes = by_loop(found, face_set, thresholds[:stages], (0.4, 0.5, 0.65), min_face)
    assert (figures["pictures"], figures["faces"]) == (24, len(rows)) and len(rows) > 20
    edges = [min_face, *(edge for edge in (20, 40, 80, 160) if edge > min_face), 1e9]
    spans = [(min_face, 1e9), *zip(edges, edges[1:])]
    spans = [span for span in spans if any(span[0] <= side < span[1] for side, _ in rows)]
    assert [(size["from"], size["to"] or 1e9) for size in figures["sizes"]] == spans
    for column, (low, high) in enumerate(spans):
        inside = [hits for side, hits in rows if low <= side < high]
        assert figures["sizes"][column]["faces"] == len(inside)
        left = 0
        for i, stage in enumerate(figures["stages"]):
            assert stage["stage"] == NAMES[i] and stage["threshold"] == thresholds[i]
            for j, iou in enumerate(("0.4", "0.5", "0.65")):
                share = sum(hits[i][j] for hits in inside) / len(inside)
                assert stage["recall"][iou][column] == pytest.approx(share)
            lost = sum(
                not any(hits[k][1] for k in range(i, stages)) and (i == 0 or hits[i - 1][1])
                for hits in inside
            )
            assert stage["lost"][column] == lost
            left += lost
        assert left == sum(not hits[-1][1] for hits in inside)
    for stage, count in zip(figures["stages"], boxes):
        assert stage["boxes_per_picture"] == pytest.approx(count / 24)
    assert figures["recall"] == figures["stages"][-1]["recall"]["0.5"][0]
    assert (
        figures["ms_per_picture"]
        == pytest.approx(sum(stage["ms_per_picture"] for stage in figures["stages"]))
        and figures["neither"] == 48
    )


def test_legends_hide_no_curve(face_set, tmp_path, monkeypatch):
    """They are below their axes, within the picture, and hide no ticks or labels."""
    detector, seen = Fake(fake_outputs(face_set)), []
    result = stage_figures.figures(measured(detector, face_set, config), detector, config)
    result[0]["rule"]["words"] = "the rule"

    def checked(figure, path, **_):
        path.touch()
        figure.canvas.draw()
        for axis in figure.axes:
            legend, plot = axis.get_legend(), axis.get_window_extent()
            below = legend.get_window_extent()
            labels = [axis.xaxis.label, *axis.get_xticklabels()]
            labels = [label.get_window_extent() for label in labels if label.get_text()]
            assert below.y1 < min([plot.y0, *(label.y0 for label in labels)])
            assert below.y0 > 0 and below.x0 > 0 and below.x1 < figure.bbox.x1
            seen.append(len(legend.get_texts()))

    monkeypatch.setattr("matplotlib.figure.Figure.savefig", checked)
    plots.stages(*result, tmp_path / "recall.png")
    assert seen == [3, len(config.evaluate.sizes)]


def test_where_faces_are_lost():
    """Of six faces: none lost; never had; had by the Pnet alone; lost only in the end; had in the
    middle alone: lost in the end; not had by the Pnet, but in the end: none lost."""
    had = np.array([[1, 0, 1, 1, 0, 0], [1, 0, 0, 1, 1, 0], [1, 0, 0, 0, 0, 1]]) * 0.5
    assert stage_figures.lost_in(had, 0.5).tolist() == [3, 0, 1, 2, 2, 3]
    assert stage_figures.lost_in(had, 0.51).tolist() == [0] * 6
    assert stage_figures.lost_in(had[:1], 0.5).tolist() == [1, 0, 1, 1, 0, 0]


def one_picture(tmp_path, stages, faces, ignored=(), unsure=(), **options):
    """A FaceSet of one picture, and a Fake that finds in it after each net (boxes, scores)."""
    picture = np.zeros((200, 400, 3), np.uint8)
    pictures.write(tmp_path / "a.png", picture)

    def array(boxes):
        return np.array(boxes, np.float32).reshape(-1, 4)

    annotation = wider.Annotation("a.png", array(faces), array(ignored), unsure=array(unsure))
    stages = [(array(boxes), np.array(scores, np.float32)) for boxes, scores in stages]
    return (
        wider.FaceSet(tmp_path, tmp_path / "truth.txt", [annotation]),
        Fake([(picture, stages)], **options),
    )


def test_average_precision_counts_what_it_should(tmp_path):
    """Best first: a face of 60 px, one that is invalid, one that is unsure, one of 38 px by a
    larger box, nothing, one of 50 px under the threshold, nothing under the floor. From 20 px:
    precisions 1, 1, 3/4 at each third of recall. From 40 px, the face of 38 neither: 1, 2/3 at
    halves."""
    faces = [[0, 0, 60, 60], [100, 0, 138, 38], [200, 0, 250, 50]]
    invalid, unsure = [300, 0, 350, 50], [300, 100, 350, 150]
    nothing = [[100, 100, 150, 150], [200, 100, 250, 150]]
    boxes = [faces[0], invalid, unsure, [100, 0, 142, 42], nothing[0], faces[2], nothing[1]]
    scores = [0.9, 0.85, 0.8, 0.75, 0.7, 0.4, 0.01]
    stages = [(boxes, [0.9] * 7), (boxes, scores)]
    face_set, detector = one_picture(tmp_path, stages, faces, [invalid], [unsure], landmark=True)
    found = measured(detector, face_set, config)
    figures, curves = stage_figures.figures(found, detector, config)
    assert [(row["min_face"], row["faces"]) for row in figures["average_precision"]] == [
        (20, 3),
        (40, 2),
    ]
    assert [row["value"] for row in figures["average_precision"]] == pytest.approx(
        [(1 + 1 + 3 / 4) / 3, (1 + 2 / 3) / 2]
    )
    assert figures["recall"] == pytest.approx(2 / 3)  # the third is under the threshold
    assert figures["stages"][1]["boxes_per_picture"] == 5 and detector.marked == [5]
    assert figures["landmark"]["net"] == "Fakelandmark" and figures["rule"]["floor"] == 0.02
    assert [len(curve.scores) for curve in curves] == [4, 3]


def test_a_pnet_keeps_its_threshold(tmp_path):
    boxes = [[0, 0, 60, 60], [100, 0, 130, 30]]
    face_set, detector = one_picture(tmp_path, [(boxes, [0.9, 0.3])], boxes)
    found = measured(detector, face_set, config)
    assert len(found.results[0].boxes) == 1 and found.floor == 0.5


def test_no_boxes_at_all(tmp_path):
    face_set, detector = one_picture(tmp_path, [([], [])] * 3, [[0, 0, 60, 60]])
    figures = evaluate_stages(detector, face_set, tmp_path / "out", config)
    assert figures["recall"] == 0 and figures["stages"][0]["lost"] == [1, 1]
    assert [row["value"] for row in figures["average_precision"]] == [0, 0]


# ---- real nets -----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def nets(drawn_set, tmp_path_factory):
    scene = pictures.read(sorted(drawn_set.rglob("*.jpg"))[1])
    folder, files = tmp_path_factory.mktemp("nets"), {}
    for stage, net in zip(NAMES, ("Pnet20_v00", "Rnet_p0", "Onet_p0")):
        files[stage] = checkpoint.save(folder, sensible(scene, net, {}), 1, {})
    return files


@pytest.mark.parametrize("stages", [1, 2, 3])
def test_lower_floor_gives_the_same_boxes(nets, drawn_set, stages):
    """What is left of a run down to the floor is what a run at the threshold gives."""
    face_set = wider.open_set(drawn_set, "val")
    detector = FaceDetector(*list(nets.values())[:stages], thresholds=(0.8, 0.5, 0.7), min_face=40)
    found = measured(detector, face_set, config)
    more = 0
    for one in found.results:
        *_, (_, faces) = detector.stages(pictures.read(one.path))
        over = one.scores > detector.settings.thresholds[stages - 1]
        np.testing.assert_array_equal(one.boxes[over], faces.boxes)
        np.testing.assert_array_equal(one.scores[over], faces.scores)
        more += len(over) - over.sum()
    assert len(faces) and (more > 5 if stages > 1 else more == 0)
    assert detector.settings.thresholds == (0.8, 0.5, 0.7)  # as it was


# ---- thresholds ----------------------------------------------------------------------------


@pytest.mark.parametrize("nets", [2, 3])
@pytest.mark.parametrize("seed", range(20))
def test_search_finds_the_best_of_all(nets, seed):
    """Recall, time and precision fall as any threshold rises: against every pair."""
    rng, steps = np.random.default_rng(seed), stage_tuning.CANDIDATES
    shape = (len(steps),) * (nets - 1)

    def falling(scale):
        values = rng.uniform(0, 1, shape)
        for axis in range(nets - 1):
            values = values.cumsum(axis=axis)
        return scale * np.flip(values) / values.max()

    table = {"recall": falling(1), "ms": 5 + falling(30), "ap": falling(1)}
    rows = []

    def trial(inner):
        at = tuple(steps.index(value) for value in inner)
        rows.append({"thresholds": inner, **{key: values[at] for key, values in table.items()}})
        return rows[-1]

    for what, wanted in (("recall", rng.uniform(0, 1.1)), ("ms", rng.uniform(4, 35))):
        rows.clear()
        _, best = stage_tuning.search(trial, what, wanted, nets)
        reached = table["recall"] >= wanted if what == "recall" else table["ms"] <= wanted
        if not reached.any():
            assert best is None
        elif what == "recall":
            assert best["ms"] == table["ms"][reached].min()
        else:
            assert best["ap"] == table["ap"][reached].max()
        assert len(rows) < 2 * len(steps)


@pytest.mark.parametrize("seed", range(30))
def test_last_threshold_is_the_highest(seed):
    rng = np.random.default_rng(seed)
    scores = rng.choice([-1, 0.6, 0.25, *rng.uniform(0.05, 1, 5)], 17).astype(np.float32)
    steps = [step / 1000 for step in range(20, 1000)]
    for recall in (0.01, 0.3, 5 / 17, 0.9, 1):
        good = [step for step in steps if (scores > step).mean() >= recall]
        assert stage_tuning.last_threshold(scores, recall, 0.02) == max(good, default=0.02)


def test_tuned_thresholds_reach_the_recall(face_set, capsys):
    found = fake_outputs(face_set, 3, seed=4)
    detector = Fake(found, (0.9, 0.9, 0.9))
    found = stage_tuning.tune(detector, face_set, config, ("recall", 0.6), 99)
    thresholds = found.pop("thresholds")
    assert not found
    printed = capsys.readouterr().out
    words = ",".join(f"{value:g}" for value in thresholds)
    assert printed.splitlines()[-1] == f"detect.thresholds={words}"
    assert "on 24 pictures" in printed
    for last, enough in ((thresholds[2], True), (thresholds[2] + 0.001, False)):
        changed = detector.changed(thresholds=[*thresholds[:2], last])
        figures, _ = stage_figures.figures(measured(changed, face_set, config), changed, config)
        assert (figures["recall"] >= 0.6) == enough


def test_a_pnets_threshold_is_tuned(face_set):
    found = fake_outputs(face_set, 1)
    tuned = stage_tuning.tune(Fake(found), face_set, config, ("recall", 0.4), 99)
    first, *others = tuned["thresholds"]
    rows, _ = by_loop(found, face_set, [first], [0.5], 20)
    above, _ = by_loop(found, face_set, [first + 0.001], [0.5], 20)
    assert others == [0.5, 0.5] and first > 0.1
    assert (
        sum(hits[0][0] for _, hits in above)
        < 0.4 * len(rows)
        <= sum(hits[0][0] for _, hits in rows)
    )


def test_tuning_that_can_not_be(face_set):
    with pytest.raises(Problem, match="no thresholds tried reach recall=1; the nearest"):
        stage_tuning.tune(Fake(fake_outputs(face_set)), face_set, config, ("recall", 1), 99)
    with pytest.raises(Problem, match="no thresholds tried reach ms=1e-09"):
        stage_tuning.tune(Fake(fake_outputs(face_set)), face_set, config, ("ms", 1e-9), 99)
    with pytest.raises(Problem, match="--tune ms takes a cascade"):
        stage_tuning.tune(Fake(fake_outputs(face_set, 1)), face_set, config, ("ms", 20), 99)
    for text in (
        "recall",
        "recall=90",
        "recall=x",
        "ms=-1",
        "ms=nan",
        "time=3",
        "recall=0",
        "precision=2",
    ):
        with pytest.raises(Problem, match="write recall=0.90, precision=0.95, or ms=20"):
            stage_tuning.parse(text)
    assert stage_tuning.parse("recall=0.9") == ("recall", 0.9)


def test_tuned_within_a_time_by_precision(face_set, capsys):
    """Without a limit to speak of the lowest thresholds are tried as well; the last one stays."""
    thresholds = stage_tuning.tune(
        Fake(fake_outputs(face_set), (0.5, 0.5, 0.66)), face_set, config, ("ms", 1e6), 2
    )["thresholds"]
    printed = capsys.readouterr().out
    assert "on 2 pictures" in printed
    every = [line.split() for line in printed.splitlines()[2:-1]]
    rows = [row for row in every if len(row) == 5]
    assert [row[0] for row in rows] == [
        f"0.1,{last:g},0.66" for last in (0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2, 0.1)
    ]
    assert {row[5].partition("=")[0] for row in every if len(row) == 6} == set(stage_tuning.OPTIONS)
    assert thresholds[2] == 0.66
    assert f"{thresholds[0]:g},{thresholds[1]:g},0.66" == max(rows, key=lambda r: float(r[-1]))[0]


@pytest.mark.parametrize("seed", range(20))
def test_lowest_threshold_for_a_precision(seed):
    """Against every threshold there is."""
    rng = np.random.default_rng(seed)
    scores = np.sort(rng.choice(rng.uniform(0.05, 1, 30), 40))[::-1].astype(np.float32)
    right = rng.uniform(size=40) < scores
    distinct = np.append(np.diff(scores) != 0, True)
    precision = (np.cumsum(right) / np.arange(1, 41))[distinct]
    curve = metrics.Curve(scores[distinct], precision, precision, 40)
    for wanted in (0.2, 0.6, 0.8, 0.95, 1):
        found = stage_tuning.lowest_threshold(curve, wanted, 0.02)
        steps = [step / 1000 for step in range(20, 1000) if (scores > step / 1000).any()]
        good = [step for step in steps if right[scores > step].mean() >= wanted]
        assert found == (min(good) if good else None)


def test_tuned_for_a_precision(face_set, capsys):
    face_set = replace(face_set, annotations=face_set.annotations[:8])
    detector = Fake(fake_outputs(face_set, 3, seed=4))
    found = stage_tuning.tune(detector, face_set, config, ("precision", 0.3), 99)
    changed = detector.changed(**found)
    result = measured(changed, face_set, config)
    curve = result.curve(0.5, 20)
    last = found["thresholds"][2]
    assert curve.precision[(curve.scores > last).sum() - 1] >= 0.3
    lower = curve.scores > last - 0.002
    assert last == result.floor or curve.precision[lower.sum() - 1] < 0.3
    rows = capsys.readouterr().out.splitlines()
    assert rows[-1].startswith("detect.thresholds=")
    nothing = Fake(fake_outputs(face_set, 3, seed=4))
    for stages in nothing.outputs.values():
        stages[2] = (stages[2][0] + 500, stages[2][1])
    with pytest.raises(Problem, match="no thresholds tried reach precision=0.9; the nearest"):
        stage_tuning.tune(nothing, face_set, config, ("precision", 0.9), 99)


def test_refining_keeps_what_is_better():
    """One option after another; within the time; what was better stays for those after it."""
    gain: dict[str, dict] = {
        "mirror": {True: 0.02},
        "vote": {0.6: 0.01, 0.5: 0.03, 0.4: -0.02},
        "blend": {0.3: 0.5},
    }
    asked = []

    def trial(options):
        asked.append(options)
        ap = 0.5 + sum(gain[name].get(value, 0) for name, value in options.items())
        return {"ap": ap, "ms": 50 if "blend" in options else 10, "options": options}

    options = {
        "mirror": (False, (False, True)),
        "vote": (1, (1, 0.6, 0.5, 0.4)),
        "blend": (0, (0.3,)),
    }
    best, chosen = stage_tuning.refine(trial, {"ap": 0.5, "ms": 10}, "ms", 20, options)
    assert chosen == {"mirror": True, "vote": 0.5} == best["options"]
    assert best["ap"] == pytest.approx(0.55)
    assert asked[1] == {"mirror": True, "vote": 0.6} and len(asked) == 5
    best, chosen = stage_tuning.refine(trial, {"ap": 0.5, "ms": 10}, "precision", 0.9, options)
    assert chosen["blend"] == 0.3


def test_a_mode_keeps_all_that_is_tuned():
    """What a written mode lacks would not be what was measured."""
    assert {"thresholds", *stage_tuning.OPTIONS} <= {*SETTINGS}


# ---- by kind of face -----------------------------------------------------------------------


def test_recall_by_kind_and_source(tmp_path):
    """Two pictures of two sources: by hand."""
    boxes = np.array([[0, 0, 50, 50], [100, 0, 150, 50], [0, 100, 50, 150], [200, 0, 210, 10]])
    attributes = np.zeros((4, 6), np.int8)
    attributes[:, 0], attributes[:, 4], attributes[:, 5] = [0, 2, 2, 1], [0, 0, 2, 0], 1
    annotations, outputs = [], []
    for source, found in (("crowds", [0, 1]), ("web", [1])):
        picture = np.full((300, 300, 3), 10 * len(source), np.uint8)
        (tmp_path / source).mkdir()
        pictures.write(tmp_path / source / "a.png", picture)
        annotations.append(
            wider.Annotation(
                f"{source}/a.png",
                boxes.astype(np.float32),
                np.zeros((0, 4), np.float32),
                attributes=attributes,
            )
        )
        outputs.append((picture, [(boxes[found].astype(np.float32), np.full(len(found), 0.9))]))
    face_set = wider.FaceSet(tmp_path, tmp_path / "truth", annotations)
    detector = Fake(outputs)
    figures, _ = stage_figures.figures(measured(detector, face_set, config), detector, config)
    rows = {row["kind"]: (row["faces"], row["recall"]) for row in figures["kinds"]}
    assert rows == {
        "clear": (2, 0.5),
        "heavy blur": (4, 0.5),
        "not covered": (4, 0.75),
        "heavily covered": (2, 0.0),
        "crowds": (3, pytest.approx(2 / 3)),
        "web": (3, pytest.approx(1 / 3)),
    }


# ---- pictures ------------------------------------------------------------------------------


def has(picture, color):
    return bool((np.abs(picture.astype(int) - color).max(axis=2) < 3).any())


@pytest.fixture
def drawn(tmp_path):
    """Pictures of: a face found, one of 40 and one of 60 px lost in the Rnet, one of 25 px lost in
    the Onet to a box beside it; a box where no label is; a small face; an unsure one."""
    faces = [
        [0, 0, 50, 50],
        [100, 0, 140, 40],
        [180, 0, 240, 60],
        [300, 20, 325, 45],
        [380, 180, 390, 190],
    ]
    aside, nowhere, unsure = [308, 20, 333, 45], [100, 120, 150, 170], [200, 120, 250, 170]
    found = [4, 4, 50, 50]
    stages = [
        (faces[:4], [0.9] * 4),
        ([faces[0], faces[3]], [0.9] * 2),
        ([found, aside, nowhere, unsure], [0.9, 0.8, 0.7, 0.6]),
    ]
    face_set, detector = one_picture(tmp_path, stages, faces, unsure=[unsure])
    evaluate_stages(detector, face_set, tmp_path / "out", override(config, ["evaluate.iou=0.6"]))
    return {path.stem: cv2.imread(str(path)) for path in (tmp_path / "out").glob("*.png")}


def test_pictures_show_what_they_say(drawn):
    """Every crop has a thick line of its color where the box's upper edge is; no crop, none."""
    assert set(drawn) == {"recall", "detections", "misses", "false_alarms"}
    cell, title = stage_pictures.CROP_CELL, draw.LINE + 8
    assert all(
        has(drawn["detections"], color) for color in (draw.GREEN, draw.YELLOW, draw.RED, draw.GRAY)
    )

    def crops(picture, rows):
        """(row, column) of crops with a thick box in the middle, in this color."""
        edge = round(cell / 2 - cell / stage_pictures.AROUND / 2)
        found = []
        for row, top in enumerate(rows):
            for column in range(stage_pictures.CROP_COLUMNS):
                line = picture[top + edge - 4 : top + edge + 5, column * cell + cell // 2]
                found += [
                    (row, column, color)
                    for color in (draw.RED, draw.GREEN)
                    if (np.abs(line.astype(int) - color) < 3).all(axis=1).sum() >= 3
                ]
        return found

    top = drawn["misses"].shape[0] - (3 * title + 2 * cell)  # the Pnet lost none, so has no row
    rows = [top + 2 * title, top + 3 * title + cell]
    assert crops(drawn["misses"], rows) == [(0, 0, draw.RED), (0, 1, draw.RED), (1, 0, draw.RED)]
    largest = drawn["misses"][rows[0] : rows[0] + cell, :cell]
    assert not has(largest, draw.GREEN)
    assert has(drawn["misses"][rows[1] : rows[1] + cell, :cell], draw.GREEN)  # beside

    alarms = drawn["false_alarms"]
    top = alarms.shape[0] - 2 * (title + cell)
    rows = [top + title, top + 2 * title + cell]
    assert crops(alarms, rows) == [(0, 0, draw.GREEN), (1, 0, draw.GREEN)]
    assert has(alarms[rows[1] : rows[1] + cell, :cell], draw.RED)
    assert not has(alarms[rows[0] : rows[0] + cell, :cell], draw.RED)


def test_worst_come_first(tmp_path):
    """More than are shown: the largest of the misses, the surest of the false alarms."""
    count, size = 20, stage_pictures.CROP_CELL
    faces = [[x, 0, x + 21 + x / 20, 20] for x in np.arange(count) * 20.0]
    alarms = [[x, 100, x + 15, 120] for x in np.arange(2 * count) * 10.0]
    scores = np.linspace(0.51, 0.9, len(alarms))
    face_set, detector = one_picture(tmp_path, [(alarms, scores)] * 3, faces)
    measure, shown, crops = measured(detector, face_set, config), [], []

    def grid(tiles, columns, cell):
        shown.append(len(tiles))
        return np.zeros((size, columns * size, 3), np.uint8)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stage_pictures.draw, "grid", grid)
        patch.setattr(
            stage_pictures, "_crop", lambda one, box, *rest: crops.append((box, rest[-1]))
        )
        stage_pictures.misses(measure, tmp_path / "m.png", 0.5)
        stage_pictures.false_alarms(measure, tmp_path / "f.png", 0.5)
    assert shown == [16, 24]
    sides = [larger(box) for box, _ in crops[:16]]
    assert sides == pytest.approx(sorted(map(larger, faces), reverse=True)[:16])
    assert [words for _, words in crops[16:]] == [
        f"{score:.3f}" for score in sorted(scores, reverse=True)[:24]
    ]


# ---- the program ---------------------------------------------------------------------------


class Marker:
    """A Pnet of cell 20, stride 4 that is sure wherever the window's middle is white."""

    facts = {"net": "Marker", "cell": 20, "stride": 4}

    def __call__(self, data):
        rows = (data.shape[2] - 20) // 4 + 1
        columns = (data.shape[3] - 20) // 4 + 1
        middle = data[:, :1, 10::4, 10::4][:, :, :rows, :columns]
        return {
            "cls": (middle > 0.9).astype(np.float32),
            "bbox": np.zeros((1, 4, rows, columns), np.float32),
        }


@pytest.fixture
def marked_set(tmp_path):
    """Black pictures; a white dot in the middle of some faces makes Marker find them."""
    (tmp_path / "images").mkdir()
    truth = []
    for i, (side, dot) in enumerate([(20, True), (24, False), (100, True), (15, True)]):
        picture = np.zeros((240, 320, 3), np.uint8)
        x, y = 80, 60
        if dot:
            half = side // 4
            cv2.rectangle(
                picture,
                (x + side // 2 - half, y + side // 2 - half),
                (x + side // 2 + half, y + side // 2 + half),
                (255, 255, 255),
                -1,
            )
        cv2.imwrite(str(tmp_path / "images" / f"{i}.png"), picture)
        truth.append(f"{i}.png\n1\n{x} {y} {side} {side} 0 0 0 0 0 0\n")
    truth.append("gone.png\n1\n1 1 50 50 0 0 0 0 0 0\n")
    (tmp_path / "x_val_bbx_gt.txt").write_text("".join(truth))
    return wider.open_set(tmp_path, "val")


def marker():
    detector = FaceDetector.__new__(FaceDetector)
    detector.nets, detector.settings = {"pnet": Marker()}, Settings()
    return detector


def test_recall_of_a_pnet_on_pictures(marked_set, tmp_path, capsys):
    """Of faces of 20 px and more: the first and third are found, the second is not; the one of
    15 px and the missing picture are left out."""
    figures = evaluate_stages(marker(), marked_set, tmp_path / "out", config, drawn=3)
    printed = capsys.readouterr().out
    assert figures["faces"] == 3 and figures["pictures"] == 4
    assert figures["recall"] == pytest.approx(2 / 3)
    assert figures["sizes"] == [
        {"from": 20, "to": None, "faces": 3},
        {"from": 20, "to": 40, "faces": 2},
        {"from": 80, "to": 160, "faces": 1},
    ]
    assert figures["stages"][0]["recall"]["0.5"] == pytest.approx([2 / 3, 0.5, 1])
    assert figures["stages"][0]["lost"] == [1, 1, 0]
    assert len(figures["skipped"]) == 1 and "gone.png" in figures["skipped"][0]
    assert "skipped" in printed and "pictures at their own size" in printed
    assert read_json(tmp_path / "out" / "stages.json")["recall"] == figures["recall"]
    drawn, cell = cv2.imread(str(tmp_path / "out" / "detections.png")), stage_pictures.CELL
    drawn = drawn[-cell:]
    assert drawn.shape[1] == stage_pictures.COLUMNS * cell
    assert has(drawn[:, :cell], draw.GREEN) and not has(drawn[:, :cell], draw.RED)
    second = drawn[:, cell : 2 * cell]
    assert has(second, draw.RED) and not has(second, draw.GREEN)
    assert not has(drawn[:, 3 * cell :], draw.YELLOW)


def test_stricter_iou_and_larger_faces(marked_set):
    assert measured(marker(), marked_set, config).faces()[1].max() < 0.99
    large = measured(marker(), marked_set, override(config, ["evaluate.min_face=50"]))
    figures, _ = stage_figures.figures(large, marker(), override(config, ["evaluate.min_face=50"]))
    assert (figures["faces"], figures["recall"]) == (1, 1.0)
    with pytest.raises(Problem, match="no face of 500 px"):
        measured(marker(), marked_set, override(config, ["evaluate.min_face=500"]))


def test_sets_that_can_not_be_measured(marked_set):
    marked_set.annotations = marked_set.annotations[-1:]
    with pytest.raises(Problem, match="not one picture could be read; the first: .*gone.png"):
        measured(marker(), marked_set, config)
    marked_set.annotations = []
    with pytest.raises(Problem, match="lists no pictures"):
        measured(marker(), marked_set, config)


def test_program(nets, drawn_set, tmp_path, capsys):
    """Nets of a folder; thresholds tuned; what its detector.json says holds unless something else
    is given."""
    folder = nets["pnet"].parent
    (folder / "detector.json").write_text(
        json.dumps(
            {
                "pnet": nets["pnet"].name,
                "rnet": nets["rnet"].name,
                "min_face": 60,
                "thresholds": [0.8, 0.5, 0.5],
            }
        )
    )
    try:
        evaluate.main(
            [
                "stages",
                "--nets",
                str(folder),
                "--data",
                str(drawn_set),
                "--out",
                str(tmp_path / "out"),
                "--tune",
                "ms=100000",
                "--subset",
                "2",
                "detect.factor=0.5",
                "detect.nms=0.6,0.5,0.4",
            ]
        )
    finally:
        (folder / "detector.json").unlink()
    figures = read_json(tmp_path / "out" / "stages.json")
    rule = figures["rule"]
    assert (rule["min_face"], rule["factor"], rule["nms"]) == (60, 0.5, [0.6, 0.5])
    assert [stage["net"] for stage in figures["stages"]] == ["Pnet20_v00", "Rnet_p0"]
    assert [stage["threshold"] for stage in figures["stages"]] == [0.1, 0.5]
    assert figures["pictures"] == 6 and "detect.thresholds=0.1,0.5,0.5" in capsys.readouterr().out


@pytest.mark.parametrize(
    "arguments, says",
    [
        (["--pnet", "PNET", "--tune", "speed=3"], "--tune speed=3: write recall=0.90"),
        (["--pnet", "PNET", "--subset", "0"], "--subset: 0: it must be a whole number from 1"),
        (["--pnet", "PNET", "--drawn", "0"], "--drawn: 0: it must be a whole number from 1"),
        (["--rnet", "PNET"], "there are no nets: give --nets DIR or --pnet FILE"),
        (["--pnet", "PNET", "--rnet", "PNET"], "can't be the rnet"),
        (
            ["--pnet", "PNET", "--split", "train", "--teacher-boxes", "nowhere"],
            "nowhere is not there",
        ),
        (["--pnet", "PNET", "evaluate.ious=0.5,2"], "evaluate.ious is"),
        (["--pnet", "PNET", "evaluate.sizes=0"], "evaluate.sizes is"),
    ],
)
def test_bad_input(nets, drawn_set, tmp_path, arguments, says):
    arguments = [str(nets["pnet"]) if a == "PNET" else a for a in arguments]
    with pytest.raises(Problem) as problem:
        evaluate.main(
            ["stages", "--data", str(drawn_set), "--out", str(tmp_path / "out"), *arguments]
        )
    assert says in str(problem.value) and "\n" not in str(problem.value)
    assert not (tmp_path / "out").exists()

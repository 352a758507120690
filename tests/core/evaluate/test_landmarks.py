"""Errors of landmark points: by faces whose pictures tell where each of their pixels is, and nets
that read it there; by loops; the program, its pictures and what it refuses."""

import math

import cv2
import numpy as np
import pytest
from commands import evaluated
from trained import trained

from config import config, override
from core.detect import nets
from core.evaluate import landmark_crops, landmark_figures, landmark_pictures, landmarks
from core.evaluate.landmark_comparisons import ALL, SHARED, common_places, comparisons
from core.evaluate.landmark_crops import Rule
from core.evaluate.landmark_figures import EXACT, MEAN_FACE, NET, SCATTERED, EvaluationSet
from core.formats import checkpoint
from facelet import draw, schemes
from facelet import picture as pictures
from facelet.console import Problem
from facelet.files import read_json
from prepare_data import face_crop
from prepare_data.held_out import is_held_out, rule_of
from prepare_data.points.face_sets import Pictures

CHART = np.indices((400, 400))[[1, 0, 0]].transpose(1, 2, 0).astype(np.float32) + 0.5
FRONT = np.array([[170, 180], [230, 181], [201, 215], [175, 245], [226, 244]], float)  # of five


class Charted:
    """Faces in pictures whose values are the x and y of each pixel's centre, and the face's number:
    what prepare_data.points.face_sets.Pictures gives, as floats."""

    path, size = "charted", None

    def __init__(self, points, scheme, broken=()):
        self.points_of, self.scheme = np.asarray(points, np.float32), scheme
        self.points, self.broken = self.points_of.shape[1], broken
        self.boxes = np.full((len(points), 4), np.nan, np.float32)

    def __len__(self):
        return len(self.points_of)

    def read(self, i):
        if i in self.broken:
            raise pictures.BrokenPicture(f"{i}.jpg: a truncated JPEG")
        picture = CHART.copy()
        picture[:, :, 2] = i
        return picture

    def names(self):
        return [f"{i}.jpg" for i in range(len(self))]

    def describe(self):
        return f"{len(self)} charted faces"


class Reader:
    """A net that reads off its crop which face it is and where, and says where the points are;
    wrong by `off` px there, and as much again for each time the crop is larger than `wanted` px."""

    name, tasks = "reader.params", ["landmark"]

    def __init__(self, points, scheme, off=0.0, wanted=None, size=32, **facts):
        self.points_of, self.off, self.wanted = np.asarray(points, float), off, wanted
        self.facts = {
            "net": "Lnet_v2",
            "options": {},
            "input": {"size": size},
            "stride": None,
            "points": self.points_of.shape[1],
            "scheme": scheme,
            **facts,
        }

    def __call__(self, data):
        x, y, face = (data / config.input.scale + config.input.mean).transpose(1, 0, 2, 3)
        middle = np.stack([x, y], axis=3).mean(axis=(1, 2))
        size = data.shape[3]
        side = (x[:, 0, -1] - x[:, 0, 0]) / (size - 1) * size
        points = self.points_of[np.rint(face[:, 0, 0]).astype(int)]
        off = self.off + (np.abs(np.log(side / self.wanted)) if self.wanted else 0 * side)
        points = points + (off[:, None] * [0.6, -0.8])[:, None]
        corner = middle - side[:, None] / 2
        return {"landmark": schemes.pack((points - corner[:, None]) / side[:, None, None])}


def some_faces(count, seed=0):
    """Five points each, turned, scaled and moved a little, no two faces alike."""
    rng = np.random.default_rng(seed)
    turns = face_crop.rotation(rng.uniform(-20, 20, count))
    around = (FRONT - 200) * rng.uniform(0.8, 1.2, (count, 1, 1)) + rng.normal(0, 2, (count, 5, 2))
    return around @ turns + rng.uniform(190, 210, (count, 1, 2))


@pytest.fixture(scope="module")
def faces():
    return Charted(some_faces(60), "5")


@pytest.fixture(scope="module")
def measured(faces):
    return EvaluationSet(faces, 0.3, config)


def of_five(net, measured, rule):
    views = comparisons("5", "5", [])
    return landmark_figures.measure(net, rule, measured, views)[0][ALL]


# ---- crops and figures ---------------------------------------------------------------------


@pytest.mark.parametrize("rule", [Rule("bounds", 1.6), Rule("detector", 0.8)])
def test_a_net_that_knows_makes_no_error(faces, measured, rule):
    """In exact and in scattered boxes: crops show what the squares say that they show."""
    found = of_five(Reader(faces.points_of, "5"), measured, rule)
    for boxes in (EXACT, SCATTERED):
        assert max(values.max() for values in found[boxes][NET].by_rule.values()) < 0.002
        assert found[boxes][MEAN_FACE].by_rule["inter-pupil"].mean() > 0.02
    assert max(found[SCATTERED][NET].moved.values()) < 0.002 and found[EXACT][NET].moved is None


def test_errors_by_loop(faces, measured):
    """A net that is 3 px wrong, by hand in the picture: over each face's own sizes."""
    found = of_five(Reader(faces.points_of, "5", off=3), measured, Rule("bounds", 1.5))
    view = comparisons("5", "5", [])[ALL]
    figures = landmarks.figures(found[EXACT][NET], view)
    assert list(figures["by_rule"]) == ["inter-pupil", "box"]  # five points have no eye corners
    errors = {"inter-pupil": [], "box": []}
    crop = []
    for points in faces.points_of[measured.indices].tolist():
        x, y = zip(*points)
        width, height = max(x) - min(x), max(y) - min(y)
        errors["inter-pupil"].append(3 / math.dist(points[0], points[1]))
        errors["box"].append(3 / math.sqrt(width * height))
        crop.append((1.8 + 2.4) / 2 / (1.5 * max(width, height)))
    for rule, values in errors.items():
        row = figures["by_rule"][rule]
        assert row["mean"] == pytest.approx(np.mean(values), rel=2e-3)
        assert row["failures"]["0.08"] == np.mean([value > 0.08 for value in values])
        assert row["groups"]["eyes"] == pytest.approx(np.mean(values), rel=2e-3)
        assert list(row["groups"]) == ["eyes", "nose", "lips"] and len(row["places"]) == 5
    assert figures["per_coordinate"]["l1"] == pytest.approx(np.mean(crop), rel=2e-3)


def test_groups_tell_apart(faces, measured):
    """A net that is wrong about the nose alone."""
    points = faces.points_of.copy()
    points[:, 2] += [4, 0]
    found = of_five(Reader(points, "5"), measured, Rule("bounds", 1.5))[EXACT][NET]
    row = landmarks.figures(found, comparisons("5", "5", [])[ALL])["by_rule"]["inter-pupil"]
    assert row["groups"]["nose"] > 0.05 and max(row["groups"]["eyes"], row["groups"]["lips"]) < 2e-3
    assert row["mean"] == pytest.approx(row["groups"]["nose"] / 5, rel=0.05)
    assert int(np.argmax(row["places"])) == 2


def test_mean_face_by_loop(faces, measured):
    """It is made of the faces that are not measured, each as it is and mirrored."""
    rule, rows = Rule("bounds", 1.4), []
    assert not {*measured.others} & {*measured.indices}
    assert len(measured.others) + len(measured.indices) == len(faces)
    for points in faces.points_of[measured.others].astype(float):
        low, high = points.min(axis=0), points.max(axis=0)
        side = 1.4 * max(high - low)
        placed = (points - (low + high) / 2) / side + 0.5
        rows += [placed, np.stack([1 - placed[[1, 0, 2, 4, 3], 0], placed[[1, 0, 2, 4, 3], 1]], 1)]
    np.testing.assert_allclose(measured.mean_face(rule), np.mean(rows, axis=0), atol=1e-5)
    everything = EvaluationSet(faces, 1, config)
    assert len(everything.indices) == len(everything.others) == len(faces)


def test_boxes_scatter_as_said(faces):
    """By how much in a detector's box, whatever the rule; and alike for all nets."""
    settings = override(config, ["evaluate.box_draws=200", "evaluate.box_scatter=0.2,0.05,0.1"])
    measured = EvaluationSet(faces, 1, settings)
    _, detected = face_crop.boxes_of(faces.points_of, faces.boxes, "detector", "5")
    moved = []
    for rule in (Rule("bounds", 1.5), Rule("detector", 1.0)):
        boxes = measured.boxes(rule)
        exact, scattered = boxes[EXACT][0], boxes[SCATTERED]
        moved.append((scattered[..., :2] + scattered[..., 2:] - exact[:, :2] - exact[:, 2:]) / 2)
        shift = moved[-1] / detected[:, None]
        scale = np.log((scattered[..., 2] - scattered[..., 0]) / (exact[:, 2] - exact[:, 0]))
        assert scale.std() == pytest.approx(0.2, rel=0.05) and abs(scale.mean()) < 0.01
        assert shift.std(axis=(0, 1)) == pytest.approx([0.05, 0.1], rel=0.05)
        assert np.abs(shift.mean(axis=(0, 1))).max() < 0.005
    np.testing.assert_allclose(*moved, atol=1e-9)


def test_points_that_stay_in_the_crop_move_with_the_box(faces, measured):
    """The mean face goes where the box goes: by the scatter's root mean square."""
    settings = override(config, ["evaluate.box_draws=60", "evaluate.box_scatter=0,0.03,0.04"])
    found = of_five(
        Reader(faces.points_of, "5"), EvaluationSet(faces, 0.3, settings), Rule("detector", 1)
    )[SCATTERED]
    points = faces.points_of[measured.indices]
    _, side = face_crop.boxes_of(points, faces.boxes[measured.indices], "detector", "5")
    eyes = np.linalg.norm(points[:, 0] - points[:, 1], axis=1)
    assert found[MEAN_FACE].moved["inter-pupil"] == pytest.approx(
        0.05 * (side / eyes).mean(), rel=0.05
    )


def test_what_the_scheme_lacks_is_not_measured(faces):
    settings = override(config, ["evaluate.box_draws=0"])
    found = of_five(
        Reader(faces.points_of, "5"), EvaluationSet(faces, 0.5, settings), Rule("bounds", 1.5)
    )
    assert list(found) == [EXACT]


# ---- other points than the faces have ------------------------------------------------------


def test_places_in_common():
    """Of 68, 106 and 5 points, by the numbers that iBUG gives them."""
    places = common_places(["migu", "jingdong", "68"], "68")
    assert set(places) >= {"left eye", "nose tip", "left corner of the mouth", "chin"}
    fewer = common_places(["migu", "5"], "68")
    assert set(fewer) == {
        "left eye",
        "right eye",
        "nose tip",
        "left corner of the mouth",
        "right corner of the mouth",
    }
    assert common_places(["68", "68"], "68") == []
    view = comparisons("5", "68", fewer)
    assert list(view) == [SHARED]
    points = np.random.default_rng(0).uniform(0, 1, (7, 3, 68, 2))
    by_name = dict(zip(fewer, np.moveaxis(view[SHARED].of_truth(points), 2, 0)))
    np.testing.assert_allclose(by_name["left eye"], points[:, :, 36:42].mean(axis=2))
    np.testing.assert_allclose(by_name["right corner of the mouth"], points[:, :, 54])
    assert list(comparisons("68", "68", places)) == [ALL, SHARED]
    with pytest.raises(Problem, match="14, 68 have no place in common"):
        common_places(["14"], "68")


def test_two_orders_of_one_face():
    """A net in the one order on faces in the other: the same points, all compared."""
    rng = np.random.default_rng(1)
    migu = rng.uniform(140, 260, (20, 106, 2))
    faces = Charted(migu, "migu")
    net = Reader(schemes.convert(migu, "migu", "jingdong"), "jingdong", size=64)
    measured = EvaluationSet(faces, 0.5, override(config, ["evaluate.box_draws=0"]))
    places = common_places(["jingdong"], "migu")
    views = comparisons("jingdong", "migu", places)
    found, _ = landmark_figures.measure(net, Rule("bounds", 1.2), measured, views)
    for view in (ALL, SHARED):
        assert found[view][EXACT][NET].by_rule["box"].max() < 0.002
    assert found[ALL][EXACT][NET].by_rule["box"].shape == (1, len(measured.indices), 106)


# ---- crops that suit a net -----------------------------------------------------------------


def test_best_crop_is_found():
    """A net that is the better, the nearer its crop is to 150 px; and a rule of each kind tried."""
    alike = Charted(np.stack([FRONT] * 40), "5")
    measured = EvaluationSet(alike, 0.3, override(config, ["evaluate.box_scatter=0.02,0.01,0.01"]))
    view = comparisons("5", "5", [])[ALL]
    rule, tried = landmark_crops.best(Reader(alike.points_of, "5", wanted=150), measured, view)
    (_, side) = face_crop.boxes_of(alike.points_of[:1], alike.boxes[:1], rule.box, "5")
    assert rule.side * side[0] == pytest.approx(150, rel=0.06)
    assert {one.box for one, _ in tried} == {"bounds", "detector"} and len(tried) == 30
    assert min(error for _, error in tried) == dict(tried)[rule]
    with pytest.raises(Problem, match="--held-out below 1"):
        landmark_crops.best(None, EvaluationSet(alike, 1, config), view)


def test_a_nets_own_crop():
    assert landmark_crops.usual(
        Reader(FRONT[None], "5", crop={"box": "detector", "scale": 0.9}), []
    ) == Rule("detector", 0.9)
    assert landmark_crops.usual(Reader(FRONT[None], "5"), []) == Rule("detector", 1.0)
    assert landmark_crops.usual(Reader(np.zeros((1, 68, 2)), "68"), []) == Rule("detector", 1.0)
    assert landmark_crops.usual(Reader(FRONT[None], "5"), ["crop.preset=train-mtcnn"]).box == "half"
    for crop in ({}, {"box": "bounds"}, {"box": "eyes", "scale": 1}, {"box": "list", "scale": -1}):
        with pytest.raises(Problem, match="reader.params says that it was trained on crops of"):
            landmark_crops.usual(Reader(FRONT[None], "5", crop=crop), [])


@pytest.mark.parametrize(
    "text, says",
    [
        ("bounds", "write best, usual, or a box"),
        ("bounds:", "crop.plain="),
        ("bounds:x", "a number"),
        ("bounds:0", "more than 0"),
        ("eyes:1", "bounds, half, detector or list"),
    ],
)
def test_crops_that_are_none(text, says):
    with pytest.raises(Problem, match=says):
        landmark_crops.parse(text, config)
    assert landmark_crops.parse("best", config) == landmark_crops.BEST
    assert landmark_crops.parse("detector:1.1", config) == Rule("detector", 1.1)


# ---- the program ---------------------------------------------------------------------------


def run(faces, opened, out, share=0.3):
    """evaluate() of nets, crops by one rule."""
    dataset = EvaluationSet(faces, share, config)
    return landmarks.evaluate(opened, [Rule("bounds", 1.6)] * len(opened), dataset, out, config)


def test_figures_pictures_and_words(capsys, tmp_path, monkeypatch):
    """Two nets, of which one gives other points than the faces have."""
    points = some_faces(60)
    faces = Charted(points, "5", broken=(0, 1, 2, 3, 4, 5, 6, 7))
    many = np.zeros((60, 68, 2))
    for rows, here in schemes.shared("68", "5").values():
        many[:, list(rows)] = points[:, list(here)] + [1, 0]
    made = [Reader(points, "5", off=2), Reader(many, "68")]
    faces.read = lambda i, read=faces.read: np.clip(read(i), 0, 255).astype(np.uint8)
    with monkeypatch.context() as patch:  # killed before the last picture, it isn't done
        patch.setattr(landmarks.landmark_pictures, "worst", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            run(faces, made, tmp_path / "out")
    assert not (tmp_path / "out" / "landmarks.json").exists()
    capsys.readouterr()
    result = run(faces, made, tmp_path / "out")
    printed = capsys.readouterr().out
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        "landmarks.json",
        "errors-all.png",
        "errors-shared.png",
        "faces-1.png",
        "faces-2.png",
    }
    assert read_json(tmp_path / "out" / "landmarks.json") == result
    assert list(result["nets"][0]["views"]) == [ALL, SHARED]
    assert list(result["nets"][1]["views"]) == [SHARED]
    skipped = len(result["skipped"])
    assert 0 < skipped < 8 and f"{skipped} left out: their pictures can't be read" in printed
    assert all(f"  left out {reason}\n" in printed for reason in result["skipped"])
    row = result["nets"][0]["views"][ALL][EXACT][NET]["by_rule"]["inter-pupil"]
    line = next(line for line in printed.splitlines() if line.startswith("inter-pupil"))
    assert line.split()[1:5] == ["net", "1", "exact", f"{row['mean']:.4f}"]
    assert "5 places in common: left eye, right eye, nose tip" in printed


def test_what_a_net_was_trained_on_is_not_measured(capsys, tmp_path):
    """Its record says which pictures it has not seen: fewer than the list's own rule holds out."""
    points = some_faces(60)
    faces = Charted(points, "5")
    faces.read = lambda i, read=faces.read: np.clip(read(i), 0, 255).astype(np.uint8)
    rules = [rule_of(faces.names(), share, 0) for share in (0.2, 0.1)]
    made = [Reader(points, "5"), *(Reader(points, "5", held_out=[rule]) for rule in rules)]
    for compared, count in ((made[:1], 18), (made[:2], 12), (made, 6)):
        result = run(faces, compared, tmp_path / str(count))
        assert (result["faces"], result["trained_on"]) == (count, 18 - count)
        left_out = f"left out {18 - count} more: a net was trained on their pictures"
        assert (left_out in capsys.readouterr().out) == (count < 18)
    measured = EvaluationSet(faces, 0.3, config)
    assert measured.leave_out_trained_on(made) == 12
    assert is_held_out([f"{i}.jpg" for i in measured.indices], rules[1]).all()
    assert measured.draws.shape[1] == 6
    assert run(faces, made, tmp_path / "all", share=1)["faces"] == 60
    seen = [Reader(points, "5", held_out=[{"seed": 0, "bound": -1}])]
    with pytest.raises(Problem, match="none was held out from the training of every net"):
        run(faces, seen, tmp_path / "none")


def has(picture, color):
    return bool((np.abs(picture.astype(int) - color).max(axis=2) < 12).any())


def test_points_are_drawn_where_they_are(tmp_path):
    """A true point in the first quarter of the crop, found in the last, a line from one to the
    other; more faces than a row holds."""
    crops = np.zeros((7, 48, 48, 3), np.uint8)
    truth, found = np.full((7, 1, 2), 0.25), np.full((7, 1, 2), 0.75)
    landmark_pictures.sheet(
        tmp_path / "s.png",
        [("some", crops, truth, found, ["x"] * 7), ("none", crops[:0], truth[:0], found[:0], [])],
        ["one", "two"],
    )
    picture = cv2.imread(str(tmp_path / "s.png"))
    cell, title = landmark_pictures.CELL, draw.LINE + 8
    top = 3 * draw.LINE + 8 + title
    assert picture.shape == (top + 2 * cell + title, landmark_pictures.COLUMNS * cell, 3)
    quarter, middle = cell // 4, cell // 2
    for row, column in ((0, 0), (0, 5), (1, 0)):
        tile = picture[top + row * cell :, column * cell :][:cell, :cell]
        for at, color in ((quarter, draw.GREEN), (middle, draw.YELLOW), (3 * quarter, draw.RED)):
            assert has(tile[at - 1 : at + 1, at - 1 : at + 1], color)
        assert not has(tile[:middle, :middle], draw.RED) and not has(tile[middle + 2 :], draw.GREEN)
    assert not has(picture[top + cell : top + 2 * cell, cell:], draw.GREEN)


def test_worst_faces_come_first(monkeypatch, tmp_path, faces):
    shown = []
    monkeypatch.setattr(landmark_pictures, "sheet", lambda path, parts, legend: shown.append(parts))
    off = np.linspace(0, 8, len(faces))[:, None, None]
    result = run(faces, [Reader(faces.points_of + off, "5")], tmp_path / "out", 0.9)
    worst, middle = ([float(word) for word in part[4]] for part in shown[0])
    assert worst == sorted(worst, reverse=True) and len(worst) == landmark_pictures.SHOWN
    row = result["nets"][0]["views"][ALL][EXACT][NET]["by_rule"]["inter-pupil"]
    assert min(worst) > row["median"] and min(middle) <= row["median"] <= max(middle)


@pytest.fixture(scope="module")
def five(drawn_set):
    """A list of faces with five points in drawn pictures."""
    return drawn_set / "landmarks" / "train_5.txt"


@pytest.fixture(scope="module")
def lnet(tmp_path_factory):
    folder = tmp_path_factory.mktemp("lnet")
    return checkpoint.save(folder, trained("Lnet_v2", base=8), 1, {})


def test_the_program(capsys, tmp_path, five, lnet):
    """On drawn faces in their pictures, against a loop over them; --landmarks is a name for it."""
    out = tmp_path / "out"
    printed, status, errors = evaluated(
        capsys,
        "--landmarks",
        "--weights",
        lnet,
        "--crop",
        "bounds:1.5",
        "--faces",
        five,
        "--held-out",
        1,
        "--out",
        out,
        "evaluate.box_draws=2",
    )
    assert status == 0, errors
    result = read_json(out / "landmarks.json")
    net, values = nets.open_net(lnet), []
    from prepare_data.points import sets as points

    faces = Pictures(points.open_set(five))
    for face in range(len(faces)):
        places = faces.points_of[face].astype(float)
        low, high = places.min(axis=0), places.max(axis=0)
        middle, half = (low + high) / 2, 0.75 * max(high - low)
        square = np.concatenate([middle - half, middle + half])
        crop = face_crop.crop(faces.read(face), square, 0, 48)
        predicted = schemes.unpack(net(pictures.to_input(crop[None]))["landmark"])[0]
        off = np.linalg.norm(square[:2] + predicted * 2 * half - places, axis=1)
        values.append(off.mean() / math.dist(places[0], places[1]))
    row = result["nets"][0]["views"][ALL][EXACT][NET]["by_rule"]["inter-pupil"]
    assert row["mean"] == pytest.approx(np.mean(values), rel=1e-5)
    assert row["faces"] == result["faces"] == len(values) and f"{row['mean']:.4f}" in printed
    assert result["nets"][0]["views"][ALL][SCATTERED][NET]["by_rule"]["box"]["moved"] > 0


def test_bad_input_is_told(capsys, tmp_path, five, lnet):
    def fails(*more, net=(lnet,), faces=five):
        printed, status, errors = evaluated(
            capsys,
            "landmarks",
            "--weights",
            *net,
            "--faces",
            faces,
            "--out",
            tmp_path / "out",
            *more,
        )
        assert status == 2 and len(errors.splitlines()) == 1 and not (tmp_path / "out").exists()
        return errors

    assert "--held-out 0.0: it must be over 0" in fails("--held-out", 0)
    assert "names 2 crops for 1 nets" in fails("--crop", "best,bounds:1.2")
    assert "bounds:1.25" in fails("--crop", "bounds")
    assert "nothing" in fails(faces=tmp_path / "nothing")
    pnet = checkpoint.save(tmp_path, trained("Pnet20_v0"), 1, {})
    assert "a net that takes crops and gives points" in fails(net=[pnet])
    many = checkpoint.save(tmp_path, trained("Lnet106_64_v3", base=4), 1, {})
    assert "doesn't say in which order its 106 points are" in fails(net=[many])
    lost = checkpoint.save(tmp_path / "lost", spoilt(), 1, {})
    assert "values that are no numbers" in fails(net=[lost])
    with_nothing = tmp_path / "empty.txt"
    with_nothing.write_text("")
    assert "empty" in fails(faces=with_nothing)


def spoilt():
    made = trained("Lnet_v2", base=4)
    made.arguments[next(name for name in made.arguments if name.endswith("_beta"))][:] = np.nan
    return made


def test_points_that_are_no_numbers(faces, measured):
    points = faces.points_of.copy()
    points[measured.indices[3], 1] = np.nan
    with pytest.raises(Problem, match="reader.params gives points that are no numbers"):
        of_five(Reader(points, "5"), measured, Rule("bounds", 1.5))


def test_nothing_to_measure(faces):
    with pytest.raises(Problem, match="none of the 60 faces to measure can be read; the first: 0"):
        EvaluationSet(Charted(faces.points_of, "5", broken=range(60)), 1, config)

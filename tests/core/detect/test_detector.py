"""The whole detector: nets from files, against a slow one written out in loops; whatever it is
given."""

import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np
import onnx
import pytest
from onnx import helper
from oracles import slow_nms
from trained import sensible, trained

from config import config
from core.detect.detector import FaceDetector, open_stage
from core.detect.mxnet_net import MxNet
from core.formats import checkpoint, fuse, onnx_file
from facelet import boxes as geometry
from facelet import cascade
from facelet import picture as pictures
from facelet.console import Problem
from facelet.faces import Faces
from facelet.nets import write_mode
from symbols.graph import shapes

ROOT = Path(__file__).resolve().parents[3]
NETS = {
    "pnet": ("Pnet20_v1", {}),
    "rnet": ("Rnet_v1", {}),
    "onet": ("Onet_v1", {"landmark": True}),
    "bare": ("Onet_v2", {}),
    "lnet": ("Lnet_v2", {"base": 8}),
    "lnet106": ("Lnet106_64_v3", {"base": 8}),
}
CASCADE = dict(pnet="pnet", rnet="rnet", onet="onet")
SETTINGS = dict(thresholds=(0.8, 0.5, 0.5), min_face=40)  # some dozens of boxes at each stage


@pytest.fixture(scope="module")
def photo(drawn_set):
    """Path of a drawn picture."""
    return sorted(drawn_set.rglob("*.jpg"))[1]


@pytest.fixture(scope="module")
def scene(photo):
    return pictures.read(photo)


@pytest.fixture(scope="module")
def checkpoints(scene):
    return {key: sensible(scene, *net) for key, net in NETS.items()}


def write_onnx(path, made):
    graph, size = fuse.prepared(made.graph(), made.spec.size), made.spec.size
    path.write_bytes(
        onnx_file.model(graph, made.facts(), shapes(graph, size, size)).SerializeToString()
    )
    return path


@pytest.fixture(scope="module")
def params(checkpoints, tmp_path_factory):
    """Paths of the nets as checkpoints."""
    folder = tmp_path_factory.mktemp("params")
    return {key: checkpoint.save(folder, made, 1, {}) for key, made in checkpoints.items()}


@pytest.fixture(scope="module")
def models(checkpoints, tmp_path_factory):
    """Paths of the nets as ONNX models."""
    folder = tmp_path_factory.mktemp("models")
    return {key: write_onnx(folder / f"{key}.onnx", made) for key, made in checkpoints.items()}


def detector(paths, stages=CASCADE, **settings):
    """stages -- which of the nets is which"""
    return FaceDetector(
        **{stage: paths[key] for stage, key in stages.items()}, **{**SETTINGS, **settings}
    )


def proper(faces, points=None):
    """Whether faces are arrays as Faces promises them, best first."""
    count = len(faces)
    assert isinstance(faces, Faces)
    assert faces.boxes.shape == (count, 4) and faces.boxes.dtype == np.float32
    assert faces.scores.shape == (count,) and faces.scores.dtype == np.float32
    assert np.all(faces.boxes[:, 2:] > faces.boxes[:, :2])
    assert np.all(np.diff(faces.scores) <= 0) and np.all((0 < faces.scores) & (faces.scores <= 1))
    if points is None:
        assert faces.landmarks is None
    else:
        assert faces.landmarks.shape == (count, points, 2)
        assert faces.landmarks.dtype == np.float32 and np.isfinite(faces.landmarks).all()
    return True


def same(one, other, scores=0.0, places=0.0):
    """Whether faces are the same ones in the same order, up to tolerances."""
    assert len(one) == len(other)
    np.testing.assert_allclose(one.scores, other.scores, rtol=0, atol=scores)
    np.testing.assert_allclose(one.boxes, other.boxes, rtol=0, atol=places)
    assert (one.landmarks is None) == (other.landmarks is None)
    if one.landmarks is not None:
        np.testing.assert_allclose(one.landmarks, other.landmarks, rtol=0, atol=places)
    return True


# ---- what comes out ------------------------------------------------------------------------

COMBINATIONS = [
    (dict(pnet="pnet"), None),
    (dict(pnet="pnet", rnet="rnet"), None),
    (dict(pnet="pnet", rnet="rnet", onet="bare"), None),
    (CASCADE, 5),
    (dict(CASCADE, landmark="lnet"), 5),
    (dict(CASCADE, landmark="lnet106"), 106),
    (dict(pnet="pnet", rnet="rnet", onet="bare", landmark="lnet106"), 106),
    (dict(pnet="pnet", rnet="rnet", landmark="onet"), 5),  # an Onet as a net for landmarks
    (dict(pnet="pnet", landmark="lnet106"), 106),
]


@pytest.mark.parametrize("stages, points", COMBINATIONS)
def test_arrays_of_every_combination(models, scene, stages, points):
    found = detector(models, stages).detect(scene)
    assert len(found) > 4 and proper(found, points)
    none = detector(models, stages, thresholds=(1, 1, 1)).detect(scene)
    assert len(none) == 0 and proper(none, points)
    if len(stages) > 2:  # boxes, and the last net turns them all down
        none = detector(
            models, stages, thresholds=(0.8, 0.5, 1) if "onet" in stages else (0.8, 1, 0)
        ).detect(scene)
        assert len(none) == 0 and proper(none, points)


def test_stages_one_after_another(models, scene):
    whole = detector(models, dict(CASCADE, landmark="lnet106"))
    stages = dict(whole.stages(scene))
    assert list(stages) == ["pnet", "rnet", "onet", "landmark"]
    counts = [len(faces) for faces in stages.values()]
    assert counts[0] > counts[1] > counts[2] == counts[3] > 10
    for name, points in (("pnet", None), ("rnet", None), ("onet", 5), ("landmark", 106)):
        assert proper(stages[name], points)
    assert same(stages["landmark"], whole.detect(scene), 1e-5, 0.01)
    for until, name in ((1, "pnet"), (2, "rnet"), (3, "onet")):
        part = dict(list(CASCADE.items())[:until])
        assert same(detector(models, part).detect(scene), stages[name], 1e-5, 0.01)


def test_only_the_best(models, scene):
    everyone = detector(models).detect(scene)
    for count in (1, 7, 10**9):
        best = detector(models, max_faces=count).detect(scene)
        assert same(best, everyone[:count])
        assert proper(best, 5)


# ---- what goes in --------------------------------------------------------------------------


def test_paths_bytes_and_arrays(models, photo, scene):
    finder = detector(models)
    found = finder.detect(scene)
    for source in (photo, str(photo), photo.read_bytes()):
        assert same(finder.detect(source), found)
    assert same(finder.detect(scene[:, :, ::-1], "RGB"), found)
    assert same(finder.detect(np.dstack([scene, scene[:, :, :1]])), found)
    assert same(finder.detect(scene.astype(np.uint16) * 257), found)
    grey = cv2.cvtColor(scene, cv2.COLOR_BGR2GRAY)
    assert same(finder.detect(grey), finder.detect(np.dstack([grey] * 3), order="RGB"))
    with pytest.raises(pictures.BrokenPicture, match="gone.jpg"):
        finder.detect("gone.jpg")


def test_lists_are_one_after_another(models, photo, scene):
    """Pictures of several sizes, with and without faces; a net remembers nothing."""
    several = [scene, photo, scene[100:300, 50:350], np.zeros((9, 9, 3), np.uint8), scene[:, ::-1]]
    finder = detector(models, dict(CASCADE, landmark="lnet106"))
    found = finder.detect(several)
    assert isinstance(found, list) and len(found) == 5
    other = detector(models, dict(CASCADE, landmark="lnet106"))
    for faces, picture in zip(found[::-1], several[::-1]):
        assert same(faces, other.detect(picture))
    assert len(found[3]) == 0 < len(found[2]) < len(found[0])
    assert finder.detect([]) == [] and len(finder.detect((scene,))) == 1
    given = several[0].copy()
    finder.detect(given)
    assert np.array_equal(given, several[0])


def test_files_of_either_kind_and_either_backend(params, models, scene):
    stages = dict(CASCADE, landmark="lnet106")
    found = detector(params, stages).detect(scene)
    assert len(found) > 10
    assert same(detector(models, stages).detect(scene), found, 1e-5, 1e-3)
    mixed = {**params, "rnet": models["rnet"], "lnet106": models["lnet106"]}
    assert same(detector(mixed, stages, threads=2).detect(scene), found, 1e-5, 1e-3)
    by_mxnet = detector(params, stages, backend="mxnet")
    assert all(isinstance(net, MxNet) for net in by_mxnet.nets.values())
    faces = by_mxnet.detect(scene)
    assert proper(faces, 106) and same(faces, found, 1e-4, 0.01)
    with pytest.raises(Problem, match="pnet.onnx is an ONNX model: MXNet runs .params files"):
        detector(models, backend="mxnet")
    with pytest.raises(Problem, match="backend is 'cuda': it must be one of onnxruntime, mxnet"):
        detector(models, backend="cuda")


@pytest.mark.parametrize("backend", ["onnxruntime", "mxnet"])
def test_threads_may_share_a_detector(params, scene, backend):
    """Each of several finds in its pictures what one alone does."""
    shared = detector(params, dict(CASCADE, landmark="lnet106"), backend=backend)
    size = min(scene.shape[:2])
    views = [np.ascontiguousarray(scene[i : i + size - 8, : size - 8]) for i in range(8)]
    alone = [shared.detect(view) for view in views]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(shared.detect, views * 2))
    assert len({found.boxes.tobytes() for found in alone}) == len(views)
    for found, expected in zip(together, alone * 2):
        assert same(found, expected, 0, 0)


# ---- against a slow one --------------------------------------------------------------------


def slow_input(picture):
    return ((picture.astype(np.float64) - 127.5) / 128).transpose(2, 0, 1)[None].astype(np.float32)


def slow_pnet(picture, net, settings):
    """[(box, score)] of a Pnet, each window by itself."""
    height, width = picture.shape[:2]
    boxes, scores, scale = [], [], 20 / settings.min_face
    while min(int(width * scale), int(height * scale)) >= 20:
        across, down = int(width * scale), int(height * scale)
        out = net(slow_input(cv2.resize(picture, (across, down), interpolation=cv2.INTER_LINEAR)))
        places = [
            (row, column)
            for row, column in np.ndindex(*out["cls"].shape[2:])
            if out["cls"][0, 1, row, column] > settings.thresholds[0]
        ]
        windows = [[4 * column, 4 * row, 4 * column + 20, 4 * row + 20] for row, column in places]
        kept = slow_nms(
            windows,
            [float(out["cls"][0, 1, row, column]) for row, column in places],
            settings.nms_scale,
        )
        for row, column in (places[i] for i in kept):
            window = [
                4 * column * width / across - cascade.WINDOW_MARGIN,
                4 * row * height / down - cascade.WINDOW_MARGIN,
                (4 * column + 20) * width / across + cascade.WINDOW_MARGIN,
                (4 * row + 20) * height / down + cascade.WINDOW_MARGIN,
            ]
            box = slow_moved(window, out["bbox"][0, :, row, column])
            if box[2] > box[0] and box[3] > box[1]:
                boxes.append(box)
                scores.append(float(out["cls"][0, 1, row, column]))
        scale *= settings.factor
    return [(boxes[i], scores[i], None) for i in slow_nms(boxes, scores, settings.nms[0])]


def slow_moved(box, offsets):
    width, height = box[2] - box[0], box[3] - box[1]
    return [
        box[0] + float(offsets[0]) * width,
        box[1] + float(offsets[1]) * height,
        box[2] + float(offsets[2]) * width,
        box[3] + float(offsets[3]) * height,
    ]


def slow_square(box):
    side = max(box[2] - box[0], box[3] - box[1], 1)
    left, top = round((box[0] + box[2] - side) / 2), round((box[1] + box[3] - side) / 2)
    return [left, top, left + round(side), top + round(side)]


def slow_look(picture, square, net, size):
    out = net(slow_input(pictures.crop(picture, square, size)))
    return {task: values[0] for task, values in out.items()}


def slow_points(square, values):
    side, count = square[2] - square[0], len(values) // 2
    pairs = (
        [(values[i], values[5 + i]) for i in range(5)]
        if count == 5
        else [(values[2 * i], values[2 * i + 1]) for i in range(count)]
    )
    return [
        [square[0] + side * float(x) - 0.5, square[1] + side * float(y) - 0.5] for x, y in pairs
    ]


def slow_stages(picture, nets, settings):
    """Faces, [(box, score, points)], after each stage."""
    faces = slow_pnet(picture, nets["pnet"], settings)
    yield faces
    for number, (stage, size) in enumerate((("rnet", 24), ("onet", 48)), 1):
        kept, squares = [], []
        for box, _, _ in faces:
            square = slow_square(box)
            out = slow_look(picture, square, nets[stage], size)
            box = slow_moved(square, out["bbox"])
            if out["cls"][1] > settings.thresholds[number] and box[2] > box[0] and box[3] > box[1]:
                points = slow_points(square, out["landmark"]) if "landmark" in out else None
                kept.append((box, float(out["cls"][1]), points))
                squares.append(square)
        scores = [score for _, score, _ in kept]
        chosen = (
            slow_nms(squares, scores, settings.nms[1])
            if number == 1
            else slow_nms([box for box, _, _ in kept], scores, settings.nms[2], "minimum")
        )
        faces = [kept[i] for i in chosen]
        yield faces
    yield [
        (
            box,
            score,
            slow_points(
                slow_square(box),
                slow_look(picture, slow_square(box), nets["landmark"], 64)["landmark"],
            ),
        )
        for box, score, _ in faces
    ]


def matched(faces, expected, scores, places):
    """How many of the expected faces are among those found, one to one and up to tolerances."""
    left, count = set(range(len(faces))), 0
    for box, score, points in expected:
        near = min(left, key=lambda i: np.abs(faces.boxes[i] - box).max(), default=None)
        if (
            near is None
            or np.abs(faces.boxes[near] - box).max() > places
            or abs(faces.scores[near] - score) > scores
            or points is not None
            and np.abs(faces.landmarks[near] - points).max() > places
        ):
            continue
        left.remove(near)
        count += 1
    return count


@pytest.fixture(scope="module")
def slow(checkpoints, scene):
    """What the slow detector finds in the drawn picture, by stage."""
    settings = type(config.detect)({**config.detect, **SETTINGS})
    nets = {
        stage: MxNet(checkpoints[key]) for stage, key in dict(CASCADE, landmark="lnet106").items()
    }
    found = list(slow_stages(scene, nets, settings))
    assert len(found[0]) > 60 and len(found[1]) > 40 and len(found[2]) > 12
    return dict(zip(("pnet", "rnet", "onet", "landmark"), found))


def test_the_whole_cascade(params, scene, slow, monkeypatch):
    """Face by face, after each stage, with crops cut out one by one and so alike."""
    monkeypatch.setattr(
        pictures,
        "crops",
        lambda picture, squares, size: np.stack(
            [pictures.crop(picture, square, size) for square in squares]
        ),
    )
    stages = detector(params, dict(CASCADE, landmark="lnet106")).stages(scene)
    for name, faces in stages:
        assert len(faces) == len(slow[name]), name
        assert matched(faces, slow[name], 1e-4, 0.02) == len(faces), name
        np.testing.assert_allclose(faces.scores, [score for _, score, _ in slow[name]], atol=1e-4)


def test_crops_all_at_once_make_little_difference(params, scene, slow):
    """Crops differ by a few grey levels (see test_picture), which a net by chance makes more of
    than a trained one: some faces about a threshold come and go."""
    stages = dict(detector(params, dict(pnet="pnet", rnet="rnet")).stages(scene))
    assert matched(stages["pnet"], slow["pnet"], 1e-4, 0.02) == len(slow["pnet"])
    assert abs(len(stages["rnet"]) - len(slow["rnet"])) <= 0.1 * len(slow["rnet"])
    assert matched(stages["rnet"], slow["rnet"], 0.05, 2) >= 0.8 * len(slow["rnet"])


# ---- single stages by nets that are a few lines --------------------------------------------


class Net:
    """A net that is a function of crops (N, 3, size, size) for each task."""

    def __init__(self, size, **outputs):
        self.outputs, self.tasks = outputs, list(outputs)
        self.facts = {"input": {"size": size}, "scheme": None}

    def __call__(self, data):
        assert data.shape[1:] == (3, *[self.facts["input"]["size"]] * 2)
        return {
            task: np.asarray(function(data), np.float32) for task, function in self.outputs.items()
        }


class Proposing:
    """A Pnet that fires, in pictures as they are, at given windows; `shift`, in
    windows, is how far to the left and up the faces are."""

    facts = {"cell": 20, "stride": 4}

    def __init__(self, *places, shift=0.0):
        self.places, self.shift = places, shift

    def __call__(self, data):
        rows, columns = ((side - 20) // 4 + 1 for side in data.shape[2:])
        prob = np.zeros((1, 1, rows, columns), np.float32)
        for number, (row, column) in enumerate(self.places):
            prob[0, 0, row, column] = 0.9 - number / 100
        return {"cls": prob, "bbox": np.full((1, 4, rows, columns), -self.shift, np.float32)}


def with_nets(models, **nets):
    made = FaceDetector(models["pnet"], min_face=20, factor=0.1)
    made.nets = nets
    return made


def brightest(data):
    """The centre of what is bright in each crop, in units of its side."""
    light = data.mean(axis=1) + 127.5 / 128
    steps = (np.arange(light.shape[2]) + 0.5) / light.shape[2]
    return (
        np.stack(
            [(light * steps).sum(axis=(1, 2)), (light * steps[:, None]).sum(axis=(1, 2))], axis=1
        )
        / light.sum(axis=(1, 2))[:, None]
    )


def test_points_are_where_they_are_in_the_picture(models):
    """The pixel of column 51 and row 38 is the point (51, 38), from whatever square it is seen,
    also from one that reaches over the border."""
    # A net that takes two pixels for each of the square keeps the middle of what is bright.
    net = Net(2 * int(20 + 2 * cascade.WINDOW_MARGIN), landmark=brightest)
    for x, y, shift in ((51, 38, 0), (12, 9, 0), (101, 70, 0), (8, 7, 0.4), (105, 74, -0.4)):
        picture = np.zeros((80, 110, 3), np.uint8)
        picture[y, x] = 255
        places = [
            (row, column)
            for row in range(16)
            for column in range(23)
            if 3 < x - 4 * column + 21 * shift < 17 and 3 < y - 4 * row + 21 * shift < 17
        ]
        finder = with_nets(models, pnet=Proposing(*places, shift=shift), landmark=net)
        finder = finder.changed(nms_scale=1.0, nms=[1.0] * 3)
        faces = finder.detect(picture)
        assert len(faces) == len(places) >= 2
        assert shift <= 0 or faces.boxes[:, :2].min() < -5
        np.testing.assert_allclose(faces.landmarks, [[[x, y]]] * len(faces), atol=0.01)


def test_five_points_and_others_are_held_differently(models):
    """x1..x5 y1..y5; x1 y1 x2 y2 ..."""
    values = {5: [0, 1, 0.5, 0, 1, 0, 0, 0.5, 1, 1], 3: [0, 0.25, 1, 0.5, 0.75, 1]}
    places = {5: [(0, 0), (1, 0), (0.5, 0.5), (0, 1), (1, 1)], 3: [(0, 0.25), (1, 0.5), (0.75, 1)]}
    picture = np.zeros((60, 60, 3), np.uint8)
    for count in (5, 3):
        finder = with_nets(
            models,
            pnet=Proposing((2, 3)),
            landmark=Net(24, landmark=lambda data: [values[count]] * len(data)),
        )
        faces = finder.detect(picture)
        margin = cascade.WINDOW_MARGIN
        left, top, side = 12 - margin, 8 - margin, 20 + 2 * margin
        corner = np.round([left, top])
        np.testing.assert_allclose(
            faces.landmarks, [corner + np.array(places[count]) * np.round(side) - 0.5], atol=1e-5
        )


@pytest.mark.parametrize(
    "name, options, points, scale",
    [
        ("Lnet_v2", {"base": 8}, 5, None),
        ("Lnet106_64_v3", {"base": 8}, 106, None),
        ("Lnet106_64r", {"points": 7}, 7, None),
        ("Lnet_v2", {"base": 8}, 5, 1.5),
    ],
)
def test_points_of_a_net_that_knows_but_one_answer(
    tmp_path, models, scene, name, options, points, scale
):
    """A net out of a file, of whose landmark layer the shift is left: always the same points, in
    squares of as many sides of the box as its manifest says."""
    made = trained(name, **options)
    norm = made.spec.heads[0].bn
    where = np.random.default_rng(1).uniform(0, 1, (points, 2)).astype(np.float32)
    made.arguments[f"{norm}_gamma"][:] = 0
    made.arguments[f"{norm}_beta"][:] = (where.T if points == 5 else where).reshape(-1)
    more = {"crop": {"box": "detector", "scale": scale}} if scale else {}
    finder = FaceDetector(
        models["pnet"], landmark=checkpoint.save(tmp_path, made, 1, more), **SETTINGS
    )
    faces = finder.detect(scene)
    assert len(faces) > 40 and proper(faces, points)
    for box, found in zip(faces.boxes, faces.landmarks):
        x1, y1, x2, y2 = map(float, box)
        wider = max(x2 - x1, y2 - y1) * ((scale or 1) - 1) / 2
        left, top, right, _ = slow_square([x1 - wider, y1 - wider, x2 + wider, y2 + wider])
        # corners and sides are rounded: those of a square by a hair otherwise to another pixel
        near = 1e-3 if scale is None else 2.001
        np.testing.assert_allclose(
            found, np.array([left, top]) + where * (right - left) - 0.5, atol=near
        )


def test_boxes_turned_inside_out_are_dropped(models):
    """By an Rnet as by an Onet, and none of the others goes with them."""
    picture = np.zeros((60, 200, 3), np.uint8)
    places = [(0, 0), (4, 12), (3, 24), (2, 36)]
    shifts = np.array([[0, 0, -1.5, 0], [0, 0, 0, 0], [0.5, 0.5, -0.5, 0], [0, 0, 0.1, 0.1]])
    zero = Net(
        24,
        cls=lambda data: np.full((len(data), 1), 0.9),
        bbox=lambda data: np.zeros((len(data), 4)),
    )
    for stage in ("rnet", "onet"):
        net = Net(
            24,
            cls=lambda data: np.linspace(0.99, 0.9, len(data))[:, None],
            bbox=lambda data: shifts,
        )
        nets = {"pnet": Proposing(*places), "rnet": zero, stage: net}
        faces = with_nets(models, **nets).detect(picture)
        assert proper(faces) and len(faces) == 2
        assert np.allclose(faces.scores, [0.96, 0.9])


@pytest.mark.parametrize(
    "columns, shifts, kept",
    [
        # squares apart, moved to one place: two places an Rnet looked at, one face of an Onet
        ([0, 4], [[0.4, 0, 0.4, 0], [-0.4, 0, -0.4, 0]], {"rnet": 2, "onet": 1}),
        # nearly one square, moved apart
        ([0, 1], [[-0.6, 0, -0.6, 0], [0.6, 0, 0.6, 0]], {"rnet": 1, "onet": 2}),
        # moved into another: little is shared of both, all of the smaller one
        ([0, 4], [[0, 0, 0, 0], [-0.6, 0.1, -1.2, -0.6]], {"rnet": 2, "onet": 1}),
    ],
)
def test_what_tells_faces_apart(models, columns, shifts, kept):
    """After an Rnet the IoU of the squares it looked at, after an Onet how much of the smaller
    box is shared."""

    def net(shifts):
        return Net(
            24,
            cls=lambda data: np.linspace(0.99, 0.9, len(data))[:, None],
            bbox=lambda data: shifts[: len(data)],
        )

    pnet, still = Proposing(*((2, column) for column in columns)), net([[0] * 4] * 2)
    for stage, count in kept.items():
        finder = with_nets(models, **{"pnet": pnet, "rnet": still, stage: net(shifts)})
        finder = finder.changed(nms_scale=0.9, nms=(0.9, 0.9 if stage == "onet" else 0.5, 0.5))
        faces = finder.detect(np.zeros((60, 200, 3), np.uint8))
        assert len(faces) == count and proper(faces)


# ---- what is refused -----------------------------------------------------------------------


def refused(says, *args, **settings):
    with pytest.raises(Problem, match=says) as caught:
        FaceDetector(*args, **settings)
    assert "\n" not in str(caught.value)


def test_nets_that_cannot_be_that_stage(models, params):
    for paths in (models, params):
        for stages, says in (
            (
                dict(pnet="rnet"),
                "can't be the pnet: it holds Rnet_v1, which takes crops and gives cls, bbox",
            ),
            (
                dict(pnet="pnet", rnet="pnet"),
                "can't be the rnet: it holds Pnet20_v1, which slides over pictures",
            ),
            (dict(pnet="pnet", rnet="lnet"), "can't be the rnet: .* gives landmark$"),
            (dict(pnet="pnet", rnet="rnet", onet="lnet106"), "can't be the onet"),
            (dict(pnet="pnet", landmark="bare"), "can't be the landmark: it holds Onet_v2"),
            (dict(pnet="pnet", landmark="pnet"), "can't be the landmark"),
            (dict(pnet="pnet", onet="onet"), "an onet needs an rnet"),
        ):
            refused(says, **{stage: paths[key] for stage, key in stages.items()})
            if "onet needs" not in says:
                stage, key = list(stages.items())[-1]
                with pytest.raises(Problem, match=says):
                    open_stage(stage, paths[key])


def test_a_net_of_heat_maps_gives_no_points(tmp_path):
    path = checkpoint.save(tmp_path, checkpoint.initial("L14_heatmap", {}, 0, 0.25), 1, {})
    with pytest.raises(Problem, match="can't be the landmark: it holds L14_heatmap.*heatmap$"):
        open_stage("landmark", path, "mxnet")  # which opens it faster


@pytest.mark.parametrize(
    "settings, says",
    [
        (dict(min_face=0), "min_face is 0: it must be from 1 to 100,000"),
        (dict(min_face=-3), "min_face is -3"),
        (dict(min_face=float("nan")), "min_face is nan"),
        (dict(min_face="20"), "min_face is '20': it must be a number"),
        (dict(min_face=None), "min_face is None"),
        (dict(factor=1), "factor is 1: it must be from 0.1 to 0.95"),
        (dict(factor=0), "factor is 0"),
        (dict(factor=float("nan")), "factor is nan"),
        (dict(factor=[0.7]), "factor is .0.7."),
        (dict(thresholds=(0.5, 0.5)), "thresholds is .0.5, 0.5.: it must be three numbers"),
        (dict(thresholds=(0.5,) * 4), "three numbers"),
        (dict(thresholds=0.5), "three numbers"),
        (dict(thresholds=None), "three numbers"),
        (dict(thresholds="high"), "three numbers"),
        (dict(thresholds=(0.5, "x", 0.5)), "three numbers"),
        (dict(thresholds=(0.5, float("nan"), 0.5)), "nan.*three numbers from 0 to 1"),
        (dict(thresholds=(0.5, 0.5, 1.1)), "1.1.*from 0 to 1"),
        (dict(thresholds=(-0.1, 0.5, 0.5)), "from 0 to 1"),
        (dict(max_faces=0), "max_faces is 0: it must be a whole number from 1, or None"),
        (dict(max_faces=-1), "max_faces is -1"),
        (dict(max_faces=2.5), "max_faces is 2.5"),
        (dict(max_faces="3"), "max_faces is 3"),
    ],
)
def test_settings_out_of_range(models, settings, says):
    before = repr(config)
    refused(says, models["pnet"], **settings)
    assert repr(config) == before


def test_settings_of_numpy_do(models, scene):
    """And those of one detector are its own."""
    before = repr(config)
    one = detector(models, min_face=np.float32(40), thresholds=np.array([0.8, 0.5, 0.5]))
    other = detector(models, thresholds=[1, 1, 1], factor=np.float64(0.5))
    assert same(one.detect(scene), detector(models).detect(scene), 1e-6, 1e-4)
    assert len(other.detect(scene)) == 0 and repr(config) == before


def foreign(path):
    """A face detector's model, of another kind: three outputs by stride, "input", no metadata."""
    value = helper.make_tensor_value_info
    weight = onnx.numpy_helper.from_array(np.ones((4, 3, 8, 8), np.float32), "w")
    graph = helper.make_graph(
        [
            helper.make_node("Conv", ["input", "w"], ["loc"], strides=[8, 8]),
            helper.make_node("Sigmoid", ["loc"], ["conf"]),
        ],
        "yunet",
        [value("input", onnx.TensorProto.FLOAT, [1, 3, 120, 160])],
        [
            value("loc", onnx.TensorProto.FLOAT, [1, 4, 15, 20]),
            value("conf", onnx.TensorProto.FLOAT, [1, 4, 15, 20]),
        ],
        [weight],
    )
    onnx.save(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8), path
    )
    return path


def test_models_of_another_kind(tmp_path):
    path = foreign(tmp_path / "yunet.onnx")
    refused("yunet.onnx is a model of another kind: it lacks what core.export writes", path)


def test_truncated_models(models, tmp_path):
    data, path = models["pnet"].read_bytes(), tmp_path / "cut.onnx"
    for length in (0, 1, 9, *np.linspace(10, len(data) - 1, 25).astype(int)):
        path.write_bytes(data[:length])
        refused(
            "cut.onnx is (no ONNX model that onnxruntime can run|a model of another kind)", path
        )
    path.write_bytes(b"no model at all\n" * 100)
    refused("cut.onnx is no ONNX model", path)
    refused("gone.onnx: No such file", tmp_path / "gone.onnx")
    refused("gone.params", tmp_path / "gone.params")
    refused("holds no finished epoch", tmp_path)


def test_a_model_for_other_input(models, tmp_path):
    """Trained on pictures made otherwise: the metadata says so."""
    made = onnx.load(models["pnet"])
    for prop in made.metadata_props:
        prop.value = prop.value.replace('"BGR"', '"RGB"')
    onnx.save(made, tmp_path / "rgb.onnx")
    refused("rgb.onnx wants its input as .*RGB.*pictures are made as", tmp_path / "rgb.onnx")


# ---- pictures of all kinds -----------------------------------------------------------------


@pytest.mark.parametrize(
    "height, width", [(1, 1), (1, 500), (500, 1), (19, 600), (20, 20), (21, 700), (39, 40)]
)
def test_small_and_thin_pictures(models, height, width):
    finder = detector(models, dict(CASCADE, landmark="lnet106"), thresholds=(0, 0, 0), min_face=20)
    rng = np.random.default_rng(0)
    for picture in (
        rng.integers(0, 256, (height, width, 3), dtype=np.uint8),
        np.zeros((height, width, 3), np.uint8),
    ):
        faces = finder.detect(picture)
        assert proper(faces, 106)
        assert (len(faces) > 0) == (min(height, width) >= 20)


@pytest.mark.parametrize(
    "picture",
    [
        np.zeros((300, 400, 3), np.uint8),
        np.full((400, 300), 255, np.uint8),
        np.random.default_rng(0).integers(0, 256, (300, 400, 3), dtype=np.uint8),
        np.tile(np.uint8([[0, 255], [255, 0]]), (100, 100)),
    ],
)
def test_pictures_of_nothing(models, picture):
    """Black, white, noise, a fine chequerboard; everything goes through to the last net."""
    faces = detector(models, thresholds=(0.3, 0, 0)).detect(picture)
    assert proper(faces, 5)


HUGE = """
import resource, sys
import numpy as np
from core.detect.detector import FaceDetector

def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024

finder = FaceDetector(*sys.argv[1:4], min_face=100, thresholds=(0.95, 0.5, 0.5))
picture = np.full((10_000, 10_000, 3), 90, np.uint8)
picture[::700, ::500] = 255
before = peak()
faces = finder.detect(picture)
print(before, peak() - before, len(faces.boxes))
"""


def test_a_hundred_megapixels(models):
    """In memory that doesn't grow with it: for its largest scale at once, 4 megapixels, Pnet20_v1
    needs 128 MB for each blob of its first layer."""
    result = subprocess.run(
        [sys.executable, "-c", HUGE, *(models[s] for s in CASCADE)],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stderr
    before, grown, _ = map(int, result.stdout.split())
    assert before > 300 and grown < 120  # MB


MANY = """
import sys
import cv2
import numpy as np
from core.detect.detector import FaceDetector

def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * 4096 >> 20

finder = FaceDetector(*sys.argv[1:4], min_face=40, thresholds=(0.8, 0.5, 0.5))
rng = np.random.default_rng(0)
picture = cv2.resize(rng.integers(0, 256, (30, 40, 3), dtype=np.uint8), (600, 450))
for i in range(240):
    width, height = rng.integers(30, (600, 450))
    finder.detect(picture[:height, :width])
    if i == 100:
        before = resident()
print(resident() - before)
"""


def test_many_pictures_of_mixed_sizes(models):
    """Memory stays as it is after the first hundred, whatever sizes follow."""
    result = subprocess.run(
        [sys.executable, "-c", MANY, *(models[s] for s in CASCADE)],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stderr
    assert int(result.stdout) < 20  # MB


# ---- imports -------------------------------------------------------------------------------

WITHOUT_MXNET = """
import sys
from core.detect.detector import FaceDetector

for paths in (sys.argv[2:6], sys.argv[6:10]):
    faces = FaceDetector(*paths, thresholds=(0.8, 0.5, 0.5), min_face=40).detect(sys.argv[1])
    assert len(faces) > 10 and faces.landmarks.shape[1:] == (106, 2)
    print(len(faces))
assert not [name for name in sys.modules if name.split(".")[0] in ("mxnet", "matplotlib", "scipy")]
"""


def test_detection_takes_no_mxnet(params, models, photo):
    paths = [kind[key] for kind in (params, models) for key in (*CASCADE.values(), "lnet106")]
    result = subprocess.run(
        [sys.executable, "-c", WITHOUT_MXNET, photo, *paths],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stderr
    one, other = result.stdout.split()
    assert one == other


# ---- what the last boxes and scores are made of --------------------------------------------


def test_mirrored_onet_is_the_mean_of_both_ways(params, scene):
    """Against the same net run by hand on each crop and on its mirror image."""
    plain = detector(params, dict(pnet="pnet", rnet="rnet", onet="onet"), thresholds=(0.8, 0.5, 0))
    plain = plain.changed(nms=(0.7, 0.7, 1.0))
    stages = dict(plain.changed(mirror=True).stages(scene))
    net, faces = plain.nets["onet"], stages["onet"]
    assert len(faces) > 5
    for face, square in zip(faces[:10], faces.windows[:10]):
        crop = pictures.crops(scene, square[None], 48)
        ways = [net(pictures.to_input(way)) for way in (crop, crop[:, :, ::-1])]
        score = np.mean([way["cls"][0, -1] for way in ways])
        first, second = ways[0]["bbox"][0], ways[1]["bbox"][0]
        mean = (first + np.array([-second[2], second[1], -second[0], second[3]])) / 2
        side = square[2] - square[0]
        np.testing.assert_allclose(face.score, score, atol=2e-5)
        np.testing.assert_allclose(face.box, square + mean * side, atol=side * 1e-4)
        points = ways[0]["landmark"][0]
        np.testing.assert_allclose(
            face.landmarks[:, 0], square[0] + points[:5] * side - 0.5, atol=side * 1e-4
        )


def test_blended_scores(params, scene):
    """Onet^(1 - b) Rnet^b: found again by the squares that the Onet saw."""
    plain = detector(params, thresholds=(0.8, 0.5, 0)).changed(nms=(0.7, 0.7, 1.0))
    stages = dict(plain.stages(scene))
    of_square = {
        tuple(square): score
        for square, score in zip(geometry.squares(stages["rnet"].boxes), stages["rnet"].scores)
    }
    onet = {
        tuple(square): face.score for square, face in zip(stages["onet"].windows, stages["onet"])
    }
    blended = dict(plain.changed(blend=0.3).stages(scene))["onet"]
    assert len(blended) == len(stages["onet"]) > 5 and proper(blended, 5)
    for square, face in zip(blended.windows, blended):
        wanted = onet[tuple(square)] ** 0.7 * of_square[tuple(square)] ** 0.3
        np.testing.assert_allclose(face.score, wanted, rtol=1e-5)


def test_votes_move_boxes_alone(params, scene):
    plain = detector(params, thresholds=(0.8, 0.5, 0.1))
    voted = plain.changed(vote=0.4)
    before, after = plain.detect(scene), voted.detect(scene)
    np.testing.assert_array_equal(before.scores, after.scores)
    assert (before.boxes != after.boxes).any(axis=1).any() and proper(after, 5)
    every = dict(plain.changed(nms=(0.7, 0.7, 1.0)).stages(scene))["onet"]
    for face, box in zip(before, after.boxes):
        near = geometry.iou(face.box[None], every.boxes)[0] >= 0.4
        wanted = np.average(every.boxes[near], axis=0, weights=every.scores[near])
        np.testing.assert_allclose(box, wanted, atol=0.05)


@pytest.mark.parametrize(
    "settings, says",
    [
        ({"vote": 0}, "vote is 0: it must be over 0, up to 1"),
        ({"blend": 1}, "blend is 1: it must be from 0 to below 1"),
        ({"mirror": 2}, "mirror is 2: it must be True or False"),
    ],
)
def test_options_that_can_not_be(params, settings, says):
    with pytest.raises(Problem, match=says):
        detector(params, **settings)


def test_modes(models, tmp_path, scene):
    """A mode's settings go before those outside of the modes, and what is given before both."""
    folder = tmp_path / "nets"
    folder.mkdir()
    for stage in CASCADE:
        (folder / f"{stage}.onnx").write_bytes(models[stage].read_bytes())
    values = {
        **{stage: f"{stage}.onnx" for stage in CASCADE},
        **{"thresholds": [0.8, 0.5, 0.4], "min_face": 40},
        "modes": {"fast": {"min_face": 60}, "precise": {"mirror": True, "vote": 0.5}},
    }
    (folder / "detector.json").write_text(json.dumps(values))

    def opened(**given):
        made = FaceDetector.open(folder, **given).settings
        return made.min_face, made.mirror, made.vote, made.thresholds[2]

    assert opened() == (40, False, 1.0, 0.4)
    assert opened(mode="fast") == (60, False, 1.0, 0.4)
    assert opened(mode="precise") == (40, True, 0.5, 0.4)
    assert opened(mode="precise", mirror=False, thresholds=(0.8, 0.5, 0.7)) == (40, False, 0.5, 0.7)
    with pytest.raises(Problem, match="no mode 'slow': it has fast, precise"):
        FaceDetector.open(folder, mode="slow")
    path = write_mode(folder, "own", {"factor": 0.5, "vote": 0.6})
    assert path == folder / "detector.json"
    assert FaceDetector.open(folder, mode="own").settings.factor == 0.5
    assert opened(mode="fast") == (60, False, 1.0, 0.4)
    for broken in ([], {"fast": 3}, {"fast": {"speed": 9}}):
        path.write_text(json.dumps({**values, "modes": broken}))
        with pytest.raises(Problem, match="modes must be an object of objects with settings"):
            FaceDetector.open(folder)
    path.unlink()
    with pytest.raises(Problem, match="no mode 'fast': no detector.json there has any"):
        FaceDetector.open(folder, mode="fast")
    with pytest.raises(Problem, match="no detector.json to write a mode into"):
        write_mode(folder, "fast", {})

"""Stages of the detector with nets that are a few lines of NumPy, and with the zoo's; and the
import of MXNet."""

import importlib.util

import numpy as np
import pytest
from easydict import EasyDict
from hypothesis import given, settings
from hypothesis import strategies as st
from trained import trained

from core.detect import nets
from core.formats import checkpoint
from facelet import boxes as geometry
from facelet import cascade
from facelet import picture as pictures
from facelet.console import Problem
from symbols import mxnet_import, zoo

SETTINGS = EasyDict(
    min_face=20, factor=0.5, thresholds=[0.5, 0.9, 0.9], nms_scale=0.5, nms=[0.7, 0.1, 0.1]
)


def seen(x1, y1, x2, y2):
    """The box of an output whose window sees x1 y1 x2 y2 of the picture."""
    margin = cascade.WINDOW_MARGIN
    return [x1 - margin, y1 - margin, x2 + margin, y2 + margin]


# ---- scales and windows --------------------------------------------------------------------


@pytest.mark.parametrize(
    "width, height, cell, min_face, factor, expected",
    [
        (100, 80, 20, 20, 0.5, [1, 0.5, 0.25]),  # the next is 12 x 10
        (80, 100, 20, 40, 0.5, [0.5, 0.25]),
        (100, 80, 12, 6, 0.5, [2, 1, 0.5, 0.25]),  # 25 x 20 still holds a window of 12
        (20, 20, 20, 20, 0.9, [1]),  # as large as the window
        (19, 500, 20, 20, 0.5, []),
        (500, 19, 20, 20, 0.5, []),
        (100, 100, 20, 101, 0.5, []),
    ],
)
def test_scales(width, height, cell, min_face, factor, expected):
    assert np.allclose(cascade.scales(width, height, cell, min_face, factor), expected)
    assert len(cascade.scales(width, height, cell, min_face, factor)) == len(expected)


def test_scales_cover_all_sizes_of_faces():
    found = cascade.scales(640, 480, 20, 24, 0.709)
    faces = 20 / np.array(found)  # the face that a scale makes as large as the window
    assert np.isclose(faces[0], 24) and faces[-1] <= 480 < faces[-1] / 0.709 * 1.05
    assert np.allclose(faces[1:] / faces[:-1], 1 / 0.709)


def test_window_boxes():
    """Output (row, column) sees `cell` pixels from (row, column) * stride on, in the scaled
    picture, whose two sides were rounded each on its own."""
    boxes = cascade.window_boxes(np.array([0, 3, 0]), np.array([0, 0, 5]), 20, 4, 0.5, 0.4)
    assert boxes.dtype == np.float32
    assert np.allclose(boxes, [seen(0, 0, 40, 50), seen(0, 30, 40, 80), seen(40, 0, 80, 50)])
    assert cascade.window_boxes(np.array([], int), np.array([], int), 20, 4, 1, 1).shape == (0, 4)


# ---- suppression on the grid ---------------------------------------------------------------


def suppressed_by_nms(prob, threshold, cell, stride, overlap):
    """Rows and columns, by facelet.boxes.nms of all windows over the threshold."""
    places = np.array(
        [place for place in np.ndindex(*prob.shape) if prob[place] > threshold], int
    ).reshape(-1, 2)
    corner = places[:, ::-1] * float(stride)
    kept = geometry.nms(
        np.concatenate([corner, corner + cell], axis=1), prob[tuple(places.T)], overlap
    )
    return places[kept].tolist()


def on_grid(*args):
    rows, columns = cascade.suppress_on_grid(*args)
    return np.stack([rows, columns], axis=1).tolist()


@settings(max_examples=150, deadline=None, derandomize=True)
@given(
    seed=st.integers(0, 10**6),
    rows=st.integers(1, 25),
    columns=st.integers(1, 25),
    levels=st.sampled_from([1, 2, 5, 1000]),
    threshold=st.sampled_from([0.0, 0.5, 0.9, 1.0]),
    cell_and_stride=st.sampled_from([(20, 4), (20, 2), (16, 4), (12, 2), (4, 4), (11, 4)]),
    # 2/3 and 0.6 are overlaps of direct neighbours, the windows of 20 and of 16 pixels
    overlap=st.sampled_from([0.0, 0.3, 0.5, 0.6, 2 / 3, 0.7, 0.99, 1.0]),
)
def test_suppression_on_the_grid_is_that_of_boxes(
    seed, rows, columns, levels, threshold, cell_and_stride, overlap
):
    """Maps with many ties and with none, full ones and sparse ones."""
    rng = np.random.default_rng(seed)
    prob = np.ceil(rng.uniform(0, 1, (rows, columns)) * levels).astype(np.float32) / levels
    prob[rng.uniform(0, 1, prob.shape) < rng.uniform(0, 1)] = 0
    args = prob, threshold, *cell_and_stride, overlap
    assert on_grid(*args) == suppressed_by_nms(*args)


@pytest.mark.parametrize(
    "prob",
    [
        np.linspace(1, 0.6, 900).reshape(30, 30),
        np.linspace(0.6, 1, 900).reshape(30, 30),
        np.full((30, 30), 0.75),
        np.add.outer(np.arange(30), np.arange(30)) / 60 + 0.01,
    ],
)
def test_suppression_of_slopes_and_plains(prob):
    """Where who is kept depends on who was, from one end of the map to the other."""
    args = prob.astype(np.float32), 0.0, 20, 4, 0.5
    assert on_grid(*args) == suppressed_by_nms(*args)


def test_suppression_of_nothing():
    for prob in (np.zeros((0, 5), np.float32), np.full((4, 5), 0.5, np.float32)):
        rows, columns = cascade.suppress_on_grid(prob, 0.5, 20, 4, 0.5)
        assert rows.shape == columns.shape == (0,)


# ---- maps ----------------------------------------------------------------------------------


def uneven(height, width):
    """A picture that is nowhere the same."""
    return np.random.default_rng(height).integers(0, 256, (height, width, 3), dtype=np.uint8)


PNETS = [name for name in zoo.names() if zoo.spec(name).stride]


@pytest.mark.parametrize("name", PNETS)
def test_tiles_give_what_the_whole_picture_gives(tmp_path, monkeypatch, name):
    """Pooling reaches over a window's edge in some nets, so tiles must not end there."""
    net = nets.open_net(checkpoint.save(tmp_path, trained(name), 1, {}))
    cell, stride = net.facts["cell"], net.facts["stride"]
    calls = []

    def counted(data):
        calls.append(data.shape)
        return net(data)

    for height, width in ((177, 211), (4 * cell + 1, 163), (cell, 12 * cell + 3), (250, 97)):
        picture = uneven(height, width)
        monkeypatch.setattr(cascade, "TILE_PIXELS", 10**9)
        prob, offsets = cascade.maps(picture, counted, cell, stride)
        assert len(calls) == 1 and calls.pop() == (1, 3, height, width)
        assert offsets.shape == (4, *prob.shape)
        assert prob.shape[0] >= (height - cell) // stride + 1
        for tile in (1, 9000):
            monkeypatch.setattr(cascade, "TILE_PIXELS", tile)
            tiled_prob, tiled_offsets = cascade.maps(picture, counted, cell, stride)
            assert len(calls) > 1 or height * width < tile
            assert all(h * w <= max(tile, (4 * cell) ** 2) for _, _, h, w in calls)
            calls.clear()
            np.testing.assert_allclose(tiled_prob, prob, atol=1e-5)
            np.testing.assert_allclose(tiled_offsets, offsets, atol=1e-5 * np.abs(offsets).max())


@pytest.mark.parametrize("classes", [1, 2])
def test_maps_are_of_the_face(classes):
    """The last of one or two probabilities."""

    def net(data):
        return {
            "bbox": np.full((1, 4, 3, 2), 7, np.float32),
            "cls": np.full((1, 2, 3, 2), [[[[0.25]], [[0.75]]]], np.float32)[:, 2 - classes :],
        }

    prob, offsets = cascade.maps(uneven(28, 24), net, 20, 4)
    assert prob.shape == (3, 2) and np.all(prob == 0.75)
    assert offsets.shape == (4, 3, 2) and np.all(offsets == 7)


# ---- proposals -----------------------------------------------------------------------------


class Firing:
    """A Pnet that fires at given outputs of given scales: {(scale, row, column): (score,
    offsets)}; notes the inputs it got. Each must be a whole scale: see `whole`."""

    windows: np.ndarray  # what propose() got

    def __init__(self, cell, stride, at):
        self.cell, self.stride, self.at, self.inputs = cell, stride, at, []

    def __call__(self, data):
        scale = len(self.inputs)
        self.inputs.append(data)
        rows, columns = ((side - self.cell) // self.stride + 1 for side in data.shape[2:])
        prob = np.zeros((1, 1, rows, columns), np.float32)
        offsets = np.full((1, 4, rows, columns), 9, np.float32)
        for (where, row, column), (score, values) in self.at.items():
            if where == scale:
                prob[0, 0, row, column], offsets[0, :, row, column] = score, values
        return {"cls": prob, "bbox": offsets}


@pytest.fixture(autouse=True)
def whole(monkeypatch):
    """Nets get each scale as one tile, unless a test says otherwise."""
    monkeypatch.setattr(cascade, "TILE_PIXELS", 10**9)


def propose(at, width=160, height=120, cell=20, stride=4, **settings):
    net = Firing(cell, stride, at)
    boxes, scores, net.windows = cascade.propose(
        uneven(height, width), net, cell, stride, EasyDict({**SETTINGS, **settings})
    )
    assert boxes.dtype == np.float32 and scores.dtype == np.float32
    assert boxes.shape == net.windows.shape == (len(scores), 4)
    return boxes, scores, net


@pytest.mark.parametrize("cell, stride", [(20, 4), (20, 2), (16, 4), (12, 2)])
@pytest.mark.parametrize("scale", [0, 1, 2])
@pytest.mark.parametrize("width, height", [(160, 120), (131, 173)])
def test_a_box_comes_back_where_it_was(cell, stride, scale, width, height):
    row, column = 1, 2
    boxes, scores, net = propose(
        {(scale, row, column): (0.8, [0.1, -0.2, 0.3, 0.05])}, width, height, cell, stride
    )
    factor = cell / 20 * 0.5**scale
    scaled = int(width * factor), int(height * factor)
    assert net.inputs[scale].shape == (1, 3, scaled[1], scaled[0])
    # one output's window, in pixels of the picture, and the offsets in units of its sides
    left, top = column * stride * width / scaled[0], row * stride * height / scaled[1]
    x1, y1, x2, y2 = seen(
        left, top, left + cell * width / scaled[0], top + cell * height / scaled[1]
    )
    assert np.allclose(
        boxes,
        [[x1 + 0.1 * (x2 - x1), y1 - 0.2 * (y2 - y1), x2 + 0.3 * (x2 - x1), y2 + 0.05 * (y2 - y1)]],
        atol=1e-3,
    )
    assert np.allclose(scores, [0.8])
    assert np.allclose(net.windows, [[x1, y1, x2, y2]], atol=1e-3)


def test_what_a_net_sees():
    """A white square of 40 pixels on black, and a net that fires where a window is all white in
    a picture with little else: that is at half the size, and nowhere else."""
    picture = np.zeros((120, 160, 3), np.uint8)
    picture[48:88, 64:104] = 255
    sums = []

    def net(data):
        assert data.dtype == np.float32 and data.min() >= -127.5 / 128
        light = (data[0].mean(axis=0) * 128 + 127.5) / 255
        rows, columns = ((side - 20) // 4 + 1 for side in light.shape)
        prob = np.array(
            [
                [
                    light[4 * r : 4 * r + 20, 4 * c : 4 * c + 20].mean() > 0.99
                    and light.sum() < 1.2 * 400
                    for c in range(columns)
                ]
                for r in range(rows)
            ],
            np.float32,
        )
        sums.append(prob.sum())
        return {"cls": prob[None, None], "bbox": np.zeros((1, 4, rows, columns), np.float32)}

    boxes, scores, _ = cascade.propose(picture, net, 20, 4, SETTINGS)
    assert sums == [0, 1, 0]
    assert boxes.tolist() == [seen(64, 48, 104, 88)] and scores.tolist() == [1]


def test_tiles_lie_where_they_were_cut_out(monkeypatch):
    """White dots on a large black picture, and a net that fires at windows with a dot in the
    middle: each comes back from its own tile, also where tiles meet."""
    monkeypatch.setattr(cascade, "TILE_PIXELS", 1)
    picture = np.zeros((300, 410, 3), np.uint8)
    rng = np.random.default_rng(2)
    cells = {
        (4 * int(row), 4 * int(column))
        for row, column in zip(rng.integers(0, 71, 60), rng.integers(0, 98, 60))
    }
    for y, x in cells:
        picture[y + 10, x + 10] = 255

    def net(data):
        assert max(data.shape[2:]) <= 100
        rows, columns = ((side - 20) // 4 + 1 for side in data.shape[2:])
        prob = data[:, :1, 10::4, 10::4][:, :, :rows, :columns] > 0
        return {"cls": prob.astype(np.float32), "bbox": np.zeros((1, 4, rows, columns), np.float32)}

    boxes, *_ = cascade.propose(
        picture, net, 20, 4, EasyDict(SETTINGS, factor=0.1, nms_scale=1.0, nms=[1.0, 1.0, 1.0])
    )
    assert sorted(boxes.tolist()) == sorted(seen(x, y, x + 20, y + 20) for y, x in cells)


def test_the_threshold_is_passed_only_from_above():
    at = {(0, 0, 0): (0.5, [0] * 4), (0, 10, 10): (0.51, [0] * 4)}
    boxes, scores, _ = propose(at)
    assert boxes.tolist() == [seen(40, 40, 60, 60)] and len(scores) == 1


def test_suppression_within_a_scale_goes_by_windows():
    """Neighbours, IoU 16 / 24, of which one goes; their offsets would have told them apart."""
    aside = 60 / (20 + 2 * cascade.WINDOW_MARGIN)
    at = {(0, 2, 2): (0.6, [0] * 4), (0, 2, 3): (0.9, [aside] * 4), (0, 20, 30): (0.7, [0] * 4)}
    boxes, scores, _ = propose(at)
    assert np.allclose(scores, [0.9, 0.7])  # best first
    assert np.allclose(boxes, [seen(72, 68, 92, 88), seen(120, 80, 140, 100)])
    boxes, scores, _ = propose(at, nms_scale=0.7)
    assert np.allclose(scores, [0.9, 0.7, 0.6])


def test_suppression_over_scales_goes_by_boxes():
    """Windows of 20 and 40 pixels, moved onto the same face: the better one stays."""
    at = {(0, 2, 2): (0.6, [0, 0, 1, 1]), (1, 1, 1): (0.9, [0] * 4), (2, 0, 0): (0.7, [0] * 4)}
    boxes, scores, _ = propose(at)
    assert boxes.tolist() == [seen(8, 8, 48, 48), seen(0, 0, 80, 80)]
    assert np.allclose(scores, [0.9, 0.7])
    assert len(propose(at, nms=[1.0, 0.0, 0.0])[1]) == 3


def test_boxes_without_area_are_dropped():
    at = {
        (0, 0, 0): (0.9, [0, 0, -1, 0]),
        (0, 10, 0): (0.8, [0, 1, 0, -0.5]),
        (0, 0, 20): (0.7, [0] * 4),
    }
    boxes, scores, _ = propose(at)
    assert boxes.tolist() == [seen(80, 0, 100, 20)] and np.allclose(scores, [0.7])


def test_boxes_may_reach_over_the_border():
    boxes, _, _ = propose({(0, 0, 0): (0.9, [-0.5, -0.25, 0, 0])})
    x1, y1, x2, y2 = seen(0, 0, 20, 20)
    assert boxes.tolist() == [[x1 - 0.5 * (x2 - x1), y1 - 0.25 * (y2 - y1), x2, y2]]


def test_nothing_found():
    boxes, scores, net = propose({})
    assert boxes.shape == (0, 4) and scores.shape == (0,) and len(net.inputs) == 3


@pytest.mark.parametrize("width, height", [(19, 19), (19, 100), (1, 1)])
def test_a_picture_smaller_than_the_window(width, height):
    boxes, scores, net = propose({(0, 0, 0): (0.9, [0] * 4)}, width, height)
    assert boxes.shape == (0, 4) and scores.shape == (0,) and net.inputs == []


# ---- looking at squares --------------------------------------------------------------------


@pytest.mark.parametrize(
    "at_once, pixels", [(1, 1), (7, 20**2 * 3), (10**6, 20**2 * 5), (16, 10**9)]
)
def test_looking_in_parts_is_looking_at_one_after_another(monkeypatch, at_once, pixels):
    """Whatever is cut out, and fed to the net, at a time."""
    picture, rng = uneven(120, 160), np.random.default_rng(7)
    corner, side = rng.integers(-30, 150, (37, 2)), rng.integers(1, 90, (37, 1))
    squares = np.concatenate([corner, corner + side], axis=1).astype(np.float32)
    batches = []

    def net(data):
        batches.append(len(data))
        assert data.dtype == np.float32 and data.shape[1:] == (3, 20, 20)
        return {"cls": data[:, :2, 3, 9], "landmark": data[:, 2, :4, :].reshape(len(data), -1)}

    monkeypatch.setattr(cascade, "CROPS_AT_ONCE", at_once)
    monkeypatch.setattr(cascade, "BATCH_PIXELS", pixels)
    found = cascade.run_on_crops(picture, squares, net, 20)
    assert sum(batches) == 37 and max(batches) == min(at_once, max(1, pixels // 400), 37)
    assert found["cls"].shape == (37, 2) and found["landmark"].shape == (37, 80)
    for i, square in enumerate(squares):
        alone = net(pictures.to_input(pictures.crops(picture, square[None], 20)))
        assert all(np.array_equal(found[task][i : i + 1], alone[task]) for task in alone)


def test_looking_at_nothing():
    assert cascade.run_on_crops(uneven(50, 50), np.zeros((0, 4), np.float32), None, 20) is None


# ---- symbols.mxnet_import: where MXNet can't be imported, one line says why --------------------


@pytest.mark.parametrize(
    "python, numpy_version, says",
    [
        ((3, 11), "2.0.1", "MXNet 1.9.1 does not work with NumPy 2.0.1.*'numpy>=1.23,<2'"),
        ((3, 12), "2.3.0", "NumPy 2.3.0"),
        ((3, 13), "1.26.4", r"up to Python 3.12, this is 3.13.*scripts/setup.sh"),
        ((3, 14), "2.3.0", r"this is 3.14"),
    ],
)  # not NumPy: an older one would not help there
def test_environments_without_mxnet(python, numpy_version, says):
    with pytest.raises(mxnet_import.MXNetUnavailable, match=says) as caught:
        mxnet_import.check_environment(python, numpy_version)
    assert isinstance(caught.value, Problem) and isinstance(caught.value, ImportError)
    assert "\n" not in str(caught.value)


def test_missing_packages(monkeypatch):
    real = importlib.util.find_spec

    def without(missing):
        monkeypatch.setattr(
            importlib.util, "find_spec", lambda name: None if name == missing else real(name)
        )

    without("mxnet")
    with pytest.raises(mxnet_import.MXNetUnavailable, match="not installed.*mxnet==1.9.1"):
        mxnet_import.check_environment((3, 11), "1.23.5")
    without("distutils")
    with pytest.raises(mxnet_import.MXNetUnavailable, match="distutils.*setuptools"):
        mxnet_import.check_environment((3, 12), "1.26.4")
    assert mxnet_import.check_environment((3, 11), "1.26.4") is None  # part of Python there


def test_this_environment_and_old_numpy_are_fine():
    assert mxnet_import.check_environment() is None
    assert mxnet_import.check_environment((3, 9), "1.23.0") is None
    assert mxnet_import.mx.__version__ == "1.9.1"

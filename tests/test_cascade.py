"""Stages of the detector with nets that are a few lines of NumPy; and the import of MXNet."""
import importlib.util

import numpy as np
import pytest
from easydict import EasyDict

from core import cascade, mxnet_import
from core.console import Problem

SETTINGS = EasyDict(min_face=20, factor=0.5, threshold=0.5, nms_scale=0.5, nms_all=0.7)


# ---- scales and windows --------------------------------------------------------------------

@pytest.mark.parametrize("width, height, cell, min_face, factor, expected", [
    (100, 80, 20, 20, 0.5, [1, 0.5, 0.25]),        # the next is 12 x 10
    (80, 100, 20, 40, 0.5, [0.5, 0.25]),
    (100, 80, 12, 6, 0.5, [2, 1, 0.5, 0.25]),      # 25 x 20 still holds a window of 12
    (20, 20, 20, 20, 0.9, [1]),                    # as large as the window
    (19, 500, 20, 20, 0.5, []), (500, 19, 20, 20, 0.5, []), (100, 100, 20, 101, 0.5, [])])
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
    assert np.allclose(boxes, [[0, 0, 40, 50], [0, 30, 40, 80], [40, 0, 80, 50]])
    assert cascade.window_boxes(np.array([], int), np.array([], int), 20, 4, 1, 1).shape == (0, 4)


# ---- proposals -----------------------------------------------------------------------------

class Firing:
    """A Pnet that fires at given outputs of given scales: {(scale, row, column): (score,
    offsets)}; notes the inputs it got."""

    def __init__(self, cell, stride, at):
        self.cell, self.stride, self.at, self.inputs = cell, stride, at, []

    def __call__(self, data):
        scale = len(self.inputs)
        self.inputs.append(data)
        rows, columns = ((side - self.cell) // self.stride + 1 for side in data.shape[2:])
        prob, offsets = np.zeros((rows, columns)), np.full((4, rows, columns), 9.0)
        for (where, row, column), (score, values) in self.at.items():
            if where == scale:
                prob[row, column], offsets[:, row, column] = score, values
        return prob, offsets


def propose(at, width=160, height=120, cell=20, stride=4, **settings):
    picture = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    net = Firing(cell, stride, at)
    boxes, scores = cascade.propose(picture, net, cell, stride, EasyDict({**SETTINGS, **settings}))
    assert boxes.dtype == np.float32 and scores.dtype == np.float32
    assert boxes.shape == (len(scores), 4)
    return boxes, scores, net


@pytest.mark.parametrize("cell, stride", [(20, 4), (20, 2), (16, 4), (12, 2)])
@pytest.mark.parametrize("scale", [0, 1, 2])
@pytest.mark.parametrize("width, height", [(160, 120), (131, 173)])
def test_a_box_comes_back_where_it_was(cell, stride, scale, width, height):
    row, column = 1, 2
    boxes, scores, net = propose({(scale, row, column): (0.8, [0.1, -0.2, 0.3, 0.05])}, width,
                                 height, cell, stride)
    factor = cell / 20 * 0.5 ** scale
    scaled = int(width * factor), int(height * factor)
    assert net.inputs[scale].shape == (1, 3, scaled[1], scaled[0])
    # one output's window, in pixels of the picture, and the offsets in units of its sides
    left, top = column * stride * width / scaled[0], row * stride * height / scaled[1]
    across, down = cell * width / scaled[0], cell * height / scaled[1]
    assert np.allclose(boxes, [[left + 0.1 * across, top - 0.2 * down,
                                left + across + 0.3 * across, top + down + 0.05 * down]],
                       atol=1e-3)
    assert np.allclose(scores, [0.8])


def test_what_a_net_sees():
    """A white square of 40 pixels on black, and a net that fires where a window is all white in
    a picture with little else: that is at half the size, and nowhere else."""
    picture = np.zeros((120, 160, 3), np.uint8)
    picture[48:88, 64:104] = 255
    seen = []

    def net(data):
        assert data.dtype == np.float32 and data.min() >= -127.5 / 128
        light = (data[0].mean(axis=0) * 128 + 127.5) / 255
        rows, columns = ((side - 20) // 4 + 1 for side in light.shape)
        prob = np.array([[light[4 * r:4 * r + 20, 4 * c:4 * c + 20].mean() > 0.99
                          and light.sum() < 1.2 * 400 for c in range(columns)]
                         for r in range(rows)], float)
        seen.append(prob.sum())
        return prob, np.zeros((4, rows, columns))

    boxes, scores = cascade.propose(picture, net, 20, 4, SETTINGS)
    assert seen == [0, 1, 0]
    assert boxes.tolist() == [[64, 48, 104, 88]] and scores.tolist() == [1]


def test_the_threshold_is_passed_only_from_above():
    at = {(0, 0, 0): (0.5, [0] * 4), (0, 10, 10): (0.51, [0] * 4)}
    boxes, scores, _ = propose(at)
    assert boxes.tolist() == [[40, 40, 60, 60]] and len(scores) == 1


def test_suppression_within_a_scale_goes_by_windows():
    """Neighbours, IoU 16 / 24, of which one goes; their offsets would have told them apart."""
    at = {(0, 2, 2): (0.6, [0] * 4), (0, 2, 3): (0.9, [3, 3, 3, 3]), (0, 20, 30): (0.7, [0] * 4)}
    boxes, scores, _ = propose(at)
    assert np.allclose(scores, [0.9, 0.7])  # best first
    assert boxes.tolist() == [[72, 68, 92, 88], [120, 80, 140, 100]]
    boxes, scores, _ = propose(at, nms_scale=0.7)
    assert np.allclose(scores, [0.9, 0.7, 0.6])


def test_suppression_over_scales_goes_by_boxes():
    """Windows of 20 and 40 pixels, moved onto the same face: the better one stays."""
    at = {(0, 2, 2): (0.6, [0, 0, 1, 1]), (1, 1, 1): (0.9, [0] * 4), (2, 0, 0): (0.7, [0] * 4)}
    boxes, scores, _ = propose(at)
    assert boxes.tolist() == [[8, 8, 48, 48], [0, 0, 80, 80]]
    assert np.allclose(scores, [0.9, 0.7])
    assert len(propose(at, nms_all=1.0)[1]) == 3


def test_boxes_without_area_are_dropped():
    at = {(0, 0, 0): (0.9, [0, 0, -1, 0]), (0, 10, 0): (0.8, [0, 1, 0, -0.5]),
          (0, 0, 20): (0.7, [0] * 4)}
    boxes, scores, _ = propose(at)
    assert boxes.tolist() == [[80, 0, 100, 20]] and np.allclose(scores, [0.7])


def test_boxes_may_reach_over_the_border():
    boxes, _, _ = propose({(0, 0, 0): (0.9, [-0.5, -0.25, 0, 0])})
    assert boxes.tolist() == [[-10, -5, 20, 20]]


def test_nothing_found():
    boxes, scores, net = propose({})
    assert boxes.shape == (0, 4) and scores.shape == (0,) and len(net.inputs) == 3


@pytest.mark.parametrize("width, height", [(19, 19), (19, 100), (1, 1)])
def test_a_picture_smaller_than_the_window(width, height):
    boxes, scores, net = propose({(0, 0, 0): (0.9, [0] * 4)}, width, height)
    assert boxes.shape == (0, 4) and scores.shape == (0,) and net.inputs == []


# ---- core.mxnet_import: where MXNet can't be imported, one line says why --------------------

@pytest.mark.parametrize("python, numpy_version, says", [
    ((3, 11), "2.0.1", "MXNet 1.9.1 does not work with NumPy 2.0.1.*'numpy>=1.23,<2'"),
    ((3, 12), "2.3.0", "NumPy 2.3.0"),
    ((3, 13), "1.26.4", r"up to Python 3.12, this is 3.13.*scripts/setup.sh"),
    ((3, 14), "2.3.0", r"this is 3.14")])  # not NumPy: an older one would not help there
def test_environments_without_mxnet(python, numpy_version, says):
    with pytest.raises(mxnet_import.MXNetUnavailable, match=says) as caught:
        mxnet_import.check_environment(python, numpy_version)
    assert isinstance(caught.value, Problem) and isinstance(caught.value, ImportError)
    assert "\n" not in str(caught.value)


def test_missing_packages(monkeypatch):
    real = importlib.util.find_spec

    def without(missing):
        monkeypatch.setattr(importlib.util, "find_spec",
                            lambda name: None if name == missing else real(name))

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

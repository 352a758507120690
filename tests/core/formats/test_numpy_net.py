"""The NumPy executor gives what MXNet gives; each operator alone, what its formula gives."""

import numpy as np
import pytest
from trained import trained

import symbols
from core.detect.mxnet_net import MxNet
from core.formats import numpy_net
from facelet.console import Problem
from symbols.graph import DATA, Graph, Node

# one of each body, every kind of layer: pools that hang over, dense and 1 x 1 heads, plain ReLU,
# branches, dilation, additions, joined maps
NETS = [
    ("Pnet20_v1", {}),
    ("Pnet20_v7", {}),
    ("Pnet20_s2v1", {}),
    ("Pnet20_p", {}),
    ("Rnet_v2", {}),
    ("Rnet_p0", {}),
    ("Onet_v2", {"landmark": True}),
    ("Onet_p0", {}),
    ("Lnet_v1", {"base": 16}),
    ("Lnet106_64_v3", {}),
    ("Lnet106_64r", {}),
    ("L14_heatmap", {}),
    ("Pnet12", {"landmark": True}),
    ("Rnet24", {}),
    ("Onet48", {"landmark": True}),
]


@pytest.mark.parametrize("name, options", NETS)
def test_whole_nets_against_mxnet(name, options):
    checkpoint = trained(name, **options)
    height = width = symbols.spec(name).size
    if checkpoint.spec.stride:  # a picture with rests at every stride
        height, width = height + 13, width + 34
    data = np.random.default_rng(3).uniform(-1, 1, (2, 3, height, width)).astype(np.float32)
    ours = numpy_net.run(checkpoint.graph(), data)
    theirs = MxNet(checkpoint)(data)
    assert len(theirs) == len(checkpoint.graph().outputs)
    for task, values in ours.items():
        assert values.dtype == np.float64 and values.shape == theirs[task].shape
        assert values.std() > 1e-3  # the net says something
    assert numpy_net.difference(theirs, ours) < 2e-5


# ---- operators -----------------------------------------------------------------------------


def run(node, data, **params):
    """One layer; parameters by kind."""
    graph = Graph(
        (node,),
        {"out": node.top},
        {f"{node.name}_{kind}": np.asarray(value, np.float32) for kind, value in params.items()},
    )
    return numpy_net.run(graph, data)["out"]


def picture(height, width, channels=3):
    return np.random.default_rng(height * width).normal(size=(2, channels, height, width))


@pytest.mark.parametrize(
    "kernel, stride, pad, dilate, depthwise",
    [
        (1, 1, 0, 1, False),
        (3, 1, 0, 1, False),
        (3, 2, 1, 1, False),
        (2, 3, 0, 1, True),
        (3, 2, 2, 2, True),
        (5, 1, 4, 2, False),
    ],
)
def test_convolution(kernel, stride, pad, dilate, depthwise):
    """Every output by itself, as the sum that defines it."""
    x, channels = picture(9, 7), 3 if depthwise else 4
    rng = np.random.default_rng(0)
    weight = rng.normal(size=(channels, 1 if depthwise else 3, kernel, kernel)).astype(np.float32)
    bias = rng.normal(size=channels).astype(np.float32)
    node = Node(
        "conv",
        "c",
        (DATA,),
        channels=channels,
        kernel=kernel,
        stride=stride,
        pad=pad,
        dilate=dilate,
        depthwise=depthwise,
    )
    out = run(node, x, weight=weight, bias=bias)
    reach = dilate * (kernel - 1) + 1
    assert out.shape == (
        2,
        channels,
        (9 + 2 * pad - reach) // stride + 1,
        (7 + 2 * pad - reach) // stride + 1,
    )
    for n, o, row, column in np.ndindex(*out.shape):
        total = float(bias[o])
        for i, r, c in np.ndindex(*weight.shape[1:]):
            y, z = row * stride - pad + r * dilate, column * stride - pad + c * dilate
            if 0 <= y < 9 and 0 <= z < 7:
                total += float(weight[o, i, r, c]) * x[n, o if depthwise else i, y, z]
        assert out[n, o, row, column] == pytest.approx(total, rel=1e-12, abs=1e-12)


@pytest.mark.parametrize(
    "kernel, stride, rows, columns", [(2, 2, 5, 4), (3, 2, 4, 3), (3, 3, 3, 3), (4, 3, 3, 2)]
)
def test_pooling_takes_windows_that_hang_over(kernel, stride, rows, columns):
    x = picture(9, 7) - 10  # all negative: a border of zeros would show
    out = run(Node("pool", "p", (DATA,), kernel=kernel, stride=stride), x)
    assert out.shape == (2, 3, rows, columns)
    for row, column in np.ndindex(rows, columns):
        window = x[
            :, :, row * stride : row * stride + kernel, column * stride : column * stride + kernel
        ]
        np.testing.assert_array_equal(out[:, :, row, column], window.max(axis=(2, 3)))


def test_dense_flattens_channels_first():
    x = picture(2, 3)
    weight = np.zeros((2, 18), np.float32)
    weight[0, 2 * 6 + 1 * 3 + 2] = 2  # channel 2, row 1, column 2
    weight[1, 5] = 1  # channel 0, row 1, column 2
    out = run(Node("dense", "d", (DATA,), channels=2), x, weight=weight, bias=[0.5, 0])
    np.testing.assert_allclose(out, np.stack([2 * x[:, 2, 1, 2] + 0.5, x[:, 0, 1, 2]], axis=1))
    without = run(Node("dense", "d", (DATA,), channels=2, bias=False), x, weight=weight)
    np.testing.assert_allclose(without, out - [0.5, 0])


@pytest.mark.parametrize("fix_gamma", [False, True])
def test_batch_norm(fix_gamma):
    x = np.array([[[[1.0]], [[3.0]], [[-2.0]]]])
    node = Node("bn", "b", (DATA,), eps=0.25, fix_gamma=fix_gamma)
    out = run(
        node, x, gamma=[2, -1, 0], beta=[1, 0, 5], moving_mean=[0, 1, 0], moving_var=[3.75, 0.75, 1]
    )
    # (x - mean) / sqrt(var + eps): 1/2, 2/1, -2/sqrt(1.25)
    expected = [1 + 0.5, 2, 5 - 2 / np.sqrt(1.25)] if fix_gamma else [1 + 2 * 0.5, -2, 5]
    np.testing.assert_allclose(out.ravel(), expected, rtol=1e-15)


def test_activations_have_a_slope_for_each_channel():
    x = np.array([[[[2.0, -2.0]], [[1.0, -1.0]], [[0.0, -4.0]]]])
    out = run(Node("prelu", "p", (DATA,)), x, gamma=[0.25, -0.5, 1.5])
    np.testing.assert_array_equal(out, [[[[2, -0.5]], [[1, 0.5]], [[0, -6]]]])
    flat = run(Node("prelu", "p", (DATA,)), x[:, :, 0, 1], gamma=[0.25, -0.5, 1.5])
    np.testing.assert_array_equal(flat, [[-0.5, 0.5, -6]])
    np.testing.assert_array_equal(run(Node("relu", "r", (DATA,)), x), np.maximum(x, 0))


def test_what_takes_several_blobs_and_what_changes_shape():
    x = picture(2, 2)
    doubled = Node("add", "a", (DATA, DATA))
    np.testing.assert_array_equal(run(doubled, x), 2 * x)
    joined = run(Node("concat", "j", (DATA, DATA)), x)
    np.testing.assert_array_equal(joined, np.concatenate([x, x], axis=1))
    np.testing.assert_array_equal(run(Node("flatten", "f", (DATA,)), x), x.reshape(2, 12))


def test_softmax_is_over_the_channels_and_does_not_overflow():
    x = np.array([[[[0.0, 1000]], [[np.log(3), 0]]]])
    out = run(Node("softmax", "s", (DATA,)), x)
    np.testing.assert_allclose(out, [[[[0.25, 1]], [[0.75, 0]]]], atol=1e-15)
    np.testing.assert_allclose(run(Node("softmax", "s", (DATA,)), x[:, :, 0, 0]), [[0.25, 0.75]])


# ---- damage and activations -----------------------------------------------------------------


@pytest.mark.parametrize(
    "layer, kind, value",
    [
        ("conv2_sep", "weight", np.nan),
        ("conv1", "bias", np.inf),
        ("prelu1", "gamma", -np.inf),
        ("bn4_2", "moving_var", -1.0),
        ("bn4_1", "beta", np.nan),
    ],
)
def test_values_that_are_no_numbers(layer, kind, value):
    checkpoint = trained("Pnet20_v1")
    values = checkpoint.auxiliary if kind == "moving_var" else checkpoint.arguments
    values[f"{layer}_{kind}"][1] = value
    with pytest.raises(Problem, match=f"layer {layer} gives values that are no numbers"):
        numpy_net.run(checkpoint.graph(), numpy_net.seeded_input(20))


def test_the_largest_activation_is_found_wherever_it_is():
    params = {
        "a_weight": np.full((1, 3, 1, 1), 1000, np.float32),
        "b_weight": np.full((1, 1, 1, 1), 1e-6, np.float32),
    }
    graph = Graph(
        (
            Node("conv", "a", (DATA,), channels=1, bias=False),
            Node("conv", "b", ("a",), channels=1, bias=False),
        ),
        {"out": "b"},
        params,
    )
    data = np.full((1, 3, 2, 2), -1.0)
    data[0, 0, 1, 1] = -2
    assert numpy_net.largest_activation(graph, data) == 4000
    blobs = {}
    outputs = numpy_net.run(graph, data, lambda name, values: blobs.update({name: values}))
    assert list(blobs) == ["a", "b"] and blobs["b"] is outputs["out"]


def test_difference_is_a_part_of_each_task_s_largest_value():
    expected = {"cls": np.array([0.5, -0.25]), "bbox": np.array([[100.0, 0]])}
    results = {"cls": np.array([0.5, -0.20]), "bbox": np.array([[100.0, 1]])}
    assert numpy_net.difference(results, expected) == pytest.approx(0.1)
    assert numpy_net.difference(expected, expected) == 0
    for task in expected:  # what an engine may give; it must not pass for small
        assert np.isnan(numpy_net.difference({**expected, task: expected[task] * np.nan}, expected))


def test_the_seeded_input_is_the_same_and_in_range():
    data = numpy_net.seeded_input(24)
    assert data.shape == (2, 3, 24, 24) and data.dtype == np.float32
    assert -1 <= data.min() < -0.99 and 0.99 < data.max() <= 1
    np.testing.assert_array_equal(data, numpy_net.seeded_input(24))
    assert not np.array_equal(data, numpy_net.seeded_input(24, seed=1))

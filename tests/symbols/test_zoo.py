"""The zoo holds the published nets: names, sizes, parameters, outputs; and the training graph of
each is the same net. Every figure here is copied from the published graphs or worked out by hand,
none is read from the tables under test."""

import functools
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import symbols
from facelet.console import Problem
from symbols.mxnet_import import mx

NAMES = """
    Pnet20_v00 Pnet20_v0 Pnet20_v1 Pnet20_v2 Pnet20_v3 Pnet20_v4 Pnet20_v5 Pnet20_v6 Pnet20_v7
    Pnet20_v8 Pnet20_s2v1 Pnet20_s2v2 Pnet20_s2v3 Pnet20_p Pnet16_v0 Pnet16_v1
    Rnet_v1 Rnet_v2 Rnet_p0 Rnet_p
    Onet_v1 Onet_v2 Onet_v3 Onet_p0 Onet_p
    Lnet_v1 Lnet_v2 Lnet_v3 Lnet106_v1 Lnet106_v2 Lnet106_64_v3 Lnet106_96_v1 Lnet106_96_v2
    Lnet106_96_v3 Lnet106_64r Lnet106_80r Lnet106_96r Lnet106_112r_small Lnet106_112r_s
    Lnet106_112r_big L14_heatmap
    Pnet12 Rnet24 Onet48""".split()

# outputs of a batch of 2 at the size the net is trained on
PNET = {"cls_prob_output": (2, 2, 1, 1), "bn4_2_output": (2, 4, 1, 1)}
RNET = {"cls_prob_output": (2, 2), "bn5_2_output": (2, 4)}
ONET = {"cls_prob_output": (2, 2), "bn6_2_output": (2, 4)}
ONET_POINTS = {**ONET, "bn6_3_output": (2, 10)}
POINTS_5 = {"bn6_3_output": (2, 10)}
POINTS_106 = {"bn6_3_output": (2, 212)}
HEATMAPS = {"flatten0_output": (2, 3 * 15 * 28 * 28)}
PNET12 = {"cls_prob_output": (2, 2, 1, 1), "conv4_2_output": (2, 4, 1, 1)}
CLASSIC = {"cls_prob_output": (2, 2), "fc3_output": (2, 4)}

VARIANTS = [
    # name, base, landmark, side of the input, parameters, outputs
    ("Pnet20_v00", None, False, 20, 1434, PNET),
    ("Pnet20_v0", None, False, 20, 1514, PNET),
    ("Pnet20_v1", None, False, 20, 1482, PNET),
    ("Pnet20_v2", None, False, 20, 2162, PNET),
    ("Pnet20_v3", None, False, 20, 2538, PNET),
    ("Pnet20_v4", None, False, 20, 5890, PNET),
    ("Pnet20_v5", None, False, 20, 5626, PNET),
    ("Pnet20_v6", None, False, 20, 7794, PNET),
    ("Pnet20_v7", None, False, 20, 9762, PNET),
    ("Pnet20_v8", None, False, 20, 15442, PNET),
    ("Pnet20_s2v1", None, False, 20, 3090, PNET),
    ("Pnet20_s2v2", None, False, 20, 5698, PNET),
    ("Pnet20_s2v3", None, False, 20, 8746, PNET),
    ("Pnet16_v0", None, False, 16, 1498, PNET),
    ("Pnet16_v1", None, False, 16, 1394, PNET),
    ("Rnet_v1", None, False, 24, 15762, RNET),
    ("Rnet_v2", None, False, 24, 21970, RNET),
    ("Onet_v1", None, False, 48, 20690, ONET),
    ("Onet_v2", None, False, 48, 56114, ONET),
    ("Onet_v3", None, False, 48, 67858, ONET),
    ("Lnet_v1", 16, False, 48, 55934, POINTS_5),
    ("Lnet_v1", 32, False, 48, 209630, POINTS_5),
    ("Lnet_v2", 16, False, 48, 58110, POINTS_5),
    ("Lnet_v2", 32, False, 48, 213982, POINTS_5),
    ("Lnet_v3", 32, False, 64, 139262, POINTS_5),
    ("Lnet106_v1", 32, False, 48, 261948, POINTS_106),
    ("Lnet106_v1", 64, False, 48, 914428, POINTS_106),
    ("Lnet106_v2", 32, False, 48, 266300, POINTS_106),
    ("Lnet106_v2", 64, False, 48, 923132, POINTS_106),
    ("Lnet106_v2", 128, False, 48, 3410300, POINTS_106),
    ("Lnet106_96_v1", 32, False, 96, 271484, POINTS_106),
    ("Lnet106_96_v1", 64, False, 96, 949884, POINTS_106),
    ("Lnet106_96_v2", 16, False, 96, 87548, POINTS_106),
    ("Lnet106_96_v2", 32, False, 96, 276348, POINTS_106),
    ("Lnet106_96_v2", 64, False, 96, 959612, POINTS_106),
    ("Lnet106_96_v3", 32, False, 96, 261468, POINTS_106),
    ("Lnet106_64_v3", 32, False, 64, 191580, POINTS_106),
    ("Lnet106_v1", 16, False, 48, 82396, POINTS_106),
    ("Lnet106_v2", 16, False, 48, 84572, POINTS_106),
    ("Lnet106_v1", 128, False, 48, 3392892, POINTS_106),
    ("Pnet20_p", None, False, 20, 8042, PNET),
    ("Rnet_p0", None, False, 24, 60346, RNET),
    ("Rnet_p", None, False, 24, 94562, RNET),
    ("Onet_p0", None, False, 48, 61930, ONET),
    ("Onet_p", None, False, 48, 99778, ONET),
    ("Onet_v1", None, True, 48, 60304, ONET_POINTS),
    ("Onet_v2", None, True, 48, 60304, ONET_POINTS),
    ("Onet_v3", None, True, 48, 60304, ONET_POINTS),
    ("Lnet106_112r_big", None, False, 112, 16664828, POINTS_106),
    ("Lnet106_112r_small", None, False, 112, 336292, POINTS_106),
    ("Lnet106_112r_s", None, False, 112, 321044, POINTS_106),
    ("Lnet106_96r", None, False, 96, 283044, POINTS_106),
    ("Lnet106_80r", None, False, 80, 237988, POINTS_106),
    ("Lnet106_64r", None, False, 64, 201124, POINTS_106),
    ("L14_heatmap", None, False, 112, 80522, HEATMAPS),
    # The classic nets, layer by layer: weights + biases + PReLU slopes.
    (
        "Pnet12",
        None,
        False,
        12,
        (270 + 10 + 10) + (1440 + 16 + 16) + (4608 + 32 + 32) + (64 + 2) + (128 + 4),
        PNET12,
    ),
    ("Pnet12", None, True, 12, 6632 + (320 + 10), {**PNET12, "conv4_3_output": (2, 10, 1, 1)}),
    (
        "Rnet24",
        None,
        False,
        24,
        (756 + 28 + 28)
        + (12096 + 48 + 48)
        + (12288 + 64 + 64)
        + (576 * 128 + 128 + 128)
        + (256 + 2)
        + (512 + 4),
        CLASSIC,
    ),
    ("Rnet24", None, True, 24, 100178 + (1280 + 10), {**CLASSIC, "fc4_output": (2, 10)}),
    (
        "Onet48",
        None,
        False,
        48,
        (864 + 32 + 32)
        + (18432 + 64 + 64)
        + (36864 + 64 + 64)
        + (32768 + 128 + 128)
        + (1152 * 256 + 256 + 256)
        + (512 + 2)
        + (1024 + 4),
        CLASSIC,
    ),
    ("Onet48", None, True, 48, 386470 + (2560 + 10), {**CLASSIC, "fc4_output": (2, 10)}),
]

PARAMETER_NAMES = {
    ("Pnet20_v0", False): """
        conv1_weight conv1_bias prelu1_gamma conv2_dw_weight conv2_dw_bias prelu2_dw_gamma
        conv2_sep_weight conv2_sep_bias prelu2_gamma conv3_dw_weight conv3_dw_bias
        prelu3_dw_gamma conv3_sep_weight conv3_sep_bias prelu3_gamma conv4_dw_weight
        conv4_dw_bias prelu4_dw_gamma conv4_1_weight conv4_1_bias bn4_1_gamma bn4_1_beta
        conv4_2_weight conv4_2_bias bn4_2_gamma bn4_2_beta""",
    ("Rnet_p0", False): """
        conv1_weight conv1_bias bn1_gamma bn1_beta relu1_gamma conv2_dw_weight conv2_dw_bias
        bn2_dw_gamma bn2_dw_beta relu2_dw_gamma conv2_sep_weight conv2_sep_bias
        bn2_sep_gamma bn2_sep_beta relu2_gamma conv3_dw_weight conv3_dw_bias bn3_dw_gamma
        bn3_dw_beta conv3_sep_weight conv3_sep_bias bn3_sep_gamma bn3_sep_beta relu3_gamma
        conv4_dw_weight conv4_dw_bias bn4_dw_gamma bn4_dw_beta relu4_dw_gamma
        conv4_sep_weight conv4_sep_bias bn4_sep_gamma bn4_sep_beta relu4_gamma
        conv5_dw_weight conv5_dw_bias bn5_dw_gamma bn5_dw_beta relu5_dw_gamma fc1_dw_weight
        fc1_dw_bias fc1_bn_dw_gamma fc1_bn_dw_beta fc1_relu_dw_gamma fc2_dw_weight
        fc2_dw_bias fc2_bn_dw_gamma fc2_bn_dw_beta fc2_relu_dw_gamma conv5_1_weight
        conv5_1_bias bn5_1_gamma bn5_1_beta conv4_bb_dw_weight conv4_bb_dw_bias
        bn4_bb_dw_gamma bn4_bb_dw_beta relu4_bb_dw_gamma conv4_bb_sep_weight
        conv4_bb_sep_bias bn4_bb_sep_gamma bn4_bb_sep_beta relu4_bb_gamma conv5_bb_dw_weight
        conv5_bb_dw_bias bn5_bb_dw_gamma bn5_bb_dw_beta relu5_bb_dw_gamma fc1_bb_dw_weight
        fc1_bb_dw_bias fc1_bn_bb_dw_gamma fc1_bn_bb_dw_beta fc1_relu_bb_dw_gamma
        fc2_bb_dw_weight fc2_bb_dw_bias fc2_bn_bb_dw_gamma fc2_bn_bb_dw_beta
        fc2_relu_bb_dw_gamma conv5_2_weight conv5_2_bias bn5_2_gamma bn5_2_beta""",
    ("Onet_v1", True): """
        conv1_weight conv1_bias bn1_gamma bn1_beta prelu1_gamma conv2_dw_weight bn2_dw_gamma
        bn2_dw_beta prelu2_dw_gamma conv2_sep_weight bn2_sep_gamma bn2_sep_beta prelu2_gamma
        conv3_dw_weight bn3_dw_gamma bn3_dw_beta prelu3_dw_gamma conv3_sep_weight
        bn3_sep_gamma bn3_sep_beta prelu3_gamma conv4_dw_weight bn4_dw_gamma bn4_dw_beta
        prelu4_dw_gamma conv4_sep_weight bn4_sep_gamma bn4_sep_beta prelu4_gamma
        conv5_dw_weight bn5_dw_gamma bn5_dw_beta prelu5_dw_gamma conv5_sep_weight
        bn5_sep_gamma bn5_sep_beta prelu5_gamma conv6_dw_weight bn6_dw_gamma bn6_dw_beta
        prelu6_dw_gamma conv6_1_weight conv6_1_bias bn6_1_gamma bn6_1_beta conv6_2_weight
        conv6_2_bias bn6_2_gamma bn6_2_beta conv6_3_weight conv6_3_bias bn6_3_gamma
        bn6_3_beta""",
}
# One net has 16.7 million parameters: its shapes must do.
RUN = [row for row in VARIANTS if row[0] != "Lnet106_112r_big"]
BATCH = 2


def inputs_of(name, landmark, outputs):
    """Shapes of what a training graph takes beside data, by the kinds of a net's outputs."""
    if "cls_prob_output" not in outputs:
        task = "heatmap" if name == "L14_heatmap" else "landmark"
        return {f"{task}_target": next(iter(outputs.values()))}
    extra = {"landmark_target": (BATCH, 10)} if landmark else {}
    return {"label": (BATCH,), "bbox_target": (BATCH, 4), **extra}


def fill(executor, seed=0):
    """Parameters under which every layer matters: slopes on both sides of 0 and of 1, batch
    norms far from the identity, weights that keep the values near 1."""
    rng = np.random.default_rng(seed)
    for name, array in sorted({**executor.arg_dict, **executor.aux_dict}.items()):
        shape = array.shape
        if name == "data":
            value = rng.uniform(-1, 1, shape)
        elif name.endswith("weight"):
            value = rng.standard_normal(shape) * np.sqrt(2 / np.prod(shape[1:]))
        elif name.endswith("_gamma"):
            value = rng.uniform(-0.5, 1.5, shape)
        elif name.endswith("moving_var"):
            value = rng.uniform(0.5, 1.5, shape)
        elif name == "label" or name.endswith("_target"):
            continue
        else:
            value = rng.standard_normal(shape) * 0.1
        array[:] = value


class Variant:
    """A variant with what its tests share: the symbols are built once, and bound once."""

    def __init__(self, name, base, landmark, side, count, outputs):
        self.name, self.landmark, self.side = name, landmark, side
        self.count, self.outputs = count, outputs
        options = {key: value for key, value in (("base", base), ("landmark", landmark)) if value}
        self.test = symbols.build(name, **options)
        self.train = symbols.build(name, "train", **options)
        self.data = (BATCH, 3, side, side)
        self.inputs = inputs_of(name, landmark, outputs)
        self._bound = None

    @property
    def bound(self):
        """The test graph, bound as a user would, with parameters."""
        if self._bound is None:
            self._bound = self.test.simple_bind(mx.cpu(), grad_req="null", data=self.data)
            fill(self._bound)
        return self._bound


@functools.cache
def shared(*row):
    return Variant(*row[:-1], dict(row[-1]))


def each(rows):
    return pytest.mark.parametrize(
        "variant",
        rows,
        indirect=True,
        ids=[
            row[0] + (f"-{row[1]}" if row[1] else "") + ("-points" if row[2] else "")
            for row in rows
        ],
    )


@pytest.fixture
def variant(request):
    *row, outputs = request.param
    return shared(*row, tuple(outputs.items()))


# ---- names and options ---------------------------------------------------------------------


def test_the_published_names_and_no_others():
    assert symbols.names() == NAMES
    assert {row[0] for row in VARIANTS} == set(NAMES)  # so the tests below leave out none


def test_patterns():
    assert symbols.names("Pnet16*") == ["Pnet16_v0", "Pnet16_v1"]
    assert symbols.names("?net_v1") == ["Rnet_v1", "Onet_v1", "Lnet_v1"]
    assert symbols.names("*_p0") == ["Rnet_p0", "Onet_p0"]
    assert symbols.names("pnet*") == []  # names are told apart by case


def test_names_need_no_mxnet():
    """Listing the nets must work where MXNet doesn't import."""
    program = (
        "import sys; sys.modules['mxnet'] = None; import symbols; "
        "print(len(symbols.names()), symbols.spec('Rnet_v1').size)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        cwd=Path(__file__).resolve().parents[2],
    )
    assert done.stdout.split() == ["44", "24"], done.stderr


@pytest.mark.parametrize(
    "wrong, near",
    [
        ("pnet20_v1", "Pnet20_v1"),
        ("Pnet20-v3", "Pnet20_v3"),
        ("Rnet", "Rnet_v1"),
        ("Lnet106_112r_smal", "Lnet106_112r_small"),
        ("L14_112_heatmaps", "L14_112_heatmap"),
    ],
)
def test_an_unknown_name_brings_the_near_ones(wrong, near):
    with pytest.raises(symbols.UnknownNet) as caught:
        symbols.build(wrong)
    assert isinstance(caught.value, Problem) and isinstance(caught.value, KeyError)
    text = str(caught.value)
    assert repr(wrong) in text and near in text.split("near: ")[1].split(", ")


def test_an_unknown_name_without_near_ones():
    with pytest.raises(symbols.UnknownNet, match="no net is called 'vgg'.*--net all"):
        symbols.build("vgg")


@pytest.mark.parametrize(
    "alias, name",
    [
        ("Lnet106_64_residual", "Lnet106_64r"),
        ("Lnet106_80_residual", "Lnet106_80r"),
        ("Lnet106_96_residual", "Lnet106_96r"),
        ("Lnet106_112_small", "Lnet106_112r_small"),
        ("Lnet106_112r", "Lnet106_112r_small"),
        ("Lnet106_112_s", "Lnet106_112r_s"),
        ("Lnet106_112_big", "Lnet106_112r_big"),
        ("L14_112_heatmap", "L14_heatmap"),
    ],
)
def test_aliases_are_the_same_net(alias, name):
    assert symbols.spec(alias) is symbols.NETS[name]
    assert symbols.build(alias).tojson() == symbols.build(name).tojson()


def shapes_of(symbol, side):
    arguments, outputs, _ = symbol.infer_shape(data=(1, 3, side, side))
    return dict(zip(symbol.list_arguments(), arguments)), outputs


def test_base_and_points():
    shapes, outputs = shapes_of(symbols.build("Lnet106_v2", base=24, points=21), 48)
    assert shapes["conv1_weight"] == (24, 3, 3, 3)
    assert shapes["conv9_dw_weight"] == (8 * 24, 1, 3, 3)
    assert shapes["conv6_3_weight"] == (42, 8 * 24) and outputs == [(1, 42)]
    for options, out in (({"landmark": True, "points": 7}, 14), ({"landmark": True}, 10)):
        assert shapes_of(symbols.build("Onet_v2", **options), 48)[1][2] == (1, out)
    # three stages of a map per joint and one for the background
    assert shapes_of(symbols.build("L14_heatmap", points=4), 112)[1] == [(1, 3 * 5 * 28 * 28)]


def test_the_default_base_is_32():
    assert symbols.build("Lnet_v1").tojson() == symbols.build("Lnet_v1", base=32).tojson()


@pytest.mark.parametrize(
    "name, options, says",
    [
        ("Pnet20_v1", {"base": 16}, "no option base"),
        ("Onet_v1", {"base": 16}, "no option base"),
        ("Lnet106_64r", {"base": 16}, "no option base"),
        ("Pnet20_v1", {"points": 5}, "option points"),
        ("Rnet_p", {"points": 5}, "no option points"),
        ("Lnet_v1", {"base": 0}, "base is 0"),
        ("Lnet_v1", {"base": -16}, "base is -16"),
        ("Lnet_v1", {"base": 2.5}, "base is 2.5"),
        ("Lnet_v1", {"points": 0}, "points is 0"),
        ("Lnet_v1", {"mode": "deploy"}, "test, train"),
        ("Pnet20_v1", {"landmark": True}, "landmark"),
        ("Rnet_v1", {"landmark": True}, "landmark"),
        ("Onet_p", {"landmark": True}, "landmark"),
        ("Lnet_v1", {"landmark": True}, "landmark"),
    ],
)
def test_options_that_a_net_has_not(name, options, says):
    with pytest.raises(Problem, match=says):
        symbols.build(name, **options)


def test_names_of_nodes_do_not_hang_on_what_was_built_before():
    """MXNet numbers nameless nodes by a counter of the process: a checkpoint's symbol must not
    depend on it."""
    first = symbols.build("Lnet106_64r").tojson()
    symbols.build("Lnet106_64r", "train")
    assert symbols.build("Lnet106_64r").tojson() == first


@pytest.mark.parametrize(
    "name, stride, side",
    [
        (row[0], 2 if "s2" in row[0] or row[0] == "Pnet12" else 4, row[3])
        for row in VARIANTS
        if row[0].startswith("Pnet") and not row[2]
    ],
)
def test_pnets_give_an_output_for_each_step_of_the_window(name, stride, side):
    """One output where the picture is the window, one more for each stride that it is larger."""
    symbol = symbols.build(name)
    for rows, columns in ((1, 1), (4, 9)):
        height, width = side + (rows - 1) * stride, side + (columns - 1) * stride
        _, outputs, _ = symbol.infer_shape(data=(1, 3, height, width))
        assert outputs == [(1, 2, rows, columns), (1, 4, rows, columns)]


# ---- every variant -------------------------------------------------------------------------


@each(VARIANTS)
def test_parameters_and_outputs(variant):
    arguments, outputs, _ = variant.test.infer_shape(data=variant.data)
    shapes = dict(zip(variant.test.list_arguments(), arguments))
    assert shapes.pop("data") == variant.data
    assert sum(int(np.prod(shape)) for shape in shapes.values()) == variant.count
    assert dict(zip(variant.test.list_outputs(), outputs)) == variant.outputs
    assert variant.test.list_outputs() == list(variant.outputs)  # the order counts too


@pytest.mark.parametrize("name, landmark", list(PARAMETER_NAMES))
def test_parameter_names_in_order(name, landmark):
    """Published parameter files go by these names."""
    symbol = symbols.build(name, landmark=landmark)
    published = PARAMETER_NAMES[name, landmark].split()
    assert symbol.list_arguments() == ["data", *published]
    norms = [p[: -len("_beta")] for p in published if p.endswith("_beta")]
    assert symbol.list_auxiliary_states() == [
        f"{norm}_moving_{what}" for norm in norms for what in ("mean", "var")
    ]


@each(VARIANTS)
def test_training_graph_has_the_same_parameters(variant):
    arguments, _, auxiliary = variant.test.infer_shape(data=variant.data)
    inputs = {"data": variant.data, **variant.inputs}
    train_arguments, outputs, train_auxiliary = variant.train.infer_shape(**inputs)
    known = dict(zip(variant.train.list_arguments(), train_arguments))
    for name, shape in inputs.items():
        assert known.pop(name) == shape
    test = dict(zip(variant.test.list_arguments(), arguments))
    del test["data"]
    assert known == test
    assert dict(zip(variant.train.list_auxiliary_states(), train_auxiliary)) == dict(
        zip(variant.test.list_auxiliary_states(), auxiliary)
    )
    # prediction, loss and mask of each task
    tasks = [name.split("_")[0] for name in variant.train.list_outputs()[::3]]
    assert variant.train.list_outputs() == [
        f"{task}_{what}_output"
        for task in tasks
        for what in ("prob" if task == "cls" else "pred", "loss", "keep")
    ]
    assert outputs[1::3] == [(1,)] * len(tasks) and outputs[2::3] == [(BATCH,)] * len(tasks)


@each(VARIANTS)
def test_no_python_operator_in_training(variant):
    """A Python operator would be called in every step, and ties the net to this code."""
    operators = {node["op"] for node in json.loads(variant.train.tojson())["nodes"]}
    assert "LeakyReLU" not in operators  # its gradient is wrong in MXNet 1.9.1
    assert operators <= {
        "null",
        "Activation",
        "BatchNorm",
        "BlockGrad",
        "Concat",
        "Convolution",
        "Flatten",
        "FullyConnected",
        "MakeLoss",
        "Pooling",
        "Reshape",
        "_div_scalar",
        "_equal_scalar",
        "_greater_equal_scalar",
        "_minus_scalar",
        "_mul_scalar",
        "_plus_scalar",
        "_rminus_scalar",
        "abs",
        "argsort",
        "broadcast_add",
        "broadcast_div",
        "broadcast_lesser",
        "broadcast_maximum",
        "broadcast_mul",
        "clip",
        "elemwise_add",
        "elemwise_mul",
        "elemwise_sub",
        "exp",
        "expand_dims",
        "floor",
        "log_softmax",
        "negative",
        "ones_like",
        "pick",
        "reshape_like",
        "slice_axis",
        "square",
        "sum",
        "where",
    }


@each(RUN)
def test_runs_as_mxnet_binds_it(variant):
    """Three times, as MXNet's oneDNN backend lays outputs out anew from the second run on and
    has refused to slice those of some nets."""
    runs = []
    for _ in range(3):
        outputs = variant.bound.forward(is_train=False)
        runs.append(
            [np.concatenate([out[i : i + 1].asnumpy() for i in range(BATCH)]) for out in outputs]
        )
        whole = [out.asnumpy() for out in outputs]
        assert all(np.array_equal(a, b) for a, b in zip(runs[-1], whole))
    for first, second, third in zip(*runs):
        assert np.isfinite(first).all() and first.std() > 0
        assert np.array_equal(first, second) and np.array_equal(first, third)


@each(RUN)
def test_training_graph_predicts_what_the_test_graph_does(variant):
    """Its layers have another form (PReLU as convolutions, signs moved about): same values."""
    test = variant.bound
    # Bound for gradients, as for training: without, MXNet's oneDNN fusion of convolution and ReLU
    # gives other values for this form.
    train = variant.train.simple_bind(
        mx.cpu(), grad_req="write", data=variant.data, **variant.inputs
    )
    train.copy_params_from({k: v for k, v in test.arg_dict.items() if k != "data"}, test.aux_dict)
    want = [out.asnumpy().reshape(BATCH, -1) for out in test.forward(is_train=False)]
    got = [out.asnumpy() for out in train.forward(is_train=False, data=test.arg_dict["data"])]
    assert len(got) == 3 * len(want)
    for one, other in zip(want, got[::3]):
        assert one.shape == other.shape
        assert np.abs(one - other).max() <= 2e-5 * np.abs(one).max()

"""Rows of the tables that no net can be built of: one line says which layer, whoever reads them."""

import itertools
from dataclasses import replace

import numpy as np
import pytest

import symbols
from core import flops
from facelet.console import Problem
from symbols import graph, zoo
from symbols.mxnet_import import mx
from symbols.net import Head, Naming


def with_rows(name, changes, field="rows"):
    """A net of the zoo with some of its rows replaced: {number: row}, None takes one out."""
    rows = [changes.get(at, row) for at, row in enumerate(getattr(zoo.NETS[name], field))]
    return replace(zoo.NETS[name], **{field: tuple(row for row in rows if row is not None)})


def pnet(changes, **fields):
    return replace(with_rows("Pnet20_v1", changes), **fields)


def heads(*heads):
    return replace(zoo.NETS["Pnet20_v1"], heads=heads)


def residual(**fields):
    return replace(zoo.NETS["Lnet106_64r"], **fields)


CLS, BBOX = zoo.NETS["Pnet20_v1"].heads
BROKEN = [
    # what a row says, and what is said of it
    (
        pnet({3: ("dw+sep", 9, 1, 0, 24)}),
        "Pnet20_v1: conv4_dw has a kernel larger than its 4 pixel",
    ),
    (pnet({2: ("dw+sep", 3, 4, 0, 16)}), "strides of its layers make 8"),
    (pnet({2: ("dw+sep", 3, 1, 0, 16)}, stride=2), "conv4_1 gets 4x4 positions from prelu5_dw"),
    (pnet({4: None}), "conv4_1 gets 3x3 positions from prelu4 for an input of 20"),
    (pnet({1: ("dw+sep", 3, 0, 0, 8)}), r"stride of layer 2 \('dw\+sep', 3, 0, 0, 8\) is 0"),
    (pnet({1: ("dw+sep", 3, -2, 0, 8)}), "stride of layer 2 .* is -2"),
    (pnet({1: ("dw+sep", 0, 2, 0, 8)}), "kernel of layer 2 .* is 0"),
    (pnet({1: ("dw+sep", 3, 2, -1, 8)}), "pad of layer 2 .* is -1; .* from 0"),
    (pnet({1: ("dw+sep", 3, 2, 0, 0)}), "out of layer 2 .* is 0"),
    (pnet({1: ("dw+sep", 3, 2, 0, 8.5)}), "out of layer 2 .* is 8.5"),
    (pnet({1: ("conv3", 3, 2, 0, 8)}), "layer 2 .* is of kind 'conv3'"),
    (pnet({1: ("pool+sep", 3, 2, 0, 8)}), "layer 2 .* is of kind 'pool\\+sep'"),
    (pnet({1: ("dw+sep", 3, 2, 8)}), "layer 2 is .*; it must be \\(kind, kernel, stride"),
    (pnet({4: ("dw", 3, 1, 0, 32)}), "layer 5 .* which are 24, not 32"),
    (with_rows("Pnet20_v3", {1: ("pool", 3, 2, 0, 16)}), "layer 2 .* which are 8, not 16"),
    (with_rows("Pnet20_v3", {1: ("pool", 3, 2, 1, 8)}), "pad of layer 2 .* is 1"),
    (with_rows("Pnet20_v3", {2: ("sep", 3, 1, 0, 16)}), "layer 3 .* kernel, stride, pad"),
    (with_rows("Rnet_v1", {1: ("fc", 1, 1, 0, 8)}), "its Naming says nothing of fc"),
    (replace(zoo.NETS["Rnet24"], bn=True), "layer 6 .* lacks a name: its Naming of dense"),
    (with_rows("Rnet24", {4: ("conv", 5, 1, 0, 64)}), "conv3 has a kernel larger than its 4"),
    (with_rows("Onet_p", {1: ("dw", 3, 1, 0, 64)}, "branch"), "branch layer 2 .* which are 128"),
    (replace(zoo.NETS["Onet_p"], heads=zoo.NETS["Onet_v1"].heads), "layers are called"),
    (heads(CLS, replace(BBOX, layer="conv4_1")), "two of its layers are called conv4_1"),
    (heads(CLS, replace(BBOX, bn="bn4_1")), "two of its layers are called bn4_1"),
    (heads(CLS, replace(BBOX, layer="")), "its bbox head names no layer"),
    (heads(CLS, replace(BBOX, task="box")), "heads are for .*'box'"),
    (heads(CLS, replace(BBOX, task="cls")), "heads are for .*'cls', 'cls'"),
    (heads(), "heads are for \\[\\]"),
    (heads(CLS, Head("landmark", "conv4_3", None)), "no number of points"),
    (pnet({}, naming=Naming(dw=("conv_dw", "bn_dw", "prelu_dw"))), "are called conv_dw"),
    (pnet({}, plain_relu=("relu9",)), "plain_relu names relu9"),
    (pnet({}, architecture="resnet"), "its architecture is 'resnet'"),
    (pnet({}, bias="some"), "its bias is 'some'"),
    (pnet({}, stride=0), "its stride is 0"),
    (pnet({}, size=0), "its size is 0"),
    (residual(rows=(8, (1, 2, 3), (64, 128, 256))), "conv6_3 gets 5x5 positions from fc2_relu"),
    (residual(rows=(8, (1, 2, 3, 2, 1), (64, 128, 256))), "conv6_conv2d has a kernel larger"),
    (residual(rows=(8, (1, 2, 3, -2), (64, 128, 256))), "one of its blocks is -2"),
    (residual(rows=(0, (1, 2, 3, 2), (64, 128, 256))), "its width is 0"),
    (residual(rows=(8, (1, 2, 3, 2), (64, 128))), "its fc is .*conv6, fc1, fc2"),
    (
        replace(
            zoo.NETS["L14_heatmap"],
            rows=(
                zoo.NETS["L14_heatmap"].rows[0],
                (("conv6", "dw", 7, 1, 2, 64), *zoo.NETS["L14_heatmap"].rows[1][1:]),
            ),
        ),
        "stg1_conv6_dw_conv2d is depthwise with 64 outputs and 32 inputs",
    ),
    (
        replace(
            zoo.NETS["L14_heatmap"],
            rows=(
                zoo.NETS["L14_heatmap"].rows[0],
                (("conv6", "dw", 7, 2, 2, 32), *zoo.NETS["L14_heatmap"].rows[1][1:]),
            ),
        ),
        "stg2_concat joins maps of different sizes",
    ),
]


def named(net):
    name, text = net
    return f"{name.name}: {text}"


@pytest.mark.parametrize("net, says", BROKEN, ids=map(named, BROKEN))
def test_a_row_that_can_not_be_built(net, says, monkeypatch):
    """Wherever it is read first, and before MXNet sees it."""
    monkeypatch.setitem(zoo.NETS, net.name, net)
    for read in (graph.describe, symbols.build, flops.record):
        with pytest.raises(Problem, match=says) as caught:
            read(net.name)
        assert "\n" not in str(caught.value) and str(caught.value).startswith(net.name)
    with pytest.raises(Problem, match=says):
        symbols.build(net.name, "train")


@pytest.mark.parametrize("option", ["base", "points"])
@pytest.mark.parametrize(
    "value, says", [(0, "is 0"), (-3, "is -3"), (2.5, "is 2.5"), (10**7, "parameters, more than")]
)
def test_options_out_of_all_bounds(option, value, says):
    for read in (graph.describe, symbols.build, flops.record):
        with pytest.raises(Problem, match=says):
            read("Lnet_v2", **{option: value})


def random_rows():
    """Chains of three layers with kernels, strides and pads drawn at random."""
    rng = np.random.default_rng(0)
    for _ in range(60):
        rows, channels = [], 3
        for kind in rng.choice(["conv", "dw", "dw+sep", "pool"], 3):
            kernel, stride, pad = rng.integers([1, 1, 0], [6, 4, 2]).tolist()
            if kind in ("conv", "dw+sep"):
                channels = int(rng.integers(1, 9))
            rows.append((str(kind), kernel, stride, 0 if kind == "pool" else pad, channels))
        yield tuple(rows)


def test_what_passes_runs_in_mxnet_and_what_does_not_fails_there(monkeypatch):
    """Of rows at random: the shapes of MXNet itself, window and training graph, are the judge."""
    passed, rnet = 0, zoo.NETS["Rnet_v1"]
    for rows in random_rows():
        net = replace(rnet, rows=rows, size=16)
        monkeypatch.setitem(zoo.NETS, "Rnet_v1", net)
        try:
            symbol = symbols.build("Rnet_v1")
        except Problem:
            with monkeypatch.context() as unchecked:
                unchecked.setattr("symbols.graph.describe", lambda *_: None)
                assert not one_position(net, symbols.build("Rnet_v1"))
            continue
        passed += 1
        assert one_position(net, symbol)
        _, outputs, _ = symbols.build("Rnet_v1", "train").infer_shape(
            data=(2, 3, 16, 16), label=(2,)
        )
        assert outputs[0] == (2, 2)
    assert passed > 5


def one_position(net, symbol):
    """Whether MXNet finds shapes for a net, with one position before its heads."""
    inner = symbol.get_internals()
    last = [name for name in inner.list_outputs() if name.startswith(("prelu", "pool"))][-1]
    try:
        _, (shape,), _ = inner[last].infer_shape(data=(1, 3, net.size, net.size))
    except mx.base.MXNetError:
        return False
    return shape is not None and shape[2:] == (1, 1)


def test_every_net_of_the_zoo_passes():
    for name, options in itertools.chain.from_iterable(
        ((name, options) for options in zoo.variants(name)) for name in zoo.names()
    ):
        graph.describe(name, **options)

"""Graphs without MXNet: of every net they have the layers, parameters and shapes that MXNet finds
in its own symbol."""

import json

import numpy as np
import pytest

import symbols
from facelet.console import Problem
from symbols import graph, zoo
from symbols.graph import DATA, Graph, Node
from symbols.mxnet_import import mx

OPTIONS = [(name, {}) for name in symbols.names()]
OPTIONS += [(name, {"landmark": True}) for name in symbols.names() if zoo.NETS[name].landmark]
OPTIONS += [
    ("Onet_v2", {"landmark": True, "points": 7}),
    ("Pnet12", {"landmark": True, "points": 3}),
    ("Lnet_v1", {"base": 8}),
    ("Lnet106_v2", {"base": 16, "points": 21}),
    ("Lnet106_96_v3", {"base": 128}),
    ("Lnet106_64r", {"points": 68}),
    ("L14_heatmap", {"points": 5}),
]

KINDS = {
    "Convolution": "conv",
    "FullyConnected": "dense",
    "BatchNorm": "bn",
    "LeakyReLU": "prelu",
    "Activation": "relu",
    "Pooling": "pool",
    "elemwise_add": "add",
    "Concat": "concat",
    "Flatten": "flatten",
    "SoftmaxActivation": "softmax",
}
SAME = {"stride": 1, "pad": 0, "dilate": 1}  # the defaults that symbols leave out


def sides(text):
    """The side in MXNet's "(3, 3)"."""
    across, down = json.loads(text.replace("(", "[").replace(")", "]"))
    assert across == down
    return across


def as_mxnet_has_it(symbol):
    """What a symbol's JSON says of its operators, in the words of Node, sorted by name."""
    text = json.loads(symbol.tojson())
    known = {
        index: DATA if node["name"] == "data" else None
        for index, node in enumerate(text["nodes"])
        if node["op"] == "null"
    }
    found = []
    for index, node in enumerate(text["nodes"]):
        if node["op"] == "null":
            continue
        attrs, kind = node.get("attrs", {}), KINDS[node["op"]]
        inputs = [known[source] for source, *_ in node["inputs"] if known[source] is not None]
        known[index] = node["name"]
        about = {"op": kind, "name": node["name"], "inputs": tuple(inputs)}
        if kind in ("conv", "pool"):
            about.update(
                kernel=sides(attrs["kernel"]),
                **{
                    key: sides(attrs[key]) if key in attrs else value for key, value in SAME.items()
                },
            )
        if kind == "conv":
            about.update(
                channels=int(attrs["num_filter"]),
                bias=attrs["no_bias"] == "False",
                depthwise=int(attrs.get("num_group", 1)) > 1,
            )
        if kind == "dense":
            about.update(channels=int(attrs["num_hidden"]))
        if kind == "pool":
            assert (attrs["pool_type"], attrs["pooling_convention"]) == ("max", "full")
        if kind == "bn":
            about.update(eps=float(attrs["eps"]), fix_gamma=attrs["fix_gamma"] == "True")
        found.append(about)
    return sorted(found, key=lambda about: about["name"])


@pytest.mark.parametrize("name, options", OPTIONS)
def test_layers_and_shapes_are_those_of_the_symbol(name, options):
    mine, symbol = graph.describe(name, **options), symbols.build(name, **options)
    theirs = as_mxnet_has_it(symbol)
    nodes = sorted(mine.nodes, key=lambda node: node.name)
    assert [{key: getattr(node, key) for key in about} for node, about in zip(nodes, theirs)] == (
        theirs
    )
    assert len(nodes) == len(theirs) and all(node.top == node.name for node in nodes)

    size = zoo.spec(name).size
    arguments, outputs, auxiliary = symbol.infer_shape(data=(1, 3, size, size))
    found = graph.parameter_shapes(mine, size)
    expected = [
        [(key, shape) for key, shape in zip(names, shapes) if key != DATA]
        for names, shapes in (
            (symbol.list_arguments(), arguments),
            (symbol.list_auxiliary_states(), auxiliary),
        )
    ]
    assert [list(part.items()) for part in found] == expected  # in MXNet's order too
    blobs = graph.shapes(mine, size, size)
    assert [f"{blob}_output" for blob in mine.outputs.values()] == symbol.list_outputs()
    assert [blobs[blob] for blob in mine.outputs.values()] == [shape[1:] for shape in outputs]
    assert all(blobs[node.top] for node in mine.nodes)


@pytest.mark.parametrize(
    "name, height, width",
    [
        ("Pnet20_v3", 37, 90),
        ("Pnet20_v7", 61, 24),
        ("Pnet20_p", 55, 43),
        ("Pnet12", 33, 18),
        ("Pnet20_s2v1", 21, 40),
    ],
)
def test_shapes_of_pictures(name, height, width):
    """Every blob, at sizes where strides leave rests and pooling windows hang over."""
    internals = symbols.build(name).get_internals()
    _, expected, _ = internals.infer_shape(data=(1, 3, height, width))
    expected = {
        key[: -len("_output")]: shape[1:]
        for key, shape in zip(internals.list_outputs(), expected)
        if key.endswith("_output")
    }
    found = graph.shapes(graph.describe(name), height, width)
    assert found.pop(DATA) == (3, height, width)
    assert found == expected


@pytest.mark.parametrize(
    "name, options, says",
    [
        ("Pnet20_v99", {}, "no net is called 'Pnet20_v99'"),
        ("Pnet20_v1", {"base": 16}, "Pnet20_v1 has no option base"),
        ("Onet_v1", {"points": 5}, "no option points without landmark=True"),
        ("Lnet_v1", {"base": 0}, "base is 0"),
        ("Rnet_v1", {"landmark": True}, "Rnet_v1 has no landmark=True"),
    ],
)
def test_options_that_a_net_has_not(name, options, says):
    with pytest.raises(Problem, match=says):
        graph.describe(name, **options)


def small(*nodes):
    return Graph(nodes, {"cls": nodes[-1].top})


@pytest.mark.parametrize(
    "nodes, says",
    [
        (
            [Node("conv", "c", (DATA,), channels=4, kernel=7)],
            "c has a kernel larger than its 6 pixel",
        ),
        ([Node("conv", "c", (DATA,), channels=4, kernel=4, dilate=2)], "c has a kernel larger"),
        ([Node("pool", "p", (DATA,), kernel=7, stride=2)], "p has a kernel larger"),
        (
            [Node("conv", "c", (DATA,), channels=4, depthwise=True)],
            "c is depthwise with 4 outputs and 3 inputs",
        ),
        (
            [Node("dense", "d", (DATA,), channels=4), Node("conv", "c", ("d",), channels=4)],
            r"c needs a map for its input, which has shape \(4,\)",
        ),
        (
            [Node("conv", "c", (DATA,), channels=3, kernel=2), Node("add", "a", ("c", DATA))],
            "a adds blobs of different shapes",
        ),
        (
            [Node("conv", "c", (DATA,), channels=3, kernel=2), Node("concat", "a", ("c", DATA))],
            "a joins maps of different sizes",
        ),
    ],
)
def test_layers_that_do_not_fit_one_another(nodes, says):
    with pytest.raises(Problem, match=says):
        graph.shapes(small(*nodes), 6, 9)


def test_pictures_too_small_for_a_net():
    with pytest.raises(Problem, match="kernel larger"):
        graph.shapes(graph.describe("Pnet20_v1"), 19, 7)


def test_who_reads_a_blob_and_whose_parameters():
    pnet = graph.describe("Pnet20_v1")
    assert [node.name for node in pnet.readers()["prelu5_dw"]] == ["conv4_1", "conv4_2"]
    assert pnet.with_params({"a": 1, "b": 2}, {"b": 3}).params == {"a": 1, "b": 3}


# ---- batch norms with another eps ----------------------------------------------------------


@pytest.mark.parametrize("eps", [0.0, 1e-9, 2e-5, 1e-4, 1e-3, 0.01])
def test_another_eps_does_the_same(eps):
    """Against MXNet's BatchNorm, both ways."""
    rng = np.random.default_rng(5)
    variance = np.array([0.004, 1e-3, 9e-4, 3e-4, 1e-5, 1e-12, 0, 0.3, 7e22], np.float32)
    gamma, mean, beta = rng.normal(0, 2, (3, len(variance))).astype(np.float32)
    spread = np.sqrt(variance + np.float32(eps))
    mean *= spread  # what is far off the mean would be lost in float32
    x = (mean + rng.normal(size=(4, len(variance))) * spread).astype(np.float32)
    new_gamma, new_variance = graph.with_zoo_eps(gamma, variance, eps)
    assert new_gamma.dtype == new_variance.dtype == np.float32 and new_variance.min() >= 0
    # gamma changes only where a variance would have to be negative
    keeps = variance.astype(np.float64) + eps >= graph.BN_EPS
    np.testing.assert_array_equal(new_gamma[keeps], gamma[keeps])
    if eps == graph.BN_EPS:
        assert new_gamma is gamma and new_variance is variance

    def formula(gamma, variance, eps):
        return gamma * (x - mean) / np.sqrt(variance.astype(np.float64) + eps) + beta

    with np.errstate(divide="ignore", invalid="ignore"):
        expected = formula(gamma, variance, eps)
    exists = variance + eps > 0
    np.testing.assert_allclose(
        formula(new_gamma, new_variance, 1e-3)[:, exists], expected[:, exists], rtol=1e-5, atol=1e-6
    )
    assert np.isfinite(new_gamma).all()
    if eps:
        symbol = mx.sym.BatchNorm(mx.sym.var("data"), name="bn", fix_gamma=False, eps=eps)
        values = {"data": x, "bn_gamma": gamma, "bn_beta": beta}
        executor = symbol.bind(
            mx.cpu(),
            {key: mx.nd.array(value) for key, value in values.items()},
            aux_states={
                "bn_moving_mean": mx.nd.array(mean),
                "bn_moving_var": mx.nd.array(variance),
            },
        )
        theirs = executor.forward(is_train=False)[0].asnumpy()
        np.testing.assert_allclose(
            formula(new_gamma, new_variance, 1e-3), theirs, rtol=1e-5, atol=1e-5
        )

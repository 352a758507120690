"""Merged and rescaled nets: the same values, of ordinary size."""

from dataclasses import replace

import numpy as np
import pytest
from trained import huge, trained

from core.detect.mxnet_net import MxNet
from core.formats import fuse, numpy_net
from facelet.console import Problem
from symbols.graph import DATA, Graph, Node

FLOAT16_MOST = 65504
# batch norms in the trunk or only at the heads; additions, joined maps, branches, dense heads
NETS = [
    ("Pnet20_v1", {}),
    ("Pnet20_p", {}),
    ("Rnet_v1", {}),
    ("Rnet_p0", {}),
    ("Onet_v1", {"landmark": True}),
    ("Lnet_v2", {"base": 16}),
    ("Lnet106_64r", {}),
    ("Lnet106_112r_s", {}),
    ("L14_heatmap", {}),
    ("Onet48", {"landmark": True}),
]
HUGE = ["Pnet20_v0", "Pnet20_v3", "Rnet_v1", "Onet_v1"]


def outputs(graph, size):
    return numpy_net.run(graph, numpy_net.seeded_input(size, count=1))


def difference(graph, original, size):
    return numpy_net.difference(outputs(graph, size), outputs(original, size))


# ---- merging -------------------------------------------------------------------------------


@pytest.mark.parametrize("name, options", NETS)
def test_merged_nets_give_what_mxnet_gives(name, options):
    checkpoint = trained(name, **options)
    merged = fuse.merge(checkpoint.graph())
    assert not any(node.op == "bn" for node in merged.nodes)
    assert {name for node in merged.nodes for name in node.parameters()} == set(merged.params)
    assert all(value.dtype == np.float32 for value in merged.params.values())
    data = numpy_net.seeded_input(checkpoint.spec.size)
    theirs = MxNet(checkpoint)(data)
    results = numpy_net.run(merged, data)
    assert numpy_net.difference(results, theirs) < 2e-5


def layer(op="conv", bias=True, **about):
    """A layer and a batch norm behind it, with parameters by chance."""
    rng = np.random.default_rng(4)
    nodes = (Node(op, "c", (DATA,), channels=4, bias=bias), Node("bn", "b", ("c",), **about))
    params = {
        "c_weight": rng.normal(size=(4, 3, 1, 1) if op == "conv" else (4, 12)),
        "c_bias": rng.normal(size=4),
        "b_gamma": rng.normal(size=4),
        "b_beta": rng.normal(size=4),
        "b_moving_mean": rng.normal(size=4),
        "b_moving_var": rng.uniform(0.1, 2, 4),
    }
    if not bias:
        del params["c_bias"]
    return Graph(
        nodes, {"out": "b"}, {key: value.astype(np.float32) for key, value in params.items()}
    )


@pytest.mark.parametrize("op", ["conv", "dense"])
@pytest.mark.parametrize(
    "about",
    [
        {},
        {"bias": False},
        {"eps": 0.5},
        {"fix_gamma": True},
        {"eps": 0.0, "fix_gamma": True, "bias": False},
    ],
)
def test_what_the_layer_takes_over(op, about):
    """The formula of the batch norm, for each channel."""
    graph = layer(op, **about)
    merged, params = fuse.merge(graph), graph.params
    for i in range(4):
        gamma = 1 if about.get("fix_gamma") else params["b_gamma"][i]
        factor = gamma / np.sqrt(float(params["b_moving_var"][i]) + about.get("eps", 1e-3))
        np.testing.assert_allclose(
            merged.params["c_weight"][i], params["c_weight"][i] * factor, rtol=1e-6
        )
        bias = params["c_bias"][i] if "c_bias" in params else 0
        assert merged.params["c_bias"][i] == pytest.approx(
            (bias - params["b_moving_mean"][i]) * factor + params["b_beta"][i], rel=1e-5
        )
    (node,) = merged.nodes
    assert (node.name, node.top, node.bias) == ("c", "b", True)
    assert set(graph.params) == {
        "c_weight",
        "b_gamma",
        "b_beta",
        "b_moving_mean",
        "b_moving_var",
        *(["c_bias"] if about.get("bias", True) else []),
    }  # left alone
    assert difference(merged, graph, 2) < 1e-6


@pytest.mark.parametrize(
    "change",
    [
        # the layer's own values are read elsewhere, or are an output
        lambda graph: replace(
            graph,
            nodes=(*graph.nodes, Node("relu", "r", ("c",))),
            outputs={"out": "b", "other": "r"},
        ),
        lambda graph: replace(graph, outputs={"out": "b", "other": "c"}),
        # there is no layer to merge into
        lambda graph: replace(
            graph,
            nodes=(
                graph.nodes[0],
                Node("relu", "r", ("c",)),
                replace(graph.nodes[1], inputs=("r",)),
            ),
        ),
        lambda graph: replace(
            graph,
            nodes=(
                replace(graph.nodes[1], inputs=(DATA,), top="x"),
                replace(graph.nodes[0], inputs=("x",), top="b"),
            ),
            params={
                **graph.params,
                **{
                    f"b_{kind}": graph.params[f"b_{kind}"][:3]
                    for kind in ("gamma", "beta", "moving_mean", "moving_var")
                },
            },
        ),
    ],
)
def test_batch_norms_that_stay(change):
    graph = change(layer())
    merged = fuse.merge(graph)
    assert merged.nodes == graph.nodes and merged.params.keys() == graph.params.keys()
    assert difference(fuse.rescale(merged), graph, 2) < 1e-6


def test_one_of_two_batch_norms_in_a_row_stays():
    graph = layer()
    second = {
        f"d_{kind}": graph.params[f"b_{kind}"]
        for kind in ("gamma", "beta", "moving_mean", "moving_var")
    }
    graph = replace(
        graph,
        nodes=(*graph.nodes, Node("bn", "d", ("b",), eps=0.1)),
        outputs={"out": "d"},
        params={**graph.params, **second},
    )
    merged = fuse.merge(graph)
    assert [node.name for node in merged.nodes] == ["c", "d"]
    assert difference(merged, graph, 2) < 1e-6


# ---- rescaling -----------------------------------------------------------------------------


def moved_by_powers_of_two(new, old):
    """Whether each array of `new` is that of `old` times one power of two."""
    for name, value in new.items():
        before = old[name]
        assert np.array_equal(value == 0, before == 0), name
        factors = np.unique(value[before != 0].astype(np.float64) / before[before != 0])
        assert len(factors) <= 1 and np.all(np.frexp(factors)[0] == 0.5), (name, factors)
    return True


@pytest.mark.parametrize(
    "make, name, options",
    [*((trained, *net) for net in NETS), *((huge, name, {}) for name in HUGE)],
)
def test_rescaling_rounds_nothing(make, name, options):
    """Merged nets come out of it with the very same outputs, to the last bit."""
    checkpoint = make(name, **options)
    merged = fuse.merge(checkpoint.graph())
    rescaled = fuse.rescale(merged)
    assert moved_by_powers_of_two(rescaled.params, merged.params)
    expected = outputs(merged, checkpoint.spec.size)
    for task, values in outputs(rescaled, checkpoint.spec.size).items():
        np.testing.assert_array_equal(values, expected[task])
    assert rescaled.nodes == merged.nodes


@pytest.mark.parametrize("name, options", NETS)
def test_batch_norms_are_rescaled_too(name, options):
    """Unmerged: their eps moves into the variance, which is rounded once."""
    checkpoint = trained(name, **options)
    graph = checkpoint.graph()
    rescaled = fuse.rescale(graph)
    assert all(node.eps == 0 for node in rescaled.nodes if node.op == "bn")
    weights = {key: value for key, value in rescaled.params.items() if not key.endswith("_var")}
    assert moved_by_powers_of_two(weights, graph.params)
    assert difference(rescaled, graph, checkpoint.spec.size) < 1e-6


@pytest.mark.parametrize("name", HUGE)
def test_huge_activations_become_ordinary(name):
    checkpoint = huge(name)
    graph, size = checkpoint.graph(), checkpoint.spec.size
    data = numpy_net.seeded_input(size)
    ready = fuse.prepared(graph, size)
    assert numpy_net.largest_activation(graph, data) > 1e12
    assert numpy_net.largest_activation(ready, data) < FLOAT16_MOST

    def largest_weights(graph):
        return [
            np.abs(value).max() for key, value in graph.params.items() if key.endswith("_weight")
        ]

    assert min(largest_weights(fuse.merge(graph))) < 1e-9  # engines would drop the heads
    assert min(largest_weights(ready)) > 1e-3
    results = numpy_net.run(ready, data)
    theirs = MxNet(checkpoint)(data)
    assert numpy_net.difference(theirs, results) < 2e-5


def test_what_is_added_or_joined_keeps_one_scale():
    """Two layers of very different size whose sum, or whose maps side by side, are read."""
    rng = np.random.default_rng(0)
    for op, channels in (("add", 2), ("concat", 4)):
        nodes = (
            Node("conv", "a", (DATA,), channels=2),
            Node("prelu", "p", ("a",)),
            Node("conv", "b", (DATA,), channels=2),
            Node(op, "s", ("p", "b")),
            Node("pool", "m", ("s",), kernel=2, stride=2),
            Node("conv", "e", ("m",), channels=2),
            Node("softmax", "f", ("e",)),
        )
        graph = Graph(
            nodes,
            {"cls": "f"},
            {
                "a_weight": rng.normal(size=(2, 3, 1, 1)) * 1000,
                "a_bias": rng.normal(size=2),
                "b_weight": rng.normal(size=(2, 3, 1, 1)) / 1000,
                "b_bias": rng.normal(size=2),
                "p_gamma": rng.normal(size=2),
                "e_weight": rng.normal(size=(2, channels, 1, 1)) / 1000,
                "e_bias": rng.normal(size=2),
            },
        )
        graph = graph.with_params(
            {key: value.astype(np.float32) for key, value in graph.params.items()}
        )
        expected = outputs(graph, 6)["cls"]
        assert 0.01 < expected.min() and expected.std() > 0.01
        np.testing.assert_array_equal(outputs(fuse.rescale(graph), 6)["cls"], expected)


# ---- the check -----------------------------------------------------------------------------


def test_a_damaged_net_is_refused():
    checkpoint = trained("Pnet20_v1")
    graph = checkpoint.graph()
    ready = fuse.prepared(graph, 20)
    assert fuse.check(ready, graph, 20, "it") < 1e-6
    for name, index, change, says in (
        ("conv2_dw_weight", (3, 0, 1, 1), 0.01, "it differs from its checkpoint by .* of the"),
        ("conv4_2_bias", 2, 1e-3, "it differs"),
        ("prelu4_gamma", 1, np.nan, "no numbers"),
    ):
        params = {key: value.copy() for key, value in ready.params.items()}
        params[name][index] += change
        with pytest.raises(Problem, match=says):
            fuse.check(ready.with_params(params), graph, 20, "it")


def test_a_checkpoint_that_is_no_number_is_refused():
    checkpoint = trained("Rnet_v1")
    checkpoint.arguments["conv3_sep_weight"][5] = np.inf
    with pytest.raises(Problem, match="no numbers"):
        fuse.prepared(checkpoint.graph(), 24)


def test_weights_that_are_nothing_become_nothing():
    """Numbers that processors are slow with, and those of which products are such; others stay, and
    the net gives what it gave."""
    made = trained("Rnet_v1")
    name = next(name for name, value in made.arguments.items() if value.ndim == 4)
    made.arguments[name] = values = made.arguments[name].copy()
    values.reshape(-1)[:4] = [1e-40, -3e-42, 2e-30, 1e-15]
    for graph in (fuse.prepared(made.graph(), 24), fuse.fast(fuse.prepared(made.graph(), 24), 24)):
        for value in graph.params.values():
            small = np.abs(value[value != 0])
            assert not len(small) or small.min() >= 1e-19
        assert difference(graph, made.graph(), 24) < 1e-5

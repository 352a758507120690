"""The form in which onnxruntime runs nets, and nets read back out of ONNX models."""

from dataclasses import replace

import numpy as np
import onnx
import pytest
from trained import trained

from core.detect import nets
from core.formats import checkpoint as checkpoints
from core.formats import fuse, numpy_net, onnx_file
from facelet.console import Problem
from facelet.onnx_net import OnnxNet
from symbols import zoo
from symbols.graph import DATA, Graph, Node, shapes

# every net that slides or takes crops of 24 and 48; of the landmark nets one of each kind
CASCADE = [(name, {}) for name in zoo.names() if zoo.NETS[name].family != "Lnet"]
OTHERS = [
    ("Onet_v2", {"landmark": True}),
    ("Rnet24", {"landmark": True}),
    ("Onet48", {"landmark": True, "points": 7}),
    ("Lnet_v1", {"base": 16}),
    ("Lnet_v2", {"base": 8}),
    ("Lnet_v3", {"base": 8}),
    ("Lnet106_96_v3", {"base": 8}),
    ("Lnet106_64r", {}),
    ("Lnet106_112r_s", {}),
]
HEATMAP = ("L14_heatmap", {})  # has one of everything, but takes seconds to run
WITH_POOLS = [
    ("Pnet12", {}),
    ("Pnet20_v3", {}),
    ("Pnet20_v7", {}),
    ("Rnet24", {}),
    ("Onet48", {"landmark": True}),
]


def forms(checkpoint):
    """Its graph as trained, as exported and as run."""
    merged = fuse.rescale(fuse.merge(checkpoint.graph()))
    return checkpoint.graph(), merged, fuse.fast(merged, checkpoint.spec.size)


def model(graph, checkpoint):
    size = checkpoint.spec.size
    return onnx_file.model(graph, checkpoint.facts(), shapes(graph, size, size))


def picture(spec):
    """An input of the net's size, or with rests at every stride where any size will do."""
    height, width = (spec.size + 13, spec.size + 34) if spec.stride else (spec.size,) * 2
    rng = np.random.default_rng(spec.size)
    return rng.uniform(-1, 1, (2, 3, height, width)).astype(np.float32)


def spread_of(values):
    return min(np.std(value) for value in values.values())


# ---- PReLU in parts, sigmoids for a softmax ------------------------------------------------


@pytest.mark.parametrize("name, options", CASCADE + OTHERS)
def test_values_are_the_same(name, options):
    """In double precision, from the parameters as they were trained; slopes of both signs."""
    checkpoint = trained(name, **options)
    *_, graph = forms(checkpoint)
    data = picture(checkpoint.spec)
    expected = numpy_net.run(checkpoint.graph(), data)
    results = numpy_net.run(graph, data)
    assert list(results) == list(expected) and spread_of(expected) > 1e-4
    for task, values in results.items():
        assert values.shape == expected[task].shape
    assert numpy_net.difference(results, expected) < 1e-5


@pytest.mark.parametrize("name, options", [*CASCADE, *OTHERS, HEATMAP])
def test_what_is_left_in_the_graph(name, options):
    """PReLUs behind fully connected layers alone, no softmax, and no more parameters than nodes
    have; the graph that came in stays as it was."""
    graph = fuse.merge(checkpoints.initial(name, options, 0, 0.25).graph())
    before = graph.nodes, dict(graph.params)
    size = zoo.spec(name).size
    made = fuse.fast(graph, size)
    assert graph.nodes == before[0] and all(
        graph.params[key] is before[1][key] for key in graph.params
    )
    known = shapes(made, size, size)
    flat = [node.name for node in made.nodes if node.op == "prelu"]
    assert all(len(known[name]) == 1 for name in flat)
    assert flat == {"Rnet24": ["prelu4"], "Onet48": ["prelu5"]}.get(name, [])
    assert not any(node.op in ("softmax", "bn") for node in made.nodes)
    assert made.outputs == graph.outputs
    assert all(known[blob] == shapes(graph, size, size)[blob] for blob in made.outputs.values())
    names = [key for node in made.nodes for key in node.parameters()]
    assert sorted(names) == sorted(made.params)
    assert all(value.dtype == np.float32 for value in made.params.values())
    assert len({node.name for node in made.nodes}) == len(made.nodes)


@pytest.mark.parametrize("name, options", WITH_POOLS)
@pytest.mark.parametrize(
    "slopes, changes_places",
    [([0.25], True), ([0.0, 1.7], True), ([0.5, 0.5, -1e-3], False), ([-2.0], False)],
)
def test_pooling_first_where_slopes_allow_it(name, options, slopes, changes_places):
    """max(prelu(x)) is prelu(max(x)) as long as no channel's slope is negative."""
    checkpoint = trained(name, **options)
    for key, value in checkpoint.arguments.items():
        if key.startswith("prelu") and value.size:
            value[:] = np.resize(slopes, value.shape)
    _, original, graph = forms(checkpoint)
    pools = [node for node in graph.nodes if node.op == "pool"]
    makers = {node.top: node for node in graph.nodes}
    assert len(pools) == sum(node.op == "pool" for node in original.nodes) > 0
    for pool in pools:  # behind the convolution itself, or the two parts of its PReLU
        assert (makers[pool.inputs[0]].op == "conv") == changes_places
    data = picture(checkpoint.spec)
    expected = numpy_net.run(original, data)
    assert numpy_net.difference(numpy_net.run(graph, data), expected) < 1e-5


def one_prelu(slopes, *behind, outputs=None):
    """A convolution of four channels, a PReLU `p`, and what stands behind it."""
    rng = np.random.default_rng(6)
    nodes = (Node("conv", "c", (DATA,), channels=4, kernel=2), Node("prelu", "p", ("c",)), *behind)
    graph = Graph(
        nodes, outputs or {"out": nodes[-1].top}, {"p_gamma": np.array(slopes, np.float32)}
    )
    known = shapes(graph, 8, 8)
    params = dict(graph.params)
    for node in nodes:
        if node.op == "conv":
            inputs = 1 if node.depthwise else known[node.inputs[0]][0]
            params[f"{node.name}_weight"] = rng.normal(
                size=(node.channels, inputs, node.kernel, node.kernel)
            ).astype(np.float32)
            if node.bias:
                params[f"{node.name}_bias"] = rng.normal(size=node.channels).astype(np.float32)
    return graph.with_params(params)


DEPTHWISE = dict(channels=4, kernel=3, depthwise=True)


@pytest.mark.parametrize(
    "behind, outputs",
    [
        ([Node("conv", "d", ("p",), **DEPTHWISE)], None),
        ([Node("conv", "d", ("p",), **DEPTHWISE, bias=False, stride=2, pad=1, dilate=2)], None),
        ([Node("conv", "d", ("p",), channels=3, kernel=3)], None),  # joins channels
        # several readers: all depthwise, or not all, or an addition of the same twice
        (
            [Node("conv", "d", ("p",), **DEPTHWISE), Node("conv", "e", ("p",), **DEPTHWISE)],
            {"a": "d", "b": "e"},
        ),
        (
            [Node("conv", "d", ("p",), **DEPTHWISE), Node("conv", "e", ("p",), channels=2)],
            {"a": "d", "b": "e"},
        ),
        ([Node("conv", "d", ("p",), **DEPTHWISE, pad=1), Node("add", "e", ("p", "d"))], None),
        ([Node("add", "d", ("p", "p"))], None),
        ([Node("add", "d", ("c", "p"))], None),
        ([Node("concat", "d", ("p", "c")), Node("conv", "e", ("d",), channels=2)], None),
        (
            [Node("pool", "d", ("p",), kernel=2, stride=2), Node("conv", "e", ("d",), channels=2)],
            None,
        ),
        (
            [Node("pool", "d", ("p",), kernel=2, stride=2), Node("conv", "e", ("d",), **DEPTHWISE)],
            None,
        ),
        # pooled, but not only
        (
            [Node("pool", "d", ("p",), kernel=2, stride=2), Node("conv", "e", ("p",), channels=2)],
            {"a": "d", "b": "e"},
        ),
        (
            [
                Node("pool", "d", ("p",), kernel=2, stride=2),
                Node("pool", "e", ("p",), kernel=3, stride=1),
            ],
            {"a": "d", "b": "e"},
        ),
    ],
)
@pytest.mark.parametrize("slopes", [[0.25, 0, 1, 3], [-0.5, 0.25, 0, 1.5]])
def test_whatever_reads_a_prelu(behind, outputs, slopes):
    graph = one_prelu(slopes, *behind, outputs=outputs)
    data = np.random.default_rng(1).normal(size=(2, 3, 8, 8))
    made = fuse.split_prelu(graph, 8)
    assert not any(node.op == "prelu" for node in made.nodes)
    assert numpy_net.difference(numpy_net.run(made, data), numpy_net.run(graph, data)) < 1e-6


# ---- as it is run --------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name, options",
    [
        ("Pnet20_v1", {}),
        ("Pnet20_v7", {}),
        ("Pnet20_p", {}),
        ("Pnet16_v0", {}),
        ("Pnet20_s2v1", {}),
        ("Rnet_v2", {}),
        ("Rnet_p0", {}),
        *WITH_POOLS[3:],
        ("Onet_v3", {}),
        *OTHERS[:1],
        *OTHERS[4:5],
        ("Lnet106_64r", {}),
    ],
)
def test_opened_nets_give_what_numpy_gives(tmp_path, name, options):
    """A checkpoint, its ONNX model, and the model of its fast form, which is left as it is."""
    checkpoint = trained(name, **options)
    _, plain, in_parts = forms(checkpoint)
    onnx.save(model(plain, checkpoint), tmp_path / "plain.onnx")
    onnx.save(model(in_parts, checkpoint), tmp_path / "fast.onnx")
    params = checkpoints.save(tmp_path, checkpoint, 3, {})
    data = picture(checkpoint.spec)
    expected = numpy_net.run(checkpoint.graph(), data)
    for path in (params, tmp_path, tmp_path / "plain.onnx", tmp_path / "fast.onnx"):
        net = nets.open_net(path)
        assert net.tasks == list(expected) and net.name == str(path)
        assert {key: net.facts[key] for key in checkpoint.facts()} == checkpoint.facts()
        results = net(data)
        assert all(value.dtype == np.float32 for value in results.values())
        assert numpy_net.difference(results, expected) < 2e-5
        assert all(results[task].shape == values.shape for task, values in expected.items())


# ---- models read back ----------------------------------------------------------------------


@pytest.mark.parametrize(
    "name, options",
    [
        ("Pnet20_v1", {}),
        ("Pnet20_v7", {}),
        ("Pnet20_p", {}),
        ("Pnet12", {"landmark": True}),
        ("Rnet_v1", {}),
        ("Rnet_p0", {}),
        ("Rnet24", {}),
        ("Onet_v3", {"landmark": True}),
        ("Onet_p0", {}),
        ("Onet48", {"landmark": True}),
        ("Lnet_v1", {"base": 16}),
        ("Lnet_v2", {"base": 8}),
        ("Lnet106_64r", {}),
        HEATMAP,
    ],
)
def test_reading_is_the_inverse_of_making(name, options):
    """Node for node, in their order, and each parameter to the last bit."""
    checkpoint = trained(name, **options)
    for graph in forms(checkpoint):
        made = model(graph, checkpoint)
        again, facts = onnx_file.read(onnx.load_from_string(made.SerializeToString()), "x.onnx")
        assert facts == checkpoint.facts()
        assert again.outputs == graph.outputs and list(again.outputs) == list(graph.outputs)
        # an ONNX attribute holds 32 bits of the eps
        assert again.nodes == tuple(
            replace(node, eps=float(np.float32(node.eps))) if node.op == "bn" else node
            for node in graph.nodes
        )
        assert again.params.keys() == graph.params.keys()
        for key, value in graph.params.items():
            assert again.params[key].dtype == np.float32
            np.testing.assert_array_equal(again.params[key], value, err_msg=key)
        rewritten = model(again, checkpoint)
        assert rewritten.SerializeToString() == made.SerializeToString()


def test_what_is_not_ours_is_not_read():
    checkpoint = trained("Rnet_v1")
    _, ready, _ = forms(checkpoint)

    def other_layer(made):
        made.graph.node[1].op_type = "LeakyRelu"

    def other_name(made):
        for values in (made.graph.initializer, *(n.input for n in made.graph.node)):
            for i, value in enumerate(values):
                if isinstance(value, str):
                    values[i] = value.replace("conv2_dw_weight", "w2")
                else:
                    value.name = value.name.replace("conv2_dw_weight", "w2")

    for change, says in (
        (other_layer, "x.onnx has a layer LeakyRelu, which core.export"),
        (other_name, "x.onnx: the parameters of conv2_dw are w2, conv2_dw_bias"),
    ):
        made = model(ready, checkpoint)
        change(made)
        with pytest.raises(Problem, match=says):
            onnx_file.read(made, "x.onnx")


def test_batch_norms_whose_gamma_is_fixed():
    """In the model they have the gamma of 1 that they stand for."""
    checkpoint = trained("Pnet20_v1")
    graph = checkpoint.graph()
    graph = replace(
        graph, nodes=tuple(replace(node, fix_gamma=node.op == "bn") for node in graph.nodes)
    )
    data = picture(checkpoint.spec)
    made = model(graph, checkpoint)
    again, _ = onnx_file.read(made, "x.onnx")
    expected = numpy_net.run(graph, data)
    assert numpy_net.difference(numpy_net.run(again, data), expected) < 1e-6
    assert numpy_net.difference(OnnxNet(made.SerializeToString())(data), expected) < 2e-5

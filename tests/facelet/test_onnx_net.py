"""Models that core.export wrote and other tools have changed: they run, or a line says why not."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto, numpy_helper
from trained import trained

from core.detect import nets
from core.doctor.examine import examine
from core.formats import fuse, onnx_file
from facelet.console import Problem
from facelet.onnx_net import OnnxNet
from symbols.graph import shapes

DATA = np.random.default_rng(0).uniform(-1, 1, (3, 3, 24, 24)).astype(np.float32)


@pytest.fixture(params=["plain", "fast"])
def model(request):
    made = trained("Rnet_v1")
    graph = fuse.prepared(made.graph(), 24)
    graph = fuse.fast(graph, 24) if request.param == "fast" else graph
    return onnx_file.model(graph, made.facts(), shapes(graph, 24, 24))


def outputs(path):
    """As facelet runs it and as core.detect does, which brings it into its fast form."""
    return [net(DATA) for net in (OnnxNet(path), nets.open_net(path))]


def saved(made, path):
    onnx.save(made, path)
    return path


def expected(model):
    return OnnxNet(model.SerializeToString())(DATA)


def test_a_renamed_input(model, tmp_path):
    right = expected(model)
    model.graph.input[0].name = "input_1"
    for layer in model.graph.node:
        layer.input[:] = ["input_1" if blob == "data" else blob for blob in layer.input]
    path = saved(model, tmp_path / "net.onnx")
    for found in outputs(path):
        for task, values in right.items():
            np.testing.assert_allclose(found[task], values, atol=1e-5)
    assert not examine(path).damages


@pytest.mark.parametrize("inside", [False, True])
def test_float16(inside, model, tmp_path):
    """As converters leave it: every number and type, with casts at its ends where those stay."""
    right, graph = expected(model), model.graph
    for value in graph.initializer:
        if value.data_type == TensorProto.FLOAT:
            half = numpy_helper.from_array(
                numpy_helper.to_array(value).astype(np.float16), value.name
            )
            value.CopyFrom(half)
    if inside:
        for layer in graph.node:
            layer.input[:] = [f"{blob}_half" if blob == "data" else blob for blob in layer.input]
            ends = [value.name for value in graph.output]
            layer.output[:] = [f"{b}_half" if b in ends else b for b in layer.output]
        casts = [("data", "data_half", TensorProto.FLOAT16)]
        casts += [(f"{one.name}_half", one.name, TensorProto.FLOAT) for one in graph.output]
        made = [
            onnx.helper.make_node("Cast", [a], [b], f"cast_{b}", to=kind) for a, b, kind in casts
        ]
        layers = [made[0], *graph.node, *made[1:]]
        del graph.node[:]
        graph.node.extend(layers)
    else:
        for value in (*graph.input, *graph.output):
            value.type.tensor_type.elem_type = TensorProto.FLOAT16
    path = saved(model, tmp_path / "half.onnx")
    for found in outputs(path):
        for task, values in right.items():
            assert found[task].dtype == np.float32
            np.testing.assert_allclose(found[task], values, atol=0.02)
    report = examine(path)
    assert not report.damages and any("float16" in line for line in report.lines())


def test_names_that_are_no_text(model, tmp_path):
    name = model.graph.initializer[0].name.encode()
    path = tmp_path / "net.onnx"
    path.write_bytes(model.SerializeToString().replace(name, b"\xff" * len(name)))
    with pytest.raises(Problem, match="net.onnx"):
        nets.open_net(path)
    assert "net.onnx" in str(next(examine(path).lines())) and examine(path).damages


def test_inputs_of_another_kind(model, tmp_path):
    other = onnx.helper.make_tensor_value_info("other", TensorProto.FLOAT, [1])
    model.graph.input.append(other)
    with pytest.raises(Problem, match=r"takes data .*, other .*export it anew"):
        OnnxNet(saved(model, tmp_path / "net.onnx"))


def test_a_picture_that_it_can_t_take(model):
    net = OnnxNet(model.SerializeToString(), name="net.onnx")
    with pytest.raises(Problem, match=r"^net.onnx can't be run on \(1, 3, 9, 9\)"):
        net(np.zeros((1, 3, 9, 9), np.float32))

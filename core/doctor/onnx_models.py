"""Examination of ONNX models."""

from collections import Counter

from core.doctor.net_checks import check_activations, check_values, report_points
from core.doctor.report import counted
from core.formats import onnx_file
from facelet.console import Problem
from facelet.onnx_net import AnotherModel, OnnxNet

EXPORT = "export it anew with core.export, which mends that"


def _value(info):
    """An input or output of an ONNX model: its name and shape."""
    sides = [side.dim_param or side.dim_value or "?" for side in info.type.tensor_type.shape.dim]
    return f"{info.name} {' x '.join(map(str, sides))}"


def onnx_model(report):
    """Examine an ONNX model."""
    path = report.path
    made = onnx_file.load(path)
    from onnx import TensorProto, numpy_helper

    if not made.graph.node:
        report.damage("no ONNX model, or a damaged one: copy or export it anew")
        return
    report.title = (
        f"{path}: an ONNX model, {len(made.graph.node)} layers ("
        + counted(Counter(node.op_type for node in made.graph.node))
        + ")"
    )
    weights = {value.name for value in made.graph.initializer}
    report.fact(
        "input", ", ".join(_value(value) for value in made.graph.input if value.name not in weights)
    )
    report.fact("output", ", ".join(map(_value, made.graph.output)))
    try:
        facts = OnnxNet(path).facts
    except AnotherModel:
        report.warn(
            "not exported by core.export: what it takes for input, and what its outputs "
            "mean, nothing here can tell; core.detect won't take it"
        )
        return
    except Problem as problem:
        report.damage(problem)
        return
    report.fact(
        "net",
        f"{facts['net']}, {facts['input']['size']} x {facts['input']['size']} "
        f"pixels, BGR, (value - {facts['input']['mean']}) * "
        f"{facts['input']['scale']}",
    )
    report_points(report, facts["points"], facts["scheme"])
    if any(value.data_type == TensorProto.FLOAT16 for value in made.graph.initializer):
        report.fact(
            "numbers", "float16, made so by another tool: it runs, with 3 digits in place of 7"
        )
    check_values(
        report, {value.name: numpy_helper.to_array(value) for value in made.graph.initializer}
    )
    try:
        graph, _ = onnx_file.read(made, path)
    except Problem:  # quantised, or in another form of engines
        return
    if not report.damages:
        check_activations(report, graph, facts["input"]["size"], EXPORT)

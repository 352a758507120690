"""Examination of ZQCNN's pairs of files."""

from core.doctor.net_checks import check_activations, check_values, report_net
from core.formats import conversion, zqcnn_file, zqcnn_reader
from facelet.console import Problem

ANY_SIDE = 64  # of a picture for nets that take any, pixels


def zqcnn_pair(report):
    """Examine either file of a ZQCNN pair, with the other."""
    text, numbers = zqcnn_file.pair(report.path)
    graph, side, remarks = zqcnn_reader.read(text, numbers)
    report.title = (
        f"{report.path}: of the ZQCNN pair {text.name} and {numbers.name}, "
        f"{len(graph.nodes)} layers, "
        f"{sum(values.size for values in graph.params.values()):,} numbers"
    )
    size = side or ANY_SIDE
    try:
        made, _, remarks = conversion.from_pair(text, numbers)
        size = made.spec.size
        report_net(report, made)
    except Problem as problem:
        report.fact("net", f"none of the zoo: {problem}")
    report.fact("outputs", ", ".join(graph.outputs))
    check_values(report, graph.params)
    for remark in remarks:
        report.warn(remark)
    if not report.damages:
        check_activations(report, graph, size)

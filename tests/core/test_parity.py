"""The table of differences: a part of it, and that it notices."""

import io
import json
from dataclasses import replace

import numpy as np
import pytest

from core import parity
from core.detect.mxnet_net import MxNet
from core.formats import checkpoint as checkpoints
from facelet.console import Problem, program

# Pools that hang over and fully connected layers, plain ReLU and branches, landmarks, additions,
# joins and dilated convolutions.
NETS = ("Pnet20_v1", "Rnet24", "Rnet_p", "Onet_v1", "Lnet106_64r", "L14_heatmap")
PINNED = set(parity.ENGINES) - {"openvino"}


@pytest.fixture(scope="module")
def part():
    """(rows, number over their limits, what was printed) for NETS."""
    stream = io.StringIO()
    return (*parity.table(NETS, list(parity.ENGINES), stream), stream.getvalue())


def test_every_engine_agrees_with_mxnet(part):
    rows, missed, printed = part
    assert [label for label, _ in rows] == [
        "Pnet20_v1",
        "Rnet24",
        "Rnet24 (with landmark head)",
        "Rnet_p",
        "Onet_v1",
        "Onet_v1 (with landmark head)",
        "Lnet106_64r",
        "L14_heatmap",
    ]
    for label, found in rows:
        assert PINNED <= set(found), label
        for engine, difference in found.items():
            assert difference <= (1e-3 if engine == "ncnn" else 1e-5), (label, engine)
    assert missed == 0 and "!" not in printed.split("\n\n")[0]


def broken(monkeypatch, wrong):
    """The engine "merged", whose outputs go through `wrong`."""
    engine = parity.ENGINES["merged"]
    monkeypatch.setitem(
        parity.ENGINES,
        "merged",
        replace(engine, run=lambda *arguments: wrong(engine.run(*arguments))),
    )


def changed(change):
    return lambda outputs: {**outputs, "bbox": change(outputs["bbox"])}


def fail(outputs):
    raise RuntimeError("no such layer\nsecond line")


@pytest.mark.parametrize(
    "wrong, shown",
    [
        (changed(lambda values: values + 1e-4 * np.abs(values).max()), "1.0e-04!"),
        (changed(lambda values: values * np.nan), "failed!"),
        (changed(lambda values: values[..., 0]), "bbox has shape (2, 4, 1), not (2, 4, 1, 1)"),
        (fail, "Pnet16_v0, merged: no such layer\n"),
    ],
)
def test_a_broken_engine_is_noticed(monkeypatch, capsys, wrong, shown):
    broken(monkeypatch, wrong)
    with pytest.raises(SystemExit) as stopped:
        program(parity.main, ["Pnet16_v0", "--engines", "merged", "onnx"])
    printed = capsys.readouterr()
    assert stopped.value.code == 2 and shown in printed.out
    assert printed.err == "error: 1 differences are over their limits, marked with !\n"


@pytest.mark.parametrize("engine, failing", [("merged", True), ("ncnn", False)])
def test_limits_are_each_engine_s_own(monkeypatch, engine, failing):
    monkeypatch.setitem(
        parity.ENGINES,
        engine,
        replace(
            parity.ENGINES[engine],
            run=lambda source, stem, data: {
                task: values * 1.0001 for task, values in MxNet(source.checkpoint)(data).items()
            },
        ),
    )
    _, missed = parity.table(["Pnet16_v0"], [engine], io.StringIO())
    assert missed == failing


def test_an_engine_that_is_missing(monkeypatch, capsys):
    monkeypatch.setitem(
        parity.ENGINES, "openvino", replace(parity.ENGINES["openvino"], module="not_installed")
    )
    parity.main(["Pnet16_v0", "--engines", "merged"])
    with pytest.raises(Problem, match="^openvino is not installed here: pip install openvino$"):
        parity.main(["Pnet16_v0", "--engines", "openvino"])
    stream = io.StringIO()
    rows, missed = parity.table(["Pnet16_v0"], ["merged", "openvino"], stream)
    assert missed == 0 and list(rows[0][1]) == ["merged"]
    assert stream.getvalue().splitlines()[1].split()[-1] == "-"
    assert stream.getvalue().endswith("openvino is not installed here: pip install openvino\n")


def test_checkpoints_and_json(tmp_path, capsys):
    made = parity.seeded("Pnet16_v1", {})
    path = checkpoints.save(tmp_path, made, 3, {})
    parity.main([str(path), str(tmp_path), "Pnet16_v?", "--engines", "merged", "--json"])
    printed = capsys.readouterr()
    rows = json.loads(printed.out)
    assert [row["net"] for row in rows] == [path.name, path.name, "Pnet16_v0", "Pnet16_v1"]
    assert rows[0]["merged"] == rows[3]["merged"] <= 1e-5
    assert "Pnet16_v0" in printed.err


@pytest.mark.parametrize(
    "what, says",
    [("Pnet21", "no net is called 'Pnet21'; near"), ("none.params", "none.params is not there")],
)
def test_bad_input(what, says, capsys):
    with pytest.raises(Problem, match=says):
        parity.main([what])
    assert capsys.readouterr().out == ""  # before anything is compared


def test_the_whole_zoo_is_covered():
    labels = [label for label, _ in parity.sources(["*"])]
    assert len(labels) == len(set(labels)) == 58
    assert {"Lnet106_v2 (base 128)", "Onet48 (with landmark head)", "Lnet106_112r_big"} <= set(
        labels
    )


def test_every_parameter_counts():
    """With seeded weights, losing any kind of parameter shows in the outputs."""
    made = parity.seeded("Onet_v1", {"landmark": True})
    graph = made.graph()
    data = parity.numpy_net.seeded_input(48)
    expected = parity.numpy_net.run(graph, data)
    for name in (
        "conv1_bias",
        "prelu2_dw_gamma",
        "conv6_2_bias",
        "bn6_1_moving_mean",
        "bn6_2_moving_var",
        "bn6_3_gamma",
        "bn6_2_beta",
    ):
        plain = np.full_like(graph.params[name], name.endswith(("gamma", "var")))
        lost = graph.with_params(graph.params, {name: plain})
        assert parity.numpy_net.difference(parity.numpy_net.run(lost, data), expected) > 1e-3, name

"""Exported files: other engines get from them what MXNet gets from the checkpoint, they say what
it takes to use them, and what isn't right doesn't appear."""

import json
import sys
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import numpy_helper

import core.detect
import facelet
from core import export, parity
from core.detect.mxnet_net import MxNet
from core.formats import checkpoint as checkpoints
from core.formats import ncnn_file, numpy_net, onnx_file, quantize, zqcnn_writer
from facelet.console import Problem
from facelet.files import damage
from facelet.onnx_net import OnnxNet


def saved(folder, net, **options):
    """(checkpoint, path of its .params), with random statistics, slopes and shifts."""
    made = parity.seeded(net, options)
    return made, checkpoints.save(folder / "run", made, 3, {})


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def raw(path, data):
    """Outputs by name of a model in onnxruntime, without this toolkit."""
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return dict(zip([out.name for out in session.get_outputs()], session.run(None, {"data": data})))


# ---- ONNX ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "net, options, sizes",
    [
        ("Pnet20_v1", {}, [(5, 20, 20), (1, 31, 47)]),
        ("Pnet12", {}, [(1, 12, 12), (2, 33, 24)]),
        ("Rnet_p", {}, [(1, 24, 24), (5, 24, 24)]),
        ("Onet_v1", {"landmark": True}, [(4, 48, 48)]),
    ],
)
@pytest.mark.parametrize("split", [False, True])
def test_onnx(tmp_path, net, options, sizes, split):
    made, path = saved(tmp_path, net, **options)
    export.export(path, tmp_path / "out", plain=not split)
    assert names(tmp_path / "out") == [f"{net}.json", f"{net}.onnx"]
    rng, reference = np.random.default_rng(0), MxNet(made)
    for count, height, width in sizes:
        data = rng.uniform(-1, 1, (count, 3, height, width)).astype(np.float32)
        outputs, expected = raw(tmp_path / "out" / f"{net}.onnx", data), reference(data)
        heads = dict(zip(expected, made.symbol().list_outputs()))
        for task, values in expected.items():
            ours = outputs[heads[task].replace("_output", "")]  # MXNet's names of the blobs
            assert ours.shape == values.shape
            assert np.abs(ours - values).max() <= 1e-5 * np.abs(values).max(), task


def test_onnx_keeps_names_and_says_what_it_takes(tmp_path):
    made, path = saved(tmp_path, "Pnet20_v1")
    export.export(path.parent, tmp_path / "out", plain=True)  # a run's folder
    model = onnx.load(tmp_path / "out" / "Pnet20_v1.onnx")
    onnx.checker.check_model(model, full_check=True)
    layers = {node.name for node in model.graph.node}
    assert {"conv1", "prelu1", "conv2_dw", "conv2_sep", "conv4_2", "cls_prob"} <= layers
    assert "prelu1_gamma" in made.arguments and {"conv1_weight", "prelu1_gamma"} <= {
        value.name for value in model.graph.initializer
    }
    shape = [
        dim.dim_param or dim.dim_value for dim in model.graph.input[0].type.tensor_type.shape.dim
    ]
    assert shape == ["N", 3, "height", "width"]
    facts = {prop.key: json.loads(prop.value) for prop in model.metadata_props}
    assert facts == {**made.facts(), "outputs": {"cls": "cls_prob", "bbox": "bn4_2"}}
    beside = json.loads((tmp_path / "out" / "Pnet20_v1.json").read_text())
    assert beside["checkpoint"]["file"] == "Pnet20_v1-0003.params"
    assert (
        beside["checkpoint"]["sha256"]
        == json.loads(path.with_suffix(".json").read_text())["sha256"]
    )
    assert beside["outputs"]["onnx"] == facts["outputs"]
    export.export(path, tmp_path / "fast")
    fast = onnx.load(tmp_path / "fast" / "Pnet20_v1.onnx")
    assert {node.op_type for node in fast.graph.node} == {"Conv", "Relu", "Add", "Sigmoid"}
    for part in ("input", "output"):
        assert getattr(fast.graph, part) == getattr(model.graph, part)
    assert {prop.key: json.loads(prop.value) for prop in fast.metadata_props} == facts
    assert beside["input"]["size"] == 20 and beside["stride"] == 4


# ---- ncnn, ZQCNN ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    "net, options, sizes",
    [
        ("Pnet12", {}, [(12, 12), (29, 34)]),  # pools that hang over, any size
        ("Rnet24", {}, [(24, 24)]),  # fully connected layers behind a map
        ("Rnet_p", {}, [(24, 24)]),  # plain ReLU, a branch for each head
        ("Onet_v1", {"landmark": True}, [(48, 48)]),
        ("Lnet106_64r", {}, [(64, 64)]),  # additions
        ("L14_heatmap", {}, [(112, 112)]),
    ],
)  # joins, dilated convolutions
def test_ncnn(tmp_path, net, options, sizes):
    made, path = saved(tmp_path, net, **options)
    export.export(path, tmp_path / "out", ["ncnn"])
    assert names(tmp_path / "out") == sorted(f"{net}.{kind}" for kind in ("bin", "json", "param"))
    blobs = json.loads((tmp_path / "out" / f"{net}.json").read_text())["outputs"]["ncnn"]
    first = (tmp_path / "out" / f"{net}.param").read_text().splitlines()[2].split()
    side = sizes[0][0]
    assert first[4:] == ["data", *([f"0={side}", f"1={side}", "2=3"] if len(sizes) == 1 else [])]
    rng, reference = np.random.default_rng(0), MxNet(made)
    for size in sizes:
        data = rng.uniform(-1, 1, (2, 3, *size)).astype(np.float32)
        outputs = ncnn_file.run(tmp_path / "out" / net, data, blobs.values())
        for ours, values in zip(outputs, reference(data).values()):
            assert ours.shape == values.shape
            assert np.abs(ours - values).max() <= 1e-3 * np.abs(values).max()


def test_zqcnn_names(tmp_path):
    """What the manifest says is what the text has."""
    made, path = saved(tmp_path, "Onet_v1", landmark=True)
    export.export(path, tmp_path / "out", ["zqcnn"])
    text = (tmp_path / "out" / "Onet_v1.zqparams").read_text()
    said = json.loads((tmp_path / "out" / "Onet_v1.json").read_text())["outputs"]["zqcnn"]
    assert said == {"cls": "prob1", "bbox": "conv6-2", "landmark": "conv6-3"}
    assert all(f" top={blob}" in text for blob in said.values())


# ---- nothing that isn't right --------------------------------------------------------------


def without_ceil(node, names):
    operator, names, attributes = POOL(node, names)
    return operator, names, {**attributes, "ceil_mode": 0}


POOL = onnx_file.OPERATORS["pool"]
BROKEN = {  # format, table of its writer, operator, what it is written as instead
    "a slope lost": ("onnx", onnx_file.OPERATORS, "prelu", lambda node, names: ("Relu", [], {})),
    # 12 pixels leave the pool nothing to hang over: only another size shows it.
    "pooling that does not hang over": ("onnx", onnx_file.OPERATORS, "pool", without_ceil),
    "pooling in ncnn too": (
        "ncnn",
        ncnn_file.OPERATORS,
        "pool",
        lambda node: ("Pooling", {0: 0, 1: node.kernel, 2: node.stride, 5: 1}),
    ),
    "softmax over the wrong axis": (
        "ncnn",
        ncnn_file.OPERATORS,
        "softmax",
        lambda node: ("Softmax", {0: 1, 1: 1}),
    ),
    "an average for the largest": (
        "zqcnn",
        zqcnn_writer.WRITTEN,
        "pool",
        lambda node: ("ReLU", ""),
    ),
}


@pytest.mark.parametrize("what", BROKEN)
def test_what_differs_does_not_appear(tmp_path, monkeypatch, what):
    kind, table, operator, wrong = BROKEN[what]
    _, path = saved(tmp_path, "Pnet12")
    out = tmp_path / "out"
    export.export(path, out, [kind], plain=True)
    before = {file.name: file.read_bytes() for file in out.iterdir()}
    monkeypatch.setitem(table, operator, wrong)
    with pytest.raises(Problem):
        export.export(path, out, ["onnx" if kind != "onnx" else "ncnn", kind], plain=True)
    assert {file.name: file.read_bytes() for file in out.iterdir()} == before  # not one of them
    with pytest.raises(Problem):
        export.export(path, tmp_path / "new", [kind], plain=True)
    assert not (tmp_path / "new").exists()


def test_the_difference_is_measured(tmp_path, capsys):
    """Against the checkpoint, not against what was made of it."""
    made, path = saved(tmp_path, "Pnet16_v0")
    source, _ = export.opened(path)
    assert source.difference(MxNet(made), "MXNet", 1e-5) < 1e-5
    off = replace(
        source.original,
        params={
            **source.original.params,
            "bn4_2_beta": source.original.params["bn4_2_beta"] + 1e-3,
        },
    )
    with pytest.raises(Problem, match=r"Pnet16_v0-0003.params: it differs .* more than 1e-05"):
        source.difference(lambda data: numpy_net.run(off, data), "it", 1e-5)
    with pytest.raises(Problem, match="nan"):
        source.difference(
            lambda data: {
                task: values * np.nan for task, values in numpy_net.run(off, data).items()
            },
            "it",
            1e-5,
        )


def test_a_net_with_damaged_parameters(tmp_path):
    made = parity.seeded("Pnet16_v0", {})
    made.arguments["conv1_weight"][0, 0, 0, 0] = np.nan
    path = checkpoints.save(tmp_path / "run", made, 3, {})
    with pytest.raises(Problem, match=r"Pnet16_v0-0003.params: layer conv1 gives .* no numbers"):
        export.export(path, tmp_path / "out", ["onnx"])


@pytest.mark.parametrize(
    "arguments, says",
    [
        (["nowhere.params"], "nowhere.params is not there"),
        (["NET", "NET"], "two of the checkpoints are Pnet16_v0"),
        (["NET", "--split-prelu", "--format", "ncnn"], "--split-prelu .* --format onnx"),
        (["NET", "--plain", "--format", "ncnn"], "--plain .* --format onnx"),
        (["NET", "--plain", "--split-prelu"], "two forms of the ONNX model: give one"),
        (["NET", "train.epochs=2"], "'train.epochs=2': python -m core.export has no settings"),
        (["EMPTY"], "holds no finished epoch"),
        (["NET", "--int8", "nowhere"], "nowhere is no folder"),
        (["NET", "--int8", "EMPTY"], "fewer than two pictures"),
        (["NET", "--int8", "BROKEN"], "fewer than two pictures.*broken.png: no picture"),
    ],
)
def test_bad_input(tmp_path, arguments, says):
    _, path = saved(tmp_path, "Pnet16_v0")
    (tmp_path / "empty").mkdir()
    (tmp_path / "pictures").mkdir()
    (tmp_path / "pictures" / "broken.png").write_bytes(b"no picture")
    cv2.imwrite(str(tmp_path / "pictures" / "one.png"), np.zeros((30, 30, 3), np.uint8))
    places = {"NET": path, "EMPTY": tmp_path / "empty", "BROKEN": tmp_path / "pictures"}
    with pytest.raises(Problem, match=says) as caught:
        export.main(
            [*(str(places.get(word, word)) for word in arguments), "--out", str(tmp_path / "out")]
        )
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "out").exists() or names(tmp_path / "out") == []


def test_what_stays_of_an_earlier_export(tmp_path):
    """NAME.json goes on telling of formats that were not written again, unless they come from
    another checkpoint: then nothing is."""
    _, path = saved(tmp_path, "Pnet16_v0")
    out = tmp_path / "out"
    export.export(path, out, ["onnx", "zqcnn"])
    export.export(path, out, ["onnx"])
    assert set(json.loads((out / "Pnet16_v0.json").read_text())["outputs"]) == {"onnx", "zqcnn"}
    other = checkpoints.save(tmp_path / "other", parity.seeded("Pnet16_v1", {}), 1, {})
    export.export(other, out, ["onnx"])
    again = parity.seeded("Pnet16_v0", {})
    again.arguments["conv1_bias"] += 1
    changed = checkpoints.save(tmp_path / "changed", again, 1, {})
    before = {file.name: file.read_bytes() for file in out.iterdir()}
    with pytest.raises(Problem, match="holds zqcnn files of Pnet16_v0 from another checkpoint"):
        export.export(changed, out, ["onnx"])
    assert {file.name: file.read_bytes() for file in out.iterdir()} == before
    export.export(changed, out, ["onnx", "zqcnn"])


def test_every_net_of_a_folder(tmp_path, capsys):
    """The newest epoch of each, all or none; `--split-prelu` asks for what there is anyway."""
    nets = {name: parity.seeded(name, {}) for name in ("Pnet16_v0", "Rnet_v1")}
    for made in nets.values():
        for epoch in (3, 12):
            path = checkpoints.save(tmp_path / "nets", made, epoch, {})
    export.main([str(tmp_path / "nets"), "--out", str(tmp_path / "out"), "--split-prelu"])
    assert names(tmp_path / "out") == [f"{net}.{end}" for net in nets for end in ("json", "onnx")]
    for net in nets:
        beside = json.loads((tmp_path / "out" / f"{net}.json").read_text())
        assert beside["checkpoint"]["file"] == f"{net}-0012.params"
        assert not any(
            node.op_type == "PRelu"
            for node in onnx.load(tmp_path / "out" / f"{net}.onnx").graph.node
        )
    printed = capsys.readouterr()
    assert "note: core.export splits PReLUs without --split-prelu too" in printed.err
    # one of them damaged: none appears
    nets["Rnet_v1"].arguments["conv1_weight"][:] = np.nan
    path = checkpoints.save(tmp_path / "nets", nets["Rnet_v1"], 13, {})
    with pytest.raises(Problem, match=f"{path}: layer conv1"):
        export.main([str(tmp_path / "nets"), "--out", str(tmp_path / "new")])
    assert not (tmp_path / "new").exists()


def test_the_nets_that_come_along_are_exports_of_their_checkpoints(tmp_path):
    """In the fast form: facelet runs them as they are."""
    models = Path(facelet.__file__).parents[1] / "models"
    export.export(models, tmp_path)
    assert names(tmp_path) == sorted(
        file.name for file in models.iterdir() if (tmp_path / file.name).exists()
    )
    assert json.loads((tmp_path / "detector.json").read_text()) == json.loads(
        (models / "detector.json").read_text()
    )
    for path in models.glob("*.onnx"):
        ours, again = onnx.load(path).graph, onnx.load(tmp_path / path.name).graph
        assert ours.node == again.node and ours.output == again.output
        assert not {"PRelu", "Softmax"} & {node.op_type for node in ours.node}
        for one, other in zip(ours.initializer, again.initializer):
            one, other = numpy_helper.to_array(one), numpy_helper.to_array(other)
            assert np.allclose(one, other, rtol=1e-5, atol=1e-6)


def test_the_detector_of_a_finished_run(tiny_run, tmp_path):
    """A run's folder stands for the detector in it, to export and to detect with."""
    export.main([str(tiny_run), "--out", str(tmp_path / "out")])
    manifest = json.loads((tiny_run / "detector" / "detector.json").read_text())
    files = [manifest[stage] for stage in ("pnet", "rnet", "onet")]
    assert sorted(files) == [name for name in names(tmp_path / "out") if name.endswith("onnx")]
    for file in files:
        exported = (tmp_path / "out" / file).read_bytes()
        assert exported == (tiny_run / "detector" / file).read_bytes()
    detector = facelet.FaceDetector.open(tiny_run)
    assert detector == facelet.FaceDetector.open(tiny_run / "detector")
    assert [net.name for net in detector.nets.values()] == [
        str(tiny_run / "detector" / file) for file in files
    ]
    assert core.detect.FaceDetector.open(tiny_run).nets == detector.nets


def test_a_detector_is_exported_as_one(tmp_path, capsys):
    """Its detector.json goes with the nets, with their names as ONNX models and its settings."""
    nets, out = tmp_path / "nets", tmp_path / "out"
    for name, options in (
        ("Pnet16_v0", {}),
        ("Rnet_v1", {}),
        ("Lnet_v2", {"points": 5}),
        ("Lnet106_96_v2", {"points": 68}),
    ):
        checkpoints.save(nets, parity.seeded(name, options), 3, {})
    settings = {"thresholds": [0.31, 0.22, 0.7], "min_face": 33, "factor": 0.6}
    landmark = {"5": "Lnet_v2-0003.params", "68": "Lnet106_96_v2-0003.params"}
    manifest = {"pnet": "Pnet16_v0-0003.params", "rnet": "Rnet_v1-0003.params", **settings}
    (nets / "detector.json").write_text(json.dumps({**manifest, "landmark": landmark}))
    export.main([str(nets), "--out", str(out)])
    assert json.loads((out / "detector.json").read_text()) == {
        "pnet": "Pnet16_v0.onnx",
        "rnet": "Rnet_v1.onnx",
        "landmark": {"5": "Lnet_v2.onnx", "68": "Lnet106_96_v2.onnx"},
        **settings,
    }
    detector = facelet.FaceDetector.open(out, points=68)
    assert detector.settings.min_face == 33 and detector.settings.thresholds == (0.31, 0.22, 0.7)
    assert detector.nets["landmark"].facts["net"] == "Lnet106_96_v2"

    small = nets / "detector-small.json"  # of another detector, which shares a net
    small.write_text(json.dumps({"pnet": "Pnet16_v0-0003.params", "min_face": 50}))
    assert facelet.FaceDetector.open(out).settings.min_face == 33
    export.main([str(nets), "--out", str(tmp_path / "both")])
    assert json.loads((tmp_path / "both" / "detector-small.json").read_text()) == {
        "pnet": "Pnet16_v0.onnx",
        "min_face": 50,
    }
    export.main([str(small), "--out", str(tmp_path / "small")])
    assert names(tmp_path / "small") == ["Pnet16_v0.json", "Pnet16_v0.onnx", "detector.json"]
    both = facelet.FaceDetector.open(tmp_path / "both" / "detector-small.json")
    assert facelet.FaceDetector.open(tmp_path / "small").settings == both.settings
    small.unlink()

    (out / "detector.json").write_text("{}")  # of the user's making
    export.export(nets, out)
    assert (out / "detector.json").read_text() == "{}"
    assert "detector.json was there already and stays" in capsys.readouterr().out
    export.export(nets, tmp_path / "zqcnn", ["zqcnn"])
    assert "detector.json" not in names(tmp_path / "zqcnn")
    (nets / "detector.json").write_text(json.dumps({**manifest, "onet": "o.onnx"}))
    export.export(saved(tmp_path, "Onet_v1")[1], tmp_path / "o")
    (tmp_path / "o" / "Onet_v1.onnx").rename(nets / "o.onnx")
    with pytest.raises(Problem, match="names o.onnx, which holds Onet_v1, and no checkpoint of"):
        export.export(nets, tmp_path / "new")
    assert not (tmp_path / "new").exists()
    export.export([nets, tmp_path / "run"], tmp_path / "new")
    assert json.loads((tmp_path / "new" / "detector.json").read_text())["onet"] == "Onet_v1.onnx"


@pytest.mark.parametrize("package, formats", [("ncnn", ["onnx", "ncnn"]), ("onnx", ["onnx"])])
def test_a_missing_engine_is_named(tmp_path, monkeypatch, package, formats):
    _, path = saved(tmp_path, "Pnet16_v0")
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(Problem, match=f"{package} is not installed here: pip install {package}"):
        export.export(path, tmp_path / "out", formats)
    assert not (tmp_path / "out").exists()


# ---- half precision ------------------------------------------------------------------------


def test_huge_activations_fit_half_precision(tmp_path, capsys):
    """Nets without batch norms, trained from slopes of 1, reach 1e15 and more; every blob of their
    exports lies within float16."""
    made = parity.seeded("Onet_v1", {})
    for name, values in made.arguments.items():
        if name.endswith("_weight"):
            values *= 40
    graph, data, seen = made.graph(), numpy_net.seeded_input(48), {}
    numpy_net.run(graph, data, lambda name, values: seen.update({name: values}))
    for head in ("6_1", "6_2"):  # as training would have left them
        made.auxiliary[f"bn{head}_moving_mean"][:] = seen[f"conv{head}"].mean(axis=0)
        made.auxiliary[f"bn{head}_moving_var"][:] = seen[f"conv{head}"].var(axis=0)
    path = checkpoints.save(tmp_path / "run", made, 3, {})
    assert max(np.abs(values).max() for values in seen.values()) > 1e12
    export.export(path, tmp_path / "out")
    assert "too large" not in capsys.readouterr().out
    model = onnx.load(tmp_path / "out" / "Onet_v1.onnx")
    for node in model.graph.node:
        if node.output[0] not in [out.name for out in model.graph.output]:
            model.graph.output.append(onnx.helper.make_empty_tensor_value_info(node.output[0]))
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    largest = [np.abs(values).max() for values in session.run(None, {"data": data})]
    assert len(largest) > 20 and max(largest) < 65504 and min(largest) > 1e-3


# ---- int8 ----------------------------------------------------------------------------------


def test_int8(tmp_path, drawn_set, capsys, caplog):
    _, path = saved(tmp_path, "Rnet_v1")
    export.export(path, tmp_path / "out", pictures=drawn_set)
    printed = capsys.readouterr()
    assert not caplog.records and printed.err == ""  # onnxruntime has advice
    assert names(tmp_path / "out") == ["Rnet_v1-int8.onnx", "Rnet_v1.json", "Rnet_v1.onnx"]
    small, plain = (tmp_path / "out" / f"Rnet_v1{suffix}.onnx" for suffix in ("-int8", ""))
    net = OnnxNet(small)
    assert net.facts == OnnxNet(plain).facts  # the metadata
    assert small.stat().st_size < 0.85 * plain.stat().st_size

    # Layers over all channels inside the net hold 8 bits, one scale a channel; others do not.
    values = {value.name: value for value in onnx.load(small).graph.initializer}
    whole = {
        name[: -len("_weight_quantized")]
        for name, value in values.items()
        if name.endswith("_weight_quantized") and value.data_type == onnx.TensorProto.INT8
    }
    assert whole == {"conv2_sep", "conv3_sep", "conv4_sep"}
    scales = numpy_helper.to_array(values["conv3_sep_weight_scale"])
    assert scales.shape == (64,) and len(set(scales)) > 32

    # What is printed is what there is to see on the crops held out.
    _, held_out = quantize.crops(drawn_set, 24)
    ours = net(held_out)
    for task, expected in OnnxNet(plain)(held_out).items():
        gap = np.abs(ours[task] - expected)
        assert 0 < gap.mean() < 0.1 * expected.std()
        assert f"{task} differs from float32 by {gap.mean():.4f} on average" in printed.out
    assert f"{len(held_out)} crops" in printed.out and "times those of the same net" in printed.out


def test_crops_that_measure_are_of_other_pictures(tmp_path):
    """Each picture has a colour of its own; sizes vary, and the same seed gives the same."""
    ramp = np.linspace(0, 1, 200)[None, :, None]
    for i in range(10):
        picture = np.broadcast_to((20 * i + 10, 0, 0) + ramp * (0, 250, 0), (120, 200, 3))
        cv2.imwrite(str(tmp_path / f"{i}.png"), picture.astype(np.uint8))
    (tmp_path / "notes.txt").write_text("no picture")
    first, second = quantize.crops(tmp_path, 24)
    assert first.shape == second.shape == (260, 3, 24, 24) and first.dtype == np.float32
    colours = [
        set(np.round(half[:, 0].mean(axis=(1, 2)) * 128 + 127.5).astype(int))
        for half in (first, second)
    ]
    assert len(colours[0]) == len(colours[1]) == 5 and not colours[0] & colours[1]
    # The ramp's steepness tells the side: 250 green levels over 200 pixels.
    sides = (first[:, 1, 12, 23] - first[:, 1, 12, 0]) * 128 / 250 * 200 * 24 / 23
    assert sides.min() < 27 and sides.max() > 100
    again, _ = quantize.crops(tmp_path, 24)
    assert np.array_equal(first, again)


def test_checksums_of_what_is_written(tmp_path):
    """Of this export and of what an earlier one left."""
    _, path = saved(tmp_path, "Pnet20_v1")
    export.export(path, tmp_path / "out", ("onnx",))
    export.export(path, tmp_path / "out", ("zqcnn",))
    sums = json.loads((tmp_path / "out" / "Pnet20_v1.json").read_text())["checksums"]
    assert {*sums, "Pnet20_v1.json"} == {file.name for file in (tmp_path / "out").iterdir()}
    assert not damage(tmp_path / "out", sums)
    (tmp_path / "out" / "Pnet20_v1.onnx").write_bytes(b"")
    assert damage(tmp_path / "out", sums) == ["Pnet20_v1.onnx has changed since it was made"]

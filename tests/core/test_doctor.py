"""The doctor says what files are and finds what was done to them."""

import contextlib
import json
import re
import shutil

import numpy as np
import onnx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper
from trained import huge, trained

from core.doctor import __main__ as doctor
from core.formats import checkpoint as checkpoints
from core.formats import conversion, fuse, ncnn_file, onnx_file, params_file, zqcnn_writer
from facelet import schemes
from facelet.console import program
from prepare_data.drawn.face import Head, neutral_shape, rotation
from symbols.graph import shapes


@pytest.fixture
def says(capsys):
    """Runs the program on files: what it prints, and on the last line what it ends with."""

    def run(*files, status=0):
        with pytest.raises(SystemExit) if status else contextlib.nullcontext() as stopped:
            program(doctor.main, [str(file) for file in files])
        printed = capsys.readouterr()
        if status:
            assert stopped.value.code == status
            assert len(printed.err.splitlines()) == 1 and printed.err.startswith("error: ")
        return printed.out + printed.err

    return run


def saved(folder, made, epoch=16):
    return checkpoints.save(folder, made, epoch, {})


def alone(folder, made, name="net.params"):
    """Path of the parameters alone: no manifest, no symbol."""
    params_file.write(
        folder / name,
        {
            **{f"arg:{k}": v for k, v in made.arguments.items()},
            **{f"aux:{k}": v for k, v in made.auxiliary.items()},
        },
    )
    return folder / name


def as_onnx(path, made, change=lambda graph: graph, **facts):
    graph, size = change(made.graph()), made.spec.size
    model = onnx_file.model(graph, {**made.facts(), **facts}, shapes(graph, size, size))
    path.write_bytes(model.SerializeToString())
    return path


def calm(**options):
    """A checkpoint of which there is nothing to say."""
    made = trained("Pnet20_v1", **options)
    for name, value in made.arguments.items():
        if name.startswith("prelu"):
            np.clip(value, 0, 1, out=value)
    return made


def marks(text):
    """The lines that warn, or tell of damage."""
    return [line for line in text.splitlines() if line.startswith(("  !", "  wrong"))]


# ---- checkpoints ---------------------------------------------------------------------------


def test_a_checkpoint_of_this_toolkit(tmp_path, says):
    path = saved(tmp_path, calm())
    text = says(path)
    assert text.startswith(f"{path}: an MXNet checkpoint, 32 arrays with 1,482 parameters, 4 of ")
    assert "net          Pnet20_v1, 20 x 20 pixels\n" in text
    assert "manifest     Pnet20_v1-0016.json, which holds its hash\n" in text
    assert not marks(text)


def test_the_table_of_values(tmp_path, says):
    made = calm()
    made.arguments["conv1_weight"][0, 0] = [[0, -1e-7], [77, 0]]
    made.arguments["bn4_1_gamma"][0] = -0.004
    text = says(alone(tmp_path, made))
    rows = {
        line[2:15].strip(): line[15:].split()
        for line in text.splitlines()
        if re.match(r"  \S.{12} +\d+ +[\d,]+ ", line)
    }

    def row(names, part=made.arguments):
        values = np.abs(np.concatenate([part[name].ravel() for name in names]))
        return [
            str(len(names)),
            f"{values.size:,}",
            str((values == 0).sum()),
            f"{values[values > 0].min():.2g}",
            f"{values.max():.2g}",
            "0",
        ]

    heads = ("bn4_1", "bn4_2")
    assert rows == {
        "weights": row([name for name in made.arguments if "weight" in name]),
        "biases": row([name for name in made.arguments if "bias" in name]),
        "PReLU slope": row([name for name in made.arguments if name.startswith("prelu")]),
        "bn gamma": row([f"{head}_gamma" for head in heads]),
        "bn beta": row([f"{head}_beta" for head in heads]),
        "bn mean": row([f"{head}_moving_mean" for head in heads], made.auxiliary),
        "bn variance": row([f"{head}_moving_var" for head in heads], made.auxiliary),
    }
    assert rows["weights"][2:5] == ["2", "1e-07", "77"] and rows["bn gamma"][3] == "0.004"


def test_the_name_of_another_net(tmp_path, says):
    """train-mtcnn's pnet20_v1-0016.params is Pnet20_v0."""
    text = says(alone(tmp_path, trained("Pnet20_v0"), "pnet20_v1-0016.params"))
    assert "net          Pnet20_v0, 20 x 20" in text and "manifest     none beside it" in text
    assert (
        "  ! the file's name says Pnet20_v1, its content is Pnet20_v0: go by the content"
        in marks(text)
    )
    for name in ("pnet20_v0-0016.params", "mine.params", "Pnet20_v0.params"):
        assert "file's name" not in says(alone(tmp_path, trained("Pnet20_v0"), name))


def test_several_nets_fit_or_none(tmp_path, says):
    path = alone(tmp_path, trained("Onet_v2", landmark=True))
    assert (
        "Onet_v1 (with landmark head), 48 x 48 pixels; Onet_v2 (with landmark head), Onet_v3 "
        "(with landmark head) would fit too: say which one it is"
    ) in says(path)
    path = saved(tmp_path, trained("Onet_v2", landmark=True))
    assert "net          Onet_v2 (with landmark head), 48 x 48 pixels\n" in says(path)
    made = calm()
    made.arguments["conv9_weight"] = np.ones((1, 1, 1, 1), np.float32)
    text = says(alone(tmp_path, made))
    assert "net          none of the zoo" in text and "weights          11" in text


def test_values_that_are_no_numbers(tmp_path, says):
    made = calm()
    made.arguments["conv2_dw_weight"][0] = np.nan
    made.auxiliary["bn4_2_moving_mean"][1] = np.inf
    text = says(alone(tmp_path, made), status=2)
    assert "  wrong: NaN or infinite values in conv2_dw_weight, bn4_2_moving_mean:" in text
    assert re.search(r"weights .* 9\n", text) and re.search(r"bn mean .* 1\n", text)
    assert text.endswith(
        f"error: 1 of 1 files wrong, missing or of no known kind: {tmp_path / 'net.params'}\n"
    )


def test_arrays_of_zeros(tmp_path, says):
    made = calm()
    made.arguments["conv3_sep_weight"][:] = 0
    made.arguments["bn4_2_gamma"][:] = 0
    assert any(
        "all zero: conv3_sep_weight, bn4_2_gamma" in line
        for line in marks(says(alone(tmp_path, made)))
    )
    fresh = checkpoints.initial("Pnet20_v1", {}, 1, 0.25)
    assert marks(says(alone(tmp_path, fresh))) == [
        "  ! all biases and bn beta and bn mean are zero, as before training: train it first"
    ]


def test_negative_variances(tmp_path, says):
    """-0.0005 + 0.001 has a square root, -0.002 + 0.001 has none."""
    made = calm()
    made.auxiliary["bn4_2_moving_var"][2] = -0.0005
    (line,) = marks(says(alone(tmp_path, made)))
    assert line.startswith("  ! negative variances, down to -0.0005, in bn4_2_moving_var")
    made.auxiliary["bn4_2_moving_var"][2] = -0.002
    text = says(alone(tmp_path, made), status=2)
    assert "  wrong: on a picture of noise, layer bn4_2 gives values that are no numbers" in text


@pytest.mark.parametrize(
    "slope, follows",
    [
        (-0.5, "from -0.5 to .*, in prelu3_dw$"),
        (1.5, "from .* to 1.5, .* in prelu3_dw: an engine that takes PReLU for max"),
        (0.0, None),
        (1.0, None),
    ],
)
def test_slopes_outside_0_to_1(tmp_path, says, slope, follows):
    made = calm()
    made.arguments["prelu3_dw_gamma"][3] = slope
    text = says(alone(tmp_path, made))
    lines = [line for line in text.splitlines() if line.startswith("  slopes ")]
    assert len(lines) == bool(follows) and not marks(text)  # the net works as it is
    assert not follows or re.search(f"of PReLUs {follows}", lines[0])


@pytest.mark.parametrize("net", ["Pnet20_v0", "Rnet_v1"])
def test_huge_activations_and_what_mends_them(tmp_path, says, net):
    made = huge(net)
    lines = marks(says(alone(tmp_path, made)))
    assert any("activations over 65,504" in line and "--rescale" in line for line in lines)
    (small,) = (line for line in lines if "weights below 1e-09" in line)
    heads = [head.layer for head in made.spec.heads]
    merged = fuse.merge(made.graph()).params
    count = sum(int((np.abs(merged[f"{head}_weight"]) < 1e-9).sum()) for head in heads)
    assert f"weights below 1e-09 once batch norms are merged, in {', '.join(heads)}" in small
    assert 0.95 * count <= int(small.split()[1].replace(",", "")) <= count > 100
    assert not marks(says(alone(tmp_path, conversion.rescaled(made))))


def test_small_weights_beside_large_ones_are_no_loss(tmp_path, says):
    made = calm()
    made.arguments["conv2_sep_weight"][:, ::2] *= np.float32(1e-12)
    assert not marks(says(alone(tmp_path, made)))


def test_content_that_has_changed(tmp_path, says):
    path = saved(tmp_path, calm())
    data = bytearray(path.read_bytes())
    data[200] ^= 1
    path.write_bytes(data)
    text = says(path, path.with_suffix(".json"), status=2)
    assert "is not the file that Pnet20_v1-0016.json was written for" in text
    assert "net          it fits Pnet20_v1" in text
    assert "wrong: Pnet20_v1-0016.params is not the file that it was written for" in text
    assert "error: 2 of 2 files wrong" in text


def test_the_manifest_of_another_net(tmp_path, says):
    path = alone(tmp_path, trained("Rnet_v1"), "a.params")
    path.with_suffix(".json").write_text('{"net": "Rnet_v2", "options": {}}')
    text = says(path, status=2)
    assert "wrong: " in text and "does not fit Rnet_v2" in text and "it fits Rnet_v1" in text


@pytest.mark.parametrize("part", [0, 3, 40, 5000])
def test_damaged_checkpoints(tmp_path, says, part):
    path = alone(tmp_path, calm())
    path.write_bytes(path.read_bytes()[:part])
    text = says(path, status=2)
    assert text.startswith(f"{path} is no MXNet .params file, or a damaged one")
    assert len(text.splitlines()) == 2


# ---- points --------------------------------------------------------------------------------


def mean_face(order):
    """The mean face of a net with 106 points: a drawn one, which is in the order migu."""
    points, _ = Head(neutral_shape(), np.random.default_rng(0)).seen(rotation(0, 0, 0))
    return schemes.convert(points * 0.2 + 0.5, "migu", order).astype(np.float32).ravel()


@pytest.mark.parametrize("order", ["migu", "jingdong"])
def test_the_order_of_106_points(tmp_path, says, order):
    made = trained("Lnet106_v2", base=16)
    made.arguments["bn6_3_beta"] = mean_face(order)
    guessed = f"points       106, order '{order}': a guess, from the mirror symmetry"
    assert guessed in says(alone(tmp_path, made))
    assert guessed in says(saved(tmp_path, made))
    made.manifest["scheme"] = "jingdong"
    path = saved(tmp_path, made)
    for file in (path, path.with_suffix(".json"), as_onnx(tmp_path / "l.onnx", made)):
        assert "points       106, order 'jingdong'\n" in says(file)


def test_points_whose_order_nothing_tells(tmp_path, says):
    made = trained("Lnet106_v2", base=16)
    for file in (alone(tmp_path, made), as_onnx(tmp_path / "l.onnx", made)):
        assert "points       106, in an order that is not known\n" in says(file)
    assert "points       5\n" in says(alone(tmp_path, trained("Lnet_v2", base=16)))
    assert "points  " not in says(alone(tmp_path, calm()))


# ---- JSON ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name, options, expected",
    [
        ("Pnet20_p", {}, "Pnet20_p\n"),
        ("Onet_v3", {"landmark": True}, "Onet_v1 (with landmark head) or Onet_v2 (with"),
        ("Lnet106_96_v2", {"base": 16}, "Lnet106_96_v2 (base 16)\n"),
        ("Lnet106_64r", {"points": 21}, "Lnet106_64r (points 21)\n"),
        ("L14_heatmap", {}, "L14_heat"),
        ("Rnet24", {"landmark": True}, "Rnet24 (with landmark head)\n"),
    ],
)
def test_symbols(tmp_path, says, name, options, expected):
    made = trained(name, **options)
    path = checkpoints.paths(tmp_path, made.net, 1)[0]
    path.write_text(made.symbol().tojson())
    text = says(path)
    assert text.startswith(f"{path}: an MXNet symbol, ") and not marks(text)
    assert f"net          {expected}" in text


def test_symbols_with_other_batch_norms(tmp_path, says):
    path = tmp_path / "a-symbol.json"
    text = calm().symbol().tojson()
    path.write_text(text.replace('"eps": "0.001"', '"eps": "2e-05"'))
    (line,) = marks(says(path))
    assert "eps 2e-05 in place of 0.001" in line
    path.write_text(text.replace('"fix_gamma": "False"', '"fix_gamma": "True"'))
    (line,) = marks(says(path))
    assert "fix_gamma in bn4_1, bn4_2" in line
    path.write_text(text.replace('"num_filter": "8"', '"num_filter": "9"'))
    assert "net          none of the zoo" in says(path)
    path.write_text(text.replace('"num_filter": "8"', '"num_filter": "many"'))
    assert "is a damaged MXNet symbol" in says(path, status=2)


def test_manifests_and_others(tmp_path, says):
    path = saved(tmp_path, calm())
    manifest = path.with_suffix(".json")
    text = says(manifest)
    assert text.startswith(f"{manifest}: a checkpoint's manifest, Pnet20_v1\n")
    assert "Pnet20_v1-0016.params, whose hash it holds" in text and not marks(text)
    path.unlink()
    assert marks(says(manifest)) == [
        "  ! Pnet20_v1-0016.params is not beside it: the two belong together"
    ]
    other = tmp_path / "x.json"
    for value, expected in (
        (
            {"net": "Lnet106_v2", "options": {"base": 16}, "outputs": {}},
            "what core.export says of its files, Lnet106_v2 (base 16)\n",
        ),
        ({"net": "Rnet_v1", "options": {}, "config": {}}, "the configuration of a run, Rnet_v1\n"),
    ):
        other.write_text(json.dumps(value))
        assert f"{other}: {expected}" in says(other)
    for value, expected in (
        ({"recall": 1}, "JSON, but neither"),
        ([1], "JSON, but neither"),
        ({"net": "Rnet_v9", "options": {}}, "no net is called 'Rnet_v9'"),
        ({"net": "Rnet_v1", "options": {"base": 16}}, "has no option base"),
    ):
        other.write_text(json.dumps(value))
        assert expected in says(other, status=2)
    other.write_text('{"net": ')
    assert "is not valid JSON" in says(other, status=2)


def test_a_detector_s_manifest(tmp_path, says):
    path = tmp_path / "detector.json"
    path.write_text('{"pnet": "p.onnx", "min_face": 24}')
    assert "names p.onnx for the pnet, which is not there" in says(path, status=2)
    as_onnx(tmp_path / "p.onnx", calm(), fuse.merge)
    assert says(path).splitlines() == [
        f"{path}: the nets of a detector",
        "  pnet         p.onnx",
        "  min_face     24",
    ]
    path.write_text('{"pnet": "p.onnx", "landmark": {"68": "q.onnx", "5": "l.onnx"}}')
    as_onnx(tmp_path / "l.onnx", calm(), fuse.merge)
    assert "names q.onnx for the landmark, which is not there" in says(path, status=2)
    as_onnx(tmp_path / "q.onnx", calm(), fuse.merge)
    assert says(path).splitlines()[1:] == [
        "  pnet         p.onnx",
        "  5 points     l.onnx",
        "  68 points    q.onnx",
    ]


# ---- other formats -------------------------------------------------------------------------


def pair(folder, made, stem="det9"):
    """Path of the text of a ZQCNN pair."""
    zqcnn_writer.write(fuse.rescale(made.graph()), made.spec.size, folder / stem)
    return folder / f"{stem}.zqparams"


def test_zqcnn_pairs(tmp_path, says):
    text = pair(tmp_path, calm())
    numbers = text.with_suffix(".nchwbin")
    alone_text = says(text)
    assert alone_text.startswith(f"{text}: of the ZQCNN pair det9.zqparams and det9.nchwbin, 21")
    assert "net          Pnet20_v1, 20 x 20 pixels\n" in alone_text and not marks(alone_text)
    assert "outputs      cls, bbox\n" in alone_text
    # both files, as a shell's pattern gives them, are one net
    both = says(numbers, text)
    assert len([line for line in both.splitlines() if not line.startswith(" ")]) == 1
    # the box branch commented out, as in Pnets released with ZQCNN
    lines = text.read_text().splitlines()
    text.write_text(
        "\n".join("#" + line if "_2" in line or "-2" in line else line for line in lines)
    )
    (line,) = marks(says(numbers))
    assert "are commented out in det9.zqparams, and used all the same" in line
    # the author's classic nets have numbers of a longer name
    numbers.rename(tmp_path / "det9_bgr.nchwbin")
    for file in (text, tmp_path / "det9_bgr.nchwbin"):
        assert "of the ZQCNN pair det9.zqparams and det9_bgr.nchwbin" in says(file)


def test_damaged_pairs(tmp_path, says):
    text = pair(tmp_path, calm())
    numbers = text.with_suffix(".nchwbin")
    whole = numbers.read_bytes()
    numbers.write_bytes(whole + bytes(400))
    assert "holds 1,594 numbers, and det9.zqparams asks for 1,494" in says(text, status=2)
    numbers.write_bytes(whole[:-4])
    assert "holds 1,493 numbers" in says(numbers, status=2)
    numbers.unlink()
    assert "det9.nchwbin" in says(text, status=2)
    text.rename(tmp_path / "a.txt")
    numbers.write_bytes(whole)
    assert "det9.zqparams is not there" in says(numbers, status=2)


def test_our_onnx_models(tmp_path, says):
    path = as_onnx(tmp_path / "p.onnx", calm(), fuse.merge)
    text = says(path)
    assert text.startswith(f"{path}: an ONNX model, 19 layers (10 Conv, 8 PRelu, 1 Softmax)\n")
    assert "net          Pnet20_v1, 20 x 20 pixels, BGR, (value - 127.5) * 0.0078125\n" in text
    assert "input        data N x 3 x height x width\n" in text
    assert "weights          10      1,240" in text and "activations  up to" in text
    assert not marks(text)
    lines = marks(says(as_onnx(tmp_path / "p.onnx", huge("Pnet20_v0"), fuse.merge)))
    assert any("activations over 65,504" in line and "export it anew" in line for line in lines)
    assert any("weights below 1e-09" in line for line in lines)
    # what quantising adds, for one: it is looked at as far as it is known
    model = onnx.load(str(as_onnx(path, calm(), fuse.merge)))
    model.metadata_props.add(key="onnx.infer", value="onnxruntime.quant")
    onnx.save(model, str(path))
    text = says(path)
    assert "weights          10      1,240" in text and "activations" not in text
    fast = as_onnx(tmp_path / "p.onnx", calm(), lambda graph: fuse.fast(fuse.merge(graph), 20))
    assert "Sigmoid" in says(fast) and "activations  up to" in says(fast)


def test_onnx_models_of_others(tmp_path, says):
    nodes = [helper.make_node("Conv", ["x", "w"], ["y"]), helper.make_node("Relu", ["y"], ["z"])]
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 3, None, 7])],
        [helper.make_tensor_value_info("z", TensorProto.FLOAT, None)],
        [helper.make_tensor("w", TensorProto.FLOAT, [1, 3, 1, 1], [1.0, 2, 3])],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    onnx.save(model, str(tmp_path / "x.onnx"))
    text = says(tmp_path / "x.onnx")
    assert "an ONNX model, 2 layers (1 Conv, 1 Relu)" in text
    assert "input        x n x 3 x ? x 7\n" in text and "output       z" in text
    assert marks(text)[0].startswith("  ! not exported by core.export")


def test_damaged_onnx_models(tmp_path, says):
    path = as_onnx(tmp_path / "p.onnx", calm(), fuse.merge)
    whole = path.read_bytes()
    for data in (whole[: len(whole) // 2], b"", b"anything at all"):
        path.write_bytes(data)
        assert f"{path}: no ONNX model, or a damaged one" in says(path, status=2)
    model = onnx.load_model_from_string(whole)
    model.graph.initializer.pop()
    path.write_bytes(model.SerializeToString())
    assert "wrong: " in says(path, status=2)
    model = onnx.load_model_from_string(whole)
    for key, value in (
        ("input", '{"size": 24.5}'),
        ("input", '{"size": 5000}'),
        ("outputs", '{"cls": "conv1"}'),
        ("scheme", "3"),
        ("net", "[]"),
    ):
        changed = onnx.ModelProto.FromString(whole)
        next(prop for prop in changed.metadata_props if prop.key == key).value = value
        path.write_bytes(changed.SerializeToString())
        assert re.search(
            f"wrong: .* is damaged: what its metadata says of {key}", says(path, status=2)
        )


def test_ncnn_texts(tmp_path, says):
    made = calm()
    ncnn_file.write(fuse.merge(made.graph()), 20, tmp_path / "p")
    text, numbers = tmp_path / "p.param", tmp_path / "p.bin"
    expected = says(text, numbers)
    assert f"{text}: the text of an ncnn net, 21 layers (8 PReLU, 6 Convolution, 4 " in expected
    assert "input        data\n" in expected and "output       cls_prob, bn4_2\n" in expected
    assert (
        f"{numbers}: {numbers.stat().st_size:,} bytes, the numbers of the ncnn net in p" in expected
    )
    shutil.move(numbers, tmp_path / "q.bin")
    assert marks(says(text)) == ["  ! p.bin, its numbers, is not beside it"]
    assert "of no kind known here" in says(tmp_path / "q.bin", status=2)
    lines = text.read_text().splitlines()
    text.write_text("\n".join(lines).replace("PReLU ", "\x1b[31m "))
    assert "(8 \\x1b[31m, 6 Convolution" in says(text)  # and not a red terminal
    for damaged in (lines[:-1], lines[:1], [*lines[:3], "Convolution x", *lines[4:]]):
        text.write_text("\n".join(damaged))
        assert "a damaged net's text of ncnn" in says(text, status=2)


@pytest.mark.parametrize(
    "change, wrong",
    [
        (lambda data: b"", "ends before the weights of conv1"),
        (lambda data: data[:100], "ends within the parameters of conv1"),
        (lambda data: data[:-4], "ends within the parameters of"),
        (lambda data: data + b"1234", "bytes, the layers in its text take"),
        (lambda data: data[:-4] + b"\xff" * 4, "NaN or infinite numbers"),
    ],
)
def test_ncnn_numbers(tmp_path, says, change, wrong):
    """Of either file of the pair: what ncnn would read past the end of, or run with a NaN."""
    ncnn_file.write(fuse.merge(calm().graph()), 20, tmp_path / "p")
    text, numbers = tmp_path / "p.param", tmp_path / "p.bin"
    says(text, numbers)
    numbers.write_bytes(change(numbers.read_bytes()))
    for file in (text, numbers):
        assert wrong in says(file, status=2)


def test_ncnn_numbers_in_float16(tmp_path, says):
    """As ncnnoptimize stores weights: a mark, then two bytes a number, in whole words."""
    weights = np.arange(5, dtype="<f2")
    tag, bias = (0x01306B47).to_bytes(4, "little"), np.float32([1]).tobytes()
    (tmp_path / "h.param").write_text(
        "7767517\n2 2\nInput data 0 1 data 0=5\nInnerProduct fc 1 1 data out 0=1 1=1 2=5\n"
    )
    numbers = tmp_path / "h.bin"
    numbers.write_bytes(tag + weights.tobytes() + b"\0\0" + bias)
    says(numbers)
    numbers.write_bytes(tag + weights.tobytes() + bias)
    assert "ends within" in says(numbers, status=2)


def test_what_is_no_net(tmp_path, says):
    """One line each, and the files that are nets are looked at all the same."""
    good = saved(tmp_path, calm())
    (tmp_path / "a.jpg").write_bytes(b"\xff\xd8\xff\xe0" + bytes(100))
    (tmp_path / "empty.params").write_bytes(b"")
    (tmp_path / "empty").write_bytes(b"")
    (tmp_path / "b.bin").write_bytes(bytes(range(256)))
    files = [
        tmp_path / "a.jpg",
        tmp_path / "empty.params",
        tmp_path / "empty",
        tmp_path / "b.bin",
        tmp_path,
        tmp_path / "none.params",
    ]
    text = says(*files[:3], good, *files[3:], status=2)
    for line in (
        f"{files[0]}: a JPEG picture: no net",
        f"{files[2]}: empty",
        f"{files[4]}: a folder, and no store: give the files in it",
        f"{files[5]}: not there",
    ):
        assert line in text.splitlines()
    assert f"{files[1]} is no MXNet .params file" in text
    assert f"{files[3]}: of no kind known here" in text
    assert f"{good}: an MXNet checkpoint" in text and not marks(text)
    assert text.splitlines()[-1] == (
        "error: 6 of 7 files wrong, missing or of no known kind: "
        f"{', '.join(map(str, files[:3]))} and 3 more"
    )


# ---- fuzzing -------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """A good file of each kind: {name: bytes}."""
    folder, made = tmp_path_factory.mktemp("fuzz"), calm()
    saved(folder, made)
    pair(folder, made)
    ncnn_file.write(fuse.merge(made.graph()), 20, folder / "p")
    as_onnx(folder / "p.onnx", made, fuse.merge)
    assert len(list(folder.iterdir())) == 8
    return {path: path.read_bytes() for path in folder.iterdir()}


@settings(
    max_examples=250,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(st.data())
def test_no_file_stops_it(files, data):
    """Bytes changed, cut out and put in: there is always a report, of lines that can be printed,
    and it always says that a damaged file is damaged, or else what is in it."""
    path = data.draw(st.sampled_from(sorted(files)))
    damaged = bytearray(files[path])
    for _ in range(data.draw(st.integers(1, 4))):
        start = data.draw(st.integers(0, len(damaged)))
        count = data.draw(st.integers(0, 30))
        damaged[start : start + count] = data.draw(st.binary(max_size=8))
    path.write_bytes(damaged)
    try:
        lines = list(doctor.examine(path).lines())
    finally:
        path.write_bytes(files[path])
    assert str(path) in lines[0]
    for line in lines:
        line.encode()
        assert line.isprintable()


def test_stores(tmp_path, store20, says):
    """By their folders, or the JSON in them: every byte counts, also of crops."""
    out = tmp_path / "store"
    shutil.copytree(store20, out)
    assert f"{out}: a store of samples\n" in says(out)
    assert "checksums    of crops.npy, labels.npy" in says(out / "store.json")
    whole = (out / "crops.npy").read_bytes()
    (out / "crops.npy").write_bytes(whole[:5000] + bytes(3000) + whole[8000:])
    assert "  wrong: crops.npy has changed since it was made\n" in says(out, status=2)
    (out / "crops.npy").unlink()
    assert "  wrong: crops.npy is not there\n" in says(out, status=2)
    facts = json.loads((out / "store.json").read_text())
    del facts["checksums"]
    (out / "store.json").write_text(json.dumps(facts))
    assert says(out).count("no checksums, as former versions") == 1
    for text in ("[]", "{}", "{"):
        (out / "store.json").write_text(text)
        assert str(out) in says(out, status=2)


def test_files_beside_a_manifest(tmp_path, says):
    path = saved(tmp_path, calm())
    manifest, symbol = path.with_suffix(".json"), tmp_path / "Pnet20_v1-symbol.json"
    assert f"checksums    of {symbol.name}: as they were made" in says(manifest)
    symbol.write_text(symbol.read_text() + " ")
    assert f"wrong: {symbol.name} has changed since it was made" in says(manifest, status=2)
    symbol.unlink()  # a net does without it
    assert "wrong" not in says(manifest)

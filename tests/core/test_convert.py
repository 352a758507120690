"""Nets that others trained become checkpoints of the zoo: the right one, with the same values, or
one line."""

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from trained import huge, trained

from core import convert
from core.detect.mxnet_net import MxNet
from core.formats import checkpoint as checkpoints
from core.formats import fuse, numpy_net, params_file, zqcnn_writer
from facelet import schemes
from facelet.console import program
from facelet.files import sha256


def run(*arguments):
    convert.main([str(argument) for argument in arguments])


@pytest.fixture
def fails(capsys):
    """Runs the program and expects one line and nothing written."""

    def fail(*arguments, says, out):
        with pytest.raises(SystemExit) as stopped:
            program(convert.main, [str(a) for a in (*arguments, "--out", out)])
        shown = capsys.readouterr()
        lines = shown.err.strip().splitlines()
        assert stopped.value.code == 2 and len(lines) == 1, shown.err
        assert lines[0].startswith("error: ") and not shown.out
        for text in says:
            assert text in lines[0], lines[0]
        assert not out.exists()

    return fail


def pair(stem, checkpoint, merged=False):
    """A ZQCNN pair of a checkpoint; returns its stem."""
    graph = checkpoint.graph()
    graph = fuse.merge(graph) if merged else fuse.rescale(graph)
    zqcnn_writer.write(graph, checkpoint.spec.size, stem)
    return stem


def released(path, checkpoint):
    """The parameters alone, under any name."""
    params_file.write(
        path,
        {
            **{f"arg:{k}": v for k, v in checkpoint.arguments.items()},
            **{f"aux:{k}": v for k, v in checkpoint.auxiliary.items()},
        },
    )
    return path


def gives_the_same(made, checkpoint, tolerance=1e-5):
    """In MXNet, on a picture of another size too where that can be."""
    for side in (made.spec.size, 51) if made.spec.stride else (made.spec.size,):
        data = numpy_net.seeded_input(side, seed=3)
        results, expected = (MxNet(net)(data) for net in (made, checkpoint))
        assert numpy_net.difference(results, expected) < tolerance
    return True


# ---- ZQCNN pairs ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    "net, options",
    [
        ("Pnet20_v1", {}),
        ("Pnet20_p", {}),
        ("Rnet_p", {}),
        ("Onet_v3", {}),
        ("Lnet_v2", {"base": 16}),
        ("Lnet106_64r", {"points": 21}),
        ("Onet48", {"landmark": True}),
    ],
)
def test_there_and_back(net, options, tmp_path, capsys):
    checkpoint = trained(net, **options)
    run(pair(tmp_path / "some-name", checkpoint), "--out", tmp_path / "out")
    printed = capsys.readouterr().out
    made = checkpoints.load(tmp_path / "out" / f"{net}-0000.params")
    assert (made.net, made.options) == (net, options) and net in printed
    shown = re.search(r"differs from it by (\S+) of the largest output", printed)
    assert float(shown[1]) < 1e-6
    assert gives_the_same(made, checkpoint)
    # The pair was rescaled, by powers of two: all digits are there.
    for name, value in checkpoint.arguments.items():
        if name.endswith(("weight", "bias")):
            factors = np.unique(made.arguments[name] / value)
            assert len(factors) == 1 and np.log2(factors[0]) % 1 == 0, name
    manifest = made.manifest
    assert manifest["net"] == net and manifest["epoch"] == 0
    assert manifest["source"] == [
        {"file": f"some-name{suffix}", "sha256": sha256(tmp_path / f"some-name{suffix}")}
        for suffix in (".zqparams", ".nchwbin")
    ]


def test_the_classic_nets_under_their_other_names(tmp_path):
    """Layers of ZQCNN's det2 and det3 are called otherwise, and text and numbers have different
    stems."""
    tables = {
        "Rnet24": {"fc1": "conv4", "fc2": "conv5-1", "fc3": "conv5-2"},
        "Onet48": {"fc1": "conv5", "fc2": "conv6-1", "fc3": "conv6-2", "fc4": "conv6-3"},
        "Pnet12": {"conv4_1": "conv4-1", "conv4_2": "conv4-2"},
    }
    for net, names in tables.items():
        checkpoint = trained(net, **({"landmark": True} if net == "Onet48" else {}))
        stem = pair(tmp_path / net, checkpoint)
        text = Path(f"{stem}.zqparams").read_text().replace("cls_prob", "prob1")
        for old, new in names.items():
            text = re.sub(
                rf"=(?:{old}|prob1)\b(?= bottom)|={old}\b",
                lambda found: found[0] if "prob1" in found[0] else f"={new}",
                text,
            )
        (tmp_path / "text.zqparams").write_text(text)
        run(tmp_path / "text.zqparams", "--numbers", f"{stem}.nchwbin", "--out", tmp_path / "out")
        made = checkpoints.load(tmp_path / "out" / f"{net}-0000.params")
        for name, value in checkpoint.arguments.items():
            scale = made.arguments[name].ravel()[0] / value.ravel()[0]
            np.testing.assert_array_equal(made.arguments[name], value * scale)
        assert gives_the_same(made, checkpoint)


@pytest.mark.parametrize(
    "net, found, merged",
    [
        ("Pnet20_v1", "Pnet20_v1", 2),
        ("Pnet20_p", "Pnet20_p", 13),
        ("Lnet106_64r", "Lnet106_64r", 38),  # convolutions without bias: it goes to the batch norm
        ("Lnet_v2", "Lnet_v1", 1),
    ],
)  # without its batch norms it is that
def test_batch_norms_that_are_merged_away(net, found, merged, tmp_path, capsys):
    checkpoint = trained(net)
    run(pair(tmp_path / "merged", checkpoint, merged=True), "--out", tmp_path / "out")
    assert (
        f"batch norms merged away in it, which do nothing now: {merged} ("
        in capsys.readouterr().out
    )
    made = checkpoints.load(tmp_path / "out")
    assert made.net == found and gives_the_same(made, checkpoint)
    if net == "Lnet106_64r":
        assert np.all(made.arguments["conv1_batchnorm_gamma"] == 1)
        assert np.any(made.arguments["conv1_batchnorm_beta"] != 0)
    if found != net:  # the other is as right, if it is asked for
        run(tmp_path / "merged", "--net", net, "--out", tmp_path / "asked")
        made = checkpoints.load(tmp_path / "asked")
        assert made.net == net and gives_the_same(made, checkpoint)


def test_a_net_of_other_layers_with_the_same_parameters(tmp_path, fails):
    """Strides, ReLUs and connections are in no parameter: running it tells."""
    for net, old, new, says in (
        ("Pnet20_v1", "stride_H=2 stride_W=2", "stride_H=1 stride_W=1", "gives outputs"),
        (
            "Pnet20_v1",
            "num_output=24 kernel_H=3 kernel_W=3 stride_H=1 stride_W=1",
            "num_output=24 kernel_H=3 kernel_W=3 stride_H=2 stride_W=2",
            "for 43 pixels",
        ),  # where 20 see one window
        (
            "Pnet20_v3",
            "kernel_H=3 kernel_W=3 stride_H=2 stride_W=2",
            "kernel_H=2 kernel_W=2 stride_H=2 stride_W=2",
            "differs",
        ),  # of its pooling
        ("Rnet_p", "ReLU name=relu3_dw", "Dropout name=relu3_dw", "differs"),
        ("Rnet_p", "name=conv4_bb_dw bottom=relu3", "name=conv4_bb_dw bottom=bn3_sep", "differs"),
    ):
        stem = pair(tmp_path / net, trained(net))
        text = Path(f"{stem}.zqparams").read_text()
        at = text.index("Pooling") if net == "Pnet20_v3" else 0
        assert old in text[at:]
        Path(f"{stem}.zqparams").write_text(text[:at] + text[at:].replace(old, new, 1))
        fails(stem, says=[net, says], out=tmp_path / "out")


# ---- released .params ----------------------------------------------------------------------


def test_a_released_name_that_misleads(tmp_path, capsys):
    checkpoint = trained("Pnet20_v0")
    path = released(tmp_path / "pnet20_v1-0016.params", checkpoint)
    run(path, "--out", tmp_path / "out")
    printed = capsys.readouterr().out
    assert "pnet20_v1-0016.params is Pnet20_v0;" in printed
    assert "its name says Pnet20_v1; it is Pnet20_v0" in printed
    assert {p.name for p in (tmp_path / "out").iterdir()} == {
        "Pnet20_v0-0016.params",
        "Pnet20_v0-0016.json",
        "Pnet20_v0-symbol.json",
    }
    made = checkpoints.load(tmp_path / "out")
    assert made.manifest["epoch"] == 16 and made.manifest["source"] == [
        {"file": path.name, "sha256": sha256(path)}
    ]
    for name, value in {**checkpoint.arguments, **checkpoint.auxiliary}.items():
        assert np.array_equal({**made.arguments, **made.auxiliary}[name], value)


def test_rescaling(tmp_path, capsys):
    """Activations of up to 1e13 come down, and MXNet gives the same numbers to the last bits."""
    checkpoint = huge("Rnet_v1")
    path = released(tmp_path / "rnet_v1-0007.params", checkpoint)
    run(path, "--rescale", "--out", tmp_path / "out")
    before, after = map(
        float, re.search(r"largest activation (\S+), now (\S+)", capsys.readouterr().out).groups()
    )
    data = numpy_net.seeded_input(24)
    made = checkpoints.load(tmp_path / "out")
    assert before > 1e12 and after < 1e3
    assert before == pytest.approx(numpy_net.largest_activation(checkpoint.graph(), data), rel=0.01)
    assert after == pytest.approx(numpy_net.largest_activation(made.graph(), data), rel=0.01)
    assert gives_the_same(made, checkpoint, tolerance=1e-6)
    for name, value in checkpoint.arguments.items():  # powers of two, one a layer
        factors = np.unique((made.arguments[name] / value)[value != 0])
        assert len(factors) == 1 and np.log2(factors[0]) % 1 == 0, name


def test_what_a_manifest_says_is_kept(tmp_path):
    checkpoint = trained("Lnet106_v2", base=16)
    checkpoint.manifest["scheme"] = "jingdong"
    path = checkpoints.save(tmp_path / "run", checkpoint, 9, {"figures": {"error": 0.5}})
    run(path, "--rescale", "--out", tmp_path / "out")
    manifest = json.loads((tmp_path / "out" / "Lnet106_v2-0009.json").read_text())
    assert manifest["figures"] == {"error": 0.5} and manifest["scheme"] == "jingdong"
    assert manifest["options"] == {"base": 16} and "scheme_from" not in manifest


@pytest.mark.parametrize("scheme", ["migu", "jingdong", None])
def test_the_order_of_points_is_guessed_from_the_mean_face(scheme, tmp_path, capsys):
    checkpoint = trained("Lnet106_64r")
    points = np.random.default_rng(3).uniform(0, 1, (106, 2))
    if scheme:
        points = (points + points[schemes.partners(scheme)] * [-1, 1] + [1, 0]) / 2
    checkpoint.arguments["bn6_3_beta"] = points.ravel().astype(np.float32)
    run(checkpoints.save(tmp_path, checkpoint, 3, {}), "--out", tmp_path / "out")
    manifest, shown = checkpoints.load(tmp_path / "out").manifest, capsys.readouterr().out
    assert manifest["scheme"] == scheme
    assert (f'the order "{scheme}": a guess' if scheme else "106 points is unknown") in shown
    assert ("scheme_from" in manifest) == bool(scheme)


# ---- which net, and what goes wrong --------------------------------------------------------


def test_several_nets_fit(tmp_path, capsys, fails):
    checkpoint, out = trained("Onet_v1", landmark=True), tmp_path / "out"
    path = released(tmp_path / "onet.params", checkpoint)
    stem = pair(tmp_path / "det3", checkpoint)
    for given in (path, stem):
        fails(given, says=["Onet_v1 (with", "Onet_v2 (with", "Onet_v3 (with", "--net"], out=out)
        run(given, "--net", "Onet_v2", "--out", tmp_path / given.stem)
        made = checkpoints.load(tmp_path / given.stem)
        assert (made.net, made.options) == ("Onet_v2", {"landmark": True})
        capsys.readouterr()


def test_bad_input_is_one_line(tmp_path, fails):
    out = tmp_path / "out"
    pnet = released(tmp_path / "pnet20_v1-0016.params", trained("Pnet20_v0"))
    rnet = pair(tmp_path / "rnet", trained("Rnet_v1"))
    fails(pnet, "--net", "Pnet20_v1", says=["does not fit Pnet20_v1", "it fits Pnet20_v0"], out=out)
    fails(
        rnet,
        "--net",
        "Rnet_v2",
        says=["rnet.zqparams does not fit Rnet_v2", "fits Rnet_v1"],
        out=out,
    )
    fails(rnet, "--net", "Rnet_v9", says=["no net is called 'Rnet_v9'", "near"], out=out)
    fails(tmp_path / "none", says=["none is not there", ".params", "ZQCNN"], out=out)
    fails(tmp_path, says=["is a folder"], out=out)
    fails(tmp_path / "none.nchwbin", says=["none.zqparams is not there"], out=out)
    fails(pnet, "--numbers", f"{rnet}.nchwbin", says=["--numbers goes with one"], out=out)
    fails(rnet, pnet, "--numbers", f"{rnet}.nchwbin", says=["--numbers goes with one"], out=out)
    fails(rnet, "--numbers", pnet, says=["pnet20_v1-0016.params holds", "asks for"], out=out)
    fails(pnet, rnet, tmp_path / "none", says=["none is not there"], out=out)  # none is converted
    other = pnet.with_name("other.params")
    shutil.copy(pnet, other)
    shutil.copy(pnet, pnet.with_name("again-0016.params"))
    fails(
        pnet,
        other.with_name("again-0016.params"),
        says=["again-0016.params are both Pnet20_v0"],
        out=out,
    )
    other.write_bytes(pnet.read_bytes()[:-9])
    fails(other, says=["other.params", "damaged"], out=out)
    params_file.write(other, {"arg:conv1_weight": np.zeros((8, 3, 3, 3))})
    fails(other, says=["other.params fits no net of the zoo"], out=out)


@pytest.mark.parametrize("net", ["Pnet12", "Pnet20_v0"])
def test_a_pnet_without_boxes(tmp_path, capsys, net):
    """As ZQCNN's det1: its windows stay where they are."""
    checkpoint = trained(net)
    stem = pair(tmp_path / "det1", checkpoint)
    lines = Path(f"{stem}.zqparams").read_text().splitlines()
    kept = [line for line in lines if not re.search("name=(conv4_2|bn4_2)", line)]
    assert len(lines) - len(kept) == (1 if net == "Pnet12" else 2)
    Path(f"{stem}.zqparams").write_text("\n".join(kept))
    numbers = np.fromfile(f"{stem}.nchwbin", "<f4")
    boxes = sum(
        values.size
        for part in (checkpoint.arguments, checkpoint.auxiliary)
        for name, values in part.items()
        if re.match("(conv4_2|bn4_2)_", name)
    )
    numbers[:-boxes].tofile(f"{stem}.nchwbin")
    run(stem, "--out", tmp_path / "out")
    assert "no box branch: that of the checkpoint gives offsets of 0" in capsys.readouterr().out
    made = checkpoints.load(tmp_path / "out" / f"{net}-0000.params")
    data = numpy_net.seeded_input(40)
    results, expected = MxNet(made)(data), MxNet(checkpoint)(data)
    assert np.abs(results["cls"] - expected["cls"]).max() < 1e-5
    assert results["bbox"].shape == expected["bbox"].shape and not results["bbox"].any()


def test_an_rnet_without_boxes_is_none(tmp_path, fails):
    stem = pair(tmp_path / "det2", trained("Rnet24"))
    lines = Path(f"{stem}.zqparams").read_text().splitlines()
    assert "conv5-2" in lines[-1]
    Path(f"{stem}.zqparams").write_text("\n".join(lines[:-1]))
    numbers = np.fromfile(f"{stem}.nchwbin", "<f4")
    numbers[: -4 * 128 - 4].tofile(f"{stem}.nchwbin")
    fails(stem, says=["has no output for bbox", "Rnet24"], out=tmp_path / "out")


def test_values_out_of_all_bounds_are_refused(tmp_path, fails):
    checkpoint = trained("Rnet_v1")
    checkpoint.arguments["conv2_dw_weight"][0, 0, 0, 0] = np.nan
    path = released(tmp_path / "nan.params", checkpoint)
    for more in ((), ("--rescale",)):
        fails(path, *more, says=["conv2_dw gives values that are no numbers"], out=tmp_path / "out")


def test_both_files_of_a_pair_are_one_net(tmp_path, capsys):
    stem = pair(tmp_path / "rnet", trained("Rnet_v1"))
    run(*sorted(tmp_path.iterdir()), "--out", tmp_path / "out")
    assert capsys.readouterr().out.count("is Rnet_v1") == 1
    assert stem.with_suffix(".zqparams").exists()


def test_what_is_there_stays(tmp_path, capsys):
    """The same net again, or the same net with other options, whose symbol would be another."""
    out = tmp_path / "out"
    paths = [
        released(tmp_path / f"{base}-{epoch:04d}.params", trained("Lnet_v2", base=base))
        for base, epoch in ((16, 1), (16, 2), (8, 3))
    ]
    run(*paths[:2], "--out", out)
    before = {path: path.read_bytes() for path in out.iterdir()}
    for path, name in ((paths[0], "Lnet_v2-0001.params"), (paths[2], "Lnet_v2-symbol.json")):
        capsys.readouterr()
        with pytest.raises(SystemExit):
            program(convert.main, [str(path), "--out", str(out)])
        assert f"{name} is there already" in capsys.readouterr().err
        assert {path: path.read_bytes() for path in out.iterdir()} == before


def test_help(capsys):
    with pytest.raises(SystemExit) as stopped:
        run("--help")
    printed = capsys.readouterr().out
    assert stopped.value.code == 0 and "usage: " in printed and len(printed.splitlines()) > 5

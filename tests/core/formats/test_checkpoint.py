"""Checkpoints: any MXNet user can load them, and what does not fit is told apart."""

import json

import numpy as np
import pytest

import symbols
from core.formats import checkpoint as checkpoints
from facelet.console import Problem
from symbols.mxnet_import import mx, ndarrays


def made(net, seed=1, **options):
    return checkpoints.initial(net, options, seed, prelu_slope=0.25)


def written(folder, net, epoch=16, **options):
    return checkpoints.save(folder, made(net, **options), epoch, {})


def without_manifest(path):
    path.with_suffix(".json").unlink()
    return path


def equal(a, b):
    """Same names in the same order and the same numbers, both kinds of parameters."""
    for one, other in ((a.arguments, b.arguments), (a.auxiliary, b.auxiliary)):
        assert set(one) == set(other) and one
        for name, value in one.items():
            assert value.dtype == other[name].dtype == np.float32
            assert np.array_equal(value, other[name]), name
    return True


# ---- round trip ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "net, options",
    [
        ("Pnet20_v1", {}),
        ("Lnet106_v2", {"base": 16}),
        ("Onet_v2", {"landmark": True}),
        ("Lnet106_64r", {"points": 21}),
    ],
)
def test_round_trip(tmp_path, net, options):
    saved = made(net, **options)
    path = checkpoints.save(tmp_path, saved, 7, {"figures": {"accuracy": 0.5}})
    assert path == tmp_path / f"{net}-0007.params"
    for where in (path, tmp_path):  # the file, and the run's folder
        loaded = checkpoints.load(where)
        assert equal(loaded, saved)
        assert (loaded.net, loaded.options) == (net, options)
        assert loaded.manifest["figures"] == {"accuracy": 0.5}
    assert equal(checkpoints.load(path, net, **options), saved)


def test_manifest(tmp_path):
    """What a program in another language needs to run the net."""
    path = written(tmp_path, "Pnet20_v1")
    manifest = json.loads(path.with_suffix(".json").read_text())
    assert manifest["net"] == "Pnet20_v1" and manifest["epoch"] == 16
    assert manifest["input"] == {
        "size": 20,
        "order": "BGR",
        "layout": "NCHW",
        "mean": 127.5,
        "scale": 1 / 128,
    }
    assert (manifest["cell"], manifest["stride"]) == (20, 4)
    assert manifest["params"] == path.name and len(manifest["sha256"]) == 64
    assert not list(tmp_path.glob(".*"))  # no half-written file stays behind


@pytest.mark.parametrize(
    "net, options, outputs",
    [
        ("Pnet20_v1", {}, [(2, 2, 1, 1), (2, 4, 1, 1)]),
        ("Onet_v1", {"landmark": True}, [(2, 2), (2, 4), (2, 10)]),
    ],
)
def test_plain_mxnet_loads_and_binds(tmp_path, net, options, outputs):
    """As MXNet's manual has it, without a line of this toolkit."""
    path = written(tmp_path, net, epoch=3, **options)
    side = symbols.spec(net).size
    symbol, arguments, auxiliary = mx.model.load_checkpoint(str(tmp_path / net), 3)
    module = mx.mod.Module(symbol, label_names=None)
    module.bind([("data", (2, 3, side, side))], for_training=False)
    module.set_params(arguments, auxiliary)
    data = np.random.default_rng(0).uniform(-1, 1, (2, 3, side, side)).astype(np.float32)
    module.forward(mx.io.DataBatch([mx.nd.array(data)]), is_train=False)
    theirs = [out.asnumpy() for out in module.get_outputs()]
    assert [out.shape for out in theirs] == outputs
    assert np.allclose(theirs[0].sum(axis=1), 1, atol=1e-6)

    loaded = checkpoints.load(path)
    executor = loaded.symbol().bind(
        mx.cpu(),
        ndarrays({"data": data, **loaded.arguments}),
        aux_states=ndarrays(loaded.auxiliary),
        grad_req="null",
    )
    ours = [out.asnumpy() for out in executor.forward(is_train=False)]
    assert all(np.allclose(a, b, atol=1e-6) for a, b in zip(ours, theirs))


def test_newest_is_the_last_epoch(tmp_path):
    """By number, not by name or time; an epoch without manifest is not finished."""
    for epoch in (9, 10000, 2, 11000):
        path = written(tmp_path, "Pnet16_v0", epoch)
    without_manifest(path)
    assert checkpoints.newest(tmp_path) == tmp_path / "Pnet16_v0-10000.params"
    with pytest.raises(Problem, match="no finished epoch"):
        checkpoints.newest(tmp_path / "none")


# ---- what does not fit ---------------------------------------------------------------------


def test_another_net_is_named(tmp_path):
    """train-mtcnn's pnet20_v1-0016.params is Pnet20_v0: the name alone is not to be trusted."""
    path = without_manifest(written(tmp_path, "Pnet20_v0"))
    with pytest.raises(Problem) as caught:
        checkpoints.load(path, "Pnet20_v1")
    text = str(caught.value)
    assert str(path) in text and "does not fit Pnet20_v1" in text
    # six parameters that v0 has not, thirteen of another shape: the first three by name
    assert (
        "it lacks conv4_sep_weight; it lacks conv4_sep_bias; it lacks prelu4_gamma and 16 more"
        in text
    )
    assert text.endswith("it fits Pnet20_v0")
    assert checkpoints.load(path).net == "Pnet20_v0"  # nothing given: what it fits is found


def test_a_wrong_shape_is_named(tmp_path):
    broken = made("Rnet_v1")
    broken.arguments["conv5_1_weight"] = np.zeros((3, 128), np.float32)
    broken.auxiliary["extra_moving_mean"] = np.zeros((3,), np.float32)
    with pytest.raises(Problem) as caught:
        checkpoints.check_fits("Rnet_v1", {}, broken.arguments, broken.auxiliary, "x.params")
    assert str(caught.value) == (
        "x.params does not fit Rnet_v1: its conv5_1_weight is (3, 128), not (2, 128); it has "
        "extra_moving_mean, which the net has not; it fits no net of the zoo"
    )


def test_several_nets_fit(tmp_path):
    """The three Onets have one trunk with landmarks: the user has to say which."""
    path = without_manifest(written(tmp_path, "Onet_v1", landmark=True))
    with pytest.raises(Problem, match="Onet_v1 .*Onet_v2 .*Onet_v3 .*: say which net it is"):
        checkpoints.load(path)
    assert checkpoints.load(path, "Onet_v3", landmark=True).net == "Onet_v3"


def test_no_net_fits(tmp_path):
    path = tmp_path / "other.params"
    mx.nd.save(str(path), {"arg:conv1_weight": mx.nd.zeros((8, 3, 3, 3))})
    with pytest.raises(Problem, match="fits no net of the zoo"):
        checkpoints.load(path)


@pytest.mark.parametrize(
    "net, options",
    [
        ("Lnet106_v2", {"base": 16}),
        ("Lnet106_96_v2", {"base": 16}),
        ("Lnet106_v1", {"base": 24}),
        ("Onet_v2", {"landmark": True}),
        ("Onet_v2", {"landmark": True, "points": 7}),
        ("Pnet12", {"landmark": True}),
        ("Pnet20_v3", {}),
        ("Rnet_p", {}),
        ("Lnet106_80r", {"points": 21}),
    ],
)
def test_nets_that_fit(net, options):
    """The net itself is among those found, and those found have the very same parameters."""
    parameters = made(net, **options)
    found = checkpoints.nets_that_fit(parameters.arguments, parameters.auxiliary)
    assert (net, options) in found
    for other, other_options in found:
        symbol, side = symbols.build(other, **other_options), symbols.spec(other).size
        arguments, _, _ = symbol.infer_shape(data=(1, 3, side, side))
        known = dict(zip(symbol.list_arguments(), arguments))
        del known["data"]
        assert known == {key: value.shape for key, value in parameters.arguments.items()}


def test_nets_that_fit_are_few():
    """A trunk that has two names, told apart by the number of points alone, goes by the name
    whose own number it is; with another number either name is right."""
    for net, options, count in (
        ("Lnet106_v2", {"base": 16}, 1),
        ("Lnet_v2", {}, 1),
        ("Lnet_v2", {"points": 68}, 2),
        ("Lnet106_96_v3", {}, 1),
        ("Onet_v3", {"landmark": True}, 3),
        ("Onet_v3", {}, 1),
    ):
        parameters = made(net, **options)
        found = checkpoints.nets_that_fit(parameters.arguments, parameters.auxiliary)
        assert len(found) == count, found


def test_changed_content(tmp_path):
    path = written(tmp_path, "Pnet16_v0")
    data = bytearray(path.read_bytes())
    data[200] ^= 1  # a bit of a weight: MXNet would never notice
    path.write_bytes(data)
    with pytest.raises(Problem, match="not the file that Pnet16_v0-0016.json was written for"):
        checkpoints.load(path)
    assert checkpoints.load(without_manifest(path)).net == "Pnet16_v0"


@pytest.mark.parametrize("part", [0, 0.001, 0.5, 0.97])
def test_truncated_files(tmp_path, part):
    path = without_manifest(written(tmp_path, "Pnet16_v0"))
    data = path.read_bytes()
    path.write_bytes(data[: int(part * len(data))])
    with pytest.raises(Problem, match="no MXNet .params file, or a damaged one"):
        checkpoints.load(path)


def test_files_that_are_something_else(tmp_path):
    with pytest.raises(Problem, match="is not there"):
        checkpoints.load(tmp_path / "none.params")
    text = tmp_path / "text.params"
    text.write_text("no parameters at all, but long enough for a header\n" * 10)
    with pytest.raises(Problem, match="damaged"):
        checkpoints.load(text)
    listed = tmp_path / "list.params"  # MXNet saves lists without names too
    mx.nd.save(str(listed), [mx.nd.zeros((2,))])
    with pytest.raises(Problem, match="no MXNet .params file"):
        checkpoints.load(listed)
    bare = tmp_path / "bare.params"  # as gluon saves them
    mx.nd.save(str(bare), {"conv1_weight": mx.nd.zeros((2,))})
    with pytest.raises(Problem, match="holds 'conv1_weight'.*arg: or aux:"):
        checkpoints.load(bare)


def test_a_broken_manifest(tmp_path):
    path = written(tmp_path, "Pnet16_v0")
    path.with_suffix(".json").write_text('{"net": ')
    with pytest.raises(Problem, match="not valid JSON"):
        checkpoints.load(path)


# ---- fresh parameters ----------------------------------------------------------------------


def test_initial_parameters():
    fresh = checkpoints.initial("Onet_v1", {"landmark": True}, 3, prelu_slope=0.3)
    values = fresh.arguments
    assert np.all(values["prelu1_gamma"] == np.float32(0.3))
    assert np.all(values["bn1_gamma"] == 1) and np.all(values["bn6_1_gamma"] == 1)
    assert np.all(values["bn6_2_gamma"] == np.float32(0.1))  # offsets spread less than scores
    assert np.all(values["conv1_bias"] == 0) and np.all(values["bn1_beta"] == 0)
    for name, fan_in in (
        ("conv2_sep_weight", 32),
        ("conv5_sep_weight", 128),
        ("conv6_dw_weight", 9),
    ):
        spread = np.sqrt(2 / fan_in)
        assert abs(values[name].mean()) < 0.1 * spread
        assert abs(values[name].std() / spread - 1) < 0.1
    for name, value in fresh.auxiliary.items():
        assert np.all(value == (1 if name.endswith("var") else 0))
    assert equal(fresh, checkpoints.initial("Onet_v1", {"landmark": True}, 3, prelu_slope=0.3))
    other = checkpoints.initial("Onet_v1", {"landmark": True}, 4, prelu_slope=0.3)
    assert not np.array_equal(other.arguments["conv1_weight"], values["conv1_weight"])

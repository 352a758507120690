"""Budgets are those of train-mtcnn's tables, and the rule of every operator is its formula."""

import json

import pytest

import symbols
from core import flops
from facelet.console import Problem
from symbols.mxnet_import import mx

# net, base, figure of train-mtcnn's tables, the same to three decimals, plain multiply-adds in
# 10^6. The tables' figures of Pnet20_v00 and Pnet16_v1 hold the box branch, those of the other
# Pnets, and the three decimals of all, don't.
PUBLISHED = [
    ("Pnet20_v00", None, 10.3, 9.883, 8.169),
    ("Pnet20_v0", None, 14.1, 14.098, 11.273),
    ("Pnet20_v1", None, 18.3, 18.324, 13.975),
    ("Pnet20_v2", None, 22.9, 22.903, 17.728),
    ("Pnet20_v3", None, 32.4, 32.373, 26.637),
    ("Pnet20_v4", None, 55.8, 55.835, 46.006),
    ("Pnet20_v5", None, 83.9, 83.862, 71.601),
    ("Pnet20_v6", None, 92.4, 92.429, 79.404),
    ("Pnet20_v7", None, 102.1, 102.105, 88.300),
    ("Pnet20_v8", None, 125.2, 125.174, 109.200),
    ("Pnet20_s2v1", None, 63.2, 63.215, 50.775),
    ("Pnet20_s2v2", None, 107.5, 107.460, 90.529),
    ("Pnet20_s2v3", None, 169.2, 169.174, 147.597),
    ("Pnet16_v0", None, 8.6, 8.597, 7.500),
    ("Pnet16_v1", None, 12.5, 12.242, 9.377),
    ("Rnet_v1", None, 0.6, 0.588, 0.501),
    ("Rnet_v2", None, 1.6, 1.558, 1.386),
    ("Onet_v1", None, 2.4, 2.391, 2.023),
    ("Onet_v2", None, 3.6, 3.585, 3.178),
    ("Onet_v3", None, 9.3, 9.341, 8.474),
    ("Lnet_v1", 16, 3.8, 3.803, 3.285),
    ("Lnet_v1", 32, 11.5, 11.515, 10.668),
    ("Lnet_v2", 16, 3.8, 3.803, 3.285),
    ("Lnet_v2", 32, 11.5, 11.515, 10.668),
    ("Lnet_v3", 32, 7.7, 7.718, 6.977),
    ("Lnet106_v1", 32, 11.6, 11.564, 10.720),
    ("Lnet106_v1", 64, 38.8, 38.763, 37.834),
    ("Lnet106_v2", 32, 11.6, 11.564, 10.720),
    ("Lnet106_v2", 64, 38.8, 38.763, 37.834),
    ("Lnet106_v2", 128, 140.1, 140.065, 141.246),
    ("Lnet106_96_v1", 32, 42.8, 42.836, 39.043),
    ("Lnet106_96_v1", 64, 140.2, 140.220, 135.286),
    ("Lnet106_96_v2", 16, 14.6, 14.599, 12.372),
    ("Lnet106_96_v2", 32, 42.8, 42.836, 39.043),
    ("Lnet106_96_v2", 64, 140.2, 140.220, 135.286),
    ("Lnet106_96_v3", 32, 18.7, 18.653, 16.967),
    ("Lnet106_64_v3", 32, 7.8, 7.767, 7.028),
]
WITH_BBOX = ("Pnet20_v00", "Pnet16_v1")
CLASSIC = [("Pnet12", 45.4), ("Rnet24", 1.6), ("Onet48", 12.9)]


# ---- the tables of train-mtcnn ---------------------------------------------------------------


def test_the_table_has_all_rows():
    assert len(PUBLISHED) == 37


@pytest.mark.parametrize("name, base, published, rule, plain", PUBLISHED)
def test_published_figures(name, base, published, rule, plain):
    row = flops.record(name, base)
    assert f"{row['budget_m']:.3f}" == f"{rule:.3f}"
    figure = row["budget_bbox_m" if name in WITH_BBOX else "budget_m"]
    assert f"{figure:.1f}" == f"{published:.1f}"
    assert row["published_m"] == published
    assert row["published_with_bbox"] == (name in WITH_BBOX)
    assert f"{row['macs'] / 1e6:.3f}" == f"{plain:.3f}"
    assert row["budget_bbox_m"] > row["budget_m"] or not name.startswith("Pnet")


@pytest.mark.parametrize("name, published", CLASSIC)
def test_published_figures_of_the_classic_nets(name, published):
    row = flops.record(name)
    assert f"{row['budget_m']:.1f}" == f"{published:.1f}" and row["published_m"] == published


@pytest.mark.parametrize(
    "name, size, figure", [("Pnet20_v0", (1920, 1080), 395.1), ("Pnet12", (1152, 648), 1324.7)]
)
def test_other_sizes(name, size, figure):
    """Larger pictures, by the same rule; train-mtcnn has no figure to go with them."""
    row = flops.record(name, size=size)
    assert f"{row['budget_m']:.1f}" == f"{figure:.1f}" and row["published_m"] is None


def test_a_net_by_hand():
    """Rnet24 layer by layer: positions * out * (in * k * k + 1 for the bias), 3 per slope."""
    convolutions = [(22, 28, 3 * 9), (9, 48, 28 * 9), (3, 64, 48 * 4)]
    rule = sum(side * side * out * (each + 1 + 3) for side, out, each in convolutions)
    rule += (11 * 11 * 28 + 4 * 4 * 48) * 9  # pools: 22 -> 11, 9 -> 4, 3 x 3 each
    rule += 576 * 128 + 3 * 128 + 128 * 2 + 128 * 4  # fully connected, no biases
    budget = flops.count_net("Rnet24")
    assert budget.budget == rule
    assert budget.macs == (
        sum(s * s * out * each for s, out, each in convolutions) + 576 * 128 + 128 * 6
    )
    assert budget.params == 100178


def test_landmark_head_counts():
    """10 more outputs on 128 values, without bias: and train-mtcnn has no figure for them."""
    plain, more = flops.record("Rnet24"), flops.record("Rnet24", landmark=True)
    assert more["macs"] - plain["macs"] == 1280 and more["params"] - plain["params"] == 1290
    assert more["published_m"] is None and more["points"] == 5 and plain["points"] is None


# ---- one symbol per operator ---------------------------------------------------------------


def data():
    return mx.sym.var("data")


def pixels():
    """A convolution under which other operators have 4 channels of 6 x 8: it costs 576 + 192."""
    return mx.sym.Convolution(data(), name="c", kernel=(1, 1), num_filter=4)


UNDER = 6 * 8 * 4 * 3 + 6 * 8 * 4
ELEMENTS = 6 * 8 * 4
OPERATORS = {
    # the symbol on a 6 x 8 picture; its cost by the rule; its plain multiply-adds
    "convolution": (
        lambda: mx.sym.Convolution(data(), kernel=(3, 3), stride=(2, 2), pad=(1, 1), num_filter=5),
        3 * 4 * 5 * 3 * 9 + 3 * 4 * 5,
        3 * 4 * 5 * 3 * 9,
    ),
    # every convolution has a bias once a batch norm is merged into it
    "convolution without bias": (
        lambda: mx.sym.Convolution(data(), kernel=(3, 2), num_filter=5, no_bias=True),
        4 * 7 * 5 * 3 * 6 + 4 * 7 * 5,
        4 * 7 * 5 * 3 * 6,
    ),
    "depthwise": (
        lambda: mx.sym.Convolution(data(), kernel=(3, 3), num_filter=3, num_group=3),
        4 * 6 * 3 * 9 + 4 * 6 * 3,
        4 * 6 * 3 * 9,
    ),
    "groups": (
        lambda: mx.sym.Convolution(pixels(), kernel=(1, 1), num_filter=6, num_group=2),
        UNDER + 48 * 6 * 2 + 48 * 6,
        48 * 4 * 3 + 48 * 6 * 2,
    ),
    "fully connected": (lambda: mx.sym.FullyConnected(data(), num_hidden=7), 144 * 7, 144 * 7),
    "fully connected without bias": (
        lambda: mx.sym.FullyConnected(data(), num_hidden=7, no_bias=True),
        144 * 7,
        144 * 7,
    ),
    "prelu": (lambda: mx.sym.LeakyReLU(data(), act_type="prelu"), 3 * 144, 0),
    "relu": (lambda: mx.sym.Activation(data(), act_type="relu"), 144, 0),
    "addition": (lambda: mx.sym.elemwise_add(data(), data()), 144, 0),
    "batch norm on the picture": (lambda: mx.sym.BatchNorm(data()), 144, 0),
    "merged batch norm": (lambda: mx.sym.BatchNorm(pixels()), UNDER, 576),
    "batch norm merged into a fully connected layer": (
        lambda: mx.sym.BatchNorm(mx.sym.FullyConnected(data(), num_hidden=7)),
        1008,
        1008,
    ),
    "batch norm after an activation": (
        lambda: mx.sym.BatchNorm(mx.sym.Activation(pixels(), act_type="relu")),
        UNDER + 2 * ELEMENTS,
        576,
    ),
    "pooling": (
        lambda: mx.sym.Pooling(
            data(), kernel=(3, 2), stride=(2, 2), pool_type="max", pooling_convention="full"
        ),
        3 * 3 * 4 * 6,
        0,
    ),
    "softmax": (lambda: mx.sym.SoftmaxActivation(pixels(), mode="channel"), UNDER, 576),
    "new softmax": (lambda: mx.sym.softmax(pixels(), axis=1), UNDER, 576),
    "flatten": (lambda: mx.sym.Flatten(pixels()), UNDER, 576),
    "reshape": (lambda: mx.sym.Reshape(pixels(), shape=(0, -1)), UNDER, 576),
    "concat": (lambda: mx.sym.Concat(data(), data(), dim=1), 0, 0),
}


@pytest.mark.parametrize("kind", OPERATORS)
def test_rule_of_an_operator(kind):
    make, rule, plain = OPERATORS[kind]
    budget = flops.count(make(), 8, 6)
    assert (budget.budget, budget.budget_bbox, budget.macs) == (rule, rule, plain)


def test_every_operator_of_the_rule_is_tested():
    tested = {
        node["op"]
        for make, _, _ in OPERATORS.values()
        for node in json.loads(make().tojson())["nodes"]
    }
    assert set(flops.COSTS) == tested - {"null"}


def test_a_batch_norm_that_can_not_be_merged():
    """Where another layer, or the user, reads the convolution, merging would change it."""
    convolution = pixels()
    read_twice = mx.sym.elemwise_add(mx.sym.BatchNorm(convolution), convolution)
    assert flops.count(read_twice, 8, 6).budget == UNDER + 2 * ELEMENTS
    output_too = mx.sym.Group([mx.sym.BatchNorm(convolution), convolution])
    assert flops.count(output_too, 8, 6).budget == UNDER + ELEMENTS


def test_parameters_leave_out_moving_means():
    symbol = mx.sym.BatchNorm(pixels())
    assert flops.count(symbol, 8, 6).params == 4 * 3 + 4 + 4 + 4


def test_left_out_branch():
    """What only that output needs is left out, what others need too is not."""
    trunk = pixels()
    kept = mx.sym.Convolution(trunk, name="kept", kernel=(1, 1), num_filter=2)
    left = mx.sym.Convolution(
        mx.sym.Activation(trunk, act_type="relu"), name="left", kernel=(1, 1), num_filter=5
    )
    budget = flops.count(mx.sym.Group([kept, left]), 8, 6, left_out=["left"])
    assert budget.budget == UNDER + 48 * 2 * 5
    assert budget.budget_bbox == UNDER + 48 * 2 * 5 + ELEMENTS + 48 * 5 * 5


def test_the_old_spelling_of_the_landmark_head(capsys):
    flops.main(["--net", "Onet_v1", "--landmark", "--json"])
    out, err = capsys.readouterr()
    assert json.loads(out)[0]["landmark"] and "--landmark is now --landmark-head" in err


def test_unknown_operators_are_errors():
    with pytest.raises(Problem, match="operator sigmoid .*mine.*COSTS"):
        _ = flops.count(mx.sym.sigmoid(data(), name="mine"), 8, 6).budget
    pool = mx.sym.Pooling(data(), global_pool=True, kernel=(1, 1), pool_type="avg")
    with pytest.raises(Problem, match="global pooling"):
        _ = flops.count(pool, 8, 6).budget


# ---- the program ---------------------------------------------------------------------------

KEYS = {
    "net": str,
    "base": (int, type(None)),
    "points": (int, type(None)),
    "landmark": bool,
    "input": str,
    "params": int,
    "macs": int,
    "budget_m": float,
    "budget_bbox_m": float,
    "published_m": (float, type(None)),
    "published_with_bbox": bool,
}


def printed(capsys, *arguments):
    flops.main(list(arguments))
    return capsys.readouterr().out


def test_json_of_a_net(capsys):
    (row,) = json.loads(printed(capsys, "--net", "Lnet106_v2", "--base", "64", "--json"))
    assert set(row) == set(KEYS)
    assert all(isinstance(row[key], kind) for key, kind in KEYS.items())
    assert row == {
        "net": "Lnet106_v2",
        "base": 64,
        "points": 106,
        "landmark": False,
        "input": "48x48",
        "params": 923132,
        "macs": row["macs"],
        "budget_m": row["budget_m"],
        "budget_bbox_m": row["budget_m"],
        "published_m": 38.8,
        "published_with_bbox": False,
    }
    assert round(row["budget_m"], 3) == 38.763 and round(row["macs"] / 1e6, 3) == 37.834


def test_json_of_a_symbol_file(capsys, tmp_path):
    """Of a file nothing says which output is the box: all of it counts."""
    path = tmp_path / "net-symbol.json"
    symbols.build("Pnet20_v2").save(str(path))
    (row,) = json.loads(printed(capsys, "--symbol", str(path), "--input", "320x240", "--json"))
    assert {key: row[key] for key in ("net", "base", "input", "params", "published_m")} == {
        "net": str(path),
        "base": None,
        "input": "320x240",
        "params": 2162,
        "published_m": None,
    }
    (known,) = json.loads(printed(capsys, "--net", "Pnet20_v2", "--json"))
    assert row["budget_m"] == row["budget_bbox_m"] == known["budget_bbox_m"] > known["budget_m"]
    assert isinstance(row["macs"], int) and row["macs"] > known["macs"]
    text = printed(capsys, "--symbol", str(path), "--input", "320x240")
    assert f"{row['budget_m']:.3f} M (2^20)" in text and "conv4_2" in text


def test_all_lists_every_net(capsys):
    rows = json.loads(printed(capsys, "--net", "all", "--json"))
    assert all(set(row) == set(KEYS) for row in rows)
    assert {row["net"] for row in rows} == set(symbols.names())
    listed = {(row["net"], row["base"]): row["published_m"] for row in rows if not row["landmark"]}
    assert all(listed[name, base] == published for name, base, published, _, _ in PUBLISHED)
    assert {row["net"] for row in rows if row["landmark"]} == {
        "Onet_v1",
        "Onet_v2",
        "Onet_v3",
        "Pnet12",
        "Rnet24",
        "Onet48",
    }
    text = printed(capsys, "--net", "all")
    lines = {line.split()[0]: line for line in text.splitlines() if line}
    assert set(symbols.names()) <= set(lines)
    assert lines["Pnet20_v00"].endswith("10.3*") and lines["Pnet20_v0"].rstrip().endswith("14.1")


def test_text_of_a_net(capsys):
    text = printed(capsys, "--net", "Pnet20_v2")
    assert "Pnet20_v2 at 320x240, 22.9 M in train-mtcnn's table" in text
    assert "22.903 M (2^20)" in text and "17.728 M multiply-adds" in text
    # the first layer: 2 x 2 from 3 to 8 channels, by the rule with its bias
    first = next(line for line in text.splitlines() if line.split()[:1] == ["conv1"])
    assert first.split()[1:] == [
        "Convolution",
        "8x239x319",
        f"{239 * 319 * 8 * 13:,}",
        f"{239 * 319 * 8 * 12:,}",
    ]
    box = next(line for line in text.splitlines() if line.split()[:1] == ["conv4_2"])
    assert box.endswith("box branch")


@pytest.mark.parametrize(
    "arguments, says",
    [
        (["--net", "Pnet20_v2", "--input", "320"], "--input 320.*WIDTHxHEIGHT"),
        (["--net", "Pnet20_v2", "--input", "0x240"], "--input 0x240"),
        (["--net", "Pnet20_v2", "--input", "320x-240"], "--input 320x-240"),
        (["--net", "Pnet20_v2", "--input", "x"], "--input x"),
        (["--net", "Pnet20_v2", "--input", "16x100"], "16x100 is smaller than the 20 pixel window"),
        (["--net", "Pnet20_v2", "--base", "16"], "no option base"),
        (["--net", "Rnet_v1", "--input", "32x24"], "Rnet_v1 takes 24x24 only, not 32x24"),
        (["--net", "Lnet_v1", "--base", "0"], "base is 0"),
        (["--net", "Pnet20_v9"], "no net is called"),
        (["--net", "Rnet_v1", "--landmark-head"], "no landmark"),
        (["--net", "Lnet_v1", "train.epochs=3"], "train.epochs=3.*has no settings"),
        (["--net", "Lnet_v1", "--bass", "3"], "no option --bass: did you mean --base"),
        (["--net", "all", "--base", "0"], "takes no option"),
        (["--net", "all", "--input", "320x240"], "takes no option"),
        (["--symbol", "/nowhere/x-symbol.json", "--input", "320x240"], "can't be read"),
        (["--symbol", "/nowhere/x-symbol.json"], "--input"),
    ],
)
def test_what_the_user_can_mend(arguments, says):
    with pytest.raises(Problem, match=says):
        flops.main(arguments)


@pytest.mark.parametrize("content", [b"", b"not json", b"\xff\xfe\x00", b'{"nodes": []'])
def test_broken_symbol_files(content, tmp_path):
    path = tmp_path / "broken-symbol.json"
    path.write_bytes(content)
    with pytest.raises(Problem, match="can't be read"):
        flops.main(["--symbol", str(path), "--input", "320x240"])


def test_a_symbol_that_the_input_does_not_fit(tmp_path, capsys):
    path = tmp_path / "rnet-symbol.json"
    symbols.build("Pnet20_v1").save(str(path))
    with pytest.raises(Problem, match="8x8 does not fit"):
        flops.main(["--symbol", str(path), "--input", "8x8"])
    assert capsys.readouterr() == ("", "")

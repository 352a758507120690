"""ZQCNN's files: what is written says the same as MXNet, what is read is what the format says, and
nothing else than a Problem comes of files that are damaged."""

import os
import tracemalloc
from functools import lru_cache
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from trained import huge, trained

from core import convert
from core.detect.mxnet_net import MxNet
from core.formats import fuse, numpy_net, zqcnn_reader, zqcnn_writer
from facelet.console import Problem
from symbols import graph as graphs
from symbols.graph import DATA, Graph, Node

NETS = [
    ("Pnet20_v3", {}),
    ("Pnet20_p", {}),
    ("Pnet12", {"landmark": True}),
    ("Rnet_v1", {}),
    ("Rnet_p", {}),
    ("Rnet24", {}),
    ("Onet_v2", {"landmark": True}),
    ("Onet48", {"landmark": True}),
    ("Lnet_v2", {"base": 16}),
    ("Lnet106_64r", {}),
]


def lines_of(stem):
    return Path(f"{stem}.zqparams").read_text().splitlines()


def numbers_of(stem):
    return np.fromfile(f"{stem}.nchwbin", "<f4")


def rewrite(stem, lines=None, numbers=None):
    if lines is not None:
        Path(f"{stem}.zqparams").write_text("".join(f"{line}\n" for line in lines))
    if numbers is not None:
        np.asarray(numbers, "<f4").tofile(f"{stem}.nchwbin")


@pytest.fixture
def stem(tmp_path):
    return tmp_path / "net.v1"  # a dot, which no suffix is


# ---- writing -------------------------------------------------------------------------------


@pytest.mark.parametrize("net, options", NETS)
def test_what_is_written_gives_what_mxnet_gives(net, options, stem):
    checkpoint = trained(net, **options)
    size = checkpoint.spec.size
    zqcnn_writer.write(fuse.rescale(checkpoint.graph()), size, stem)
    graph, side, remarks = zqcnn_reader.read(stem)
    assert (side, remarks) == (size, [])
    assert all(node.eps == 0 for node in graph.nodes if node.op == "bn")
    for side in (size, 3 * size + 2) if checkpoint.spec.stride else (size,):
        data = numpy_net.seeded_input(side)
        expected = MxNet(checkpoint)(data)
        assert numpy_net.difference(numpy_net.run(graph, data), expected) < 1e-5
    assert {path.name for path in stem.parent.iterdir()} == {"net.v1.zqparams", "net.v1.nchwbin"}


TOPS = {
    "Pnet20_p": ["prob1", "conv4-2"],
    "Pnet12": ["prob1", "conv4-3", "conv4-2"],
    "Rnet_v1": ["prob1", "conv5-2"],
    "Rnet24": ["prob1", "conv5-2"],
    "Onet_v2": ["prob1", "conv6-3", "conv6-2"],
    "Onet48": ["prob1", "conv6-3", "conv6-2"],
    "Lnet106_64r": ["conv6-3"],
}


@pytest.mark.parametrize("net, options", [fit for fit in NETS if fit[0] in TOPS])
def test_text(net, options, stem):
    """The engine looks outputs up by these names; its rules for lines; a layer of which each
    number is given."""
    checkpoint = trained(net, **options)
    zqcnn_writer.write(fuse.rescale(checkpoint.graph()), checkpoint.spec.size, stem)
    text = Path(f"{stem}.zqparams").read_bytes()
    assert b"\r" not in text and text.endswith(b"\n") and max(map(len, text.split(b"\n"))) < 2000
    made, read, names = [], set(), set()
    for line in text.decode("ascii").splitlines():
        words = [word.split("=") for word in line.split()[1:]]
        name, bottoms = dict(words[:1])["name"], [word[1] for word in words if word[0] == "bottom"]
        assert name not in names and set(bottoms) <= {DATA, *made}
        names.add(name)
        read |= set(bottoms)
        made += [word[1] for word in words if word[0] == "top"]
    assert [top for top in made if top not in read] == TOPS[net]
    kinds = {line.split()[0] for line in lines_of(stem)}
    assert kinds <= {
        "Input",
        "Convolution",
        "DepthwiseConvolution",
        "BatchNormScale",
        "PReLU",
        "ReLU",
        "Softmax",
        "Pooling",
        "InnerProduct",
        "Eltwise",
    }
    if net == "Pnet20_p":
        assert lines_of(stem)[4] == (
            "DepthwiseConvolution name=conv2_dw bottom=prelu1 top=conv2_dw num_output=8 kernel_H=3 "
            "kernel_W=3 stride_H=2 stride_W=2 bias"
        )


def test_numbers(stem):
    """As they lie in the file, found with nothing but the format's rules."""
    checkpoint = trained("Rnet_p")
    zqcnn_writer.write(checkpoint.graph(), 24, stem)  # as it is: with an eps
    values, at = {**checkpoint.arguments, **checkpoint.auxiliary}, 0
    numbers = numbers_of(stem)
    parts = {
        "Convolution": ("weight", "bias"),
        "DepthwiseConvolution": ("weight", "bias"),
        "InnerProduct": ("weight", "bias"),
        "PReLU": ("gamma",),
        "BatchNormScale": ("moving_mean", "moving_var", "gamma", "beta"),
    }
    for line in lines_of(stem):
        kind, name = line.split()[0], line.split()[1][len("name=") :]
        for part in parts.get(kind, ()):
            expected = values.pop(f"{name}_{part}").ravel()
            expected = expected + np.float32(0.001) if part == "moving_var" else expected
            np.testing.assert_allclose(numbers[at : at + len(expected)], expected, rtol=2e-7)
            at += len(expected)
    assert at == len(numbers) and not values


def test_gammas_that_are_fixed_are_ones(stem):
    checkpoint = trained("Pnet16_v0")
    graph = checkpoint.graph()
    fixed = Graph(
        tuple(graphs.replace(node, fix_gamma=node.op == "bn") for node in graph.nodes),
        graph.outputs,
        graph.params,
    )
    zqcnn_writer.write(fixed, 16, stem)
    back, _, _ = zqcnn_reader.read(stem)
    assert np.all(back.params["bn4_1_gamma"] == 1) and np.any(graph.params["bn4_1_gamma"] != 1)


@pytest.mark.parametrize("net", ["Pnet20_v0", "Rnet_v1", "Onet_v1"])
def test_huge_activations_are_refused_unless_rescaled(net, stem):
    """As nets released with ZQCNN are: ZQCNN would throw away the weights of their heads."""
    checkpoint = huge(net)
    size = checkpoint.spec.size
    rewrite(stem, ["what was there"], [1, 2])
    with pytest.raises(Problem, match="as ZQCNN loads it.*differs.*not written"):
        zqcnn_writer.write(checkpoint.graph(), size, stem)
    assert lines_of(stem) == ["what was there"] and list(numbers_of(stem)) == [1, 2]
    zqcnn_writer.write(fuse.rescale(checkpoint.graph()), size, stem)
    graph, _, _ = zqcnn_reader.read(stem)
    data = numpy_net.seeded_input(size)
    expected = numpy_net.run(checkpoint.graph(), data)
    assert numpy_net.difference(numpy_net.run(graph, data), expected) < 1e-6


@pytest.mark.parametrize("suffix", [".zqparams", ".nchwbin"])
def test_a_text_that_is_there_has_its_numbers(suffix, stem, monkeypatch):
    """However the writing ends: here as one file or the other should replace an older one."""
    checkpoint = trained("Pnet16_v0")
    rewrite(stem, ["of an older net"], [1, 2])
    replace = os.replace

    def failing(source, target):
        if str(target).endswith(suffix):
            raise OSError(28, "No space left on device")
        replace(source, target)

    monkeypatch.setattr(os, "replace", failing)
    with pytest.raises(OSError):
        zqcnn_writer.write(fuse.rescale(checkpoint.graph()), 16, stem)
    assert [path.name for path in stem.parent.iterdir()] == ["net.v1.nchwbin"]


def small(*nodes, seed=0, size=8):
    graph = Graph(nodes, {"landmark": nodes[-1].top})
    rng = np.random.default_rng(seed)
    return graph.with_params(
        *(
            {name: rng.uniform(0.5, 1, shape).astype(np.float32) for name, shape in part.items()}
            for part in graphs.parameter_shapes(graph, size)
        )
    )


@pytest.mark.parametrize(
    "nodes, says",
    [
        (
            [Node("conv", "c", (DATA,), channels=12), Node("dense", "d", ("c",), channels=2)],
            "d is fully connected to 12 channels.*multiples of 8",
        ),
        (
            [Node("prelu", "p", (DATA,)), Node("conv", "c", ("p",), channels=8)],
            "p reads the picture itself",
        ),
        (
            [Node("conv", "c", (DATA,), channels=8), Node("sigmoid", "s", ("c",))],
            "s: ZQCNN's files have no layer for sigmoid",
        ),
    ],
)
def test_layers_that_the_engine_lacks_or_gets_wrong(nodes, says, stem):
    with pytest.raises(Problem, match=says):
        zqcnn_writer.write(small(*nodes), 8, stem)
    assert not list(stem.parent.iterdir())


# ---- reading -------------------------------------------------------------------------------

TINY = """
Input \t name=pic C=3 H=6 W=6
// a comment, and another kind
#another
convolution  bottom=pic name=c1 top=c1 num_output:4 kernel_size=3 stride=2 pad=1 bias=1

BatchNormScale name=b1 bottom=c1 top=c1 eps=0.25
PReLU name=p1 bottom=c1 top=c1
DepthwiseConvolution name=d1 bottom=c1 top=d1 num_output=4 kernel_H=2 kernel_W=2
RELU name=r1 bottom=d1 top=d1
Convolution name=c2 bottom=c1 top=c2 num_output=4 kernel_H=2 kernel_W=2 dilate=1 Bias
Dropout name=o1 bottom=c2 top=o1 dropout_ratio=0.5
Eltwise name=sum bottom=d1 bottom=o1 top=sum operation=Sum
Pooling name=pool bottom=c1 top=pool kernel_size=2 stride=2 pool=MAX
InnerProduct name=heads bottom=pool top=heads num_output=2 bias
Softmax name=soft bottom=heads top=Prob
InnerProduct name=fc bottom=sum top=box-2 num_output=4
"""


def tiny_by_hand(values, picture):
    """What TINY says, in loops over single numbers."""
    values = iter(values)

    def take(*shape):
        return np.array([next(values) for _ in range(int(np.prod(shape)))], float).reshape(shape)

    def window_sum(x, weights, row, column, stride):
        return sum(
            x[c, stride * row + i, stride * column + j] * weights[c, i, j]
            for c in range(len(x))
            for i in range(weights.shape[1])
            for j in range(weights.shape[2])
        )

    framed = np.zeros((3, 8, 8))
    framed[:, 1:7, 1:7] = picture
    weight, bias = take(4, 3, 3, 3), take(4)
    c1 = np.array(
        [
            [[window_sum(framed, weight[o], i, j, 2) + bias[o] for j in range(3)] for i in range(3)]
            for o in range(4)
        ]
    )
    mean, variance, scale, slope = take(4), take(4), take(4), take(4)
    for o in range(4):
        c1[o] = scale[o] * (c1[o] - mean[o]) / np.sqrt(variance[o] + 0.25)
        c1[o] = [[v if v > 0 else slope[o] * v for v in row] for row in c1[o]]
    weight = take(4, 2, 2)
    d1 = np.array(
        [
            [
                [max(0, window_sum(c1[o : o + 1], weight[o : o + 1], i, j, 1)) for j in range(2)]
                for i in range(2)
            ]
            for o in range(4)
        ]
    )
    weight, bias = take(4, 4, 2, 2), take(4)
    c2 = np.array(
        [
            [[window_sum(c1, weight[o], i, j, 1) + bias[o] for j in range(2)] for i in range(2)]
            for o in range(4)
        ]
    )
    pool = np.array(
        [[[c1[o, i : i + 2, j : j + 2].max() for j in (0, 2)] for i in (0, 2)] for o in range(4)]
    )
    heads = take(2, 16) @ pool.ravel() + take(2)
    box = take(4, 16) @ (d1 + c2).ravel()
    assert next(values, None) is None
    return np.exp(heads) / np.exp(heads).sum(), box


TINY_NUMBERS = 108 + 4 + 3 * 4 + 4 + 16 + 64 + 4 + 32 + 2 + 64


@pytest.fixture
def tiny(stem):
    rewrite(
        stem,
        TINY.splitlines(),
        np.random.default_rng(2).uniform(-1, 1, TINY_NUMBERS).astype(np.float32),
    )
    numbers = numbers_of(stem)
    numbers[116:120] = np.abs(numbers[116:120])  # variances
    rewrite(stem, numbers=numbers)
    return stem


def test_a_net_by_hand(tiny):
    graph, side, remarks = zqcnn_reader.read(tiny)
    assert (side, remarks) == (6, [])
    assert dict(graph.outputs) == {"cls": "soft", "bbox": "fc"}
    picture = numpy_net.seeded_input(6, count=1)
    results = numpy_net.run(graph, picture)
    probabilities, box = tiny_by_hand(numbers_of(tiny), picture[0])
    np.testing.assert_allclose(results["cls"][0], probabilities, rtol=1e-6)
    np.testing.assert_allclose(results["bbox"][0], box, rtol=1e-6)


def test_paths_and_line_ends(tiny):
    """Either file or the stem, numbers of another stem, CRLF, no LF at the end, a byte order
    mark."""
    picture = numpy_net.seeded_input(6)
    expected = numpy_net.run(zqcnn_reader.read(tiny)[0], picture)
    text, numbers = Path(f"{tiny}.zqparams"), Path(f"{tiny}.nchwbin")
    other = numbers.with_name("other.bin")
    other.write_bytes(numbers.read_bytes())
    for change, mark in ((b"\r\n", b"\xef\xbb\xbf"), (b"\n\n", b"")):
        text.write_bytes(mark + TINY.strip().encode().replace(b"\n", change))
        for given_path in ((tiny,), (text,), (numbers,), (text, other)):
            results = numpy_net.run(zqcnn_reader.read(*given_path)[0], picture)
            assert numpy_net.difference(results, expected) == 0
    numbers.unlink()
    with pytest.raises(Problem, match="net.v1.nchwbin, the numbers of net.v1.zqparams, is not"):
        zqcnn_reader.read(tiny)
    assert zqcnn_reader.read(tiny, other)


@pytest.mark.parametrize("net", ["Pnet20_v0", "Pnet20_p"])
def test_a_box_branch_commented_out(net, stem):
    checkpoint = trained(net)
    zqcnn_writer.write(fuse.rescale(checkpoint.graph()), 20, stem)
    whole, _, _ = zqcnn_reader.read(stem)
    lines, numbers = lines_of(stem), numbers_of(stem)
    last = next(i for i, line in enumerate(lines) if "prob1" in line) + 1
    trunk = lines[:last]
    commented = trunk + ["# the boxes:"] + ["#" + line for line in lines[last:]]

    rewrite(stem, commented)
    graph, _, remarks = zqcnn_reader.read(stem)
    assert list(graph.outputs) == ["cls", "bbox"] and len(remarks) == 1
    assert f"lines {last + 2}, {last + 3}" in remarks[0] and "commented out" in remarks[0]
    data = numpy_net.seeded_input(33)
    assert numpy_net.difference(numpy_net.run(graph, data), numpy_net.run(whole, data)) == 0

    # Without those numbers the comments are comments.
    rewrite(stem, trunk)
    with pytest.raises(Problem, match="asks for") as too_many:
        zqcnn_reader.read(stem)
    asked = int(str(too_many.value).split("asks for ")[1].split(":")[0].replace(",", ""))
    rewrite(stem, commented, numbers[:asked])
    graph, _, remarks = zqcnn_reader.read(stem)
    assert list(graph.outputs) == ["cls"] and not remarks
    found = numpy_net.run(graph, data)["cls"]
    assert np.array_equal(found, numpy_net.run(whole, data)["cls"])

    # A number less or more than either: refused.
    for count in (asked - 1, asked + 1, len(numbers) - 1):
        rewrite(stem, commented, numbers[:count])
        with pytest.raises(Problem, match=f"holds {count:,} numbers, and .* asks for {asked:,}"):
            zqcnn_reader.read(stem)
    rewrite(stem, numbers=np.append(numbers, 0))
    with pytest.raises(Problem, match=f"holds {len(numbers) + 1:,} numbers"):
        zqcnn_reader.read(stem)


def test_too_few_numbers_are_located(tiny):
    numbers = numbers_of(tiny)
    rewrite(tiny, numbers=numbers[:130])
    with pytest.raises(
        Problem,
        match=f"holds 130 numbers, and net.v1.zqparams asks for "
        f"{TINY_NUMBERS}, of which d1_weight .*line 9.* damaged",
    ):
        zqcnn_reader.read(tiny)
    with open(f"{tiny}.nchwbin", "ab") as file:
        file.write(b"\0\0")
    with pytest.raises(Problem, match="holds 130 numbers and 2 bytes"):
        zqcnn_reader.read(tiny)
    numbers[130] = np.nan
    rewrite(tiny, numbers=numbers)
    with pytest.raises(Problem, match="line 9: the numbers of d1_weight are none"):
        zqcnn_reader.read(tiny)


INPUT = "Input name=data C=3 H=8 W=8"
CONV = "Convolution name=c bottom=data top=c num_output=8 kernel_size=3"
DENSE = "InnerProduct name=d bottom=data top=d num_output=4"


@pytest.mark.parametrize(
    "lines, number, says",
    [
        ([], 0, "has no layer"),
        ([INPUT], 0, "has no layer"),
        ([CONV], 1, "must be an Input"),
        ([INPUT, INPUT], 2, "must be an Input"),
        (["Input name=data C=1 H=8 W=8", CONV], 1, "3 channels"),
        (["Input name=data H=8 W=8"], 1, "c= is missing"),
        (["Input C=3"], 1, "name= is missing"),
        ([INPUT, "Convolutoin name=c bottom=data top=c"], 2, "type Convolutoin can't be read"),
        ([INPUT, "ReLU6 name=c bottom=data top=c"], 2, "type ReLU6 can't be read"),
        ([INPUT, CONV, CONV], 3, "second layer called c"),
        ([INPUT, CONV.replace("name=c", "name=data")], 2, "second layer called data"),
        ([INPUT, CONV, CONV.replace("name=c", "name=e")], 3, "makes c, which a line before"),
        ([INPUT, CONV.replace("=data", "=pool")], 2, "reads pool, which no line before"),
        ([INPUT, CONV.replace("bottom=data", "")], 2, "0 bottoms"),
        ([INPUT, CONV + " bottom=data"], 2, "2 bottoms"),
        ([INPUT, CONV.replace("top=c", "")], 2, "top= is missing"),
        ([INPUT, CONV.replace("top=c", "top")], 2, "top= is missing"),
        ([INPUT, CONV + " name=e"], 2, "says name twice"),
        ([INPUT, CONV.replace("kernel_size=3", "")], 2, "kernel_h= is missing"),
        (
            [INPUT, CONV.replace("kernel_size=3", "kernel_H=3 kernel_W=2")],
            2,
            "kernel is not the same",
        ),
        ([INPUT, CONV.replace("kernel_size=3", "kernel_H=3")], 2, "kernel_w= is missing"),
        ([INPUT, CONV + " stride_H=2"], 2, "stride is not the same"),
        ([INPUT, CONV + " pad_H_top=1 pad_W=1"], 2, "pad is not the same"),
        ([INPUT, CONV + " dilate_W=2"], 2, "dilate is not the same"),
        ([INPUT, CONV + " stride=0"], 2, "stride=0 must be a whole number from 1"),
        ([INPUT, CONV + " pad=-1"], 2, "pad=-1 must be"),
        ([INPUT, CONV + " pad=1000000"], 2, "pad=1000000 must be"),
        ([INPUT, CONV + " pad=²"], 2, "byte 194"),
        ([INPUT, CONV + " bias=yes"], 2, "bias=yes must be 0 or 1"),
        ([INPUT, CONV + " pad_type=SAME"], 2, "pad_type can't be read"),
        ([INPUT, CONV.replace("kernel_size=3", "kernel_size=9")], 2, "kernel larger than its 8"),
        (
            [INPUT, CONV.replace("Conv", "DepthwiseConv")],
            2,
            "depthwise with 8 outputs and 3 inputs",
        ),
        ([INPUT, CONV.replace("=8", "=0")], 2, "num_output=0"),
        ([INPUT, CONV.replace("=8", "=999999999")], 2, "num_output=999999999 must be"),
        ([INPUT, CONV.replace("=8", "=8000000")], 2, "shape .8000000, 6, 6. has more than"),
        ([INPUT, CONV.replace("=8", "=200000")], 0, "holds 0 numbers, .* asks for 5,400,000"),
        ([INPUT, DENSE, CONV.replace("=data", "=d")], 3, "c needs a map"),
        (["Input name=data C=3", DENSE], 2, "needs an Input with H and W"),
        (["Input name=data C=3 H=8 W=9", DENSE], 2, "needs an Input with H and W"),
        (
            ["Input name=data C=3 H=8000 W=8000", DENSE],
            2,
            "needs an Input with H and W, .*up to 256",
        ),
        ([INPUT, "Pooling name=p bottom=data top=p kernel_size=2"], 2, "stride_h= is missing"),
        (
            [INPUT, "Pooling name=p bottom=data top=p kernel_size=2 stride=2 pool=AVG"],
            2,
            "pool=AVG can't be read|pool=avg can't be read",
        ),
        ([INPUT, "Pooling name=p bottom=data top=p kernel_size=2 stride=2 pad=1"], 2, "with pad"),
        ([INPUT, "Eltwise name=e bottom=data bottom=data top=e operation=MAX"], 2, "operation=max"),
        (
            [INPUT, "Eltwise name=e bottom=data bottom=data bottom=data top=e operation=SUM"],
            2,
            "3 bottoms",
        ),
        ([INPUT, "Eltwise name=e bottom=data top=e operation=SUM weight=1"], 2, "weight can't"),
        (
            [INPUT, CONV, "Eltwise name=e bottom=data bottom=c top=e operation=SUM"],
            3,
            "e adds blobs of different shapes",
        ),
        ([INPUT, "ReLU name=r bottom=data top=r slope=0.1"], 2, "slope=0.1 can't be read"),
        ([INPUT, "Softmax name=s bottom=data top=s axis=2"], 2, "axis=2 can't be read"),
        ([INPUT, "BatchNormScale name=b bottom=data top=b eps=1e999"], 2, "eps=1e999 must be"),
        ([INPUT, "BatchNormScale name=b bottom=data top=b eps=nan"], 2, "eps=nan is no number"),
        ([INPUT, "BatchNormScale name=b bottom=data top=b eps=1.2.3"], 2, "eps=1.2.3 must be"),
        (
            [INPUT, "Softmax name=s bottom=data top=s", "Softmax name=t bottom=data top=t"],
            0,
            "s and t are both outputs that look like cls",
        ),
        ([INPUT, "ReLU name=r\0 bottom=data top=r"], 2, "byte 0 has no place"),
        (["\u00e9" + INPUT], 1, "byte 195 has no place"),
    ],
)
def test_texts_that_can_not_be_read(lines, number, says, stem):
    """One line that names the file and the line, without memory of the size that they ask for."""
    Path(f"{stem}.zqparams").write_bytes("\n".join(lines).encode())
    Path(f"{stem}.nchwbin").write_bytes(b"")
    tracemalloc.start()
    with pytest.raises(Problem, match=says) as caught:
        zqcnn_reader.read(stem)
    assert tracemalloc.get_traced_memory()[1] < 3e6
    tracemalloc.stop()
    text = str(caught.value)
    assert "\n" not in text and "net.v1.zqparams" in text
    assert f", line {number}: " in text if number else ", line " not in text or "of which" in text


def test_words_that_the_engine_ignores(stem):
    rewrite(stem, [INPUT, CONV + " strid=2 fast"], np.zeros(8 * 27))
    _, _, remarks = zqcnn_reader.read(stem)
    assert len(remarks) == 1 and "line 2" in remarks[0] and "strid, fast" in remarks[0]


def test_texts_that_are_too_long_or_none(stem):
    with pytest.raises(Problem, match="net.v1.zqparams is not there"):
        zqcnn_reader.read(stem)
    Path(f"{stem}.zqparams").write_bytes(b"#" * (1 << 21))
    with pytest.raises(Problem, match="no text of ZQCNN's"):
        zqcnn_reader.read(stem)
    os.mkdir(f"{stem}.nchwbin")
    rewrite(stem, [INPUT, CONV])
    with pytest.raises(Problem, match="net.v1.nchwbin.* is not there"):
        zqcnn_reader.read(stem)


def test_a_variance_of_zero_is_a_small_one(stem):
    """As in the engine, which divides by the root of at least 1e-32."""
    rewrite(
        stem,
        [
            INPUT,
            "Convolution name=c bottom=data top=c num_output=1 kernel_size=8",
            "BatchNormScale name=b bottom=c top=c",
        ],
        [*np.zeros(192), 0, 0, 3],
    )
    graph, _, _ = zqcnn_reader.read(stem)
    assert numpy_net.run(graph, numpy_net.seeded_input(8))["landmark"].shape == (2, 1, 1, 1)


# ---- damage at random ----------------------------------------------------------------------


@lru_cache
def sound(folder):
    """Text and numbers of sound pairs, one with and one without fully connected layers."""
    pairs = []
    for net in ("Pnet16_v0", "Rnet_p0"):
        checkpoint = trained(net)
        stem = Path(folder) / net
        zqcnn_writer.write(fuse.rescale(checkpoint.graph()), checkpoint.spec.size, stem)
        pairs.append((lines_of(stem), numbers_of(stem).tobytes()))
    return pairs


WORDS = st.one_of(
    st.sampled_from(
        [
            "bias",
            "bias=0",
            "stride=2",
            "stride_H=3",
            "kernel_size=2",
            "pad=1",
            "pad=99",
            "dilate=2",
            "num_output=4",
            "num_output=100000",
            "eps=0.5",
            "#",
            "//",
            "bottom=data",
            "bottom=conv1",
            "top=conv1",
            "top=prob1",
            "name=data",
            "Convolution",
            "InnerProduct",
            "Softmax",
            "Pooling",
            "Eltwise",
            "Concat",
            "Flatten",
            "Dropout",
            "PReLU",
            "operation=SUM",
            "axis=1",
        ]
    ),
    st.text(st.characters(max_codepoint=300), max_size=8),
    st.builds(
        "{}={}".format,
        st.sampled_from(["num_output", "kernel_H", "C", "H", "pad"]),
        st.integers(-1, 10**30),
    ),
)
CHANGES = st.lists(
    st.tuples(
        st.sampled_from(["drop", "double", "swap", "drop line", "double line", "swap lines"]),
        st.integers(0, 10**6),
        st.integers(0, 10**6),
        WORDS,
    ),
    min_size=1,
    max_size=4,
)
FUZZ = settings(
    max_examples=150,
    deadline=2000,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)


def changed(lines, changes):
    lines = [line.split() for line in lines]
    for how, first, second, word in changes:
        line = lines[first % len(lines)] or [""]
        at = second % len(line)
        if how == "drop":
            del line[at]
        elif how == "double":
            line.insert(at, word)
        elif how == "swap":
            line[at] = word
        elif how == "drop line" and len(lines) > 1:
            del lines[first % len(lines)]
        elif how == "double line":
            lines.insert(second % len(lines), list(line))
        else:
            other = second % len(lines)
            lines[first % len(lines)], lines[other] = lines[other], line
    return "\n".join(" ".join(line) for line in lines)


def read_or_problem(stem, text, numbers):
    """Read and, where that goes well, convert: anything but a Problem is an error."""
    Path(f"{stem}.zqparams").write_bytes(text)
    Path(f"{stem}.nchwbin").write_bytes(numbers)
    try:
        graph, side, _ = zqcnn_reader.read(stem)
    except Problem as problem:
        assert "\n" not in str(problem)
        return False
    assert sum(value.size for value in graph.params.values()) < 2 * len(numbers) / 4 + 1
    try:
        convert.convert(stem)
    except Problem as problem:
        assert "\n" not in str(problem)
    return True


@FUZZ
@given(which=st.integers(0, 1), changes=CHANGES, cut=st.sampled_from([0, 0, 0, 1, 4, 400, -4]))
def test_damaged_texts(tmp_path_factory, which, changes, cut):
    folder = tmp_path_factory.getbasetemp() / "fuzz"
    folder.mkdir(exist_ok=True)
    lines, numbers = sound(folder)[which]
    numbers = numbers[cut:] if cut >= 0 else numbers + b"\0" * -cut
    read_or_problem(folder / "damaged", changed(lines, changes).encode(), numbers)


@FUZZ
@given(text=st.binary(max_size=300), numbers=st.binary(max_size=40), layers=st.booleans())
def test_random_bytes(tmp_path_factory, text, numbers, layers):
    folder = tmp_path_factory.getbasetemp() / "fuzz"
    folder.mkdir(exist_ok=True)
    text = (INPUT + "\n" + CONV + "\n").encode() + text if layers else text
    read_or_problem(folder / "random", text, numbers)


def test_damaged_numbers(tmp_path):
    """Any bytes are numbers, so long as there are enough: what they give is found out by running
    the net."""
    lines, numbers = sound(tmp_path)[0]
    rng = np.random.default_rng(0)
    text = "\n".join(lines).encode()
    assert read_or_problem(tmp_path / "sound", text, numbers)
    for _ in range(10):
        assert not read_or_problem(tmp_path / "cut", text, numbers[: rng.integers(len(numbers))])
        read_or_problem(tmp_path / "noise", text, rng.bytes(len(numbers)))
        loud = np.frombuffer(numbers, "<f4") * 10.0 ** rng.uniform(-30, 30, len(numbers) // 4)
        read_or_problem(tmp_path / "loud", text, loud.astype("<f4").tobytes())

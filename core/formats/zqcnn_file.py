"""Nets as ZQCNN's files, written and read.

NAME.zqparams is a text with a layer a line; NAME.nchwbin holds the numbers of all layers in the
order of the lines, little-endian float32, with nothing between them and nothing to say whose they
are: a word wrong in the text, and every later layer has another's numbers. A batch norm's eps is
in its variance.

    Input name=data C=3 H=24 W=24
    Convolution name=conv1 bottom=data top=conv1 num_output=32 kernel_H=2 kernel_W=2 ... bias
    PReLU name=prelu1 bottom=conv1 top=conv1

Layers run in the order of the lines; a `top` that is also the layer's `bottom` takes its place.
"""

import re
from dataclasses import replace
from math import prod
from pathlib import Path

import numpy as np

from core.formats import fuse
from facelet.console import Problem
from facelet.files import whole_file
from symbols.graph import DATA, Graph, Node, out_shape, parameter_shape, shapes

TEXT, NUMBERS = ".zqparams", ".nchwbin"
FLOAT = np.dtype("<f4")

# What the numbers of a layer are, in their order. The last is there only where the line says
# `bias`, save that of PReLU.
TENSORS = {
    "Convolution": ("weight", "bias"),
    "DepthwiseConvolution": ("weight", "bias"),
    "InnerProduct": ("weight", "bias"),
    "PReLU": ("gamma",),
    "BatchNormScale": ("moving_mean", "moving_var", "gamma", "beta"),
}
OPTIONAL = ("bias", "beta")

# What ZQCNN's own MTCNN classes do as they load a net: values below this become 0, before and
# after merging; variances are at least that.
ZEROED, LEAST_VARIANCE = 1e-9, 1e-32


def files(path, numbers=None):
    """Paths of the text and the numbers of a pair, for either of them or their stem; `numbers` are
    those, where their stem is another."""
    stem = str(path)
    for suffix in (TEXT, NUMBERS):
        stem = stem[: -len(suffix)] if stem.endswith(suffix) else stem
    return Path(stem + TEXT), Path(numbers or stem + NUMBERS)


def pair(path):
    """As files(). Of the author's classic nets NAME.zqparams goes with NAME_bgr.nchwbin: where a
    file has no partner of its own stem, one like that will do."""
    text, numbers = files(path)
    texts, others = (sorted(path.parent.glob(f"*{path.suffix}")) for path in (text, numbers))
    if not numbers.exists():
        numbers = next(
            (other for other in others if other.stem.startswith(f"{text.stem}_")), numbers
        )
    if not text.exists():
        text = next((other for other in texts if numbers.stem.startswith(f"{other.stem}_")), text)
    return text, numbers


def is_pair(path):
    """Whether a path is a file of ZQCNN's or the stem of a pair."""
    return Path(path).suffix in (TEXT, NUMBERS) or files(path)[0].is_file()


def _any_picture(graph):
    """Whether it is fully convolutional, as Pnets are."""
    return all(node.op not in ("dense", "flatten") for node in graph.nodes)


def same(graph, original, size, what):
    """Raise Problem unless `graph` gives what `original` gives, as core.formats.fuse.check; nets that take
    any picture are tried on a larger one too, where every stride shows. Returns the difference as
    a part of the largest output."""
    worst = 0.0
    for side in (size, 2 * size + 3) if _any_picture(original) else (size,):
        found, wanted = (
            {task: shapes(net, side, side)[blob] for task, blob in net.outputs.items()}
            for net in (graph, original)
        )
        if found != wanted:
            raise Problem(f"{what} gives outputs {found} for {side} pixels, not {wanted}")
        worst = max(worst, fuse.check(graph, original, side, what))
    return worst


# ---- writing -------------------------------------------------------------------------------


def output_names(graph, size):
    """Names of the output blobs by task, as ZQCNN's classes look them up: of Pnets conv4-2, Rnets
    conv5-2, Onets and Lnets conv6-2 and conv6-3. Stages are told apart by their input."""
    stage = 4 if _any_picture(graph) else 5 if size <= 24 else 6
    known = {"cls": "prob1", "bbox": f"conv{stage}-2", "landmark": f"conv{stage}-3"}
    return {task: known.get(task, blob) for task, blob in graph.outputs.items()}


def _box_branch_last(graph):
    """The nodes with those that only the boxes need last: in a Pnet's text they can be commented
    out, as ZQCNN does without."""
    needed = {blob for task, blob in graph.outputs.items() if task != "bbox"}
    for node in reversed(graph.nodes):
        if node.top in needed:
            needed.update(node.inputs)
    return sorted(graph.nodes, key=lambda node: node.top not in needed)  # stable


def _window(node):
    return "".join(
        f" {key}_H={value} {key}_W={value}"
        for key, value in (
            ("kernel", node.kernel),
            ("stride", node.stride),
            ("pad", node.pad),
            ("dilate", node.dilate),
        )
        if (key, value) not in (("pad", 0), ("dilate", 1))
    )


WRITTEN = {  # op -> type and what its line says beside names, from a node
    "conv": lambda node: (
        "DepthwiseConvolution" if node.depthwise else "Convolution",
        f" num_output={node.channels}{_window(node)}",
    ),
    "dense": lambda node: ("InnerProduct", f" num_output={node.channels}"),
    "bn": lambda node: ("BatchNormScale", ""),
    "prelu": lambda node: ("PReLU", ""),
    "relu": lambda node: ("ReLU", ""),
    "pool": lambda node: ("Pooling", f" pool=MAX{_window(node)}"),
    "add": lambda node: ("Eltwise", " operation=SUM"),
    "concat": lambda node: ("Concat", " axis=1"),
    "flatten": lambda node: ("Flatten", ""),
    "softmax": lambda node: ("Softmax", ""),
}


def _expressible(node, source):
    """Raise Problem for a layer that the engine computes wrongly or lacks; `source` is the shape
    that it reads."""
    if node.op not in WRITTEN:
        raise Problem(f"{node.name}: ZQCNN's files have no layer for {node.op}")
    if node.op == "dense" and source[0] != 1 and source[0] % 8:
        raise Problem(
            f"{node.name} is fully connected to {source[0]} channels: ZQCNN computes "
            "such a layer rightly for multiples of 8, or 1, only"
        )
    if node.op in ("bn", "prelu", "relu") and DATA in node.inputs:
        raise Problem(
            f"{node.name} reads the picture itself: in ZQCNN a convolution must come first"
        )


def _tensors(graph, node, kind):
    """The numbers of a node of a type, float32 arrays in the file's order."""
    for part in TENSORS.get(kind, ()):
        if part == "bias" and not node.bias:
            continue
        values = graph.params[f"{node.name}_{part}"]
        if part == "moving_var":
            values = values.astype(np.float64) + node.eps
        elif part == "gamma" and node.fix_gamma:
            values = np.ones_like(values)
        yield values.astype(FLOAT)


def _lines_and_numbers(graph, size):
    lines, numbers = [f"Input name={DATA} C=3 H={size} W={size}"], []
    tops, known = output_names(graph, size), shapes(graph, size, size)
    named = {blob: tops[task] for task, blob in graph.outputs.items()}
    for node in _box_branch_last(graph):
        _expressible(node, known[node.inputs[0]])
        kind, about = WRITTEN[node.op](node)
        bottoms = "".join(f" bottom={named.get(blob, blob)}" for blob in node.inputs)
        has_bias = node.op == "bn" or node.op in ("conv", "dense") and node.bias
        lines.append(
            f"{kind} name={node.name}{bottoms} top={named.get(node.top, node.top)}{about}"
            + (" bias" if has_bias else "")
        )
        numbers += _tensors(graph, node, kind)
    return lines, numbers


def _as_loaded(graph):
    """The graph as ZQCNN's MTCNN classes have it in memory, but for merging."""
    params = {
        name: np.where(np.abs(values) < ZEROED, np.float32(0), values)
        for name, values in graph.params.items()
    }
    for node in graph.nodes:
        if node.op == "bn":
            variance = f"{node.name}_moving_var"
            params[variance] = np.maximum(params[variance], LEAST_VARIANCE)
    return graph.with_params(params)


def write(graph, size, stem):
    """Write stem.zqparams and stem.nchwbin: both whole or neither, the numbers before the text.

    graph -- symbols.graph.Graph with its parameters, its batch norms in place (not merged), its
        activations of an ordinary size (core.formats.fuse.rescale), as ZQCNN drops small numbers
    size -- side of its input in pixels; of any input that it can take, for a Pnet

    Both files are read back and compared with the graph, as they are and as ZQCNN's own MTCNN
    classes would have them. Raises Problem where that differs, or a layer can't be expressed.
    """
    lines, numbers = _lines_and_numbers(graph, size)
    text_path, numbers_path = files(stem)
    with whole_file(text_path) as text, whole_file(numbers_path) as values:
        text.write_bytes("".join(f"{line}\n" for line in lines).encode("ascii"))
        with open(values, "wb") as file:
            for part in numbers:
                file.write(part.tobytes())
        back, _, _ = read(text, values)
        same(back, graph, size, str(text_path))
        same(
            _as_loaded(fuse.merge(_as_loaded(back))),
            graph,
            size,
            f"{text_path} as ZQCNN loads it, values below {ZEROED:.0e} taken for 0,",
        )
        text_path.unlink(missing_ok=True)  # a former text must not stand beside these numbers


# ---- reading -------------------------------------------------------------------------------

MOST_TEXT = 1 << 20  # bytes
MOST_VALUES = 1 << 23  # in a blob, for one picture
WIDEST = 100  # kernels, strides, pads, dilations
LARGEST = 256  # side of a picture that a net with fully connected layers takes


class _Line:
    """A layer's line taken apart. What is asked for is taken away, so that words which no layer of
    its type knows are left in `settings`.

    where -- file and line, for errors; words -- of the line
    """

    def __init__(self, where, words):
        self.where, self.kind, self.bottoms, self.settings = where, words[0].lower(), [], {}
        for word in words[1:]:
            key, sign, value = re.fullmatch(r"([^=:]*)([=:]?)(.*)", word).groups()
            key = key.lower()
            if key == "bottom":
                self.bottoms.append(value)
            elif key in self.settings:
                raise self.problem(f"it says {key} twice")
            else:
                self.settings[key] = value if sign else None

    def problem(self, text):
        return Problem(f"{self.where}: {text}")

    def word(self, key, default=None):
        value = self.settings.pop(key, default)
        if not value:
            raise self.problem(f"{key}= is missing")
        return value

    def whole(self, key, default=None, least=1, most=WIDEST):
        """A whole number; where it isn't said, the default unless that is None."""
        if key not in self.settings and default is not None:
            return default
        value = self.word(key)
        if not re.fullmatch(r"[0-9]{1,9}", value) or not least <= int(value) <= most:
            raise self.problem(f"{key}={value} must be a whole number from {least} to {most:,}")
        return int(value)

    def flag(self, key):
        value = self.settings.pop(key, "0")
        if value not in (None, "0", "1"):
            raise self.problem(f"{key}={value} must be 0 or 1")
        return value != "0"

    def number(self, key, default):
        """A number from 0 to 1."""
        value = self.word(key, default)
        if not re.fullmatch(r"[0-9.]+(e[-+]?[0-9]{1,3})?", value.lower()):
            raise self.problem(f"{key}={value} is no number")
        try:
            number = float(value)
        except ValueError:
            number = -1
        if not 0 <= number <= 1:
            raise self.problem(f"{key}={value} must be a number from 0 to 1")
        return number

    def only(self, key, default, *values):
        """Raise Problem unless a setting has one of the values that a Graph can hold."""
        value = self.word(key, default).lower()
        if value not in values:
            raise self.problem(f"{key}={value} can't be read: only {', '.join(values)}")

    def square(self, key, whole_key, default=None, least=1):
        """A setting that may be said once, for height and width, or for both ends of each."""
        both = default
        if whole_key in self.settings:
            both = self.whole(whole_key, least=least)
        sides = set()
        for axis, ends in (("h", ("top", "bottom")), ("w", ("left", "right"))):
            side = self.whole(f"{key}_{axis}", both, least)
            sides |= {self.whole(f"{key}_{axis}_{end}", side, least) for end in ends}
        if len(sides) > 1:
            raise self.problem(f"its {key} is not the same on all sides, which can't be read")
        return sides.pop()


def _conv(line):
    return dict(
        op="conv",
        channels=line.whole("num_output", most=MOST_VALUES),
        kernel=line.square("kernel", "kernel_size"),
        stride=line.square("stride", "stride", 1),
        pad=line.square("pad", "pad", 0, least=0),
        dilate=line.square("dilate", "dilate", 1),
        depthwise=line.kind == "depthwiseconvolution",
        bias=line.flag("bias"),
    )


def _pool(line):
    line.only("pool", "max", "max")
    line.only("global_pool", "0", "0")
    if line.square("pad", "pad", 0, least=0):
        raise line.problem("a pooling with pad can't be read")
    return dict(
        op="pool",
        kernel=line.square("kernel", "kernel_size"),
        stride=line.square("stride", "stride"),
    )


def _add(line):
    line.only("operation", None, "sum", "add", "plus")
    return dict(op="add")


def _relu(line):
    line.only("slope", "0", "0", "0.0")
    return dict(op="relu")


def _over_channels(op):
    def fields(line):
        line.only("axis", "1", "1")
        return dict(op=op)

    return fields


READ = {  # type, in small letters -> fields of a Node, from a line
    "convolution": _conv,
    "depthwiseconvolution": _conv,
    "innerproduct": lambda line: dict(
        op="dense", bias=line.flag("bias"), channels=line.whole("num_output", most=MOST_VALUES)
    ),
    "batchnormscale": lambda line: dict(
        op="bn", eps=line.number("eps", "0"), bias=line.flag("bias")
    ),
    "prelu": lambda line: dict(op="prelu"),
    "relu": _relu,
    "pooling": _pool,
    "eltwise": _add,
    "concat": _over_channels("concat"),
    "flatten": _over_channels("flatten"),
    "softmax": _over_channels("softmax"),
}
COPIES = ("dropout", "copy")
CHANGING = ("weight", "pad_type", "end_axis")  # settings that would change what a layer computes
BOTTOMS = {"add": (2, 2), "concat": (1, 100)}  # how many a layer reads, least and most; else 1
TENSORS_OF = {kind.lower(): parts for kind, parts in TENSORS.items()}


class _Net:
    """A net in the making: what its layers are, and where their numbers are to be found. Nothing of
    the numbers' size is made."""

    def __init__(self):
        self.nodes, self.tensors, self.remarks = [], [], []  # tensors: (name, shape, line)
        self.side = None
        self.names, self.blobs = set(), {}  # blobs: name in the graph by name in the text
        self.called, self.shapes = {}, {}  # by name in the graph: name in the text; shape

    def add(self, line):
        name = line.word("name")
        if (line.kind == "input") != (not self.names):
            raise line.problem("the first layer, and no other, must be an Input")
        if name in self.names:
            raise line.problem(f"a second layer called {name}")
        self.names |= {name, DATA}
        if line.kind == "input":
            self._input(line, name)
        else:
            self._layer(line, name)
        if line.settings:
            self.remarks.append(
                f"{line.where}: ignored, as ZQCNN does not know it: " + ", ".join(line.settings)
            )

    def _input(self, line, name):
        if line.whole("c", most=MOST_VALUES) != 3:
            raise line.problem("only pictures of 3 channels can be read (C=3)")
        height, width = (line.whole(key, 0, most=MOST_VALUES) for key in "hw")
        self.side = height if height == width and 0 < height <= LARGEST else None
        self.blobs[name], side = DATA, self.side or LARGEST
        self.shapes[DATA] = (3, side, side)

    def _layer(self, line, name):
        top, sources = line.word("top"), []
        for bottom in line.bottoms:
            if bottom not in self.blobs:
                raise line.problem(f"it reads {bottom}, which no line before it makes")
            sources.append(self.blobs[bottom])
        if top in self.blobs and top not in line.bottoms:
            raise line.problem(f"it makes {top}, which a line before it makes already")
        changing = [key for key in CHANGING if key in line.settings]
        if changing:
            raise line.problem(f"{changing[0]} can't be read")
        fields = {} if line.kind in COPIES else READ[line.kind](line)
        least, most = BOTTOMS.get(fields.get("op"), (1, 1))
        if not least <= len(sources) <= most:
            raise line.problem(f"{len(sources)} bottoms, which can't be read")
        if not fields:
            line.settings.pop("dropout_ratio", None)
            self.blobs[top] = sources[0]
            return
        node = Node(name=name, inputs=tuple(sources), **fields)
        if node.op == "dense" and self.side is None:
            raise line.problem(
                f"a fully connected layer needs an Input with H and W, alike and up to {LARGEST}"
            )
        try:
            shape = out_shape(node, [self.shapes[blob] for blob in sources])
        except Problem as problem:
            raise line.problem(problem) from None
        if prod(shape) > MOST_VALUES:
            raise line.problem(f"its blob of shape {shape} has more than {MOST_VALUES:,} values")
        self.shapes[name] = shape
        for kind in TENSORS_OF.get(line.kind, ()):
            if kind not in OPTIONAL or node.bias:
                self.tensors.append(
                    (f"{name}_{kind}", parameter_shape(node, kind, self.shapes[sources[0]]), line)
                )
        self.nodes.append(node)
        self.blobs[top], self.called[name] = name, top

    def wanted(self):
        """How many numbers the layers have."""
        return sum(prod(shape) for _, shape, _ in self.tensors)

    def outputs(self, path):
        """Blobs that nobody reads, by task."""
        read, found = {blob for node in self.nodes for blob in node.inputs}, {}
        for node in self.nodes:
            if node.top in read:
                continue
            task = _task(node, self.called[node.top], self.shapes[node.top][0])
            if task in found:
                raise Problem(
                    f"{path}: {found[task]} and {node.name} are both outputs that look "
                    f"like {task}, of which a net has one"
                )
            found[task] = node.top
        if not found:
            raise Problem(f"{path} has no layer")
        return {task: found[task] for task in TASKS if task in found}

    def graph(self, values, path):
        """The Graph, its parameters taken from all the numbers of a file."""
        params, at = {}, 0
        for name, shape, line in self.tensors:
            params[name] = values[at : at + prod(shape)].reshape(shape).astype(np.float32)
            at += prod(shape)
            if not np.isfinite(params[name]).all():
                raise line.problem(f"the numbers of {name} are none: the file is damaged")
        nodes = []
        for node in self.nodes:
            if node.op == "bn":
                shift, variance = f"{node.name}_beta", f"{node.name}_moving_var"
                params.setdefault(shift, np.zeros_like(params[variance]))
                params[variance] = np.maximum(
                    params[variance].astype(np.float64) + node.eps, LEAST_VARIANCE
                ).astype(np.float32)
                node = replace(node, eps=0.0, bias=True)
            nodes.append(node)
        return Graph(tuple(nodes), self.outputs(path), params)


TASKS = ("cls", "bbox", "landmark", "heatmap")


def _task(node, blob, channels):
    if node.op == "softmax":
        return "cls"
    if node.op == "flatten":
        return "heatmap"
    return "landmark" if channels != 4 or blob.endswith(("-3", "_3")) else "bbox"


def _lines(path):
    """The lines of a text: (number, whether it is commented out, words), those that have words and
    are no mere comment."""
    if not path.is_file():
        raise Problem(f"{path} is not there")
    if path.stat().st_size > MOST_TEXT:
        raise Problem(f"{path} has more than {MOST_TEXT:,} bytes: that is no text of ZQCNN's")
    found = []
    for number, line in enumerate(path.read_bytes().split(b"\n"), 1):
        odd = re.search(rb"[^\t\r -~]", line)
        if odd:
            raise Problem(
                f"{path}, line {number}: byte {odd.group()[0]} has no place in a text of ZQCNN's"
            )
        line = line.decode("ascii").strip()
        words, commented = line.lstrip("#").split(), line.startswith(("#", "//"))
        known = words and words[0].lower() in ("input", *READ, *COPIES)
        if words and not commented and not known:
            raise Problem(
                f"{path}, line {number}: layers of type {words[0][:40]} can't be read; a "
                "comment begins with #"
            )
        if known:
            found.append((number, commented, words))
    return found


def _net(path, lines):
    net = _Net()
    for number, _, words in lines:
        net.add(_Line(f"{path}, line {number}", words))
    return net


def _with_comments(path, lines, count):
    """The net with the lines commented out, if that has `count` numbers; else None."""
    try:
        net = _net(path, lines)
    except Problem:
        return None
    if net.wanted() != count:
        return None
    numbers = [str(number) for number, commented, _ in lines if commented]
    net.remarks.append(
        f"lines {', '.join(numbers)} are commented out in {path.name}, and used all "
        "the same: with them the numbers come out"
    )
    return net


def read(path, numbers=None):
    """The net in a pair of files.

    path -- of either file, or their stem; numbers -- of the numbers, where its stem is another

    Lines commented out with # are taken for layers if the numbers come out only with them: some
    Pnets are published so, as ZQCNN does without their box branch.

    Returns (Graph with its parameters, side of its input or None where the text doesn't say or any
    picture will do, remarks: list of str). Batch norms have eps 0. Outputs, by task, are the blobs
    that no layer reads: "cls" of a Softmax, "bbox" with 4 channels, "heatmap" of a Flatten,
    "landmark". Raises Problem, with the line where there is one, for all that can't be read.
    """
    text_path, numbers_path = files(path, numbers)
    lines = _lines(text_path)
    if not numbers_path.is_file():
        raise Problem(
            f"{numbers_path}, the numbers of {text_path.name}, is not there: give "
            "it, if its stem is another"
        )
    count, rest = divmod(numbers_path.stat().st_size, FLOAT.itemsize)
    net = _net(text_path, [line for line in lines if not line[1]])
    if net.wanted() < count:
        net = _with_comments(text_path, lines, count) or net
    if rest or net.wanted() != count:
        where, total = "", 0
        for name, shape, line in net.tensors:
            total += prod(shape)
            if total > count:
                where = f", of which {name} ({line.where}) would be the first to miss some"
                break
        raise Problem(
            f"{numbers_path} holds {count:,} numbers"
            + (f" and {rest} bytes" if rest else "")
            + f", and {text_path.name} asks for {net.wanted():,}{where}: one of the two "
            "is damaged, or they belong to different nets"
        )
    return net.graph(np.fromfile(numbers_path, FLOAT), text_path), net.side, net.remarks

"""ZQCNN's files as graphs (core.formats.zqcnn_file has their layout)."""

import codecs
import re
from dataclasses import replace
from math import prod

import numpy as np

from core.formats.zqcnn_file import FLOAT, LEAST_VARIANCE, OPTIONAL, TENSORS, files
from facelet.console import Problem
from symbols.graph import DATA, Graph, Node, out_shape, parameter_shape

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
        """A whole number; where it isn't given, the default unless that is None."""
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
        """A setting that may be given once, for height and width, or for both ends of each."""
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
    for number, line in enumerate(path.read_bytes().removeprefix(codecs.BOM_UTF8).split(b"\n"), 1):
        foreign = re.search(rb"[^\t\r -~]", line)
        if foreign:
            raise Problem(
                f"{path}, line {number}: byte {foreign.group()[0]} has no place in a text of "
                "ZQCNN's"
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
    Pnets released with ZQCNN are so, as it does without their box branch.

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

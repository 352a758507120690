"""A net as plain data, without MXNet: what is merged, exported, converted and run elsewhere.

A `Graph` is a list of `Node`s in the order they run. A node reads blobs and makes one, its `top`;
the picture is the blob "data", (N, 3, H, W). Parameters are float32 arrays under MXNet's names:

    conv     name_weight (out, in, k, k), depthwise (channels, 1, k, k); name_bias if `bias`
    dense    name_weight (out, in), over its input flattened in C, H, W order; name_bias
    bn       name_gamma, name_beta, name_moving_mean, name_moving_var (channels)
    prelu    name_gamma (channels)

relu, pool (max, MXNet's "full" convention: windows may hang over the far edge), add, concat (over
channels), flatten, softmax (over channels) and sigmoid have none.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from math import ceil, prod

import numpy as np

from facelet.console import Problem
from symbols import checks, zoo
from symbols.architectures import ARCHITECTURES, resolve

BN_EPS = 1e-3  # MXNet's default, which all these nets keep
DATA = "data"
PARAMETERS = {
    "conv": ("weight", "bias"),
    "dense": ("weight", "bias"),
    "prelu": ("gamma",),
    "bn": ("gamma", "beta", "moving_mean", "moving_var"),
}


@dataclass(frozen=True)
class Node:
    op: str
    name: str
    inputs: tuple[str, ...]  # blobs
    top: str = None  # blob it makes; the name unless said otherwise
    channels: int = 0  # conv, dense: outputs
    kernel: int = 1  # conv, pool: side of the square kernel
    stride: int = 1
    pad: int = 0  # conv: on all four sides
    dilate: int = 1
    depthwise: bool = False
    bias: bool = True  # conv, dense
    eps: float = BN_EPS  # bn
    fix_gamma: bool = False  # bn: gamma is taken for 1, whatever its array holds

    def __post_init__(self):
        if self.top is None:
            object.__setattr__(self, "top", self.name)

    def parameters(self):
        """Names of its parameters."""
        kinds = PARAMETERS.get(self.op, ())
        return [f"{self.name}_{kind}" for kind in kinds if kind != "bias" or self.bias]


@dataclass(frozen=True)
class Graph:
    nodes: tuple[Node, ...]
    outputs: Mapping  # blob by task: "cls", "bbox", "landmark", "heatmap"
    params: Mapping = field(default_factory=dict)  # float32 arrays by name

    def readers(self):
        """Nodes that read each blob, by blob."""
        found = {}
        for node in self.nodes:
            for blob in node.inputs:
                found.setdefault(blob, []).append(node)
        return found

    def with_params(self, *params):
        merged = {}
        for part in params:
            merged.update(part)
        return replace(self, params=merged)


class _Layers:
    """The methods of symbols.blocks.Blocks; what they give is the name of a blob."""

    def __init__(self):
        self.made = {}
        self.head_inputs = {}  # blob that an output layer reads, by the layer's name

    def _add(self, op, name, *inputs, **attributes):
        if name in self.made:
            raise Problem(f"two of its layers are called {name}")
        self.made[name] = Node(op, name, inputs, **attributes)
        return name

    def conv(
        self, x, name, channels, kernel, stride=1, pad=0, depthwise=False, dilate=1, bias=True
    ):
        return self._add(
            "conv",
            name,
            x,
            channels=channels,
            kernel=kernel,
            stride=stride,
            pad=pad,
            depthwise=depthwise,
            dilate=dilate,
            bias=bias,
        )

    def head(self, x, name, outputs, convolution):
        self.head_inputs[name] = x
        return self._add("conv" if convolution else "dense", name, x, channels=outputs)

    def dense(self, x, name, outputs):
        return self._add("dense", name, x, channels=outputs)

    def bn(self, x, name):
        return self._add("bn", name, x)

    def prelu(self, x, name, channels):
        return self._add("prelu", name, x)

    def relu(self, x, name):
        return self._add("relu", name, x)

    def pool(self, x, name, kernel, stride):
        return self._add("pool", name, x, kernel=kernel, stride=stride)

    def add(self, x, y, name):
        return self._add("add", name, x, y)

    def join(self, xs, name):
        return self._add("concat", name, *xs)

    def flatten(self, x, name):
        return self._add("flatten", name, x)

    def softmax(self, x, name):
        return self._add("softmax", name, x)

    def join_conv(self, x, y, name, conv_name, channels):
        joined = self.join((x[0], y[0]), name)
        return self.conv(joined, conv_name, channels, 1, bias=False)


def describe(name, base=None, points=None, landmark=False):
    """The test graph of a net of the zoo, without parameters; options, outputs and errors as in
    symbols.build. Nodes stand in the order in which MXNet lists their parameters."""
    net = zoo.spec(name, landmark)
    options = resolve(net, base, points)
    checks.check(net, options)
    layers = _Layers()
    try:
        outputs = ARCHITECTURES[net.architecture](net, options, layers, DATA)
        if "cls" in outputs:
            outputs["cls"] = layers.softmax(outputs["cls"], "cls_prob")
        graph = Graph(_in_order(layers.made, outputs.values()), outputs)
        _check_layers(net, layers, graph)
    except Problem as problem:
        raise Problem(f"{net.name}: {problem}") from None
    return graph


def _in_order(made, outputs):
    """The nodes, by name in `made`, that outputs need: each behind those it reads."""
    nodes, seen = [], {DATA}

    def visit(blob):
        if blob not in seen:
            seen.add(blob)
            for source in made[blob].inputs:
                visit(source)
            nodes.append(made[blob])

    for blob in outputs:
        visit(blob)
    return tuple(nodes)


def _check_layers(net, layers, graph):
    """Raise Problem where the layers of a net don't fit one another, or its input."""
    known = shapes(graph, net.size, net.size)
    for head, blob in layers.head_inputs.items():
        # Training and detection take one value per channel for a window of the net's size.
        if prod(known[blob][1:]) != 1:
            _, height, width = known[blob]
            raise Problem(
                f"{head} gets {height}x{width} positions from {blob} for an input of {net.size} "
                "pixels, where it must be 1x1: change a kernel, a stride or the size"
            )
    unused = set(net.plain_relu) - {node.name for node in graph.nodes if node.op == "relu"}
    if unused:
        raise Problem(f"plain_relu names {', '.join(sorted(unused))}, which none of its layers is")
    arguments, _ = parameter_shapes(graph, net.size)
    number = sum(map(prod, arguments.values()))
    if number > checks.MOST_PARAMETERS:
        raise Problem(
            f"it would have {number:,} parameters, more than {checks.MOST_PARAMETERS:,}: make "
            "its base or its number of points smaller"
        )


# ---- shapes --------------------------------------------------------------------------------


def _window(node, side):
    """Outputs along a side of a conv or pool. Raises Problem where its kernel does not fit."""
    room = side + 2 * node.pad - node.dilate * (node.kernel - 1) - 1
    if room < 0:
        raise Problem(f"{node.name} has a kernel larger than its {side} pixel input")
    return (ceil(room / node.stride) if node.op == "pool" else room // node.stride) + 1


def out_shape(node, shapes):
    """Shape of the blob that a node makes of blobs with `shapes`. Raises Problem."""
    first = shapes[0]
    if node.op in ("conv", "pool"):
        if len(first) != 3:
            raise Problem(f"{node.name} needs a map for its input, which has shape {first}")
        channels = node.channels if node.op == "conv" else first[0]
        if node.depthwise and channels != first[0]:
            raise Problem(f"{node.name} is depthwise with {channels} outputs and {first[0]} inputs")
        return (channels, _window(node, first[1]), _window(node, first[2]))
    if node.op == "dense":
        return (node.channels,)
    if node.op == "flatten":
        return (prod(first),)
    if node.op == "concat":
        if any(shape[1:] != first[1:] for shape in shapes):
            raise Problem(f"{node.name} joins maps of different sizes: {shapes}")
        return (sum(shape[0] for shape in shapes), *first[1:])
    if node.op == "add" and any(shape != first for shape in shapes):
        raise Problem(f"{node.name} adds blobs of different shapes: {shapes}")
    return first


def shapes(graph, height, width):
    """Shape of every blob for one picture, (C, H, W) or (C,), by name. Raises Problem where the
    picture is too small or layers don't fit one another."""
    known = {DATA: (3, height, width)}
    for node in graph.nodes:
        known[node.top] = out_shape(node, [known[blob] for blob in node.inputs])
    return known


def parameter_shape(node, kind, source):
    """Shape of a node's parameter of a kind ("weight", "gamma" ...), where its first input has
    shape `source`."""
    if kind == "weight" and node.op == "dense":
        return (node.channels, prod(source))
    if kind == "weight":
        return (node.channels, 1 if node.depthwise else source[0], node.kernel, node.kernel)
    return (node.channels if kind == "bias" else source[0],)


def parameter_shapes(graph, size):
    """(arguments, auxiliary states): shapes of the parameters by name, for an input of size x
    size pixels."""
    known, arguments, auxiliary = shapes(graph, size, size), {}, {}
    for node in graph.nodes:
        source = known[node.inputs[0]]
        for name in node.parameters():
            kind = name[len(node.name) + 1 :]
            (auxiliary if kind.startswith("moving_") else arguments)[name] = parameter_shape(
                node, kind, source
            )
    return arguments, auxiliary


def with_zoo_eps(gamma, variance, eps):
    """(gamma, variance) of the batch norm with BN_EPS that does the same as this one with `eps`;
    gamma is the old one unless variance + eps is below BN_EPS."""
    if eps == BN_EPS:
        return gamma, variance
    total = np.maximum(variance.astype(np.float64) + eps, np.finfo(np.float32).tiny)
    moved = np.maximum(total - BN_EPS, 0)
    gamma = gamma * np.where(total < BN_EPS, np.sqrt(BN_EPS / total), 1)
    return gamma.astype(np.float32), moved.astype(np.float32)

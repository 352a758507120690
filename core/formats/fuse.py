"""Nets rewritten without a change of values: batch norms merged into the layers before them, the
scale of activations evened out, PReLU in a form that runs faster. check() makes sure of it.
"""

from dataclasses import replace
from math import frexp

import numpy as np

from core.formats import numpy_net
from facelet.console import Problem
from symbols.graph import Node
from symbols.graph import shapes as blob_shapes

TOLERANCE = 1e-5  # of the largest output
HALF_LARGEST = 65_504  # float16
HOMOGENEOUS = ("prelu", "relu", "pool", "flatten", "add", "concat")  # f(k x) = k f(x) for k > 0


def merge(graph):
    """The graph without the batch norms that follow a convolution or fully connected layer which
    nobody else reads: that layer takes their factor and shift, and makes their blob."""
    readers, makers = graph.readers(), {node.top: node for node in graph.nodes}
    params, merged, gone = dict(graph.params), {}, set()
    for node in graph.nodes:
        source = makers.get(node.inputs[0])
        if (
            node.op != "bn"
            or source is None
            or source.op not in ("conv", "dense")
            or len(readers[source.top]) > 1
            or source.top in graph.outputs.values()
        ):
            continue
        names = node.parameters()
        gamma, beta, mean, variance = (params.pop(name).astype(np.float64) for name in names)
        factor = (1 if node.fix_gamma else gamma) / np.sqrt(variance + node.eps)
        weight = params[f"{source.name}_weight"].astype(np.float64)
        bias = params.get(f"{source.name}_bias", np.zeros(len(weight)))
        params[f"{source.name}_weight"] = _float32(
            weight * factor.reshape(-1, *[1] * (weight.ndim - 1))
        )
        params[f"{source.name}_bias"] = _float32((bias - mean) * factor + beta)
        merged[source.name] = replace(source, top=node.top, bias=True)
        gone.add(node.name)
    nodes = tuple(merged.get(node.name, node) for node in graph.nodes if node.name not in gone)
    return replace(graph, nodes=nodes, params=params)


# Weight decay brings weights down to where a product of two is below the smallest ordinary float32,
# with which processors are many times slower. Beside activations of ordinary size they are nothing.
NOTHING = 1e-19


def _float32(values):
    return np.asarray(values, np.float64).astype(np.float32)


def _without_nothing(graph):
    """The graph with weights below NOTHING as 0."""
    params = {
        name: np.where(np.abs(value) < NOTHING, np.float32(0), value)
        for name, value in graph.params.items()
    }
    return replace(graph, params=params)


def _pinned(graph):
    """Blobs whose scale must stay: outputs, what a softmax reads, and, so that both sides agree,
    what is added or joined; and all that those are made of by homogeneous layers."""
    pinned = set(graph.outputs.values())
    for node in reversed(graph.nodes):
        if node.op in ("softmax", "add", "concat") or node.op in HOMOGENEOUS and node.top in pinned:
            pinned.update(node.inputs)
    return pinned


def rescale(graph):
    """The same net with activations of an ordinary size.

    Convolution, pooling, ReLU and PReLU are positively homogeneous: scaling a blob scales all that
    follows, until a batch norm takes the scale out or a layer's weights do. Going from the input,
    each convolution and fully connected layer gives off a power of two near the largest L2 norm of
    its rows. Powers of two change exponents only, so nothing is rounded; batch norms come out with
    eps 0, which is in their variance.
    """
    pinned, params, nodes = _pinned(graph), dict(graph.params), []
    scales = {"data": 1.0}  # true value / value in the new net, by blob
    for node in graph.nodes:
        before = scales[node.inputs[0]]
        after = before if node.op in HOMOGENEOUS else 1.0
        if node.op in ("conv", "dense"):
            weight = params[f"{node.name}_weight"]
            norm = float(
                np.linalg.norm(weight.reshape(len(weight), -1).astype(np.float64), axis=1).max()
            )
            if node.top not in pinned and norm > 0:
                after = before * 2.0 ** (frexp(norm)[1] - 1)
            params[f"{node.name}_weight"] = _float32(weight * (before / after))
            if node.bias:
                params[f"{node.name}_bias"] = _float32(params[f"{node.name}_bias"] / after)
        elif node.op == "bn":
            mean, variance = f"{node.name}_moving_mean", f"{node.name}_moving_var"
            params[mean] = _float32(params[mean] / before)
            params[variance] = _float32(
                (params[variance].astype(np.float64) + node.eps) / before**2
            )
            node = replace(node, eps=0.0)
        scales[node.top] = after
        nodes.append(node)
    return replace(graph, nodes=tuple(nodes), params=params)


def check(graph, original, size, what):
    """Raise Problem unless `graph` gives what `original` gives, on a seeded input of size x size
    pixels; `what` names it in the error. Returns the difference, as a part of the largest
    output."""
    data = numpy_net.seeded_input(size)
    difference = numpy_net.difference(numpy_net.run(graph, data), numpy_net.run(original, data))
    if not difference <= TOLERANCE:
        raise Problem(
            f"{what} differs from its checkpoint by {difference:.1e} of the largest "
            f"output, more than {TOLERANCE:.0e}: it is not written"
        )
    return difference


def fully_convolutional(graph):
    """Whether a graph takes pictures of any size, as Pnets do."""
    return all(node.op not in ("dense", "flatten") for node in graph.nodes)


def check_sizes(graph, original, size, what):
    """As check(); graphs that take any picture are compared on a larger one too, where every stride
    shows. Raises Problem for outputs of other shapes as well."""
    worst = 0.0
    for side in (size, 2 * size + 3) if fully_convolutional(original) else (size,):
        found, wanted = (
            {task: blob_shapes(net, side, side)[blob] for task, blob in net.outputs.items()}
            for net in (graph, original)
        )
        if found != wanted:
            raise Problem(f"{what} gives outputs {found} for {side} pixels, not {wanted}")
        worst = max(worst, check(graph, original, side, what))
    return worst


def prepared(graph, size):
    """A graph as it is exported: rescaled, merged and checked. Raises Problem.

    In this order a batch norm ends what is scaled, and the values behind it stay as trained: a
    merged layer has rows of channels that are never used with enormous weights, which say nothing
    of the others.
    """
    ready = _without_nothing(merge(rescale(graph)))
    check(ready, graph, size, "the merged net")
    return ready


# ---- the fast form -------------------------------------------------------------------------
#
# onnxruntime runs PReLU several times slower than the convolutions around it (core.bench detect).
# prelu(x) = gamma x + (1 - gamma) relu(x), and what scales channels is a convolution's business.


def _scaled(weight, slopes, node):
    """Weights that take in each input channel times its slope."""
    if node.depthwise:
        return _float32(weight * slopes.reshape(-1, 1, 1, 1))
    return _float32(weight * slopes.reshape(1, -1, 1, 1))


def split_prelu(graph, size):
    """The graph without PReLUs on maps, for onnxruntime, whose own is slow.

    Before depthwise convolutions, each of these becomes the sum of two, over the ReLU and over the
    values themselves; elsewhere the sum is made by two depthwise 1 x 1 convolutions in the
    PReLU's place. Measured, this mix is the fastest. PReLUs after fully connected layers stay.

    size -- side of an input that the net can take
    """
    shapes = blob_shapes(graph, size, size)
    graph = _pool_first(graph)
    readers, params, nodes, over = graph.readers(), dict(graph.params), [], {}
    for node in graph.nodes:
        if node.op == "prelu" and len(shapes[node.top]) == 3:
            slopes = params.pop(f"{node.name}_gamma").astype(np.float64)
            positive = f"{node.name}_relu"
            nodes.append(Node("relu", positive, node.inputs))
            sources = {"over": (positive, 1 - slopes), "through": (node.inputs[0], slopes)}
            if all(reader.depthwise for reader in readers[node.top]):
                over[node.top] = sources
                continue
            node = Node(
                "conv",
                node.name,
                node.inputs,
                top=node.top,
                channels=len(slopes),
                depthwise=True,
                bias=False,
            )
            params[f"{node.name}_weight"] = np.ones((len(slopes), 1, 1, 1))
        elif node.inputs[0] in over:
            sources = over[node.inputs[0]]
        else:
            nodes.append(node)
            continue
        weight = params.pop(f"{node.name}_weight").astype(np.float64)
        for part, (source, factors) in sources.items():
            name = f"{node.name}_{part}"
            nodes.append(
                replace(
                    node, name=name, top=name, inputs=(source,), bias=node.bias and part == "over"
                )
            )
            params[f"{name}_weight"] = _scaled(weight, factors, node)
        if node.bias:
            params[f"{node.name}_over_bias"] = params.pop(f"{node.name}_bias")
        nodes.append(
            Node(
                "add",
                f"{node.name}_sum",
                (f"{node.name}_over", f"{node.name}_through"),
                top=node.top,
            )
        )
    return replace(graph, nodes=tuple(nodes), params=params)


def _pool_first(graph):
    """PReLUs behind the max pooling that alone reads them, where there are fewer values: the two
    can change places as long as slopes are not negative."""
    readers, nodes, moved = graph.readers(), [], {}
    for node in graph.nodes:
        after = readers.get(node.top, [])
        if (
            node.op == "prelu"
            and [reader.op for reader in after] == ["pool"]
            and graph.params[f"{node.name}_gamma"].min() >= 0
        ):
            moved[node.top] = node
        elif node.inputs[0] in moved:
            prelu = moved[node.inputs[0]]
            nodes += [
                replace(node, inputs=prelu.inputs, top=prelu.top),
                replace(prelu, inputs=(prelu.top,), top=node.top),
            ]
        else:
            nodes.append(node)
    return replace(graph, nodes=tuple(nodes))


def sigmoid_scores(graph):
    """The graph with a sigmoid in place of the softmax over two classes: the probability of each
    is the logistic function of how far its logit is above the other's. It gives the same two
    values; a softmax over the channels of a map costs onnxruntime more. Needs a merged graph."""
    if "cls" not in graph.outputs:
        return graph
    makers = {node.top: node for node in graph.nodes}
    softmax = makers[graph.outputs["cls"]]
    head, params = makers[softmax.inputs[0]], dict(graph.params)
    for name in head.parameters():
        not_face, face = params[name].astype(np.float64)
        params[name] = _float32(np.stack([not_face - face, face - not_face]))
    nodes = tuple(replace(node, op="sigmoid") if node is softmax else node for node in graph.nodes)
    return replace(graph, params=params, nodes=nodes)


def fast(graph, size):
    """A merged graph in the form that is fast in onnxruntime, with the same outputs; `size` as for
    split_prelu()."""
    return _without_nothing(sigmoid_scores(split_prelu(graph, size)))

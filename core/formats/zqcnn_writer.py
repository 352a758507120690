"""Graphs as ZQCNN's files (core.formats.zqcnn_file has their layout)."""

import numpy as np

from core.formats import fuse, zqcnn_reader
from core.formats.zqcnn_file import FLOAT, LEAST_VARIANCE, TENSORS, ZEROED, files
from facelet.console import Problem
from facelet.files import whole_file
from symbols.graph import DATA, shapes


def output_names(graph, size):
    """Names of the output blobs by task, as ZQCNN's classes look them up: of Pnets conv4-2, Rnets
    conv5-2, Onets and Lnets conv6-2 and conv6-3. Stages are told apart by their input."""
    stage = 4 if fuse.fully_convolutional(graph) else 5 if size <= 24 else 6
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
        back, _, _ = zqcnn_reader.read(text, values)
        fuse.check_sizes(back, graph, size, str(text_path))
        fuse.check_sizes(
            _as_loaded(fuse.merge(_as_loaded(back))),
            graph,
            size,
            f"{text_path} as ZQCNN loads it, values below {ZEROED:.0e} taken for 0,",
        )
        text_path.unlink(missing_ok=True)  # a former text must not stand beside these numbers

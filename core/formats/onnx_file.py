"""Graphs as ONNX models, and what a model says of its net.

Layers, parameters and blobs keep their names. The input is `data` (N, 3, H, W) float32, BGR,
(x - mean) * scale already, of any size for a Pnet; outputs have the names that they have in MXNet.
What it takes to feed the net and to read its outputs is in the metadata, one JSON value a key (see
core.formats.checkpoint.facts).
"""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np

from facelet.console import Problem
from symbols.graph import DATA, Graph, Node

OPSET, IR_VERSION = 13, 8  # what every engine of the last years reads


def package():
    """The package onnx. Raises Problem where it is not installed."""
    try:
        import onnx
    except ImportError:
        raise Problem("the package onnx is not installed here: pip install onnx") from None
    return onnx


def _conv(node, names):
    return (
        "Conv",
        names,
        dict(
            kernel_shape=[node.kernel] * 2,
            strides=[node.stride] * 2,
            pads=[node.pad] * 4,
            dilations=[node.dilate] * 2,
            group=node.channels if node.depthwise else 1,
        ),
    )


OPERATORS = {  # node and its parameters' names -> operator, parameters as it wants them, attributes
    "conv": _conv,
    "dense": lambda node, names: ("Gemm", names, dict(transB=1)),
    "bn": lambda node, names: ("BatchNormalization", names, dict(epsilon=node.eps)),
    "prelu": lambda node, names: ("PRelu", names, {}),
    "relu": lambda node, names: ("Relu", names, {}),
    "pool": lambda node, names: (
        "MaxPool",
        names,
        dict(kernel_shape=[node.kernel] * 2, strides=[node.stride] * 2, ceil_mode=1),
    ),
    "add": lambda node, names: ("Add", names, {}),
    "concat": lambda node, names: ("Concat", names, dict(axis=1)),
    "flatten": lambda node, names: ("Flatten", names, dict(axis=1)),
    "softmax": lambda node, names: ("Softmax", names, dict(axis=1)),
    "sigmoid": lambda node, names: ("Sigmoid", names, {}),
}


def model(graph, facts, shapes):
    """A checked onnx.ModelProto.

    facts -- as core.formats.checkpoint.facts; shapes -- of the blobs for one picture of the net's
        size, see symbols.graph.shapes
    """
    onnx = package()
    from onnx import helper, numpy_helper

    nodes, initializers = [], {}
    for node in graph.nodes:
        inputs = list(node.inputs)
        if node.op == "dense" and len(shapes[inputs[0]]) > 1:
            nodes.append(
                helper.make_node(
                    "Flatten", inputs, [f"{node.name}_flat"], f"{node.name}_flat", axis=1
                )
            )
            inputs = [f"{node.name}_flat"]
        operator, names, attributes = OPERATORS[node.op](node, node.parameters())
        for name in names:
            value = graph.params[name]
            if node.op == "bn" and node.fix_gamma and name.endswith("_gamma"):
                value = np.ones_like(value)
            if node.op == "prelu":  # a slope per channel has to be broadcast over the map
                value = value.reshape(-1, *[1] * (len(shapes[node.top]) - 1))
            initializers[name] = numpy_helper.from_array(np.ascontiguousarray(value), name)
        nodes.append(
            helper.make_node(operator, inputs + names, [node.top], node.name, **attributes)
        )

    any_size = facts["stride"] is not None

    def described(name, shape, sides):
        dims = ["N", *(sides if any_size and len(shape) == 3 else shape[1:])]
        dims[1:1] = shape[:1]
        return helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, dims)

    made = helper.make_model(
        helper.make_graph(
            nodes,
            facts["net"],
            [described(DATA, shapes[DATA], ["height", "width"])],
            [described(blob, shapes[blob], ["rows", "columns"]) for blob in graph.outputs.values()],
            list(initializers.values()),
        ),
        opset_imports=[helper.make_opsetid("", OPSET)],
        ir_version=IR_VERSION,
        producer_name="small face nets",
    )
    helper.set_model_props(
        made,
        {
            key: json.dumps(value)
            for key, value in {**facts, "outputs": dict(graph.outputs)}.items()
        },
    )
    onnx.checker.check_model(made, full_check=True)
    return made


def load(path):
    """The onnx.ModelProto in a file, one without layers if it is none. Raises Problem where a name
    in it is no text."""
    onnx = package()
    from google.protobuf.message import DecodeError

    try:
        made = onnx.load_model_from_string(Path(path).read_bytes())
        # What is no UTF-8 shows when it is asked for: as bytes, or as an error.
        text = all(isinstance(name, str) for name in _names(made.graph))
    except DecodeError:
        return onnx.ModelProto()
    except UnicodeDecodeError:
        text = False
    if not text:
        raise Problem(
            f"{path} is a damaged ONNX model: a name in it is no UTF-8: copy or export it anew"
        )
    return made


def _names(graph):
    """Those that an onnx.GraphProto uses."""
    for value in (*graph.input, *graph.output, *graph.initializer):
        yield value.name
    for layer in graph.node:
        yield from (layer.op_type, layer.name, *layer.input, *layer.output)


def read(made, name):
    """(Graph, facts) of an onnx.ModelProto that model() has made: its inverse. Raises Problem for
    what it can't have made; `name` is for the error."""
    try:
        return _read(made, name)
    except (AttributeError, IndexError, KeyError, OverflowError, TypeError, ValueError):
        raise Problem(f"{name} is not as core.export writes its models: export it anew") from None


def _read(made, name):
    from onnx import helper, numpy_helper

    facts = {prop.key: json.loads(prop.value) for prop in made.metadata_props}
    params = {value.name: numpy_helper.to_array(value) for value in made.graph.initializer}
    params = {  # float16 where another tool has made it so
        name: value.astype(np.float32) if value.dtype.kind == "f" else value
        for name, value in params.items()
    }
    # The input, too, may have got another name.
    nodes = []
    flat = {value.name: DATA for value in made.graph.input if value.name not in params}
    for layer in made.graph.node:
        given = {
            attribute.name: helper.get_attribute_value(attribute) for attribute in layer.attribute
        }
        blobs = tuple(flat.get(blob, blob) for blob in layer.input if blob not in params)
        if layer.op_type == "Flatten" and layer.name.endswith("_flat"):
            flat[layer.output[0]] = blobs[0]
            continue
        if layer.op_type not in READ:
            raise Problem(f"{name} has a layer {layer.op_type}, which core.export doesn't write")
        op, fields = READ[layer.op_type]
        names = [blob for blob in layer.input if blob in params]
        node = Node(op, layer.name, blobs, layer.output[0], **fields(given))
        if op in ("conv", "dense"):
            node = replace(node, channels=len(params[names[0]]), bias=len(names) > 1)
        if node.parameters() != names:
            raise Problem(
                f"{name}: the parameters of {layer.name} are {', '.join(names)}, not "
                "named as core.export names them"
            )
        if op == "prelu":
            params[names[0]] = params[names[0]].reshape(-1)
        nodes.append(node)
    return Graph(tuple(nodes), facts.pop("outputs"), params), facts


def _window(given):
    return dict(kernel=given["kernel_shape"][0], stride=given["strides"][0])


READ = {  # operator -> kind of node, function of the attributes giving its fields
    "Conv": (
        "conv",
        lambda given: dict(
            _window(given),
            pad=given["pads"][0],
            dilate=given["dilations"][0],
            depthwise=given["group"] > 1,
        ),
    ),
    "Gemm": ("dense", lambda given: {}),
    "BatchNormalization": ("bn", lambda given: dict(eps=given["epsilon"])),
    "PRelu": ("prelu", lambda given: {}),
    "Relu": ("relu", lambda given: {}),
    "MaxPool": ("pool", _window),
    "Add": ("add", lambda given: {}),
    "Concat": ("concat", lambda given: {}),
    "Flatten": ("flatten", lambda given: {}),
    "Softmax": ("softmax", lambda given: {}),
    "Sigmoid": ("sigmoid", lambda given: {}),
}

"""Merged nets as ncnn's NAME.param and NAME.bin, and a run through ncnn to try them.

The text begins with a magic number and the counts of layers and blobs; then a layer a line:

    type name inputs outputs [blobs read] [blobs made] key=value ...

where a key is the number of a layer's setting. NAME.bin holds the parameters in the order of the
layers, little-endian float32; weights of convolutions and fully connected layers begin with a u32
that says how they are stored, 0 for plainly. A blob has one reader in ncnn: where there are several
a Split makes copies.
"""

from pathlib import Path

import numpy as np

from facelet.console import Problem
from facelet.files import whole_file, write_text
from symbols.graph import DATA

MAGIC = 7767517
PLAIN = np.zeros(1, "<u4").tobytes()


def _ncnn():
    try:
        import ncnn
    except ImportError:
        raise Problem("the package ncnn is not installed here: pip install ncnn") from None
    return ncnn


def _conv(node, weight, bias=None):
    settings = {
        0: node.channels,
        1: node.kernel,
        2: node.dilate,
        3: node.stride,
        4: node.pad,
        5: int(node.bias),
        6: weight.size,
    }
    if node.depthwise:
        return "ConvolutionDepthWise", {**settings, 7: node.channels}
    return "Convolution", settings


OPERATORS = {  # functions of a node and its parameters -> type, settings
    "conv": _conv,
    "dense": lambda node, weight, bias=None: (
        "InnerProduct",
        {0: node.channels, 1: int(node.bias), 2: weight.size},
    ),
    "prelu": lambda node, slope: ("PReLU", {0: slope.size}),
    "relu": lambda node: ("ReLU", {}),
    "pool": lambda node: ("Pooling", {0: 0, 1: node.kernel, 2: node.stride, 5: 0}),  # max, full
    "add": lambda node: ("BinaryOp", {0: 0}),
    "concat": lambda node: ("Concat", {0: 0}),
    "flatten": lambda node: ("Flatten", {}),
    "softmax": lambda node: ("Softmax", {0: 0, 1: 1}),  # axis; 1: counted from where it should
}


def write(graph, size, stem):
    """Write stem.param and stem.bin, each whole or not at all; blobs keep their names.

    graph -- merged: batch norms have no layer here (core.formats.fuse.prepared)
    size -- side of the input in pixels; None where any will do
    """
    readers, copies = graph.readers(), {}
    lines, blobs, numbers = [], [], []

    def layer(kind, name, bottoms, tops, settings):
        blobs.extend(tops)
        lines.append(
            " ".join(
                [
                    f"{kind:<20} {name:<20}",
                    str(len(bottoms)),
                    str(len(tops)),
                    *bottoms,
                    *tops,
                    *(f"{k}={v}" for k, v in settings.items()),
                ]
            )
        )

    def made(kind, name, bottoms, top, settings):
        layer(kind, name, bottoms, [top], settings)
        count = len(readers.get(top, ()))
        names = [f"{top}_copy{i}" for i in range(count)] if count > 1 else [top]
        if count > 1:
            layer("Split", f"{top}_split", [top], names, {})
        copies[top] = iter(names)

    made("Input", DATA, [], DATA, {} if size is None else {0: size, 1: size, 2: 3})
    for node in graph.nodes:
        parameters = [graph.params[name] for name in node.parameters()]
        kind, settings = OPERATORS[node.op](node, *parameters)
        made(kind, node.name, [next(copies[blob]) for blob in node.inputs], node.top, settings)
        if node.op in ("conv", "dense"):
            numbers.append(PLAIN)
        numbers += [np.ascontiguousarray(values, "<f4").tobytes() for values in parameters]
    with whole_file(f"{stem}.bin") as part:
        part.write_bytes(b"".join(numbers))
    write_text(f"{stem}.param", "\n".join([str(MAGIC), f"{len(lines)} {len(blobs)}", *lines, ""]))


def run(stem, data, blobs):
    """What ncnn makes of data (N, 3, H, W) with stem.param and stem.bin: float32 arrays (N, ...)
    of the blobs named, in that order. In single precision, a picture at a time, one thread.

    Raises Problem where the package ncnn is missing or does not take the files.
    """
    ncnn = _ncnn()
    net = ncnn.Net()
    net.opt.num_threads = 1
    net.opt.use_fp16_packed = net.opt.use_fp16_storage = net.opt.use_fp16_arithmetic = False
    if net.load_param(f"{stem}.param") or net.load_model(f"{stem}.bin"):
        raise Problem(f"ncnn can't load {Path(stem).name}.param and .bin")

    data = np.ascontiguousarray(data, np.float32)  # kept for as long as ncnn looks into it

    def extracted(picture):
        with net.create_extractor() as extractor:
            extractor.input(DATA, ncnn.Mat(picture))
            return [np.array(_extract(extractor, blob)) for blob in blobs]

    return [np.stack(outputs) for outputs in zip(*map(extracted, data))]


def _extract(extractor, blob):
    status, values = extractor.extract(blob)
    if status:
        raise Problem(f"ncnn gives no blob {blob}")
    return values

"""Runs a graph in NumPy, in double precision: slow, and plain enough to be believed. What the
merging and every export are held against where MXNet is not at hand."""

import numpy as np

from facelet.console import Problem
from symbols.graph import DATA


def _per_channel(values, like):
    """(C,) values shaped to go with a blob (N, C) or (N, C, H, W)."""
    return values.reshape(1, -1, *[1] * (like.ndim - 2))


def _taps(node, x, rows, columns):
    """For each position of a kernel: its row and column there, and what it sees, (N, C, rows,
    columns)."""
    for row in range(node.kernel):
        for column in range(node.kernel):
            top, left = row * node.dilate, column * node.dilate
            yield (
                row,
                column,
                x[
                    :,
                    :,
                    top : top + node.stride * (rows - 1) + 1 : node.stride,
                    left : left + node.stride * (columns - 1) + 1 : node.stride,
                ],
            )


def _conv(node, x, weight, bias=None):
    x = np.pad(x, ((0, 0), (0, 0), (node.pad,) * 2, (node.pad,) * 2))
    rows, columns = (
        (side - node.dilate * (node.kernel - 1) - 1) // node.stride + 1 for side in x.shape[2:]
    )
    out = np.zeros((len(x), node.channels, rows, columns))
    for row, column, seen in _taps(node, x, rows, columns):
        tap = weight[:, :, row, column]
        if node.depthwise:
            out += seen * tap[None, :, 0, None, None]
        else:
            out += np.einsum("oc,nchw->nohw", tap, seen, optimize=True)
    return out if bias is None else out + _per_channel(bias, out)


def _pool(node, x):
    rows, columns = (-(-(side - node.kernel) // node.stride) + 1 for side in x.shape[2:])
    hanging = [
        (0, max(0, (count - 1) * node.stride + node.kernel - side))
        for count, side in zip((rows, columns), x.shape[2:])
    ]
    x = np.pad(x, ((0, 0), (0, 0), *hanging), constant_values=-np.inf)
    return np.max([seen for _, _, seen in _taps(node, x, rows, columns)], axis=0)


def _softmax(x):
    x = np.exp(x - x.max(axis=1, keepdims=True))
    return x / x.sum(axis=1, keepdims=True)


def _bn(node, x, gamma, beta, mean, variance):
    gamma = np.ones_like(gamma) if node.fix_gamma else gamma
    scale = gamma / np.sqrt(variance + node.eps)
    return (x - _per_channel(mean, x)) * _per_channel(scale, x) + _per_channel(beta, x)


OPERATORS = {  # functions of a node, its blobs and its parameters
    "conv": _conv,
    "dense": lambda node, x, weight, bias=None: (
        x.reshape(len(x), -1) @ weight.T + (0 if bias is None else bias)
    ),
    "bn": _bn,
    "prelu": lambda node, x, slope: np.where(x > 0, x, _per_channel(slope, x) * x),
    "relu": lambda node, x: np.maximum(x, 0),
    "pool": _pool,
    "add": lambda node, x, y: x + y,
    "concat": lambda node, *blobs: np.concatenate(blobs, axis=1),
    "flatten": lambda node, x: x.reshape(len(x), -1),
    "softmax": lambda node, x: _softmax(x),
    "sigmoid": lambda node, x: 1 / (1 + np.exp(-x)),
}


def run(graph, data, watch=None):
    """Outputs by task, float64, for data (N, 3, H, W).

    watch -- function of each blob's name and values as it is made

    Raises Problem where the parameters hold what is no number or too large for a double.
    """
    blobs, left = {DATA: np.asarray(data, np.float64)}, {}
    for node in graph.nodes:
        for blob in node.inputs:
            left[blob] = left.get(blob, 0) + 1
    for node in graph.nodes:
        parameters = [graph.params[name].astype(np.float64) for name in node.parameters()]
        with np.errstate(all="ignore"):
            out = OPERATORS[node.op](node, *(blobs[blob] for blob in node.inputs), *parameters)
        if not np.isfinite(out).all():
            raise Problem(
                f"layer {node.name} gives values that are no numbers: its parameters, "
                "or those of a layer before it, are damaged"
            )
        if watch:
            watch(node.top, out)
        blobs[node.top] = out
        for blob in node.inputs:  # drop what nobody reads any more
            left[blob] -= 1
            if not left[blob] and blob not in graph.outputs.values():
                del blobs[blob]
    return {task: blobs[blob] for task, blob in graph.outputs.items()}


def largest_activation(graph, data):
    """Largest absolute value of any blob behind the picture."""
    largest = [0.0]
    run(graph, data, lambda name, values: largest.append(float(np.abs(values).max())))
    return max(largest)


def seeded_input(side, count=2, seed=0):
    """Input (count, 3, side, side) float32 in the range of pictures, the same for a seed."""
    rng = np.random.default_rng(seed)
    return rng.uniform(-1, 1, (count, 3, side, side)).astype(np.float32)


def difference(results, expected):
    """How far outputs are from the expected ones, both by task: the largest difference as a part
    of the largest value expected of that task; NaN if any is. Raises Problem where their shapes
    differ."""
    for task, values in expected.items():
        if np.shape(results[task]) != np.shape(values):
            raise Problem(f"{task} has shape {np.shape(results[task])}, not {np.shape(values)}")
    parts = [
        np.abs(np.asarray(results[task], np.float64) - values).max()
        / max(np.abs(values).max(), 1e-30)
        for task, values in expected.items()
    ]
    return float(np.max(parts))  # Python's max would lose a NaN

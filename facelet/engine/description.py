"""An ONNX model of core.export as the engine reads nets: layers in the order they run, weights.

It is made in memory, out of the model alone: there is no second file of weights that could go
astray or be of another epoch. What core.export does for onnxruntime's sake is undone, as the engine
has a PReLU as fast as its convolutions: sums over relu(x) and x become PReLUs again.

A description is little-endian: 8 bytes, the CRC-32 of all that follows, then int32 and float32:

    size stride points layers, blobs of the outputs cls bbox landmark heatmap (-1: none)
    each layer: operation, number of inputs, four of them, channels kernel stride pad dilate
        depthwise, whether slopes follow; conv: weights (out, in, k, k), bias; slopes of the PReLU

Blob 0 is the picture, blob n + 1 what layer n makes.
"""

import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, Optional, Union, cast

import numpy as np

from facelet.arrays import Array

MAGIC = b"FACENET\x01"
TASKS = ("cls", "bbox", "landmark", "heatmap")
OPERATIONS = ("conv", "pool", "prelu", "add", "concat", "softmax", "sigmoid")
MOST_INPUTS = 4
SAME = 1e-6  # how near, relative, what float32 made of one number in two ways must be


class Unsupported(Exception):
    """A model that the engine can't run."""


@dataclass(frozen=True, eq=False)
class Layer:
    op: str
    inputs: tuple[str, ...]
    top: str
    weight: Optional[Array] = None  # conv: (out, in, k, k), depthwise (channels, 1, k, k)
    bias: Optional[Array] = None
    slopes: Optional[Array] = None
    kernel: int = 1
    stride: int = 1
    pad: int = 0
    dilate: int = 1
    depthwise: bool = False


# ---- protocol buffers ----------------------------------------------------------------------

Value = Union[int, bytes]


def _varint(data: memoryview, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[at]
        value, shift, at = value | (byte & 127) << shift, shift + 7, at + 1
        if byte < 128:
            return value, at
        if shift > 63:
            raise ValueError("a number too long")


def _fields(data: Union[bytes, memoryview]) -> Iterator[tuple[int, Any]]:
    """(number, value) of a message's fields: an int, a memoryview, or a float of 4 bytes."""
    view, at = memoryview(data), 0
    while at < len(view):
        key, at = _varint(view, at)
        number, kind = key >> 3, key & 7
        if kind == 0:
            value, at = _varint(view, at)
            yield number, value
            continue
        if kind == 2:
            size, at = _varint(view, at)
        elif kind in (1, 5):
            size = 8 if kind == 1 else 4
        else:
            raise ValueError("a field of unknown kind")
        if at + size > len(view):
            raise ValueError("a field that ends beyond its message")
        part = view[at : at + size]
        yield number, struct.unpack("<f", part)[0] if kind == 5 else part
        at += size


def _all(data: Any, number: int) -> list[Any]:
    return [value for key, value in _fields(data) if key == number]


def _text(data: Any, number: int) -> str:
    found = _all(data, number)
    return bytes(found[-1]).decode() if found else ""


def _ints(data: Any, number: int) -> list[int]:
    values: list[int] = []
    for value in _all(data, number):
        if isinstance(value, int):
            values.append(value)
            continue
        at = 0
        while at < len(value):
            one, at = _varint(value, at)
            values.append(one)
    return values


def _tensor(data: Any) -> Array:
    dims = _ints(data, 1)
    if _ints(data, 2) != [1]:
        raise Unsupported("weights that are not float32")
    raw = _all(data, 9)
    floats = np.frombuffer(raw[0], "<f4") if raw else np.array(_all(data, 4), np.float32)
    return floats.reshape(dims)


def _attributes(node: Any) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for attribute in _all(node, 5):
        ints, floats = _ints(attribute, 8), _all(attribute, 2)
        whole = _ints(attribute, 3)
        found[_text(attribute, 1)] = ints or (whole[0] if whole else floats[0] if floats else None)
    return found


# ---- from a model to layers ----------------------------------------------------------------


def _side(layer: Layer, side: int) -> int:
    room = side + 2 * layer.pad - layer.dilate * (layer.kernel - 1) - 1
    if room < 0:
        raise Unsupported("a kernel larger than its input")
    return (-(-room // layer.stride) if layer.op == "pool" else room // layer.stride) + 1


def _same(values: list[int], what: str) -> int:
    if len(set(values)) != 1:
        raise Unsupported(f"{what} of {values}")
    return values[0]


class _Reader:
    """The layers of a model's graph, and the shape (channels, side) of what they make."""

    def __init__(self, model: bytes, size: int) -> None:
        (graph,) = _all(model, 7)
        self.params = {_text(one, 8): _tensor(one) for one in _all(graph, 5)}
        self.shapes, self.flat = {"data": (3, size)}, dict[str, str]()
        self.layers: list[Layer] = []
        for node in _all(graph, 1):
            blobs = [bytes(value).decode() for value in _all(node, 1)]
            (top,) = [bytes(value).decode() for value in _all(node, 2)]
            inputs = tuple(self.flat.get(blob, blob) for blob in blobs if blob not in self.params)
            params = [self.params[blob] for blob in blobs if blob in self.params]
            kind = _text(node, 4)
            if kind == "Flatten":
                self.flat[top] = inputs[0]
                continue
            layer = self._layer(kind, inputs, top, params, _attributes(node))
            shapes = [self.shapes[blob] for blob in inputs]
            channels, side = shapes[0]
            if layer.op in ("conv", "pool"):
                side = _side(layer, side)
            if layer.weight is not None:
                channels = len(layer.weight)
            if layer.op == "concat":
                channels = sum(shape[0] for shape in shapes)
            self.shapes[top] = channels, side
            self.layers.append(layer)

    def _layer(
        self, kind: str, inputs: tuple[str, ...], top: str, params: list[Array], given: Any
    ) -> Layer:
        channels, side = self.shapes[inputs[0]]
        if kind in ("Conv", "MaxPool"):
            window: dict[str, Any] = dict(
                kernel=_same(given["kernel_shape"], "a kernel"),
                stride=_same(given.get("strides", [1]), "strides"),
                pad=_same(given.get("pads", [0]), "pads"),
                dilate=_same(given.get("dilations", [1]), "dilations"),
            )
            if kind == "MaxPool":
                if not given.get("ceil_mode"):
                    raise Unsupported("a pooling that drops the last columns")
                return Layer("pool", inputs, top, **window)
            depthwise = given.get("group", 1) > 1
            if depthwise and (given["group"] != channels or len(params[0]) != channels):
                raise Unsupported("a convolution in groups")
            bias = params[1] if len(params) > 1 else None
            return Layer("conv", inputs, top, params[0], bias, depthwise=depthwise, **window)
        if kind == "Gemm":  # a convolution as large as its map
            if not given.get("transB"):
                raise Unsupported("a Gemm that is no fully connected layer")
            weight = params[0].reshape(len(params[0]), channels, side, side)
            bias = params[1] if len(params) > 1 else None
            return Layer("conv", inputs, top, weight, bias, kernel=side)
        if kind == "BatchNormalization":
            gamma, beta, mean, variance = (value.astype(np.float64) for value in params)
            factor = gamma / np.sqrt(variance + given["epsilon"])
            weight = factor.reshape(-1, 1, 1, 1)
            return Layer("conv", inputs, top, weight, beta - mean * factor, depthwise=True)
        if kind in ("PRelu", "Relu", "LeakyRelu"):
            slope = params[0].reshape(-1) if params else np.array([given.get("alpha", 0)])
            return Layer("prelu", inputs, top, slopes=np.broadcast_to(slope, channels))
        others = {"Add": "add", "Concat": "concat", "Softmax": "softmax", "Sigmoid": "sigmoid"}
        if kind not in others:
            raise Unsupported(f"a layer {kind}")
        return Layer(others[kind], inputs, top)


def _readers(layers: list[Layer]) -> dict[str, int]:
    counts: dict[str, int] = {}
    for layer in layers:
        for blob in layer.inputs:
            counts[blob] = counts.get(blob, 0) + 1
    return counts


def _whole_prelus(layers: list[Layer], outputs: set[str]) -> list[Layer]:
    """Undoes core.formats.fuse.split_prelu: w relu(x) (1 - s) + w s x is w prelu(x)."""
    makers, counts = {layer.top: layer for layer in layers}, _readers(layers)
    found, prelus = list[Layer](), dict[tuple[str, bytes], str]()
    for layer in layers:
        folded = _folded(layer, makers, counts, outputs) if layer.op == "add" else None
        if folded is None:
            found.append(layer)
            continue
        source, slopes, conv = folded
        key = source, np.round(slopes, 5).astype(np.float32).tobytes()
        unit = conv.kernel == 1 and conv.bias is None
        if unit and np.allclose(cast(Array, conv.weight), 1, rtol=0, atol=SAME):
            found.append(Layer("prelu", (source,), layer.top, slopes=slopes))
            continue
        if key not in prelus:
            prelus[key] = f"{layer.top}/prelu"
            found.append(Layer("prelu", (source,), prelus[key], slopes=slopes))
        found.append(replace(conv, inputs=(prelus[key],), top=layer.top))
    return found


def _folded(
    layer: Layer, makers: dict[str, Layer], counts: dict[str, int], outputs: set[str]
) -> Optional[tuple[str, Array, Layer]]:
    """(x, s, the convolution) of an addition that stands for one over a PReLU, else None."""
    over, through = (makers.get(blob) for blob in layer.inputs)
    if over is None or through is None or any(counts[b] > 1 or b in outputs for b in layer.inputs):
        return None
    relu = makers.get(over.inputs[0])
    if not (
        over.op == through.op == "conv"
        and over.depthwise
        and through.depthwise
        and relu is not None
        and relu.op == "prelu"
        and not np.any(cast(Array, relu.slopes))
        and relu.inputs == through.inputs
        and through.bias is None
        and [over.kernel, over.stride, over.pad, over.dilate]
        == [through.kernel, through.stride, through.pad, through.dilate]
    ):
        return None
    first, second = (cast(Array, one.weight).astype(np.float64) for one in (over, through))
    weight = first + second
    flat = weight.reshape(len(weight), -1)
    most = np.abs(flat).argmax(axis=1)
    place = np.arange(len(flat)), most
    largest = flat[place]
    shares = second.reshape(flat.shape)
    slopes = np.divide(shares[place], largest, out=np.ones(len(flat)), where=largest != 0)
    parts = np.abs(first).reshape(flat.shape) + np.abs(shares)
    off = np.abs(shares - slopes[:, None] * flat)
    if np.any(off > SAME * parts.max(axis=1, keepdims=True)):
        return None
    return through.inputs[0], slopes, replace(over, weight=weight)


def _needed(layers: list[Layer], outputs: set[str]) -> list[Layer]:
    wanted, found = set(outputs), list[Layer]()
    for layer in reversed(layers):
        if layer.top in wanted:
            wanted.update(layer.inputs)
            found.append(layer)
    return found[::-1]


def _joined(layers: list[Layer], outputs: set[str]) -> list[Layer]:
    """PReLUs within the convolutions that alone they read."""
    counts, found, at = _readers(layers), list[Layer](), dict[str, int]()
    for layer in layers:
        place = at.get(layer.inputs[0])
        if (
            layer.op == "prelu"
            and place is not None
            and found[place].op == "conv"
            and found[place].slopes is None
            and counts[layer.inputs[0]] == 1
            and layer.inputs[0] not in outputs
        ):
            found[place] = replace(found[place], slopes=layer.slopes, top=layer.top)
            at[layer.top] = place
        else:
            at[layer.top] = len(found)
            found.append(layer)
    return found


def describe(model: bytes, facts: dict[str, Any]) -> bytes:
    """The description of the net in an ONNX model with these facts (facelet.onnx_net). Raises
    Unsupported."""
    try:
        return _described(model, facts)
    except (IndexError, KeyError, TypeError, ValueError, struct.error) as error:
        raise Unsupported(f"a model not as core.export writes it ({error!r})") from None


def _described(model: bytes, facts: dict[str, Any]) -> bytes:
    size, stride = facts["input"]["size"], facts["stride"] or 0
    reader = _Reader(model, size)
    tops = {task: reader.flat.get(blob, blob) for task, blob in facts["outputs"].items()}
    if not set(tops) <= set(TASKS):
        raise Unsupported(f"outputs {', '.join(tops)}")
    outputs = set(tops.values())
    layers = _needed(_whole_prelus(_needed(reader.layers, outputs), outputs), outputs)
    layers = _joined(layers, outputs)
    places = {"data": 0, **{layer.top: place for place, layer in enumerate(layers, 1)}}
    points = (facts["points"] or 0) if "landmark" in tops else 0
    parts = [
        _int32(size, stride, points, len(layers)),
        _int32(*(places[tops[task]] if task in tops else -1 for task in TASKS)),
    ]
    for layer in layers:
        if len(layer.inputs) > MOST_INPUTS:
            raise Unsupported(f"{len(layer.inputs)} blobs that are joined")
        inputs = [places[blob] for blob in layer.inputs]
        channels = reader.shapes[layer.top][0] if layer.weight is None else len(layer.weight)
        parts.append(
            _int32(
                OPERATIONS.index(layer.op),
                len(inputs),
                *(inputs + [0] * MOST_INPUTS)[:MOST_INPUTS],
                channels,
                layer.kernel,
                layer.stride,
                layer.pad,
                layer.dilate,
                layer.depthwise,
                layer.slopes is not None,
            )
        )
        if layer.weight is not None:
            bias = np.zeros(channels) if layer.bias is None else layer.bias
            parts += [_float32(layer.weight), _float32(bias)]
        if layer.slopes is not None:
            parts.append(_float32(layer.slopes))
    body = b"".join(parts)
    return MAGIC + struct.pack("<I", zlib.crc32(body)) + body


def _int32(*values: int) -> bytes:
    return struct.pack(f"<{len(values)}i", *values)


def _float32(values: Array) -> bytes:
    """Numbers below the smallest ordinary float32 as 0, which the library takes them for: not every
    processor, and no browser, can be told to."""
    floats = np.ascontiguousarray(values, "<f4")
    return np.where(np.abs(floats) < np.finfo(np.float32).tiny, np.float32(0), floats).tobytes()

"""Examination of ncnn's files."""

from collections import Counter

import numpy as np

from core.doctor.report import counted
from facelet.files import text_lines

# How weights are stored, as the u32 before them says, and the bytes of one; sizes are rounded up to
# whole words. Any other number but 0 stands for an index of a byte each into a table of 256.
FLOAT32, FLOAT16, INT8, RAW = 0, 0x01306B47, 0x000D4B38, 0x0002C056
BYTES = {FLOAT32: 4, FLOAT16: 2, INT8: 1, RAW: 4}
TABLE = 256 * 4
# Layers with parameters: the numbers of the settings that hold how many weights and outputs there
# are, and whether there are biases. A PReLU has slopes alone.
WEIGHTED = {"Convolution": (6, 0, 5), "ConvolutionDepthWise": (6, 0, 5), "InnerProduct": (2, 0, 1)}
PLAIN = {  # layers without
    *("Input", "Split", "ReLU", "Pooling", "BinaryOp", "Concat", "Flatten", "Softmax", "Sigmoid"),
    *("Dropout", "Reshape", "Permute", "Eltwise", "Slice", "Crop", "Noop", "Interp"),
}


def _layers(path):
    """The layers in the text of a net: lists of words; None where it is damaged."""
    lines = [line.split() for line in text_lines(path.read_bytes().decode("utf-8-sig", "replace"))]
    lines = [words for words in lines if words]
    try:
        count, layers = int(lines[1][0]), lines[2:]
        # type, name, how many blobs are read and made, those, settings
        if count != len(layers) or any(
            min(int(words[2]), int(words[3])) < 0
            or len(words) < 4 + int(words[2]) + int(words[3])
            or not all("=" in word for word in words[4 + int(words[2]) + int(words[3]) :])
            for words in layers
        ):
            return None
    except (IndexError, ValueError):
        return None
    return layers


def _settings(words):
    """{number: value} of a layer, whole numbers alone."""
    found = {}
    for word in words[4 + int(words[2]) + int(words[3]) :]:
        key, _, value = word.partition("=")
        try:
            found[int(key)] = int(value)
        except ValueError:  # a float, an array: none that counts parameters
            continue
    return found


def _broken(data, stored):
    """Whether some numbers, stored so, are none."""
    kinds = {FLOAT32: "<f4", RAW: "<f4", FLOAT16: "<f2"}
    if stored not in kinds or len(data) % 4:
        return False
    return not np.isfinite(np.frombuffer(data, kinds[stored])).all()


def _against(layers, data):
    """What speaks against the numbers (bytes) of a net being those of its layers, in words; None
    for nothing, or where a layer is of a kind that isn't known here."""
    at, broken = 0, False
    for words in layers:
        kind, settings = words[0], _settings(words)
        if kind == "PReLU":
            begin, at = at, at + 4 * settings.get(0, 0)
            broken |= _broken(data[begin:at], FLOAT32)
        elif kind in WEIGHTED:
            weights, outputs, bias = (settings.get(key, 0) for key in WEIGHTED[kind])
            if len(data) < at + 4:
                return f"it ends before the weights of {words[1]}"
            stored = int.from_bytes(data[at : at + 4], "little")
            size = weights * BYTES.get(stored, 1) + (0 if stored in BYTES else TABLE)
            begin, at = at + 4, at + 4 + -(-size // 4) * 4
            broken |= _broken(data[begin:at], stored)
            begin, at = at, at + (4 * outputs if bias else 0)
            broken |= _broken(data[begin:at], FLOAT32)
            if stored == INT8 or settings.get(8, 0):  # scales follow, in several forms
                return None
        elif kind not in PLAIN:
            return None
        if len(data) < at:
            return f"it ends within the parameters of {words[1]}"
    if len(data) != at:
        return f"it has {len(data):,} bytes, the layers in its text take {at:,}"
    return "it holds NaN or infinite numbers" if broken else None


def _report_numbers(report, layers, numbers):
    wrong = _against(layers, numbers.read_bytes())
    if wrong:
        report.damage(f"{numbers.name}: {wrong}: copy or export both files anew")


def ncnn_text(report):
    """Examine the text of an ncnn net, with its numbers if they are beside it."""
    path = report.path
    layers = _layers(path)
    if layers is None:
        report.damage("a damaged net's text of ncnn: copy or export it anew")
        return
    bottoms = [words[4 : 4 + int(words[2])] for words in layers]
    tops = [words[4 + int(words[2]) :][: int(words[3])] for words in layers]
    kinds = Counter(words[0] for words in layers)
    report.title = f"{path}: the text of an ncnn net, {len(layers)} layers ({counted(kinds)})"
    read = {blob for blobs in bottoms for blob in blobs}
    report.fact(
        "input",
        ", ".join(
            blob for words, blobs in zip(layers, tops) if words[0] == "Input" for blob in blobs
        ),
    )
    report.fact("output", ", ".join(blob for blobs in tops for blob in blobs if blob not in read))
    numbers = path.with_suffix(".bin")
    if numbers.is_file():
        report.fact("numbers", f"{numbers.name}, {numbers.stat().st_size:,} bytes")
        _report_numbers(report, layers, numbers)
    else:
        report.warn(f"{numbers.name}, its numbers, is not beside it")


def ncnn_numbers(report):
    """Examine the numbers of an ncnn net, by its text."""
    text = report.path.with_suffix(".param")
    report.title = (
        f"{report.path}: {report.path.stat().st_size:,} bytes, the numbers of the ncnn net in "
        f"{text.name}"
    )
    layers = _layers(text)
    if layers is None:
        report.damage(f"{text.name} is damaged: what these numbers are, nothing tells")
    else:
        _report_numbers(report, layers, report.path)

"""Nets in 8-bit integers, by onnxruntime's static quantisation, and what that costs in precision.

The fast form (core.formats.fuse.fast) is quantised, and of it the inner convolutions over
all channels and fully connected layers: those hold nearly all of the parameters. The first layer,
the depthwise ones and the heads stay in float32. Quantised as well, they made the mean error of
train-mtcnn's released Pnet20, Rnet and Onet three to eight times as large, and the nets slower.

Weights get 7 bits: processors without VNNI instructions add up products of 8-bit values in 16 bits,
which overflow.
"""

import contextlib
import logging
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np

from core.formats import numpy_net
from facelet import isolated
from facelet import picture as pictures
from facelet.console import Problem
from symbols.graph import DATA

PICTURES, CROPS = 256, 512  # at most, at least; one half calibrates, the other measures
NAMED = 10  # pictures that can't be read
BATCH = 8  # of calibration: bounds its memory
TIMED_BATCH, TIMED_SIDE, ROUNDS, SECONDS = 64, 320, 15, 0.02


def crops(folder, size, seed=0):
    """Squares of random place and size out of random pictures of a folder, as inputs of a net of
    `size` pixels: two arrays (N, 3, size, size) float32, of different pictures. The same for a
    seed. Raises Problem where fewer than two pictures can be read."""
    rng = np.random.default_rng(seed)
    if not Path(folder).is_dir():
        raise Problem(f"{folder} is no folder: give one that holds pictures")
    paths = pictures.in_folder(folder)
    paths = [paths[i] for i in rng.permutation(len(paths))[:PICTURES]]
    halves, skipped = ([], []), []
    for path in paths:
        try:
            picture = isolated.read(path)
        except pictures.BrokenPicture as error:
            skipped.append(str(error))
            continue
        halves[0].append([_crop(picture, size, rng) for _ in range(-(-CROPS // len(paths)))])
        halves = halves[::-1]  # the next picture is the other half's
    for reason in skipped[:NAMED]:
        print(f"  skipped {reason}")
    if skipped:
        print(f"  skipped {len(skipped):,} of {len(paths):,} pictures: they calibrate nothing")
    if not all(halves):
        reason = f"; {skipped[0]}" if skipped else ""
        raise Problem(
            f"{folder} has fewer than two pictures that can be read, one to calibrate "
            f"with and one to measure with{reason}"
        )
    return [pictures.to_input(np.concatenate(half)) for half in halves]


def _crop(picture, size, rng):
    height, width = picture.shape[:2]
    longest = min(height, width)
    side = int(np.exp(rng.uniform(np.log(min(size, longest)), np.log(longest))))
    left, top = (int(rng.integers(0, length - side + 1)) for length in (width, height))
    return pictures.crop(picture, (left, top, left + side, top + side), size)


def inner_layers(graph):
    """Names of the layers that are quantised."""
    feeding, names = set(), []  # blobs that a convolution or fully connected layer depends on
    for node in reversed(graph.nodes):
        weighted = node.op in ("conv", "dense")
        if weighted and node.top in feeding and not node.depthwise and DATA not in node.inputs:
            names.append(node.name)
        if weighted or node.top in feeding:
            feeding.update(node.inputs)
    return names


def quantized(model, layers, calibration):
    """A model in which some layers compute in 8 bits.

    model -- bytes of an ONNX model; layers -- names of those layers
    calibration -- inputs (N, 3, H, W) float32 that show the range of each blob

    Returns the bytes of the new model, with the metadata of the old one.
    """
    from onnxruntime import quantization

    class Batches(quantization.CalibrationDataReader):
        def __init__(self):
            self.batches = [
                {DATA: calibration[i : i + BATCH]} for i in range(0, len(calibration), BATCH)
            ]
            self.set_range(0, len(self))

        def __len__(self):
            return len(self.batches)

        def set_range(self, start_index, end_index):
            self.left = iter(self.batches[start_index:end_index])

        def get_next(self):
            return next(self.left, None)

    with tempfile.TemporaryDirectory() as folder, _quiet():
        before, path = Path(folder) / "float32.onnx", Path(folder) / "int8.onnx"
        before.write_bytes(model)
        quantization.quantize_static(
            before,
            path,
            Batches(),
            nodes_to_quantize=layers,
            per_channel=True,
            reduce_range=True,
            quant_format=quantization.QuantFormat.QDQ,
            activation_type=quantization.QuantType.QUInt8,
            weight_type=quantization.QuantType.QInt8,
            calibrate_method=quantization.CalibrationMethod.MinMax,
            extra_options={"CalibStridedMinMax": 1},
        )  # batch by batch, not all blobs at once
        return path.read_bytes()


@contextlib.contextmanager
def _quiet():
    """Without onnxruntime's advice to have the model optimised first, which ours are."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(before)


def differences(net, expected, data):
    """(mean, largest) difference by task between what two nets, functions of an input, give."""
    batches = [data[i : i + BATCH] for i in range(0, len(data), BATCH)]
    pairs = [(net(batch), expected(batch)) for batch in batches]
    gaps = {
        task: np.abs(np.concatenate([ours[task] - theirs[task] for ours, theirs in pairs]))
        for task in pairs[0][0]
    }
    return {task: (float(gap.mean()), float(gap.max())) for task, gap in gaps.items()}


def time_ratio(net, other, data, any_size):
    """Time that a net takes as a multiple of another's: medians of runs that alternate,
    on a batch of `data`, or on one larger picture where any size will do."""
    data = numpy_net.seeded_input(TIMED_SIDE, 1) if any_size else data[:TIMED_BATCH]

    def seconds(net):
        runs, start = 0, time.perf_counter()
        while True:
            net(data)
            runs, spent = runs + 1, time.perf_counter() - start
            if spent >= SECONDS:
                return spent / runs

    pairs = [(seconds(net), seconds(other)) for _ in range(ROUNDS)]
    return statistics.median(pair[0] for pair in pairs) / statistics.median(
        pair[1] for pair in pairs
    )

"""ZQCNN's pairs of files: their layout, and which two files belong together.

core.formats.zqcnn_writer writes them, core.formats.zqcnn_reader reads them.

NAME.zqparams is a text with a layer a line; NAME.nchwbin holds the numbers of all layers in the
order of the lines, little-endian float32, with nothing between them and nothing to say whose they
are: a word wrong in the text, and every later layer has another's numbers. A batch norm's eps is
in its variance.

    Input name=data C=3 H=24 W=24
    Convolution name=conv1 bottom=data top=conv1 num_output=32 kernel_H=2 kernel_W=2 ... bias
    PReLU name=prelu1 bottom=conv1 top=conv1

Layers run in the order of the lines; a `top` that is also the layer's `bottom` takes its place.
"""

from pathlib import Path

import numpy as np

TEXT, NUMBERS = ".zqparams", ".nchwbin"
FLOAT = np.dtype("<f4")

# What the numbers of a layer are, in their order. The last is there only where the line says
# `bias`, save that of PReLU.
TENSORS = {
    "Convolution": ("weight", "bias"),
    "DepthwiseConvolution": ("weight", "bias"),
    "InnerProduct": ("weight", "bias"),
    "PReLU": ("gamma",),
    "BatchNormScale": ("moving_mean", "moving_var", "gamma", "beta"),
}
OPTIONAL = ("bias", "beta")

# What ZQCNN's own MTCNN classes do as they load a net: values below this become 0, before and
# after merging; variances are at least that.
ZEROED, LEAST_VARIANCE = 1e-9, 1e-32


def files(path, numbers=None):
    """Paths of the text and the numbers of a pair, for either of them or their stem; `numbers` are
    those, where their stem is another."""
    stem = str(path)
    for suffix in (TEXT, NUMBERS):
        stem = stem[: -len(suffix)] if stem.endswith(suffix) else stem
    return Path(stem + TEXT), Path(numbers or stem + NUMBERS)


def pair(path):
    """As files(). In ZQCNN's own model folder det1.zqparams goes with det1_bgr.nchwbin: where a
    file has no partner of its own stem, one whose stem is longer by _ and a word is taken."""
    text, numbers = files(path)
    texts, others = (sorted(path.parent.glob(f"*{path.suffix}")) for path in (text, numbers))
    if not numbers.exists():
        numbers = next(
            (other for other in others if other.stem.startswith(f"{text.stem}_")), numbers
        )
    if not text.exists():
        text = next((other for other in texts if numbers.stem.startswith(f"{other.stem}_")), text)
    return text, numbers


def is_pair(path):
    """Whether a path is a file of ZQCNN's or the stem of a pair."""
    return Path(path).suffix in (TEXT, NUMBERS) or files(path)[0].is_file()

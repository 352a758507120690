"""How pictures are made into inputs, and how faces are detected: each default, once."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from math import isfinite
from numbers import Real
from typing import Any, Callable

from facelet.console import Problem

MAX_PIXELS = 100_000_000  # width x height of a picture, or of a video's frames, that is decoded
MAX_PIXELS_VARIABLE = (
    "FACELET_MAX_PIXELS"  # the environment's: workers that are started get it as well
)
MAX_SECONDS = 60.0  # that a decoder may take over one picture, or over a frame of a video
MAX_SECONDS_VARIABLE = "FACELET_MAX_SECONDS"
OUTSIDE_VARIABLE = "FACELET_OUTSIDE"
MEAN, SCALE = 127.5, 1 / 128  # picture to input: a BGR value -> (value - mean) * scale
# What a net's facts say of its input where it is made like this.
INPUT = {"order": "BGR", "layout": "NCHW", "mean": MEAN, "scale": SCALE}

_THREE = "three numbers from 0 to 1, for Pnet,Rnet,Onet"


def _three(values: Sequence[float]) -> bool:
    return len(values) == 3 and all(0 <= value <= 1 for value in values)


# What a value must be, beside a number: a test, and the same in words.
LIMITS: dict[str, tuple[Callable[[Any], bool], str]] = {
    "min_face": (lambda value: value >= 1, "at least 1"),
    "factor": (lambda value: 0.1 <= value <= 0.95, "from 0.1 to 0.95"),
    "thresholds": (_three, _THREE),
    "nms_scale": (lambda value: 0 <= value <= 1, "from 0 to 1"),
    "nms": (_three, _THREE),
    "vote": (lambda value: 0 < value <= 1, "over 0, up to 1"),
    "mirror": (lambda value: value in (False, True), "True or False"),
    "blend": (lambda value: 0 <= value < 1, "from 0 to below 1"),
}


def max_pixels() -> int:
    """The most pixels that a picture is decoded with, see allow_pixels()."""
    text = os.environ.get(MAX_PIXELS_VARIABLE, "")
    return int(text) if text.isdecimal() else MAX_PIXELS


def allow_pixels(pixels: int) -> None:
    """Let pictures have so many pixels from now on, in this process and those that it starts: the
    environment's variable FACELET_MAX_PIXELS. Raises Problem for a number that can't be."""
    if pixels < 1:
        raise Problem(f"max_pixels is {pixels}: it must be at least 1")
    os.environ[MAX_PIXELS_VARIABLE] = str(pixels)


def max_seconds() -> float:
    """The most seconds that a decoder may take over one picture, see allow_seconds()."""
    try:
        seconds = float(os.environ[MAX_SECONDS_VARIABLE])
    except (KeyError, ValueError):
        return MAX_SECONDS
    return seconds if isfinite(seconds) and seconds > 0 else MAX_SECONDS


def allow_seconds(seconds: float) -> None:
    """Let decoders take so many seconds over a picture from now on, in this process and those that
    it starts: the environment's variable FACELET_MAX_SECONDS. Raises Problem for a number that
    can't be."""
    if not (isfinite(seconds) and seconds > 0):
        raise Problem(f"max_seconds is {seconds}: it must be more than 0")
    os.environ[MAX_SECONDS_VARIABLE] = str(seconds)


def outside() -> bool:
    """Whether files of data may name files outside of their folders, see allow_outside()."""
    return os.environ.get(OUTSIDE_VARIABLE) == "1"


def allow_outside(allowed: bool) -> None:
    """Let lists and manifests name files to read that lie outside of the folders that their paths
    are relative to, or not, from now on, in this process and those that it starts: the
    environment's variable FACELET_OUTSIDE."""
    os.environ[OUTSIDE_VARIABLE] = "1" if allowed else "0"


@dataclass(frozen=True)
class Settings:
    """How faces are detected. Raises Problem for a value that can't be.

    min_face -- smallest face to detect, px: the larger, the faster
    factor -- between the scales of the pyramid
    thresholds -- scores from which a Pnet, Rnet and Onet keep a box
    nms_scale -- greatest IoU of two of a Pnet's windows within a scale
    nms -- greatest overlap of two boxes after Pnet, Rnet (IoU), and Onet (over the smaller box)
    vote -- a face's box is the mean, weighted by score, of the Onet's boxes with this IoU with the
        best of them; 1: the best alone
    mirror -- whether the Onet sees each crop mirrored as well; scores and boxes are means of both
    blend -- weight b of the Rnet in the last score, Onet^(1 - b) Rnet^b
    """

    min_face: float = 20
    factor: float = 0.709
    thresholds: tuple[float, ...] = (0.5, 0.5, 0.7)
    nms_scale: float = 0.5
    nms: tuple[float, ...] = (0.7, 0.7, 0.7)
    vote: float = 1.0
    mirror: bool = False
    blend: float = 0.0

    def __post_init__(self) -> None:
        for name in ("thresholds", "nms"):
            given = getattr(self, name)
            try:
                object.__setattr__(self, name, tuple(float(value) for value in given))
            except (TypeError, ValueError):
                raise Problem(f"{name} is {given!r}: it must be {_THREE}") from None
        for name, (holds, words) in LIMITS.items():
            value = getattr(self, name)
            numbers = value if isinstance(value, tuple) else (value,)
            if not all(isinstance(one, Real) and isfinite(one) for one in numbers):
                raise Problem(
                    f"{name} is {value!r}: it must be "
                    + ("a number" if len(numbers) == 1 else words)
                )
            if not holds(value):
                raise Problem(f"{name} is {value}: it must be {words}")


@dataclass(frozen=True)
class Smoothing:
    """Cut-off frequencies of the low-pass filters on points in videos, Hz (facelet.smooth).

    still -- for a point that does not move; moving -- what a speed of a box's side a second adds;
    change -- for that speed
    """

    still: float = 1.0
    moving: float = 10.0
    change: float = 1.0

"""The cascade compiled: the nets of a FaceDetector, and all rules around them, in one call of a C
library.

    engine.h, net.c, cascade.c, kernels.c -- the library; nets run row by row, so that no map leaves
        the first caches; one source for all processors
    build.py -- compiles it, when the package is installed or the toolkit set up
    description.py -- an ONNX model as the library reads nets
    library.py -- the library through ctypes

facelet.cascade and facelet.detector say the same in NumPy, and are what runs where there is no
library.
"""

import logging
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Optional

import numpy as np

from facelet.arrays import Array, Pixels
from facelet.console import Problem
from facelet.engine import library
from facelet.engine.description import Unsupported, describe
from facelet.engine.library import CNet, EngineError, Scratch
from facelet.nets import Net
from facelet.onnx_net import OnnxNet
from facelet.settings import Settings

__all__ = [
    "Engine",
    "EngineError",
    "KINDS",
    "SOURCE",
    "TOO_LARGE",
    "Unsupported",
    "build",  # noqa: F822, a module that runs as a program: not imported here
    "describe",
    "engine_for",
    "library",
]

SOURCE = Path(__file__).resolve().parent  # the folder of the C files
KINDS = ("auto", "c", "onnxruntime")
TOO_LARGE = 2  # the library's code for a picture that it does not take

_log = logging.getLogger("facelet")


@cache  # once a process
def _say(line: str) -> None:
    _log.warning(line)


class Engine:
    """The nets of a detector in the library. Several threads may use it at once.

    nets -- by stage, "pnet" and those of "rnet", "onet" and "landmark" that there are
    instructions -- one of facelet.engine.library.instructions(); None: the best
    threads -- that work on a picture

    Raises Unsupported, EngineError; Problem without a library.
    """

    def __init__(
        self, nets: Mapping[str, Net], instructions: Optional[str] = None, threads: int = 1
    ) -> None:
        lib = library.library()
        if lib is None:
            raise Problem(
                "the engine is not compiled (its library is missing, or of another version): "
                "python -m facelet.engine.build"
            )
        self._library, self._nets, self._free = lib, dict[str, CNet](), list[Scratch]()
        self.made_of, self._threads = dict(nets), threads
        self._cascade = library.Cascade()
        for stage, net in nets.items():
            if not isinstance(net, OnnxNet):
                raise Unsupported(f"{net.name} is not run from an ONNX model")
            try:
                self._nets[stage] = CNet(lib, describe(net.model, net.facts), instructions)
            except Unsupported as problem:
                raise Unsupported(f"{net.name}: {problem}") from None
            setattr(self._cascade, stage, self._nets[stage].handle)
        nothing = np.zeros((1, 1, 3), np.uint8)
        self.detect(nothing, Settings())  # raises where nets don't go together

    def detect(
        self,
        picture: Pixels,
        settings: Settings,
        landmark_crop: tuple[float, float] = (0, 0),
        box_points: bool = True,
    ) -> dict[str, Optional[Array]]:
        """boxes, scores, windows and landmarks, as in Faces, in a picture uint8 (H, W, 3) BGR.

        landmark_crop -- side and place of the squares that the net for landmarks is run on
            (facelet.detector.landmark_crop); (0, 0): around the boxes as they are
        box_points -- whether points of the last net for boxes are wanted

        Raises EngineError.
        """
        values = library.CSettings(
            settings.min_face,
            settings.factor,
            settings.thresholds,
            settings.nms_scale,
            settings.nms,
            settings.vote,
            settings.blend,
            *landmark_crop,
            settings.mirror,
            box_points,
            self._threads,
        )
        try:
            scratch = self._free.pop()
        except IndexError:
            scratch = Scratch(self._library)
        try:
            return library.detect(self._library, self._cascade, scratch, picture, values)
        finally:
            self._free.append(scratch)


def engine_for(nets: Mapping[str, Net], kind: str, threads: int = 1) -> Optional[Engine]:
    """The Engine of a kind, one of KINDS, for nets, on so many threads; None where they run on
    onnxruntime: for "auto" with a line in the log "facelet" that says why. Raises Problem for "c"
    where it can't be."""
    if kind not in KINDS:
        raise Problem(f"engine is {kind!r}: it must be one of {', '.join(KINDS)}")
    if kind == "onnxruntime":
        return None
    try:
        return Engine(nets, threads=threads)
    except (Problem, Unsupported, EngineError) as problem:
        if kind == "c":
            raise Problem(f"the engine can't run these nets: {problem}") from None
        if all(isinstance(net, OnnxNet) for net in nets.values()):
            _say(f"running on onnxruntime, several times slower: {problem}")
        return None

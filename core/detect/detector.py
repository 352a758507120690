"""The detector of facelet, also for checkpoints as they are."""

import inspect
from functools import partial

from core.detect import nets
from facelet import detector
from facelet.detector import as_stage
from facelet.nets import MODELS


def _as(base):
    """For a function that takes what `base` does and a backend: a signature that says so, which
    help() shows, and the same docstring."""
    kind = inspect.Parameter.KEYWORD_ONLY
    backend = inspect.Parameter("backend", kind, default=nets.BACKENDS[0], annotation=str)
    signature = inspect.signature(base)

    def decorate(function):
        function.__doc__ = base.__doc__
        function.__signature__ = signature.replace(
            parameters=[*signature.parameters.values(), backend]
        )
        return function

    return decorate


class FaceDetector(detector.FaceDetector):
    __doc__ = (
        detector.FaceDetector.__doc__.rstrip()
        + """

    Here, nets may be .params files and runs' folders as well:

    backend -- "onnxruntime", or "mxnet" for .params files run by MXNet, in one thread at a time
    """
    )

    @_as(detector.FaceDetector.__init__)
    def __init__(self, *args, backend=nets.BACKENDS[0], **options):
        self._backend = backend
        super().__init__(*args, **options)

    @classmethod
    @_as(detector.FaceDetector.open.__func__)  # type: ignore[attr-defined]
    def open(cls, folder=MODELS, *, backend=nets.BACKENDS[0], **options):
        options["backend"] = backend
        return cls._from_folder(folder, options, partial(nets.in_folder, backend=backend))

    def _open_net(self, path, threads):
        return nets.open_net(path, self._backend, threads)


def open_stage(stage, path, backend=nets.BACKENDS[0], threads=1):
    """The net in a file (core.detect.nets.open_net) if it can be the stage "pnet", "rnet", "onet"
    or "landmark". Raises Problem."""
    return as_stage(stage, nets.open_net(path, backend, threads))

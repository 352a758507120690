"""The detector of facelet, also for checkpoints as they are."""

from core.detect import nets
from facelet import detector
from facelet.detector import as_stage
from facelet.nets import MODELS


class FaceDetector(detector.FaceDetector):
    """As facelet.FaceDetector; its nets may be .params files and runs' folders as well.

    backend -- "onnxruntime", or "mxnet" for .params files run by MXNet
    """

    def __init__(
        self,
        pnet,
        rnet=None,
        onet=None,
        landmark=None,
        *,
        threads=1,
        backend="onnxruntime",
        **options,
    ):
        given = {"pnet": pnet, "rnet": rnet, "onet": onet, "landmark": landmark}
        super().__init__(
            **{
                stage: open_stage(stage, path, backend, threads)
                for stage, path in given.items()
                if path is not None
            },
            threads=threads,
            **options,
        )

    @classmethod
    def open(cls, folder=MODELS, **options):
        """The detector whose nets are in a folder, see core.detect.nets.in_folder; without one, the
        trained one that comes with the toolkit. `options` are those of the class; they go before
        what the folder says. Raises Problem."""
        paths, settings = nets.in_folder(
            folder,
            detector.not_looked_for(options),
            options.get("backend", "onnxruntime"),
            options.get("points"),
        )
        return cls(**{**settings, **options, **paths})


def open_stage(stage, path, backend="onnxruntime", threads=1):
    """The net in a file (core.detect.nets.open_net) if it can be the stage "pnet", "rnet", "onet"
    or "landmark". Raises Problem."""
    return as_stage(stage, nets.open_net(path, backend, threads))

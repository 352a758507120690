"""Faces in pictures, folders, videos and from a camera: facelet.program, also for checkpoints."""

from core.base import options
from core.detect.detector import FaceDetector
from core.detect.nets import BACKENDS
from facelet import program
from facelet.console import program as run


def main(argv):
    parser = program.options("python -m core.detect", "ONNX models of core.export or .params files")
    parser.add_argument(
        "--backend", choices=BACKENDS, default=BACKENDS[0], help=f"default {BACKENDS[0]}"
    )
    program.execute(options.parse(parser, argv, settings=False), FaceDetector, ["backend"])


if __name__ == "__main__":
    run(main)

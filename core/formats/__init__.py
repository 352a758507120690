"""Nets as files and as graphs: checkpoints, ONNX, ncnn and ZQCNN, how a graph is rewritten, and how
a foreign net becomes one of the zoo."""

__all__ = [
    "checkpoint",
    "conversion",
    "fuse",
    "ncnn_file",
    "numpy_net",
    "onnx_file",
    "params_file",
    "quantize",
    "zqcnn_file",
    "zqcnn_reader",
    "zqcnn_writer",
]

"""Nets as files and as graphs: checkpoints, ONNX, ncnn, ZQCNN, and what is done to a graph between."""

__all__ = [
    "checkpoint",
    "fuse",
    "ncnn_file",
    "numpy_net",
    "onnx_file",
    "params_file",
    "quantize",
    "zqcnn_file",
]

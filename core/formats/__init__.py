"""Nets as files and as graphs: checkpoints, ONNX, ncnn, ZQCNN, C source, how a graph is
rewritten, and how a foreign net becomes one of the zoo."""

__all__ = [
    "c_source",
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

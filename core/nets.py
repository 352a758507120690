"""Nets ready to run, from files of any kind: a function of data (N, 3, H, W) float32 giving
outputs by task, with `facts` (core.checkpoint.facts and the outputs' names), `tasks` and `name`."""
from pathlib import Path

from core.console import Problem
from core.onnx_backend import OnnxNet

BACKENDS = ("onnxruntime", "mxnet")


def open_net(path, backend="onnxruntime", threads=1):
    """The net in an ONNX model of core.export, a .params file or the newest of a run's folder.

    With onnxruntime it gets its fast form (core.fuse.split_prelu, face_score): of the
    probabilities there is the face's alone, the last either way. Raises Problem.
    """
    if backend not in BACKENDS:
        raise Problem(f"backend is {backend!r}: it must be one of {', '.join(BACKENDS)}")
    path = Path(path)
    if path.suffix == ".onnx":
        if backend == "mxnet":
            raise Problem(f"{path} is an ONNX model: MXNet runs .params files")
        return _fast_onnx(path, threads)
    from core import checkpoint
    loaded = checkpoint.load(path)
    if backend == "mxnet":
        from core.mxnet_backend import MxNet
        return MxNet(loaded, name=str(path))
    from core import fuse
    return _fast(fuse.prepared(loaded.graph(), loaded.spec.size), loaded.facts(), threads, path)


def _fast_onnx(path, threads):
    net = OnnxNet(path, threads)
    try:
        import onnx
    except ImportError:  # it runs without, only slower
        return net
    made = onnx.load(path)
    if not any(layer.op_type == "PRelu" for layer in made.graph.node):
        return net  # exported in the fast form, or quantised
    from core import onnx_file
    return _fast(*onnx_file.read(made, path), threads, path)


def _fast(graph, facts, threads, path):
    from core import fuse, onnx_file
    from symbols.graph import shapes
    size = facts["input"]["size"]
    graph = fuse.face_score(fuse.split_prelu(graph, size))
    made = onnx_file.model(graph, facts, shapes(graph, size, size))
    return OnnxNet(made.SerializeToString(), threads, name=path)

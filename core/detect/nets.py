"""Nets ready to run from files of any kind, checkpoints among them, as facelet.nets has them."""

import re
from pathlib import Path

from core.formats import checkpoint, fuse, onnx_file
from facelet import nets
from facelet.console import Problem
from facelet.onnx_net import OnnxNet
from symbols.graph import shapes

BACKENDS = ("onnxruntime", "mxnet")


def open_net(path, backend="onnxruntime", threads=1):
    """The net in an ONNX model of core.export, a .params file or the newest of a run's folder.

    With onnxruntime it gets its fast form (core.formats.fuse.fast). Raises Problem.
    """
    if backend not in BACKENDS:
        raise Problem(f"backend is {backend!r}: it must be one of {', '.join(BACKENDS)}")
    path = Path(path)
    if path.suffix == ".onnx":
        if backend == "mxnet":
            raise Problem(f"{path} is an ONNX model: MXNet runs .params files")
        return _fast_onnx(path, threads)
    if path.suffix in (".zqparams", ".nchwbin"):
        raise Problem(f"{path} is a file of ZQCNN's: convert it first, with python -m core.convert")
    loaded = checkpoint.load(path)
    if backend == "mxnet":
        from core.detect.mxnet_net import MxNet  # MXNet takes its time, and is not always there

        return MxNet(loaded, name=str(path))
    return _fast(fuse.prepared(loaded.graph(), loaded.spec.size), loaded.facts(), threads, path)


def file_of(path):
    """The file that open_net opens: `path`, or the newest checkpoint of a run's folder. Raises
    Problem."""
    return checkpoint.newest(path) if Path(path).is_dir() else Path(path)


def _fast_onnx(path, threads):
    import onnx  # it takes a while to import

    net = OnnxNet(path, threads)
    model = onnx.load(path, load_external_data=False)
    on_maps = {value.name for value in model.graph.initializer if len(value.dims) == 3}
    if not any(
        layer.op_type == "PRelu" and layer.input[1] in on_maps for layer in model.graph.node
    ):
        return net  # exported in the fast form, or quantised
    return _fast(*onnx_file.read(model, path), threads, path)


def _fast(graph, facts, threads, path):
    size = facts["input"]["size"]
    graph = fuse.fast(graph, size)
    made = onnx_file.model(graph, facts, shapes(graph, size, size))
    return OnnxNet(made.SerializeToString(), threads, name=path)


def in_folder(folder, given=(), backend="onnxruntime", points=None, mode=None):
    """The nets of a detector in a folder, (paths by stage, settings), as facelet.nets.in_folder,
    of ONNX models and .params files: of files of one net an ONNX model goes before a checkpoint,
    that before an int8 model, and the newest epoch is taken.

    backend -- as for open_net, ONNX models being none of MXNet's

    Raises Problem.
    """

    def listing(folder):
        files = [
            (path, nets.CHECKPOINT, checkpoint.load(path).facts())
            for path in newest_of_each(folder.glob("*.params"))
        ]
        models, others = nets.onnx_models(folder) if backend == "onnxruntime" else ([], [])
        return files + models, others

    return nets.in_folder(folder, given, points, listing, mode)


def newest_of_each(files):
    """Of .params files NAME-0016.params the last epoch of each NAME, a list; others as they are."""
    last = {}
    for path in sorted(files):
        name, _, epoch = path.stem.rpartition("-")
        if not re.fullmatch(r"\d{4,}", epoch):
            name, epoch = path.stem, -1
        last[name] = max(last.get(name, (-1, path)), (int(epoch), path))
    return [path for _, path in last.values()]

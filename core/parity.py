"""How far every export of a net is from MXNet, in every engine: a table.

    python -m core.parity
    python -m core.parity 'Pnet20_*' runs/p20 --engines merged onnx ncnn

Nets of the zoo get seeded weights, in which every kind of parameter counts; checkpoints have their
own. Compared is with MXNet running the net as it was trained, in single precision. A figure is the
largest difference as a part of the largest value of that output.
"""

import argparse
import contextlib
import ctypes
import os
import sys
import tempfile
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Callable

import cv2
import numpy as np

from core.base import options
from core.export import FORMATS, Source, description, in_engine, onnx_bytes, onnx_net, opened
from core.formats import checkpoint as checkpoints
from core.formats import numpy_net
from facelet.console import Problem, program
from facelet.files import to_json
from symbols import zoo

LIMIT = 1e-5
SEED = 1
MNN_WINOGRAD = 3  # number of a hint to MNN, whose Python package has no name for it


def _exported(name, form="ready"):
    """A format of core.export in its engine."""

    def run(source, stem, data):
        FORMATS[name].write(source, getattr(source, form), stem)
        return FORMATS[name].run(source, stem)(data)

    return run


def _engine(source, stem, data):
    return in_engine(description(onnx_net(onnx_bytes(source, source.fast))))(data)


def _opencv(source, stem, data):
    model = np.frombuffer(onnx_bytes(source, source.ready), np.uint8)
    net = cv2.dnn.readNetFromONNX(model)
    net.enableWinograd(False)  # as with MNN: convolutions that are faster and less precise
    net.setInput(data, "data")
    return dict(zip(source.ready.outputs, net.forward(list(source.ready.outputs.values()))))


def _openvino(source, stem, data):
    # By itself the package reports its use to Google Analytics.
    sys.modules.setdefault("openvino_telemetry", None)
    import openvino

    core = openvino.Core()
    net = core.compile_model(
        core.read_model(onnx_bytes(source, source.ready)),
        "CPU",
        {"INFERENCE_PRECISION_HINT": "f32"},
    )
    results = net({"data": data})
    return {task: results[blob] for task, blob in source.ready.outputs.items()}


def _mnn(source, stem, data):
    blobs = source.ready.outputs
    with _silent():
        # Its converter without the package MNN.tools, which installs software and reports its use
        # when it is imported.
        import MNN
        from _tools import mnnconvert

        Path(f"{stem}.onnx").write_bytes(onnx_bytes(source, source.ready))
        mnnconvert(
            [
                "mnnconvert",
                "-f",
                "ONNX",
                "--modelFile",
                f"{stem}.onnx",
                "--MNNModel",
                f"{stem}.mnn",
                "--bizCode",
                "net",
            ]
        )
        runtime = MNN.nn.create_runtime_manager(
            ({"backend": "CPU", "numThread": 1, "precision": "high"},)
        )
        runtime.set_hint(MNN_WINOGRAD, 0)
        net = MNN.nn.load_module_from_file(
            f"{stem}.mnn", ["data"], list(blobs.values()), runtime_manager=runtime
        )
        made = net.forward([MNN.expr.const(data, list(data.shape), MNN.expr.NCHW)])
        return {
            task: np.array(MNN.expr.convert(blob, MNN.expr.NCHW).read())
            for task, blob in zip(blobs, made)
        }


@contextlib.contextmanager
def _silent():
    """Without what native code prints."""
    flush = ctypes.CDLL(None).fflush
    sys.stdout.flush()
    flush(None)
    saved, nowhere = [os.dup(1), os.dup(2)], os.open(os.devnull, os.O_WRONLY)
    for stream in (1, 2):
        os.dup2(nowhere, stream)
    try:
        yield
    finally:
        flush(None)
        for stream, before in zip((1, 2), saved):
            os.dup2(before, stream)
            os.close(before)
        os.close(nowhere)


@dataclass(frozen=True)
class Engine:
    run: Callable  # of a Source, a stem for files and an input, giving outputs by task
    package: str = "numpy"
    module: str = "numpy"
    limit: float = LIMIT


ENGINES = {
    "merged": Engine(lambda source, stem, data: numpy_net.run(source.ready, data)),
    "onnx": Engine(_exported("onnx"), "onnxruntime", "onnxruntime"),
    "split": Engine(_exported("onnx", "fast"), "onnxruntime", "onnxruntime"),
    "c": Engine(_engine, "onnxruntime", "onnxruntime"),
    "opencv": Engine(_opencv, "opencv-python-headless", "cv2"),
    "mnn": Engine(_mnn, "mnn", "MNN"),
    "openvino": Engine(_openvino, "openvino", "openvino"),
    "ncnn": Engine(_exported("ncnn"), "ncnn", "ncnn", FORMATS["ncnn"].limit),
    "zqcnn": Engine(_exported("zqcnn")),
}
ABOUT = (
    "merged: batch norms merged, activations rescaled, in NumPy; onnx, split: onnxruntime, "
    "plain and with PReLUs split; c: facelet/engine, which core.export writes as C source; opencv, "
    "mnn, openvino: from the plain ONNX, the first two without Winograd's "
    "convolutions; ncnn: in single precision; zqcnn: the files read back, in NumPy"
)


def seeded(net, options):
    """A Checkpoint of a net of the zoo in which biases, slopes, shifts and statistics are random
    too."""
    made = checkpoints.initial(net, options, SEED, prelu_slope=0.25)
    rng = np.random.default_rng(SEED)
    for part in (made.arguments, made.auxiliary):
        for name, values in part.items():
            if not name.endswith("_weight"):
                low, high = (0.5, 1.5) if name.endswith(("gamma", "var")) else (-0.3, 0.3)
                part[name] = rng.uniform(low, high, values.shape).astype(np.float32)
    return made


def sources(what):
    """(label, function that makes its Source) of all that `what` names: nets of the zoo, patterns
    of their names, .params files, runs' folders. Raises Problem."""
    for word in what:
        names = zoo.names(word)
        if not names and (Path(word).suffix == ".params" or Path(word).exists()):
            source, path = opened(word)
            yield path.name, lambda source=source: source
            continue
        for name in names or [zoo.spec(word).name]:
            for variant in zoo.variants(name):
                yield checkpoints.describe(name, variant), partial(_seeded_source, name, variant)


def _seeded_source(name, options):
    return Source(seeded(name, options), name)


def compare(source, engines):
    """The difference from MXNet by engine, NaN and a reason by engine where one did not run."""
    from core.detect.mxnet_net import MxNet  # here, so that MXNet missing is one line

    data = numpy_net.seeded_input(source.size)
    expected, found, reasons = MxNet(source.checkpoint)(data), {}, {}
    for name in engines:
        with tempfile.TemporaryDirectory() as folder:
            try:
                results = ENGINES[name].run(source, Path(folder) / "net", data)
                found[name] = numpy_net.difference(results, expected)
            except Exception as error:  # each engine raises classes of its own
                found[name] = float("nan")
                reasons[name] = (str(error).strip() or type(error).__name__).splitlines()[0][:200]
    return found, reasons


def _cells(found, chosen):
    for name in chosen:
        value = found.get(name)
        text = "-" if value is None else "failed" if np.isnan(value) else f"{value:.1e}"
        yield f"{text + _mark(name, value):>10}"


def _mark(name, value):
    return " " if value is None or value <= ENGINES[name].limit else "!"


def table(what, chosen, stream):
    """Print a row a net, as they are done. Returns them: (label, differences by engine), and how
    many are over their limits."""
    makers = list(sources(what))
    width = max(len(label) for label, _ in makers) + 1
    here = [name for name in chosen if find_spec(ENGINES[name].module)]
    print(f"{'':<{width}}" + "".join(f"{name:>9} " for name in chosen), file=stream)
    rows, missed, why = [], 0, []
    for label, make in makers:
        found, reasons = compare(make(), here)
        missed += sum(_mark(name, value) == "!" for name, value in found.items())
        why += [f"{label}, {name}: {reason}" for name, reason in reasons.items()]
        print(f"{label:<{width}}" + "".join(_cells(found, chosen)), file=stream, flush=True)
        rows.append((label, found))
    limits = ", ".join(
        f"{name} {engine.limit:.0e}"
        for name, engine in ENGINES.items()
        if name in here and engine.limit != LIMIT
    )
    print(
        f"\nLargest difference from MXNet; limit {LIMIT:.0e}"
        + (f", {limits}" if limits else "")
        + f"; ! is over it. {ABOUT}",
        file=stream,
    )
    for line in why:
        print(line, file=stream)
    for name in sorted(set(chosen) - set(here)):
        print(f"{name} is not installed here: pip install {ENGINES[name].package}", file=stream)
    return rows, missed


def main(argv):
    parser = argparse.ArgumentParser(
        prog="python -m core.parity",
        description="Every export of a net against MXNet, in every engine that is installed.",
        epilog="Leaves with a status other than 0 when a difference is over its limit.",
    )
    parser.add_argument(
        "nets",
        nargs="*",
        metavar="NAME|FILE",
        help="names of nets of the zoo or patterns of them, .params files, runs' folders "
        "(default: the whole zoo)",
    )
    parser.add_argument(
        "--engines", nargs="+", choices=ENGINES, help="default: all that are installed"
    )
    parser.add_argument(
        "--json", action="store_true", help="print a list of objects; the table goes to stderr"
    )
    args = options.parse(parser, argv, settings=False)
    for name in args.engines or ():
        if not find_spec(ENGINES[name].module):
            raise Problem(f"{name} is not installed here: pip install {ENGINES[name].package}")
    rows, missed = table(
        args.nets or ["*"], args.engines or list(ENGINES), sys.stderr if args.json else sys.stdout
    )
    if args.json:
        print(to_json([{"net": label, **found} for label, found in rows], indent=1))
    if missed:
        raise Problem(f"{missed} differences are over their limits, marked with !")


if __name__ == "__main__":
    program(main)

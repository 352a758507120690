"""Trained nets as files for other engines: ONNX, ncnn, ZQCNN, C source.

    python -m core.export RUN --out DIR
    python -m core.export NET.params --out DIR --format onnx ncnn zqcnn
    python -m core.export models --out DIR --int8 PICTURES
    python -m core.export models --out DIR --format c

Of a folder every net in it is exported, by its newest checkpoint; of a finished run of
core.pipeline, the nets of its detector. Where that folder has a detector.json, DIR gets one that
names the ONNX models, with the same settings, unless there is one in DIR already.

The format c is the whole detector: the engine that FaceDetector runs on and the nets as C source,
facelet.c, facelet.h and nets.c, with an example of a program.

Batch norms are merged (ZQCNN's classes do that themselves) and the scale of activations is evened
out, so that half precision will do as well. ONNX models are in the form that is fast in
onnxruntime, with the same outputs: PReLUs split, sigmoids for the softmax; --plain keeps both as
they were trained. Files are run in their engine and compared with the checkpoint, for several
pictures at a time and, where a net takes pictures of any size, another size too; only then do they
appear, all those of all nets together.
"""

import argparse
import contextlib
import os
import shutil
import sys
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Callable

import numpy as np

from core.base import options
from core.detect.nets import newest_of_each
from core.formats import (
    c_source,
    fuse,
    ncnn_file,
    numpy_net,
    onnx_file,
    quantize,
    zqcnn_reader,
    zqcnn_writer,
)
from core.formats import checkpoint as checkpoints
from core.formats.checkpoint import Checkpoint
from facelet.console import Problem, program
from facelet.detector import landmark_crop
from facelet.engine import Unsupported, describe, library
from facelet.files import known_sums, read_json, sha256, whole_file, write_json
from facelet.locks import locked
from facelet.nets import MANIFEST, MODES, OTHERS, STAGES, included, named, place, read_manifest
from facelet.settings import Settings
from symbols.graph import shapes

C = "c"  # the format that has all nets in the same files
C_LIMIT = 1e-5  # of the difference from the checkpoint, as a part of the largest output
TRIED, ANOTHER_SIZE = 3, (9, 23)  # pictures at a time; pixels added to height and width


@dataclass
class Source:
    """A checkpoint, and what its exports are made of and held against."""

    checkpoint: Checkpoint
    name: str  # in errors

    @property
    def size(self):
        return self.checkpoint.spec.size

    @property
    def any_size(self):
        return self.checkpoint.spec.stride is not None

    @cached_property
    def original(self):
        return self.checkpoint.graph()

    @cached_property
    def ready(self):
        """Merged and rescaled."""
        try:
            return fuse.prepared(self.original, self.size)
        except Problem as problem:
            raise Problem(f"{self.name}: {problem}") from None

    @cached_property
    def fast(self):
        return fuse.fast(self.ready, self.size)

    @cached_property
    def tries(self):
        """Inputs, each with the outputs by task that the checkpoint has for it."""
        inputs = [numpy_net.seeded_input(self.size, TRIED)]
        if self.any_size:
            taller, wider = (self.size + more for more in ANOTHER_SIZE)
            inputs.append(numpy_net.seeded_input(wider, 1)[:, :, :taller])
        return [(data, numpy_net.run(self.original, data)) for data in inputs]

    def difference(self, net, what, limit):
        """How far a net, a function of an input giving outputs by task, is from the checkpoint, as
        a part of the largest output. Raises Problem beyond the limit."""
        try:
            found = np.max(
                [numpy_net.difference(net(data), expected) for data, expected in self.tries]
            )
        except Problem as problem:
            raise Problem(f"{self.name}: {what}: {problem}; nothing is written") from None
        if not found <= limit:
            raise Problem(
                f"{self.name}: {what} differs from it by {found:.1e} of the largest "
                f"output, more than {limit:.0e}: nothing is written"
            )
        return found


def onnx_bytes(source, graph):
    """The ONNX model of a graph that was made from a source."""
    return onnx_file.model(
        graph, source.checkpoint.facts(), shapes(graph, source.size, source.size)
    ).SerializeToString()


def onnx_net(model, name=None):
    """The net in a model, a path or bytes, in onnxruntime."""
    try:
        from facelet.onnx_net import OnnxNet
    except ImportError:
        raise Problem(
            "the package onnxruntime is not installed here: pip install onnxruntime"
        ) from None
    return OnnxNet(model, name=name)


def description(model):
    """What the engine runs of a net of onnx_net(). Raises Problem."""
    try:
        return describe(model.model, model.facts)
    except Unsupported as problem:
        raise Problem(f"{model.name}: the engine can't run it: {problem}") from None


def in_engine(text):
    """The net of a description() in the engine, a function of an input. Raises Problem."""
    lib = library.library()
    if lib is None:
        raise Problem("the engine is not compiled here: python -m facelet.engine.build")
    net, scratch = library.CNet(lib, text), library.Scratch(lib)

    def run(data):
        return net.run(scratch, data)

    return run


def _write_onnx(source, graph, stem):
    with whole_file(f"{stem}.onnx") as part:
        part.write_bytes(onnx_bytes(source, graph))


def _run_ncnn(source, stem):
    blobs = source.ready.outputs
    return lambda data: dict(zip(blobs, ncnn_file.run(stem, data, blobs.values())))


def _run_zqcnn(source, stem):
    graph, _, _ = zqcnn_reader.read(stem)
    return lambda data: numpy_net.run(graph, data)


@dataclass(frozen=True)
class Format:
    write: Callable  # of a Source, a graph for ONNX, and the stem of the files
    run: Callable  # of a Source and the stem: the net, a function of an input
    engine: str
    limit: float  # of the difference from the checkpoint, as a part of the largest output
    outputs: Callable = lambda source: source.ready.outputs  # names of blobs by task


FORMATS = {
    "onnx": Format(_write_onnx, lambda source, stem: onnx_net(f"{stem}.onnx"), "onnxruntime", 1e-5),
    "ncnn": Format(
        lambda source, graph, stem: ncnn_file.write(
            source.ready, None if source.any_size else source.size, stem
        ),
        _run_ncnn,
        "ncnn",
        1e-3,
    ),
    "zqcnn": Format(
        lambda source, graph, stem: zqcnn_writer.write(
            fuse.rescale(source.original), source.size, stem
        ),
        _run_zqcnn,
        "NumPy, read back",
        1e-5,
        lambda source: zqcnn_writer.output_names(source.original, source.size),
    ),
}


def opened(path):
    """The Source in a .params file or the newest of a run's folder, and its path."""
    path = checkpoints.newest(path) if Path(path).is_dir() else Path(path)
    return Source(checkpoints.load(path), str(path)), path


def _is_detector(path):
    """Whether a path stands for one detector: an included one's name, or a manifest."""
    return named(path) is not None or Path(path).suffix == ".json"


def checkpoints_of(path):
    """The .params files that a path stands for: itself; of a folder, or of the detector of a
    finished run, the newest of each net; of an included detector's name or of a manifest, those of
    its nets. Raises Problem."""
    if not _is_detector(path) and not Path(path).is_dir():
        return [Path(path)]
    folder, manifest = place(path)
    found = newest_of_each(folder.glob("*.params")) or [checkpoints.newest(folder)]
    if _is_detector(path):
        nets = {net for stage in _nets_of(manifest)[0].values() for net in _each(stage)}
        found = [file for file in found if checkpoints.load(file).net in nets]
    return found


@contextlib.contextmanager
def _appearing(out):
    """Give a folder whose files move to `out` when the block ends well."""
    there = out.exists()
    out.mkdir(parents=True, exist_ok=True)
    part = out / ".export.part"  # the same each time: a rerun clears what a kill left
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir()
    try:
        yield part
        for file in sorted(part.iterdir()):
            os.replace(file, out / file.name)
    finally:
        shutil.rmtree(part, ignore_errors=True)
        if not there:
            with contextlib.suppress(OSError):  # not empty, as it should be
                out.rmdir()


def export(paths, out, formats=("onnx",), plain=False, pictures=None):
    """Write the nets of checkpoints into the folder `out`, each with NAME.json: what it takes to
    use it.

    paths -- .params files and folders (see checkpoints_of), one or a list
    formats -- of FORMATS; plain -- ONNX with PReLUs and softmax, not in the form that is fast in
        onnxruntime
    pictures -- folder; with it there is NAME-int8.onnx as well (core.formats.quantize)

    Prints a line a file. Raises Problem; nothing is written then.
    """
    paths, out = [paths] if isinstance(paths, (str, Path)) else paths, Path(out)
    with locked(out):
        _export(paths, out, formats, plain, pictures)


def _export(paths, out, formats, plain, pictures):
    sources = [opened(file) for path in paths for file in checkpoints_of(path)]
    files = {}
    for source, path in sources:
        other = files.setdefault(source.checkpoint.net, path)
        if other is not path:
            raise Problem(
                f"two of the checkpoints are {source.checkpoint.net}, {other} and {path}: export "
                "each into a folder of its own"
            )
    known = _named(paths, files) if {"onnx", C} & {*formats} else {}
    each = [name for name in formats if name != C]
    with _appearing(out) as folder:
        lines = []
        for source, path in sources if each or pictures else ():
            lines += _exported(source, path, folder, out, each, plain, pictures)
        for name, one in known.items() if "onnx" in formats else ():
            if (out / name).exists():
                lines.append(f"{out / name} was there already and stays as it is")
            else:
                write_json(folder / name, _manifest(*one))
                lines.append(f"{out / name}")
        if C in formats:
            lines += _c_source(sources, known.get(MANIFEST), folder, out)
    print("\n".join(lines), flush=True)


def _named(paths, exported):
    """What the manifests of the one detector or folder among `paths` that has any say, see
    _nets_of(), by the name that each gets; nothing where several have. Raises Problem where one
    names what is not exported."""
    found = []
    for path in paths:
        if _is_detector(path):
            found.append({MANIFEST: place(path)[1]})
        elif Path(path).is_dir():
            folder, manifest = place(path)
            others = {file.name: file for file in sorted(folder.glob(OTHERS))}
            found.append({**({MANIFEST: manifest} if manifest else {}), **others})
    found = [manifests for manifests in found if manifests]
    known = {}
    for name, manifest in found[0].items() if len(found) == 1 else ():
        known[name] = _nets_of(manifest, exported)
    return known


def _each(nets):
    """The nets of a stage, one or several by number of points, as a list."""
    return list(nets.values()) if isinstance(nets, dict) else [nets]


def _nets_of(manifest, exported=None):
    """Names of nets by stage, for "landmark" perhaps by number of points, and settings, as a
    manifest has them. Raises Problem, also where it names what is not among those exported."""

    def net_of(file):
        path = manifest.parent / file
        checkpoint = path.suffix == ".params"
        net = checkpoints.load(path).net if checkpoint else onnx_net(path).facts["net"]
        if exported is not None and net not in exported:
            raise Problem(
                f"{manifest} names {file}, which holds {net}, and no checkpoint of that is "
                f"exported: give one beside {manifest.parent}, or its .params files one by one"
            )
        return net

    files, settings = read_manifest(manifest)
    return {
        stage: {points: net_of(one) for points, one in file.items()}
        if isinstance(file, dict)
        else net_of(file)
        for stage, file in files.items()
    }, settings


def _manifest(by_stage, settings):
    """The detector.json for ONNX models."""
    return {
        **{
            stage: {points: f"{one}.onnx" for points, one in net.items()}
            if isinstance(net, dict)
            else f"{net}.onnx"
            for stage, net in by_stage.items()
        },
        **settings,
    }


def _c_source(sources, known, folder, out):
    """Write the nets of a detector as C source into a folder, from where it goes to `out`; lines
    that say what was written."""
    stages, settings, lines = {}, {}, []
    if known:
        for stage, nets in known[0].items():
            for net in _each(nets):
                stages[net] = stage
        settings = known[1]
    else:
        for source, _ in sources:
            spec = source.checkpoint.spec
            stages[spec.name] = STAGES.get(spec.family, "")
        twice = [s for s in c_source.STAGES[:3] if list(stages.values()).count(s) > 1]
        if twice:
            raise Problem(
                f"there are several nets for the {twice[0]}: give the .params files of one "
                f"detector, or a folder with a {MANIFEST}"
            )
    included = []
    for source, path in sources:
        net = source.checkpoint.net
        if net not in stages:
            lines.append(f"{path} is not named by {MANIFEST}: left out of nets.c")
            continue
        model = onnx_net(onnx_bytes(source, source.fast), name=path)
        crop = (landmark_crop(model) if stages[net] == "landmark" else None) or (0.0, 0.0)
        points = model.facts["points"] if "landmark" in model.tasks else 0
        included.append(c_source.Included(net, stages[net], points, description(model), crop))
    included.sort(key=lambda net: ([*c_source.STAGES, ""].index(net.stage), net.points))
    modes = {"": {}, **settings.pop(MODES, {})}
    c_source.write(
        folder, included, {name: Settings(**{**settings, **more}) for name, more in modes.items()}
    )
    written = c_source.descriptions(folder / "nets.c")
    for source, path in sources:
        net = source.checkpoint.net
        if net in written:
            found = source.difference(in_engine(written[net]), "what is written in C", C_LIMIT)
            lines.append(
                f"{net} of {path}: {len(written[net]):,} bytes, differs from the checkpoint by "
                f"{found:.1e} (the engine)"
            )
    for name in c_source.EXAMPLES:
        if (out / name).exists():
            (folder / name).unlink()
            lines.append(f"  {out / name} was there already and stays as it is")
    used = [(source, path) for source, path in sources if source.checkpoint.net in written]
    write_json(
        folder / c_source.MANIFEST,
        {
            "nets": {net.name: net.stage or None for net in included},
            "modes": {name: {**settings, **more} for name, more in modes.items()},
            "checkpoints": {
                source.checkpoint.net: {"file": path.name, "sha256": sha256(path)}
                for source, path in used
            },
            "checksums": {name: sha256(folder / name) for name in c_source.SOURCE},
        },
    )
    for name in (*c_source.SOURCE, *c_source.EXAMPLES, c_source.MANIFEST):
        if (folder / name).exists():
            lines.append(f"  {out / name}  {(folder / name).stat().st_size:,} bytes")
    return lines


def _exported(source, path, folder, out, formats, plain, pictures):
    """Write a net into a folder, from where it goes to `out`; lines that say what was written."""
    net, others = source.checkpoint.net, {*folder.iterdir()}
    before, after = (
        numpy_net.largest_activation(graph, source.tries[0][0])
        for graph in (source.original, source.ready)
    )
    lines = [
        f"{net} of {path}: largest activation {before:.3g}, in the files {after:.3g}"
        + (", too large for half precision" if after > fuse.HALF_LARGEST else "")
    ]
    beside, sums = _beside(out / f"{net}.json", path, formats)
    outputs, stem = {}, folder / net
    for name in formats:
        kind, there = FORMATS[name], set(folder.iterdir())
        kind.write(source, source.ready if plain else source.fast, stem)
        found = source.difference(kind.run(source, stem), f"what is written for {name}", kind.limit)
        outputs[name] = dict(kind.outputs(source))
        for file in sorted(set(folder.iterdir()) - there):
            lines.append(
                f"  {out / file.name}  {file.stat().st_size:,} bytes, differs from "
                f"the checkpoint by {found:.1e} ({kind.engine})"
            )
    if pictures:
        lines += _int8(source, folder / f"{net}-int8.onnx", out, pictures)
    write_json(
        folder / f"{net}.json",
        {
            **source.checkpoint.facts(),
            "outputs": {**beside, **outputs},
            "checkpoint": {"file": path.name, "sha256": sha256(path)},
            "checksums": {
                **sums,
                **{file.name: sha256(file) for file in sorted({*folder.iterdir()} - others)},
            },
        },
    )
    return [*lines, f"  {out / net}.json"]


def _beside(facts, path, formats):
    """Outputs by format of files that an earlier export has left, as its NAME.json says, and that
    stay; checksums of all that it left. Raises Problem where they come from another checkpoint than
    that at `path`."""
    if not facts.exists():
        return {}, {}
    before = read_json(facts)
    if not isinstance(before, dict) or not all(
        isinstance(before.get(key), dict) for key in ("outputs", "checkpoint")
    ):
        raise Problem(f"{facts} is no file of core.export's: choose another folder")
    staying = {name: blobs for name, blobs in before["outputs"].items() if name not in formats}
    if staying and before["checkpoint"].get("sha256") != sha256(path):
        raise Problem(
            f"{facts.parent} holds {', '.join(staying)} files of {facts.stem} from "
            f"another checkpoint, {before['checkpoint'].get('file')}: choose another "
            "folder, or export those formats too"
        )
    return staying, known_sums(before, facts)


def _int8(source, path, out, pictures):
    """Write a net in 8 bits; lines on what that costs."""
    calibration, held_out = quantize.crops(pictures, source.size)
    float_model = onnx_bytes(source, source.fast)
    model = quantize.quantized(float_model, quantize.inner_layers(source.fast), calibration)
    with whole_file(path) as part:
        part.write_bytes(model)
    nets = onnx_net(model, path.name), onnx_net(float_model, f"{source.name} in ONNX")
    gaps = quantize.differences(*nets, held_out)
    ratio = quantize.time_ratio(*nets, held_out, source.any_size)
    yield (
        f"  {out / path.name}  {len(model):,} bytes, {len(model) / len(float_model):.2f} times "
        f"those of the same net in float32; time {ratio:.2f} times (one thread)"
    )
    for task, (mean, largest) in gaps.items():
        yield (
            f"    {task} differs from float32 by {mean:.4f} on average, {largest:.3f} at most, "
            f"over {len(held_out)} crops of pictures not calibrated with"
        )


def main(argv):
    parser = argparse.ArgumentParser(
        prog="python -m core.export",
        description="Trained nets as ONNX models, as files for ncnn and ZQCNN, as C source.",
        epilog="Files are run in their engine and compared with the checkpoint before any appears.",
    )
    parser.add_argument(
        "checkpoints",
        nargs="+",
        metavar="CHECKPOINT",
        help="a .params file; a folder, of which every net is exported: a training run, a folder "
        "of nets, a finished run of core.pipeline; or an included detector: "
        + ", ".join(included()),
    )
    parser.add_argument("--out", required=True, help="folder for the files")
    parser.add_argument(
        "--format",
        nargs="+",
        default=["onnx"],
        choices=[*FORMATS, C],
        help="default: onnx; c is a whole detector as C source",
    )
    parser.add_argument(
        "--plain",
        action="store_true",
        help="ONNX with PReLUs and softmax as they were trained, which is several times slower in "
        "onnxruntime (other engines may have a PReLU that is faster)",
    )
    parser.add_argument("--split-prelu", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument(
        "--int8",
        metavar="PICTURES",
        help="an ONNX model in 8-bit integers too, calibrated with a folder's "
        "pictures; says what that costs",
    )
    args = options.parse(parser, argv, settings=False)
    for flag, name in ((args.plain, "--plain"), (args.split_prelu, "--split-prelu")):
        if flag and "onnx" not in args.format:
            raise Problem(f"{name} is a form of the ONNX model: it goes with --format onnx")
    if args.split_prelu and args.plain:
        raise Problem("--plain and --split-prelu are two forms of the ONNX model: give one")
    if args.split_prelu:
        print(
            "note: core.export splits PReLUs without --split-prelu too; the option will go",
            file=sys.stderr,
        )
    export(args.checkpoints, args.out, args.format, args.plain, args.int8)


if __name__ == "__main__":
    program(main)

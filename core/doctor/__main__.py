"""What a file is, which net it holds, and what is odd about it.

    python -m core.doctor FILE...

Told apart are MXNet's .params files and symbols, manifests, ZQCNN's pairs, ONNX models and ncnn's
texts. A line that begins with ! is something to know of a file that works; "wrong" is damage. The
exit status is 2 where any file is wrong, missing or of no known kind.
"""

import argparse
from collections import Counter
from pathlib import Path

import numpy as np

from core.formats import checkpoint as checkpoints
from core.formats import fuse, ncnn_file, numpy_net, onnx_file, params_file, zqcnn_file
from core.formats.checkpoint import Checkpoint, describe
from facelet import schemes
from facelet.console import Problem, describe_os_error, program
from facelet.files import read_json, sha256
from facelet.nets import MANIFEST
from symbols import graph as graphs

RESCALE = "python -m core.convert --rescale mends that; core.export does it by itself"
EXPORT = "export it anew with core.export, which mends that"
ANY_SIDE = 64  # of a picture for nets that take any, pixels
SHOWN = 3  # names in a line

OTHER_KINDS = {  # what files begin with
    b"\xff\xd8\xff": "a JPEG picture",
    b"\x89PNG": "a PNG picture",
    b"BM": "a BMP picture",
    b"PK\x03\x04": "a ZIP archive",
    b"\x1f\x8b": "a gzip archive",
    b"\x93NUMPY": "a NumPy array",
}


class Report:
    """What is said of one file: its kind, then facts, a table of values, oddities and damage, a
    line each."""

    def __init__(self, path):
        self.path, self.title = path, None
        self.facts, self.table, self.oddities, self.damages = [], [], [], []

    def fact(self, about, text):
        self.facts.append(f"  {about:<13}{text}")

    def odd(self, text):
        self.oddities.append(f"  ! {text}")

    def damage(self, problem):
        if self.title is None:  # then this is all there is to say
            named = str(problem).startswith(str(self.path))
            self.title = str(problem) if named else f"{self.path}: {problem}"
            problem = None
        self.damages.append(problem)

    def lines(self):
        """What is to be printed. What came out of the file, names for one, is shown in characters
        that any terminal has."""
        wrong = (f"  wrong: {problem}" for problem in self.damages if problem)
        for line in (self.title, *self.facts, *self.table, *self.oddities, *wrong):
            yield "".join(c if c.isprintable() else ascii(c)[1:-1] for c in line)


def _some(names):
    """A few names of several."""
    names = list(names)
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more


def _counted(kinds):
    """A Counter as text."""
    return ", ".join(f"{count} {kind}" for kind, count in kinds.most_common())


# ---- values --------------------------------------------------------------------------------

KINDS = {
    "weight": "weights",
    "bias": "biases",
    "beta": "bn beta",
    "mean": "bn mean",
    "var": "bn variance",
}
PRELU, GAMMA = "PReLU slope", "bn gamma"


def by_kind(arrays):
    """Arrays by name as {kind: {name: values}}, going by the names; values (n,) float64."""
    found = {}
    for name, values in arrays.items():
        stem, _, end = name.rpartition("_")
        kind = KINDS.get(end, "others")
        if end == "gamma":
            kind = GAMMA if f"{stem}_moving_var" in arrays else PRELU
        found.setdefault(kind, {})[name] = np.asarray(values, np.float64).ravel()
    order = ["weights", "biases", PRELU, GAMMA, *KINDS.values(), "others"]
    return {kind: found[kind] for kind in sorted(found, key=order.index)}


def _table(report, kinds):
    report.table.append(
        f"  {'':<13}{'arrays':>6}{'values':>11}{'zeros':>9}{'smallest':>11}"
        f"{'largest':>11}{'NaN, inf':>10}"
    )
    for kind, arrays in kinds.items():
        values = np.concatenate(list(arrays.values()))
        finite = np.abs(values[np.isfinite(values)])
        sizes = finite[finite > 0]
        least, most = (f"{pick(sizes):.2g}" if sizes.size else "-" for pick in (np.min, np.max))
        report.table.append(
            f"  {kind:<13}{len(arrays):>6}{values.size:>11,}"
            f"{finite.size - sizes.size:>9,}{least:>11}{most:>11}"
            f"{values.size - finite.size:>10,}"
        )


def _look_at_values(report, arrays):
    """A table of the arrays (name: values) of a net, and what is odd about them."""
    kinds = by_kind(arrays)
    _table(report, kinds)
    everything = {name: values for part in kinds.values() for name, values in part.items()}
    broken = [name for name, values in everything.items() if not np.isfinite(values).all()]
    if broken:
        report.damage(
            f"NaN or infinite values in {_some(broken)}: the net gives nothing of use; "
            "take another epoch, or copy the file anew"
        )
    zero = {
        kind: [name for name, values in part.items() if values.size and not values.any()]
        for kind, part in kinds.items()
    }
    dead = zero.get("weights", []) + zero.get(GAMMA, [])
    if dead:
        report.odd(
            f"all zero: {_some(dead)}: what comes out of such a layer has nothing to do "
            "with the picture; train again or take another epoch"
        )
    shifts = [kind for kind in ("biases", "bn beta", "bn mean") if kind in kinds]
    if shifts and all(len(zero[kind]) == len(kinds[kind]) for kind in shifts):
        report.odd(f"all {' and '.join(shifts)} are zero, as before training: train it first")
    negative = {
        name: values.min()
        for name, values in kinds.get("bn variance", {}).items()
        if values.min() < 0
    }
    if negative:
        report.odd(
            f"negative variances, down to {min(negative.values()):.2g}, in "
            f"{_some(negative)}: training gives none; what is below -{graphs.BN_EPS:g} "
            "makes NaN of every result, so take another epoch"
        )
    slopes = {
        name.rpartition("_")[0]: values
        for name, values in kinds.get(PRELU, {}).items()
        if values.min() < 0 or values.max() > 1
    }
    if slopes:
        least, most = (pick(pick(values) for values in slopes.values()) for pick in (min, max))
        follows = (
            ": an engine that takes PReLU for max(x, slope x) gets it wrong" if most > 1 else ""
        )
        report.fact(
            "slopes",
            f"of PReLUs from {least:.3g} to {most:.3g}, outside 0 to 1, in "
            f"{_some(slopes)}{follows}",
        )


def _look_at_net(report, graph, size, remedy=RESCALE):
    """Run a graph with its parameters: what comes of its values. `size` is the side of its input,
    `remedy` what to do about values too large or small."""
    with np.errstate(all="ignore"):
        try:
            graphs.shapes(graph, size, size)
            most = numpy_net.largest_activation(graph, numpy_net.seeded_input(size))
            merged = fuse.merge(graph)
        except Problem as problem:
            report.damage(f"on a picture of noise, {problem}")
            return
    report.fact("activations", f"up to {most:.3g} on a picture of noise")
    if most > fuse.HALF_LARGEST:
        report.odd(
            f"activations over {fuse.HALF_LARGEST:,}: infinite in float16, as phones and "
            f"GPUs run nets; {remedy}"
        )
    lost, layers = 0, []
    for name, values in merged.params.items():
        sizes = np.abs(values)
        # What is small beside the others of its layer is no loss.
        small = (sizes > 1e-4 * sizes.max()) & (sizes < zqcnn_file.ZEROED)
        if name.endswith("_weight") and small.any():
            lost += int(small.sum())
            layers.append(name.rpartition("_")[0])
    if lost:
        report.odd(
            f"{lost:,} weights below {zqcnn_file.ZEROED:g} once batch norms are merged, in "
            f"{_some(layers)}: engines such as ZQCNN take them for 0; {remedy}"
        )


# ---- checkpoints ---------------------------------------------------------------------------


def _points(report, points, scheme, guess=None):
    """The landmark points, if any, and their order: said, guessed or unknown."""
    if not points:
        return
    if scheme and scheme == schemes.usual(points):
        order = ""
    elif scheme:
        order = f", order {scheme!r}"
    elif guess:
        order = f", order {guess!r}: a guess, from the mirror symmetry of its mean face"
    else:
        order = ", in an order that is not said"
    report.fact("points", f"{points}{order}")


def _net_of(report, made, others=()):
    """What is said of any Checkpoint."""
    others = [describe(*fit) for fit in others if fit != (made.net, made.options)]
    also = f"; {_some(others)} would fit too: say which one it is" if others else ""
    report.fact(
        "net",
        f"{describe(made.net, made.options)}, {made.spec.size} x {made.spec.size} pixels{also}",
    )
    facts = made.facts()
    _points(report, facts["points"], facts["scheme"], made.guessed_scheme())


def _params(report):
    path, made = report.path, None
    arguments, auxiliary = checkpoints.read_params(path)
    report.title = (
        f"{path}: an MXNet checkpoint, {len(arguments)} arrays with "
        f"{sum(values.size for values in arguments.values()):,} parameters, "
        f"{len(auxiliary)} of moving means and variances"
    )
    manifest, fitting = path.with_suffix(".json"), checkpoints.nets_that_fit(arguments, auxiliary)
    try:
        if manifest.exists():
            made = checkpoints.load(path)
        elif fitting:
            net, options = fitting[0]
            made = checkpoints.load(path, net, **options)
    except Problem as problem:
        report.damage(problem)
    if made:
        _net_of(report, made, () if "net" in made.manifest else fitting)
    else:
        report.fact(
            "net",
            f"it fits {', '.join(describe(*fit) for fit in fitting)}"
            if fitting
            else "none of the zoo",
        )
    said = checkpoints.named(path)
    if said and fitting and said not in [net for net, _ in fitting]:
        report.odd(
            f"the file's name says {said}, its content is {fitting[0][0]}: go by the content"
        )
    if not manifest.exists():
        report.fact("manifest", "none beside it")
    elif made:
        report.fact(
            "manifest",
            manifest.name
            + (", which holds its hash" if "sha256" in made.manifest else ", without a hash"),
        )
    _look_at_values(report, {**arguments, **auxiliary})
    if made and not report.damages:
        _look_at_net(report, made.graph(), made.spec.size)


def _about_a_net(report):
    """JSON of this toolkit: a checkpoint's manifest, a run's configuration, what core.export says
    of its files."""
    path = report.path
    manifest = checkpoints.read_manifest(path)
    made = Checkpoint(manifest["net"], manifest["options"], {}, {}, manifest)
    graphs.describe(made.net, **made.options)  # raises Problem where these don't go together
    of_checkpoint = "params" in manifest
    kind = (
        "a checkpoint's manifest"
        if of_checkpoint
        else "what core.export says of its files"
        if "outputs" in manifest
        else "the configuration of a run"
    )
    report.title = f"{path}: {kind}, {describe(made.net, made.options)}"
    facts = made.facts()
    _points(report, facts["points"], facts["scheme"])
    if not of_checkpoint:
        return
    params = path.with_suffix(".params")
    if not params.is_file():
        report.odd(f"{params.name} is not beside it: the two belong together")
    elif manifest.get("sha256") not in (None, sha256(params)):
        report.damage(
            f"{params.name} is not the file that it was written for: its content has changed since"
        )
    else:
        report.fact(
            "parameters",
            params.name
            + (
                ", whose hash it holds" if "sha256" in manifest else ", whose hash it does not hold"
            ),
        )


LAYERS = {"Convolution": "conv", "FullyConnected": "dense", "BatchNorm": "bn", "LeakyReLU": "prelu"}


def _side(text):
    """The side in (3,3), MXNet's way to write a size."""
    sides = {int(part) for part in text.strip("()").split(",")}
    return sides.pop() if len(sides) == 1 else None


def _layer(node):
    """(kind, channels, kernel, stride, pad) of a symbol's node that has parameters."""
    kind, given = LAYERS[node["op"]], checkpoints.attributes(node)
    if kind not in ("conv", "dense"):
        return kind, 0, 1, 1, 0
    return (
        kind,
        int(given["num_filter" if kind == "conv" else "num_hidden"]),
        _side(given.get("kernel", "1")),
        _side(given.get("stride", "1")),
        _side(given.get("pad", "0")),
    )


def _symbol(report, symbol):
    path = report.path
    try:
        layers = {node["name"]: _layer(node) for node in symbol["nodes"] if node["op"] in LAYERS}
        norms = [
            checkpoints.batch_norm(node) for node in symbol["nodes"] if node["op"] == "BatchNorm"
        ]
        kinds = Counter(node["op"] for node in symbol["nodes"] if node["op"] in LAYERS)
        # enough of the parameters for their widths: no array is made
        wide = {
            name: np.broadcast_to(np.float32(0), (about[1], 1, 1, 1))
            for layer, about in layers.items()
            for name in (f"{layer}_weight", f"{layer}_bias")
        }
    except (AttributeError, KeyError, OverflowError, TypeError, ValueError):
        report.damage(
            f"{path} is a damaged MXNet symbol: copy it anew, or save it with the "
            "checkpoint that it belongs to"
        )
        return
    report.title = (
        f"{path}: an MXNet symbol, {len(layers)} layers with parameters ({_counted(kinds)})"
    )
    fitting = checkpoints.plainest(
        (net, options)
        for net, options in checkpoints.candidates(wide)
        if layers
        == {
            node.name: (node.op, node.channels, node.kernel, node.stride, node.pad)
            for node in graphs.describe(net, **options).nodes
            if node.op in LAYERS.values()
        }
    )
    report.fact("net", " or ".join(describe(*fit) for fit in fitting) or "none of the zoo")
    fixed = [name for name, fix_gamma, _ in norms if fix_gamma]
    if fixed:
        report.odd(
            f"fix_gamma in {_some(fixed)}: the gammas in the .params file count as 1 there, "
            "and core.formats.checkpoint takes them so as long as this file stands beside it"
        )
    other = sorted({eps for _, _, eps in norms if eps != graphs.BN_EPS})
    if other:
        report.odd(
            f"batch norms with eps {', '.join(map(str, other))} in place of "
            f"{graphs.BN_EPS:g}: core.formats.checkpoint allows for it as long as this file stands "
            "beside the .params file"
        )


def _detector(report):
    from core.detect import nets
    from facelet.nets import points_in

    paths, settings = nets.in_folder(report.path.parent)
    report.title = f"{report.path}: the nets of a detector"
    for stage, path in paths.items():
        report.fact(stage, path.name)
    for points in points_in(report.path.parent):
        found, _ = nets.in_folder(report.path.parent, points=points)
        report.fact(f"{points} points", found["landmark"].name)
    for key, value in settings.items():
        report.fact(key, str(value))


def _json(report):
    if report.path.name == MANIFEST:
        _detector(report)
        return
    value = read_json(report.path)
    if isinstance(value, dict) and "nodes" in value:
        _symbol(report, value)
    elif isinstance(value, dict) and "net" in value and "options" in value:
        _about_a_net(report)
    else:
        report.damage("JSON, but neither a manifest nor an MXNet symbol")


# ---- other formats -------------------------------------------------------------------------


def _zqcnn(report):
    from core import convert

    text, numbers = zqcnn_file.pair(report.path)
    graph, side, remarks = zqcnn_file.read(text, numbers)
    report.title = (
        f"{report.path}: of the ZQCNN pair {text.name} and {numbers.name}, "
        f"{len(graph.nodes)} layers, "
        f"{sum(values.size for values in graph.params.values()):,} numbers"
    )
    size = side or ANY_SIDE
    try:
        made, _, remarks = convert.from_pair(text, numbers)
        size = made.spec.size
        _net_of(report, made)
    except Problem as problem:
        report.fact("net", f"none of the zoo: {problem}")
    report.fact("outputs", ", ".join(graph.outputs))
    _look_at_values(report, graph.params)
    for remark in remarks:
        report.odd(remark)
    if not report.damages:
        _look_at_net(report, graph, size)


def _value(info):
    """An input or output of an ONNX model: its name and shape."""
    sides = [side.dim_param or side.dim_value or "?" for side in info.type.tensor_type.shape.dim]
    return f"{info.name} {' x '.join(map(str, sides))}"


def _onnx(report):
    onnx = onnx_file.package()
    from google.protobuf.message import DecodeError
    from onnx import numpy_helper

    path = report.path
    try:
        made = onnx.load_model_from_string(path.read_bytes())
    except DecodeError:
        made = onnx.ModelProto()
    if not made.graph.node:
        report.damage("no ONNX model, or a damaged one: copy or export it anew")
        return
    report.title = (
        f"{path}: an ONNX model, {len(made.graph.node)} layers ("
        + _counted(Counter(node.op_type for node in made.graph.node))
        + ")"
    )
    weights = {value.name for value in made.graph.initializer}
    report.fact(
        "input", ", ".join(_value(value) for value in made.graph.input if value.name not in weights)
    )
    report.fact("output", ", ".join(map(_value, made.graph.output)))
    from facelet.onnx_net import AnotherModel, OnnxNet

    try:
        facts = OnnxNet(path).facts
    except AnotherModel:
        report.odd(
            "not exported by core.export: what it takes for input, and what its outputs "
            "mean, nothing here can tell; core.detect won't take it"
        )
        return
    except Problem as problem:
        report.damage(problem)
        return
    report.fact(
        "net",
        f"{facts['net']}, {facts['input']['size']} x {facts['input']['size']} "
        f"pixels, BGR, (value - {facts['input']['mean']}) * "
        f"{facts['input']['scale']}",
    )
    _points(report, facts["points"], facts["scheme"])
    _look_at_values(
        report, {value.name: numpy_helper.to_array(value) for value in made.graph.initializer}
    )
    try:
        graph, _ = onnx_file.read(made, path)
    except Problem:  # quantised, or in another form of engines
        return
    if not report.damages:
        _look_at_net(report, graph, facts["input"]["size"], EXPORT)


def _ncnn(report):
    path = report.path
    lines = [line.split() for line in path.read_text(errors="replace").splitlines()]
    lines = [words for words in lines if words]
    try:
        count, layers = int(lines[1][0]), lines[2:]
        bottoms = [words[4 : 4 + int(words[2])] for words in layers]
        tops = [words[4 + int(words[2]) :][: int(words[3])] for words in layers]
    except (IndexError, ValueError):
        count, layers = None, []
    if count != len(layers):
        report.damage("a damaged net's text of ncnn: copy or export it anew")
        return
    kinds = Counter(words[0] for words in layers)
    report.title = f"{path}: the text of an ncnn net, {count} layers ({_counted(kinds)})"
    read = {blob for blobs in bottoms for blob in blobs}
    report.fact(
        "input",
        ", ".join(
            blob for words, blobs in zip(layers, tops) if words[0] == "Input" for blob in blobs
        ),
    )
    report.fact("output", ", ".join(blob for blobs in tops for blob in blobs if blob not in read))
    numbers = path.with_suffix(".bin")
    if numbers.is_file():
        report.fact("numbers", f"{numbers.name}, {numbers.stat().st_size:,} bytes")
    else:
        report.odd(f"{numbers.name}, its numbers, is not beside it")


def _ncnn_numbers(report):
    report.title = (
        f"{report.path}: {report.path.stat().st_size:,} bytes, the numbers of the ncnn "
        f"net in {report.path.with_suffix('.param').name}"
    )


def _unknown(report):
    with open(report.path, "rb") as file:
        head = file.read(16)
    known = next((kind for begins, kind in OTHER_KINDS.items() if head.startswith(begins)), None)
    report.damage(
        f"{known}: no net"
        if known
        else "empty"
        if not head
        else "of no kind known here: no .params file, symbol, manifest, ONNX model, ZQCNN "
        "pair or ncnn text"
    )


def examine(path):
    """The Report of one file (Path); whatever is wrong with it is in there."""
    report = Report(path)
    try:
        if report.path.is_dir():
            report.damage("a folder: give the files in it")
        elif not report.path.exists():
            report.damage("not there")
        else:
            _reader(report.path)(report)
    except Problem as problem:
        report.damage(problem)
    except OSError as error:
        report.damage(describe_os_error(error))
    return report


def _reader(path):
    """What looks at a file, by its content where that tells, else by its name."""
    with open(path, "rb") as file:
        head = file.read(16)
    if head.startswith(params_file.HEADER.to_bytes(8, "little")) or path.suffix == ".params":
        return _params
    if head.startswith(str(ncnn_file.MAGIC).encode()):
        return _ncnn
    if path.suffix == ".bin" and path.with_suffix(".param").is_file():
        return _ncnn_numbers
    if zqcnn_file.is_pair(path):
        return _zqcnn
    if path.suffix == ".onnx":
        return _onnx
    return _json if path.suffix == ".json" or head.lstrip().startswith(b"{") else _unknown


def main(argv):
    parser = argparse.ArgumentParser(
        prog="python -m core.doctor",
        description="What files are, and what is odd about them.",
        epilog="A line with ! is something to know of a file that works. The exit status is 2 "
        "where any file is wrong, missing or of no known kind.",
    )
    parser.add_argument(
        "files",
        nargs="+",
        metavar="FILE",
        help="a .params file, symbol, manifest, ONNX model, ncnn .param, or "
        "either file of a ZQCNN pair",
    )
    args = parser.parse_args(argv)
    # Both files of a pair, as a shell's pattern gives them, are one net.
    files = list(
        {
            zqcnn_file.pair(path) if zqcnn_file.is_pair(path) else path: path
            for path in map(Path, args.files)
        }.values()
    )
    wrong = []
    for path in files:
        report = examine(path)
        print("\n".join(report.lines()))
        if report.damages:
            wrong.append(str(path))
    if wrong:
        raise Problem(
            f"{len(wrong)} of {len(files)} files wrong, missing or of no known kind: {_some(wrong)}"
        )


if __name__ == "__main__":
    program(main)

"""Examination of JSON files: manifests and MXNet's symbols."""

from collections import Counter

import numpy as np

from core.detect import nets
from core.doctor.net_checks import report_points
from core.doctor.report import counted, some
from core.doctor.stores import STORES, report_sums, store
from core.formats import c_source
from core.formats import checkpoint as checkpoints
from core.formats.checkpoint import Checkpoint, describe
from facelet.files import known_sums, read_json, sha256
from facelet.nets import MANIFEST, OTHERS, points_in
from symbols import graph as graphs


def _about_a_net(report):
    """JSON of this toolkit: a manifest, a run's configuration, what core.export says of its
    files."""
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
    report_points(report, facts["points"], facts["scheme"])
    # Not all of them need be there: a net is used without its symbol, states go with the next
    # epoch, and of an export one format may be all that is wanted.
    sums = known_sums(manifest, path)
    report_sums(report, {name: sums[name] for name in sums if (path.parent / name).exists()})
    if not of_checkpoint:
        return
    params = path.with_suffix(".params")
    if not params.is_file():
        report.warn(f"{params.name} is not beside it: the two belong together")
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
        f"{path}: an MXNet symbol, {len(layers)} layers with parameters ({counted(kinds)})"
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
        report.warn(
            f"fix_gamma in {some(fixed)}: the gammas in the .params file count as 1 there, "
            "and core.formats.checkpoint takes them so as long as this file stands beside it"
        )
    other = sorted({eps for _, _, eps in norms if eps != graphs.BN_EPS})
    if other:
        report.warn(
            f"batch norms with eps {', '.join(map(str, other))} in place of "
            f"{graphs.BN_EPS:g}: core.formats.checkpoint allows for it as long as this file stands "
            "beside the .params file"
        )


def _detector(report):
    paths, settings = nets.in_folder(report.path)
    report.title = f"{report.path}: the nets of a detector"
    for stage, path in paths.items():
        report.fact(stage, path.name)
    for points in points_in(report.path):
        found, _ = nets.in_folder(report.path, points=points)
        report.fact(f"{points} points", found["landmark"].name)
    for key, value in settings.items():
        report.fact(key, str(value))


def _c_source(report):
    manifest = read_json(report.path)
    nets = manifest.get("nets") if isinstance(manifest, dict) else None
    if not isinstance(nets, dict) or not isinstance(manifest.get("modes"), dict):
        report.damage("not what core.export says of C source, or damaged: export it anew")
        return
    report.title = f"{report.path}: a detector as C source"
    for net, stage in nets.items():
        report.fact(str(stage or "no stage"), net)
    report.fact("modes", ", ".join(name or "the ordinary one" for name in manifest["modes"]))
    report_sums(report, known_sums(manifest, report.path))


def json_file(report):
    """Examine a JSON file: a manifest of any kind, or a symbol."""
    if report.path.name == MANIFEST or report.path.match(OTHERS):
        _detector(report)
        return
    if report.path.name == c_source.MANIFEST:
        _c_source(report)
        return
    if report.path.name in STORES:
        store(report)
        return
    value = read_json(report.path)
    if isinstance(value, dict) and "nodes" in value:
        _symbol(report, value)
    elif isinstance(value, dict) and "net" in value and "options" in value:
        _about_a_net(report)
    else:
        report.damage("JSON, but neither a manifest nor an MXNet symbol")

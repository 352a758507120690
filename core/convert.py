"""Published nets as checkpoints of the zoo.

    python -m core.convert pnet20_v1-0016.params det3-dw48-plus.zqparams --out DIR
    python -m core.convert det2.zqparams --out DIR    # with its numbers, det2_bgr.nchwbin

A FILE is an MXNet .params file, either file of a ZQCNN pair (NAME.zqparams, NAME.nchwbin), or the
stem of a pair. Which net of the zoo it is, is found by the names and shapes of its parameters.
Nothing is written unless every net gives the values of the one that it was made from.
"""

import argparse
import re
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np

from core.formats import checkpoint as checkpoints
from core.formats import fuse, numpy_net, zqcnn_file
from core.formats.checkpoint import Checkpoint, describe
from facelet.console import Problem, program
from facelet.files import sha256
from symbols import graph as graphs
from symbols import zoo

# The zoo's names of layers in ZQCNN's classic nets that have others, by the name of the head that
# tells the three apart.
CLASSIC = {
    "conv4-1": {"conv4-1": "conv4_1", "conv4-2": "conv4_2", "conv4-3": "conv4_3"},
    "conv5-1": {"conv4": "fc1", "conv5-1": "fc2", "conv5-2": "fc3", "conv5-3": "fc4"},
    "conv6-1": {"conv5": "fc1", "conv6-1": "fc2", "conv6-2": "fc3", "conv6-3": "fc4"},
}


def parameters(graph):
    """(arguments, auxiliary states) of a graph as the zoo has them: batch norms with the zoo's
    eps, layers with its names."""
    names = {node.name for node in graph.nodes}
    renamed = next((table for head, table in CLASSIC.items() if head in names), {})
    arguments, auxiliary = {}, {}
    for node in graph.nodes:
        values = {name[len(node.name) + 1 :]: graph.params[name] for name in node.parameters()}
        if node.op == "bn":
            values["gamma"], values["moving_var"] = graphs.with_zoo_eps(
                values["gamma"], values["moving_var"], node.eps
            )
        for kind, value in values.items():
            part = auxiliary if kind.startswith("moving_") else arguments
            part[f"{renamed.get(node.name, node.name)}_{kind}"] = value
    return arguments, auxiliary


def with_identities(net, options, arguments, auxiliary):
    """Parameters with the batch norms of a net that they lack, because those were merged into the
    layers before them, as identities; biases that the net has not are their shifts.

    Returns (arguments, auxiliary states, names of those batch norms).
    """
    arguments, auxiliary, added = dict(arguments), dict(auxiliary), []
    described = graphs.describe(net, **options)
    makers = {node.top: node for node in described.nodes}
    channels = checkpoints.expected_shapes(net, options)[1]
    for node in described.nodes:
        if node.op != "bn" or any(
            name in arguments or name in auxiliary for name in node.parameters()
        ):
            continue
        source = makers[node.inputs[0]]
        zeros = np.zeros(channels[f"{node.name}_moving_mean"], np.float32)
        shift = zeros if source.bias else arguments.pop(f"{source.name}_bias", zeros)
        arguments.update({f"{node.name}_gamma": zeros + 1, f"{node.name}_beta": shift})
        auxiliary.update(
            {
                f"{node.name}_moving_mean": zeros,
                f"{node.name}_moving_var": zeros + np.float32(1 - graphs.BN_EPS),
            }
        )
        added.append(node.name)
    return arguments, auxiliary, added


def with_still_boxes(net, options, arguments):
    """Arguments with a box head of zeros for a Pnet that has none, as ZQCNN's det1: its offsets are
    0, so windows stay where they are."""
    spec = zoo.spec(net, options.get("landmark", False))
    layers = [head.layer for head in spec.heads if head.task == "bbox" and spec.stride]
    zeros = {
        name: np.zeros(shape, np.float32)
        for name, shape in checkpoints.expected_shapes(net, options)[0].items()
        if name.rpartition("_")[0] in layers
    }
    return {**zeros, **arguments}


def _only(path, fitting):
    """The one net that fits, (net, options), or None. Raises Problem where there are several."""
    if len(fitting) > 1:
        raise Problem(
            f"{path} fits {', '.join(describe(*fit) for fit in fitting)}: say which it "
            "is with --net"
        )
    return fitting[0] if fitting else None


class _Match(NamedTuple):
    """Parameters of a pair held against a net of the zoo."""

    wrong: list  # what doesn't fit
    merged: list  # batch norms that had to be added
    fit: tuple  # (net, options)
    made: tuple  # (arguments, auxiliary states)


def _best(matches):
    """Those without fault, with the fewest batch norms added; of nets that differ by the number of
    points alone those that need not be told it, as core.formats.checkpoint.nets_that_fit."""
    right = [match for match in matches if not match.wrong]
    fewest = min((len(match.merged) for match in right), default=0)
    right = [match for match in right if len(match.merged) == fewest]
    return [match for match in right if "points" not in match.fit[1]] or right


def from_pair(path, numbers=None, net=None):
    """The Checkpoint of a ZQCNN pair, its Graph, and remarks. Raises Problem."""
    graph, _, remarks = zqcnn_file.read(path, numbers)
    (arguments, auxiliary), matches = parameters(graph), []
    for fit in checkpoints.candidates(arguments):
        filled = arguments if "bbox" in graph.outputs else with_still_boxes(*fit, arguments)
        *made, merged = with_identities(*fit, filled, auxiliary)
        matches.append(_Match(checkpoints.differences(*fit, *made), merged, fit, made))
    meant = [match for match in matches if net in (None, match.fit[0])]
    best = _best(meant)
    if not _only(path, [match.fit for match in best]):
        nearest = min(meant, key=lambda match: len(match.wrong))
        about = describe(*nearest.fit)
        lacks = set(graphs.describe(nearest.fit[0], **nearest.fit[1]).outputs) - set(graph.outputs)
        if lacks and not net:
            raise Problem(
                f"{path} has no output for {' and '.join(sorted(lacks))}; {about}, which "
                "it is most like, has: it can't be converted"
            )
        raise checkpoints.misfit(
            path, *nearest.fit, nearest.wrong, [match.fit for match in _best(matches)]
        )
    _, merged, (net, options), made = best[0]
    if set(graphs.describe(net, **options).outputs) - set(graph.outputs):
        remarks.append("it has no box branch: that of the checkpoint gives offsets of 0")
    if merged:
        remarks.append(
            f"batch norms merged away in it, which do nothing now: {len(merged)} ("
            + ", ".join(merged[:4])
            + (" ...)" if len(merged) > 4 else ")")
        )
    order = checkpoints.expected_shapes(net, options)
    return (
        Checkpoint(
            net,
            options,
            *({name: part[name] for name in names} for part, names in zip(made, order)),
        ),
        graph,
        remarks,
    )


def from_params(path, net=None):
    """The Checkpoint of an MXNet .params file, its Graph, and remarks. Raises Problem."""
    if not net and path.with_suffix(".json").exists():
        made = checkpoints.load(path)
    else:
        fitting = checkpoints.nets_that_fit(*checkpoints.read_params(path))
        found, options = _only(path, [fit for fit in fitting if net in (None, fit[0])]) or (net, {})
        made = checkpoints.load(path, found, **options)
    named = checkpoints.named(path) or made.net
    remarks = [] if named == made.net else [f"its name says {named}; it is {made.net}"]
    return made, made.graph(), remarks


def rescaled(made):
    """The Checkpoint with activations of an ordinary size, see core.formats.fuse.rescale."""
    arguments, auxiliary = parameters(fuse.rescale(made.graph()))
    return replace(made, arguments=arguments, auxiliary=auxiliary)


def _guessed_scheme(made):
    """(order of the landmark points, remark), if it can't be known otherwise."""
    points = made.facts()["points"]
    if not points or made.facts()["scheme"]:
        return None, []
    scheme = made.guessed_scheme()
    return scheme, [
        f'its {points} points are in the order "{scheme}": a guess, from the mirror '
        "symmetry of its mean face"
        if scheme
        else f"the order of its {points} points is unknown"
    ]


def convert(path, numbers=None, net=None, rescale=False):
    """Convert one net.

    path, numbers -- file or stem; for a pair, the file of the numbers where its stem is another
    net -- which it is, where several fit
    rescale -- bring its activations to an ordinary size

    Returns (Checkpoint, epoch, what its manifest should say of its origin, lines to show). Raises
    Problem.
    """
    pair = zqcnn_file.is_pair(path)
    files = (
        (Path(path),)
        if not pair
        else (zqcnn_file.files(path, numbers) if numbers else zqcnn_file.pair(path))
    )
    if not pair and not files[0].is_file():
        raise Problem(
            f"{path} is {'a folder' if files[0].is_dir() else 'not there'}: give a "
            ".params file, or a file or the stem of a ZQCNN pair"
        )
    net = zoo.spec(net).name if net else None
    with np.errstate(all="ignore"):  # values too large are found by running the nets
        made, source, remarks = from_pair(*files, net) if pair else from_params(files[0], net)
        size = made.spec.size
        if rescale:
            picture = numpy_net.seeded_input(size)
            before, made = numpy_net.largest_activation(made.graph(), picture), rescaled(made)
            after = numpy_net.largest_activation(made.graph(), picture)
            remarks.append(f"largest activation {before:.3g}, now {after:.3g}")
        made_graph = made.graph()
        made_graph = replace(
            made_graph,
            outputs={
                task: blob for task, blob in made_graph.outputs.items() if task in source.outputs
            },
        )
        difference = zqcnn_file.same(source, made_graph, size, str(files[0]))
    more = {
        key: value
        for key, value in made.manifest.items()
        if key not in ("epoch", "params", "sha256", *made.facts())
    }
    more["source"] = [{"file": file.name, "sha256": sha256(file)} for file in files]
    scheme, said = _guessed_scheme(made)
    if scheme:
        made.manifest["scheme"] = scheme
        more["scheme_from"] = "mirror symmetry of the mean face"
    epoch = re.search(r"-(\d{4,8})$", files[0].stem)
    return (
        made,
        int(epoch[1]) if epoch else 0,
        more,
        [
            f"{files[0].name} is {describe(made.net, made.options)}; the checkpoint differs from it by "
            f"{difference:.1e} of the largest output",
            *remarks,
            *said,
        ],
    )


def _refuse_if_there(folder, made, epoch):
    symbol, params, manifest = checkpoints.paths(folder, made.net, epoch)
    there = [path for path in (params, manifest) if path.exists()]
    if symbol.exists() and symbol.read_bytes() != made.symbol().tojson().encode():
        there.append(symbol)  # of the same net with other options
    if there:
        raise Problem(f"{there[0]} is there already: remove it or choose another folder")


def main(argv):
    parser = argparse.ArgumentParser(
        prog="python -m core.convert",
        description="Published nets as checkpoints of the zoo, each with its manifest.",
        epilog="The checkpoint gets its epoch from the file's name (-0016), else 0.",
    )
    parser.add_argument(
        "files",
        nargs="+",
        metavar="FILE",
        help="a .params file, or a file or the stem of a ZQCNN pair",
    )
    parser.add_argument("--out", required=True, help="folder for the checkpoints")
    parser.add_argument("--net", help="which net of the zoo it is, where several fit")
    parser.add_argument("--numbers", help="the .nchwbin file, where it can't be told from its name")
    parser.add_argument(
        "--rescale",
        action="store_true",
        help="bring activations to an ordinary size, without a change of results",
    )
    args = parser.parse_args(argv)
    # Both files of a pair, as a shell's pattern gives them, are one net.
    files = list(
        {
            zqcnn_file.pair(file)[0] if zqcnn_file.is_pair(file) else Path(file): file
            for file in args.files
        }.values()
    )
    if args.numbers and (len(files) > 1 or not zqcnn_file.is_pair(files[0])):
        raise Problem("--numbers goes with one FILE.zqparams")
    made = [convert(file, args.numbers, args.net, args.rescale) for file in files]
    for checkpoint, epoch, _, _ in made:
        _refuse_if_there(args.out, checkpoint, epoch)
    names = [(checkpoint.net, epoch) for checkpoint, epoch, _, _ in made]
    for name in names:
        if names.count(name) > 1:
            alike = [str(file) for file, other in zip(files, names) if other == name]
            raise Problem(
                f"{' and '.join(alike)} are both {name[0]}: give each a folder of its own"
            )
    for checkpoint, epoch, more, lines in made:
        first, *others = lines
        print(f"{first}\n  {checkpoints.save(args.out, checkpoint, epoch, more)}")
        for line in others:
            print(f"  {line}")


if __name__ == "__main__":
    program(main)

"""Nets in MXNet's and ZQCNN's files as Checkpoints of the zoo: which of its nets they are, with its
names of layers and the batch norms that they lack."""

from dataclasses import replace
from typing import NamedTuple

import numpy as np

from core.formats import checkpoint as checkpoints
from core.formats import fuse, zqcnn_reader
from core.formats.checkpoint import Checkpoint, describe
from facelet.console import Problem
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
    """How the parameters of a pair compare with a net of the zoo."""

    wrong: list  # what doesn't fit
    merged: list  # batch norms that had to be added
    fit: tuple  # (net, options)
    made: tuple  # (arguments, auxiliary states)


def _best(matches):
    """Those without a difference, with the fewest batch norms added; of nets that differ by the
    number of points alone those whose name says it (core.formats.checkpoint.plainest)."""
    right = [match for match in matches if not match.wrong]
    fewest = min((len(match.merged) for match in right), default=0)
    right = [match for match in right if len(match.merged) == fewest]
    return [match for match in right if "points" not in match.fit[1]] or right


def from_pair(path, numbers=None, net=None):
    """The Checkpoint of a ZQCNN pair, its Graph as it is in the files, and remarks, a list of str.

    path, numbers -- see core.formats.zqcnn_reader.read; net -- name of the zoo, where several fit

    Raises Problem where the files can't be read, or fit none or several nets of the zoo.
    """
    graph, _, remarks = zqcnn_reader.read(path, numbers)
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
    """As from_pair(), of an MXNet .params file (Path)."""
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

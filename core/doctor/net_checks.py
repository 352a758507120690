"""Checks of a net, whatever its format: its values, its activations, the order of its points."""

import numpy as np

from core.doctor.report import some
from core.formats import fuse, numpy_net, zqcnn_file
from core.formats.checkpoint import describe
from facelet import schemes
from facelet.console import Problem
from symbols import graph as graphs

RESCALE = "python -m core.convert --rescale mends that; core.export does it by itself"

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


def _add_table(report, kinds):
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


def check_values(report, arrays):
    """Report a table of the arrays (name: values) of a net, and values that are not as training
    leaves them."""
    kinds = by_kind(arrays)
    _add_table(report, kinds)
    everything = {name: values for part in kinds.values() for name, values in part.items()}
    broken = [name for name, values in everything.items() if not np.isfinite(values).all()]
    if broken:
        report.damage(
            f"NaN or infinite values in {some(broken)}: the net gives nothing of use; "
            "take another epoch, or copy the file anew"
        )
    zero = {
        kind: [name for name, values in part.items() if values.size and not values.any()]
        for kind, part in kinds.items()
    }
    dead = zero.get("weights", []) + zero.get(GAMMA, [])
    if dead:
        report.warn(
            f"all zero: {some(dead)}: what comes out of such a layer has nothing to do "
            "with the picture; train again or take another epoch"
        )
    shifts = [kind for kind in ("biases", "bn beta", "bn mean") if kind in kinds]
    if shifts and all(len(zero[kind]) == len(kinds[kind]) for kind in shifts):
        report.warn(f"all {' and '.join(shifts)} are zero, as before training: train it first")
    negative = {
        name: values.min()
        for name, values in kinds.get("bn variance", {}).items()
        if values.min() < 0
    }
    if negative:
        report.warn(
            f"negative variances, down to {min(negative.values()):.2g}, in "
            f"{some(negative)}: training gives none; what is below -{graphs.BN_EPS:g} "
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
            f"of PReLUs from {least:.3g} to {most:.3g}, outside 0 to 1, in {some(slopes)}{follows}",
        )


def check_activations(report, graph, size, remedy=RESCALE):
    """Run a graph with its parameters and report activations and weights that float16 or an engine
    loses. size -- side of its input; remedy -- what to do about them, in words"""
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
        report.warn(
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
        report.warn(
            f"{lost:,} weights below {zqcnn_file.ZEROED:g} once batch norms are merged, in "
            f"{some(layers)}: engines such as ZQCNN take them for 0; {remedy}"
        )


def report_points(report, points, scheme, guess=None):
    """Report the landmark points, if any, and their order: known, guessed or unknown."""
    if not points:
        return
    if scheme and scheme == schemes.usual(points):
        order = ""
    elif scheme:
        order = f", order {scheme!r}"
    elif guess:
        order = f", order {guess!r}: a guess, from the mirror symmetry of its mean face"
    else:
        order = ", in an order that is not known"
    report.fact("points", f"{points}{order}")


def report_net(report, made, others=()):
    """Report which net a Checkpoint is; others -- (net, options) whose parameters are named and
    shaped alike"""
    others = [describe(*fit) for fit in others if fit != (made.net, made.options)]
    also = f"; {some(others)} would fit too: say which one it is" if others else ""
    report.fact(
        "net",
        f"{describe(made.net, made.options)}, {made.spec.size} x {made.spec.size} pixels{also}",
    )
    facts = made.facts()
    report_points(report, facts["points"], facts["scheme"], made.guessed_scheme())

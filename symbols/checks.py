"""What can be wrong with a row of the family tables, said in one line before anything is built."""

from math import prod
from numbers import Integral

from facelet.console import Problem

KINDS = ("conv", "dw", "sep", "fc", "dense", "pool")
HEAT_MAP_KINDS = ("conv", "dw", "sep")
HEAD_TASKS = {
    "chain": ("cls", "bbox", "landmark"),
    "residual": ("cls", "bbox", "landmark"),
    "heatmap": ("heatmap",),
}
BIASES = ("all", "first", "none")
# These nets have 10 thousand to 10 million; more is a slip in an option and would fill the memory.
MOST_PARAMETERS = 100_000_000


def check(net, options):
    """Raise Problem for a `Net` that can't be built as its row says.

    options -- symbols.architectures.Options
    """
    tasks = [head.task for head in net.heads]
    allowed = HEAD_TASKS.get(net.architecture)
    if allowed is None:
        _wrong(net, f"its architecture is {net.architecture!r}", " or ".join(HEAD_TASKS))
    if not tasks or len(set(tasks)) < len(tasks) or not set(tasks) <= set(allowed):
        _wrong(net, f"its heads are for {tasks}", f"one each of {', '.join(allowed)} at most")
    for head in net.heads:
        if not head.layer:
            raise Problem(f"{net.name}: its {head.task} head names no layer")
    if net.bias not in BIASES:
        _wrong(net, f"its bias is {net.bias!r}", " or ".join(BIASES))
    _number(net, "its size", net.size)
    if net.stride is not None:
        _number(net, "its stride", net.stride)
    {"chain": _chain, "residual": _residual, "heatmap": _heatmap}[net.architecture](net, options)


def _wrong(net, what, must):
    raise Problem(f"{net.name}: {what}; it must be {must}")


def _number(net, what, value, least=1):
    if isinstance(value, bool) or not isinstance(value, Integral) or value < least:
        _wrong(net, f"{what} is {value!r}", f"a whole number from {least}")


def _fields(net, where, row, names):
    """The fields of a row by name. Raises Problem for another number of them."""
    if not isinstance(row, tuple) or len(row) != len(names):
        raise Problem(f"{net.name}: {where} is {row!r}; it must be ({', '.join(names)})")
    return dict(zip(names, row))


def _chain(net, options):
    channels = _layers(net, "layer", net.rows, 3, options.base)
    _layers(net, "branch layer", net.branch, channels, options.base)
    strides = prod(row[2] for row in (*net.rows, *net.branch))
    if net.stride is not None and strides != net.stride:
        raise Problem(
            f"{net.name}: its stride is {net.stride}, and the strides of its layers make {strides}"
        )


def _layers(net, what, rows, channels, base):
    """Check the rows of a chain that begins with `channels`; returns those it ends with."""
    for number, row in enumerate(rows, start=1):
        where = f"{what} {number}"
        field = _fields(net, where, row, ("kind", "kernel", "stride", "pad", "out"))
        where, kind = f"{where} {row!r}", field["kind"]
        parts = str(kind).split("+")
        if not set(parts) <= set(KINDS) or ("pool" in parts and len(parts) > 1):
            _wrong(net, f"{where} is of kind {kind!r}", f"{', '.join(KINDS)} or dw+sep")
        for name, least in (("kernel", 1), ("stride", 1), ("pad", 0), ("out", 1)):
            _number(net, f"{name} of {where}", field[name], least)
        if kind in ("sep", "dense") and row[1:4] != (1, 1, 0):
            _wrong(net, f"{where} has kernel, stride, pad {row[1:4]}", "1, 1, 0")
        if kind == "pool" and field["pad"]:
            _wrong(net, f"pad of {where} is {field['pad']}", "0")
        for part in parts:
            if part != "pool":
                _names(net, where, part)
        if kind in ("dw", "pool") and field["out"] * base != channels:
            raise Problem(
                f"{net.name}: {where} gives as many channels as it gets, which are "
                f"{channels}, not {field['out'] * base}"
            )
        channels = field["out"] * base
    return channels


def _names(net, where, kind):
    names = getattr(net.naming, kind)
    if names is None:
        raise Problem(f"{net.name}: {where} has no name: its Naming says nothing of {kind}")
    layer, bn, activation = names
    # A fully connected layer has a batch norm where the others have one.
    if not layer or not activation or (net.bn and not bn):
        raise Problem(f"{net.name}: {where} lacks a name: its Naming of {kind} is {names}")


def _residual(net, options):
    field = _fields(net, "its rows", net.rows, ("width", "blocks", "fc"))
    _number(net, "its width", field["width"])
    _fields(net, "its fc", field["fc"], ("conv6", "fc1", "fc2"))
    for what, values, least in (("its blocks", field["blocks"], 0), ("its fc", field["fc"], 1)):
        if not isinstance(values, tuple) or not values:
            _wrong(net, f"{what} is {values!r}", "whole numbers")
        for value in values:
            _number(net, f"one of {what}", value, least)


def _heatmap(net, options):
    before, after = _fields(net, "its rows", net.rows, ("before", "after")).values()
    if len(before) < 1 or len(after) < 3:
        raise Problem(f"{net.name}: it needs a layer before the maps join, and three after")
    for number, row in enumerate((*before, *after), start=1):
        where = f"layer {number}"
        field = _fields(
            net, where, row, ("layer", "kind", "kernel", "stride", "dilate", "channels")
        )
        where = f"{where} {row!r}"
        if field["kind"] not in HEAT_MAP_KINDS:
            _wrong(net, f"{where} is of kind {field['kind']!r}", ", ".join(HEAT_MAP_KINDS))
        for name in ("kernel", "stride", "dilate", "channels"):
            _number(net, f"{name} of {where}", field[name])

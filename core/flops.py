"""The multiply-add budget of a net, as the tables of train-mtcnn count it and plainly.

    python -m core.flops --net Pnet20_v2
    python -m core.flops --net all
    python -m core.flops --symbol FILE-symbol.json --input 320x240

Those tables follow the counter of ZQCNN, after every batch norm has been merged into the
convolution or fully connected layer before it; its M is 2^20. COSTS holds this rule, one function
per operator. The plain count is the multiply-adds of convolutions and fully connected layers,
biases left out; its M is 10^6. Both are for one picture, and for the Pnets both leave the box
branch out, as the tables do. Multiply-adds are one measure of cost among several: memory traffic,
and how well an engine runs small layers, are not in it.
"""

import argparse
import contextlib
import io
import json
from dataclasses import dataclass
from math import prod

from core.base.options import parse
from facelet.console import Problem, program
from symbols import build, names, spec, zoo
from symbols.architectures import resolve

M = 2**20  # the tables' unit


@dataclass(frozen=True)
class Node:
    """An operator of a graph, with the shapes of one picture."""

    name: str
    op: str
    attrs: dict
    inputs: tuple  # names of the operators it reads ("data" too)
    out: tuple  # output shape without the batch
    weight: tuple  # shape of its weights, () without
    merged: bool  # a batch norm that disappears into the layer before it


def _elements(node):
    return prod(node.out)


def _convolution(node):
    # out channels x (in channels / group) x kH x kW per position; a bias each after the merge
    return prod(node.out[1:]) * prod(node.weight) + _elements(node)


def _pooling(node):
    if node.attrs.get("global_pool") == "True":
        raise Problem(f"{node.name}: ZQCNN's rule says nothing of global pooling")
    height, width = (int(k) for k in node.attrs["kernel"].strip("()").split(","))
    return _elements(node) * height * width


# The rule: cost of an operator by MXNet's name for it. An operator that isn't here is an error.
COSTS = {
    "Convolution": _convolution,
    "FullyConnected": lambda node: prod(node.weight),
    "LeakyReLU": lambda node: 3 * _elements(node),
    "Activation": _elements,
    "elemwise_add": _elements,
    "BatchNorm": lambda node: 0 if node.merged else _elements(node),
    "Pooling": _pooling,
    "SoftmaxActivation": lambda node: 0,
    "softmax": lambda node: 0,
    "Reshape": lambda node: 0,
    "Flatten": lambda node: 0,
    "Concat": lambda node: 0,
}
MERGING = ("Convolution", "FullyConnected")


def plain_macs(node):
    """Multiply-adds of a convolution or fully connected layer without its bias, else 0."""
    return prod(node.out[1:]) * prod(node.weight) if node.op in MERGING else 0


def graph(symbol, data_shape):
    """Operators of a symbol in order, for an input `data` of shape (1, 3, H, W).

    Raises Problem where the shapes can't be found.
    """
    from symbols.mxnet_import import mx  # here, so that MXNet missing is one line

    internals = symbol.get_internals()
    try:
        with contextlib.redirect_stdout(io.StringIO()):  # MXNet prints what it was given
            _, shapes, _ = internals.infer_shape(data=data_shape)
    except mx.base.MXNetError as error:
        shapes, reason = None, str(error).strip().splitlines()[0][:120]
    else:
        reason = "its input is not the only one of unknown shape"
    if shapes is None or any(0 in shape for shape in shapes):
        raise Problem(f"input {data_shape[3]}x{data_shape[2]} does not fit this net ({reason})")
    shapes = dict(zip(internals.list_outputs(), shapes))

    nodes = json.loads(symbol.tojson())["nodes"]
    parameters = set(symbol.list_arguments() + symbol.list_auxiliary_states()) - {"data"}
    readers = {}
    for node in nodes:
        for index, *_ in node["inputs"]:
            readers[index] = readers.get(index, 0) + 1
    heads = {index for index, *_ in json.loads(symbol.tojson())["heads"]}

    operators = []
    for node in nodes:
        if node["op"] == "null":
            continue
        sources = [index for index, *_ in node["inputs"]]
        merged = (
            node["op"] == "BatchNorm"
            and nodes[sources[0]]["op"] in MERGING
            and readers[sources[0]] == 1
            and sources[0] not in heads
        )
        weight = shapes[nodes[sources[1]]["name"]] if node["op"] in MERGING else ()
        operators.append(
            Node(
                node["name"],
                node["op"],
                node.get("attrs", {}),
                tuple(
                    nodes[index]["name"]
                    for index in sources
                    if nodes[index]["name"] not in parameters
                ),
                shapes.get(f"{node['name']}_output", ())[1:]
                or next(
                    shape[1:]
                    for name, shape in shapes.items()
                    if name.startswith(f"{node['name']}_")
                ),
                tuple(weight),
                merged,
            )
        )
    return operators


def cost(node):
    """The cost of one operator by ZQCNN's rule. Raises Problem for one it doesn't know."""
    if node.op not in COSTS:
        raise Problem(
            f"operator {node.op} ({node.name}) is not in the counting rule: add it to "
            "COSTS in core/flops.py"
        )
    return COSTS[node.op](node)


def without(nodes, ends):
    """The operators that anything but the outputs named in `ends` needs."""
    by_name = {node.name: node for node in nodes}
    read = {name for node in nodes for name in node.inputs}
    pending = [node.name for node in nodes if node.name not in read and node.name not in ends]
    needed = set()
    while pending:
        name = pending.pop()
        if name in by_name and name not in needed:
            needed.add(name)
            pending.extend(by_name[name].inputs)
    return [node for node in nodes if node.name in needed]


@dataclass(frozen=True)
class Budget:
    """What a net costs on one picture."""

    nodes: list
    counted: list  # those of `nodes` in train-mtcnn's figure
    params: int  # learned parameters; moving means and variances are none

    @property
    def macs(self):
        return sum(map(plain_macs, self.counted))

    @property
    def budget(self):
        return sum(map(cost, self.counted))

    @property
    def budget_bbox(self):
        return sum(map(cost, self.nodes))


def count(symbol, width, height, left_out=()):
    """Budget of a symbol at an input of width x height pixels; `left_out` names output nodes
    whose own branch train-mtcnn's figure leaves out."""
    shape = (1, 3, height, width)
    nodes = graph(symbol, shape)
    arguments, _, _ = symbol.infer_shape(data=shape)
    params = sum(prod(s) for name, s in zip(symbol.list_arguments(), arguments) if name != "data")
    return Budget(nodes, without(nodes, left_out) if left_out else nodes, params)


def count_net(name, base=None, points=None, landmark=False, size=None):
    """Budget of a net of the zoo; size is (width, height), that of train-mtcnn's table if None.

    Raises Problem for a size that a net with fully connected layers can't take.
    """
    net = spec(name, landmark)
    symbol = build(name, base=base, points=points, landmark=landmark)
    width, height = size or net.table_input
    if not net.stride and (width, height) != (net.size, net.size):
        raise Problem(f"{net.name} takes {net.size}x{net.size} only, not {width}x{height}")
    if min(width, height) < net.size:
        raise Problem(f"{width}x{height} is smaller than the {net.size} pixel window of {net.name}")
    ends = [head.bn or head.layer for head in net.heads if head.task == "bbox"]
    return count(symbol, width, height, left_out=ends if net.family == "Pnet" else ())


def record(name, base=None, points=None, landmark=False, size=None):
    """The figures of a net as a dict; the objects of --json."""
    net = spec(name, landmark)
    shape = resolve(net, base, points)
    width, height = size or net.table_input
    base = shape.base if net.base else None
    comparable = (width, height) == net.table_input and (
        not shape.points or shape.points == net.points
    )
    return _record(
        net.name,
        f"{width}x{height}",
        count_net(name, base, points, landmark, size),
        base=base,
        points=shape.points or None,
        landmark=landmark,
        published_m=net.table_budget.get(base) if comparable else None,
        published_with_bbox=net.table_budget_with_bbox,
    )


def _record(
    net,
    size,
    budget,
    base=None,
    points=None,
    landmark=False,
    published_m=None,
    published_with_bbox=False,
):
    return {
        "net": net,
        "base": base,
        "points": points,
        "landmark": landmark,
        "input": size,
        "params": budget.params,
        "macs": budget.macs,
        "budget_m": round(budget.budget / M, 6),
        "budget_bbox_m": round(budget.budget_bbox / M, 6),
        "published_m": published_m,
        "published_with_bbox": published_with_bbox,
    }


def table():
    """Records of the whole zoo: every net at the widths of train-mtcnn, else its default one."""
    return [record(name, **options) for name in names() for options in zoo.variants(name)]


def _show_table(rows):
    print(
        f"{'net':<20}{'base':>5}{'input':>9}{'params':>12}{'10^6 MACs':>11}{'2^20':>9}"
        f"{'with box':>10}{'train-mtcnn':>13}"
    )
    for row in rows:
        name = row["net"] + (" +lmk" if row["landmark"] else "")
        mark = "*" if row["published_with_bbox"] else " "
        published = f"{row['published_m']:.1f}{mark}" if row["published_m"] else "- "
        print(
            f"{name:<20}{row['base'] or '':>5}{row['input']:>9}{row['params']:>12,}"
            f"{row['macs'] / 1e6:>11.3f}{row['budget_m']:>9.3f}{row['budget_bbox_m']:>10.3f}"
            f"{published:>13}"
        )
    print(
        "\n2^20: ZQCNN's rule, batch norms merged, Pnets without their box branch; train-mtcnn: "
        "the figure of its tables, * with the box branch."
    )


def _show(title, budget):
    print(title)
    print(f"  parameters {budget.params:,}")
    print(
        f"  ZQCNN's rule {budget.budget / M:.3f} M (2^20)"
        + (
            f", {budget.budget_bbox / M:.3f} M with the box branch"
            if len(budget.counted) < len(budget.nodes)
            else ""
        )
    )
    print(f"  plain {budget.macs / 1e6:.3f} M multiply-adds (10^6)\n")
    left_out = {node.name for node in budget.nodes} - {node.name for node in budget.counted}
    print(f"  {'layer':<34}{'operator':<19}{'output':<15}{'rule':>12}{'plain':>12}")
    for node in budget.nodes:
        if cost(node):
            note = "  box branch" if node.name in left_out else ""
            print(
                f"  {node.name:<34}{node.op:<19}{'x'.join(map(str, node.out)):<15}"
                f"{cost(node):>12,}{plain_macs(node):>12,}{note}"
            )
    print()
    by_operator = {}
    for node in budget.nodes:
        rule, plain = by_operator.get(node.op, (0, 0))
        by_operator[node.op] = (rule + cost(node), plain + plain_macs(node))
    for op, (rule, plain) in sorted(by_operator.items(), key=lambda item: -item[1][0]):
        print(f"  {op:<19}{rule:>12,}{plain:>12,}{rule / budget.budget_bbox:>8.1%}")


def _size(text):
    width, cross, height = text.lower().partition("x")
    if not (cross and width.isdecimal() and height.isdecimal() and int(width) and int(height)):
        raise Problem(f"--input {text}: write WIDTHxHEIGHT in pixels, like 320x240")
    return int(width), int(height)


def _load_symbol(path):
    from symbols.mxnet_import import mx

    try:
        return mx.sym.load(path)
    except (mx.base.MXNetError, UnicodeDecodeError):
        raise Problem(
            f"{path} can't be read as an MXNet symbol: it is missing, damaged, or holds "
            "operators that this MXNet lacks"
        ) from None


def main(argv):
    parser = argparse.ArgumentParser(
        prog="python -m core.flops", description="Multiply-add budgets after batch norm merging."
    )
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--net", help="a net of the zoo, or all")
    what.add_argument("--symbol", help="an MXNet symbol.json file")
    parser.add_argument(
        "--input", help="WIDTHxHEIGHT in pixels (default: as in train-mtcnn's tables)"
    )
    parser.add_argument("--base", type=int, help="width of an Lnet: multiplies its channels")
    parser.add_argument("--points", type=int, help="number of landmark points")
    parser.add_argument("--landmark-head", action="store_true", help="with its landmark head")
    parser.add_argument("--json", action="store_true", help="print a list of objects")
    args = parse(parser, argv, renamed={"--landmark": "--landmark-head"}, settings=False)

    size = _size(args.input) if args.input else None
    options = args.base is not None or args.points is not None or args.landmark_head
    if args.symbol:
        if size is None or options:
            raise Problem("--symbol goes with --input WIDTHxHEIGHT, which it needs, and --json")
        budget = count(_load_symbol(args.symbol), *size)
        if args.json:
            print(json.dumps([_record(args.symbol, args.input, budget)], indent=1))
        else:
            _show(f"{args.symbol} at {args.input}", budget)
        return
    if args.net == "all":
        if size or options:
            raise Problem("--net all takes no option but --json")
        rows = table()
    else:
        rows = [record(args.net, args.base, args.points, args.landmark_head, size)]
    if args.json:
        print(json.dumps(rows, indent=1))
    elif args.net == "all":
        _show_table(rows)
    else:
        row = rows[0]
        _show(
            row["net"]
            + (f" base {row['base']}" if row["base"] else "")
            + f" at {row['input']}"
            + (f", {row['published_m']} M in train-mtcnn's table" if row["published_m"] else "")
            + (" with the box branch" if row["published_m"] and row["published_with_bbox"] else ""),
            count_net(args.net, args.base, args.points, args.landmark_head, size),
        )


if __name__ == "__main__":
    program(main)

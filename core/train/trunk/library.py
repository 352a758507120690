"""A net's layers trained by the library of core.train.trunk.build: plain arrays, no MXNet."""

import ctypes
from dataclasses import dataclass
from functools import cache

from core.train.trunk.build import LIBRARY
from facelet.engine import library as engine
from symbols import graph as graphs

MOMENTUM = 0.9  # of moving means and variances, as in symbols.blocks
OPS = {"conv": 0, "depthwise": 1, "pool": 2}
ACTIVATIONS = {"relu": 1, "prelu": 2}
DEPTHWISE_KERNELS = (1, 2, 3)

_FIELDS = "op input kernel stride pad dilate channels side bias norm activation output".split()
_ARRAYS = "weight bias gamma beta slopes".split()


class _Layer(ctypes.Structure):
    _fields_ = [(name, ctypes.c_int32) for name in _FIELDS]


class _Parameters(ctypes.Structure):
    _fields_ = [(name, ctypes.c_void_p) for name in _ARRAYS]


class _States(ctypes.Structure):
    _fields_ = [("mean", ctypes.c_void_p), ("variance", ctypes.c_void_p)]


_POINTER, _INT = ctypes.c_void_p, ctypes.c_int


class _Api(ctypes.Structure):
    _fields_ = [
        ("lanes", _INT),
        (
            "make",
            ctypes.CFUNCTYPE(
                _POINTER, _POINTER, _INT, _INT, _INT, _INT, _INT, ctypes.c_float, ctypes.c_float
            ),
        ),
        ("free", ctypes.CFUNCTYPE(None, _POINTER)),
        ("forward", ctypes.CFUNCTYPE(_INT, _POINTER, _POINTER, _POINTER, _POINTER, _POINTER, _INT)),
        ("backward", ctypes.CFUNCTYPE(_INT, _POINTER, _POINTER, _POINTER, _POINTER)),
    ]


@cache
def api(instructions=None):
    """Functions of the library for an instruction set, the best if None; None where it was not
    compiled."""
    try:
        library = ctypes.CDLL(str(LIBRARY))
        if instructions is None:
            of_engine = engine.library()
            instructions = engine.instructions(of_engine)[0] if of_engine else "base"
        return _Api.in_dll(library, f"trunk_{instructions}")
    except (OSError, ValueError):
        return None


@dataclass
class Plan:
    """What the library makes of a graph.

    layers -- rows of trunk.h's Layer as dicts; names -- of each, its parameters' by the fields of
    trunk.h's Parameters and States; outputs -- tasks, in order
    """

    layers: list
    names: list
    outputs: list
    size: int

    def channels(self):
        """Of each output."""
        rows = sorted((row["output"], row["channels"]) for row in self.layers if row["output"])
        return [channels for _, channels in rows]


def plan(graph, size):
    """A Plan of symbols.graph.describe()'s graph for pictures of size x size, or None for one with
    layers that the library does not have."""
    readers, shapes = graph.readers(), graphs.shapes(graph, size, size)
    layers, names, made = [], [], {graphs.DATA: -1}

    def last(blob, *free):
        """The layer whose values a blob is, if nothing else reads them and it has none of `free`
        yet."""
        row = layers[made[blob]] if made[blob] >= 0 else None
        fits = row and len(readers[blob]) == 1 and not any(row[field] for field in free)
        return made[blob] if fits else None

    for node in graph.nodes:
        source, of = node.inputs[0], None
        if node.op in ("conv", "dense", "pool"):
            shape, side = shapes[source], (*shapes[node.top], 1)[1]
            kernel = (*shape, 1)[1] if node.op == "dense" else node.kernel
            if node.depthwise and kernel not in DEPTHWISE_KERNELS:
                return None
            of = len(layers)
            op = "pool" if node.op == "pool" else "depthwise" if node.depthwise else "conv"
            values = (OPS[op], made[source], kernel, node.stride, node.pad, node.dilate)
            bias = op != "pool" and node.bias
            layers.append(
                dict(zip(_FIELDS, (*values, shapes[node.top][0], side, int(bias), 0, 0, 0)))
            )
            names.append({} if op == "pool" else {"weight": f"{node.name}_weight"})
            if bias:
                names[-1]["bias"] = f"{node.name}_bias"
        elif node.op == "bn":
            of = last(source, "norm", "activation")
            if of is not None:
                layers[of]["norm"] = 1
                fields = dict(gamma="gamma", beta="beta", mean="moving_mean", variance="moving_var")
                names[of] |= {key: f"{node.name}_{name}" for key, name in fields.items()}
        elif node.op in ACTIVATIONS:
            of = last(source, "activation")
            if of is not None:
                layers[of]["activation"] = ACTIVATIONS[node.op]
                if node.op == "prelu":
                    names[of]["slopes"] = f"{node.name}_gamma"
        elif node.op in ("flatten", "softmax"):  # the losses have a softmax of their own
            of = made[source]
        if of is None:
            return None
        made[node.top] = of
    for number, blob in enumerate(graph.outputs.values(), start=1):
        row = layers[made[blob]]
        if row["side"] != 1 or row["output"]:
            return None
        row["output"] = number
    return Plan(layers, names, list(graph.outputs), size)


class Trunk:
    """A Plan at work on batches of one size. Not to be called from two threads at a time.

    threads -- how many it takes; results do not depend on it. Raises MemoryError.
    """

    def __init__(self, plan, batch, threads=1, instructions=None):
        self.plan, self.batch, self._api = plan, batch, api(instructions)
        self.channels = plan.channels()
        rows = (_Layer * len(plan.layers))(*(_Layer(**row) for row in plan.layers))
        self._handle = self._api.make(
            rows, len(rows), 3, plan.size, batch, threads, graphs.BN_EPS, MOMENTUM
        )
        if not self._handle:
            raise MemoryError(f"no memory for batches of {batch}")

    def __del__(self):
        if getattr(self, "_handle", None):
            self._api.free(self._handle)

    def forward(self, data, pointers, outputs, training):
        """data, outputs -- addresses: of (batch, 3, size, size), of a (batch, channels) for each
        output; pointers -- function from a parameter's name to its address. Training: batch norms
        go by the batch, and the moving means and variances follow it."""
        self._api.forward(
            self._handle,
            data,
            self._table(_Parameters, _ARRAYS, pointers),
            self._table(_States, ("mean", "variance"), pointers),
            (ctypes.c_void_p * len(outputs))(*outputs),
            training,
        )

    def backward(self, data, outputs, pointers):
        """After a forward in training: from gradients of the outputs to those of the parameters; an
        address that is None is left out."""
        self._api.backward(
            self._handle,
            data,
            (ctypes.c_void_p * len(outputs))(*outputs),
            self._table(_Parameters, _ARRAYS, pointers),
        )

    def _table(self, kind, fields, pointers):
        rows = [
            kind(**{field: pointers(names[field]) for field in fields if field in names})
            for names in self.plan.names
        ]
        return (kind * len(rows))(*rows)

"""The library's layers as an operator of MXNet graphs."""

import atexit
import ctypes
import json

import symbols
from core.train.trunk import library
from symbols import graph as graphs
from symbols import losses, zoo
from symbols.architectures import resolve
from symbols.mxnet_import import mx, threads

TYPE = "facelet_trunk"
# MXNet calls operators back from threads of its own. A program that ended while a step was under
# way stayed for good, in one of four tries.
atexit.register(mx.nd.waitall)


def _pointer(array):
    """Address of an NDArray's floats."""
    found = ctypes.c_void_p()
    mx.base.check_call(mx.base._LIB.MXNDArrayGetData(array.handle, ctypes.byref(found)))
    return found.value


class _Operator(mx.operator.CustomOp):
    def __init__(self, prop, batch):
        super().__init__()
        self.arguments, self.states = prop.list_arguments()[1:], prop.list_auxiliary_states()
        self.trunk = library.Trunk(prop.plan, batch, threads())

    def forward(self, is_train, req, in_data, out_data, aux):
        arrays = dict(zip(self.arguments + self.states, [*in_data[1:], *aux]))
        self.trunk.forward(
            _pointer(in_data[0]),
            lambda name: _pointer(arrays[name]),
            [_pointer(array) for array in out_data],
            bool(is_train),
        )

    def backward(self, req, out_grad, in_data, out_data, in_grad, aux):
        arrays = {
            name: array
            for name, array, wanted in zip(self.arguments, in_grad[1:], req[1:])
            if wanted != "null"
        }
        self.trunk.backward(
            _pointer(in_data[0]),
            [_pointer(array) for array in out_grad],
            lambda name: _pointer(arrays[name]) if name in arrays else None,
        )


@mx.operator.register(TYPE)
class _Properties(mx.operator.CustomOpProp):
    def __init__(self, net, options):
        super().__init__(need_top_grad=True)
        self.graph, self.size = _described(net, json.loads(options))
        self.plan = library.plan(self.graph, self.size)
        self.shapes = graphs.parameter_shapes(self.graph, self.size)

    def list_arguments(self):
        return ["data", *self.shapes[0]]

    def list_auxiliary_states(self):
        return list(self.shapes[1])

    def list_outputs(self):
        return self.plan.outputs

    def infer_shape(self, in_shape):
        data, (arguments, auxiliary) = in_shape[0], self.shapes
        outputs = [[data[0], channels] for channels in self.plan.channels()]
        return [data, *map(list, arguments.values())], outputs, list(map(list, auxiliary.values()))

    def create_operator(self, ctx, shapes, dtypes):
        return _Operator(self, shapes[0][0])


def _described(name, options):
    net = zoo.spec(name, options.get("landmark", False))
    return graphs.describe(name, **options), net.size


def training_graph(name, mode="train", loss=None, gpus=(), **options):
    """The graph that a net is trained by: symbols.build(name, mode, loss=loss, **options), on the
    CPU with the layers of the library where that was compiled and has all that the net has."""
    net = zoo.spec(name, options.get("landmark", False))
    if gpus or library.api() is None or library.plan(*_described(name, options)) is None:
        return symbols.build(name, mode, loss=loss, **options)
    given = {"net": name, "options": json.dumps(options)}
    properties = _Properties(**given)
    inputs = properties.list_arguments() + properties.list_auxiliary_states()
    made = mx.sym.Custom(
        **{name: mx.sym.var(name, dtype="float32") for name in inputs},
        **given,
        op_type=TYPE,
        name="trunk",
    )
    found = resolve(net, options.get("base"), options.get("points"))
    outputs = dict(zip(properties.list_outputs(), made))
    return losses.training_graph(net, outputs, loss, found.points, mode == "part")

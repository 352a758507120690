"""The layers of training graphs: their other form has the values and the gradients of the plain
one. The oracles are NumPy formulas; MXNet's own PReLU is none, as its gradient is wrong where two
layers read it."""

import numpy as np
import pytest

import symbols
from config import config, override
from symbols.blocks import Blocks, Signed
from symbols.mxnet_import import mx

GAMMAS = np.array([-0.7, 0, 1, 1.8, 0.25], np.float32)  # slopes of both signs, 0, 1 and above
CHANNELS = len(GAMMAS)


def signed(symbol):
    return Signed(lambda sign: symbol if sign > 0 else mx.sym.negative(symbol))


def run(outputs, values, heads=None, is_train=True):
    """(outputs, gradients by name, auxiliary states) of symbols with inputs `values`, given the
    gradients `heads` of its outputs."""
    symbol = mx.sym.Group(outputs)
    executor = symbol.simple_bind(
        mx.cpu(), grad_req="write", **{name: value.shape for name, value in values.items()}
    )
    for name, value in values.items():
        executor.arg_dict[name][:] = value
    for name, value in executor.aux_dict.items():
        value[:] = 1 if name.endswith("var") else 0
    out = [o.asnumpy() for o in executor.forward(is_train=is_train)]
    if heads is not None:
        executor.backward([mx.nd.array(head) for head in heads])
    return (
        out,
        {name: g.asnumpy() for name, g in executor.grad_dict.items()},
        {name: a.asnumpy() for name, a in executor.aux_dict.items()},
    )


def normal(*shape, seed=0):
    return np.random.default_rng([seed, *shape]).standard_normal(shape).astype(np.float32)


def prelu(x, gammas):
    """The formula, with one slope per channel (axis 1)."""
    slopes = gammas.reshape(1, -1, *[1] * (x.ndim - 2))
    return np.where(x > 0, x, slopes * x)


def prelu_gradients(x, gammas, out):
    """Gradients of x and of the slopes from that of the output."""
    slopes = gammas.reshape(1, -1, *[1] * (x.ndim - 2))
    over_x = np.where(x > 0, out, slopes * out)
    return over_x, np.where(x > 0, 0, x * out).sum(axis=(0, *range(2, x.ndim)))


def close(a, b, tolerance=1e-5):
    assert a.shape == b.shape
    assert np.abs(a - b).max() <= tolerance * max(np.abs(b).max(), 1e-3)


# ---- PReLU ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "form, sign, shape",
    [
        ("signed", 1, (4, CHANNELS, 6, 7)),
        ("signed", -1, (4, CHANNELS, 6, 7)),
        ("signed", 1, (3, CHANNELS, 1, 1)),
        ("signed", -1, (3, CHANNELS, 1, 1)),
        ("single", 1, (6, CHANNELS, 1, 1)),
        ("single", 1, (6, CHANNELS)),
    ],
)
def test_prelu_is_its_formula(form, sign, shape):
    layer = Blocks(train=True).prelu(signed(mx.sym.var("x")), "act", CHANNELS)
    output = layer.single() if form == "single" else layer.signed(sign)
    x, head = normal(*shape), normal(*shape, seed=1)
    (y,), gradients, _ = run([output], {"x": x, "act_gamma": GAMMAS}, [head])
    close(y, sign * prelu(x, GAMMAS))
    over_x, over_gamma = prelu_gradients(x, GAMMAS, sign * head)
    close(gradients["x"], over_x)
    close(gradients["act_gamma"], over_gamma)
    # each slope on its own scale: one that is wrong must not hide behind a larger one
    assert np.allclose(gradients["act_gamma"], over_gamma, rtol=1e-4, atol=1e-4)


def test_prelu_keeps_zero_and_its_sides():
    """At gamma 1 it is the identity, at 0 a ReLU, at -1 the absolute value: exactly."""
    layer = Blocks(train=True).prelu(signed(mx.sym.var("x")), "act", 3)
    x = np.tile(np.array([-2, -0.5, 0, 0.5, 2], np.float32)[:, None], (1, 3)).reshape(5, 3, 1, 1)
    for output in (layer.single(), layer.signed(1)):
        (y,), _, _ = run([output], {"x": x, "act_gamma": np.array([1, 0, -1], np.float32)})
        assert np.array_equal(y[:, 0], x[:, 0])
        assert np.array_equal(y[:, 1], np.maximum(x[:, 1], 0))
        assert np.array_equal(y[:, 2], np.abs(x[:, 2]))


@pytest.mark.parametrize("convolution, tail", [(True, (1, 1)), (False, (1, 1)), (False, ())])
def test_prelu_before_two_heads(convolution, tail):
    """As in every Pnet, Rnet and Onet, with a layer in front as there. Here MXNet's LeakyReLU
    multiplies the gradient of the slopes by the slopes; NumPy says what it must be."""
    layers, x = Blocks(train=True), signed(mx.sym.var("x"))
    before = layers.conv(x, "c", CHANNELS, 1) if tail else layers.dense(x, "c", CHANNELS)
    middle = layers.prelu(before, "act", CHANNELS)
    outputs = [
        layers.head(middle, name, size, convolution).signed(1)
        for name, size in (("a", 2), ("b", 4))
    ]
    kernel = (1, 1) if convolution else ()
    values = {
        "x": normal(8, 3, *tail),
        "act_gamma": GAMMAS,
        "c_weight": normal(CHANNELS, 3, *tail),
        "c_bias": normal(CHANNELS),
        "a_weight": normal(2, CHANNELS, *kernel),
        "a_bias": normal(2),
        "b_weight": normal(4, CHANNELS, *kernel),
        "b_bias": normal(4),
    }
    heads = [normal(8, 2, *kernel, seed=2), normal(8, 4, *kernel, seed=3)]
    out, gradients, _ = run(outputs, values, heads)

    data, first = values["x"].reshape(8, 3), values["c_weight"].reshape(CHANNELS, 3)
    under = data @ first.T + values["c_bias"]
    y, over_y = prelu(under, GAMMAS), 0
    for name, value, head in zip("ab", out, heads):
        weight, head = values[f"{name}_weight"].reshape(-1, CHANNELS), head.reshape(8, -1)
        close(value.reshape(8, -1), y @ weight.T + values[f"{name}_bias"])
        close(gradients[f"{name}_weight"].reshape(weight.shape), head.T @ y)
        close(gradients[f"{name}_bias"], head.sum(axis=0))
        over_y = over_y + head @ weight
    over_under, over_gamma = prelu_gradients(under, GAMMAS, over_y)
    close(gradients["act_gamma"], over_gamma)
    assert np.allclose(gradients["act_gamma"], over_gamma, rtol=1e-4, atol=1e-4)
    close(gradients["c_weight"].reshape(first.shape), over_under.T @ data)
    close(gradients["x"].reshape(data.shape), over_under @ first)


def test_prelu_before_two_convolutions_and_an_addition():
    """As before the branches of the _p nets, and, asked for as it is, in front of an addition."""
    layers = Blocks(train=True)
    middle = layers.prelu(signed(mx.sym.var("x")), "act", CHANNELS)
    convs = [layers.conv(middle, name, 3, 1, bias=False) for name in "ab"]
    outputs = [conv.signed(1) for conv in convs] + [layers.add(middle, middle, "sum").signed(1)]
    x = normal(4, CHANNELS, 3, 3)
    values = {
        "x": x,
        "act_gamma": GAMMAS,
        "a_weight": normal(3, CHANNELS, 1, 1),
        "b_weight": normal(3, CHANNELS, 1, 1, seed=9),
    }
    heads = [
        normal(4, 3, 3, 3, seed=4),
        normal(4, 3, 3, 3, seed=5),
        normal(4, CHANNELS, 3, 3, seed=6),
    ]
    out, gradients, _ = run(outputs, values, heads)
    y = prelu(x, GAMMAS)
    over_y = 2 * heads[2]
    for name, value, head in zip("ab", out, heads):
        weight = values[f"{name}_weight"][:, :, 0, 0]
        close(value, np.einsum("oc,nchw->nohw", weight, y))
        close(gradients[f"{name}_weight"][:, :, 0, 0], np.einsum("nohw,nchw->oc", head, y))
        over_y = over_y + np.einsum("oc,nohw->nchw", weight, head)
    close(out[2], 2 * y)
    over_x, over_gamma = prelu_gradients(x, GAMMAS, over_y)
    close(gradients["x"], over_x)
    close(gradients["act_gamma"], over_gamma)


# ---- the other layers, whichever sign they are asked for -----------------------------------

LAYERS = {
    "conv": lambda b, x: b.conv(x, "a", 6, 3, stride=2, pad=1),
    "conv without bias": lambda b, x: b.conv(x, "a", 6, 1, bias=False),
    "dilated depthwise": lambda b, x: b.conv(x, "a", 4, 3, pad=2, dilate=2, depthwise=True),
    "dense": lambda b, x: b.dense(x, "a", 5),
    "head": lambda b, x: b.head(x, "a", 5, convolution=False),
    "batch norm": lambda b, x: b.bn(x, "a"),
    "batch norm after conv": lambda b, x: b.bn(b.conv(x, "c", 6, 3), "a"),
    "relu": lambda b, x: b.relu(x, "a"),
    "pool": lambda b, x: b.pool(x, "a", 3, 2),
    "flatten": lambda b, x: b.flatten(x, "a"),
    "add": lambda b, x: b.add(b.conv(x, "c", 4, 1), x, "a"),
    "join_conv": lambda b, x: b.join_conv((x, 4), (b.relu(x, "r"), 4), "j", "a", 3),
}


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("kind", LAYERS)
def test_a_negated_layer_is_the_layer_negated(kind, sign):
    """Values, gradients, and the running means of batch norms, which a checkpoint carries."""
    plain = LAYERS[kind](Blocks(train=False), mx.sym.var("x"))
    other = LAYERS[kind](Blocks(train=True), signed(mx.sym.var("x"))).signed(sign)
    x = normal(3, 4, 8, 8) + 0.3
    shapes = dict(zip(plain.list_arguments(), plain.infer_shape(x=x.shape)[0]))
    values = {name: normal(*shape, seed=7) for name, shape in shapes.items()}
    values["x"] = x
    head = normal(*plain.infer_shape(x=x.shape)[1][0], seed=8)
    if kind == "join_conv":  # MXNet dies in the gradient of a Concat before a Convolution
        (want,), _, _ = run([plain], values)
        weight = values["a_weight"]
        joined = np.concatenate([x, np.maximum(x, 0)], axis=1)
        over_joined = np.einsum("oc,nohw->nchw", weight[:, :, 0, 0], head)
        gradients = {
            "x": over_joined[:, :4] + (x > 0) * over_joined[:, 4:],
            "a_weight": np.einsum("nohw,nchw->oc", head, joined)[:, :, None, None],
        }
        states = {}
    else:
        (want,), gradients, states = run([plain], values, [head])
    (got,), other_gradients, other_states = run([other], values, [sign * head])
    close(got, sign * want)
    assert set(other_gradients) == set(gradients)
    for name, gradient in gradients.items():
        close(other_gradients[name], gradient, 1e-4)
    assert set(other_states) == set(states)
    for name, state in states.items():
        close(other_states[name], state)
    if "norm" in kind:
        assert np.abs(states["a_moving_mean"]).max() > 1e-3  # so this could have failed


# ---- whole nets ----------------------------------------------------------------------------

NETS = {"Pnet20_v1": {}, "Rnet_p0": {}, "Lnet106_64r": {}, "Onet_v1": {"landmark": True}}


class Training:
    """A training graph on a seeded batch; `total(dtype, shifts)` is the sum of its losses."""

    def __init__(self, name, batch, ohem):
        options = NETS[name]
        loss = override(
            config, [f"loss.{task}.ohem={ohem}" for task in ("cls", "bbox", "landmark")]
        ).loss
        self.symbol = symbols.build(name, "train", loss=loss, **options)
        side = symbols.spec(name).size
        rng = np.random.default_rng(5)
        inputs = {"data": rng.uniform(-1, 1, (batch, 3, side, side))}
        if name.startswith("Lnet"):
            inputs["landmark_target"] = rng.uniform(0, 1, (batch, 212))
        else:
            inputs["label"] = np.resize([1, 0, 0, -1, -2], batch)
            inputs["bbox_target"] = rng.normal(0, 0.2, (batch, 4))
            if options:
                inputs["landmark_target"] = rng.uniform(0, 1, (batch, 10))
        self.shapes = {key: value.shape for key, value in inputs.items()}
        names = self.symbol.list_arguments()
        self.values = dict(zip(names, self.symbol.infer_shape(**self.shapes)[0]))
        for key, shape in self.values.items():
            if key in inputs:
                value = inputs[key]
            elif key.endswith("_gamma"):
                value = rng.uniform(0.2, 1.3, shape) * rng.choice([-1, 1], shape, p=[0.2, 0.8])
            elif key.endswith("_weight"):
                value = rng.normal(0, np.sqrt(2 / np.prod(shape[1:])), shape)
            else:
                value = rng.normal(0, 0.1, shape)
            self.values[key] = value.astype(np.float32)  # the same numbers in both precisions
        self.parameters = [key for key in names if key not in inputs]
        self.bound = {}

    def executor(self, dtype):
        if dtype not in self.bound:
            self.bound[dtype] = self.symbol.simple_bind(
                mx.cpu(),
                grad_req="write",
                type_dict=dict.fromkeys(self.values, dtype),
                **self.shapes,
            )
        return self.bound[dtype]

    def total(self, dtype, shifts=None):
        executor = self.executor(dtype)
        for key, value in self.values.items():
            value = value.astype(dtype)
            if shifts and key in shifts:
                value = value + shifts[key]
            executor.arg_dict[key][:] = mx.nd.array(value, dtype=dtype)
        outputs = executor.forward(is_train=True)
        return sum(
            float(out.asnumpy()[0])
            for name, out in zip(self.symbol.list_outputs(), outputs)
            if name.endswith("_loss_output")
        )

    def gradient(self):
        total = self.total("float32")
        executor = self.executor("float32")
        executor.backward()
        return total, {
            key: executor.grad_dict[key].asnumpy().astype(np.float64) for key in self.parameters
        }


def kind_of(name):
    """Parameters by what they are: each kind has its own way through the signs."""
    norms_or_slopes = "slope" if "relu" in name else "norm"
    return norms_or_slopes if name.endswith(("_gamma", "_beta")) else name.rsplit("_", 1)[1]


@pytest.mark.parametrize("name", NETS)
def test_gradient_of_a_whole_net(name):
    """Slope of the loss along a direction, found in double precision by a step so small that
    hardly a PReLU changes sides, against the gradient that training gets in single precision.
    All samples are kept, as the mining's argsort has no double precision."""
    training = Training(name, 10, ohem=1.0)
    total, gradients = training.gradient()
    assert abs(training.total("float64") - total) < 1e-5 * total
    rng = np.random.default_rng(11)
    step = 1e-6
    for kind in {kind_of(key) for key in training.parameters}:
        # Each tensor counts alike: its own gradient's direction, roughened. The gradient of a
        # bias before a batch norm is 0.
        direction = {}
        for key in training.parameters:
            if kind_of(key) == kind:
                gradient = gradients[key]
                rough = gradient * rng.uniform(0, 2, gradient.shape)
                direction[key] = rough / max(np.linalg.norm(rough), 1e-4)
        slope = sum((gradients[key] * d).sum() for key, d in direction.items())
        up, down = (
            training.total("float64", {key: sign * step * d for key, d in direction.items()})
            for sign in (1, -1)
        )
        assert slope > 1e-2 or kind == "bias"
        assert abs((up - down) / (2 * step) - slope) < 1e-3 * slope + 1e-4, kind


@pytest.mark.parametrize("name", NETS)
def test_gradient_with_mining_in_single_precision(name):
    """The graph as it is trained, default losses, along its own gradient. Its rounding
    error is some 1e-6 of the loss; the step lets it change by 2e-3, so that the slope is good to
    better than one in a hundred, and it still bends little within."""
    training = Training(name, 20, ohem=0.7)
    total, gradients = training.gradient()
    length = np.sqrt(sum((g**2).sum() for g in gradients.values()))
    step = 1e-3 * total / length
    up, down = (
        training.total("float32", {key: sign * step * g / length for key, g in gradients.items()})
        for sign in (1, -1)
    )
    assert abs((up - down) / (2 * step) / length - 1) < 0.02

"""The compiled layers of training against MXNet's graphs in double precision, whose gradients
tests/symbols/test_blocks.py compares with finite differences."""

import numpy as np
import pytest

import symbols
from config import config, override
from core.formats import checkpoint
from core.train.trainer import Trainer
from core.train.trunk import library, operator
from facelet.engine import library as engine
from symbols import graph as graphs
from symbols.mxnet_import import mx

BATCH = 37  # no whole number of vectors
NETS = {
    "Pnet20_v1": {},
    "Pnet20_v3": {},  # a pooling
    "Onet_v2": {"landmark": True},  # batch norms all the way
    "Onet48": {"landmark": True},  # wide kernels, a fully connected layer over a map
    "Lnet_v2": {"base": 4},  # padding
    "Rnet_v1": {},
}
INSTRUCTIONS = engine.instructions(engine.library())


def batch_of(name, options, batch=BATCH):
    spec, rng = symbols.spec(name), np.random.default_rng(5)
    data = rng.uniform(-1, 1, (batch, 3, spec.size, spec.size))
    inputs = {"data": data, "landmark_target": rng.uniform(0, 1, (batch, 10))}
    if spec.family != "Lnet":
        inputs["label"] = np.resize([1, 0, 0, -1, -2], batch)
        inputs["bbox_target"] = rng.normal(0, 0.2, (batch, 4))
        if not options:
            del inputs["landmark_target"]
    return {key: value.astype(np.float32) for key, value in inputs.items()}


def parameters_of(name, options):
    start, rng = checkpoint.initial(name, options, 0, 0.25), np.random.default_rng(6)
    made = {**start.arguments, **start.auxiliary}
    for key, value in made.items():
        if key.endswith(("_gamma", "_beta", "_bias", "_mean")):
            made[key] = value + rng.normal(0, 0.1, value.shape).astype(np.float32)
    return made


class Bound:
    """A training graph with parameters and a batch."""

    def __init__(self, symbol, batch, parameters, dtype="float32"):
        self.batch, self.names = batch, symbol.list_outputs()
        self.executor = symbol.simple_bind(
            mx.cpu(),
            grad_req="write",
            type_dict=dict.fromkeys(symbol.list_arguments(), dtype),
            **{key: value.shape for key, value in batch.items()},
        )
        for arrays in (self.executor.arg_dict, self.executor.aux_dict):
            for key, array in arrays.items():
                array[:] = mx.nd.array({**parameters, **batch}[key], dtype=dtype)

    def forward(self, training):
        outputs = self.executor.forward(is_train=training)
        return {name: out.asnumpy() for name, out in zip(self.names, outputs)}

    def gradients(self):
        self.executor.backward()
        return {
            key: value.asnumpy()
            for key, value in self.executor.grad_dict.items()
            if key not in self.batch
        }

    def states(self):
        return {key: value.asnumpy() for key, value in self.executor.aux_dict.items()}


@pytest.mark.parametrize("name", NETS)
def test_it_trains_as_mxnets_graph_does(name):
    options, batch = NETS[name], batch_of(name, NETS[name])
    parameters = parameters_of(name, options)
    # All samples count: which ones are the hardest may hang on the last bit.
    loss = override(config, [f"loss.{task}.ohem=1" for task in ("cls", "bbox", "landmark")]).loss
    oracle = Bound(symbols.build(name, "train", loss=loss, **options), batch, parameters, "float64")
    ours = Bound(operator.training_graph(name, "train", loss, **options), batch, parameters)
    assert ours.names == oracle.names
    wanted, found = oracle.forward(True), ours.forward(True)
    for key, value in wanted.items():
        assert np.allclose(found[key], value, rtol=1e-5, atol=2e-5), key
    wanted, found = oracle.gradients(), ours.gradients()
    normed = {
        f"{node.inputs[0]}_bias"
        for node in graphs.describe(name, **options).nodes
        if node.op == "bn"
    }
    assert found.keys() == wanted.keys()
    for key, value in wanted.items():
        assert found[key].shape == value.shape
        if key in normed:  # the norm takes away what it adds
            assert np.abs(value).max() < 1e-9 and not found[key].any()
        else:
            # Rounding puts a value now and then on the other side of a PReLU's kink.
            assert np.linalg.norm(found[key] - value) < 1e-3 * np.linalg.norm(value), key
    wanted, found = oracle.states(), ours.states()
    for key, value in wanted.items():
        assert np.abs(found[key] - value).max() < 1e-5, key
        assert not np.array_equal(value, parameters[key])  # they moved
    wanted, found = oracle.forward(False), ours.forward(False)
    for key, value in wanted.items():
        assert np.allclose(found[key], value, rtol=1e-5, atol=2e-5), key


def step(name, options, threads, instructions, batch=BATCH):
    """Outputs, moving states and gradients of one forward and backward, as bytes of one array."""
    graph = graphs.describe(name, **options)
    plan = library.plan(graph, symbols.spec(name).size)
    trunk = library.Trunk(plan, batch, threads, instructions)
    arrays = {key: value.copy() for key, value in parameters_of(name, options).items()}
    gradients = {key: np.full_like(value, np.nan) for key, value in arrays.items()}
    data, rng = batch_of(name, options, batch)["data"], np.random.default_rng(1)
    outputs = [np.empty((batch, channels), np.float32) for channels in trunk.channels]
    given = [rng.normal(0, 1, out.shape).astype(np.float32) for out in outputs]
    for _ in range(2):
        trunk.forward(
            data.ctypes.data,
            lambda key: arrays[key].ctypes.data,
            [out.ctypes.data for out in outputs],
            True,
        )
        trunk.backward(
            data.ctypes.data,
            [out.ctypes.data for out in given],
            lambda key: gradients[key].ctypes.data,
        )
    states = [key for key in arrays if "_moving_" in key]
    return np.concatenate(
        [out.ravel() for out in outputs]
        + [arrays[key].ravel() for key in states]
        + [value.ravel() for key, value in gradients.items() if key not in states]
    )


@pytest.mark.parametrize("name", ["Onet_v2", "Pnet20_v3"])
def test_threads_change_no_bit(name):
    one = step(name, NETS[name], 1, None, batch=100)
    assert np.isfinite(one).all()
    for threads in (2, 3):
        assert step(name, NETS[name], threads, None, batch=100).tobytes() == one.tobytes()


@pytest.mark.parametrize("instructions", INSTRUCTIONS)
def test_every_instruction_set(instructions):
    for name in ("Onet48", "Lnet_v2", "Pnet20_v3"):
        wanted = step(name, NETS[name], 1, INSTRUCTIONS[0])
        found = step(name, NETS[name], 2, instructions)
        assert np.linalg.norm(found - wanted) < 1e-3 * np.linalg.norm(wanted)


@pytest.mark.parametrize(
    ("name", "gpus"), [("Lnet106_64r", ()), ("L14_heatmap", ()), ("Pnet20_v1", (0,))]
)
def test_what_it_does_not_have_is_trained_by_mxnet(name, gpus):
    plain = symbols.build(name, "train")
    assert operator.training_graph(name, gpus=gpus).list_arguments() == plain.list_arguments()
    assert operator.TYPE not in operator.training_graph(name, gpus=gpus).tojson()


def test_without_the_library_mxnet_trains(monkeypatch):
    assert operator.TYPE in operator.training_graph("Pnet20_v1").tojson()
    monkeypatch.setattr(library, "api", lambda: None)
    assert operator.TYPE not in operator.training_graph("Pnet20_v1").tojson()


def test_a_trainer_on_another_number_of_threads_ends_with_the_same_bits(monkeypatch):
    batch = {**batch_of("Onet_v2", {"landmark": True})}
    settings = override(config, [f"train.batch={BATCH}", "train.warmup=1"])
    found = []
    for threads in (1, 3):
        monkeypatch.setattr(operator, "threads", lambda number=threads: number)
        start = checkpoint.initial("Onet_v2", {"landmark": True}, 0, 0.25)
        trainer = Trainer(start, settings.train, settings.loss, 10)
        for _ in range(3):
            trainer.step(batch)
        made = trainer.checkpoint()
        found.append({**made.arguments, **made.auxiliary})
    for key, value in found[0].items():
        assert np.array_equal(value, found[1][key]), key
        if not key.endswith("_bias"):
            assert not np.array_equal(value, {**start.arguments, **start.auxiliary}[key])

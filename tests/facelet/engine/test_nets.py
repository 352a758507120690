"""Nets in the engine against onnxruntime and against the graphs that they were made from."""

import numpy as np
import pytest
from trained import trained

from core.formats import fuse, numpy_net, onnx_file
from facelet.engine import description, library
from facelet.engine.build import HERE
from facelet.onnx_net import OnnxNet
from symbols import zoo
from symbols.graph import shapes

LIMIT = 1e-5  # of the largest output
LIBRARY = library.library()


def exported(checkpoint, plain=False):
    """The ONNX model of a checkpoint as core.export writes it, without its checks, which take
    their time."""
    size = checkpoint.spec.size
    graph = fuse.merge(fuse.rescale(checkpoint.graph()))
    graph = graph if plain else fuse.fast(graph, size)
    made = onnx_file.model(graph, checkpoint.facts(), shapes(graph, size, size))
    return OnnxNet(made.SerializeToString(), name=checkpoint.net)


def in_engine(net, instructions=None):
    return library.CNet(LIBRARY, description.describe(net.model, net.facts), instructions)


@pytest.fixture(scope="module")
def scratch():
    return library.Scratch(LIBRARY)


def inputs(net, rng):
    """Inputs of sizes and numbers at which strips, batches and rows end somewhere else."""
    size = net.facts["input"]["size"]
    shapes = [(2, 3, size + 37, size + 101), (1, 3, size, size + 3)] if net.facts["stride"] else []
    for shape in shapes or [(9 if size < 60 else 1, 3, size, size)]:
        yield rng.uniform(-1, 1, shape).astype(np.float32)


def agrees(net, other, scratch):
    for data in inputs(net, np.random.default_rng(3)):
        found, expected = other.run(scratch, data), net(data)
        assert found.keys() == expected.keys()
        assert numpy_net.difference(found, expected) <= LIMIT


EVERY = [(name, options) for name in zoo.names() for options in list(zoo.variants(name))]
# Of widths that differ in nothing else, the smallest.
ONE_EACH = {(name, "landmark" in options): (name, options) for name, options in reversed(EVERY)}


@pytest.mark.parametrize("name, options", ONE_EACH.values())
def test_every_net_of_the_zoo(name, options, scratch):
    net = exported(trained(name, **options))
    agrees(net, in_engine(net), scratch)


@pytest.mark.parametrize("instructions", library.instructions(LIBRARY))
@pytest.mark.parametrize("name", ["Pnet20_v3", "Pnet20_p", "Rnet_p", "Lnet106_64r", "Onet48"])
@pytest.mark.parametrize("plain", [False, True])
def test_every_instruction_set_and_both_forms(name, plain, instructions, scratch):
    net = exported(trained(name), plain)
    agrees(net, in_engine(net, instructions), scratch)


def test_sums_that_stand_for_prelus_become_prelus():
    """Both forms of a net have the same layers, and the same values but for rounding."""
    made = trained("Rnet_p")
    plain, fast = (exported(made, plain) for plain in (True, False))
    sizes = {len(description.describe(net.model, net.facts)) for net in (plain, fast)}
    assert len(sizes) == 1


def test_what_the_engine_does_not_run():
    net = exported(trained("Rnet_v1"))
    for old, new in ((b"Sigmoid", b"Sinhoid"), (b"Conv", b"Cnov"), (b"transB", b"transC")):
        with pytest.raises(description.Unsupported):
            description.describe(net.model.replace(old, new), net.facts)
    for end in (100, len(net.model) // 2, len(net.model) - 3):
        with pytest.raises(description.Unsupported):
            description.describe(net.model[:end], net.facts)


def test_the_binding_is_of_this_header():
    header = (HERE / "engine.h").read_text()
    assert f"#define FACELET_ABI {library.ABI} " in header
    assert f"#define FACELET_TASKS {len(description.TASKS)} " in header

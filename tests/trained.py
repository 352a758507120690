"""Parameters of the kinds that training leaves, without training."""

import numpy as np

from core.formats import checkpoint, numpy_net
from facelet import picture as pictures

# spread and mean of a net's outputs, by task
USUAL = {"cls": (1, 0), "bbox": (0.1, 0), "landmark": (0.1, 0.5)}


def trained(net, seed=1, **options):
    """A Checkpoint with no parameter at the value it starts from: slopes of both signs and above
    1, gammas of both signs, means, variances and shifts of every channel its own."""
    made = checkpoint.initial(net, options, seed, prelu_slope=0.25)
    rng = np.random.default_rng(seed)
    norms = {name.rsplit("_moving_", 1)[0] for name in made.auxiliary}
    for values in (made.arguments, made.auxiliary):
        for name, value in values.items():
            stem, kind = name.rsplit("_", 1)
            if kind == "weight":
                continue
            if kind == "gamma":
                low, high = (0.4, 1.2) if stem in norms else (-0.3, 1.3)
                new = rng.uniform(low, high, value.shape)
                new *= rng.choice([1, -1], value.shape, p=[0.8, 0.2]) if stem in norms else 1
            else:
                low, high = (0.3, 2) if kind == "var" else (-0.3, 0.3)
                new = rng.uniform(low, high, value.shape)
            values[name] = new.astype(np.float32)
    return made


def sensible(picture, net, options):
    """A Checkpoint by chance whose outputs are of a trained net's size on crops of a picture."""
    made = trained(net, **options)
    rng = np.random.default_rng(0)
    height, width = picture.shape[:2]
    corner = rng.integers(0, (width - 100, height - 100), (24, 2))
    squares = np.concatenate([corner, corner + rng.integers(20, 200, (24, 1))], axis=1)
    crops = np.stack([pictures.crop(picture, square, made.spec.size) for square in squares])
    blobs = {}
    numpy_net.run(
        made.graph(), pictures.to_input(crops), lambda blob, values: blobs.update({blob: values})
    )
    for head in made.spec.heads:
        values = blobs[head.layer].reshape(len(crops), -1)
        spread, mean = USUAL[head.task]
        made.auxiliary[f"{head.bn}_moving_mean"][:] = values.mean(axis=0)
        made.auxiliary[f"{head.bn}_moving_var"][:] = values.var(axis=0)
        made.arguments[f"{head.bn}_gamma"][:] = spread
        made.arguments[f"{head.bn}_beta"][:] = mean
    return made


def huge(net="Pnet20_v0", reach=1e13, seed=1):
    """A Checkpoint as the published nets without batch norms in the trunk are: PReLU slopes of 1,
    activations that grow from layer to layer up to about `reach`, and the batch norms of the heads
    bringing them back to ordinary values."""
    made = trained(net, seed)
    heads = {head.layer: head.bn for head in made.spec.heads}
    weights = [
        name
        for name in made.arguments
        if name.endswith("_weight") and name.rsplit("_", 1)[0] not in heads
    ]
    for name, value in made.arguments.items():
        if name.endswith("_gamma") and name.rsplit("_", 1)[0] not in heads.values():
            value[:] = 1
    data = numpy_net.seeded_input(made.spec.size, count=16)
    factor = (reach / numpy_net.largest_activation(made.graph(), data)) ** (1 / len(weights))
    for name in weights:
        made.arguments[name] *= np.float32(factor)
    seen = {}
    numpy_net.run(made.graph(), data, lambda blob, values: seen.update({blob: values}))
    for layer, norm in heads.items():
        values = seen[layer].reshape(len(data), -1)
        made.auxiliary[f"{norm}_moving_mean"][:] = values.mean(axis=0)
        made.auxiliary[f"{norm}_moving_var"][:] = values.var(axis=0)
    return made

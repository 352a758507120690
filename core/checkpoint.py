"""Checkpoints that any MXNet user can load, with a manifest beside them.

    NAME-symbol.json      the test graph: published names, MXNet's own operators
    NAME-0016.params      parameters after epoch 16, keys arg:... and aux:...
    NAME-0016.json        the manifest: net and options, picture-to-input constants, figures,
                          configuration, data, hashes
"""
import re
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

import symbols
from config import config
from core.console import Problem
from core.files import read_json, sha256, whole_file, write_json, write_text
from core.mxnet_import import mx
from symbols import zoo

# Offsets and points spread by about a tenth of the crop's side. A batch norm that began at 1 would
# give predictions ten times too wide, whose loss drowns the other tasks and, at useful learning
# rates, kills the trunk in the first steps.
REGRESSION_SPREAD = 0.1


@dataclass
class Checkpoint:
    """Parameters of a net of the zoo, as NDArrays by name, and what is known of them."""
    net: str
    options: dict
    arguments: dict
    auxiliary: dict
    manifest: dict = field(default_factory=dict)

    @property
    def spec(self):
        return zoo.spec(self.net, self.options.get("landmark", False))

    def symbol(self, mode="test"):
        return symbols.build(self.net, mode, **self.options)


def paths(folder, name, epoch):
    """Paths of a checkpoint's files: symbol, params, manifest."""
    folder = Path(folder)
    stem = f"{name}-{epoch:04d}"
    return folder / f"{name}-symbol.json", folder / f"{stem}.params", folder / f"{stem}.json"


def save(folder, checkpoint, epoch, facts):
    """Write a checkpoint; the manifest, with the values of `facts`, comes last, so where it is
    the rest is whole. Returns the path of the parameters."""
    net = checkpoint.spec
    symbol_path, params_path, manifest_path = paths(folder, net.name, epoch)
    write_text(symbol_path, checkpoint.symbol().tojson())
    with whole_file(params_path) as part:
        try:
            mx.nd.save(str(part), {**{f"arg:{k}": v for k, v in checkpoint.arguments.items()},
                                   **{f"aux:{k}": v for k, v in checkpoint.auxiliary.items()}})
            mx.nd.load(str(part))  # MXNet may not notice that a disk is full
        except mx.base.MXNetError:
            raise Problem(f"{params_path} can't be written whole: is the disk full? Free some "
                          "space and run the same command again") from None
    write_json(manifest_path, {
        "net": net.name, "options": checkpoint.options, "epoch": epoch,
        "input": {"size": net.size, "order": "BGR", "layout": "NCHW", **config.input},
        "cell": net.cell, "stride": net.stride, "params": params_path.name,
        "sha256": sha256(params_path), **facts})
    return params_path


def _shapes(symbol, size):
    arguments, _, auxiliary = symbol.infer_shape(data=(1, 3, size, size))
    known = dict(zip(symbol.list_arguments(), arguments))
    known.pop("data")
    return known, dict(zip(symbol.list_auxiliary_states(), auxiliary))


def expected_shapes(net, options):
    """Shapes of the arguments and auxiliary states of a net of the zoo, by name."""
    spec = zoo.spec(net, options.get("landmark", False))
    return _shapes(symbols.build(net, **options), spec.size)


def read_params(path):
    """(arguments, auxiliary states) of a .params file, NDArrays by name. Raises Problem."""
    if not Path(path).is_file():
        raise Problem(f"{path} is not there: give a .params file")
    try:
        loaded = mx.nd.load(str(path))
    except mx.base.MXNetError:
        loaded = None
    if not isinstance(loaded, dict) or not loaded:
        raise Problem(f"{path} is no MXNet .params file, or a damaged one")
    parts = {"arg": {}, "aux": {}}
    for key, value in loaded.items():
        kind, colon, name = key.partition(":")
        if not colon or kind not in parts:
            raise Problem(f"{path} holds {key!r}: the names in a .params file begin with arg: or "
                          "aux:")
        parts[kind][name] = value
    return parts["arg"], parts["aux"]


def nets_that_fit(arguments, auxiliary):
    """(net, options) of the zoo whose names and shapes these parameters have."""
    have = ({k: v.shape for k, v in arguments.items()}, {k: v.shape for k, v in auxiliary.items()})
    first = have[0].get("conv1_weight", ())
    fitting = []
    for name in zoo.names():
        for landmark in (False, True):
            net = zoo.NETS[name]
            if landmark:
                if not net.landmark:
                    continue
                net = zoo.spec(name, landmark=True)
            options = {"landmark": True} if landmark else {}
            if net.base and len(first) == 4:
                options["base"] = first[0]
            heads = [h for h in net.heads if h.task == "landmark"]
            bias = have[0].get(f"{heads[0].layer}_bias") if heads else None
            if bias and bias[0] % 2 == 0 and bias[0] // 2 != net.points:
                options["points"] = bias[0] // 2
            if expected_shapes(name, options) == have:
                fitting.append((name, options))
    # Lnet_v2 with 106 points is Lnet106_v2: the name that needs no option is the right one.
    return [fit for fit in fitting if "points" not in fit[1]] or fitting


def describe(net, options):
    extras = ", ".join(f"{key} {value}" if key != "landmark" else "with landmark head"
                       for key, value in options.items())
    return f"{net} ({extras})" if extras else net


def check_fits(net, options, arguments, auxiliary, path):
    """Raise Problem unless the parameters are those of a net: says what differs and which net
    of the zoo they would fit."""
    differences = []
    for have, want in zip((arguments, auxiliary), expected_shapes(net, options)):
        have = {name: value.shape for name, value in have.items()}
        differences += [f"it lacks {name}" for name in want if name not in have]
        differences += [f"it has {name}, which the net has not" for name in have if name not in want]
        differences += [f"its {name} is {have[name]}, not {want[name]}" for name in want
                        if name in have and have[name] != want[name]]
    if not differences:
        return
    more = f" and {len(differences) - 3} more" if len(differences) > 3 else ""
    fitting = nets_that_fit(arguments, auxiliary)
    hint = ("it fits " + ", ".join(describe(*fit) for fit in fitting) if fitting else
            "it fits no net of the zoo")
    raise Problem(f"{path} does not fit {describe(net, options)}: "
                  + "; ".join(differences[:3]) + f"{more}; {hint}")


def load(path, net=None, **options):
    """The Checkpoint in a .params file, or the newest one of a run's folder.

    net, options -- which net it is; without, the manifest beside the file says it, or else the
    one net of the zoo that it fits

    Raises Problem: no checkpoint there, names or shapes that do not fit, a file that is not the
    one its manifest was written for, or several nets that fit.
    """
    path = Path(path)
    if path.is_dir():
        path = newest(path)
    arguments, auxiliary = read_params(path)
    manifest_path = path.with_suffix(".json")
    manifest = read_json(manifest_path) if manifest_path.exists() else {}
    if manifest.get("sha256", None) not in (None, sha256(path)):
        raise Problem(f"{path} is not the file that {manifest_path.name} was written for: its "
                      "content has changed since")
    if net is None and "net" in manifest:
        net, options = manifest["net"], manifest["options"]
    if net is None:
        fitting = nets_that_fit(arguments, auxiliary)
        if len(fitting) != 1:
            names = ", ".join(describe(*fit) for fit in fitting) or "no net of the zoo"
            raise Problem(f"{path} fits {names}: say which net it is")
        net, options = fitting[0]
    check_fits(net, options, arguments, auxiliary, path)
    return Checkpoint(zoo.spec(net).name, options, arguments, auxiliary, manifest)


def newest(folder):
    """Path of the parameters of the last epoch in a run's folder. Raises Problem."""
    manifests = [p for p in Path(folder).glob("*.json") if re.search(r"-\d{4,}$", p.stem)]
    if not manifests:
        raise Problem(f"{folder} holds no finished epoch of any net")
    last = max(manifests, key=lambda p: int(p.stem.rsplit("-", 1)[1]))
    return last.with_suffix(".params")


def initial(net, options, seed, prelu_slope):
    """Fresh parameters: weights normal with variance 2 / fan-in (He et al. 2015), PReLU slopes
    at `prelu_slope`, biases and shifts 0, batch norms the identity.

    The reference's PReLU slopes start at 1, by accident of a name: a net that begins linear.
    """
    rng = np.random.default_rng([seed, 5])
    # Batch norms are the layers with moving means and variances (bn1_moving_mean).
    batch_norms = {name.rsplit("_moving_", 1)[0] for name in expected_shapes(net, options)[1]}
    regressions = {head.bn for head in zoo.spec(net, options.get("landmark", False)).heads
                   if head.task != "cls"}

    def fresh(name, shape):
        stem, kind = name.rsplit("_", 1)
        if kind == "gamma" and stem in regressions:
            return np.full(shape, REGRESSION_SPREAD)
        if kind == "weight":
            return rng.standard_normal(shape) * np.sqrt(2 / np.prod(shape[1:]))
        if kind in ("gamma", "var"):
            return np.full(shape, 1.0 if kind == "var" or stem in batch_norms else prelu_slope)
        return np.zeros(shape)

    values = [{name: mx.nd.array(fresh(name, shape), dtype="float32")
               for name, shape in shapes.items()} for shapes in expected_shapes(net, options)]
    return Checkpoint(zoo.spec(net).name, options, *values)

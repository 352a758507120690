"""Checkpoints that any MXNet user can load, with a manifest beside them.

    NAME-symbol.json      the test graph: train-mtcnn's names of layers, MXNet's own operators
    NAME-0016.params      parameters after epoch 16, keys arg:... and aux:...
    NAME-0016.json        the manifest: net and options, picture-to-input constants, figures,
                          configuration, data, hashes

Reading takes no MXNet; parameters are NumPy arrays. Only the symbol is MXNet's.
"""

import re
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

import symbols
from core.formats import params_file
from facelet import schemes
from facelet.console import Problem
from facelet.files import read_json, sha256, write_json, write_text
from facelet.nets import describe
from facelet.settings import INPUT
from symbols import graph, zoo

# Offsets and points spread by about a tenth of the crop's side. A batch norm that began at 1 would
# give predictions ten times too wide, whose loss drowns the other tasks and, at useful learning
# rates, kills the trunk in the first steps.
REGRESSION_SPREAD = 0.1
MAPS = "_feat_bn"  # ending of the names of the batch norms of heat maps, one for each stage


@dataclass
class Checkpoint:
    """Parameters of a net of the zoo, float32 arrays by name, and what is known of them."""

    net: str
    options: dict
    arguments: dict
    auxiliary: dict
    manifest: dict = field(default_factory=dict)

    @property
    def spec(self):
        return zoo.spec(self.net, self.options.get("landmark", False))

    def facts(self):
        known = {key: self.manifest.get(key) for key in ("scheme", "crop", "held_out")}
        return facts(self.net, self.options, **known)

    def symbol(self, mode="test"):
        return symbols.build(self.net, mode, **self.options)

    def graph(self):
        """The net as a symbols.graph.Graph with its parameters."""
        return graph.describe(self.net, **self.options).with_params(self.arguments, self.auxiliary)

    def guessed_scheme(self):
        """The order of its landmark points going by its mean face, the shift of its landmark head's
        batch norm (facelet.schemes.guess); None where that does not tell."""
        heads = [head for head in self.spec.heads if head.task == "landmark" and head.bn]
        if not heads:
            return None
        return schemes.guess(schemes.unpack(self.arguments[f"{heads[0].bn}_beta"][None])[0])


def facts(net, options, scheme=None, crop=None, held_out=None):
    """What it takes to feed a net and to read its outputs, JSON values; in manifests and in
    exported models.

    scheme -- name of the order of its landmark points (facelet.schemes), the one that goes without
        saying for their number if None
    crop -- what its crops were cut around in training, {"box": as config.crop.box, "scale": side of
        the crop in sides of it}; left out where nobody says
    held_out -- rules of the pictures that training never saw, [{"seed", "bound"}]
        (prepare_data.held_out); left out likewise
    """
    spec = zoo.spec(net, options.get("landmark", False))
    points = (
        options.get("points", spec.points)
        if any(head.task == "landmark" for head in spec.heads)
        else None
    )
    return {
        "net": spec.name,
        "options": options,
        "family": spec.family,
        "input": {"size": spec.size, **INPUT},
        "cell": spec.cell,
        "stride": spec.stride,
        "points": points,
        "scheme": scheme or schemes.usual(points),
        **({"crop": crop} if crop else {}),
        **({"held_out": held_out} if held_out else {}),
    }


def paths(folder, name, epoch):
    """Paths of a checkpoint's files: symbol, params, manifest."""
    folder = Path(folder)
    stem = f"{name}-{epoch:04d}"
    return folder / f"{name}-symbol.json", folder / f"{stem}.params", folder / f"{stem}.json"


def save(folder, checkpoint, epoch, more, beside=()):
    """Write a checkpoint; the manifest, with the values of `more`, comes last, so where it is
    the rest is whole. Returns the path of the parameters.

    beside -- paths of files in the folder that belong to it: their checksums are in the manifest
        too"""
    net = checkpoint.spec
    symbol_path, params_path, manifest_path = paths(folder, net.name, epoch)
    write_text(symbol_path, checkpoint.symbol().tojson())
    params_file.write(
        params_path,
        {
            **{f"arg:{name}": value for name, value in checkpoint.arguments.items()},
            **{f"aux:{name}": value for name, value in checkpoint.auxiliary.items()},
        },
    )
    write_json(
        manifest_path,
        {
            **checkpoint.facts(),
            "epoch": epoch,
            "params": params_path.name,
            "sha256": sha256(params_path),
            "checksums": {path.name: sha256(path) for path in (symbol_path, *beside)},
            **more,
        },
    )
    return params_path


def expected_shapes(net, options):
    """Shapes of the arguments and auxiliary states of a net of the zoo, by name."""
    spec = zoo.spec(net, options.get("landmark", False))
    return graph.parameter_shapes(graph.describe(net, **options), spec.size)


def read_params(path):
    """(arguments, auxiliary states) of a .params file, arrays by name. Raises Problem."""
    parts = {"arg": {}, "aux": {}}
    for key, value in params_file.read(path).items():
        kind, colon, name = key.partition(":")
        if not colon or kind not in parts or not name.isprintable():
            raise Problem(
                f"{path} holds {key!r}: the names in a .params file begin with arg: or "
                "aux:, and are plain text"
            )
        parts[kind][name] = value
    return parts["arg"], parts["aux"]


def read_manifest(path):
    """The manifest in a JSON file, a dict. Raises Problem unless what it says of the net has the
    types it should have."""
    manifest = read_json(path)
    if not isinstance(manifest, dict):
        raise Problem(f"{path} is no manifest: it holds {type(manifest).__name__}, not an object")
    kinds = {
        "net": str,
        "options": dict,
        "sha256": str,
        "scheme": (str, type(None)),
        "crop": dict,
        "held_out": list,
        "checksums": dict,
        "threads": int,
    }
    wrong = [
        key
        for key, kind in kinds.items()
        if key in manifest and not isinstance(manifest[key], kind)
    ]
    options = manifest.get("options", {})
    if not wrong:
        wrong = [
            f"options.{key}"
            for key, value in options.items()
            if type(value) is not {"base": int, "points": int, "landmark": bool}.get(key)
        ]
    if wrong:
        raise Problem(f"{path} is no manifest: its {', '.join(map(ascii, wrong))} can't be used")
    return manifest


def candidates(arguments):
    """(net, options) of the zoo that parameters might be of: every net, as wide and with as many
    points as these have."""
    first = arguments["conv1_weight"].shape if "conv1_weight" in arguments else ()
    for name in zoo.names():
        for landmark in (False, True) if zoo.NETS[name].landmark else (False,):
            net = zoo.spec(name, landmark)
            options = {"landmark": True} if landmark else {}
            if net.base and len(first) == 4:
                options["base"] = first[0]
            heads = [h for h in net.heads if h.task == "landmark"]
            bias = arguments.get(f"{heads[0].layer}_bias") if heads else None
            if bias is not None and len(bias) % 2 == 0 and len(bias) // 2 != net.points:
                options["points"] = len(bias) // 2
            yield name, options


def nets_that_fit(arguments, auxiliary):
    """(net, options) of the zoo whose names and shapes these parameters have."""
    return plainest(
        fit for fit in candidates(arguments) if not differences(*fit, arguments, auxiliary)
    )


def plainest(fitting):
    """Those of some (net, options) that go by the right name: Lnet_v2 with 106 points is
    Lnet106_v2, which needs no option for them."""
    fitting = list(fitting)
    return [fit for fit in fitting if "points" not in fit[1]] or fitting


def differences(net, options, arguments, auxiliary):
    """What is wrong with parameters for a net: list of str, empty where they fit."""
    found = []
    for have, want in zip((arguments, auxiliary), expected_shapes(net, options)):
        have = {name: value.shape for name, value in have.items()}
        found += [f"it lacks {name}" for name in want if name not in have]
        found += [f"it has {name}, which the net has not" for name in have if name not in want]
        found += [
            f"its {name} is {have[name]}, not {want[name]}"
            for name in want
            if name in have and have[name] != want[name]
        ]
    return found


def misfit(path, net, options, found, fitting):
    """The Problem of parameters that don't fit a net: their differences, the nets they fit."""
    more = f" and {len(found) - 3} more" if len(found) > 3 else ""
    hint = (
        "it fits " + ", ".join(describe(*fit) for fit in fitting)
        if fitting
        else "it fits no net of the zoo"
    )
    return Problem(
        f"{path} does not fit {describe(net, options)}: " + "; ".join(found[:3]) + f"{more}; {hint}"
    )


def named(path):
    """The net of the zoo that a file's name says it is, or None. Not to be trusted: train-mtcnn's
    pnet20_v1-0016.params is Pnet20_v0."""
    called = re.sub(r"-\d+$", "", Path(path).stem).lower()
    meant = [name for name in (*zoo.NETS, *zoo.ALIASES) if name.lower() == called]
    return zoo.spec(meant[0]).name if meant else None


def check_fits(net, options, arguments, auxiliary, path):
    """Raise Problem unless the parameters are those of a net: says what differs and which net
    of the zoo they would fit."""
    found = differences(net, options, arguments, auxiliary)
    if found:
        raise misfit(path, net, options, found, nets_that_fit(arguments, auxiliary))


def load(path, net=None, **options):
    """The Checkpoint in a .params file, or the newest one of a run's folder. Where MXNet's symbol
    stands beside it, its batch norms are taken as that says.

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
    manifest = read_manifest(manifest_path) if manifest_path.exists() else {}
    if manifest.get("sha256") not in (None, sha256(path)):
        raise Problem(
            f"{path} is not the file that {manifest_path.name} was written for: its "
            "content has changed since"
        )
    if net is None and "net" in manifest:
        net, options = manifest["net"], manifest.get("options", {})
    if net is None:
        fitting = nets_that_fit(arguments, auxiliary)
        if len(fitting) != 1:
            names = ", ".join(describe(*fit) for fit in fitting) or "no net of the zoo"
            raise Problem(f"{path} fits {names}: say which net it is")
        net, options = fitting[0]
    check_fits(net, options, arguments, auxiliary, path)
    _as_the_zoo_has_them(_symbol_beside(path), arguments, auxiliary)
    return Checkpoint(zoo.spec(net).name, options, arguments, auxiliary, manifest)


def _symbol_beside(path):
    """(name, fix_gamma, eps) of the batch norms in the NAME-symbol.json of a NAME-0016.params file;
    none without one."""
    symbol_path = path.with_name(re.sub(r"-\d{4,}$", "", path.stem) + "-symbol.json")
    if not symbol_path.exists():
        return []
    try:
        return [
            batch_norm(node)
            for node in read_json(symbol_path)["nodes"]
            if node["op"] == "BatchNorm"
        ]
    except (AttributeError, KeyError, OverflowError, TypeError, ValueError):
        raise Problem(
            f"{symbol_path} is no MXNet symbol, or a damaged one: remove it or put the "
            "right one there"
        ) from None


def attributes(node):
    """Attributes of a node of an MXNet symbol's JSON, of any age: str by name."""
    given = {}
    for key in ("param", "attr", "attrs"):  # their names, from MXNet 0.8 to 0.12
        given.update(node.get(key, {}))
    return given


def batch_norm(node):
    """(name, fix_gamma, eps) of a BatchNorm of an MXNet symbol's JSON. Raises ValueError, KeyError,
    TypeError or AttributeError for what can't be one."""
    given = attributes(node)
    eps = float(given.get("eps", graph.BN_EPS))
    if not 0 <= eps < float("inf"):
        raise ValueError
    # fix_gamma is MXNet's default
    return node["name"], given.get("fix_gamma", "True").lower() in ("true", "1"), eps


def _as_the_zoo_has_them(batch_norms, arguments, auxiliary):
    """Rewrite, in place, parameters of batch norms (name, fix_gamma, eps) that have another eps
    than the zoo's, or a gamma fixed to 1."""
    for name, fix_gamma, eps in batch_norms:
        gamma, var = f"{name}_gamma", f"{name}_moving_var"
        if var not in auxiliary:
            continue
        if fix_gamma:
            arguments[gamma] = np.ones_like(arguments[gamma])
        arguments[gamma], auxiliary[var] = graph.with_zoo_eps(arguments[gamma], auxiliary[var], eps)


def newest(folder):
    """Path of the parameters of the last epoch in a run's folder. Raises Problem."""
    manifests = [p for p in Path(folder).glob("*.json") if re.search(r"-\d{4,}$", p.stem)]
    if not manifests:
        raise Problem(
            f"{folder} holds no finished epoch of any net: name a .params file (a "
            "detector's folder of nets goes with --nets, or FaceDetector.open)"
        )
    last = max(manifests, key=lambda p: int(p.stem.rsplit("-", 1)[1]))
    return last.with_suffix(".params")


def initial(net, options, seed, prelu_slope):
    """Fresh parameters: weights normal with variance 2 / fan-in (He et al. 2015), PReLU slopes
    at `prelu_slope`, biases and shifts 0, batch norms the identity.

    PReLU slopes of train-mtcnn start at 1, by accident of a name: a net that begins linear.
    """
    rng = np.random.default_rng([seed, 5])
    # Batch norms are the layers with moving means and variances (bn1_moving_mean).
    batch_norms = {name.rsplit("_moving_", 1)[0] for name in expected_shapes(net, options)[1]}
    regressions = {
        head.bn
        for head in zoo.spec(net, options.get("landmark", False)).heads
        if head.task != "cls"
    }
    regressions |= {name for name in batch_norms if name.endswith(MAPS)}

    def fresh(name, shape):
        stem, kind = name.rsplit("_", 1)
        if kind == "gamma" and stem in regressions:
            return np.full(shape, REGRESSION_SPREAD)
        if kind == "weight":
            return rng.standard_normal(shape) * np.sqrt(2 / np.prod(shape[1:]))
        if kind in ("gamma", "var"):
            return np.full(shape, 1.0 if kind == "var" or stem in batch_norms else prelu_slope)
        return np.zeros(shape)

    values = [
        {name: fresh(name, shape).astype(np.float32) for name, shape in shapes.items()}
        for shapes in expected_shapes(net, options)
    ]
    return Checkpoint(zoo.spec(net).name, options, *values)


def begun_from(path, fresh):
    """The Checkpoint in a file or run's folder that a training begins from, of the net that `fresh`
    is. The head of a net that gives landmarks alone may be another, with other points: then it is
    that of `fresh`, and the trunk is kept. Raises Problem."""
    path = newest(path) if Path(path).is_dir() else Path(path)
    net, options, spec, given = fresh.net, fresh.options, fresh.spec, read_params(path)
    if [head.task for head in spec.heads] != ["landmark"] or not differences(net, options, *given):
        return load(path, net, **options)
    head = tuple(f"{name}_" for name in (spec.heads[0].layer, spec.heads[0].bn))
    values = [
        {
            **{name: value for name, value in old.items() if not name.startswith(head)},
            **{name: value for name, value in new.items() if name.startswith(head)},
        }
        for old, new in zip(given, (fresh.arguments, fresh.auxiliary))
    ]
    check_fits(net, options, *values, path)
    print(f"{path}: its trunk is kept; its head gives other points, and begins anew")
    manifest = path.with_suffix(".json")
    seen = read_manifest(manifest) if manifest.exists() else {}
    return Checkpoint(net, options, *values, {"held_out": seen.get("held_out", [])})

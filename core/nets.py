"""Nets ready to run, from files of any kind: a function of data (N, 3, H, W) float32 giving
outputs by task, with `facts` (core.checkpoint.facts and the outputs' names), `tasks` and `name`."""
import re
from pathlib import Path

from core.console import Problem
from core.files import read_json
from core.onnx_backend import AnotherModel, OnnxNet

BACKENDS = ("onnxruntime", "mxnet")
MODELS = Path(__file__).resolve().parents[1] / "models"  # the detector that comes with the toolkit
MANIFEST = "detector.json"
STAGES = {"Pnet": "pnet", "Rnet": "rnet", "Onet": "onet", "Lnet": "landmark"}  # by family
SETTINGS = ("thresholds", "min_face", "factor")
FLOAT, CHECKPOINT, INT8 = range(3)  # of the files of one net the first kind is taken


def open_net(path, backend="onnxruntime", threads=1):
    """The net in an ONNX model of core.export, a .params file or the newest of a run's folder.

    With onnxruntime it gets its fast form (core.fuse.split_prelu, face_score): of the
    probabilities there is the face's alone, the last either way. Raises Problem.
    """
    if backend not in BACKENDS:
        raise Problem(f"backend is {backend!r}: it must be one of {', '.join(BACKENDS)}")
    path = Path(path)
    if path.suffix == ".onnx":
        if backend == "mxnet":
            raise Problem(f"{path} is an ONNX model: MXNet runs .params files")
        return _fast_onnx(path, threads)
    if path.suffix in (".zqparams", ".nchwbin"):
        raise Problem(f"{path} is a file of ZQCNN's: convert it first, with python -m core.convert")
    from core import checkpoint
    loaded = checkpoint.load(path)
    if backend == "mxnet":
        from core.mxnet_backend import MxNet
        return MxNet(loaded, name=str(path))
    from core import fuse
    return _fast(fuse.prepared(loaded.graph(), loaded.spec.size), loaded.facts(), threads, path)


def file_of(path):
    """The file that open_net opens: `path`, or the newest checkpoint of a run's folder. Raises
    Problem."""
    from core import checkpoint
    return checkpoint.newest(path) if Path(path).is_dir() else Path(path)


def _fast_onnx(path, threads):
    net = OnnxNet(path, threads)
    try:
        import onnx
    except ImportError:  # it runs without, only slower
        return net
    model = onnx.load(path)
    on_maps = {value.name for value in model.graph.initializer if len(value.dims) == 3}
    if not any(layer.op_type == "PRelu" and layer.input[1] in on_maps
               for layer in model.graph.node):
        return net  # exported in the fast form, or quantised
    from core import onnx_file
    return _fast(*onnx_file.read(model, path), threads, path)


def _fast(graph, facts, threads, path):
    from core import fuse, onnx_file
    from symbols.graph import shapes
    size = facts["input"]["size"]
    graph = fuse.face_score(fuse.split_prelu(graph, size))
    made = onnx_file.model(graph, facts, shapes(graph, size, size))
    return OnnxNet(made.SerializeToString(), threads, name=path)


# ---- the nets of a detector ----------------------------------------------------------------

def in_folder(folder, given=(), backend="onnxruntime", points=None):
    """The nets of a detector in a folder: (paths, settings).

    paths -- by stage: "pnet", and those of "rnet", "onet" and "landmark" that there are
    settings -- those of "thresholds", "min_face" and "factor" that the folder says

    A file detector.json in the folder has a JSON object of both, files by stage with their names
    relative to the folder; for "landmark" it may have an object of files by number of points, of
    which one is taken when so many are asked for. Without it, the nets are found by what is in its
    .onnx and .params files; ONNX models that core.export has not written are passed over. Of files
    of one net an ONNX model goes before a checkpoint, that before an int8 model, and the newest
    epoch is taken.

    given -- stages that are not looked for; backend -- as for open_net, ONNX models being none of
        MXNet's; points -- how many the net for landmarks is to give, any number if None

    Raises Problem: no Pnet, several nets for a stage, a manifest that can't be used.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise Problem(f"{folder} is no folder: give one that holds the nets of a detector")
    manifest = folder / MANIFEST
    paths, settings, others = (_said(manifest, points) if manifest.exists() else
                               _found(folder, given, backend, points))
    paths = {stage: path for stage, path in paths.items() if stage not in given}
    for stage, path in paths.items():
        if not path.exists():
            raise Problem(f"{manifest} names {path.name} for the {stage}, which is not there")
    if "pnet" not in paths and "pnet" not in given:
        what = ", ".join([*(path.name for path in paths.values()), *others]) or "no net at all"
        raise Problem(f"{folder} has no Pnet, with which a detector begins; found: {what}")
    return paths, settings


def _said(manifest, points):
    """Paths, settings, names of other models by a manifest."""
    said = read_json(manifest)
    if not isinstance(said, dict):
        raise Problem(f"{manifest} holds no JSON object of file names by stage")
    stages = STAGES.values()
    if isinstance(said.get("landmark"), dict):
        several = _by_points(said.pop("landmark"), manifest)
        if points in several:
            said["landmark"] = several[points]
    for key, value in said.items():
        if key not in (*stages, *SETTINGS):
            raise Problem(f"{manifest} has {key!r}: known are {', '.join((*stages, *SETTINGS))}")
        if key in stages and not isinstance(value, str):
            raise Problem(f"{manifest} has {value!r} for the {key}: it must be a file's name")
    return ({stage: manifest.parent / said[stage] for stage in stages if stage in said},
            {key: said[key] for key in SETTINGS if key in said}, [])


def _by_points(several, manifest):
    """Files of nets for landmarks by their number of points, as a manifest has them."""
    for key, file in several.items():
        if not key.isdecimal() or not isinstance(file, str):
            raise Problem(f"{manifest} has {key!r}: {file!r} for the landmark: it must be a number "
                          "of points and a file's name")
    return {int(key): file for key, file in several.items()}


def points_in(folder):
    """Numbers of points that nets are named for by the detector.json of a folder, see in_folder();
    none where it names one net, or none. Raises Problem."""
    manifest = Path(folder) / MANIFEST
    said = read_json(manifest).get("landmark") if manifest.exists() else None
    return sorted(_by_points(said, manifest)) if isinstance(said, dict) else []


def _found(folder, given, backend, points):
    """Paths, settings, names of other models by the content of a folder."""
    from core.checkpoint import describe, load
    files, others = [], []  # (path, kind, facts)
    for path in _newest(folder.glob("*.params")):
        files.append((path, CHECKPOINT, load(path).facts()))
    for path in sorted(folder.glob("*.onnx")) if backend == "onnxruntime" else ():
        try:
            facts = OnnxNet(path).facts
        except AnotherModel:
            others.append(path.name)
        else:
            files.append((path, INT8 if path.stem.endswith("-int8") else FLOAT, facts))
    by_stage = {stage: {} for stage in STAGES.values() if stage not in given}
    for path, kind, facts in files:
        stage = STAGES.get(facts["family"])
        if stage == "landmark" and points not in (None, facts["points"]):
            continue
        if stage in by_stage:
            kinds = by_stage[stage].setdefault(describe(facts["net"], facts["options"]), {})
            kinds.setdefault(kind, []).append(path)
    paths = {}
    for stage, nets in by_stage.items():
        best = {path: net for net, kinds in nets.items() for path in kinds[min(kinds)]}
        if len(best) > 1:
            names = ", ".join(f"{path.name} ({net})" for path, net in sorted(best.items()))
            raise Problem(f"{folder} has several nets for the {stage}: {names}; name one in "
                          f"{MANIFEST} there, or give --{stage}")
        paths.update({stage: path for path in best})
    return paths, {}, sorted(others)


def _newest(files):
    """Of .params files NAME-0016.params the last of each NAME; others as they are."""
    last = {}
    for path in sorted(files):
        name, _, epoch = path.stem.rpartition("-")
        if not re.fullmatch(r"\d{4,}", epoch):
            name, epoch = path.stem, -1
        last[name] = max(last.get(name, (-1, path)), (int(epoch), path))
    return [path for _, path in last.values()]

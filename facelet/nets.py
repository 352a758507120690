"""Nets ready to run, from ONNX models, and the nets of a detector in a folder.

A net is a function of data (N, 3, H, W) float32 giving outputs by task, float32, with `name`, `tasks`
and `facts`: what it takes to feed it and to read its outputs, JSON values.
"""

from pathlib import Path

from facelet.console import Problem
from facelet.files import read_json
from facelet.onnx_net import AnotherModel, OnnxNet

HERE = Path(__file__).resolve().parent
# The nets that come along: within an installed package, or beside it in a clone of the toolkit.
MODELS = HERE / "models" if (HERE / "models").is_dir() else HERE.parent / "models"
MANIFEST = "detector.json"
DETECTOR = "detector"  # folder of a finished run of the toolkit that has the nets
STAGES = {"Pnet": "pnet", "Rnet": "rnet", "Onet": "onet", "Lnet": "landmark"}  # by family
SETTINGS = ("thresholds", "min_face", "factor")
FLOAT, CHECKPOINT, INT8 = range(3)  # of the files of one net the first kind is taken


def open_net(path, threads=1):
    """The net in an ONNX model that the toolkit has exported. Raises Problem."""
    path = Path(path)
    if path.suffix == ".params":
        raise Problem(
            f"{path} is a checkpoint: export it first, with the toolkit's python -m core.export"
        )
    if path.suffix in (".zqparams", ".nchwbin"):
        raise Problem(
            f"{path} is a file of ZQCNN's: convert it first, with the toolkit's python -m "
            "core.convert"
        )
    return OnnxNet(path, threads)


def describe(net, options):
    """A net of the zoo and what it was built with, in words."""
    extras = ", ".join(
        f"{key} {value}" if key != "landmark" else "with landmark head"
        for key, value in options.items()
    )
    return f"{net} ({extras})" if extras else net


# ---- the nets of a detector ----------------------------------------------------------------


def onnx_models(folder):
    """What a folder's ONNX models are: [(path, FLOAT or INT8, facts)], and the names of those that
    are not the toolkit's."""
    files, others = [], []
    for path in sorted(folder.glob("*.onnx")):
        try:
            facts = OnnxNet(path).facts
        except AnotherModel:
            others.append(path.name)
        else:
            files.append((path, INT8 if path.stem.endswith("-int8") else FLOAT, facts))
    return files, others


def in_folder(folder, given=(), points=None, look=onnx_models):
    """The nets of a detector in a folder: (paths, settings).

    paths -- by stage: "pnet", and those of "rnet", "onet" and "landmark" that there are
    settings -- those of "thresholds", "min_face" and "factor" that the folder says

    A file detector.json in the folder has a JSON object of both, files by stage with their names
    relative to the folder; for "landmark" it may have an object of files by number of points, of
    which one is taken when so many are asked for. Without it, the nets are found by what is in its
    files; ONNX models that the toolkit has not written are passed over, and an int8 model is taken
    where there is no other of the net. Of a finished run of the toolkit, its folder "detector" is
    looked in.

    given -- stages that are not looked for
    points -- how many the net for landmarks is to give, any number if None
    look -- finds the files of nets, as onnx_models()

    Raises Problem: no Pnet, several nets for a stage, a manifest that can't be used.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise Problem(f"{folder} is no folder: give one that holds the nets of a detector")
    folder = nets_of(folder)
    manifest = folder / MANIFEST
    paths, settings, others = (
        _said(manifest, points) if manifest.exists() else _found(folder, given, points, look)
    )
    paths = {stage: path for stage, path in paths.items() if stage not in given}
    for stage, path in paths.items():
        if not path.exists():
            raise Problem(f"{manifest} names {path.name} for the {stage}, which is not there")
    if "pnet" not in paths and "pnet" not in given:
        what = ", ".join([*(path.name for path in paths.values()), *others]) or "no net at all"
        raise Problem(f"{folder} has no Pnet, with which a detector begins; found: {what}")
    return paths, settings


def nets_of(folder):
    """The folder that has the nets: `folder`, or what a finished run has exported in it."""
    folder = Path(folder)
    inner = folder / DETECTOR
    return inner if not (folder / MANIFEST).exists() and (inner / MANIFEST).exists() else folder


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
    return (
        {stage: manifest.parent / said[stage] for stage in stages if stage in said},
        {key: said[key] for key in SETTINGS if key in said},
        [],
    )


def _by_points(several, manifest):
    """Files of nets for landmarks by their number of points, as a manifest has them."""
    for key, file in several.items():
        if not key.isdecimal() or not isinstance(file, str):
            raise Problem(
                f"{manifest} has {key!r}: {file!r} for the landmark: it must be a number "
                "of points and a file's name"
            )
    return {int(key): file for key, file in several.items()}


def points_in(folder):
    """Numbers of points that nets are named for by the detector.json of a folder, see in_folder();
    none where it names one net, or none. Raises Problem."""
    manifest = nets_of(folder) / MANIFEST
    said = read_json(manifest).get("landmark") if manifest.exists() else None
    return sorted(_by_points(said, manifest)) if isinstance(said, dict) else []


def _found(folder, given, points, look):
    """Paths, settings, names of other models by the content of a folder."""
    files, others = look(folder)
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
            raise Problem(
                f"{folder} has several nets for the {stage}: {names}; name one in "
                f"{MANIFEST} there, or give --{stage}"
            )
        paths.update({stage: path for path in best})
    return paths, {}, sorted(others)

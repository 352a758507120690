"""Nets ready to run, from ONNX models, and the nets of a detector in a folder.

A net is a function of data (N, 3, H, W) float32 giving outputs by task, float32, with `name`,
`tasks` and `facts`: what it takes to feed it and to read its outputs, JSON values.
"""

from collections.abc import Collection
from pathlib import Path
from typing import Any, Callable, Optional, Protocol, Union

from facelet.arrays import Floats
from facelet.console import Problem
from facelet.files import AnyPath, read_json, refuse_outside, write_json
from facelet.onnx_net import AnotherModel, OnnxNet

HERE = Path(__file__).resolve().parent
# The included nets: within an installed package, or beside it in a clone of the toolkit.
MODELS = HERE / "models" if (HERE / "models").is_dir() else HERE.parent / "models"
MANIFEST = "detector.json"
OTHERS = "detector-*.json"  # beside it: manifests of other detectors, which may share its nets
DEFAULT = "medium"  # name of the included detector that MANIFEST is of
PNETS = ("pnet_hard", "pnet")  # folders of a run with its Pnets, the better one first
DETECTOR = "detector"  # folder of a finished run of the toolkit that has the nets
STAGES = {"Pnet": "pnet", "Rnet": "rnet", "Onet": "onet", "Lnet": "landmark"}  # by family
SETTINGS = ("thresholds", "min_face", "factor", "vote", "mirror", "blend")
MODES = "modes"  # key of detector.json: settings for uses of the detector, by name
FLOAT, CHECKPOINT, INT8 = range(3)  # of the files of one net the first kind is taken


# A folder -> its files of nets (path, FLOAT, CHECKPOINT or INT8, facts), and names of other models.
Listing = tuple[list[tuple[Path, int, dict[str, Any]]], list[str]]


class Net(Protocol):
    """A net that is ready to run."""

    name: str
    tasks: list[str]
    facts: dict[str, Any]

    def __call__(self, data: Floats, /) -> dict[str, Floats]: ...


def open_net(path: AnyPath, threads: int = 1) -> Net:
    """The net in an ONNX model that the toolkit has exported. Raises Problem."""
    path = Path(path)
    if path.suffix == ".params" or path.is_dir():
        what = "folder, not an ONNX model" if path.is_dir() else "checkpoint"
        raise Problem(
            f"{path} is a {what}: export it first, with the toolkit's python -m core.export"
        )
    if path.suffix in (".zqparams", ".nchwbin"):
        raise Problem(
            f"{path} is a file of ZQCNN's: convert it first, with the toolkit's python -m "
            "core.convert"
        )
    return OnnxNet(path, threads)


def describe(net: str, options: dict[str, Any]) -> str:
    """A net of the zoo and what it was built with, in words."""
    extras = ", ".join(
        f"{key} {value}" if key != "landmark" else "with landmark head"
        for key, value in options.items()
    )
    return f"{net} ({extras})" if extras else net


# ---- the nets of a detector ----------------------------------------------------------------


def included() -> dict[str, Path]:
    """The manifests of the included detectors by name, the default one first."""
    others = {path.stem.partition("-")[2]: path for path in sorted(MODELS.glob(OTHERS))}
    return {DEFAULT: MODELS / MANIFEST, **others}


def named(where: AnyPath) -> Optional[Path]:
    """The manifest of the included detector that a string names, None where it names none;
    "./small" and a Path are folders. Raises Problem where there is a folder of that name too."""
    manifest = included().get(where) if isinstance(where, str) else None
    if manifest is not None and Path(where).is_dir():
        raise Problem(
            f"{where} is an included detector, and a folder here: write ./{where} for the folder, "
            "or run this elsewhere"
        )
    return manifest


def place(where: AnyPath) -> tuple[Path, Optional[Path]]:
    """The folder that holds the nets of a detector, and the manifest that names them, None where
    there is none.

    where -- the name of an included detector; a manifest; or a folder, of which its detector.json
        counts, or what a finished run has exported in it

    Raises Problem.
    """
    manifest, folder = named(where), Path(where)
    if manifest is None and folder.suffix == ".json" and folder.is_file():
        manifest = folder
    if manifest is not None:
        return manifest.parent, manifest
    if not folder.is_dir():
        raise Problem(
            f"{folder} is no folder: give one that holds the nets of a detector, its {MANIFEST}, "
            f"or the name of an included detector: {', '.join(included())}"
        )
    if not (folder / MANIFEST).exists() and (folder / DETECTOR / MANIFEST).exists():
        folder = folder / DETECTOR
    manifest = folder / MANIFEST
    return folder, manifest if manifest.exists() else None


def onnx_models(folder: Path) -> Listing:
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


def in_folder(
    folder: AnyPath,
    given: Collection[str] = (),
    points: Optional[int] = None,
    listing: Callable[[Path], Listing] = onnx_models,
    mode: Optional[str] = None,
) -> tuple[dict[str, Path], dict[str, Any]]:
    """The nets of a detector: (paths, settings).

    folder -- or its manifest, or the name of an included detector: see place()
    paths -- by stage: "pnet", and those of "rnet", "onet" and "landmark" that there are
    settings -- those of SETTINGS that the folder says, for a mode if one is asked for

    A file detector.json in the folder has a JSON object of both, files by stage with their names
    relative to the folder, which they leave only where facelet.settings.allow_outside() lets them;
    for "landmark" it may have an object of files by number of points, of
    which one is taken when so many are asked for. Without it, the nets are found by what is in its
    files; ONNX models that the toolkit has not written are passed over, and an int8 model is taken
    where there is no other of the net. Of a finished run of the toolkit, its folder "detector" is
    taken.

    given -- stages that are left out, as their nets come from elsewhere
    points -- how many the net for landmarks is to give, any number if None
    listing -- lists the files of nets in a folder, as onnx_models()
    mode -- one of those that detector.json has under "modes", objects of settings that go before
        its others

    Raises Problem: no Pnet, several nets for a stage, a manifest that can't be used, a mode that
    there isn't.
    """
    folder, manifest = place(folder)
    paths, settings, others = (
        _from_manifest(manifest, points)
        if manifest is not None
        else _by_content(folder, given, points, listing)
    )
    paths = {stage: path for stage, path in paths.items() if stage not in given}
    for stage, path in paths.items():
        if not path.exists():
            raise Problem(f"{manifest} names {path.name} for the {stage}, which is not there")
    if "pnet" not in paths and "pnet" not in given:
        for run in (folder / name for name in PNETS):
            if any(run.glob("*.params")):
                raise Problem(
                    f"{folder} is a run that is not finished: go on with it, or give --pnet {run} "
                    "(pnet=... in Python)"
                )
        what = ", ".join([*(path.name for path in paths.values()), *others]) or "no net at all"
        raise Problem(f"{folder} has no Pnet, with which a detector begins; found: {what}")
    modes = settings.pop(MODES, {})
    if mode is not None and mode not in modes:
        raise Problem(
            f"{folder} has no mode {mode!r}: "
            + (f"it has {', '.join(modes)}" if modes else f"no {MANIFEST} there has any")
        )
    return paths, {**settings, **modes.get(mode, {})}


def _from_manifest(
    manifest: Path, points: Optional[int]
) -> tuple[dict[str, Path], dict[str, Any], list[str]]:
    """Paths, settings, names of other models by a manifest."""
    files, settings = read_manifest(manifest)
    several = files.get("landmark")
    if isinstance(several, dict):
        del files["landmark"]
        if points is not None and points in several:
            files["landmark"] = several[points]
    paths = {stage: manifest.parent / str(file) for stage, file in files.items()}
    return paths, settings, []


def read_manifest(
    manifest: AnyPath,
) -> tuple[dict[str, Union[str, dict[int, str]]], dict[str, Any]]:
    """What a detector.json says, see in_folder(): file names by stage, for "landmark" also by
    number of points; and settings. Raises Problem."""
    manifest = Path(manifest)
    values = read_json(manifest)
    if not isinstance(values, dict):
        raise Problem(f"{manifest} holds no JSON object of file names by stage")
    stages = STAGES.values()
    if isinstance(values.get("landmark"), dict):
        values["landmark"] = _by_points(values["landmark"], manifest)
    _check_modes(values.get(MODES, {}), manifest)
    for key, value in values.items():
        if key not in (*stages, *SETTINGS, MODES):
            known = ", ".join((*stages, *SETTINGS, MODES))
            raise Problem(f"{manifest} has {key!r}: known are {known}")
        if key in stages and not isinstance(value, (str, dict) if key == "landmark" else str):
            raise Problem(f"{manifest} has {value!r} for the {key}: it must be a file's name")
        if key in stages:
            for file in value.values() if isinstance(value, dict) else (value,):
                refuse_outside(file, manifest)
    return (
        {stage: values[stage] for stage in stages if stage in values},
        {key: values[key] for key in (*SETTINGS, MODES) if key in values},
    )


def write_mode(folder: AnyPath, mode: str, settings: dict[str, Any]) -> Path:
    """Put settings into the manifest of a detector, see place(), as a mode; returns its path.
    Raises Problem where there is none."""
    manifest = place(folder)[1]
    if manifest is None:
        raise Problem(f"{folder} has no {MANIFEST} to write a mode into: core.export makes one")
    read_manifest(manifest)
    values = read_json(manifest)
    values[MODES] = {**values.get(MODES, {}), mode: settings}
    _check_modes(values[MODES], manifest)
    write_json(manifest, values)
    return manifest


def _check_modes(modes: Any, manifest: Path) -> None:
    """Raise Problem where the modes of a manifest aren't objects of settings by name."""
    right = isinstance(modes, dict) and all(isinstance(one, dict) for one in modes.values())
    if not right or not all(key in SETTINGS for one in modes.values() for key in one):
        raise Problem(
            f"{manifest}: {MODES} must be an object of objects with settings, {', '.join(SETTINGS)}"
        )


def _by_points(several: dict[str, Any], manifest: Path) -> dict[int, str]:
    """Files of nets for landmarks by their number of points, as a manifest has them."""
    for key, file in several.items():
        if not key.isdecimal() or not isinstance(file, str):
            raise Problem(
                f"{manifest} has {key!r}: {file!r} for the landmark: it must be a number "
                "of points and a file's name"
            )
    return {int(key): file for key, file in several.items()}


def points_in(folder: AnyPath) -> list[int]:
    """Numbers of points that nets are named for by the manifest of a detector, see place(); none
    where it names one net, or none. Raises Problem."""
    manifest = place(folder)[1]
    several = read_manifest(manifest)[0].get("landmark") if manifest is not None else None
    return sorted(several) if isinstance(several, dict) else []


def _by_content(
    folder: Path, given: Collection[str], points: Optional[int], listing: Callable[[Path], Listing]
) -> tuple[dict[str, Path], dict[str, Any], list[str]]:
    """Paths, settings, names of other models by the content of a folder."""
    files, others = listing(folder)
    by_stage: dict[str, dict[str, dict[int, list[Path]]]] = {
        stage: {} for stage in STAGES.values() if stage not in given
    }
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
                f"{MANIFEST} there, or give {stage}=... in Python, --{stage} to a program"
            )
        for path in best:
            paths[stage] = path
    return paths, {}, sorted(others)

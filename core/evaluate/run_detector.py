"""A detector that is measured: how it is opened and run, and what its figures hold for."""

from dataclasses import asdict

from core.detect import nets
from core.detect.detector import FaceDetector
from facelet import isolated
from facelet import picture as pictures
from facelet.console import Problem, Progress
from facelet.files import sha256
from facelet.nets import SETTINGS

CASCADE = ("pnet", "rnet", "onet")  # stages that find boxes, in their order
NETS = (  # help of --nets
    "folder with the nets of a detector to run; where its detector.json has "
    f"{', '.join(SETTINGS)}, they go before those of config.py, and detect.KEY=VALUE before both"
)


def open_detector(assignments, settings, folder=None, mode=None, **files):
    """The core.detect.FaceDetector of the nets in a folder, and of files by stage.

    assignments -- settings as they were given, "section.key=value": what the folder's detector.json
        holds (facelet.nets.SETTINGS) goes before settings that are not among them
    settings -- the whole config with them; mode -- one of detector.json's

    Raises Problem.
    """
    assigned = {setting.partition("=")[0] for setting in assignments}
    given = {
        key: settings.detect[key] for key in SETTINGS if not folder or f"detect.{key}" in assigned
    }
    detector = (
        FaceDetector.open(folder, mode=mode, **files, **given)
        if folder
        else FaceDetector(**files, **given)
    )
    return detector.changed(nms=settings.detect.nms, nms_scale=settings.detect.nms_scale)


def floored(detector, settings):
    """The detector for figures over all of its scores: its last net's threshold is evaluate.floor
    if that is lower. A Pnet by itself stays as it is: below its threshold it gives very many boxes.
    """
    thresholds = list(detector.settings.thresholds)
    last = sum(stage in detector.nets for stage in CASCADE) - 1
    if last > 0:
        thresholds[last] = min(thresholds[last], settings.evaluate.floor)
    return detector.changed(thresholds=thresholds)


def open_floored(folder, assignments, settings):
    """The detector of the nets in a folder (open_detector), for figures over all of its scores
    (floored)."""
    return floored(open_detector(assignments, settings, folder), settings)


def rule(detector):
    """What the figures of a detector hold for, in words."""
    used, stages = detector.settings, [stage for stage in CASCADE if stage in detector.nets]
    return (
        f"pictures at their own size, faces looked for from {used.min_face:g} px, scales "
        f"{used.factor:g} apart; scores over "
        + ", ".join(f"{used.thresholds[i]:g} ({stage})" for i, stage in enumerate(stages))
        + f"; greatest overlaps {used.nms_scale:g} within a scale, then "
        + ", ".join(f"{value:g}" for value in used.nms[: len(stages)])
    )


def facts(folder, detector):
    """What detections depend on, as JSON has it: nets by content, settings."""
    files = {stage: nets.file_of(path) for stage, path in nets.in_folder(folder)[0].items()}
    return {
        "nets": {stage: sha256(file) for stage, file in files.items()},
        "settings": {
            key: list(value) if isinstance(value, tuple) else value
            for key, value in asdict(detector.settings).items()
        },
    }


def sizes(files):
    """{name: (width, height)} of pictures {name: path}, of those whose headers can be read, with
    progress."""
    found, progress = {}, Progress(len(files), "pictures read")
    for name, file in files.items():
        try:
            found[name] = pictures.size(file)
        except pictures.BrokenPicture:
            pass  # they are without detections, and counted as such
        progress.step()
    progress.close()
    return found


def print_outside(reasons):
    """Name faces that are left out, a line each of the first, and count them."""
    for reason in reasons[:10]:
        print(f"left out {reason}")
    if reasons:
        print(f"left out {len(reasons):,} faces outside of their pictures: they count neither way")


def run(detector, files):
    """Yields (name, boxes, scores, (width, height)) for pictures {name: path}, with progress;
    those that can't be read are named in the end, and left out. Raises Problem if none can."""
    progress, broken = Progress(len(files), "pictures"), []
    for name, file in files.items():
        try:
            picture = isolated.read(file)
        except pictures.BrokenPicture as error:
            broken.append(str(error))
        else:
            faces = detector.detect(picture)
            yield name, faces.boxes, faces.scores, picture.shape[1::-1]
        progress.step()
    progress.close()
    if broken and len(broken) == len(files):
        raise Problem(f"not one picture could be read; the first: {broken[0]}")
    for reason in broken[:10]:
        print(f"  skipped {reason}")
    if broken:
        print(
            f"  skipped {len(broken):,} of {len(files):,} pictures: they count as pictures "
            "without detections"
        )

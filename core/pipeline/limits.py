"""Whether a net is good enough to go on: its recall and its boxes against pipeline.floors and
pipeline.most_boxes."""

from core.pipeline.recipes import STAGES, TRAINED
from facelet.console import Problem


class LimitMissed(Problem):
    """A net that finds too few faces, or needs too many boxes for them.

    setting -- section.key=value that would have let it pass
    """

    def __init__(self, message, setting):
        super().__init__(message)
        self.setting = setting


def boxes_per_face(figures):
    """Boxes that the cascade leaves for each face that counts, of core.evaluate.stages's figures.
    By the face, as pictures with more faces, or larger ones, have more boxes too."""
    return figures["boxes_per_picture"] * figures["pictures"] / figures["faces"]


def of(name, settings):
    """(least recall, most boxes a face) of a net of TRAINED."""
    stage = list(STAGES).index(TRAINED[name][0])
    return settings.pipeline.floors[stage], settings.pipeline.most_boxes[stage]


def _with(values, name, value):
    """A setting's values, one of them changed: as on a command line."""
    stage = list(STAGES).index(TRAINED[name][0])
    return ",".join(f"{value if i == stage else old:g}" for i, old in enumerate(values))


def check(name, figures, folder, settings, own):
    """Raise LimitMissed unless the cascade as far as a net of TRAINED keeps to its limits.

    figures -- of core.evaluate.stages, which left pictures in `folder`; settings -- of the run;
    own -- the net's
    """
    floor, most = of(name, settings)
    recall, boxes = figures["recall"], boxes_per_face(figures)
    found = (
        f"{name}: recall on held-out pictures is {recall:.3f} (IoU {figures['iou']:g}) with "
        f"{boxes:.1f} boxes a face"
    )
    thresholds = ",".join(f"{value:g}" for value in settings.detect.thresholds)
    longer = f"train longer ({name}.train.epochs, now {own.train.epochs})"
    if recall < floor:
        # Rounded down, so that the floor is one that this recall reaches.
        setting = (
            f"pipeline.floors={_with(settings.pipeline.floors, name, int(recall * 100) / 100)}"
        )
        lower = (
            f"lower its threshold (detect.thresholds, now {thresholds})"
            if boxes < most
            else "add training data"
        )
        raise LimitMissed(
            f"{found}, below the floor of {floor:g}: look at {folder / 'misses.png'}; {longer}, "
            f"{lower}, or label missing faces (--teacher)",
            setting,
        )
    if boxes > most:
        setting = f"pipeline.most_boxes={_with(settings.pipeline.most_boxes, name, int(boxes) + 1)}"
        raise LimitMissed(
            f"{found}, more than the {most:g} allowed: look at {folder / 'false_alarms.png'}; "
            f"{longer} or raise its threshold (detect.thresholds, now {thresholds})",
            setting,
        )

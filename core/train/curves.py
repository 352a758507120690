"""Curves of a training log as a picture."""

import math

from facelet.files import whole_file

PANELS = (  # title, unit, curves as (part of the log, figure, legend)
    (
        "losses",
        "loss",
        (
            ("train", "cls_loss", "cls, training"),
            ("val", "cls_loss", "cls, held out"),
            ("train", "bbox_loss", "box, training"),
        ),
    ),
    (
        "face or not",
        "part of the samples",
        (
            ("val", "accuracy", "accuracy, held out"),
            ("val", "accuracy_hard", "hardest 70 %, held out"),
            ("train", "accuracy_hard", "hardest 70 %, training"),
            ("val", "precision", "precision at 0.5"),
            ("val", "recall", "recall at 0.5"),
        ),
    ),
    ("box error, held out", "crop sides", (("val", "box_error", "mean absolute error"),)),
    (
        "points, held out",
        "crop sides",
        (("val", "landmark_error", "mean distance"), ("val", "mean_face_error", "the mean face's")),
    ),
    ("points", "loss", (("train", "landmark_loss", "training"),)),
    (
        "joints, held out",
        "crop sides",
        (("val", "joint_error", "mean distance"), ("val", "mean_body_error", "the mean body's")),
    ),
    (
        "joints found, held out",
        "part of the joints",
        (("val", "pck", "the net"), ("val", "mean_body_pck", "the mean body")),
    ),
)


def curves(log, path, title):
    """Draw the figures of each epoch of a training log to a picture file."""
    import matplotlib.pyplot as plt  # here, as it takes a while to import

    panels = [panel for panel in PANELS if any(key in log[-1][part] for part, key, _ in panel[2])]
    figure, axes = plt.subplots(1, len(panels), figsize=(5 * len(panels), 4.5), squeeze=False)
    epochs = [row["epoch"] for row in log]
    for axis, (name, unit, lines) in zip(axes[0], panels):
        for part, key, legend in lines:
            found = [row[part].get(key) for row in log]  # not every epoch has every figure
            values = [math.nan if value is None else value for value in found]
            axis.plot(epochs, values, label=legend, marker="o" if len(log) < 2 else None)
        axis.set(title=name, xlabel="epoch", ylabel=unit)
        axis.grid(alpha=0.3)
        axis.legend(fontsize=8)
    figure.suptitle(title)
    figure.tight_layout()
    with whole_file(path) as part:
        figure.savefig(part, dpi=90)
    plt.close(figure)

"""Curves and other figures as pictures."""
import math
import os

from core.files import whole_file

os.environ.setdefault("MPLBACKEND", "Agg")  # no display needed

PANELS = (  # title, unit, curves as (part of the log, figure, legend)
    ("losses", "loss", (("train", "cls_loss", "cls, training"),
                        ("val", "cls_loss", "cls, held out"),
                        ("train", "bbox_loss", "box, training"))),
    ("face or not", "part of the samples", (
        ("val", "accuracy", "accuracy, held out"),
        ("val", "accuracy_hard", "hardest 70 %, held out"),
        ("train", "accuracy_hard", "hardest 70 %, training"),
        ("val", "precision", "precision at 0.5"), ("val", "recall", "recall at 0.5"))),
    ("box error, held out", "crop sides", (("val", "box_error", "mean absolute error"),)),
)


def curves(log, path, title):
    """Draw the figures of each epoch of a training log to a picture file."""
    import matplotlib.pyplot as plt  # here, as it takes a while to import
    figure, axes = plt.subplots(1, len(PANELS), figsize=(15, 4.5))
    epochs = [row["epoch"] for row in log]
    for axis, (name, unit, lines) in zip(axes, PANELS):
        for part, key, legend in lines:
            values = [math.nan if row[part][key] is None else row[part][key] for row in log]
            axis.plot(epochs, values, label=legend,
                      marker="o" if len(log) < 2 else None)
        axis.set(title=name, xlabel="epoch", ylabel=unit)
        axis.grid(alpha=0.3)
        axis.legend(fontsize=8)
    figure.suptitle(title)
    figure.tight_layout()
    with whole_file(path) as part:
        figure.savefig(part, dpi=90)
    plt.close(figure)

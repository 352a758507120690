"""Curves and other figures as pictures."""
import math
import os
import textwrap

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
    ("points, held out", "crop sides", (("val", "landmark_error", "mean distance"),
                                        ("val", "mean_face_error", "the mean face's"))),
)


def curves(log, path, title):
    """Draw the figures of each epoch of a training log to a picture file."""
    import matplotlib.pyplot as plt  # here, as it takes a while to import
    panels = [panel for panel in PANELS if any(key in log[-1][part] for part, key, _ in panel[2])]
    figure, axes = plt.subplots(1, len(panels), figsize=(5 * len(panels), 4.5))
    epochs = [row["epoch"] for row in log]
    for axis, (name, unit, lines) in zip(axes, panels):
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


def stages(figures, curves, path):
    """Draw recall by face size after each net, and precision against recall in the end, to a
    picture file. figures, curves -- see core.stage_figures.figures"""
    import matplotlib.pyplot as plt  # as above
    figure, (by_size, precision) = plt.subplots(1, 2, figsize=(13, 5))
    iou, sizes = figures["iou"], figures["sizes"][1:] or figures["sizes"]
    places = range(len(sizes))
    for row in figures["stages"]:
        by_size.plot(places, row["recall"][f"{iou:g}"][-len(sizes):], marker="o",
                     label=f"after {row['net']}, score over {row['threshold']:g}")
    by_size.set_xticks(places)
    by_size.set_xlim(-0.4, len(sizes) - 0.6)
    by_size.set_xticklabels([
        (f"{size['from']:g} to {size['to']:g}" if size["to"] else f"from {size['from']:g}")
        + f" px\n{size['faces']:,} faces" for size in sizes])
    by_size.set(title=f"recall at IoU {iou:g} by larger side of the face", ylabel="recall",
                ylim=(min(0.5, by_size.get_ylim()[0]), 1.01))
    last = figures["stages"][-1]["threshold"]
    for curve, row in zip(curves, figures["average_precision"]):
        over = int((curve.scores > last).sum())
        precision.plot(curve.recall, curve.precision, marker="o", markevery=[over - 1] * (over > 0),
                       label=f"faces from {row['min_face']:g} px: average {row['value']:.3f}")
    precision.set(title=f"boxes with scores over {figures['rule']['floor']:g} at IoU {iou:g}; "
                        f"dots: over {last:g}",
                  xlabel="recall", ylabel="precision",
                  xlim=(0, 1.01), ylim=(0, 1.01))
    for axis in (by_size, precision):
        axis.grid(alpha=0.3)
        axis.legend(fontsize=9, loc="lower left")
    _finish(figure, path, f"{figures['pictures']:,} pictures, {figures['faces']:,} faces of "
                          f"{figures['rule']['counted_from']:g} px and more\n"
                          f"{figures['rule']['words']}")


def precision_recall(curves, path, title):
    """Draw core.metrics.Curves {legend: curve} to a picture file."""
    import matplotlib.pyplot as plt  # as above
    figure, axis = plt.subplots(figsize=(8, 6))
    for legend, curve in curves.items():
        axis.plot(curve.recall, curve.precision, label=legend)
    axis.set(xlabel="recall", ylabel="precision", xlim=(0, 1.01), ylim=(0, 1.01))
    axis.grid(alpha=0.3)
    axis.legend(loc="lower left")
    _finish(figure, path, title)


def roc(curve, path, title):
    """Draw a core.evaluate_fddb.Roc to a picture file."""
    import matplotlib.pyplot as plt  # as above
    figure, axes = plt.subplots(1, 2, figsize=(13, 5.5), sharey=True)
    for axis, name, found in zip(axes, ("discrete", "continuous"), (curve.true, curve.shared)):
        axis.step(curve.false, found / curve.faces, where="post")
        axis.set(title=f"{name} curve", xlabel="false positives", ylim=(0, 1.01))
        axis.set_xlim(left=0)
        axis.grid(alpha=0.3)
    axes[0].set_ylabel("true positive rate")
    _finish(figure, path, title)


def _finish(figure, path, title):
    import matplotlib.pyplot as plt
    figure.suptitle("\n".join(line for part in title.split("\n")
                              for line in textwrap.wrap(part, 110)), fontsize=9)
    figure.tight_layout()
    with whole_file(path) as part:
        figure.savefig(part, dpi=90)
    plt.close(figure)

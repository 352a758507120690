"""Curves and other figures as pictures."""

import os
import textwrap

import numpy as np

from core.evaluate.metrics import cumulative
from facelet.files import whole_file

os.environ.setdefault("MPLBACKEND", "Agg")  # no display needed

FARTHEST_ERROR = 0.2  # of landmarks, that curves go up to
LINES = {
    ("net", "exact"): "-",
    ("net", "scattered"): ":",
    ("mean_face", "exact"): "--",
    ("mean_face", "scattered"): "-.",
}
LEGEND_COLUMNS = 4
BELOW = -0.13  # of axes: where a legend below them begins, in heights of theirs
PREDICTORS = {"net": "net", "mean_face": "mean face in crops of net"}  # in legends


def stages(figures, curves, path):
    """Draw recall by face size after each net, and precision against recall in the end, to a
    picture file. figures, curves -- see core.evaluate.stage_figures.figures"""
    import matplotlib.pyplot as plt  # as above

    figure, (by_size, precision) = plt.subplots(1, 2, figsize=(13, 5.5))
    iou, sizes = figures["iou"], figures["sizes"][1:] or figures["sizes"]
    places = range(len(sizes))
    for i, row in enumerate(figures["stages"]):
        behind = len(figures["stages"]) - 1 - i  # nets that are drawn over this one
        by_size.plot(
            places,
            row["recall"][f"{iou:g}"][-len(sizes) :],
            marker="o",
            linewidth=1.5 + behind,
            markersize=6 + 2 * behind,
            label=f"after {row['net']}, score over {row['threshold']:g}",
        )
    by_size.set_xticks(places)
    by_size.set_xlim(-0.4, len(sizes) - 0.6)
    by_size.set_xticklabels(
        [
            (f"{size['from']:g} to {size['to']:g}" if size["to"] else f"from {size['from']:g}")
            + f" px\n{size['faces']:,} faces"
            for size in sizes
        ]
    )
    by_size.set(
        title=f"recall at IoU {iou:g} by {figures['rule']['side']} side of the face",
        ylabel="recall",
        ylim=(min(0.5, by_size.get_ylim()[0]), 1.01),
    )
    last = figures["stages"][-1]["threshold"]
    for curve, row in zip(curves, figures["average_precision"]):
        over = int((curve.scores > last).sum())
        precision.plot(
            curve.recall,
            curve.precision,
            marker="o",
            markevery=[over - 1] * (over > 0),
            label=f"faces from {row['min_face']:g} px: average {row['value']:.3f}",
        )
    precision.set(
        title=f"boxes with scores over {figures['rule']['floor']:g} at IoU {iou:g}; "
        f"dots: over {last:g}",
        xlabel="recall",
        ylabel="precision",
        xlim=(0, 1.01),
        ylim=(0, 1.01),
    )
    for axis in (by_size, precision):
        axis.grid(alpha=0.3)
        _legend_below(axis)
    _finish(
        figure,
        path,
        f"{figures['pictures']:,} pictures, {figures['faces']:,} faces of "
        f"{figures['rule']['counted_from']:g} px and more\n"
        f"{figures['rule']['words']}",
    )


def precision_recall(curves, path, title):
    """Draw core.evaluate.metrics.Curves {legend: curve} to a picture file."""
    import matplotlib.pyplot as plt  # as above

    figure, axis = plt.subplots(figsize=(8, 6))
    for legend, curve in curves.items():
        axis.plot(curve.recall, curve.precision, label=legend)
    axis.set(xlabel="recall", ylabel="precision", xlim=(0, 1.01), ylim=(0, 1.01))
    axis.grid(alpha=0.3)
    _legend_below(axis)
    _finish(figure, path, title)


def frontier(result, path):
    """Draw average precision against milliseconds, a line for each detector, to a picture file.
    result -- see core.bench.frontier.run"""
    import matplotlib.pyplot as plt  # as above

    figure, axes = plt.subplots(1, len(result["sizes"]), figsize=(13, 5.5))
    detectors = dict.fromkeys(row["detector"] for row in result["rows"])
    for column, (axis, size) in enumerate(zip(axes, result["sizes"])):
        for name in detectors:
            rows = [row for row in result["rows"] if row["detector"] == name]
            axis.plot(
                [row["ms"] for row in rows],
                [row["average_precision"][0][column] for row in rows],
                marker="o",
                label=name,
            )
        axis.set(
            title=f"faces from {size} px ({result['side']} side), IoU {result['ious'][0]:g}",
            xlabel="milliseconds a picture, one thread",
            ylabel="average precision",
            xscale="log",
        )
        axis.grid(alpha=0.3, which="both")
        _legend_below(axis)
    _finish(figure, path, f"{result['set']}; {result['machine']['cpu']}")


def roc(curve, path, title):
    """Draw a core.evaluate.fddb.Roc to a picture file."""
    import matplotlib.pyplot as plt  # as above

    figure, axes = plt.subplots(1, 2, figsize=(13, 5.5), sharey=True)
    for axis, name, found in zip(axes, ("discrete", "continuous"), (curve.true, curve.shared)):
        axis.step(curve.false, found / curve.faces, where="post")
        axis.set(title=f"{name} curve", xlabel="false positives", ylim=(0, 1.01))
        axis.set_xlim(left=0)
        axis.grid(alpha=0.3)
    axes[0].set_ylabel("true positive rate")
    _finish(figure, path, title)


def landmarks(errors, comparison, path, title):
    """Draw the curves of faces' errors and the mean error at each place to a picture file.

    errors -- {number of a net: {boxes: {predictor: Errors}}}, of
        core.evaluate.landmark_figures
    comparison -- a core.evaluate.landmark_comparisons.Comparison: what is compared
    """
    import matplotlib.pyplot as plt  # as above

    steps = np.linspace(0, FARTHEST_ERROR, 401)
    rules = list(next(iter(errors.values()))["exact"]["net"].by_rule)
    columns = (len(rules) + 2) // 2
    figure, axes = plt.subplots(2, columns, figsize=(6.5 * columns, 9.5))
    *curves, by_place = axes.ravel()[: len(rules) + 1]
    for unused in axes.ravel()[len(rules) + 1 :]:
        unused.axis("off")
    for axis, rule in zip(curves, rules):
        for number, by_boxes in errors.items():
            for boxes, by_predictor in by_boxes.items():
                for predictor, found in by_predictor.items():
                    values = found.by_rule[rule].mean(axis=2).ravel()
                    axis.plot(
                        steps,
                        cumulative(values, steps),
                        color=f"C{number - 1}",
                        label=f"{PREDICTORS[predictor]} {number}, {boxes} boxes",
                        linestyle=LINES[predictor, boxes],
                        linewidth=1.8 if predictor == "net" else 1,
                    )
        axis.set(
            xlabel=f"error of a face, by {rule}",
            ylabel="share of the faces up to it",
            xlim=(0, FARTHEST_ERROR),
            ylim=(0, 1.01),
        )
    order = sum(comparison.groups.values(), [])
    for number, by_boxes in errors.items():
        for predictor, found in by_boxes["exact"].items():
            values = np.nanmean(found.by_rule[rules[0]], axis=(0, 1))[order]
            by_place.plot(
                values,
                color=f"C{number - 1}",
                linestyle=LINES[predictor, "exact"],
                marker=".",
                linewidth=1.8 if predictor == "net" else 1,
            )
    ends = np.cumsum([0, *map(len, comparison.groups.values())])
    for end in ends[1:-1]:
        by_place.axvline(end - 0.5, color="0.8", linewidth=1)
    by_place.set_xticks((ends[1:] + ends[:-1] - 1) / 2)
    by_place.set_xticklabels(comparison.groups, rotation=30, ha="right", fontsize=8)
    by_place.set(ylim=(0, None), ylabel=f"error of a point, by {rules[0]}, exact boxes")
    for axis in (*curves, by_place):
        axis.grid(alpha=0.3)
    handles, labels = curves[0].get_legend_handles_labels()
    rows = -(-len(labels) // LEGEND_COLUMNS)
    figure.legend(handles, labels, loc="lower center", ncol=LEGEND_COLUMNS, fontsize=8)
    _finish(figure, path, title, bottom=0.01 + 0.022 * rows)


def _legend_below(axis):
    """A curve may run anywhere within the axes."""
    axis.legend(loc="upper center", bbox_to_anchor=(0.5, BELOW), ncol=2, fontsize=9)


def _finish(figure, path, title, bottom=0):
    """bottom -- part of the figure's height that is kept for a legend"""
    import matplotlib.pyplot as plt

    figure.suptitle(
        "\n".join(line for part in title.split("\n") for line in textwrap.wrap(part, 110)),
        fontsize=9,
    )
    figure.tight_layout(rect=(0, bottom, 1, 1))
    with whole_file(path) as part:
        figure.savefig(part, dpi=90)
    plt.close(figure)

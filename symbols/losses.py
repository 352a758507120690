"""The end of a training graph: a loss per task, with online hard example mining in the graph.

Samples are told apart by `label`, and each task looks at its own kinds:

    label  kind      cls   bbox  landmark
     1     positive  face  yes   -
     0     negative  not   -     -
    -1     part      -     yes   -
    -2     landmark  -     -     yes

A net with nothing but landmarks (or heat maps) has no label: every sample counts.

The rule, per task and batch: of the n valid samples the floor(ohem * n) with the largest loss are
kept, one at least if there is any; the loss is weight * sum of theirs / number kept. With none
valid it is 0, and so is its gradient.

Of a batch that is spread over several workers (core.train.cluster) the rule is about all of it, and
no worker has all of it. So there the graph gives the loss of each sample, weights_of() tells from
all of these what each counts, and the loss is the sum of the losses times their weights, which are
an input: summed over the workers it has the value and the gradient of the whole batch's.

Landmarks have two things more. Weights, one for each point, multiply what its coordinates lose
before anything is mined (point_weights() makes them). And of the m points of the samples kept, the
floor(point_ohem * m) with the largest loss are kept, whichever samples they are of; the loss is
weight * points of a face * sum of theirs / number kept, which is the same if all are kept.

What train-mtcnn does, and why not here. Its released nets were trained with SoftmaxOutput and
LinearRegressionOutput under a mining operator whose gradient these two ignore: all samples
pulled, summed over the batch, and each negative pulled the box head (each sample without points
the landmark head) towards 0. Its last version returns the gradient from a Python operator, in
front of the softmax: that of a squared loss, divided by zero where nothing is kept, and a Python
call in every step. Here MXNet differentiates the losses below, masks and all.
"""

import itertools
import math
from fractions import Fraction

import numpy as np

from facelet import schemes
from facelet.console import Problem
from symbols.mxnet_import import mx

CLASSES = 2
# The labels of the samples that a task looks at, where there are labels.
LABELS = {"cls": (1, 0), "bbox": (1, -1), "landmark": (-2,)}
FINEST_PART = 10_000  # the largest denominator of a part that is kept


def l2(difference, options):
    return mx.sym.square(difference)


def smooth_l1(difference, options):
    """0.5 d^2 / beta below |d| = beta, |d| - 0.5 beta above (Girshick 2015, Fast R-CNN)."""
    beta = options["beta"]
    # MXNet's has sigma in place of beta and the branches scaled alike: sigma^2 = 1 / beta.
    return mx.sym.smooth_l1(difference, scalar=beta**-0.5)


def wing(difference, options):
    """w ln(1 + |d| / eps) below |d| = w, |d| - (w - w ln(1 + w / eps)) above (Feng et al. 2018,
    Wing Loss); w and eps in units of the target, crop sides here."""
    w, eps = options["wing_w"], options["wing_eps"]
    size = mx.sym.abs(difference)
    near = w * mx.sym.log(1 + size / eps)
    far = size - (w - w * math.log(1 + w / eps))
    return mx.sym.where(size < w, near, far)


REGRESSION = {"l2": l2, "smooth_l1": smooth_l1, "wing": wing}


def keep_hardest(loss, valid, part):
    """loss, valid (N,), valid 0/1 -> 0/1 mask (N,) of those kept and their number (1,)."""
    count = mx.sym.sum(valid, axis=0, keepdims=True)
    if part >= 1:
        return valid, count
    order = mx.sym.argsort(mx.sym.where(valid, loss, -mx.sym.ones_like(loss)), is_ascend=False)
    rank = mx.sym.argsort(order)
    part = _fraction(part)
    kept = mx.sym.broadcast_maximum(
        mx.sym.floor(count * part.numerator / part.denominator), mx.sym.clip(count, 0, 1)
    )
    return mx.sym.broadcast_lesser(rank, kept), kept


def _fraction(part):
    """As a fraction, so that a whole part * n stays one: 0.65 * 180 in float32 is less than 117."""
    return Fraction(part).limit_denominator(FINEST_PART)


def _hardest(losses, valid, part):
    """keep_hardest() of NumPy arrays: a mask of those kept."""
    count = int(valid.sum())
    if part >= 1:
        return valid
    part = _fraction(part)
    kept = max(count * part.numerator // part.denominator, min(count, 1))
    order = np.argsort(-np.where(valid, losses, -1), kind="stable")
    return np.isin(np.arange(len(losses)), order[:kept])


def weights_of(losses, valid, options):
    """Which losses of a batch are kept, a mask like `losses`, and what they are multiplied by.
    losses (N,) or, where points are mined, (N, P); valid bool (N,); options -- of the task."""
    by_sample = losses if losses.ndim == 1 else losses.sum(axis=1)
    keep, factor = _hardest(by_sample, valid, options["ohem"]), options["weight"]
    if losses.ndim == 2:
        # Of each point of the samples kept, wherever it is.
        valid = np.repeat(keep, losses.shape[1])
        keep = _hardest(losses.ravel(), valid, options["point_ohem"]).reshape(losses.shape)
        factor *= losses.shape[1]
    return keep, factor / max(int(keep.sum()), 1)


def is_valid(task, label):
    """Which samples of a batch a task looks at: bool (N,) of labels (N,)."""
    return np.isin(label, LABELS[task])


def is_mined(options):
    """Whether it takes the losses to tell what counts, by the options of a task."""
    return min(options["ohem"], options.get("point_ohem", 1)) < 1


def _mean_of_hardest(loss, valid, part, name):
    """Mean (1,) of the losses (N,) kept, and their mask (N,) under a name."""
    keep, kept = keep_hardest(mx.sym.BlockGrad(loss), valid, part)
    keep = mx.sym.BlockGrad(keep, name=name)
    total = mx.sym.sum(keep * loss, axis=0, keepdims=True)
    return mx.sym.broadcast_div(total, mx.sym.BlockGrad(mx.sym.clip(kept, 1, 1e9))), keep


def _part(task, options, key):
    if not 0 < options[key] <= 1:
        raise Problem(f"loss.{task}.{key} is {options[key]}: it must be in (0, 1]")
    return options[key]


def _mined(task, loss, valid, options, by_point=None, points=None):
    """Scalar loss (1,) of a task from its losses by sample, and the mask of those kept; by_point,
    the same losses by point (N, points), where points are mined as well. Of a part of a batch, the
    sum of the losses times weights that are given, and the losses."""
    if valid is None:
        each = loss if by_point is None else by_point
        total = mx.sym.sum(each * mx.sym.var(f"{task}_weights"), keepdims=True)
        return (
            mx.sym.MakeLoss(mx.sym.reshape(total, (1,)), name=f"{task}_part"),
            mx.sym.BlockGrad(each, name=f"{task}_each"),
        )
    mean, keep = _mean_of_hardest(loss, valid, _part(task, options, "ohem"), f"{task}_keep")
    if by_point is not None:
        valid = mx.sym.broadcast_mul(mx.sym.ones_like(by_point), mx.sym.expand_dims(keep, 1))
        mean, _ = _mean_of_hardest(
            mx.sym.reshape(by_point, (-1,)),
            mx.sym.reshape(valid, (-1,)),
            options["point_ohem"],
            f"{task}_point_keep",
        )
        mean = points * mean
    return mx.sym.MakeLoss(options["weight"] * mean, name=f"{task}_loss"), keep


def _classification(scores, label, options, part):
    scores = mx.sym.reshape(scores, (-1, CLASSES))
    log_prob = mx.sym.log_softmax(scores, axis=1)
    loss = -mx.sym.pick(log_prob, mx.sym.clip(label, 0, 1), axis=1)
    prob = mx.sym.BlockGrad(mx.sym.exp(log_prob), name="cls_prob")
    return (prob, *_mined("cls", loss, None if part else _valid("cls", label), options))


def _valid(task, label):
    """is_valid() as a symbol: a mask of 0 and 1."""
    first, *others = LABELS[task]
    return sum((label == one for one in others), label == first)


def point_weights(options, scheme, errors=None):
    """Weights of the points of a scheme for options["weights"] of a landmark loss: (P,) floats
    whose mean is 1, so that a learning rate goes on meaning the same, or None where all are alike.

    options -- config.loss.landmark: groups, adaptive
    errors -- (P,) how far each point was off last; without them `adaptive` has nothing to go by

    Raises Problem for groups that are no numbers over 0, or that the scheme does not have.
    """
    found = schemes.get(scheme)
    weights = np.ones(found.points)
    for item in filter(None, map(str.strip, options["groups"].split(","))):
        group, _, factor = item.rpartition(":")
        try:
            factor = float(factor)
        except ValueError:
            factor = 0
        if group not in found.groups or not 0 < factor < math.inf:
            raise Problem(
                f"loss.landmark.groups has {item!r}: it must be group:factor, the factor "
                f"over 0 and the group one of {', '.join(found.groups)}"
            )
        weights[list(found.groups[group])] *= factor
    if options["adaptive"] and errors is not None:
        for indices in found.groups.values():
            mean = np.mean(errors[list(indices)]) / max(np.mean(errors), 1e-9)
            weights[list(indices)] *= max(mean, 1e-9) ** options["adaptive"]
    return None if np.ptp(weights) == 0 else (weights / weights.mean()).tolist()


def _row(values):
    """Constants (1, N) out of a graph's own means, that no array has to be fed for."""
    runs = [(value, len(list(run))) for value, run in itertools.groupby(values)]
    return mx.sym.concat(*(mx.sym.full((1, length), value) for value, length in runs), dim=1)


def _regression(task, values, size, valid, options, points=None):
    if options["kind"] not in REGRESSION:
        raise Problem(
            f"loss.{task}.kind is {options['kind']!r}: it must be one of " + ", ".join(REGRESSION)
        )
    target = mx.sym.var(f"{task}_target", shape=(0, size) if size else None)
    values = mx.sym.Flatten(values)
    loss, by_point = REGRESSION[options["kind"]](values - target, options), None
    if options.get("weights"):
        weights = np.repeat(options["weights"], 2).reshape(1, -1, 2)
        loss = mx.sym.broadcast_mul(loss, _row(schemes.pack(weights)[0].tolist()))
    if "point_ohem" in options and _part(task, options, "point_ohem") < 1:
        # How far x and y of a point lie from each other: side by side, or all x first.
        apart = schemes.unpack(np.arange(2 * points)[None])[0, 0, 1]
        by_point = (
            mx.sym.sum(mx.sym.reshape(loss, (-1, points, 2)), axis=2)
            if apart == 1
            else mx.sym.sum(mx.sym.reshape(loss, (-1, 2, points)), axis=1)
        )
    loss = mx.sym.sum(loss, axis=1)
    valid = valid and valid(loss)
    prediction = mx.sym.BlockGrad(values, name=f"{task}_pred")
    return (prediction, *_mined(task, loss, valid, options, by_point, points))


def training_graph(net, outputs, loss=None, points=None, part=False):
    """Group, per task in the order of `outputs`: prediction (probabilities (N, 2), offsets,
    coordinates), loss (1,), mask of the samples kept (N,); named e.g. cls_prob_output,
    cls_loss_output, cls_keep_output, bbox_pred_output, ...

    Inputs beside data: label (N,) where there is a cls head, bbox_target (N, 4),
    landmark_target (N, 2 * points) or heatmap_target.

    loss -- settings by task, config.loss if None; that of landmarks may have `weights`, a list of
        one number for each point
    points -- how many there are, where landmarks are learnt
    part -- whether it is for a part of a batch: then in place of the loss and the mask there are
        cls_part (1,), the sum of the losses times cls_weights, an input more, and cls_each, the
        losses (N,), or (N, points) where points are mined

    Bind it with gradients, to predict too: without (grad_req="null") MXNet 1.9.1 fuses
    convolutions and ReLUs in a way that gives wrong values, unless MXNET_SUBGRAPH_BACKEND=NONE.
    """
    if loss is None:
        from config import config

        loss = config.loss
    joint = "cls" in outputs
    label = mx.sym.var("label") if joint else None

    def everything(per_sample):
        return mx.sym.BlockGrad(mx.sym.ones_like(per_sample))

    valid = {
        "bbox": lambda per_sample: _valid("bbox", label),
        "landmark": (lambda per_sample: _valid("landmark", label)) if joint else everything,
        "heatmap": everything,
    }
    if part:
        valid = dict.fromkeys(valid)
    ends = []
    for task, out in outputs.items():
        if task == "cls":
            ends.extend(_classification(out, label, loss["cls"], part))
        else:
            ends.extend(
                _regression(task, out, 4 if task == "bbox" else 0, valid[task], loss[task], points)
            )
    return mx.sym.Group(ends)

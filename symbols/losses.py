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

What the reference did, and why not here. Its published nets were trained with SoftmaxOutput and
LinearRegressionOutput under a mining operator whose gradient these two ignore: all samples
pulled, summed over the batch, and each negative pulled the box head (each sample without points
the landmark head) towards 0. Its last version returns the gradient from a Python operator, in
front of the softmax: that of a squared loss, divided by zero where nothing is kept, and a Python
call in every step. Here MXNet differentiates the losses below, masks and all.
"""
import math

from core.console import Problem
from core.mxnet_import import mx

CLASSES = 2
# floor(part * n) in float32 falls one short where part * n is whole but rounds down: 0.65 * 180.
FLOOR_SLACK = 1e-4


def l2(difference, options):
    return mx.sym.square(difference)


def smooth_l1(difference, options):
    """0.5 d^2 / beta below |d| = beta, |d| - 0.5 beta above (Girshick 2015, Fast R-CNN)."""
    beta = options["beta"]
    # MXNet's has sigma in place of beta and the branches scaled alike: sigma^2 = 1 / beta.
    return mx.sym.smooth_l1(difference, scalar=beta ** -0.5)


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
    """loss, valid (N,), valid 0/1 -> 0/1 mask (N,) of the samples kept and their number (1,)."""
    count = mx.sym.sum(valid, axis=0, keepdims=True)
    if part >= 1:
        return valid, count
    order = mx.sym.argsort(mx.sym.where(valid, loss, -mx.sym.ones_like(loss)), is_ascend=False)
    rank = mx.sym.argsort(order)
    kept = mx.sym.broadcast_maximum(mx.sym.floor(part * count + FLOOR_SLACK),
                                    mx.sym.clip(count, 0, 1))
    return mx.sym.broadcast_lesser(rank, kept), kept


def _mined(task, loss, valid, options):
    """Scalar loss (1,) of a task from its losses by sample, and the mask of those kept."""
    if not 0 < options["ohem"] <= 1:
        raise Problem(f"loss.{task}.ohem is {options['ohem']}: it must be in (0, 1]")
    keep, kept = keep_hardest(mx.sym.BlockGrad(loss), valid, options["ohem"])
    keep = mx.sym.BlockGrad(keep, name=f"{task}_keep")
    total = mx.sym.sum(keep * loss, axis=0, keepdims=True)
    mean = mx.sym.broadcast_div(total, mx.sym.BlockGrad(mx.sym.clip(kept, 1, 1e9)))
    return mx.sym.MakeLoss(options["weight"] * mean, name=f"{task}_loss"), keep


def _classification(scores, label, options):
    scores = mx.sym.reshape(scores, (-1, CLASSES))
    log_prob = mx.sym.log_softmax(scores, axis=1)
    loss = -mx.sym.pick(log_prob, mx.sym.clip(label, 0, 1), axis=1)
    prob = mx.sym.BlockGrad(mx.sym.exp(log_prob), name="cls_prob")
    return (prob, *_mined("cls", loss, label >= 0, options))


def _regression(task, values, size, valid, options):
    if options["kind"] not in REGRESSION:
        raise Problem(f"loss.{task}.kind is {options['kind']!r}: it must be one of "
                      + ", ".join(REGRESSION))
    target = mx.sym.var(f"{task}_target", shape=(0, size) if size else None)
    values = mx.sym.Flatten(values)
    loss = mx.sym.sum(REGRESSION[options["kind"]](values - target, options), axis=1)
    valid = valid(loss)
    prediction = mx.sym.BlockGrad(values, name=f"{task}_pred")
    return (prediction, *_mined(task, loss, valid, options))


def training_graph(net, outputs, loss=None):
    """Group, per task in the order of `outputs`: prediction (probabilities (N, 2), offsets,
    coordinates), loss (1,), mask of the samples kept (N,); named e.g. cls_prob_output,
    cls_loss_output, cls_keep_output, bbox_pred_output, ...

    Inputs beside data: label (N,) where there is a cls head, bbox_target (N, 4),
    landmark_target (N, 2 * points) or heatmap_target.

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

    valid = {"bbox": lambda per_sample: mx.sym.abs(label) == 1,
             "landmark": (lambda per_sample: label == -2) if joint else everything,
             "heatmap": everything}
    ends = []
    for task, out in outputs.items():
        if task == "cls":
            ends.extend(_classification(out, label, loss["cls"]))
        else:
            # Heat maps are points too, only drawn; the same settings hold.
            options = loss["landmark" if task == "heatmap" else task]
            ends.extend(_regression(task, out, 4 if task == "bbox" else 0, valid[task], options))
    return mx.sym.Group(ends)

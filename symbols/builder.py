"""Turns a row of the zoo's tables into a symbol."""

from facelet.console import Problem
from symbols import graph, losses, zoo
from symbols.architectures import ARCHITECTURES, resolve
from symbols.blocks import Blocks, Signed
from symbols.mxnet_import import mx

MODES = ("test", "train", "part")


def build(name, mode="test", base=None, points=None, landmark=False, loss=None):
    """A net of the zoo.

    name -- as in symbols.names()
    mode -- "test": data (N, 3, H, W) float32, BGR, (x - 127.5) / 128, to the outputs below;
        "train": the same parameters, ending in losses, see symbols.losses.training_graph; "part":
        as "train", for a part of a batch
    base -- width of an Lnet (16 to 128 in train-mtcnn)
    points -- number of landmark points, where there are any
    landmark -- give an Onet or a classic net its landmark head
    loss -- settings of the losses by task (config.loss if None), for mode "train"

    Test outputs, in this order, those that the net has:
      cls_prob (N, 2) or, fully convolutional, (N, 2, h, w): probabilities of not-face, face
      box offsets (N, 4) or (N, 4, h, w)
      landmarks (N, 2 * points): 5 points as x1..x5 y1..y5, others as x1 y1 x2 y2 ...
      heat maps flattened, (N, stages * (points + 1) * 28 * 28)

    Raises UnknownNet for a name, Problem for an option that the net doesn't have, and for a row of
    the tables whose layers don't fit one another, naming the layer.
    """
    if mode not in MODES:
        raise Problem(f"mode is {mode!r}: it must be one of {', '.join(MODES)}")
    net = zoo.spec(name, landmark)
    options = resolve(net, base, points)
    graph.describe(name, base, points, landmark)  # MXNet doesn't say which layer doesn't fit
    layers = Blocks(train=mode != "test")
    data = mx.sym.var("data")
    if mode != "test":
        outputs = ARCHITECTURES[net.architecture](net, options, layers, Signed(lambda sign: data))
        outputs = {task: out.signed(1) for task, out in outputs.items()}
        return losses.training_graph(net, outputs, loss, options.points, mode == "part")
    outputs = ARCHITECTURES[net.architecture](net, options, layers, data)
    if "cls" in outputs:
        # Channel mode refuses a 2-D input, which a dense layer gives.
        softmax_over = "channel" if net.stride else "instance"
        outputs["cls"] = mx.sym.SoftmaxActivation(
            outputs["cls"], mode=softmax_over, name="cls_prob"
        )
    return mx.sym.Group(list(outputs.values())) if len(outputs) > 1 else outputs.popitem()[1]

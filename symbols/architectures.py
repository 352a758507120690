"""The architectures: how a row of the family tables becomes layers.

Each is a function of `layers`, an object with a method per kind of layer, and passes on what those
return: MXNet symbols for a test graph, Signed values for a training graph (both symbols.blocks),
names of blobs for a graph without MXNet (symbols.graph).
"""

from dataclasses import dataclass
from numbers import Integral

from facelet.console import Problem

HEATMAP_STAGES = 3


@dataclass(frozen=True)
class Options:
    """What can be chosen about a net, with its defaults filled in."""

    base: int  # what the tables' channels are multiplied by
    points: int  # landmark points, 0 without


def resolve(net, base=None, points=None):
    """Check options against a net and fill in its defaults. Raises Problem."""
    has_points = any(head.task in ("landmark", "heatmap") for head in net.heads)
    for option, value, known in (("base", base, net.base), ("points", points, has_points)):
        if value is not None and not known:
            hint = " without landmark=True" if option == "points" and net.points else ""
            raise Problem(f"{net.name} has no option {option}{hint}")
        if value is not None and (not isinstance(value, Integral) or value < 1):
            raise Problem(f"{option} is {value}: it must be a whole number from 1")
    if has_points and not (points or net.points):
        raise Problem(f"{net.name} has no number of points of its own: say how many")
    return Options(base or net.base or 1, (points or net.points) if has_points else 0)


def _head_outputs(head, options):
    return {"cls": 2, "bbox": 4, "landmark": 2 * options.points}[head.task]


def _heads(net, options, layers, features):
    """features -- by head; returns the raw outputs (logits, not probabilities) by task."""
    outputs = {}
    for head in net.heads:
        size = _head_outputs(head, options)
        out = layers.head(features[head], head.layer, size, convolution=bool(net.stride))
        outputs[head.task] = layers.bn(out, head.bn) if head.bn else out
    return outputs


class _Chain:
    """Numbers and places the layers of a chain; a branch goes on counting where it left."""

    def __init__(self, net, options, layers):
        self.net, self.options, self.layers = net, options, layers

    def run(self, x, rows, channels, number=0, suffix=""):
        """Returns (x, channels, number of the last layer)."""
        net, layers = self.net, self.layers
        pools = dense = 0
        for kind, kernel, stride, pad, out in rows:
            out *= self.options.base
            if kind == "pool":
                pools += 1
                x = layers.pool(x, f"pool{pools}", kernel, stride)
                continue
            if kind in ("fc", "dense"):
                dense += 1
                number_here = dense
            else:
                number += 1
                number_here = number
            for part in kind.split("+"):
                # In a separable pair the row's kernel, stride and padding are the dw's.
                k, s, p = (1, 1, 0) if part == "sep" else (kernel, stride, pad)
                names = [
                    name and name.format(n=number_here, b=suffix)
                    for name in getattr(net.naming, part)
                ]
                x = self._layer(x, part, names, channels if part == "dw" else out, k, s, p)
                channels = channels if part == "dw" else out
        return x, channels, number

    def _layer(self, x, kind, names, channels, kernel, stride, pad):
        net, layers = self.net, self.layers
        name, bn, activation = names
        if kind == "dense":
            x = layers.dense(x, name, channels)
        else:
            bias = net.bias == "all" or net.bias == "first" and kind == "conv"
            x = layers.conv(
                x, name, channels, kernel, stride, pad, depthwise=kind == "dw", bias=bias
            )
        if net.bn:
            x = layers.bn(x, bn)
        if activation in net.plain_relu:
            return layers.relu(x, activation)
        return layers.prelu(x, activation, channels)


def _chain(net, options, layers, data):
    chain = _Chain(net, options, layers)
    x, channels, number = chain.run(data, net.rows, 3)
    features = {
        head: chain.run(x, net.branch, channels, number, head.branch)[0] for head in net.heads
    }
    return _heads(net, options, layers, features)


def _residual(net, options, layers, data):
    """MobileFaceNet in small: inverted bottlenecks without expansion, a k x k
    convolution over the last map, two 1 x 1 layers."""
    width, blocks, (conv6, fc1, fc2) = net.rows

    def unit(x, name, channels, kernel=1, stride=1, pad=0, depthwise=False, linear=False):
        x = layers.conv(x, f"{name}_conv2d", channels, kernel, stride, pad, depthwise, bias=False)
        x = layers.bn(x, f"{name}_batchnorm")
        return x if linear else layers.prelu(x, f"{name}_relu", channels)

    def bottleneck(x, name, channels, stride):
        x = unit(x, f"{name}_conv_sep", channels)
        x = unit(x, f"{name}_conv_dw", channels, 3, stride, 1, depthwise=True)
        return unit(x, f"{name}_conv_proj", channels, linear=True)

    x = unit(data, "conv1", width, 3, 2, 1)
    additions = 0
    for stage, count in enumerate(blocks, start=2):
        if stage > 2:
            width *= 2
            x = bottleneck(x, f"dconv{stage - 1}{stage}", width, 2)
        for block in range(count):
            # train-mtcnn leaves the names of additions to MXNet's counter, whose numbers depend on
            # what the process made before; these are the ones of a fresh process.
            x = layers.add(
                bottleneck(x, f"res{stage}_block{block}", width, 1), x, f"_plus{additions}"
            )
            additions += 1
    x = unit(x, "conv6", conv6, net.size // 16)
    x = unit(x, "fc1", fc1)
    x = unit(x, "fc2", fc2)
    return _heads(net, options, layers, dict.fromkeys(net.heads, x))


def _heatmap(net, options, layers, data):
    before, (first_dw, join, *after) = net.rows
    channels, maps = options.points + 1, []

    def finish(x, name, out):
        return layers.prelu(layers.bn(x, f"{name}_batchnorm"), f"{name}_relu", out)

    def run(x, rows, stage):
        for layer, kind, kernel, stride, dilate, out in rows:
            name = f"stg{stage}_{layer}" + ("" if kind == "conv" else f"_{kind}")
            x = layers.conv(
                x,
                f"{name}_conv2d",
                out,
                kernel,
                stride,
                kernel // 2 * dilate,
                kind == "dw",
                dilate,
                bias=False,
            )
            x = finish(x, name, out)
        return x

    for stage in range(1, HEATMAP_STAGES + 1):
        x = run(data, before, stage)
        if stage == 1:
            x = run(x, (first_dw, join), stage)
        else:
            name, out = f"stg{stage}_{join[0]}_sep", join[-1]
            x = layers.join_conv(
                (x, before[-1][-1]),
                (maps[-1], channels),
                f"stg{stage}_concat",
                f"{name}_conv2d",
                out,
            )
            x = finish(x, name, out)
        x = run(x, after, stage)
        x = layers.conv(x, f"stg{stage}_feat_conv2d", channels, 1, bias=False)
        maps.append(layers.bn(x, f"stg{stage}_feat_bn"))
    return {"heatmap": layers.flatten(layers.join(maps, "feat_concat"), net.heads[0].layer)}


ARCHITECTURES = {"chain": _chain, "residual": _residual, "heatmap": _heatmap}

"""Layers as MXNet symbols, for test graphs and for training.

A test graph holds plain nodes under the published names. In a training graph PReLU takes
another, exactly equal form, as MXNet's own operator has two faults there (1.9.1, CPU): it is
several times slower than the convolutions around it, and where its output feeds two layers, as
before the heads of every Pnet, Rnet and Onet, the gradient of its slopes comes out multiplied by
the slopes. Writing d(x, w) for the depthwise 1 x 1 convolution that scales channel c by w[c],

    prelu(x) = d(relu(x), 1 - gamma) + d(x, gamma)

and where a convolution c with weights W follows, it can take the scaling into its own weights:

    c(prelu(x), W) = c(relu(x), (1 - gamma) W) + c(x, gamma W)

Both are made of operators that oneDNN runs fast, and MXNet derives the gradients of x and gamma
itself. `core.bench train` measures them.
"""
from core.mxnet_import import mx

BN_MOMENTUM = 0.9
BN_EPS = 1e-3  # MXNet's default, written out as the export needs it too


class PendingPRelu:
    """A PReLU of a training graph whose form is chosen by the layer that reads it."""

    def __init__(self, x, name, channels):
        self.x, self.channels = x, channels
        self.relu = mx.sym.Activation(x, act_type="relu", name=name)
        self.gamma = mx.sym.var(f"{name}_gamma", shape=(channels,))
        self._value = None

    def slopes(self, *shape):
        return mx.sym.reshape(self.gamma, shape=shape)

    def value(self):
        """The activation as one symbol; made once however many layers read it."""
        if self._value is None:
            gamma = self.slopes(self.channels, 1, 1, 1)
            scale = dict(kernel=(1, 1), num_filter=self.channels, num_group=self.channels,
                         no_bias=True)
            self._value = (mx.sym.Convolution(self.relu, weight=1 - gamma, **scale)
                           + mx.sym.Convolution(self.x, weight=gamma, **scale))
        return self._value


class Blocks:
    """Makes layers; `train` says for which kind of graph."""

    def __init__(self, train):
        self.train = train

    def conv(self, x, name, channels, kernel, stride=1, pad=0, depthwise=False, dilate=1,
             bias=True):
        """Square convolution to `channels`; depthwise takes as many."""
        attributes = dict(kernel=(kernel, kernel), num_filter=channels, no_bias=not bias)
        # Attributes at their default are left out, as the published graphs have it.
        attributes.update({key: (value, value) for key, value, default in
                           (("stride", stride, 1), ("pad", pad, 0), ("dilate", dilate, 1))
                           if value != default})
        if depthwise:
            attributes["num_group"] = channels
            if isinstance(x, PendingPRelu):
                return self._split_conv(x, name, attributes)
        return mx.sym.Convolution(self.value(x), name=name, **attributes)

    @staticmethod
    def _split_conv(x, name, attributes):
        kernel = attributes["kernel"]
        weight = mx.sym.var(f"{name}_weight", shape=(x.channels, 1) + kernel)
        gamma = x.slopes(x.channels, 1, 1, 1)
        over = mx.sym.Convolution(x.relu, name=name, **attributes,
                                  weight=mx.sym.broadcast_mul(weight, 1 - gamma))
        under = mx.sym.Convolution(x.x, **dict(attributes, no_bias=True),
                                   weight=mx.sym.broadcast_mul(weight, gamma))
        return over + under

    def dense(self, x, name, outputs):
        return mx.sym.FullyConnected(self.value(x), name=name, num_hidden=outputs)

    def bn(self, x, name):
        return mx.sym.BatchNorm(x, name=name, fix_gamma=False, momentum=BN_MOMENTUM, eps=BN_EPS)

    def prelu(self, x, name, channels, flat=False):
        """PReLU with one slope per channel, of a map or, with `flat`, of a (N, channels)."""
        if not self.train:
            return mx.sym.LeakyReLU(x, act_type="prelu", name=name)
        if flat:  # one value per channel: the plain formula is fast enough
            gamma = mx.sym.reshape(mx.sym.var(f"{name}_gamma", shape=(channels,)), (1, channels))
            over = mx.sym.Activation(x, act_type="relu", name=name)
            return over + mx.sym.broadcast_mul(x - over, gamma)
        return PendingPRelu(x, name, channels)

    def relu(self, x, name):
        return mx.sym.Activation(x, act_type="relu", name=name)

    def pool(self, x, name, kernel, stride):
        return mx.sym.Pooling(self.value(x), name=name, pool_type="max", kernel=(kernel, kernel),
                              stride=(stride, stride), pooling_convention="full")

    def add(self, x, y, name):
        return mx.sym.elemwise_add(self.value(x), self.value(y), name=name)

    def concat_conv(self, x, y, name, conv_name, channels):
        """1 x 1 convolution without bias over the joined channels of two symbols, x given as
        (symbol, channels). In training it is the sum of two: the gradient of a Concat in front
        of a Convolution kills the process (SIGFPE, MXNet 1.9.1 on the CPU)."""
        (x, x_channels), (y, y_channels) = x, y
        x, y = self.value(x), self.value(y)
        if not self.train:
            joined = mx.sym.Concat(x, y, dim=1, name=name)
            return self.conv(joined, conv_name, channels, 1, bias=False)
        weight = mx.sym.var(f"{conv_name}_weight",
                            shape=(channels, x_channels + y_channels, 1, 1))
        attributes = dict(kernel=(1, 1), num_filter=channels, no_bias=True)
        over_x = mx.sym.slice_axis(weight, axis=1, begin=0, end=x_channels)
        over_y = mx.sym.slice_axis(weight, axis=1, begin=x_channels, end=None)
        return (mx.sym.Convolution(x, weight=over_x, **attributes)
                + mx.sym.Convolution(y, weight=over_y, **attributes))

    @staticmethod
    def value(x):
        return x.value() if isinstance(x, PendingPRelu) else x

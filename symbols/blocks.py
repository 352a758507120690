"""Layers as MXNet symbols, for test graphs and for training.

A test graph holds plain nodes under the names of train-mtcnn. In a training graph PReLU takes
another, exactly equal form, as MXNet's own operator has two faults there (1.9.1, CPU): it is
several times slower than the convolutions around it, and where its output feeds two layers, as
before the heads of every Pnet, Rnet and Onet, the gradient of its slopes comes out multiplied by
the slopes. The form is

    prelu(x) = x - (1 - gamma) min(x, 0), or with z = -x:  -prelu(x) = z + (gamma - 1) relu(z)

with the scaling by gamma - 1 as a depthwise 1 x 1 convolution: operators that oneDNN runs fast,
whose gradients MXNet finds itself. It wants its input negated and gives its output negated, and
both are free: the layer before negates its weights and bias (its batch norm: gamma and beta), a
tensor of a few numbers, the layer behind its weights. `Signed` notes which sign a value has.
`core.bench train` measures what this gains.
"""

from symbols.graph import BN_EPS
from symbols.mxnet_import import mx

BN_MOMENTUM = 0.9


class Signed:
    """A value of a training graph that can be had as it is (+1) or negated (-1).

    make -- function of a sign, giving the symbol of the value times that sign; called once, with
        the sign that is asked for first. The other one, if it is asked for too, is a negation.
    natural -- the sign that costs least to make
    """

    def __init__(self, make, natural=1):
        self._make, self._natural, self._made = make, natural, {}

    def signed(self, sign):
        if sign not in self._made:
            self._made[sign] = (
                mx.sym.negative(self._made[-sign]) if self._made else self._make(sign)
            )
        return self._made[sign]

    def cheapest(self):
        """(symbol, its sign): what is made already, else the natural sign."""
        sign = next(iter(self._made), self._natural)
        return self.signed(sign), sign


def _times(sign, parameter):
    return parameter if sign > 0 else mx.sym.negative(parameter)


class PRelu(Signed):
    """The PReLU of a training graph."""

    def __init__(self, x, name, channels):
        super().__init__(self._form, natural=-1)
        self.x, self.name, self.channels = x, name, channels
        self.gamma = mx.sym.var(f"{name}_gamma", shape=(channels,))
        self._pointwise = None

    def _scaled(self, x, slopes):
        return mx.sym.Convolution(
            x,
            weight=mx.sym.reshape(slopes, (self.channels, 1, 1, 1)),
            kernel=(1, 1),
            num_filter=self.channels,
            num_group=self.channels,
            no_bias=True,
        )

    def _form(self, sign):
        x = self.x.signed(sign)
        over = mx.sym.Activation(x, act_type="relu", name=self.name)
        if sign < 0:
            return x + self._scaled(over, self.gamma - 1)
        return self._scaled(over, 1 - self.gamma) + self._scaled(x, self.gamma)

    def single(self):
        """The activation of (N, C) or (N, C, 1, 1) values: on so few the plain formula is
        faster than convolutions. Made once however many layers read it."""
        if self._pointwise is None:
            x = self.x.signed(1)
            over = mx.sym.Activation(x, act_type="relu", name=self.name)
            # 0 keeps a dimension, -2 what follows: shape (1, C) or (1, C, 1, 1), as x has
            gamma = mx.sym.reshape_like(
                self.gamma, x, lhs_begin=0, lhs_end=1, rhs_begin=1, rhs_end=None
            )
            gamma = mx.sym.expand_dims(gamma, axis=0)
            self._pointwise = mx.sym.broadcast_mul(over, 1 - gamma) + mx.sym.broadcast_mul(x, gamma)
        return self._pointwise


class Blocks:
    """Makes layers; `train` says for which kind of graph. Layers of a training graph take and
    give Signed values, those of a test graph symbols."""

    def __init__(self, train):
        self.train = train

    def conv(
        self, x, name, channels, kernel, stride=1, pad=0, depthwise=False, dilate=1, bias=True
    ):
        """Square convolution to `channels`; depthwise takes as many."""
        attributes = dict(kernel=(kernel, kernel), num_filter=channels, no_bias=not bias)
        # Attributes at their default are left out, as train-mtcnn's graphs have it.
        attributes.update(
            {
                key: (value, value)
                for key, value, default in (
                    ("stride", stride, 1),
                    ("pad", pad, 0),
                    ("dilate", dilate, 1),
                )
                if value != default
            }
        )
        if depthwise:
            attributes["num_group"] = channels
        if not self.train:
            return mx.sym.Convolution(x, name=name, **attributes)
        return Signed(lambda sign: self._signed_conv(x, name, bias, attributes, sign))

    @staticmethod
    def _signed_conv(x, name, bias, attributes, sign):
        x, x_sign = x.cheapest()
        parameters = {"weight": _times(x_sign * sign, mx.sym.var(f"{name}_weight"))}
        if bias:
            parameters["bias"] = _times(sign, mx.sym.var(f"{name}_bias"))
        return mx.sym.Convolution(x, name=name, **parameters, **attributes)

    def head(self, x, name, outputs, convolution):
        """An output layer over the values of one position: a 1 x 1 convolution or a fully
        connected layer."""
        if self.train:
            x = x.single() if isinstance(x, PRelu) else x.signed(1)
        out = (
            mx.sym.Convolution(x, name=name, kernel=(1, 1), num_filter=outputs, no_bias=False)
            if convolution
            else mx.sym.FullyConnected(x, name=name, num_hidden=outputs)
        )
        return Signed(lambda sign: _times(sign, out)) if self.train else out

    def dense(self, x, name, outputs):
        if not self.train:
            return mx.sym.FullyConnected(x, name=name, num_hidden=outputs)
        return Signed(
            lambda sign: _times(
                sign, mx.sym.FullyConnected(x.signed(1), name=name, num_hidden=outputs)
            )
        )

    def bn(self, x, name):
        attributes = dict(fix_gamma=False, momentum=BN_MOMENTUM, eps=BN_EPS)
        if not self.train:
            return mx.sym.BatchNorm(x, name=name, **attributes)
        # Its input keeps its sign, or the moving mean would be that of another net.
        return Signed(
            lambda sign: mx.sym.BatchNorm(
                x.signed(1),
                name=name,
                gamma=_times(sign, mx.sym.var(f"{name}_gamma")),
                beta=_times(sign, mx.sym.var(f"{name}_beta")),
                **attributes,
            )
        )

    def prelu(self, x, name, channels):
        """PReLU with one slope per channel, named name_gamma."""
        if not self.train:
            return mx.sym.LeakyReLU(x, act_type="prelu", name=name)
        return PRelu(x, name, channels)

    def relu(self, x, name):
        return self._plain(mx.sym.Activation, x, act_type="relu", name=name)

    def pool(self, x, name, kernel, stride):
        return self._plain(
            mx.sym.Pooling,
            x,
            name=name,
            pool_type="max",
            kernel=(kernel, kernel),
            stride=(stride, stride),
            pooling_convention="full",
        )

    def add(self, x, y, name):
        return self._plain(mx.sym.elemwise_add, x, y, name=name)

    def join(self, xs, name):
        """Joined channels."""
        return self._plain(mx.sym.Concat, *xs, dim=1, name=name)

    def flatten(self, x, name):
        return self._plain(mx.sym.Flatten, x, name=name)

    def _plain(self, operator, *inputs, **attributes):
        """An operator that wants its inputs as they are."""
        if not self.train:
            return operator(*inputs, **attributes)
        return Signed(
            lambda sign: _times(sign, operator(*(x.signed(1) for x in inputs), **attributes))
        )

    def join_conv(self, x, y, name, conv_name, channels):
        """1 x 1 convolution without bias over the joined channels of two maps, each given as
        (map, channels). In training it is the sum of two: the gradient of a Concat in front of
        a Convolution kills the process (SIGFPE, MXNet 1.9.1 on the CPU)."""
        (x, x_channels), (y, y_channels) = x, y
        if not self.train:
            return self.conv(self.join((x, y), name), conv_name, channels, 1, bias=False)
        weight = mx.sym.var(f"{conv_name}_weight", shape=(channels, x_channels + y_channels, 1, 1))
        attributes = dict(kernel=(1, 1), num_filter=channels, no_bias=True)
        over_x = mx.sym.slice_axis(weight, axis=1, begin=0, end=x_channels)
        over_y = mx.sym.slice_axis(weight, axis=1, begin=x_channels, end=None)
        return Signed(
            lambda sign: _times(
                sign,
                mx.sym.Convolution(x.signed(1), weight=over_x, **attributes)
                + mx.sym.Convolution(y.signed(1), weight=over_y, **attributes),
            )
        )

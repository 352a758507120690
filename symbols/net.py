"""What a variant of a net is: one `Net` per row of the family tables.

A layer is a literal tuple (kind, k, s, p, out):

    conv    k x k convolution, stride s, padding p, to `out` channels
    dw      k x k depthwise convolution; `out` repeats the channels it gets
    sep     1 x 1 convolution, the pointwise half of a separable one
    dw+sep  the two after one another, under one number
    fc      1 x 1 convolution on a 1 x 1 map, numbered apart from the others
    dense   fully connected layer, numbered like fc
    pool    k x k max pooling, stride s, MXNet's "full" (ceil) convention

Each but pool is followed by its batch norm, where the net has them, and its PReLU. Layers are
numbered from 1 in order, pools apart; `Naming` makes the names of train-mtcnn of the numbers.
symbols.checks says what can be wrong with a row.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Optional


@dataclass(frozen=True)
class Naming:
    """Names of (layer, batch norm, PReLU) by kind; {n} is the number, {b} the suffix of the
    branch. They are irregular and must stay so: the parameters in the checkpoints that train-mtcnn
    and ZQCNN have released go by them."""

    conv: tuple = ("conv{n}", "bn{n}", "prelu{n}")
    dw: tuple = ("conv{n}{b}_dw", "bn{n}{b}_dw", "prelu{n}{b}_dw")
    sep: tuple = ("conv{n}{b}_sep", "bn{n}{b}_sep", "prelu{n}{b}")
    fc: Optional[tuple] = None
    dense: tuple = ("fc{n}", None, None)


@dataclass(frozen=True)
class Head:
    """An output layer: a 1 x 1 convolution (fully convolutional nets) or a fully connected
    layer, then a batch norm if `bn` names one."""

    task: str  # "cls", "bbox", "landmark" or "heatmap"
    layer: str
    bn: Optional[str]
    branch: str = ""  # suffix of the names in its own branch, for nets that have branches


@dataclass(frozen=True)
class Net:
    name: str
    family: str  # "Pnet", "Rnet", "Onet", "Lnet"
    size: int  # side of the square input it is trained on, pixels
    rows: tuple  # layers of the trunk, see above
    heads: tuple[Head, ...]
    naming: Naming = Naming()
    architecture: str = "chain"  # "chain", "residual", "heatmap": symbols.architectures
    branch: tuple = ()  # layers repeated in front of every head
    bn: bool = False  # batch norms in the trunk
    bias: str = "all"  # convolutions with a bias: "all", "first", "none"
    plain_relu: tuple[str, ...] = ()  # activations that are a ReLU without parameter
    stride: Optional[int] = None  # fully convolutional nets: input pixels between outputs
    base: Optional[int] = None  # default width; rows then count channels in units of it
    points: Optional[int] = None  # default number of landmark points, if it can have them
    landmark: Mapping = field(default_factory=dict)  # fields that landmark=True changes
    table_input: tuple[int, int] = (0, 0)  # (W, H) that `table_budget` is for
    # Budget in train-mtcnn's tables, in units of 2^20 multiply-adds, by base (None where a net has
    # no base), and whether that figure holds the box branch, unlike its table's rule.
    table_budget: Mapping = field(default_factory=dict)
    table_budget_with_bbox: bool = False
    aliases: tuple[str, ...] = ()
    note: str = ""

    @property
    def cell(self):
        """Side in pixels of the window that one output of a fully convolutional net sees."""
        return self.size if self.stride else None

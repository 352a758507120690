"""The zoo: `build(name)` makes a net as an MXNet symbol, `names()` lists them.

A net is a row of the family tables (pnet, rnet, onet, lnet, classic); net says what a row holds,
checks what can be wrong with one, architectures how it becomes layers. builder makes an MXNet
symbol of it (blocks has the layers, losses the ends of training graphs), graph plain data.
"""

from symbols.zoo import NETS, UnknownNet, names, spec

__all__ = [
    "NETS",
    "UnknownNet",
    "architectures",
    "build",
    "graph",
    "losses",
    "mxnet_import",
    "names",
    "spec",
    "zoo",
]


def build(name, mode="test", **options):
    """A net of the zoo as mx.sym.Symbol; see symbols.builder.build for modes and options."""
    from symbols.builder import build as build_symbol  # here, as names() needs no MXNet

    return build_symbol(name, mode, **options)

"""The zoo: `build(name)` makes a net as an MXNet symbol, `names()` lists them.

A variant is a row of the family tables (pnet, rnet, onet, lnet, classic), described in spec;
builder turns rows into symbols, blocks holds the layers, losses the training heads.
"""

from symbols.zoo import NETS, UnknownNet, names, spec

__all__ = ["NETS", "UnknownNet", "build", "names", "spec"]


def build(name, mode="test", **options):
    """A net of the zoo as mx.sym.Symbol; see symbols.builder.build for modes and options."""
    from symbols.builder import build as build_symbol  # here, as names() needs no MXNet

    return build_symbol(name, mode, **options)

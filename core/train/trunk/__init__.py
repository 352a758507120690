"""A net's layers trained by compiled loops, in place of MXNet's operators."""

__all__ = ["operator"]

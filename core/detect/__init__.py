"""The detector of facelet for files of any kind, checkpoints among them, and another's detector."""

__all__ = ["detector", "mxnet_net", "nets", "yunet"]

"""Work spread over processes, and journals of it that survive a stop: nothing about faces."""

__all__ = ["journal", "parallel"]

"""Work spread over processes, journals of it that survive a stop, and command lines: nothing about
faces."""

__all__ = ["arrays", "journal", "options", "parallel", "shards"]

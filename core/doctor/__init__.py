"""What a file is, what it holds, and what is odd about it."""

__all__ = []

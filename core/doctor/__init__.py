"""What a file is, which net it holds, and what to know before it is used."""

__all__ = []

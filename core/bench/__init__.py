"""Speed of the toolkit against programs of the usual form, measured in one run."""

__all__ = []

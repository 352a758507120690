"""Speed of the toolkit against programs written as train-mtcnn is, measured in one run."""

__all__ = []

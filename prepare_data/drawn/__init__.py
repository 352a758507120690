"""The sample set: pictures drawn by the program, with exact boxes and points."""

__all__ = ["face", "picture", "sets"]

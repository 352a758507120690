"""One command from pictures to a detector: recipes, steps that know what they were made from, a report."""

__all__ = ["course", "steps"]

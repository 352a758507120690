"""One command from pictures to a detector: recipes, steps that know their inputs, a report."""

__all__ = ["estimates", "plan_text", "proofs", "steps"]

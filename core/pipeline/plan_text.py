"""A plan as text, for --dry-run: what each step reads and writes, how things are with it, and what
it takes."""

import shutil

from core.base import parallel
from core.pipeline.steps import DONE
from facelet.console import clock


def _inside(folder, path):
    """A path relative to the run's folder, as the plan's first line has that."""
    return path.relative_to(folder) if folder in path.parents else path


def show(plan, steps, heading):
    """Print some steps of a Plan, in its order.

    heading -- what the plan is for, a line
    """
    print(f"{heading}\n\n  {'step':<20}{'state':<15}{'MB':>7}{'time':>9}   what")
    total_bytes, total_seconds = 0, 0.0
    for step, state in plan.states(plan.needed(steps)):
        if step not in steps:
            continue
        if step.run is None:
            print(f"  {step.name:<20}{'given':<15}{'':>16}   {step.title}")
            continue
        needed, seconds, figures = 0, 0.0, f"{'':>16}"
        if state.kind != DONE:
            needed, seconds = step.expected()
            figures = f"{needed / 1e6:>7,.0f}{clock(seconds):>9}"
        total_bytes, total_seconds = total_bytes + needed, total_seconds + seconds
        print(f"  {step.name:<20}{state.kind:<15}{figures}   {step.title}")
        if state.why:
            print(f"  {'':<20}{state.why}")
        reads = f"reads {', '.join(step.reads)}; " if step.reads else ""
        print(f"  {'':<20}{reads}writes {_inside(plan.folder, step.path)}")
    place = next(p for p in (plan.folder, *plan.folder.resolve().parents) if p.exists())
    print(
        f"\ntogether about {total_bytes / 1e6:,.0f} MB and {clock(total_seconds)} on "
        f"{parallel.cores()} processor{'s' if parallel.cores() > 1 else ''}, a rough estimate; "
        f"{shutil.disk_usage(place).free / 1e6:,.0f} MB are free. --dry-run: nothing was done."
    )

"""Compiles core/train/trunk/trunk.c into a library beside it.

    python -m core.train.trunk.build

Done when the toolkit is set up, never at import, by the compiler that the engine takes. Without
the library nets are trained as MXNet graphs.
"""

import argparse
import platform
import sys
from pathlib import Path

from facelet.engine.build import FAST, THREADS, VARIANTS, X86, CannotBuild, compile_all, up_to_date

HERE = Path(__file__).resolve().parent
LIBRARY = HERE / "libtrunk.so"


def build(out=LIBRARY, words=None, more=()):
    """Compile the library; its path. out -- where it goes; words -- a compiler; more -- flags for
    every file. Raises CannotBuild."""
    if sys.platform == "win32":
        raise CannotBuild("it needs POSIX threads")
    jobs = [("trunk.c", [*FAST, *THREADS], "base")]
    for name, flags in VARIANTS.items() if platform.machine() in X86 else ():
        jobs.append(("trunk.c", [*FAST, *THREADS, *flags, f"-DTABLE=trunk_{name}"], name))
    return compile_all(jobs, HERE, out, words, more)


def main(argv=None):
    argparse.ArgumentParser(
        prog="python -m core.train.trunk.build",
        description="Compiles the training of layers, where that is not done yet.",
        epilog="Without it, MXNet's own graphs train the nets.",
    ).parse_args(argv)
    try:
        if not up_to_date(LIBRARY, HERE):
            print(f"the training of layers is compiled: {build()}")
    except CannotBuild as problem:
        print(f"it is not compiled, {problem}; MXNet's own graphs train the nets", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())

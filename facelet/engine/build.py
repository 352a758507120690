"""Compiles the engine into one shared library beside its source.

    python -m facelet.engine.build

Done when the package is installed or the toolkit set up, and never at import; not done again where
the library is newer than its source. It takes the system's C compiler ($CC, cc, gcc, clang), or
else the one in the package ziglang. It needs nothing else of this package.
"""

import argparse
import ctypes
import importlib.util
import os
import platform
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Optional

HERE = Path(__file__).resolve().parent
LIBRARY = "libfacelet.dll" if sys.platform == "win32" else "libfacelet.so"
COMMON = ("-std=gnu11", "-fPIC", "-fvisibility=hidden", "-g0", "-Wall", "-Wextra")
FAST = ("-O3", "-ffp-contract=fast", "-fno-math-errno", "-fno-trapping-math")
EXACT = ("-O2", "-ffp-contract=off", "-fno-math-errno")
# Instruction sets of x86-64 beside what every such processor has: name, flags, floats in a vector,
# sums in registers (see kernels.c).
VARIANTS = {
    "avx2": (("-mavx2", "-mfma"), 8, 4, 2),
    "avx512": (
        ("-mavx2", "-mfma", "-mavx512f", "-mavx512bw", "-mavx512dq", "-mavx512vl"),
        16,
        8,
        4,
    ),
}
X86 = ("x86_64", "AMD64", "amd64")


class CannotBuild(Exception):
    """Why there is no library, in a line."""


def compiler() -> list[str]:
    """The words that a C compiler is called with. Raises CannotBuild."""
    given = shlex.split(os.environ.get("CC", ""))
    for words in ([given] if given else []) + [["cc"], ["gcc"], ["clang"]]:
        if shutil.which(words[0]):
            return words
    if importlib.util.find_spec("ziglang"):
        return [sys.executable, "-m", "ziglang", "cc"]
    raise CannotBuild("no C compiler: install gcc or clang, or pip install ziglang")


def build(
    out: Optional[Path] = None,
    words: Optional[Sequence[str]] = None,
    more: Sequence[str] = (),
    machine: Optional[str] = None,
    link: Sequence[str] = ("-shared",),
) -> Path:
    """Compile the library; its path.

    out -- where it goes; words -- a compiler; more -- flags for every file; machine -- what it is
        for, as platform.machine() says it; link -- what makes the linker make a library of it

    Raises CannotBuild.
    """
    out = HERE / LIBRARY if out is None else out
    words = compiler() if words is None else list(words)
    several = (machine or platform.machine()) in X86
    if any("zig" in word for word in words):
        more = ("-mcpu=baseline", *more)  # it would compile for this very processor
    jobs = [("net.c", [*FAST, *(["-DFACELET_VARIANTS"] if several else [])], "net")]
    jobs += [("cascade.c", [*EXACT], "cascade"), ("kernels.c", [*FAST], "base")]
    for name, (flags, lanes, block, vectors) in VARIANTS.items() if several else ():
        macros = [f"-DLANES={lanes}", f"-DBLOCK={block}", f"-DVECTORS={vectors}"]
        macros += [f"-DKERNELS=kernels_{name}", f'-DINSTRUCTIONS="{name}"']
        jobs.append(("kernels.c", [*FAST, *flags, *macros], name))
    with tempfile.TemporaryDirectory() as folder:
        objects = []
        for source, given, name in jobs:
            made = str(Path(folder, f"{name}.o"))
            _run([*words, *COMMON, *given, *more, "-c", str(HERE / source), "-o", made])
            objects.append(made)
        part = Path(folder, LIBRARY)
        _run([*words, *link, *more, *objects, "-o", str(part), "-lm"])
        # Moved into place whole, so that a process that has the old one open keeps it.
        beside = out.with_name(f".{out.name}.{os.getpid()}")
        try:
            shutil.copyfile(part, beside)
            os.replace(beside, out)
        except OSError as error:
            raise CannotBuild(f"{out}: {error.strerror}") from None
    return out


def up_to_date(path: Path) -> bool:
    """Whether a library can be loaded here and is newer than what it is made of."""
    try:
        ctypes.CDLL(str(path))
    except OSError:
        return False
    return is_newer(path)


def is_newer(path: Path) -> bool:
    """Whether a file is there, and newer than what the library is made of."""
    sources = [*HERE.glob("*.[ch]"), Path(__file__)]
    try:
        made = path.stat().st_mtime
    except OSError:
        return False
    return all(source.stat().st_mtime < made for source in sources)


def _run(words: list[str]) -> None:
    try:
        done = subprocess.run(words, capture_output=True, text=True)
    except OSError as error:
        raise CannotBuild(f"{words[0]}: {error.strerror}") from None
    if done.returncode:
        lines = [line for line in done.stderr.splitlines() if "error" in line] or [done.stderr]
        raise CannotBuild(f"{words[0]} failed: {lines[0].strip()[:200]}")


def main(argv: Optional[Sequence[str]] = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m facelet.engine.build",
        description="Compiles the engine, where that is not done yet.",
        epilog="Without it, nets run on onnxruntime.",
    )
    parser.parse_args(argv)
    try:
        if not up_to_date(HERE / LIBRARY):
            print(f"the engine is compiled: {build()}")
    except CannotBuild as problem:
        print(f"the engine is not compiled, {problem}; nets run on onnxruntime", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())

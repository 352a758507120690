"""The commands in the documentation: reads them, and runs them on a small drawn set.

    .venv/bin/python scripts/try_docs.py            # all that need nothing from elsewhere, 20 minutes
    .venv/bin/python scripts/try_docs.py tutorial   # those of one page

A command is a line in a fence without a language. Words in capitals stand for the reader's own
files; WORLD has what takes their place. tests/test_docs.py checks that every command parses, and runs
the quick ones.
"""

import re
import shlex
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
# Read in this order, and run in it: pages that make what others use come first.
PAGES = (
    "docs/tutorial.md",
    "docs/facelet.md",
    "docs/how-to/train-a-detector.md",
    "docs/how-to/train-landmarks.md",
    "docs/how-to/add-a-net.md",
    "docs/how-to/add-a-scheme.md",
    "docs/how-to/add-a-reader.md",
    "docs/how-to/deploy.md",
    "docs/explanation/budgets.md",
    "docs/explanation/measuring.md",
    "docs/explanation/speed.md",
    "docs/reference/index.md",
    "docs/architecture.md",
    "docs/figures.md",
    "README.md",
    "CONTRIBUTING.md",
    "models/README.md",
)
# Programs of the system; of these it is only known that they are what they are.
SYSTEM = ("git", "pip", "g++", "cd")


@dataclass(frozen=True)
class Command:
    page: str
    line: int
    words: tuple

    def __str__(self):
        return f"{self.page}:{self.line}: {shlex.join(self.words)}"

    def program(self):
        """(name as `python -m` takes it, its arguments), or None for anything else."""
        first, rest = self.words[0], list(self.words[1:])
        if first in ("python", ".venv/bin/python") and rest[:1] == ["-m"]:
            return rest[1], rest[2:]
        if first == "facelet":
            return "facelet", rest
        if first == "scripts/run.sh":
            return rest[0], rest[1:]
        if first.startswith("scripts/") and (ROOT / first).is_file():
            found = re.search(r'/run\.sh" (.+) "\$@"', (ROOT / first).read_text(encoding="utf-8"))
            if found:
                name, *more = shlex.split(found.group(1))
                return name, more + rest
        return None


def fences(text):
    """(line of the first line inside, language, lines) of each fence of a page."""
    start, language, lines = None, "", []
    for number, line in enumerate(text.splitlines(), 1):
        if not line.startswith("```"):
            if start:
                lines.append(line)
        elif start:
            yield start, language, lines
            start = None
        else:
            start, language, lines = number + 1, line[3:].strip(), []


def commands(page):
    """The Commands of a page, in order. A line that ends in a backslash goes on in the next; a
    function of the shell, name() { ...; }, is put in where it is called."""
    found, functions = [], {}
    for start, language, lines in fences((ROOT / page).read_text(encoding="utf-8")):
        if language:
            continue
        text, first = "", start
        for number, line in enumerate(lines, start):
            text = f"{text} {line.strip()}"
            if re.search(r"\\( +#.*)?$", line) and not line.lstrip().startswith("#"):
                text = text.rstrip().rstrip("\\")
                continue
            words = shlex.split(text, comments=True)
            text, at, first = "", first, number + 1
            if not words:
                continue
            if words[0].endswith("()"):
                functions[words[0][:-2]] = [w for w in words[2:-2]] + [words[-2].rstrip(";")]
                functions[words[0][:-2]] = [w for w in functions[words[0][:-2]] if w != "$@"]
                continue
            found.append(Command(page, at, (*functions.get(words[0], words[:1]), *words[1:])))
    return found


def all_commands():
    return [one for page in PAGES for one in commands(page)]


# What takes the place of the reader's files; made, where nothing in the documentation makes it, by
# BEFORE. A word of a command is looked up whole.
WORLD = {
    "DIR": "photos",
    "SET": "photos",
    "PHOTOS": "photos/WIDER_val/images",
    "PICTURES": "photos/WIDER_val/images",
    "PICTURE": "docs/sample.jpg",
    "FACES": "photos/landmarks/train_5.txt",
    "LIST": "photos/landmarks/train_5.txt",
    "NETS": "models",
    "DETECTOR": "models",
    "TEACHER": "models/Lnet_v2.onnx",
    "OTHER.onnx": "models/Lnet_v2.onnx",
    "NAME": "5",
    "CUTS_OF_LIST": "CUTS",
}
# Small, so that the whole takes minutes; settings go to the programs that take them.
SMALL = {
    "core.pipeline": "train.epochs=1 train.batch=50 pipeline.floors=0,0,0",
    "core.train": "train.epochs=1 train.batch=16",
    "core.landmarks": "train.epochs=1 train.batch=16",
}
COUNTS = {("prepare_data.drawn", "200"): "24"}
# What needs more than the clone, or makes what is there already: (part of the command, why not).
NOT_RUN = (
    ("scripts/test.sh", "the tests run this"),
    ("scripts/check.sh", "the tests run after it"),
    ("scripts/docs.sh", "has an environment of its own"),
    ("--gpu", "needs an NVIDIA card"),
    ("core.parity", "takes long, and tests/core/test_parity.py runs it"),
    ("core.bench", "needs hours and other people's detectors"),
    ("evaluate wider", "needs WIDER FACE"),
    ("evaluate fddb", "needs FDDB"),
    ("heatmap", "needs a list of bodies"),
)

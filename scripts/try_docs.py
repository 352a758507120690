"""The commands in the documentation: reads them, and runs them on a small drawn set.

    .venv/bin/python scripts/try_docs.py            # all that need nothing but the clone
    .venv/bin/python scripts/try_docs.py tutorial   # those of one page

A command is a line in a fence without a language. Words in capitals stand for the reader's own
files; WORLD has what takes their place, SMALL the settings that make the trainings short. What is
not run is listed with the reason. tests/test_docs.py checks that every command parses, and runs the
quick ones.
"""

import argparse
import os
import re
import shlex
import shutil
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
    "docs/how-to/in-the-browser.md",
    "docs/how-to/train-a-detector.md",
    "docs/how-to/train-landmarks.md",
    "docs/how-to/add-a-net.md",
    "docs/how-to/add-a-scheme.md",
    "docs/how-to/add-a-reader.md",
    "docs/how-to/deploy.md",
    "docs/how-to/on-a-board.md",
    "docs/scale.md",
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
        if first == ".venv/bin/python" and rest[:1] == ["-m"]:
            of_tests = rest[1].split(".")[0] in ("pytest", "tests")
            return None if of_tests else (rest[1], rest[2:])
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
    """The Commands of a page, in order. A line that ends in a backslash goes on in the next."""
    found = []
    for start, language, lines in fences((ROOT / page).read_text(encoding="utf-8")):
        text, first = "", start
        for number, line in enumerate(lines if not language else [], start):
            first = number if not text else first
            # A comment may stand behind the backslash, in two lines that belong together.
            goes_on = re.fullmatch(r"(.*?)\\( +#.*)?", line)
            text = f"{text} {goes_on.group(1) if goes_on else line}"
            if not goes_on:
                words = shlex.split(text, comments=True)
                found += [Command(page, first, tuple(words))] * bool(words)
                text = ""
    return found


def all_commands():
    return [one for page in PAGES for one in commands(page)]


# What takes the place of the reader's files, all in the folder that the commands run in; what is
# not here, an earlier command has made.
WORLD = {
    "DIR": "photos",
    "SET": "photos",
    "PICTURES": "photos/WIDER_val/images",
    "FACES": "photos/landmarks/train_5.txt",
    "LIST": "photos/landmarks/train_5.txt",
    "NETS": "models",
    "recall=0.9": "recall=0.01",
    "DETECTOR": "models",
    "TEACHER": "models/Lnet_v2.onnx",
    "OTHER.onnx": "models/Lnet_v2.onnx",
    "nets/*.params": "models/Pnet20_v2-0012.params",
    "model.onnx": "models/Rnet_v1.onnx",
    "FILE-symbol.json": "models/Pnet20_v2-symbol.json",
    "facelet/docs/sample.jpg": "docs/sample.jpg",
}
FACES = {106: "photos/landmarks/train_106.txt", 68: "photos/landmarks/train_68.txt"}
# So that the whole takes minutes.
SMALL = {
    "core.pipeline": [
        "train.epochs=1",
        "train.batch=50",
        "pipeline.floors=0,0,0",
        "pipeline.most_boxes=1e5,1e5,1e5",
        "detect.thresholds=0.9,0.9,0.9",  # so short a training leaves thousands of boxes over 0.5
        "mine.pnet=0.9",
        "mine.rnet=0.9",
        "mine.onet=0.9,0.9",
    ],
    "core.train": ["train.epochs=1", "train.batch=16"],
    "core.landmarks": ["train.epochs=1", "train.batch=16"],
}
PICTURES = "24"  # of the drawn set
GOES_ON = ("core.pipeline", "core.landmarks")  # with what is in --out already
# What needs more than the clone: (part of the command, why it is not run here).
NOT_RUN = (
    ("docs/figures.md", "its data can't be passed on"),
    ("--hosts", "needs other machines"),
    ("--gpu", "needs an NVIDIA card"),
    ("det4-dw48-v2n", "needs released nets; tests/core/test_convert.py makes such files"),
    ("evaluate wider", "needs WIDER FACE; tests/core/evaluate/test_wider.py makes a small one"),
    ("evaluate fddb", "needs FDDB; tests/core/evaluate/test_fddb.py makes a small one"),
    ("evaluate list", "needs another detector's list; tests/core/evaluate/test_lists.py has one"),
)


def why_not(command):
    """Why a command is not run; None for one that is."""
    for part, reason in NOT_RUN:
        if part in str(command):
            return reason
    return None if command.program() else "is not a program of the toolkit"


def small(command, folder):
    """What is run in a folder for a command: arguments of Python."""
    name, words = command.program()
    points = 68 if "--points" in words and "68" in words else 106 if "106" in str(words) else 5
    out = None
    for i, word in enumerate(words):
        if words[i - 1] == "--out":
            out = word
        elif word == "FACES" and points in FACES:
            words[i] = FACES[points]
        elif words[i - 1] == "--count":
            words[i] = PICTURES
        else:
            words[i] = WORLD.get(word, word)
    if name in GOES_ON and not out:
        words += ["--out", f"run-{command.line}"]
    if name == "prepare_data.drawn" and "--count" not in words:
        words += ["--count", PICTURES]
    if name == "core.pipeline" and "--data" not in words:
        words += ["--pictures", PICTURES]
    if name in GOES_ON[1:] and "--faces" not in words:
        words += ["--faces", FACES.get(points, WORLD["FACES"])]
    if out and name not in GOES_ON:
        remove(folder / out)
    return ["-m", name, *words, *SMALL.get(name, [])]


def remove(path):
    shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)


def main(argv):
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("page", nargs="*", help="part of a page's path (default: all pages)")
    words = parser.parse_args(argv).page
    chosen = [page for page in PAGES if not words or any(word in page for word in words)]
    failed = []
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        for name in ("docs", "models"):
            (folder / name).symlink_to(ROOT / name)
        # The first page makes the set that the others use.
        ready = (
            [] if PAGES[0] in chosen else [c for c in commands(PAGES[0]) if "--count" in c.words]
        )
        for command in ready + [c for page in chosen for c in commands(page)]:
            reason = why_not(command)
            if reason:
                print(f"-- {command}\n   not run: {reason}", flush=True)
                continue
            start = time.perf_counter()
            run = subprocess.run(
                [sys.executable, *small(command, folder)],
                cwd=folder,
                env={**os.environ, "PYTHONPATH": str(ROOT)},
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
            )
            spent = time.perf_counter() - start
            print(f"{'ok' if not run.returncode else 'NO'} {command}  {spent:.0f} s", flush=True)
            if run.returncode:
                failed.append(command)
                print("   " + "\n   ".join(run.stdout.splitlines()[-5:]), flush=True)
    print(f"{len(failed)} failed" if failed else "all that were run ended well")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

"""The short form of tests.attack finds nothing, and finds what a guard that is taken away lets
through."""

import re
import subprocess
import sys
from pathlib import Path

from tests.attack.kinds import KINDS

ROOT = Path(__file__).resolve().parents[1]
# A checksum that is not compared, and errors of NumPy's that nobody expects.
UNGUARDED = """
from core.base import arrays
from facelet import files
files.damage = lambda folder, sums: []
arrays.DAMAGED = (ValueError,)
from facelet.console import program
from tests.attack.__main__ import main
program(main)
"""


def attack(*arguments):
    return subprocess.run(
        [sys.executable, *arguments], cwd=ROOT, capture_output=True, text=True, timeout=300
    )


def test_the_short_form(tmp_path):
    page = tmp_path / "page.md"
    done = attack("-m", "tests.attack", "--markdown", str(page))
    assert done.returncode == 0, done.stdout + done.stderr
    table = page.read_text()
    for kind in KINDS:
        if f"{kind.name}: this OpenCV writes none" not in done.stderr:
            assert f"| flips | {kind.name} |" in table
            assert f"| mutations | {kind.name} |" in table
    assert "| kills | export | 1 |" in table
    assert table.splitlines()[:-2] == done.stdout.splitlines()[:-1]


def test_without_a_guard_it_fails():
    kinds = ("store, offsets.npy", "journal, .npz")
    numbers = ("--kills", "0", "--flips", "0", "--mutations", "120")
    done = attack("-c", UNGUARDED, *numbers, "--only", *kinds)
    assert done.returncode == 1, done.stdout + done.stderr
    failed = [line for line in done.stderr.splitlines() if line.startswith("failed: ")]
    assert any("offsets.npy" in line and "no checksum noticed" in line for line in failed)
    token = next(line for line in failed if "TokenError" in line)
    # The same once more, by its name.
    name = re.match(r"failed: (.+?:mutations:\d+) ", token).group(1)
    again = attack("-c", UNGUARDED, "--again", name)
    assert again.returncode == 1 and "TokenError" in again.stderr.splitlines()[-1]

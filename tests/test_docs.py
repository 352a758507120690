"""The documentation: every command in it parses, the quick ones run, links lead somewhere, and the
pages made from the programs are up to date. scripts/try_docs.py runs the other commands."""

import contextlib
import os
import re
import subprocess
import sys

import pytest

from config import config, override
from core.base import options
from facelet.console import Problem
from scripts import reference, try_docs

ROOT = try_docs.ROOT
COMMANDS = try_docs.all_commands()
STAGE = re.compile(r"^(pnet|pnet_hard|rnet|onet)\.")  # core.pipeline: a setting of one net alone
OTHERS = re.compile(
    r"^(pip install|git (clone|commit|rebase|config)|cd |"
    r"\.venv/bin/python (scripts/\w+\.py|-m pytest|-m tests\.attack)|"
    r"scripts/(setup|test|check|docs|web)\.sh)"
)
# Run here on the drawn set of the tests; the part of a command that says which.
QUICK = (
    "core.flops",
    "core.doctor",
    "core.detect docs/sample.jpg --model small",
    "facelet docs/sample.jpg",
    "facelet --help",
    "prepare_data.points check FACES --out",
    "prepare_data.samples --data SET --size 20",
    "prepare_data.points cut --faces FACES --size 112",
)


@pytest.fixture(scope="module")
def parsers():
    """parser_of(), which imports a program, once for each."""
    made = {}
    return lambda name: made.setdefault(name, reference.parser_of(name))


@pytest.mark.parametrize("command", COMMANDS, ids=str)
def test_command_parses(command, parsers, capsys):
    """Its program is there, takes these options, and has these settings."""
    found = command.program()
    if found is None:
        assert OTHERS.match(" ".join(command.words)), f"{command}: what is this?"
        for word in command.words:
            if word.startswith("scripts/"):
                assert (ROOT / word).is_file(), command
        return
    name, words = found
    assert name in reference.programs(), f"{command}: there is no program {name}"
    settings = [word for word in words if options.SETTING.match(word)]
    rest = [word for word in words if word not in settings]
    try:
        with contextlib.suppress(SystemExit) if "--help" in words else contextlib.nullcontext():
            parsers(name).parse_args(rest)
    except SystemExit:
        pytest.fail(f"{command}: {capsys.readouterr().err.splitlines()[-1]}")
    except Problem as problem:
        pytest.fail(f"{command}: {problem}")
    override(config, [STAGE.sub("", one) for one in settings])


QUICK_COMMANDS = {
    str(one).split(": ", 1)[1]: one
    for one in COMMANDS
    if one.program() and any(part in " ".join(one.words) for part in QUICK)
    if not try_docs.why_not(one)
}


@pytest.fixture(scope="module")
def world(drawn_set, tmp_path_factory):
    """The folder that commands are run in."""
    folder = tmp_path_factory.mktemp("docs")
    for name in ("docs", "models"):
        (folder / name).symlink_to(ROOT / name)
    (folder / "photos").symlink_to(drawn_set)
    return folder


@pytest.mark.parametrize("command", QUICK_COMMANDS.values(), ids=str)
def test_quick_command_runs(command, world):
    run = subprocess.run(
        [sys.executable, *try_docs.small(command, world)],
        cwd=world,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert run.returncode == 0, run.stderr
    assert run.stdout.strip()


def test_each_quick_part_is_in_the_documentation():
    """So that none is lost when a page changes."""
    for part in QUICK:
        assert any(part in text for text in QUICK_COMMANDS), part


def test_commands_are_read_as_a_shell_reads_them(tmp_path, monkeypatch):
    page = tmp_path / "page.md"
    page.write_text(
        "```\n.venv/bin/python -m core.flops \\\n    --net a  # why\n\n"
        "# nothing\nfacelet 'a b'\n```\n"
        "```text\npython -m not.this\n```\n```\nscripts/P20_train.sh --data DIR\n```\n"
    )
    monkeypatch.setattr(try_docs, "ROOT", tmp_path)
    found = try_docs.commands("page.md")
    monkeypatch.undo()
    assert [(one.line, one.words) for one in found] == [
        (2, (".venv/bin/python", "-m", "core.flops", "--net", "a")),
        (6, ("facelet", "a b")),
        (12, ("scripts/P20_train.sh", "--data", "DIR")),
    ]
    assert found[2].program() == ("core.pipeline", ["--upto", "pnet", "--data", "DIR"])


def test_every_page_is_read():
    pages = {str(path.relative_to(ROOT)) for path in (ROOT / "docs").rglob("*.md")}
    made = {page for page in pages if page.startswith("docs/reference/")}
    without = {page for page in pages - made - {*try_docs.PAGES} if try_docs.commands(page)}
    assert not without, "add them to PAGES of scripts/try_docs.py"


def test_reference_is_up_to_date():
    renew = "run: .venv/bin/python scripts/reference.py"
    pages = reference.pages()
    there = set((reference.REFERENCE / "programs").glob("*.md"))
    assert there <= set(pages), renew
    for path, text in pages.items():
        assert path.exists() and path.read_text(encoding="utf-8") == text, f"{path}; {renew}"


def test_reference_has_every_setting():
    text = (reference.REFERENCE / "settings.md").read_text(encoding="utf-8")
    # Among them one whose comment goes on in a second line.
    assert "a batch; empty: 1,1,3 or, with mined ones" in text
    for name in ("samples.base_num", "detect.thresholds", "crop.preset", "loss.heatmap.weight"):
        assert text.count(f"| `{name}` |") == 1


def anchors(text):
    """The anchors of a page's headings, as the site and GitHub make them."""
    for heading in re.findall(r"^#+ (.+)$", text, re.M):
        plain = re.sub(r"[^\w\- ]", "", heading.lower().replace("`", ""))
        yield plain.strip().replace(" ", "-")


@pytest.mark.parametrize(
    "page",
    sorted([*(ROOT / "docs").rglob("*.md"), *ROOT.glob("*.md"), ROOT / "models" / "README.md"]),
    ids=lambda path: str(path.relative_to(ROOT)),
)
def test_links_lead_somewhere(page):
    text = re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.M | re.S)
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if target.startswith(("http:", "https:")):
            continue
        path, _, anchor = target.partition("#")
        there = (page.parent / path).resolve() if path else page
        assert there.exists(), f"{page}: {target}"
        if anchor:
            assert anchor in set(anchors(there.read_text(encoding="utf-8"))), f"{page}: {target}"

"""Writes docs/reference from the programs and from config.py.

    .venv/bin/python scripts/reference.py

One page a program, with what its --help prints, a page with all settings, and one with the nets of
the zoo. tests/test_docs.py fails where they are out of date.
"""

import argparse
import ast
import contextlib
import importlib
import io
import os
import re
import sys
import tokenize
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
REFERENCE = ROOT / "docs" / "reference"
sys.path.insert(0, str(ROOT))


def programs():
    """Names of all programs, as `python -m` takes them; old names of some are left out."""
    found = []
    for folder in ("facelet", "core", "prepare_data"):
        for path in sorted((ROOT / folder).rglob("*.py")):
            text = path.read_text(encoding="utf-8")
            if 'if __name__ == "__main__":' in text and not text.startswith('"""The old name'):
                parts = path.relative_to(ROOT).with_suffix("").parts
                found.append(".".join(parts[:-1] if parts[-1] == "__main__" else parts))
    return found


class _Parser(Exception):
    """Carries a program's parser out of its main()."""


def parser_of(program):
    """The ArgumentParser that a program makes in main(), which is run up to there."""
    module = importlib.import_module(program)
    if hasattr(module, "__path__"):
        module = importlib.import_module(f"{program}.__main__")
    main = getattr(module, "main", None) or importlib.import_module(f"{program}.program").main

    names = ("parse_args", "parse_known_args", "parse_intermixed_args")
    before = {name: getattr(argparse.ArgumentParser, name) for name in names}

    def catching(name):
        def method(parser, *arguments, **more):
            if not parser.add_help:  # one that a program only looks ahead with
                return before[name](parser, *arguments, **more)
            raise _Parser(parser)

        return method

    try:
        for name in names:
            setattr(argparse.ArgumentParser, name, catching(name))
        main([])
    except _Parser as found:
        return found.args[0]
    finally:
        for name, method in before.items():
            setattr(argparse.ArgumentParser, name, method)
    raise RuntimeError(f"{program}: main() parses no arguments")


def commands(parser):
    """{name: parser} of the commands that a parser has, such as `stages` of core.evaluate."""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            return dict(action.choices)
    return {}


def help_of(parser):
    """What --help prints on a terminal of 100 columns, the same on every Python."""
    before = os.environ.get("COLUMNS")
    os.environ["COLUMNS"] = "100"
    try:
        text = parser.format_help()
    finally:
        os.environ.pop("COLUMNS") if before is None else os.environ.update(COLUMNS=before)
    return text.replace("\noptional arguments:\n", "\noptions:\n").rstrip() + "\n"  # Python 3.9


def program_page(program):
    """The page of a program. scripts/run.sh reads it by its headings and fences."""
    parser = parser_of(program)
    parts = {program: parser}
    parts.update({f"{program} {name}": part for name, part in commands(parser).items()})
    out = [f"# {program}", "", f"*What `python -m {program} --help` prints.*"]
    for name, part in parts.items():
        out += ["", f"## {name}", "", "```text", help_of(part).rstrip(), "```"]
    return "\n".join(out) + "\n"


def index(names):
    """The page that lists the programs."""
    out = ["# Programs", "", "For those who look up an option. In the clone, each runs as"]
    out += [
        "`scripts/run.sh NAME`, or, after `scripts/setup.sh`, as `.venv/bin/python -m NAME`.",
        "",
    ]
    out += ["| program | |", "|---|---|"]
    for name in names:
        text = " ".join((parser_of(name).description or "").strip().split("\n\n")[0].split())
        out.append(f"| [`{name}`]({name}.md) | {text} |")
    return "\n".join(out) + "\n"


def zoo_page():
    """Every net of the zoo with its budget, as core.flops prints it."""
    flops = importlib.import_module("core.flops")
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        flops.main(["--net", "all"])
    out = [
        "# The zoo",
        "",
        "For those who choose a net. `.venv/bin/python -m core.flops --net all` prints",
    ]
    out += ["this table; [How budgets are counted](../explanation/budgets.md) explains it.", ""]
    out += ["```text", *(line.rstrip() for line in printed.getvalue().strip().splitlines()), "```"]
    out += ["", "From Python, where MXNet is installed:", "", "```python", ZOO.strip(), "```", ""]
    out += ["Layers and names are train-mtcnn's, so its released `.params` load. Two of its names"]
    out += [
        "mislead: `pnet20_v1-0016.params` is Pnet20_v0 (loading it as another net says so), and"
    ]
    out += [
        "`lnet106_112-4070.params` is Lnet106_112r_small. Pnet12, Rnet24 and Onet48 are the nets"
    ]
    out += ["of the MTCNN paper. The tables are `symbols/pnet.py`, `rnet.py`, `onet.py`, `lnet.py`"]
    out += ["and `classic.py`; [Add a net](../how-to/add-a-net.md) adds a row."]
    return "\n".join(out) + "\n"


ZOO = """
import symbols

symbols.names("Pnet20_*")  # the names
symbols.build("Pnet20_v1")  # an mx.sym.Symbol, to run
symbols.build("Lnet106_v2", base=64, points=68)  # other widths, numbers of points
symbols.build("Onet_v2", mode="train", landmark=True)  # with losses
"""


def _comments(source):
    """(comments by line, lines on which a comment stands alone) of a Python source."""
    by_line, alone = {}, set()
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT:
            line = token.start[0]
            by_line[line] = re.sub("^# ?", "", token.string).rstrip()
            if not token.line[: token.start[1]].strip():
                alone.add(line)
    return by_line, alone


def _section_heads(source):
    """[(line, title)] of the lines `# --- title ----` in config.py."""
    found = []
    for number, line in enumerate(source.splitlines(), 1):
        match = re.match(r"# --- (.+?) -{2,}$", line)
        if match:
            found.append((number, match.group(1)))
    return found


def settings_page():
    """Every setting of config.py: its default, what it must be, and the comments beside it."""
    import config

    source = (ROOT / "config.py").read_text(encoding="utf-8")
    comments, alone = _comments(source)
    limits = {key: words for keys, _, words in config.LIMITS for key in keys}
    detect = _fields_of_settings()
    values = config.values(config.config)
    heads = _section_heads(source)
    end = next(
        n for n, line in enumerate(source.splitlines(), 1) if "# What a value must be" in line
    )
    out = ["# Settings", ""]
    out += [
        "For those who look up a default. Every program of the toolkit takes `section.key=value`"
    ]
    out += [
        "among its arguments; `pnet.`, `rnet.` or `onet.` before it in `core.pipeline` is for one"
    ]
    out += ["net alone. A key that is not here, or a value that may not be, is an error. Lists are"]
    out += ["written `1,1,3`."]
    statements = [node for node in ast.parse(source).body if isinstance(node, ast.Assign)]
    seen = set()
    for (start, title), (stop, _) in zip(heads, heads[1:] + [(end, "")]):
        rows, used = [], set()
        for node in statements:
            target = ast.unparse(node.targets[0])
            if not start < node.lineno < stop or not target.startswith("config."):
                continue
            parts = {target[len("config.") :]: node}
            if isinstance(node.value, ast.Call):  # EasyDict(name=value, ...)
                key = next(iter(parts))
                parts = {f"{key}.{word.arg}": word.value for word in node.value.keywords}
                parts.update(
                    (n, None) for n in values if n.startswith(key + ".") and n not in parts
                )
                if not node.value.keywords and not node.value.args:
                    continue  # an empty section, filled below it
            for name, part in parts.items():
                own = []
                line = part.end_lineno if part else None
                while line and (line == part.end_lineno or line in alone and _deep(source, line)):
                    if line in comments and line not in used:
                        own.append(comments[line].strip())
                        used.add(line)
                    line += 1
                text = " ".join(own) or detect.get(name, "")
                rows += _rows(name, text, values, limits)
        seen.update(row[0] for row in rows)
        prose = [n for n in range(start + 1, stop) if n in alone and n not in used]
        out += ["", f"## {title[0].upper()}{title[1:]}", ""]
        if rows:
            out += ["| setting | default | must be | |", "|---|---|---|---|"]
            out += [
                f"| `{name}` | {_shown(value)} | {words} | {text.replace('|', chr(92) + '|')} |"
                for name, value, words, text in rows
            ]
        if prose:
            out += ["", "```text", *(comments[n] for n in prose), "```"]
    missing = set(values) - seen
    if missing:
        raise RuntimeError(f"no place in config.py found for {', '.join(sorted(missing))}")
    return "\n".join(out) + "\n"


def _rows(name, text, values, limits):
    """Rows of the table for a key of config, or of all that are under it."""
    if name in values:
        return [(name, values[name], limits.get(name, ""), text)]
    below = [key for key in values if key.startswith(name + ".")]
    return [(key, values[key], limits.get(key, ""), text) for key in below]


def _deep(source, line):
    """Whether a comment stands to the right, and so goes on with the one above it."""
    text = source.splitlines()[line - 1]
    return len(text) - len(text.lstrip()) > 20


def _fields_of_settings():
    """{detect.name: what it is} out of the docstring of facelet's Settings."""
    from facelet.settings import Settings

    found = re.findall(r"^ {4}(\w+) -- ((?:.|\n {8})+)", Settings.__doc__ or "", re.M)
    return {f"detect.{name}": " ".join(text.split()) for name, text in found}


def _shown(value):
    if value == []:
        return "none"
    if isinstance(value, list):
        return f"`{','.join(map(str, value))}`"
    return "empty" if value == "" else f"`{value:.6g}`" if type(value) is float else f"`{value}`"


def pages():
    """{path: text} of everything that this script writes."""
    names = programs()
    folder = REFERENCE / "programs"
    found = {folder / f"{name}.md": program_page(name) for name in names}
    found[folder / "index.md"] = index(names)
    found[REFERENCE / "settings.md"] = settings_page()
    found[REFERENCE / "zoo.md"] = zoo_page()
    return found


def main():
    argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    ).parse_args()
    found = pages()
    folder = REFERENCE / "programs"
    folder.mkdir(parents=True, exist_ok=True)
    for old in set(folder.glob("*.md")) - set(found):
        old.unlink()
    for path, text in found.items():
        path.write_text(text, encoding="utf-8")
    print(f"{len(found)} pages in {REFERENCE.relative_to(ROOT)} are written")
    return 0


if __name__ == "__main__":
    sys.exit(main())

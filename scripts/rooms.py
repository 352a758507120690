"""The rooms (packages) of the toolkit and their order; draws them, with their imports.

    .venv/bin/python scripts/rooms.py

writes docs/rooms.svg and the table in docs/architecture.md.
tests/test_rooms.py reads the order here, and fails where a file does not keep to it.
"""

import argparse
import ast
import sys
from collections import Counter
from dataclasses import dataclass
from html import escape
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]

# From the ground up, a floor a row: a room may import from rooms on lower floors, and from itself.
FLOORS = (
    ("facelet",),
    ("config",),
    ("core.base",),
    ("symbols",),
    ("core.formats",),
    ("core.detect",),
    ("core.flops", "core.convert", "core.export"),
    ("core.parity", "core.doctor", "core.models"),
    ("prepare_data",),
    ("core.evaluate",),
    ("core.train",),
    ("core.pipeline",),
    ("core.landmarks", "core.bench"),
)
FLOOR = {room: floor for floor, rooms in enumerate(FLOORS) for room in rooms}
# The __all__ of facelet is what its users import. The toolkit, which comes with it, takes these
# modules of it.
OF_FACELET = (
    "boxes",
    "cascade",
    "console",
    "detector",
    "draw",
    "engine",
    "faces",
    "files",
    "isolated",
    "locks",
    "nets",
    "onnx_net",
    "opencv",
    "picture",
    "program",
    "schemes",
    "settings",
)
FOLDERS = ("facelet", "symbols", "core", "prepare_data")


@dataclass(frozen=True)
class Import:
    """An import of one of our modules, or of a name in it, by another one of ours.

    name -- what is taken from the module, or None: the module itself
    """

    source: str
    line: int
    target: str
    name: object = None


def modules(root=ROOT):
    """{dotted name: path} of all files of the toolkit; a folder has the name of its __init__.py."""
    found = {}
    for folder in FOLDERS:
        for path in sorted((root / folder).rglob("*.py")):
            parts = path.relative_to(root).with_suffix("").parts
            found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    if (root / "config.py").exists():
        found["config"] = root / "config.py"
    return found


def tree(path):
    return ast.parse(path.read_text(encoding="utf-8"), str(path))


def raw_imports(parsed, module, is_folder=False):
    """(line, module, names or None) of every import statement of a file, wherever it stands in it;
    relative ones made absolute."""
    for node in ast.walk(parsed):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield node.lineno, alias.name, None
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parts = module.split(".")
                kept = parts[: len(parts) - node.level + is_folder]
                base = ".".join(kept + ([base] if base else []))
            yield node.lineno, base, [alias.name for alias in node.names]


def imports(root=ROOT):
    """Every Import between two files of the toolkit."""
    ours = modules(root)
    found = []
    for module, path in ours.items():
        for line, base, names in raw_imports(tree(path), module, path.name == "__init__.py"):
            if names is None:
                if base in ours:
                    found.append(Import(module, line, base))
                continue
            for name in names:
                if f"{base}.{name}" in ours:
                    found.append(Import(module, line, f"{base}.{name}"))
                elif base in ours:
                    found.append(Import(module, line, base, name))
    return found


def room(module):
    """The room that a module is in; None for one that is in none."""
    parts = module.split(".")
    for end in range(len(parts), 0, -1):
        if ".".join(parts[:end]) in FLOOR:
            return ".".join(parts[:end])
    return None


def door(path):
    """What the __init__.py of a folder lists in __all__; None where it has none."""
    for node in tree(path).body:
        if isinstance(node, ast.Assign) and [getattr(t, "id", "") for t in node.targets] == [
            "__all__"
        ]:
            return ast.literal_eval(node.value)
    return None


def sentence(path):
    """The first paragraph of a file's docstring, on one line; "" where it has none."""
    return " ".join((ast.get_docstring(tree(path)) or "").split("\n\n")[0].split())


def between(found):
    """{(room, room it imports from): number of import lines} of Imports."""
    lines = {(i.source, i.line, i.target) for i in found}
    pairs = Counter((room(source), room(target)) for source, _, target in lines)
    return {pair: n for pair, n in sorted(pairs.items()) if pair[0] != pair[1] and None not in pair}


def _reduced(pairs):
    """Those of the pairs that do not follow from others: what the drawing has arrows for."""
    below = {}
    for upper, lower in pairs:
        below.setdefault(upper, set()).add(lower)

    def reach(start):
        seen, todo = set(), [*below.get(start, ())]
        while todo:
            one = todo.pop()
            if one not in seen:
                seen.add(one)
                todo += below.get(one, ())
        return seen

    return [
        (upper, lower)
        for upper, lower in pairs
        if not any(lower in reach(other) for other in below[upper] - {lower})
    ]


WIDTH, HEIGHT, GAP, STEP = 330, 62, 24, 100  # px: of a room, between rooms, from floor to floor
INK, WALL, PAPER = "#22303c", "#8aa0b4", "#eef3f7"


def _lines(text, length=52):
    """`text` in lines of at most `length` characters, two at most."""
    lines = [""]
    for word in text.split():
        if lines[-1] and len(lines[-1]) + 1 + len(word) > length:
            lines.append("")
        lines[-1] = f"{lines[-1]} {word}".strip()
    if len(lines) > 2:
        lines = [lines[0], lines[1][: length - 1].rstrip(" ,;:") + "…"]
    return lines


def drawing(root=ROOT):
    """The rooms on their floors, an SVG picture, as text."""
    ours, pairs = modules(root), between(imports(root))
    most = max(map(len, FLOORS))
    width = most * WIDTH + (most + 1) * GAP
    height = len(FLOORS) * STEP + 50
    places = {}
    for floor, rooms in enumerate(FLOORS):
        left = (width - len(rooms) * WIDTH - (len(rooms) - 1) * GAP) / 2
        for i, name in enumerate(rooms):
            places[name] = left + i * (WIDTH + GAP), height - 44 - (floor + 1) * STEP + 38
    out = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" '
        f'width="{width}" height="{height}" font-family="sans-serif" fill="{INK}">',
        f'<defs><marker id="tip" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="8" '
        f'markerHeight="8" orient="auto"><path d="M0 0 8 4 0 8Z" fill="{WALL}"/></marker></defs>',
        f'<rect width="{width}" height="{height}" fill="white"/>',
    ]
    arrows = _reduced(pairs)
    up = sum(FLOOR[upper] <= FLOOR[lower] for upper, lower in pairs)
    # Arrows leave and enter a room side by side, in the order of what is at their other end, and go
    # round rooms on floors between.
    for upper, lower in arrows:
        outgoing = sorted(
            (pair for pair in arrows if pair[0] == upper), key=lambda p: (places[p[1]][0], p[1])
        )
        incoming = sorted(
            (pair for pair in arrows if pair[1] == lower), key=lambda p: (places[p[0]][0], p[0])
        )
        x0 = places[upper][0] + WIDTH * (outgoing.index((upper, lower)) + 1) / (len(outgoing) + 1)
        x1 = places[lower][0] + WIDTH * (incoming.index((upper, lower)) + 1) / (len(incoming) + 1)
        y0, y1 = places[upper][1] + HEIGHT, places[lower][1] - 2
        out.append(_arrow(x0, y0, x1, y1, FLOOR[upper] - FLOOR[lower], places, width))
    for name, (x, y) in places.items():
        inside = [path for module, path in ours.items() if room(module) == name]
        size = f"{len(inside)} file{'s' * (len(inside) > 1)}"
        out.append(
            f'<rect x="{x:.0f}" y="{y:.0f}" width="{WIDTH}" height="{HEIGHT}" rx="6" '
            f'fill="{PAPER}" stroke="{WALL}"/>'
            f'<text x="{x + 12:.0f}" y="{y + 20:.0f}" font-size="15" font-weight="bold">{name}'
            f'<tspan dx="10" font-size="11" font-weight="normal">{size}</tspan></text>'
        )
        for i, text in enumerate(_lines(sentence(ours[name]).replace("`", ""))):
            out.append(
                f'<text x="{x + 12:.0f}" y="{y + 38 + 14 * i:.0f}" font-size="11">{escape(text)}'
                "</text>"
            )
    out.append(
        f'<text x="{GAP}" y="{height - 16}" font-size="12">{sum(pairs.values())} imports between '
        f"{len(FLOOR)} rooms, in {len(pairs)} pairs, {up or 'none'} of them upward. "
        f"An arrow that others imply is left out: {len(arrows)} are drawn.</text></svg>"
    )
    return "\n".join(out) + "\n"


def _arrow(x0, y0, x1, y1, floors, places, width):
    """A curve from (x0, y0) down to (x1, y1); one that passes floors runs beside their rooms."""
    if floors == 1:
        path = f"M{x0:.0f} {y0:.0f} C{x0:.0f} {(y0 + y1) / 2:.0f} {x1:.0f} {(y0 + y1) / 2:.0f} "
    else:
        passed = [x for x, y in places.values() if y0 < y < y1 - HEIGHT]
        left, right = min(passed) - GAP / 2, max(passed) + WIDTH + GAP / 2
        side = right if (x0 + x1) / 2 >= width / 2 else left
        path = (
            f"M{x0:.0f} {y0:.0f} C{x0:.0f} {y0 + 20:.0f} {side:.0f} {y0 + 10:.0f} "
            f"{side:.0f} {y0 + 40:.0f} L{side:.0f} {y1 - 40:.0f} "
            f"C{side:.0f} {y1 - 10:.0f} {x1:.0f} {y1 - 20:.0f} "
        )
    return (
        f'<path d="{path}{x1:.0f} {y1:.0f}" fill="none" stroke="{WALL}" stroke-width="1.6" '
        'marker-end="url(#tip)"/>'
    )


START, END = "<!-- table by scripts/rooms.py -->", "<!-- end of table -->"


def table(root=ROOT):
    """The rooms from the top floor down, as a table in Markdown."""
    ours, pairs = modules(root), between(imports(root))
    rows = ["| package | what is in it | imports from |", "|---|---|---|"]
    for rooms in reversed(FLOORS):
        for name in rooms:
            below = [f"`{lower}` {n}" for (upper, lower), n in pairs.items() if upper == name]
            text = sentence(ours[name]).replace("|", "\\|")
            rows.append(f"| `{name}` | {text} | {', '.join(below) or 'nothing'} |")
    return "\n".join(rows)


def architecture(root=ROOT):
    """docs/architecture.md with its table renewed."""
    text = (root / "docs" / "architecture.md").read_text(encoding="utf-8")
    before, _, rest = text.partition(START)
    return f"{before}{START}\n{table(root)}\n{END}{rest.partition(END)[2]}"


def main():
    argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    ).parse_args()
    text = architecture()
    (ROOT / "docs" / "architecture.md").write_text(text, encoding="utf-8")
    (ROOT / "docs" / "rooms.svg").write_text(drawing(), encoding="utf-8")
    print("docs/rooms.svg and the table in docs/architecture.md are written")
    return 0


if __name__ == "__main__":
    sys.exit(main())

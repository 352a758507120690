"""The rooms: imports run downward, through doors, and never in a circle (scripts/rooms.py has the
order). Each rule is also shown to find a house that breaks it."""

import ast
import importlib.util
import re
import sys

import pytest

from scripts import rooms

FACELET_NEEDS = {"numpy", "cv2", "onnxruntime", "facelet"}


def where(root, ours, module, line):
    return f"{ours[module].relative_to(root)}:{line}"


def upward(root):
    """Imports that don't run downward."""
    ours = rooms.modules(root)
    for one in rooms.imports(root):
        source, target = rooms.room(one.source), rooms.room(one.target)
        at = where(root, ours, one.source, one.line)
        if source is None or target is None:
            module = one.source if source is None else one.target
            if module != "core":
                yield f"{at}: {module} is in no room: add it to FLOORS in scripts/rooms.py"
        elif source != target and rooms.FLOOR[target] >= rooms.FLOOR[source]:
            yield f"{at}: {source} may not import {one.target}: {target} is not below it"


def past_doors(root):
    """Imports of what the folders on the way don't list in __all__, and of private names."""
    ours = rooms.modules(root)
    doors = {m: rooms.door(p) for m, p in ours.items() if p.name == "__init__.py" and m != "core"}
    if "facelet" in doors:
        doors["facelet"] = [*(doors["facelet"] or ()), *rooms.OF_FACELET]
    for one in rooms.imports(root):
        at = where(root, ours, one.source, one.line)
        parts = one.target.split(".") + ([one.name] if one.name else [])
        for end in range(1, len(parts)):
            folder, taken = ".".join(parts[:end]), parts[end]
            inside = one.source == folder or one.source.startswith(folder + ".")
            if folder in doors and not inside and taken not in (doors[folder] or ()):
                yield f"{at}: may not import {taken} of {folder}: it is not in its __all__"
        if one.name and re.match("_[^_]", one.name):
            yield f"{at}: may not import {one.name}, which is private to {one.target}"


def circles(root):
    """Files that import each other in a circle, wherever the imports stand."""
    ours = rooms.modules(root)
    graph = {module: {} for module in ours}
    for one in rooms.imports(root):
        if one.source != one.target:
            graph[one.source].setdefault(one.target, one.line)
    done, path = set(), []

    def visit(module):
        if module in path:
            circle = path[path.index(module) :] + [module]
            at = where(root, ours, circle[0], graph[circle[0]][circle[1]])
            yield f"{at}: may not import {circle[1]}, a circle: {' > '.join(circle)}"
        elif module not in done:
            path.append(module)
            for target in graph[module]:
                yield from visit(target)
            done.add(path.pop())

    for module in graph:
        yield from visit(module)


def without_sentence(root):
    """Folders whose __init__.py doesn't begin with one sentence, or has no door."""
    for module, path in rooms.modules(root).items():
        if path.name != "__init__.py":
            continue
        text, at = rooms.sentence(path), path.relative_to(root)
        if not text.endswith(".") or re.search(r"[.!?] [A-Z]", text):
            yield f"{at}:1: its docstring must begin with one sentence, a paragraph of its own"
        if module != "core" and rooms.door(path) is None:
            yield f"{at}:1: it must have __all__, what other rooms may import"


def foreign(root):
    """Imports of MXNet past symbols.mxnet_import, and by facelet of what it does not need."""
    for module, path in rooms.modules(root).items():
        for line, base, _ in rooms.raw_imports(rooms.tree(path), module, "__init__" in path.name):
            top, at = base.split(".")[0], f"{path.relative_to(root)}:{line}"
            if top == "mxnet" and module != "symbols.mxnet_import":
                yield f"{at}: may not import mxnet: symbols.mxnet_import does it for all"
            if rooms.room(module) == "facelet" and top not in FACELET_NEEDS and not standard(top):
                yield f"{at}: facelet may not import {top}: it needs NumPy, OpenCV, onnxruntime"


def standard(name):
    """Whether a module comes with Python."""
    if name in rooms.FOLDERS or name == "config":
        return False
    if name in sys.stdlib_module_names:  # also where it is of another system
        return True
    found = importlib.util.find_spec(name)
    return found is not None and "site-packages" not in str(found.origin)


def misplaced(root):
    """Tests that do not stand where the room is that they test."""
    ours = rooms.modules(root)
    for path in sorted((root / "tests").rglob("test_*.py")):
        at, folder = path.relative_to(root), path.parent.relative_to(root / "tests")
        if not folder.parts:
            continue  # of the whole house
        if not (root / folder / "__init__.py").exists():
            yield f"{at}:1: there is no folder {folder} that it could test"
            continue
        package, name = ".".join(folder.parts), path.stem[len("test_") :]
        tested = f"{package}.{name}" if f"{package}.{name}" in ours else package
        words = {
            text
            for node in ast.walk(rooms.tree(path))
            if isinstance(node, ast.Constant)
            for text in [node.value]
            if isinstance(text, str)
        }
        for _, base, names in rooms.raw_imports(rooms.tree(path), "tests"):
            words |= {base, *(f"{base}.{taken}" for taken in names or ())}
        if not any(word in (tested, package) or word.startswith(tested + ".") for word in words):
            yield f"{at}:1: it uses nothing of {tested}, where it stands"


RULES = (upward, past_doors, circles, without_sentence, foreign, misplaced)


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_the_house_keeps_to(rule):
    found = sorted(set(rule(rooms.ROOT)))
    assert not found, "\n" + "\n".join(found)


def test_every_room_is_there():
    ours = rooms.modules()
    assert set(rooms.FLOOR) <= set(ours)
    assert {rooms.room(module) for module in ours} == {*rooms.FLOOR, None}  # None: core itself


@pytest.fixture
def house(tmp_path):
    """Writes the files of a small house, {path: text}, each folder with an empty door."""

    def build(files):
        for name, text in files.items():
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            for folder in path.relative_to(tmp_path).parents:
                init = tmp_path / folder / "__init__.py"
                if str(folder) != "." and not str(folder).startswith("tests") and not init.exists():
                    init.write_text('"""A room."""\n\n__all__ = []\n')
            path.write_text(text)
        return tmp_path

    return build


@pytest.mark.parametrize(
    "rule, files, says",
    [
        (
            upward,
            {"symbols/a.py": "x = 1\n", "facelet/b.py": "def f():\n    from symbols import a\n"},
            ["facelet/b.py:2: facelet may not import symbols.a: symbols is not below it"],
        ),
        (
            upward,  # the same floor
            {"core/flops.py": "", "core/export.py": "from core.flops import M\n"},
            ["core/export.py:1: core.export may not import core.flops: core.flops is not below it"],
        ),
        (upward, {"core/new.py": "import config\n", "config.py": ""}, ["core.new is in no room"]),
        (
            past_doors,
            {"core/formats/a.py": "", "core/formats/b.py": "", "core/export.py": "\n"}
            | {"core/formats/__init__.py": '"""Nets."""\n__all__ = ["a"]\n'}
            | {"core/export.py": "from core.formats import a, b\nfrom core.formats.b import x\n"},
            [
                "core/export.py:1: may not import b of core.formats: it is not in its __all__",
                "core/export.py:2: may not import b of core.formats: it is not in its __all__",
            ],
        ),
        (
            past_doors,  # a door behind a door
            {
                "prepare_data/__init__.py": '"""D."""\n__all__ = ["points"]\n',
                "prepare_data/points/sets.py": "",
                "core/evaluate/a.py": "import prepare_data.points.sets\n",
            },
            ["core/evaluate/a.py:1: may not import sets of prepare_data.points"],
        ),
        (
            past_doors,
            {"symbols/a.py": "", "symbols/b.py": "from .a import _x\n"},
            ["symbols/b.py:1: may not import _x, which is private to symbols.a"],
        ),
        (
            circles,
            {"symbols/a.py": "from symbols import b\n"}
            | {"symbols/b.py": "\nfrom symbols.c import x\n", "symbols/c.py": "import symbols.a\n"},
            ["a circle: symbols.a > symbols.b > symbols.c > symbols.a"],
        ),
        (without_sentence, {"symbols/__init__.py": '"""No end"""\n__all__ = []\n'}, ["symbols/"]),
        (without_sentence, {"symbols/__init__.py": '"""A. Two."""\n__all__ = []\n'}, ["symbols/"]),
        (without_sentence, {"symbols/__init__.py": '"""A room."""\n'}, ["must have __all__"]),
        (
            foreign,
            {"core/train/a.py": "import mxnet as mx\n"},
            ["core/train/a.py:1: may not import mxnet"],
        ),
        (foreign, {"facelet/a.py": "import scipy.io\n"}, ["facelet/a.py:1: facelet may not"]),
        (misplaced, {"tests/core/gone/test_a.py": ""}, ["there is no folder core/gone"]),
        (
            misplaced,
            {"symbols/a.py": "", "symbols/b.py": "", "tests/symbols/test_a.py": "import symbols.b"},
            ["tests/symbols/test_a.py:1: it uses nothing of symbols.a"],
        ),
    ],
)
def test_a_rule_names_what_breaks_it(rule, files, says, house):
    found = sorted(set(rule(house(files))))
    assert len(found) == len(says), found
    for line, text in zip(found, says):
        assert text in line
    # ... and that alone: the other rules about imports are content with an empty house.
    assert not sorted(set(rule(house({"facelet/empty.py": ""}))) - set(found))


def test_drawing_and_table_are_of_today():
    """docs/rooms.svg and docs/architecture.md; `python scripts/rooms.py` renews them."""
    docs = rooms.ROOT / "docs"
    renew = "run: .venv/bin/python scripts/rooms.py"
    assert (docs / "rooms.svg").read_text(encoding="utf-8") == rooms.drawing(), renew
    assert (docs / "architecture.md").read_text(encoding="utf-8") == rooms.architecture(), renew


def test_arrows_drawn_are_those_no_others_imply():
    pairs = {("c", "b"): 1, ("b", "a"): 1, ("c", "a"): 1}
    assert rooms._reduced(pairs) == [("c", "b"), ("b", "a")]

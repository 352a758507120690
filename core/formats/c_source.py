"""The engine and nets as C source, which any compiler with the vectors of GCC makes a program of.

facelet.c is facelet/engine in one file, nets.c the nets' descriptions (facelet.engine.description),
bit for bit, and their settings; core/formats/c has what stands around them.
"""

import re
import sys
from array import array
from dataclasses import dataclass
from pathlib import Path

from facelet.console import Problem
from facelet.engine import SOURCE as ENGINE
from facelet.files import read_text, write_text

TEMPLATES = Path(__file__).resolve().parent / "c"
SOURCE = ("facelet.c", "facelet.h", "nets.c")
EXAMPLES = ("main.c", "Makefile")  # which stay as they are where they are there already
MANIFEST = "facelet.json"
STAGES = ("pnet", "rnet", "onet", "landmark")
_INCLUDE = re.compile(r'^#include "(.+)"\n', re.MULTILINE)
_WORDS = re.compile(r"static const uint32_t (\w+)_words\[\] = \{(.*?)\};", re.DOTALL)
A_LINE = 8  # words


@dataclass(frozen=True)
class Included:
    """A net of nets.c."""

    name: str  # of the zoo
    stage: str  # of STAGES; any other: none of them
    points: int
    description: bytes
    crop: tuple[float, float]  # see facelet.detector.landmark_crop; (0, 0): none


def _whole(name, seen):
    """The text of a template with the engine's files in the places where it includes them."""

    def included(found):
        inner = found[1]
        path = next((path / inner for path in (ENGINE, TEMPLATES) if (path / inner).exists()), None)
        if path is None or inner in SOURCE:
            return found[0]
        if inner in seen:
            return ""
        seen.add(inner)
        return f"/* ==== {inner} ==== */\n\n{_INCLUDE.sub(included, read_text(path))}"

    return _INCLUDE.sub(included, read_text(TEMPLATES / name))


def _settings(settings):
    three = [
        f"{{{', '.join(map(repr, values))}}}" for values in (settings.thresholds, settings.nms)
    ]
    return (
        f"{{{float(settings.min_face)!r}, {settings.factor!r}, {three[0]}, {settings.nms_scale!r}, "
        f"{three[1]},\n     {float(settings.vote)!r}, {float(settings.blend)!r}, 0, 0, "
        f"{int(settings.mirror)}, 1, 1}}"
    )


def _nets(nets, modes):
    parts = ['/* Nets, bit for bit, and settings. */\n#include "facelet.h"\n']
    rows = []
    for net in nets:
        words = array("I", net.description)
        if sys.byteorder == "big":
            words.byteswap()
        lines = (
            " ".join(f"0x{word:08x}," for word in words[at : at + A_LINE])
            for at in range(0, len(words), A_LINE)
        )
        parts.append(
            f"static const uint32_t {net.name}_words[] = {{\n    " + "\n    ".join(lines) + "\n};\n"
        )
        stage = f"FACELET_{net.stage.upper()}" if net.stage in STAGES else "FACELET_STAGES"
        rows.append(
            f'    {{"{net.name}", {stage}, {net.points}, {net.name}_words, '
            f"sizeof {net.name}_words, {float(net.crop[0])!r}, {float(net.crop[1])!r}}},"
        )
    parts.append(f"const facelet_included facelet_nets[] = {{\n{chr(10).join(rows)}\n}};")
    parts.append(f"const int32_t facelet_nets_count = {len(rows)};\n")
    rows = [f'    {{"{name}",\n     {_settings(one)}}},' for name, one in modes.items()]
    parts.append(f"const facelet_mode facelet_modes[] = {{\n{chr(10).join(rows)}\n}};")
    parts.append(f"const int32_t facelet_modes_count = {len(rows)};")
    return "\n".join(parts) + "\n"


def write(folder, nets, modes):
    """Write SOURCE and EXAMPLES into a folder.

    nets -- Included, each name once
    modes -- facelet.settings.Settings by name, "" for the ordinary ones
    """
    for name in modes:
        if not name.replace("_", "").replace("-", "").isalnum() and name:
            raise Problem(f"a mode {name!r} has no name that C source can hold: letters and digits")
    folder = Path(folder)
    write_text(folder / "facelet.h", _whole("facelet.h", set()))
    write_text(folder / "facelet.c", _whole("facelet.c", {"engine.h"}))
    write_text(folder / "nets.c", _nets(nets, modes))
    for name in EXAMPLES:
        write_text(folder / name, read_text(TEMPLATES / name))


def descriptions(path):
    """The descriptions in a nets.c, by the nets' names."""
    found = {}
    for name, words in _WORDS.findall(read_text(path)):
        values = (int(word, 16) for word in words.replace(",", " ").split())
        found[name] = b"".join(value.to_bytes(4, "little") for value in values)
    return found

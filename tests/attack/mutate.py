"""What is done to the bytes of a file: damage as disks and transfers do it, and changes that keep
to the file's own grammar, so that they get past the first check. All by a random.Random alone."""

import io
import json
import re
import zipfile

WORDS = ("", "x", "-", "a b", "../x", "/x", "nan", "null", "é", "\ud800", "\0", "x" * 5000)
NUMBERS = (
    *("0", "-1", "1", "2", "7", "1e9", "-1e9", "1e400", "-1e400", "nan", "NaN", "Infinity", "0x10"),
    *("1_000", "١", "9" * 30, "-" + "9" * 30, "9" * 400, "9" * 5000, "2147483648", "-2147483649"),
    *("9223372036854775808", "18446744073709551616", "0.5", "-0.5", "1e-320", "255", "65536"),
)
JSON_VALUES = (
    *(None, True, False, 0, -1, 1, 2, 0.5, -0.5, 1e300, float("nan"), float("inf"), 10**12),
    *(10**30, -(10**30), 10**400, 2**31, 2**63, 2**64, "", "x", "../x", "/x", "nan", "1", "é"),
    *("\0", "x" * 5000, [], {}, [[]], [None], [0], ["x"], {"x": 1}, [10**400], [[[[]]]]),
)
TYPES = (
    "|O",
    "<f8",
    "<f4",
    "<i8",
    "|u1",
    "|i1",
    "<U4",
    "|S3",
    "<c8",
    "|V4",
    "<M8[s]",
    "f",
    "?",
    "",
)
NUMBER = re.compile(r"-?\d+(?:\.\d+)?(?:[eE][-+]?\d+)?")


def _at(data, rng):
    return rng.randrange(len(data) + 1)


def damaged(data, rng):
    """Bytes as a disk or a transfer leaves them: some flipped, a part gone, more come in, a part
    zeros or somewhere else, the end missing, nothing left."""
    data = bytearray(data)
    kind = rng.choice(["flip"] * 4 + ["cut", "cut", "drop", "insert", "zero", "copy", "number"])
    if rng.random() < 0.01 or not data:
        return b""
    begin = _at(data, rng)
    end = min(len(data), begin + rng.choice((1, 2, 8, 64, 512, 4096)))
    if kind == "flip":
        for _ in range(rng.choice((1, 1, 2, 4, 16))):
            # Heads say what is where, and are a small part of most files.
            at = rng.randrange(min(len(data), rng.choice((64, 512, 1 << 40))))
            data[at] ^= rng.choice((1, 2, 4, 8, 16, 32, 64, 128, 255, rng.randrange(1, 256)))
    elif kind == "cut":
        del data[begin:]
    elif kind == "drop":
        del data[begin:end]
    elif kind == "insert":
        data[begin:begin] = rng.randbytes(end - begin)
    elif kind == "zero":
        data[begin:end] = bytes(end - begin)
    elif kind == "copy":
        other = _at(data, rng)
        data[other:other] = data[begin:end]
    else:
        width, order = rng.choice((1, 2, 4, 8)), rng.choice(("little", "big"))
        value = rng.choice(
            (0, 1, 255, 1 << 15, (1 << 31) - 1, 1 << 31, (1 << 63) - 1, (1 << 64) - 1)
        )
        begin = min(begin, rng.choice((16, 128, 1 << 40)))
        data[begin : begin + width] = (value % (1 << 8 * width)).to_bytes(width, order)
    return bytes(data)


# ---- texts -----------------------------------------------------------------------------------


def _bytes(text):
    return text.encode("utf-8", "surrogatepass")


def _line(line, rng):
    words = line.split(" ")
    at = rng.randrange(len(words))
    kind = rng.randrange(6)
    if kind < 3:
        words[at] = rng.choice(NUMBERS if kind < 2 else WORDS)
    elif kind == 3:
        del words[at]
    elif kind == 4:
        words.insert(at, words[rng.randrange(len(words))])
    else:
        words.insert(at, rng.choice(NUMBERS + WORDS))
    return rng.choice((" ", " ", " ", "\t", "  ")).join(words)


def _lines(text, rng, change):
    """Lines with one of them changed, gone, doubled, cut, in another place, or put in."""
    lines = text.split("\n")
    at, kind = rng.randrange(len(lines)), rng.randrange(10)
    if kind < 5:
        lines[at] = change(lines[at], rng)
    elif kind == 5:
        del lines[at]
    elif kind == 6:
        lines.insert(at, lines[rng.randrange(len(lines))])
    elif kind == 7:
        lines[at] = lines[at][: rng.randrange(len(lines[at]) + 1)]
    elif kind == 8:
        lines.insert(at, rng.choice(NUMBERS + WORDS))
    else:
        return rng.choice(("\r\n", "\r", "\n\n", "\u2028", "\f")).join(lines)
    return "\n".join(lines)


def _text(data, rng):
    text = data.decode("utf-8", "surrogateescape")
    for _ in range(rng.choice((1, 1, 2, 5))):
        if rng.random() < 0.2:  # numbers wherever they stand: NAME=3, (1,2)
            places = list(NUMBER.finditer(text))
            if places:
                place = rng.choice(places)
                text = text[: place.start()] + rng.choice(NUMBERS) + text[place.end() :]
        else:
            text = _lines(text, rng, _line)
    return text.encode("utf-8", "surrogateescape" if "\ud800" not in text else "surrogatepass")


# ---- JSON ------------------------------------------------------------------------------------


def _places(value, path=()):
    yield path
    if isinstance(value, dict):
        for key in value:
            yield from _places(value[key], (*path, key))
    elif isinstance(value, list):
        for i, inner in enumerate(value):
            yield from _places(inner, (*path, i))


def changed_json(value, rng):
    """A copy of a JSON value with one of its parts another, gone, doubled, or by another name."""
    value = json.loads(json.dumps(value))
    path = rng.choice(list(_places(value)))
    if not path:
        return rng.choice(JSON_VALUES) if rng.random() < 0.3 else value
    parent, last, kind = value, path[-1], rng.randrange(8)
    for key in path[:-1]:
        parent = parent[key]
    if kind < 5:
        parent[last] = rng.choice(JSON_VALUES)
    elif kind == 5:
        del parent[last]
    elif isinstance(parent, list):
        parent.insert(last, rng.choice((parent[last], *JSON_VALUES)))
    else:
        name = rng.choice((*WORDS, f"{last}x", *map(str, parent)))
        parent[name] = parent.pop(last) if kind == 6 else parent[last]
    return value


def _dumped(value):
    try:
        return json.dumps(value)
    except ValueError:  # digits that Python won't write
        return "9" * 5000


def _json(data, rng):
    value = json.loads(data)
    for _ in range(rng.choice((1, 1, 2, 4))):
        value = changed_json(value, rng)
    text = _dumped(value)
    if rng.random() < 0.1:
        text = _text(_bytes(text), rng).decode("utf-8", "replace")
    if rng.random() < 0.02:
        text = "[" * 100_000
    return _bytes(text)


def _json_line(line, rng):
    try:
        return _dumped(changed_json(json.loads(line), rng))
    except ValueError:
        return line


def _jsonl(data, rng):
    text = data.decode("utf-8", "surrogateescape")
    for _ in range(rng.choice((1, 1, 2))):
        text = _lines(text, rng, _json_line)
    return text.encode("utf-8", "surrogatepass")


# ---- arrays ----------------------------------------------------------------------------------


def _npy(data, rng):
    """An .npy file whose header says something else of the same numbers."""
    length = int.from_bytes(data[8:10], "little")
    header, rest = data[10 : 10 + length].decode("latin1"), data[10 + length :]
    kind = rng.randrange(6)
    if kind == 0:
        header = re.sub(r"'descr': '[^']*'", f"'descr': {rng.choice(TYPES)!r}", header)
    elif kind == 1:
        shape = ", ".join(rng.choice(NUMBERS) for _ in range(rng.randrange(5)))
        header = re.sub(r"\([^)]*\)", f"({shape})", header)
    elif kind == 2:
        header = header.replace("False", rng.choice(("True", "None", "1", "'x'", "(")))
    elif kind == 3:
        header = damaged(header.encode("latin1"), rng).decode("latin1")
    elif kind == 4:
        rest = damaged(rest, rng)
    else:
        header = header.replace(
            *rng.choice((("'", '"'), ("'", ""), ("{", "["), (":", "="), ("}", "")))
        )
    head = header.encode("latin1", "replace")
    if rng.random() < 0.8:
        head = head[:65535].ljust(length)
    return data[:8] + (len(head) % 65536).to_bytes(2, "little") + head + rest


def _npz(data, rng):
    """An archive of .npy files with another member, whose checksum in the archive is right."""
    out = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as old, zipfile.ZipFile(out, "w") as new:
        names = old.namelist()
        chosen, kind = rng.choice(names), rng.randrange(6)
        for name in names:
            inner = old.read(name)
            if name == chosen:
                if kind == 5:
                    continue
                inner = (_npy if kind < 3 else damaged)(inner, rng)
            new.writestr(name if kind != 4 or name != chosen else f"{name}x", inner)
    made = bytearray(out.getvalue())
    if rng.random() < 0.2:  # how members are packed, their flags
        at = made.rfind(b"PK\x01\x02") + rng.choice((6, 8, 10, 10, 12, 20, 24, 34, 42))
        made[at] = rng.randrange(256)
    return bytes(made)


# ---- ONNX ------------------------------------------------------------------------------------


def _onnx(data, rng):
    """An ONNX model that says something else: names, shapes, types, layers, metadata."""
    import onnx

    model = onnx.load_model_from_string(data)
    graph, kind = model.graph, rng.randrange(10)
    node, weight = rng.choice(graph.node), rng.choice(graph.initializer)
    if kind == 0:  # its input by another name, as other tools do
        old, new = graph.input[0].name, rng.choice(("input", "x", ""))
        graph.input[0].name = new
        for layer in graph.node:
            layer.input[:] = [new if blob == old else blob for blob in layer.input]
    elif kind == 1:
        graph.output[0].name = rng.choice(("x", graph.input[0].name))
    elif kind == 2:
        weight.dims[:] = [rng.choice((0, -1, 1, 3, 1 << 40)) for _ in range(rng.randrange(5))]
    elif kind == 3:
        weight.raw_data = damaged(weight.raw_data, rng)
    elif kind == 4:
        weight.data_type = rng.randrange(20)
    elif kind == 5:
        node.op_type = rng.choice([layer.op_type for layer in graph.node] + ["Loop", "x", "Cast"])
    elif kind == 6:
        graph.node.remove(node)
    elif kind == 7 and node.attribute:
        rng.choice(node.attribute).i = rng.choice((-1, 0, 1 << 40))
        rng.choice(node.attribute).ints[:] = [rng.choice((-1, 0, 1, 2, 1 << 40))] * rng.randrange(5)
    elif kind == 8:
        place = rng.choice(model.metadata_props)
        place.value = rng.choice(
            (place.value[:-1], _dumped(changed_json(json.loads(place.value), rng)))
        )
    else:
        place = rng.choice(model.metadata_props)
        rng.choice(
            (lambda: model.metadata_props.remove(place), lambda: model.ClearField("graph"))
        )()
    made = model.SerializeToString()
    if rng.random() < 0.1:  # names that are no UTF-8
        name = weight.name.encode()
        made = made.replace(name, b"\xff" * len(name))
    return made


GRAMMARS = {
    "text": _text,
    "json": _json,
    "jsonl": _jsonl,
    "npy": _npy,
    "npz": _npz,
    "onnx": _onnx,
    "binary": damaged,
}

"""What a picture file is, by its first bytes, how large its picture is and how that is to be turned
upright: read from the header, without decoding. Decoders are given only what is known here to be of
a safe kind and within bounds.

Positions and sizes are in bytes from the beginning of a file, widths and heights in pixels as they
are stored, orientations as in EXIF (1 to 8).
"""

import re
from collections.abc import Iterator
from typing import Callable, Literal, NamedTuple, Optional

Order = Literal["little", "big"]


class Damaged(Exception):
    """A header that is cut short, or says what can't be."""


class Header(NamedTuple):
    """kind -- of the file, a key of KINDS
    pixels -- of the largest array that a decoder makes: width * height, or those of a TIFF's tile
    orientation -- 1 to 8, as in EXIF; at -- position of its value in a TIFF, whose decoders turn
        some pictures and not others; 0 elsewhere
    least -- bytes that compressed data of so many pixels have at least, if that is known
    """

    kind: str
    width: int
    height: int
    orientation: int = 1
    at: int = 0
    tile: int = 0
    least: int = 0

    @property
    def pixels(self) -> int:
        return max(self.width * self.height, self.tile)

    @property
    def size(self) -> tuple[int, int]:
        """Width and height of the picture when it is upright."""
        turned = self.orientation >= 5
        return (self.height, self.width) if turned else (self.width, self.height)


def _number(data: bytes, at: int, size: int, order: Order = "big") -> int:
    part = data[at : at + size]
    if len(part) < size:
        raise Damaged
    return int.from_bytes(part, order)


# ---- TIFF, which is what EXIF is kept as, too -----------------------------------------------

WIDTH, HEIGHT, ORIENTATION, TILE_WIDTH, TILE_HEIGHT = 256, 257, 274, 322, 323
SIZES = {1: 1, 3: 2, 4: 4, 16: 8}  # bytes of a value, by its type: BYTE, SHORT, LONG, LONG8
ORDERS: dict[bytes, Order] = {b"II": "little", b"MM": "big"}


def _fields(tiff: bytes) -> tuple[dict[int, int], int, Order]:
    """({tag: value}, position of the orientation's value or 0, order of bytes) of the first
    directory of a TIFF; of whole numbers, the first value where there are several."""
    order = ORDERS.get(tiff[:2])
    if order is None:
        raise Damaged
    big = _number(tiff, 2, 2, order) == 43
    at = _number(tiff, 8, 8, order) if big else _number(tiff, 4, 4, order)
    count_size, entry, inline = (8, 20, 12) if big else (2, 12, 8)
    count = _number(tiff, at, count_size, order)
    fields, where = {}, 0
    for begin in range(at + count_size, at + count_size + count * entry, entry):
        tag, kind = _number(tiff, begin, 2, order), _number(tiff, begin + 2, 2, order)
        _number(tiff, begin + entry - 1, 1)  # it is whole
        if kind in SIZES and tag not in fields:
            fields[tag] = _number(tiff, begin + inline, SIZES[kind], order)
            if tag == ORIENTATION and kind == 3:
                where = begin + inline
    return fields, where, order


def _turned(value: int) -> int:
    return value if 1 <= value <= 8 else 1


def _exif(block: bytes) -> int:
    """The orientation in an EXIF block, with or without its name before it; a damaged one has
    none: the picture is whole all the same."""
    try:
        return _turned(_fields(block.removeprefix(b"Exif\0\0"))[0].get(ORIENTATION, 1))
    except Damaged:
        return 1


def _tiff(data: bytes) -> Header:
    fields, at, _ = _fields(data)
    return Header(
        "TIFF",
        fields.get(WIDTH, 0),
        fields.get(HEIGHT, 0),
        _turned(fields.get(ORIENTATION, 1)),
        at,
        fields.get(TILE_WIDTH, 0) * fields.get(TILE_HEIGHT, 0),
    )


def without_orientation(data: bytes, header: Header) -> bytes:
    """A TIFF that says that it is upright."""
    return data[: header.at] + (1).to_bytes(2, _fields(data)[2]) + data[header.at + 2 :]


# ---- the other kinds ----------------------------------------------------------------------------

# 0, 1 and 0xd0 to 0xd7 stand within scans; 0xff only fills.
_MARKER = re.compile(rb"\xff[\x02-\xcf\xd8-\xfe]")
_START, _END, _SCAN = 0xD8, 0xD9, 0xDA
_FRAMES = {*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC}  # markers before width and height
_MOST_SCANS = 500  # of a progressive JPEG: each costs as much time as all its pixels


def _jpeg_markers(data: bytes) -> Iterator[tuple[int, int, int]]:
    """Yields (marker, begin, end) of the blocks of a JPEG up to its end marker, which is the last,
    with the position behind it twice."""
    at = 2
    while found := _MARKER.search(data, at):
        marker, at = data[found.end() - 1], found.end()
        if marker == _END:
            yield marker, at, at
            return
        if marker != _START:
            end = at + int.from_bytes(data[at : at + 2], "big")
            yield marker, at + 2, end
            at = max(at, end)


def _jpeg(data: bytes) -> Header:
    size, orientation = None, 1
    for marker, begin, end in _jpeg_markers(data):
        if marker == _SCAN and size and len(data) >= end:
            return Header("JPEG", *size, orientation)
        if marker in (_SCAN, _END):
            break
        if marker in _FRAMES and size is None:
            size = _number(data, begin + 3, 2), _number(data, begin + 1, 2)
        elif marker == 0xE1 and data[begin : begin + 6] == b"Exif\0\0" and orientation == 1:
            orientation = _exif(data[begin:end])
    raise Damaged


def jpeg_end(data: bytes) -> Optional[int]:
    """The position behind a JPEG's end marker; None where it has none. What comes after it, the
    video of a motion photo for one, is none of the picture's. Raises Damaged for more scans than a
    picture has."""
    scans = 0
    for marker, _, end in _jpeg_markers(data):
        scans += marker == _SCAN
        if scans > _MOST_SCANS:
            raise Damaged
        if marker == _END:
            return end
    return None


_CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}  # of a PNG, by its type of colours
_DEFLATE = 1032  # bytes at most that one compressed byte becomes


def _png(data: bytes) -> Header:
    if data[12:16] != b"IHDR":
        raise Damaged
    width, height = _number(data, 16, 4), _number(data, 20, 4)
    depth, colours = _number(data, 24, 1), _number(data, 25, 1)
    at, orientation, _ = 8, 1, _number(data, 32, 1)
    while at + 8 <= len(data):
        length, kind = _number(data, at, 4), data[at + 4 : at + 8]
        if kind == b"eXIf":
            orientation = _exif(data[at + 8 : at + 8 + length])
        at += 12 + length
    line = -(-width * depth * _CHANNELS.get(colours, 1) // 8) + 1
    return Header("PNG", width, height, orientation, least=height * line // _DEFLATE)


def _bmp(data: bytes) -> Header:
    size = 2 if _number(data, 14, 4, "little") == 12 else 4
    width, height = (_number(data, 18 + i * size, size, "little") for i in (0, 1))
    # Negative heights are of pictures that begin at the top.
    width, height = (v - 2**32 if v >= 2**31 else v for v in (width, height))
    return Header("BMP", max(width, 0), abs(height))


def _webp(data: bytes) -> Header:
    kind = data[12:16]
    if kind == b"VP8X":
        width, height = (_number(data, at, 3, "little") + 1 for at in (24, 27))
    elif kind == b"VP8L":
        bits = _number(data, 21, 4, "little")
        width, height = (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    elif kind == b"VP8 ":
        width, height = (_number(data, at, 2, "little") & 0x3FFF for at in (26, 28))
    else:
        raise Damaged
    at, orientation = 12, 1
    while at + 8 <= len(data):
        length = _number(data, at + 4, 4, "little")
        if data[at : at + 4] == b"EXIF":
            orientation = _exif(data[at + 8 : at + 8 + length])
        at += 8 + length + length % 2
    return Header("WebP", width, height, orientation)


def _gif(data: bytes) -> Header:
    return Header("GIF", *(_number(data, at, 2, "little") for at in (6, 8)))


def _avif(data: bytes) -> Header:
    sizes = [
        (_number(data, at.end() + 4, 4), _number(data, at.end() + 8, 4))
        for at in re.finditer(b"ispe", data)
    ]
    if not sizes:
        raise Damaged
    return Header("AVIF", *max(sizes, key=lambda size: size[0] * size[1]))


# Kinds that are read: how a file begins, and what reads its header.
KINDS: tuple[tuple[re.Pattern[bytes], Callable[[bytes], Header], str], ...] = tuple(
    (re.compile(begins, re.DOTALL), reader, kind)
    for begins, reader, kind in (
        (rb"\xff\xd8", _jpeg, "JPEG"),
        (rb"\x89PNG\r\n\x1a\n", _png, "PNG"),
        (rb"BM", _bmp, "BMP"),
        (rb"RIFF....WEBP", _webp, "WebP"),
        (rb"II[*+]\0|MM\0[*+]", _tiff, "TIFF"),
        (rb"GIF8[79]a", _gif, "GIF"),
        (rb"....ftypavi[fs]", _avif, "AVIF"),
    )
)
# Those that are not, as their decoders are little tried on damaged files, or there is none.
OTHERS = tuple(
    (re.compile(begins, re.DOTALL), kind)
    for begins, kind in (
        (rb"\0\0\0\x0cjP  |\xff\x4f\xff\x51", "JPEG 2000"),
        (rb"P[1-7]\s", "PNM"),
        (rb"P[Ff]\s", "PFM"),
        (rb"v/1\x01", "OpenEXR"),
        (rb"#\?R", "Radiance HDR"),
        (rb"\x59\xa6\x6a\x95", "Sun raster"),
        (rb"....ftyp(?:hei|hev|mif|msf)", "HEIF"),
        (rb"\0\0\0\x0cJXL |\xff\x0a", "JPEG XL"),
    )
)


def kind(data: bytes) -> tuple[str, bool]:
    """What a file is by its first bytes, and whether such files are read; "" if it is nothing
    known."""
    for begins, _, name in KINDS:
        if begins.match(data):
            return name, True
    return next((name for begins, name in OTHERS if begins.match(data)), ""), False


def parse(data: bytes) -> Header:
    """The header of a file of a kind that is read. Raises Damaged."""
    return next(reader for begins, reader, _ in KINDS if begins.match(data))(data)

"""From a picture file to what a net takes in. Everything that reads pictures goes through here:
sampling, training, mining, evaluation and export share the constants of facelet.settings."""

import io
import os
import stat
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol, Union, cast

import cv2
import numpy as np

from facelet import header
from facelet.arrays import Array, Floats, Pixels
from facelet.console import Problem
from facelet.files import AnyPath, whole_file
from facelet.settings import MAX_PIXELS_VARIABLE, MEAN, SCALE, max_pixels

# Of pictures that can be written, and of all that are taken for pictures.
WRITABLE = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff")
SUFFIXES = (*WRITABLE, ".jpe", ".jfif", ".gif", ".avif")

# Bytes of a file that is read at all: uncompressed, a pixel of a TIFF has 16 at most.
LEAST_BYTES, BYTES_PER_PIXEL = 1 << 28, 16
BY_BUILD = ("GIF", "AVIF")  # kinds that not every build of OpenCV reads
JPEG_END = b"\xff\xd9"
JPEG_NOISE = bytes(range(1, 255)) * 4


def files_below(folder: AnyPath) -> list[Path]:
    """All that lies in a folder and below, sorted, hidden files and folders left out. Links to
    folders are followed to what is not below the folder by itself, each folder once. Raises Problem
    where it, or a folder in it, can't be read."""
    found, seen, waiting = [], set(), [os.fspath(folder)]

    def unreadable(error: OSError) -> None:
        raise Problem(f"{error.filename}: {error.strerror}")

    while waiting:
        links: list[str] = []
        for top in waiting:
            # Path.rglob says nothing of folders that can't be read.
            for where, folders, names in os.walk(top, onerror=unreadable):
                folders[:] = [name for name in folders if not name.startswith(".")]
                there = os.stat(where)
                if (there.st_dev, there.st_ino) in seen:
                    folders[:] = []
                    continue
                seen.add((there.st_dev, there.st_ino))
                paths = [os.path.join(where, name) for name in folders]
                links += [path for path in paths if os.path.islink(path)]
                found += [Path(where, name) for name in names if not name.startswith(".")]
        waiting = sorted(links)
    return sorted(found)


def in_folder(folder: AnyPath, suffixes: Sequence[str] = SUFFIXES) -> list[Path]:
    """Of files_below(), the files with one of the suffixes. Raises Problem."""
    return [file for file in files_below(folder) if has_suffix(file, suffixes)]


def has_suffix(file: Path, suffixes: Sequence[str] = SUFFIXES) -> bool:
    """Whether it is a file with one of the suffixes, of a kind that this build of OpenCV reads."""
    suffix = file.suffix.lower()
    return (
        suffix in suffixes
        and (suffix != ".gif" or reads("GIF"))
        and (suffix != ".avif" or reads("AVIF"))
        and file.is_file()
    )


class BrokenPicture(Problem):
    """A file that is missing, truncated or no picture, or another thing that is none."""


def read(path: AnyPath, name: object = None) -> Pixels:
    """The picture in a file, uint8 (H, W, 3), BGR, upright.

    Grey becomes three equal channels, 16 bits become 8, alpha is dropped, an EXIF orientation is
    applied, of several pictures the first is taken. Raises BrokenPicture; `name` is for that.
    """
    name = path if name is None else name
    return decode(_content(path, name), name)


def size(path: AnyPath) -> tuple[int, int]:
    """Width and height of the picture in a file as read() gives it, by the file's header: it is not
    decoded. Raises BrokenPicture where the header can't be read, or what it says is not read."""
    return _known(_content(path, path), path).size


def _content(path: AnyPath, name: object) -> bytes:
    """A picture file's bytes. Raises BrokenPicture."""
    try:
        there = os.stat(path)
        if not stat.S_ISREG(there.st_mode) and not stat.S_ISDIR(there.st_mode):
            raise BrokenPicture(f"{name}: no regular file, but a pipe or a device")
        if there.st_size > max(LEAST_BYTES, BYTES_PER_PIXEL * max_pixels()):
            raise BrokenPicture(f"{name}: {there.st_size:,} bytes, {beyond()}")
        return Path(path).read_bytes()
    except OSError as error:
        raise BrokenPicture(f"{name}: {error.strerror}") from None
    except ValueError:
        raise BrokenPicture(f"{name}: no file has such a name") from None


def decode(data: bytes, name: object = "picture") -> Pixels:
    """As read(), of a file's bytes; `name` is for the error."""
    known = _known(data, name)
    try:
        return _upright(_decoded(data, known), known.orientation)
    except header.Damaged:
        raise _broken(name, known.kind) from None
    except Unreadable:
        raise BrokenPicture(
            f"{name}: {known.kind}, which this build of OpenCV can't read: convert it to PNG or "
            "JPEG"
        ) from None


def _broken(name: object, kind: str) -> BrokenPicture:
    what = "a truncated JPEG" if kind == "JPEG" else f"a {kind} that is damaged, or a truncated one"
    return BrokenPicture(f"{name}: {what}")


def _known(data: bytes, name: object) -> header.Header:
    """The header of a picture that may be decoded. Raises BrokenPicture."""
    if not data:
        raise BrokenPicture(f"{name}: the file is empty")
    kind, safe = header.kind(data)
    if not safe:
        raise BrokenPicture(
            f"{name}: {kind}, which is not read: convert it to PNG or JPEG"
            if kind
            else f"{name}: no picture that OpenCV can read, or a truncated one"
        )
    try:
        known = header.parse(data)
    except header.Damaged:
        raise _broken(name, kind) from None
    if not known.width or not known.height:
        raise BrokenPicture(
            f"{name}: its header says {known.width} x {known.height} pixels: it is damaged"
        )
    if known.pixels > max_pixels():
        raise BrokenPicture(
            f"{name}: {known.width:,} x {known.height:,} pixels by its header, {beyond()}"
        )
    if len(data) < known.least:
        raise _broken(name, kind)
    return known


def beyond() -> str:
    """The end of a line about a picture that is larger than it may be."""
    return (
        f"more than the limit of {max_pixels():,} pixels: if it is sound, raise that with "
        f"--max-pixels (facelet), detect.max_pixels= (the toolkit) or {MAX_PIXELS_VARIABLE}"
    )


class Unreadable(Exception):
    """A kind of picture that is safe, but unknown to OpenCV as it is here."""


def _decoded(data: bytes, known: header.Header) -> Pixels:
    """The picture in a file as it is stored. Raises Damaged, Unreadable."""
    if known.kind in BY_BUILD and not reads(known.kind):
        raise Unreadable
    if known.kind == "GIF":
        return _first_frame(data)
    if known.kind == "TIFF" and known.at:
        data = header.without_orientation(data, known)
    if known.kind != "JPEG":
        return _by_opencv(data)
    end = header.jpeg_end(data)
    if end is not None:
        return _by_opencv(data[:end])
    # Only the end marker is missing, or a part of the last scan as well, which OpenCV fills with
    # grey. In the first case what stands in place of the end marker changes nothing.
    scan = data.rstrip(b"\0")  # of files that were made at full length, then filled in part
    scan = scan + b"\0" if len(scan) < len(data) and scan.endswith(b"\xff") else scan
    scan = scan[:-1] if scan.endswith(b"\xff") else scan
    picture = _by_opencv(scan + JPEG_END)
    if not np.array_equal(picture, _by_opencv(scan + JPEG_NOISE + JPEG_END)):
        raise header.Damaged
    return picture


def _by_opencv(data: bytes) -> Pixels:
    picture: Any
    try:
        picture = cv2.imdecode(
            np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION
        )
    except cv2.error:  # it promises more pixels than OpenCV makes
        picture = None
    if picture is None:
        raise header.Damaged
    decoded: Pixels = picture
    return decoded


def _first_frame(data: bytes) -> Pixels:
    """That of a GIF, which only the newest OpenCV reads as a picture, but each as a video."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "picture.gif")
        path.write_bytes(data)
        picture: Any
        there, picture = cv2.VideoCapture(str(path), cv2.CAP_FFMPEG).read()
    if not there:
        raise header.Damaged
    frame: Pixels = picture
    return frame


def reads(kind: str) -> bool:
    """Whether this build of OpenCV can read a kind of picture of which not all can."""
    return bool(
        kind == "GIF"
        and cv2.CAP_FFMPEG in cv2.videoio_registry.getBackends()
        or kind == "AVIF"
        and getattr(cv2, "haveImageWriter", bool)(".avif")
    )


def _upright(picture: Pixels, orientation: int) -> Pixels:
    """A picture turned as its EXIF orientation says."""
    if orientation >= 5:
        picture = cast(Pixels, cv2.transpose(picture))
    mirror = {2: 1, 3: -1, 4: 0, 6: 1, 7: -1, 8: 0}.get(orientation)
    return picture if mirror is None else cast(Pixels, cv2.flip(picture, mirror))


def write(path: AnyPath, picture: Pixels) -> None:
    """Write a picture to a file, by the suffix of its name, whole or not at all. Raises OSError
    (cv2.imwrite says nothing of a full disk)."""
    path = Path(path)
    _, data = cv2.imencode(path.suffix, picture)
    with whole_file(path) as part:
        part.write_bytes(data.tobytes())


def resize(picture: Pixels, width: int, height: int) -> Pixels:
    """Bilinear, as train-mtcnn does everywhere: what a net is trained on and what it is run
    on must be resampled alike."""
    resized: Array = cv2.resize(picture, (width, height), interpolation=cv2.INTER_LINEAR)
    return resized


def crop(picture: Pixels, box: Array, size: int) -> Pixels:
    """The square `box` (x1 y1 x2 y2, whole numbers) of a picture as uint8 (size, size, 3); what
    lies outside the picture is black."""
    x1, y1, x2, y2 = (int(v) for v in box)
    height, width = picture.shape[:2]
    left, top, right, bottom = max(-x1, 0), max(-y1, 0), max(x2 - width, 0), max(y2 - height, 0)
    inside: Array = picture[max(y1, 0) : max(y2, 0), max(x1, 0) : max(x2, 0)]
    if inside.size == 0:
        return np.zeros((size, size, 3), np.uint8)
    if left or top or right or bottom:
        inside = cv2.copyMakeBorder(inside, top, bottom, left, right, cv2.BORDER_CONSTANT)
    return resize(inside, size, size)


REMAP_LIMIT = 32_767  # rows and columns that cv2.remap can't reach


def crops(picture: Pixels, boxes: Array, size: int) -> Pixels:
    """As crop() of each of `boxes` (N, 4), all at once: uint8 (N, size, size, 3). OpenCV's remap
    takes positions to the 32nd part of a pixel, so values differ from crop() a little."""
    if not len(boxes) or max(picture.shape[:2]) >= REMAP_LIMIT or len(boxes) * size >= REMAP_LIMIT:
        parts = [crop(picture, box, size) for box in boxes]
        return np.stack(parts) if parts else np.zeros((0, size, size, 3), np.uint8)
    boxes = boxes.astype(np.float32)
    steps = (np.arange(size, dtype=np.float32) + 0.5) / size
    x, y = (
        np.clip(
            boxes[:, axis, None] + (boxes[:, axis + 2] - boxes[:, axis])[:, None] * steps - 0.5,
            boxes[:, axis, None],
            boxes[:, axis + 2, None] - 1,
        )
        for axis in (0, 1)
    )
    shape = len(boxes), size, size
    x, y = np.broadcast_to(x[:, None, :], shape), np.broadcast_to(y[:, :, None], shape)
    # One tall picture of all crops, one below the other.
    tall: Array = cv2.remap(
        picture,
        x.reshape(-1, size),
        y.reshape(-1, size),
        cv2.INTER_LINEAR,
        borderMode=cv2.BORDER_CONSTANT,
    )
    return tall.reshape(*shape, 3)


ORDERS: dict[str, dict[int, int]] = {
    "BGR": {1: cv2.COLOR_GRAY2BGR, 4: cv2.COLOR_BGRA2BGR},
    "RGB": {1: cv2.COLOR_GRAY2BGR, 3: cv2.COLOR_RGB2BGR, 4: cv2.COLOR_RGBA2BGR},
}


class PillowImage(Protocol):
    """What is used of a PIL.Image.Image; Pillow itself is not imported."""

    @property
    def mode(self) -> str: ...

    def convert(self, mode: str) -> Any: ...

    @property
    def __array_interface__(self) -> dict[str, Any]: ...


class BinaryFile(Protocol):
    """What is used of an open file, or of anything that is read like one."""

    def read(self) -> bytes: ...


Picture = Union[str, os.PathLike[str], bytes, bytearray, memoryview, BinaryFile, Array, PillowImage]


def check_order(order: str) -> None:
    """Raises Problem for an order of colours that is none."""
    if order not in ORDERS:
        raise Problem(f"order is {order!r}: it must be one of {', '.join(ORDERS)}")


def open_any(source: Picture, order: str = "BGR") -> Pixels:
    """A picture of any kind as uint8 (H, W, 3) BGR.

    source -- path; bytes of a file; file that is open in binary mode, or another object with
        read(), which is read to its end; array, uint8 or uint16 (of which the upper 8 bits are
        taken), (H, W), (H, W, 1), (H, W, 3) or (H, W, 4); or image of Pillow, which is taken as it
        is, without turning it by its EXIF orientation. Alpha is dropped.
    order -- of the colours in an array, "BGR" or "RGB"; files and images have their own

    Raises BrokenPicture for what is no picture, Problem for an order that is none.
    """
    check_order(order)
    if isinstance(source, (str, os.PathLike)):
        return read(source)
    if isinstance(source, (bytes, bytearray, memoryview)):
        return decode(bytes(source))
    if _is_pillow(source):
        return _from_array(_pillow_array(source), "RGB")
    if hasattr(source, "read"):
        return _from_file(cast(BinaryFile, source))
    if not isinstance(source, np.ndarray):
        raise BrokenPicture(
            "a picture is a path, bytes, a binary file, an array or a PIL image, not "
            f"{type(source).__name__}"
        )
    return _from_array(source, order)


def is_picture(source: object) -> bool:
    """Whether open_any() takes something for one picture: not whether it is one."""
    kinds = (str, os.PathLike, bytes, bytearray, memoryview, np.ndarray)
    return isinstance(source, kinds) or hasattr(source, "read") or _is_pillow(source)


def _is_pillow(source: object) -> bool:
    # The class is asked, as of an image itself __array_interface__ makes a copy of its pixels.
    return hasattr(type(source), "__array_interface__") and hasattr(source, "convert")


def _from_file(file: BinaryFile) -> Pixels:
    name = getattr(file, "name", None)
    name = name if isinstance(name, str) else type(file).__name__
    if isinstance(file, io.TextIOBase):
        raise BrokenPicture(f'{name}: a file that is open as text: open it with mode "rb"')
    try:
        data: object = file.read()
    except (OSError, ValueError) as error:  # ValueError: of a file that is closed
        raise BrokenPicture(f"{name}: {getattr(error, 'strerror', None) or error}") from None
    if not isinstance(data, (bytes, bytearray, memoryview)):
        raise BrokenPicture(f"{name}: its read() gives {type(data).__name__}, not bytes")
    return decode(bytes(data), name)


def _pillow_array(image: Any) -> Array:
    if image.mode in ("I", "F"):  # Pillow cuts their values off at 255
        raise BrokenPicture(
            f"a PIL image of mode {image.mode!r}: convert it to 8 bits, or give its array as uint16"
        )
    try:
        if image.mode.startswith("I;16"):
            return np.asarray(image).astype(np.uint16)
        return np.asarray(image.convert("RGB"))
    except (OSError, SyntaxError, ValueError) as error:  # as Pillow reports damaged files
        raise BrokenPicture(f"a PIL image that can't be read: {error}") from None


def _from_array(source: Array, order: str) -> Pixels:
    array = source[:, :, 0] if source.ndim == 3 and source.shape[2] == 1 else source
    channels = 1 if array.ndim == 2 else array.shape[2] if array.ndim == 3 else 0
    if array.dtype not in (np.uint8, np.uint16) or channels not in (1, 3, 4) or not array.size:
        raise BrokenPicture(
            f"an array of type {source.dtype} and shape {source.shape} is no picture: it takes "
            "uint8 or uint16, (H, W), (H, W, 3) or (H, W, 4)"
            + ("; give several as a list" if array.ndim == 4 else "")
        )
    if array.dtype == np.uint16:
        array = (array >> 8).astype(np.uint8)
    convert = ORDERS[order].get(channels)
    if convert is not None:
        array = cv2.cvtColor(np.ascontiguousarray(array), convert)
    return array


def to_input(pictures: Pixels) -> Floats:
    """uint8 (N, H, W, 3) BGR -> float32 (N, 3, H, W), (value - mean) * scale."""
    planes = np.ascontiguousarray(pictures.transpose(0, 3, 1, 2), dtype=np.float32)
    planes -= np.float32(MEAN)
    planes *= np.float32(SCALE)
    return planes

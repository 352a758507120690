"""From a picture file to what a net takes in. Everything that reads pictures goes through here:
sampling, training, mining, evaluation and export share the constants of facelet.settings."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol, Union

import cv2
import numpy as np

from facelet.arrays import Array, Floats, Pixels
from facelet.console import Problem
from facelet.files import AnyPath, whole_file
from facelet.settings import MEAN, SCALE

SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff")  # taken for pictures


def in_folder(folder: AnyPath, suffixes: Sequence[str] = SUFFIXES) -> list[Path]:
    """Files with one of the suffixes in a folder and below, sorted, hidden ones left out. Raises
    Problem where it, or a folder in it, can't be read."""

    def unreadable(error: OSError) -> None:
        raise Problem(f"{error.filename}: {error.strerror}")

    # Path.rglob says nothing of folders that can't be read.
    every = sorted(
        Path(where, name)
        for where, _, names in os.walk(folder, onerror=unreadable)
        for name in names
    )
    return [
        file
        for file in every
        if file.suffix.lower() in suffixes
        and file.is_file()
        and not any(part.startswith(".") for part in file.relative_to(folder).parts)
    ]


class BrokenPicture(Problem):
    """A file that is missing, truncated or no picture, or another thing that is none."""


def read(path: AnyPath) -> Pixels:
    """The picture in a file, uint8 (H, W, 3), BGR, upright.

    Grey becomes three equal channels, 16 bits become 8, alpha is dropped, an EXIF orientation is
    applied. Raises BrokenPicture.
    """
    try:
        data = Path(path).read_bytes()
    except OSError as error:
        raise BrokenPicture(f"{path}: {error.strerror}") from None
    return decode(data, path)


def decode(data: bytes, name: object = "picture") -> Pixels:
    """As read(), of a file's bytes; `name` is for the error."""
    if not data:
        raise BrokenPicture(f"{name}: the file is empty")
    # OpenCV decodes what there is of a truncated JPEG and fills the rest with grey. The last
    # scan of a whole one ends in an end-of-image marker, which can't occur inside a scan.
    if data[:2] == b"\xff\xd8" and data.rfind(b"\xff\xd9") < data.rfind(b"\xff\xda"):
        raise BrokenPicture(f"{name}: a truncated JPEG")
    picture: Any
    try:
        picture = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    except cv2.error:  # it promises more pixels than OpenCV makes
        picture = None
    if picture is None:
        raise BrokenPicture(f"{name}: no picture that OpenCV can read, or a truncated one")
    decoded: Pixels = picture
    return decoded


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


Picture = Union[str, os.PathLike[str], bytes, bytearray, memoryview, Array, PillowImage]


def check_order(order: str) -> None:
    """Raises Problem for an order of colours that is none."""
    if order not in ORDERS:
        raise Problem(f"order is {order!r}: it must be one of {', '.join(ORDERS)}")


def open_any(source: Picture, order: str = "BGR") -> Pixels:
    """A picture of any kind as uint8 (H, W, 3) BGR.

    source -- path; bytes of a file; array, uint8 or uint16 (of which the upper 8 bits are taken),
        (H, W), (H, W, 1), (H, W, 3) or (H, W, 4); or image of Pillow, which is taken as it is,
        without turning it by its EXIF orientation. Alpha is dropped.
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
    if not isinstance(source, np.ndarray):
        raise BrokenPicture(
            f"a picture is a path, bytes, an array or a PIL image, not {type(source).__name__}"
        )
    return _from_array(source, order)


def is_picture(source: object) -> bool:
    """Whether open_any() takes something for one picture: not whether it is one."""
    kinds = (str, os.PathLike, bytes, bytearray, memoryview, np.ndarray)
    return isinstance(source, kinds) or _is_pillow(source)


def _is_pillow(source: object) -> bool:
    # The class is asked, as of an image itself __array_interface__ makes a copy of its pixels.
    return hasattr(type(source), "__array_interface__") and hasattr(source, "convert")


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

"""From a picture file to what a net takes in. Everything that reads pictures goes through here:
sampling, training, mining, evaluation and export share the constants of facelet.settings."""

import os
from pathlib import Path

import cv2
import numpy as np

from facelet.console import Problem
from facelet.files import whole_file
from facelet.settings import MEAN, SCALE

SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff")  # taken for pictures


def in_folder(folder, suffixes=SUFFIXES):
    """Files with one of the suffixes in a folder and below, sorted, hidden ones left out. Raises
    Problem where it, or a folder in it, can't be read."""

    def unreadable(error):
        raise Problem(f"{error.filename}: {error.strerror}")

    # Path.rglob says nothing of folders that can't be read.
    every = sorted(
        Path(where, name) for where, _, names in os.walk(folder, unreadable) for name in names
    )
    return [
        file
        for file in every
        if file.suffix.lower() in suffixes
        and file.is_file()
        and not any(part.startswith(".") for part in file.relative_to(folder).parts)
    ]


class BrokenPicture(Problem):
    """A file that is missing, truncated or no picture."""


def read(path):
    """The picture in a file, uint8 (H, W, 3), BGR, upright.

    Grey becomes three equal channels, 16 bits become 8, alpha is dropped, an EXIF orientation is
    applied. Raises BrokenPicture.
    """
    try:
        data = Path(path).read_bytes()
    except OSError as error:
        raise BrokenPicture(f"{path}: {error.strerror}") from None
    return decode(data, path)


def decode(data, name="picture"):
    """As read(), of a file's bytes; `name` is for the error."""
    if not data:
        raise BrokenPicture(f"{name}: the file is empty")
    # OpenCV decodes what there is of a truncated JPEG and fills the rest with grey. The last
    # scan of a whole one ends in an end-of-image marker, which can't occur inside a scan.
    if data[:2] == b"\xff\xd8" and data.rfind(b"\xff\xd9") < data.rfind(b"\xff\xda"):
        raise BrokenPicture(f"{name}: a truncated JPEG")
    try:
        picture = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    except cv2.error:  # it promises more pixels than OpenCV makes
        picture = None
    if picture is None:
        raise BrokenPicture(f"{name}: no picture that OpenCV can read, or a truncated one")
    return picture


def write(path, picture):
    """Write a picture to a file, by the suffix of its name, whole or not at all. Raises OSError
    (cv2.imwrite says nothing of a full disk)."""
    path = Path(path)
    _, data = cv2.imencode(path.suffix, picture)
    with whole_file(path) as part:
        part.write_bytes(data.tobytes())


def resize(picture, width, height):
    """Bilinear, as the reference does everywhere: what a net is trained on and what it is run
    on must be resampled alike."""
    return cv2.resize(picture, (width, height), interpolation=cv2.INTER_LINEAR)


def crop(picture, box, size):
    """The square `box` (x1 y1 x2 y2, whole numbers) of a picture as uint8 (size, size, 3); what
    lies outside the picture is black."""
    x1, y1, x2, y2 = (int(v) for v in box)
    height, width = picture.shape[:2]
    left, top, right, bottom = max(-x1, 0), max(-y1, 0), max(x2 - width, 0), max(y2 - height, 0)
    inside = picture[max(y1, 0) : max(y2, 0), max(x1, 0) : max(x2, 0)]
    if inside.size == 0:
        return np.zeros((size, size, 3), np.uint8)
    if left or top or right or bottom:
        inside = cv2.copyMakeBorder(inside, top, bottom, left, right, cv2.BORDER_CONSTANT)
    return resize(inside, size, size)


REMAP_LIMIT = 32_767  # rows and columns that cv2.remap can't reach


def crops(picture, boxes, size):
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
    tall = cv2.remap(
        picture,
        x.reshape(-1, size),
        y.reshape(-1, size),
        cv2.INTER_LINEAR,
        borderMode=cv2.BORDER_CONSTANT,
    )
    return tall.reshape(*shape, 3)


ORDERS = {
    "BGR": {1: cv2.COLOR_GRAY2BGR, 4: cv2.COLOR_BGRA2BGR},
    "RGB": {1: cv2.COLOR_GRAY2BGR, 3: cv2.COLOR_RGB2BGR, 4: cv2.COLOR_RGBA2BGR},
}


def open_any(source, order="BGR"):
    """The picture in a path, the bytes of a file, or an array, as uint8 (H, W, 3) BGR.

    Arrays are uint8 or uint16 (H, W), (H, W, 1), (H, W, 3) or (H, W, 4); colours come in `order`,
    "BGR" or "RGB", and alpha behind them is dropped. Raises BrokenPicture.
    """
    if isinstance(source, (str, Path)):
        return read(source)
    if isinstance(source, (bytes, bytearray, memoryview)):
        return decode(bytes(source))
    if order not in ORDERS:
        raise Problem(f"order is {order!r}: it must be one of {', '.join(ORDERS)}")
    if not isinstance(source, np.ndarray):
        raise BrokenPicture(f"a picture is a path, bytes or an array, not {type(source).__name__}")
    array = source[:, :, 0] if source.ndim == 3 and source.shape[2] == 1 else source
    channels = 1 if array.ndim == 2 else array.shape[2] if array.ndim == 3 else 0
    if array.dtype not in (np.uint8, np.uint16) or channels not in (1, 3, 4) or not array.size:
        raise BrokenPicture(
            f"an array of type {source.dtype} and shape {source.shape} is no "
            "picture: it takes uint8 or uint16, (H, W), (H, W, 3) or (H, W, 4)"
        )
    if array.dtype == np.uint16:
        array = (array >> 8).astype(np.uint8)
    convert = ORDERS[order].get(channels)
    return array if convert is None else cv2.cvtColor(np.ascontiguousarray(array), convert)


def to_input(pictures):
    """uint8 (N, H, W, 3) BGR -> float32 (N, 3, H, W), (value - mean) * scale."""
    planes = np.ascontiguousarray(pictures.transpose(0, 3, 1, 2), dtype=np.float32)
    planes -= np.float32(MEAN)
    planes *= np.float32(SCALE)
    return planes

"""From a picture file to what a net takes in. Everything that reads pictures goes through here:
sampling, training, mining, evaluation and export share the constants in config.input."""
from pathlib import Path

import cv2
import numpy as np

from config import config
from core.console import Problem
from core.files import whole_file


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
    picture = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
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
    inside = picture[max(y1, 0):min(y2, height), max(x1, 0):min(x2, width)]
    if inside.size == 0:
        return np.zeros((size, size, 3), np.uint8)
    if left or top or right or bottom:
        inside = cv2.copyMakeBorder(inside, top, bottom, left, right, cv2.BORDER_CONSTANT)
    return resize(inside, size, size)


def to_input(pictures):
    """uint8 (N, H, W, 3) BGR -> float32 (N, 3, H, W), (value - mean) * scale."""
    planes = np.ascontiguousarray(pictures.transpose(0, 3, 1, 2), dtype=np.float32)
    planes -= np.float32(config.input.mean)
    planes *= np.float32(config.input.scale)
    return planes

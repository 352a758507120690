"""Pictures that are damaged, hostile or turned: what is decoded, and how; Pillow is the oracle."""

import io
import os
import struct
import subprocess
import sys
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image, ImageOps

from core.base import options
from facelet import header, settings
from facelet import picture as pictures
from facelet.console import Problem

ROOT = Path(__file__).resolve().parents[2]
RGB = cv2.resize(np.random.default_rng(0).integers(0, 255, (5, 7, 3), np.uint8), (56, 40))
IMAGE = Image.fromarray(RGB)
DEEP = Image.fromarray(np.asarray(IMAGE.convert("L")).astype(np.uint16) * 257)


def saved(kind, image=IMAGE, **how):
    file = io.BytesIO()
    image.save(file, kind, **how)
    return file.getvalue()


def exif(orientation, more=0):
    made = Image.Exif()
    for tag in (0x010E, 0x010F, 0x0131)[:more]:  # description, maker, software
        made[tag] = "text " * 9
    made[274] = orientation
    return made


def shown_by_pillow(data):
    return np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(data))).convert("RGB"))[
        :, :, ::-1
    ]


def png(width, height, body=b"", depth=8):
    def chunk(kind, data):
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + (chunk(b"IDAT", body) + chunk(b"IEND", b"")) * bool(body)


WHOLE = {
    "jpeg": saved("jpeg"),
    "progressive": saved("jpeg", progressive=True),
    "png": saved("png"),
    "bmp": saved("bmp"),
    "webp": saved("webp"),
    "lossless webp": saved("webp", lossless=True),
    "extended webp": saved("webp", exif=exif(6)),
    "tiff": saved("tiff"),
    "big-endian tiff": cv2.imencode(".tiff", RGB)[1].tobytes(),
    "big tiff": saved("tiff", big_tiff=True),
    "gif": saved("gif"),
}


# ---- what is decoded -----------------------------------------------------------------------------


@pytest.mark.parametrize("name", WHOLE)
def test_headers_of_whole_files(name):
    known = header.parse(WHOLE[name])
    assert (known.width, known.height) == (56, 40)
    assert header.kind(WHOLE[name]) == (known.kind, True)
    shown = pictures.decode(WHOLE[name])
    if name == "big-endian tiff":
        assert np.array_equal(shown, RGB)
    else:
        limit = 20 if "webp" in name and "lossless" not in name else 4
        assert np.abs(shown.astype(int) - shown_by_pillow(WHOLE[name])).max() <= limit


@pytest.mark.parametrize("name", WHOLE)
def test_headers_cut_at_every_byte(name):
    """Nothing but the one line, whatever is missing; and no pixel where the size is not known."""
    data = WHOLE[name]
    for end in {*range(min(len(data), 700)), *range(0, len(data), 97)}:
        try:
            shown = pictures.decode(data[:end], "cut")
        except pictures.BrokenPicture as broken:
            assert str(broken).startswith("cut: ") and "\n" not in str(broken)
        else:
            assert shown.shape in ((40, 56, 3), (56, 40, 3))


@pytest.mark.parametrize("name", WHOLE)
def test_headers_with_any_byte_changed(name):
    data = WHOLE[name]
    for at in range(min(len(data), 150)):
        for value in (0, 1, 0x7F, 0xFF):
            try:
                pictures.decode(data[:at] + bytes([value]) + data[at + 1 :])
            except pictures.BrokenPicture:
                pass


def test_a_picture_without_pixels():
    for data in (png(0, 5), png(5, 0), saved("gif")[:6] + bytes(4) + saved("gif")[10:]):
        with pytest.raises(pictures.BrokenPicture, match=r"bad: its header says \d x \d pixels"):
            pictures.decode(data, "bad")


@pytest.mark.parametrize(
    "data, kind",
    [
        (cv2.imencode(".jp2", RGB)[1].tobytes()[:900], "JPEG 2000"),
        (b"\xff\x4f\xff\x51\x00\x2f", "JPEG 2000"),
        (cv2.imencode(".ppm", RGB)[1].tobytes(), "PNM"),
        (cv2.imencode(".pgm", RGB[:, :, 0])[1].tobytes(), "PNM"),
        (cv2.imencode(".pfm", np.float32(RGB))[1].tobytes(), "PFM"),
        (cv2.imencode(".hdr", np.float32(RGB))[1].tobytes(), "Radiance HDR"),
        (cv2.imencode(".ras", RGB)[1].tobytes(), "Sun raster"),
        (b"v/1\x01\x02\x00\x00\x00", "OpenEXR"),
        (b"\0\0\0\x18ftypheic\0\0\0\0", "HEIF"),
    ],
)
def test_kinds_that_are_not_read_whatever_they_are_called(data, kind, tmp_path):
    path = tmp_path / "photo.jpg"
    path.write_bytes(data)
    with pytest.raises(pictures.BrokenPicture, match=f"photo.jpg: {kind}, which is not read: conv"):
        pictures.read(path)


def test_kinds_that_are_read_only_by_some_builds_of_opencv():
    try:
        data = saved("avif")
    except (KeyError, OSError):  # an older Pillow
        data = b"\0\0\0\x1cftypavif\0\0\0\0mif1ispe\0\0\0\0\0\0\0\x38\0\0\0\x28"
    assert header.parse(data)[:3] == ("AVIF", 56, 40)
    if pictures.reads("AVIF"):
        assert pictures.decode(data).shape == (40, 56, 3)
    else:
        with pytest.raises(pictures.BrokenPicture, match="AVIF, which this build of OpenCV can't"):
            pictures.decode(data)


HOSTILE = {
    "33 bytes": (png(30_000, 30_000), "30,000 x 30,000 pixels"),
    "144 million pixels": (png(12_000, 12_000, zlib.compress(bytes(12_000)) * 50), "12,000 x 12"),
    "bytes too few for its pixels": (png(9_000, 9_000, zlib.compress(b"1" * 9000)), "a truncated"),
    "bmp": (WHOLE["bmp"][:18] + struct.pack("<ii", 65_000, -65_000) + WHOLE["bmp"][26:], "65,000"),
    "gif": (WHOLE["gif"][:6] + b"\xff\xff\xff\xff" + WHOLE["gif"][10:], "65,535 x 65,535"),
    "jpeg": (
        (lambda d, at: d[: at + 5] + b"\xff\xdc\xff\xdc" + d[at + 9 :])(
            WHOLE["jpeg"], WHOLE["jpeg"].index(b"\xff\xc0")
        ),
        "65,500 x 65,500",
    ),
    "tile": (
        b"II*\0\x08\0\0\0\x04\0"
        + b"".join(
            struct.pack("<HHII", tag, 4, 1, value)
            for tag, value in ((256, 9), (257, 9), (322, 30_000), (323, 30_000))
        )
        + bytes(4),
        "9 x 9 pixels by its header",
    ),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_pictures_beyond_the_limit_cost_nothing(name, tmp_path):
    """In a process that may take 300 MB more than it has: not one is decoded."""
    data, says = HOSTILE[name]
    path = tmp_path / "bomb.png"
    path.write_bytes(data)
    code = (
        "import resource, sys; from facelet import picture\n"
        "used = int(open('/proc/self/statm').read().split()[0]) * resource.getpagesize()\n"
        "resource.setrlimit(resource.RLIMIT_AS, (used + 150_000_000,) * 2)\n"
        "try: picture.read(sys.argv[1])\n"
        "except picture.BrokenPicture as broken: print(broken)\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_utime < 5)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(path)], cwd=ROOT, capture_output=True, text=True
    )
    line, quick = done.stdout.splitlines()
    assert line.startswith(f"{path}: ") and says in line and quick == "True", done
    if "truncated" not in says:
        assert "limit of 100,000,000 pixels" in line and "--max-pixels" in line


@pytest.mark.parametrize("name", HOSTILE)
def test_pictures_beyond_the_limit_reach_no_decoder(name, monkeypatch):
    def decoder(*_):
        raise AssertionError

    monkeypatch.setattr(cv2, "imdecode", decoder)
    monkeypatch.setattr(cv2, "VideoCapture", decoder)
    with pytest.raises(pictures.BrokenPicture):
        pictures.decode(HOSTILE[name][0])


def test_the_limit_can_be_set(monkeypatch):
    monkeypatch.setenv(
        settings.MAX_PIXELS_VARIABLE, "2240"
    )  # put back at the end, whatever allow_pixels() does
    assert pictures.decode(WHOLE["png"]).shape == (40, 56, 3)
    settings.allow_pixels(2239)
    for data in WHOLE.values():
        with pytest.raises(pictures.BrokenPicture, match="56 x 40 pixels by.*limit of 2,239"):
            pictures.decode(data)
    code = "from facelet import settings; print(settings.max_pixels())"
    inherited = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True)
    assert inherited.stdout == b"2239\n"
    options.parse(options.argparse.ArgumentParser(), ["detect.max_pixels=777"])
    assert settings.max_pixels() == 777
    for wrong in (0, -3):
        with pytest.raises(Problem, match="max_pixels is .*at least 1"):
            settings.allow_pixels(wrong)
    monkeypatch.setattr(pictures, "LEAST_BYTES", 0)
    settings.allow_pixels(1)
    with pytest.raises(pictures.BrokenPicture, match=r"bytes, more than the limit of 1 pixels"):
        pictures.read(ROOT / "docs" / "sample.jpg")


def test_a_jpeg_of_very_many_scans():
    data = WHOLE["progressive"]
    at = data.rindex(b"\xff\xda")
    with pytest.raises(pictures.BrokenPicture, match="a truncated JPEG"):
        pictures.decode(data[:-2] + data[at:-2] * 600 + b"\xff\xd9")


# ---- turned upright --------------------------------------------------------------------------


def blocks_before_exif(orientation):
    """A JPEG as cameras and editors leave it: JFIF, colours, XMP, a comment, then EXIF."""
    data = saved("jpeg", quality=95, exif=exif(orientation, more=3))
    at = data.index(b"\xff\xe1")
    length = struct.unpack(">H", data[at + 2 : at + 4])[0]
    block, rest = data[at : at + 2 + length], data[:at] + data[at + 2 + length :]

    def other(marker, text):
        return bytes([0xFF, marker]) + struct.pack(">H", len(text) + 2) + text

    others = (
        other(0xE2, b"ICC_PROFILE\0\1\1" + bytes(300))
        + other(0xE1, b"http://ns.adobe.com/xap/1.0/\0<x:xmpmeta/>")
        + other(0xFE, b"\xff\xd8\xff\xd9 a comment with markers \xff\xda\0\0")
    )
    at = len(data[:at])
    return rest[:at] + others + b"\xff\xff" + block + rest[at:]


TURNED = {
    "jpeg": lambda n: saved("jpeg", quality=95, exif=exif(n)),
    "jpeg, other blocks before": blocks_before_exif,
    "png": lambda n: saved("png", exif=exif(n, more=2)),
    "webp": lambda n: saved("webp", quality=95, exif=exif(n)),
    "lossless webp": lambda n: saved("webp", lossless=True, exif=exif(n, more=1)),
    "tiff": lambda n: saved("tiff", exif=exif(n)),
    "tiff, packed": lambda n: saved("tiff", exif=exif(n), compression="tiff_lzw"),
    "tiff, grey": lambda n: saved("tiff", IMAGE.convert("L"), exif=exif(n)),
    "tiff, 16 bits": lambda n: saved("tiff", DEEP, exif=exif(n)),
}


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("name", TURNED)
def test_orientation_wherever_it_is_kept(name, orientation, tmp_path):
    data = TURNED[name](orientation)
    shown = pictures.decode(data)
    (tmp_path / "picture").write_bytes(data)
    assert pictures.size(tmp_path / "picture") == shown.shape[1::-1]
    if "16" in name:  # which Pillow makes white
        data = TURNED["tiff, grey"](orientation)
    expected = shown_by_pillow(data)
    assert shown.shape == expected.shape and shown.flags.c_contiguous
    assert np.abs(shown.astype(int) - expected).max() <= (30 if name == "webp" else 4)


def test_an_orientation_that_cannot_be_leaves_the_picture():
    plain = pictures.decode(saved("png"))
    for orientation in (0, 9, 65_535):
        assert np.array_equal(pictures.decode(saved("png", exif=exif(orientation))), plain)


# ---- JPEGs without an end, and with more than one --------------------------------------------


@pytest.mark.parametrize("how", [{}, {"progressive": True}, {"subsampling": 2}, {"optimize": True}])
def test_a_jpeg_with_bytes_after_its_end(how):
    """The video of a motion photo, in which anything may stand, and a second picture."""
    data = saved("jpeg", **how)
    plain = pictures.decode(data)
    for after in (b"\0" * 99, b"\xff\xda\0\x08 video", saved("jpeg")[:-90], b"\xff\xd8\xff\xda"):
        assert np.array_equal(pictures.decode(data + after), plain)


@pytest.mark.parametrize("how", [{}, {"progressive": True}, {"subsampling": 2}, {"optimize": True}])
def test_a_jpeg_without_its_end_marker(how):
    data = saved("jpeg", **how)
    plain = pictures.decode(data)
    for bare in (data[:-2], data[:-1], data[:-2] + bytes(500)):
        assert np.array_equal(pictures.decode(bare), plain)


@pytest.mark.parametrize("how", [{}, {"progressive": True}, {"subsampling": 2}, {"optimize": True}])
def test_a_jpeg_whose_scan_is_cut(how):
    """Cut anywhere in its first scan, and by so much as its last few bytes."""
    data = saved("jpeg", Image.fromarray(cv2.resize(RGB, (300, 200))), **how)
    begin = data.index(b"\xff\xda") + 14
    end = data.index(b"\xff\xc4", begin) if how.get("progressive") else len(data) - 6
    for at in np.linspace(begin, end - 6, 40).astype(int):
        for tail in (b"", bytes(1000)):
            with pytest.raises(pictures.BrokenPicture, match="cut: a truncated JPEG"):
                pictures.decode(data[:at] + tail, "cut")


# ---- what is no file ---------------------------------------------------------------------------


def test_pipes_and_devices_are_not_opened(tmp_path):
    os.mkfifo(tmp_path / "pipe.jpg")
    for path in (tmp_path / "pipe.jpg", "/dev/zero", "/dev/null"):
        with pytest.raises(pictures.BrokenPicture, match=f"{path}: no regular file"):
            pictures.read(path)
    with pytest.raises(pictures.BrokenPicture, match="Is a directory"):
        pictures.read(tmp_path)

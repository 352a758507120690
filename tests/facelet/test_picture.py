"""Pictures from files and arrays of every kind, crops over the border, picture to input."""

import cv2
import numpy as np
import pytest

from facelet import picture as pictures
from facelet.console import Problem


@pytest.fixture
def scene():
    """A picture that no flip, turn or channel swap leaves as it is."""
    rng = np.random.default_rng(0)
    scene = cv2.resize(rng.integers(0, 255, (6, 8, 3), np.uint8), (80, 60))
    scene[:20, :20] = (250, 10, 10)
    return scene


def with_orientation(jpeg, value):
    """A JPEG's bytes with an EXIF block that holds nothing but an orientation."""
    tiff = (
        b"II*\x00\x08\x00\x00\x00\x01\x00"
        + b"\x12\x01\x03\x00\x01\x00\x00\x00"
        + bytes([value, 0, 0, 0])
        + b"\x00\x00\x00\x00"
    )
    block = b"Exif\x00\x00" + tiff
    return jpeg[:2] + b"\xff\xe1" + (len(block) + 2).to_bytes(2, "big") + block + jpeg[2:]


def close(a, b, tolerance=12):
    return a.shape == b.shape and np.abs(a.astype(int) - b).mean() < tolerance


def test_colour_order_is_bgr(tmp_path, scene):
    cv2.imwrite(str(tmp_path / "a.png"), scene)
    np.testing.assert_array_equal(pictures.read(tmp_path / "a.png"), scene)


def test_grey_16_bit_and_alpha(tmp_path, scene):
    grey = cv2.cvtColor(scene, cv2.COLOR_BGR2GRAY)
    alpha = np.dstack([scene, np.full(scene.shape[:2], 77, np.uint8)])
    for name, picture, expected in (
        ("grey", grey, np.dstack([grey] * 3)),
        ("deep", scene.astype(np.uint16) * 257, scene),
        ("alpha", alpha, scene),
    ):
        cv2.imwrite(str(tmp_path / f"{name}.png"), picture)
        read = pictures.read(tmp_path / f"{name}.png")
        assert read.dtype == np.uint8
        assert np.abs(read.astype(int) - expected).max() <= 1, name


@pytest.mark.parametrize(
    "orientation, upright",
    [(3, lambda p: p[::-1, ::-1]), (6, lambda p: np.rot90(p, -1)), (8, lambda p: np.rot90(p))],
)
def test_exif_orientation_is_applied(tmp_path, scene, orientation, upright):
    jpeg = cv2.imencode(".jpg", scene, [cv2.IMWRITE_JPEG_QUALITY, 98])[1].tobytes()
    (tmp_path / "turned.jpg").write_bytes(with_orientation(jpeg, orientation))
    read = pictures.read(tmp_path / "turned.jpg")
    assert close(read, upright(scene))
    assert not close(read, scene)


@pytest.mark.parametrize("part", [0.3, 0.6, 0.95])
@pytest.mark.parametrize("ending", [".jpg", ".png"])
def test_truncated_file_is_named(tmp_path, scene, ending, part):
    data = cv2.imencode(ending, cv2.resize(scene, (400, 300)))[1].tobytes()
    path = tmp_path / f"cut{ending}"
    path.write_bytes(data[: int(len(data) * part)])
    with pytest.raises(
        pictures.BrokenPicture,
        match={".jpg": "cut.jpg: a truncated JPEG", ".png": "cut.png: .*a truncated one"}[ending],
    ):
        pictures.read(path)


def test_truncated_jpeg_with_a_thumbnail_is_named(tmp_path, scene):
    thumbnail = cv2.imencode(".jpg", cv2.resize(scene, (16, 12)))[1].tobytes()
    jpeg = cv2.imencode(".jpg", scene)[1].tobytes()
    block = b"Exif\x00\x00" + thumbnail  # a whole JPEG, end marker and all, inside the header
    whole = jpeg[:2] + b"\xff\xe1" + (len(block) + 2).to_bytes(2, "big") + block + jpeg[2:]
    assert pictures.decode(whole).shape == scene.shape
    with pytest.raises(pictures.BrokenPicture, match="a truncated JPEG"):
        pictures.decode(whole[:-200])


def test_missing_empty_and_foreign_files(tmp_path):
    (tmp_path / "empty.jpg").write_bytes(b"")
    (tmp_path / "text.jpg").write_text("no picture")
    for name, says in (
        ("gone.jpg", "No such file"),
        ("empty.jpg", "empty"),
        ("text.jpg", "no picture"),
    ):
        with pytest.raises(pictures.BrokenPicture, match=f"{name}.*{says}"):
            pictures.read(tmp_path / name)


def test_crop_pads_with_black(scene):
    """Against a loop over pixels, without resizing."""
    height, width = scene.shape[:2]
    for box in [
        (10, 5, 30, 25),
        (-7, -3, 13, 17),
        (70, 50, 90, 70),
        (-10, -10, 90, 90),
        (100, 10, 120, 30),
        (10, -25, 30, -5),
        (-50, 20, -30, 40),
        (-20, -20, 0, 0),
    ]:
        side = box[2] - box[0]
        expected = np.zeros((side, side, 3), np.uint8)
        for y in range(side):
            for x in range(side):
                if 0 <= box[1] + y < height and 0 <= box[0] + x < width:
                    expected[y, x] = scene[box[1] + y, box[0] + x]
        np.testing.assert_array_equal(pictures.crop(scene, box, side), expected)


# ---- crops, all at once --------------------------------------------------------------------

# cv2.remap rounds positions to the 32nd part of a pixel: each coordinate is off by a 64th at most,
# and from one pixel to the next values change by 255 at most. Both then round to whole numbers.
CROPS_OFF_BY = 2 * 255 / 64 + 1


def noise(height, width):
    return np.random.default_rng(height).integers(0, 256, (height, width, 3), dtype=np.uint8)


def squares(*corners_and_sides):
    return np.array([(x, y, x + side, y + side) for x, y, side in corners_and_sides], np.float32)


def one_by_one(picture, boxes, size):
    return np.stack([pictures.crop(picture, box, size) for box in boxes])


def off(picture, boxes, size):
    """How far crops() is from crop(): each crop's largest difference."""
    found = pictures.crops(picture, boxes, size)
    assert found.dtype == np.uint8 and found.shape == (len(boxes), size, size, 3)
    return np.abs(found.astype(int) - one_by_one(picture, boxes, size)).max(axis=(1, 2, 3))


AROUND = [
    (x, y, side)
    for side in (1, 7, 40, 333)
    for x in (-side, -side // 2, 0, 31, 99, 100)
    for y in (-side, 1 - side, -3, 50, 79, 80)
]


@pytest.mark.parametrize("size", [12, 24, 48, 96])
def test_crops_are_as_single_ones(size):
    """Squares inside a picture of noise, over each border and corner, just outside, larger than
    the picture, of one pixel; and neither brighter nor darker on the whole."""
    boxes = squares(*AROUND)
    assert off(noise(80, 100), boxes, size).max() <= CROPS_OFF_BY
    found = pictures.crops(noise(80, 100), boxes, size).astype(float)
    assert abs((found - one_by_one(noise(80, 100), boxes, size)).mean()) < 0.01


@pytest.mark.parametrize("size", [24, 48])
def test_crops_without_resizing_and_of_whole_factors_are_equal(size):
    """Positions that the 32nd part of a pixel holds: nothing is rounded but the values."""
    places = [(-5, -7), (3, 2), (90, 70), (-2 * size, 0), (40, -size + 1)]
    same = squares(*((x, y, size) for x, y in places))
    assert off(noise(80, 100), same, size).max() == 0
    for side in (size // 2, 2 * size, 3 * size, 4 * size):
        assert off(noise(80, 100), squares(*((x, y, side) for x, y in places)), size).max() <= 1


def test_crops_of_one_pixel_and_of_none():
    picture = noise(9, 7)
    found = pictures.crops(picture, squares((3, 4, 1), (-1, 0, 1), (6, 8, 1), (7, 8, 1)), 24)
    for crop, colour in zip(found, (picture[4, 3], 0, picture[8, 6], 0)):
        assert np.array_equal(crop, np.broadcast_to(colour, crop.shape))
    assert off(noise(1, 1), squares((0, 0, 1), (-3, -3, 6), (0, 0, 50)), 24).max() <= CROPS_OFF_BY
    none = pictures.crops(picture, np.zeros((0, 4), np.float32), 24)
    assert none.shape == (0, 24, 24, 3) and none.dtype == np.uint8


def test_crops_that_lie_far_off_are_black():
    """Also where positions are beyond what remap can count."""
    far = squares(
        *(
            (x, y, side)
            for x in (-1e9, -1e5, 20, 1e5, 1e9)
            for y in (-1e8, 40_000, 3e6)
            for side in (24, 3000)
        ),
        (-2e6, -2e6, 1e6),
    )
    assert not pictures.crops(noise(80, 100), far, 24).any()


@pytest.mark.parametrize("shape", [(40, 33_000), (33_000, 40), (30, 32_767), (30, 32_766)])
def test_crops_of_very_wide_and_high_pictures(shape):
    """Remap reaches 32767 rows and columns; what is beyond it must not be black."""
    picture = noise(*shape)
    height, width = shape
    boxes = squares(
        (width - 35, height - 35, 30),
        (width - 20, height - 20, 33),
        (2, 3, 24),
        (width // 2, height // 2, 19),
    )
    assert off(picture, boxes, 24).max() <= CROPS_OFF_BY
    assert pictures.crops(picture, boxes, 24).mean(axis=(1, 2, 3)).min() > 20


def test_crops_that_are_too_many_for_one_picture():
    """One below the other they would be higher than remap can make."""
    boxes = np.repeat(squares((5, 6, 30), (20, -8, 25)), 400, axis=0)
    found = pictures.crops(noise(80, 100), boxes, 48)
    assert found.shape == (800, 48, 48, 3)
    assert np.array_equal(found[:400], np.repeat(found[:1], 400, axis=0))
    assert off(noise(80, 100), boxes[[0, -1]], 48).max() <= CROPS_OFF_BY
    assert np.abs(found[-1].astype(int) - pictures.crop(noise(80, 100), boxes[-1], 48)).max() <= (
        CROPS_OFF_BY
    )


# ---- pictures from anywhere ----------------------------------------------------------------


def test_paths_and_bytes_are_read(tmp_path, scene):
    path = tmp_path / "a.png"
    cv2.imwrite(str(path), scene)
    data = path.read_bytes()
    for source in (path, str(path), data, bytearray(data), memoryview(data)):
        for order in ("BGR", "RGB"):  # of arrays alone
            assert np.array_equal(pictures.open_any(source, order), scene)


@pytest.mark.parametrize("dtype, shift", [(np.uint8, 0), (np.uint16, 8)])
def test_arrays_of_all_kinds(scene, dtype, shift):
    """16 bits lose their lower eight; each kind in either order of colours, and views too."""
    wide = scene.astype(dtype) << shift
    wide += np.random.default_rng(0).integers(0, 2**shift, wide.shape).astype(dtype)
    grey = wide[:, :, 1]
    alpha = np.dstack([wide, wide[:, ::-1, :1]])
    three = np.dstack([scene[:, :, 1]] * 3)
    turned = wide[:, :, ::-1]
    for array, order, expected in (
        (wide, "BGR", scene),
        (turned, "RGB", scene),
        (wide, "RGB", scene[:, :, ::-1]),
        (alpha, "BGR", scene),
        (alpha[:, :, [2, 1, 0, 3]], "RGB", scene),
        (grey, "BGR", three),
        (grey, "RGB", three),
        (grey[:, :, None], "BGR", three),
        (grey[:, :, None], "RGB", three),
        (wide[::2, ::-3], "BGR", scene[::2, ::-3]),
        (alpha[::-1, 5:20], "RGB", scene[::-1, 5:20, ::-1]),
        (wide[:1, :1], "BGR", scene[:1, :1]),
        (grey.T, "BGR", three.transpose(1, 0, 2)),
        (np.asfortranarray(wide), "RGB", scene[:, :, ::-1]),
    ):
        before = array.copy()
        picture = pictures.open_any(array, order)
        assert picture.dtype == np.uint8 and np.array_equal(picture, expected)
        assert np.array_equal(array, before)
        assert pictures.resize(picture, 7, 5).shape == (5, 7, 3)  # OpenCV takes it as it is


@pytest.mark.parametrize(
    "array, says",
    [
        (np.zeros((5, 6, 3)), "float64.*shape \\(5, 6, 3\\)"),
        (np.full((5, 6), np.nan), "float64"),
        (np.zeros((5, 6, 3), np.float32), "float32"),
        (np.zeros((5, 6, 3), bool), "bool"),
        (np.zeros((5, 6), np.int8), "int8"),
        (np.zeros((5, 6), np.int64), "int64"),
        (np.zeros((5, 6, 2), np.uint8), r"\(5, 6, 2\)"),
        (np.zeros((5, 6, 5), np.uint8), "6, 5"),
        (np.zeros((3, 20, 30), np.uint8), "3, 20, 30"),
        (np.zeros((1, 5, 6, 3), np.uint8), "1, 5, 6, 3"),
        (np.zeros(9, np.uint8), r"\(9,\)"),
        (np.zeros((), np.uint8), r"\(\)"),
        (np.zeros((0, 6, 3), np.uint8), "0, 6, 3"),
        (np.zeros((5, 0), np.uint8), "5, 0"),
        (np.zeros((5, 6, 0), np.uint8), "5, 6, 0"),
        (np.array([["a"]]), "<U1"),
        (np.zeros((5, 6), object), "object"),
    ],
)
def test_arrays_that_are_no_pictures(array, says):
    for order in ("BGR", "RGB"):
        with pytest.raises(pictures.BrokenPicture, match=says) as caught:
            pictures.open_any(array, order)
        assert "\n" not in str(caught.value)


def test_what_else_is_no_picture(scene):
    for source, says in (
        (None, "not NoneType"),
        (7, "not int"),
        (scene.tolist(), "not list"),
        (b"", "empty"),
        (b"no picture", "no picture that OpenCV can read"),
        ("gone.png", "gone.png: No such file"),
    ):
        with pytest.raises(pictures.BrokenPicture, match=says):
            pictures.open_any(source)
    with pytest.raises(Problem, match="order is 'GBR'.*BGR, RGB"):
        pictures.open_any(scene, "GBR")


# ---- picture to input ----------------------------------------------------------------------


def test_to_input():
    batch = np.random.default_rng(1).integers(0, 256, (2, 5, 7, 3)).astype(np.uint8)
    result = pictures.to_input(batch)
    assert result.dtype == np.float32 and result.shape == (2, 3, 5, 7)
    for n, c, y, x in [(0, 0, 0, 0), (1, 2, 4, 6), (0, 1, 3, 2)]:
        assert result[n, c, y, x] == pytest.approx((int(batch[n, y, x, c]) - 127.5) / 128)

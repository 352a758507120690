"""Reading pictures of every kind, cropping over the border, picture to input."""
import cv2
import numpy as np
import pytest

from core import picture as pictures


@pytest.fixture
def scene():
    """A picture that no flip, turn or channel swap leaves as it is."""
    rng = np.random.default_rng(0)
    scene = cv2.resize(rng.integers(0, 255, (6, 8, 3), np.uint8), (80, 60))
    scene[:20, :20] = (250, 10, 10)
    return scene


def with_orientation(jpeg, value):
    """A JPEG's bytes with an EXIF block that holds nothing but an orientation."""
    tiff = (b"II*\x00\x08\x00\x00\x00\x01\x00" + b"\x12\x01\x03\x00\x01\x00\x00\x00"
            + bytes([value, 0, 0, 0]) + b"\x00\x00\x00\x00")
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
    for name, picture, expected in (("grey", grey, np.dstack([grey] * 3)),
                                    ("deep", scene.astype(np.uint16) * 257, scene),
                                    ("alpha", alpha, scene)):
        cv2.imwrite(str(tmp_path / f"{name}.png"), picture)
        read = pictures.read(tmp_path / f"{name}.png")
        assert read.dtype == np.uint8
        assert np.abs(read.astype(int) - expected).max() <= 1, name


@pytest.mark.parametrize("orientation, upright", [
    (3, lambda p: p[::-1, ::-1]), (6, lambda p: np.rot90(p, -1)), (8, lambda p: np.rot90(p))])
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
    path.write_bytes(data[:int(len(data) * part)])
    with pytest.raises(pictures.BrokenPicture, match={
            ".jpg": "cut.jpg: a truncated JPEG", ".png": "cut.png: .*a truncated one"}[ending]):
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
    for name, says in (("gone.jpg", "No such file"), ("empty.jpg", "empty"),
                       ("text.jpg", "no picture")):
        with pytest.raises(pictures.BrokenPicture, match=f"{name}.*{says}"):
            pictures.read(tmp_path / name)


def test_crop_pads_with_black(scene):
    """Against a loop over pixels, without resizing."""
    height, width = scene.shape[:2]
    for box in [(10, 5, 30, 25), (-7, -3, 13, 17), (70, 50, 90, 70), (-10, -10, 90, 90),
                (100, 10, 120, 30)]:
        side = box[2] - box[0]
        expected = np.zeros((side, side, 3), np.uint8)
        for y in range(side):
            for x in range(side):
                if 0 <= box[1] + y < height and 0 <= box[0] + x < width:
                    expected[y, x] = scene[box[1] + y, box[0] + x]
        np.testing.assert_array_equal(pictures.crop(scene, box, side), expected)


def test_to_input():
    batch = np.random.default_rng(1).integers(0, 256, (2, 5, 7, 3)).astype(np.uint8)
    result = pictures.to_input(batch)
    assert result.dtype == np.float32 and result.shape == (2, 3, 5, 7)
    for n, c, y, x in [(0, 0, 0, 0), (1, 2, 4, 6), (0, 1, 3, 2)]:
        assert result[n, c, y, x] == pytest.approx((int(batch[n, y, x, c]) - 127.5) / 128)

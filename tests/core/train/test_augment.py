"""What is done to crops before they are augmented; the rest of core.train.augment is tested with
core.train.loader."""

import cv2
import numpy as np
import pytest

from core.train.augment import blur, compress, degrade, motion, occlude, relight, shrink


def generator(seed=0):
    return np.random.default_rng(seed)


@pytest.mark.parametrize("radius", [1, 3, 12])
def test_blur_is_a_gaussians_of_opencvs_sigma(radius):
    """Each sample is near one of the Gaussians that may be drawn, and all have their turn."""
    picture = cv2.resize(
        generator(1).integers(0, 255, (24, 24, 3)).astype(np.uint8),
        (48, 48),
        interpolation=cv2.INTER_NEAREST,
    )
    wanted = np.stack(
        [
            cv2.GaussianBlur(picture.astype(np.float32), (2 * r + 1, 2 * r + 1), 0)
            for r in range(1, radius + 1)
        ]
    )
    crops = np.repeat(picture[None], 120, axis=0)
    blur(crops, 1.0, radius, generator())
    off = np.abs(crops[:, None].astype(np.float32) - wanted).mean(axis=(2, 3, 4))
    assert off.min(axis=1).max() < (0.4 if radius < 5 else 2.2)
    shares = np.bincount(off.argmin(axis=1), minlength=radius) / len(crops)
    assert (np.add.reduceat(shares, range(0, radius, 3)) > 0.1).all()


def test_blur_takes_its_share_and_leaves_the_rest():
    crops = generator(1).integers(0, 255, (1000, 12, 12, 3)).astype(np.uint8)
    found = crops.copy()
    blur(found, 0.3, 4, generator())
    changed = (found != crops).any(axis=(1, 2, 3))
    assert changed.mean() == pytest.approx(0.3, abs=0.05)
    blur(found := crops.copy(), 0.0, 4, generator())
    np.testing.assert_array_equal(found, crops)


def test_blur_does_not_depend_on_the_number_of_threads():
    crops, results = generator(1).integers(0, 255, (60, 96, 96, 3)).astype(np.uint8), []
    before = cv2.getNumThreads()
    try:
        for threads in (1, 2, 4):
            cv2.setNumThreads(threads)
            results.append(crops.copy())
            blur(results[-1], 1.0, 12, generator())
    finally:
        cv2.setNumThreads(before)
    np.testing.assert_array_equal(results[0], results[1])
    np.testing.assert_array_equal(results[0], results[2])


def test_occlusion_is_a_patch_of_another_sample():
    """Each sample has a value of its own, so that it shows where a patch is from."""
    n, size = 200, 40
    crops = np.repeat(np.arange(n, dtype=np.uint8), size * size * 3).reshape(n, size, size, 3)
    found = crops.copy()
    occlude(found, 0.5, 0.1, 0.4, generator())
    sides, corners, covered = [], [], 0
    for number, crop in enumerate(found):
        rows, columns = np.nonzero((crop != number).any(axis=2))
        if not len(rows):
            continue
        covered += 1
        top, bottom, left, right = rows.min(), rows.max() + 1, columns.min(), columns.max() + 1
        assert (crop[top:bottom, left:right] != number).all()  # a whole rectangle
        sides += [bottom - top, right - left]
        corners += [(top, left, bottom, right)]
    assert covered / n == pytest.approx(0.5, abs=0.1)
    assert 0.1 * size <= min(sides) and max(sides) <= 0.4 * size and np.ptp(sides) > 9
    assert np.min(corners) == 0 and np.max(corners) == size  # up to every edge


@pytest.mark.parametrize("n", [1, 2])
def test_occlusion_of_few(n):
    crops = np.repeat(np.uint8([[[[50]]], [[[200]]]])[:n], 3, axis=3).repeat(8, 1).repeat(8, 2)
    occlude(crops, 1.0, 1.0, 1.0, generator())
    assert crops.shape == (n, 8, 8, 3) and set(np.unique(crops)) <= {50, 200}


# ---- degraded as photographs are -----------------------------------------------------------

FULL = {
    "gamma": [1.0, 2.0],
    "occlusion": [1.0, 0.2, 0.5],
    "motion": [1.0, 0.3],
    "blur": [1.0, 3],
    "shrink": [1.0, 0.4],
    "jpeg": [1.0, 30],
}


def stripes(count=40, size=48):
    """Crops of vertical stripes of 4 px with a little noise."""
    row = np.where(np.arange(size) // 4 % 2, 200, 50)
    crops = np.broadcast_to(row[None, None, :, None], (count, size, size, 3)).astype(int)
    return (crops + generator(3).integers(-9, 10, crops.shape)).astype(np.uint8)


def only(key, probability=1.0):
    return {name: [probability if name == key else 0.0, *rest] for name, (_, *rest) in FULL.items()}


@pytest.mark.parametrize("key", FULL)
def test_degrading_takes_its_share(key):
    crops = np.tile(stripes(1000, 16), (1, 1, 1, 1))
    found = crops.copy()
    degrade(found, only(key, 0.3), generator(2))
    changed = (found != crops).any(axis=(1, 2, 3))
    # A patch of one stripe over the same stripe, and a gamma near 1, change nothing.
    assert 0.2 < changed.mean() < 0.35
    again = crops.copy()
    degrade(again, only(key, 0.3), generator(2))
    np.testing.assert_array_equal(again, found)
    degrade(none := crops.copy(), only(key, 0.0), generator(2))
    np.testing.assert_array_equal(none, crops)


def test_shrunk_crops_have_lost_what_is_fine():
    """Stripes of 4 px are gone where few pixels are left, and there where nearly all are."""
    crops = stripes(200)
    shrink(crops, 1.0, 0.1, generator())
    contrast = crops.astype(float).mean(axis=(1, 3)).std(axis=1)
    assert contrast.min() < 25 and contrast.max() > 65
    assert abs(crops.mean() - stripes().mean()) < 6


def test_motion_blurs_along_one_line():
    """A point becomes a line: as long as was drawn at most, and thin."""
    crops = np.zeros((50, 49, 49, 3), np.uint8)
    crops[:, 24, 24] = 255
    motion(crops, 1.0, 0.4, generator(1))
    for crop in crops[..., 0].astype(float):
        y, x = np.nonzero(crop)
        places = np.stack([x - 24, y - 24], axis=1)
        assert np.hypot(*places.T).max() <= 0.2 * 49 + 2
        spread = np.linalg.eigvalsh(
            np.cov(places.T, aweights=crop[y, x], bias=True) + 1e-9 * np.eye(2)
        )
        assert spread[0] < 0.5  # across the line
        assert abs((crop.sum() - 255) / 255) < 0.15


def test_gamma_is_a_power_of_the_light():
    crops = np.broadcast_to(np.arange(256, dtype=np.uint8)[None, None, :, None], (300, 1, 256, 3))
    found = crops.copy()
    relight(found, 1.0, 2.0, generator())
    middle = found[:, 0, 128, 0] / 255
    powers = np.log(middle) / np.log(128 / 255)
    assert 0.49 < powers.min() < 0.55 and 1.85 < powers.max() < 2.03
    assert abs((powers < 1).mean() - 0.5) < 0.1
    for row, power in zip(found[:5, 0, :, 0], powers):
        wanted = 255 * (np.arange(256) / 255) ** power
        assert np.abs(row - wanted).max() < 3


def test_compressed_as_a_jpeg_of_that_quality():
    """Of qualities from 95 on there is one; from 5 on there are many, most of them worse."""
    crops = generator(5).integers(0, 256, (64, 16, 16, 3)).astype(np.uint8)
    low, high = crops.copy(), crops.copy()
    compress(low, 1.0, 5, generator())
    compress(high, 1.0, 95, generator())
    for crop, found in zip(crops, high):
        coded = cv2.imencode(".jpg", crop, [cv2.IMWRITE_JPEG_QUALITY, 95])[1]
        np.testing.assert_array_equal(found, cv2.imdecode(coded, cv2.IMREAD_COLOR))
    error = [np.abs(one.astype(int) - crops).mean() for one in (low, high)]
    assert 0 < error[1] < 0.9 * error[0]

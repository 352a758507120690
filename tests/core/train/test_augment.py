"""Blur and occlusion of crops; the rest of core.train.augment is tested with core.train.loader."""

import cv2
import numpy as np
import pytest

from core.train.augment import blur, occlude


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

"""Batches: mix, order, flips, augmentation, prefetching."""
import numpy as np
import pytest

from config import config, override
from core.augment import GRAY, Augment
from core.console import Problem
from core.loader import Batches, plain_batches, prefetched
from core.picture import to_input
from prepare_data.store import Store

OFF = ["augment.flip=False", "augment.brightness=1.0", "augment.gray=0.0", "augment.color=0.0",
       "augment.noise=0,0"]


def batches(store20, *settings):
    chosen = override(config, settings)
    made = Store(store20)
    return made, Batches(made, np.arange(len(made)), chosen.train, chosen.augment)


def test_mix_and_targets(store20):
    made, loader = batches(store20, "train.batch=50", "train.mix=1,1,3", *OFF)
    batch = loader.make(7)
    assert [int((batch["label"] == k).sum()) for k in (1, -1, 0)] == [10, 10, 30]
    assert batch["data"].shape == (50, 3, 20, 20) and batch["data"].dtype == np.float32
    assert batch["label"].dtype == batch["bbox_target"].dtype == np.float32
    # Each sample, found again in the store by its pixels, has that sample's label and offsets.
    inputs = to_input(made.crops)
    for data, label, target in zip(batch["data"], batch["label"], batch["bbox_target"]):
        same = np.flatnonzero(np.abs(inputs - data).max(axis=(1, 2, 3)) < 1e-5)
        assert any(made.labels[i] == label and (made.offsets[i] == target).all() for i in same)


@pytest.mark.parametrize("mix, counts", [("1,1,3", [51, 51, 154]), ("2,0,1", [171, 0, 85])])
def test_shares_add_up_to_the_batch(store20, mix, counts):
    _, loader = batches(store20, "train.batch=256", f"train.mix={mix}")
    assert [loader.shares[k] for k in ("positive", "part", "negative")] == counts


def test_every_sample_once_a_cycle(store20):
    made, loader = batches(store20, "train.batch=50", *OFF)
    stream = loader.streams["part"]
    total = len(stream.indices)
    first = np.concatenate([stream.take(i * 7, 7) for i in range(total // 7 + 1)])[:total]
    assert sorted(first) == sorted(stream.indices) and not np.array_equal(first, stream.indices)
    second = stream.take(total, total)
    assert sorted(second) == sorted(stream.indices) and not np.array_equal(first, second)


def test_batch_depends_on_seed_and_number_alone(store20):
    _, loader = batches(store20, "train.batch=40")
    _, again = batches(store20, "train.batch=40")
    _, other = batches(store20, "train.batch=40", "train.seed=1")
    loader.make(0)
    for key, value in loader.make(5).items():
        np.testing.assert_array_equal(value, again.make(5)[key])
    assert not np.array_equal(loader.make(5)["data"], loader.make(6)["data"])
    assert not np.array_equal(loader.make(5)["data"], other.make(5)["data"])


def test_flip_mirrors_pixels_and_offsets(store20):
    plain_store, plain = batches(store20, "train.batch=60", *OFF)
    _, flipping = batches(store20, "train.batch=60", *OFF[1:])
    straight, mixed = plain.make(3), flipping.make(3)
    flipped = 0
    for a, b, target, new, label in zip(straight["data"], mixed["data"], straight["bbox_target"],
                                        mixed["bbox_target"], straight["label"]):
        if np.array_equal(a, b):
            np.testing.assert_array_equal(new, target)
            continue
        flipped += 1
        np.testing.assert_array_equal(a[:, :, ::-1], b)
        if label:
            # The face's corners in the mirrored crop [0, 1]: x -> 1 - x.
            x1, x2 = 1 - (1 + target[2]), 1 - target[0]
            np.testing.assert_allclose(new, [x1, target[1], x2 - 1, target[3]], atol=1e-6)
    assert 15 < flipped < 45


def test_missing_kind_is_said(store20):
    made = Store(store20)
    only = np.flatnonzero(made.labels == 0)
    with pytest.raises(Problem, match="no positive samples"):
        Batches(made, only, config.train, config.augment)
    with pytest.raises(Problem, match="train.mix"):
        batches(store20, "train.mix=1,1")


def crops(n=200, size=20, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (n, size, size, 3)).astype(np.uint8)


def augmented(settings, pictures, seed=0):
    """Augmented pictures as uint8-scaled floats (N, H, W, 3)."""
    made = Augment(override(config, settings).augment)(pictures, np.random.default_rng(seed))
    return made.transpose(0, 2, 3, 1) * 128 + 127.5


def test_nothing_on_is_to_input():
    np.testing.assert_allclose(Augment(override(config, OFF).augment)(
        crops(), np.random.default_rng(0)), to_input(crops()), atol=1e-6)


def test_brightness_is_one_of_the_factors_and_clipped():
    pictures = crops()
    result = augmented([*OFF, "augment.brightness=0.6,0.8,1.0,1.2"], pictures)
    found = set()
    for before, after in zip(pictures.astype(float), result):
        errors = {f: np.abs(np.minimum(before * f, 255) - after).max() for f in
                  (0.6, 0.8, 1.0, 1.2)}
        best = min(errors, key=errors.get)
        assert errors[best] < 0.01
        found.add(best)
    assert found == {0.6, 0.8, 1.0, 1.2} and result.max() <= 255.01


def test_grey_in_all_channels():
    result = augmented([*OFF, "augment.gray=1.0"], crops())
    expected = crops().astype(float) @ np.array([0.114, 0.587, 0.299])
    np.testing.assert_allclose(result, np.repeat(expected[..., None], 3, axis=3), atol=0.01)
    assert GRAY.sum() == pytest.approx(1)


def test_colour_gain_per_channel_not_with_grey():
    pictures = (crops() // 2 + 20).astype(np.uint8)
    result = augmented([*OFF, "augment.color=0.2", "augment.gray=0.5"], pictures)
    gains = result / pictures
    spread = gains.std(axis=(1, 2))           # a gain is one number per picture and channel,
    grey = np.ptp(result, axis=3).max(axis=(1, 2)) < 0.01
    assert 60 < grey.sum() < 140
    np.testing.assert_allclose(result[grey, ..., 0],
                               pictures[grey] @ np.array([0.114, 0.587, 0.299]), atol=0.01)
    assert (spread[~grey] < 0.001).all()
    means = gains[~grey].mean(axis=(1, 2))
    assert means.min() >= 0.8 - 1e-3 and means.max() <= 1.2 + 1e-3
    assert means.std() == pytest.approx(0.4 / np.sqrt(12), rel=0.1)


def test_noise_has_its_variance_and_is_fresh():
    flat = np.full((3000, 20, 20, 3), 128, np.uint8)
    result = augmented([*OFF, "augment.noise=1,10"], flat) - 128
    variances = result.reshape(3000, -1).var(axis=1)
    assert result.mean() == pytest.approx(0, abs=0.02)
    assert variances.mean() == pytest.approx(5.5, rel=0.05)  # mean of U{1..10}
    assert 0.7 < variances.min() < 1.2 and 8.5 < variances.max() < 13
    pixels = result[:400].reshape(400, -1)
    correlation = np.corrcoef(pixels) - np.eye(400)
    # Two windows of one table overlap now and then; most pairs share nothing.
    assert np.mean(np.abs(correlation) > 0.5) < 0.01


def test_prefetch_keeps_order_and_passes_errors():
    def make(i):
        if i == 5:
            raise Problem("batch 5")
        return i
    assert [b for b, _ in prefetched(make, range(5), 3)] == list(range(5))
    with pytest.raises(Problem, match="batch 5"):
        list(prefetched(make, range(9), 2))


def test_plain_batches_cover_all_once(store20):
    made = Store(store20)
    indices = np.arange(0, len(made), 3)
    seen = []
    for batch, real in plain_batches(made, indices, 64):
        assert len(batch["data"]) == 64
        seen.append(batch["data"][:real])
    np.testing.assert_array_equal(np.concatenate(seen), to_input(made.crops[indices]))

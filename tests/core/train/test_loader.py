"""Batches: mix, order, flips, augmentation, prefetching."""

import numpy as np
import pytest

from config import config, override
from core.train.augment import GRAY, Augment
from core.train.loader import Batches, Samples, plain_batches, prefetched, split_by_picture
from facelet.console import Problem
from facelet.picture import to_input
from prepare_data.held_out import is_held_out
from prepare_data.store import Store, write_store

OFF = [
    "augment.flip=False",
    "augment.brightness=1.0",
    "augment.gray=0.0",
    "augment.color=0.0",
    "augment.noise=0,0",
]


def batches(store20, *settings):
    chosen = override(config, settings)
    made = Store(store20)
    return made, Batches(Samples([made]), np.arange(len(made)), chosen)


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
    for a, b, target, new, label in zip(
        straight["data"],
        mixed["data"],
        straight["bbox_target"],
        mixed["bbox_target"],
        straight["label"],
    ):
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
        Batches(Samples([made]), only, config)
    with pytest.raises(Problem, match="train.mix"):
        batches(store20, "train.mix=1,1,1,1,1,1")


# ---- several stores --------------------------------------------------------------------------

SIDE = 4


@pytest.fixture
def stores(tmp_path):
    """Stores of three kinds, each crop of one grey that tells it apart from all others: samples and
    hard ones of the same pictures, landmarks of some of these in folders of another name."""
    rng = np.random.default_rng(0)

    def made(name, what, labels, pictures, begin, points=None, facts=None):
        n = len(labels)
        grey = np.arange(begin, begin + n, dtype=np.uint8)
        chunk = {
            "crops": np.broadcast_to(grey[:, None, None, None], (n, SIDE, SIDE, 3)),
            "labels": np.array(labels),
            "offsets": rng.normal(0, 0.1, (n, 4)),
            "sources": np.stack([np.arange(n) % len(pictures)] * 5, axis=1) + [0, 0, 0, 9, 9],
        }
        chunk["offsets"][np.array(labels) == 0] = 0
        if points:
            chunk["landmarks"] = rng.uniform(0, 1, (n, points, 2))
        write_store(tmp_path / name, SIDE, [chunk], pictures, facts or {}, what, points)
        return Store(tmp_path / name)

    names = [f"event/{i}.jpg" for i in range(10)]
    return [
        made("samples", "samples", [1, -1, 0, 0, 0] * 8, names, 0),
        made("hard", "hard", [0, 0, 0, 1, -1] * 8, names, 60),
        made(
            "landmark",
            "landmark",
            [-2] * 30,
            [f"other/folder/{i}.jpg" for i in range(10)],
            120,
            5,
            {"scheme": "5"},
        ),
    ]


def mixed(stores, *settings, landmarks=True):
    chosen = override(config, ["train.batch=20", *OFF, *settings])
    row = Samples(stores)
    return row, Batches(row, np.arange(len(row)), chosen, landmarks)


@pytest.mark.parametrize(
    "which, landmarks, given, mix",
    [
        ([0], False, "", [1, 1, 3, 0, 0]),
        ([0, 1], False, "", [1, 1, 2, 1, 0]),
        ([0, 2], True, "", [1, 1, 3, 0, 2]),
        ([0, 1, 2], True, "", [1, 1, 2, 1, 2]),
        ([0, 1, 2], False, "", [1, 1, 2, 1, 0]),
        ([0, 1, 2], True, "1,0,1,1,1", [1, 0, 1, 1, 1]),
        ([0, 1], False, "1,1,3", [1, 1, 3, 0, 0]),
    ],
)
def test_mix_goes_by_what_is_there(stores, which, landmarks, given, mix):
    row, loader = mixed(
        [stores[i] for i in which], *([f"train.mix={given}"] if given else []), landmarks=landmarks
    )
    assert loader.mix == mix
    batch = loader.make(0)
    grey = np.round(batch["data"][:, 0, 0, 0] * 128 + 127.5).astype(int)
    kinds = {
        "hard": ((grey >= 60) & (grey < 120) & (batch["label"] == 0)).sum(),
        "negative": ((grey < 60) & (batch["label"] == 0)).sum(),
        "landmark": (grey >= 120).sum(),
    }
    assert {kind: loader.shares[kind] for kind in kinds} == kinds
    assert sum(loader.shares.values()) == 20


def test_mined_positives_and_parts_join_the_others(stores):
    _, loader = mixed(stores)
    taken = loader.streams["positive"].take(0, 16)
    assert sorted(taken) == [*range(0, 40, 5), *range(43, 80, 5)]


def test_each_sample_has_its_own_targets(stores):
    """Crops, offsets and points of one batch come from one sample, whichever store holds it."""
    row, loader = mixed(stores)
    for number in range(6):
        batch = loader.make(number)
        for i, data in enumerate(batch["data"]):
            grey = round(float(data[0, 0, 0]) * 128 + 127.5)
            store, at = [(s, grey - b) for s, b in zip(stores, (0, 60, 120)) if grey >= b][-1]
            assert batch["label"][i] == store.labels[at]
            np.testing.assert_array_equal(batch["bbox_target"][i], store.offsets[at])
            points = np.zeros((5, 2)) if store.landmarks is None else store.landmarks[at]
            np.testing.assert_allclose(batch["landmark_target"][i], [*points[:, 0], *points[:, 1]])


def test_flip_mirrors_points(stores):
    _, plain = mixed(stores)
    _, flipping = mixed(stores, "augment.flip=True")
    before, after = (loader.make(1)["landmark_target"] for loader in (plain, flipping))
    changed = np.flatnonzero((before != after).any(axis=1))
    assert 0 < len(changed) < (before != 0).any(axis=1).sum()
    for old, new in zip(before[changed], after[changed]):
        x, y = old[:5], old[5:]
        np.testing.assert_allclose(
            new,
            [1 - x[1], 1 - x[0], 1 - x[2], 1 - x[4], 1 - x[3], y[1], y[0], y[2], y[4], y[3]],
            rtol=1e-6,
        )


def test_a_picture_is_held_out_of_all_stores(stores):
    row = Samples(stores)
    training, held_out = split_by_picture(row, 0.3, seed=0)
    names = np.concatenate(
        [
            np.array([path.rsplit("/", 1)[-1] for path in store.pictures()])[store.sources[:, 0]]
            for store in stores
        ]
    )
    assert len(set(names[held_out])) == 3 and len(set(names[training])) == 7
    assert not set(names[held_out]) & set(names[training])
    pictures = stores[0].pictures()
    chosen = is_held_out(pictures, row.held_out_rule(0.3, seed=0))
    assert {pictures[i] for i in np.flatnonzero(chosen)} == {
        f"event/{name}" for name in names[held_out]
    }
    other = split_by_picture(row, 0.3, seed=1)[1]
    assert set(names[other]) != set(names[held_out])


def test_stores_that_do_not_go_together(stores, store20):
    with pytest.raises(Problem, match="of 20 pixels.*all must be of one size"):
        Samples([stores[0], Store(store20)])
    with pytest.raises(Problem, match="has no landmark samples"):
        mixed(stores[:2])
    with pytest.raises(Problem, match="landmarks, which this net does not learn"):
        mixed(stores, "train.mix=1,1,1,1,1", landmarks=False)


def crops(n=200, size=20, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (n, size, size, 3)).astype(np.uint8)


def augmented(settings, pictures, seed=0):
    """Augmented pictures as uint8-scaled floats (N, H, W, 3)."""
    made = Augment(override(config, settings).augment)(pictures, np.random.default_rng(seed))
    return made.transpose(0, 2, 3, 1) * 128 + 127.5


def test_nothing_on_is_to_input():
    np.testing.assert_allclose(
        Augment(override(config, OFF).augment)(crops(), np.random.default_rng(0)),
        to_input(crops()),
        atol=1e-6,
    )


def test_brightness_is_one_of_the_factors_and_clipped():
    pictures = crops()
    result = augmented([*OFF, "augment.brightness=0.6,0.8,1.0,1.2"], pictures)
    found = set()
    for before, after in zip(pictures.astype(float), result):
        errors = {
            f: np.abs(np.minimum(before * f, 255) - after).max() for f in (0.6, 0.8, 1.0, 1.2)
        }
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
    spread = gains.std(axis=(1, 2))  # a gain is one number per picture and channel,
    grey = np.ptp(result, axis=3).max(axis=(1, 2)) < 0.01
    assert 60 < grey.sum() < 140
    np.testing.assert_allclose(
        result[grey, ..., 0], pictures[grey] @ np.array([0.114, 0.587, 0.299]), atol=0.01
    )
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
    for batch, real in plain_batches(Samples([made]), indices, 64):
        assert len(batch["data"]) == 64
        seen.append(batch["data"][:real])
    np.testing.assert_array_equal(np.concatenate(seen), to_input(made.crops[indices]))

"""Training batches from packed stores: a fixed mix of kinds, shuffled, augmented, prefetched.

Every batch is a function of the seed and its number alone, so a run that is stopped and resumed
sees the same batches as one that is not.
"""

import time
from collections import deque
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from core.train.augment import Augment, degrade
from facelet import boxes as geometry
from facelet import schemes
from facelet.console import Problem
from facelet.picture import to_input
from prepare_data import held_out
from prepare_data.store import KINDS

# What train.mix gives the shares of: the kinds of samples, mined negatives apart.
MIXED = ("positive", "part", "negative", "hard", "landmark")
# The mix if train.mix has none, with and without mined negatives, and the share of landmarks where
# there are any: those of train-mtcnn.
MIXES = {False: (1, 1, 3, 0), True: (1, 1, 2, 1)}
LANDMARK_SHARE = 2


class Samples:
    """Stores of crops of one size as one row of samples, in the order of the stores.

    labels (N,) int8 and offsets (N, 4) float32 as in a store; mixed (N,) int8: which of MIXED;
    store (N,) int8: which of `stores`; points and scheme of the landmarks, None without any
    """

    def __init__(self, stores):
        self.stores, self.size = list(stores), stores[0].size
        odd = next((store for store in self.stores if store.size != self.size), None)
        if odd:
            raise Problem(
                f"{odd.path} holds samples of {odd.size} pixels, {stores[0].path} of "
                f"{self.size}: all must be of one size"
            )
        self.begin = np.cumsum([0, *map(len, self.stores)])
        self.labels, self.offsets = (
            np.concatenate([getattr(store, name)[:] for store in stores])
            for name in ("labels", "offsets")
        )
        self.store = np.repeat(np.arange(len(self.stores), dtype=np.int8), np.diff(self.begin))
        self.mixed = np.full(len(self.labels), -1, np.int8)
        for kind, label in KINDS.items():
            self.mixed[self.labels == label] = MIXED.index(kind)
        hard = np.isin(self.store, [i for i, s in enumerate(self.stores) if s.what == "hard"])
        self.mixed[hard & (self.labels == KINDS["negative"])] = MIXED.index("hard")
        with_points = [store for store in self.stores if store.points]
        self.points, self.scheme = None, None
        if with_points:
            self.points, self.scheme = with_points[0].points, with_points[0].scheme
        for store in with_points:
            if (store.points, store.scheme) != (self.points, self.scheme):
                raise Problem(
                    f"{store.path} has {store.points} points ({store.scheme}), "
                    f"{with_points[0].path} has {self.points} ({self.scheme})"
                )

    def __len__(self):
        return len(self.labels)

    def __str__(self):
        return ", ".join(str(store.path) for store in self.stores)

    def held_out_rule(self, fraction, seed):
        """Which pictures are held out (prepare_data.held_out), by those of the first store."""
        return held_out.rule_of(self.stores[0].pictures(), fraction, seed)

    def _gathered(self, indices, field, shape):
        """Values of a field (N, *shape) of the stores, 0 where a store lacks it."""
        found = np.zeros((len(indices), *shape), np.float32 if field == "landmarks" else np.uint8)
        for number in np.unique(self.store[indices]):
            values = getattr(self.stores[number], field)
            if values is not None:
                here = self.store[indices] == number
                found[here] = values[indices[here] - self.begin[number]]
        return found

    def crops(self, indices):
        """uint8 (N, S, S, 3) BGR."""
        return self._gathered(indices, "crops", (self.size, self.size, 3))

    def landmarks(self, indices):
        """float32 (N, P, 2) in crop sides, zeros for samples without points."""
        return self._gathered(indices, "landmarks", (self.points, 2))


def split_by_picture(samples, fraction, seed):
    """Sample indices (training, validation): whole pictures are held out, as crops of one picture
    are near copies of each other, and the same in all stores. Raises Problem when a part comes out
    empty."""
    rule = samples.held_out_rule(fraction, seed)
    chosen = np.concatenate(
        [
            held_out.is_held_out(store.pictures(), rule)[store.sources[:, 0]]
            for store in samples.stores
        ]
    )
    count = len(samples.stores[0].pictures())
    return held_out.split(chosen, fraction, f"the {count} pictures of {samples}")


class Stream:
    """An endless shuffled row of the samples of one kind; each cycle is a new permutation."""

    def __init__(self, indices, seed):
        self.indices, self.seed, self._cycles = indices, seed, {}

    def _cycle(self, number):
        if number not in self._cycles:
            order = np.random.default_rng([*self.seed, number]).permutation(self.indices)
            self._cycles = {n: c for n, c in self._cycles.items() if n == number - 1}
            self._cycles[number] = order
        return self._cycles[number]

    def take(self, start, count):
        positions = np.arange(start, start + count)
        cycles, places = np.divmod(positions, len(self.indices))
        return np.concatenate([self._cycle(c)[places[cycles == c]] for c in np.unique(cycles)])


class Batches:
    """Batches of training samples.

    samples -- Samples; indices -- which of them
    settings -- the whole configuration, of which train, augment and degrade count
    landmarks -- whether the net learns landmarks

    Raises Problem when a kind that the mix asks for is missing.
    """

    unreadable = {}  # what was packed can be read
    rows = slice(None)  # of "data", that are made

    def __init__(self, samples, indices, settings, landmarks=False):
        train, self.degrade = settings.train, settings.degrade
        self.samples, self.batch, self.seed = samples, train.batch, train.seed
        self.augment, self.flip = Augment(settings.augment, train.seed), settings.augment.flip
        self.with_landmarks, self.prefetch = landmarks, train.prefetch
        mixed = samples.mixed[indices]
        self.mix = _mix(train.mix, {MIXED[i] for i in np.unique(mixed)}, landmarks)
        self.shares = _shares(train.batch, self.mix)
        self.streams = {}
        for number, (kind, share) in enumerate(self.shares.items()):
            chosen = indices[mixed == number]
            if share and not len(chosen):
                raise Problem(
                    f"{samples} has no {kind} samples to train on, and train.mix asks "
                    "for some: label more faces, or change the mix"
                )
            if share:
                self.streams[kind] = Stream(chosen, (self.seed, 3, number))
        used = sum(len(stream.indices) for stream in self.streams.values())
        if self.batch > used:
            raise Problem(
                f"train.batch is {self.batch}, more than the {used} samples to train on: "
                "make it smaller"
            )
        # An epoch is as many batches as the samples would fill.
        self.steps = used // self.batch

    def ahead(self, numbers, note=None):
        """Yields (batch, seconds waited for it) for batches by number. `note` is that of
        LandmarkBatches: here nothing is to be noted."""
        return prefetched(self.make, numbers, self.prefetch)

    def close(self):
        """Nothing stays open."""

    def make(self, number):
        """Batch `number`, counted from 0 through all epochs: data (N, 3, S, S) or the `rows` of it,
        label (N,), bbox_target (N, 4) and, for nets that learn landmarks, landmark_target (N, 2 P),
        float32."""
        chosen = np.concatenate(
            [
                stream.take(number * self.shares[kind], self.shares[kind])
                for kind, stream in self.streams.items()
            ]
        )
        rng = np.random.default_rng([self.seed, 4, number])
        batch = _targets(self.samples, chosen, self.with_landmarks)
        crops = self.samples.crops(chosen)
        if self.flip:
            flipped = rng.uniform(size=len(chosen)) < 0.5
            crops[flipped] = crops[flipped, :, ::-1]
            batch["bbox_target"][flipped] = geometry.flip_offsets(batch["bbox_target"][flipped])
            if self.with_landmarks:
                flipped &= batch["label"] == KINDS["landmark"]
                batch["landmark_target"][flipped] = schemes.pack(
                    schemes.flip(
                        schemes.unpack(batch["landmark_target"][flipped]), self.samples.scheme
                    )
                )
        degrade(crops, self.degrade, rng)
        return {"data": self.augment(crops, rng, rows=self.rows), **batch}


def _targets(samples, chosen, landmarks):
    """What is to be learnt of some samples: arrays of a batch."""
    targets = {
        "label": samples.labels[chosen].astype(np.float32),
        "bbox_target": samples.offsets[chosen],
    }
    if landmarks:
        targets["landmark_target"] = schemes.pack(samples.landmarks(chosen))
    return targets


def _mix(given, there, landmarks):
    """Shares of MIXED: those of train.mix, filled up with 0, or else what goes with the kinds that
    are there."""
    if given:
        if len(given) > len(MIXED):
            raise Problem(
                f"train.mix is {given}: it has at most {len(MIXED)} shares, " + ",".join(MIXED)
            )
        if len(given) == len(MIXED) and given[-1] and not landmarks:
            raise Problem(
                f"train.mix is {given}: the last share is that of landmarks, which this "
                "net does not learn"
            )
        return [*given, *[0] * (len(MIXED) - len(given))]
    return [*MIXES["hard" in there], LANDMARK_SHARE if landmarks else 0]


def _shares(batch, mix):
    """Samples of each of MIXED in a batch, adding up to it."""
    bounds = np.round(np.cumsum([0, *mix]) / sum(mix) * batch).astype(int)
    return dict(zip(MIXED, np.diff(bounds).tolist()))


def prefetched(make, numbers, ahead):
    """Yield (batch, seconds waited for it) of make(number), made in a thread up to `ahead`
    batches before they are asked for."""
    numbers = iter(numbers)
    with ThreadPoolExecutor(1) as pool:
        waiting = deque()
        try:
            for number in numbers:
                waiting.append(pool.submit(make, number))
                if len(waiting) < ahead:
                    continue
                yield _wait(waiting.popleft())
            while waiting:
                yield _wait(waiting.popleft())
        finally:
            for future in waiting:
                future.cancel()


def _wait(future):
    start = time.perf_counter()
    return future.result(), time.perf_counter() - start


def quiet(what, done, total):
    """For those that report their progress: to nobody."""


def plain_batches(samples, indices, batch, landmarks=False):
    """Batches as they are, without augmentation, in order, the last filled up with repeats:
    yields (batch, number of real samples)."""
    for start in range(0, len(indices), batch):
        chosen = indices[start : start + batch]
        filled = np.resize(chosen, batch)
        yield (
            {"data": to_input(samples.crops(filled)), **_targets(samples, filled, landmarks)},
            len(chosen),
        )

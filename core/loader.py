"""Training batches from a packed store: a fixed mix of kinds, shuffled, augmented, prefetched.

Every batch is a function of the seed and its number alone, so a run that is stopped and resumed
sees the same batches as one that is not.
"""
import time
from collections import deque
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from core import boxes as geometry
from core.augment import Augment
from core.console import Problem
from core.picture import to_input
from prepare_data.store import KINDS


def held_out_pictures(store, fraction, seed):
    """Indices of the pictures of a store that training never sees: the same for each seed."""
    used = np.unique(store.sources[:, 0])
    return np.sort(np.random.default_rng([seed, 2]).permutation(used)[:round(fraction
                                                                             * len(used))])


def split_by_picture(store, fraction, seed):
    """Sample indices (training, validation) of a store: whole pictures are held out, as crops
    of one picture are near copies of each other. Raises Problem when a part comes out empty."""
    is_val = np.isin(store.sources[:, 0], held_out_pictures(store, fraction, seed))
    if is_val.all() or not is_val.any():
        raise Problem(f"train.val_fraction is {fraction}, and {store.path} has "
                      f"{len(np.unique(store.sources[:, 0]))} pictures: that leaves none to "
                      f"{'train on' if is_val.any() else 'hold out'}")
    return np.flatnonzero(~is_val), np.flatnonzero(is_val)


class _Stream:
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
    """Batches of a store.

    store -- prepare_data.store.Store
    indices -- which of its samples
    settings -- config.train; augment -- config.augment

    Raises Problem when a kind that the mix asks for is missing.
    """

    def __init__(self, store, indices, settings, augment):
        self.store, self.batch, self.seed = store, settings.batch, settings.seed
        self.augment, self.flip = Augment(augment, settings.seed), augment.flip
        self.shares = _shares(settings.batch, settings.mix)
        labels = store.labels[indices]
        self.streams = {}
        for kind, share in self.shares.items():
            chosen = indices[labels == KINDS[kind]]
            if share and not len(chosen):
                raise Problem(f"{store.path} has no {kind} samples to train on, and train.mix asks "
                              "for some: label more faces, or change the mix")
            if share:
                self.streams[kind] = _Stream(chosen, (self.seed, 3, KINDS[kind] + 1))
        if self.batch > len(indices):
            raise Problem(f"train.batch is {self.batch}, more than the {len(indices)} samples to "
                          "train on: make it smaller")
        # An epoch is as many batches as the samples would fill.
        self.steps = len(indices) // self.batch

    def make(self, number):
        """Batch `number`, counted from 0 through all epochs: data (N, 3, S, S) float32, label
        (N,) float32, bbox_target (N, 4) float32."""
        chosen = np.concatenate([stream.take(number * self.shares[kind], self.shares[kind])
                                 for kind, stream in self.streams.items()])
        rng = np.random.default_rng([self.seed, 4, number])
        crops, offsets = self.store.crops[chosen], self.store.offsets[chosen]
        if self.flip:
            flipped = rng.uniform(size=len(chosen)) < 0.5
            crops[flipped] = crops[flipped, :, ::-1]
            offsets[flipped] = geometry.flip_offsets(offsets[flipped])
        return {"data": self.augment(crops, rng),
                "label": self.store.labels[chosen].astype(np.float32), "bbox_target": offsets}


def _shares(batch, mix):
    """Samples of each kind in a batch, adding up to it."""
    if len(mix) != len(KINDS) or min(mix) < 0 or sum(mix) <= 0:
        raise Problem(f"train.mix is {mix}: it must be three shares, positive:part:negative")
    bounds = np.round(np.cumsum([0, *mix]) / sum(mix) * batch).astype(int)
    return dict(zip(("positive", "part", "negative"), np.diff(bounds).tolist()))


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


def plain_batches(store, indices, batch):
    """Batches as they are, without augmentation, in order, the last filled up with repeats:
    yields (batch, number of real samples)."""
    for start in range(0, len(indices), batch):
        chosen = indices[start:start + batch]
        filled = np.resize(chosen, batch)
        yield ({"data": to_input(store.crops[filled]),
                "label": store.labels[filled].astype(np.float32),
                "bbox_target": store.offsets[filled]}, len(chosen))

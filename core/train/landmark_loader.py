"""Training batches of faces with landmark points, their crops cut, turned and augmented as training
goes.

Faces come from stores of cuts, from pictures as they are, or as crops made once: see
prepare_data.points.face_sets. Every batch is a function of the seed and its number alone, however
many processes make them.
"""

import sys

import numpy as np

from core.base import parallel
from core.train.augment import Augment, blur, occlude
from core.train.loader import Stream, prefetched
from facelet import picture as pictures
from facelet import schemes
from facelet.console import Problem
from prepare_data import face_crop
from prepare_data.points.face_sets import whole

# Faces whose room in a cut is checked, and how many times that room their crops may reach.
ROOM_CHECKED, ROOM_SLACK = 200, 1.02
UNREADABLE_IN_A_ROW = 1000  # pictures, then nothing can be read at all
NAMED = 10  # of the pictures that can't be read, each on a line


class LandmarkBatches:
    """Batches of crops with landmark points.

    sets -- sets of faces of one scheme, as prepare_data.points.face_sets.Cuts
    indices -- which faces of each, an array for each set
    size -- of the crops, px
    train -- config.train; crop -- config.crop; augment -- config.augment
    shares -- of the sets in a batch, numbers; None goes by their numbers of faces
    workers -- processes that make batches; 0 makes them in a thread, None takes all cores

    unreadable -- {(path of a set, index of a face): why its picture can't be read}, as far as met;
        in its place stands the next face of the set

    rows -- of "data", that ahead() gives

    Raises Problem for sets that don't go together, settings that the scheme can't follow, cuts with
    too little room for crop.*, and a batch of more than there is.
    """

    rows = slice(None)

    def __init__(self, sets, indices, size, train, crop, augment, shares=None, workers=None):
        self.sets, self.size, self.batch, self.seed = list(sets), size, train.batch, train.seed
        self.indices = [np.sort(rows) for rows in indices]
        self.crop, self.settings, self.prefetch = crop, augment, train.prefetch
        self.workers = parallel.cores() if workers is None else workers
        self.scheme, self.points = self.sets[0].scheme, self.sets[0].points
        self.augment, self.unreadable, self._named = Augment(augment, self.seed), {}, 0
        self._ahead = None
        for faces, rows in zip(self.sets, self.indices):
            self._check(faces, rows)
        if augment.flip:
            schemes.partners(self.scheme)
        total = sum(map(len, self.indices))
        if self.batch > total:
            raise Problem(
                f"train.batch is {self.batch}, more than the {total} faces to train on: "
                "make it smaller"
            )
        self.steps = total // self.batch
        shares = [len(rows) for rows in self.indices] if shares is None else shares
        bounds = np.round(np.cumsum([0, *shares]) / sum(shares) * self.batch).astype(int)
        self.counts = np.diff(bounds).tolist()  # faces of each set in a batch
        self.streams = [Stream(rows, (self.seed, 6, i)) for i, rows in enumerate(self.indices)]

    def __getstate__(self):
        return {**self.__dict__, "_ahead": None}

    def _check(self, faces, rows):
        """Raise Problem for a set that can't be trained on."""
        first = self.sets[0]
        if faces.scheme != self.scheme:
            raise Problem(
                f"{faces.path} has {faces.points} points ({faces.scheme}), {first.path} "
                f"has {self.points} ({self.scheme}): one net learns one scheme"
            )
        if not len(rows):
            raise Problem(f"{faces.path} has no faces to train on")
        if faces.size and faces.size != self.size:
            raise Problem(
                f"{faces.path} holds crops of {faces.size} pixels, the net takes "
                f"{self.size}: make them with --size {self.size}"
            )
        if faces.size:
            return
        some = rows[:: max(1, len(rows) // ROOM_CHECKED)]
        points, boxes = faces.points_of[some], faces.boxes[some]
        face_crop.draw(points[:1], boxes[:1], self.crop, self.scheme, np.random.default_rng(0))
        rooms = getattr(faces, "rooms", None)
        if rooms is not None:
            centre, needed = face_crop.reach(points, boxes, self.crop, self.scheme)
            if (needed > rooms[some] * ROOM_SLACK).any():
                raise Problem(
                    f"{faces.path} was cut with less room than the settings crop.* ask "
                    "for: cut it again with the same settings"
                )

    def _read(self, faces, i):
        """Picture of a face of a set; None where it can't be read, which is noted."""
        key = str(faces.path), int(i)
        if key not in self.unreadable:
            try:
                return faces.read(i)
            except pictures.BrokenPicture as error:
                self.unreadable[key] = str(error)
        return None

    def _cut(self, number, chosen, mirrored, rng):
        """Crops of faces of set `number`, uint8 (N, S, S, 3), mirrored where `mirrored`, and their
        points (N, P, 2), not mirrored; (N,) indices in `chosen` give way to readable ones."""
        faces, rows, size = self.sets[number], self.indices[number], self.size
        crops = np.empty((len(chosen), size, size, 3), np.uint8)
        placed = np.empty((len(chosen), self.points, 2), np.float32)
        left = np.arange(len(chosen))
        for _ in range(min(UNREADABLE_IN_A_ROW, len(rows))):
            points, listed = faces.points_of[chosen[left]], faces.boxes[chosen[left]]
            if faces.size:
                squares, degrees = whole(faces, len(left)), np.zeros(len(left))
            else:
                squares, degrees = face_crop.draw(points, listed, self.crop, self.scheme, rng)
            placed[left] = face_crop.to_crop(squares, degrees, points)
            failed = []
            for at, matrix in zip(left, face_crop.matrices(squares, degrees, size, mirrored[left])):
                picture = self._read(faces, chosen[at])
                if picture is None:
                    failed.append(at)
                else:
                    face_crop.warp(picture, matrix, size, crops[at])
            if not failed:
                return crops, placed
            left = np.array(failed)
            chosen[left] = rows[np.searchsorted(rows, chosen[left], "right") % len(rows)]
        raise Problem(
            f"{faces.path}: one picture after the other can't be read, the last: "
            f"{list(self.unreadable.values())[-1]}"
        )

    @property
    def shapes(self):
        """Of the arrays of a batch, by name."""
        return {
            "data": (self.batch, 3, self.size, self.size),
            "landmark_target": (self.batch, 2 * self.points),
        }

    def make(self, number, out=None):
        """Batch `number`, counted from 0 through all epochs: data (N, 3, S, S) and landmark_target
        (N, 2 P), float32, see facelet.schemes.pack(); in the arrays of `out` if it is given."""
        if out is None:
            out = {name: np.empty(shape, np.float32) for name, shape in self.shapes.items()}
        rng = np.random.default_rng([self.seed, 7, number])
        crops, placed = [], []
        for i, (stream, count) in enumerate(zip(self.streams, self.counts)):
            if count:
                mirrored = rng.uniform(size=count) < 0.5 * self.settings.flip
                some, points = self._cut(i, stream.take(number * count, count), mirrored, rng)
                if mirrored.any():
                    points[mirrored] = schemes.flip(points[mirrored], self.scheme)
                crops.append(some)
                placed.append(points)
        crops = np.concatenate(crops) if len(crops) > 1 else crops[0]
        blur(crops, *self.crop.blur, rng)
        occlude(crops, *self.crop.occlusion, rng)
        self.augment(crops, rng, out["data"])
        out["landmark_target"][...] = schemes.pack(np.concatenate(placed))
        return out

    def _make_and_note(self, number, out):
        """As make(); returns what it added to `unreadable`: it runs in processes, which have
        their own."""
        before = set(self.unreadable)
        self.make(number, out)
        return {key: self.unreadable[key] for key in self.unreadable.keys() - before}

    def ahead(self, numbers, note=None):
        """Yields (batch, seconds waited for it) for batches by number, made ahead of the net. A
        batch is of use until the next is asked for. Raises Problem.

        note -- function of a line about a picture that can't be read, and of the stream it goes
            to; print() if None
        """
        if not self.workers:
            for batch, spent in prefetched(self.make, numbers, self.prefetch):
                self._report_unreadable(note)
                yield self._own(batch), spent
            return
        if self._ahead is None:
            self._ahead = parallel.Ahead(
                self._make_and_note, self.shapes, self.workers, self.prefetch
            )
        for batch, unreadable, spent in self._ahead.batches(numbers):
            self.unreadable.update(unreadable)
            self._report_unreadable(note)
            yield self._own(batch), spent

    def _own(self, batch):
        return {**batch, "data": batch["data"][self.rows]}

    def _report_unreadable(self, note):
        """Name on stderr what has been left out since the last time."""
        found = list(self.unreadable.values())
        for count, reason in enumerate(found[self._named : NAMED], self._named + 1):
            line = f"left out {reason}" + (
                "; more are counted, not named" if count == NAMED else ""
            )
            if note is None:
                print(line, file=sys.stderr)
            else:
                note(line, sys.stderr)
        self._named = len(found)

    def close(self):
        """End the processes."""
        if self._ahead is not None:
            self._ahead.close()
            self._ahead = None

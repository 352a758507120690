"""Faces with points to train on and to measure on, wherever they are: in stores of cuts, in
pictures as they are, or as crops made once."""

from pathlib import Path

import numpy as np

from facelet import isolated
from facelet import picture as pictures
from facelet.console import Problem
from facelet.files import known_sums
from prepare_data import face_crop
from prepare_data.points import sets as landmarks
from prepare_data.store import (
    MOST_SIDES,
    Store,
    check_rows,
    check_sources,
    check_sums,
    read_array,
    read_facts,
    read_pictures,
)
from prepare_data.wider import check_scale as check_boxes
from prepare_data.wider import outside_of

VERSION = 1  # of the format of a store of cuts
REMEDY = "cut the faces again"
JPEG = b"\xff\xd8"  # what such a file begins with
OUTSIDE = 1.0  # px: farther out of its picture a point is nowhere


class Cuts:
    """The faces in a store of cuts. The interface of all sets of faces, of Pictures and Crops too:

    len(faces) -- how many
    points -- how many points each has; scheme -- their order, one of facelet.schemes.NAMES
    points_of -- (N, P, 2) float32, in continuous coordinates of the picture that read(i) gives
    boxes -- (N, 4) float32, the list's box there, NaN where it has none
    read(i) -- picture of face i, uint8 (H, W, 3) BGR; raises facelet.picture.BrokenPicture
    names() -- path of the picture that each is from, a list
    facts -- what it was made from, JSON values
    describe() -- all that in a line
    size -- side of crops that are ready-made, None where they are to be cut out of read(i)

    Raises Problem where the store is damaged."""

    size = None

    def __init__(self, path):
        self.path = Path(path)
        facts_path = self.path / "cuts.json"
        kinds = {"points": int, "scheme": str, "faces": int, "source": dict}
        self.facts = read_facts(facts_path, VERSION, kinds, REMEDY)
        self.points, self.scheme = self.facts["points"], self.facts["scheme"]
        n = self.facts["faces"]
        self.index = self._load("index", np.int64, (n + 1,))
        self.points_of = self._load("points", np.float32, (n, self.points, 2))
        self.boxes = self._load("boxes", np.float32, (n, 4))
        self.rooms = self._load("rooms", np.float32, (n,))
        self.sources = self._load("sources", np.int32, (n, 5))
        self._pictures = read_pictures(self.path, REMEDY)
        try:
            self.bytes = np.memmap(self.path / "faces.bin", np.uint8, "r")
        except (OSError, ValueError) as error:
            raise Problem(f"{self.path / 'faces.bin'} can't be read ({error}): {REMEDY}") from None
        self._check_values()
        check_sums(self.path, known_sums(self.facts, facts_path), "faces.bin", REMEDY)

    def _load(self, name, kind, shape):
        return np.array(read_array(self.path / f"{name}.npy", kind, shape, REMEDY))

    def _check_values(self):
        if self.index[0] != 0:
            raise Problem(f"{self.path / 'index.npy'} is damaged: it begins otherwise: {REMEDY}")
        check_rows(
            self.path / "index.npy", np.diff(self.index) <= 0, "cuts end before they begin", REMEDY
        )
        if len(self.bytes) != self.index[-1]:
            raise Problem(
                f"{self.path / 'faces.bin'} has {len(self.bytes):,} bytes, not "
                f"{self.index[-1]:,}: {REMEDY}"
            )
        check_sources(self.path / "sources.npy", self.sources, self._pictures, REMEDY)
        # A cut is never larger than what it is of.
        sides = (self.sources[:, 3:] - self.sources[:, 1:3]).max(axis=1, initial=0)
        away = np.abs(self.points_of).max(axis=(1, 2), initial=0)
        check_rows(
            self.path / "points.npy",
            ~(away <= MOST_SIDES * sides),  # of NaN too
            f"faces have points that are NaN, or more than {MOST_SIDES} sides away",
            REMEDY,
        )
        listed_none = np.isnan(self.boxes).all(axis=1)
        usable = np.isfinite(self.boxes).all(axis=1)
        check_rows(self.path / "boxes.npy", ~(usable | listed_none), "boxes are not finite", REMEDY)
        usable = np.isfinite(self.rooms) & (self.rooms > 0)
        check_rows(self.path / "rooms.npy", ~usable, "rooms are not above 0", REMEDY)

    def __reduce__(self):  # for other processes
        return Cuts, (self.path,)

    def __len__(self):
        return len(self.points_of)

    def read(self, i):
        begin, end = self.index[i : i + 2]
        data, name = self.bytes[begin:end].tobytes(), f"{self.path}, face {i}"
        if data[:2] != JPEG:  # decoded in this process, for speed: no other decoder
            raise pictures.BrokenPicture(f"{name}: no JPEG, as cuts are: {REMEDY}")
        return pictures.decode(data, name)

    def names(self):
        return [self._pictures[i] for i in self.sources[:, 0]]

    def describe(self):
        teacher = self.facts["source"].get("pseudo_labels_by")
        return f"{self.path}: {len(self):,} faces with {self.points} points, cut" + (
            f"; pseudo-labels by {teacher}" if teacher else ""
        )


class Pictures:
    """The faces of a PointSet in their pictures as they are; the interface of Cuts."""

    size = None

    def __init__(self, point_set):
        self.set, self.path, self.scheme = point_set, point_set.truth, point_set.scheme
        self.points = point_set.points
        self.points_of = np.stack([face.points for face in point_set.faces]) + np.float32(0.5)
        self.boxes = np.stack([listed(face) for face in point_set.faces])
        self.facts = source_of(point_set)

    def __len__(self):
        return len(self.set.faces)

    def read(self, i):
        face = self.set.faces[i]
        picture = isolated.read(self.set.images / face.path)
        reason = reason_against(face, *picture.shape[1::-1])
        if reason:
            raise pictures.BrokenPicture(f"{face.source}: {reason}")
        return picture

    def names(self):
        return [face.path for face in self.set.faces]

    def describe(self):
        return self.set.describe()


class Crops:
    """Crops made once (a prepare_data.store.Store of landmark samples) with the interface of Cuts;
    they are trained on as they are. Raises Problem for a store without landmarks."""

    def __init__(self, store):
        if store.landmarks is None:
            raise Problem(
                f"{store.path} holds no landmarks: make crops with python -m "
                "prepare_data.landmark_samples"
            )
        if type(store.facts.get("source")) is not dict:
            raise Problem(f"{store.path / 'store.json'} is damaged, its source can't be used")
        self.store, self.path, self.size = store, store.path, store.size
        self.points, self.scheme, self.facts = store.points, store.scheme, store.facts["source"]
        self.points_of = store.landmarks[:] * np.float32(store.size)
        self.boxes = np.full((len(store), 4), np.nan, np.float32)

    def __reduce__(self):
        return _reopened, (self.path,)

    def __len__(self):
        return len(self.store)

    def read(self, i):
        return self.store.crops[i]

    def names(self):
        paths = self.store.pictures()
        return [paths[i] for i in self.store.sources[:, 0]]

    def describe(self):
        return f"{self.path}: {len(self):,} crops of {self.size} px with {self.points} points"


def _reopened(path):
    return Crops(Store(path))


def source_of(point_set):
    """What a set is, as JSON values."""
    return {
        "file": point_set.truth.name,
        "sha256": point_set.sha256,
        "pictures": len(point_set.pictures()),
        "faces": len(point_set.faces),
        **({"pseudo_labels_by": point_set.teacher} if point_set.teacher else {}),
    }


def reason_against(face, width, height):
    """Why a Face can't be in a picture of width x height, or None."""
    places = face.points + 0.5
    if (places < -OUTSIDE).any() or (places > np.array([width, height]) + OUTSIDE).any():
        return f"points out of the picture, which is {width}x{height}"
    if face.box is not None and outside_of(face.box[None], width, height)[0]:
        return f"a box of which most is out of the picture, which is {width}x{height}"
    return None


def check_scale(point_set):
    """Raise Problem where many faces of a PointSet lie outside of their pictures."""
    check_boxes(
        point_set.truth,
        point_set.images,
        [
            (path, np.stack([[*f.points.min(axis=0), *(f.points.max(axis=0) + 1)] for f in faces]))
            for path, faces in point_set.pictures().items()
        ],
    )


def listed(face):
    return np.full(4, np.nan, np.float32) if face.box is None else face.box


def open_faces(path, args=None):
    """The faces at a path: Cuts or Pictures.

    args -- of a program, see prepare_data.points.arguments(), for lists and folders

    Raises Problem where there are none."""
    if (Path(path) / "cuts.json").is_file():
        return Cuts(path)
    return Pictures(landmarks.from_args(path, args) if args else landmarks.open_set(path))


def whole(faces, count):
    """Squares (N, 4) that are the whole of ready-made crops."""
    return np.tile(np.float64([0, 0, faces.size, faces.size]), (count, 1))


def plain(faces, indices, size, crop, rng=None, jitter=None):
    """Crops of faces as they are, for validation: crops (N, size, size, 3) uint8, their points
    (N, P, 2) float32 in crop sides, and squares (N, 4) in the pictures of faces.read().

    crop -- config.crop; rng, jitter -- see prepare_data.face_crop.plain()

    Raises BrokenPicture."""
    points = faces.points_of[indices]
    if faces.size:
        squares = whole(faces, len(indices))
    else:
        squares = face_crop.plain(points, faces.boxes[indices], crop, faces.scheme, rng, jitter)
    degrees = np.zeros(len(indices))
    crops = np.empty((len(indices), size, size, 3), np.uint8)
    for i, matrix, out in zip(indices, face_crop.matrices(squares, degrees, size), crops):
        face_crop.warp(faces.read(i), matrix, size, out)
    return crops, face_crop.to_crop(squares, degrees, points).astype(np.float32), squares

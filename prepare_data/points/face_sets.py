"""Faces with points to train on and to measure on, wherever they are: in stores of cuts, in
pictures as they are, or as crops made once."""

from pathlib import Path

import numpy as np

from facelet import picture as pictures
from facelet.console import Problem
from facelet.files import read_json, read_lines
from prepare_data import face_crop
from prepare_data.points import sets as landmarks
from prepare_data.store import Store
from prepare_data.wider import check_scale as check_boxes
from prepare_data.wider import outside_of

VERSION = 1  # of the format of a store of cuts
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
        self.facts = read_json(self.path / "cuts.json")
        if self.facts.get("version") != VERSION:
            raise Problem(
                f"{path} has the format {self.facts.get('version')}, this program reads "
                f"{VERSION}: cut the faces again"
            )
        self.points, self.scheme = self.facts["points"], self.facts["scheme"]
        n = self.facts["faces"]
        self.index = self._load("index", (n + 1,))
        self.points_of = self._load("points", (n, self.points, 2))
        self.boxes, self.rooms = self._load("boxes", (n, 4)), self._load("rooms", (n,))
        self.sources = self._load("sources", (n, 5))
        try:
            self.bytes = np.memmap(self.path / "faces.bin", np.uint8, "r")
        except (OSError, ValueError) as error:
            raise Problem(
                f"{self.path / 'faces.bin'} can't be read ({error}): cut the faces again"
            ) from None
        if len(self.bytes) != self.index[-1]:
            raise Problem(
                f"{self.path / 'faces.bin'} has {len(self.bytes):,} bytes, not "
                f"{self.index[-1]:,}: cut the faces again"
            )

    def _load(self, name, shape):
        path = self.path / f"{name}.npy"
        try:
            array = np.load(path)
        except (OSError, ValueError) as error:
            raise Problem(f"{path} can't be read ({error}): cut the faces again") from None
        if array.shape != shape:
            raise Problem(f"{path} holds {array.shape}, not {shape}: cut the faces again")
        return array

    def __reduce__(self):  # for other processes
        return Cuts, (self.path,)

    def __len__(self):
        return len(self.points_of)

    def read(self, i):
        begin, end = self.index[i : i + 2]
        return pictures.decode(self.bytes[begin:end].tobytes(), f"{self.path}, face {i}")

    def names(self):
        paths = read_lines(self.path / "pictures.txt")
        return [paths[i] for i in self.sources[:, 0]]

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
        picture = pictures.read(self.set.images / face.path)
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

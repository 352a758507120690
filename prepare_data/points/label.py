"""Gives faces the points that a net finds, as a list to train another one on: pseudo-labels.

    python -m prepare_data.points label --weights TEACHER --faces FACES --out LIST
    python -m prepare_data.points label --weights TEACHER --pictures DIR --out LIST

The faces are those of a set with points of any kind, which only tell where the faces are, or
those that the detector that comes along finds in the pictures below a folder. TEACHER is any net
that gives points: an ONNX model, a .params file, a run's folder.

The net runs twice on each face: on the crop about its box, and then on several crops about the
points that this gave, which differ a little, mirrored ones among them. The points are the mean of
the second. How far the crops disagree tells how sure they are: the root mean square distance of
their points from the mean, in sides of the crops; faces over --max-spread are left out. (Of
train-mtcnn's net of 106 points, 98 % of 200 faces had less than 0.02, and the rest 1.7 times their
error.)

LIST has a line `path x1 y1 x2 y2 ...` a face; LIST.json beside it says that these are
pseudo-labels, and whose, and whoever reads LIST passes that on. They are no better than their
teacher: a figure measured on them is one of agreement with it.
"""

from pathlib import Path
from types import SimpleNamespace

import numpy as np

from core.base import parallel
from core.detect import nets
from core.detect.detector import FaceDetector, open_stage
from facelet import isolated, schemes
from facelet import picture as pictures
from facelet.console import Problem, Progress
from facelet.detector import landmark_squares
from facelet.files import sha256, write_json, write_text
from prepare_data import face_crop
from prepare_data.points import sets as landmarks
from prepare_data.points.face_sets import Cuts, open_faces
from prepare_data.samples import print_some

AVERAGED = 5
MAX_SPREAD = 0.025
# How crops differ: as the jitter of prepare_data.face_crop.plain(), and by as many degrees at most.
JITTER, ANGLE = np.array([0.05, 0.03, 0.03]), 5.0


class Teacher:
    """A net that gives points to faces.

    path -- see core.detect.nets.open_net; average -- crops of each face, beside their mirror images

    Raises Problem: a net that gives none, or doesn't say in which order.
    """

    def __init__(self, path, average=AVERAGED, threads=1):
        self.net, self.average = open_stage("landmark", path, threads=threads), average
        facts = self.net.facts
        self.scheme, self.size = facts["scheme"], facts["input"]["size"]
        if self.scheme is None:
            raise Problem(
                f"{self.net.name} doesn't say in which order its {facts['points']} "
                "points are: python -m core.convert makes a checkpoint of it that does"
            )
        crop = facts.get("crop") or {"box": "detector", "scale": 1.0}
        self.crop = SimpleNamespace(box=crop["box"], plain=crop["scale"])

    def __call__(self, picture, boxes):
        """Points (N, P, 2), continuous coordinates, of faces with a detector's boxes (N, 4) in a
        picture, and their spread (N,), see above."""
        squares, n = landmark_squares(boxes, self.net).astype(np.float64), len(boxes)
        first = [
            self._points(picture, square[None], np.zeros(1), np.zeros(1, bool))[0]
            for square in squares
        ]
        found = [self._averaged(picture, points) for points in first]
        return (
            np.array([points for points, _ in found]).reshape(n, self.net.facts["points"], 2),
            np.array([spread for _, spread in found]),
        )

    def _points(self, picture, squares, degrees, mirrored):
        """Points (N, P, 2) in the picture that the net finds in crops, of which some are mirrored
        (N,)."""
        matrices = face_crop.matrices(squares, degrees, self.size, mirrored)
        crops = np.stack([face_crop.warp(picture, matrix, self.size) for matrix in matrices])
        places = schemes.unpack(self.net(pictures.to_input(crops))["landmark"])
        if mirrored.any():
            places[mirrored] = schemes.flip(places[mirrored], self.scheme)
        return face_crop.to_picture(squares, degrees, places)

    def _averaged(self, picture, points):
        """Points (P, 2) and their spread, from crops around points found before."""
        rng, n = np.random.default_rng(0), self.average
        several, no_box = np.repeat(points[None], n, axis=0), np.full((n, 4), np.nan)
        squares = face_crop.plain(several, no_box, self.crop, self.scheme, rng, JITTER)
        degrees, mirrored = rng.uniform(-ANGLE, ANGLE, n), np.zeros(n, bool)
        if schemes.get(self.scheme).partners is not None:
            squares, degrees = np.tile(squares, (2, 1)), np.tile(degrees, 2)
            mirrored = np.repeat([False, True], n)
        found = self._points(picture, squares, degrees, mirrored)
        mean, sides = found.mean(axis=0), squares[:, 2] - squares[:, 0]
        return mean, float(np.sqrt(((found - mean) ** 2).sum(axis=2).mean()) / sides.mean())


# ---- faces ---------------------------------------------------------------------------------


def of_set(faces):
    """Yields (path of a picture, picture or BrokenPicture, a detector's box (1, 4) of a face in it,
    corner (2,) and scale (2,) of it in that at the path) for faces as face_sets.Cuts."""
    centre, side = face_crop.boxes_of(faces.points_of, faces.boxes, "detector", faces.scheme)
    boxes = np.concatenate([centre - side[:, None] / 2, centre + side[:, None] / 2], axis=1)
    for i, name in enumerate(faces.names()):
        picture, corner, scale = _read(faces.read, i), np.zeros(2), np.ones(2)
        if isinstance(faces, Cuts) and isinstance(picture, np.ndarray):
            corner, end = faces.sources[i, 1:3], faces.sources[i, 3:]
            scale = (end - corner) / picture.shape[1::-1]
        yield name, picture, boxes[i : i + 1], corner, scale


def of_folder(folder):
    """As of_set(), for the pictures below a folder and the faces (N, 4) that the detector that
    comes along finds in each. Raises Problem where there is no picture."""
    folder, detector = Path(folder), FaceDetector.open(points=0)
    files = pictures.in_folder(folder)
    if not files:
        raise Problem(
            f"{folder} holds no pictures: no file there ends in " + " ".join(pictures.SUFFIXES)
        )
    for file in files:
        picture = _read(isolated.read, file)
        boxes = detector.detect(picture).boxes if isinstance(picture, np.ndarray) else None
        yield file.relative_to(folder).as_posix(), picture, boxes, np.zeros(2), np.ones(2)


def _read(read, what):
    try:
        return read(what)
    except pictures.BrokenPicture as error:
        return error


def label(teacher, faces, out, most_spread, source):
    """Write the list of the points that a Teacher gives to faces, as of of_set(), and what it is.

    most_spread -- of points that are kept; source -- JSON values, where the faces are from

    Raises Problem where nothing is kept.
    """
    out = Path(out)
    beside = landmarks.sidecar(out)
    lines, spreads, rejected, progress = [], [], [], Progress(None, "pictures")
    unread = 0
    for name, picture, boxes, corner, scale in faces:
        progress.step()
        if not isinstance(picture, np.ndarray):
            rejected.append(str(picture))
            unread += 1
            continue
        for points, spread in zip(*teacher(picture, boxes)):
            if not spread <= most_spread:
                rejected.append(f"{name}: its points are unsure, their spread is {spread:.3f}")
                continue
            # Lists count from the centre of the first pixel.
            places = points * scale + corner - 0.5
            lines.append(f"{name} " + " ".join(f"{value:.2f}" for value in places.ravel()))
            spreads.append(spread)
    progress.close()
    print_some("left out", rejected, f"all named in {beside}")
    if unread:
        print(f"passed over {unread:,} of {progress.done:,} pictures, which can't be read")
    if not lines:
        raise Problem(
            "not one face has points to keep"
            + (f"; the first: {rejected[0]}" if rejected else ": no face was found")
        )
    facts, file = teacher.net.facts, nets.file_of(teacher.net.name)
    # First: a list without it would pass for an annotated one.
    write_json(
        beside,
        {
            "what": "pseudo-labels: points that a net gave, and nobody has looked at",
            "pseudo_labels_by": {
                "file": file.name,
                "sha256": sha256(file),
                "net": facts["net"],
                "options": facts["options"],
                "crop": vars(teacher.crop),
            },
            "points": facts["points"],
            "scheme": teacher.scheme,
            "faces": len(lines),
            "average": teacher.average,
            "max_spread": most_spread,
            "spread": {"median": float(np.median(spreads)), "largest": float(max(spreads))},
            **source,
            "rejected": rejected,
        },
    )
    write_text(out, "\n".join(lines) + "\n")
    print(
        f"{out}: pseudo-labels by {file.name}: {len(lines):,} faces with {facts['points']} "
        f"points in the order {teacher.scheme}, spread {np.median(spreads):.4f} (median), "
        f"{len(rejected):,} left out"
    )


def arguments(parser):
    parser.add_argument(
        "--weights",
        required=True,
        metavar="TEACHER",
        help="the net that gives the points: an ONNX model, a .params file or a run's folder",
    )
    which = parser.add_mutually_exclusive_group(required=True)
    which.add_argument(
        "--faces",
        metavar="FACES",
        help="a list, a folder or a store of cuts, of faces with any points",
    )
    which.add_argument("--pictures", metavar="DIR", help="pictures in which faces are looked for")
    landmarks.arguments(parser)
    parser.add_argument("--out", required=True, metavar="LIST", help="file to write")
    parser.add_argument(
        "--average",
        type=int,
        default=AVERAGED,
        metavar="K",
        help=f"crops of each face, beside their mirror images (default {AVERAGED})",
    )
    parser.add_argument(
        "--max-spread",
        type=float,
        default=MAX_SPREAD,
        metavar="S",
        help=f"of points that are kept (default {MAX_SPREAD})",
    )


def main(args, settings):
    del settings
    if args.average < 1:
        raise Problem(f"--average {args.average}: it must be at least 1")
    teacher = Teacher(args.weights, args.average, parallel.cores())
    if args.pictures:
        faces, source = of_folder(args.pictures), {"pictures": Path(args.pictures).name}
    else:
        found = open_faces(args.faces, args)
        print(found.describe())
        faces, source = of_set(found), {"source": found.facts}
    label(teacher, faces, args.out, args.max_spread, source)

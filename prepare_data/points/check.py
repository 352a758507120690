"""What a set of faces with points holds, what of it can't be used and why, and a picture of some.

    python -m prepare_data.points check FACES --out check.png

The mean face tells of a wrong order: it should be its own mirror image. The picture shows faces
from the whole set, their points and lines in the colours of the scheme's groups.
"""

import cv2
import numpy as np

from facelet import draw, isolated, schemes
from facelet import picture as pictures
from prepare_data.points import sets as landmarks

COLUMNS, ROWS, CELL = 8, 5, 200
ROOM = 0.3  # around the points' bounding square, in its sides
UNEVEN = 0.15  # asymmetry from which a mean face isn't its own mirror image
NAMED = 10  # rejected faces that are named


def arguments(parser):
    parser.add_argument("faces", metavar="FACES", help="a list or a folder")
    landmarks.arguments(parser)
    parser.add_argument("--out", metavar="FILE", help="picture of some faces to write")


def mean_face(point_set):
    """The mean of faces with their points' mean at 0 and root mean square distance from it 1,
    (P, 2)."""
    points = np.array([face.points for face in point_set.faces], np.float64)
    points -= points.mean(axis=1, keepdims=True)
    return (points / np.sqrt((points**2).sum(axis=2).mean(axis=1))[:, None, None]).mean(axis=0)


def tile(picture, points, scheme):
    """The surroundings of a face's points (P, 2) in a picture, CELL x CELL, with points and lines
    drawn."""
    low, high = points.min(axis=0), points.max(axis=0)
    side = max(2.0, (1 + 2 * ROOM) * (high - low).max())
    scale, corner = CELL / side, (low + high) / 2 + 0.5 - side / 2
    # From centres of pixels to centres of pixels.
    matrix = np.column_stack([np.eye(2) * scale, 0.5 * scale - 0.5 - corner * scale])
    face = cv2.warpAffine(
        picture,
        matrix,
        (CELL, CELL),
        borderValue=draw.BACKGROUND,
        flags=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR,
    )
    draw.landmarks(face, (points * scale + matrix[:, 2])[None], scheme)
    return face


def sheet(point_set, path):
    """Write a picture of faces from the whole set. Returns what was wrong with some, a line
    each."""
    faces, tiles, wrong = point_set.faces, [], []
    chosen = np.unique(np.linspace(0, len(faces) - 1, COLUMNS * ROWS).round().astype(int))
    for face in (faces[i] for i in chosen):
        try:
            picture = isolated.read(point_set.images / face.path)
        except pictures.BrokenPicture as error:
            wrong.append(str(error))
            continue
        height, width = picture.shape[:2]
        out = (face.points < -0.5).any(axis=1) | (face.points > (width - 0.5, height - 0.5)).any(1)
        if out.any():
            wrong.append(
                f"{face.source}: {out.sum()} of its points are out of the picture, which "
                f"is {width}x{height}"
            )
        tiles.append(tile(picture, face.points, point_set.scheme))
    if tiles:
        pictures.write(path, draw.grid(tiles, COLUMNS, CELL))
    return wrong


def main(args, settings):
    point_set = landmarks.from_args(args.faces, args)
    print(point_set.describe())
    for line in point_set.rejected[:NAMED]:
        print(f"  rejected {line}")
    if len(point_set.rejected) > NAMED:
        print(f"  and {len(point_set.rejected) - NAMED:,} more")
    scheme = schemes.get(point_set.scheme)
    print(f"  scheme {scheme.name}: {scheme.about}")
    sides = np.array([np.ptp(face.points, axis=0).max() for face in point_set.faces])
    boxes = sum(face.box is not None for face in point_set.faces)
    print(
        "  larger side of the points' box, px: "
        + ", ".join(f"{np.percentile(sides, part):.0f} ({part} %)" for part in (5, 50, 95))
        + f"; {boxes:,} faces come with a box"
    )
    if scheme.partners:
        uneven = schemes.asymmetry(mean_face(point_set), scheme.name)
        print(
            f"  the mean face is its own mirror image but for {uneven:.3f} of its spread"
            + (": is this the order of the points?" if uneven > UNEVEN else "")
        )
    if args.out:
        wrong = sheet(point_set, args.out)
        for line in wrong:
            print(f"  in the picture: {line}")
        print(f"wrote {args.out}")

"""Draws one picture: a background, people alone, in groups and in crowds, things that are no faces;
with the exact box and the points of every face. Picture i of seed s depends on s and i alone.
"""

from dataclasses import dataclass

import cv2
import numpy as np

from prepare_data.drawn import scene
from prepare_data.drawn.face import HAIR, HATS, SUBSETS, Head, random_shape, rotation
from prepare_data.drawn.paint import random_appearance, render, thrice

FACE_SCHEMES = (5, 68, 106)
# share of the pictures, fewest and most faces, smallest and largest middle size of a picture's
# faces (height of the box, pixels)
KINDS = {
    "portrait": (0.35, 1, 1, 70, 330),
    "group": (0.40, 2, 8, 26, 130),
    "crowd": (0.10, 10, 30, 12, 40),
    "nobody": (0.15, 0, 0, 0, 0),
}
SIDES = 320, 800  # pixels
HIDDEN = 0.5  # a face with less than this share visible is marked invalid


@dataclass
class DrawnFace:
    """One face of a drawn picture.

    box        -- (4,) float32 x1 y1 x2 y2 in continuous pixel coordinates: pixel column j covers
                  [j, j + 1). Hairline to chin, cheek to cheek
    points     -- {5: (5, 2), 68: (68, 2), 106: (106, 2)} float32 x y in the coordinates of
                  annotation files: (0, 0) is the middle of the top left pixel. The 106 in the
                  'migu' order, the 68 in iBUG's; left means left in the picture
    attributes -- WIDER's blur, expression, illumination, invalid, occlusion, pose
    """

    box: np.ndarray
    points: dict
    attributes: tuple

    @property
    def valid(self):
        return not self.attributes[3]


@dataclass
class _Person:
    head: Head
    style: object
    turned: np.ndarray  # (3, 3) rotation
    angles: tuple  # yaw, pitch, roll
    points: np.ndarray  # (106, 2) picture coordinates
    box: np.ndarray  # (4,)
    centre: np.ndarray  # (2,) of the head
    unit: float


def _pose(rng):
    """Yaw, pitch and roll in degrees: mostly small."""
    yaw = rng.normal(0, 14) if rng.random() < 0.65 else rng.uniform(-60, 60)
    roll = rng.normal(0, 8) if rng.random() < 0.9 else rng.uniform(-45, 45)
    return (*np.clip((yaw, rng.normal(0, 8)), (-60, -25), (60, 25)), float(np.clip(roll, -45, 45)))


def _head(rng, size):
    hat = rng.choice(list(HATS)) if rng.random() < 0.16 else None
    return Head(random_shape(rng), rng, rng.choice(list(HAIR)), hat, size)


def _place(rng, kind, height, width):
    """People for a picture, those in front last."""
    _, fewest, most, smallest, largest = KINDS[kind]
    room = min(height, width)
    largest = min(largest, 0.62 * room)
    middle = np.exp(rng.uniform(np.log(smallest), np.log(largest))) if most else 0
    people = []
    for _ in range(int(rng.integers(fewest, most + 1))):
        size = float(np.clip(middle * np.exp(rng.normal(0, 0.22)), 10, 0.68 * room))
        head, style, angles = _head(rng, size), random_appearance(rng), _pose(rng)
        turned = rotation(*angles)
        points, box = head.seen(turned)
        unit = size / (box[3] - box[1])
        points, box = points * unit, box * unit
        space = np.array((width, height)) - (box[2:] - box[:2])
        overlap = 0.3 if rng.random() < 0.15 else 0.0
        for _ in range(40):
            centre = rng.uniform(0.02, 0.98, 2) * space * (1, 0.95) - box[:2]
            if all(_overlap(box + np.tile(centre, 2), other.box) <= overlap for other in people):
                people.append(
                    _Person(
                        head,
                        style,
                        turned,
                        angles,
                        points + centre,
                        box + np.tile(centre, 2),
                        centre,
                        unit,
                    )
                )
                break
    return sorted(people, key=lambda person: person.box[3])


def _overlap(box, other):
    """Share of the smaller of two faces that the other's head, with its hair, may cover."""
    a, b = (np.array((f[0], f[1] - 0.4 * (f[3] - f[1]), f[2], f[3])) for f in (box, other))
    grow = 0.12 * (a[2] - a[0] + b[2] - b[0])
    sides = np.minimum(a[2:], b[2:]) - np.maximum(a[:2], b[:2]) + (grow, 0)
    areas = [np.prod(f[2:] - f[:2]) for f in (a, b)]
    return float(np.prod(np.maximum(sides, 0)) / min(areas))


def _blend(image, owner, sprite, number):
    """Put a sprite on the picture; `owner` (H, W) remembers whose face each pixel shows."""
    rows = slice(sprite.y0, sprite.y0 + sprite.opacity.shape[0])
    columns = slice(sprite.x0, sprite.x0 + sprite.opacity.shape[1])
    part = image[rows, columns]
    part[:] = np.clip(part * thrice(1 - sprite.opacity) + sprite.colour + 0.5, 0, 255)
    owner[rows, columns][sprite.opacity > 0.5] = 0
    owner[rows, columns][sprite.face > 0.5] = number


def _draw_person(rng, image, owner, head, style, turned, centre, unit, number):
    """Draw a person; returns the number of pixels of the face."""
    neck = centre + unit * (np.array((0, 2.0, -0.3)) @ turned.T)[:2]
    body = scene.clothes(rng, image, neck, unit)
    cv2.fillPoly(owner, [np.round(body).astype(np.int32)], 0)
    sprite = render(head, style, turned, centre, unit, image.shape[:2])
    if sprite is None:
        return 0
    _blend(image, owner, sprite, number)
    return int((sprite.face > 0.5).sum())


def _hide(rng, image, owner, person):
    """Hold something before a part of a face."""
    size = person.box[2:] - person.box[:2]
    radius = 0.3 * rng.uniform(0.7, 1.25) * size[1]
    way = rng.uniform(-0.15, 1.15) * np.pi  # mostly from below
    x, y = 0.5 * (person.box[:2] + person.box[2:]) + 0.5 * size * (np.cos(way), np.sin(way))
    rows, columns = (slice(max(0, int(c - 2.5 * radius)), int(c + 2.5 * radius)) for c in (y, x))
    before = image[rows, columns].copy()
    scene.cover(rng, image, x, y, radius, person.style.skin)
    owner[rows, columns][(image[rows, columns] != before).any(axis=2)] = 0


def draw_picture(seed, index):
    """Picture `index` of the sample set of `seed`: (H, W, 3) uint8 BGR and its DrawnFaces."""
    rng = np.random.default_rng([seed, index])
    kind = rng.choice(list(KINDS), p=[row[0] for row in KINDS.values()])
    height, width = (int(side) for side in rng.integers(SIDES[0], SIDES[1] + 1, 2))
    image = scene.background(rng, height, width)
    owner = np.zeros((height, width), np.int16)
    nobody = kind == "nobody"
    for _ in range(int(rng.integers(4, 16) if nobody else rng.integers(0, 6))):
        x, y = rng.uniform(0, 1, 2) * (width, height)
        scene.thing(rng, image, x, y, np.exp(rng.uniform(np.log(8), np.log(90))))
    for _ in range(int(rng.integers(0, 4) if nobody else rng.integers(0, 8) == 0)):
        size = np.exp(rng.uniform(np.log(20), np.log(150)))  # somebody seen from behind
        centre = rng.uniform(0.1, 0.9, 2) * (width, height)
        style = random_appearance(rng)
        style.glasses = ""
        _draw_person(
            rng,
            image,
            owner,
            _head(rng, size),
            style,
            rotation(rng.uniform(150, 210), rng.normal(0, 6), rng.normal(0, 8)),
            centre,
            size / 2.6,
            0,
        )
    people = _place(rng, kind, height, width)
    whole = []
    for number, person in enumerate(people, 1):
        whole.append(
            _draw_person(
                rng,
                image,
                owner,
                person.head,
                person.style,
                person.turned,
                person.centre,
                person.unit,
                number,
            )
        )
        if person.unit > 6 and rng.random() < 0.09:
            _hide(rng, image, owner, person)
    smallest = min((person.box[3] - person.box[1] for person in people), default=60)
    image, blur, illumination = scene.camera(rng, image, smallest)
    seen = np.bincount(owner.ravel(), minlength=len(people) + 1)[1:] / np.maximum(whole, 1)
    faces = []
    for person, share in zip(people, seen):
        covered = person.style.mask is not None or person.style.glasses == "dark"
        yaw, pitch, roll = np.abs(person.angles)
        points = (person.points - 0.5).astype(np.float32)
        faces.append(
            DrawnFace(
                person.box.astype(np.float32),
                {n: points[SUBSETS[n]] for n in FACE_SCHEMES},
                (
                    blur,
                    int(person.head.shape.mouth_open > 0.6),
                    illumination,
                    int(share < HIDDEN),
                    2 if share < 0.7 else int(share < 0.95 or covered),
                    int(yaw > 35 or pitch > 20 or roll > 25),
                ),
            )
        )
    return image, faces

"""Pictures of faces that are five soft dots, which can be found again by their colours."""

import cv2
import numpy as np

from facelet import picture as pictures
from prepare_data.points import sets as points

FACE = np.array([[-24, -22], [24, -22], [0, 2], [-18, 24], [18, 24]], float)  # about its mean
COLOURS = np.array([[255, 0, 0], [0, 255, 0], [0, 0, 255], [255, 255, 0], [0, 255, 255]])


def dotted(places, width=400, height=320, ground=0, radius=5):
    """A picture with a soft dot, each of its colour, at each of the points (5, 2)."""
    y, x = np.mgrid[:height, :width]
    scene = np.full((height, width, 3), ground, float)
    for (px, py), colour in zip(places, COLOURS):
        scene += np.exp(-((x - px) ** 2 + (y - py) ** 2) / (2 * radius**2))[..., None] * colour
    return np.clip(np.round(scene), 0, 255).astype(np.uint8)


def dots(crop):
    """Where the dots are in a crop, in pixels with (0, 0) the centre of the first: (5, 2)."""
    found = np.full((5, 2), np.nan)
    bright = np.maximum(crop.max(axis=2).astype(float) - 40, 0)
    count, parts = cv2.connectedComponents((bright > 0).astype(np.uint8))
    y, x = np.mgrid[: len(crop), : len(crop[0])]
    for part in range(1, count):
        weight = np.where(parts == part, bright, 0)
        colour = (crop * weight[..., None]).sum(axis=(0, 1))
        which = np.argmax((COLOURS @ colour) / np.linalg.norm(COLOURS, axis=1))
        assert np.isnan(found[which]).all()
        found[which] = (x * weight).sum() / weight.sum(), (y * weight).sum() / weight.sum()
    return found


def point_set(folder, faces):
    """A PointSet of faces, (name, picture, its file's bytes or None, box x y w h, points) each."""
    (folder / "images").mkdir(parents=True)
    lines = []
    for name, picture, box, places in faces:
        if isinstance(picture, bytes):
            (folder / "images" / name).write_bytes(picture)
        elif picture is not None:
            pictures.write(folder / "images" / name, picture)
        lines.append(" ".join([name, *(f"{v:.4f}" for v in (*box, *np.ravel(places)))]))
    (folder / "list.txt").write_text("\n".join(lines))
    return points.open_set(folder / "list.txt")


def tilted(rng, lean=0.3, scales=(0.9, 1.15), low=(190, 150), high=(210, 170)):
    """Points (5, 2) of a face that leans a little, anywhere in the middle."""
    angle = rng.uniform(-lean, lean)
    turned = FACE @ [[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]]
    return turned * rng.uniform(*scales) + rng.uniform(low, high)

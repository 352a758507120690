"""Pictures of what a cascade finds, misses and takes for a face."""

import cv2
import numpy as np

from core.evaluate import metrics
from core.evaluate.stage_figures import lost_in
from facelet import boxes as geometry
from facelet import draw, isolated
from facelet import picture as pictures

COLUMNS, CELL = 4, 360  # of the grid of pictures
CROP_COLUMNS, CROP_CELL = 8, 180  # ... and of crops
MISSES, FALSE_ALARMS = 16, 24  # crops at most: of each net, of each kind
AROUND = 2.5  # side of a crop, in sides of the box in its middle
BESIDE = 0.1  # IoU with a label from which a false alarm is beside it
SURE, FEW = 0.95, 0.3  # of rough boxes: the least score of a Pnet's; greatest IoU of two
NOT_COUNTED = "gray: labelled, but not counted (smaller, marked invalid, or unsure)"


def detections(measured, path, count, iou):
    """A grid of `count` of the pictures with faces that count, spread over all."""
    with_faces = [one for one in measured.results if measured.counted(one).any()]
    tiles = []
    for one in with_faces[:: max(1, len(with_faces) // count)][:count]:
        picture = isolated.read(one.path)
        scale = CELL / max(picture.shape[:2])
        picture = cv2.resize(picture, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
        _mark(picture, one, measured, _shown(one, measured), iou, 0, scale)
        tiles.append(picture)
    _write(
        path,
        [
            f"green: {_boxes(measured)}",
            "yellow: labelled faces of "
            f"{measured.min_face:g} px and more that are found; red: those that are not; "
            f"{NOT_COUNTED}",
        ],
        draw.grid(tiles, COLUMNS, CELL),
    )


def misses(measured, path, iou):
    """The largest faces that each net lost, with what is found near them in the end."""
    by_face, overlap, places = measured.faces()
    lost, parts = lost_in(overlap, iou), []
    for i, stage in enumerate(measured.nets):
        gone = np.flatnonzero(lost == i)
        largest = gone[np.argsort(-by_face[gone], kind="stable")][:MISSES]
        tiles = [
            _crop(
                *places[k],
                measured,
                iou,
                draw.RED,
                f"{by_face[k]:.0f} px, IoU {_floored(overlap[i, k])}",
            )
            for k in largest
        ]
        parts.append(
            _titled(
                f"lost in the {stage.capitalize()}: {len(gone):,} of {len(lost):,} faces",
                "largest",
                gone,
                tiles,
            )
        )
    _write(
        path,
        [
            f"thick red: a labelled face that is not found; its {measured.side} side, and the IoU "
            f"of the best box after that net, where {iou:g} was needed",
            f"green: {_boxes(measured)}; yellow and thin red: other labelled faces, found or not",
            NOT_COUNTED,
        ],
        np.vstack(parts),
    )


def false_alarms(measured, path, iou):
    """The best-scored of the boxes shown that are wrong: where no label is, and beside one."""
    kinds, count = {"where no label is": [], "beside a label, or twice on one": []}, 0
    for one in measured.results:
        shown = _shown(one, measured)
        outcome, _ = metrics.matches(
            one.boxes[shown],
            one.scores[shown],
            one.faces,
            one.neither,
            [iou],
            measured.min_face,
            measured.side,
        )
        wrong = shown[outcome[0] == metrics.FALSE]
        labels = np.concatenate([one.faces, one.neither])
        near = geometry.iou(one.boxes[wrong], labels).max(axis=1, initial=0)
        for k, overlap in zip(wrong, near):
            kind = list(kinds)[int(overlap >= BESIDE)]
            kinds[kind].append((one.scores[k], overlap, one, k))
        count += len(shown)
    parts = []
    for kind, wrong in kinds.items():
        best = sorted(wrong, key=lambda entry: -entry[0])[:FALSE_ALARMS]
        tiles = [
            _crop(
                one,
                one.boxes[k],
                measured,
                iou,
                draw.GREEN,
                f"{score:.3f}" + (f", IoU {_floored(overlap)}" if overlap >= BESIDE else ""),
            )
            for score, overlap, one, k in best
        ]
        parts.append(
            _titled(f"{kind}: {len(wrong):,} of {count:,} boxes", "best-scored", wrong, tiles)
        )
    _write(
        path,
        [
            "thick green: a false alarm, with its score, and its IoU with a label where "
            f"that is {BESIDE:g} or more; thin green: other boxes",
            f"boxes are {_boxes(measured)}; yellow and red: labelled faces, found or not",
            NOT_COUNTED,
        ],
        np.vstack(parts),
    )


def _floored(iou):
    """Text that doesn't look like enough where it is not."""
    return f"{np.floor(100 * iou) / 100:.2f}"


def _lowest(measured):
    """Scores that boxes are shown from. A Pnet by itself is generous."""
    return max(measured.thresholds[-1], SURE if len(measured.nets) == 1 else 0)


def _shown(one, measured):
    """Indices of the boxes shown, best first. Nets before an Onet give many for a face."""
    shown = np.flatnonzero(one.scores > _lowest(measured))
    if len(measured.nets) < 3:
        shown = shown[geometry.nms(one.boxes[shown], one.scores[shown], FEW)]
    return shown


def _boxes(measured):
    """What _shown() gives, in words."""
    return f"what is found with scores over {_lowest(measured):g}" + (
        ", overlaps left out" if len(measured.nets) < 3 else ""
    )


def _mark(picture, one, measured, shown, iou, corner, scale):
    """Draw labelled faces, and the boxes that are shown (indices), on a part of a picture."""
    counted, found = measured.counted(one), one.overlap[-1] >= iou
    for boxes, color in (
        (np.concatenate([one.faces[~counted], one.neither]), draw.GRAY),
        (one.faces[counted & found], draw.YELLOW),
        (one.faces[counted & ~found], draw.RED),
    ):
        draw.boxes(picture, (boxes - corner) * scale, color)
    draw.boxes(picture, (one.boxes[shown] - corner) * scale, draw.GREEN, 1, one.scores[shown])


def _crop(one, box, measured, iou, color, words):
    """What is around a box, the box thick, words below."""
    middle, side = (
        (box[:2] + box[2:]) / 2,
        max(2, round(AROUND * float(metrics.sides(box[None])[0]))),
    )
    corner = np.round(middle - side / 2)
    square = np.concatenate([corner, corner + side])
    crop, scale = pictures.crop(isolated.read(one.path), square, side), CROP_CELL / side
    crop = cv2.resize(
        crop,
        (CROP_CELL, CROP_CELL),
        interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR,
    )
    corner = np.tile(corner, 2)
    _mark(crop, one, measured, _shown(one, measured), iou, corner, scale)
    draw.boxes(crop, (box[None] - corner) * scale, color, 3)
    draw.text(crop, words, 4, CROP_CELL - 6)
    cv2.rectangle(crop, (0, 0), (CROP_CELL - 1, CROP_CELL - 1), draw.BACKGROUND, 2)
    return crop


def _titled(title, which, every, tiles):
    """Crops below a title that tells how many there are of how many."""
    if len(tiles) < len(every):
        title += f"; the {which} {len(tiles)}"
    crops = (
        draw.grid(tiles, CROP_COLUMNS, CROP_CELL)
        if tiles
        else np.zeros((0, CROP_COLUMNS * CROP_CELL, 3), np.uint8)
    )
    return draw.headed([title], crops)


def _write(path, legend, picture):
    pictures.write(path, draw.headed(legend, picture))

"""The sample set: pictures drawn by the program, to try the toolkit and to test it without any
data. Backgrounds, people alone, in groups and in crowds, things that are no faces; with exact
boxes and 5, 68 and 106 points, in WIDER's layout and in the landmark lists' formats.

    python -m prepare_data.drawn --out DIR [--count 500] [--seed 0]

Picture i of seed s depends on s and i alone (prepare_data.drawn.picture): the number of processes
changes no byte.
"""

from pathlib import Path

import cv2
import numpy as np

from core.base import parallel
from facelet.console import Problem, Progress
from facelet.files import read_lines, whole_folder
from facelet.picture import read, write
from prepare_data.drawn.picture import FACE_SCHEMES, draw_picture

EVENTS = "0--Portrait", "1--Group", "2--Crowd", "3--No_face"
LANDMARK_SIZE = 40  # smaller faces are not in the landmark lists
CHUNK = 8  # pictures a process draws between two reports
MOSAIC = 5, 4, 360  # columns, rows, pixels per picture


def _draw_files(task):
    """Draw and write some pictures: a list of (split, path relative to folder, faces)."""
    folder, seed, indexes, val_fraction = task
    return [_draw_file(Path(folder), seed, index, val_fraction) for index in indexes]


def _draw_file(folder, seed, index, val_fraction):
    parallel.at(f"picture {index} of {folder}")
    image, faces = draw_picture(seed, index)
    event = EVENTS[3 if not faces else 0 if len(faces) == 1 else 1 if len(faces) < 10 else 2]
    split = "val" if int((index + 1) * val_fraction) > int(index * val_fraction) else "train"
    path = f"WIDER_{split}/images/{event}/{event.replace('--', '_')}_{index:05d}.jpg"
    quality = int(np.random.default_rng([seed, index, 1]).integers(55, 97))
    (folder / path).parent.mkdir(parents=True, exist_ok=True)
    _, data = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, quality])
    (folder / path).write_bytes(data.tobytes())  # cv2.imwrite says nothing of a full disk
    return split, path, faces


def _gt_lines(path, faces):
    """WIDER's lines for one picture; the path there is relative to the images folder."""
    lines = ["/".join(path.split("/")[-2:]), str(len(faces))]
    for face in faces:
        x1, y1, x2, y2 = np.round(face.box).astype(int)
        lines.append(" ".join(map(str, (x1, y1, x2 - x1, y2 - y1, *face.attributes))))
    return lines if faces else lines + ["0 " * 9 + "0"]


def _numbers(values):
    return " ".join(f"{value:.2f}" for value in np.ravel(values))


def _write_lists(folder, split, pictures):
    """The ground truth and the landmark lists of one split."""
    lines = [line for path, faces in pictures for line in _gt_lines(path, faces)]
    target = folder / "wider_face_split" / f"wider_face_{split}_bbx_gt.txt"
    target.write_text("".join(f"{line}\n" for line in lines))
    for scheme in FACE_SCHEMES:
        with open(folder / "landmarks" / f"{split}_{scheme}.txt", "w", encoding="utf-8") as file:
            for path, faces in pictures:
                for face in faces:
                    size = face.box[2:] - face.box[:2]
                    if not face.valid or size.max() < LANDMARK_SIZE:
                        continue
                    box = _numbers((*face.box[:2], *size)) + " " if scheme == 5 else ""
                    file.write(f"{path} {box}{_numbers(face.points[scheme])}\n")


def _mosaic(folder, pictures):
    """An overview of some pictures (path, faces) with boxes and points."""
    columns, rows, cell = MOSAIC
    sheet = np.full((rows * cell, columns * cell, 3), 40, np.uint8)
    chosen = np.unique(np.linspace(0, len(pictures) - 1, columns * rows).round().astype(int))
    for place, (path, faces) in enumerate(pictures[i] for i in chosen):
        image = read(folder / path)
        scale = cell / max(image.shape[:2])
        image = cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
        for face in faces:
            box = np.round(face.box * scale * 16 - 8).astype(int)
            colour = (60, 220, 60) if face.valid else (60, 60, 220)
            cv2.rectangle(
                image, tuple(map(int, box[:2])), tuple(map(int, box[2:])), colour, 1, cv2.LINE_AA, 4
            )
            if (face.box[2:] - face.box[:2]).max() * scale >= LANDMARK_SIZE:
                points = np.round((face.points[106] + 0.5) * scale * 16 - 8).astype(int)
                for x, y in points.tolist():
                    cv2.circle(image, (x, y), 14, (0, 255, 255), -1, cv2.LINE_AA, 4)
        top, left = place // columns * cell, place % columns * cell
        sheet[top : top + image.shape[0], left : left + image.shape[1]] = image[:cell, :cell]
    write(folder / "mosaic.png", sheet)


def draw_sample_set(out, count=500, val_fraction=0.2, seed=0, workers=None):
    """Draw `count` pictures into the new folder `out`, a share of them for validation.

    workers -- processes; None takes one per core. Returns {"train": {"pictures", "faces",
    "landmark_faces"}, "val": ...}.
    """
    if count < 1 or seed < 0 or not 0 <= val_fraction <= 1:
        raise Problem(
            "the sample set needs at least one picture, a share between 0 and 1, and a seed from 0"
        )
    workers = workers or parallel.cores()
    with whole_folder(out) as folder:
        for name in ("WIDER_train/images", "WIDER_val/images", "wider_face_split", "landmarks"):
            (folder / name).mkdir(parents=True)
        tasks = [
            (str(folder), seed, range(start, min(start + CHUNK, count)), val_fraction)
            for start in range(0, count, CHUNK)
        ]
        progress, done = Progress(count, "pictures"), []
        for chunk in parallel.in_order(_draw_files, tasks, min(workers, len(tasks))):
            done += chunk
            progress.step(len(chunk))
        progress.close()
        summary = {}
        for split in ("train", "val"):
            pictures = [(path, faces) for where, path, faces in done if where == split]
            _write_lists(folder, split, pictures)
            landmarks = len(read_lines(folder / "landmarks" / f"{split}_5.txt"))
            summary[split] = {
                "pictures": len(pictures),
                "landmark_faces": landmarks,
                "faces": sum(len(faces) for _, faces in pictures),
            }
        _mosaic(folder, [(path, faces) for _, path, faces in done])
    return summary

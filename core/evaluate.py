"""Recall of a Pnet's proposals on annotated pictures.

    python -m core.evaluate --pnet RUN --data DIR --split val --out FOLDER

A face counts as found when a proposal, its box moved by the net's offsets and after non-maximum
suppression, has IoU evaluate.iou with it. Pictures are taken at their own size. Faces smaller than
evaluate.min_face (larger side) and boxes marked invalid are left out.
"""
import argparse
import time
from pathlib import Path

import cv2
import numpy as np

from config import config, override
from core import boxes as geometry
from core import cascade, draw, metrics
from core import picture as pictures
from core.console import Problem, Progress, program
from core.detector import open_stage
from core.files import write_json
from prepare_data import wider

SIZE_EDGES = (20, 40, 80, 160, float("inf"))  # of the table by face size, px
DRAWN_COLUMNS, DRAWN_CELL = 4, 360
DRAWN_SCORE, DRAWN_NMS = 0.95, 0.3  # pictures show sure proposals, once a face


def recall_of_proposals(net, face_set, settings):
    """Run a Pnet, opened by core.detector.open_stage, over a FaceSet.

    Returns figures (dict) and, per usable picture, (path, faces, boxes, scores).
    """
    sides, hits, details, skipped = [], [], [], []
    progress = Progress(len(face_set.annotations), "pictures")
    seconds, proposals = 0.0, 0
    for annotation in face_set.annotations:
        progress.step()
        path = face_set.images / annotation.path
        try:
            picture = pictures.read(path)
        except pictures.BrokenPicture as error:
            skipped.append(str(error))
            continue
        start = time.perf_counter()
        boxes, scores = cascade.propose(picture, net, net.facts["cell"], net.facts["stride"],
                                        settings.detect)
        seconds += time.perf_counter() - start
        proposals += len(boxes)
        faces = annotation.boxes
        side = np.maximum(faces[:, 2] - faces[:, 0], faces[:, 3] - faces[:, 1])
        counted = side >= settings.evaluate.min_face
        sides.append(side[counted])
        hits.append(metrics.found(boxes, faces[counted], settings.evaluate.iou))
        details.append((path, faces[counted], boxes, scores))
    progress.close()
    if not details:
        raise Problem(f"not one picture could be read; the first: {skipped[0]}")
    sides, hits = np.concatenate(sides), np.concatenate(hits)
    if not len(sides):
        raise Problem(f"{face_set.truth} has no face of {settings.evaluate.min_face} px or more "
                      "in these pictures")
    by_size = []
    for low, high in zip(SIZE_EDGES, SIZE_EDGES[1:]):
        inside = (sides >= low) & (sides < high)
        if inside.any():
            by_size.append({"from": low, "to": None if high == float("inf") else high,
                            "faces": int(inside.sum()), "recall": float(hits[inside].mean())})
    figures = {"net": net.facts["net"], "pictures": len(details), "skipped": skipped,
               "faces": len(sides), "recall": float(hits.mean()),
               "iou": settings.evaluate.iou, "min_face": settings.evaluate.min_face,
               "threshold": settings.detect.thresholds[0],
               "proposals_per_picture": proposals / len(details),
               "ms_per_picture": 1000 * seconds / len(details), "by_size": by_size}
    return figures, details


def show(figures):
    """The figures as lines."""
    print(f"{figures['net']}: recall of proposals {figures['recall']:.4f} at IoU {figures['iou']} "
          f"over {figures['faces']:,} faces of {figures['min_face']} px and more in "
          f"{figures['pictures']:,} pictures; {figures['proposals_per_picture']:.1f} proposals a "
          f"picture with scores over {figures['threshold']}, {figures['ms_per_picture']:.0f} ms")
    for row in figures["by_size"]:
        sizes = f"{row['from']} to {row['to']} px" if row["to"] else f"over {row['from']} px"
        print(f"  {sizes:<14}{row['faces']:>7,} faces  recall {row['recall']:.4f}")
    for reason in figures["skipped"][:10]:
        print(f"  skipped {reason}")


def draw_details(details, path, count, iou):
    """A grid of `count` pictures spread over the details: sure proposals in green with their
    scores, labelled faces in yellow where a proposal found them and red where none did."""
    with_faces = [d for d in details if len(d[1])] or details
    chosen = with_faces[::max(1, len(with_faces) // count)][:count]
    drawn = []
    for picture_path, faces, boxes, scores in chosen:
        picture = pictures.read(picture_path)
        scale = DRAWN_CELL / max(picture.shape[:2])
        picture = cv2.resize(picture, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
        hit = metrics.found(boxes, faces, iou)
        draw.boxes(picture, faces[hit] * scale, draw.YELLOW)
        draw.boxes(picture, faces[~hit] * scale, draw.RED, 2)
        sure = scores >= DRAWN_SCORE
        kept = geometry.nms(boxes[sure], scores[sure], DRAWN_NMS)
        draw.boxes(picture, boxes[sure][kept] * scale, draw.GREEN, 1, scores[sure][kept])
        drawn.append(picture)
    pictures.write(path, draw.grid(drawn, DRAWN_COLUMNS, DRAWN_CELL))
    return len(drawn)


def evaluate(pnet, face_set, out, settings, drawn=20):
    """Recall of a Pnet's proposals over a FaceSet; prints it, writes out/recall.json and
    out/detections.png. Returns the figures."""
    out = Path(out)
    figures, details = recall_of_proposals(open_stage("pnet", pnet), face_set, settings)
    show(figures)
    out.mkdir(parents=True, exist_ok=True)
    write_json(out / "recall.json", figures)
    shown = draw_details(details, out / "detections.png", drawn, settings.evaluate.iou)
    print(f"{out / 'detections.png'}: pictures drawn: {shown}; in green proposals over "
          f"{DRAWN_SCORE}, those that overlap left out; labelled faces in yellow where any "
          "proposal found them, in red where none did")
    return figures


def main(argv):
    parser = argparse.ArgumentParser(
        prog="python -m core.evaluate", description="Recall of a Pnet's proposals.",
        epilog="Settings of the sections detect and evaluate are overridden as section.key=value; "
               "config.py explains each.")
    parser.add_argument("--pnet", required=True, help="a run's folder or a .params file")
    parser.add_argument("--data", required=True, help="a set laid out like WIDER FACE")
    parser.add_argument("--split", default="val", choices=("train", "val"))
    parser.add_argument("--out", required=True, help="folder for figures and pictures")
    parser.add_argument("--drawn", type=int, default=20, help="pictures to draw")
    parser.add_argument("settings", nargs="*", metavar="section.key=value")
    args = parser.parse_args(argv)
    if args.drawn < 1:
        raise Problem(f"--drawn {args.drawn}: it must be at least 1")
    evaluate(args.pnet, wider.open_set(args.data, args.split), args.out,
             override(config, args.settings), args.drawn)


if __name__ == "__main__":
    program(main)

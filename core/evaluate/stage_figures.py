"""What every net of a cascade lets through, measured: the numbers of core.evaluate.stages."""

import time
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

import numpy as np

from core.evaluate import metrics
from core.evaluate.run_detector import CASCADE, floored
from facelet import boxes as geometry
from facelet import isolated
from facelet import picture as pictures
from facelet.console import Problem
from facelet.files import read_json
from facelet.nets import STAGES
from prepare_data import wider

MOST_SOURCES = 20  # of pictures, by first folder, that have rows of their own
SIZE_EDGES = (20, 40, 80, 160)  # of the figures by face size, px


@dataclass(frozen=True)
class PictureResult:
    """A picture and what was found in it.

    path -- of the picture
    faces -- (M, 4), labelled, of any size; neither -- (K, 4), ignored and unsure boxes
    overlap -- (S, M): greatest IoU with a face that a box over its net's threshold has, by net
    boxes, scores -- (N, 4), (N,): what the last net gives over the floor, best first
    attributes -- (M, 6) of the faces (prepare_data.wider.ATTRIBUTES)
    source -- first folder of the picture's path in its list
    """

    path: Path
    faces: np.ndarray
    neither: np.ndarray
    overlap: np.ndarray
    boxes: np.ndarray
    scores: np.ndarray
    attributes: np.ndarray
    source: str


@dataclass(frozen=True)
class Measured:
    """Pictures run through a cascade of S nets.

    nets -- names of the stages, (S,); thresholds -- (S,); floor -- the last net's scores go down to
    results -- a PictureResult for each picture; skipped -- why others could not be read; outside --
        faces outside of their pictures, which count neither way, a line each
    min_face -- of faces that count, px; side -- which one is a face's size, of metrics.SIDES
    boxes -- (S,), over the nets' thresholds; seconds -- (S,), and that of a net for landmarks after
        them, of processor time, which a busy machine disturbs least: sums over the pictures
    """

    nets: list
    thresholds: list
    floor: float
    results: list
    skipped: list
    min_face: float
    side: str
    boxes: np.ndarray
    seconds: np.ndarray
    outside: list = field(default_factory=list)

    def counted(self, one):
        """(M,): which faces of a PictureResult count."""
        return metrics.sides(one.faces, self.side) >= self.min_face

    def faces(self):
        """Of the F faces that count: sizes (F,), overlap (S, F) as in PictureResult, and
        where they are, [(PictureResult, box (4,)), ...]."""
        places, overlap = [], []
        for one in self.results:
            counted = np.flatnonzero(self.counted(one))
            places += [(one, one.faces[i]) for i in counted]
            overlap.append(one.overlap[:, counted])
        return (
            metrics.sides(np.reshape([box for _, box in places], (-1, 4)), self.side),
            np.concatenate(overlap, axis=1),
            places,
        )

    def kinds(self):
        """The faces that count by what they are like: {name: mask (F,)}. One row for each value
        of an attribute of which there are several, and for each source, if there are several and
        not as many as there may be events."""
        counted = [self.counted(one) for one in self.results]
        attributes = np.concatenate(
            [one.attributes[mask] for one, mask in zip(self.results, counted)]
        )
        sources = np.repeat(
            [one.source for one in self.results], [int(mask.sum()) for mask in counted]
        )
        found = {}
        for column, (name, words) in enumerate(wider.ATTRIBUTES.items()):
            values = np.unique(attributes[:, column])
            if len(values) > 1:
                for value in values.tolist():
                    word = words[value] if value < len(words) else f"{name} {value}"
                    found[word] = attributes[:, column] == value
        names = np.unique(sources)
        if 1 < len(names) <= MOST_SOURCES:
            found.update({str(name): sources == name for name in names})
        return found

    def face_scores(self, iou):
        """(F,): best score of a box of the last net with this IoU with a face; -1 without one."""
        best = []
        for one in self.results:
            near = geometry.iou(one.faces[self.counted(one)], one.boxes) >= iou
            best.append(np.where(near, one.scores, -1).max(axis=1, initial=-1))
        return np.concatenate(best)

    def curve(self, iou, min_face):
        """The core.evaluate.metrics.Curve of the last net's boxes down to the floor."""
        return metrics.precision_recall(
            {i: (one.boxes, one.scores) for i, one in enumerate(self.results)},
            {i: (one.faces, one.neither) for i, one in enumerate(self.results)},
            [iou],
            min_face,
            side=self.side,
        )[0]


def measure(detector, face_set, settings, progress):
    """Run a detector over a FaceSet: Measured.

    detector -- a core.detect.FaceDetector; settings -- the whole config, of which `evaluate`
    counts; the detector has its own of detect; progress -- a facelet.console.Progress

    Raises Problem: no picture that can be read, no face that counts.
    """
    nets = [stage for stage in CASCADE if stage in detector.nets]
    thresholds = list(detector.settings.thresholds)[: len(nets)]
    last, detector = thresholds[-1], floored(detector, settings)
    results, skipped, outside, boxes, seconds = [], [], [], np.zeros(len(nets)), 0
    for annotation in face_set.annotations:
        progress.step()
        path = face_set.images / annotation.path
        try:
            picture = isolated.read(path)
        except pictures.BrokenPicture as error:
            skipped.append(str(error))
            continue
        annotation, reasons = wider.in_picture(annotation, *picture.shape[1::-1])
        outside += reasons
        found, spent = _run(detector, nets, picture, last)
        seconds += np.array(spent)
        kept = [*(faces.boxes for faces in found[:-1]), found[-1].boxes[found[-1].scores > last]]
        boxes += [len(one) for one in kept]
        overlap = [geometry.iou(annotation.boxes, one).max(axis=1, initial=0) for one in kept]
        results.append(
            PictureResult(
                path,
                annotation.boxes,
                np.concatenate([annotation.ignored, annotation.unsure]),
                np.array(overlap),
                found[-1].boxes,
                found[-1].scores,
                annotation.attributes,
                PurePosixPath(annotation.path).parts[0],
            )
        )
    if not results:
        raise Problem(
            f"not one picture could be read; the first: {skipped[0]}"
            if skipped
            else f"{face_set.truth} lists no pictures"
        )
    floor = detector.settings.thresholds[len(nets) - 1]
    rule = settings.evaluate.min_face, settings.evaluate.side
    measured = Measured(nets, thresholds, floor, results, skipped, *rule, boxes, seconds, outside)
    if not len(measured.faces()[0]):
        raise Problem(
            f"{face_set.truth} has no face of {settings.evaluate.min_face} px or more in "
            "these pictures: evaluate.min_face may be smaller"
        )
    return measured


def _run(detector, nets, picture, last):
    """The Faces after each net, and the seconds that each took."""
    found, seconds, stages = [], [], detector.stages(picture)
    for _ in nets:
        start = time.process_time()
        found.append(next(stages)[1])
        seconds.append(time.process_time() - start)
    if "landmark" in detector.nets:  # of those faces alone that are over the threshold
        start = time.process_time()
        detector.with_landmarks(picture, found[-1][found[-1].scores > last])
        seconds.append(time.process_time() - start)
    return found, seconds


def lost_in(overlap, iou):
    """By face, the number of the net that lost it, S if none did: (S, F) -> (F,). A face that no
    box has in the end was lost in the net after which no box has had it any more."""
    had = np.concatenate([np.ones((1, overlap.shape[1]), bool), overlap >= iou])
    return len(had) - 1 - had[::-1].argmax(axis=0)


def groups(by_face, min_face):
    """Faces by their sizes (F,): [(from, to, mask (F,)), ...], first all, then by size,
    those sizes left out that no face has; `to` is None without end."""
    edges = [min_face, *(edge for edge in SIZE_EDGES if edge > min_face), float("inf")]
    spans = [(edges[0], edges[-1]), *(zip(edges, edges[1:]) if len(edges) > 2 else ())]
    found = [(low, high, (by_face >= low) & (by_face < high)) for low, high in spans]
    return [
        (low, None if high == float("inf") else high, mask)
        for low, high, mask in found
        if mask.any()
    ]


NUMBER = (int, float)
_STAGE = {"stage": str, "net": str, "threshold": NUMBER, "boxes_per_picture": NUMBER}
SHAPE = {  # of stages.json, as far as others read it: types, {key: shape}, [shape of each]
    **dict.fromkeys(("pictures", "faces"), int),
    **dict.fromkeys(("recall", "iou", "boxes_per_picture", "ms_per_picture"), NUMBER),
    "skipped": [str],
    "rule": {**dict.fromkeys(("min_face", "factor", "counted_from"), NUMBER), "side": str},
    "sizes": [{"from": NUMBER, "to": (*NUMBER, type(None)), "faces": int}],
    "stages": [{**_STAGE, "ms_per_picture": NUMBER, "recall": dict, "lost": [int]}],
    "average_precision": [{"min_face": NUMBER, "value": NUMBER}],
}


def _has_shape(value, shape):
    if isinstance(shape, dict):
        return isinstance(value, dict) and all(
            key in value and _has_shape(value[key], inner) for key, inner in shape.items()
        )
    if isinstance(shape, list):
        return isinstance(value, list) and all(_has_shape(one, shape[0]) for one in value)
    number = isinstance(value, NUMBER) and shape is not dict
    return isinstance(value, shape) and not (number and not abs(value) < 1e300)  # NaN neither


def _are_figures(value):
    if not _has_shape(value, SHAPE) or not value["stages"] or value["faces"] < 1:
        return False
    sizes = len(value["sizes"])
    return all(size["faces"] > 0 for size in value["sizes"]) and all(
        row["stage"] in STAGES.values()
        and len(row["lost"]) == sizes
        and all(
            _has_shape(recall, [NUMBER]) and len(recall) == sizes
            for recall in row["recall"].values()
        )
        for row in value["stages"]
    )


def read(path):
    """The figures() in a stages.json. Raises Problem where they can't be."""
    found = read_json(path)
    if not _are_figures(found):
        raise Problem(
            f"{path} is damaged: remove its folder, and the same command measures once more"
        )
    return found


def figures(measured, detector, settings):
    """The figures of a Measured as stages.json has them, and a core.evaluate.metrics.Curve for each
    of evaluate.sizes.

    Figures by face size are lists in the order of "sizes", of which the first is all faces; those
    by IoU are objects with the IoU as text: stages[0]["recall"]["0.5"][0]. "recall" of all is at
    evaluate.iou, in the end; "lost" is at evaluate.iou too.
    """
    wanted, count = settings.evaluate, len(measured.results)
    by_face, overlap, _ = measured.faces()
    sized = groups(by_face, wanted.min_face)
    lost, milliseconds = lost_in(overlap, wanted.iou), 1000 * measured.seconds / count
    ious = sorted({*wanted.ious, wanted.iou})

    def shares(values):
        return [float(values[mask].mean()) for *_, mask in sized]

    stages = [
        {
            "stage": stage,
            "net": detector.nets[stage].facts["net"],
            "threshold": measured.thresholds[i],
            "boxes_per_picture": measured.boxes[i] / count,
            "ms_per_picture": milliseconds[i],
            "recall": {f"{iou:g}": shares(overlap[i] >= iou) for iou in ious},
            "lost": [int((lost[mask] == i).sum()) for *_, mask in sized],
        }
        for i, stage in enumerate(measured.nets)
    ]
    curves = [measured.curve(wanted.iou, size) for size in wanted.sizes]
    used = detector.settings
    return {
        "pictures": count,
        "skipped": measured.skipped,
        **({"outside": measured.outside} if measured.outside else {}),
        "faces": len(by_face),
        "neither": sum(len(one.neither) for one in measured.results),
        "recall": float((overlap[-1] >= wanted.iou).mean()),
        "iou": wanted.iou,
        "boxes_per_picture": measured.boxes[-1] / count,
        "ms_per_picture": milliseconds.sum(),
        "rule": {
            "min_face": used.min_face,
            "factor": used.factor,
            "nms_scale": used.nms_scale,
            "nms": list(used.nms)[: len(stages)],
            "counted_from": wanted.min_face,
            "side": wanted.side,
            "floor": measured.floor,
        },
        "kinds": [
            {
                "kind": name,
                "faces": int(mask.sum()),
                "recall": float((overlap[-1][mask] >= wanted.iou).mean()),
            }
            for name, mask in measured.kinds().items()
        ],
        "sizes": [{"from": low, "to": high, "faces": int(mask.sum())} for low, high, mask in sized],
        "stages": stages,
        "landmark": {
            "net": detector.nets["landmark"].facts["net"],
            "ms_per_picture": milliseconds[-1],
        }
        if "landmark" in detector.nets
        else None,
        "average_precision": [
            {"min_face": size, "faces": curve.faces, "value": metrics.average_precision(curve)}
            for size, curve in zip(wanted.sizes, curves)
        ],
    }, curves

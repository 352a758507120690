"""The face detector: a cascade of nets on pictures.

    from facelet import FaceDetector
    detector = FaceDetector("Pnet20_v1.onnx", "Rnet_v1.onnx", "Onet_v1.onnx")  # or
    detector = FaceDetector.open("folder/of/nets")  # or, those that come along, open()
    faces = detector.detect("picture.jpg")
    faces.boxes, faces.scores, faces.landmarks

The nets are ONNX models; core.detect has the same detector for checkpoints as well.
"""

import copy
from dataclasses import replace
from numbers import Integral, Real
from pathlib import Path

import numpy as np

from facelet import boxes as geometry
from facelet import cascade, nets, schemes
from facelet import picture as pictures
from facelet.console import Problem
from facelet.faces import Faces
from facelet.settings import Settings

# What a net must give to be a stage, whether it slides over the picture, and its family if only
# one will do.
STAGES = {
    "pnet": ({"cls", "bbox"}, True, "Pnet"),
    "rnet": ({"cls", "bbox"}, False, "Rnet"),
    "onet": ({"cls", "bbox"}, False, "Onet"),
    "landmark": ({"landmark"}, False, None),
}
# What landmark nets are trained on crops of (config.crop.box), in the square around a detector's
# box: its side, and how far its centre is below, in sides. "bounds" goes by the scheme of points.
IN_SQUARE = {"detector": (1, 0), "list": (1, 0), "half": (0.5, 0.02)}


class FaceDetector:
    """Pnet, or Pnet and Rnet, or Pnet, Rnet and Onet, and a net for landmarks after any of them.

    pnet, rnet, onet, landmark -- an ONNX model of core.export each, or a net that is open
        (facelet.nets); cell, stride, size and points come from there. An Onet with a landmark head gives
        points by itself; those of `landmark`, if given, take their place
    min_face -- smallest face looked for, px: the larger, the faster
    factor -- between the scales at which it is looked for
    thresholds -- scores from which Pnet, Rnet and Onet keep a box
    max_faces -- how many to keep, the best; all if None
    points -- how many a face gets, 0 for none: a net that gives as many must be among those above;
        if None, what `landmark` gives, or else the last net before it
    threads -- of the nets; on nets this small a second one costs more than it brings

    Raises Problem for a net that can't be its stage, for values out of range, and for points that
    no net gives.
    """

    def __init__(
        self,
        pnet,
        rnet=None,
        onet=None,
        landmark=None,
        min_face=Settings.min_face,
        factor=Settings.factor,
        thresholds=Settings.thresholds,
        max_faces=None,
        points=None,
        threads=1,
    ):
        self.settings = Settings(min_face, factor, thresholds)
        if max_faces is not None and (not isinstance(max_faces, Integral) or max_faces < 1):
            raise Problem(f"max_faces is {max_faces}: it must be a whole number from 1, or None")
        if not isinstance(threads, Integral) or threads < 1:
            raise Problem(f"threads is {threads}: it must be a whole number from 1")
        if onet is not None and rnet is None:
            raise Problem("an onet needs an rnet before it")
        self.max_faces = max_faces
        given = {"pnet": pnet, "rnet": rnet, "onet": onet, "landmark": landmark}
        self.nets = {
            stage: as_stage(
                stage, nets.open_net(net, threads) if isinstance(net, (str, Path)) else net
            )
            for stage, net in given.items()
            if net is not None
        }
        self.points = points
        if points is not None:
            self._leave_out_other_points()

    @classmethod
    def open(cls, folder=nets.MODELS, **options):
        """The detector whose nets are in a folder, see facelet.nets.in_folder; without one, the
        trained one that comes with the toolkit. `options` are those of the class; they go before
        what the folder says. Raises Problem."""
        paths, settings = nets.in_folder(folder, not_looked_for(options), options.get("points"))
        return cls(**{**settings, **options, **paths})

    def changed(self, **settings):
        """The detector with other values of some of its `settings` (facelet.settings.Settings),
        and the same nets."""
        other = copy.copy(self)
        other.settings = replace(self.settings, **settings)
        return other

    def detect(self, picture, order="BGR"):
        """The Faces in a picture, or a list of them for a list of pictures of any sizes.

        picture -- path, bytes of a file, or an array (see facelet.picture.open_any); order -- of the
            colours in arrays, "BGR" or "RGB"

        Raises facelet.picture.BrokenPicture.
        """
        if isinstance(picture, (list, tuple)):
            return [self.detect(one, order) for one in picture]
        *_, (_, faces) = self.stages(pictures.open_any(picture, order))
        if self.points == 0:
            faces = replace(faces, landmarks=None)
        return faces if self.max_faces is None else faces.chosen(slice(self.max_faces))

    @property
    def scheme(self):
        """Name of the order of the points (facelet.schemes); None where that isn't known, or there are
        none."""
        *_, (stage, net) = self.nets.items()
        gives = stage != "pnet" and self.points != 0 and "landmark" in net.tasks
        return net.facts["scheme"] if gives else None

    def _leave_out_other_points(self):
        """Leave the net "landmark" out if others are asked for. Raises Problem where no net gives
        them."""
        if not isinstance(self.points, Integral) or self.points < 0:
            raise Problem(f"points is {self.points!r}: it must be a whole number from 0, or None")
        gives = {
            stage: net.facts["points"]
            for stage, net in self.nets.items()
            if stage != "pnet" and "landmark" in net.tasks
        }
        if gives.get("landmark") != self.points:
            self.nets.pop("landmark", None)
            if self.points and gives.get(list(self.nets)[-1]) != self.points:
                found = ", ".join(f"the {stage} gives {count}" for stage, count in gives.items())
                raise Problem(
                    f"no net gives {self.points} points ({found or 'nor any others'}): "
                    "name one that does as the landmark"
                )

    def stages(self, picture):
        """Yields (name, Faces) after each stage on a picture uint8 (H, W, 3) BGR: "pnet", then
        those of "rnet", "onet", "landmark" that there are."""
        faces = self._proposals(picture)
        yield "pnet", faces
        for number, stage in enumerate(("rnet", "onet"), 1):
            if stage in self.nets:
                faces = self._refined(picture, faces, self.nets[stage], number)
                yield stage, faces
        if "landmark" in self.nets:
            yield "landmark", self.with_landmarks(picture, faces)

    def _proposals(self, picture):
        net = self.nets["pnet"]
        boxes, scores, windows = cascade.propose(
            picture, net, net.facts["cell"], net.facts["stride"], self.settings
        )
        return Faces(boxes, scores, windows=windows)

    def _refined(self, picture, faces, net, number):
        """What an Rnet (number 1) or Onet (2) makes of boxes."""
        squares = geometry.squares(faces.boxes)
        out = cascade.look(picture, squares, net, net.facts["input"]["size"])
        if out is None:
            return _none(net)
        scores, moved = out["cls"][:, -1], geometry.apply_offsets(squares, out["bbox"])
        kept = np.flatnonzero((scores > self.settings.thresholds[number]) & geometry.whole(moved))
        squares, scores, moved = squares[kept], scores[kept], moved[kept]
        points = _points(squares, out["landmark"][kept]) if "landmark" in out else None
        # An Rnet's boxes are still rough: it is the squares that were looked at which tell whether
        # two are the same. After an Onet, a box within another is a part of its face.
        kept = (
            geometry.nms(squares, scores, self.settings.nms[1])
            if number == 1
            else geometry.nms(moved, scores, self.settings.nms[2], "minimum")
        )
        return Faces(moved, scores, points, squares).chosen(kept)

    def with_landmarks(self, picture, faces):
        """Faces with the points that the net "landmark" finds in a picture as stages() takes it."""
        net = self.nets["landmark"]
        squares = looked_at(faces.boxes, net)
        out = cascade.look(picture, squares, net, net.facts["input"]["size"])
        points = _none(net).landmarks if out is None else _points(squares, out["landmark"])
        return replace(faces, landmarks=points)


def not_looked_for(options):
    """Stages whose nets a folder need not have, going by options of FaceDetector."""
    return [stage for stage in STAGES if options.get(stage) is not None] + ["landmark"] * (
        options.get("points") == 0
    )


def as_stage(stage, net):
    """The net if it can be the stage "pnet", "rnet", "onet" or "landmark". Raises Problem."""
    tasks, slides, family = STAGES[stage]
    if (
        not tasks <= set(net.tasks)
        or bool(net.facts["stride"]) != slides
        or family not in (None, net.facts["family"])
    ):
        kind = "slides over pictures" if net.facts["stride"] else "takes crops"
        raise Problem(
            f"{net.name} can't be the {stage}: it holds {net.facts['net']}, which "
            f"{kind} and gives {', '.join(net.tasks)}"
        )
    if stage == "landmark":
        looked_at(np.zeros((0, 4), np.float32), net)  # says what is wrong with its facts
    return net


def looked_at(boxes, net):
    """The squares (N, 4) float32, whole numbers, that a net for landmarks is shown for a detector's
    boxes (N, 4): those around them, or what it was trained on where its facts say that. Raises
    Problem for facts that can't be."""
    crop = net.facts.get("crop")
    if crop is None:
        return geometry.squares(boxes)
    known, scale = crop.get("box"), crop.get("scale")
    if known not in (*IN_SQUARE, "bounds") or not isinstance(scale, Real) or not 0 < scale < 100:
        raise Problem(
            f"{net.name} says that it was trained on crops of {crop}: that can't be; "
            "train or export it anew"
        )
    scheme = net.facts["scheme"] and schemes.get(net.facts["scheme"])
    side, below = (scheme and scheme.bounds or (1, 0)) if known == "bounds" else IN_SQUARE[known]
    sides = np.max(boxes[:, 2:] - boxes[:, :2], axis=1, keepdims=True)
    centres = (boxes[:, :2] + boxes[:, 2:]) / 2 + sides * np.array([0, below])
    half = sides * (side * scale / 2)
    return geometry.squares(np.concatenate([centres - half, centres + half], axis=1))


def _points(squares, values):
    """Points in the picture, (N, P, 2) float32, of landmark outputs (N, 2 P)."""
    side = (squares[:, 2] - squares[:, 0])[:, None, None]
    # Targets are (point + 0.5 - corner) / side: annotations count from the centre of a pixel.
    return (squares[:, None, :2] + schemes.unpack(values) * side - 0.5).astype(np.float32)


def _none(net):
    landmarks = (
        np.zeros((0, net.facts["points"], 2), np.float32) if "landmark" in net.tasks else None
    )
    return Faces(
        np.zeros((0, 4), np.float32),
        np.zeros(0, np.float32),
        landmarks,
        np.zeros((0, 4), np.float32),
    )

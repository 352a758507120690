"""The face detector: a cascade of nets on pictures.

    from facelet import FaceDetector
    detector = FaceDetector("Pnet20_v1.onnx", "Rnet_v1.onnx", "Onet_v1.onnx")  # or
    detector = FaceDetector.open("folder/of/nets")  # or, with the included nets, open()
    faces = detector.detect("picture.jpg")
    faces.boxes, faces.scores, faces.landmarks

The nets are ONNX models; core.detect has the same detector for checkpoints as well.
"""

import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from numbers import Integral
from pathlib import Path
from typing import Any, Callable, Literal, Optional, TypeVar, Union, cast, overload

import numpy as np

from facelet import boxes as geometry
from facelet import cascade, nets, schemes
from facelet import picture as pictures
from facelet.arrays import Array, Floats, Pixels
from facelet.console import Problem
from facelet.engine import KINDS, TOO_LARGE, Engine, EngineError, engine_for
from facelet.faces import Faces
from facelet.files import AnyPath
from facelet.nets import Net
from facelet.picture import BrokenPicture, Picture
from facelet.settings import MOST_THREADS, Settings

# What a net must give to be a stage, whether it slides over the picture, and its family if only
# one will do.
STAGES: dict[str, tuple[set[str], bool, Optional[str]]] = {
    "pnet": ({"cls", "bbox"}, True, "Pnet"),
    "rnet": ({"cls", "bbox"}, False, "Rnet"),
    "onet": ({"cls", "bbox"}, False, "Onet"),
    "landmark": ({"landmark"}, False, None),
}
# What landmark nets are trained on crops of (config.crop.box), in the square around a detector's
# box: its side, and how far its centre is below, in sides. "bounds" goes by the scheme of points.
IN_SQUARE: dict[str, tuple[float, float]] = {
    "detector": (1, 0),
    "list": (1, 0),
    "half": (0.5, 0.02),
}
ERRORS = ("raise", "return")

NetOrPath = Union[AnyPath, Net]
P = TypeVar("P", bound=Picture)
Self = TypeVar("Self", bound="FaceDetector")


class NoSuchPoints(Problem):
    """No net gives as many points as are asked for; `available` are the numbers that some give."""

    available: frozenset[int] = frozenset()


class FaceDetector:
    """Detects faces, and the landmarks of each, by a cascade of nets: a Pnet, or Pnet and Rnet, or
    Pnet, Rnet and Onet, and after any of them, if given, a net for landmarks.

    pnet, rnet, onet, landmark -- an ONNX model of core.export each, or a net that is open
        (facelet.nets); cell, stride, size and points come from there. An Onet with a landmark head
        gives points by itself; those of `landmark`, if given, take their place
    min_face -- smallest face to detect, px: the larger, the faster
    factor -- between the scales of the pyramid in which the Pnet sees a picture
    thresholds -- scores from which Pnet, Rnet and Onet keep a box
    vote, mirror, blend -- what the last boxes and scores are made of (facelet.settings.Settings)
    max_faces -- how many to keep, the best; all if None
    points -- how many a face gets: the net with that number of points is used, which must be among
        those above; 0 for no points; if None, what `landmark` gives, or else the last net before it
    threads -- that work on a picture in the engine, with the same result; or of onnxruntime in each
        net, where on nets this small a second one costs more than it brings
    engine -- what runs them: "c", the compiled cascade (facelet.engine); "onnxruntime"; or "auto",
        the first where it is compiled and can run these nets

    A detector may be used by several threads at once: it does not change after it is made, and
    onnxruntime runs a net for several callers at a time. It can be pickled, and so be sent to the
    processes of a pool. Two are equal that run the same models with the same settings.

    Raises Problem for a net that can't be its stage, for values out of range, and for points that
    no net gives.
    """

    def __init__(
        self,
        pnet: NetOrPath,
        rnet: Optional[NetOrPath] = None,
        onet: Optional[NetOrPath] = None,
        landmark: Optional[NetOrPath] = None,
        min_face: float = Settings.min_face,
        factor: float = Settings.factor,
        thresholds: Iterable[float] = Settings.thresholds,
        max_faces: Optional[int] = None,
        points: Optional[int] = None,
        threads: int = 1,
        vote: float = Settings.vote,
        mirror: bool = Settings.mirror,
        blend: float = Settings.blend,
        engine: str = KINDS[0],
    ) -> None:
        self.settings = Settings(
            min_face,
            factor,
            cast("tuple[float, ...]", thresholds),
            vote=vote,
            mirror=mirror,
            blend=blend,
        )
        if max_faces is not None and (not isinstance(max_faces, Integral) or max_faces < 1):
            raise Problem(f"max_faces is {max_faces}: it must be a whole number from 1, or None")
        if not isinstance(threads, Integral) or not 1 <= threads <= MOST_THREADS:
            raise Problem(
                f"threads is {threads}: it must be a whole number from 1 to {MOST_THREADS}"
            )
        if onet is not None and rnet is None:
            raise Problem("an onet needs an rnet before it")
        self.max_faces: Optional[int] = max_faces
        given = {"pnet": pnet, "rnet": rnet, "onet": onet, "landmark": landmark}
        self.nets: dict[str, Net] = {
            stage: as_stage(
                stage, self._open_net(net, threads) if isinstance(net, (str, os.PathLike)) else net
            )
            for stage, net in given.items()
            if net is not None
        }
        self.points: Optional[int] = points
        if points is not None:
            self._leave_out_other_points(points)
        self.engine: str = engine
        self.threads: int = int(threads)
        self._engine: Optional[Engine] = engine_for(self.nets, engine, self.threads)

    @classmethod
    def open(
        cls: type[Self],
        folder: AnyPath = nets.MODELS,
        *,
        pnet: Optional[NetOrPath] = None,
        rnet: Optional[NetOrPath] = None,
        onet: Optional[NetOrPath] = None,
        landmark: Optional[NetOrPath] = None,
        min_face: Optional[float] = None,
        factor: Optional[float] = None,
        thresholds: Optional[Iterable[float]] = None,
        max_faces: Optional[int] = None,
        points: Optional[int] = None,
        threads: int = 1,
        vote: Optional[float] = None,
        mirror: Optional[bool] = None,
        blend: Optional[float] = None,
        engine: str = KINDS[0],
        mode: Optional[str] = None,
    ) -> Self:
        """The detector whose nets are in a folder (facelet.nets.in_folder): ONNX models of
        core.export, with or without a detector.json that names them, or a finished run of the
        toolkit. In place of a folder, such a file, or the name of an included detector, which
        the command `facelet --help` lists; without, the included one called "medium".

        mode -- "fast" or "precise" for the included nets: one of the sets of settings that the
            folder's detector.json has under "modes"; None: those outside of them

        The rest is as for the class, and goes before what the folder says: a net given here takes
        the place of the folder's, and None means as the folder or the class has it. For
        points=68, the folder's net with that number of points is used; the included nets are
        for 5 and 68.

        Raises Problem.
        """
        options = {
            "pnet": pnet,
            "rnet": rnet,
            "onet": onet,
            "landmark": landmark,
            "min_face": min_face,
            "factor": factor,
            "thresholds": thresholds,
            "max_faces": max_faces,
            "points": points,
            "threads": threads,
            "vote": vote,
            "mirror": mirror,
            "blend": blend,
            "engine": engine,
            "mode": mode,
        }
        return cls._from_folder(folder, options, nets.in_folder)

    @classmethod
    def _from_folder(
        cls: type[Self],
        folder: AnyPath,
        options: dict[str, Any],
        in_folder: Callable[..., tuple[dict[str, Path], dict[str, Any]]],
    ) -> Self:
        """As open(), with a function that finds the nets, as facelet.nets.in_folder."""
        given = {name: value for name, value in options.items() if value is not None}
        points, mode = given.get("points"), given.pop("mode", None)
        elsewhere = [stage for stage in STAGES if stage in given] + ["landmark"] * (points == 0)
        paths, settings = in_folder(folder, elsewhere, points=points, mode=mode)
        try:
            return cls(**{**settings, **paths, **given})
        except NoSuchPoints as problem:
            available = sorted({*nets.points_in(folder), *problem.available})
            if not available or "landmark" in given:
                raise
            raise NoSuchPoints(
                f"{folder} has nets for {' and '.join(map(str, available))} points, none for "
                f"{points}: ask for one of these, or name a net as the landmark"
            ) from None

    def _open_net(self, path: AnyPath, threads: int) -> Net:
        return nets.open_net(path, threads)

    def __eq__(self, other: object) -> bool:
        if type(self) is not type(other):
            return NotImplemented
        return self.__getstate__() == other.__getstate__()

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name != "_engine"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self._engine = engine_for(self.nets, self.engine, self.threads)

    def __hash__(self) -> int:
        return hash((self.settings, self.max_faces, self.points, *self.nets.items()))

    def __repr__(self) -> str:
        names = ", ".join(f"{stage} {net.facts['net']}" for stage, net in self.nets.items())
        settings = ", ".join(f"{name} {getattr(self.settings, name)}" for name in nets.SETTINGS)
        return f"<{type(self).__name__}: {names}; {settings}>"

    def changed(self: Self, **settings: Any) -> Self:
        """The detector with other values of some of its `settings` (facelet.settings.Settings),
        and the same nets."""
        other = object.__new__(type(self))
        vars(other).update(vars(self), settings=replace(self.settings, **settings))
        return other

    @overload
    def detect(
        self, picture: Picture, order: str = ..., errors: Literal["raise"] = ...
    ) -> Faces: ...

    @overload
    def detect(
        self, picture: Picture, order: str = ..., *, errors: Literal["return"]
    ) -> Union[Faces, BrokenPicture]: ...

    @overload
    def detect(
        self,
        picture: Union[list[P], tuple[P, ...]],
        order: str = ...,
        errors: Literal["raise"] = ...,
    ) -> list[Faces]: ...

    @overload
    def detect(
        self, picture: Union[list[P], tuple[P, ...]], order: str = ..., *, errors: Literal["return"]
    ) -> list[Union[Faces, BrokenPicture]]: ...

    @overload
    def detect(
        self, picture: Iterator[P], order: str = ..., errors: Literal["raise"] = ...
    ) -> Iterator[Faces]: ...

    @overload
    def detect(
        self, picture: Iterator[P], order: str = ..., *, errors: Literal["return"]
    ) -> Iterator[Union[Faces, BrokenPicture]]: ...

    def detect(
        self, picture: Any, order: str = "BGR", errors: Literal["raise", "return"] = "raise"
    ) -> Any:
        """The Faces in a picture; for several pictures, of any sizes, those of each.

        picture -- a path; the bytes of a file; a file open in binary mode; an array, uint8 or
            uint16, (H, W), (H, W, 3) or (H, W, 4); an image of Pillow (see
            facelet.picture.open_any); or several of these: for a list or tuple the result is a
            list, for a generator or any other iterable, mappings excepted, a generator, which takes
            a picture when its result is asked for
        order -- of the colours in arrays, "BGR" or "RGB"; files and images have their own
        errors -- what becomes of a picture that can't be read: "raise" raises BrokenPicture, which
            ends a list or generator; "return" puts the BrokenPicture, which says what is wrong, in
            the place of that picture's Faces, and goes on

        Raises BrokenPicture; Problem for an order or errors that are none.
        """
        pictures.check_order(order)
        if errors not in ERRORS:
            raise Problem(f"errors is {errors!r}: it must be one of {', '.join(ERRORS)}")
        if isinstance(picture, (list, tuple)):
            return [self._detected(one, order, errors) for one in picture]
        several = isinstance(picture, Iterable) and not isinstance(picture, Mapping)
        if pictures.is_picture(picture) or not several:
            return self._detected(picture, order, errors)
        return (self._detected(one, order, errors) for one in picture)

    def _detected(self, picture: Picture, order: str, errors: str) -> Union[Faces, BrokenPicture]:
        try:
            opened = pictures.open_any(picture, order)
        except BrokenPicture as broken:
            if errors == "raise":
                raise
            return broken
        faces = self.found(opened)
        if self.points == 0:
            faces = replace(faces, landmarks=None, scheme=None)
        return faces if self.max_faces is None else faces[: self.max_faces]

    @property
    def scheme(self) -> Optional[str]:
        """Name of the order of the points (facelet.schemes); None where that isn't known, or there
        are none."""
        *_, (stage, net) = self.nets.items()
        gives = stage != "pnet" and self.points != 0 and "landmark" in net.tasks
        return cast("Optional[str]", net.facts["scheme"]) if gives else None

    def _leave_out_other_points(self, points: int) -> None:
        """Leave the net "landmark" out if others are asked for. Raises Problem where no net gives
        them."""
        if not isinstance(points, Integral) or points < 0:
            raise Problem(f"points is {points!r}: it must be a whole number from 0, or None")
        gives = {
            stage: net.facts["points"]
            for stage, net in self.nets.items()
            if stage != "pnet" and "landmark" in net.tasks
        }
        if gives.get("landmark") != points:
            self.nets.pop("landmark", None)
            if points and gives.get(list(self.nets)[-1]) != points:
                found = ", ".join(f"the {stage} gives {count}" for stage, count in gives.items())
                problem = NoSuchPoints(
                    f"no net gives {points} points ({found or 'nor any others'}): "
                    "name one that does as the landmark"
                )
                problem.available = frozenset(gives.values())
                raise problem

    def stages(self, picture: Pixels) -> Iterator[tuple[str, Faces]]:
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

    def found(self, picture: Pixels) -> Faces:
        """What the last of stages() gives, by the engine if there is one: all faces, each with the
        square that the last net for boxes saw in `windows`; with points where they are wanted."""
        if self._engine is not None and self._engine.made_of == self.nets:
            try:
                return self._compiled(self._engine, picture)
            except EngineError as error:
                if error.code != TOO_LARGE:
                    raise Problem(f"the engine failed: {error}") from None
        *_, (_, faces) = self.stages(picture)
        return faces

    def _compiled(self, engine: Engine, picture: Pixels) -> Faces:
        last = self.nets.get("landmark")
        crop = landmark_crop(last) if last is not None else None
        # Points that a net for landmarks makes anew, or nobody wants, need not be made.
        wanted = last is None and self.points != 0
        found = engine.detect(picture, self.settings, crop or (0, 0), wanted)
        *_, (stage, net) = self.nets.items()
        none = stage == "pnet" or not wanted and last is None
        return Faces(**cast("dict[str, Any]", found), scheme=None if none else _scheme(net))

    def _proposals(self, picture: Pixels) -> Faces:
        net = self.nets["pnet"]
        boxes, scores, windows = cascade.propose(
            picture, net, net.facts["cell"], net.facts["stride"], self.settings
        )
        return Faces(boxes, scores, windows=windows)

    def _refined(self, picture: Pixels, faces: Faces, net: Net, number: int) -> Faces:
        """What an Rnet (number 1) or Onet (2) makes of boxes."""
        settings, last = self.settings, number == 2
        squares = geometry.squares(faces.boxes)
        size, mirror = net.facts["input"]["size"], bool(last and settings.mirror)
        out = cascade.run_on_crops(picture, squares, net, size, mirror)
        if out is None:
            return _none(net)
        scores, moved = out["cls"][:, -1], geometry.apply_offsets(squares, out["bbox"])
        if last and settings.blend:
            scores = scores ** (1 - settings.blend) * faces.scores**settings.blend
        kept = np.flatnonzero((scores > self.settings.thresholds[number]) & geometry.whole(moved))
        squares, scores, moved = squares[kept], scores[kept], moved[kept]
        points = _points(squares, out["landmark"][kept]) if "landmark" in out else None
        # An Rnet's boxes are still rough: it is the squares that it saw which tell whether two are
        # the same. After an Onet, a box within another is a part of its face.
        if not last:
            kept = geometry.nms(squares, scores, settings.nms[1])
            return Faces(moved, scores, points, squares, _scheme(net))[kept]
        kept = geometry.nms(moved, scores, settings.nms[2], "minimum")
        found = Faces(moved, scores, points, squares, _scheme(net))[kept]
        if settings.vote < 1:
            boxes = geometry.votes(moved, scores, kept, settings.vote)
            found = replace(found, boxes=boxes.astype(np.float32))
        return found

    def with_landmarks(self, picture: Pixels, faces: Faces) -> Faces:
        """Faces with the points that the net "landmark" finds in a picture as stages() takes it."""
        net = self.nets["landmark"]
        squares = landmark_squares(faces.boxes, net)
        out = cascade.run_on_crops(picture, squares, net, net.facts["input"]["size"])
        points = _none(net).landmarks if out is None else _points(squares, out["landmark"])
        return replace(faces, landmarks=points, scheme=_scheme(net))


def as_stage(stage: str, net: Net) -> Net:
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
        landmark_squares(np.zeros((0, 4), np.float32), net)  # raises if its facts are wrong
    return net


def landmark_squares(boxes: Array, net: Net) -> Floats:
    """The squares (N, 4) float32, whole numbers, that a net for landmarks is run on for a
    detector's boxes (N, 4): those around them, or what it was trained on where its facts say that.
    Raises Problem for facts that can't be."""
    crop = landmark_crop(net)
    if crop is None:
        return geometry.squares(boxes)
    side, below = crop
    sides = np.max(boxes[:, 2:] - boxes[:, :2], axis=1, keepdims=True)
    centres = (boxes[:, :2] + boxes[:, 2:]) / 2 + sides * np.array([0, below])
    half = sides * (side / 2)
    return geometry.squares(np.concatenate([centres - half, centres + half], axis=1))


def landmark_crop(net: Net) -> Optional[tuple[float, float]]:
    """Side of the squares that a net for landmarks was trained on, in sides of a detector's box,
    and how far their centres are below its own, as its facts say; None where they don't. Raises
    Problem for facts that can't be."""
    crop = net.facts.get("crop")
    if crop is None:
        return None
    known, scale = crop.get("box"), crop.get("scale")
    right = isinstance(scale, (int, float)) and 0 < scale < 100
    if known not in (*IN_SQUARE, "bounds") or not right:
        raise Problem(
            f"{net.name} says that it was trained on crops of {crop}: that can't be; "
            "train or export it anew"
        )
    name = net.facts["scheme"]
    bounds = schemes.get(name).bounds if name else None
    side, below = (bounds or (1, 0)) if known == "bounds" else IN_SQUARE[known]
    return side * scale, below


def _scheme(net: Net) -> Optional[str]:
    return net.facts["scheme"] if "landmark" in net.tasks else None


def _points(squares: Array, values: Array) -> Floats:
    """Points in the picture, (N, P, 2) float32, of landmark outputs (N, 2 P)."""
    side = (squares[:, 2] - squares[:, 0])[:, None, None]
    # Targets are (point + 0.5 - corner) / side: annotations count from the centre of a pixel.
    points: Array = squares[:, None, :2] + schemes.unpack(values) * side - 0.5
    return points.astype(np.float32)


def _none(net: Net) -> Faces:
    landmarks = (
        np.zeros((0, net.facts["points"], 2), np.float32) if "landmark" in net.tasks else None
    )
    boxes, scores = np.zeros((0, 4), np.float32), np.zeros(0, np.float32)
    return Faces(boxes, scores, landmarks, boxes, _scheme(net))

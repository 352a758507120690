"""Faces in pictures, folders, videos, from a camera and from streams of the network.

    facelet PICTURE|FOLDER|VIDEO ... [--nets DIR] [--out OUT]
    facelet 0                             # the first camera, until ctrl-C
    facelet rtsp://host/path              # a stream, also http(s)://, until its end or ctrl-C

(or python -m facelet; in the toolkit python -m core.detect, which takes checkpoints as well)

leaves in OUT, which must be new or empty (without --out a new folder "found", "found-2", ...):

    drawn/             each picture or video with its boxes and points, at the path that it has
                       below the folder common to all; videos as MPEG-4 (.mp4), without sound
    detections.jsonl   a line a picture, or frame of a video: {"file", "frame" (of videos, from 0),
                       "width", "height", "boxes": [[x1, y1, x2, y2], ...], "scores",
                       "points": [[[x, y], ...], ...] or null, "scheme": the order of the points
                       (facelet.schemes) or null}, best faces first, as in facelet.detector.Faces,
                       rounded to hundredths of a pixel
    crops/             with --crops: NAME-0.png for the first face of NAME. Where its points include
                       eyes, nose and corners of the mouth, it is shifted, turned and scaled to the
                       usual place in 112 x 112 pixels (facelet.faces.Faces.aligned), otherwise it
                       is the square around the box

Folders are searched to the bottom, also through links, hidden files left out; files whose names are
of no picture or video are counted in a line. A name that is no UTF-8 is in "file" with lone
surrogates, as Python's os.fsdecode has it. An address stands there without user and password.
Files are decoded in a process of their own: one that crashes the decoder, or takes it longer than
--max-seconds, is passed over like any other that can't be read.
Frames are turned upright where a video's header says how. A video that ends before its header says
gets a line, but is no failure: headers are often wrong. A file that can't be read is passed over
and named at the end. Ctrl-C ends a run after the picture at hand: detections.jsonl and a drawn
video have what was found until then. Pressed again it ends at once, without that video.

With --smooth the points in videos go through a One-Euro filter, at the price of a lag (see
facelet.smooth).

The camera and rtsp:// are written, never tried, for want of one.
"""

import argparse
import contextlib
import itertools
import os
import signal
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import FrameType
from typing import Any, Callable, Optional, Union

import cv2
import numpy as np

from facelet import boxes as geometry
from facelet import draw, isolated
from facelet import picture as pictures
from facelet import video as videos
from facelet.arrays import Array, Pixels
from facelet.console import Problem, Progress, describe_os_error, program
from facelet.detector import STAGES, FaceDetector
from facelet.faces import Faces
from facelet.files import check_new, read_json, to_json, whole_file
from facelet.locks import locked
from facelet.nets import DEFAULT, MANIFEST, MODELS, SETTINGS, included
from facelet.settings import (
    MAX_PIXELS,
    MAX_SECONDS,
    MOST_THREADS,
    Settings,
    allow_outside,
    allow_pixels,
    allow_seconds,
)
from facelet.smooth import TRAIL, Smoother, lag
from facelet.video import Source, Video

PIXELS_PER_LINE = 600  # of a picture's longer side, per pixel of the width of lines


# ---- inputs ---------------------------------------------------------------------


def listed(inputs: Sequence[str]) -> list[tuple[Source, Path]]:
    """The files in what is given, paths or one camera's number or stream's address:
    [(source, name)], where `source` is a Path, int or str and `name` the Path of what is drawn,
    below a folder.

    Names are paths below the folder that all files have in common, so no two are the same; they
    end in what can be written. Raises Problem.
    """
    for text in inputs:
        if not text:
            raise Problem(
                "an empty name is given for a picture: is a variable of a script not set?"
            )
        endless = text.isdecimal() and not os.path.exists(text)
        if (endless or videos.is_stream(text)) and len(inputs) > 1:
            what = f"camera {text}" if endless else videos.shown(text)
            raise Problem(f"{what} runs until ctrl-C: give nothing beside it")
        if endless:
            return [(int(text), Path(f"camera{text}.mp4"))]
        if videos.is_stream(text):
            return [(text, Path("stream.mp4"))]
    files: dict[str, Path] = {}  # by their absolute paths: none twice
    tops: list[str] = []
    for path in map(Path, inputs):
        tops.append(os.path.abspath(path if path.is_dir() else path.parent))
        files.update((os.path.abspath(file), file) for file in _files(path))
    common = os.path.commonpath(tops)
    names: dict[Path, Path] = {}
    for absolute, file in files.items():
        suffix = ".mp4" if _is_video(file) else ".png"
        name = Path(os.path.relpath(absolute, common))
        name = Path(os.fspath(name).encode(errors="backslashreplace").decode())
        if name.suffix.lower() not in ((suffix,) if _is_video(file) else pictures.WRITABLE):
            name = name.with_name(name.name + suffix)
        while name in names:  # of a.avi and a.avi.mp4
            name = name.with_name(f"{name.stem}_{name.suffix}")
        names[name] = file
    return [(file, name) for name, file in names.items()]


def _files(path: Path) -> list[Path]:
    """The file itself, or the pictures and videos in a folder. Raises Problem."""
    if not path.is_dir():
        if not path.exists():
            raise Problem(f"{path} is not there")
        return [path]
    suffixes = (*pictures.SUFFIXES, *videos.SUFFIXES)
    every = pictures.files_below(path)
    files = [file for file in every if pictures.has_suffix(file, suffixes)]
    if not files:
        raise Problem(
            f"{path} holds no picture or video: no file there ends in " + " ".join(suffixes)
        )
    others = Counter(file.suffix.lower() or file.name for file in {*every} - {*files})
    if others:
        print(
            f"passed over {sum(others.values()):,} files in {path} that are no picture or video by "
            f"their names: {', '.join(f'{n:,} {kind}' for kind, n in others.most_common(10))}"
            + ", ..."
            * (len(others) > 10)
        )
    return files


def _is_video(source: Source) -> bool:
    return not isinstance(source, Path) or source.suffix.lower() in videos.SUFFIXES


def _count(source: Source) -> int:
    """Pictures in a file, as far as its header says."""
    if not _is_video(source):
        return 1
    return isolated.count(source) if isinstance(source, Path) else videos.count(source)


# ---- results --------------------------------------------------------------------


def crops(picture: Pixels, faces: Faces) -> Iterator[Pixels]:
    """Yields a crop of each face, see above: uint8 (S, S, 3), black outside the picture."""
    if faces.can_be_aligned:
        yield from faces.aligned(picture)
    else:
        for i, square in enumerate(geometry.squares(faces.boxes)):
            yield faces[i : i + 1].crops(picture, int(square[2] - square[0]))[0]


@contextlib.contextmanager
def _lines(path: Path) -> Iterator[Callable[[Any], None]]:
    """Give a function that adds a value as a line of JSON. The file gets its name when the block
    ends, in whatever way, if there is a line; none is cut short."""
    part, end = path.with_name(f".{path.name}.part"), 0
    file = open(part, "wb", buffering=0)

    def add(value: Any) -> None:
        nonlocal end
        line = (to_json(value) + "\n").encode()
        done = 0
        while done < len(line):
            done += file.write(line[done:])
        end += done

    try:
        yield add
    finally:
        file.truncate(end)
        file.close()
        if end:
            os.replace(part, path)
        else:
            part.unlink()


@contextlib.contextmanager
def _until_ctrl_c() -> Iterator[Callable[[], bool]]:
    """Give a function that tells whether ctrl-C was pressed. Pressed again, it interrupts."""
    presses: list[bool] = []

    def press(number: int, frame: Optional[FrameType]) -> None:
        presses.append(True)
        signal.signal(signal.SIGINT, before)

    before = signal.signal(signal.SIGINT, press)
    try:
        yield lambda: bool(presses)
    finally:
        signal.signal(signal.SIGINT, before)


class _Run:
    """What is found in pictures, on its way into a folder."""

    def __init__(
        self,
        detector: FaceDetector,
        out: Path,
        crops: bool,
        smooth: bool,
        add: Callable[[Any], None],
        stopped: Callable[[], bool],
        progress: Progress,
    ) -> None:
        self.detector, self.out, self.crops, self.smooth = detector, out, crops, smooth
        self.add, self.stopped, self.progress = add, stopped, progress
        self.pictures = self.faces = 0
        self.remarks: list[str] = []

    def picture(self, source: Path, name: Path) -> None:
        picture = isolated.read(source)
        self._detect(picture, name, {"file": str(source)})
        pictures.write(self.out / "drawn" / name, picture)

    def video(self, source: Source, name: Path) -> None:
        start, count, file = time.perf_counter(), 0, videos.shown(source)
        video = isolated.Video(source) if isinstance(source, Path) else Video(source)
        frames = iter(video)
        picture = next(frames, None)
        if picture is None:
            raise pictures.BrokenPicture(f"{file}: not one frame of it can be read")
        smooth = Smoother(video.rate) if self.smooth else None
        with whole_file(self.out / "drawn" / name) as part:
            drawn = cv2.VideoWriter(
                str(part), cv2.VideoWriter.fourcc(*"mp4v"), video.rate, picture.shape[1::-1]
            )
            while picture is not None and not (count and self.stopped()):  # a video has a frame
                self._detect(picture, f"{name}-{count:06d}", {"file": file, "frame": count}, smooth)
                drawn.write(picture)
                count += 1
                picture = next(frames, None)
            drawn.release()
            if videos.count(part) != count:  # OpenCV says nothing of a full disk
                raise Problem(
                    f"{self.out / 'drawn' / name} can't be written: the disk is full, or "
                    "its frames are too small"
                )
        remark = f"{file}: {count / (time.perf_counter() - start):.1f} frames/s"
        if count < video.promised and not self.stopped():
            remark += (
                f"; it ends after {count} of the {video.promised} frames that its header promises"
            )
        if video.remark:
            remark += f"; {video.remark}"
        self.remarks.append(remark)

    def _detect(
        self,
        picture: Pixels,
        name: Union[Path, str],
        record: dict[str, Any],
        smooth: Optional[Smoother] = None,
    ) -> None:
        """Detect faces, write their line and crops, and draw them in place."""
        faces = self.detector.detect(picture)
        faces = smooth(faces) if smooth else faces
        if self.crops:
            for i, crop in enumerate(crops(picture, faces)):
                pictures.write(self.out / "crops" / f"{name}-{i}.png", crop)
        height, width = picture.shape[:2]
        self.add(
            {
                **record,
                "width": width,
                "height": height,
                "boxes": _rounded(faces.boxes, 2),
                "scores": _rounded(faces.scores, 6),
                "points": _rounded(faces.landmarks, 2),
                "scheme": self.detector.scheme,
            }
        )
        line = max(1, round(max(width, height) / PIXELS_PER_LINE))
        draw.boxes(picture, faces.boxes, draw.GREEN, line, faces.scores)
        if faces.landmarks is not None:
            draw.landmarks(picture, faces.landmarks, self.detector.scheme)
        self.pictures += 1
        self.faces += len(faces)
        self.progress.step()


def _rounded(values: Optional[Array], digits: int) -> Any:
    return None if values is None else np.round(values.astype(np.float64), digits).tolist()


def run(
    detector: FaceDetector,
    files: Sequence[tuple[Source, Path]],
    out: Union[str, Path],
    crops: bool = False,
    smooth: bool = False,
) -> None:
    """Find the faces in files, see listed(), and leave them in the folder `out`.

    crops -- save a crop of each face; smooth -- smooth the points in videos

    Raises Problem: `out` is not empty; at the end, files that can't be read. KeyboardInterrupt
    that says so when ctrl-C was pressed, unless a camera or stream had to be stopped.
    """
    with locked(out):
        _run(detector, files, Path(out), crops, smooth)


def _run(
    detector: FaceDetector,
    files: Sequence[tuple[Source, Path]],
    out: Path,
    crops: bool,
    smooth: bool,
) -> None:
    check_new(out)
    endless = not isinstance(files[0][0], Path)  # a camera or stream
    progress = Progress(None if endless else sum(_count(source) for source, _ in files), "pictures")
    out.mkdir(parents=True, exist_ok=True)
    broken = []
    with _lines(out / "detections.jsonl") as add, _until_ctrl_c() as stopped:
        work = _Run(detector, out, crops, smooth, add, stopped, progress)
        try:
            for source, name in files:
                if stopped():
                    break
                try:
                    if isinstance(source, Path) and not _is_video(source):
                        work.picture(source, name)
                    else:
                        work.video(source, name)
                except pictures.BrokenPicture as error:
                    broken.append(str(error))
        except KeyboardInterrupt:
            pass
        except OSError as error:
            raise Problem(
                f"{describe_os_error(error)}; {out} has what was found until then, and "
                "another run needs another --out"
            ) from None
        interrupted = stopped() and not endless
    if work.pictures:
        progress.close()
        print(
            *work.remarks,
            *(f"passed over {reason}" for reason in broken),
            f"{out / 'detections.jsonl'}: faces: {work.faces:,}, pictures: {work.pictures:,}",
            sep="\n",
        )
    else:
        with contextlib.suppress(OSError):
            out.rmdir()
    if interrupted:
        raise KeyboardInterrupt(f"stopped: {out} has what was found until then")
    if broken:
        raise Problem(
            broken[0]
            if len(files) == 1
            else f"{len(broken)} of {len(files)} files can't be read; the first: {broken[0]}"
        )


def _new_folder(name: str) -> Path:
    """The first of NAME, NAME-2, NAME-3, ... that is not there."""
    return next(
        path
        for number in itertools.count(1)
        if not (path := Path(name if number == 1 else f"{name}-{number}")).exists()
    )


def _points(text: str) -> int:
    if text == "none":
        return 0
    if not text.isdecimal():
        raise Problem(f"--points {text}: it must be a number of points, or none")
    return int(text)


def _default(name: str) -> str:
    """What a setting is where it isn't given, in words."""

    def words(value: Any) -> str:
        return ",".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value)

    usual = words(getattr(Settings, name))
    own = words(read_json(MODELS / MANIFEST).get(name, getattr(Settings, name)))
    if own == usual:
        return f"default {usual}, or as {MANIFEST} in DIR has it"
    return (
        f"default {own} for the included nets; for others as {MANIFEST} in DIR has it, or "
        f"else {usual}"
    )


def options(prog: str, files: str = "ONNX models") -> argparse.ArgumentParser:
    """The parser of a program that main() runs; files -- what nets may be, in words."""
    parser = argparse.ArgumentParser(
        prog=prog,
        description="Faces in pictures, videos and from a camera: drawn, and as JSON lines.",
        epilog=f"DIR holds the nets as {files}, or a detector.json that names them, or is such a "
        "file itself, or a finished run of the toolkit.",
    )
    parser.add_argument(
        "inputs",
        nargs="+",
        metavar="PICTURE|FOLDER|VIDEO|CAMERA|URL",
        help="a camera is a number, a stream an address rtsp:// or http(s)://",
    )
    parser.add_argument(
        "--out", help="folder for the results, new or empty (default: found, found-2, ...)"
    )
    which = parser.add_mutually_exclusive_group()
    which.add_argument(
        "--model",
        choices=list(included()),
        help=f"which of the included detectors (default: {DEFAULT})",
    )
    which.add_argument("--nets", metavar="DIR", help="folder with nets of one's own")
    for stage in ("pnet", "rnet", "onet", "landmark"):
        parser.add_argument(f"--{stage}", metavar="FILE", help=f"the {stage}, whatever DIR holds")
    parser.add_argument(
        "--min-face",
        type=float,
        metavar="PX",
        help=f"smallest face to detect ({_default('min_face')})",
    )
    parser.add_argument(
        "--factor",
        type=float,
        help=f"between the scales that a picture is searched at ({_default('factor')})",
    )
    parser.add_argument(
        "--thresholds",
        metavar="P,R,O",
        type=lambda text: text.split(","),
        help=f"scores from which each net keeps a box ({_default('thresholds')})",
    )
    parser.add_argument(
        "--points",
        metavar="P",
        help="5 or 68: the net with that number of points is used, of the included ones or of "
        "those in DIR; none: no points (default: what the last of the nets gives)",
    )
    parser.add_argument(
        "--mode",
        help="fast or precise, for the included nets: settings that the detector.json of DIR has "
        "under modes; the options above go before them",
    )
    parser.add_argument("--max-faces", type=int, metavar="N", help="the best N of a picture")
    parser.add_argument(
        "--max-pixels",
        type=int,
        metavar="N",
        help="width x height of the largest picture or frame that is decoded: larger ones are "
        f"named and passed over (default {MAX_PIXELS:,})",
    )
    parser.add_argument(
        "--max-seconds",
        type=float,
        metavar="S",
        help="that decoding a picture or frame may take: what takes longer is named and passed "
        f"over (default {MAX_SECONDS:g})",
    )
    parser.add_argument(
        "--outside",
        action="store_true",
        help=f"read nets that {MANIFEST} in DIR names outside of DIR",
    )
    parser.add_argument("--threads", type=int, default=1, help="of the nets (default 1)")
    parser.add_argument("--crops", action="store_true", help="save a crop of each face")
    parser.add_argument(
        "--smooth",
        action="store_true",
        help="steady the points in videos; "
        f"they come up to {lag(0):.2f} s late on slow faces and trail fast ones by "
        f"up to {TRAIL:.1%}% of the box's side",
    )
    return parser


def main(argv: Sequence[str]) -> None:
    """The program on arguments, a list."""
    execute(options("facelet").parse_args(argv), FaceDetector)


def execute(
    args: argparse.Namespace, detector_class: type[FaceDetector], more: Sequence[str] = ()
) -> None:
    """Detect as the arguments of the parser options() say.

    detector_class -- FaceDetector or one that takes the same; more -- names of arguments that it
        takes beside
    """
    if not 1 <= args.threads <= MOST_THREADS:
        raise Problem(f"--threads {args.threads}: it must be from 1 to {MOST_THREADS}")
    if args.max_pixels is not None:
        allow_pixels(args.max_pixels)
    if args.max_seconds is not None:
        allow_seconds(args.max_seconds)
    if args.outside:
        allow_outside(True)
    files = listed(args.inputs)
    given = {
        name: getattr(args, name)
        for name in (*STAGES, *SETTINGS, "max_faces", "threads", *more)
        if getattr(args, name, None) is not None
    }
    if args.points is not None:
        given["points"] = _points(args.points)
    if args.pnet and not (args.nets or args.model):
        if args.mode:
            raise Problem(f"--mode {args.mode}: nets of --pnet have no modes: give --nets DIR")
        detector = detector_class(**given)
    else:
        detector = detector_class.open(
            args.nets or included()[args.model or DEFAULT], mode=args.mode, **given
        )
    if args.smooth and detector.detect(np.zeros((1, 1, 3), np.uint8)).landmarks is None:
        raise Problem(
            "--smooth smooths points, and these nets give none: give --landmark or --points"
        )
    print(
        ", ".join(
            f"{stage} {net.facts['net']} ({net.name})" for stage, net in detector.nets.items()
        )
    )
    run(detector, files, args.out or _new_folder("found"), args.crops, args.smooth)


def command() -> None:
    """The command `facelet`."""
    program(main)

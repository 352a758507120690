"""Frames of videos, cameras and streams of the network, upright, by OpenCV and its FFmpeg."""

import contextlib
import os
import re
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Optional, Union
from urllib.parse import urlsplit

import cv2
import numpy as np

from facelet.arrays import Pixels
from facelet.opencv import SILENT, set_log_level
from facelet.picture import BrokenPicture, beyond
from facelet.settings import max_pixels

SUFFIXES = (
    *(".3g2", ".3gp", ".avi", ".flv", ".m2ts", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg"),
    *(".mts", ".ogv", ".ts", ".webm", ".wmv"),
)
USUAL_RATE = 25  # frames/s, of videos that don't say
SAME = 5  # frames in a row, at a video's end, that make one suspect that there were others
# Smaller frames, of a frame's height; of their pixels, those that change; values of what stays.
LEAST_PART, MOSTLY, CONTRAST = 0.2, 0.5, 40
STUCK = 1000  # and which make an end of a video that has no end
TURNS = {90: cv2.ROTATE_90_CLOCKWISE, 180: cv2.ROTATE_180, 270: cv2.ROTATE_90_COUNTERCLOCKWISE}

Source = Union[Path, int, str]  # a file, the number of a camera, or a stream's address


def is_stream(text: str) -> bool:
    """Whether a text is the address of a stream that is read: rtsp://, http:// ..."""
    return re.match(r"(?:rtsps?|https?)://.", text, re.IGNORECASE) is not None


def shown(source: Source) -> str:
    """A source in words; an address without the user and password that may stand in it."""
    if not isinstance(source, str):
        return str(source)
    parts = urlsplit(source)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()


class Video:
    """A video that is open.

    rate -- frames/s; promised -- frames by its header, 0 where that doesn't say
    remark -- what is wrong with the frames so far, in words; "" for nothing

    Raises BrokenPicture; `name` is for that.
    """

    def __init__(self, source: Source, name: Optional[str] = None) -> None:
        name = shown(source) if name is None else name
        os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")  # errors are raised here
        set_log_level(SILENT)
        self._video = _opened(source, name)
        if not self._video.isOpened():
            raise BrokenPicture(
                f"{name} can't be opened"
                if isinstance(source, str)
                else f"camera {source} can't be opened"
                if isinstance(source, int)
                else f"{name}: no video that OpenCV can read, or a truncated one"
            )
        width, height = (
            int(self._video.get(key))
            for key in (cv2.CAP_PROP_FRAME_WIDTH, cv2.CAP_PROP_FRAME_HEIGHT)
        )
        if width * height > max_pixels():
            raise BrokenPicture(f"{name}: frames of {width:,} x {height:,} pixels, {beyond()}")
        # OpenCV turns frames itself in some versions only, and only if that is asked for.
        self._video.set(cv2.CAP_PROP_ORIENTATION_AUTO, 0)
        self._turn = TURNS.get(round(self._video.get(cv2.CAP_PROP_ORIENTATION_META)) % 360)
        rate = self._video.get(cv2.CAP_PROP_FPS)
        self.rate = rate if 0 < rate < 1000 else USUAL_RATE
        self.promised = max(int(self._video.get(cv2.CAP_PROP_FRAME_COUNT)), 0)
        self.remark, self._ends = "", isinstance(source, Path)

    def __iter__(self) -> Iterator[Pixels]:
        """Yields frames, uint8 (H, W, 3) BGR, all of one size."""
        before: Any = None
        frame: Any
        count = since = 0  # frames, and the first of those that are as the last one
        time, stuck = 0.0, False
        shrinking = _Shrinking()
        while not stuck:
            there, frame = self._video.read()
            if not there:
                break
            if before is None or not np.array_equal(before, frame):
                since = count
                if before is not None:
                    shrinking.add(count, before, frame)
            now = self._video.get(cv2.CAP_PROP_POS_MSEC)
            stuck = self._ends and now == time and count - since >= STUCK and count > self.promised
            before, time, count = frame.copy(), now, count + 1
            yield frame if self._turn is None else cv2.rotate(frame, self._turn)
        if count - since > SAME:
            self.remark = (
                f"its last {count - since} frames are one and the same: it stands still from frame "
                f"{since} on, or changes its size there, which OpenCV can't follow: convert it to "
                "one size" + "; what may come then is left out" * stuck
            )
        elif shrinking.frames > SAME:
            self.remark = (
                f"from frame {shrinking.since} on nothing changes but its upper {shrinking.height} "
                "rows: its frames seem to become smaller there, which this version of OpenCV can't "
                "follow, and what is found below is old: convert it to one size"
            )


class _Shrinking:
    """Frames that become smaller half-way: OpenCV 4 writes them over the upper rows of the last one
    before, and the rows below stay. (Those that become larger are lost, the last one before comes
    again and again. OpenCV 5 resizes both.)

    since -- the first smaller frame; height -- of it; frames -- so many since that are other ones
    """

    def __init__(self) -> None:
        self.since, self.height, self.frames = 0, 0, 0
        self._moving = False  # whether the last row changed with the last frame

    def add(self, number: int, before: Pixels, frame: Pixels) -> None:
        """A frame that is another one than that before it."""
        if self.frames and np.array_equal(before[self.height :], frame[self.height :]):
            self.frames += 1
            return
        if self.frames > SAME:  # they have become larger again
            return
        self.frames, moving = 0, not np.array_equal(before[-1], frame[-1])
        # Not what moves before something still, nor above a bar, nor when a bar appears.
        if self._moving and not moving:
            changed = (before != frame).any(axis=2)
            height = int(np.flatnonzero(changed.any(axis=1))[-1]) + 1
            below = frame[height:]
            if (
                height >= LEAST_PART * len(frame)
                and changed[:height].mean() >= MOSTLY
                and int(below.max()) - int(below.min()) >= CONTRAST
            ):
                self.since, self.height, self.frames = number, height, 1
        self._moving = moving


def _opened(source: Source, name: str) -> cv2.VideoCapture:
    if isinstance(source, int):
        return cv2.VideoCapture(source)
    if isinstance(source, str):
        return cv2.VideoCapture(source, cv2.CAP_FFMPEG)
    try:
        mode = os.stat(source).st_mode
    except OSError as error:
        raise BrokenPicture(f"{name}: {error.strerror}") from None
    if not stat.S_ISREG(mode):
        raise BrokenPicture(f"{name}: no regular file, but a pipe or a device")
    # What stands before a colon in a relative path would be taken for a protocol.
    path = os.path.abspath(source)
    with contextlib.suppress(UnicodeEncodeError):
        path.encode()
        return cv2.VideoCapture(path, cv2.CAP_FFMPEG)
    with tempfile.TemporaryDirectory() as folder:  # OpenCV takes names in UTF-8 alone
        link = Path(folder, f"video{source.suffix.encode(errors='replace').decode()}")
        link.symlink_to(path)
        return cv2.VideoCapture(str(link), cv2.CAP_FFMPEG)


def count(source: Source) -> int:
    """Frames in a video as its header has it; 0 where that doesn't say, or it can't be read."""
    try:
        return Video(source).promised
    except BrokenPicture:
        return 0

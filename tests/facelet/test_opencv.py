"""Names that OpenCV 4 and 5 have in different places."""

import ast
import types
from pathlib import Path

import cv2
import numpy as np
import pytest

import facelet
from core.detect import yunet
from facelet import opencv, picture, video
from facelet.console import Problem

PACKAGE = Path(facelet.__file__).parent
REMOVED = ("setLogLevel", "getLogLevel")  # from cv2 in OpenCV 5


@pytest.fixture(params=["as installed", 4, 5])
def levels(request, monkeypatch):
    """The log levels that are set, one after another, with the names of a version of OpenCV."""
    noted = [3]

    def set_level(level):
        noted.append(level)
        return noted[-2]

    if request.param == "as installed":
        return None
    functions = {"setLogLevel": set_level, "getLogLevel": lambda: noted[-1]}
    for name in REMOVED:
        monkeypatch.delattr(cv2, name, raising=False)
    monkeypatch.setattr(cv2.utils, "logging", types.SimpleNamespace(), raising=False)
    for name, function in functions.items():
        monkeypatch.setattr(
            cv2 if request.param == 4 else vars(cv2.utils)["logging"], name, function, raising=False
        )
    return noted


def test_the_level_before_is_given_back(levels):
    before = opencv.set_log_level(opencv.SILENT)
    assert opencv.set_log_level(before) == 0
    assert levels in (None, [3, 0, 3])


def test_a_video_and_a_camera(tmp_path, levels):
    path = tmp_path / "a.mp4"
    made = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"mp4v"), 10, (64, 48))
    for _ in range(3):
        made.write(np.zeros((48, 64, 3), np.uint8))
    made.release()
    assert len(list(video.Video(path))) == 3
    with pytest.raises(picture.BrokenPicture, match="camera 77 can't be opened"):
        video.Video(77)
    assert levels in (None, [3, 0, 0])


def test_no_yunet(tmp_path, levels):
    (tmp_path / "text.onnx").write_text("no model")
    with pytest.raises(Problem, match="no YuNet model"):
        yunet.YuNet(tmp_path / "text.onnx")
    assert levels in (None, [3, 0, 3])


def test_no_other_module_uses_them():
    """Every name of cv2 is there in the version installed, and none is one that OpenCV 5 lacks."""
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Attribute) and ast.unparse(node.value) == "cv2":
                name = node.attr
                assert hasattr(cv2, name) and name not in REMOVED, f"{path}:{node.lineno}: {name}"

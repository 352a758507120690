"""YuNet through OpenCV, with a model that sees white cells."""

import fake_yunet
import numpy as np
import pytest
from trained import trained

from core import export
from core.detect import yunet
from core.formats import checkpoint
from facelet.console import Problem


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return fake_yunet.save(tmp_path_factory.mktemp("yunet") / "cells.onnx")


@pytest.mark.parametrize("width, height", [(200, 120), (64, 64), (61, 130), (24, 300), (33, 16)])
def test_boxes_are_where_they_are(model, width, height):
    rng = np.random.default_rng(width)
    picture, expected = np.zeros((height, width, 3), np.uint8), {}
    for cell in rng.permutation((width // 8) * (height // 8))[:3]:
        x, y = 8 * int(cell % (width // 8)), 8 * int(cell // (width // 8))
        brightness = int(rng.integers(130, 256))
        picture[y : y + 8, x : x + 8] = brightness
        expected[x, y, x + 8, y + 8] = brightness / 255
    detector = yunet.YuNet(model, score=0.5)
    for _ in range(2):
        boxes, scores = detector.detect(picture)
        assert boxes.dtype == scores.dtype == np.float32
        found = {tuple(box): score for box, score in zip(boxes.round().tolist(), scores)}
        assert found.keys() == expected.keys()
        assert all(abs(found[box] - expected[box]) < 1e-3 for box in expected)
        np.testing.assert_allclose(boxes, boxes.round(), atol=1e-3)
    boxes, _ = yunet.YuNet(model, score=0.99).detect(picture)
    assert len(boxes) == sum(score >= 0.99 for score in expected.values())


@pytest.mark.parametrize(
    "width, height",
    [(1, 1), (31, 31), (32, 32), (1, 33), (1000, 20), (3000, 5), (5, 3000), (64, 32)],
)
def test_small_pictures_are_filled_up(model, width, height):
    """Published models find boxes in unwritten memory where a side is 32 px or less."""

    class Noting:
        def __init__(self, model):
            self.model, self.detect, self.sizes = model, model.detect, []

        def setInputSize(self, size):
            self.sizes.append(size)
            self.model.setInputSize(size)

    detector = yunet.YuNet(model, score=0.1)
    detector.model = Noting(detector.model)
    boxes, scores = detector.detect(np.zeros((height, width, 3), np.uint8))
    assert boxes.shape == (0, 4) and scores.shape == (0,)
    sizes = detector.model.sizes  # type: ignore[attr-defined]
    assert sizes == [(max(width, 64), max(height, 64))]


def test_files_that_are_no_yunet(tmp_path, model, capfd):
    params = checkpoint.save(tmp_path, trained("Pnet20_v0"), 1, {})
    export.export(params, tmp_path)
    pnet = tmp_path / "Pnet20_v0.onnx"
    (tmp_path / "text.onnx").write_text("no model")
    for path in (params, pnet, tmp_path / "text.onnx"):
        with pytest.raises(Problem, match=f"{path.name} is no YuNet model that OpenCV reads"):
            yunet.YuNet(path)
    with pytest.raises(Problem, match="nowhere.onnx is not there"):
        yunet.YuNet(tmp_path / "nowhere.onnx")
    assert capfd.readouterr().err == ""

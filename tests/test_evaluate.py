"""Recall of proposals, by a net that is faked."""
import cv2
import numpy as np
import pytest

from config import config, override
from core import evaluate
from core.console import Problem
from prepare_data import wider


class Marker:
    """A Pnet of cell 20, stride 4 that is sure wherever the window's middle is white."""
    facts = {"net": "Marker", "cell": 20, "stride": 4}

    def __call__(self, data):
        rows = (data.shape[2] - 20) // 4 + 1
        columns = (data.shape[3] - 20) // 4 + 1
        middle = data[:, :1, 10::4, 10::4][:, :, :rows, :columns]
        return {"cls": (middle > 0.9).astype(np.float32),
                "bbox": np.zeros((1, 4, rows, columns), np.float32)}


@pytest.fixture
def marked_set(tmp_path):
    """Black pictures; a white dot in the middle of some faces makes Marker find them."""
    (tmp_path / "images").mkdir()
    truth = []
    for i, (side, dot) in enumerate([(20, True), (24, False), (100, True), (15, True)]):
        picture = np.zeros((240, 320, 3), np.uint8)
        x, y = 80, 60
        if dot:
            half = side // 4
            cv2.rectangle(picture, (x + side // 2 - half, y + side // 2 - half),
                          (x + side // 2 + half, y + side // 2 + half), (255, 255, 255), -1)
        cv2.imwrite(str(tmp_path / "images" / f"{i}.png"), picture)
        truth.append(f"{i}.png\n1\n{x} {y} {side} {side} 0 0 0 0 0 0\n")
    truth.append("gone.png\n1\n1 1 50 50 0 0 0 0 0 0\n")
    (tmp_path / "x_val_bbx_gt.txt").write_text("".join(truth))
    return wider.open_set(tmp_path, "val")


def test_recall_counts_the_faces_that_count(marked_set):
    """Of faces of 20 px and more: the first and third are found, the second is not; the one of
    15 px and the missing picture are left out."""
    figures, details = evaluate.recall_of_proposals(Marker(), marked_set, config)
    assert figures["faces"] == 3 and figures["pictures"] == 4
    assert figures["recall"] == pytest.approx(2 / 3)
    assert figures["by_size"] == [{"from": 20, "to": 40, "faces": 2, "recall": 0.5},
                                  {"from": 80, "to": 160, "faces": 1, "recall": 1.0}]
    assert "gone.png" in figures["skipped"][0]
    assert figures["proposals_per_picture"] == sum(len(d[2]) for d in details) / 4


def test_stricter_iou_and_larger_faces(marked_set):
    strict = override(config, ["evaluate.iou=0.99"])
    assert evaluate.recall_of_proposals(Marker(), marked_set, strict)[0]["recall"] < 2 / 3
    large = override(config, ["evaluate.min_face=50"])
    figures, _ = evaluate.recall_of_proposals(Marker(), marked_set, large)
    assert (figures["faces"], figures["recall"]) == (1, 1.0)
    with pytest.raises(Problem, match="no face of 500 px"):
        evaluate.recall_of_proposals(Marker(), marked_set,
                                     override(config, ["evaluate.min_face=500"]))


def test_picture_of_detections(marked_set, tmp_path):
    _, details = evaluate.recall_of_proposals(Marker(), marked_set, config)
    evaluate.draw_details(details, tmp_path / "d.png", 3, 0.5)
    drawn = cv2.imread(str(tmp_path / "d.png"))
    cell = evaluate.DRAWN_CELL
    assert drawn.shape == (cell, evaluate.DRAWN_COLUMNS * cell, 3)

    def has(column, color):
        tile = drawn[:, column * cell:(column + 1) * cell]
        return bool((np.abs(tile.astype(int) - color).max(axis=2) < 3).any())

    assert has(0, evaluate.draw.GREEN) and not has(0, evaluate.draw.RED)
    assert has(1, evaluate.draw.RED) and not has(1, evaluate.draw.GREEN)

"""Labels written anew with a teacher's boxes."""

import json

import numpy as np
import pytest

from config import config
from facelet import picture as pictures
from facelet.console import Problem
from facelet.files import sha256
from prepare_data import relabel, wider

TRUTH = """a/1.jpg
4
10 10 40 40 2 0 0 0 1 0
100 10 30 30 0 0 0 0 0 0
200 10 12 12 0 0 0 0 0 0
300 10 30 30 0 0 0 1 0 0
b/2.jpg
1
5 5 30 30 0 0 0 0 0 0
"""
FOUND = {  # x1 y1 x2 y2 score
    "a/1.jpg": [
        [14, 12, 46, 52, 0.9],  # the first face's, by another convention
        [20, 20, 52, 56, 0.6],  # its second best: neither a new face nor doubtful
        [100, 200, 140, 250, 0.8],  # a face without a label
        [200, 200, 240, 250, 0.3],  # one that the teacher is not sure of
        [302, 12, 330, 40, 0.95],  # what is marked invalid stays so
    ]
}


@pytest.fixture
def labelled(tmp_path):
    for path in ("a/1.jpg", "b/2.jpg"):
        (tmp_path / "images" / path).parent.mkdir(parents=True)
        pictures.write(tmp_path / "images" / path, np.zeros((300, 400, 3), np.uint8))
    (tmp_path / "set_train_bbx_gt.txt").write_text(TRUTH)
    return tmp_path


def boxes_file(folder, pictures=FOUND, floor=0.1):
    truth = folder / "set_train_bbx_gt.txt"
    path = folder / "boxes.json"
    path.write_text(
        json.dumps(
            {
                "version": 1,
                "detector": {},
                "source": {"file": truth.name, "sha256": sha256(truth)},
                "settings": {"min_face": 20, "thresholds": [0.5, 0.5, floor]},
                "skipped": {p: "broken" for p in ("a/1.jpg", "b/2.jpg") if p not in pictures},
                "pictures": pictures,
            }
        )
    )
    return path


def test_each_rule(labelled, capsys):
    out = labelled / "new_bbx_gt.txt"
    relabel.main(
        ["--data", str(labelled), "--teacher-boxes", str(boxes_file(labelled)), "--out", str(out)]
    )
    first, second = wider.read(out)[0]
    by_hand = [[14, 12, 46, 52], [100, 10, 130, 40], [100, 200, 140, 250]]
    np.testing.assert_allclose(first.boxes, by_hand)
    np.testing.assert_array_equal(first.attributes[0], [2, 0, 0, 0, 1, 0])
    ignored = sorted(map(tuple, first.ignored.tolist()))
    assert ignored == [(200, 10, 212, 22), (200, 200, 240, 250), (300, 10, 330, 40)]
    np.testing.assert_allclose(second.boxes, [[5, 5, 35, 35]])
    printed = capsys.readouterr().out
    assert "1 moved to the teacher's box, 1 kept, 1 kept as invalid, 1 added, 1 added" in printed
    assert "1 pictures that the teacher could not read keep their labels" in printed


def test_a_box_is_of_one_face():
    """Two labels upon one another, one box of the teacher's: the better label takes it."""
    annotation = wider.Annotation(
        "a.jpg",
        np.array([[0, 0, 40, 40], [4, 4, 44, 44]], np.float32),
        np.zeros((0, 4), np.float32),
    )
    rows = np.array([[4, 5, 44, 45, 0.9]], np.float32)
    found, counts = relabel.relabelled(annotation, rows, config.teacher)
    np.testing.assert_allclose(found.boxes, [[0, 0, 40, 40], [4, 5, 44, 45]])
    assert counts.tolist() == [1, 1, 0, 0, 0]
    added = np.concatenate([rows, [[90, 90, 130, 130, 0.9]]])
    found, _ = relabel.relabelled(annotation, added, config.teacher)
    assert len(found.boxes) == 3 and len(found.only(np.array([True, False, True])).boxes) == 2


@pytest.mark.parametrize(
    "given, says", [({}, "the teacher could read none"), ({"floor": 0.3}, "scores from 0.3 only")]
)
def test_boxes_of_no_use(labelled, given, says):
    path = boxes_file(labelled, **({"pictures": {}} if not given else given))
    with pytest.raises(Problem, match=says):
        relabel.main(
            ["--data", str(labelled), "--teacher-boxes", str(path), "--out", str(labelled / "new")]
        )
    assert not (labelled / "new").exists()

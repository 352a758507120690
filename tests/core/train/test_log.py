"""A damaged log is one line that names the file and the line; what can be missing may be."""

import json

import pytest

from core.train import log
from core.train.curves import curves
from facelet.console import Problem

TRAIN = {"cls_loss": 0.5, "left_out": 2, "samples_per_second": 9.5}
VAL = {"cls_loss": 0.25, "precision": None, "by_point": [0.5, None]}
ROW = {"epoch": 1, "train": TRAIN, "val": VAL}


def test_what_it_reads(tmp_path):
    path = tmp_path / "log.jsonl"
    assert log.read(path) == []
    rows = [ROW, {"epoch": 2, "train": {}, "val": {}}]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert log.read(path) == rows


def test_curves_of_rows_with_gaps(tmp_path):
    rows = [{"epoch": 2, "train": {}, "val": {"accuracy": 0.5}}, {**ROW, "epoch": 1}]
    curves([ROW, *rows], tmp_path / "curves.png", "gaps")
    assert (tmp_path / "curves.png").stat().st_size > 1000


@pytest.mark.parametrize(
    "row",
    [
        None,
        [ROW],
        {**ROW, "epoch": 1},
        {**ROW, "epoch": "2"},
        {**ROW, "epoch": 2, "train": [1]},
        {**ROW, "epoch": 2, "val": "x"},
        {**ROW, "epoch": 2, "val": {"accuracy": "0.5"}},
        {**ROW, "epoch": 2, "val": {"accuracy": 10**400}},
        {**ROW, "epoch": 2, "val": {"accuracy": float("nan")}},
        {**ROW, "epoch": 2, "val": {"by_point": [[1]]}},
    ],
)
def test_damaged_rows(row, tmp_path):
    path = tmp_path / "log.jsonl"
    path.write_text(f"{json.dumps(ROW)}\n{json.dumps(row)}\n")
    with pytest.raises(Problem, match=r"log\.jsonl, line 2 is damaged"):
        log.read(path)

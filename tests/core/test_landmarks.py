"""The course from faces with points to a net of landmarks."""

import json

import pytest

from core import landmarks
from core.base import parallel
from facelet.console import Problem
from facelet.onnx_net import OnnxNet

SETTINGS = [
    "train.batch=8",
    "train.epochs=1",
    "train.warmup=2",
    "train.val_fraction=0.3",
    "crop.preset=detector",
    "landmark_samples.base_num=2",
]


@pytest.fixture(autouse=True)
def alone(monkeypatch):
    """In this process, without workers, which take longer to start than they would work."""
    monkeypatch.setattr(parallel, "cores", lambda: 1)


def course(drawn_set, out, scheme, *more):
    landmarks.main(
        [
            *map(
                str,
                (
                    "--data",
                    drawn_set / "landmarks" / f"train_{scheme}.txt",
                    "--out",
                    out,
                    *more,
                    *SETTINGS,
                ),
            )
        ]
    )


def test_from_faces_to_an_exported_net(drawn_set, tmp_path, capsys):
    course(drawn_set, tmp_path, "5", "--net", "Lnet_v2", "--base", 4)
    assert "there already" not in capsys.readouterr().out
    name = "Lnet_v2-base4"
    figures = json.loads((tmp_path / f"{name}-measured" / "landmarks.json").read_text())
    assert figures["faces"] > 0 and figures["scheme"] == "5"
    net = OnnxNet(tmp_path / f"{name}-exported" / "Lnet_v2.onnx")
    assert net.facts["points"] == 5
    assert net.facts["crop"] == {"box": "detector", "scale": 1.0}
    made = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*") if path.is_file()}
    course(drawn_set, tmp_path, "5", "--net", "Lnet_v2", "--base", 4)
    assert capsys.readouterr().out.count("there already") == 4
    assert made == {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*") if path.is_file()}


def test_another_number_of_points_from_finished_crops(drawn_set, tmp_path):
    course(drawn_set, tmp_path, "68", "--net", "Lnet_v2", "--base", 4, "--points", 68, "--offline")
    exported = tmp_path / "Lnet_v2-base4-points68-offline-exported" / "Lnet_v2.onnx"
    assert OnnxNet(exported).facts["scheme"] == "68"


def test_nets_of_other_points_share_a_drawn_set(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(landmarks, "SAMPLE_PICTURES", 24)
    for net, there in (("Lnet_v2", 0), ("Lnet106_v2", 1)):
        landmarks.main(["--net", net, "--base", "4", "--out", str(tmp_path), *SETTINGS])
        assert capsys.readouterr().out.count("there already") == there
        assert (tmp_path / f"{net}-base4-exported" / f"{net}.onnx").exists()


def test_what_it_can_not_do(drawn_set, tmp_path):
    with pytest.raises(Problem, match="is no net of landmarks alone: an Lnet is"):
        course(drawn_set, tmp_path, "5", "--net", "Onet_v1")
    with pytest.raises(Problem, match="5, 68 or 106 points, not 98: give --data"):
        landmarks.main(["--net", "Lnet_v2", "--points", "98", "--out", str(tmp_path / "none")])
    with pytest.raises(
        Problem, match="learns 106 landmark points, .* has 5: train it with --points 5"
    ):
        course(drawn_set, tmp_path, "5", "--net", "Lnet106_v2")

"""What core.models tells of the included detectors, against what they do."""

import json

import numpy as np
import pytest

from core import flops, models
from facelet import nets
from facelet.console import Problem
from facelet.detector import FaceDetector


def test_multiply_adds_are_of_the_sizes_that_the_pnet_sees(monkeypatch):
    monkeypatch.setattr(models, "PICTURE", (200, 150))  # seen whole, without tiles
    found = {net["stage"]: net for net in models.describe("small")["nets"]}
    detector = FaceDetector.open("small", points=0, engine="onnxruntime")
    net, seen = detector.nets["pnet"], []

    class Watched:
        name, tasks, facts = net.name, net.tasks, net.facts

        def __call__(self, data):
            seen.append(data.shape[:1:-1])
            return net(data)

    detector = FaceDetector(Watched(), min_face=detector.settings.min_face, engine="onnxruntime")
    detector.detect(np.zeros((150, 200, 3), np.uint8))
    assert len(seen) > 4
    name = net.facts["net"]
    macs = sum(flops.count_net(name, size=size).macs for size in seen)
    assert found["pnet"]["macs"] == macs
    assert found["rnet"]["macs"] == flops.record("Rnet_v1")["macs"] and "68 points" in found


def test_all_are_listed(capsys):
    models.main([])
    said = capsys.readouterr().out
    models.main(["--json"])
    told = json.loads(capsys.readouterr().out)
    assert [one["name"] for one in told] == list(nets.included())
    assert [one["name"] for one in told if one["default"]] == ["medium"]
    for one in told:
        assert f"{one['name']}" in said and {net["stage"] for net in one["nets"]} >= {
            "pnet",
            "onet",
        }
        assert one["bytes"] == sum(
            (nets.MODELS / net["file"]).stat().st_size for net in one["nets"]
        )


def test_by_name():
    assert FaceDetector.open("medium") == FaceDetector.open() == FaceDetector.open(nets.MODELS)
    small = FaceDetector.open(nets.MODELS / "detector-small.json", mode="fast")
    assert FaceDetector.open("small", mode="fast") == small != FaceDetector.open(mode="fast")
    for name in nets.included():
        detector = FaceDetector.open(name, points=68, mode="precise")
        assert detector.settings.mirror and detector.scheme == "68"
    with pytest.raises(Problem, match="no folder.*name of an included detector: medium, .*small"):
        FaceDetector.open("tiny")


def test_a_folder_of_the_same_name(tmp_path, monkeypatch):
    """Neither is taken in silence; programs without --nets need no name."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "small").mkdir()
    with pytest.raises(Problem, match="small is an included detector, and a folder here"):
        FaceDetector.open("small")
    for folder in ("./small", tmp_path / "small"):
        with pytest.raises(Problem, match="has no Pnet"):
            FaceDetector.open(folder)
    assert models.describe("small")["name"] == "small"

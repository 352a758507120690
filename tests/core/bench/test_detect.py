"""The benchmark of detectors: pictures of the sizes it says, a baseline that finds as much."""

import cv2
import numpy as np
import pytest
from trained import sensible

from core.bench import detect as bench_detect
from core.formats import checkpoint
from facelet import picture as pictures
from facelet.console import Problem
from facelet.nets import MODELS

NETS = {"pnet": "Pnet20_v0", "rnet": "Rnet_v1", "onet": "Onet_v1"}


@pytest.fixture(scope="module")
def nets(drawn_set, tmp_path_factory):
    """Paths of a cascade by chance, by stage, whose Pnet takes few windows for faces."""
    folder, picture = tmp_path_factory.mktemp("nets"), pictures.read(next(drawn_set.rglob("*.jpg")))
    made = {stage: sensible(picture, net, {}) for stage, net in NETS.items()}
    made["pnet"].arguments["bn4_1_beta"][:] = 1.5, -1.5
    return {stage: str(checkpoint.save(folder, net, 1, {})) for stage, net in made.items()}


@pytest.mark.parametrize(
    "size, width, height, shape",
    [
        ("640x480", 1000, 400, (480, 640)),
        ("640x480", 300, 900, (480, 640)),
        ("1920x1080", 640, 480, (1080, 1920)),
        ("short side 416", 500, 1000, (832, 416)),
        ("short side 416", 800, 200, (416, 1664)),
    ],
)
def test_sizes(size, width, height, shape):
    picture = np.zeros((height, width, 3), np.uint8)
    cv2.circle(picture, (width // 2, height // 2), 20, (255, 255, 255), -1)
    made = bench_detect.sized(picture, size)
    assert made.shape == (*shape, 3)
    assert made[shape[0] // 2, shape[1] // 2].min() == 255  # its middle stays in the middle


@pytest.mark.parametrize("smaller", [False, True])
def test_whole_pixel_suppression(smaller):
    """Against boxes as sets of pixels, the first and the last among them."""
    rng = np.random.default_rng(0)
    corner = rng.integers(0, 20, (40, 2))
    boxes = np.concatenate([corner, corner + rng.integers(0, 12, (40, 2))], axis=1).astype(float)
    scores = rng.permutation(40) / 40
    pixels = [
        {(x, y) for x in range(int(x1), int(x2) + 1) for y in range(int(y1), int(y2) + 1)}
        for x1, y1, x2, y2 in boxes
    ]
    expected = []
    for i in np.argsort(-scores):
        if all(
            len(pixels[i] & pixels[k])
            <= 0.4
            * (min(len(pixels[i]), len(pixels[k])) if smaller else len(pixels[i] | pixels[k]))
            for k in expected
        ):
            expected.append(i)
    assert bench_detect._whole_pixel_nms(boxes, scores, 0.4, smaller) == expected


def test_rows(nets, drawn_set, monkeypatch):
    """Both find boxes on the same pictures, and about as many."""
    monkeypatch.setattr(bench_detect, "_installed", lambda package: False)
    sample = bench_detect._pictures(drawn_set, None)[:2]
    rows = bench_detect.measure(nets, "640x480", sample, [], rounds=1, seconds=0.01)
    ours, two, plain, baseline = rows
    assert [row["competitor"] for row in rows] == [
        "ours",
        bench_detect.TWO,
        bench_detect.ORT,
        "baseline",
    ]
    assert two["faces"] == ours["faces"]  # threads change nothing
    for row in rows:
        assert row["best_ms"] > 0 and row["mb"] > 50
    assert ours["ratio"] == 1 and baseline["ratio"] == pytest.approx(baseline["ms"] / ours["ms"])
    assert list(plain["stages"]) == ["pnet", "rnet", "onet"] and baseline["target"] == 6
    assert sum(ms for ms, _ in plain["stages"].values()) == pytest.approx(plain["ms"], rel=0.2)
    assert baseline["faces"] == pytest.approx(ours["faces"], rel=0.3) and ours["faces"] > 3


def test_two_threads_are_to_be_faster(capsys):
    row = {"size": "1920x1080", "competitor": bench_detect.TWO, "ms": 5, "best_ms": 5, "faces": 1}
    row = {**row, "mb": 9, "stages": {}, "target": 1.7}
    bench_detect._show([{**row, "ratio": 0.58}, {**row, "ratio": 0.6}])
    met, missed = capsys.readouterr().out.split("\n")[:2]
    assert met.endswith("1.7x, met") and missed.endswith("1.7x, missed")


def test_nets_of_any_size_are_run_alone(tmp_path):
    """YuNet models that leave their size open are for onnxruntime; what they get is filled up."""
    assert bench_detect._any_size(MODELS / "Pnet20_v2.onnx")
    assert not bench_detect._any_size(MODELS / "Rnet_v1.onnx")
    run, _ = bench_detect.yunet_net({"model": MODELS / "Pnet20_v2.onnx"})
    assert run(np.zeros((33, 65, 3), np.uint8)) == 0
    (tmp_path / "no.onnx").write_bytes(b"no model")
    with pytest.raises(Problem, match="no.onnx can't be read"):
        bench_detect._any_size(tmp_path / "no.onnx")


def test_what_cannot_be_measured(tmp_path, nets):
    with pytest.raises(Problem, match="holds no pictures"):
        bench_detect._pictures(tmp_path, None)
    with pytest.raises(Problem, match="no YuNet model that OpenCV reads"):
        bench_detect.yunet({"model": nets["pnet"]})
    (tmp_path / "empty").mkdir()
    with pytest.raises(Problem, match="has no Pnet"):
        bench_detect.run(tmp_path / "empty", None, [], 1, False)

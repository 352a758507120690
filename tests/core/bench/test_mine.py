"""The benchmark of mining: both ways make the same of the same pictures."""

import cv2
import numpy as np
import pytest
from trained import sensible

from core.bench import mine as bench_mine
from core.formats import checkpoint
from facelet import picture as pictures
from facelet.console import Problem


@pytest.fixture(scope="module")
def sample(drawn_set):
    return bench_mine._sample(drawn_set, "train", 3)


@pytest.fixture(scope="module")
def nets(sample, tmp_path_factory):
    """Paths of a Pnet and an Rnet by chance, by stage; the Pnet takes few windows for faces."""
    picture = pictures.read(sample.images / sample.annotations[0].path)
    pnet, rnet = sensible(picture, "Pnet20_v0", {}), sensible(picture, "Rnet_v1", {})
    pnet.arguments["bn4_1_beta"][:] = 1.5, -1.5
    folder = tmp_path_factory.mktemp("nets")
    return {
        stage: str(checkpoint.save(folder, net, 1, {}))
        for stage, net in (("pnet", pnet), ("rnet", rnet))
    }


def test_rows(sample, nets):
    ours, baseline = bench_mine.measure(sample, nets, "onet", rounds=1)
    assert (ours["competitor"], baseline["competitor"]) == ("ours", "baseline")
    assert ours["pictures"] == baseline["pictures"] == 3
    assert ours["ratio"] == pytest.approx(ours["median"] / baseline["median"])
    assert baseline["ratio"] == 1 and ours["best"] >= ours["median"] > 0
    # train-mtcnn's way leaves out squares that reach over the border.
    assert 10 < baseline["samples"] <= ours["samples"] < 2 * baseline["samples"]


def test_the_baseline_writes_its_crops(sample, nets, tmp_path):
    written = bench_mine.baseline(sample, {"pnet": nets["pnet"]}, "rnet")(tmp_path)
    files = sorted(tmp_path.iterdir(), key=lambda path: int(path.stem))
    assert [path.name for path in files] == [f"{i}.jpg" for i in range(written)] and written > 10
    assert {cv2.imread(str(path)).shape for path in files} == {(24, 24, 3)}


def test_which_squares_the_baseline_takes():
    """Against squares and faces as sets of pixels, the last among them."""
    rng = np.random.default_rng(0)
    picture = rng.integers(0, 255, (120, 160, 3), np.uint8)
    corner = rng.integers(-10, 130, (300, 2))
    boxes = np.concatenate([corner, corner + rng.integers(10, 50, (300, 1))], axis=1).astype(float)
    edges = [[140, 60, 159, 79], [141, 60, 160, 79], [100, 99, 120, 119], [100, 100, 120, 120]]
    boxes = np.concatenate([boxes, edges])
    faces = np.array([[20, 30, 60, 80], [90, 10, 120, 40]], np.float32)

    def pixels(x1, y1, x2, y2):
        return {(x, y) for x in range(int(x1), int(x2) + 1) for y in range(int(y1), int(y2) + 1)}

    every, expected = [pixels(*face) for face in faces], []
    for x1, y1, x2, y2 in boxes.astype(int).tolist():
        square = pixels(x1, y1, x2, y2)
        if (
            x2 - x1 >= 19
            and x1 >= 0
            and y1 >= 0
            and x2 < 160
            and y2 < 120
            and all(len(square & face) < 0.1 * len(square | face) for face in every)
        ):
            expected.append(cv2.resize(picture[y1 : y2 + 1, x1 : x2 + 1], (24, 24)))
    found = list(bench_mine._crops(picture, boxes, faces, 24))
    assert 20 < len(found) < 200
    np.testing.assert_array_equal(found, expected)


def test_what_cannot_be_measured(tmp_path, sample, nets):
    with pytest.raises(Problem, match="--count 0: it must be at least 1"):
        bench_mine.run(tmp_path, None, "train", 0, ["rnet"], 1, False)
    (tmp_path / "empty").mkdir()
    with pytest.raises(Problem, match="has no Pnet"):
        bench_mine.run(tmp_path / "empty", None, "train", 3, ["rnet"], 1, False)
    with pytest.raises(Problem, match="takes pnet and rnet: no rnet is given"):
        bench_mine.measure(sample, {"pnet": nets["pnet"]}, "onet", 1)

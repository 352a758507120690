"""Mining: which boxes become samples, of what kind, and what a stop leaves."""

import errno
import json
from pathlib import Path

import numpy as np
import pytest
from trained import sensible

from config import config, override
from core.formats import checkpoint
from facelet import boxes as geometry
from facelet import isolated
from facelet import picture as pictures
from facelet.console import Problem
from facelet.faces import Faces
from prepare_data import mine, wider
from prepare_data.store import Store

QUICK = [
    "detect.min_face=60",
    "mine.min_side=8",
    "mine.pnet=0.7",
    "mine.rnet=0.7",
    "mine.onet=0.7,0.6",
]


@pytest.fixture(scope="module")
def nets(drawn_set, tmp_path_factory):
    """Checkpoints of a Pnet and an Rnet by chance: run folders by stage."""
    face_set, folder = wider.open_set(drawn_set, "train"), tmp_path_factory.mktemp("nets")
    picture = pictures.read(face_set.images / face_set.annotations[0].path)
    for stage, net in (("pnet", "Pnet20_v0"), ("rnet", "Rnet_v1")):
        checkpoint.save(folder / stage, sensible(picture, net, {}), 1, {})
    return {"pnet": folder / "pnet", "rnet": folder / "rnet"}


@pytest.fixture(scope="module")
def face_set(drawn_set):
    return wider.open_set(drawn_set, "train")


def run(face_set, nets, out, *settings, target="rnet", size=24, workers=1):
    mine.make_store(
        face_set, nets, target, size, out, override(config, [*QUICK, *settings]), workers
    )
    return Store(out, size)


class Finds:
    """A detector that finds what it is told, its last net being `stage`."""

    def __init__(self, stage, boxes, windows):
        self.nets = {stage: None}
        self.boxes, self.windows = np.float32(boxes), np.float32(windows)

    def found(self, picture):
        return Faces(self.boxes, np.ones(len(self.boxes), np.float32), None, self.windows)


def iou_by_pixels(a, b):
    """Of boxes with whole corners, by counting the pixels of each and of both."""
    masks = np.zeros((2, 200, 300), bool)
    for mask, (x1, y1, x2, y2) in zip(masks, (a, b)):
        mask[y1:y2, x1:x2] = True
    return (masks[0] & masks[1]).sum() / (masks[0] | masks[1]).sum()


def sorted_out(boxes, annotation, *settings, target="rnet", windows=None):
    found = mine.squares_of(
        np.zeros((200, 300, 3), np.uint8),
        annotation,
        Finds("pnet", boxes, boxes if windows is None else windows),
        target,
        override(config, settings),
    )
    return (*found[:4], dict(zip(mine.LEFT_OUT, found[4].tolist())))


def test_kinds_are_those_of_a_count_of_pixels():
    """Squares all over two faces, one of them too small to learn from: kinds and offsets as the
    rules have them, by pixels counted."""
    rng = np.random.default_rng(0)
    faces = np.float32([[60, 50, 130, 140], [200, 40, 212, 54]])
    corner, side = rng.integers(0, (150, 90), (400, 2)), rng.integers(20, 110, (400, 1))
    corner[200:] += (30, 10)
    boxes = np.concatenate([corner, corner + side], axis=1)
    annotation = wider.Annotation("a.jpg", faces, np.zeros((0, 4), np.float32))
    squares, labels, offsets, _, left_out = sorted_out(
        boxes, annotation, "mine.parts=True", "mine.positives=True", "mine.per_picture=1000"
    )
    centre = (boxes[:, :2] + boxes[:, 2:]) / 2
    inside = ((centre >= 0) & (centre < (300, 200))).all(axis=1)
    expected = {}
    for box in boxes[inside].tolist():
        overlaps = [iou_by_pixels(box, face) for face in faces.astype(int).tolist()]
        best = int(np.argmax(overlaps))
        if max(overlaps) < 0.1:
            expected[tuple(box)] = (0, [0, 0, 0, 0])
        elif best == 0 and max(overlaps) >= 0.4:
            size = box[2] - box[0]
            expected[tuple(box)] = (
                1 if max(overlaps) >= 0.65 else -1,
                [(f - b) / size for f, b in zip(faces[0].tolist(), box)],
            )
    assert {label for label, _ in expected.values()} == {0, 1, -1}
    got = {
        tuple(square): (label, offset)
        for square, label, offset in zip(squares.tolist(), labels.tolist(), offsets.tolist())
    }
    assert got.keys() == expected.keys()
    for square, (label, offset) in expected.items():
        assert got[square][0] == label
        np.testing.assert_allclose(got[square][1], offset, atol=1e-5)
    assert left_out["near faces"] == inside.sum() - len(squares)
    assert left_out["outside"] == (~inside).sum()


def test_faces_are_no_background_whoever_holds_them_for_faces():
    boxes = [
        [0, 0, 40, 40],
        [100, 0, 140, 40],
        [200, 0, 240, 40],
        [0, 100, 15, 115],
        [100, 100, 140, 140],
        [150, 100, 190, 140],
    ]
    annotation = wider.Annotation(
        "a.jpg",
        np.float32([[10, 10, 50, 50]]),  # the first is near it
        np.float32([[139, 39, 180, 80]]),  # the second touches it by a pixel
        np.float32([[195, 0, 240, 45], [180, 100, 260, 180]]),
    )  # the third; the last a bit
    squares, labels, _, _, left_out = sorted_out(boxes, annotation)
    assert squares.tolist() == [boxes[4], boxes[5]] and labels.tolist() == [0, 0]
    assert left_out == {
        "near faces": 1,
        "ignored": 1,
        "unlabelled": 1,
        "small": 1,
        "outside": 0,
        "over the cap": 0,
    }


def test_a_net_is_mined_for_itself_by_its_windows():
    """The next net sees squares around boxes, the net itself the windows they come from."""
    annotation = wider.Annotation(
        "a.jpg", np.zeros((0, 4), np.float32), np.zeros((0, 4), np.float32)
    )
    boxes, windows = [[10, 20, 50, 40]], [[9.5, 19.5, 40.5, 50.5]]
    assert sorted_out(boxes, annotation, windows=windows)[0].tolist() == [[10, 10, 50, 50]]
    squares, *_ = sorted_out(boxes, annotation, windows=windows, target="pnet")
    assert squares.tolist() == geometry.squares(np.float32(windows)).astype(int).tolist()


@pytest.mark.parametrize("target, size", [("pnet", 20), ("rnet", 24), ("onet", 48)])
def test_a_store_of_what_the_cascade_found(face_set, nets, tmp_path, target, size):
    made = run(face_set, nets, tmp_path / "hard", target=target, size=size)
    assert made.what == "hard" and len(made) and (made.labels[:] == 0).all()
    assert set(made.facts["nets"]) == ({"pnet", "rnet"} if target == "onet" else {"pnet"})
    for index in range(0, len(made), 1 + len(made) // 50):
        number, *square = made.sources[index].tolist()
        annotation = face_set.annotations[number]
        picture = pictures.read(face_set.images / annotation.path)
        assert (
            np.abs(pictures.crop(picture, square, size).astype(int) - made.crops[index]).max() <= 3
        )
        for face in np.round(annotation.boxes).astype(int).tolist():
            x = max(0, min(square[2], face[2]) - max(square[0], face[0]))
            y = max(0, min(square[3], face[3]) - max(square[1], face[1]))
            union = (square[2] - square[0]) ** 2 + (face[2] - face[0]) * (face[3] - face[1]) - x * y
            assert x * y < 0.1 * union


def everything(path):
    return {file.name: file.read_bytes() for file in Path(path).iterdir()}


def test_caps_take_a_part_of_the_same(face_set, nets, tmp_path):
    def found(made):
        return set(map(tuple, made.sources[:].tolist()))

    whole = run(face_set, nets, tmp_path / "all", "mine.per_picture=100000")
    few = run(face_set, nets, tmp_path / "few", "mine.per_picture=7")
    less = run(face_set, nets, tmp_path / "less", "mine.per_picture=7", "mine.total=20")
    other = run(face_set, nets, tmp_path / "other", "mine.per_picture=7", "mine.seed=1")
    assert found(less) < found(few) < found(whole) and found(other) < found(whole)
    assert np.bincount(few.sources[:, 0]).max() == 7 and len(less) == 20
    assert found(other) != found(few)
    for made in (few, less):  # nothing is lost from the books
        assert sum(made.facts["left_out"].values()) + len(made) == sum(
            whole.facts["left_out"].values()
        ) + len(whole)


class Stopped(Exception):
    pass


def test_stopped_it_goes_on_and_ends_the_same(face_set, nets, tmp_path, monkeypatch):
    straight = run(face_set, nets, tmp_path / "straight", workers=2)
    monkeypatch.setattr(mine, "PICTURES_PER_JOB", 5)
    detect, looked = mine.squares_of, []

    def until_the_tenth(*arguments):
        looked.append(arguments[1].path)
        if len(looked) == mine.ESTIMATE_FROM + 10:
            raise Stopped
        return detect(*arguments)

    monkeypatch.setattr(mine, "squares_of", until_the_tenth)
    out = tmp_path / "stopped"
    with pytest.raises(Stopped):
        run(face_set, nets, out)
    assert not out.exists()
    looked.clear()
    monkeypatch.setattr(
        mine,
        "squares_of",
        lambda *arguments: looked.append(arguments[1].path) or detect(*arguments),
    )
    run(face_set, nets, out)
    pictures_in_all = len(face_set.annotations)
    assert len(looked) == min(mine.ESTIMATE_FROM, pictures_in_all) + pictures_in_all - 5
    assert everything(out) == everything(straight.path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["stopped", "straight"]


def test_full_disk_loses_nothing(face_set, nets, tmp_path, monkeypatch):
    from prepare_data import store

    append = store._GrowingArray.append

    def full(self, values):
        raise OSError(errno.ENOSPC, "No space left on device", "crops.npy")

    monkeypatch.setattr(store._GrowingArray, "append", full)
    with pytest.raises(OSError):
        run(face_set, nets, tmp_path / "hard")
    assert [path.name for path in tmp_path.iterdir()] == [".hard.journal"]
    monkeypatch.setattr(store._GrowingArray, "append", append)
    monkeypatch.setattr(mine, "_detect_job", None)  # nothing is looked at again
    monkeypatch.setattr(mine, "_estimate", lambda *_: (1, 1, 1))
    assert len(run(face_set, nets, tmp_path / "hard"))


@pytest.mark.parametrize("last", ["the mosaic", "the journal"])
def test_killed_before_its_last_act_it_is_finished_by_a_rerun(
    face_set, nets, tmp_path, monkeypatch, last
):
    out = tmp_path / "hard"
    with monkeypatch.context() as patch:
        if last == "the mosaic":
            patch.setattr(mine.samples.mosaic, "draw", lambda *_: 1 / 0)
        else:
            patch.setattr(mine.Journal, "remove", lambda self: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            run(face_set, nets, out)
    assert (tmp_path / ".hard.journal").is_dir()
    before = (out / "store.json").read_bytes()
    monkeypatch.setattr(mine, "_estimate", None)  # nothing is looked at again
    assert len(run(face_set, nets, out))
    assert (out / "store.json").read_bytes() == before and (out / "mosaic.png").is_file()
    assert [path.name for path in tmp_path.iterdir()] == ["hard"]
    with pytest.raises(Problem, match="hard is there already: remove it"):
        run(face_set, nets, out)


def test_another_run_is_not_gone_on_with(face_set, nets, tmp_path, monkeypatch):
    monkeypatch.setattr(mine.samples, "cut_store", lambda *_, **__: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        run(face_set, nets, tmp_path / "hard")
    with pytest.raises(Problem, match="mine.rnet.* remove it to start over"):
        run(face_set, nets, tmp_path / "hard", "mine.rnet=0.6")


def test_a_picture_that_vanished_since_is_named(face_set, nets, tmp_path, monkeypatch):
    read = isolated.read
    gone = face_set.annotations[3].path
    calls = []

    def vanishing(path):
        calls.append(str(path))
        if calls.count(str(path)) > 2 and str(path).endswith(gone):  # estimate, detection, cutting
            raise pictures.BrokenPicture(f"{path} is not there")
        return read(path)

    monkeypatch.setattr(isolated, "read", vanishing)
    made = run(face_set, nets, tmp_path / "hard")
    assert made.facts["skipped"] == [f"{face_set.images / gone} is not there"]
    assert 3 not in made.sources[:, 0] and len(made)


@pytest.mark.parametrize(
    "settings, says",
    [
        (["mine.pnet=1.0", "mine.rnet=1.0"], "not one hard example in 24 pictures.*mine.rnet"),
        (["mine.min_side=5000"], "small.*lower the thresholds"),
    ],
)
def test_nothing_found_is_said(face_set, nets, tmp_path, settings, says):
    with pytest.raises(Problem, match=says):
        run(face_set, nets, tmp_path / "hard", *settings)
    assert not (tmp_path / "hard").exists()


def test_nets_that_do_not_go_together(face_set, nets, drawn_set, tmp_path):
    with pytest.raises(Problem, match="no rnet is given"):
        run(face_set, {"pnet": nets["pnet"]}, tmp_path / "hard", target="onet", size=48)
    with pytest.raises(Problem, match="can't be the pnet: it holds Rnet_v1"):
        run(face_set, {"pnet": nets["rnet"]}, tmp_path / "hard")
    with pytest.raises(Problem, match="--size 25"):
        run(face_set, nets, tmp_path / "hard", size=25)
    command = [
        "--data",
        str(drawn_set),
        "--for",
        "rnet",
        "--size",
        "24",
        "--out",
        str(tmp_path / "x"),
    ]
    with pytest.raises(Problem, match="no pnet is given"):
        mine.main(command)
    with pytest.raises(Problem, match="nowhere is no folder"):
        mine.main([*command, "--nets", str(tmp_path / "nowhere")])
    assert not list(tmp_path.iterdir())


def test_store_says_what_it_was_made_with(face_set, nets, tmp_path):
    run(face_set, nets, tmp_path / "hard")
    facts = json.loads((tmp_path / "hard" / "store.json").read_text())
    assert facts["for"] == "rnet" and facts["nets"]["pnet"]["net"] == "Pnet20_v0"
    assert facts["settings"]["mine"]["rnet"] == [0.7] and len(facts["source"]["sha256"]) == 64


def test_faces_outside_of_their_picture(tmp_path, monkeypatch):
    """Named; what is near the part that is there is neither background nor a positive."""
    from facelet import picture as pictures

    pictures.write(tmp_path / "a.png", np.zeros((200, 300, 3), np.uint8))
    boxes = np.array([[260, 50, 310, 100], [20, 20, 70, 70]])
    monkeypatch.setattr(mine, "_open", lambda *_: Finds("pnet", boxes, boxes))
    faces = np.float32([[270, 50, 340, 120], [20, 20, 70, 70]])
    annotation = wider.Annotation("a.png", faces, np.zeros((0, 4), np.float32))
    settings = override(config, ["mine.positives=True"])
    found = mine._detect_job((tmp_path, [(0, annotation)], None, "rnet", settings))
    assert found["squares"].tolist() == [[20, 20, 70, 70]] and found["labels"].tolist() == [1]
    (line,) = found["outside"].tolist()
    assert line.startswith("a.png: the face 270 50 70 70 (x y w h) lies outside")
    assert dict(zip(mine.LEFT_OUT, found["left_out"]))["ignored"] == 1


@pytest.mark.parametrize(
    "change, same",
    [
        ("detect.max_seconds=5", True),
        ("detect.vote=0.5", True),
        ("detect.thresholds=0.9,0.9,0.9", True),
        ("mine.pnet=0.1", True),
        ("samples.negatives=3", True),
        ("detect.min_face=30", False),
        ("mine.rnet=0.1", False),
        ("mine.seed=3", False),
        ("samples.min_face=30", False),
    ],
)
def test_what_a_round_goes_by(change, same):
    before, after = (mine.goes_by(override(config, given), "rnet") for given in ([], [change]))
    assert (before == after) == same

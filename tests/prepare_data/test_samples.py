"""Sampling rules and the packed store."""

import json
import shutil

import cv2
import numpy as np
import pytest

from config import config, override
from core.train.loader import Samples, split_by_picture
from facelet import isolated
from facelet import picture as pictures
from facelet.console import Problem
from facelet.files import checksums, sha256
from prepare_data import mosaic, samples, store, wider
from tests import crashing

FIELDS = ("crops", "labels", "offsets", "sources")


def iou_by_hand(a, b):
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    shared = max(width, 0) * max(height, 0)
    return shared / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - shared)


def annotation(boxes=(), ignored=(), path="a/b.jpg"):
    return wider.Annotation(
        path,
        np.array(boxes, np.float32).reshape(-1, 4),
        np.array(ignored, np.float32).reshape(-1, 4),
    )


def test_samples_keep_the_rules(drawn_set, store20):
    """Every sample of a store, against its source picture and the ground truth."""
    face_set = wider.open_set(drawn_set, "train")
    made = store.Store(store20, 20)
    assert made.pictures() == [a.path for a in face_set.annotations]
    assert min(made.facts["counts"].values()) > 50
    offsets, at_border = np.array(made.offsets), 0
    for i in range(len(made)):
        picture, *square = made.sources[i].tolist()
        faces = face_set.annotations[picture].boxes
        overlaps = [iou_by_hand(square, face) for face in faces.tolist()]
        assert square[2] - square[0] == square[3] - square[1]
        side = square[2] - square[0]
        if made.labels[i] == 0:
            assert not overlaps or max(overlaps) < 0.3
            assert min(square) >= 0 and side >= 20
            assert (offsets[i] == 0).all()
            continue
        # The face it was made for is the one that the offsets lead back to, to the last digit.
        back = np.array(square) + offsets[i].astype(float) * side
        error = np.abs(faces - back).max(axis=1)
        face = int(error.argmin())
        assert error[face] < 1e-3
        if made.labels[i] == 1:
            assert overlaps[face] >= 0.65 - 1e-6
        else:
            assert 0.4 - 1e-6 <= overlaps[face] < 0.65 + 1e-6
        at_border += min(square) < 0
    assert at_border > 0  # faces at the border are kept, by padding


def test_crops_are_the_pictures(drawn_set, store20):
    made = store.Store(store20)
    images = wider.open_set(drawn_set, "train").images
    for i in range(0, len(made), 97):
        picture = pictures.read(images / made.pictures()[made.sources[i, 0]])
        np.testing.assert_array_equal(
            made.crops[i], pictures.crop(picture, made.sources[i, 1:], 20)
        )


def test_same_samples_whatever_the_processes(drawn_set, store20, tmp_path):
    samples.make_store(
        wider.open_set(drawn_set, "train"), 20, tmp_path / "two", config.samples, workers=2
    )
    one, two = store.Store(store20), store.Store(tmp_path / "two")
    for name in FIELDS:
        np.testing.assert_array_equal(getattr(one, name), getattr(two, name))


def test_a_picture_that_crashes_its_decoder_is_passed_over(drawn_set, tmp_path, monkeypatch):
    """In workers: everything else is as where the file is merely broken."""
    crashing.install(tmp_path / "deadly", monkeypatch)
    shutil.copytree(drawn_set, tmp_path / "set")
    face_set, made = wider.open_set(tmp_path / "set", "train"), []
    face_set.annotations = face_set.annotations[:9]
    bad = face_set.images / face_set.annotations[5].path
    png = cv2.imencode(".png", cv2.imread(str(bad)))[1].tobytes()
    for name, data, workers in (("crashes", png + b"fault", 2), ("broken", b"none", 1)):
        bad.write_bytes(data)
        samples.make_store(face_set, 20, tmp_path / name, config.samples, workers)
        made.append(store.Store(tmp_path / name))
    isolated.close()
    for name in FIELDS:
        np.testing.assert_array_equal(*(getattr(one, name) for one in made))
    (reason,) = made[0].facts["skipped"]
    assert reason.startswith(f"{bad}: the decoder dies of SIGSEGV") and len(made[0])


def test_seed_and_path_decide():
    face = annotation([(100, 80, 160, 150)])

    def draw(annotated, seed):
        settings = override(config, [f"samples.seed={seed}"]).samples
        return samples.squares_of(annotated, 400, 300, 20, settings)[0]

    np.testing.assert_array_equal(draw(face, 1), draw(face, 1))
    assert not np.array_equal(draw(face, 1), draw(face, 2))
    other = annotation(face.boxes, path="a/c.jpg")
    assert not np.array_equal(draw(face, 1), draw(other, 1))


@pytest.mark.parametrize("size", samples.SIZES)
@pytest.mark.parametrize(
    "width, height", [(12, 12), (20, 20), (21, 600), (48, 48), (50, 49), (97, 96), (800, 600)]
)
def test_ends_on_every_picture(width, height, size):
    """Where train-mtcnn loops for ever or fails: small pictures, and nothing but face."""
    for faces in ([], [(0, 0, width, height)], [(-30, -30, width + 30, height + 30)]):
        squares, labels, offsets, _ = samples.squares_of(
            annotation(faces), width, height, size, config.samples
        )
        assert len(squares) == len(labels) == len(offsets)
        if min(width, height) < size:
            assert not len(squares)
        background = squares[labels == 0]
        assert (background >= 0).all()
        assert (background[:, [2, 3]] <= [width, height]).all()


def test_face_larger_than_its_picture_still_teaches():
    _, labels, *_ = samples.squares_of(
        annotation([(-40, -40, 240, 240)]), 200, 200, 20, config.samples
    )
    assert (labels == 1).sum() > 0


@pytest.mark.parametrize("kind", ["ignored", "unsure"])
def test_negatives_keep_clear_of_what_may_be_a_face(kind):
    annotated = annotation()
    setattr(annotated, kind, np.array([[50, 50, 350, 250]], np.float32))
    squares, labels, *_ = samples.squares_of(annotated, 400, 300, 20, config.samples)
    assert (labels == 0).all() and len(labels) > 10
    for square in squares.tolist():
        shared = max(0, min(square[2], 350) - max(square[0], 50)) * max(
            0, min(square[3], 250) - max(square[1], 50)
        )
        assert shared / (square[2] - square[0]) ** 2 < 0.3


def test_small_faces_give_no_positives():
    settings = override(config, ["samples.min_face=40"]).samples
    _, labels, *_ = samples.squares_of(annotation([(100, 100, 139, 130)]), 400, 300, 20, settings)
    assert (labels == 0).all()
    _, labels, *_ = samples.squares_of(annotation([(100, 100, 141, 130)]), 400, 300, 20, settings)
    assert (labels == 1).any()


def broken_set(folder):
    """One good picture among broken ones."""
    images = folder / "images"
    images.mkdir(parents=True)
    rng = np.random.default_rng(0)
    scene = cv2.resize(rng.integers(0, 255, (8, 8, 3), np.uint8), (200, 150))
    cv2.imwrite(str(images / "good.jpg"), scene)
    data = cv2.imencode(".jpg", scene)[1].tobytes()
    (images / "cut.jpg").write_bytes(data[: len(data) // 2])
    cv2.imwrite(str(images / "tiny.png"), scene[:15, :15])
    cv2.imwrite(str(images / "grey.png"), scene[:, :, 0])
    cv2.imwrite(str(images / "deep.png"), scene.astype(np.uint16) * 257)
    cv2.imwrite(str(images / "alpha.png"), np.dstack([scene, scene[:, :, 0]]))
    names = ["good.jpg", "cut.jpg", "gone.jpg", "tiny.png", "grey.png", "deep.png", "alpha.png"]
    (folder / "x_train_bbx_gt.txt").write_text(
        "".join(f"{name}\n1\n60 40 50 50 0 0 0 0 0 0\n" for name in names)
    )
    return folder


def test_broken_pictures_are_skipped_by_name(tmp_path, capsys):
    face_set = wider.open_set(broken_set(tmp_path / "set"), "train")
    samples.make_store(face_set, 20, tmp_path / "out", config.samples, workers=2)
    made = store.Store(tmp_path / "out")
    used = {made.pictures()[i] for i in np.unique(made.sources[:, 0])}
    assert used == {"good.jpg", "grey.png", "deep.png", "alpha.png"}
    printed = capsys.readouterr().out
    assert len(made.facts["skipped"]) == 3
    for name, says in (
        ("cut.jpg", "truncated"),
        ("gone.jpg", "No such file"),
        ("tiny.png", "15x15 is smaller than the net's 20"),
    ):
        assert any(name in line and says in line for line in made.facts["skipped"])
        assert any(line.startswith("skipped") and name in line for line in printed.splitlines())


def test_nothing_usable_leaves_nothing(tmp_path):
    folder = broken_set(tmp_path / "set")
    (folder / "x_train_bbx_gt.txt").write_text("cut.jpg\n0\n")
    with pytest.raises(Problem, match="not one picture could be used.*truncated"):
        samples.make_store(
            wider.open_set(folder, "train"), 20, tmp_path / "out", config.samples, workers=1
        )
    assert sorted(p.name for p in tmp_path.iterdir()) == ["set"]


def test_interruption_leaves_nothing(drawn_set, tmp_path, monkeypatch):
    """Ctrl-C, or a full disk, in the middle of writing."""
    append = store._GrowingArray.append
    for error in (KeyboardInterrupt, OSError(28, "No space left on device")):
        calls = []

        def failing(self, values):
            calls.append(1)
            if len(calls) > 6:
                raise error
            append(self, values)

        monkeypatch.setattr(store._GrowingArray, "append", failing)
        with pytest.raises(type(error) if isinstance(error, OSError) else error):
            samples.make_store(
                wider.open_set(drawn_set, "train"), 20, tmp_path / "out", config.samples, workers=1
            )
        assert list(tmp_path.iterdir()) == []


def test_too_little_disk_is_said_before_it_starts(drawn_set, tmp_path, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(9, 9, 1000))
    with pytest.raises(Problem, match="free, the store needs about"):
        samples.make_store(
            wider.open_set(drawn_set, "train"), 20, tmp_path / "out", config.samples, workers=1
        )
    assert list(tmp_path.iterdir()) == []


def test_store_is_plain_numpy_and_checked(store20, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(store20, copy)
    made = store.Store(copy, 20)
    assert isinstance(made.crops, np.memmap) and made.crops.dtype == np.uint8
    assert np.load(copy / "offsets.npy", mmap_mode="r").dtype == np.float32
    assert sum(made.facts["counts"].values()) == len(np.load(copy / "labels.npy"))
    with pytest.raises(Problem, match="samples of 20 pixels, the net takes 24.*--size 24"):
        store.Store(copy, 24)
    with open(copy / "crops.npy", "r+b") as file:
        file.truncate(1000)
    with pytest.raises(Problem, match="crops.npy is damaged"):
        store.Store(copy)
    (copy / "store.json").write_text("{")
    with pytest.raises(Problem, match="store.json is not valid JSON"):
        store.Store(copy)
    with pytest.raises(Problem, match="is no store of samples"):
        store.Store(tmp_path / "nowhere")


def test_existing_store_is_not_overwritten(drawn_set, store20):
    before = (store20 / "store.json").read_text()
    with pytest.raises(Problem, match="is there already"):
        samples.make_store(wider.open_set(drawn_set, "train"), 20, store20, config.samples)
    assert (store20 / "store.json").read_text() == before


def test_a_mosaic_that_a_kill_has_left_out_is_drawn_by_a_rerun(
    drawn_set, store20, tmp_path, monkeypatch
):
    """Of the same store alone, and without cutting anything again."""
    face_set, draw = wider.open_set(drawn_set, "train"), mosaic.draw

    def make(settings=config.samples, size=20):
        return samples.make_store(face_set, size, tmp_path / "out", settings, workers=1)

    monkeypatch.setattr(mosaic, "draw", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        make()
    before = checksums(tmp_path / "out")
    assert "mosaic.png" not in before and samples.is_new(tmp_path / "new")
    monkeypatch.setattr(mosaic, "draw", draw)
    monkeypatch.setattr(samples, "cut", None)
    for other in ((override(config, ["samples.seed=5"]).samples,), (config.samples, 24)):
        with pytest.raises(Problem, match="out is there already: remove it"):
            make(*other)
    assert sum(make().values()) == len(store.Store(store20))
    after = checksums(tmp_path / "out")
    assert after.pop("mosaic.png") == sha256(store20 / "mosaic.png") and after == before
    with pytest.raises(Problem, match="out is there already: remove it"):
        make()


def test_store_says_what_it_was_made_from(store20):
    facts = json.loads((store20 / "store.json").read_text())
    assert facts["settings"] == dict(config.samples)
    assert len(facts["source"]["sha256"]) == 64 and facts["source"]["faces"] > 0


def test_held_out_by_picture(store20):
    made = store.Store(store20)
    training, held_out = split_by_picture(Samples([made]), 0.25, seed=0)
    assert len(training) + len(held_out) == len(made)
    sources = made.sources[:, 0]
    assert not set(sources[training]) & set(sources[held_out])
    assert len(set(sources[held_out])) == round(0.25 * len(set(sources)))
    with pytest.raises(Problem, match="leaves none to hold out"):
        split_by_picture(Samples([made]), 0.0, seed=0)


def test_mosaic_draws_the_box_around_the_face(store20, tmp_path):
    made = store.Store(store20)
    mosaic.draw(made, tmp_path / "m.png")
    picture = cv2.imread(str(tmp_path / "m.png"))
    green = (picture == mosaic.GREEN).all(axis=2)
    band = mosaic.TITLE + mosaic.ROWS * (mosaic.TILE + 2 * mosaic.MARGIN)
    assert picture.shape[0] == 3 * band
    assert green[: 2 * band].sum() > 1000  # positives and parts have boxes
    assert green[2 * band + mosaic.TITLE :].sum() < 50  # negatives have none
    # A box that is its crop is drawn on the crop's edge.
    tile = mosaic._tile(np.zeros((20, 20, 3), np.uint8), np.zeros(4, np.float32))
    rows, columns = np.nonzero((tile == mosaic.GREEN).all(axis=2))
    assert (rows.min(), rows.max()) == (mosaic.MARGIN, mosaic.MARGIN + mosaic.TILE - 1)
    assert (columns.min(), columns.max()) == (mosaic.MARGIN, mosaic.MARGIN + mosaic.TILE - 1)


def test_what_a_store_is_of(store20, tmp_path):
    """Kinds are counted by what a store is of; stores from before there were others are read."""
    made = store.Store(store20)
    assert made.what == "samples" and list(made.facts["counts"]) == ["positive", "part", "negative"]
    assert made.landmarks is None and made.points is None and made.scheme is None
    copy = tmp_path / "old"
    shutil.copytree(store20, copy)
    facts = json.loads((copy / "store.json").read_text())
    assert facts.pop("what") == "samples"
    (copy / "store.json").write_text(json.dumps(facts))
    old = store.Store(copy, 20)
    assert old.what == "samples" and old.landmarks is None and len(old) == len(made)


def test_landmarks_in_a_store(tmp_path):
    """Written by hand, in two parts."""
    rng = np.random.default_rng(0)
    chunks = [
        {
            "crops": rng.integers(0, 255, (n, 12, 12, 3), np.uint8),
            "labels": np.full(n, -2, np.int8),
            "offsets": np.zeros((n, 4), np.float32),
            "sources": np.tile(np.array([0, 1, 2, 13, 14], np.int32), (n, 1)),
            "landmarks": rng.uniform(size=(n, 68, 2)).astype(np.float32),
        }
        for n in (3, 0, 4)
    ]
    counts = store.write_store(
        tmp_path / "made",
        12,
        iter(chunks),
        ["a.jpg"],
        {"scheme": "of 68"},
        what="landmark",
        points=68,
    )
    assert counts == {"landmark": 7}
    made = store.Store(tmp_path / "made", 12)
    assert (made.what, made.points, made.scheme) == ("landmark", 68, "of 68")
    for name in (*FIELDS, "landmarks"):
        np.testing.assert_array_equal(
            getattr(made, name), np.concatenate([chunk[name] for chunk in chunks])
        )
    size = sum(
        (tmp_path / "made" / file).stat().st_size - store._GrowingArray.HEADER
        for file, _, _ in store.fields(12, 68).values()
    )
    assert size == 7 * store.sample_bytes(12, 68)
    (tmp_path / "made" / "landmarks.npy").unlink()
    with pytest.raises(Problem, match="landmarks.npy can't be read"):
        store.Store(tmp_path / "made")


def test_a_mined_store_is_told_apart(tmp_path):
    chunk = {
        "crops": np.zeros((5, 12, 12, 3)),
        "labels": np.array([0, 0, 1, -1, 0]),
        "offsets": np.zeros((5, 4)),
        "sources": np.tile([0, 0, 0, 12, 12], (5, 1)),
    }
    counts = store.write_store(tmp_path / "made", 12, [chunk], ["a.jpg"], {}, what="hard")
    assert counts == {"positive": 1, "part": 1, "negative": 3}
    assert store.Store(tmp_path / "made").what == "hard"


def test_faces_of_another_entry_are_no_background(tmp_path):
    """A picture listed by a path, by another spelling of it and by a link, a face each time."""
    (tmp_path / "images").mkdir()
    scene = np.random.default_rng(0).integers(0, 255, (200, 300, 3), np.uint8)
    cv2.imwrite(str(tmp_path / "images" / "a.png"), scene)
    (tmp_path / "images" / "link.png").symlink_to("a.png")
    faces = [(20, 20, 120, 120), (150, 20, 250, 120), (100, 60, 190, 150)]
    (tmp_path / "train_bbx_gt.txt").write_text(
        "".join(
            f"{name}\n1\n{x1} {y1} {x2 - x1} {y2 - y1} 0 0 0 0 0 0\n"
            for name, (x1, y1, x2, y2) in zip(("a.png", ".\\a.png", "link.png"), faces)
        )
    )
    samples.make_store(
        wider.open_set(tmp_path, "train"), 20, tmp_path / "out", config.samples, workers=1
    )
    made = store.Store(tmp_path / "out")
    assert made.pictures() == ["a.png"] and made.facts["source"]["merged"] == 2
    background = made.sources[:][made.labels[:] == 0, 1:]
    assert len(background) > 5
    assert max(iou_by_hand(box, face) for box in background.tolist() for face in faces) < 0.3


def test_faces_outside_of_their_picture_give_no_samples(tmp_path, capsys):
    """Named and kept; what can be seen of them is no background, and no crop is wholly black."""
    (tmp_path / "images").mkdir()
    scene = np.random.default_rng(0).integers(1, 255, (200, 300, 3), np.uint8)
    cv2.imwrite(str(tmp_path / "images" / "a.png"), scene)
    boxes = [(20, 20, 60, 60), (100, 90, 60, 60), (200, 20, 60, 60), (60, 150, 50, 50)]
    boxes += [(400, 20, 60, 60), (260, 120, 100, 60)]
    (tmp_path / "train_bbx_gt.txt").write_text(
        f"a.png\n{len(boxes)}\n"
        + "".join(" ".join(map(str, box)) + " 0" * 6 + "\n" for box in boxes)
        + "b.png\n0\n" * 1
    )
    cv2.imwrite(str(tmp_path / "images" / "b.png"), scene)
    samples.make_store(
        wider.open_set(tmp_path, "train"), 20, tmp_path / "out", config.samples, workers=1
    )
    made, printed = store.Store(tmp_path / "out"), capsys.readouterr().out
    first, second = made.facts["skipped"]
    assert "a.png: the face 400 20 60 60 (x y w h) lies outside" in first and first in printed
    assert "the face 260 120 100 60" in second and second in printed
    of_first = made.sources[:][made.sources[:][:, 0] == 0][:, 1:].tolist()
    labels = made.labels[:][made.sources[:][:, 0] == 0]
    for label, square in zip(labels, of_first):
        near = [iou_by_hand(square, (x, y, x + w, y + h)) for x, y, w, h in boxes]
        if label == 1:
            assert max(near[:4]) >= 0.6 > max(near[4:])
        if label == 0:  # of the part that is there it has less than this
            shared = max(0, min(square[2], 300) - max(square[0], 260)) * max(
                0, min(square[3], 180) - max(square[1], 120)
            )
            assert shared / (square[2] - square[0]) ** 2 < 0.3
    assert (made.crops[:].reshape(len(made), -1).max(axis=1) > 0).all()


# ---- turned faces --------------------------------------------------------------------------


def test_turned_faces_are_where_their_boxes_say(tmp_path):
    """An ellipse is drawn as a face: in a sample that is turned it touches all four sides of the
    sample's box, whatever the angle."""
    picture = np.zeros((300, 400, 3), np.uint8)
    box = np.array([140, 60, 240, 220], float)
    centre, axes = (box[:2] + box[2:]) / 2, (box[2:] - box[:2]) / 2
    y, x = np.mgrid[:300, :400] + 0.5
    inside = ((x - centre[0]) / axes[0]) ** 2 + ((y - centre[1]) / axes[1]) ** 2 <= 1
    picture[inside] = 255
    pictures.write(tmp_path / "a.png", picture)
    given = override(
        config,
        [
            "samples.turned=0.7",
            "samples.negatives=0",
            "samples.near_negatives=0",
            "samples.positives=120",
        ],
    ).samples
    marked = annotation([box], path="a.png")
    chunk, _ = samples.cut(tmp_path, marked, 0, 48, given)
    degrees = samples.squares_of(marked, 400, 300, 48, given)[3][:, 0]
    assert len(degrees) == len(chunk["labels"]) > 10
    assert 0.4 < (degrees != 0).mean() < 0.95 and 15 < np.abs(degrees).max() <= 30
    checked = 0
    for crop, offsets in zip(chunk["crops"], chunk["offsets"]):
        x1, y1, x2, y2 = (offsets + [0, 0, 1, 1]) * 48
        rows, columns = np.nonzero(crop[..., 0] > 127)
        edges = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
        for found, wanted in zip(edges, (x1, y1, x2, y2)):
            if 1 < wanted < 47:
                assert abs(found - wanted) <= 1.5
                checked += 1
    assert checked > 20


def test_without_turning_nothing_changes():
    face = annotation([(100, 80, 160, 150)])
    never = override(config, ["samples.turned=0", "samples.angle=10"]).samples
    for one, other in zip(
        samples.squares_of(face, 400, 300, 20, config.samples),
        samples.squares_of(face, 400, 300, 20, never),
    ):
        np.testing.assert_array_equal(one, other)
    assert not samples.squares_of(face, 400, 300, 20, never)[3][:, 0].any()

"""Stores of cuts: where points are in them, whether there is room enough, what can't be cut."""

import json
import shutil

import cv2
import numpy as np
import pytest
from dotted import FACE, dots, dotted, point_set, tilted

from config import CROPS, for_landmarks
from facelet import picture as pictures
from facelet.console import Problem
from prepare_data import face_crop
from prepare_data.points import cuts, face_sets
from prepare_data.points.__main__ import main

SETTINGS = for_landmarks(5).crop


@pytest.fixture(scope="module")
def dotted_set(tmp_path_factory):
    """Ten pictures with a face of five dots each, some near an edge; two faces in one."""
    rng, faces = np.random.default_rng(0), []
    for i in range(10):
        places = tilted(
            rng, low=(60, 60) if i % 2 else (190, 150), high=(80, 80) if i % 2 else (210, 170)
        )
        corner = places.min(axis=0) - 20
        faces.append((f"{i}.png", dotted(places), (*corner, 95, 90), places))
    faces.append(("9.png", None, (0, 0, 0, 0), faces[9][3] * 0.9 + 5))
    return point_set(tmp_path_factory.mktemp("cuts") / "set", faces)


@pytest.fixture(scope="module")
def store(dotted_set, tmp_path_factory):
    """The path of a store of dotted_set."""
    out = tmp_path_factory.mktemp("cuts") / "store"
    cuts.make_store(dotted_set, 96, out, SETTINGS, workers=1)
    return out


def test_points_are_where_the_pixels_are(store, dotted_set):
    found = face_sets.Cuts(store)
    assert (len(found), found.points, found.scheme, found.size) == (11, 5, "5", None)
    assert found.points_of.shape == (11, 5, 2) and found.points_of.dtype == np.float32
    for i in range(9):
        cut = found.read(i)
        assert max(cut.shape[:2]) <= 96
        assert np.abs(dots(cut) + 0.5 - found.points_of[i]).max() < 0.15


def test_what_else_is_kept(store, dotted_set):
    found = face_sets.Cuts(store)
    assert found.names() == [face.path for face in dotted_set.faces]
    assert "11 faces with 5 points" in found.describe()
    assert found.facts["source"]["sha256"] == dotted_set.sha256
    assert found.facts["source"]["faces"] == 11 and found.facts["settings"] == dict(SETTINGS)
    assert np.isnan(found.boxes[10]).all()
    for face, (_, x1, y1, x2, y2), places, box in zip(
        dotted_set.faces[:10], found.sources, found.points_of, found.boxes
    ):
        # Box and points, both taken back to the picture.
        scale = (np.array([x2, y2]) - (x1, y1)) / found.read(int(face.path[0])).shape[1::-1]
        np.testing.assert_allclose(places * scale + (x1, y1) - 0.5, face.points, atol=0.01)
        np.testing.assert_allclose(box * np.tile(scale, 2) + (x1, y1, x1, y1), face.box, atol=0.01)


@pytest.mark.parametrize("preset", CROPS)
def test_crops_of_cuts_are_crops_of_pictures(dotted_set, tmp_path, preset):
    """Also where crops reach out of the picture. The cuts keep their size here, so that only the
    JPEG differs."""
    crop = for_landmarks(5, [f"crop.preset={preset}"]).crop
    whole, found = (
        face_sets.Pictures(dotted_set),
        cuts.make_store(dotted_set, 400, tmp_path / "out", SETTINGS, 1),
    )
    rng = np.random.default_rng(0)
    for i in np.repeat(np.arange(9), 8):
        squares, degrees = face_crop.draw(whole.points_of[[i]], whole.boxes[[i]], crop, "5", rng)
        moved = squares - np.tile(found.sources[i, 1:3], 2)
        a = face_crop.crop(whole.read(i), squares[0], degrees[0], 48)
        b = face_crop.crop(found.read(i), moved[0], degrees[0], 48)
        assert np.abs(a.astype(int) - b).max() < 25  # dots are 255


def test_rooms_are_what_crops_need(store):
    """In px of the cut, for every preset."""
    found = face_sets.Cuts(store)
    for preset in CROPS:
        crop = for_landmarks(5, [f"crop.preset={preset}"]).crop
        _, reach = face_crop.reach(found.points_of, found.boxes, crop, "5")
        assert (reach <= found.rooms * 1.02).all()
    assert (found.rooms <= reach * 1.6).all()


def test_more_processes_make_the_same(dotted_set, store, tmp_path):
    cuts.make_store(dotted_set, 96, tmp_path / "two", SETTINGS, workers=2)
    for file in store.iterdir():
        assert (tmp_path / "two" / file.name).read_bytes() == file.read_bytes()


def test_a_picture_that_is_cut_to_nothing_less_keeps_its_bytes(tmp_path):
    scene = dotted(FACE * 0.6 + 40, 80, 80, ground=30)
    data = cv2.imencode(".jpg", scene, [cv2.IMWRITE_JPEG_QUALITY, 71])[1].tobytes()
    found = point_set(
        tmp_path / "set",
        [
            ("a.jpg", data, (10, 10, 60, 60), FACE * 0.6 + 40),
            ("b.png", scene, (10, 10, 60, 60), FACE * 0.6 + 40),
        ],
    )
    made = cuts.make_store(found, 96, tmp_path / "out", SETTINGS, 1)
    assert made.bytes[: made.index[1]].tobytes() == data
    np.testing.assert_array_equal(made.read(0), pictures.decode(data))
    assert np.abs(made.read(1).astype(int) - scene).mean() < 2


def test_what_cannot_be_cut_is_named_and_counted(tmp_path, capsys):
    scene, places, box = dotted(FACE + (200, 160)), FACE + (200, 160), (150, 110, 90, 90)
    half = cv2.imencode(".jpg", scene)[1].tobytes()[:900]
    found = point_set(
        tmp_path / "set",
        [
            ("good.png", scene, box, places),
            ("half.jpg", half, box, places),
            ("gone.png", None, box, places),
            ("small.png", scene[:160], box, places),  # of another size than its points
            ("good.png", None, box, FACE + (24, 160)),  # half outside, its points just not
            ("good.png", None, box, FACE + (10, 160)),  # half outside
            ("good.png", None, box, FACE / 8 + (100, 100)),  # tiny
            ("text.png", b"no picture", box, places),
        ],
    )
    made = cuts.make_store(found, 96, tmp_path / "out", SETTINGS, 1)
    assert len(made) == 2
    reasons = made.facts["rejected"]
    folder = tmp_path / "set"
    assert sorted(reasons) == sorted(
        [
            f"{folder / 'images' / 'half.jpg'}: a truncated JPEG",
            f"{folder / 'images' / 'gone.png'}: No such file or directory",
            f"{folder / 'list.txt'}, line 4: points out of the picture, which is 400x160",
            f"{folder / 'list.txt'}, line 6: points out of the picture, which is 400x320",
            f"{folder / 'list.txt'}, line 7: points over 6 px: crop.min_face is 12",
            f"{folder / 'images' / 'text.png'}: "
            "no picture that OpenCV can read, or a truncated one",
        ]
    )
    out = capsys.readouterr().out
    assert all(f"rejected {reason}" in out for reason in reasons)


def test_nothing_to_cut(tmp_path):
    found = point_set(
        tmp_path / "set", [("a.png", dotted(FACE / 8 + 50), (9, 9, 9, 9), FACE / 8 + 50)]
    )
    with pytest.raises(Problem, match="not one face could be cut; the first: .*line 1: points"):
        cuts.make_store(found, 96, tmp_path / "out", SETTINGS, 1)
    assert [path.name for path in tmp_path.iterdir()] == ["set"]
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "notes.txt").touch()
    with pytest.raises(Problem, match="out is there already"):
        cuts.make_store(found, 96, tmp_path / "out", SETTINGS, 1)
    with pytest.raises(Problem, match="--size 8: it must be at least 16"):
        cuts.make_store(found, 8, tmp_path / "new", SETTINGS, 1)


def _cut_short(path):
    path.write_bytes(path.read_bytes()[:-100])


def changed(change):
    """A function that changes the array in an .npy file."""

    def damage(path):
        array = np.load(path)
        change(array)
        np.save(path, array)

    return damage


@pytest.mark.parametrize(
    "name, damage, words",
    [
        ("faces.bin", _cut_short, r"faces.bin has [\d,]+ bytes, not [\d,]+: cut the faces again"),
        ("faces.bin", lambda path: path.unlink(), "faces.bin can't be read"),
        ("points.npy", _cut_short, "points.npy can't be read"),
        (
            "boxes.npy",
            lambda path: np.save(path, np.zeros((3, 4))),
            r"boxes.npy holds float64\(3, 4\), not float32\(11, 4\): cut the",
        ),
        ("cuts.json", lambda path: path.write_text("{"), "is not valid JSON"),
        ("cuts.json", lambda path: path.write_text('{"version": 9}'), "has the format 9"),
        ("cuts.json", lambda path: path.write_text("[]"), "holds list, not an object"),
        ("cuts.json", lambda path: path.write_text('{"version": 1}'), "its points, scheme, faces"),
        ("index.npy", changed(lambda a: a.__setitem__(3, a[5])), "1 of 11 cuts end before they"),
        ("points.npy", changed(lambda a: a.__setitem__(4, np.nan)), "1 of 11 faces have points.*4"),
        ("points.npy", changed(lambda a: a.__setitem__(4, 1e6)), "1 of 11 faces have points"),
        ("rooms.npy", changed(lambda a: a.__setitem__(2, 0)), "1 of 11 rooms are not above 0"),
        ("boxes.npy", changed(lambda a: a.__setitem__((1, 2), np.inf)), "1 of 11 boxes are not"),
        ("sources.npy", changed(lambda a: a.__setitem__((1, 0), 10)), "1 of 11 are of none of the"),
        ("sources.npy", changed(lambda a: a.__setitem__((1, 3), -9)), "1 of 11 crops have no area"),
        ("points.npy", lambda path: path.write_bytes(b"PK\x03\x04" + bytes(99)), "can't be read"),
        ("pictures.txt", lambda path: path.write_bytes(b"\xff\n" * 10), "pictures.txt has changed"),
        ("rooms.npy", changed(lambda a: a.__setitem__(2, 50)), "rooms.npy has changed since"),
    ],
)
def test_damaged_stores(store, tmp_path, name, damage, words):
    shutil.copytree(store, tmp_path / "store")
    damage(tmp_path / "store" / name)
    with pytest.raises(Problem, match=words):
        face_sets.Cuts(tmp_path / "store")


def test_pictures_as_they_are(dotted_set, store):
    found = face_sets.open_faces(dotted_set.truth)
    assert isinstance(found, face_sets.Pictures) and isinstance(
        face_sets.open_faces(store), face_sets.Cuts
    )
    for i, face in enumerate(dotted_set.faces[:9]):
        np.testing.assert_allclose(found.points_of[i], face.points + 0.5)
        assert np.abs(dots(found.read(i)) + 0.5 - found.points_of[i]).max() < 0.05
    assert np.isnan(found.boxes[10]).all() and found.names()[10] == "9.png"


def test_program(dotted_set, tmp_path, capsys):
    line = ["cut", "--faces", str(dotted_set.truth), "--size", "64", "--workers", "1", "--out"]
    main([*line, str(tmp_path / "out"), "crop.preset=detector", "crop.scale=0.5,3"])
    made = face_sets.Cuts(tmp_path / "out")
    assert made.facts["settings"]["box"] == "detector"
    out = capsys.readouterr().out
    used = sum(file.stat().st_size for file in (tmp_path / "out").iterdir()) / 1e6
    assert f"11 faces, {used:,.1f} MB; their pictures as they are" in out
    assert "10 crops of 32 px of each as JPEG files" in out
    # Larger crops need more room.
    main([*line, str(tmp_path / "less"), "crop.preset=detector"])
    assert face_sets.Cuts(tmp_path / "less").sources[0, 3] < made.sources[0, 3]
    assert json.loads((tmp_path / "less" / "cuts.json").read_text())["size"] == 64

"""Lists and folders of faces with points."""

from collections import Counter

import numpy as np
import pytest
from face_lists import GOOD, face, listed, numbers

from facelet import boxes as geometry
from facelet import picture as pictures
from facelet import schemes
from facelet.console import Problem, program
from facelet.files import sha256
from prepare_data.drawn.face import Head, neutral_shape, rotation
from prepare_data.points import check as check_points
from prepare_data.points import sets as points
from prepare_data.points.__main__ import main


def test_a_line_becomes_a_face(tmp_path):
    made = points.open_set(listed(tmp_path, f"a.jpg {GOOD}", "", f"  sub dir/b c.PNG {GOOD} "))
    assert made.images == tmp_path / "images" and made.scheme == "5" and made.points == 5
    file = tmp_path / "list.txt"
    assert [(face.path, face.source) for face in made.faces] == [
        ("a.jpg", f"{file}, line 1"),
        ("sub dir/b c.PNG", f"{file}, line 3"),
    ]
    assert made.sha256 == sha256(file)
    face = made.faces[0]
    assert face.points.dtype == face.box.dtype == np.float32
    assert face.points.tolist() == [[55, 60], [85.25, 61], [70, 75], [58, 92], [83, 93]]
    assert face.box.tolist() == [40.5, 30, 100.5, 110]
    assert "2 faces with 5 points in 2 pictures; rejected 0" in made.describe()


def test_a_box_without_area_is_none(tmp_path):
    for box in ("0 0 0 0", "10 10 -5 20", "3 3 20 0"):
        line = f"a.jpg {box} {GOOD.split(maxsplit=4)[4]}"
        assert points.open_set(listed(tmp_path, line)).faces[0].box is None


NUMBER, NOWHERE = "another number of points", "a number that is none, or lies nowhere"
PATH, SAME = "no picture's path", "points that are identical"
BAD = {  # a line, why it can't be used, and what else is said
    f"a.jpg {GOOD} 7": (NUMBER, ": 15 numbers, where 5 points and a box are expected"),
    f"a.jpg {GOOD} 7 7": (NUMBER, ": 6 points, where 5 points and a box"),
    f"a.jpg {GOOD[:-3]}": (NUMBER, ": 13 numbers, where"),
    "a.jpg 1 2 x 4 5 6": (PATH, ": 'a.jpg 1 2 x'"),
    "a.jpg": (NUMBER, ": 0 numbers"),
    GOOD: (PATH, ": '40.5'"),
    f"a.txt {GOOD}": (PATH, ": 'a.txt'"),
    f"a.jpg {GOOD.replace('61', 'nan')}": (NOWHERE, ""),
    f"a.jpg {GOOD.replace('61', 'inf')}": (NOWHERE, ""),
    f"a.jpg {GOOD.replace('61', '-1e9')}": (NOWHERE, ""),
    "a.jpg 0 0 9 9 " + "5 5 " * 5: (SAME, ""),
    f"a.jpg {GOOD.replace('70 75', '55 60')}": (SAME, ""),
    "a.jpg 0 0 9 9 85 60 55 61 70 75 58 92 83 93": (
        "the eyes are swapped, or the face is upside down",
        "",
    ),
    "a.jpg 0 0 9 9 55 60 85 61 70 75 83 92 58 93": (
        "the corners of the mouth are swapped, or the face is upside down",
        "",
    ),
}


def test_rejected_with_line_and_reason(tmp_path):
    lines = [f"a.jpg {GOOD}", *BAD, "", *[f"a.jpg {GOOD}"] * 3]
    file = listed(tmp_path, *lines)
    made = points.open_set(file)
    assert [int(face.source.split()[-1]) for face in made.faces] == [
        1,
        *range(len(lines) - 2, len(lines) + 1),
    ]
    assert len(made.rejected) == len(BAD)
    for number, (reason, more), line in zip(range(2, 99), BAD.values(), made.rejected):
        assert line.startswith(f"{file}, line {number}: {reason}{more}")
    assert made.reasons == Counter(reason for reason, _ in BAD.values())
    assert f"rejected {len(BAD)} ({NUMBER}: 4, {PATH}: 3" in made.describe()


def test_a_list_of_nothing_to_use(tmp_path):
    with pytest.raises(Problem, match="no face that can be used: it is empty"):
        points.open_set(listed(tmp_path, ""))
    with pytest.raises(Problem, match="210 numbers .105 points. a face go with no scheme of point"):
        points.open_set(listed(tmp_path, "", "a.jpg " + "3 " * 210))
    with pytest.raises(Problem, match="go with no list of the 106 points of the scheme 'migu'"):
        points.open_set(listed(tmp_path, f"a.jpg {GOOD}"), scheme="migu")
    with pytest.raises(Problem, match="no face that can be used; the first: .*line 2: points that"):
        points.open_set(listed(tmp_path, "", "a.jpg " + "3 " * 136))
    with pytest.raises(Problem, match="is a folder without .pts and .jpg.txt files"):
        points.open_set(tmp_path)
    with pytest.raises(Problem, match="can't be read .No such file"):
        points.open_set(tmp_path / "nowhere.txt")
    (tmp_path / "list.txt").write_bytes(b"\xff\xd8\xff\xe0\x00")
    with pytest.raises(Problem, match="can't be read"):
        points.open_set(tmp_path / "list.txt")


def test_drawn_lists_are_read(drawn_set):
    made = points.open_set(drawn_set / "landmarks" / "train_5.txt")
    assert made.images == drawn_set and not made.rejected
    assert len(made.faces) == (drawn_set / "landmarks" / "train_5.txt").read_text().count("\n")


# ---- schemes -------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["5", "68", "98", "migu", "jingdong"])
@pytest.mark.parametrize("box", [False, True])
def test_lists_of_any_number_of_points(name, box, tmp_path):
    """The order of 106 points is told by the mean face."""
    square = "50 40 100 110 " if box else ""
    made = points.open_set(
        listed(
            tmp_path,
            f"a.jpg {square}{numbers(face(name))}",
            f"a.jpg\t{square}{numbers(face(name, 3))}",
        )
    )
    assert (made.scheme, made.points, len(made.faces)) == (name, len(face(name)), 2)
    np.testing.assert_allclose(made.faces[1].points, face(name, 3), atol=1e-4)
    assert (
        (made.faces[0].box.tolist() == [50, 40, 150, 150]) if box else (made.faces[0].box is None)
    )
    assert ("in the order" in made.describe()) == (len(face(name)) == 106)


def test_the_order_is_asked_for_where_the_mean_face_does_not_tell(tmp_path):
    turned, _ = Head(neutral_shape(), np.random.default_rng(0)).seen(rotation(60, 0, 0))
    file = listed(tmp_path, f"a.jpg {numbers(turned * 50 + 100)}")
    with pytest.raises(Problem, match="mean face doesn't tell .* 106 points.*--scheme jingdong or"):
        points.open_set(file)
    assert points.open_set(file, scheme="migu").scheme == "migu"
    with pytest.raises(Problem, match="mean face doesn't tell"):
        points.open_set(listed(tmp_path, "a.jpg " + "5 " * 212, "a.jpg " + "nan " * 212))
    with pytest.raises(Problem, match="the first: .*line 1: the eyes are swapped"):
        points.open_set(listed(tmp_path, f"a.jpg {numbers(face('migu'))}"), scheme="jingdong")


def test_coordinates_that_count_from_one(tmp_path):
    file = listed(tmp_path, f"a.jpg 50 40 100 110 {numbers(face('68'))}")
    made = points.open_set(file, counted_from=0.5).faces[0]
    np.testing.assert_allclose(made.points, face("68") - 0.5, atol=1e-4)
    assert made.box.tolist() == [49.5, 39.5, 149.5, 149.5]


def test_some_lips_may_touch(tmp_path):
    """Of many points some may be the same, but neither most nor those that faces are told by."""
    touching, folded, flat = face("68"), face("68"), face("68")
    touching[65:68] = touching[[63, 62, 61]]
    folded[54] = folded[48]
    flat[:36] = flat[0]
    made = points.open_set(
        listed(tmp_path, *(f"a.jpg {numbers(one)}" for one in (touching, folded, flat)))
    )
    assert len(made.faces) == 1 and made.reasons == {SAME: 2}


# ---- a detector's box ----------------------------------------------------------------------


def test_a_box_of_points_is_a_detectors(drawn_set):
    """Against boxes that are known: squares around those of drawn faces, hairline to chin."""
    faces = points.open_set(drawn_set / "landmarks" / "train_5.txt").faces
    known = geometry.squares(np.array([face.box for face in faces]))
    made = np.array([points.box_of_points(face.points, "5") for face in faces])
    overlap = geometry.iou(made, known).diagonal()
    assert len(overlap) > 20
    assert np.median(overlap) > 0.75 and np.percentile(overlap, 10) > 0.5
    side = (made[:, 2] - made[:, 0]) / (known[:, 2] - known[:, 0])
    assert 0.88 < np.median(side) < 1.05
    centre = ((made - known)[:, 1] + (made - known)[:, 3]) / 2 / (known[:, 2] - known[:, 0])
    assert abs(np.median(centre)) < 0.03


def test_a_box_of_points_by_hand():
    """Corners of a square of 2 and its middle: the root mean square distance is sqrt(8/5)."""
    corners = np.array([[9, 9], [11, 9], [10, 10], [9, 11], [11, 11]], np.float32)
    side_per_spread, above = schemes.get("5").box
    side = side_per_spread * (8 / 5) ** 0.5
    x1, y1, x2, y2 = points.box_of_points(corners, "5")
    assert (x2 - x1, y2 - y1) == pytest.approx((side, side))
    assert ((x1 + x2) / 2, (y1 + y2) / 2) == pytest.approx((10.5, 10.5 - above * side))
    assert points.box_of_points(corners * 3 + 1, "5") - 1.5 == pytest.approx(
        3 * (np.array([x1, y1, x2, y2]) - 0.5)
    )


def test_held_out_by_picture(tmp_path):
    names = [f"{i}.jpg" for i in range(20)]
    file = listed(tmp_path, *(f"{name} {GOOD}" for name in names * 3), "nothing", pictures=names)
    made = points.open_set(file)
    training, held_out = points.split(made, 0.25, seed=0)
    paths, other = ({face.path for face in part.faces} for part in (training, held_out))
    assert len(other) == 5 and not paths & other and paths | other == set(names)
    assert len(training.faces) == 45 and len(held_out.faces) == 15
    assert (training.rejected, held_out.rejected) == (made.rejected, [])  # told once
    assert other == {face.path for face in points.split(made, 0.25, seed=0)[1].faces}
    assert other != {face.path for face in points.split(made, 0.25, seed=1)[1].faces}
    with pytest.raises(Problem, match="leaves none to hold out"):
        points.split(made, 0.01, seed=0)
    with pytest.raises(Problem, match="leaves none to train on"):
        points.split(made, 0.99, seed=0)
    for share in (0.0, 1.0, -0.25, float("nan")):
        with pytest.raises(Problem, match="between 0 and 1"):
            points.split(made, share, seed=0)


# ---- the program ---------------------------------------------------------------------------


def test_a_set_is_checked(drawn_set, tmp_path, capsys):
    main(
        [
            "check",
            str(drawn_set / "landmarks" / "train_106.txt"),
            "--out",
            str(tmp_path / "check.png"),
        ]
    )
    said = capsys.readouterr().out
    assert "faces with 106 points in the order migu" in said and "rejected 0" in said
    assert "is its own mirror image but for 0.0" in said and "is this the order" not in said
    assert "0 faces come with a box" in said and "in the picture" not in said
    sheet = pictures.read(tmp_path / "check.png")
    for group, colour in schemes.get("migu").colours.items():
        assert (sheet == colour).all(axis=2).sum() > 100, group
    main(["check", str(drawn_set / "landmarks" / "train_106.txt"), "--scheme", "jingdong"])
    said = capsys.readouterr().out
    assert "is this the order of the points?" in said and "eyes are swapped" in said


def test_what_is_wrong_with_pictures(tmp_path, capsys):
    file = listed(
        tmp_path,
        f"a.png {GOOD}",
        f"b.png {GOOD}",
        f"c.png {GOOD}",
        *[f"a.png {GOOD} 1"] * 12,
        pictures=["b.png"],
    )
    pictures.write(tmp_path / "images" / "a.png", np.zeros((120, 120, 3), np.uint8))
    pictures.write(tmp_path / "images" / "c.png", np.zeros((80, 120, 3), np.uint8))
    main(["check", str(file), "--out", str(tmp_path / "check.png")])
    said = capsys.readouterr().out
    assert "rejected 12 (another number of points: 12)" in said and "and 2 more" in said
    assert f"{tmp_path / 'images' / 'b.png'}: the file is empty" in said
    assert f"{file}, line 3: 2 of its points are out of the picture, which is 120x80" in said


@pytest.mark.parametrize("scale", [0.2, 4.0])
def test_points_are_drawn_where_the_pixels_are(scale, monkeypatch):
    """Of a picture with a white spot at each point, shrunk and enlarged."""
    places = np.array([[60, 50], [140, 52], [101, 99], [70, 140], [131, 143]], np.float32) * scale
    y, x = np.mgrid[: int(200 * scale), : int(200 * scale)]
    spots = np.exp(
        -((x[..., None] - places[:, 0]) ** 2 + (y[..., None] - places[:, 1]) ** 2)
        / (2 * (6 * scale) ** 2)
    )
    picture = np.round(255 * spots.max(axis=2))[..., None].repeat(3, 2).astype(np.uint8)
    drawn = []
    monkeypatch.setattr(
        check_points.draw, "landmarks", lambda face, found, scheme: drawn.extend(found[0])
    )
    face = check_points.tile(picture, places, "5")[..., 0].astype(float)
    y, x = np.mgrid[: face.shape[0], : face.shape[1]]
    assert len(drawn) == 5
    for px, py in drawn:
        near = face * (np.hypot(x - px, y - py) < 20)
        assert (near * x).sum() / near.sum() == pytest.approx(px, abs=0.5)
        assert (near * y).sum() / near.sum() == pytest.approx(py, abs=0.5)


def test_bad_arguments(tmp_path, capsys):
    for argv, status, said in (
        (["check", str(tmp_path / "no.txt")], 2, "can't be read"),
        (["check", str(tmp_path), "--scheme", "69"], 2, "invalid choice"),
        ([], 2, "COMMAND"),
    ):
        with pytest.raises(SystemExit) as stopped:
            program(main, argv)
        assert stopped.value.code == status and said in capsys.readouterr().err


def test_faces_outside_of_their_pictures():
    from prepare_data.points import face_sets

    places = np.array([[10, 10], [20, 10], [15, 15], [11, 20], [19, 20]], np.float32)

    def against(box):
        return face_sets.reason_against(points.Face("a.jpg", "x", places, box), 50, 40)

    assert against(None) is None and against(np.float32([5, 5, 25, 25])) is None
    assert "a box of which most is out of the picture, which is 50x40" in against(
        np.float32([40, 30, 80, 70])
    )


def test_points_of_another_scale_are_refused(tmp_path):
    import cv2

    from config import config
    from prepare_data import landmark_samples
    from prepare_data.points import cuts

    rng, lines = np.random.default_rng(0), []
    for i in range(12):
        cv2.imwrite(str(tmp_path / f"{i}.png"), np.zeros((120, 160, 3), np.uint8))
        at = 2 * (
            rng.uniform(0, (110, 70)) + np.array([[9, 9], [39, 9], [24, 24], [12, 39], [36, 39]])
        )
        lines.append(f"{i}.png " + " ".join(f"{v:.1f}" for v in at.ravel()))
    (tmp_path / "list.txt").write_text("\n".join(lines))
    found = points.open_set(tmp_path / "list.txt")
    for make, settings in (
        (cuts.make_store, config.crop),
        (landmark_samples.make_store, config.landmark_samples),
    ):
        with pytest.raises(Problem, match="divided by about 2 they would lie in these"):
            make(found, 48, tmp_path / "out", settings, workers=1)
    assert not (tmp_path / "out").exists()

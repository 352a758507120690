"""Lists of faces with points."""
import numpy as np
import pytest

from core import boxes as geometry
from core.console import Problem
from prepare_data import points

GOOD = "40.5 30 60 80 55 60 85.25 61 70 75 58 92 83 93"


def listed(folder, *lines, pictures=("a.jpg",), where="images"):
    """A list with pictures (files that are there, nobody reads them) in a folder."""
    for name in pictures:
        path = folder / where / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    file = folder / "list.txt"
    file.write_text("".join(f"{line}\n" for line in lines))
    return file


def test_a_line_becomes_a_face(tmp_path):
    made = points.open_set(listed(tmp_path, f"a.jpg {GOOD}", "", f"  sub dir/b c.PNG {GOOD} "))
    assert made.images == tmp_path / "images" and made.scheme == "5" and made.points == 5
    assert [(face.path, face.line) for face in made.faces] == [("a.jpg", 1), ("sub dir/b c.PNG", 3)]
    face = made.faces[0]
    assert face.points.dtype == face.box.dtype == np.float32
    assert face.points.tolist() == [[55, 60], [85.25, 61], [70, 75], [58, 92], [83, 93]]
    assert face.box.tolist() == [40.5, 30, 100.5, 110]
    assert "2 faces with 5 points in 2 pictures; rejected 0" in made.describe()


def test_a_box_without_area_is_none(tmp_path):
    for box in ("0 0 0 0", "10 10 -5 20", "3 3 20 0"):
        line = f"a.jpg {box} {GOOD.split(maxsplit=4)[4]}"
        assert points.open_set(listed(tmp_path, line)).faces[0].box is None


BAD = {  # a line and why it can't be used
    f"a.jpg {GOOD} 7": "15 numbers at its end, where a path and 14 numbers were expected",
    f"a.jpg {GOOD[:-3]}": "13 numbers at its end",
    "a.jpg 1 2 x 4 5 6": "3 numbers at its end",
    "a.jpg": "0 numbers at its end",
    GOOD: "'40.5' is no picture's path",
    f"a.txt {GOOD}": "'a.txt' is no picture's path",
    f"a.jpg {GOOD.replace('61', 'nan')}": "a number that is none, or lies nowhere",
    f"a.jpg {GOOD.replace('61', 'inf')}": "lies nowhere",
    f"a.jpg {GOOD.replace('61', '-1e9')}": "lies nowhere",
    "a.jpg 0 0 9 9 " + "5 5 " * 5: "points that are identical",
    f"a.jpg {GOOD.replace('70 75', '55 60')}": "points that are identical",
    "a.jpg 0 0 9 9 85 60 55 61 70 75 58 92 83 93": "the eyes are swapped",
    "a.jpg 0 0 9 9 55 60 85 61 70 75 83 92 58 93": "the corners of the mouth are swapped"}


def test_rejected_with_line_and_reason(tmp_path):
    lines = [f"a.jpg {GOOD}", *BAD, "", f"a.jpg {GOOD}"]
    file = listed(tmp_path, *lines)
    made = points.open_set(file)
    assert [face.line for face in made.faces] == [1, len(lines)]
    assert len(made.rejected) == len(BAD)
    for number, (reason, line) in enumerate(zip(BAD.values(), made.rejected), 2):
        assert line.startswith(f"{file}, line {number}: ") and reason in line
    assert f"rejected {len(BAD)}" in made.describe()


def test_a_list_of_nothing_to_use(tmp_path):
    with pytest.raises(Problem, match="no face that can be used: it is empty"):
        points.open_set(listed(tmp_path, ""))
    with pytest.raises(Problem, match="no face that can be used; the first: .*line 2: 210 numbers"):
        points.open_set(listed(tmp_path, "", "a.jpg " + "3 " * 210))
    with pytest.raises(Problem, match="can't be read .No such file"):
        points.open_set(tmp_path / "nowhere.txt")
    (tmp_path / "list.txt").write_bytes(b"\xff\xd8\xff\xe0\x00")
    with pytest.raises(Problem, match="can't be read"):
        points.open_set(tmp_path / "list.txt")


@pytest.mark.parametrize("where", ["images", ".", "../.."])
def test_pictures_are_looked_for_near_the_list(tmp_path, where):
    """Beside it, in a folder `images` there, or in the folder above, as in a drawn set."""
    folder = tmp_path / "set" / "landmarks"
    folder.mkdir(parents=True)
    (folder / ".." / "train").mkdir()
    name = "train/a.jpg" if where == "../.." else "a.jpg"
    file = listed(folder, f"gone.jpg {GOOD}", f"{name} {GOOD}", pictures=[name],
                  where=".." if where == "../.." else where)
    found = points.open_set(file)
    assert (found.images / name).resolve() == next(tmp_path.rglob("a.jpg")).resolve()
    assert points.open_set(file, found.images).images == found.images
    with pytest.raises(Problem, match="elsewhere; the first is gone.jpg: say where .*--images"):
        points.open_set(file, tmp_path / "elsewhere")


def test_drawn_lists_are_read(drawn_set):
    made = points.open_set(drawn_set / "landmarks" / "train_5.txt")
    assert made.images == drawn_set and not made.rejected
    assert len(made.faces) == (drawn_set / "landmarks" / "train_5.txt").read_text().count("\n")


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
    side_per_spread, above = points.BOX_OF_POINTS["5"]
    side = side_per_spread * (8 / 5) ** 0.5
    x1, y1, x2, y2 = points.box_of_points(corners, "5")
    assert (x2 - x1, y2 - y1) == pytest.approx((side, side))
    assert ((x1 + x2) / 2, (y1 + y2) / 2) == pytest.approx((10.5, 10.5 - above * side))
    assert points.box_of_points(corners * 3 + 1, "5") - 1.5 == pytest.approx(
        3 * (np.array([x1, y1, x2, y2]) - 0.5))


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

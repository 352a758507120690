"""Lists and folders of faces as they are downloaded: each kind is told by its content."""

import numpy as np
import pytest
from face_lists import GOOD, face, listed, numbers

from facelet import settings
from facelet.console import Problem
from prepare_data.points import sets as points

NOWHERE = "a number that is none, or lies nowhere"


def pts(values):
    lines = "\n".join(numbers(point) for point in values)
    return f"version: 1\nn_points:  {len(values)}\n{{\n{lines}\n}}\n"


def jpg_txt(values):
    return "\n".join([str(len(values)), *(numbers(point) for point in values)]) + "\n"


@pytest.mark.parametrize("where", ["images", ".", "../.."])
def test_pictures_are_looked_for_near_the_list(tmp_path, where):
    """Beside it, in a folder `images` there, or in the folder above, as in a drawn set."""
    folder = tmp_path / "set" / "landmarks"
    folder.mkdir(parents=True)
    (folder / ".." / "train").mkdir()
    name = "train/a.jpg" if where == "../.." else "a.jpg"
    file = listed(
        folder,
        f"gone.jpg {GOOD}",
        f"{name} {GOOD}",
        pictures=[name],
        where=".." if where == "../.." else where,
    )
    found = points.open_set(file)
    assert (found.images / name).resolve() == next(tmp_path.rglob("a.jpg")).resolve()
    assert points.open_set(file, found.images).images == found.images
    with pytest.raises(Problem, match="elsewhere; the first is gone.jpg: say where .*--images"):
        points.open_set(file, tmp_path / "elsewhere")


@pytest.mark.parametrize("name", ["../a.jpg", "..\\a.jpg", "/tmp/a.jpg", "b/../../a.jpg"])
def test_pictures_outside_of_the_folder(tmp_path, monkeypatch, name):
    """Each costs one face, unless they are allowed."""
    file = listed(tmp_path / "set", f"{name} {GOOD}", f"a.jpg {GOOD}", f"b/../a.jpg {GOOD}")
    found = points.open_set(file)
    assert [face.path for face in found.faces] == ["a.jpg", "b/../a.jpg"]
    assert found.reasons == {"a picture outside of the set's folder": 1}
    assert "line 1: " in found.rejected[0] and "data.outside=True" in found.rejected[0]
    monkeypatch.setenv(settings.OUTSIDE_VARIABLE, "1")
    assert len(points.open_set(file).faces) == 3


def test_backslashes_are_slashes(tmp_path):
    made = points.open_set(listed(tmp_path, f"sub\\a.jpg {GOOD}", pictures=["sub/a.jpg"]))
    assert made.faces[0].path == "sub/a.jpg"


def test_cnn_facepoint(tmp_path):
    """Left right top bottom, told from x y w h by where the points are."""
    file = listed(
        tmp_path,
        *["lfw\\a b.jpg 40 101 30 111 55 60 85.25 61 70 75 58 92 83 93"] * 2,
        pictures=["lfw/a b.jpg"],
        where=".",
    )
    made = points.open_set(file)
    assert made.images == tmp_path and made.faces[0].path == "lfw/a b.jpg"
    assert made.faces[0].box.tolist() == [40, 30, 101, 111]
    assert made.faces[0].points[1].tolist() == [85.25, 61]
    assert points.open_set(file, reader="list").faces[0].box.tolist() == [40, 101, 70, 212]


@pytest.mark.parametrize(
    "name, where",
    [("list_landmarks_celeba", "img_celeba"), ("list_landmarks_align_celeba", "img_align_celeba")],
)
def test_celeba_as_downloaded(tmp_path, name, where):
    """Each list finds its own pictures, which have the same names, and reads no boxes."""
    for folder in ("img_celeba", "img_align_celeba"):
        (tmp_path / "Img" / folder).mkdir(parents=True)
        (tmp_path / "Img" / folder / "000001.jpg").touch()
    file = tmp_path / "Anno" / f"{name}.txt"
    file.parent.mkdir()
    names = " ".join(
        f"{point}_{axis}"
        for point in ("lefteye", "righteye", "nose", "leftmouth", "rightmouth")
        for axis in "xy"
    )
    file.write_text(
        f"2\n{names}\n000001.jpg 165 184 244 176 196 249 194 271 266  260\n"
        "000002.jpg 165 184 144 176 196 249 194 271 266  260\n"
    )
    made = points.open_set(file)
    assert made.images == tmp_path / "Img" / where and made.faces[0].box is None
    assert made.faces[0].points.tolist() == [
        [165, 184],
        [244, 176],
        [196, 249],
        [194, 271],
        [266, 260],
    ]
    assert made.rejected == [f"{file}, line 4: the eyes are swapped, or the face is upside down"]
    file.write_text("1\nimage_id x_1 y_1 width height\n000001.jpg 95 71 226 313\n")
    with pytest.raises(Problem, match="4 numbers .2 points. a face go with no scheme"):
        points.open_set(file)


@pytest.mark.parametrize("attributes", [True, False])
def test_wflw_as_downloaded(tmp_path, attributes):
    path = "37--Soccer/37_Soccer_soccer ball_37_45.jpg"
    more = "60 50 150 170 0 0 1 0 0 0 " if attributes else ""
    (tmp_path / "WFLW_images" / path).parent.mkdir(parents=True)
    (tmp_path / "WFLW_images" / path).touch()
    file = tmp_path / "WFLW_annotations" / "list_98pt" / "list.txt"
    file.parent.mkdir(parents=True)
    short = numbers(face("98")[:97])
    file.write_text(f"{numbers(face('98'))} {more}{path}\n" * 2 + f"{short} {more}{path}\n")
    made = points.open_set(file)
    assert (made.scheme, made.faces[0].path) == ("98", path)
    assert made.images == tmp_path / "WFLW_images"
    np.testing.assert_allclose(made.faces[1].points, face("98"), atol=1e-4)
    assert (
        (made.faces[0].box.tolist() == [60, 50, 150, 170])
        if attributes
        else (made.faces[0].box is None)
    )
    assert made.rejected[0].startswith(
        f"{file}, line 3: another number of points: 97 points, where 98 points"
    )


def test_a_folder_of_pts(tmp_path):
    """Counted from 1; a picture of any kind, below any folder."""
    (tmp_path / "helen" / "trainset").mkdir(parents=True)
    files = {
        "a.pts": pts(face("68") + 1),
        "helen/trainset/b.c_1.pts": pts(face("68", 4) + 1),
        "broken.pts": "version: 1\nn_points: 68\n",
        "alone.pts": pts(face("68")),
        "short.pts": pts(face("68")[:67]),
        "word.pts": pts(face("68")).replace("\n{\n", "\n{\nx"),
    }
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    for name in ("a.png", "helen/trainset/b.c_1.JPG", "broken.jpg", "short.jpg", "word.jpg"):
        (tmp_path / name).touch()
    made = points.open_set(tmp_path)
    assert made.scheme == "68" and made.images == made.truth == tmp_path
    assert [one.path for one in made.faces] == ["a.png", "helen/trainset/b.c_1.JPG"]
    assert made.faces[0].source == str(tmp_path / "a.pts") and made.faces[0].box is None
    np.testing.assert_allclose(made.faces[1].points, face("68", 4), atol=1e-4)
    assert made.rejected == [
        f"{tmp_path / 'alone.pts'}: no picture of its name",
        f"{tmp_path / 'broken.pts'}: no points between {{ and }}",
        f"{tmp_path / 'short.pts'}: another number of points: 67 points, where 68 points are "
        "expected",
        f"{tmp_path / 'word.pts'}: {NOWHERE}",
    ]
    np.testing.assert_allclose(
        points.open_set(tmp_path, counted_from=0).faces[1].points, face("68", 4) + 1, atol=1e-4
    )
    known = made.sha256
    assert points.open_set(tmp_path).sha256 == known
    (tmp_path / "a.pts").rename(tmp_path / "0.pts")
    assert points.open_set(tmp_path).sha256 != known


@pytest.mark.parametrize("apart", [False, True])
def test_jd106_as_downloaded(tmp_path, apart):
    """Points beside their pictures, or in `landmark` beside `picture`."""
    for name, text in {
        "a_0.jpg": jpg_txt(face("jingdong")),
        "b.c.jpg": jpg_txt(face("jingdong", 2)),
        "d.jpg": jpg_txt(face("jingdong")[:105]),
        "e.jpg": jpg_txt(face("jingdong")).replace("106", "105", 1),
    }.items():
        place = tmp_path / "AFW" / ("landmark" if apart else "") / f"{name}.txt"
        picture = tmp_path / "AFW" / ("picture" if apart else "") / name
        for file in (place, picture):
            file.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(text)
        picture.touch()
    made = points.open_set(tmp_path)
    assert made.scheme == "jingdong"
    assert [one.path for one in made.faces] == [
        f"AFW/picture/{name}" if apart else f"AFW/{name}" for name in ("a_0.jpg", "b.c.jpg")
    ]
    np.testing.assert_allclose(made.faces[1].points, face("jingdong", 2), atol=1e-4)
    assert [line.split(": ", 1)[1] for line in made.rejected] == [
        "another number of points: 105 points, where 106 points are expected",
        "another number of points than its first line says: 105, and then 212 numbers",
    ]


def test_masks_beside_pictures(tmp_path, capsys):
    """Of the files of a face's name the JPEG is its picture; where that doesn't tell, none is."""
    for name, pictures in (
        ("a", ("a.jpg", "a.png", "a.tif")),
        ("b", ("b.JPEG", "b.bmp")),
        ("c", ("c.png",)),
        ("d", ("d.png", "d.webp")),
        ("e", ("e.jpg", "e.jpeg")),
    ):
        (tmp_path / f"{name}.pts").write_text(pts(face("68") + 1))
        for picture in pictures:
            (tmp_path / picture).touch()
    made = points.open_set(tmp_path)
    assert [one.path for one in made.faces] == ["a.jpg", "b.JPEG", "c.png"]
    assert made.rejected == [
        f"{tmp_path / 'd.pts'}: several pictures of its name: d.png, d.webp",
        f"{tmp_path / 'e.pts'}: several pictures of its name: e.jpeg, e.jpg",
    ]
    assert made.reasons == {"several pictures of its name": 2}
    printed = capsys.readouterr().out
    assert printed.count("beside 2 faces there are several pictures") == 1


def test_the_picture_that_a_file_names(tmp_path):
    (tmp_path / "a.png.txt").write_text(jpg_txt(face("jingdong")))
    for name in ("a.jpg", "a.png"):
        (tmp_path / name).touch()
    assert [one.path for one in points.open_set(tmp_path).faces] == ["a.png"]


@pytest.mark.parametrize("kind", ["pts", "jpg.txt"])
def test_a_file_that_is_no_text_costs_one_face(tmp_path, kind):
    for name in "abc":
        text = pts(face("68") + 1) if kind == "pts" else jpg_txt(face("jingdong"))
        (tmp_path / f"{name}.{kind}").write_text(text)
        (tmp_path / f"{name}.jpg").touch()
    (tmp_path / f"b.{kind}").write_bytes(b"\xff\xfe1\x000\x00")
    made = points.open_set(tmp_path)
    assert [one.path for one in made.faces] == ["a.jpg", "c.jpg"]
    (line,) = made.rejected
    assert line.startswith(f"{tmp_path / f'b.{kind}'}: a file that can't be read: ")
    assert "UTF-8" in line and made.reasons == {"a file that can't be read": 1}

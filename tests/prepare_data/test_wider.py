"""The readers of WIDER FACE's ground truth."""

import warnings

import cv2
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scipy.io import loadmat, savemat

from core.evaluate.wider import read_truth
from facelet import isolated
from facelet.console import Problem
from facelet.settings import OUTSIDE_VARIABLE
from prepare_data import wider

TRUTH = """0--Parade/a.jpg
2
10 20 30 40 1 0 0 0 2 1
1 2 3 4 2 0 0 1 2 0
0--Parade/none.jpg
0
0 0 0 0 0 0 0 0 0 0
1--Handshaking/b c.jpg
3
5 5 0 7 0 0 0 0 0 0
5 5 7 9 0 0 0 0 0 0
6 6 2 0 0 0 0 1 0 0
"""


def as_mat(path):
    """TRUTH in the form of wider_face_*.mat: cells of cells."""

    def cell(values):
        out = np.empty((len(values), 1), object)
        for i, value in enumerate(values):
            out[i, 0] = value
        return out

    savemat(
        path,
        {
            "event_list": cell(["0--Parade", "1--Handshaking"]),
            "file_list": cell([cell(["a", "none"]), cell(["b c"])]),
            "face_bbx_list": cell(
                [
                    cell([np.array([[10.0, 20, 30, 40], [1, 2, 3, 4]]), np.zeros((1, 4))]),
                    cell([np.array([[5.0, 5, 0, 7], [5, 5, 7, 9], [6, 6, 2, 0]])]),
                ]
            ),
            **{
                f"{name}_label_list": cell(
                    [
                        cell([np.array([[value], [0]]), np.array([[0]])]),
                        cell([np.array([[0], [0], [0]])]),
                    ]
                )
                for name, value in (("blur", 1), ("occlusion", 2), ("pose", 1))
            },
            "invalid_label_list": cell(
                [cell([np.array([[0], [1]]), np.array([[0]])]), cell([np.array([[0], [0], [1]])])]
            ),
        },
    )


@pytest.mark.parametrize("kind", ["txt", "mat"])
def test_boxes_and_counts(tmp_path, kind):
    path = tmp_path / f"truth.{kind}"
    if kind == "txt":
        path.write_text(TRUTH)
        annotations, counts = wider.read_txt(path)
        zero_sized = 2
    else:
        as_mat(path)
        annotations, counts = wider.read_mat(path)
        zero_sized = 3  # the .mat has a row of zeros for a picture without faces
    assert counts == dict(pictures=3, faces=2, invalid=1, zero_sized=zero_sized)
    assert [a.path for a in annotations] == [
        "0--Parade/a.jpg",
        "0--Parade/none.jpg",
        "1--Handshaking/b c.jpg",
    ]
    np.testing.assert_array_equal(annotations[0].boxes, [[10, 20, 40, 60]])
    np.testing.assert_array_equal(annotations[0].ignored, [[1, 2, 4, 6]])
    np.testing.assert_array_equal(annotations[0].attributes, [[1, 0, 0, 0, 2, 1]])
    np.testing.assert_array_equal(annotations[2].attributes, np.zeros((1, 6)))
    assert annotations[1].boxes.shape == annotations[1].ignored.shape == (0, 4)
    np.testing.assert_array_equal(annotations[2].boxes, [[5, 5, 12, 14]])
    assert [a.rows.tolist() for a in annotations[::2]] == [[True, False], [False, True, False]]
    for a in annotations:
        assert a.unsure.shape == (0, 4) and a.unsure.dtype == np.float32


def test_no_line_of_zeros_after_a_count_of_zero(tmp_path):
    """The published text has one; other tools leave it out."""
    path = tmp_path / "truth.txt"
    path.write_text("a/0.jpg\n0\na/1.jpg\n1\n1 1 5 5 0 0 0 0 0 0\n")
    annotations, counts = wider.read_txt(path)
    assert [a.path for a in annotations] == ["a/0.jpg", "a/1.jpg"] and counts["faces"] == 1


@pytest.mark.parametrize(
    "text, line, says",
    [
        ("a/1.jpg\nmany\n", 2, "number of faces of a/1.jpg, found 'many'"),
        ("a/1.jpg\n2\n1 1 5 5 0 0 0 0 0 0\n", 4, "a face of a/1.jpg"),
        ("a/1.jpg\n1\n1 1 5\n", 3, "found '1 1 5'"),
        ("a/1.jpg\n1\n1 1 5 x 0 0 0 0 0 0\n", 3, "found '1 1 5 x"),
        ("a/1.jpg\n1\n1 1 5 nan 0 0 0 0 0 0\n", 3, "nan"),
        ("a/1.jpg\n1\n1 1 5 5 0 0 0 0 0 0\n3 3 5 5 0 0 0 0 0 0\n", 4, "a picture's path"),
    ],
)
def test_broken_line_is_named(tmp_path, text, line, says):
    path = tmp_path / "truth.txt"
    path.write_text(text)
    with pytest.raises(Problem, match=rf"truth.txt, line {line}: .*{says}"):
        wider.read_txt(path)


@pytest.mark.parametrize("number", ["²", "-1", "1.0", "1e3", "9" * 5000, "9" * 400], ids=range(6))
def test_numbers_of_faces_that_are_none(tmp_path, number):
    path = tmp_path / "truth.txt"
    path.write_text(f"a/1.jpg\n{number}\n1 1 5 5 0 0 0 0 0 0\n", encoding="utf-8")
    with pytest.raises(Problem, match=r"truth.txt, line 2: expected the number of faces"):
        wider.read_txt(path)


@pytest.mark.parametrize("value", ["1e300", "1e39", "-2e6", "inf", "nan"])
def test_boxes_that_are_nowhere(tmp_path, value):
    """float32 has no 1e39, and no picture a pixel 2,000,000."""
    path = tmp_path / "truth.txt"
    path.write_text(f"a/1.jpg\n1\n1 {value} 5 5 0 0 0 0 0 0\n")
    with pytest.raises(Problem, match="line 3: expected a face of a/1.jpg as x y w h"):
        wider.read_txt(path)


def test_open_set_finds_both_layouts(tmp_path):
    for images, truth in (
        ("WIDER_train/images", "wider_face_split/wider_face_train_bbx_gt.txt"),
        ("images", "my_train_bbx_gt.txt"),
    ):
        folder = tmp_path / images.split("/")[0]
        (folder / images / "0--Parade").mkdir(parents=True)
        (folder / images / "0--Parade" / "a.jpg").write_bytes(b"x")
        (folder / truth).parent.mkdir(exist_ok=True)
        (folder / truth).write_text(TRUTH)
        face_set = wider.open_set(folder, "train")
        assert face_set.images == folder / images and face_set.counts["faces"] == 2
        with pytest.raises(Problem, match="for val"):
            wider.open_set(folder, "val")


def test_open_set_says_what_is_missing(tmp_path):
    with pytest.raises(Problem, match="nowhere is not there"):
        wider.open_set(tmp_path / "nowhere", "train")
    with pytest.raises(Problem, match="no pictures for train"):
        wider.open_set(tmp_path, "train")
    (tmp_path / "images").mkdir()
    with pytest.raises(Problem, match="no ground truth for train.*wider_face_train_bbx_gt.txt"):
        wider.open_set(tmp_path, "train")
    (tmp_path / "train_bbx_gt.txt").write_text("\n")
    with pytest.raises(Problem, match="lists no pictures"):
        wider.open_set(tmp_path, "train")
    (tmp_path / "train_bbx_gt.txt").write_text(TRUTH)
    with pytest.raises(Problem, match="none of the 3 pictures.*0--Parade/a.jpg"):
        wider.open_set(tmp_path, "train")


@pytest.mark.parametrize("name", ["../a.jpg", "/tmp/a.jpg", "..\\..\\a.jpg", "b/../../a.jpg"])
def test_pictures_outside_of_the_folder(tmp_path, monkeypatch, name):
    path = tmp_path / "truth.txt"
    path.write_text(f"b/../a.jpg\n0\n{name}\n1\n1 2 3 4\n")
    with pytest.raises(Problem, match=r"truth.txt, line 3: '.*a.jpg' lies outside .*data.outside"):
        wider.read_txt(path)
    as_mat(tmp_path / "x.mat")
    data = loadmat(tmp_path / "x.mat")
    data["event_list"][0, 0] = name
    savemat(tmp_path / "x.mat", {key: data[key] for key in data if key[0] != "_"})
    with pytest.raises(Problem, match=r"x.mat: '.*a.jpg.*' lies outside"):
        wider.read_mat(tmp_path / "x.mat")
    monkeypatch.setenv(OUTSIDE_VARIABLE, "1")
    assert len(wider.read_txt(path)[0]) == 2 and len(wider.read_mat(tmp_path / "x.mat")[0]) == 3


def test_broken_mat(tmp_path):
    (tmp_path / "x.mat").write_bytes(b"not a mat file at all" * 20)
    with pytest.raises(Problem, match="no WIDER FACE .mat"):
        wider.read_mat(tmp_path / "x.mat")


@pytest.mark.parametrize(
    "change",
    [
        lambda boxes, invalid, files: (boxes[:1], invalid, files),  # pictures without boxes
        lambda boxes, invalid, files: (
            boxes,
            [[[0], [1], [0]], invalid[1]],
            files,
        ),  # a flag too many
        lambda boxes, invalid, files: (
            boxes,
            [[[0]], *invalid[1:]],
            files,
        ),  # one flag for two boxes
        lambda boxes, invalid, files: ([[[1.0, 2, 3]], *boxes[1:]], [[[0]], *invalid[1:]], files),
        lambda boxes, invalid, files: (
            [[[1.0, 2, np.nan, 3]], *boxes[1:]],
            [[[0]], *invalid[1:]],
            files,
        ),
        lambda boxes, invalid, files: (
            [[[1e300, 2, 3, 3]], *boxes[1:]],
            [[[0]], *invalid[1:]],
            files,
        ),
        lambda boxes, invalid, files: (["abcd", *boxes[1:]], invalid, files),
        lambda boxes, invalid, files: (boxes, invalid, []),
    ],
    ids=range(8),
)
def test_mats_that_hold_something_else(tmp_path, change):
    def cell(values):
        out = np.empty((len(values), 1), object)
        for i, value in enumerate(values):
            out[i, 0] = value
        return out

    boxes, invalid, files = change(
        [[[10.0, 20, 30, 40], [1, 2, 3, 4]], [[5.0, 5, 7, 9]]], [[[0], [1]], [[0]]], ["a", "b"]
    )
    savemat(
        tmp_path / "x.mat",
        {
            "event_list": cell(["0--Parade"]),
            "file_list": cell([cell(files)] if files else []),
            "face_bbx_list": cell(
                [cell([part if isinstance(part, str) else np.array(part) for part in boxes])]
            ),
            "invalid_label_list": cell([cell([np.array(part) for part in invalid])]),
        },
    )
    with pytest.raises(Problem, match="x.mat is no WIDER FACE .mat file"):
        wider.read_mat(tmp_path / "x.mat")


# ---- pictures that are listed more than once -----------------------------------------------


def a_set(folder, text, pictures=("e/a.jpg",)):
    """A set for training with these pictures, which are files of a byte, and a ground truth."""
    for name in pictures:
        (folder / "images" / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / "images" / name).write_bytes(b"x")
    (folder / "x_train_bbx_gt.txt").write_bytes(text.encode())
    return folder


@pytest.mark.parametrize(
    "other",
    ["e/a.jpg", "./e/a.jpg", "e//a.jpg", "e\\a.jpg", ".\\e\\.\\a.jpg", "link.jpg", "hard.jpg"],
)
def test_entries_of_one_picture_are_one(tmp_path, capsys, other):
    a_set(
        tmp_path,
        "e/a.jpg\n2\n10 20 30 40 0 0 0 0 0 0\n1 2 3 4 0 0 0 1 0 0\n"
        "b.jpg\n1\n9 9 9 9 0 0 0 0 0 0\n"
        f"{other}\n4\n60 20 30 40 0 0 0 0 0 0\n10 20 30 40 0 0 0 0 0 0\n"
        "1 2 3 4 0 0 0 0 0 0\n7 7 0 7 0 0 0 0 0 0\n",
        ["e/a.jpg", "b.jpg"],
    )
    (tmp_path / "images" / "link.jpg").symlink_to("e/a.jpg")
    (tmp_path / "images" / "hard.jpg").hardlink_to(tmp_path / "images" / "e" / "a.jpg")
    face_set = wider.open_set(tmp_path, "train")
    first, second = face_set.annotations
    assert (first.path, second.path) == ("e/a.jpg", "b.jpg")
    assert first.boxes.tolist() == [[10, 20, 40, 60], [60, 20, 90, 60]]
    assert first.ignored.tolist() == [[1, 2, 4, 6]]  # a face by one entry, invalid by the other
    assert first.rows.tolist() == [True, False, True, False, False, False]
    assert first.also == ((other,) if other in ("link.jpg", "hard.jpg") else ())
    assert face_set.counts == dict(
        pictures=2, faces=3, invalid=1, zero_sized=1, merged=1, repeated=2
    )
    printed = capsys.readouterr().out
    assert "merged 1 entries of pictures that are listed more than once: 2 pictures" in printed
    assert "left out 2 boxes that are exactly equal" in printed


def test_a_picture_twice_in_a_mat(tmp_path, capsys):
    def cell(values):
        out = np.empty((len(values), 1), object)
        for i, value in enumerate(values):
            out[i, 0] = value
        return out

    boxes, flags = np.array([[10.0, 20, 30, 40]]), np.array([[0]])
    savemat(
        tmp_path / "x.mat",
        {
            "event_list": cell(["e"]),
            "file_list": cell([cell(["a", "b", "a"])]),
            "face_bbx_list": cell([cell([boxes, boxes, boxes + 50])]),
            "invalid_label_list": cell([cell([flags, flags, flags])]),
        },
    )
    annotations, counts = wider.read(tmp_path / "x.mat")
    assert [a.path for a in annotations] == ["e/a.jpg", "e/b.jpg"]
    assert annotations[0].boxes.tolist() == [[10, 20, 40, 60], [60, 70, 140, 160]]
    assert counts == dict(pictures=2, faces=3, invalid=0, zero_sized=0, merged=1)
    assert "merged 1 entries" in capsys.readouterr().out


@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_a_list_made_on_windows(tmp_path, mark):
    text = mark + TRUTH.replace("/", "\\").replace("\n", " \t\r\n").replace("0 0", "0\t0").rstrip()
    a_set(tmp_path, text, ["0--Parade/a.jpg", "0--Parade/none.jpg", "1--Handshaking/b c.jpg"])
    (tmp_path / "sound.txt").write_text(TRUTH)
    expected, counts = wider.read(tmp_path / "sound.txt")
    face_set = wider.open_set(tmp_path, "train")
    assert face_set.counts == counts
    for one, other in zip(face_set.annotations, expected):
        assert one.path == other.path and one.boxes.tolist() == other.boxes.tolist()
        assert (face_set.images / one.path).is_file()


def test_sound_lists_say_nothing(tmp_path, capsys):
    a_set(tmp_path, TRUTH, ["0--Parade/a.jpg", "0--Parade/none.jpg"])
    assert "merged" not in wider.open_set(tmp_path, "train").counts
    assert capsys.readouterr().out == ""


# ---- boxes outside of their pictures -------------------------------------------------------


@pytest.mark.parametrize(
    "box, stays",
    [
        ((60, 10, 140, 40), True),  # half of it
        ((61, 10, 141, 40), False),
        ((-39, 10, 40, 40), True),
        ((-41, 10, 40, 40), False),
        ((60, 40, 140, 80), False),  # a quarter
        ((100, 10, 140, 40), False),
        ((-100, -100, 300, 300), False),
    ],
)
def test_faces_of_which_less_than_half_is_there(box, stays):
    faces = np.array([[5, 5, 20, 20], box], np.float32)
    annotation = wider.Annotation("a.jpg", faces, np.zeros((0, 4), np.float32))
    found, reasons = wider.in_picture(annotation, 100, 60)
    assert found.boxes.tolist() == faces[: 1 + stays].tolist()
    assert found.ignored.tolist() == faces[1 + stays :].tolist()
    assert found.rows.tolist() == [True, stays]
    assert len(reasons) == (not stays)
    if reasons:
        x1, y1, x2, y2 = box
        assert f"a.jpg: the face {x1} {y1} {x2 - x1} {y2 - y1} (x y w h)" in reasons[0]
        assert "100x60" in reasons[0]


def scaled_set(folder, change, pictures=6):
    """A set of pictures of several sizes with faces all over them, listed as change(x y w h)."""
    rng, lines = np.random.default_rng(0), []
    (folder / "images").mkdir(parents=True)
    for i in range(pictures):
        width, height = 160 + 20 * i, 120 + 10 * i
        cv2.imwrite(str(folder / "images" / f"{i}.png"), np.zeros((height, width, 3), np.uint8))
        lines += [f"{i}.png", "4"]
        for _ in range(4):
            side = rng.integers(20, 40)
            x, y = rng.integers(0, width - side), rng.integers(0, height - side)
            lines.append(" ".join(f"{v:g}" for v in change(x, y, side, side)) + " 0" * 6)
    (folder / "train_bbx_gt.txt").write_text("\n".join(lines))
    return folder


@pytest.mark.parametrize("factor", [1, 0.5, 2, 3, 4])
def test_lists_of_another_scale(tmp_path, factor):
    folder = scaled_set(tmp_path, lambda *box: [v * factor for v in box])
    if factor <= 1:
        assert wider.open_set(folder, "train").counts["faces"] == 24
        return
    with pytest.raises(Problem, match=f"divided by about {factor:g} they would lie") as problem:
        wider.open_set(folder, "train")
    assert "of 24 boxes looked at" in str(problem.value) and "bbx_gt.txt" in str(problem.value)


def test_lists_of_corners_and_of_other_pictures(tmp_path):
    corners = scaled_set(tmp_path / "a", lambda x, y, w, h: (x, y, x + w, y + h))
    with pytest.raises(Problem, match="they look like x1 y1 x2 y2"):
        wider.open_set(corners, "train")
    others = scaled_set(tmp_path / "b", lambda x, y, w, h: (x - 9000, y, w, h))
    with pytest.raises(Problem, match="no one factor mends it"):
        wider.open_set(others, "train")


def test_a_few_boxes_outside_refuse_no_list(tmp_path):
    folder = scaled_set(tmp_path, lambda *box: box)
    text = (folder / "train_bbx_gt.txt").read_text()
    more = "".join(f"\n{i}.png\n1\n900 900 30 30" for i in range(6))
    (folder / "train_bbx_gt.txt").write_text(text + more)
    assert wider.open_set(folder, "train").counts["faces"] == 30
    one = scaled_set(tmp_path / "one", lambda *box: box, pictures=1)
    (one / "train_bbx_gt.txt").write_text("0.png\n2\n10 10 30 30\n900 900 30 30\n")
    assert wider.open_set(one, "train").counts["faces"] == 2


# ---- fuzzing -------------------------------------------------------------------------------

FUZZ = settings(
    max_examples=200,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
NUMBER = st.sampled_from(["0", "1", "7", "-3", "2.5", "nan", "inf", "1e99", "x", "", "²", "1_0"])
LINE = st.one_of(
    st.sampled_from(["a/1.jpg", "b.jpg", "", "0", "1", "2", "3", " 2 ", "0 0 0 0 0"]),
    st.lists(NUMBER, min_size=3, max_size=11).map(" ".join),
    st.just("1 2 3 4 0 0 0 0 0 0"),
    st.text(max_size=12),
)


def works_or_says(read, path):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        try:
            annotations, counts = read(path)
        except Problem as problem:
            assert len(str(problem).splitlines()) == 1 and str(path) in str(problem)
            return
    assert counts["pictures"] == len(annotations)
    assert counts["faces"] == sum(len(a.boxes) for a in annotations)
    for a in annotations:
        assert a.rows.sum() == len(a.boxes)
        for boxes in (a.boxes, a.ignored):
            assert boxes.dtype == np.float32 and boxes.shape[1:] == (4,)
            assert np.isfinite(boxes).all() and np.all(boxes[:, 2:] >= boxes[:, :2])


@settings(FUZZ, max_examples=400)
@given(st.lists(LINE, max_size=12), st.sampled_from(["\n", "\r\n", "\r"]))
def test_texts_of_any_lines(tmp_path, lines, end):
    path = tmp_path / "truth.txt"
    path.write_bytes(end.join(lines).encode("utf-8", "surrogatepass"))
    works_or_says(wider.read_txt, path)


@FUZZ
@given(st.binary(max_size=60))
def test_texts_of_any_bytes(tmp_path, data):
    path = tmp_path / "truth.txt"
    path.write_bytes(data)
    works_or_says(wider.read_txt, path)
    path.write_bytes(TRUTH[:100].encode() + data + TRUTH[100:].encode())
    works_or_says(wider.read_txt, path)


@settings(FUZZ, max_examples=60)
@given(st.lists(st.tuples(st.integers(0, 10**6), st.integers(1, 255)), min_size=1, max_size=4))
def test_flipped_mats(tmp_path, flips):
    """Some of these crash SciPy's reader."""
    whole, path = tmp_path / "whole.mat", tmp_path / "x.mat"
    if not whole.exists():
        as_mat(whole)
    data = bytearray(whole.read_bytes())
    for at, bits in flips:
        data[at % len(data)] ^= bits
    path.write_bytes(data)
    works_or_says(wider.read_mat, path)


@pytest.mark.parametrize("read", [wider.read_mat, lambda path: read_truth(path.parent)])
def test_a_reader_that_crashes(read, tmp_path, monkeypatch):
    """One line that names the file; a good one is read after it."""
    as_mat(tmp_path / "wider_face_val.mat")
    with monkeypatch.context() as patch:
        (tmp_path / "scipy").mkdir()
        (tmp_path / "scipy" / "__init__.py").touch()
        (tmp_path / "scipy" / "io.py").write_text(
            "import os, signal\ndef loadmat(path):\n    os.kill(os.getpid(), signal.SIGSEGV)\n"
        )
        patch.syspath_prepend(tmp_path)
        isolated.close()
        with pytest.raises(Problem, match="wider_face_val.mat is no .*the reader dies of SIGSEGV"):
            read(tmp_path / "wider_face_val.mat")
    isolated.close()
    assert len(wider.read_mat(tmp_path / "wider_face_val.mat")[0]) == 3


@settings(FUZZ, max_examples=60)
@given(length=st.integers(0, 10**6), anything=st.binary(max_size=300))
def test_truncated_mats(tmp_path, length, anything):
    whole, path = tmp_path / "whole.mat", tmp_path / "x.mat"
    if not whole.exists():
        as_mat(whole)
    data = whole.read_bytes()
    path.write_bytes(data[: length % len(data)])
    with pytest.raises(Problem, match="x.mat is no WIDER FACE .mat file"):
        wider.read_mat(path)
    path.write_bytes(anything)
    with pytest.raises(Problem, match="x.mat is no WIDER FACE .mat file"):
        wider.read_mat(path)

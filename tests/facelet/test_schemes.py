"""Orders of landmark points, held against faces that are drawn, whose points are where they are."""

import json

import numpy as np
import pytest
from oracles import IN_MIGU

from facelet import schemes
from facelet.console import Problem
from prepare_data.drawn.face import PARTNER, Head, neutral_shape, rotation

FACES = ("5", "68", "98", "jingdong", "migu")  # schemes of faces


def to_jingdong(points):
    return schemes.convert(points, "migu", "jingdong")


def lists(folder, points):
    """The points of a drawn set (faces, points, 2) as its landmark lists have them."""
    rows = [
        line.split()
        for split in ("train", "val")
        for line in (folder / "landmarks" / f"{split}_{points}.txt").read_text().splitlines()
    ]
    return np.array([row[-2 * points :] for row in rows], float).reshape(-1, points, 2)


@pytest.fixture(scope="module")
def frontal(drawn_set):
    """Faces of the sample set that look about at the viewer, going by the five points: {number of
    points: (faces, points, 2)}; the 106 are in the order migu (prepare_data.drawn)."""
    five = lists(drawn_set, 5)
    eyes, corners = five[:, :2].mean(axis=1), five[:, 3:].mean(axis=1)
    width = five[:, 1, 0] - five[:, 0, 0]
    upright = np.abs(five[:, 1, 1] - five[:, 0, 1]) < 0.1 * width
    ahead = np.abs(five[:, 2, 0] - (eyes + corners)[:, 0] / 2) < 0.08 * width
    chosen = upright & ahead
    assert chosen.sum() >= 4
    return {5: five[chosen], 106: lists(drawn_set, 106)[chosen]}


@pytest.fixture(scope="module")
def mean_faces(frontal):
    """The mean of the frontal faces in each scheme of faces: {name: (P, 2)}, spread about 1."""
    found = frontal[106].mean(axis=0)
    found = (found - found.mean(axis=0)) / np.ptp(found, axis=0).max()
    five = frontal[5].mean(axis=0)
    return {
        "5": (five - five.mean(axis=0)) / np.ptp(five, axis=0).max(),
        "migu": found,
        "jingdong": to_jingdong(found),
        **{name: found[points] for name, points in IN_MIGU.items()},
    }


def test_partners_of_partners():
    assert {*FACES, "14"} == {*schemes.NAMES}
    for name in schemes.NAMES:
        partners = schemes.partners(name)
        assert sorted(partners) == list(range(schemes.get(name).points))
        assert [partners[i] for i in partners] == list(range(len(partners))), name
    assert schemes.partners("migu") == PARTNER.tolist()  # written down apart, for drawing
    assert schemes.partners("jingdong") != schemes.partners("migu")
    for name, points in IN_MIGU.items():
        assert points[schemes.partners(name)].tolist() == PARTNER[points].tolist()


def test_the_two_orders_of_106_points():
    """Point i of migu is the i-th of the published row."""
    numbers = np.arange(212.0).reshape(106, 2)
    migu = schemes.convert(numbers, "jingdong", "migu")
    assert (migu[[0, 37, 38, 43, 64, 72, 78, 83, 84, 105], 0] / 2).tolist() == [
        0,
        37,
        42,
        51,
        41,
        68,
        55,
        63,
        84,
        105,
    ]
    np.testing.assert_array_equal(schemes.convert(migu, "migu", "jingdong"), numbers)
    many = np.random.default_rng(0).normal(size=(3, 106, 2)).astype(np.float32)
    found = schemes.convert(many, "migu", "jingdong")
    assert found.dtype == np.float32 and not np.shares_memory(found, many)
    np.testing.assert_array_equal(found[1], schemes.convert(many[1], "migu", "jingdong"))
    np.testing.assert_array_equal(schemes.convert(many[:, :68], "68", "68"), many[:, :68])
    with pytest.raises(Problem, match="'68' can't be put in the order of 'migu'"):
        schemes.convert(many[:, :68], "68", "migu")


@pytest.mark.parametrize("name", FACES)
def test_a_scheme_stands_for_a_face(name, mean_faces):
    """Groups, lines and places, on the mean of drawn faces seen from the front."""
    scheme, face = schemes.get(name), mean_faces[name]
    assert scheme.points == len(face) and {*scheme.colours} == {*scheme.groups}
    assert sorted(sum(scheme.groups.values(), [])) == list(range(scheme.points))
    assert schemes.asymmetry(face, name) < 0.08
    height = {group: face[points, 1].mean() for group, points in scheme.groups.items()}
    assert height["eyes"] < height["nose"] < height["lips"]
    for group, points in scheme.groups.items():
        for point in points:
            assert scheme.point_colours[point] == scheme.colours[group]
            assert scheme.partners[point] in points
    for line in scheme.lines:
        assert len({scheme.point_colours[point] for point in line}) == 1
        steps = np.linalg.norm(np.diff(face[line], axis=0), axis=1)
        # a line goes from neighbour to neighbour
        assert steps.max() < (0.3 if line[0] in scheme.groups.get("contour", ()) else 0.21)
        if line[0] == line[-1]:
            assert goes_round(face[line[:-1]])
    at = {place: face[list(points)].mean(axis=0) for place, points in scheme.places.items()}
    order = [
        place
        for place in (
            "outer corner of the left eye",
            "left eye",
            "inner corner of the left eye",
            "nose tip",
            "inner corner of the right eye",
            "right eye",
            "outer corner of the right eye",
        )
        if place in at
    ]
    assert (np.diff([at[place][0] for place in order]) > 0.02).all() and len(order) in (3, 7)
    assert at["left corner of the mouth"][0] + 0.2 < at["right corner of the mouth"][0]
    assert at["left eye"][1] < at["nose tip"][1] < at["left corner of the mouth"][1]
    if name != "5":
        assert {"contour", "eyebrows"} <= {*height} and height["eyebrows"] < height["eyes"]
        assert at["chin"] == pytest.approx([0, face[:, 1].max()], abs=0.02)
        assert {*at} == {*schemes.PLACES}


def test_places_that_schemes_share(mean_faces):
    """The same places of one face; the drawn five points are another mean's."""
    for first in FACES[1:]:
        assert len(schemes.shared(first, "5")) == 5
        for second in FACES[1:]:
            found = schemes.shared(first, second)
            assert {*found} == {*schemes.PLACES}
            for mine, other in found.values():
                np.testing.assert_allclose(
                    mean_faces[first][list(mine)].mean(axis=0),
                    mean_faces[second][list(other)].mean(axis=0),
                    atol=1e-9,
                )
    assert schemes.shared("5", "68")["nose tip"] == ((2,), (30,))
    assert schemes.shared("14", "68") == {}
    scheme = schemes.get("68")
    assert scheme.eyes == (tuple(range(36, 42)), tuple(range(42, 48)))
    assert scheme.corners == (36, 45) and scheme.mouth == ((48,), (54,))
    assert schemes.get("5").corners is None
    body = schemes.get("14")
    assert body.eyes is body.mouth is body.corners is None and body.sides == []


# ---- a scheme is a file --------------------------------------------------------------------

THREE = {
    "about": "eyes and nose",
    "points": 3,
    "partners": {"0": "2"},
    "groups": {"eyes": "0 2", "nose": "1"},
    "colours": {"eyes": [1, 2, 3], "nose": [4, 5, 6]},
    "lines": ["0-2"],
    "places": {"nose tip": "1"},
    "box": None,
    "bounds": None,
}


@pytest.fixture
def made(tmp_path, monkeypatch):
    """Writes files of schemes, and makes them known."""
    monkeypatch.setattr(schemes, "FOLDER", tmp_path)
    schemes.get.cache_clear()
    yield lambda **files: (
        [
            (tmp_path / f"{name}.json").write_text(json.dumps(values))
            for name, values in files.items()
        ],
        monkeypatch.setattr(schemes, "NAMES", tuple(sorted(files))),
    )
    schemes.get.cache_clear()


def test_a_new_scheme_is_a_file(made):
    made(three=THREE, other={"about": "turned", "from": "three", "row": "2 0 1"})
    scheme = schemes.get("three")
    assert scheme.partners == [2, 1, 0] and scheme.lines == [[0, 1, 2]]
    assert scheme.groups == {"eyes": [0, 2], "nose": [1]}
    assert scheme.point_colours == [(1, 2, 3), (4, 5, 6), (1, 2, 3)]
    face = np.array([[[0.2, 0.3], [0.5, 0.6], [0.9, 0.4]]])
    np.testing.assert_allclose(schemes.flip(face, "three"), [[[0.1, 0.4], [0.5, 0.6], [0.8, 0.3]]])
    assert schemes.usual(3) is None and schemes.usual(5) is None
    other = schemes.get("other")
    assert other.places == {"nose tip": (0,)} and other.partners == [0, 2, 1]
    assert other.groups == {"eyes": [2, 1], "nose": [0]} and other.lines == [[2, 0, 1]]
    np.testing.assert_array_equal(schemes.convert(face, "three", "other"), face[:, [1, 2, 0]])


def test_a_scheme_without_partners_is_not_mirrored(made):
    made(three={**THREE, "partners": None})
    assert schemes.usual(3) == "three" and schemes.guess(np.eye(3)[:, :2]) is None
    for use in (
        lambda: schemes.flip(np.zeros((1, 3, 2)), "three"),
        lambda: schemes.asymmetry(np.zeros((3, 2)), "three"),
    ):
        with pytest.raises(Problem, match="'three' can't be mirrored: its file says nothing of"):
            use()


BROKEN = [
    ({"partners": {"0": "1", "1": "2"}}, r"partners of \[1\] are \[2\]"),
    ({"partners": {"0-1": "2"}}, "partners of"),
    ({"partners": {"0": "3"}}, "list index"),
    ({"groups": {"eyes": "0 1 2", "nose": "1"}}, "the groups don't hold each of the points 0 to 2"),
    ({"colours": {"eyes": [1, 2, 3]}}, "nose"),
    ({"lines": ["0-3"]}, "a point above 2"),
    ({"places": {"ear": "1"}}, "a place that is none"),
    ({"places": {"chin": ""}}, "a place that is none, or without points"),
    ({"lines": ["a"]}, "invalid literal"),
    ({"lines": ["0-999999999999"]}, "a point above"),
    ({"points": 10**15}, "its number of points is none from 1 to"),
    ({"more": 1}, "it must have about, "),
    ({"from": "three", "row": "0"}, "there is no scheme|row doesn't hold"),
]


@pytest.mark.parametrize("change, said", BROKEN)
def test_broken_files(change, said, made):
    made(three=THREE, bad={**THREE, **change})
    with pytest.raises(Problem, match=f"bad.json is no scheme of points: .*(?:{said})"):
        schemes.get("bad")


def test_no_such_scheme():
    with pytest.raises(Problem, match="no scheme of points '69': it must be one of 14, 5, 68, 98"):
        schemes.get("69")


def test_drawn_faces_are_their_own_mirror_image(frontal):
    five, points = frontal[5].mean(axis=0), frontal[106].mean(axis=0)
    assert schemes.asymmetry(five, "5") < 0.08
    assert schemes.asymmetry(points, "migu") < 0.08
    assert schemes.asymmetry(to_jingdong(points), "jingdong") == pytest.approx(
        schemes.asymmetry(points, "migu"), abs=1e-9
    )
    # in the wrong order they are not
    assert schemes.asymmetry(points, "jingdong") > 0.3
    assert schemes.asymmetry(to_jingdong(points), "migu") > 0.3
    assert schemes.asymmetry(five[[0, 3, 2, 1, 4]], "5") > 0.3


def test_what_asymmetry_measures():
    shape, rng = neutral_shape(), np.random.default_rng(0)
    points, _ = Head(shape, rng).seen(rotation(0, 0, 0))
    even = schemes.asymmetry(points, "migu")
    assert even < 1e-3
    assert schemes.asymmetry(points * 90 + (300, -40), "migu") == pytest.approx(even, abs=1e-9)
    turned, _ = Head(shape, rng).seen(rotation(30, 0, 0))
    assert schemes.asymmetry(turned, "migu") > 0.1
    # two points at (-1, 0) and (1, 0), of which one strays by 2: the mirror image of (-1, 0) about
    # the mean (1, 0) is (3, 0), and so for each
    strayed = np.array([[-1.0, 0], [1, 0], [0, 0], [-1, 0], [1, 0]])
    assert schemes.asymmetry(strayed, "5") == 0
    strayed[1] += (0, 2)
    centred = strayed - (0, 0.4)
    expected = np.sqrt(2 * 2**2 / (centred**2).sum())
    assert schemes.asymmetry(strayed, "5") == pytest.approx(expected)
    assert schemes.asymmetry(np.ones((5, 2)), "5") == 0


def goes_round(points):
    """Whether the closed line through points (n, 2) has an inside: whether no two of its pieces
    cross."""

    def side(a, b, c):
        return np.sign((b[0] - a[0]) * (c[1] - a[1]) - (b[1] - a[1]) * (c[0] - a[0]))

    count = len(points)
    pieces = [(points[i], points[(i + 1) % count]) for i in range(count)]
    return not any(
        side(*pieces[i], pieces[j][0]) * side(*pieces[i], pieces[j][1]) < 0
        and side(*pieces[j], pieces[i][0]) * side(*pieces[j], pieces[i][1]) < 0
        for i in range(count)
        for j in range(i + 2, count)
        if (j + 1) % count != i
    )


def test_what_goes_round():
    square = np.array([[0, 0], [1, 0], [1, 1], [0, 1.0]])
    assert goes_round(square) and not goes_round(square[[0, 2, 1, 3]])


def test_the_order_jingdong_goes_part_by_part(frontal):
    """Contour, each brow around, nose, each eye around, mouth, pupils."""
    for points in frontal[106]:
        other = to_jingdong(points)
        assert np.array_equal(other[:38], points[:38]) and np.array_equal(other[84:], points[84:])
        brows, eyes = (other[33:42], other[42:51]), (other[66:75], other[75:84])
        bridge, nose = other[51:55], other[55:66]
        for left, right in (brows, eyes):
            assert left[:, 0].max() < bridge[:, 0].mean() < right[:, 0].min()
        for brow, eye, pupil in zip(brows, eyes, other[104:]):
            assert brow[:, 1].mean() < eye[:, 1].mean()
            assert goes_round(brow) and goes_round(eye[:8])
            assert np.all(eye.min(axis=0) <= pupil) and np.all(pupil <= eye.max(axis=0))
        assert (np.diff(bridge[:, 1]) > 0).all()  # downwards
        assert (np.diff(nose[:, 0])[2:8] > 0).all()  # from left to right below
        assert nose[[0, -1], 1].max() < nose[1:-1, 1].min()  # from beside one eye to the other
        # what is tested tells the two orders apart
        assert not points[33:42, 0].max() < points[42:51, 0].min()


def test_the_order_is_guessed_from_the_mean_face(frontal):
    points, five = frontal[106].mean(axis=0), frontal[5].mean(axis=0)
    assert schemes.guess(points) == "migu"
    assert schemes.guess(to_jingdong(points)) == "jingdong"
    assert schemes.guess(five) == "5"
    rng = np.random.default_rng(0)
    assert schemes.guess(rng.permutation(points)) is None
    assert schemes.guess(rng.normal(size=(106, 2))) is None
    assert schemes.guess(points[:68]) is None
    assert schemes.guess(np.zeros((106, 2))) is None  # a net that has not been trained


def test_unpacking():
    """Five points as x1..x5 y1..y5, others in pairs."""
    five = schemes.unpack(np.arange(20.0).reshape(2, 10))
    assert five.shape == (2, 5, 2)
    np.testing.assert_array_equal(five[1], [[10, 15], [11, 16], [12, 17], [13, 18], [14, 19]])
    many = schemes.unpack(np.arange(212.0)[None])
    assert many.shape == (1, 106, 2)
    np.testing.assert_array_equal(many[0, :2], [[0, 1], [2, 3]])
    assert schemes.unpack(np.zeros((0, 10))).shape == (0, 5, 2)
    assert schemes.unpack(np.zeros((0, 42))).shape == (0, 21, 2)


def test_packing_is_the_inverse():
    five = np.array([[[1, 6], [2, 7], [3, 8], [4, 9], [5, 10]]], np.float32)
    packed = schemes.pack(five)
    assert packed.dtype == np.float32 and packed.tolist() == [[1, 2, 3, 4, 5, 6, 7, 8, 9, 10]]
    assert schemes.pack(np.arange(12.0).reshape(1, 6, 2)).tolist() == [list(range(12))]
    for points in (5, 14, 68, 106):
        values = np.random.default_rng(points).normal(size=(3, 2 * points))
        np.testing.assert_array_equal(schemes.pack(schemes.unpack(values)), values)
    many = np.zeros((2, 68, 2))
    schemes.pack(many)[:] = 1
    assert not many.any()  # the numbers are the net's own
    assert schemes.pack(np.zeros((0, 5, 2))).shape == (0, 10)


def test_usual_orders():
    assert [schemes.usual(points) for points in (5, 14, 68, 98)] == ["5", "14", "68", "98"]
    assert [schemes.usual(points) for points in (106, 7, None)] == [None] * 3

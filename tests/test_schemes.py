"""Orders of landmark points, held against faces that are drawn, whose points are where they are."""
import numpy as np
import pytest

from core import schemes
from prepare_data.drawn_face import PARTNER, Head, neutral_shape, rotation

FROM_JINGDONG = list(schemes.MIGU_FROM_JINGDONG)


def to_jingdong(points):
    """Points (..., 106, 2) in the order migu in the other one: migu[i] is jingdong[m[i]]."""
    out = np.full_like(points, np.nan)
    out[..., FROM_JINGDONG, :] = points
    assert not np.isnan(out).any()
    return out


def lists(folder, points):
    """The points of a drawn set (faces, points, 2) as its landmark lists have them."""
    rows = [line.split() for split in ("train", "val") for line in
            (folder / "landmarks" / f"{split}_{points}.txt").read_text().splitlines()]
    return np.array([row[-2 * points:] for row in rows], float).reshape(-1, points, 2)


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


def test_partners_of_partners():
    for name, partners in schemes.PARTNERS.items():
        assert sorted(partners) == list(range(len(partners)))
        assert [partners[i] for i in partners] == list(range(len(partners))), name
    assert len(schemes.PARTNERS["5"]) == 5
    assert len(schemes.PARTNERS["migu"]) == len(schemes.PARTNERS["jingdong"]) == 106
    assert schemes.PARTNERS["migu"] == PARTNER.tolist()  # written down apart, for drawing
    assert sorted(FROM_JINGDONG) == list(range(106))
    assert schemes.PARTNERS["jingdong"] != schemes.PARTNERS["migu"]


def test_drawn_faces_are_their_own_mirror_image(frontal):
    five, points = frontal[5].mean(axis=0), frontal[106].mean(axis=0)
    assert schemes.asymmetry(five, "5") < 0.08
    assert schemes.asymmetry(points, "migu") < 0.08
    assert schemes.asymmetry(to_jingdong(points), "jingdong") == pytest.approx(
        schemes.asymmetry(points, "migu"), abs=1e-9)
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
    expected = np.sqrt(2 * 2 ** 2 / (centred ** 2).sum())
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
        for i in range(count) for j in range(i + 2, count) if (j + 1) % count != i)


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
        assert (np.diff(bridge[:, 1]) > 0).all()             # downwards
        assert (np.diff(nose[:, 0])[2:8] > 0).all()          # from left to right below
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
    assert schemes.usual(5) == "5"
    assert [schemes.usual(points) for points in (106, 68, 14, None)] == [None] * 4

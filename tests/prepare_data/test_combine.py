"""Sets made out of several."""

import numpy as np
import pytest

from facelet import picture as pictures
from facelet.console import Problem
from prepare_data import combine, wider

LISTS = {
    "one": "a/1.jpg\n2\n10 10 20.5 30 2 1 0 0 1 0\n1 1 5 5 0 0 0 1 0 0\n"
    "b/2.jpg\n0\n0 0 0 0 0 0 0 0 0 0\n",
    "two": "".join(f"c/{i}.jpg\n1\n{i} 5 20 20 0 0 0 0 0 1\n" for i in range(10)),
}


@pytest.fixture
def sources(tmp_path):
    """[(name, images, list)] of two small sets."""
    for name, text in LISTS.items():
        folder = tmp_path / name
        for line in text.splitlines():
            if line.endswith(".jpg"):
                (folder / "images" / line).parent.mkdir(parents=True, exist_ok=True)
                pictures.write(folder / "images" / line, np.full((60, 80, 3), 99, np.uint8))
        (folder / "list_bbx_gt.txt").write_text(text)
    return [
        [name, tmp_path / name / "images", tmp_path / name / "list_bbx_gt.txt"] for name in LISTS
    ]


def arguments(sources, *more):
    return [*(str(word) for source in sources for word in ("--source", *source)), *more]


def test_all_that_the_sources_have(sources, tmp_path, capsys):
    out = tmp_path / "both"
    combine.main(arguments(sources, "--out", str(out)))
    made = wider.open_set(out, "train")
    assert made.counts["pictures"] == 12 and made.counts["faces"] == 11
    assert made.counts["invalid"] == 1
    by_path = {one.path: one for one in made.annotations}
    assert set(by_path) == {"one/a/1.jpg", "one/b/2.jpg", *(f"two/c/{i}.jpg" for i in range(10))}
    first = by_path["one/a/1.jpg"]
    np.testing.assert_allclose(first.boxes, [[10, 10, 30.5, 40]])
    np.testing.assert_array_equal(first.attributes, [[2, 1, 0, 0, 1, 0]])
    np.testing.assert_allclose(first.ignored, [[1, 1, 6, 6]])
    assert not len(by_path["one/b/2.jpg"].boxes)
    assert all((made.images / path).exists() for path in by_path)
    assert "two: 10 of 10 pictures, 10 faces" in capsys.readouterr().out
    combine.main(arguments(sources[:1], "--out", str(out), "--split", "val"))
    assert wider.open_set(out, "val").counts["pictures"] == 2
    assert wider.open_set(out, "train").counts["pictures"] == 12


def test_a_part_of_a_source(sources, tmp_path):
    """As many as asked for, the same ones each time, of an event alone where that is said."""
    taken = []
    for number, most in ((1, "two=4"), (2, "two/c=4"), (3, "two/c=4")):
        out = tmp_path / f"out{number}"
        combine.main(arguments(sources, "--out", str(out), "--most", most))
        paths = [one.path for one in wider.open_set(out, "train").annotations]
        assert sum(path.startswith("two/") for path in paths) == 4 and len(paths) == 6
        taken.append(paths)
    assert taken[1] == taken[2]
    out = tmp_path / "seeded"
    combine.main(arguments(sources, "--out", str(out), "--most", "two=4", "--seed", "5"))
    assert [one.path for one in wider.open_set(out, "train").annotations] != taken[0]


@pytest.mark.parametrize(
    "change, more, says",
    [
        (lambda rows: [rows[0], ["one", *rows[1][1:]]], [], "each needs a name of its own"),
        (lambda rows: [["a/b", *rows[0][1:]]], [], "without slashes"),
        (lambda rows: [["one", "nowhere", rows[0][2]]], [], "nowhere is not there"),
        (lambda rows: rows, ["--most", "three=4"], "no source of that name"),
        (lambda rows: rows, ["--most", "two=0"], "with N from 1"),
        (lambda rows: rows, ["--most", "two"], "write NAME=N"),
    ],
)
def test_bad_input(sources, tmp_path, monkeypatch, change, more, says):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(Problem) as problem:
        combine.main(arguments(change(sources), "--out", str(tmp_path / "out"), *more))
    assert says in str(problem.value) and "\n" not in str(problem.value).replace(
        str(tmp_path.resolve()), ""
    )
    assert not (tmp_path / "out").exists()


def test_a_link_that_leads_elsewhere_stays(sources, tmp_path):
    out = tmp_path / "out"
    combine.main(arguments(sources, "--out", str(out)))
    swapped = [[sources[0][0], sources[1][1], sources[1][2]]]
    with pytest.raises(Problem, match="leads elsewhere"):
        combine.main(arguments(swapped, "--out", str(out)))
    assert (out / "images" / "one").resolve() == sources[0][1]

"""Texts as other systems write them."""

import pytest

from facelet.console import Problem
from facelet.files import read_json, read_lines, read_text, write_text


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("mark", ["", "\ufeff"])
@pytest.mark.parametrize("last", [True, False])
def test_lines_whoever_wrote_them(tmp_path, end, mark, last):
    lines = ["b\u00e9.jpg", "", "\t1 2 ", "a\x0bb\x85c\u2028.jpg", f"{mark}second.jpg"]
    text = mark + end.join(lines) + end * last
    (tmp_path / "x.txt").write_bytes(text.encode())
    assert read_lines(tmp_path / "x.txt") == [*lines[:-1], "second.jpg"]
    (tmp_path / "x.json").write_bytes((mark + '{"a":' + end + "1}" + end * last).encode())
    assert read_json(tmp_path / "x.json") == {"a": 1}


def test_what_is_no_text_is_named(tmp_path):
    path = tmp_path / "x.txt"
    with pytest.raises(Problem, match=r"x.txt can't be read \(No such file"):
        read_text(path)
    for data in ("a.jpg".encode("utf-16"), b"\xc3"):
        path.write_bytes(data)
        with pytest.raises(Problem, match="x.txt can't be read as UTF-8 .*: save it so"):
            read_lines(path)
    path.write_bytes(b"")
    assert read_lines(path) == []
    write_text(path, "\u00e9\n")
    assert path.read_bytes() == b"\xc3\xa9\n"

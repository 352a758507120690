"""Files and folders appear whole, are on the disk before they appear, and are known by content."""

import os

import pytest

from facelet import files, settings
from facelet.console import Problem
from facelet.files import read_json, read_lines, read_text, write_text


@pytest.fixture
def calls(monkeypatch):
    """What is asked of the system, in order: ("sync", path) and ("rename", path)."""
    found, sync, rename = [], os.fsync, os.replace

    def fsync(handle):
        found.append(("sync", os.readlink(f"/proc/self/fd/{handle}")))
        sync(handle)

    def replace(source, target):
        found.append(("rename", str(target)))
        rename(source, target)

    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(os, "replace", replace)
    monkeypatch.setattr(os, "sync", lambda: found.append(("sync", "everything")))
    return found


def test_a_file_is_on_the_disk_before_it_appears(tmp_path, calls):
    files.write_text(tmp_path / "a.txt", "x")
    path = str(tmp_path / "a.txt")
    assert calls == [
        ("sync", str(tmp_path / ".a.txt.part.txt")),
        ("rename", path),
        ("sync", str(tmp_path)),
    ]


def test_a_folder_is_on_the_disk_before_it_appears(tmp_path, calls):
    with files.whole_folder(tmp_path / "out") as part:
        (part / "inner").mkdir()
        (part / "inner" / "a").write_bytes(b"x")
        (part / "b").write_bytes(b"x")
    place = str(tmp_path / ".out.part")
    before = {path for call, path in calls[:-2]}
    assert before == {place, f"{place}/inner", f"{place}/inner/a", f"{place}/b"}
    assert calls[-2:] == [("rename", str(tmp_path / "out")), ("sync", str(tmp_path))]


def test_a_folder_takes_the_place_of_an_empty_one(tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "link").symlink_to("out", target_is_directory=True)
    with files.whole_folder(tmp_path / "link") as part:
        (part / "a").touch()
    assert (tmp_path / "link").is_symlink() and (tmp_path / "out" / "a").exists()
    with pytest.raises(Problem, match="link is there already: remove it"):
        with files.whole_folder(tmp_path / "link"):
            pass
    assert sorted(path.name for path in tmp_path.iterdir()) == ["link", "out"]


def test_a_folder_of_many_files_is_synced_at_once(tmp_path, calls):
    with files.whole_folder(tmp_path / "out") as part:
        for number in range(files.MANY + 1):
            (part / str(number)).write_bytes(b"x")
    assert calls == [
        ("sync", "everything"),
        ("rename", str(tmp_path / "out")),
        ("sync", str(tmp_path)),
    ]


@pytest.mark.parametrize("age", [0, 100], ids=["fresh", "settled"])
def test_changes_are_found_though_hashes_are_kept(tmp_path, age):
    """Of the same length, in the same second; files that were there for long too."""
    path = tmp_path / "a"
    path.write_bytes(b"abc")
    sums = files.checksums(tmp_path)
    for content in (b"abd", b"abe", b"abc", b"ab"):
        path.write_bytes(content)
        if age:
            about = path.stat()
            os.utime(path, ns=(about.st_atime_ns, about.st_mtime_ns - age * 10**9))
        expected = [] if content == b"abc" else ["a has changed since it was made"]
        assert files.damage(tmp_path, sums) == expected
    path.unlink()
    assert files.damage(tmp_path, sums) == ["a is not there"]


def test_unchanged_files_are_read_once(tmp_path, monkeypatch):
    path = tmp_path / "a"
    path.write_bytes(b"abc")
    monkeypatch.setattr(files, "SETTLED", -1)
    first = files.sha256(path)
    monkeypatch.setattr(files.hashlib, "sha256", None)  # another reading would fail
    assert files.sha256(path) == first


@pytest.mark.parametrize("name", ["../a", "/a", "b/../../a", "a\0"])
def test_checksums_stay_in_their_folder(tmp_path, name):
    with pytest.raises(Problem, match="store.json is damaged: its checksums can't be used"):
        files.known_sums({"checksums": {name: "0"}}, tmp_path / "store.json")


INSIDE = ["a", "a/b", "./a", "a/../b", "..a", "a..b/c", "a b/\u00e9.jpg"]
OUTSIDE = ["../a", "/a", "b/../../a", "a/../..", "..", "a\0b"]


@pytest.mark.parametrize("name", INSIDE + OUTSIDE)
def test_paths_stay_in_their_folder(tmp_path, monkeypatch, name):
    if name in INSIDE:
        assert files.path_to_write(tmp_path, name) == tmp_path / name
        files.refuse_outside(name, "list.txt")
        return
    with pytest.raises(Problem, match="list.txt: .* outside of the folder.*--outside .*=True"):
        files.refuse_outside(name, "list.txt")
    monkeypatch.setenv(settings.OUTSIDE_VARIABLE, "0")
    settings.allow_outside(True)
    files.refuse_outside(name, "list.txt")
    with pytest.raises(Problem, match="it is not written"):
        files.path_to_write(tmp_path, name)


def test_json_with_a_byte_order_mark(tmp_path):
    (tmp_path / "a.json").write_bytes(b"\xef\xbb\xbf{}")
    assert files.read_json(tmp_path / "a.json") == {}


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

"""Results kept through a kill."""

import json
import os

import numpy as np
import pytest

from core.base.journal import Journal
from facelet.console import Problem

IDENTITY = {"source": {"sha256": "ab"}, "settings": {"score": 0.5, "sizes": (1, 2)}}


def result(number):
    return {"values": np.arange(number * 3, dtype=np.float32), "names": np.array([f"n{number}"])}


def same(one, other):
    assert one.keys() == other.keys()
    for name in one:
        assert one[name].dtype == other[name].dtype
        np.testing.assert_array_equal(one[name], other[name])


def test_only_what_is_missing_is_done(tmp_path):
    jobs, asked = list(range(7)), []

    def work(number):
        asked.append(number)
        return result(number)

    running = Journal(tmp_path / "j", IDENTITY).run(work, jobs, workers=1)
    for _ in range(3):
        next(running)
    running.close()
    again = Journal(tmp_path / "j", IDENTITY)
    assert again.done == {0, 1, 2}
    again.save(5, result(5))
    for number, made in zip(jobs, Journal(tmp_path / "j", IDENTITY).run(work, jobs, workers=1)):
        same(made, result(number))
    assert asked == [0, 1, 2, 3, 4, 6]
    again.remove()
    assert not (tmp_path / "j").exists()


def test_a_result_is_there_whole_or_not_at_all(tmp_path, monkeypatch):
    journal = Journal(tmp_path / "j", IDENTITY)
    monkeypatch.setattr(os, "replace", lambda *paths: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        journal.save(0, result(1))
    monkeypatch.undo()
    assert Journal(tmp_path / "j", IDENTITY).done == set()
    # What a kill leaves of a result is none either.
    (tmp_path / "j" / ".000003.npz.part.npz").write_bytes(b"PK")
    assert Journal(tmp_path / "j", IDENTITY).done == set()


@pytest.mark.parametrize(
    "change, says",
    [
        ({"settings": {"score": 0.6, "sizes": [1, 2]}}, "settings.score was 0.5, is 0.6"),
        ({"settings": {"score": 0.5}}, "settings.sizes was [1, 2], is None"),
        ({"nets": {"pnet": "cd"}}, "nets was None, is {'pnet': 'cd'}"),
        ({"source": {}}, "source"),
    ],
)
def test_another_identity(tmp_path, change, says):
    Journal(tmp_path / "j", IDENTITY).save(0, result(1))
    with pytest.raises(Problem) as problem:
        Journal(tmp_path / "j", {**IDENTITY, **change})
    assert says in str(problem.value) and str(tmp_path / "j") in str(problem.value)
    assert Journal(tmp_path / "j", IDENTITY).done == {0}


def test_folders_that_are_no_journal(tmp_path):
    (tmp_path / "photo.jpg").write_bytes(b"x")
    with pytest.raises(Problem, match="is no journal"):
        Journal(tmp_path, IDENTITY)
    assert [path.name for path in tmp_path.iterdir()] == ["photo.jpg"]
    journal = Journal(tmp_path / "j", IDENTITY)
    for data in (b"", b"PK\3\4", b"no archive", b"\x93NUMPY"):
        journal.save(1, result(1))
        (tmp_path / "j" / "000001.npz").write_bytes(data)
        with pytest.raises(Problem, match="000001.npz is damaged .*remove it"):
            journal.load(1)
    (tmp_path / "j" / "journal.json").write_text(json.dumps(IDENTITY)[:9])
    with pytest.raises(Problem, match="journal.json is not valid JSON"):
        Journal(tmp_path / "j", IDENTITY)
    for value in ([IDENTITY], 7, None):
        (tmp_path / "j" / "journal.json").write_text(json.dumps(value))
        with pytest.raises(Problem, match="journal.json is damaged: remove"):
            Journal(tmp_path / "j", IDENTITY)

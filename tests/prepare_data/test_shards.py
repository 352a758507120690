"""What several machines make of their shards against what one makes in one go, byte for byte."""

import shutil

import pytest

from core.base import shards
from facelet.console import program
from facelet.files import checksums
from prepare_data import landmark_samples, mine, samples
from prepare_data.points import __main__ as points
from tests.prepare_data.test_mine import QUICK, nets  # noqa: F401 -- a fixture


@pytest.fixture
def programs(drawn_set, nets):  # noqa: F811
    data, faces = ["--data", drawn_set], ["--faces", drawn_set / "landmarks" / "train_5.txt"]
    given = [f"--{stage}={path}" for stage, path in nets.items()]
    return {
        "samples": (samples.main, [*data, "--size", 12]),
        "mined": (
            mine.main,
            [*data, *given, "--for", "onet", "--size", 24, *QUICK, "mine.total=40"],
        ),
        "landmarks": (landmark_samples.main, [*faces, "--size", 24]),
        "cuts": (points.main, ["cut", *faces, "--size", 48]),
    }


def run(made, out, *more):
    main, words = made
    main([str(word) for word in (*words, "--out", out, "--workers", 1, *more)])


@pytest.mark.parametrize("what", ["samples", "mined", "landmarks", "cuts"])
def test_shards_make_the_same_store(what, programs, drawn_set, tmp_path, capsys):
    """One of the pictures can't be read; two machines have a folder each, that are put together."""
    here, there, whole = (tmp_path / name / "store" for name in ("here", "there", "whole"))
    broken = drawn_set.parent / "broken" / drawn_set.name
    shutil.copytree(drawn_set, broken, dirs_exist_ok=True)
    sorted((broken / "WIDER_train" / "images").rglob("*.jpg"))[3].write_bytes(b"no picture")
    main, words = programs[what]
    made = main, [str(word).replace(str(drawn_set), str(broken)) for word in words]
    run(made, whole)
    run(made, here, "--shard", "2/3")
    run(made, there, "--shard", "3/3")
    run(made, there, "--shard", "1/3")
    assert not here.exists() and not there.exists()
    assert "shard 1/3 is done" in capsys.readouterr().out
    with pytest.raises(SystemExit):
        program(lambda argv: run(made, there, "--merge"), [])
    assert "lacks 1 of" in capsys.readouterr().err
    shutil.copytree(shards.folder_of(here), shards.folder_of(there), dirs_exist_ok=True)
    run(made, there, "--merge")
    assert checksums(there) == checksums(whole) and len(checksums(whole)) > 5
    assert not shards.folder_of(there).exists()


def test_what_a_shard_has_done_is_not_done_again(programs, tmp_path, monkeypatch, capsys):
    out, calls = tmp_path / "store", []
    real = samples._job
    monkeypatch.setattr(samples, "_job", lambda job: calls.append(job) or real(job))
    run(programs["samples"], out, "--shard", "1/2")
    assert len(calls) == 2
    run(programs["samples"], out, "--shard", "1/2")
    run(programs["samples"], out, "--shard", "2/2")
    assert len(calls) == 3
    # Other settings would make another store.
    with pytest.raises(SystemExit):
        program(lambda argv: run(programs["samples"], out, "--merge", "samples.seed=1"), [])
    assert "was begun otherwise (settings.seed was 0, is 1)" in capsys.readouterr().err


@pytest.mark.parametrize("text", ["0/3", "4/3", "3", "1/", "a/b", "1/1000000", "²/3"])
def test_what_is_no_shard(text, programs, tmp_path, capsys):
    with pytest.raises(SystemExit):
        program(lambda argv: run(programs["samples"], tmp_path / "store", "--shard", text), [])
    assert "must be a shard and how many there are, as 3/16" in capsys.readouterr().err

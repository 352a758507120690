"""Command lines: settings among options, old spellings, what was meant, errors in one line."""

import argparse

import pytest

from core.base.options import parse, workers
from facelet.console import Problem, program


def parser():
    made = argparse.ArgumentParser(prog="python -m some.program", description="At 100 % of it.")
    made.add_argument("files", nargs="*")
    made.add_argument("--data", nargs="+")
    made.add_argument("--out")
    made.add_argument("--size", type=int, default=1, help="%(default)s px")
    made.add_argument("--kind", choices=("a", "b"))
    made.add_argument("--landmark-head", action="store_true")
    return made


def with_commands():
    made = argparse.ArgumentParser(prog="python -m some.program")
    made.add_argument("--workers", type=int)
    commands = made.add_subparsers(dest="command", metavar="COMMAND", required=True)
    cut, label = commands.add_parser("cut"), commands.add_parser("label")
    cut.add_argument("--faces", required=True)
    cut.add_argument("--size", type=int)
    label.add_argument("--weights")
    label.add_argument("--points", type=int)
    label.add_argument("place", nargs="?")
    return made


@pytest.mark.parametrize(
    "argv, settings",
    [
        ("--data a b train.epochs=2 --out o", ["train.epochs=2"]),
        ("train.epochs=2 --data a b --out o", ["train.epochs=2"]),
        ("--data a loss.bbox.weight=0.5 b --out o", ["loss.bbox.weight=0.5"]),
        ("--data a b --out o pnet.train.epochs=8 x.y=", ["pnet.train.epochs=8", "x.y="]),
        ("--out o --data a b train.schedule=a=b", ["train.schedule=a=b"]),
        ("--out=o --data a b", []),
    ],
)
def test_settings_stand_anywhere(argv, settings):
    args = parse(parser(), argv.split())
    assert (args.data, args.out, args.files, args.settings) == (["a", "b"], "o", [], settings)


def test_paths_are_no_settings():
    args = parse(parser(), ["--data", "./a.b=c", "runs/a.b=c", "a.b", "a=b", "--out", "/x/y.z=1"])
    assert args.data == ["./a.b=c", "runs/a.b=c", "a.b", "a=b"] and args.out == "/x/y.z=1"
    assert args.settings == []
    args = parse(parser(), ["--out", "o", "x.y=1", "--", "a.b=c", "--size"])
    assert args.settings == ["x.y=1"] and args.files == ["a.b=c", "--size"]


def test_files_among_options():
    args = parse(parser(), ["a", "--size", "3", "b", "train.lr=1", "--out", "o", "c"])
    assert (args.files, args.size, args.settings) == (["a", "b", "c"], 3, ["train.lr=1"])


def test_old_spellings(capsys):
    renamed = {"--samples": "--data", "--head": "--landmark-head", "--size": "--out"}
    args = parse(parser(), ["--samples", "a", "--head", "--size=4"], renamed)
    assert (args.data, args.landmark_head, args.size, args.out) == (["a"], True, 4, None)
    assert capsys.readouterr().err.splitlines() == [
        "note: --samples is now --data; the old spelling will go",
        "note: --head is now --landmark-head; the old spelling will go",
    ]
    assert parse(parser(), ["--samples=a=b", "c"], renamed).data == ["a=b"]
    assert parse(parser(), ["--data", "a"], renamed).data == ["a"]
    assert "--samples is now" in capsys.readouterr().err
    assert parse(parser(), ["--", "--samples"], renamed).files == ["--samples"]
    assert capsys.readouterr().err == ""


def test_of_commands(capsys):
    """An old spelling of one command may be an option of another; settings go with each."""
    renamed = {"--points": "--faces", "--net": "--weights"}
    args = parse(with_commands(), ["cut", "--points", "f", "crop.angle=3", "--size", "2"], renamed)
    assert (args.command, args.faces, args.size) == ("cut", "f", 2)
    assert args.settings == ["crop.angle=3"]
    assert "--points is now --faces" in capsys.readouterr().err
    args = parse(
        with_commands(), ["--workers", "1", "label", "--points", "68", "--net=n", "p"], renamed
    )
    assert (args.points, args.weights, args.place, args.workers) == (68, "n", "p", 1)
    assert capsys.readouterr().err == "note: --net is now --weights; the old spelling will go\n"
    for argv, words in (
        (
            ["cut", "--face", "x", "--sise", "2"],
            "program cut has no option --sise: did you mean --size",
        ),
        (["cut", "--size", "2"], "required: --faces; python -m some.program cut --help explains"),
        (
            ["cut", "--faces", "x", "y"],
            "'y' is not expected here: python -m some.program cut --help",
        ),
        (["cot"], "invalid choice: 'cot'"),
        ([], "required: COMMAND"),
        (["cut", "--faces", "x", "--size", "two"], "argument --size: invalid int value: 'two'"),
    ):
        with pytest.raises(Problem) as caught:
            parse(with_commands(), argv)
        assert words in str(caught.value)


@pytest.mark.parametrize(
    "argv, words",
    [
        ("--epochs 3", "has no option --epochs: did you mean train.epochs=3?"),
        ("--epochs=3", "did you mean train.epochs=3?"),
        ("--epochs", "did you mean train.epochs=VALUE?"),
        ("--train.epochs 3", "did you mean train.epochs=3?"),
        ("--val-fraction 0.2 --kind c", "did you mean train.val_fraction=0.2?"),
        ("--dta x", "has no option --dta: did you mean --data?"),
        ("--landmark-heads", "did you mean --landmark-head?"),
        ("--qqqq", "has no option --qqqq; --help lists them"),
        ("--size two", "argument --size: invalid int value: 'two'; python -m some.program --help"),
        ("--kind c", "argument --kind: invalid choice: 'c'"),
        ("--out", "argument --out: expected one argument"),
        ("-q", "'-q' is not expected here"),
    ],
)
def test_what_is_wrong_is_one_line(argv, words, capsys):
    with pytest.raises(SystemExit) as left:
        program(lambda given: parse(parser(), given), argv.split())
    printed = capsys.readouterr()
    assert left.value.code == 2 and printed.out == ""
    assert printed.err.startswith("error: ") and printed.err.count("\n") == 1
    assert words in printed.err


def test_abbreviations_stay():
    assert parse(parser(), ["--landm", "--si=2"]).size == 2


def test_help_tells_of_settings(capsys):
    for made, argv in ((parser(), ["--help"]), (with_commands(), ["cut", "--help"])):
        with pytest.raises(SystemExit) as left:
            parse(made, argv)
        assert left.value.code == 0
        printed = capsys.readouterr().out
        assert printed.startswith("usage: python -m some.program")
        assert printed.split("\n\n")[0].endswith(" [section.key=value ...]")


def test_a_program_without_settings(capsys):
    with pytest.raises(Problem, match="'train.epochs=2': python -m some.program has no settings"):
        parse(parser(), ["train.epochs=2"], settings=False)
    with pytest.raises(SystemExit):
        parse(parser(), ["--help"], settings=False)
    assert "section.key" not in capsys.readouterr().out


@pytest.mark.parametrize("text", ["0", "-1", "1025", "9" * 400, "1e3", "two", ""])
def test_whole_numbers_have_bounds(text):
    made = argparse.ArgumentParser(prog="python -m program")
    workers(made)
    assert parse(made, ["--workers", "2"]).workers == 2
    with pytest.raises(Problem, match="--workers: .*it must be a whole number from 1 to 1,024"):
        parse(made, [f"--workers={text}"])

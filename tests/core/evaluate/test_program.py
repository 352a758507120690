"""The dispatcher of the evaluations."""

import pytest

from core.evaluate import __main__ as evaluate
from facelet.console import Problem


@pytest.mark.parametrize("command", evaluate.COMMANDS)
def test_help_of_each_command(command, capsys):
    with pytest.raises(SystemExit) as stopped:
        evaluate.main([command, "--help"])
    printed = capsys.readouterr().out
    assert stopped.value.code == 0
    assert f"usage: python -m core.evaluate {command}" in printed
    assert "section.key=value" in printed and "--out FOLDER" in printed


def test_unknown_command():
    with pytest.raises(Problem, match="'stages'"):
        evaluate.main(["stage"])
    with pytest.raises(Problem, match="COMMAND"):
        evaluate.main([])


@pytest.mark.parametrize(
    "old, new",
    [
        (["--landmarks"], "landmarks"),
        (["landmarks", "--net", "x.onnx"], "--weights"),
        (["stages", "--pnet", "x.onnx", "--second", "x"], "--teacher-boxes"),
        (["wider", "--results", "x"], "--detections"),
        (["list", "--truth", "x"], "--data"),
    ],
)
def test_old_spellings_are_taken_and_named(old, new, capsys):
    with pytest.raises(Problem, match="are required|is required"):  # --out
        evaluate.main(old)
    assert f"note: {old[0] if len(old) == 1 else old[-2]} is now {new};" in capsys.readouterr().err


def test_an_option_of_another_command_is_not_renamed():
    with pytest.raises(Problem, match="no option --truth"):
        evaluate.main(["fddb", "--truth", "x", "--out", "x"])

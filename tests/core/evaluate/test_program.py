"""The dispatcher of the evaluations."""

import pytest

from core.evaluate import __main__ as evaluate


@pytest.mark.parametrize("command", evaluate.COMMANDS)
def test_help_of_each_command(command, capsys):
    with pytest.raises(SystemExit) as stopped:
        evaluate.main([command, "--help"])
    printed = capsys.readouterr().out
    assert stopped.value.code == 0
    assert f"usage: python -m core.evaluate {command}" in printed
    assert "section.key=value" in printed and "--out FOLDER" in printed


def test_unknown_command(capsys):
    with pytest.raises(SystemExit) as stopped:
        evaluate.main(["stage"])
    assert stopped.value.code == 2 and "'stages'" in capsys.readouterr().err

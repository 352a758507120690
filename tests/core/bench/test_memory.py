"""Memory beside the imports', and the first call: in processes of their own."""

import numpy as np
import pytest

from core.bench import memory
from facelet.console import Problem
from facelet.nets import MODELS


def test_the_engine_takes_little(monkeypatch, capsys):
    monkeypatch.setattr(memory, "CALLS", 4)
    picture = np.full((480, 640, 3), 128, np.uint8)
    found = memory.measure(MODELS, picture, "c")
    assert 1 < found["mb"] < memory.MOST_MB < found["imports_mb"]
    assert 0 < found["ms"] and 0 < found["first_ms"] < 10 * found["ms"]


def test_nets_that_are_none(tmp_path):
    with pytest.raises(Problem, match="did not run: .*has no Pnet"):
        memory.measure(tmp_path, np.zeros((48, 64, 3), np.uint8), "c")

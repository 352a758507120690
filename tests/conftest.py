"""Drawn pictures and a store of samples, made once for all tests.

OMP_WAIT_POLICY is set before MXNet is imported, so that its threads wait asleep, not spinning: the
nets of these tests take microseconds, and spinning threads make them fifty times slower on a
machine that is busy. DNNL_MAX_CPU_ISA is set for the reason that core.detect.mxnet_net gives.

A shell starts a job in the background with ctrl-C ignored, and whatever the job starts inherits
that; the tests that press ctrl-C need it as it is in the foreground.
"""

import os
import signal

os.environ.setdefault("OMP_WAIT_POLICY", "passive")
os.environ.setdefault("DNNL_MAX_CPU_ISA", "AVX2")
signal.signal(signal.SIGINT, signal.default_int_handler)

import pytest
import tiny

from config import config
from prepare_data import samples, wider
from prepare_data.drawn import sets as drawn


@pytest.fixture(scope="session")
def drawn_set(tmp_path_factory):
    """Folder of a small sample set in WIDER's layout: 24 pictures to train on, 6 to measure."""
    out = tmp_path_factory.mktemp("sets") / "drawn"
    drawn.draw_sample_set(out, count=30, seed=3)
    return out


@pytest.fixture(scope="session")
def store20(drawn_set, tmp_path_factory):
    """Path of a store of 20 pixel samples cut out of drawn_set."""
    out = tmp_path_factory.mktemp("stores") / "20"
    samples.make_store(wider.open_set(drawn_set, "train"), 20, out, config.samples, workers=1)
    return out


@pytest.fixture(scope="session")
def tiny_run(tmp_path_factory):
    """Folder of a run of the whole pipeline, see tests.tiny."""
    out = tmp_path_factory.mktemp("runs") / "tiny"
    with pytest.MonkeyPatch.context() as patch:
        tiny.run(patch, out)
    return out

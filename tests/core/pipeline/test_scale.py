"""What a set of any size takes."""

import pytest

from core.base import parallel
from core.pipeline import estimates, scale


def hours(text):
    rows = [line.split() for line in text.splitlines()[2:]]
    heads = rows[0]
    return heads, {
        " ".join(row[:-3]): [float(v.replace(",", "")) for v in row[-3:]] for row in rows[1:]
    }


def test_shards_divide_the_time_of_samples_and_not_of_training(capsys, monkeypatch):
    monkeypatch.setattr(parallel, "cores", lambda: 2)
    scale.main(["--pictures", "1000000", "--faces", "2000000", "--machines", "1", "10"])
    _, rows = hours(capsys.readouterr().out)
    crops = 50 * 1_000_000 + 13 * 2_000_000
    a_sample = 24 * 24 * 3 + 1 + 16 + 20
    size, one, ten = rows["samples_rnet"]
    assert size == pytest.approx(crops * a_sample / 1e9, abs=0.06)
    assert one == pytest.approx(crops / estimates.CUT_PER_SECOND / 3600, abs=0.006)
    assert ten == pytest.approx(one / 10, abs=0.006)
    _, one, ten = rows["training rnet"]
    assert one == ten == pytest.approx((crops + 300_000) * 16 / 3000 / 3600, rel=0.01)
    assert rows["together"][1] == pytest.approx(
        sum(row[1] for name, row in rows.items() if name != "together"), abs=0.1
    )

"""Workers that die, stand still or outlive what they work for."""

import os
import signal
import subprocess
import sys
import textwrap

import pytest

from core.base import parallel
from facelet import settings
from facelet.console import Problem


class Odd(Exception):
    """One that can't be sent: it can't be made anew of its arguments."""

    def __init__(self, one, other):
        super().__init__(one)


def work(job):
    """What a job says, or its square."""
    if isinstance(job, str):
        parallel.at("the beginning")
        parallel.at(f"{job}.jpg")
        if job == "fails":
            raise Problem("it is broken")
        if job == "fails oddly":
            raise Odd(open(os.devnull), 1)
        os.kill(os.getpid(), getattr(signal, job))
    return job * job


def test_results_come_in_order():
    assert list(parallel.in_order(work, range(30), 2)) == [n * n for n in range(30)]
    assert list(parallel.in_order(work, [], 2)) == []


@pytest.mark.parametrize("end", ["SIGKILL", "SIGSEGV", "SIGTERM"])
def test_a_worker_that_dies(end):
    """What was done before it counts, and its last words are named."""
    results = parallel.in_order(work, [1, 2, end, 3, 4], 2)
    assert [next(results), next(results)] == [1, 4]
    with pytest.raises(Problem, match=rf"died \({end}\) while working on {end}.jpg: is there mem"):
        next(results)


def test_a_worker_that_stands_still(monkeypatch):
    pool = parallel.Pool(work, 1)
    assert pool.submit(3).result() == 9  # it has started
    monkeypatch.setenv(settings.MAX_SECONDS_VARIABLE, "0.02")
    with pytest.raises(Problem, match=r"no sign of life for 0.2 s .* SIGSTOP.jpg.*max_seconds"):
        pool.submit("SIGSTOP").result()
    pool.close()


def test_errors_come_as_they_are():
    pool = parallel.Pool(work, 1)
    with pytest.raises(Problem, match="^it is broken$"):
        pool.submit("fails").result()
    with pytest.raises(RuntimeError, match="can't be sent"):
        pool.submit("fails oddly").result()
    assert pool.submit(5).result() == 25
    pool.close()


def test_nothing_is_left_of_a_program_that_ends_early(tmp_path):
    """The workers share its stderr, which is closed when all of them are gone."""
    (tmp_path / "early.py").write_text(
        textwrap.dedent("""
        import sys, time
        from core.base import parallel

        def work(job):
            time.sleep(job)
            return job

        if __name__ == "__main__":
            results = parallel.in_order(work, [0] + [600] * 99, 2)
            next(results)
            sys.exit(3)
        """)
    )
    made = subprocess.run(
        [sys.executable, tmp_path / "early.py"],
        env={**os.environ, "PYTHONPATH": os.getcwd()},
        stderr=subprocess.PIPE,
        timeout=60,
    )
    assert (made.returncode, made.stderr) == (3, b"")

"""Results of numbered jobs, kept in files while a long work goes on, so that a kill loses those of
the last moments only."""

import json
import os
import socket
from pathlib import Path

import numpy as np

from core.base import parallel
from core.base.arrays import archive
from facelet.console import Problem
from facelet.files import differences, read_json, to_json, whole_file, write_json

IDENTITY = "journal.json"
DIFFERENCES = 3  # that a line names


class Journal:
    """A folder of results, dicts of NumPy arrays, by number of the job.

    folder -- made if it is not there; the work goes on if it is
    identity -- JSON values that the results depend on: inputs by content, settings, how the work
        is cut into jobs

    Raises Problem for a folder that was begun with another identity, or that is no journal.
    """

    def __init__(self, folder, identity):
        self.folder = Path(folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        path, identity = self.folder / IDENTITY, json.loads(to_json(identity))
        if path.exists():
            before = read_json(path)
            if not isinstance(before, dict):
                raise Problem(f"{path} is damaged: remove {self.folder} to start over")
            if before != identity:
                differing = "; ".join(differences(identity, before)[:DIFFERENCES])
                raise Problem(
                    f"{self.folder} was begun otherwise ({differing}): give what it was "
                    "begun with to go on, or remove it to start over"
                )
        else:
            self._begin(path, identity)
        self.done = {int(path.stem) for path in self.folder.glob("*.npz") if path.stem.isdecimal()}

    def _begin(self, path, identity):
        others = any(not file.name.startswith(".") for file in self.folder.iterdir())
        if others and not path.exists():
            raise Problem(f"{self.folder} is there already and is no journal: remove it")
        # Several machines may begin the same journal at one time.
        own = self.folder / f".{IDENTITY}.{socket.gethostname()}.{os.getpid()}"
        write_json(own, identity)
        os.replace(own, path)

    def _file(self, number):
        return self.folder / f"{number:06d}.npz"

    def save(self, number, arrays):
        """Keep the result of a job, whole or not at all."""
        with whole_file(self._file(number)) as part:
            np.savez(part, **arrays)
        self.done.add(number)

    def load(self, number):
        """The result of a job that is done. Raises Problem when its file is damaged."""
        return archive(self._file(number), "remove it, and run the same command again")

    def run(self, function, jobs, workers):
        """Yields function(job), a dict of arrays, for each of a list of jobs in their order, as
        core.base.parallel.in_order does, of those that are done as it was kept."""
        missing = [job for number, job in enumerate(jobs) if number not in self.done]
        results = parallel.in_order(function, missing, workers)
        for number in range(len(jobs)):
            if number in self.done:
                yield self.load(number)
            else:
                arrays = next(results)
                self.save(number, arrays)
                yield arrays

    def do(self, function, jobs, workers, numbers):
        """Yields those of `numbers` of a list of jobs, as each is done and kept."""
        missing = [number for number in numbers if number not in self.done]
        results = parallel.in_order(function, [jobs[number] for number in missing], workers)
        for number in numbers:
            if number not in self.done:
                self.save(number, next(results))
            yield number

    def remove(self):
        """To be called when what the work makes is in its place."""
        # What tells that it is a journal goes last: after a kill it can be removed again.
        for path in sorted(self.folder.iterdir(), key=lambda path: path.name == IDENTITY):
            path.unlink()
        self.folder.rmdir()

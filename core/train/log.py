"""The log of a training run, log.jsonl: a line of JSON for each epoch,

    {"epoch": 1, "train": {figure: value, ...}, "val": {figure: value, ...}}

where a value is a number, a list of numbers, or null where it could not be had.
"""

import json

from facelet.console import Problem


def _is_number(value):
    # JSON has whole numbers of any length; what can be drawn is a float
    return value is None or (
        isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) < 1e300
    )


def _is_row(row, number):
    return (
        isinstance(row, dict)
        and row.get("epoch") == number
        and all(
            isinstance(row.get(part), dict)
            and all(
                all(map(_is_number, value)) if isinstance(value, list) else _is_number(value)
                for value in row[part].values()
            )
            for part in ("train", "val")
        )
    )


def read(path):
    """The rows of a log, one for each epoch from the first on; none where there is no file. Raises
    Problem naming the line that is damaged."""
    rows = []
    if not path.exists():
        return rows
    for number, line in enumerate(path.read_bytes().splitlines(), 1):
        try:
            rows.append(json.loads(line))
        except (ValueError, RecursionError):
            rows.append(None)
        if not _is_row(rows[-1], number):
            raise Problem(
                f"{path}, line {number} is damaged: choose another --out, or put back the whole "
                "file to go on"
            )
    return rows

"""Values of MATLAB's .mat files, by SciPy's reader, which damaged files can crash: it runs in a
process of its own."""

import os

from facelet import isolated


class ReaderError(Exception):
    """What the reader says of a file, or what it dies of."""


def load(path, names):
    """Those of some variables that a .mat file has, by name: of cells, lists of those in the first
    column; texts; and numbers as nested lists. Raises ReaderError."""
    try:
        found = isolated.call(
            "prepare_data.mat_file:load_there",
            os.path.abspath(path),
            names,
            patience=isolated.PATIENCE,
        )
    except isolated.Crashed as error:
        raise ReaderError(f"the reader {error}") from None
    if isinstance(found, str):
        raise ReaderError(found)
    return found


def load_there(path, names):
    """load(), or what went wrong."""
    try:
        from scipy.io import loadmat  # here, as it takes a while to import

        data = loadmat(path)
        return {name: _plain(data[name]) for name in names if name in data}
    except Exception as error:  # of a damaged file SciPy raises whatever it meets
        return " ".join(f"{type(error).__name__} {error}".split())


def _plain(value):
    if value.dtype == object:
        return [_plain(cell) for cell in value[:, 0]]
    return str(value[0]) if value.dtype.kind == "U" else value.tolist()

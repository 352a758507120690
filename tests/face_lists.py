"""Lists of faces with points for tests, and the points of a drawn face in every scheme."""

import numpy as np
from oracles import IN_MIGU

from facelet import schemes
from prepare_data.drawn.face import SUBSETS, Head, neutral_shape, rotation

GOOD = "40.5 30 60 80 55 60 85.25 61 70 75 58 92 83 93"


def listed(folder, *lines, pictures=("a.jpg",), where="images"):
    """A list with pictures (files that are there, nobody reads them) in a folder."""
    for name in pictures:
        path = folder / where / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    file = folder / "list.txt"
    file.write_text("".join(f"{line}\n" for line in lines))
    return file


def face(name, shift=0.0):
    """The points (P, 2) of a drawn face in a scheme, float, in a picture of 200 px."""
    migu, _ = Head(neutral_shape(), np.random.default_rng(0)).seen(rotation(0, 0, 0))
    row = {**IN_MIGU, "5": SUBSETS[5]}.get(name, range(106))
    found = np.round(migu[[*row]] * 50 + (100 + shift, 90), 2)
    return schemes.convert(found, "migu", name) if name == "jingdong" else found


def numbers(values):
    return " ".join(f"{value:g}" for value in np.ravel(values))

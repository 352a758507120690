"""One rule for what is held out: of stores, of faces with points, of lists of them."""

import zlib

import numpy as np
import pytest
from face_lists import GOOD, listed

from core.train.loader import Samples, split_by_picture
from facelet.console import Problem
from prepare_data.held_out import in_common, is_held_out, rule_of, split_faces
from prepare_data.points import sets
from prepare_data.points.face_sets import Pictures

NAMES = [f"event {i % 3}/{i}.jpg" for i in range(200)]


def by_hand(names, count, seed):
    """The file names of as many pictures with the smallest CRC-32 of seed and name."""
    files = [name.rsplit("/", 1)[-1] for name in names]
    return set(sorted(files, key=lambda file: zlib.crc32(f"{seed} {file}".encode()))[:count])


def files_of(names, chosen):
    return {names[i].rsplit("/", 1)[-1] for i in np.flatnonzero(chosen)}


class Named:
    """Faces of which only the pictures' names count."""

    path = "named"

    def __init__(self, names):
        self.named = names

    def names(self):
        return self.named

    def __len__(self):
        return len(self.named)


class Stored:
    """Of a store of samples, three of each picture, what Samples takes."""

    path, size, what, points, scheme = "store", 12, "samples", None, None
    labels, offsets = np.zeros(600, np.int8), np.zeros((600, 4), np.float32)
    sources = np.repeat(np.arange(200), 3)[:, None]

    def pictures(self):
        return [f"elsewhere/{name}" for name in NAMES]

    def __len__(self):
        return 600


@pytest.mark.parametrize("fraction, count", [(0.1, 20), (0.013, 3), (0.5, 100), (0.0, 0), (1, 200)])
def test_exactly_so_many_by_name_and_seed(fraction, count):
    for seed in (0, 5):
        held = files_of(NAMES, is_held_out(NAMES, rule_of(NAMES, fraction, seed)))
        assert held == by_hand(NAMES, count, seed)


def test_stores_faces_and_lists_hold_out_the_same(tmp_path):
    """The same pictures, as a store of samples with folders of its own, as faces (two of each
    picture), and as a list that is cut in two."""
    store = Stored()
    _, held = split_by_picture(Samples([store]), 0.1, 7)
    expected = by_hand(NAMES, 20, 7)
    assert files_of([NAMES[i] for i in store.sources[held, 0]], np.ones(len(held))) == expected
    assert len(held) == 60

    made = sets.open_set(
        listed(tmp_path, *(f"{name} {GOOD}" for name in NAMES * 2), pictures=NAMES[:1])
    )
    faces = Pictures(made)
    _, (held,), rule = split_faces([faces], 0.1, 7)
    assert {faces.names()[i].rsplit("/", 1)[-1] for i in held} == expected and len(held) == 40

    training, rest = sets.split(made, 0.1, 7)
    assert {face.path.rsplit("/", 1)[-1] for face in rest.faces} == expected
    assert len(training.faces) == 360 and len(rest.faces) == 40
    assert rule == rule_of(NAMES, 0.1, 7)


def test_several_sets_go_by_the_first():
    """A picture is held out of all sets or of none, whatever folder it is in."""
    others = [f"copy/{name.rsplit('/', 1)[-1]}" for name in NAMES[::-3]]
    training, held, rule = split_faces([Named(NAMES), Named(others)], 0.1, 5)
    expected = by_hand(NAMES, 20, 5)
    for names, inside, out in zip((NAMES, others), training, held):
        assert sorted([*inside, *out]) == list(range(len(names)))
        here = {name.rsplit("/", 1)[-1] for name in names}
        assert files_of(names, is_held_out(names, rule)) == expected & here
        assert {names[i].rsplit("/", 1)[-1] for i in out} == expected & here
    with pytest.raises(
        Problem,
        match=r"train.val_fraction is 0.001: of named \(200 faces\) that "
        "leaves none to hold out",
    ):
        split_faces([Named(NAMES)], 0.001, 5)
    with pytest.raises(Problem, match="leaves none to train on"):
        split_faces([Named(NAMES)], 0.999, 5)


def test_a_record_keeps_a_longer_list_from_leaking():
    """Trained on cuts that lack pictures, measured on the whole list: the list's own bound would
    let in what was trained on; with the net's record beside it nothing of that is left."""
    for lacking in ("held out", "training"):
        held = by_hand(NAMES, 20, 0)
        gone = [n for n in NAMES if (n.rsplit("/", 1)[-1] in held) == (lacking == "held out")][:15]
        cuts = [name for name in NAMES if name not in gone]
        (training,), _, record = split_faces([Named(cuts)], 0.1, 0)
        trained_on = {cuts[i] for i in training}
        of_list = rule_of(NAMES, 0.1, 0)
        measured = {NAMES[i] for i in np.flatnonzero(is_held_out(NAMES, of_list, record))}
        assert len(measured) > 5 and not measured & trained_on
        alone = {NAMES[i] for i in np.flatnonzero(is_held_out(NAMES, of_list))}
        assert bool(alone & trained_on) == (lacking == "training")  # what the record is for


def test_rules_in_common():
    rules = [{"seed": 0, "bound": 9}, {"seed": 1, "bound": 4}, {"seed": 0, "bound": 7}]
    common = in_common(rules)
    assert common == [{"seed": 0, "bound": 7}, {"seed": 1, "bound": 4}]
    many = [f"{i}.jpg" for i in range(1000)]
    rules = [rule_of(many, 0.5, 0), rule_of(many, 0.3, 1), rule_of(many, 0.4, 0)]
    both = is_held_out(many, *in_common(rules))
    assert both.tolist() == is_held_out(many, *rules).tolist()
    assert files_of(many, both) == by_hand(many, 400, 0) & by_hand(many, 300, 1)
    assert in_common([{"seed": 0, "bound": -1}]) == [{"seed": 0, "bound": -1}]
    assert not is_held_out(many, {"seed": 0, "bound": -1}).any()
    for broken in ({"seed": 0}, {"seed": 0, "bound": None}, 7, "text"):
        with pytest.raises(Problem, match="does not say which pictures were"):
            is_held_out(many, broken)
        with pytest.raises(Problem, match="does not say which pictures were"):
            in_common([broken])

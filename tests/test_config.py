"""Overrides of the defaults: typed, checked, and on a copy."""

import copy

import pytest

from config import _new_spelling, config, override, values
from facelet.console import Problem


@pytest.mark.parametrize(
    "assignment, value",
    [
        ("train.epochs=8", 8),
        ("train.lr=0.05", 0.05),
        ("train.lr=1e-3", 0.001),
        ("train.lr=1", 1.0),
        ("train.schedule=step", "step"),
        ("augment.flip=False", False),
        ("train.mix=1,2,4", [1, 2, 4]),
        ("train.mix=[3, 1, 1]", [3, 1, 1]),
        ("train.gpus=0", [0]),
        ("train.gpus=0,1", [0, 1]),
        ("train.gpus=[]", []),
        ("augment.brightness=0.5,1", [0.5, 1]),
        ("loss.bbox.kind=wing", "wing"),
        ("loss.landmark.weight=0", 0.0),
        ("samples.seed=11", 11),
        ("train.schedule=a=b", "a=b"),
    ],
)  # only the first = is the sign's
def test_values_take_the_type_of_the_default(assignment, value):
    node = override(config, [assignment])
    for part in assignment.split("=")[0].split("."):
        node = node[part]
    assert node == value and type(node) is type(value)


@pytest.mark.parametrize(
    "assignment, kind",
    [
        ("train.epochs=2.5", "a whole number"),
        ("train.epochs=many", "a whole number"),
        ("train.epochs=True", "a whole number"),
        ("train.epochs=", "a whole number"),
        ("train.lr=fast", "a number"),
        ("train.lr=1,2", "a number"),
        ("train.lr=None", "a number"),
        ("augment.flip=1", "True or False"),
        ("augment.flip=yes", "True or False"),
        ("train.mix=a,b", "numbers like"),
        ("train.mix=True", "numbers like"),
        ("train.mix=False", "numbers like"),
        ("train.mix=1,True", "numbers like"),
        ("train.mix='1'", "numbers like"),
        ("train.lr=__import__('os')", "a number"),
    ],
)
def test_values_of_another_type(assignment, kind):
    key = assignment.split("=")[0]
    with pytest.raises(Problem) as caught:
        override(config, [assignment])
    assert str(caught.value).startswith(f"{key}=") and kind in str(caught.value)


@pytest.mark.parametrize(
    "key, near",
    [
        ("train.epoch", "train.epochs"),
        ("train.learn", "train.lr"),
        ("loss.box.weight", "loss.bbox.weight"),
        ("epochs", "train.epochs"),
        ("detect.treshold", "detect.thresholds"),
    ],
)
def test_unknown_keys_bring_the_near_ones(key, near):
    with pytest.raises(Problem) as caught:
        override(config, [f"{key}=1"])
    text = str(caught.value)
    assert repr(key) in text and near in text.split("near: ")[1].split(", ")


@pytest.mark.parametrize("key", ["qqqq", "train", "loss.bbox", ""])
def test_what_is_no_setting(key):
    """A section is none, or it could be overwritten with a number."""
    with pytest.raises(Problem, match="there is no setting"):
        override(config, [f"{key}=1"])


def test_an_assignment_needs_its_sign():
    with pytest.raises(Problem, match="section.key=value"):
        override(config, ["train.epochs"])


def test_the_original_stays():
    before = copy.deepcopy(config)
    changed = override(config, ["train.mix=9,9,9", "loss.bbox.weight=7", "train.epochs=3"])
    changed.train.mix.append(5)
    changed.input.mean = 0
    assert config == before and changed != before


def test_the_last_assignment_wins():
    changed = override(config, ["train.epochs=8", "train.lr=0.5", "train.epochs=9"])
    assert (changed.train.epochs, changed.train.lr) == (9, 0.5)


def test_all_else_is_kept():
    changed = override(config, ["train.epochs=99"])
    assert changed.train.pop("epochs") == 99
    rest = copy.deepcopy(config)
    rest.train.pop("epochs")
    assert changed == rest
    assert override(config, []) == config


@pytest.mark.parametrize(
    "assignment, says",
    [
        ("train.epochs=0", "from 1 to 100,000"),
        ("samples.seed=-1", "from 0 to 4,294,967,295"),
        (
            "samples.negatives=1000000000000",
            "samples.negatives is 1000000000000: .* from 0 to 100,000",
        ),
        ("train.batch=1_000_000_000", "from 1 to 65,536"),
        ("mine.total=10000000000", "from 1 to 1,000,000,000"),
        ("detect.min_face=1_000_000_000", "from 1 to 100,000"),
        ("augment.noise=0,1e6", "two numbers, low,high, from 0 to 65,025"),
        ("train.mix=1,1e400", "up to five shares"),
        ("train.lr=0", "more than"),
        ("loss.cls.ohem=2", r"in \(0, 1\]"),
        ("detect.factor=1.5", "from 0.1 to 0.95"),
        ("detect.thresholds=0.5,0.5", "three numbers"),
        ("train.val_fraction=1.5", "between 0 and 1"),
        ("augment.noise=5", "two numbers"),
        ("train.mix=1,1,1,1,1,1", "five shares"),
        ("loss.bbox.beta=0", "more than 0"),
        ("loss.heatmap.wing_eps=0", "more than 0"),
        ("train.momentum=1", "from 0 to below 1"),
        ("augment.gray=1.5", "from 0 to 1"),
    ],
)
def test_values_out_of_range(assignment, says):
    with pytest.raises(Problem, match=says):
        override(config, [assignment])


def test_a_section_by_its_old_name(capsys):
    """It works for all its keys, and one line says so however often settings are resolved."""
    _new_spelling.cache_clear()
    for _ in range(3):
        changed = override(config, ["second.score=0.4", "teacher.floor=0.2"])
    assert (changed.teacher.score, changed.teacher.floor) == (0.4, 0.2)
    assert capsys.readouterr().err == (
        "note: second.score is now teacher.score; the old spelling will go\n"
    )
    with pytest.raises(Problem, match="there is no setting 'teacher.scores'; near: teacher.score"):
        override(config, ["second.scores=1"])
    with pytest.raises(Problem, match="there is no setting 'second'"):
        override(config, ["second=1"])


NUMBERS = [
    key
    for key, value in values(config).items()
    if type(value) in (int, float, list) and value != []
]


@pytest.mark.parametrize("key", [*NUMBERS, "train.mix", "train.gpus"])
@pytest.mark.parametrize("number", ["1e15", "1e400", "9" * 400, "-1e15", "-" + "9" * 400])
def test_no_number_is_without_bounds(key, number):
    """Of settings with several numbers each is tried: of those of the default one is replaced."""
    default = values(config)[key]
    if type(default) is int:
        number = (
            number if "e" not in number else str(int(float(number))) if number != "1e400" else ""
        )
    several = isinstance(default, list)
    texts = [number]
    if several:
        numbers = [str(value) for value in default] or ["1"]
        texts = [",".join([*numbers[:i], number, *numbers[i + 1 :]]) for i in range(len(numbers))]
    for text in texts:
        with pytest.raises(Problem, match=f"^{key}"):
            override(config, [f"{key}={text}"])

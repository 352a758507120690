"""Which settings each net is trained with."""

import pytest

from core.pipeline import recipes
from core.pipeline.recipes import RECIPES, TRAINED, settings_of
from facelet.console import Problem
from symbols import spec


def of(recipe, *assignments, landmarks=(), drawn=False):
    return settings_of(RECIPES[recipe], landmarks, drawn, assignments)


def test_one_net_or_all():
    common, own = of(
        "train-mtcnn",
        "train.lr=0.1",
        "pnet.train.lr=0.2",
        "pnet_hard.train.lr=0.3",
        "onet.samples.positives=7",
    )
    assert common.train.lr == 0.1 and common.samples.positives == 25
    assert {name: own[name].train.lr for name in TRAINED} == {
        "pnet": 0.2,
        "pnet_hard": 0.3,
        "rnet": 0.1,
        "onet": 0.1,
    }
    assert [own[name].samples.positives for name in TRAINED] == [25, 25, 25, 7]


def test_later_ones_go_before_earlier_ones_and_the_users_before_the_recipes():
    _, own = of("train-mtcnn", "rnet.train.lr=0.2", "train.lr=0.1", drawn=True)
    assert own["rnet"].train.lr == 0.1
    of_drawn = own["pnet"].train.epochs
    assert of_drawn != of("train-mtcnn")[0].train.epochs
    _, own = of("train-mtcnn", "train.epochs=3", drawn=True)
    assert {settings.train.epochs for settings in own.values()} == {3}
    _, own = of("classic", "mine.max_negative_iou=0.2", "onet.train.mix=1,1")
    assert own["rnet"].mine.max_negative_iou == 0.2 and own["onet"].train.mix == [1, 1]


def test_classic_mixes_and_weights():
    """1:1:3:1 for Pnet and Rnet, 1:1:3:2 for the Onet, negatives of both kinds together."""
    _, own = of("classic", landmarks=("pnet", "rnet", "onet"))
    for name, settings in own.items():
        positive, part, negative, hard, landmark = settings.train.mix
        assert (positive, part, negative + hard) == (1, 1, 3)
        assert landmark == (2 if name == "onet" else 1)
        assert (hard > 0) == (name != "pnet")
        assert settings.loss.cls.weight == 1 and settings.loss.bbox.weight == 0.5
        assert settings.loss.landmark.weight == (1 if name == "onet" else 0.5)
    assert [spec(RECIPES["classic"].nets[stage]).size for stage in recipes.STAGES] == [12, 24, 48]
    _, own = of("classic")
    assert own["onet"].train.mix == [1, 1, 1, 2]  # none of landmarks where there are none


@pytest.mark.parametrize("recipe", RECIPES)
def test_a_mix_has_a_share_for_each_sort(recipe):
    landmarks = RECIPES[recipe].landmarks
    _, own = of(recipe, landmarks=landmarks)
    for name in RECIPES[recipe].mixes:  # positive, part, negative, hard, and landmark
        stage = recipes.TRAINED[name][0]
        assert len(own[name].train.mix) == (5 if stage in landmarks else 4), name


def test_settings_that_are_not_there():
    with pytest.raises(Problem, match="no setting 'train.epoch'; near: train.epochs"):
        of("train-mtcnn", "pnet.train.epoch=3")
    with pytest.raises(Problem, match="no setting 'lnet.train.epochs'"):
        of("train-mtcnn", "lnet.train.epochs=3")


def test_the_family_tells_the_stage():
    for recipe in RECIPES.values():
        assert recipes.by_stage(recipe.nets.values()) == recipe.nets
    assert recipes.by_stage(["Onet_v2", "Pnet12"]) == {"onet": "Onet_v2", "pnet": "Pnet12"}
    with pytest.raises(Problem, match="Pnet12 and Pnet20_v1 are both of the family Pnet"):
        recipes.by_stage(["Pnet12", "Pnet20_v1"])
    with pytest.raises(Problem, match="Lnet_v1 is of the family Lnet, and a cascade has nets of"):
        recipes.by_stage(["Lnet_v1"])

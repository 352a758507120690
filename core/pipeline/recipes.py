"""How a cascade is trained: its nets, what they learn from, settings of their own. A recipe is a
row of RECIPES."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Tuple

from config import config, override
from facelet.console import Problem
from symbols import spec, zoo

STAGES = {"pnet": "Pnet", "rnet": "Rnet", "onet": "Onet"}  # the family of each

# What is trained, in order, for which stage, and after which nets: those that find its hard
# examples.
TRAINED = {
    # net         stage   nets before it
    "pnet": ("pnet", ()),
    "pnet_hard": ("pnet", ("pnet",)),
    "rnet": ("rnet", ("pnet_hard",)),
    "onet": ("onet", ("pnet_hard", "rnet")),
}


@dataclass(frozen=True)
class Recipe:
    """nets -- by stage
    landmarks -- stages whose nets learn landmarks, where there are any to learn from
    settings -- section.key=value for all nets, NET.section.key=value for one of TRAINED (pnet also
        for pnet_hard); later ones go before earlier ones
    mixes -- train.mix by name of TRAINED, without the last share where there are no landmarks;
        those left out have the usual one
    """

    nets: Mapping
    landmarks: Tuple[str, ...]
    settings: Tuple[str, ...] = ()
    mixes: Mapping = field(default_factory=dict)


RECIPES = {
    # The original's: negatives alone are mined, a landmark head for the Onet alone.
    "train-mtcnn": Recipe(
        {"pnet": "Pnet20_v1", "rnet": "Rnet_v1", "onet": "Onet_v1"},
        ("onet",),
        ("onet.loss.landmark.kind=smooth_l1",),
    ),
    # The one of the paper, as implementations in Caffe and TensorFlow have it: landmark heads in
    # all three, losses weighted 1 : 0.5 : 0.5, the Onet's 1 : 0.5 : 1, and negatives of IoU up to
    # 0.3. Those of Rnet and Onet come from the cascade; a third is cut at random all the same, as
    # a cascade that is good finds few.
    "classic": Recipe(
        {"pnet": "Pnet12", "rnet": "Rnet24", "onet": "Onet48"},
        ("pnet", "rnet", "onet"),
        # These nets have no batch norms: at 0.3, which others bear, the loss is soon no number.
        (
            "train.optimizer=sgd",
            "train.lr=0.03",
            "loss.bbox.weight=0.5",
            "loss.landmark.weight=0.5",
            "onet.loss.landmark.weight=1",
            "mine.max_negative_iou=0.3",
        ),
        {
            "pnet": (1, 1, 3, 0, 1),
            "pnet_hard": (1, 1, 2, 1, 1),
            "rnet": (1, 1, 1, 2, 1),
            "onet": (1, 1, 1, 2, 2),
        },
    ),
}

# The drawn sample set is small, so it is gone through more often. Where a share of the negatives is
# hard already, mining in the batch as well keeps nets on so few samples from ever getting started.
DRAWN = (
    "pnet.train.epochs=20",
    "pnet_hard.train.epochs=8",
    "rnet.train.epochs=6",
    "onet.train.epochs=5",
    "onet.train.warmup=60",
    *(f"{name}.train.mine_from=99" for name in ("pnet_hard", "rnet", "onet")),
)


def settings_of(recipe, landmarks, drawn, assignments):
    """The settings of a run: (those that hold for all, by name of TRAINED the net's own).

    recipe -- a Recipe; landmarks -- stages whose nets learn them; drawn -- whether it is for the
    drawn set; assignments -- as in Recipe.settings, the user's: they come last. Raises Problem.
    """
    common, own = [], {name: [] for name in TRAINED}
    for name, shares in recipe.mixes.items():
        shares = shares if TRAINED[name][0] in landmarks else shares[:-1]
        own[name].append("train.mix=" + ",".join(map(str, shares)))
    for assignment in (*recipe.settings, *(DRAWN if drawn else ()), *assignments):
        first, _, rest = assignment.partition(".")
        if first not in TRAINED:
            common.append(assignment)
        for name, (stage, _) in TRAINED.items():
            if first not in TRAINED:
                own[name].append(assignment)
            elif first in (name, stage):
                own[name].append(rest)
    return override(config, common), {name: override(config, its) for name, its in own.items()}


def check_nets(nets):
    """Raise Problem unless each net (a name, by stage) can be its stage."""
    for stage, name in nets.items():
        net = spec(name)
        if net.family != STAGES[stage]:
            raise Problem(
                f"--{stage} {net.name}: a net of the family {net.family} can't be the "
                f"{stage}; {', '.join(zoo.names(STAGES[stage] + '*'))} can"
            )

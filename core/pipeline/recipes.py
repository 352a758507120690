"""How a cascade is trained: its nets, what they learn from, settings of their own. A recipe is a
row of RECIPES."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from config import config, override
from facelet.console import Problem
from symbols import spec

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

# The step that measures the cascade as far as each of them.
MEASURES = {
    "pnet": "recall_pnet",
    "pnet_hard": "recall_pnet_hard",
    "rnet": "recall_rnet",
    "onet": "evaluate",
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
    landmarks: tuple[str, ...]
    settings: tuple[str, ...] = ()
    mixes: Mapping = field(default_factory=dict)


# For hard faces: turned, covered, blurred, lit badly, in crowds. Positives and parts come from the
# cascade as well, with its boxes' scatter, at low thresholds, so that faces are among them that it
# is not sure of. The limits are those of such pictures.
HARD = (
    "samples.turned=0.4",
    "onet.samples.positives=15",
    "onet.samples.negatives=20",
    "onet.samples.near_negatives=4",
    "mine.positives=True",
    "mine.parts=True",
    "mine.pnet=0.4",
    "mine.rnet=0.2",
    "mine.onet=0.2,0.05",
    "degrade.gamma=0.2,1.6",
    "degrade.occlusion=0.15,0.15,0.5",
    "degrade.motion=0.08,0.25",
    "degrade.blur=0.15,2",
    "degrade.shrink=0.2,0.5",
    "degrade.jpeg=0.15,30",
    # 20 px have nothing to lose to a line of blur.
    "pnet.degrade.motion=0,0.3",
    "pnet.degrade.blur=0.1,1",
    "pnet.train.epochs=4",
    "pnet_hard.train.epochs=12",
    "rnet.train.epochs=12",
    "rnet.train.batch=512",
    "onet.train.epochs=10",
    "onet.train.batch=128",
    "onet.loss.landmark.kind=smooth_l1",
    "detect.thresholds=0.2,0.1,0.3",
    "pipeline.floors=0.9,0.8,0.6",
    "pipeline.most_boxes=600,100,30",
)
HARD_MIXES = {"rnet": (1.2, 0.8, 1, 2, 1), "onet": (1.5, 1, 0.7, 1.8, 1.5)}


def _hard(pnet, rnet, onet, landmarks=("onet",)):
    return Recipe({"pnet": pnet, "rnet": rnet, "onet": onet}, landmarks, HARD, HARD_MIXES)


RECIPES = {
    # Negatives alone are mined, a landmark head for the Onet alone.
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
    # Cascades of four sizes for hard faces. With a landmark head, Onet_v1, v2 and v3 are the same
    # net; without, v3 is the largest.
    "small": _hard("Pnet20_v00", "Rnet_v1", "Onet_v2"),
    "medium": _hard("Pnet20_v2", "Rnet_v1", "Onet_v2"),
    "large": _hard("Pnet20_v6", "Rnet_v2", "Onet_v3", ()),
    "board": _hard("Pnet16_v0", "Rnet_v1", "Onet_v1"),
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
    found, of_net = override(config, common), {}
    for name, its in own.items():
        try:
            of_net[name] = override(config, its)
        except Problem as problem:  # a setting of this net alone: the common ones are right
            raise Problem(f"setting of {name}: {problem}") from None
    return found, of_net


def by_stage(names):
    """Nets of the zoo by the stage that each can be, by its family. Raises Problem for nets that
    aren't there, are of no stage, or of one."""
    found = {}
    for name in names:
        net = spec(name)
        stages = [stage for stage, family in STAGES.items() if family == net.family]
        if not stages:
            raise Problem(
                f"{net.name} is of the family {net.family}, and a cascade has nets of "
                f"{', '.join(STAGES.values())}"
            )
        if stages[0] in found:
            raise Problem(
                f"{found[stages[0]]} and {net.name} are both of the family {net.family}: a cascade "
                "has one of each"
            )
        found[stages[0]] = net.name
    return found

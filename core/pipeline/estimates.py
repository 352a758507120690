"""What steps will take, before they are run: bytes on disk and seconds. Rough, for --dry-run and
for the check of the disk; rates are those of 2 processors."""

import contextlib

from core.base import parallel
from core.pipeline.recipes import TRAINED
from facelet.console import Problem
from facelet.files import is_new
from prepare_data.store import facts_of, sample_bytes

# A drawn picture with its faces, samples of a face, hard examples of a picture, things a second.
DRAWN_BYTES, DRAWN_FACES, DRAWN_PER_SECOND = 70_000, 4, 14
DRAWN_SHARES = {"train": 0.8, "val": 0.2}
SAMPLES_PER_FACE, HARD_PER_PICTURE = 13, {"pnet": 60, "rnet": 60, "onet": 10}
CUT_PER_SECOND, SEARCHED_PER_SECOND, MEASURED_PER_SECOND = 25_000, 50, 25
TRAINED_PER_SECOND = {"pnet": 8_000, "rnet": 3_000, "onet": 1_000}
NET_BYTES, FIGURES_BYTES, BOXES_BYTES = 1_000_000, 4_000_000, 500
EXPORTED = 3_000_000, 5


def shared(seconds):
    """What work that takes 2 processors so long takes all that there are."""
    return seconds * 2 / parallel.cores()


def drawing(pictures):
    return pictures * DRAWN_BYTES, shared(pictures / DRAWN_PER_SECOND)


def counts(run, split="train"):
    """Pictures and faces of a split of a core.pipeline.run.Run, or what they will be."""
    data = run.data
    if data.drawn and is_new(data.folder):
        pictures = data.count * DRAWN_SHARES[split]
        return pictures, pictures * DRAWN_FACES
    fraction = 1 if split in data.sets else run.own["pnet"].train.val_fraction
    found = data.sets.get(split, data.sets["train"]).counts
    return found["pictures"] * fraction, found["faces"] * fraction


def samples(run, step):
    """How many samples a step that makes some has, or will have."""
    made = run.path(step) / "store.json"
    with contextlib.suppress(Problem):  # a damaged one is made anew
        if made.exists():
            return sum(facts_of(made)["counts"].values())
    pictures, faces = counts(run)
    kind, stage = step.split("_")
    own = run.own["pnet_hard" if step == "mine_pnet" else stage]
    if kind == "mine":
        return min(pictures * min(HARD_PER_PICTURE[stage], own.mine.per_picture), own.mine.total)
    if kind == "landmarks":
        return faces * own.landmark_samples.base_num
    return own.samples.base_num * (own.samples.negatives * pictures + SAMPLES_PER_FACE * faces)


def cutting(run, step):
    count, size = samples(run, step), run.size(step.split("_")[1])
    searched = counts(run)[0] if step.startswith("mine") else 0
    return (
        int(count * sample_bytes(size)),
        shared(count / CUT_PER_SECOND + searched / SEARCHED_PER_SECOND),
    )


def asking(run):
    """Of another detector, about every training picture."""
    pictures = counts(run)[0]
    return pictures * BOXES_BYTES, shared(pictures / SEARCHED_PER_SECOND)


def training(run, name):
    """Of a net of TRAINED."""
    count = sum(samples(run, step) for step in run.stores(name))
    rate = TRAINED_PER_SECOND[TRAINED[name][0]]
    return NET_BYTES, shared(count * run.own[name].train.epochs / rate)


def measuring(run):
    return FIGURES_BYTES, counts(run, "val")[0] / MEASURED_PER_SECOND

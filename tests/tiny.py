"""The whole pipeline made as small as it goes: a dozen drawn pictures, an epoch for each net, and
thresholds so low that nets that know nothing find something."""

from core.base import parallel
from core.pipeline.__main__ import main

PICTURES = 12
SETTINGS = [f"{name}.train.epochs=1" for name in ("pnet", "pnet_hard", "rnet", "onet")] + [
    "train.batch=50",
    "train.warmup=5",
    "train.mine_from=9",
    "train.val_fraction=0.2",
    "samples.negatives=15",
    "samples.positives=10",
    "landmark_samples.base_num=3",
    "detect.min_face=80",
    "detect.thresholds=0.05,0.05,0.05",
    "mine.pnet=0.05",
    "mine.rnet=0.05",
    "mine.onet=0.05,0.05",
    "mine.per_picture=20",
    "mine.max_negative_iou=0.3",
    "pipeline.floors=0,0,0",
    "pipeline.most_boxes=1e9,1e9,1e9",
]


def arguments(out, *more):
    return [*map(str, ("--out", out, "--pictures", PICTURES, *SETTINGS, *more))]


def run(monkeypatch, out, *more):
    """In this process, without workers, which take longer to start than they would work."""
    monkeypatch.setattr(parallel, "cores", lambda: 1)
    main(arguments(out, *more))

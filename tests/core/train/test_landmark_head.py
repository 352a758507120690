"""The landmark head of an Onet, trained beside face and box."""

import numpy as np

from config import config, override
from core.evaluate import metrics
from core.formats import checkpoint
from core.train import tasks, trainer
from core.train.loader import plain_batches
from facelet import schemes
from prepare_data import landmark_samples, samples, wider
from prepare_data.drawn import sets as drawn
from prepare_data.points import sets as points
from prepare_data.store import KINDS, Store
from symbols import zoo

FACES, BATCH, STEPS = 64, 96, 250
SETTINGS = [
    f"train.batch={BATCH}",
    "train.mix=1,1,2,0,8",
    "train.lr=0.02",
    "train.warmup=20",
    "train.epochs=1",
    "loss.landmark.kind=smooth_l1",
    "samples.negatives=10",
    "samples.positives=6",
    "landmark_samples.base_num=1",
    "augment.flip=False",
    "augment.brightness=1.0",
    "augment.gray=0.0",
    "augment.color=0.0",
    "augment.noise=0,0",
]


def test_it_learns_64_faces_by_heart(tmp_path):
    """To less than a hundredth of the crop, while faces and boxes are learnt as well; the net that
    this is a port of never learnt its points, as all other samples pulled them towards 0."""
    settings = override(config, SETTINGS)
    drawn.draw_sample_set(tmp_path / "set", count=80, seed=3)
    samples.make_store(
        wider.open_set(tmp_path / "set", "train"),
        48,
        tmp_path / "samples",
        settings.samples,
        workers=1,
    )
    faces = points.open_set(tmp_path / "set" / "landmarks" / "train_5.txt")
    landmark_samples.make_store(
        faces, 48, tmp_path / "points", settings.landmark_samples, workers=1
    )
    stores = [Store(tmp_path / "samples"), Store(tmp_path / "points")]
    task = tasks.task_of(zoo.spec("Onet_v1", True), {"landmark": True}, stores, settings)
    data = task.samples
    chosen = np.flatnonzero(data.labels == KINDS["landmark"])[:FACES]
    assert len(chosen) == FACES
    others = np.flatnonzero(data.labels != KINDS["landmark"])
    batches = tasks.Batches(data, np.concatenate([others, chosen]), settings, landmarks=True)
    first = checkpoint.initial("Onet_v1", {"landmark": True}, 0, settings.train.prelu_slope)
    task.init_head(first)
    net = trainer.Trainer(first, settings.train, settings.loss, STEPS)
    losses = [net.step(batches.make(number))["cls_loss"][0] for number in range(STEPS)]

    found = np.concatenate(
        [
            net.predict(batch)["landmark_pred"][:real]
            for batch, real in plain_batches(data, chosen, BATCH, True)
        ]
    )
    truth = data.landmarks(chosen)
    assert metrics.point_error(schemes.unpack(found), truth) < 0.01
    mean = np.broadcast_to(truth.mean(axis=0), truth.shape)
    assert metrics.point_error(mean, truth) > 0.05
    assert np.mean(losses[-20:]) < 0.3 * np.mean(losses[:20])

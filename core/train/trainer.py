"""Training of a net: one loop for all lessons (core.train.tasks), resumable at every epoch."""

import json
import math
import time
from pathlib import Path

import symbols
from config import config as defaults
from core.detect.nets import file_of
from core.formats import checkpoint
from core.train.curves import curves
from core.train.tasks import lesson as lesson_of
from facelet.console import Problem, clock
from facelet.files import (
    differences,
    read_json,
    sha256,
    to_json,
    whole_file,
    write_json,
    write_text,
)
from prepare_data.held_out import in_common
from symbols import zoo
from symbols.mxnet_import import devices, mx, ndarrays

SHOWN = 4  # differences that a line names
LABELS = {
    "cls": "label",
    "bbox": "bbox_target",
    "landmark": "landmark_target",
    "heatmap": "heatmap_target",
}  # by task
SLOW = 0.01  # rate of a landmark head's scale, in learning rates
# What the line of an epoch tells: words, figure.
LOSSES = (
    ("cls", "cls_loss"),
    ("box", "bbox_loss"),
    ("points", "landmark_loss"),
    ("maps", "heatmap_loss"),
)
FIGURES = (
    ("accuracy", "accuracy"),
    ("hardest 70 %", "accuracy_hard"),
    ("precision", "precision"),
    ("recall", "recall"),
    ("box error", "box_error"),
    ("points", "landmark_error"),
    ("mean face's", "mean_face_error"),
    ("inter-ocular", "inter_ocular"),
    ("joints", "joint_error"),
    ("mean body's", "mean_body_error"),
    ("found", "pck"),
)


class Schedule(mx.lr_scheduler.LRScheduler):
    """Learning rate of an update, counted from 1, from config.train and the steps of an epoch:
    a straight rise over the first train.warmup updates, times cosine or steps."""

    def __init__(self, settings, steps):
        super().__init__(base_lr=settings.lr)
        if settings.schedule not in ("cosine", "step"):
            raise Problem(f"train.schedule is {settings.schedule!r}: it must be cosine or step")
        self.settings, self.steps = settings, steps

    def __call__(self, num_update):
        settings, epochs = self.settings, (num_update - 1) / self.steps
        peak = settings.lr * min(1, num_update / max(settings.warmup, 1))
        if settings.schedule == "cosine":
            return peak * 0.5 * (1 + math.cos(math.pi * min(epochs / settings.epochs, 1)))
        return peak * settings.lr_factor ** sum(epochs >= at for at in settings.lr_steps)


class Run:
    """The folder of a training run: its configuration, its log, its checkpoints."""

    def __init__(self, folder, net, identity):
        """identity -- everything the result depends on, JSON values; a folder that was made with
        another is refused."""
        self.folder, self.net = Path(folder), net
        self.identity = json.loads(json.dumps(identity))
        self.config_path, self.log_path = self.folder / "config.json", self.folder / "log.jsonl"
        self.epoch = self._finished_epoch()
        # Of any net: a run that was refused or stopped before its first epoch may be started
        # otherwise, one that has something to lose may not.
        begun = any(self.folder.glob("*-[0-9][0-9][0-9][0-9].json"))
        if begun and self.config_path.exists():
            differing = differences(self.identity, read_json(self.config_path))[:SHOWN]
            if differing:
                raise Problem(
                    f"{folder} holds a run with other settings ({'; '.join(differing)}): "
                    "choose another --out, or the same settings to go on"
                )
        elif self.folder.exists() and not self.config_path.exists() and any(self.folder.iterdir()):
            raise Problem(f"{folder} is not empty and holds no run: choose another --out")
        self.folder.mkdir(parents=True, exist_ok=True)
        write_json(self.config_path, self.identity)
        self.log = self._read_log()[: self.epoch]

    def states_path(self, epoch):
        return self.folder / f"{self.net}-{epoch:04d}.states"

    def _finished_epoch(self):
        """The last epoch whose files are whole; later ones are written anew."""
        epochs = [
            int(path.stem.rsplit("-", 1)[1])
            for path in self.folder.glob(f"{self.net}-[0-9][0-9][0-9][0-9].json")
        ]
        for epoch in sorted(epochs, reverse=True):
            _, params, _ = checkpoint.paths(self.folder, self.net, epoch)
            if params.exists() and self.states_path(epoch).exists():
                return epoch
        return 0

    def _read_log(self):
        if not self.log_path.exists():
            return []
        return [json.loads(line) for line in self.log_path.read_text().splitlines()]

    def record(self, figures):
        """Add an epoch's figures to the log and draw the curves."""
        self.log.append(figures)
        write_text(self.log_path, "".join(to_json(row) + "\n" for row in self.log))
        curves(self.log, self.folder / "curves.png", title=self.net)


class Trainer:
    """A net with its optimiser, bound for batches of one size.

    start -- Checkpoint with the parameters to begin from
    updates -- optimiser steps made so far; states -- path of their momenta, None at the start
    """

    def __init__(self, start, settings, loss, steps, updates=0, states=None):
        self.start = start
        size, batch = start.spec.size, settings.batch
        graph = symbols.build(start.net, "train", loss=loss, **start.options)
        self.tasks = [head.task for head in start.spec.heads]
        self.labels = [LABELS[task] for task in self.tasks]
        # A target is as wide as what the net gives.
        _, widths, _ = start.symbol().infer_shape(data=(batch, 3, size, size))
        shapes = {
            LABELS[task]: (batch, math.prod(shape[1:])) for task, shape in zip(self.tasks, widths)
        }
        shapes["label"] = (batch,)
        contexts = devices(settings.gpus)
        self.module = mx.mod.Module(graph, ["data"], self.labels, context=contexts)
        self.module.bind(
            [("data", (batch, 3, size, size))], [(name, shapes[name]) for name in self.labels]
        )
        self.module.init_params(
            arg_params=ndarrays(start.arguments),
            aux_params=ndarrays(start.auxiliary),
            initializer=None,
        )
        momentum = {"sgd": "momentum", "adam": "beta1"}[settings.optimizer]
        # Losses are averaged on each device, their gradients added up over the devices.
        self.module.init_optimizer(
            kvstore="device" if len(contexts) > 1 else None,
            optimizer=settings.optimizer,
            optimizer_params={
                "lr_scheduler": Schedule(settings, steps),
                "learning_rate": settings.lr,
                "begin_num_update": updates,
                momentum: settings.momentum,
                "wd": settings.weight_decay,
                "rescale_grad": 1 / len(contexts),
            },
        )
        # Noise is what a net says of points at first, and of noise the best is none: the scale of
        # such a head would be at zero before the trunk has learnt a thing, and with it the trunk's
        # gradient. So it follows slowly.
        self.module._optimizer.set_lr_mult(
            {
                f"{head.bn}_gamma": SLOW
                for head in start.spec.heads
                if head.task == "landmark" and head.bn
            }
        )
        if states:
            self.module.load_optimizer_states(str(states))
        self.outputs = [name[: -len("_output")] for name in graph.list_outputs()]

    def _batch(self, batch):
        return mx.io.DataBatch(
            [mx.nd.array(batch["data"])], [mx.nd.array(batch[name]) for name in self.labels]
        )

    def _results(self):
        return {name: out.asnumpy() for name, out in zip(self.outputs, self.module.get_outputs())}

    def step(self, batch):
        """One update; returns the graph's outputs as arrays by name."""
        self.module.forward_backward(self._batch(batch))
        self.module.update()
        return self._results()

    def predict(self, batch):
        """The graph's outputs with the running means of the batch norms."""
        self.module.forward(self._batch(batch), is_train=False)
        return self._results()

    def checkpoint(self):
        """The parameters as they are now."""
        arrays = [
            {name: value.asnumpy() for name, value in part.items()}
            for part in self.module.get_params()
        ]
        return checkpoint.Checkpoint(self.start.net, self.start.options, *arrays)

    def save_states(self, path):
        with whole_file(path) as part:
            self.module.save_optimizer_states(str(part))


def _train_epoch(trainer, batches, epoch, settings, loss_weights):
    """One epoch of updates; returns its figures. Raises Problem for a loss that isn't finite."""
    sums, right, kept, waited = dict.fromkeys(trainer.tasks, 0.0), 0, 0, 0.0
    first = (epoch - 1) * batches.steps
    start = time.perf_counter()
    for number, (batch, wait) in enumerate(batches.ahead(range(first, first + batches.steps))):
        results = trainer.step(batch)
        waited += wait
        for task in sums:
            value = float(results[f"{task}_loss"][0])
            if not math.isfinite(value):
                raise Problem(
                    f"epoch {epoch}, step {number + 1} of {batches.steps}: the {task} loss is "
                    f"{value}. The learning rate is {settings.lr}: try a smaller one, train.lr="
                    f"{settings.lr / 4:g}, in another --out; finished epochs are kept"
                )
            sums[task] += value
        if "cls" in sums:
            keep = results["cls_keep"] > 0
            guess = results["cls_prob"][:, 1] >= 0.5
            right += int((guess == (batch["label"] == 1))[keep].sum())
            kept += int(keep.sum())
    seconds = time.perf_counter() - start
    # Losses are shown without their weights, so that runs can be compared.
    return {
        **{
            f"{task}_loss": value / batches.steps / (loss_weights[task].weight or 1)
            for task, value in sums.items()
        },
        **({"accuracy_hard": right / max(kept, 1)} if kept else {}),
        **({"left_out": len(batches.unreadable)} if batches.unreadable else {}),
        "samples_per_second": batches.steps * settings.batch / seconds,
        "waiting": waited / seconds,
    }


def losses_of_epoch(loss, train, epoch):
    """config.loss as it holds in an epoch: without mining before train.mine_from. On a net that
    knows nothing, the hardest negatives are those that look most like faces; learning from them
    first hides what tells the rest apart, and nets this small stay on that plateau for long."""
    if epoch >= train.mine_from:
        return loss
    return {
        task: {key: 1.0 if key.endswith("ohem") else value for key, value in options.items()}
        for task, options in loss.items()
    }


def describe(row, epochs):
    """A log row as one line."""
    train, val = row["train"], row["val"]
    losses = "".join(f" {name} {train[key]:.4f}" for name, key in LOSSES if key in train)
    held_out = "".join(f" {words} {val[key]:.4f}" for words, key in FIGURES if key in val)
    left_out = train.get("left_out", 0)
    return (
        f"epoch {row['epoch']}/{epochs}  loss{losses}  held out:{held_out}  "
        f"{train['samples_per_second']:,.0f}/s, {train['waiting']:.0%} waiting"
        + (f", {left_out:,} unreadable left out" if left_out else "")
    )


def _tensorboard(folder):
    """A writer of TensorBoard events if the package is installed, else None."""
    try:
        from tensorboardX import SummaryWriter
    except ImportError:
        return None
    return SummaryWriter(str(folder / "tensorboard"))


def train(net, options, data, out, settings=defaults, start=None):
    """Train a net of the zoo into the folder `out`; goes on where a run with the same settings was
    stopped. Returns the path of the last parameters.

    options -- of symbols.build: {"landmark": True} for a landmark head, "points", "base"
    data -- what it learns from, see core.train.tasks.lesson
    settings -- the whole configuration (config.config or an override of it)
    start -- .params file or run's folder to begin from: of the same net or, where landmarks alone
        are learnt, of one with another head, which begins anew; fresh parameters if None

    Raises Problem: a net that the data can't teach, other settings than the run in `out` has,
    missing kinds of samples, a loss that is not finite.
    """
    spec = zoo.spec(net, options.get("landmark", False))
    # What can be wrong with the settings shows before the run's folder is there.
    lesson = lesson_of(spec, options, data, settings)
    devices(settings.train.gpus)
    batches, adaptive = lesson.batches, settings.loss.landmark.adaptive
    Schedule(settings.train, batches.steps)
    symbols.build(net, "train", loss=lesson.loss(settings.loss), **options)
    identity = {
        "net": spec.name,
        "options": options,
        "mix": lesson.mix,
        "data": lesson.data,
        "config": {section: settings[section] for section in lesson.sections},
    }
    first = checkpoint.initial(spec.name, options, settings.train.seed, settings.train.prelu_slope)
    lesson.settle(first)
    if start is not None:
        first = checkpoint.begun_from(start, first)
        identity["start"] = sha256(file_of(start))
    # What the net has never seen: with another to begin from, only what that had not either.
    held_out = in_common([lesson.rule, *first.manifest.get("held_out", [])])
    run = Run(out, spec.name, identity)
    epochs = settings.train.epochs

    def trainer_after(epoch):
        """A Trainer with the state after `epoch`, and the losses of the next."""
        begin = (
            checkpoint.load(checkpoint.paths(run.folder, spec.name, epoch)[1]) if epoch else first
        )
        loss = lesson.loss(settings.loss, run.log[-1] if epoch else None)
        return Trainer(
            begin,
            settings.train,
            losses_of_epoch(loss, settings.train, epoch + 1),
            batches.steps,
            epoch * batches.steps,
            run.states_path(epoch) if epoch else None,
        )

    if run.epoch:
        print(
            f"{out}: "
            + (
                f"going on after epoch {run.epoch}"
                if run.epoch < epochs
                else f"finished already, after epoch {run.epoch}"
            )
        )
    trainer = trainer_after(run.epoch)
    print(
        f"{spec.name}: {lesson}; {batches.steps} steps of {settings.train.batch} an epoch, "
        f"{epochs} epochs",
        flush=True,
    )
    if run.epoch < epochs:
        lesson.begin(run.folder)
    board = _tensorboard(run.folder)
    started = time.perf_counter()
    params = checkpoint.paths(run.folder, spec.name, run.epoch)[1]
    for epoch in range(run.epoch + 1, epochs + 1):
        if (epoch == settings.train.mine_from or adaptive) and epoch > run.epoch + 1:
            trainer = trainer_after(epoch - 1)
        figures = _train_epoch(trainer, batches, epoch, settings.train, settings.loss)
        row = {"epoch": epoch, "train": figures, "val": lesson.validate(trainer)}
        # The manifest comes last: an epoch counts when it is there, and a kill in between only
        # leaves files that the next run writes anew.
        trainer.save_states(run.states_path(epoch))
        run.record(row)
        params = checkpoint.save(
            run.folder,
            trainer.checkpoint(),
            epoch,
            {
                **lesson.manifest,
                "held_out": held_out,
                "figures": row,
                "config": run.identity["config"],
                **{
                    key: run.identity[key]
                    for key in ("mix", "data", "start")
                    if key in run.identity
                },
            },
        )
        run.states_path(epoch - 1).unlink(missing_ok=True)
        lesson.shown(trainer, run.folder)
        if board:
            for part in ("train", "val"):
                for name, value in row[part].items():
                    if isinstance(value, list):
                        continue
                    board.add_scalar(f"{part}/{name}", value, epoch)
            board.flush()
        done = epoch - run.epoch
        left = (time.perf_counter() - started) / done * (epochs - epoch)
        print(
            describe(row, epochs) + (f", {clock(left)} to go" if epoch < epochs else ""), flush=True
        )
    return params

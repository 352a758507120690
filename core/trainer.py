"""Training of a net on a packed store: one loop, resumable at every epoch."""
import json
import math
import time
from pathlib import Path

import numpy as np

import symbols
from config import config as defaults
from core import checkpoint, metrics, plots
from core.console import Problem, clock
from core.files import read_json, sha256, to_json, whole_file, write_json, write_text
from core.loader import Batches, plain_batches, prefetched, split_by_picture
from core.mxnet_import import devices, mx, ndarrays
from symbols import zoo

TASKS = {"cls", "bbox"}  # what a store of samples teaches


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
            differing = _differences(self.identity, read_json(self.config_path))
            if differing:
                raise Problem(f"{folder} holds a run with other settings ({'; '.join(differing)}): "
                              "choose another --out, or the same settings to go on")
        elif (self.folder.exists() and not self.config_path.exists()
              and any(self.folder.iterdir())):
            raise Problem(f"{folder} is not empty and holds no run: choose another --out")
        self.folder.mkdir(parents=True, exist_ok=True)
        write_json(self.config_path, self.identity)
        self.log = self._read_log()[:self.epoch]

    def states_path(self, epoch):
        return self.folder / f"{self.net}-{epoch:04d}.states"

    def _finished_epoch(self):
        """The last epoch whose files are whole; later ones are written anew."""
        epochs = [int(path.stem.rsplit("-", 1)[1])
                  for path in self.folder.glob(f"{self.net}-[0-9][0-9][0-9][0-9].json")]
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
        plots.curves(self.log, self.folder / "curves.png", title=self.net)


def _differences(now, then, prefix=""):
    found = []
    for key in sorted({*now, *then}):
        a, b = now.get(key), then.get(key)
        if isinstance(a, dict) and isinstance(b, dict):
            found += _differences(a, b, f"{prefix}{key}.")
        elif a != b:
            found.append(f"{prefix}{key} was {b}, is {a}")
    return found[:4]


class Trainer:
    """A net with its optimiser, bound for batches of one size.

    start -- Checkpoint with the parameters to begin from
    updates -- optimiser steps made so far; states -- path of their momenta, None at the start
    """

    def __init__(self, start, settings, loss, steps, updates=0, states=None):
        self.start = start
        size, batch = start.spec.size, settings.batch
        graph = symbols.build(start.net, "train", loss=loss, **start.options)
        self.labels = ["label", "bbox_target"]
        contexts = devices(settings.gpus)
        self.module = mx.mod.Module(graph, ["data"], self.labels, context=contexts)
        self.module.bind([("data", (batch, 3, size, size))],
                         [("label", (batch,)), ("bbox_target", (batch, 4))])
        self.module.init_params(arg_params=ndarrays(start.arguments),
                                aux_params=ndarrays(start.auxiliary), initializer=None)
        # Losses are averaged on each device, their gradients added up over the devices.
        self.module.init_optimizer(kvstore="device" if len(contexts) > 1 else None,
                                   optimizer="sgd", optimizer_params={
                                       "lr_scheduler": Schedule(settings, steps),
                                       "learning_rate": settings.lr,
                                       "begin_num_update": updates,
                                       "momentum": settings.momentum,
                                       "wd": settings.weight_decay,
                                       "rescale_grad": 1 / len(contexts)})
        if states:
            self.module.load_optimizer_states(str(states))
        self.outputs = [name[:-len("_output")] for name in graph.list_outputs()]

    def _batch(self, batch):
        return mx.io.DataBatch([mx.nd.array(batch["data"])],
                               [mx.nd.array(batch[name]) for name in self.labels])

    def _results(self):
        return {name: out.asnumpy() for name, out in zip(self.outputs,
                                                         self.module.get_outputs())}

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
        arrays = [{name: value.asnumpy() for name, value in part.items()}
                  for part in self.module.get_params()]
        return checkpoint.Checkpoint(self.start.net, self.start.options, *arrays)

    def save_states(self, path):
        with whole_file(path) as part:
            self.module.save_optimizer_states(str(part))


def validate(trainer, store, indices, batch):
    """Figures over the samples `indices` of a store, without augmentation."""
    prob, offsets = [], []
    for filled, real in plain_batches(store, indices, batch):
        results = trainer.predict(filled)
        prob.append(results["cls_prob"][:real, 1])
        offsets.append(results["bbox_pred"][:real])
    labels = store.labels[indices]
    return {**metrics.classification(np.concatenate(prob), labels),
            **metrics.box_error(np.concatenate(offsets), store.offsets[indices], labels)}


def _train_epoch(trainer, batches, epoch, settings, loss_weights):
    """One epoch of updates; returns its figures. Raises Problem for a loss that isn't finite."""
    sums, right, kept, waited = dict.fromkeys(TASKS, 0.0), 0, 0, 0.0
    first = (epoch - 1) * batches.steps
    start = time.perf_counter()
    for number, (batch, wait) in enumerate(
            prefetched(batches.make, range(first, first + batches.steps), settings.prefetch)):
        results = trainer.step(batch)
        waited += wait
        for task in TASKS:
            value = float(results[f"{task}_loss"][0])
            if not math.isfinite(value):
                raise Problem(
                    f"epoch {epoch}, step {number + 1} of {batches.steps}: the {task} loss is "
                    f"{value}. The learning rate is {settings.lr}: try a smaller one, train.lr="
                    f"{settings.lr / 4:g}, in another --out; finished epochs are kept")
            sums[task] += value
        keep = results["cls_keep"] > 0
        guess = results["cls_prob"][:, 1] >= 0.5
        right += int((guess == (batch["label"] == 1))[keep].sum())
        kept += int(keep.sum())
    seconds = time.perf_counter() - start
    # Losses are shown without their weights, so that runs can be compared.
    return {**{f"{task}_loss": sums[task] / batches.steps / (loss_weights[task].weight or 1)
               for task in sorted(TASKS)},
            "accuracy_hard": right / max(kept, 1),
            "samples_per_second": batches.steps * settings.batch / seconds,
            "waiting": waited / seconds}


def losses_of_epoch(loss, train, epoch):
    """config.loss as it holds in an epoch: without mining before train.mine_from. On a net that
    knows nothing, the hardest negatives are those that look most like faces; learning from them
    first hides what tells the rest apart, and nets this small stay on that plateau for long."""
    if epoch >= train.mine_from:
        return loss
    return {task: {**options, "ohem": 1.0} for task, options in loss.items()}


def describe(row, epochs):
    """A log row as one line."""
    train, val = row["train"], row["val"]
    return (f"epoch {row['epoch']}/{epochs}  loss cls {train['cls_loss']:.4f} box "
            f"{train['bbox_loss']:.4f}  held out: accuracy {val['accuracy']:.4f} (hardest 70 %: "
            f"{val['accuracy_hard']:.4f}) precision {val['precision']:.4f} recall "
            f"{val['recall']:.4f} box error {val['box_error']:.4f}  "
            f"{train['samples_per_second']:,.0f}/s, {train['waiting']:.0%} waiting")


def _tensorboard(folder):
    """A writer of TensorBoard events if the package is installed, else None."""
    try:
        from tensorboardX import SummaryWriter
    except ImportError:
        return None
    return SummaryWriter(str(folder / "tensorboard"))


def train(net, options, store, out, settings=defaults):
    """Train a net of the zoo on a Store, into the folder `out`; goes on where a run with the
    same settings was stopped. Returns the path of the last parameters.

    settings -- the whole configuration (config.config or an override of it)

    Raises Problem: a net the store can't teach, other settings than the run in `out` has,
    missing kinds of samples, a loss that is not finite.
    """
    spec = zoo.spec(net, options.get("landmark", False))
    tasks = {head.task for head in spec.heads}
    if tasks != TASKS:
        raise Problem(f"{spec.name} learns {', '.join(sorted(tasks))}; a store of samples teaches "
                      "faces and boxes only")
    if store.size != spec.size:
        raise Problem(f"{store.path} holds samples of {store.size} pixels, {spec.name} takes "
                      f"{spec.size}: make a store with --size {spec.size}")
    # What can be wrong with the settings shows before the run's folder is there.
    devices(settings.train.gpus)
    training, held_out = split_by_picture(store, settings.train.val_fraction, settings.train.seed)
    batches = Batches(store, training, settings.train, settings.augment)
    Schedule(settings.train, batches.steps)
    symbols.build(net, "train", loss=settings.loss, **options)
    data = {"counts": store.facts["counts"], "source": store.facts["source"],
            "store_sha256": sha256(store.path / "store.json")}
    relevant = {section: settings[section] for section in ("input", "loss", "augment", "train")}
    run = Run(out, spec.name, {"net": spec.name, "options": options, "config": relevant,
                               "data": data})
    epochs = settings.train.epochs

    def trainer_after(epoch):
        """A Trainer with the state after `epoch`, and the losses of the next."""
        if epoch:
            start = checkpoint.load(checkpoint.paths(run.folder, spec.name, epoch)[1])
        else:
            start = checkpoint.initial(net, options, settings.train.seed,
                                       settings.train.prelu_slope)
        return Trainer(start, settings.train,
                       losses_of_epoch(settings.loss, settings.train, epoch + 1), batches.steps,
                       epoch * batches.steps, run.states_path(epoch) if epoch else None)

    if run.epoch:
        print(f"{out}: " + (f"going on after epoch {run.epoch}" if run.epoch < epochs else
                            f"finished already, after epoch {run.epoch}"))
    trainer = trainer_after(run.epoch)
    print(f"{spec.name}: {len(training):,} samples, {len(held_out):,} held out (whole pictures), "
          f"{batches.steps} steps of {settings.train.batch} an epoch, {epochs} epochs")
    board = _tensorboard(run.folder)
    started = time.perf_counter()
    params = checkpoint.paths(run.folder, spec.name, run.epoch)[1]
    for epoch in range(run.epoch + 1, epochs + 1):
        if epoch == settings.train.mine_from and epoch > run.epoch + 1:
            trainer = trainer_after(epoch - 1)
        figures = _train_epoch(trainer, batches, epoch, settings.train, settings.loss)
        row = {"epoch": epoch, "train": figures,
               "val": validate(trainer, store, held_out, settings.train.batch)}
        # The manifest comes last: an epoch counts when it is there, and a kill in between only
        # leaves files that the next run writes anew.
        trainer.save_states(run.states_path(epoch))
        run.record(row)
        params = checkpoint.save(run.folder, trainer.checkpoint(), epoch,
                                 {"figures": row, "config": run.identity["config"], "data": data})
        run.states_path(epoch - 1).unlink(missing_ok=True)
        if board:
            for part in ("train", "val"):
                for name, value in row[part].items():
                    board.add_scalar(f"{part}/{name}", value, epoch)
            board.flush()
        done = epoch - run.epoch
        left = (time.perf_counter() - started) / done * (epochs - epoch)
        print(describe(row, epochs) + (f", {clock(left)} to go" if epoch < epochs else ""),
              flush=True)
    return params

"""Training of a net: one loop for all tasks (core.train.tasks), resumable at every epoch."""

import contextlib
import math
import time

import symbols
from config import config as defaults
from core.detect.nets import file_of
from core.formats import checkpoint
from core.train import states as optimizer_states
from core.train.run import CURVES, Run, describe
from core.train.tasks import task_of
from core.train.trunk import operator
from facelet.console import Problem, Status, check_stop, clock
from facelet.files import sha256
from facelet.locks import locked
from prepare_data.held_out import in_common
from symbols import zoo
from symbols.mxnet_import import devices, mx, ndarrays, one_line, threads

LABELS = {
    "cls": "label",
    "bbox": "bbox_target",
    "landmark": "landmark_target",
    "heatmap": "heatmap_target",
}  # by head
SCALE_RATE = 0.01  # of a landmark head's scale, in learning rates


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


class Trainer:
    """A net with its optimiser, bound for batches of one size.

    start -- Checkpoint with the parameters to begin from
    updates -- optimiser steps made so far
    states -- path of the optimiser's (core.train.states), whose checksum the manifest of `start`
        has; None at the start
    """

    def __init__(self, start, settings, loss, steps, updates=0, states=None):
        self.start, self.name = start, f"{start.net}, batches of {settings.batch}"
        with one_line(self.name):
            self._bind(settings, loss)
            self._init_optimizer(settings, steps, updates)
        if states:
            checksum = start.manifest.get("checksums", {}).get(states.name)
            optimizer_states.load(self.module, updates, states, checksum)

    def _bind(self, settings, loss):
        start, size, batch = self.start, self.start.spec.size, settings.batch
        graph = operator.training_graph(start.net, loss, settings.gpus, **start.options)
        self.heads = [head.task for head in start.spec.heads]
        self.labels = [LABELS[head] for head in self.heads]
        # A target is as wide as what the net gives.
        _, widths, _ = start.symbol().infer_shape(data=(batch, 3, size, size))
        shapes = {
            LABELS[head]: (batch, math.prod(shape[1:])) for head, shape in zip(self.heads, widths)
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
        self.outputs = [name[: -len("_output")] for name in graph.list_outputs()]

    def _init_optimizer(self, settings, steps, updates):
        contexts = devices(settings.gpus)
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
        # The points that a fresh net predicts are noise, which scale 0 fits best: the scale of such
        # a head would get there before the trunk has learnt anything, and with it the trunk's
        # gradient. So it follows slowly.
        self.module._optimizer.set_lr_mult(
            {
                f"{head.bn}_gamma": SCALE_RATE
                for head in self.start.spec.heads
                if head.task == "landmark" and head.bn
            }
        )

    def _batch(self, batch):
        return mx.io.DataBatch(
            [mx.nd.array(batch["data"])], [mx.nd.array(batch[name]) for name in self.labels]
        )

    def _results(self):
        return {name: out.asnumpy() for name, out in zip(self.outputs, self.module.get_outputs())}

    def step(self, batch):
        """One update; returns the graph's outputs as arrays by name."""
        with one_line(self.name):
            self.module.forward_backward(self._batch(batch))
            self.module.update()
            return self._results()

    def predict(self, batch):
        """The graph's outputs with the running means of the batch norms."""
        with one_line(self.name):
            self.module.forward(self._batch(batch), is_train=False)
            return self._results()

    def checkpoint(self):
        """The parameters as they are now."""
        arrays = [
            {name: value.asnumpy() for name, value in part.items()}
            for part in self.module.get_params()
        ]
        return checkpoint.Checkpoint(self.start.net, self.start.options, *arrays)

    def save_states(self, updates, path):
        """Those of the optimiser after `updates` steps, for another Trainer to go on."""
        optimizer_states.save(self.module, updates, path)


class Progress:
    """How far a run is, as the text of a facelet.console.Status.

    first -- the epoch it goes on after; epochs -- how many there will be; steps -- of an epoch
    """

    def __init__(self, status, first, epochs, steps, batch):
        self.status, self.epochs, self.steps, self.batch = status, epochs, steps, batch
        self.first, self.epoch, self.done, self.started = first, first, 0, time.perf_counter()

    def begin(self, epoch):
        """An epoch's steps begin."""
        self.epoch, self.done, self.epoch_started = epoch, 0, time.perf_counter()
        self.status.set(self._text)

    def report(self, what, done, total):
        """What is done between the steps of two epochs."""
        self.status.set(f"epoch {self.epoch}/{self.epochs}: {what}, {done:,}/{total:,}")

    def seconds_left(self):
        """Of the run, going by the part of it that is done; None before the first step."""
        done = self.epoch - 1 - self.first + self.done / self.steps
        spent = time.perf_counter() - self.started
        return spent / done * (self.epochs - self.first - done) if done > 0 else None

    def _text(self, seconds):
        of_run = self.seconds_left()
        text = f"epoch {self.epoch}/{self.epochs}: step {self.done:,}/{self.steps:,}"
        if not self.done:
            return f"{text}, the first batches are made, {clock(seconds)}"
        spent = time.perf_counter() - self.epoch_started
        of_epoch = spent / self.done * (self.steps - self.done)
        return (
            f"{text}, {self.done * self.batch / spent:,.0f} samples/s, left: epoch "
            f"{clock(of_epoch)}, run {clock(of_run)}"
        )


def _train_epoch(trainer, batches, epoch, settings, loss_weights, progress, check):
    """One epoch of updates; returns its figures. Raises Problem for a loss that isn't finite, and
    what check(), called at each step, raises."""
    sums, right, kept, waited = dict.fromkeys(trainer.heads, 0.0), 0, 0, 0.0
    first = (epoch - 1) * batches.steps
    progress.begin(epoch)
    start = time.perf_counter()
    feed = batches.ahead(range(first, first + batches.steps), progress.status.print)
    for number, (batch, wait) in enumerate(feed, start=1):
        results = trainer.step(batch)
        check()
        waited, progress.done = waited + wait, number
        for head in sums:
            value = float(results[f"{head}_loss"][0])
            if not math.isfinite(value):
                raise Problem(
                    f"epoch {epoch}, step {number} of {batches.steps}: the {head} loss is "
                    f"{value}. The learning rate is {settings.lr}: try a smaller one, train.lr="
                    f"{settings.lr / 4:g}, in another --out; finished epochs are kept"
                )
            sums[head] += value
        if "cls" in sums:
            keep = results["cls_keep"] > 0
            guess = results["cls_prob"][:, 1] >= 0.5
            right += int((guess == (batch["label"] == 1))[keep].sum())
            kept += int(keep.sum())
    seconds = time.perf_counter() - start
    # Losses are shown without their weights, so that runs can be compared.
    return {
        **{
            f"{head}_loss": value / batches.steps / (loss_weights[head].weight or 1)
            for head, value in sums.items()
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
        head: {key: 1.0 if key.endswith("ohem") else value for key, value in options.items()}
        for head, options in loss.items()
    }


def train(net, options, data, out, settings=defaults, start=None):
    """Train a net of the zoo into the folder `out`; goes on where a run with the same settings was
    stopped. Returns the path of the last parameters.

    options -- of symbols.build: {"landmark": True} for a landmark head, "points", "base"
    data -- what it learns from, see core.train.tasks.task_of
    settings -- the whole configuration (config.config or an override of it)
    start -- .params file or run's folder to begin from: of the same net or, where landmarks alone
        are learnt, of one with another head, which begins anew; fresh parameters if None

    Raises Problem: a net that can't learn from the data, other settings than the run in `out` has,
    missing kinds of samples, a loss that is not finite.
    """
    spec = zoo.spec(net, options.get("landmark", False))
    # What can be wrong with the settings shows before the run's folder is there.
    symbols.build(net, **options)
    with locked(out), Status() as status:
        status.set(f"{spec.name}: preparing")
        task = task_of(spec, options, data, settings)
        devices(settings.train.gpus)
        Schedule(settings.train, task.batches.steps)
        symbols.build(net, "train", loss=task.loss(settings.loss), **options)
        first = checkpoint.initial(
            spec.name, options, settings.train.seed, settings.train.prelu_slope
        )
        task.init_head(first)
        identity = {
            "net": spec.name,
            "options": options,
            "mix": task.mix,
            "data": task.data,
            "config": {section: settings[section] for section in task.sections},
        }
        if start is not None:
            status.clear()
            first = checkpoint.begun_from(start, first)
            identity["start"] = sha256(file_of(start))
        # What the net has never seen: with another to begin from, only what that had not either.
        held_out = in_common([task.rule, *first.manifest.get("held_out", [])])
        run = Run(out, spec.name, identity)
        with contextlib.closing(task.batches):
            try:
                return _train(run, first, task, held_out, settings, status)
            finally:
                # Operators written in Python must not be at work when Python ends: MXNet would
                # wait for them for ever, or crash.
                mx.nd.waitall()


def _train(run, first, task, held_out, settings, status):
    """The epochs of a run that are left; returns the path of the last parameters.

    held_out -- which pictures the net has never seen, for its manifest (prepare_data.held_out)
    """
    spec, batches, epochs = first.spec, task.batches, settings.train.epochs

    def trainer_after(epoch):
        """A Trainer with the state after `epoch`, and the losses of the next."""
        loss = task.loss(settings.loss, run.log[-1] if epoch else None)
        return Trainer(
            checkpoint.load(run.params_path(epoch)) if epoch else first,
            settings.train,
            losses_of_epoch(loss, settings.train, epoch + 1),
            batches.steps,
            epoch * batches.steps,
            run.states_path(epoch) if epoch else None,
        )

    if run.epoch:
        how = "going on" if run.epoch < epochs else "finished already,"
        status.print(f"{run.folder}: {how} after epoch {run.epoch}")
        manifest = checkpoint.read_manifest(run.params_path(run.epoch).with_suffix(".json"))
        then = manifest.get("threads", threads())
        if run.epoch < epochs and then != threads():
            status.print(
                f"{run.folder}: it ran with {then} threads and goes on with {threads()}: its "
                "parameters will differ, from their last bits on, from those of a run that was "
                f"not stopped; OMP_NUM_THREADS={then} makes them the same"
            )

    def check():
        """Raise what forbids going on: KeyboardInterrupt, and Problem where the folder is gone."""
        check_stop()
        run.check_there()

    trainer = trainer_after(run.epoch)
    status.print(
        f"{spec.name}: {task}; {batches.steps} steps of {settings.train.batch} an epoch, "
        f"{epochs} epochs"
    )
    run.drop_states(run.epoch)
    _draw_missing(run, task, trainer, epochs)
    progress = Progress(status, run.epoch, epochs, batches.steps, settings.train.batch)

    def report(*how_far):
        check()
        progress.report(*how_far)

    for epoch in range(run.epoch + 1, epochs + 1):
        changed = epoch == settings.train.mine_from or settings.loss.landmark.adaptive
        if changed and epoch > run.epoch + 1:
            trainer = trainer_after(epoch - 1)
        figures = _train_epoch(
            trainer, batches, epoch, settings.train, settings.loss, progress, check
        )
        row = {"epoch": epoch, "train": figures, "val": task.validate(trainer, report)}
        status.set(f"epoch {epoch}/{epochs}: saving")
        # The manifest comes last, also after all that is drawn: an epoch counts when it is there,
        # and a kill in between only leaves files that the next run writes anew.
        trainer.save_states(epoch * batches.steps, run.states_path(epoch))
        run.record(row)
        task.save_predictions(trainer, run.folder)
        run.to_tensorboard(row)
        checkpoint.save(
            run.folder,
            trainer.checkpoint(),
            epoch,
            {
                **task.manifest,
                "held_out": held_out,
                "threads": threads(),
                "figures": row,
                "config": run.identity["config"],
                **{
                    key: run.identity[key]
                    for key in ("mix", "data", "start")
                    if key in run.identity
                },
            },
            beside=[run.states_path(epoch)],
        )
        run.drop_states(epoch)
        left = f", {clock(progress.seconds_left())} to go" if epoch < epochs else ""
        status.print(describe(row, epochs) + left)
    return run.params_path(max(run.epoch, epochs))


def _draw_missing(run, task, trainer, epochs):
    """Draw what a run's folder should have and has not: all when it begins, the rest where it goes
    on or is finished."""
    of_samples, of_predictions = task.pictures
    if run.epoch < epochs or (of_samples and not (run.folder / of_samples).exists()):
        task.save_samples(run.folder)
    if run.epoch and not (run.folder / CURVES).exists():
        run.draw_curves()
    if run.epoch and of_predictions and not (run.folder / of_predictions).exists():
        task.save_predictions(trainer, run.folder)

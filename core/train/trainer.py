"""Training of a net: one loop for all tasks (core.train.tasks), resumable at every epoch."""

import contextlib
import math
import time

import numpy as np

import symbols
from config import config as defaults
from core.detect.nets import file_of
from core.formats import checkpoint
from core.train import cluster as clusters
from core.train import states as optimizer_states
from core.train.run import CURVES, Run, describe
from core.train.tasks import task_of
from core.train.trunk import operator
from facelet.console import Problem, Status, check_stop, clock, stops_held
from facelet.files import sha256
from facelet.locks import locked
from prepare_data.held_out import in_common
from symbols import losses, zoo
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
    """A net with its optimiser, bound for batches of one size; of a Cluster's worker, for its rows
    of them.

    start -- Checkpoint with the parameters to begin from
    updates -- optimiser steps made so far
    states -- path of the optimiser's (core.train.states), whose checksum the manifest of `start`
        has; None at the start, and with workers that don't have the file
    """

    def __init__(self, start, settings, loss, steps, updates=0, states=None):
        self.start, self.name = start, f"{start.net}, batches of {settings.batch}"
        self.cluster, self.loss = clusters.joined(), loss
        # MXNet asks operators written in Python about themselves as it binds a graph.
        with one_line(self.name), stops_held():
            self._bind(settings, loss)
            self._init_optimizer(settings, steps, updates)
        if states:
            checksum = start.manifest.get("checksums", {}).get(states.name)
            optimizer_states.load(self.module, updates, states, checksum)
        elif updates:
            optimizer_states.begin(self.module)  # the first worker's come to all
        self.agree()

    def _bind(self, settings, loss):
        start, size = self.start, self.start.spec.size
        batch = len(np.arange(settings.batch)[self.cluster.rows(settings.batch)])
        mode = "train" if self.cluster.alone else "part"
        graph = operator.training_graph(start.net, mode, loss, settings.gpus, **start.options)
        self.heads = [head.task for head in start.spec.heads]
        self.labels = [LABELS[head] for head in self.heads]
        # A target is as wide as what the net gives.
        _, widths, _ = start.symbol().infer_shape(data=(batch, 3, size, size))
        shapes = {
            LABELS[head]: (batch, math.prod(shape[1:])) for head, shape in zip(self.heads, widths)
        }
        shapes["label"] = (batch,)
        self.weights = []  # inputs of a graph for a part of a batch
        if not self.cluster.alone:
            given = {name: shapes[name] for name in self.labels}
            _, outputs, _ = graph.infer_shape(data=(batch, 3, size, size), **given)
            by_name = dict(zip(graph.list_outputs(), outputs))
            for head in self.heads:
                shapes[f"{head}_weights"] = by_name[f"{head}_each_output"]
            self.weights = [f"{head}_weights" for head in self.heads]
            self.labels += self.weights
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
        self.no_weights = {name: np.zeros(shapes[name], np.float32) for name in self.weights}
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
        """One update with a batch, of which "data" has this worker's rows alone; returns the
        graph's outputs for those as arrays by name, but the losses of the whole batch."""
        with one_line(self.name):
            if not self.cluster.alone:
                return self._step_together(batch)
            self.module.forward_backward(self._batch(batch))
            self.module.update()
            return self._results()

    def _step_together(self, batch):
        length = len(batch[LABELS[self.heads[0]]])
        rows = self.cluster.rows(length)
        own = {name: batch[name][rows] for name in self.labels if name not in self.weights}
        given = {"data": batch["data"], **own, **self.no_weights}
        self.module.forward(self._batch(given), is_train=True)
        results = self._results()
        each = {head: results[f"{head}_each"] for head in self.heads}
        (executor,), parts = self.module._exec_group.execs, []
        for head, whole in self._gathered(each, length).items():
            valid = (
                losses.is_valid(head, batch["label"]) if "label" in batch else np.ones(length, bool)
            )
            keep, factor = losses.weights_of(whole, valid, self.loss[head])
            results[f"{head}_keep"] = keep = keep[rows].astype(np.float32)
            executor.arg_dict[f"{head}_weights"][:] = mx.nd.array(keep * factor)
            parts.append((keep * factor * each[head]).sum())
        self.module.backward()
        gradients = [gradient for (gradient,) in self.module._exec_group.grad_arrays]
        sums = self._add(
            [*(gradient.asnumpy() for gradient in gradients), np.float32(parts)],
            self.cluster.compression,
        )
        for gradient, total in zip(gradients, sums):
            gradient[:] = mx.nd.array(total)
        self.module.update()
        return {**results, **{f"{head}_loss": sums[-1][i : i + 1] for i, head in enumerate(each)}}

    def _gathered(self, each, length):
        """Losses of this worker's rows, by head, as those of the whole batch; zeros where none has
        to be known to tell what counts."""
        whole = {
            head: np.zeros((length, *values.shape[1:]), np.float32) for head, values in each.items()
        }
        mined = [head for head in each if losses.is_mined(self.loss[head])]
        for head in mined:
            whole[head][self.cluster.rows(length)] = each[head]
        if mined:
            whole.update(zip(mined, self._add([whole[head] for head in mined])))
        return whole

    def _add(self, arrays, *how):
        """What arrays of all workers add up to, in one message."""
        return _apart(self.cluster.add(np.concatenate([a.ravel() for a in arrays]), *how), arrays)

    def agree(self):
        """Let all workers have the first one's parameters and states, and the mean of what their
        batch norms have seen."""
        if self.cluster.alone:
            return
        with one_line(self.name):
            arguments, auxiliary = self.module.get_params()
            updater, _ = optimizer_states.updater_of(self.module)
            arrays = [*arguments.values()]
            for _, state in sorted(updater.states.items()):
                arrays += optimizer_states.parts(state)
            known = [array.asnumpy() for array in arrays]
            if self.cluster.rank:
                known = [np.zeros_like(value) for value in known]
            seen = [value.asnumpy() / self.cluster.count for value in auxiliary.values()]
            arrays += auxiliary.values()
            for array, value in zip(arrays, self._add(known + seen)):
                array[:] = mx.nd.array(value)
            self.module.set_params(arguments, auxiliary)

    def predict(self, batch):
        """The graph's outputs with the running means of the batch norms, for a batch of any
        length."""
        with one_line(self.name):
            length = len(batch["data"])
            weights = {
                name: np.zeros((length, *value.shape[1:]), np.float32)
                for name, value in self.no_weights.items()
            }
            self.module.forward(self._batch({**batch, **weights}), is_train=False)
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


def _apart(values, like):
    """Values (N,) as arrays of the shapes of some others."""
    ends = np.cumsum([0, *(array.size for array in like)])
    return [values[a:b].reshape(array.shape) for a, b, array in zip(ends, ends[1:], like)]


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
    start, communicated = time.perf_counter(), trainer.cluster.seconds
    feed = batches.ahead(range(first, first + batches.steps), progress.status.print)
    for number, (batch, wait) in enumerate(feed, start=1):
        results = trainer.step(batch)
        check(number)
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
            label = batch["label"][trainer.cluster.rows(len(batch["label"]))]
            right += int((guess == (label == 1))[keep].sum())
            kept += int(keep.sum())
    right, kept = trainer.cluster.total(right, kept)
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
        **(
            {}
            if trainer.cluster.alone
            else {"communicating": (trainer.cluster.seconds - communicated) / seconds}
        ),
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
    cluster = clusters.joined()
    clusters.check(settings.train)
    with locked(out) if cluster.rank == 0 else contextlib.nullcontext(), Status() as status:
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
        cluster.check_same(clusters.facts(identity))
        task.batches.rows = cluster.rows(settings.train.batch)
        run = Run(out, spec.name, identity) if cluster.rank == 0 else None
        with contextlib.closing(task.batches):
            try:
                return _train(run, first, task, held_out, settings, status)
            finally:
                # Operators written in Python must not be at work when Python ends: MXNet would
                # wait for them for ever, or crash.
                mx.nd.waitall()


def _train(run, first, task, held_out, settings, status):
    """The epochs of a run that are left; returns the path of the last parameters.

    run -- Run; None with a worker that is not the first, which leaves the folder to that
    held_out -- which pictures the net has never seen, for its manifest (prepare_data.held_out)
    """
    spec, batches, epochs = first.spec, task.batches, settings.train.epochs
    cluster = clusters.joined()
    done = cluster.share(run and run.epoch)  # epochs

    def trainer_after(epoch):
        """A Trainer with the state after `epoch`, and the losses of the next."""
        goes_on = run and epoch
        loss = task.loss(settings.loss, cluster.share(run.log[-1] if goes_on else None))
        return Trainer(
            checkpoint.load(run.params_path(epoch)) if goes_on else first,
            settings.train,
            losses_of_epoch(loss, settings.train, epoch + 1),
            batches.steps,
            epoch * batches.steps,
            run.states_path(epoch) if goes_on else None,
        )

    if run and done:
        _say_how_it_goes_on(run, epochs, cluster, status)

    def check(step=None):
        """Raise what forbids going on: KeyboardInterrupt, and Problem where the folder is gone."""
        check_stop()
        cluster.alive(step)
        if run:
            run.check_there()

    trainer = trainer_after(done)
    status.print(
        f"{spec.name}: {task}; {batches.steps} steps of {settings.train.batch} an epoch, "
        f"{epochs} epochs" + ("" if cluster.alone else f", {cluster}")
    )
    if run:
        run.drop_states(done)
        _draw_missing(run, task, trainer, epochs)
    progress = Progress(status, done, epochs, batches.steps, settings.train.batch)

    def report(*how_far):
        check()
        progress.report(*how_far)

    for epoch in range(done + 1, epochs + 1):
        changed = epoch == settings.train.mine_from or settings.loss.landmark.adaptive
        if changed and epoch > done + 1:
            trainer = trainer_after(epoch - 1)
        figures = _train_epoch(
            trainer, batches, epoch, settings.train, settings.loss, progress, check
        )
        check()
        trainer.agree()
        if not run:
            continue
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
                **cluster.manifest(),
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
    return run.params_path(max(done, epochs)) if run else None


def _say_how_it_goes_on(run, epochs, cluster, status):
    """Print that a run goes on, and what will not be as if it had not been stopped."""
    how = "going on" if run.epoch < epochs else "finished already,"
    status.print(f"{run.folder}: {how} after epoch {run.epoch}")
    if run.epoch >= epochs:
        return
    manifest = checkpoint.read_manifest(run.params_path(run.epoch).with_suffix(".json"))
    then = manifest.get("threads", threads())
    if then != threads():
        status.print(
            f"{run.folder}: it ran with {then} threads and goes on with {threads()}: its "
            "parameters will differ, from their last bits on, from those of a run that was "
            f"not stopped; OMP_NUM_THREADS={then} makes them the same"
        )
    if manifest.get("workers") != cluster.manifest().get("workers"):
        status.print(
            f"{run.folder}: it ran with other workers: its parameters will differ from those of a "
            "run that was not stopped"
        )


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

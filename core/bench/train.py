"""The benchmarks of training and of its batches: core.bench train and load.

The baseline of training has MXNet's own PReLU and mines hard examples in a Python operator; "graph"
is how nets are trained where core.train.trunk was not compiled, or does not have their layers. The
baseline of loading reads the same samples from a JPEG each and augments them one by one, in four
Python threads.
"""

import ast
import json
import statistics
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from pathlib import Path

import cv2
import numpy as np

import symbols
from config import config, override
from core.base.parallel import cores
from core.bench.common import FED_NETS, LOAD_TARGETS, TRAIN_TARGETS, WAITING_TARGET
from core.bench.interleave import compare, interleave, rate
from core.formats import checkpoint
from core.train.loader import MIXES, Batches, Samples, prefetched
from core.train.trunk.operator import training_graph
from facelet.console import Problem
from prepare_data.store import Store, write_store
from symbols.mxnet_import import mx, ndarrays

BATCH = {"Pnet": 1000, "Rnet": 1000, "Onet": 500, "Lnet": 100}  # by family
LEARNING_RATE = 1e-3  # low: what is learned from random labels must not change the work
READERS = 4  # threads of train-mtcnn
CROPS, LOAD_BATCH = 4000, 1000
SECONDS = 1.5  # of a measurement
WARM_UP = 3  # steps before the first measurement
EPS = 1e-14


class Mining(mx.operator.CustomOp):
    """(prediction, truth) by task -> (prediction, mask of the samples kept) by task."""

    def __init__(self, tasks):
        super().__init__()
        self.tasks = tasks

    def forward(self, is_train, req, in_data, out_data, aux):
        for i, task in enumerate(self.tasks):
            values, truth = in_data[2 * i].asnumpy(), in_data[2 * i + 1].asnumpy()
            if task == "cls":
                label, valid = truth, truth >= 0
                loss = -np.log(values[np.arange(len(truth)), (truth == 1).astype(int)] + EPS)
            else:
                loss = np.square(values - truth).sum(axis=1)
                valid = np.abs(label) == 1 if self.tasks[0] == "cls" else np.ones(len(loss), bool)
            chosen = np.flatnonzero(valid)
            kept = int(config.loss[task].ohem * len(chosen))
            keep = np.zeros(len(loss), np.float32)
            keep[chosen[np.argsort(-loss[chosen])[:kept]]] = 1
            self.assign(out_data[2 * i], req[2 * i], in_data[2 * i])
            self.assign(out_data[2 * i + 1], req[2 * i + 1], mx.nd.array(keep))

    def backward(self, req, out_grad, in_data, out_data, in_grad, aux):
        for i, task in enumerate(self.tasks):
            values, truth = in_data[2 * i].asnumpy(), in_data[2 * i + 1].asnumpy()
            keep = out_data[2 * i + 1].asnumpy()
            keep *= config.loss[task].weight / max(keep.sum(), 1)
            if task == "cls":  # of cross entropy at the probabilities; softmax is below
                of_class = (truth == 1)[:, None] == (False, True)
                gradient = of_class / (values + EPS) * -keep[:, None]
            else:
                gradient = 2 * (values - truth) * keep[:, None]
            self.assign(in_grad[2 * i], req[2 * i], mx.nd.array(gradient))
            self.assign(in_grad[2 * i + 1], req[2 * i + 1], 0)


@mx.operator.register("bench_mining")
class MiningProp(mx.operator.CustomOpProp):
    def __init__(self, tasks):
        super().__init__(need_top_grad=False)
        self.tasks = tasks.split(",")

    def list_arguments(self):
        return [f"{task}_{what}" for task in self.tasks for what in ("values", "truth")]

    def list_outputs(self):
        return [f"{task}_{what}" for task in self.tasks for what in ("values", "keep")]

    def infer_shape(self, in_shape):
        return in_shape, [s for shape in in_shape[::2] for s in (shape, shape[:1])], []

    def create_operator(self, ctx, shapes, dtypes):
        return Mining(self.tasks)


def tasks_of(net):
    """Tasks of a net in the order of its outputs. Raises Problem where there is no baseline."""
    tasks = [head.task for head in symbols.spec(net).heads]
    if "heatmap" in tasks:
        raise Problem(f"{net} learns heat maps, for which the benchmark has no baseline")
    return tasks


def _truth(task):
    return "label" if task == "cls" else f"{task}_target"


def raw_graph(net):
    """The test graph up to its raw outputs: scores in place of probabilities."""
    outputs = symbols.build(net)
    return mx.sym.Group(
        [
            out.get_children()[0] if name == "cls_prob_output" else out
            for out, name in zip(outputs, outputs.list_outputs())
        ]
    )


def baseline_graph(net):
    inputs = {}
    for task, out in zip(tasks_of(net), raw_graph(net)):
        out = mx.sym.Flatten(out)
        inputs[f"{task}_values"] = mx.sym.softmax(out, axis=1) if task == "cls" else out
        inputs[f"{task}_truth"] = mx.sym.var(_truth(task))
    return mx.sym.Custom(**inputs, op_type="bench_mining", tasks=",".join(tasks_of(net)))


def random_batch(net, size, seed=0):
    """Random input, and truths in the mix of a training batch, as arrays by name."""
    rng, spec = np.random.default_rng(seed), symbols.spec(net)
    mix = np.array(MIXES[False][:3]) / sum(MIXES[False])
    truths = {
        "cls": rng.choice([1, -1, 0], size, p=mix),
        "bbox": rng.normal(0, 0.1, (size, 4)),
        "landmark": rng.uniform(0, 1, (size, 2 * (spec.points or 0))),
    }
    batch = {
        "data": rng.uniform(-1, 1, (size, 3, spec.size, spec.size)),
        **{_truth(task): truths[task] for task in tasks_of(net)},
    }
    return {name: value.astype(np.float32) for name, value in batch.items()}


def _initial(net):
    return checkpoint.initial(net, {}, config.train.seed, config.train.prelu_slope)


def mxnet_step(net, graph, like):
    """A function that makes one update with batches like `like`; returns the graph's outputs."""
    start, labels = _initial(net), [name for name in like if name != "data"]
    module = mx.mod.Module(graph, ["data"], labels, context=mx.cpu())
    module.bind([("data", like["data"].shape)], [(name, like[name].shape) for name in labels])
    module.init_params(
        arg_params=ndarrays(start.arguments), aux_params=ndarrays(start.auxiliary), initializer=None
    )
    module.init_optimizer(
        kvstore=None,
        optimizer="sgd",
        optimizer_params={
            "learning_rate": LEARNING_RATE,
            "momentum": config.train.momentum,
            "wd": config.train.weight_decay,
            "rescale_grad": 1.0,
        },
    )

    def step(batch):
        module.forward_backward(
            mx.io.DataBatch(
                [mx.nd.array(batch["data"])], [mx.nd.array(batch[name]) for name in labels]
            )
        )
        module.update()
        return [out.asnumpy() for out in module.get_outputs()]

    return step


def _number(text):
    """The value of an attribute in a symbol's JSON: a number, a tuple of them, or else text."""
    try:
        return ast.literal_eval(text)
    except ValueError:
        return text


def torch_step(net):
    """As mxnet_step, in PyTorch, layer by layer after the nodes of the MXNet graph."""
    import torch
    from torch.nn import functional as F

    torch.set_num_threads(cores())
    start, graph = _initial(net), json.loads(raw_graph(net).tojson())

    def tensor(array):
        made = torch.from_numpy(array)
        return made.contiguous(memory_format=torch.channels_last) if made.ndim == 4 else made

    layers = {  # functions of attributes and inputs
        "Convolution": lambda a, x, weight, bias=None: F.conv2d(
            x,
            weight,
            bias,
            a.get("stride", 1),
            a.get("pad", 0),
            a.get("dilate", 1),
            a.get("num_group", 1),
        ),
        "BatchNorm": lambda a, x, gamma, beta, mean, var: F.batch_norm(
            x, mean, var, gamma, beta, True, 1 - a["momentum"], a["eps"]
        ),
        "LeakyReLU": lambda a, x, gamma: F.prelu(x, gamma),
        "Activation": lambda a, x: F.relu(x),
        "FullyConnected": lambda a, x, *rest: F.linear(x.flatten(1), *rest),
        "Pooling": lambda a, x: F.max_pool2d(x, a["kernel"], a["stride"], ceil_mode=True),
        "elemwise_add": lambda a, x, y: x + y,
    }

    unknown = {node["op"] for node in graph["nodes"]} - {"null", *layers}
    if unknown:
        raise Problem(f"--torch: {net} has {', '.join(sorted(unknown))}, not translated here")
    parameters = {
        name: tensor(value) for name, value in {**start.arguments, **start.auxiliary}.items()
    }
    optimizer = torch.optim.SGD(
        [parameters[name].requires_grad_() for name in start.arguments],
        LEARNING_RATE,
        config.train.momentum,
        weight_decay=config.train.weight_decay,
    )
    attributes = [
        {key: _number(value) for key, value in node.get("attrs", {}).items()}
        for node in graph["nodes"]
    ]

    def step(batch):
        batch, made = {name: tensor(value) for name, value in batch.items()}, []
        known = {**parameters, "data": batch["data"]}
        for node, of_node in zip(graph["nodes"], attributes):
            made.append(
                known[node["name"]]
                if node["op"] == "null"
                else layers[node["op"]](of_node, *(made[i[0]] for i in node["inputs"]))
            )
        outputs, losses = [made[head[0]].flatten(1) for head in graph["heads"]], []
        for task, out in zip(tasks_of(net), outputs):
            truth = batch[_truth(task)]
            if task == "cls":
                loss = F.cross_entropy(out, truth.long(), ignore_index=-1)
            else:
                loss = (out - truth).square().sum(1)
                valid = batch["label"].abs() if "label" in batch else torch.ones_like(loss)
                loss = (loss * valid).sum() / valid.sum()
            losses.append(config.loss[task].weight * loss)
        optimizer.zero_grad()
        sum(losses).backward()
        optimizer.step()
        return [out.detach().numpy() for out in (*outputs, *losses)]

    return step


def training(net, size, kind):
    """Measures training steps, in images/s. Raises Problem for a loss that isn't finite."""
    batch = random_batch(net, size)
    step = (
        torch_step(net)
        if kind == "torch"
        else mxnet_step(net, training_graph(net), batch)
        if kind == "ours"
        else mxnet_step(net, symbols.build(net, "train"), batch)
        if kind == "graph"
        else mxnet_step(net, baseline_graph(net), batch)
    )
    for _ in range(WARM_UP):
        # The baseline has no loss to look at, but it is finite where the predictions are.
        if not all(np.isfinite(out).all() for out in step(batch)):
            raise Problem(f"{net}, {kind}: the loss is not finite, so the speed means nothing")
    return lambda seconds: rate(lambda: step(batch), size, seconds)


def make_crops(folder, size, number):
    """Write the same made-up crops as a store and as JPEG files."""
    for i, crop in enumerate(make_store(folder, size, number)):
        cv2.imwrite(str(folder / f"{i}.jpg"), crop)


def make_store(folder, size, number, pictures=1):
    """Write a store of made-up crops, said to be of so many pictures. Returns the crops."""
    rng = np.random.default_rng(size)
    coarse = rng.uniform(0, 255, (number, 5, 5, 3)).astype(np.float32)  # as smooth as pictures
    crops = np.stack([cv2.resize(c, (size, size), interpolation=cv2.INTER_CUBIC) for c in coarse])
    crops = np.clip(crops + rng.normal(0, 5, crops.shape), 0, 255).astype(np.uint8)
    labels = np.resize([1, -1, 0, 0, 0], number)
    write_store(
        folder / "store",
        size,
        [
            {
                "crops": crops,
                "labels": labels,
                "sources": np.column_stack(
                    [np.arange(number) % pictures, np.tile([0, 0, 1, 1], (number, 1))]
                ),
                "offsets": rng.normal(0, 0.1, (number, 4)) * (labels != 0)[:, None],
            }
        ],
        [f"drawn {i}" for i in range(pictures)],
        {},
    )
    return crops


def _batches(folder, size):
    samples = Samples([Store(folder / "store")])
    settings = override(config, [f"train.batch={size}"])
    return Batches(samples, np.arange(len(samples)), settings)


def augmented(crop):
    """A sample made as by train-mtcnn: flipped or not, augmented, made a net's input."""
    x = crop.astype(np.float32)
    if np.random.randint(2):
        x = x[:, ::-1]
    x = x * np.random.choice((0.6, 0.8, 1.0, 1.2))
    if np.random.randint(2):
        x[:] = (0.114 * x[..., 0] + 0.587 * x[..., 1] + 0.299 * x[..., 2])[..., None]
    else:
        for channel in range(3):
            x[..., channel] *= 1 + 0.001 * np.random.randint(-200, 201)
        x = np.clip(x, 0, 255)
    x = x + np.random.normal(0, np.sqrt(np.random.randint(1, 11)), x.shape)
    return ((np.clip(x, 0, 255) - 127.5) * 0.0078125).transpose(2, 0, 1)


def read_one(path):
    return augmented(cv2.imread(str(path)))


def loading(folder, size, kind):
    """Measures batch making, in samples/s; both kinds make batches of the same samples."""
    batches, numbers, pool = _batches(folder, size), count(), ThreadPoolExecutor(READERS)
    samples = batches.samples

    def from_files(number):
        chosen = np.concatenate(
            [
                stream.take(number * batches.shares[sort], batches.shares[sort])
                for sort, stream in batches.streams.items()
            ]
        )
        parts = pool.map(
            lambda part: [read_one(folder / f"{i}.jpg") for i in part],
            np.array_split(chosen, READERS),
        )
        return {
            "data": np.array([x for part in parts for x in part], np.float32),
            "label": samples.labels[chosen].astype(np.float32),
            "bbox_target": samples.offsets[chosen],
        }

    make = batches.make if kind == "ours" else from_files
    return lambda seconds: rate(lambda: make(next(numbers)), size, seconds)


def waiting(folder, net, size):
    """Measures the share of the time of training that is spent waiting for batches."""
    batches = _batches(folder, size)
    step = mxnet_step(net, training_graph(net), batches.make(0))

    def share(seconds):
        feed = prefetched(batches.make, count(), config.train.prefetch)
        for _ in range(WARM_UP):
            step(next(feed)[0])
        waited, start = 0.0, time.perf_counter()
        for batch, wait in feed:
            step(batch)
            waited, spent = waited + wait, time.perf_counter() - start
            if spent >= seconds:
                feed.close()
                return waited / spent

    return share


def bench_train(net, rounds, torch=False, size=None, seconds=SECONDS):
    """size -- of a batch"""
    spec = symbols.spec(net)
    size = size or BATCH[spec.family]
    return compare(
        {
            kind: (training, spec.name, size, kind)
            for kind in ("baseline", "ours", "graph", "torch")[: 3 + torch]
        },
        rounds,
        seconds,
        TRAIN_TARGETS.get(spec.name),
        unit="images/s",
        what=spec.name,
        batch=size,
    )


def bench_load(side, rounds, crops=CROPS, size=LOAD_BATCH, seconds=SECONDS):
    """side -- of the crops, px"""
    net = FED_NETS[side]
    fed = min(BATCH[symbols.spec(net).family], size)
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        make_crops(folder, side, crops)
        rows = compare(
            {kind: (loading, folder, size, kind) for kind in ("baseline", "ours")},
            rounds,
            seconds,
            LOAD_TARGETS.get(side),
            unit="samples/s",
            what=f"{side} px",
            batch=size,
        )
        shares = interleave(
            {net: (waiting, folder, net, fed)}, rounds, seconds, f"training, {side} px"
        )[net]
    share = statistics.median(shares)
    return rows + [
        {
            "unit": "share of a step",
            "what": net,
            "batch": fed,
            "competitor": "waiting",
            "median": share,
            "best": min(shares),
            "ratio": None,
            "target": WAITING_TARGET,
            "met": share <= WAITING_TARGET,
        }
    ]

"""Speed of this toolkit against programs of the reference's form, measured in one run.

    python -m core.bench train [--net NAME ...] [--rounds N] [--torch] [--json]
    python -m core.bench load [--size 20 48] [--rounds N] [--json]

train: images/s of whole training steps, from arrays to the outputs as arrays. The baseline has
MXNet's own PReLU and mines hard examples in a Python operator. --torch adds the same net in
PyTorch (channels last, cross entropy and L2, no mining).

load: samples/s of training batches, against one JPEG per sample, read and augmented one by one
in four Python threads; and the share of a training step spent waiting for its batch.

Competitors take turns in slices of a second or so, so that whatever else the machine does hits
all of them; their medians are compared. Each has a process of its own: the idle threads of one
library's pool spin for a while and would take the cores from the other's.
"""
import argparse
import json
import os
import platform
import statistics
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from importlib import metadata
from multiprocessing import get_context
from pathlib import Path

import cv2
import numpy as np

import symbols
from config import config, override
from core import boxes as geometry
from core import checkpoint
from core.console import Problem, program
from core.loader import Batches, prefetched
from core.mxnet_import import mx
from prepare_data.store import Store, write_store

BATCH = {"Pnet": 1000, "Rnet": 1000, "Onet": 500, "Lnet": 100}  # by family
# How much faster than the baseline we mean to be.
TRAIN_TARGETS = {"Pnet20_v1": 4, "Rnet_v1": 5, "Onet_v1": 5, "Lnet106_v2": 5}
LOAD_TARGETS = {20: 6, 48: 3}
WAITING_TARGET = 0.1
FED_NETS = {20: "Pnet20_v1", 24: "Rnet_v1", 48: "Onet_v1"}  # by size of the crops
LEARNING_RATE = 1e-3  # low: labels are random, and the work is to stay the same all along
READERS = 4           # the reference's threads
CROPS = 4000
LOAD_BATCH = 1000
SECONDS = 1.5         # of a slice
WARM_UP = 3           # steps before the first slice


# --- the baseline: mining in a Python operator ----------------------------------------------

def sample_losses(task, prediction, truth, label):
    """Losses (N,) and which samples are valid (N,) bool; `truth` are classes or targets, `label`
    None where a net has no classes."""
    if task == "cls":
        of_class = prediction[np.arange(len(truth)), np.clip(truth, 0, 1).astype(int)]
        return -np.log(of_class + 1e-14), truth >= 0
    loss = np.square(prediction - truth).sum(axis=1)
    return loss, np.ones(len(loss), bool) if label is None else np.abs(label) == 1


def hardest(loss, valid, part):
    """1 for the int(part * number valid) valid samples with the largest loss, 0 for the rest."""
    chosen = np.flatnonzero(valid)
    keep = np.zeros(len(loss), np.float32)
    keep[chosen[np.argsort(-loss[chosen])[:int(part * len(chosen))]]] = 1
    return keep


def kept_gradient(task, prediction, truth, keep, weight):
    """Gradient at the predictions of weight * mean loss of the samples kept."""
    keep = weight * keep / max(keep.sum(), 1)
    if task != "cls":
        return 2 * (prediction - truth) * keep[:, None]
    gradient, of_class = np.zeros_like(prediction), np.clip(truth, 0, 1).astype(int)
    rows = np.arange(len(truth))
    gradient[rows, of_class] = -keep / (prediction[rows, of_class] + 1e-14)
    return gradient


class Mining(mx.operator.CustomOp):
    """(prediction, truth) by task -> (prediction, keep) by task."""

    def __init__(self, tasks):
        super().__init__()
        self.tasks = tasks

    def forward(self, is_train, req, in_data, out_data, aux):
        label = in_data[1].asnumpy() if self.tasks[0] == "cls" else None
        for i, task in enumerate(self.tasks):
            losses = sample_losses(task, in_data[2 * i].asnumpy(), in_data[2 * i + 1].asnumpy(),
                                   label)
            keep = hardest(*losses, config.loss[task].ohem)
            self.assign(out_data[2 * i], req[2 * i], in_data[2 * i])
            self.assign(out_data[2 * i + 1], req[2 * i + 1], mx.nd.array(keep))

    def backward(self, req, out_grad, in_data, out_data, in_grad, aux):
        for i, task in enumerate(self.tasks):
            gradient = kept_gradient(task, in_data[2 * i].asnumpy(), in_data[2 * i + 1].asnumpy(),
                                     out_data[2 * i + 1].asnumpy(), config.loss[task].weight)
            self.assign(in_grad[2 * i], req[2 * i], mx.nd.array(gradient))
            self.assign(in_grad[2 * i + 1], req[2 * i + 1], 0)


@mx.operator.register("bench_mining")
class MiningProp(mx.operator.CustomOpProp):
    def __init__(self, tasks):
        super().__init__(need_top_grad=False)
        self.tasks = tasks.split(",")

    def list_arguments(self):
        return [name for task in self.tasks for name in (f"{task}_in", f"{task}_truth")]

    def list_outputs(self):
        return [name for task in self.tasks for name in (_prediction(task), f"{task}_keep")]

    def infer_shape(self, in_shape):
        predictions = in_shape[::2]
        truths = [shape[:1] if task == "cls" else shape
                  for task, shape in zip(self.tasks, predictions)]
        pairs = [shape for pair in zip(predictions, truths) for shape in pair]
        return pairs, [s for shape in predictions for s in (shape, shape[:1])], []

    def create_operator(self, ctx, shapes, dtypes):
        return Mining(self.tasks)


def _prediction(task):
    return "cls_prob" if task == "cls" else f"{task}_pred"


def _truth(task):
    return "label" if task == "cls" else f"{task}_target"


def _tasks(net):
    """Tasks of a net in the order of its outputs. Raises Problem for those without a baseline."""
    tasks = [head.task for head in symbols.spec(net).heads]
    if "heatmap" in tasks:
        raise Problem(f"{net} learns heat maps: the benchmark has no baseline for it")
    return tasks


def raw_graph(net):
    """The test graph up to its raw outputs: scores in place of probabilities."""
    outputs = symbols.build(net)
    return mx.sym.Group([out.get_children()[0] if name == "cls_prob_output" else out
                         for out, name in zip(outputs, outputs.list_outputs())])


def baseline_graph(net):
    """The test graph under the mining operator; outputs named as ours."""
    tasks, pairs = _tasks(net), {}
    for task, out in zip(tasks, raw_graph(net)):
        out = mx.sym.Flatten(out)
        pairs[f"{task}_in"] = mx.sym.softmax(out, axis=1) if task == "cls" else out
        pairs[f"{task}_truth"] = mx.sym.var(_truth(task))
    return mx.sym.Custom(**pairs, op_type="bench_mining", tasks=",".join(tasks), name="mining")


# --- training steps -------------------------------------------------------------------------

def random_batch(net, count, seed=0):
    """Random input and truths in the mix of a training batch, arrays by name."""
    rng, spec = np.random.default_rng(seed), symbols.spec(net)
    mix = np.array(config.train.mix) / sum(config.train.mix)
    points = 2 * (spec.points or 0)
    truths = {"label": rng.choice(np.float32([1, -1, 0]), count, p=mix),
              "bbox_target": rng.normal(0, 0.1, (count, 4)).astype(np.float32),
              "landmark_target": rng.uniform(0, 1, (count, points)).astype(np.float32)}
    data = rng.uniform(-1, 1, (count, 3, spec.size, spec.size)).astype(np.float32)
    return {"data": data, **{_truth(task): truths[_truth(task)] for task in _tasks(net)}}


class MXNetStep:
    """Training steps of a graph whose inputs and outputs have the names of symbols.losses."""

    def __init__(self, net, graph, batch):
        start = checkpoint.initial(net, {}, config.train.seed, config.train.prelu_slope)
        self.labels = [name for name in batch if name != "data"]
        self.module = mx.mod.Module(graph, ["data"], self.labels, context=mx.cpu())
        self.module.bind([("data", batch["data"].shape)],
                         [(name, batch[name].shape) for name in self.labels])
        self.module.init_params(arg_params=start.arguments, aux_params=start.auxiliary,
                                initializer=None)
        self.module.init_optimizer(kvstore=None, optimizer="sgd", optimizer_params={
            "learning_rate": LEARNING_RATE, "momentum": config.train.momentum,
            "wd": config.train.weight_decay, "rescale_grad": 1.0})
        self.outputs = [name[:-len("_output")] if name.endswith("_output") else
                        name[len("mining_"):] for name in graph.list_outputs()]

    def __call__(self, batch):
        self.module.forward_backward(mx.io.DataBatch(
            [mx.nd.array(batch["data"])], [mx.nd.array(batch[name]) for name in self.labels]))
        self.module.update()
        return {name: out.asnumpy() for name, out in zip(self.outputs,
                                                         self.module.get_outputs())}


class TorchStep:
    """Training steps of a net in PyTorch, made from the nodes of its MXNet graph."""

    def __init__(self, net):
        import torch
        torch.set_num_threads(_cores())
        self.torch, self.tasks = torch, _tasks(net)
        graph = json.loads(raw_graph(net).tojson())
        self.nodes, self.heads = graph["nodes"], [head[0] for head in graph["heads"]]
        start = checkpoint.initial(net, {}, config.train.seed, config.train.prelu_slope)
        self.values = {name: self._tensor(value.asnumpy())
                       for name, value in {**start.arguments, **start.auxiliary}.items()}
        learned = [self.values[name].requires_grad_() for name in start.arguments]
        self.optimizer = torch.optim.SGD(learned, LEARNING_RATE, config.train.momentum,
                                         weight_decay=config.train.weight_decay)

    def _tensor(self, array):
        tensor = self.torch.from_numpy(array)
        return (tensor.contiguous(memory_format=self.torch.channels_last) if tensor.ndim == 4
                else tensor)

    def _layer(self, node, x, *parameters):
        F, attributes = self.torch.nn.functional, node.get("attrs", {})

        def numbers(key, default):
            return json.loads(attributes.get(key, default).replace("(", "[").replace(")", "]"))

        kind = node["op"]
        if kind == "Convolution":
            return F.conv2d(x, *parameters, **({} if len(parameters) > 1 else {"bias": None}),
                            stride=numbers("stride", "(1,1)"), padding=numbers("pad", "(0,0)"),
                            dilation=numbers("dilate", "(1,1)"), groups=numbers("num_group", "1"))
        if kind == "BatchNorm":
            gamma, beta, mean, var = parameters
            return F.batch_norm(x, mean, var, gamma, beta, training=True,
                                momentum=1 - float(attributes["momentum"]),
                                eps=float(attributes["eps"]))
        if kind == "Pooling":
            return F.max_pool2d(x, numbers("kernel", ""), numbers("stride", "(1,1)"),
                                ceil_mode=True)
        plain = {"LeakyReLU": F.prelu, "Activation": F.relu, "elemwise_add": self.torch.add,
                 "FullyConnected": lambda x, *rest: F.linear(x.flatten(1), *rest)}
        if kind not in plain:
            raise Problem(f"{kind} ({node['name']}) has no translation to PyTorch here")
        return plain[kind](x, *parameters)

    def __call__(self, batch):
        torch, made = self.torch, []
        tensors = {name: self._tensor(value) for name, value in batch.items()}
        for node in self.nodes:
            inputs = [made[source[0]] for source in node["inputs"]]
            made.append(self._layer(node, *inputs) if node["op"] != "null" else
                        tensors["data"] if node["name"] == "data" else self.values[node["name"]])
        results, losses = {}, {}
        for task, head in zip(self.tasks, self.heads):
            out, truth = made[head].flatten(1), tensors[_truth(task)]
            results[_prediction(task)] = out.detach().numpy()
            if task == "cls":
                loss = torch.nn.functional.cross_entropy(out, truth.long(), ignore_index=-1)
            else:
                loss = (out - truth).square().sum(1)
                valid = tensors["label"].abs() if "label" in tensors else torch.ones_like(loss)
                loss = (loss * valid).sum() / valid.sum()
            losses[task] = config.loss[task].weight * loss
        self.optimizer.zero_grad()
        sum(losses.values()).backward()
        self.optimizer.step()
        return {**results, **{f"{task}_loss": float(loss) for task, loss in losses.items()}}


def check_finite(results, batch, who):
    """Raise Problem when a loss is not finite; the baseline's is made from its predictions."""
    for task in [name[:-len("_loss")] for name in results if name.endswith("_loss")]:
        _refuse(results[f"{task}_loss"], task, who)
    for task in [name[:-len("_keep")] for name in results if name.endswith("_keep")]:
        loss, _ = sample_losses(task, results[_prediction(task)], batch[_truth(task)],
                                batch.get("label"))
        _refuse(loss, task, who)


def _refuse(loss, task, who):
    if not np.isfinite(loss).all():
        raise Problem(f"{who}: the {task} loss is not finite, which makes the speed worthless")


def _steps(step, batch, who):
    for _ in range(WARM_UP):
        check_finite(step(batch), batch, who)
    return lambda seconds: rate(lambda: step(batch), len(batch["data"]), seconds)


def ours(net, count):
    batch = random_batch(net, count)
    return _steps(MXNetStep(net, symbols.build(net, "train"), batch), batch, f"{net}, ours")


def baseline(net, count):
    batch = random_batch(net, count)
    return _steps(MXNetStep(net, baseline_graph(net), batch), batch, f"{net}, baseline")


def in_torch(net, count):
    return _steps(TorchStep(net), random_batch(net, count), f"{net}, PyTorch")


# --- batches --------------------------------------------------------------------------------

def make_crops(folder, size, count, seed=0):
    """Write the same made-up crops as a store and, one by one, as JPEG files."""
    rng = np.random.default_rng([seed, size])
    coarse = rng.uniform(0, 255, (count, 5, 5, 3)).astype(np.float32)  # else JPEGs of pure noise
    crops = np.stack([cv2.resize(c, (size, size), interpolation=cv2.INTER_CUBIC) for c in coarse])
    crops = np.clip(crops + rng.normal(0, 5, crops.shape), 0, 255).astype(np.uint8)
    labels = np.resize(np.array([1, -1, 0, 0, 0], np.int8), count)
    offsets = rng.normal(0, 0.1, (count, 4)) * (labels != 0)[:, None]
    write_store(folder / "store", size, [{
        "crops": crops, "labels": labels, "offsets": offsets,
        "sources": np.zeros((count, 5), np.int32)}], [], {"source": "core.bench"})
    for number, crop in enumerate(crops):
        cv2.imwrite(str(folder / f"{number}.jpg"), crop)


def _batches(folder, count):
    settings = override(config, [f"train.batch={count}"]).train
    store = Store(folder / "store")
    return Batches(store, np.arange(len(store)), settings, config.augment)


def augment_one(crop, flip):
    """The reference's augmentation of a crop, and its way to the net's input."""
    x = crop.astype(np.float32)
    if flip:
        x = x[:, ::-1]
    x = x * np.random.choice([0.6, 0.8, 1.0, 1.2])
    if np.random.randint(2):
        x[:] = (0.114 * x[..., 0] + 0.587 * x[..., 1] + 0.299 * x[..., 2])[..., None]
    else:
        for channel in range(3):
            x[..., channel] *= 1 + 0.001 * np.random.randint(-200, 201)
        x = np.clip(x, 0, 255)
    x = x + np.random.normal(0, np.sqrt(np.random.randint(1, 11)), x.shape)
    x = np.clip(x, 0, 255)
    return ((x - config.input.mean) * config.input.scale).transpose(2, 0, 1)


class Files:
    """Batches of the same samples as `batches`, from one JPEG per sample."""

    def __init__(self, folder, batches):
        self.folder, self.batches = folder, batches
        self.pool = ThreadPoolExecutor(READERS)

    def _read(self, chosen):
        return [augment_one(cv2.imread(str(self.folder / f"{i}.jpg")), np.random.randint(2))
                for i in chosen]

    def make(self, number):
        ours, store = self.batches, self.batches.store
        chosen = np.concatenate([stream.take(number * ours.shares[kind], ours.shares[kind])
                                 for kind, stream in ours.streams.items()])
        parts = self.pool.map(self._read, np.array_split(chosen, READERS))
        return {"data": np.array([x for part in parts for x in part], np.float32),
                "label": store.labels[chosen].astype(np.float32),
                "bbox_target": store.offsets[chosen]}


def _loading(make, count):
    numbers = iter(range(1 << 62))
    make(next(numbers))
    return lambda seconds: rate(lambda: make(next(numbers)), count, seconds)


def load_ours(folder, count):
    return _loading(_batches(folder, count).make, count)


def load_files(folder, count):
    return _loading(Files(folder, _batches(folder, count)).make, count)


def waiting(folder, net, count):
    """Slices that give the share of their time spent waiting for batches."""
    batches = _batches(folder, count)
    first = batches.make(0)
    step = MXNetStep(net, symbols.build(net, "train"), first)
    _steps(step, first, net)

    def share(seconds):
        feed = prefetched(batches.make, range(1 << 62), config.train.prefetch)
        step(next(feed)[0])
        waited, start = 0.0, time.perf_counter()
        for batch, wait in feed:
            step(batch)
            waited += wait
            spent = time.perf_counter() - start
            if spent >= seconds:
                feed.close()
                return waited / spent
    return share


# --- taking turns ---------------------------------------------------------------------------

def rate(step, items, seconds):
    """Items a second of a step, repeated for `seconds`."""
    step()  # untimed: the caches are another's, and the threads asleep
    count, start = 0, time.perf_counter()
    while True:
        step()
        count += 1
        spent = time.perf_counter() - start
        if spent >= seconds:
            return count * items / spent


def _serve(pipe, make, arguments):
    try:
        run = make(*arguments)
        pipe.send("ready")
        while True:
            pipe.send(run(pipe.recv()))  # blocked in recv, a process leaves the cores alone
    except (EOFError, KeyboardInterrupt):  # the benchmark is over
        pass
    except Exception as error:
        pipe.send(error if isinstance(error, Problem) else
                  Problem(f"{make.__name__}: {type(error).__name__}: {error}"))


class Competitor:
    """A process that runs slices: make(*arguments) gives, there, a function of seconds that
    returns a figure."""

    def __init__(self, make, *arguments):
        context = get_context("spawn")
        self.name, (self.pipe, theirs) = make.__name__, context.Pipe()
        self.process = context.Process(target=_serve, args=(theirs, make, arguments), daemon=True)
        self.process.start()
        theirs.close()

    def __enter__(self):
        self._answer()
        return self

    def __exit__(self, *error):
        self.pipe.close()
        self.process.join()

    def slice(self, seconds):
        self.pipe.send(seconds)
        return self._answer()

    def _answer(self):
        try:
            answer = self.pipe.recv()
        except EOFError:
            self.process.join()
            raise Problem(f"{self.name}: the process ended with code "
                          f"{self.process.exitcode}") from None
        if isinstance(answer, Problem):
            raise answer
        return answer


def take_turns(competitors, rounds, seconds):
    """Figures by name, one per round, of competitors given as (make, *arguments) by name."""
    figures = {name: [] for name in competitors}
    with ExitStack() as stack:
        running = {name: stack.enter_context(Competitor(*what))
                   for name, what in competitors.items()}
        for _ in range(rounds):
            for name, competitor in running.items():
                figures[name].append(competitor.slice(seconds))
    return figures


def compare(competitors, rounds, seconds, target=None, **about):
    """Rows of the table, the baseline first."""
    figures = take_turns(competitors, rounds, seconds)
    base = statistics.median(figures["baseline"])
    rows = []
    for name, rates in figures.items():
        ratio = statistics.median(rates) / base
        aim = target if name == "ours" else None
        rows.append({**about, "competitor": name, "per_second": statistics.median(rates),
                     "best": max(rates), "ratio": ratio, "target": aim,
                     "met": None if aim is None else ratio >= aim})
    return rows


def bench_train(net, rounds, torch=False, count=None, seconds=SECONDS):
    spec = symbols.spec(net)
    count = count or BATCH[spec.family]
    _tasks(spec.name)
    made = {"baseline": baseline, "ours": ours, **({"torch": in_torch} if torch else {})}
    return compare({name: (make, spec.name, count) for name, make in made.items()}, rounds,
                   seconds, TRAIN_TARGETS.get(spec.name), what=spec.name, batch=count)


def bench_load(size, rounds, crops=CROPS, count=LOAD_BATCH, seconds=SECONDS, fed=None):
    """fed -- samples in a batch of the net that is fed"""
    net = FED_NETS[size]
    fed = fed or BATCH[symbols.spec(net).family]
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        make_crops(folder, size, crops)
        rows = compare({"baseline": (load_files, folder, count), "ours": (load_ours, folder, count)},
                       rounds, seconds, LOAD_TARGETS.get(size), what=f"{size} px", batch=count)
        shares = take_turns({"fed": (waiting, folder, net, fed)}, rounds, seconds)["fed"]
    share = statistics.median(shares)
    return [*rows, {"what": f"{net}, fed", "batch": fed, "competitor": "ours", "waiting": share,
                    "target": WAITING_TARGET, "met": share <= WAITING_TARGET}]


# --- what it ran on, and the table ----------------------------------------------------------

def _cores():
    return len(os.sched_getaffinity(0))


def machine(torch=False):
    """Facts about where the figures come from."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    facts = {"cpu": names[0] if names else platform.machine(), "cores": _cores(),
             "python": platform.python_version(), "mxnet": mx.__version__,
             "numpy": np.__version__}
    if torch:
        try:
            facts["torch"] = metadata.version("torch")
        except metadata.PackageNotFoundError:
            raise Problem("--torch needs PyTorch, which is not installed here: pip install torch, "
                          "or leave the option out") from None
    return facts


def _show(row):
    label = f"{row['what']:<15}{row['batch']:>6}  {row['competitor']:<9}"
    verdict = "" if row["met"] is None else ", met" if row["met"] else ", missed"
    if "waiting" in row:
        return f"{label}{row['waiting']:.1%} of a step waiting (target {row['target']:.0%}{verdict})"
    aim = f"  (target {row['target']}x{verdict})" if row["target"] else ""
    return f"{label}{row['per_second']:>11,.0f}{row['best']:>11,.0f}{row['ratio']:>8.2f}x{aim}"


def main(argv):
    parser = argparse.ArgumentParser(
        prog="python -m core.bench",
        description="Speed against programs of the reference's form, measured in turns.")
    commands = parser.add_subparsers(dest="command", required=True)
    train = commands.add_parser("train", help="training steps, images/s")
    train.add_argument("--net", nargs="+", default=list(TRAIN_TARGETS), metavar="NAME")
    train.add_argument("--torch", action="store_true", help="PyTorch too, where it is installed")
    load = commands.add_parser("load", help="training batches, samples/s")
    load.add_argument("--size", nargs="+", type=int, default=[20, 48], choices=list(FED_NETS),
                      help="of the crops, px")
    for command in (train, load):
        command.add_argument("--rounds", type=int, default=5, help="slices of each competitor")
        command.add_argument("--json", action="store_true", help="print a list of objects")
    args = parser.parse_args(argv)
    if args.rounds < 1:
        raise Problem(f"--rounds {args.rounds}: it must be at least 1")
    with_torch = args.command == "train" and args.torch
    facts = machine(with_torch)
    if args.command == "train":
        for net in args.net:
            _tasks(net)  # a wrong name shows at once, not minutes later
        runs = (bench_train(net, args.rounds, with_torch) for net in args.net)
    else:
        runs = (bench_load(size, args.rounds) for size in args.size)
    if args.json:
        print(json.dumps([{**row, "machine": facts} for rows in runs for row in rows], indent=1))
        return
    versions = ", ".join(f"{name} {facts[name]}" for name in facts if name not in ("cpu", "cores"))
    unit = "images/s" if args.command == "train" else "samples/s"
    print(f"{facts['cpu']}, {facts['cores']} cores; {versions}\n{unit}, median and best of "
          f"{args.rounds} rounds, and medians against the baseline's\n")
    print(f"{'':<15}{'batch':>6}  {'':<9}{'median':>11}{'best':>11}{'ratio':>9}", flush=True)
    for rows in runs:
        print("\n".join(map(_show, rows)), flush=True)


if __name__ == "__main__":
    program(main)

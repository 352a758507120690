"""The training heads against the rule written down once more in NumPy."""

from fractions import Fraction

import numpy as np
import pytest

import symbols
from config import config, override
from facelet import schemes
from facelet.console import Problem
from symbols import losses
from symbols.mxnet_import import mx

TASKS = ("cls", "bbox", "landmark")
WEIGHTS = {"cls": 1.0, "bbox": 0.5, "landmark": 2.0, "heatmap": 0.25}


def settings(ohem=0.7, kind="l2", **more):
    """Losses with a part to keep and a kind of regression; `more` goes to all regressions."""
    assigned = [f"loss.{task}.ohem={ohem}" for task in WEIGHTS]
    assigned += [f"loss.{task}.weight={weight}" for task, weight in WEIGHTS.items()]
    for task in ("bbox", "landmark", "heatmap"):
        assigned += [f"loss.{task}.{key}={value}" for key, value in {"kind": kind, **more}.items()]
    return override(config, assigned).loss


class Heads:
    """The losses alone, on outputs given as numbers; names without label are those of a net
    with nothing but points."""

    def __init__(self, batch, loss, tasks=TASKS, maps=False, points=5, part=False):
        tail = (1, 1) if maps else ()
        sizes = {"cls": 2, "bbox": 4, "landmark": 2 * points, "heatmap": 12}
        shapes = {task: (batch, sizes[task], *tail) for task in tasks}
        shapes.update({f"{task}_target": (batch, sizes[task]) for task in tasks if task != "cls"})
        if "cls" in tasks:
            shapes["label"] = (batch,)
        symbol = losses.training_graph(
            None, {task: mx.sym.var(task) for task in tasks}, loss, points, part
        )
        self.tasks = tasks
        self.executor = symbol.simple_bind(mx.cpu(), grad_req="write", **shapes)
        self.names = [name[: -len("_output")] for name in symbol.list_outputs()]

    def __call__(self, **values):
        """(outputs by name, gradients by task)"""
        for name, value in values.items():
            self.executor.arg_dict[name][:] = value
        outputs = self.executor.forward(is_train=True)
        self.executor.backward()
        return (
            dict(zip(self.names, (out.asnumpy() for out in outputs))),
            {task: self.executor.grad_dict[task].asnumpy() for task in self.tasks},
        )


# ---- the rule in NumPy ---------------------------------------------------------------------


def kept_count(valid, ohem):
    """floor(ohem * n) in exact numbers, one at least if there is any."""
    return max(int(Fraction(str(ohem)) * valid), min(valid, 1))


def mine(loss, valid, ohem):
    """The samples with the largest losses among the valid ones."""
    count = kept_count(int(valid.sum()), ohem)
    order = sorted(np.flatnonzero(valid), key=lambda i: -loss[i])
    keep = np.zeros(len(loss), bool)
    keep[order[:count]] = True
    return keep, count


def cross_entropy(scores, label):
    """Loss by sample and its gradient; the numbers at labels other than 0 and 1 are not used."""
    scores = scores.astype(np.float64)
    prob = np.exp(scores - scores.max(axis=1, keepdims=True))
    prob /= prob.sum(axis=1, keepdims=True)
    face = (label == 1)[:, None] == np.array([[False, True]])
    return -np.log((prob * face).sum(axis=1)), prob - face, prob


def regression(difference, kind, beta=None, wing_w=None, wing_eps=None):
    """Loss by coordinate and its gradient."""
    d = difference.astype(np.float64)
    size = np.abs(d)
    if kind == "l2":
        return d**2, 2 * d
    if kind == "smooth_l1":
        return (
            np.where(size < beta, d**2 / (2 * beta), size - beta / 2),
            np.where(size < beta, d / beta, np.sign(d)),
        )
    shift = wing_w - wing_w * np.log(1 + wing_w / wing_eps)
    return (
        np.where(size < wing_w, wing_w * np.log(1 + size / wing_eps), size - shift),
        np.where(size < wing_w, wing_w / (wing_eps + size), 1) * np.sign(d),
    )


def batch_of(rng, label):
    count = len(label)
    values = {
        "cls": rng.normal(0, 2, (count, 2)),
        "bbox": rng.normal(0, 0.3, (count, 4)),
        "landmark": rng.normal(0.5, 0.3, (count, 10)),
        "label": label,
        "bbox_target": rng.normal(0, 0.3, (count, 4)),
        "landmark_target": rng.uniform(0, 1, (count, 10)),
    }
    return {key: value.astype(np.float32) for key, value in values.items()}


def check(outputs, gradients, values, loss, maps=False):
    label = values["label"]
    valid = {
        "cls": (label == 0) | (label == 1),
        "bbox": (label == 1) | (label == -1),
        "landmark": label == -2,
    }
    for task in TASKS:
        if task == "cls":
            each, over_each, prob = cross_entropy(values["cls"], label)
            assert np.allclose(outputs["cls_prob"], prob, atol=1e-6)
        else:
            points, over_points = regression(values[task] - values[f"{task}_target"], "l2")
            each, over_each = points.sum(axis=1), over_points
            assert np.array_equal(outputs[f"{task}_pred"], values[task])
        keep, count = mine(each, valid[task], loss[task].ohem)
        weight = WEIGHTS[task] / max(count, 1)
        got = outputs[f"{task}_loss"]
        assert got.shape == (1,) and np.isclose(got[0], weight * each[keep].sum(), rtol=1e-5)
        # by their losses: which of two equal samples is kept is all the same
        mask = outputs[f"{task}_keep"]
        assert set(np.unique(mask)) <= {0, 1} and mask.sum() == count
        assert np.allclose(np.sort(each[mask == 1]), np.sort(each[keep]), rtol=1e-5)
        gradient = gradients[task].reshape(over_each.shape)
        assert np.allclose(gradient, weight * keep[:, None] * over_each, rtol=1e-4, atol=1e-6)
        assert np.all(gradient[~keep] == 0)


# ---- mining --------------------------------------------------------------------------------


@pytest.mark.parametrize("ohem", [0.7, 1.0, 0.3])
def test_mining_with_random_labels(ohem):
    rng = np.random.default_rng(1)
    loss = settings(ohem)
    for batch in range(1, 41):
        heads = Heads(batch, loss)
        for _ in range(3):
            values = batch_of(rng, rng.choice([1, 0, -1, -2], batch))
            check(*heads(**values), values, loss)


@pytest.mark.parametrize("kinds", [(1,), (0,), (-1,), (-2,), (1, 0), (-1, -2), (1, -1, 0)])
def test_mining_where_a_kind_is_missing(kinds):
    """Batches of one kind make n every number from 1 to 40, among them those whose 0.7 n is
    whole: 10, 20, 30, 40."""
    rng = np.random.default_rng(2)
    loss = settings(0.7)
    for batch in range(1, 41):
        values = batch_of(rng, np.resize(kinds, batch))
        check(*Heads(batch, loss)(**values), values, loss)


@pytest.mark.parametrize("batch, kept", [(180, 117), (340, 221), (680, 442)])
def test_whole_parts_are_not_cut_in_binary(batch, kept):
    """0.65 n is whole here, and a little less in single precision."""
    values = batch_of(np.random.default_rng(12), np.zeros(batch))
    outputs, _ = Heads(batch, settings(0.65))(**values)
    assert outputs["cls_keep"].sum() == kept


@pytest.mark.parametrize(
    "task, label",
    [
        ("cls", -1),
        ("cls", -2),
        ("bbox", 0),
        ("bbox", -2),
        ("landmark", 1),
        ("landmark", 0),
        ("landmark", -1),
    ],
)
@pytest.mark.parametrize("ohem", [0.7, 1.0])
def test_no_valid_sample_gives_exactly_nothing(task, label, ohem):
    values = batch_of(np.random.default_rng(3), np.full(6, label))
    outputs, gradients = Heads(6, settings(ohem))(**values)
    assert outputs[f"{task}_loss"].tolist() == [0]
    assert np.all(outputs[f"{task}_keep"] == 0)
    assert np.all(gradients[task] == 0)  # NaN would not be


def test_scores_far_from_certain_stay_finite():
    """A softmax that is wrong for sure: its loss is the difference of the scores, not infinite."""
    values = batch_of(np.random.default_rng(4), np.array([1, 0]))
    values["cls"] = np.array([[200, -200], [-300, 300]], np.float32)
    outputs, gradients = Heads(2, settings(1.0))(**values)
    assert np.isclose(outputs["cls_loss"][0], (400 + 600) / 2)
    assert np.allclose(gradients["cls"], [[0.5, -0.5], [-0.5, 0.5]])


def test_equal_losses_keep_the_right_number():
    """Ties: any of them, but as many as the rule says."""
    values = batch_of(np.random.default_rng(5), np.full(10, 0))
    values["cls"][:] = [0.5, -0.5]
    outputs, _ = Heads(10, settings(0.7))(**values)
    assert outputs["cls_keep"].sum() == 7
    assert np.isclose(outputs["cls_loss"][0], np.log(1 + np.exp(-1)), rtol=1e-5)


def test_outputs_of_fully_convolutional_nets():
    """(N, C, 1, 1) in, the same numbers out."""
    values = batch_of(np.random.default_rng(6), np.array([1, 0, -1, -2, 0, 1, -1]))
    loss = settings(0.7)
    maps = {
        key: value[:, :, None, None] if key in TASKS else value for key, value in values.items()
    }
    check(*Heads(7, loss, maps=True)(**maps), values, loss)


@pytest.mark.parametrize("task", ["landmark", "heatmap"])
def test_without_classes_every_sample_counts(task):
    """A net of points has no label."""
    rng = np.random.default_rng(7)
    size = 10 if task == "landmark" else 12
    values = {task: rng.normal(0, 1, (9, size)), f"{task}_target": rng.normal(0, 1, (9, size))}
    outputs, gradients = Heads(9, settings(0.3), tasks=(task,))(**values)
    difference = values[task] - values[f"{task}_target"]
    each = (difference**2).sum(axis=1)
    keep, count = mine(each, np.ones(9, bool), 0.3)
    assert count == 2 and outputs[f"{task}_keep"].astype(bool).tolist() == keep.tolist()
    weight = WEIGHTS[task]
    assert np.isclose(outputs[f"{task}_loss"][0], weight * each[keep].mean(), rtol=1e-5)
    assert np.allclose(gradients[task], weight / count * keep[:, None] * 2 * difference, rtol=1e-4)


# ---- points: weights and mining --------------------------------------------------------------


def by_points(loss, values, weights, ohem, point_ohem):
    """Loss and gradient of landmark samples with points (N, P, 2), all valid: a loop over them."""
    loss_of, slope_of = regression(values - loss.pop("target"), **loss)
    each = loss_of.sum(axis=2) * weights
    keep, _ = mine(each.sum(axis=1), np.ones(len(each), bool), ohem)
    valid = np.repeat(keep, each.shape[1])
    kept, count = mine(each.ravel(), valid, point_ohem)
    kept = kept.reshape(each.shape)
    scale = each.shape[1] / count
    return scale * each[kept].sum(), scale * (kept * weights)[:, :, None] * slope_of


@pytest.mark.parametrize(
    "kind, more",
    [("l2", {}), ("smooth_l1", {"beta": 0.3}), ("wing", {"wing_w": 0.3, "wing_eps": 0.1})],
)
@pytest.mark.parametrize("points", [5, 14])  # all x first, and x beside y
@pytest.mark.parametrize(
    "batch, ohem, point_ohem, weighted",
    [
        (7, 1.0, 1.0, True),
        (7, 1.0, 0.7, False),
        (7, 0.7, 0.3, True),
        (1, 1.0, 0.01, True),
        (20, 1.0, 0.65, True),
    ],
)
def test_points(kind, more, points, batch, ohem, point_ohem, weighted):
    rng = np.random.default_rng(points)
    loss = settings(ohem, kind, **more)
    loss.landmark.point_ohem = point_ohem
    weights = rng.choice([0.5, 1, 2], points)
    if weighted:
        loss.landmark.weights = weights.tolist()
    values, target = (rng.normal(0, 0.4, (batch, points, 2)).astype(np.float32) for _ in range(2))
    outputs, gradients = Heads(batch, loss, ("landmark",), points=points)(
        landmark=schemes.pack(values), landmark_target=schemes.pack(target)
    )
    want, slope = by_points(
        {"target": target, "kind": kind, **more},
        values,
        weights if weighted else np.ones(points),
        ohem,
        point_ohem,
    )
    assert np.isclose(outputs["landmark_loss"][0], WEIGHTS["landmark"] * want, rtol=1e-4)
    assert np.allclose(
        schemes.unpack(gradients["landmark"]), WEIGHTS["landmark"] * slope, rtol=1e-3, atol=1e-6
    )


def test_points_are_mined_among_landmark_samples_alone():
    """The points of other samples are neither counted nor pulled, however far off they are."""
    loss = settings(1.0)
    loss.landmark.point_ohem = 0.5
    values = batch_of(np.random.default_rng(13), np.array([-2, 1, 0, -2, -1, -2]))
    values["landmark"][[1, 2, 4]] += 100
    outputs, gradients = Heads(6, loss)(**values)
    pulled = schemes.unpack(gradients["landmark"]).any(axis=2)
    assert pulled[[0, 3, 5]].sum() == 7 and not pulled[[1, 2, 4]].any()  # floor(0.5 * 3 * 5)
    each = ((values["landmark"] - values["landmark_target"]) ** 2)[[0, 3, 5]]
    hardest = np.sort(schemes.unpack(each).sum(axis=2).ravel())[-7:]
    assert np.isclose(outputs["landmark_loss"][0], 2.0 * 5 * hardest.mean(), rtol=1e-5)
    values["label"][:] = 1
    outputs, gradients = Heads(6, loss)(**values)
    assert outputs["landmark_loss"].tolist() == [0] and not gradients["landmark"].any()


@pytest.mark.parametrize("part, kept", [(0.7, 14840), (0.9999, 21197), (0.65, 13780)])
def test_parts_of_many_points(part, kept):
    """More points than float32 could tell 0.7 n of from the whole number below."""
    loss = settings(1.0)
    loss.landmark.point_ohem = part
    rng = np.random.default_rng(14)
    _, gradients = Heads(200, loss, ("landmark",), points=106)(
        landmark=rng.normal(0, 1, (200, 212)), landmark_target=rng.normal(0, 1, (200, 212))
    )
    assert schemes.unpack(gradients["landmark"]).any(axis=2).sum() == kept


def weights_of(scheme, errors=None, **options):
    return losses.point_weights({"groups": "", "adaptive": 0.0, **options}, scheme, errors)


def test_weights_of_groups():
    """train-mtcnn's choice: eyebrows and lips twice, in either order of 106 points."""
    twice = [*range(33, 43), *range(64, 72), *range(84, 104)]
    want = np.ones(106)
    want[twice] = 2
    got = weights_of("migu", groups="eyebrows:2, lips:2")
    assert np.allclose(got, want / want.mean()) and np.mean(got) == pytest.approx(1)
    other = weights_of("jingdong", groups="lips:2,eyebrows:2.0")
    points = np.repeat(np.array(got)[:, None], 2, axis=1)
    assert np.allclose(schemes.convert(points, "migu", "jingdong")[:, 0], other)
    assert weights_of("migu") is None
    assert weights_of("5", groups="eyes:3,nose:3,lips:3") is None


def test_weights_follow_errors():
    """Each group by its mean error over that of all points, to the power that is asked for."""
    errors = np.array([0.01, 0.03, 0.08, 0.04, 0.04])
    factors = np.array([0.02, 0.02, 0.08, 0.04, 0.04]) / 0.04
    for power in (1.0, 0.5):
        want = factors**power
        got = weights_of("5", errors, adaptive=power)
        assert np.allclose(got, want / want.mean())
    want = factors * [3, 3, 1, 1, 1]
    assert np.allclose(weights_of("5", errors, adaptive=1.0, groups="eyes:3"), want / want.mean())
    assert weights_of("5", None, adaptive=1.0) is None
    assert np.isfinite(weights_of("5", np.zeros(5), adaptive=1.0, groups="eyes:3")).all()


@pytest.mark.parametrize(
    "groups",
    ["ears:2", "eyes", "eyes:", "eyes:0", "eyes:-1", "eyes:nan", "eyes:inf", "eyes:2;lips:2"],
)
def test_groups_that_can_not_be(groups):
    with pytest.raises(Problem, match="loss.landmark.groups has .*one of eyes, nose, lips"):
        weights_of("5", groups=groups)


# ---- kinds of regression -------------------------------------------------------------------

KINDS = [
    ("l2", {}),
    ("smooth_l1", {"beta": 0.1}),
    ("smooth_l1", {"beta": 0.5}),
    ("smooth_l1", {"beta": 2.0}),
    ("wing", {"wing_w": 0.04, "wing_eps": 0.008}),
    ("wing", {"wing_w": 0.3, "wing_eps": 0.1}),
]


def slopes(differences, kind, options):
    """Value and gradient of the box loss at each difference, one sample each."""
    count = len(differences)
    values = batch_of(np.random.default_rng(8), np.full(count, 1))
    values["bbox_target"][:] = 0
    values["bbox"][:] = 0  # the other three coordinates add nothing
    values["bbox"][:, 2] = differences
    loss = settings(1.0, kind, **options)
    alone = Heads(1, loss)
    each = []
    for i in range(count):
        outputs, gradients = alone(**{key: value[i : i + 1] for key, value in values.items()})
        assert np.all(gradients["bbox"][0, [0, 1, 3]] == 0)
        each.append(
            (outputs["bbox_loss"][0] / WEIGHTS["bbox"], gradients["bbox"][0, 2] / WEIGHTS["bbox"])
        )
    return np.array(each).T


@pytest.mark.parametrize("kind, options", KINDS)
def test_regression_kinds(kind, options):
    kink = options.get("beta", options.get("wing_w", 0.1))
    at = np.array([0, 0.1, 0.5, 0.99, 0.9999, 1.0001, 1.01, 1.5, 4]) * kink
    at = np.concatenate([-at[:0:-1], at, [-1.7, 1.7, 3]]).astype(np.float32)
    value, gradient = slopes(at, kind, options)
    want, want_gradient = regression(at, kind, **options)
    assert np.allclose(value, want, rtol=1e-4, atol=1e-7)
    assert np.allclose(gradient, want_gradient, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("kind, options", KINDS)
def test_gradients_of_regression_by_finite_differences(kind, options):
    """The gradient is that of the values, on both sides of the kinks (0 and where the formula
    changes), and the values do not jump there."""
    kink = options.get("beta", options.get("wing_w", 0.1))
    step = 0.004 * kink
    at = np.array([-2, -1.02, -0.98, -0.3, -0.02, 0.02, 0.3, 0.98, 1.02, 2]) * kink
    up, _ = slopes(at + step, kind, options)
    down, _ = slopes(at - step, kind, options)
    _, gradient = slopes(at, kind, options)
    assert np.allclose((up - down) / (2 * step), gradient, rtol=0.01, atol=1e-3 * kink)
    (below, above), _ = slopes(np.array([1 - 1e-5, 1 + 1e-5]) * kink, kind, options)
    assert abs(above - below) < 1e-3 * below
    _, (below, above) = slopes(np.array([1 - 1e-5, 1 + 1e-5]) * kink, kind, options)
    if kind == "smooth_l1":
        assert abs(above - below) < 1e-3
    if kind == "wing":  # the loss of the paper has a bend here
        assert np.isclose(below, kink / (kink + options["wing_eps"]), rtol=1e-3)
        assert above == 1


def test_coordinates_add_up():
    """A sample's loss is the sum over its coordinates, each on its own branch."""
    loss = settings(1.0, "wing", wing_w=0.3, wing_eps=0.1)
    values = batch_of(np.random.default_rng(9), np.array([-2, 1, -2]))
    outputs, gradients = Heads(3, loss)(**values)
    each, over_each = regression(
        values["landmark"] - values["landmark_target"], "wing", wing_w=0.3, wing_eps=0.1
    )
    assert np.isclose(outputs["landmark_loss"][0], 2.0 * each[[0, 2]].sum() / 2, rtol=1e-4)
    assert np.allclose(gradients["landmark"][[0, 2]], over_each[[0, 2]], rtol=1e-3)


# ---- settings ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name, assignment, says",
    [
        ("Rnet_v1", "loss.bbox.kind=l1", "loss.bbox.kind is 'l1'.*l2, smooth_l1, wing"),
        ("Lnet_v1", "loss.landmark.kind=", "loss.landmark.kind"),
        ("L14_heatmap", "loss.heatmap.kind=huber", "loss.heatmap.kind is 'huber'"),
        ("Rnet_v1", "loss.cls.ohem=0", "loss.cls.ohem is 0"),
        ("Rnet_v1", "loss.bbox.ohem=1.01", "loss.bbox.ohem is 1.01"),
        ("Lnet_v1", "loss.landmark.ohem=-0.5", "loss.landmark.ohem"),
        ("Lnet106_v1", "loss.landmark.point_ohem=0", "loss.landmark.point_ohem is 0"),
    ],
)
def test_settings_that_can_not_be(name, assignment, says):
    with pytest.raises(Problem, match=says):
        symbols.build(name, "train", loss=override(config, [assignment]).loss)


@pytest.mark.parametrize("kind", ["l2", "smooth_l1", "wing"])
@pytest.mark.parametrize("ohem", [0.7, 1.0])
def test_no_python_operator(kind, ohem):
    """Whatever the settings: MXNet alone computes the losses."""
    for name, landmark in (("Onet_v1", True), ("L14_heatmap", False), ("Pnet12", True)):
        loss = settings(ohem, kind)
        loss.landmark.update(point_ohem=ohem, weights=[1, 2, 2, 1, 1])
        text = symbols.build(name, "train", landmark=landmark, loss=loss).tojson()
        assert "MakeLoss" in text and "Custom" not in text and "_Native" not in text


# ---- in a net ------------------------------------------------------------------------------


def test_only_landmark_samples_pull_the_landmark_head():
    """train-mtcnn pulls the points of every other sample towards 0."""
    values = batch_of(np.random.default_rng(10), np.array([1, -2, 0, -1, -2, 0]))
    _, gradients = Heads(6, settings(1.0))(**values)
    assert (gradients["landmark"] != 0).any(axis=1).tolist() == [
        False,
        True,
        False,
        False,
        True,
        False,
    ]
    symbol = symbols.build("Onet48", "train", landmark=True)
    executor = symbol.simple_bind(
        mx.cpu(),
        grad_req="write",
        data=(4, 3, 48, 48),
        label=(4,),
        bbox_target=(4, 4),
        landmark_target=(4, 10),
    )
    rng = np.random.default_rng(11)
    for array in executor.arg_dict.values():
        array[:] = rng.normal(0, 0.1, array.shape)
    for label, pulled in (([1, 0, -1, 0], False), ([1, 0, -1, -2], True)):
        executor.arg_dict["label"][:] = label
        executor.forward(is_train=True)
        executor.backward()
        assert (executor.grad_dict["fc4_weight"].asnumpy() != 0).any() == pulled
        assert (executor.grad_dict["fc2_weight"].asnumpy() != 0).any()


# ---- parts of a batch ----------------------------------------------------------------------


@pytest.mark.parametrize("point_ohem", [1.0, 0.6])
@pytest.mark.parametrize("ohem", [1.0, 0.7])
def test_parts_of_a_batch_add_up_to_the_whole(ohem, point_ohem):
    """Losses and gradients of two unequal parts, with the weights of all of it, against the graph
    of the whole batch."""
    rng = np.random.default_rng(5)
    label = rng.choice([1, 0, -1, -2], 41).astype(np.float32)
    values, loss = batch_of(rng, label), settings(ohem)
    loss.landmark.point_ohem = point_ohem
    outputs, gradients = Heads(41, loss)(**values)
    parts = [np.arange(0, 41, 3), np.setdiff1d(np.arange(41), np.arange(0, 41, 3))]
    heads, each = [Heads(len(rows), loss, part=True) for rows in parts], {}
    own = [{name: value[rows] for name, value in values.items()} for rows in parts]
    for one, rows, some in zip(heads, parts, own):
        found, _ = one(**some)
        for task in TASKS:
            got = found[f"{task}_each"]
            each.setdefault(task, np.zeros((41, *got.shape[1:]), np.float32))[rows] = got
    weights = {}
    for task in TASKS:
        keep, factor = losses.weights_of(each[task], losses.is_valid(task, label), loss[task])
        if keep.ndim == 1:
            assert np.array_equal(keep, outputs[f"{task}_keep"])
        weights[task] = keep * factor
    totals = dict.fromkeys(TASKS, 0)
    for one, rows, some in zip(heads, parts, own):
        found, over = one(
            **some, **{f"{task}_weights": value[rows] for task, value in weights.items()}
        )
        for task in TASKS:
            totals[task] += found[f"{task}_part"][0]
            assert np.allclose(over[task], gradients[task][rows], rtol=1e-5, atol=1e-7)
    for task in TASKS:
        assert np.isclose(totals[task], outputs[f"{task}_loss"][0], rtol=1e-5)

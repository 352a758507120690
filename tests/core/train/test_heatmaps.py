"""Joints as heat maps: lists, batches and maps of drawn stick figures, decoding, a net's task."""

import math
import pickle

import cv2
import numpy as np
import pytest

import symbols
from config import config, override
from core.formats import checkpoint
from core.train import heatmap_task, heatmaps
from facelet import picture as pictures
from facelet import schemes
from facelet.console import Problem
from prepare_data import joints

LAYOUT = (3, 15, 28)
OFF = [
    "augment.flip=False",
    "augment.brightness=1.0",
    "augment.gray=0.0",
    "augment.color=0.0",
    "augment.noise=0,0",
    "joints.blur=0,1",
    "joints.angle=0",
    "joints.shift=0",
    "joints.scale=1.2,1.2",
    "joints.plain=1.2",
]
LINKS = schemes.get("14").lines
INK = [
    tuple(int(v) for v in colour)
    for colour in cv2.applyColorMap(np.arange(0, 252, 18, dtype=np.uint8), cv2.COLORMAP_HSV)[:, 0]
]


# ---- stick figures ---------------------------------------------------------------------------


def figure(rng, height):
    """Joints (14, 2) of a body that stands about as tall as `height`, its mean at 0: limbs of a
    body's proportions at any angles."""

    def limb(start, length, degrees):
        angle = np.radians(degrees)
        return start + height * length * np.array([np.sin(angle), np.cos(angle)])

    at, tilt = np.zeros((14, 2)), rng.uniform(-20, 20)
    at[6] = limb(np.zeros(2), 0.3, 180 + tilt)
    at[7] = limb(at[6], 0.17, 180 + tilt + rng.uniform(-15, 15))
    # Right and left of the body itself, which looks at us.
    for side, hip, knee, ankle, shoulder, elbow, wrist in (
        (-1, 2, 1, 0, 10, 9, 8),
        (1, 3, 4, 5, 11, 12, 13),
    ):
        at[hip] = limb(np.zeros(2), 0.08, 90 * side)
        leg, arm = side * rng.uniform(0, 40), side * rng.uniform(0, 150)
        at[knee] = limb(at[hip], 0.25, leg)
        at[ankle] = limb(at[knee], 0.25, leg - side * rng.uniform(0, 30))
        at[shoulder] = limb(at[6], 0.12, 90 * side)
        at[elbow] = limb(at[shoulder], 0.17, arm)
        at[wrist] = limb(at[elbow], 0.16, arm + side * rng.uniform(-60, 60))
    return at - at.mean(axis=0)


def painted(picture, at, seen):
    """Draw a figure's limbs in grey and its visible joints each in its colour, in place."""
    for line in LINKS:
        cv2.polylines(
            picture,
            [np.round(at[line] * 16).astype(np.int32)],
            False,
            (150, 150, 150),
            5,
            cv2.LINE_AA,
            4,
        )
    for place, ink, there in zip(np.round(at * 16).astype(int).tolist(), INK, seen):
        if there:
            cv2.circle(picture, place, 6 * 16, ink, cv2.FILLED, cv2.LINE_AA, 4)


def line_of(path, box, at, seen):
    numbers = [*box, *np.column_stack([at, seen]).ravel()]
    return f"{path} " + " ".join(f"{number:.2f}".rstrip("0").rstrip(".") for number in numbers)


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    """A list of 40 figures in 20 pictures of 320 x 240; one joint in eight is not visible."""
    folder = tmp_path_factory.mktemp("bodies")
    (folder / "images").mkdir()
    rng, lines = np.random.default_rng(3), []
    for number in range(20):
        picture = cv2.resize(rng.integers(0, 90, (12, 16, 3), dtype=np.uint8), (320, 240))
        for x in (90, 230):
            at = figure(rng, rng.uniform(130, 180)) + (x, 120)
            seen = rng.uniform(size=14) > 0.125
            painted(picture, at, seen)
            low, high = at.min(axis=0) - 8, at.max(axis=0) + 8
            lines.append(
                line_of(
                    f"{number}.png", [*low, *(high - low)], np.where(seen[:, None], at, -1), seen
                )
            )
        pictures.write(folder / "images" / f"{number}.png", picture)
    (folder / "list.txt").write_text("\n".join(lines) + "\n")
    return folder / "list.txt"


# ---- lists -----------------------------------------------------------------------------------


def test_a_list(drawn):
    bodies = joints.open_set(drawn)
    assert (len(bodies), bodies.points, bodies.scheme, bodies.rejected) == (40, 14, "14", [])
    assert bodies.describe().startswith(f"{drawn}: 40 bodies with 14 joints in 20 pictures")
    for i, line in enumerate(drawn.read_text().splitlines()):
        path, *numbers = line.split()
        numbers = np.array(numbers, float)
        seen = numbers[6::3] == 1
        assert np.array_equal(joints.visible(bodies.points_of[i]), seen)
        want = numbers[4:].reshape(14, 3)[seen, :2] + 0.5
        assert np.allclose(bodies.points_of[i][seen], want, atol=1e-4)
        assert np.allclose(
            bodies.boxes[i], [*numbers[:2], *(numbers[:2] + numbers[2:4])], atol=1e-3
        )
        assert bodies.names()[i] == path
    assert not joints.visible(bodies.points_of).all()
    # The joints are where they are painted: nearly all have their colour there.
    off = []
    for i, points in enumerate(bodies.points_of):
        seen = joints.visible(points)
        x, y = points[seen].astype(int).T
        off += np.abs(bodies.read(i)[y, x] - np.array(INK)[seen]).max(axis=1).tolist()
    assert np.mean(np.array(off) == 0) > 0.9
    again = pickle.loads(pickle.dumps(bodies))  # for worker processes
    assert np.array_equal(again.points_of, bodies.points_of)


GOOD = " ".join(["0 0 100 100"] + [f"{i} {2 * i} 1" for i in range(14)])


@pytest.mark.parametrize(
    "line, reason",
    [
        (
            "a.png " + GOOD.rsplit(None, 1)[0],
            "another number of numbers: 45, where 46 are expected",
        ),
        ("a.png " + GOOD + " 1", "another number of numbers: 47"),
        ("a.txt " + GOOD, "no picture's path"),
        ("a.png " + GOOD[:-1] + "0.5", "neither visible, 1, nor not, 0"),
        ("a.png " + GOOD.replace("13 26", "nan 26"), "a number that is none"),
        ("a.png " + GOOD.replace("100 100", "100 inf"), "a number that is none"),
        ("a.png " + GOOD.replace("100 100", "100 0"), "a box without an area"),
        ("a.png " + GOOD.replace("100 100", "49 20"), "a body smaller than 50 px"),
        ("a.png 0 0 100 100" + " 5 5 1" + " 6 6 0" * 13, "fewer than 2 visible"),
        ("a.png 0 0 100 100" + " 5 5 1" * 13 + " 7 7 1", "joints that are identical"),
    ],
)
def test_bodies_that_can_not_be(tmp_path, line, reason):
    """Named with their line, and counted; the others are kept."""
    pictures.write(tmp_path / "a.png", np.zeros((120, 120, 3), np.uint8))
    path = tmp_path / "bad.txt"
    path.write_text(f"a.png {GOOD}\n\n{line}\na.png {GOOD.replace('13 26 1', 'nan nan 0')}\n")
    bodies = joints.open_set(path, min_side=50)
    assert len(bodies) == 2 and sum(bodies.reasons.values()) == 1
    (told,) = bodies.rejected
    assert told.startswith(f"{path}, line 3: ") and reason in told
    assert "rejected 1 (" in bodies.describe()
    path.write_text(line)
    with pytest.raises(Problem, match="has no body that can be used; the first: .*line 1"):
        joints.open_set(path, min_side=50)


def test_bodies_listed_twice(tmp_path):
    """By one path, by another spelling of it or by a link, a body counts once; another body of the
    same picture is one of its picture, whatever it is called there."""
    pictures.write(tmp_path / "a.png", np.zeros((120, 120, 3), np.uint8))
    (tmp_path / "link.png").symlink_to("a.png")
    path = tmp_path / "list.txt"
    path.write_text(
        f"a.png {GOOD}\n.\\a.png {GOOD}\nlink.png {GOOD}\n"
        f"link.png {GOOD.replace('100 100', '90 90')}\n"
    )
    bodies = joints.open_set(path)
    assert bodies.names() == ["a.png", "a.png"] and bodies.facts["pictures"] == 1
    assert bodies.reasons == {"a body that is listed already": 2}
    assert bodies.rejected[0] == f"{path}, line 2: a body that is listed already"


def test_an_empty_list_and_pictures_that_are_not_there(tmp_path):
    path = tmp_path / "list.txt"
    path.write_text("\n")
    with pytest.raises(Problem, match="no body that can be used: it is empty"):
        joints.open_set(path)
    path.write_text(f"a.png {GOOD}\n")
    with pytest.raises(Problem, match="none of the first pictures.*a.png.*--images"):
        joints.open_set(path)
    with pytest.raises(Problem, match="none.txt can't be read"):
        joints.open_set(tmp_path / "none.txt")


# ---- maps ------------------------------------------------------------------------------------


def by_pixel(places, side, sigma):
    """Maps of one body's joints, pixel by pixel."""
    made = np.zeros((len(places) + 1, side, side))
    for joint, (x, y) in enumerate(places):
        for row in range(side):
            for column in range(side):
                square = (column - (x * side - 0.5)) ** 2 + (row - (y * side - 0.5)) ** 2
                if 0 <= x < 1 and 0 <= y < 1:
                    made[joint, row, column] = math.exp(-square / sigma**2)
    made[-1] = 1 - made[:-1].max(axis=0)
    return made


@pytest.mark.parametrize("layout, sigma", [((3, 4, 28), 3.0), ((1, 4, 7), 1.5)])
def test_maps_by_pixel(layout, sigma):
    places = np.random.default_rng(1).uniform(0, 1, (5, layout[1] - 1, 2))
    places[0, 0], places[1, 2], places[2, 1] = (-0.01, 0.5), (0.3, 1.0), (1e6, 1e6)
    got = heatmaps.targets(places, layout, sigma)
    assert got.dtype == np.float32
    got = got.reshape(5, layout[0], layout[1], layout[2], layout[2])
    for body, maps in zip(places, got):
        want = by_pixel(body, layout[2], sigma)
        for stage in maps:
            assert np.allclose(stage, want, atol=1e-5)


def test_layout_is_that_of_the_net():
    assert heatmaps.layout_of("L14_heatmap", {}) == LAYOUT
    assert heatmaps.layout_of("L14_heatmap", {"points": 5}) == (3, 6, 28)
    (shape,) = symbols.build("L14_heatmap").infer_shape(data=(1, 3, 112, 112))[1]
    assert shape == (1, 3 * 15 * 28 * 28)


def test_decoding_finds_the_joints():
    """To a hundredth of a pixel, wherever in the picture, also with the noise and the breadth of a
    net's maps to a fraction of one; by the last stage alone."""
    rng = np.random.default_rng(2)
    places = rng.uniform(0, 1, (50, 14, 2))
    maps = heatmaps.targets(places, LAYOUT, 3.0)
    found, heights = heatmaps.decode(maps, LAYOUT)
    assert found.shape == (50, 14, 2) and heights.shape == (50, 14)
    assert np.abs(found - places).max() * 28 < 0.01 and heights.min() > 0.9
    broad = 0.6 * heatmaps.targets(places, LAYOUT, 4.5) + rng.normal(0, 0.01, maps.shape)
    found, heights = heatmaps.decode(broad, LAYOUT)
    assert np.linalg.norm(found - places, axis=2).mean() * 28 < 0.5
    assert 0.5 < heights.min() and heights.max() < 0.7
    parts = maps.reshape(50, *LAYOUT, 28)
    parts[:, :2] = 0
    parts[:, 2, -1] = 5  # the background
    assert np.abs(heatmaps.decode(maps, LAYOUT)[0] - places).max() * 28 < 0.01


def test_decoding_maps_that_show_nothing():
    """Anywhere in the picture, but no NaN; and heights that say so."""
    rng = np.random.default_rng(4)
    for maps in (np.zeros((2, 35280)), -np.ones((2, 35280)), rng.normal(-0.5, 0.1, (2, 35280))):
        places, heights = heatmaps.decode(maps, LAYOUT)
        assert ((places >= 0) & (places <= 1)).all() and (heights < 0.1).all()


def test_figures_by_loop():
    rng = np.random.default_rng(5)
    truth, found = rng.uniform(-0.2, 1.2, (2, 30, 14, 2))
    found = truth + 0.15 * (found - 0.5)
    right, distances = [], []
    for body, guess in zip(truth, found):
        there = [all(0 <= v < 1 for v in place) for place in body]
        width, height = np.ptp(body[there], axis=0)
        for place, other, seen in zip(body, guess, there):
            if seen:
                distances.append(math.dist(place, other))
                right.append(distances[-1] <= 0.1 * max(width, height))
    assert 0.1 < np.mean(right) < 0.9
    assert heatmaps.pck(found, truth) == pytest.approx(np.mean(right))
    assert heatmaps.joint_error(found, truth) == pytest.approx(np.mean(distances))
    assert heatmaps.pck(truth, truth) == 1
    nowhere = np.full((1, 14, 2), 1e6)
    assert math.isnan(heatmaps.pck(nowhere, nowhere))
    assert math.isnan(heatmaps.joint_error(nowhere, nowhere))


# ---- batches ---------------------------------------------------------------------------------


def batches(drawn, *assignments, workers=0):
    settings = override(config, ["train.batch=8", *assignments])
    bodies = joints.open_set(drawn)
    return bodies, heatmaps.HeatmapBatches(
        bodies,
        np.arange(len(bodies)),
        LAYOUT,
        112,
        settings.train,
        settings.joints,
        settings.augment,
        workers,
    )


def colours_at(data, places):
    """BGR values of inputs (N, 3, S, S) at places (N, P, 2) in crop sides."""
    x, y = np.moveaxis(np.clip((places * data.shape[2]).astype(int), 0, data.shape[2] - 1), 2, 0)
    values = data[np.arange(len(data))[:, None], :, y, x]
    return values * 128 + 127.5


def painted_right(batch, least):
    """Asserts that where a map has its summit, its joint is painted, for most joints: a few are
    painted over by others."""
    places, heights = heatmaps.decode(batch["heatmap_target"], LAYOUT)
    there = heights > 0.5
    off = np.abs(colours_at(batch["data"], places) - INK).max(axis=2)[there]
    assert there.sum() > 60 and (off < 60).mean() > least


def test_plain_batches_have_maps_where_joints_are(drawn):
    bodies, loader = batches(drawn, *OFF)
    assert loader.steps == 5
    batch = loader.make(0)
    assert batch["data"].shape == (8, 3, 112, 112) and batch["data"].dtype == np.float32
    assert batch["heatmap_target"].shape == (8, 35280)
    assert {*batch} == {"data", "heatmap_target"} == {*loader.shapes}
    assert all(batch[name].shape == shape for name, shape in loader.shapes.items())
    painted_right(batch, 0.9)
    # The first is one of the list: its square is the box's larger side times 1.2 about its centre.
    wanted = []
    for points, (x1, y1, x2, y2) in zip(bodies.points_of, bodies.boxes):
        side = 1.2 * max(x2 - x1, y2 - y1)
        corner = np.array([(x1 + x2) / 2, (y1 + y2) / 2]) - side / 2
        wanted.append(by_pixel((points - corner) / side, 28, 3.0))
    for made in batch["heatmap_target"].reshape(8, 3, 15, 28, 28):
        assert min(np.abs(made - want).max() for want in wanted) < 1e-3


def test_augmented_batches_have_maps_where_joints_are(drawn):
    """Turned, moved, scaled and mirrored, with the mirror's left for right: colours are those of
    the joint painted, which mirroring exchanges."""
    bodies, loader = batches(
        drawn, *[text for text in OFF if "joints" not in text], "joints.blur=0,1"
    )
    painted_right(loader.make(1), 0.85)
    _, mirroring = batches(drawn, *OFF[1:])
    _, straight = batches(drawn, *OFF)
    partners, mirrored = schemes.partners("14"), 0
    for number in range(3):
        one, other = straight.make(number), mirroring.make(number)
        for a, b, c, d in zip(
            one["data"], other["data"], one["heatmap_target"], other["heatmap_target"]
        ):
            c, d = (values.reshape(3, 15, 28, 28) for values in (c, d))
            if np.array_equal(a, b):
                assert np.array_equal(c, d)
                continue
            mirrored += 1
            assert np.abs(a[:, :, ::-1] - b).max() < 0.1  # the warp counts from the other side
            assert np.abs(c[:, [*partners, 14], :, ::-1] - d).max() < 1e-3
    assert 4 < mirrored < 20


def test_turns_keep_within_their_settings(drawn):
    """The angle between head and ankle by their maps against that in the picture."""
    bodies, loader = batches(drawn, "joints.angle=30", "augment.flip=False")
    turns = []
    for number in range(5):
        places, heights = heatmaps.decode(loader.make(number)["heatmap_target"], LAYOUT)
        for row, found, height in zip(loader.streams[0].take(number * 8, 8), places, heights):
            if min(height[0], height[7]) > 0.5:
                before, after = (
                    complex(*(points[0] - points[7])) for points in (bodies.points_of[row], found)
                )
                turns.append(np.degrees(np.angle(after / before)))
    assert len(turns) > 10
    assert np.abs(turns).max() < 31 and np.ptp(turns) > 25


def test_joints_out_of_the_crop_have_no_map(drawn):
    """A crop of half the box cuts hands and feet off."""
    _, loader = batches(drawn, *OFF[:7], "joints.shift=0", "joints.scale=0.5,0.5")
    maps = loader.make(0)["heatmap_target"].reshape(8, *LAYOUT, 28)[:, 0, :14].max(axis=(2, 3))
    assert (maps == 0).any() and (maps > 0.9).any()
    assert ((maps == 0) | (maps > 0.9)).all()


def test_a_batch_depends_on_seed_and_number_alone(drawn):
    _, loader = batches(drawn)
    _, again = batches(drawn, workers=1)
    loader.make(3)
    for number, (batch, waited) in zip((4, 7), again.ahead([4, 7])):
        assert waited >= 0
        for name, values in loader.make(number).items():
            np.testing.assert_array_equal(values, batch[name])
    again.close()
    _, other = batches(drawn, "train.seed=1")
    assert not np.array_equal(other.make(4)["data"], loader.make(4)["data"])


def test_pictures_that_can_not_be_used_are_left_out(drawn, tmp_path, capsys):
    """Broken, or with joints where it has no pixels: said once, and the next body in its place."""
    for file in (drawn.parent / "images").iterdir():
        (tmp_path / file.name).symlink_to(file)
    lines = drawn.read_text().splitlines()
    pictures.write(tmp_path / "small.png", np.zeros((60, 60, 3), np.uint8))
    (tmp_path / "broken.png").write_bytes(b"no picture")
    path = tmp_path / "list.txt"
    for odd, reason in (
        ("small.png", "line 2: joints out of the picture, which is 60x60"),
        ("broken.png", "broken.png: no picture"),
    ):
        path.write_text("\n".join([lines[0], f"{odd} " + lines[1].split(" ", 1)[1], *lines[2:]]))
        bodies, loader = batches(path)
        assert sum(len(batch["data"]) for batch, _ in loader.ahead(range(5))) == 40
        assert capsys.readouterr().err.count("left out") == 1
        (told,) = loader.unreadable.values()
        assert reason in told
    path.write_text("\n".join(f"broken.png {line.split(' ', 1)[1]}" for line in lines))
    with pytest.raises(Problem, match="can't be read"):
        batches(path)[1].make(0)


# ---- the task --------------------------------------------------------------------------------


class Oracle:
    """A trainer whose net says what is true, or something else."""

    def __init__(self, change=lambda maps: maps):
        self.change = change

    def predict(self, batch):
        assert batch["data"].shape == (8, 3, 112, 112)
        return {"heatmap_pred": self.change(batch["heatmap_target"])}


def task_of(drawn, *assignments):
    settings = override(config, ["train.batch=8", "train.val_fraction=0.3", *assignments])
    return heatmap_task.HeatmapTask(
        symbols.spec("L14_heatmap"), {}, joints.open_set(drawn), settings, 0
    )


def test_task(drawn, tmp_path):
    task = task_of(drawn)
    assert not {*task.training} & {*task.held_out}
    names = task.bodies.names()
    assert not {names[i] for i in task.training} & {names[i] for i in task.held_out}
    right = task.validate(Oracle())
    assert right["joint_error"] < 0.001 and right["pck"] == 1
    wrong = task.validate(Oracle(lambda maps: maps[::-1]))
    assert wrong["pck"] < 0.7 and wrong["joint_error"] > 0.03
    # The mean body, by another way: every visible joint's place in its plain square, both ways.
    sums, counts = np.zeros((14, 2)), np.zeros((14, 1))
    for i in task.training:
        x1, y1, x2, y2 = task.bodies.boxes[i]
        side = 1.25 * max(x2 - x1, y2 - y1)
        places = (task.bodies.points_of[i] - [(x1 + x2) / 2, (y1 + y2) / 2]) / side + 0.5
        for joint in np.flatnonzero(joints.visible(task.bodies.points_of[i])):
            x, y = places[joint]
            for at, place in ((joint, (x, y)), (schemes.partners("14")[joint], (1 - x, y))):
                sums[at] += place
                counts[at] += 1
    assert np.allclose(task.mean_body, sums / counts, atol=1e-4)
    assert 0.02 < right["mean_body_error"] < 0.3 and right["mean_body_pck"] < 1
    task.save_samples(tmp_path)
    task.save_predictions(Oracle(lambda maps: np.roll(maps, 2, axis=1)), tmp_path)
    for name in ("samples.png", "joints.png"):
        assert pictures.read(tmp_path / name).shape[1] == 6 * 2 * 168
    with pytest.raises(Problem, match="L14_heatmap learns 16 joints, .* has 14"):
        heatmap_task.HeatmapTask(
            symbols.spec("L14_heatmap"), {"points": 16}, task.bodies, config, 0
        )


def test_a_net_learns_from_the_maps(drawn):
    """A few steps of the net itself bring its loss down, by the targets of its own shape."""
    from core.train.trainer import Trainer

    settings = override(config, ["train.batch=2", "train.lr=0.05", "train.warmup=1", *OFF])
    bodies = joints.open_set(drawn)
    loader = heatmaps.HeatmapBatches(
        bodies, np.arange(2), LAYOUT, 112, settings.train, settings.joints, settings.augment, 0
    )
    trainer = Trainer(
        checkpoint.initial("L14_heatmap", {}, 0, 0.25), settings.train, settings.loss, 8
    )
    losses = [float(trainer.step(loader.make(number))["heatmap_loss"][0]) for number in range(5)]
    assert losses[0] < 10 and losses[-1] < 0.6 * losses[0]
    assert trainer.predict(loader.make(0))["heatmap_pred"].shape == (2, 35280)

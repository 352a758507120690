"""Pseudo-labels: a net that finds coloured dots must have them where they are, whatever crops it
was shown; what it is unsure of, and what can't be read, is left out and named."""

import json
from pathlib import Path

import matplotlib
import numpy as np
import pytest

from config import for_landmarks
from core.formats import checkpoint, params_file
from facelet import picture as pictures
from facelet import schemes
from facelet.console import Problem
from facelet.files import sha256
from facelet.nets import MODELS
from prepare_data.points import cuts, label
from prepare_data.points import sets as landmarks
from prepare_data.points.__main__ import main

# Two eyes of one colour, a nose, two corners of a mouth of another: which is left shows from x.
COLOURS = np.array([[255, 0, 0], [255, 0, 0], [0, 255, 0], [0, 0, 255], [0, 0, 255]], float)
FACE = np.array([[-0.2, -0.18], [0.21, -0.15], [0.03, 0.02], [-0.16, 0.2], [0.17, 0.23]])


class Dots:
    """Finds the dots in crops, to a hundredth of a pixel or so."""

    name, tasks = "dots.params", ["landmark"]

    def __init__(self, noise=0.0, **facts):
        self.rng, self.noise, self.seen = np.random.default_rng(0), noise, []
        self.facts = {
            "net": "Dots",
            "options": {},
            "points": 5,
            "scheme": "5",
            "stride": None,
            "family": "Lnet",
            "input": {"size": 96},
            **facts,
        }

    def __call__(self, data):
        self.seen.append(len(data))
        found = []
        y, x = np.mgrid[:96, :96] + 0.5
        for crop in (data * 128 + 127.5).transpose(0, 2, 3, 1):
            places = []
            for colour, both in ((0, True), (1, False), (2, True)):
                weight = np.clip(crop[:, :, colour] - crop.sum(axis=2) / 2 - 5, 0, None)
                if both:  # apart where they lie farthest apart
                    middle = (weight * x).sum() / weight.sum()
                    places += [
                        np.array([(part * x).sum(), (part * y).sum()]) / part.sum()
                        for part in (weight * (x < middle), weight * (x >= middle))
                    ]
                else:
                    places.append(np.array([(weight * x).sum(), (weight * y).sum()]) / weight.sum())
            found.append(np.array(places) / 96)
        found = np.array(found) + self.rng.normal(0, self.noise, (len(found), 5, 2))
        return {"landmark": schemes.pack(found).astype(np.float32)}


def draw(picture, points):
    """Dots at continuous coordinates."""
    y, x = np.mgrid[: picture.shape[0], : picture.shape[1]] + 0.5
    for (px, py), colour in zip(points, COLOURS):
        near = np.exp(-((x - px) ** 2 + (y - py) ** 2) / 18)[:, :, None]
        picture += near * (colour - picture)


@pytest.fixture(scope="module")
def faces(tmp_path_factory):
    """Folder of three pictures with four faces, and a list of where they are; the points (4, 5, 2)
    in continuous coordinates."""
    folder, rng, lines, truth = tmp_path_factory.mktemp("dots"), np.random.default_rng(5), [], []
    for name, places in (
        ("one.png", [(150, 160, 130)]),
        ("a/two.png", [(120, 90, 110), (320, 200, 150)]),
        ("three 3.png", [(70, 60, 100)]),
    ):  # which reaches over the edge
        picture = np.full((300, 420, 3), 60.0)
        for x, y, side in places:
            truth.append(FACE * side + (x, y) + rng.uniform(-2, 2, (5, 2)))
            draw(picture, truth[-1])
            # The list only says about where.
            listed = truth[-1] - 0.5 + rng.uniform(-4, 4, (5, 2))
            lines.append(f"{name} " + " ".join(f"{value:.1f}" for value in listed.ravel()))
        pictures.write(folder / name, np.round(picture).astype(np.uint8))
    (folder / "list.txt").write_text("\n".join(lines))
    return folder, np.array(truth)


def run(monkeypatch, net, folder, out, *more):
    """The program on the list, with a net in place of one from a file."""
    monkeypatch.setattr(label, "open_stage", lambda stage, path, threads: net)
    file = folder / "dots.params"
    file.write_bytes(b"dots")
    net.name = str(file)
    main(
        [
            "label",
            "--weights",
            str(file),
            "--faces",
            str(folder / "list.txt"),
            "--out",
            str(out),
            *map(str, more),
        ]
    )


@pytest.mark.parametrize(
    "crop", [None, {"box": "bounds", "scale": 2.4}, {"box": "half", "scale": 2.0}]
)
def test_points_are_where_they_are(faces, crop, tmp_path, monkeypatch, capsys):
    """Found in crops beside, turned and mirrored; the list reads back as what it is."""
    folder, truth = faces
    net, out = Dots(**({"crop": crop} if crop else {})), tmp_path / "found.txt"
    run(monkeypatch, net, folder, out, "--average", 3)
    assert net.seen == [1, 6] * 4
    again = landmarks.open_set(out, folder)
    assert [face.path for face in again.faces] == [
        "one.png",
        "a/two.png",
        "a/two.png",
        "three 3.png",
    ]
    found = np.array([face.points for face in again.faces]) + 0.5
    assert np.abs(found - truth).max() < 0.35
    said = json.loads((tmp_path / "found.txt.json").read_text())
    assert said["what"].startswith("pseudo-labels") and said["faces"] == 4
    assert said["pseudo_labels_by"]["sha256"] == sha256(folder / "dots.params")
    assert said["average"] == 3 and said["scheme"] == "5" and said["spread"]["largest"] < 0.01
    printed = capsys.readouterr().out
    assert "found.txt: pseudo-labels by dots.params: 4 faces with 5 points" in printed
    # and nobody who reads it is told otherwise
    assert again.teacher == "dots.params" and "pseudo-labels by dots.params" in again.describe()
    made = cuts.make_store(again, 160, tmp_path / "cuts", for_landmarks(5).crop, workers=1)
    assert made.facts["source"]["pseudo_labels_by"] == "dots.params"
    assert "pseudo-labels by dots.params" in made.describe()
    assert landmarks.open_set(folder / "list.txt").teacher is None


def test_faces_in_a_store_of_cuts(faces, tmp_path, monkeypatch):
    """Points are given in the pictures that the faces were cut out of."""
    folder, truth = faces
    store = cuts.make_store(
        landmarks.open_set(folder / "list.txt"),
        150,
        tmp_path / "cuts",
        for_landmarks(5).crop,
        workers=1,
    )
    assert {store.read(i).shape[1] for i in range(4)} == {150}
    monkeypatch.setattr(label, "open_stage", lambda stage, path, threads: Dots())
    teacher, found = label.Teacher("dots.params", 3), []
    for _, picture, boxes, corner, scale in label.of_set(store):
        points, spread = teacher(picture, boxes)
        assert picture.shape[1] == 150 and spread < 0.01
        found.append(points[0] * scale + corner)
    assert np.abs(np.array(found) - truth).max() < 0.8  # a good half of a pixel of the cut


def test_unsure_and_unreadable_ones(faces, tmp_path, monkeypatch, capsys):
    folder, _ = faces
    out, several = tmp_path / "found.txt", tmp_path / "set"
    several.mkdir()
    (several / "one.png").write_bytes((folder / "one.png").read_bytes())
    (several / "two.png").write_text("no picture")
    line = (folder / "list.txt").read_text().splitlines()[0]
    (several / "list.txt").write_text(f"{line.replace('one', 'two')}\n{line}\n")
    run(monkeypatch, Dots(noise=0.004), several, out)
    said = json.loads((tmp_path / "found.txt.json").read_text())
    assert said["faces"] == 1 and len(landmarks.open_set(out, several).faces) == 1
    assert 0.003 < said["spread"]["median"] < 0.008  # noise in x and y
    assert [f"{several}/two.png: no picture" in reason for reason in said["rejected"]] == [True]
    printed = capsys.readouterr().out
    assert f"left out {several}/two.png" in printed
    assert "passed over 1 of 2 pictures" in printed
    before = out.read_bytes()
    with pytest.raises(Problem, match="not one face has points to keep; the first: .*two.png"):
        run(monkeypatch, Dots(noise=0.05), several, out)
    printed = capsys.readouterr().out
    assert "left out one.png: its points are unsure, their spread is 0.0" in printed
    assert out.read_bytes() == before
    run(monkeypatch, Dots(noise=0.05), several, out, "--max-spread", 1)
    assert json.loads((tmp_path / "found.txt.json").read_text())["faces"] == 1


def test_averaging_makes_noise_smaller(faces, monkeypatch):
    folder, truth = faces
    picture = pictures.read(folder / "one.png")
    box = np.array([[85, 95, 215, 225.0]])
    errors = {}
    for average in (1, 20):
        monkeypatch.setattr(label, "open_stage", lambda *_, **__: Dots(noise=0.01))
        teacher = label.Teacher("dots.params", average)
        errors[average] = np.mean(
            [np.abs(teacher(picture, box)[0][0] - truth[0]) for _ in range(8)]
        )
    assert errors[20] < 0.5 * errors[1]
    points, spread = teacher(picture, np.zeros((0, 4)))
    assert points.shape == (0, 5, 2) and spread.shape == (0,)


def test_faces_that_a_detector_finds(tmp_path, capsys):
    """In a photograph that came with matplotlib, by nets out of files: the Onet that comes along as
    the teacher."""
    photo = Path(matplotlib.get_data_path()) / "sample_data" / "grace_hopper.jpg"
    pictures.write(tmp_path / "in" / "hopper.png", pictures.read(photo))
    pictures.write(tmp_path / "in" / "nobody.png", np.zeros((90, 90, 3), np.uint8))
    main(
        [
            "label",
            "--weights",
            str(MODELS / "Onet_v2.onnx"),
            "--pictures",
            str(tmp_path / "in"),
            "--out",
            str(tmp_path / "found.txt"),
        ]
    )
    (found,) = landmarks.open_set(tmp_path / "found.txt", tmp_path / "in").faces
    eyes, nose, mouth = found.points[:2], found.points[2], found.points[3:]
    assert found.path == "hopper.png" and found.box is None
    assert (172 < found.points[:, 0]).all() and (found.points[:, 0] < 357).all()
    assert eyes[:, 1].max() < nose[1] < mouth[:, 1].min() < 337
    assert "Onet_v2.onnx: 1 faces" in capsys.readouterr().out


def test_what_is_refused(faces, tmp_path, monkeypatch):
    folder, _ = faces
    given = ["--faces", str(folder / "list.txt"), "--out", str(tmp_path / "out.txt")]

    def refused(says, *arguments):
        with pytest.raises(Problem, match=says):
            main(["label", *map(str, arguments)])
        assert list(tmp_path.glob("out*")) == []

    refused("Rnet_v1.onnx can't be the landmark", "--weights", MODELS / "Rnet_v1.onnx", *given)
    made, path = checkpoint.initial("Lnet106_v2", {"base": 4}, 0, 0.25), tmp_path / "net.params"
    params_file.write(
        path,
        {
            **{f"arg:{name}": value for name, value in made.arguments.items()},
            **{f"aux:{name}": value for name, value in made.auxiliary.items()},
        },
    )
    refused(
        "doesn't say in which order its 106 points are: python -m core.convert",
        "--weights",
        path,
        *given,
    )
    refused(
        "--average: 0: it must be a whole number from 1", "--weights", path, *given, "--average", 0
    )
    refused(
        "holds no pictures",
        "--weights",
        MODELS / "Onet_v2.onnx",
        "--pictures",
        tmp_path,
        "--out",
        tmp_path / "out.txt",
    )
    with pytest.raises(Problem, match="one of the arguments --faces --pictures is required"):
        main(["label", "--weights", str(path), "--out", str(tmp_path / "out.txt")])
    beside = tmp_path / "list.txt.json"
    (tmp_path / "list.txt").write_text((folder / "list.txt").read_text())
    beside.write_text("{}")
    with pytest.raises(Problem, match="list.txt.json doesn't say whose points list.txt has"):
        landmarks.open_set(tmp_path / "list.txt", folder)

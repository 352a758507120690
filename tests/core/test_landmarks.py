"""From faces with points to a net of landmarks."""

import json

import numpy as np
import pytest

from config import config, for_landmarks
from core import landmarks
from core.base import parallel
from core.formats import checkpoint
from core.train.landmark_loader import LandmarkBatches
from facelet import schemes
from facelet.console import Problem
from facelet.onnx_net import OnnxNet

SETTINGS = [
    "train.batch=8",
    "train.epochs=1",
    "train.warmup=2",
    "train.val_fraction=0.3",
    "landmark_samples.base_num=2",
]


@pytest.fixture(autouse=True)
def alone(monkeypatch):
    """In this process, without workers, which take longer to start than they would work."""
    monkeypatch.setattr(parallel, "cores", lambda: 1)


def run(drawn_set, out, scheme, *more):
    landmarks.main(
        [
            *map(
                str,
                (
                    "--faces",
                    drawn_set / "landmarks" / f"train_{scheme}.txt",
                    "--out",
                    out,
                    *more,
                    *SETTINGS,
                ),
            )
        ]
    )


def test_from_faces_to_an_exported_net(drawn_set, tmp_path, capsys):
    run(drawn_set, tmp_path, "5", "--net", "Lnet_v2", "--base", 4)
    assert "there already" not in capsys.readouterr().out
    name = "Lnet_v2-base4"
    figures = json.loads((tmp_path / f"{name}-measured" / "landmarks.json").read_text())
    assert figures["faces"] > 0 and figures["scheme"] == "5"
    net = OnnxNet(tmp_path / f"{name}-exported" / "Lnet_v2.onnx")
    assert net.facts["points"] == 5
    assert net.facts["crop"] == {"box": "detector", "scale": 1.0}
    made = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*") if path.is_file()}
    run(drawn_set, tmp_path, "5", "--net", "Lnet_v2", "--base", 4)
    assert capsys.readouterr().out.count("there already") == 4
    assert made == {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*") if path.is_file()}


def test_another_number_of_points_from_finished_crops(drawn_set, tmp_path):
    run(drawn_set, tmp_path, "68", "--net", "Lnet_v2", "--base", 4, "--points", 68, "--offline")
    exported = tmp_path / "Lnet_v2-base4-points68-offline-exported" / "Lnet_v2.onnx"
    assert OnnxNet(exported).facts["scheme"] == "68"


def test_nets_of_other_points_share_a_drawn_set(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(landmarks, "SAMPLE_PICTURES", 24)
    for net, there in (("Lnet_v2", 0), ("Lnet106_v2", 1)):
        landmarks.main(["--net", net, "--base", "4", "--out", str(tmp_path), *SETTINGS])
        assert capsys.readouterr().out.count("there already") == there
        assert (tmp_path / f"{net}-base4-exported" / f"{net}.onnx").exists()


def made_in(folder):
    return [path for path in folder.rglob("*") if path.is_file()]


@pytest.mark.parametrize(
    "more, match",
    [
        (("--net", "Onet_v1"), "is no net of landmarks alone: an Lnet is"),
        (("--net", "Lnet_v9"), "no net is called 'Lnet_v9'"),
        (("--net", "Lnet106_v2"), "learns 106 landmark points, .* has 5: train it with --points 5"),
        (("--net", "Lnet_v2", "train.batch=9999"), "train.batch is 9999, more than the"),
        (
            ("--net", "Lnet_v2", "--offline", "train.batch=9999"),
            "train.batch is 9999, more than the",
        ),
        (("--net", "Lnet_v2", "train.val_fraction=1e-9"), "leaves none to hold out"),
        (("--net", "Lnet_v2", "train.schedule=none"), "train.schedule is 'none'"),
        (("--net", "Lnet_v2", "train.epoch=2"), "no setting 'train.epoch'"),
        (("--net", "Lnet_v2", "loss.landmark.groups=ears:2"), "ears"),
        (("--net", "Lnet_v2", "--start", "nowhere.params"), "nowhere.params"),
        (("--net", "Lnet_v2", "--epochs", "3"), "did you mean train.epochs=3"),
        (("--net", "Lnet_v2", "--scheme", "68"), "the scheme '68'"),
    ],
)
@pytest.mark.parametrize("dry", [(), ("--dry-run",)])
def test_what_is_wrong_shows_before_a_face_is_cut(drawn_set, tmp_path, more, match, dry):
    def refuse(*_, **__):
        raise AssertionError("cut")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(landmarks.cuts, "make_store", refuse)
        patch.setattr(landmarks.landmark_samples, "make_store", refuse)
        with pytest.raises(Problem, match=match) as found:
            run_with_settings_last(drawn_set, tmp_path / "out", more + dry)
    assert "\n" not in str(found.value) and made_in(tmp_path) == []


def run_with_settings_last(drawn_set, out, more):
    """As run(), the settings of `more` after the usual ones."""
    words = [word for word in more if "=" not in word]
    landmarks.main(
        [
            *("--faces", str(drawn_set / "landmarks" / "train_5.txt"), "--out", str(out)),
            *words,
            *SETTINGS,
            *(word for word in more if "=" in word),
        ]
    )


def test_a_start_that_does_not_fit(drawn_set, tmp_path):
    other = checkpoint.initial("Lnet_v2", {"base": 8}, 0, 0.25)
    params = checkpoint.save(tmp_path / "other", other, 1, {})
    line = ("--net", "Lnet_v2", "--base", "4", "--start", str(params), "--dry-run")
    with pytest.raises(Problem, match="does not fit Lnet_v2 with base 4|does not fit"):
        run(drawn_set, tmp_path / "out", "5", *line)
    run(
        drawn_set,
        tmp_path / "out",
        "68",
        "--net",
        "Lnet_v2",
        "--points",
        "68",
        *line[2:3],
        "8",
        *line[4:],
    )
    assert not (tmp_path / "out").exists()


def test_points_that_are_not_drawn(tmp_path):
    with pytest.raises(Problem, match="5, 68 or 106 points, not 98: give --faces"):
        landmarks.main(["--net", "Lnet_v2", "--points", "98", "--out", str(tmp_path / "none")])


def test_out_that_is_a_file_or_someone_elses(drawn_set, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(Problem, match="file is a file: choose another --out"):
        run(drawn_set, tmp_path / "file", "5", "--net", "Lnet_v2", "--base", 4)
    (tmp_path / "out" / "cuts_5_112").mkdir(parents=True)
    (tmp_path / "out" / "cuts_5_112" / "notes.txt").touch()
    with pytest.raises(Problem, match="cuts_5_112 is there, and this run has not made it"):
        run(drawn_set, tmp_path / "out", "5", "--net", "Lnet_v2", "--base", 4)


@pytest.mark.parametrize("offline", [(), ("--offline",)])
def test_dry_run_says_it_all_and_does_nothing(drawn_set, tmp_path, capsys, offline):
    run(drawn_set, tmp_path / "out", "5", "--net", "Lnet_v2", "--dry-run", *offline)
    printed = capsys.readouterr().out
    steps = ["data", "crops_5_48" if offline else "cuts_5_112", "Lnet_v2"]
    at = [printed.index(f"\n  {name}") for name in steps]
    assert at == sorted(at) and printed.count("to do") == 4 and "together about" in printed
    assert made_in(tmp_path) == []


def test_without_faces_the_plan_draws_some(tmp_path, capsys):
    landmarks.main(["--net", "Lnet106_v2", "--out", str(tmp_path / "out"), "--dry-run"])
    printed = capsys.readouterr().out
    assert "500 drawn pictures" in printed and printed.count("to do") == 5
    assert made_in(tmp_path) == []


def test_the_old_spelling_of_faces(drawn_set, tmp_path, capsys):
    faces = str(drawn_set / "landmarks" / "train_5.txt")
    out = str(tmp_path / "out")
    landmarks.main(["--net", "Lnet_v2", "--data", faces, "--out", out, "--dry-run", *SETTINGS])
    printed = capsys.readouterr()
    assert faces in printed.out and "--data is now --faces" in printed.err


def test_estimates_are_near_what_comes(drawn_set, tmp_path):
    for net in ("Lnet_v2", "Lnet106_96_v2"):
        faces = drawn_set / "landmarks" / f"train_{5 if net == 'Lnet_v2' else 106}.txt"
        args = landmarks.argparse.Namespace(
            images=None, reader=None, scheme=None, counted_from=None
        )
        made = landmarks.LandmarkRun(
            tmp_path / net, net, {}, faces, args=args, assignments=SETTINGS
        )
        cut = list(made.plan.steps.values())[1]
        expected = cut.expected()[0]
        cut.run()
        there = sum(path.stat().st_size for path in made_in(cut.path))
        assert there / 2.5 < expected < there * 2.5, net


# ---- a scheme that doesn't say where a detector's box is -----------------------------------


@pytest.fixture
def boxless(drawn_set, tmp_path, monkeypatch):
    """A list of the drawn faces' points 0 to 6 of 68, in a new scheme without a box."""
    folder = tmp_path / "schemes"
    folder.mkdir()
    for name in schemes.NAMES:
        (folder / f"{name}.json").write_text((schemes.FOLDER / f"{name}.json").read_text())
    scheme = {
        "about": "seven points",
        "points": 7,
        "partners": {"0 1 3": "6 5 4"},
        "groups": {"all": "0-6"},
        "colours": {"all": [0, 255, 0]},
        "lines": ["0-6"],
        "places": {"left eye": "0", "right eye": "6"},
        "box": None,
        "bounds": None,
    }
    (folder / "seven.json").write_text(json.dumps(scheme))
    monkeypatch.setattr(schemes, "FOLDER", folder)
    monkeypatch.setattr(schemes, "NAMES", (*schemes.NAMES, "seven"))
    schemes.get.cache_clear()
    # Another process would not know of it: batches are made in this one.
    monkeypatch.setattr(LandmarkBatches.__init__, "__defaults__", (None, 0))
    lines = []
    for line in (drawn_set / "landmarks" / "train_68.txt").read_text().splitlines():
        path, *numbers = line.split()
        points = np.array(numbers[-136:], float).reshape(68, 2)[[36, 31, 48, 33, 35, 54, 45]]
        lines.append(" ".join([path, *(f"{value:.2f}" for value in points.ravel())]))
    faces = tmp_path / "train_7.txt"
    faces.write_text("\n".join(lines) + "\n")
    yield faces, drawn_set
    schemes.get.cache_clear()


@pytest.mark.parametrize("offline", [(), ("--offline",)])
def test_a_scheme_without_a_box(boxless, tmp_path, capsys, offline):
    faces, images = boxless
    line = ["--net", "Lnet_v2", "--base", "4", "--points", "7", "--faces", str(faces)]
    line += ["--images", str(images), "--out", str(tmp_path / "out"), *offline, *SETTINGS]
    landmarks.main([*line, "--dry-run"])
    assert "no detector's box, so by default crops are cut around the points' bounds" in (
        capsys.readouterr().out
    )
    landmarks.main(line)
    name = "-".join(["Lnet_v2-base4-points7", *(["offline"] if offline else [])])
    figures = json.loads((tmp_path / "out" / f"{name}-measured" / "landmarks.json").read_text())
    assert figures["scheme"] == "seven" and figures["boxes"]["draws"] == 0
    net = OnnxNet(tmp_path / "out" / f"{name}-exported" / "Lnet_v2.onnx")
    assert net.facts["crop"] == {"box": "bounds", "scale": 1.25}
    if not offline:
        with pytest.raises(Problem, match="'seven' doesn't say where a detector's boxes are"):
            landmarks.main([*line, "crop.preset=detector"])


def test_crops_by_default(boxless):
    """The detector's for any number of points; about the bounds where the scheme has no box."""
    assert config.crop.preset == "detector"
    for points in (5, 68, 98, 106):
        crop = for_landmarks(points).crop
        assert (crop.preset, crop.box, crop.plain) == ("detector", "detector", 1.0)
    for points in (7, 14):
        crop = for_landmarks(points).crop
        assert (crop.preset, crop.box, crop.plain) == ("train-mtcnn", "bounds", 1.25)
    assert for_landmarks(7, ["crop.preset=detector"]).crop.box == "detector"

"""Every kind of file that the toolkit reads, in a table: where one lies in a small world that is
made for it, how its content may be changed, and what reads it."""

import contextlib
import json
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np

from config import config, for_landmarks, override
from core.base.journal import Journal
from core.detect import nets as any_nets
from core.doctor.examine import examine
from core.evaluate import detections, fddb, stage_figures
from core.evaluate import wider as evaluate_wider
from core.export import main as export
from core.formats import checkpoint, conversion, fuse, ncnn_file, params_file, zqcnn_writer
from core.pipeline import limits, report
from core.pipeline.data import Data
from core.pipeline.steps import Plan, Step
from core.train import states
from core.train.curves import curves
from core.train.run import Run
from facelet import nets, picture, schemes
from facelet.console import Problem
from facelet.detector import FaceDetector
from facelet.files import read_json, sha256, write_json
from facelet.onnx_net import OnnxNet
from facelet.video import Video
from prepare_data import joints, landmark_samples, samples, store, teacher, wider
from prepare_data.drawn import sets as drawn
from prepare_data.points import cuts, face_sets, sets
from symbols.mxnet_import import mx

ROOT = Path(__file__).resolve().parents[2]
NET = "Pnet20_v1"
FLOW = np.random.default_rng(0).random((1, 3, 20, 20), np.float32)
ROW = {
    "train": {"cls_loss": 0.5, "bbox_loss": 0.1, "accuracy_hard": 0.5, "samples_per_second": 9.0},
    "val": {
        "cls_loss": 0.5,
        "accuracy": 0.75,
        "accuracy_hard": 0.5,
        "precision": 0.5,
        "recall": None,
    },
}


@dataclass(frozen=True)
class Kind:
    """A kind of file.

    path -- of one in the world; grammar -- key of mutate.GRAMMARS
    read -- function of the world that reads it as a program does, and gives what it says
    sums -- whether a checksum of it is compared on the way: then it may not say something else
    slow -- whether reading it takes long, for what it can show: it is changed less often
    """

    name: str
    path: str
    grammar: str
    read: Callable
    sums: bool = False
    slow: bool = False


# ---- readers ---------------------------------------------------------------------------------


def doctor(path, world):
    """What core.doctor says. What it calls wrong, it has noticed."""
    report = examine(world / path)
    if report.damages:
        raise Problem(str(report.damages[0] or report.title))
    return list(report.lines())


def open_store(path, world):
    """A store with all its samples, as training opens it and the doctor looks at it."""
    opened = store.Store(world / path)
    doctor(path, world)
    arrays = [np.array(getattr(opened, name)) for name in ("crops", "labels", "offsets", "sources")]
    return opened.facts, opened.pictures(), arrays, opened.landmarks


def open_cuts(world):
    opened = face_sets.Cuts(world / "cuts")
    doctor("cuts", world)
    read = [opened.read(i) for i in range(len(opened))]
    return opened.facts, opened.names(), opened.points_of, opened.boxes, opened.rooms, read


def frames(path, world):
    video = Video(world / path)
    return list(video), video.rate, video.remark


def optimizer_states(world):
    """As core.train reads them, into an optimiser that takes nothing else of a module."""
    arrays = params_file.read(world / "run" / f"{NET}-0001.params")
    weights = {name[4:]: value for name, value in arrays.items() if name.startswith("arg:")}
    module = type("Module", (), {})()
    module._update_on_kvstore, module._param_names = False, list(weights)
    optimizer = mx.optimizer.create("adam", param_idx2name=dict(enumerate(weights)))
    module._updater = mx.optimizer.get_updater(optimizer)
    module._exec_group = type("Group", (), {})()
    module._exec_group.param_arrays = [[mx.nd.array(value)] for value in weights.values()]
    path = world / "run" / f"{NET}-0001.states"
    manifest = checkpoint.read_manifest(path.with_suffix(".json"))
    states.load(module, 7, path, manifest.get("checksums", {}).get(path.name))
    return {
        key: [part.asnumpy() for part in state] for key, state in module._updater.states.items()
    }


def checkpoint_of(path, world):
    made = checkpoint.load(world / path)
    return made.net, made.options, made.arguments, made.auxiliary, made.facts()


def training_run(world):
    """A run that core.train goes on with: its configuration and its log, drawn."""
    run = Run(world / "run", NET, read_json(world / "identity.json"))
    if run.log != [{"epoch": 1, **ROW}]:  # it takes its time
        curves(run.log, world / "curves.png", NET)
    return run.epoch, run.log


def run_onnx(path, world):
    """As facelet runs it, as core.detect does, and as the doctor sees it."""
    net = OnnxNet(world / path)
    outputs = net(FLOW)
    any_nets.open_net(world / path)(FLOW)
    doctor(path, world)
    return net.facts, outputs


def of_detector(world):
    detector = FaceDetector.open(world / "nets")
    paths, settings = nets.in_folder(world / "nets", points=5)
    return (
        [path.name for path in paths.values()],
        settings,
        detector.settings,
        nets.points_in(world / "nets"),
    )


def export_again(world):
    with contextlib.suppress(FileNotFoundError):
        shutil.rmtree(world / "again")
    shutil.copytree(world / "exported", world / "again")
    export([str(world / "run"), "--out", str(world / "again"), "--format", "onnx"])
    return read_json(world / "again" / f"{NET}.json")


def zqcnn(world):
    made, _, remarks = conversion.from_pair(world / "pair.zqparams")
    doctor("pair.zqparams", world)
    return made.net, made.options, made.arguments, made.auxiliary, remarks


def ncnn(world):
    """As the doctor sees it."""
    return doctor("ncnn/net.param", world), doctor("ncnn/net.bin", world)


def journal(world):
    begun = Journal(world / "journal", {"of": "a test", "jobs": 3})
    return sorted(begun.done), [begun.load(number) for number in sorted(begun.done)]


def labels(boxes, scores, world):
    """A set with its labels checked by a teacher's boxes or by scores."""
    face_set = wider.open_set(world / "set", "train")
    files = (world / "teacher.json" if boxes else None), (world / "scores.txt" if scores else None)
    return teacher.clean_labels(face_set, config.teacher, *files).annotations


def of_list(path, world):
    found = detections.read(world / path)
    return detections.fitted(found, NAMES, world / path)


def plan(world):
    """A step of core.pipeline, whose record says what it was made from."""
    made = Plan([Step("cut", "cuts", world / "step.txt", sha256, run=print)], world / "run")
    step = made.named("cut")[0]
    return [(one.name, state) for one, state in made.states([step])], made.result(step)


def figures_of_stages(world):
    """Figures of a cascade, and what core.pipeline's report shows of them."""
    found = stage_figures.read(world / "stages.json")
    run = SimpleNamespace(figures_folder=lambda name: world)
    return found, limits.boxes_per_face(found), report._stages(run, "onet", found)


def noted(world):
    Data(world / "set").check_pictures(world / "pictures.json")
    return read_json(world / "pictures.json")


def settings_file(world):
    """Settings as command lines give them, a line each."""
    lines = (world / "settings.txt").read_bytes().decode("utf-8", "replace").split("\n")
    given = [line for line in lines if line]
    return dict(override(config, given)), dict(for_landmarks(5, given))


def scheme(world):
    path = world / "scheme.json"
    try:
        return schemes._read("5", read_json(path))
    except (ValueError, KeyError, TypeError, AttributeError, IndexError) as error:
        raise Problem(f"{path} is no scheme of points: {error}") from None


# ---- the world -------------------------------------------------------------------------------

NAMES = [f"0--Event/{number}.jpg" for number in range(4)]
POINTS = {"celeba": 5, "wflw": 98, "ibug": 68, "jd106": 106}
PICTURES = (".jpg", ".png", ".webp", ".bmp", ".tiff", ".gif", ".avif")
VIDEOS = (".mp4", ".avi")


def _cells(values):
    found = np.empty((len(values), 1), object)
    for i, value in enumerate(values):
        found[i, 0] = value
    return found


def _mats(folder):
    """The ground truth of WIDER FACE's own evaluation, four files, and one as it is downloaded."""
    from scipy.io import savemat

    boxes = [np.float64([[10, 10, 40, 50], [70, 20, 30, 30]])] * 2
    common = {
        "event_list": _cells(["0--Event", "1--Other"]),
        "file_list": _cells([_cells(["a", "b"]), _cells(["c", "d"])]),
        "face_bbx_list": _cells([_cells(boxes)] * 2),
    }
    folder.mkdir()
    flags = {"invalid_label_list": _cells([_cells([np.int16([[0], [1]])] * 2)] * 2)}
    savemat(folder / "wider_face_train.mat", {**common, **flags})
    savemat(folder / "wider_face_val.mat", common, do_compression=True)
    for name in evaluate_wider.DIFFICULTIES:
        gt_list = _cells([_cells([np.int32([[1], [2]])] * 2)] * 2)
        savemat(folder / f"wider_{name}_val.mat", {**common, "gt_list": gt_list})


def _texts(folder):
    """Lists of detections and of ellipses, of settings."""
    rows = ["10 10 40 50 0.9", "70.5 20 30.25 30 0.25"]
    listed = [line for name in NAMES for line in (name[:-4], "2", *rows)]
    (folder / "found.txt").write_text("\n".join(listed) + "\n")
    for name in NAMES:
        file = folder / "found" / f"{name[:-4]}.txt"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("\n".join([name, "2", *rows]) + "\n")
    record = {"boxes": [[10, 10, 50, 60], [70.5, 20, 100, 50]], "scores": [0.9, 0.25]}
    (folder / "found.jsonl").write_text(
        "".join(json.dumps({"file": name, **record, "faces": 2}) + "\n" for name in NAMES)
    )
    ellipse = "40.5 30.25 1.25 60 50 1"
    (folder / "FDDB").mkdir()
    (folder / "FDDB" / "FDDB-fold-01-ellipseList.txt").write_text(
        "\n".join(line for name in NAMES for line in (name[:-4], "1", ellipse)) + "\n"
    )
    (folder / "settings.txt").write_text(
        "train.epochs=8\ntrain.mix=1,1,3\nsamples.negatives=20\ndetect.thresholds=0.5,0.5,0.7\n"
        "train.lr=0.01\ncrop.scale=0.9,1.1\nmine.positives=True\nloss.bbox.kind=l2\n"
        "detect.min_face=24\naugment.noise=1,10\nevaluate.ious=0.5,0.75\ncrop.preset=detector\n"
    )


def _point_lists(folder):
    """Lists and folders of faces with points, of every kind, of pictures that nobody opens."""
    lists = folder / "lists"
    rng = np.random.default_rng(0)
    for i in range(6):
        (lists / "images").mkdir(parents=True, exist_ok=True)
        (lists / "images" / f"{i}.jpg").touch()

    def points(count):
        """Of the scheme's mean face, about: symmetric to nothing, which no reader asks for."""
        name = {5: "5", 68: "68", 98: "98", 106: "migu"}[count]
        middle = rng.uniform(80, 120, (count, 2))
        for left, right, _ in schemes.get(name).sides:
            middle[list(left), 0] -= 30
            middle[list(right), 0] += 30
        return " ".join(f"{value:.2f}" for value in middle.ravel())

    def write(name, lines):
        (lists / name).write_text("\n".join(lines) + "\n")

    write("list.txt", [f"images/{i}.jpg 50 50 100 100 {points(5)}" for i in range(6)])
    write_json(lists / "list.txt.json", {"pseudo_labels_by": {"file": "net.params"}})
    write("trainImageList.txt", [f"images/{i}.jpg 40 160 40 160 {points(5)}" for i in range(6)])
    heading = ["6", "lefteye_x lefteye_y righteye_x righteye_y nose_x nose_y"]
    write("celeba.txt", heading + [f"images/{i}.jpg {points(5)}" for i in range(6)])
    end = "40 40 160 160 0 0 0 0 0 0"
    write("wflw.txt", [f"{points(98)} {end} images/{i}.jpg" for i in range(6)])
    joint = " ".join(f"{60 + 5 * k} {60 + 9 * k} 1" for k in range(14))
    write("joints.txt", [f"images/{i}.jpg 40 40 120 180 {joint}" for i in range(6)])
    for kind, count in (("ibug", 68), ("jd106", 106)):
        where = folder / kind
        where.mkdir()
        for i in range(3):
            (where / f"{i}.jpg").touch()
            rows = np.reshape(points(count).split(), (-1, 2))
            lines = [f"{x} {y}" for x, y in rows]
            if kind == "ibug":
                text = ["version: 1", f"n_points: {count}", "{", *lines, "}"]
                (where / f"{i}.pts").write_text("\n".join(text) + "\n")
            else:
                (where / f"{i}.jpg.txt").write_text("\n".join([str(count), *lines]) + "\n")


def _media(folder):
    """A picture of each kind that this OpenCV writes, and videos; names of those there are."""
    image = cv2.resize(cv2.imread(str(ROOT / "docs" / "sample.jpg")), (96, 72))
    for suffix in PICTURES:
        with contextlib.suppress(cv2.error):
            cv2.imwrite(str(folder / f"picture{suffix}"), image)
    for suffix in VIDEOS:
        code = cv2.VideoWriter.fourcc(*("mp4v" if suffix == ".mp4" else "MJPG"))
        writer = cv2.VideoWriter(str(folder / f"video{suffix}"), code, 10, (96, 72))
        for shift in range(6):
            writer.write(np.roll(image, shift, axis=1))
        writer.release()


def _nets(folder):
    """A run of core.train after an epoch, its net in every format, and a detector's folder."""
    made = checkpoint.initial(NET, {}, 0, 0.25)
    rng = np.random.default_rng(0)
    for values in (made.arguments, made.auxiliary):
        for value in values.values():
            value += rng.uniform(0, 0.1, value.shape).astype(np.float32)
    run = folder / "run"
    run.mkdir()
    facts = {"net": NET, "options": {}, "config": {"train": {"epochs": 2, "batch": 20}}}
    write_json(folder / "identity.json", facts)
    write_json(run / "config.json", facts)
    (run / "log.jsonl").write_text(json.dumps({"epoch": 1, **ROW}) + "\n")
    params_file.write(
        run / f"{NET}-0001.states",
        {
            "updates": np.float32([7]),
            **{
                f"{name}:{part}": np.full_like(value, 0.5)
                for name, value in made.arguments.items()
                for part in (0, 1)
            },
        },
    )
    checkpoint.save(run, made, 1, {"threads": 2}, beside=[run / f"{NET}-0001.states"])
    (folder / "alone").mkdir()
    shutil.copy(run / f"{NET}-0001.params", folder / "alone" / "net.params")
    export([str(run), "--out", str(folder / "exported"), "--format", "onnx"])
    graph, size = made.graph(), made.spec.size
    (folder / "ncnn").mkdir()
    ncnn_file.write(fuse.prepared(graph, size), size, folder / "ncnn" / "net")
    zqcnn_writer.write(fuse.rescale(graph), size, folder / "pair")
    (folder / "nets").mkdir()
    for file in (ROOT / "models").iterdir():
        if file.suffix == ".onnx" or file.name == nets.MANIFEST:
            shutil.copy(file, folder / "nets")
    shutil.copy(ROOT / "facelet" / "schemes" / "5.json", folder / "scheme.json")


def _sets(folder, pictures):
    """A drawn set with what is made of it: stores, cuts, a teacher's boxes, scores."""
    drawn.draw_sample_set(folder / "set", pictures, val_fraction=0, seed=3, workers=1)
    face_set = wider.open_set(folder / "set", "train")
    few = override(config, ["samples.negatives=2", "samples.positives=1"]).samples
    samples.make_store(face_set, 12, folder / "store", few, workers=1)
    faces = sets.open_set(folder / "set" / "landmarks" / "train_5.txt")
    cuts.make_store(faces, 32, folder / "cuts", for_landmarks(5).crop, workers=1)
    once = override(config, ["landmark_samples.base_num=1"]).landmark_samples
    landmark_samples.make_store(faces, 24, folder / "landmarks", once, workers=1)
    boxes = {one.path: [[*box, 0.5] for box in one.boxes.tolist()] for one in face_set.annotations}
    source = {"file": face_set.truth.name, "sha256": sha256(face_set.truth)}
    facts = {"version": 1, "detector": {"pnet.onnx": "0"}, "source": source}
    write_json(
        folder / "teacher.json",
        {
            **facts,
            "settings": {"min_face": 20, "thresholds": [0.5, 0.5, 0.1]},
            "skipped": {},
            "pictures": boxes,
        },
    )
    (folder / "scores.txt").write_text(
        "".join(
            " ".join([one.path, *["0.75"] * len(one.rows)]) + "\n" for one in face_set.annotations
        )
    )
    Data(folder / "set").check_pictures(folder / "pictures.json")


def _figures(folder):
    """What core.evaluate.stages leaves."""
    stage = {"threshold": 0.5, "boxes_per_picture": 2.5, "ms_per_picture": 1.5, "lost": [1, 1]}
    write_json(
        folder / "stages.json",
        {
            "pictures": 2,
            "skipped": [],
            "faces": 3,
            "recall": 0.5,
            "iou": 0.5,
            "boxes_per_picture": 2.5,
            "ms_per_picture": 3.0,
            "rule": {"min_face": 20, "factor": 0.7, "counted_from": 20, "side": "larger"},
            "sizes": [{"from": 20, "to": None, "faces": 3}, {"from": 20, "to": 40, "faces": 2}],
            "stages": [
                {"stage": name, "net": name, "recall": {"0.5": [0.5, 1.0]}, **stage}
                for name in ("pnet", "rnet")
            ],
            "average_precision": [{"min_face": 20, "faces": 3, "value": 0.5}],
        },
    )


def _kept(folder):
    """A journal, and the record of a step."""
    begun = Journal(folder / "journal", {"of": "a test", "jobs": 3})
    for number in range(2):
        begun.save(
            number, {"rows": np.ones((3, 6)) * number, "skipped": np.array([["1", "no picture"]])}
        )
    (folder / "step.txt").write_text("what it made\n")
    write_json(
        folder / "run" / "steps" / "cut.json",
        {
            "depends": {"reads": {}, "settings": {}},
            "result": sha256(folder / "step.txt"),
            "seconds": 1.5,
        },
    )


def make_world(folder, pictures=4):
    """Make a file of every kind, below a new folder; pictures -- of the drawn set in it."""
    folder.mkdir(parents=True)
    with open(os.devnull, "w") as nowhere, contextlib.redirect_stdout(nowhere):
        with contextlib.redirect_stderr(nowhere):
            _mats(folder / "mats")
            _sets(folder, pictures)
            for part in (_texts, _point_lists, _media, _nets, _figures, _kept):
                part(folder)


def _truth(path, world):
    return wider.read(world / path)


def _points(path, world, name=None):
    return sets.open_set(world / path, scheme=name)


def _picture(path, world):
    return picture.read(world / path)


SET = "set/wider_face_split/wider_face_train_bbx_gt.txt"
KINDS = (
    Kind("wider list", SET, "text", lambda world: wider.open_set(world / "set", "train")),
    Kind(
        "wider .mat",
        "mats/wider_face_train.mat",
        "binary",
        partial(_truth, "mats/wider_face_train.mat"),
    ),
    *(
        Kind(
            f"evaluation .mat, {name}",
            f"mats/wider_{name}_val.mat",
            "binary",
            lambda world: evaluate_wider.read_truth(world / "mats"),
        )
        for name in ("face", "hard")
    ),
    *(
        Kind(
            f"picture {suffix}", f"picture{suffix}", "binary", partial(_picture, f"picture{suffix}")
        )
        for suffix in PICTURES
    ),
    *(
        Kind(f"video {suffix}", f"video{suffix}", "binary", partial(frames, f"video{suffix}"))
        for suffix in VIDEOS
    ),
    *(
        Kind(f"store, {file}", f"{folder}/{file}", grammar, partial(open_store, folder), sums)
        for folder, file, grammar, sums in (
            ("store", "store.json", "json", False),
            ("store", "crops.npy", "npy", True),
            ("store", "labels.npy", "npy", True),
            ("store", "offsets.npy", "npy", True),
            ("store", "sources.npy", "npy", True),
            ("store", "pictures.txt", "text", True),
            ("landmarks", "landmarks.npy", "npy", True),
        )
    ),
    *(
        Kind(f"cuts, {file}", f"cuts/{file}", grammar, open_cuts, sums)
        for file, grammar, sums in (
            ("cuts.json", "json", False),
            ("index.npy", "npy", True),
            ("points.npy", "npy", True),
            ("boxes.npy", "npy", True),
            ("rooms.npy", "npy", True),
            ("sources.npy", "npy", True),
            ("pictures.txt", "text", True),
            ("faces.bin", "binary", True),
        )
    ),
    Kind(
        ".params with manifest",
        f"run/{NET}-0001.params",
        "binary",
        partial(checkpoint_of, f"run/{NET}-0001.params"),
        sums=True,
    ),
    Kind(".params alone", "alone/net.params", "binary", partial(checkpoint_of, "alone/net.params")),
    Kind(
        ".params alone, doctor", "alone/net.params", "binary", partial(doctor, "alone/net.params")
    ),
    Kind("manifest", f"run/{NET}-0001.json", "json", partial(checkpoint_of, "run")),
    Kind(
        "manifest, doctor", f"run/{NET}-0001.json", "json", partial(doctor, f"run/{NET}-0001.json")
    ),
    Kind("symbol", f"run/{NET}-symbol.json", "json", partial(checkpoint_of, "run")),
    Kind(
        "symbol, doctor",
        f"run/{NET}-symbol.json",
        "json",
        partial(doctor, f"run/{NET}-symbol.json"),
    ),
    Kind(".states", f"run/{NET}-0001.states", "binary", optimizer_states, sums=True, slow=True),
    Kind("log.jsonl", "run/log.jsonl", "jsonl", training_run),
    Kind("config.json of a run", "run/config.json", "json", training_run),
    Kind("detector.json", "nets/detector.json", "json", of_detector, slow=True),
    Kind(
        "detector.json, doctor", "nets/detector.json", "json", partial(doctor, "nets/detector.json")
    ),
    Kind(
        "ONNX", f"exported/{NET}.onnx", "onnx", partial(run_onnx, f"exported/{NET}.onnx"), slow=True
    ),
    Kind("facts of an export", f"exported/{NET}.json", "json", export_again, slow=True),
    Kind("ncnn .param", "ncnn/net.param", "text", ncnn),
    Kind("ncnn .bin", "ncnn/net.bin", "binary", ncnn),
    Kind("ZQCNN .zqparams", "pair.zqparams", "text", zqcnn, slow=True),
    Kind("ZQCNN .nchwbin", "pair.nchwbin", "binary", zqcnn, slow=True),
    Kind("points, list", "lists/list.txt", "text", partial(_points, "lists/list.txt")),
    Kind(
        "points, cnn_facepoint",
        "lists/trainImageList.txt",
        "text",
        partial(_points, "lists/trainImageList.txt"),
    ),
    Kind("points, celeba", "lists/celeba.txt", "text", partial(_points, "lists/celeba.txt")),
    Kind("points, wflw", "lists/wflw.txt", "text", partial(_points, "lists/wflw.txt")),
    Kind("points, .pts", "ibug/1.pts", "text", partial(_points, "ibug")),
    Kind("points, .jpg.txt", "jd106/1.jpg.txt", "text", partial(_points, "jd106", name="migu")),
    Kind("points, whose", "lists/list.txt.json", "json", partial(_points, "lists/list.txt")),
    Kind(
        "joints",
        "lists/joints.txt",
        "text",
        lambda world: joints.open_set(world / "lists" / "joints.txt"),
    ),
    Kind("journal.json", "journal/journal.json", "json", journal),
    Kind("journal, .npz", "journal/000001.npz", "npz", journal),
    Kind("teacher's boxes", "teacher.json", "json", partial(labels, True, False)),
    Kind("scores of labels", "scores.txt", "text", partial(labels, False, True)),
    Kind("detections, FDDB's", "found.txt", "text", partial(of_list, "found.txt")),
    Kind("detections, WIDER's", "found/0--Event/1.txt", "text", partial(of_list, "found")),
    Kind("detections, .jsonl", "found.jsonl", "jsonl", partial(of_list, "found.jsonl")),
    Kind(
        "ellipses of FDDB",
        "FDDB/FDDB-fold-01-ellipseList.txt",
        "text",
        lambda world: fddb.read_truth(world / "FDDB"),
    ),
    Kind("figures of stages", "stages.json", "json", figures_of_stages),
    Kind("record of a step", "run/steps/cut.json", "json", plan),
    Kind("pictures of a run", "pictures.json", "json", noted),
    Kind("settings", "settings.txt", "text", settings_file),
    Kind("scheme of points", "scheme.json", "json", scheme),
)

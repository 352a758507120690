"""The page about a run: whole, self-contained, and saying what the run's files say."""

import base64
import json
import re
import shutil
from html import unescape
from xml.etree import ElementTree

import cv2
import numpy as np
import pytest
import tiny

from core import flops
from core.evaluate import stage_figures
from core.pipeline import report
from core.pipeline.__main__ import main
from core.pipeline.run import Run
from facelet.console import Problem, clock


def page_of(run, path):
    """The page's text and, parsed as XML, which it is too, its root."""
    report.write(path, run)
    text = path.read_text()
    assert text.startswith("<!DOCTYPE html>\n")
    return text, ElementTree.fromstring(text.split("\n", 1)[1])


def run_of(out, *more, **options):
    return Run(out, assignments=[*tiny.SETTINGS, *more], pictures=tiny.PICTURES, **options)


@pytest.fixture(scope="module")
def page(tiny_run, tmp_path_factory):
    return page_of(run_of(tiny_run), tmp_path_factory.mktemp("page") / "report.html")


def words(element):
    return " ".join("".join(element.itertext()).split())


def rows(root, section):
    """Cells of all rows of all tables of a section, by the first cell."""
    found = next(part for part in root.iter("section") if part.get("id") == section)
    return {words(row[0]): [words(cell) for cell in row[1:]] for row in found.iter("tr")}


def test_one_file_and_nothing_outside_it(page):
    text, root = page
    assert len(text) < 8e6
    tags = {element.tag for element in root.iter()}
    assert not tags & {"script", "link", "iframe", "object"} and "@import" not in text
    assert "http" not in re.sub(r"base64,[^\"]*", "", text)
    links = {element.get("href") for element in root.iter("a")}
    anchors = {f"#{element.get('id')}" for element in root.iter("section")}
    assert (
        links
        == anchors
        == {f"#{name}" for name in ("recall", "nets", "data", "samples", "settings", "steps")}
    )
    assert "prefers-color-scheme: dark" in text


def test_pictures_are_inside(page, tiny_run):
    _, root = page
    sizes = []
    for image in root.iter("img"):
        kind, data = re.fullmatch(r"data:image/(png|jpeg);base64,(.*)", image.get("src")).groups()
        picture = cv2.imdecode(np.frombuffer(base64.b64decode(data), np.uint8), cv2.IMREAD_COLOR)
        assert picture.shape[1::-1] == (int(image.get("width")), int(image.get("height")))
        assert picture.shape[1] <= report.WIDEST and image.get("alt")
        sizes.append(picture.shape)
    # four of what is found, four of curves, seven mosaics
    assert len(sizes) == 15
    drawn = cv2.imread(str(tiny_run / "evaluate" / "detections.png"))
    assert any(abs(h / w - drawn.shape[0] / drawn.shape[1]) < 0.01 for h, w, _ in sizes)


def test_figures_are_those_of_the_run(page, tiny_run):
    text, root = page
    figures = json.loads((tiny_run / "evaluate" / "stages.json").read_text())
    recall = rows(root, "recall")
    for stage in figures["stages"]:
        row = recall[stage["net"]]
        first_iou = next(iter(stage["recall"]))
        assert row[3] == first_iou
        assert row[4:] == [f"{value:.3f}" for value in stage["recall"][first_iou]]
    lost = recall["all"]
    assert int(lost[1]) == figures["faces"] == 3
    assert [int(n) for n in lost[3:]] == [stage["lost"][0] for stage in figures["stages"]]
    assert lost[2] == f"{1 - sum(map(int, lost[3:])) / 3:.1%}"
    for value in (
        f"{figures['recall']:.3f}",
        *(f"{row['value']:.3f}" for row in figures["average_precision"]),
    ):
        assert f"<b>{value}</b>" in text


def test_nets_samples_and_timings_are_those_of_the_run(page, tiny_run):
    text, root = page
    budget = flops.record("Onet_v1", landmark=True)
    budgets = next(table for table in root.iter("table") if "parameters" in words(table))
    onet = [[words(cell) for cell in row] for row in budgets.iter("tr")][-1]
    assert onet == [
        "onet",
        "Onet_v1 with landmarks",
        "48x48",
        f"{budget['params']:,}",
        f"{budget['budget_m']:.3f}",
        f"{budget['macs'] / 1e6:.3f}",
    ]
    log = json.loads((tiny_run / "onet" / "log.jsonl").read_text().splitlines()[-1])["val"]
    assert f"{log['landmark_error']:.4f}" in words(root)
    samples = rows(root, "samples")
    counts = json.loads((tiny_run / "samples_rnet" / "store.json").read_text())["counts"]
    assert samples["samples_rnet"][1:4] == [
        f"{counts[kind]:,}" for kind in ("positive", "part", "negative")
    ]
    spent = {
        name: json.loads((tiny_run / "steps" / f"{name}.json").read_text())["seconds"]
        for name in rows(root, "steps")
        if name not in ("step", "together")
    }
    assert len(spent) == 17
    assert rows(root, "steps")["together"][1] == clock(sum(spent.values()))
    assert rows(root, "steps")["onet"][1:] == [clock(spent["onet"]), "done"]
    assert rows(root, "data")["train"][1:3] == ["10", "42"]


def test_settings_that_differ_come_first(page):
    _, root = page
    section = next(part for part in root.iter("section") if part.get("id") == "settings")
    first, every = section.iter("table")
    first = {words(row[0]): [words(cell) for cell in row[1:]] for row in first.iter("tr")}
    assert first["train.batch"] == ["50", "256"]
    assert first["onet.train.epochs"] == ["1", "16"] and "train.lr" not in first
    assert ["train.lr", "0.02"] in [[words(cell) for cell in row] for row in every.iter("tr")]


def test_what_is_out_of_date_or_under_its_floor_is_marked(tiny_run, tmp_path):
    text, root = page_of(
        run_of(tiny_run, "rnet.train.lr=0.2", "pipeline.floors=0,0,1"), tmp_path / "r.html"
    )
    steps = rows(root, "steps")
    assert steps["rnet"][2] == "made anew: train.lr was 0.02, is 0.2"
    assert steps["pnet"][2] == "done" and steps["onet"][2].startswith("depends: ")
    marked = {words(element) for element in root.iter("span") if element.get("class") == "warn"}
    recall = json.loads((tiny_run / "evaluate" / "stages.json").read_text())["recall"]
    assert f"{recall:.3f}" in marked and steps["rnet"][2] in marked


def test_a_run_that_is_not_far_yet(tiny_run, tmp_path):
    out = tmp_path / "out"
    for name in ("drawn", "samples_pnet"):
        shutil.copytree(tiny_run / name, out / name)
    for name in ("data", "samples_pnet"):
        (out / "steps").mkdir(exist_ok=True)
        shutil.copy(tiny_run / "steps" / f"{name}.json", out / "steps")
    text, root = page_of(run_of(out), tmp_path / "r.html")
    assert "Nothing is measured yet" in text
    assert [part.get("id") for part in root.iter("section")] == [
        "data",
        "samples",
        "settings",
        "steps",
    ]
    assert rows(root, "steps")["pnet"] == ["training Pnet20_v1", "", "to do"]


def test_before_the_pictures_are_drawn(tmp_path):
    _, root = page_of(run_of(tmp_path / "out"), tmp_path / "r.html")
    assert [part.get("id") for part in root.iter("section")] == ["settings", "steps"]


def test_names_that_look_like_html(tiny_run, tmp_path):
    data = tmp_path / "<b>&amp;"
    shutil.copytree(tiny_run / "drawn", data)
    text, root = page_of(run_of(tmp_path / "out", data=data), tmp_path / "r.html")
    assert str(data) in words(root) and "<b>" not in unescape(text).replace(str(data), "").replace(
        "<b>&amp;", ""
    )


def test_a_large_picture_gets_smaller(tmp_path):
    noise = np.random.default_rng(0).integers(0, 256, (300, 2800, 3), np.uint8)
    cv2.imwrite(str(tmp_path / "n.png"), noise)
    figure = ElementTree.fromstring(report._figure(tmp_path / "n.png", "a < b"))
    assert figure[0].get("width") == "1400" and figure[0].get("height") == "150"
    assert figure[0].get("src").startswith("data:image/jpeg") and figure[1].text == "a < b"
    flat = np.full((300, 300, 3), 255, np.uint8)
    cv2.imwrite(str(tmp_path / "f.png"), flat)
    assert "data:image/png" in report._figure(tmp_path / "f.png", "flat")
    assert report._figure(tmp_path / "nothing.png", "none") == ""


def with_part(value, path, new):
    """A copy of a JSON value with a part, by its keys, another one; gone where that is GONE."""
    copied = json.loads(json.dumps(value))
    *way, last = path
    parent = copied
    for key in way:
        parent = parent[key]
    if new is GONE:
        del parent[last]
    else:
        parent[last] = new
    return copied


GONE = object()


@pytest.mark.parametrize(
    "file, path, new",
    [
        *(("evaluate/stages.json", (key,), GONE) for key in stage_figures.SHAPE),
        ("evaluate/stages.json", ("faces",), 0),
        ("evaluate/stages.json", ("recall",), float("inf")),
        ("evaluate/stages.json", ("sizes", 0, "faces"), 0),
        ("evaluate/stages.json", ("stages",), []),
        ("evaluate/stages.json", ("stages", 0, "stage"), "qnet"),
        ("evaluate/stages.json", ("stages", 0, "lost"), []),
        ("evaluate/stages.json", ("stages", 0, "recall"), {"0.5": [1]}),
        ("samples_pnet/store.json", ("counts",), GONE),
        ("samples_pnet/store.json", ("counts", "positive"), "7"),
        ("samples_pnet/store.json", ("left_out",), [7]),
        ("samples_pnet/store.json", ("skipped",), 7),
        ("onet/log.jsonl", ("val",), 7),
    ],
)
def test_what_is_damaged_is_one_line(tiny_run, file, path, new, monkeypatch):
    """Of every file that the page is made of. The run is put back as it was."""
    damaged = tiny_run / file
    sound = damaged.read_bytes()
    try:
        damaged.write_text(json.dumps(with_part(json.loads(sound), path, new)))
        with pytest.raises(Problem, match=f"{re.escape(str(damaged))}.* is damaged"):
            main(tiny.arguments(tiny_run, "--stage", "report"))
    finally:
        damaged.write_bytes(sound)

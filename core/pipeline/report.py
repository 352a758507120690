"""A run of core.pipeline as one page: a single HTML file with its pictures inside."""

import base64
from html import escape

import cv2

from config import values
from core.evaluate import stage_figures
from core.pipeline import limits, summary
from core.pipeline.recipes import TRAINED
from core.pipeline.steps import DONE
from core.train.log import read as read_log
from facelet import picture as pictures
from facelet.console import clock
from facelet.files import is_new, write_text
from prepare_data.store import facts_of

WIDEST, QUALITY = 1400, 80  # px and JPEG quality of embedded pictures
KINDS = ("positive", "part", "negative", "landmark")
COLORS = {"pnet": "#d9822b", "rnet": "#c2437a", "onet": "#6d5bd0"}  # faces lost, by stage

STYLE = """
:root { color-scheme: light dark; --back: #fff; --text: #1c2330; --soft: #667085; --line: #dfe3ea;
  --card: #f6f7f9; --found: #2f9e62; }
@media (prefers-color-scheme: dark) { :root { --back: #14171c; --text: #e6e9ee; --soft: #98a2b3;
  --line: #2d333d; --card: #1d2229; --found: #3fb977; } }
body { background: var(--back); color: var(--text); margin: 0 auto; max-width: 68rem;
  padding: 2rem 1.2rem 4rem; font: 15px/1.5 system-ui, sans-serif; }
h1 { font-size: 1.7rem; margin: 0; } h2 { font-size: 1.2rem; margin: 2.6rem 0 .6rem; }
h3 { font-size: 1rem; margin: 1.6rem 0 .4rem; }
p { max-width: 48rem; margin: .4rem 0; } .soft { color: var(--soft); }
nav a { margin-right: 1rem; color: inherit; }
.tiles { display: flex; flex-wrap: wrap; gap: .8rem; margin: 1.2rem 0; }
.tile { background: var(--card); border: 1px solid var(--line); border-radius: .5rem;
  padding: .6rem 1rem; min-width: 7rem; }
.tile b { display: block; font-size: 1.5rem; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; margin: .6rem 0; font-variant-numeric: tabular-nums; }
th, td { padding: .25rem .8rem .25rem 0; text-align: right; border-bottom: 1px solid var(--line);
  white-space: nowrap; vertical-align: top; }
th { font-weight: 600; color: var(--soft); } td.l, th.l { text-align: left; white-space: normal; }
img { max-width: 100%; height: auto; background: #fff; border: 1px solid var(--line);
  border-radius: .4rem; }
figure { margin: .8rem 0; } figcaption { color: var(--soft); }
.bar { display: flex; width: 22rem; height: 1rem; margin-top: .25rem; border-radius: .2rem;
  overflow: hidden; }
.key { display: inline-block; width: .8rem; height: .8rem; border-radius: .2rem;
  margin: 0 .3rem 0 1rem; }
code { font-size: .92em; overflow-wrap: anywhere; }
summary { cursor: pointer; } .warn { color: #d9822b; }
"""


# ---- pieces of HTML, as text -------------------------------------------------------------------


def _text(value):
    # Names of files that are no UTF-8 come with lone surrogates.
    return escape(str(value).encode(errors="backslashreplace").decode())


def _table(head, rows, left=(0,)):
    """A table; cells are HTML, columns `left` are aligned so."""

    def line(cells, tag):
        aligned = [' class="l"' if i in left else "" for i in range(len(cells))]
        return (
            "<tr>"
            + "".join(f"<{tag}{how}>{cell}</{tag}>" for how, cell in zip(aligned, cells))
            + "</tr>"
        )

    return (
        '<div class="wide"><table><thead>'
        + line(head, "th")
        + "</thead><tbody>"
        + "".join(line(row, "td") for row in rows)
        + "</tbody></table></div>"
    )


def _figure(path, caption):
    """A picture inside the page, "" if it isn't there: what is larger than a plot as JPEG."""
    if not path.exists():
        return ""
    data, kind = path.read_bytes(), "png"
    picture = pictures.decode(data, path)
    height, width = picture.shape[:2]
    if width > WIDEST:
        height, width = round(height * WIDEST / width), WIDEST
        picture = cv2.resize(picture, (width, height), interpolation=cv2.INTER_AREA)
    smaller = cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, QUALITY])[1].tobytes()
    if len(smaller) < len(data):
        data, kind = smaller, "jpeg"
    source = f"data:image/{kind};base64,{base64.b64encode(data).decode()}"
    return (
        f'<figure><img src="{source}" width="{width}" height="{height}" '
        f'alt="{_text(caption)}" /><figcaption>{_text(caption)}</figcaption></figure>'
    )


def _section(name, title, *parts):
    """name -- anchor; a section without parts is left out."""
    body = "".join(parts)
    return f'<section id="{name}"><h2>{_text(title)}</h2>{body}</section>' if body else ""


def _tile(value, words):
    return f'<div class="tile"><b>{_text(value)}</b>{_text(words)}</div>'


def _marked(text, warn):
    return f'<span class="warn">{text}</span>' if warn else text


def _span(size):
    return f"{size['from']:g} to {size['to']:g} px" if size["to"] else f"from {size['from']:g} px"


# ---- sections ----------------------------------------------------------------------------------


def _tiles(run, figures):
    if not figures:
        return '<p class="soft">Nothing is measured yet.</p>'
    found = [
        _tile(f"{figures['recall']:.3f}", f"of the held-out faces found, IoU {figures['iou']:g}")
    ]
    if len(figures["stages"]) > 1:
        found += [
            _tile(f"{row['value']:.3f}", f"average precision, faces from {row['min_face']:g} px")
            for row in figures["average_precision"]
        ]
    found += [
        _tile(f"{figures['boxes_per_picture']:.1f}", "boxes a picture"),
        _tile(f"{figures['ms_per_picture']:.0f} ms", "of a processor a picture"),
        _tile(clock(sum(run.plan.seconds().values())), "took all steps together"),
    ]
    return '<div class="tiles">' + "".join(found) + "</div>"


def _stages(run, name, figures):
    """Recall after each net of the cascade, where faces are lost, pictures."""
    if not figures:
        return ""
    sizes, stages, rule = figures["sizes"], figures["stages"], figures["rule"]
    head = [
        "after",
        "score over",
        "boxes a picture",
        "ms a picture",
        "IoU",
        "all",
        *(_span(size) for size in sizes[1:]),
    ]
    rows = []
    for row in stages:
        first = [
            _text(row["net"]),
            f"{row['threshold']:g}",
            f"{row['boxes_per_picture']:.1f}",
            f"{row['ms_per_picture']:.1f}",
        ]
        for iou, recall in row["recall"].items():
            rows.append([*first, iou, *(f"{value:.3f}" for value in recall)])
            first = [""] * 4
    rows.append(["faces", "", "", "", "", *(f"{size['faces']:,}" for size in sizes)])
    lost = []
    for i, size in enumerate(sizes):
        parts = [(row["lost"][i], COLORS[row["stage"]]) for row in stages]
        found = size["faces"] - sum(number for number, _ in parts)
        bar = "".join(
            f'<span style="width:{100 * number / size["faces"]:.2f}%;background:{color}"></span>'
            for number, color in [(found, "var(--found)"), *parts]
            if number
        )
        lost.append(
            [
                "all" if i == 0 else _span(size),
                f'<div class="bar">{bar}</div>',
                f"{size['faces']:,}",
                f"{found / size['faces']:.1%}",
                *(f"{number:,}" for number, _ in parts),
            ]
        )
    keys = '<span class="key" style="background:var(--found)"></span>found' + "".join(
        f'<span class="key" style="background:{COLORS[row["stage"]]}"></span>lost in the '
        f"{_text(row['net'])}"
        for row in stages
    )
    folder = run.figures_folder(name)
    return _section(
        "recall",
        "Recall by stage and size of the face",
        f"<p>{figures['pictures']:,} pictures that no net was trained on, at their own size, and "
        f"{figures['faces']:,} faces in them whose {rule['side']} side is "
        f"{rule['counted_from']:g} px or more. A face is found when a box has at least the given "
        f"IoU (intersection over union) with it. Faces are looked for from "
        f"{rule['min_face']:g} px, at scales {rule['factor']:g} apart.</p>",
        _table(head, rows),
        _figure(folder / "recall.png", "Recall, and precision against recall"),
        "<h3>Where faces are lost</h3>",
        f"<p>At IoU {figures['iou']:g}: lost in the net after which no box has the face any "
        f"more.</p><p>{keys}</p>",
        _table(
            ["faces", "", "number", "found", *(f"lost in {row['net']}" for row in stages)],
            lost,
            left=(0, 1),
        ),
        f'<p class="soft">{len(figures["skipped"]):,} pictures were skipped, as they can not be '
        "read.</p>"
        if figures["skipped"]
        else "",
        "<h3>What it finds</h3>",
        _figure(
            folder / "detections.png",
            "Held-out pictures: boxes in green with their scores, "
            "labelled faces in yellow where they were found, in red where not",
        ),
        _figure(folder / "misses.png", "Faces that were missed"),
        _figure(
            folder / "false_alarms.png",
            "False alarms with the highest scores: some may be faces that nobody labelled",
        ),
    )


def _limits(run):
    """Recall and boxes as far as each net, beside its limits."""
    rows = []
    for name in TRAINED:
        path = run.figures_folder(name) / "stages.json"
        if path.exists():
            figures = stage_figures.read(path)
            floor, most = limits.of(name, run.settings)
            boxes = limits.boxes_per_face(figures)
            rows.append(
                [
                    name,
                    _text(" + ".join(row["net"] for row in figures["stages"])),
                    _marked(f"{figures['recall']:.3f}", figures["recall"] < floor),
                    f"{floor:g}",
                    _marked(f"{boxes:.1f}", boxes > most),
                    f"{most:g}",
                ]
            )
    return (
        _table(
            ["as far as", "cascade", "recall", "at least", "boxes a face", "at most"],
            rows,
            left=(0, 1),
        )
        if rows
        else ""
    )


def _nets(run):
    budgets, figures, curves = [], [], []
    for name in TRAINED:
        log = run.out / name / "log.jsonl"
        rows = read_log(log)
        if not rows:
            continue
        last = rows[-1]
        row, val = run.budget(name), last["val"]
        net = _text(row["net"] + (" with landmarks" if row["landmark"] else ""))
        budgets.append(
            [
                name,
                net,
                row["input"],
                f"{row['params']:,}",
                f"{row['budget_m']:.3f}",
                f"{row['macs'] / 1e6:.3f}",
            ]
        )
        figures.append(
            [
                name,
                net,
                last["epoch"],
                *(
                    "" if val.get(key) is None else f"{val[key]:.4f}"
                    for key in (
                        "accuracy",
                        "accuracy_hard",
                        "precision",
                        "recall",
                        "box_error",
                        "landmark_error",
                        "mean_face_error",
                    )
                ),
            ]
        )
        curves.append(_figure(run.out / name / "curves.png", f"{name}: training, by epoch"))
    if not budgets:
        return ""
    return _section(
        "nets",
        "Nets",
        "<p>What they cost, for one input of the size that train-mtcnn's tables are "
        "for: M by their rule (2<sup>20</sup>, batch norms merged, a Pnet without its box "
        "branch), and 10<sup>6</sup> plain multiply-adds.</p>",
        _table(
            ["step", "net", "input", "parameters", "M", "10<sup>6</sup> MACs"], budgets, left=(0, 1)
        ),
        "<p>What they reached after the last epoch, on crops of held-out pictures; precision and "
        "recall at a score of 0.5, errors in sides of the crop, that of landmarks beside the "
        "error of the mean face.</p>",
        _table(
            [
                "step",
                "net",
                "epochs",
                "accuracy",
                "hardest 70 %",
                "precision",
                "recall",
                "box error",
                "landmarks",
                "mean face",
            ],
            figures,
            left=(0, 1),
        ),
        "<h3>Recall of the cascade as far as each net</h3>",
        _limits(run),
        *curves,
    )


def _data(run):
    if is_new(run.data.folder):  # not drawn yet
        return ""
    rows = []
    for split, face_set in run.data.sets.items():
        counts = face_set.counts
        rows.append(
            [
                split,
                f"<code>{_text(face_set.truth)}</code>",
                f"{counts['pictures']:,}",
                f"{counts['faces']:,}",
                f"{counts['invalid']:,}",
                f"{counts['zero_sized']:,}",
            ]
        )
    kind = (
        "drawn by this program, so every box is exact; nets trained on them are no use on "
        "photographs"
        if run.data.drawn
        else f"given as {run.data.folder}"
    )
    more = (
        ""
        if "val" in run.data.sets
        else f"<p>Training pictures are held out to measure on, as "
        f"there is no val split: {_text(run.data.no_val)}</p>"
    )
    if run.teacher:
        more += (
            f"<p>A teacher, the detector {_text(run.teacher.name)}, was asked about the labels: "
            "what it finds and nobody labelled is no background, and labelled faces to which it "
            "gives hardly any score are left out.</p>"
        )
    if run.landmarks:
        more += f"<p>Landmarks: <code>{_text(run.faces)}</code></p>"
    return _section(
        "data",
        "Data",
        f"<p>Pictures {_text(kind)}.</p>",
        _table(
            ["split", "ground truth", "pictures", "faces", "invalid", "without size"],
            rows,
            left=(0, 1),
        ),
        more,
    )


def _samples(run):
    rows, mosaics = [], []
    for name, step in run.plan.steps.items():
        made = step.path / "store.json"
        if not made.exists():
            continue
        said = facts_of(made)
        left_out = ", ".join(
            f"{n:,} {reason}" for reason, n in said.get("left_out", {}).items() if n
        )
        rows.append(
            [
                name,
                f"{said['size']} px",
                *(f"{said['counts'][kind]:,}" if kind in said["counts"] else "" for kind in KINDS),
                f"{len(said.get('skipped', [])):,}",
                _text(left_out),
            ]
        )
        mosaics.append(_figure(step.path / "mosaic.png", f"{name}: samples by kind"))
    if not rows:
        return ""
    return _section(
        "samples",
        "Samples",
        "<p>Crops that the nets learn from: positives and parts by their IoU "
        "with a face, negatives cut at random (samples) or taken from what the cascade so far "
        "wrongly holds for faces (mine).</p>",
        _table(
            [
                "store",
                "size",
                "positive",
                "part",
                "negative",
                "landmark",
                "pictures skipped",
                "boxes left out",
            ],
            rows,
            left=(0, 7),
        ),
        '<details open="open"><summary>Some of each</summary>',
        *mosaics,
        "</details>",
    )


def _settings(run):
    other = run.differing()

    def lines(chosen):
        return [[f"<code>{_text(part)}</code>" for part in row] for row in chosen]

    return _section(
        "settings",
        "Settings",
        _table(["differing from the default", "value", "default"], lines(other), left=(0, 1, 2))
        if other
        else "<p>All are at their defaults.</p>",
        "<details><summary>All settings</summary>",
        _table(["setting", "value"], lines(values(run.settings).items()), left=(0, 1)),
        "</details>",
    )


def _steps(run):
    seconds, rows = run.plan.seconds(), []
    for step, state in run.plan.states(list(run.plan.steps.values())):
        if step.run is None:
            continue
        now = _text(f"{state.kind}: {state.why}" if state.why else state.kind)
        rows.append(
            [
                step.name,
                _text(step.title),
                clock(seconds[step.name]) if step.name in seconds else "",
                now if state.kind == DONE else f'<span class="warn">{now}</span>',
            ]
        )
    rows.append(["together", "", clock(sum(seconds.values())), ""])
    return _section("steps", "Steps", _table(["step", "what", "took", "now"], rows, left=(0, 1, 3)))


def write(path, run):
    """Write the page of a core.pipeline.run.Run to the file `path`, of as much as there is."""
    name, figures = summary.figures(run, run.plan.steps.values()) or (None, None)
    title = " + ".join(run.nets.values())
    sections = {
        "recall": "Recall",
        "nets": "Nets",
        "data": "Data",
        "samples": "Samples",
        "settings": "Settings",
        "steps": "Steps",
    }
    body = [
        _stages(run, name, figures),
        _nets(run),
        _data(run),
        _samples(run),
        _settings(run),
        _steps(run),
    ]
    links = "".join(
        f'<a href="#{key}">{words}</a>'
        for key, words in sections.items()
        if any(f'<section id="{key}"' in part for part in body)
    )
    under = (
        f"A cascade of face detectors, recipe {run.recipe}, trained on "
        f"{'drawn pictures' if run.data.drawn else run.data.folder.resolve().name}"
        + (
            f"; what is measured here goes as far as {name}"
            if name and name != list(TRAINED)[-1]
            else ""
        )
    )
    write_text(
        path,
        f"""<!DOCTYPE html>
<html lang="en">
<head><meta charset="utf-8" /><meta name="viewport" content="width=device-width" />
<title>{_text(title)}</title><style>{STYLE}</style></head>
<body>
<h1>{_text(title)}</h1>
<p class="soft">{_text(under)}</p>
<nav>{links}</nav>
{_tiles(run, figures)}
{"".join(body)}
</body>
</html>
""",
    )

"""Makes one set of annotated pictures out of several.

    python -m prepare_data.combine --out SET --split train --source crowds DIR/images LIST \
        --source web DIR/images LIST --most web=1800

leaves a set laid out like WIDER FACE: SET/SET_train_bbx_gt.txt, and in SET/images a link to each
source's folder of pictures. A picture's path begins with the name of its source, which is how
core.evaluate tells sources apart. Another split goes into the same SET by another call.
"""

import argparse
import os
import zlib
from pathlib import Path

import numpy as np

from core.base import options
from facelet.console import Problem, program
from facelet.files import write_text
from facelet.locks import locked
from prepare_data import wider


def chosen(annotations, most, seed):
    """`most` of some Annotations, drawn by their paths alone, in their order."""
    ranks = [zlib.crc32(f"{seed} {one.path}".encode()) for one in annotations]
    return [annotations[i] for i in np.sort(np.argsort(ranks, kind="stable")[:most])]


def entry(annotation, source=None):
    """The lines of an Annotation in a *_bbx_gt.txt, its path below the folder `source` if given."""
    invalid = np.zeros((len(annotation.ignored), len(wider.ATTRIBUTES)), np.int8)
    invalid[:, wider.INVALID] = 1
    boxes = np.concatenate([annotation.boxes, annotation.ignored]).astype(np.float64)
    xywh = np.concatenate([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]], axis=1)
    attributes = np.concatenate([annotation.attributes, invalid])
    rows = [
        " ".join([*(f"{value:.6g}" for value in box), *map(str, of_box)])
        for box, of_box in zip(xywh.tolist(), attributes.tolist())
    ] or [" ".join("0" * 10)]
    path = f"{source}/{annotation.path}" if source else annotation.path
    return [path, str(len(xywh)), *rows]


def combine(sources, out, split, most, seed=0):
    """Write the list of a split of a set at `out`, and links to its pictures; prints what it has.

    sources -- [(name, folder of pictures, *_bbx_gt.txt or .mat)]
    most -- {name or name/event: number of pictures taken, drawn by their paths and the seed}

    Raises Problem: a source that isn't there or is named twice, a link in the way.
    """
    out, lines = Path(out), []
    names = [name for name, *_ in sources]
    for name in names:
        if names.count(name) > 1 or "/" in name or name.startswith(".") or not name:
            raise Problem(f"--source {name}: each needs a name of its own, without slashes")
    unknown = [key for key in most if key.split("/")[0] not in names]
    if unknown:
        raise Problem(f"--most {unknown[0]}: there is no source of that name")
    links = {out / "images" / name: Path(images).resolve() for name, images, _ in sources}
    for link, images in links.items():
        if not images.is_dir():
            raise Problem(f"{images} is not there, or no folder")
        if link.exists() and link.resolve() != images:
            raise Problem(
                f"{link} is there already and leads elsewhere: take another name or --out"
            )
    for name, images, listed in sources:
        annotations, _ = wider.read(listed, images)
        wider.check_scale(listed, images, [(one.path, one.boxes) for one in annotations])
        by_key = {}
        for one in annotations:
            event = f"{name}/{one.path.split('/')[0]}"
            by_key.setdefault(event if event in most else name, []).append(one)
        taken = [
            one
            for key, some in by_key.items()
            for one in (chosen(some, most[key], seed) if key in most else some)
        ]
        faces = sum(len(one.boxes) for one in taken)
        print(f"{name}: {len(taken):,} of {len(annotations):,} pictures, {faces:,} faces")
        lines += [line for one in taken for line in entry(one, name)]
    (out / "images").mkdir(parents=True, exist_ok=True)
    for link, images in links.items():
        if not link.exists():
            os.symlink(images, link, target_is_directory=True)
    path = out / f"{out.resolve().name}_{split}_bbx_gt.txt"
    write_text(path, "\n".join(lines) + "\n")
    print(f"{path}: the list; pictures are linked to, not copied")


def main(argv):
    parser = argparse.ArgumentParser(
        prog="python -m prepare_data.combine",
        description="Make one set laid out like WIDER FACE out of several.",
    )
    parser.add_argument("--out", required=True, metavar="SET", help="folder of the new set")
    parser.add_argument("--split", default="train", choices=("train", "val"))
    parser.add_argument(
        "--source",
        required=True,
        nargs=3,
        action="append",
        metavar=("NAME", "IMAGES", "LIST"),
        help="a name, the folder that the list's paths are relative to, and the list: a "
        "*_bbx_gt.txt or .mat; as often as there are sources",
    )
    parser.add_argument(
        "--most",
        action="append",
        default=[],
        metavar="NAME[/EVENT]=N",
        help="take N pictures at most of a source, or of one of its events (folders)",
    )
    parser.add_argument("--seed", type=int, default=0, help="of which these are (default 0)")
    args = options.parse(parser, argv, settings=False)
    most = {}
    for text in args.most:
        key, _, number = text.partition("=")
        if not number.isdecimal() or not int(number):
            raise Problem(f"--most {text}: write NAME=N or NAME/EVENT=N, with N from 1")
        most[key] = int(number)
    with locked(args.out):
        combine(args.source, args.out, args.split, most, args.seed)


if __name__ == "__main__":
    program(main)

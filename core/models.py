"""The included detectors: their nets, and what these cost.

    python -m core.models
    python -m core.models --json

A detector is used by its name: FaceDetector.open("small"), core.detect --model small.
"""

import argparse
import json

from core import flops
from core.base import options
from facelet import nets
from facelet.cascade import scales
from facelet.console import program
from facelet.detector import FaceDetector

PER = {"pnet": "a picture", "rnet": "a crop", "onet": "a crop"}
PICTURE = 640, 480  # that a Pnet's multiply-adds are told for, all levels of its pyramid together


def describe(name):
    """What there is to tell of an included detector, as a dict: the objects of --json."""
    manifest = nets.included()[name]
    paths = nets.in_folder(manifest)[0]
    points = nets.points_in(manifest)
    paths.update(
        {
            f"{number} points": nets.in_folder(manifest, points=number)[0]["landmark"]
            for number in points
        }
    )
    settings = FaceDetector.open(manifest).settings
    return {
        "name": name,
        "default": name == nets.DEFAULT,
        "modes": list(nets.read_manifest(manifest)[1].get(nets.MODES, {})),
        "min_face": settings.min_face,
        "nets": [{"stage": stage, **_net(path, settings)} for stage, path in paths.items()],
        "bytes": sum(path.stat().st_size for path in paths.values()),
    }


def _net(path, settings):
    facts = nets.open_net(path).facts
    size, cell = facts["input"]["size"], facts["cell"]
    sizes = [(size, size)]
    if cell:
        pyramid = scales(*PICTURE, cell, settings.min_face, settings.factor)
        sizes = [tuple(int(side * scale) for side in PICTURE) for scale in pyramid]
    counted = [flops.record(facts["net"], size=one, **facts["options"]) for one in sizes]
    return {
        "net": nets.describe(facts["net"], facts["options"]),
        "file": path.name,
        "params": counted[0]["params"],
        "macs": sum(one["macs"] for one in counted),
    }


def main(argv):
    parser = argparse.ArgumentParser(
        prog="python -m core.models",
        description="The included detectors, their nets, and what these cost.",
        epilog="docs/figures.md has what they find.",
    )
    parser.add_argument("--json", action="store_true", help="print a list of objects")
    args = options.parse(parser, argv, settings=False)
    found = [describe(name) for name in nets.included()]
    if args.json:
        print(json.dumps(found, indent=1))
        return
    for one in found:
        modes = f"; modes {', '.join(one['modes'])}" if one["modes"] else ""
        default = ", the default" if one["default"] else ""
        print(f"{one['name']}{default}: {one['bytes'] / 1000:,.0f} kB{modes}")
        for net in one["nets"]:
            per = PER.get(net["stage"], "a face")
            print(
                f"  {net['stage']:<10} {net['net']:<42}{net['params']:>8,} parameters"
                f"{net['macs'] / 1e6:>8.2f} M multiply-adds {per}"
            )
        print()
    print(
        f"multiply-adds of the pnet: {PICTURE[0]}x{PICTURE[1]}, faces from "
        f"{found[0]['min_face']:g} px, all levels of the pyramid"
    )


if __name__ == "__main__":
    program(main)

"""Nets that others have trained, in MXNet's or ZQCNN's files, as checkpoints of the zoo.

    python -m core.convert pnet20_v1-0016.params det3-dw48-plus.zqparams --out DIR
    python -m core.convert det2.zqparams --out DIR    # with its numbers, det2_bgr.nchwbin

A FILE is an MXNet .params file, either file of a ZQCNN pair (NAME.zqparams, NAME.nchwbin), or the
stem of a pair. Which net of the zoo it is, is found by the names and shapes of its parameters.
Nothing is written unless every net gives the values of the one that it was made from.
"""

import argparse
import re
from dataclasses import replace
from pathlib import Path

import numpy as np

from core.base import options
from core.formats import checkpoint as checkpoints
from core.formats import conversion, fuse, numpy_net, zqcnn_file
from core.formats.checkpoint import describe
from facelet.console import Problem, program
from facelet.files import sha256
from facelet.locks import locked
from symbols import zoo


def _guessed_scheme(made):
    """(order of the landmark points, remark), if it can't be known otherwise."""
    points = made.facts()["points"]
    if not points or made.facts()["scheme"]:
        return None, []
    scheme = made.guessed_scheme()
    return scheme, [
        f'its {points} points are in the order "{scheme}": a guess, from the mirror '
        "symmetry of its mean face"
        if scheme
        else f"the order of its {points} points is unknown"
    ]


def convert(path, numbers=None, net=None, rescale=False):
    """Convert one net.

    path, numbers -- file or stem; for a pair, the file of the numbers where its stem is another
    net -- which it is, where several fit
    rescale -- bring its activations to an ordinary size

    Returns (Checkpoint, epoch, what its manifest should say of its origin, lines to show). Raises
    Problem.
    """
    pair = zqcnn_file.is_pair(path)
    files = (
        (Path(path),)
        if not pair
        else (zqcnn_file.files(path, numbers) if numbers else zqcnn_file.pair(path))
    )
    if not pair and not files[0].is_file():
        raise Problem(
            f"{path} is {'a folder' if files[0].is_dir() else 'not there'}: give a "
            ".params file, or a file or the stem of a ZQCNN pair"
        )
    net = zoo.spec(net).name if net else None
    with np.errstate(all="ignore"):  # values too large are found by running the nets
        made, source, remarks = (
            conversion.from_pair(*files, net) if pair else conversion.from_params(files[0], net)
        )
        size = made.spec.size
        if rescale:
            picture = numpy_net.seeded_input(size)
            before, made = (
                numpy_net.largest_activation(made.graph(), picture),
                conversion.rescaled(made),
            )
            after = numpy_net.largest_activation(made.graph(), picture)
            remarks.append(f"largest activation {before:.3g}, now {after:.3g}")
        made_graph = made.graph()
        made_graph = replace(
            made_graph,
            outputs={
                task: blob for task, blob in made_graph.outputs.items() if task in source.outputs
            },
        )
        difference = fuse.check_sizes(source, made_graph, size, str(files[0]))
    more = {
        key: value
        for key, value in made.manifest.items()
        if key not in ("epoch", "params", "sha256", *made.facts())
    }
    more["source"] = [{"file": file.name, "sha256": sha256(file)} for file in files]
    scheme, about_scheme = _guessed_scheme(made)
    if scheme:
        made.manifest["scheme"] = scheme
        more["scheme_from"] = "mirror symmetry of the mean face"
    epoch = re.search(r"-(\d{4,8})$", files[0].stem)
    return (
        made,
        int(epoch[1]) if epoch else 0,
        more,
        [
            f"{files[0].name} is {describe(made.net, made.options)}; the checkpoint differs from "
            f"it by {difference:.1e} of the largest output",
            *remarks,
            *about_scheme,
        ],
    )


def _refuse_if_there(folder, made, epoch):
    symbol, params, manifest = checkpoints.paths(folder, made.net, epoch)
    there = [path for path in (params, manifest) if path.exists()]
    if symbol.exists() and symbol.read_bytes() != made.symbol().tojson().encode():
        there.append(symbol)  # of the same net with other options
    if there:
        raise Problem(f"{there[0]} is there already: remove it or choose another folder")


def main(argv):
    parser = argparse.ArgumentParser(
        prog="python -m core.convert",
        description="Nets that others have trained, in MXNet's or ZQCNN's files, as checkpoints of "
        "the zoo, each with its manifest.",
        epilog="The checkpoint gets its epoch from the file's name (-0016), else 0.",
    )
    parser.add_argument(
        "files",
        nargs="+",
        metavar="FILE",
        help="a .params file, or a file or the stem of a ZQCNN pair",
    )
    parser.add_argument("--out", required=True, metavar="FOLDER", help="folder for the checkpoints")
    parser.add_argument(
        "--net", metavar="NAME", help="name of the net in the zoo, where several fit the file"
    )
    parser.add_argument(
        "--numbers",
        metavar="FILE",
        help="the .nchwbin file that goes with FILE.zqparams, where their names don't tell",
    )
    parser.add_argument(
        "--rescale",
        action="store_true",
        help="bring activations to an ordinary size, without a change of results",
    )
    args = options.parse(parser, argv, settings=False)
    # Both files of a pair, as a shell's pattern gives them, are one net.
    files = list(
        {
            zqcnn_file.pair(file)[0] if zqcnn_file.is_pair(file) else Path(file): file
            for file in args.files
        }.values()
    )
    if args.numbers and (len(files) > 1 or not zqcnn_file.is_pair(files[0])):
        raise Problem("--numbers goes with one FILE.zqparams")
    made = [convert(file, args.numbers, args.net, args.rescale) for file in files]
    names = [(checkpoint.net, epoch) for checkpoint, epoch, _, _ in made]
    for name in names:
        if names.count(name) > 1:
            alike = [str(file) for file, other in zip(files, names) if other == name]
            raise Problem(
                f"{' and '.join(alike)} are both {name[0]}: give each a folder of its own"
            )
    with locked(args.out):
        for checkpoint, epoch, _, _ in made:
            _refuse_if_there(args.out, checkpoint, epoch)
        for checkpoint, epoch, more, lines in made:
            first, *others = lines
            print(f"{first}\n  {checkpoints.save(args.out, checkpoint, epoch, more)}")
            for line in others:
                print(f"  {line}")


if __name__ == "__main__":
    program(main)

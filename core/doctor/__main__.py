"""What a file is, which net it holds, and what to know before it is used.

    python -m core.doctor FILE...

Told apart are MXNet's .params files and symbols, manifests, ZQCNN's pairs, ONNX models, ncnn's
texts, and stores of samples and cuts, by their folders. Files of which a manifest or a store has
checksums are compared with them. A line that begins with ! is something to know of a file that
works; "wrong" is damage. The exit status is 2 where any file is wrong, missing or of no known kind.
"""

import argparse
from pathlib import Path

from core.base import options
from core.doctor.examine import examine
from core.doctor.report import some
from core.formats import zqcnn_file
from facelet.console import Problem, program


def main(argv):
    parser = argparse.ArgumentParser(
        prog="python -m core.doctor",
        description="What files are, which nets they hold, and what to know about them.",
        epilog="A line with ! is something to know of a file that works. The exit status is 2 "
        "where any file is wrong, missing or of no known kind.",
    )
    parser.add_argument(
        "files",
        nargs="+",
        metavar="FILE",
        help="a .params file, symbol, manifest, ONNX model, ncnn .param, "
        "either file of a ZQCNN pair, or the folder of a store",
    )
    args = options.parse(parser, argv, settings=False)
    # Both files of a pair, as a shell's pattern gives them, are one net.
    files = list(
        {
            zqcnn_file.pair(path) if zqcnn_file.is_pair(path) else path: path
            for path in map(Path, args.files)
        }.values()
    )
    wrong = []
    for path in files:
        report = examine(path)
        print("\n".join(report.lines()))
        if report.damages:
            wrong.append(str(path))
    if wrong:
        raise Problem(
            f"{len(wrong)} of {len(files)} files wrong, missing or of no known kind: {some(wrong)}"
        )


if __name__ == "__main__":
    program(main)

"""Examination of ncnn's files."""

from collections import Counter

from core.doctor.report import counted
from facelet.files import text_lines


def ncnn_text(report):
    """Examine the text of an ncnn net."""
    path = report.path
    lines = [line.split() for line in text_lines(path.read_bytes().decode("utf-8-sig", "replace"))]
    lines = [words for words in lines if words]
    try:
        count, layers = int(lines[1][0]), lines[2:]
        bottoms = [words[4 : 4 + int(words[2])] for words in layers]
        tops = [words[4 + int(words[2]) :][: int(words[3])] for words in layers]
    except (IndexError, ValueError):
        count, layers = None, []
    if count != len(layers):
        report.damage("a damaged net's text of ncnn: copy or export it anew")
        return
    kinds = Counter(words[0] for words in layers)
    report.title = f"{path}: the text of an ncnn net, {count} layers ({counted(kinds)})"
    read = {blob for blobs in bottoms for blob in blobs}
    report.fact(
        "input",
        ", ".join(
            blob for words, blobs in zip(layers, tops) if words[0] == "Input" for blob in blobs
        ),
    )
    report.fact("output", ", ".join(blob for blobs in tops for blob in blobs if blob not in read))
    numbers = path.with_suffix(".bin")
    if numbers.is_file():
        report.fact("numbers", f"{numbers.name}, {numbers.stat().st_size:,} bytes")
    else:
        report.warn(f"{numbers.name}, its numbers, is not beside it")


def ncnn_numbers(report):
    """Examine the numbers of an ncnn net."""
    report.title = (
        f"{report.path}: {report.path.stat().st_size:,} bytes, the numbers of the ncnn "
        f"net in {report.path.with_suffix('.param').name}"
    )

"""Which kind of file a file is, and its examination."""

from core.doctor.json_files import json_file
from core.doctor.ncnn_nets import ncnn_numbers, ncnn_text
from core.doctor.onnx_models import onnx_model
from core.doctor.params_files import params
from core.doctor.report import Report
from core.doctor.stores import folder
from core.doctor.zqcnn_pairs import zqcnn_pair
from core.formats import ncnn_file, params_file, zqcnn_file
from facelet.console import Problem, describe_os_error

OTHER_KINDS = {  # what files begin with
    b"\xff\xd8\xff": "a JPEG picture",
    b"\x89PNG": "a PNG picture",
    b"BM": "a BMP picture",
    b"PK\x03\x04": "a ZIP archive",
    b"\x1f\x8b": "a gzip archive",
    b"\x93NUMPY": "a NumPy array",
}


def _unknown(report):
    with open(report.path, "rb") as file:
        head = file.read(16)
    known = next((kind for begins, kind in OTHER_KINDS.items() if head.startswith(begins)), None)
    report.damage(
        f"{known}: no net"
        if known
        else "empty"
        if not head
        else "of no kind known here: no .params file, symbol, manifest, ONNX model, ZQCNN "
        "pair or ncnn text"
    )


def examine(path):
    """The Report of one file, or of a store by its folder (Path); what is wrong is in there."""
    report = Report(path)
    try:
        if report.path.is_dir():
            folder(report)
        elif not report.path.exists():
            report.damage("not there")
        else:
            _examiner(report.path)(report)
    except Problem as problem:
        report.damage(problem)
    except OSError as error:
        report.damage(describe_os_error(error))
    return report


def _examiner(path):
    """The function that examines a file, by its content where that tells, else by its name."""
    with open(path, "rb") as file:
        head = file.read(16)
    if head.startswith(params_file.HEADER.to_bytes(8, "little")) or path.suffix == ".params":
        return params
    if head.startswith(str(ncnn_file.MAGIC).encode()):
        return ncnn_text
    if path.suffix == ".bin" and path.with_suffix(".param").is_file():
        return ncnn_numbers
    if zqcnn_file.is_pair(path):
        return zqcnn_pair
    if path.suffix == ".onnx":
        return onnx_model
    return json_file if path.suffix == ".json" or head.lstrip().startswith(b"{") else _unknown

"""Memory of the detector, and its first call: core.bench memory.

A process imports what the detector needs, then opens it and detects in a picture several times.
What it holds more at its height than after the imports is the detector's; the first call is held
against the median of those after it. Times are the processor's, so that other programs don't count.
"""

import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

from core.bench.detect import sized
from facelet.console import Problem

MOST_MB, MOST_MS = 40, 10  # aimed at: memory; the first call over the others
CALLS = 10
CHILD = """
import json, sys, time
import cv2, numpy, onnxruntime
from facelet.detector import FaceDetector
nets, file, engine, calls = sys.argv[1:]
picture = numpy.load(file)
def mb(what): # not resource.getrusage, which counts the parent's too
    with open("/proc/self/status") as status:
        (line,) = [line for line in status if line.startswith(what)]
    return int(line.split()[1]) / 1024
before = mb("VmRSS")
times = [time.process_time()]
detector = FaceDetector.open(nets, engine=engine)
times.append(time.process_time())
for _ in range(int(calls)):
    faces = detector.detect(picture)
    times.append(time.process_time())
spent = [1000 * (later - one) for one, later in zip(times, times[1:])]
print(json.dumps({"before": before, "most": mb("VmHWM"), "ms": spent, "faces": len(faces)}))
"""


def measure(nets, picture, engine):
    """MB of imports, and of the detector beside them; ms of opening, of first and later calls."""
    with tempfile.TemporaryDirectory() as folder:
        np.save(Path(folder, "picture.npy"), picture)
        words = [sys.executable, "-c", CHILD, nets, f"{folder}/picture.npy", engine, CALLS]
        done = subprocess.run([str(word) for word in words], capture_output=True, text=True)
    if done.returncode:
        raise Problem(f"the detector did not run: {done.stderr.strip().splitlines()[-1]}")
    found = json.loads(done.stdout)
    opened, first, *others = found["ms"]
    return {
        "engine": engine,
        "imports_mb": found["before"],
        "mb": found["most"] - found["before"],
        "open_ms": opened,
        "first_ms": first,
        "ms": statistics.median(others),
        "faces": found["faces"],
    }


def run(nets, picture, size, as_json):
    """Measure at one of detect.SIZES and print, for each engine. Raises Problem."""
    rows = [measure(nets, sized(picture, size), engine) for engine in ("c", "onnxruntime")]
    if as_json:
        print(json.dumps(rows, indent=1))
        return
    print(f"{size}, {rows[0]['faces']} faces; beside the imports' {rows[0]['imports_mb']:.0f} MB")
    print(f"{'':<12}{'MB':>8}{'open ms':>9}{'first ms':>9}{'ms':>9}")
    for row in rows:
        print(
            f"{row['engine']:<12}{row['mb']:>8.1f}{row['open_ms']:>9.1f}"
            f"{row['first_ms']:>9.1f}{row['ms']:>9.1f}"
        )
    ours, late = rows[0], rows[0]["first_ms"] - rows[0]["ms"]
    print(
        f"aims: {MOST_MB} MB, {'met' if ours['mb'] <= MOST_MB else 'missed'}; the first call "
        f"{MOST_MS} ms over the others, {'met' if late <= MOST_MS else 'missed'} ({late:.1f})"
    )

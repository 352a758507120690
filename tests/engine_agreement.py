"""Whole detections by the engine and by NumPy and onnxruntime, on pictures of one's own:

    python tests/engine_agreement.py FOLDER [NETS]

prints how many faces both find, and those that differ: in number, or by more than 0.01 px, each
with its score. There the two have decided otherwise where the last bit of a score decides, as
between two boxes of one face with scores of 1 and 0.9999999.
"""

import sys
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from facelet import FaceDetector
from facelet import picture as pictures
from facelet.console import Problem, Progress, program
from facelet.nets import MODELS

NEAR = 0.01  # px


def main(argv):
    if not 1 <= len(argv) <= 2:
        raise Problem("give a folder of pictures and, if you like, one of nets")
    files = pictures.in_folder(argv[0])
    if not files:
        raise Problem(f"{argv[0]} holds no pictures")
    nets = argv[1] if argv[1:] else MODELS
    compiled, plain = (FaceDetector.open(nets, engine=kind) for kind in ("c", "onnxruntime"))
    faces, other, worst, progress = 0, [], 0.0, Progress(len(files), "pictures")
    for file in files:
        picture = pictures.read(file)
        found, wanted = compiled.detect(picture), plain.detect(picture)
        faces += len(wanted)
        progress.step()
        if len(found) != len(wanted):
            other.append(f"{file}: {len(found)} faces, not {len(wanted)}")
            continue
        for box, score in zip(wanted.boxes, wanted.scores):
            apart = np.abs(found.boxes - box).max(axis=1)
            nearest = int(apart.argmin())
            worst = max(worst, abs(float(found.scores[nearest]) - float(score)))
            if apart[nearest] > NEAR:
                other.append(
                    f"{file}: a box with the score {score:.7f}, by {apart[nearest]:.2f} px"
                )
    progress.close()
    print("\n".join(other))
    print(f"{len(files):,} pictures, {faces:,} faces: {len(other)} differ; scores by {worst:.1e}")


if __name__ == "__main__":
    program(main)

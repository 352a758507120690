"""The pictures of a run, to train on and to measure on; drawn where none are given."""

import dataclasses
import hashlib
from functools import cached_property
from pathlib import Path

from facelet.console import Problem
from facelet.files import is_new, read_json, sha256, write_json
from prepare_data import wider
from prepare_data.drawn import sets as drawn


def _sizes(face_set):
    """Size in bytes by path of the pictures that are there."""
    sizes = {}
    for annotation in face_set.annotations:
        try:
            sizes[annotation.path] = (face_set.images / annotation.path).stat().st_size
        except OSError:  # missing from the start: passed over and named by every step
            pass
    return sizes


class Data:
    """Pictures laid out like WIDER FACE.

    folder -- with the pictures
    count -- pictures of the sample set that draw() makes there; None where the folder is given
    """

    def __init__(self, folder, count=None):
        self.folder, self.count, self.drawn = Path(folder), count, count is not None

    def draw(self):
        self.__dict__.pop("sets", None)
        drawn.draw_sample_set(self.folder, self.count)

    @cached_property
    def sets(self):
        """The FaceSets by split; val may be missing, and no_val says why."""
        found = {"train": wider.open_set(self.folder, "train")}
        try:
            found["val"] = wider.open_set(self.folder, "val")
        except Problem as problem:
            self.no_val = str(problem)
        return found

    def proof(self, *splits):
        """Fingerprint of the ground truth of splits: content, paths and sizes of the pictures."""
        digest = hashlib.sha256()
        for split in splits:
            face_set = self.sets[split]
            digest.update(f"{split} {sha256(face_set.truth)}\n".encode())
            for picture, size in _sizes(face_set).items():
                digest.update(f"{size} {picture}\n".encode())
        return digest.hexdigest()

    def held_out(self, store, train):
        """The FaceSet to measure on: the val split or, without one, the training pictures that
        training holds out.

        store -- a Store cut from the training pictures; train -- config.train
        """
        if "val" in self.sets:
            return self.sets["val"]
        from prepare_data.held_out import is_held_out, rule_of

        face_set, paths = self.sets["train"], store.pictures()
        rule = rule_of(paths, train.val_fraction, train.seed)
        chosen = [i for i, out in enumerate(is_held_out(paths, rule)) if out]
        print(f"{self.no_val}; measured on the {len(chosen)} training pictures held out instead")
        return dataclasses.replace(face_set, annotations=[face_set.annotations[i] for i in chosen])

    def check_pictures(self, noted):
        """Raise Problem where pictures that were there have gone, while the ground truth still
        has them. Keeps the list of those that are there in the file `noted`."""
        if self.drawn and is_new(self.folder):
            return
        now = {
            split: {
                "truth": sha256(face_set.truth),
                "images": str(face_set.images),
                "sizes": _sizes(face_set),
            }
            for split, face_set in self.sets.items()
        }
        for split, before in (read_json(noted) if noted.exists() else {}).items():
            if split not in now or before["truth"] != now[split]["truth"]:
                continue
            gone = sorted(set(before["sizes"]) - set(now[split]["sizes"]))
            if gone:
                more = f" and {len(gone) - 1:,} more" if gone[1:] else ""
                raise Problem(
                    f"{now[split]['images']}/{gone[0]}{more} vanished since this run "
                    "began: put it back, or take it out of the ground truth to go on "
                    "without"
                )
        if not noted.exists() or read_json(noted) != now:
            write_json(noted, now)

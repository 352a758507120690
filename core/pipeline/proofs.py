"""Fingerprints of what steps read and leave, by content; None while a result isn't whole."""

import hashlib

from facelet.files import sha256
from facelet.nets import MANIFEST


def file(name=""):
    """A Step's proof: the hash of a file that a whole result holds ("" for the path itself)."""

    def proof(path):
        found = path / name if name else path
        return sha256(found) if found.is_file() else None

    return proof


def content(path):
    """Of a file, or of all files in a folder."""
    if path.is_file():
        return sha256(path)
    digest = hashlib.sha256()
    for each in sorted(each for each in path.rglob("*") if each.is_file()):
        digest.update(f"{sha256(each)} {each.relative_to(path)}\n".encode())
    return digest.hexdigest()


def parameters(path):
    """Of a .params file, which is whole when its manifest is there."""
    return sha256(path) if path.with_suffix(".json").exists() and path.exists() else None


def figures(path):
    """Of a folder that core.evaluate.stages has written; false_alarms.png comes last."""
    return sha256(path / "stages.json") if (path / "false_alarms.png").exists() else None


def detector(path):
    """Of a folder of nets, whose manifest comes last."""
    return content(path) if (path / MANIFEST).exists() else None

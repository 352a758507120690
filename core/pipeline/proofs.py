"""Fingerprints of what steps read and leave, by content; None while a result isn't whole."""

import hashlib

from facelet.console import Problem
from facelet.files import damage, known_sums, read_json, sha256
from facelet.nets import MANIFEST


def file(name=""):
    """A Step's proof: the hash of a file that a whole result holds ("" for the path itself)."""

    def proof(path):
        found = path / name if name else path
        return sha256(found) if found.is_file() else None

    return proof


class Damaged(Problem):
    """A result isn't as it was made: it can't be used, and can be made again."""


def listed(name, *pictures):
    """A Step's proof: the hash of a file of a store that is written last and has the checksums of
    the others, all of which are compared; raises Damaged. Files of former versions have none. What
    is drawn of the store, `pictures`, must be there too."""

    def proof(path):
        found = path / name
        if not all((path / each).is_file() for each in (name, *pictures)):
            return None
        try:
            damaged = damage(path, known_sums(read_json(found), found))
        except Problem as problem:
            damaged = [str(problem)]
        if damaged:
            more = f" and {len(damaged) - 1} more" if len(damaged) > 1 else ""
            raise Damaged(f"{path} is damaged: {damaged[0]}{more}")
        return sha256(found)

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

"""Files and folders that appear whole or not at all, and content hashes."""

import contextlib
import hashlib
import json
import math
import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path, PurePath
from typing import Any, Union

from facelet import locks
from facelet.console import Problem
from facelet.locks import locked
from facelet.settings import OUTSIDE_VARIABLE, outside

MANY = 100  # files: that many are faster on the disk with everything else that waits for it
AnyPath = Union[str, os.PathLike[str]]


def _to_disk(path: Path) -> None:
    """Have a file's or folder's content on the disk: a name that outlives a power failure must not
    be of content that doesn't."""
    if path.is_dir() and os.name == "nt":  # has no such call for folders
        return
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _all_to_disk(folder: Path) -> None:
    """Have a folder with all that is in it on the disk."""
    inner = [path for path in folder.rglob("*") if not path.is_symlink()]
    if len(inner) > MANY and hasattr(os, "sync"):  # one by one takes some ms each
        os.sync()
        return
    for path in (*inner, folder):
        _to_disk(path)


def _temporary(path: AnyPath) -> Path:
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    return path.parent / f".{path.name}.part"  # the same each time: a rerun clears what a kill left


@contextlib.contextmanager
def whole_file(path: AnyPath) -> Iterator[Path]:
    """Give a temporary path beside `path`; it takes its place when the block ends well and
    is removed when it doesn't. The suffix is kept, as cv2 and matplotlib go by it."""
    path = Path(path)
    part = _temporary(path).with_suffix(".part" + path.suffix)
    try:
        yield part
        _to_disk(part)
        os.replace(part, path)
        _to_disk(path.parent)
    finally:
        part.unlink(missing_ok=True)


def is_new(path: AnyPath) -> bool:
    """Whether nothing is at `path`, or an empty folder: what any program may write to."""
    path = Path(path)
    if not path.is_dir():
        return not os.path.lexists(path)
    return all(inner.name == locks.INSIDE for inner in path.iterdir())


def check_new(path: AnyPath) -> None:
    """Raise Problem unless a folder can be made at `path`: nothing is there, or an empty one."""
    if not is_new(path):
        raise Problem(f"{path} is there already: remove it or choose another folder")


@contextlib.contextmanager
def whole_folder(path: AnyPath) -> Iterator[Path]:
    """Give a temporary folder beside `path`; it takes its name when the block ends well and
    is removed when it doesn't. The path is locked meanwhile (facelet.locks). Raises Problem if
    something is there already, but for an empty folder, or another run is writing it."""
    with locked(path):
        check_new(path)
        if os.path.ismount(path):
            raise Problem(
                f"{path} is a mount point, which can't be made at a stroke: choose a folder in it"
            )
        real = Path(os.path.realpath(path))  # a link to an empty folder stays one
        part = _temporary(real)
        shutil.rmtree(part, ignore_errors=True)
        part.mkdir()
        try:
            yield part
            _all_to_disk(part)
            if real.is_dir():  # Windows replaces no folders
                real.rmdir()
            os.replace(part, real)
            _to_disk(real.parent)
        finally:
            shutil.rmtree(part, ignore_errors=True)


def write_text(path: AnyPath, text: str) -> None:
    with whole_file(path) as part:
        part.write_text(text, encoding="utf-8")


def decode_text(data: bytes, path: AnyPath) -> str:
    """The text that is the content of the file `path`: UTF-8, with or without a byte order mark.
    Problem where it is none."""
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise Problem(f"{path} can't be read as UTF-8 ({error}): save it so") from None


def read_text(path: AnyPath) -> str:
    """The text in a file, as decode_text(). Problem, too, where it can't be read."""
    try:
        data = Path(path).read_bytes()
    except OSError as error:
        raise Problem(f"{path} can't be read ({error.strerror})") from None
    return decode_text(data, path)


def text_lines(text: str) -> list[str]:
    """Lines that end as those of Unix, Windows or old Macs do, and as nothing else does: a file's
    name may have other characters that str.splitlines takes for an end. A byte order mark before
    one, as in texts put together of several, is left out."""
    lines = text.replace("\r\n", "\n").replace("\r", "\n").split("\n")
    return [line.lstrip("\ufeff") for line in (lines if lines[-1] else lines[:-1])]


def read_lines(path: AnyPath) -> list[str]:
    """The lines of the text in a file, see text_lines(). Raises as read_text() does."""
    return text_lines(read_text(path))


def to_json(value: Any, **options: Any) -> str:
    """JSON text; NaN, which JSON has not, becomes null."""

    def known(part: Any) -> Any:
        if isinstance(part, dict):
            return {key: known(inner) for key, inner in part.items()}
        if isinstance(part, (list, tuple)):
            return [known(inner) for inner in part]
        return None if isinstance(part, float) and math.isnan(part) else part

    return json.dumps(known(value), allow_nan=False, **options)


def write_json(path: AnyPath, value: Any) -> None:
    write_text(path, to_json(value, indent=1) + "\n")


def read_json(path: AnyPath) -> Any:
    """The value in a JSON file; Problem when it is missing or broken."""
    try:
        # Not read_text(): what is no JSON is told of in one way, whatever it is instead.
        return json.loads(Path(path).read_bytes().decode("utf-8-sig"))
    except FileNotFoundError:
        raise Problem(f"{path} is not there") from None
    except (ValueError, RecursionError) as error:  # no JSON, no text, numbers or nesting too long
        raise Problem(
            f"{path} is not valid JSON ({error}): it was damaged or is another kind of file"
        ) from None


def differences(now: dict[str, Any], then: dict[str, Any], prefix: str = "") -> list[str]:
    """What differs between two dicts of JSON values: lines like "train.lr was 0.3, is 0.1"."""
    found = []
    for key in sorted({*now, *then}):
        a, b = now.get(key), then.get(key)
        if isinstance(a, dict) and isinstance(b, dict):
            found += differences(a, b, f"{prefix}{key}.")
        elif a != b:
            found.append(f"{prefix}{key} was {b}, is {a}")
    return found


SETTLED = 2.0  # s: a file that changed later may change again within one tick of its time stamps
_known: dict[tuple[Any, ...], str] = {}


def sha256(path: AnyPath) -> str:
    """Hex digest of a file's content. Of a file that hasn't changed since this process read it,
    going by its time stamps and size, it is known."""
    about = os.stat(path)
    key = (about.st_dev, about.st_ino, about.st_size, about.st_mtime_ns, about.st_ctime_ns)
    settled = time.time() - max(about.st_mtime, about.st_ctime) > SETTLED
    if settled and key in _known:
        return _known[key]
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        for chunk in iter(lambda: file.read(1 << 20), b""):
            digest.update(chunk)
    if settled:
        _known[key] = digest.hexdigest()
    return digest.hexdigest()


def checksums(folder: AnyPath) -> dict[str, str]:
    """sha256 of every file in a folder, by its path in there."""
    folder = Path(folder)
    return {
        path.relative_to(folder).as_posix(): sha256(path)
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def damage(folder: AnyPath, sums: dict[str, str]) -> list[str]:
    """What is wrong with the files in a folder, going by what checksums() was when they were made:
    lines, none where all is well. Other files in the folder don't count."""
    found = []
    for name, digest in sums.items():
        path = Path(folder) / name
        if not path.is_file():
            found.append(f"{name} is not there")
        elif sha256(path) != digest:
            found.append(f"{name} has changed since it was made")
    return found


def known_sums(facts: Any, path: AnyPath) -> dict[str, str]:
    """The checksums that JSON values of the file at `path` give of other files in its folder, by
    their paths; none in files of former versions. Raises Problem for what can't be any."""
    sums = facts.get("checksums", {}) if isinstance(facts, dict) else {}
    if not isinstance(sums, dict) or not all(
        isinstance(digest, str) and stays_inside(name) for name, digest in sums.items()
    ):
        raise Problem(f"{path} is damaged: its checksums can't be used")
    return sums


def stays_inside(name: str) -> bool:
    """Whether a path that a file of data has lies in the folder that it is relative to. Links in
    the folder are followed, wherever they lead: who put the folder there made them."""
    path = PurePath(name)
    return not (path.is_absolute() or path.drive or "\0" in name) and (
        PurePath(os.path.normpath(path)).parts[:1] != ("..",)
    )


def refuse_outside(name: str, source: object) -> None:
    """Raise Problem where a path to read, in the file of data `source`, leaves the folder that it
    is relative to, and that is not allowed (facelet.settings.allow_outside)."""
    if not (outside() or stays_inside(name)):
        raise Problem(f"{source}: {name!r} {OUTSIDE}")


OUTSIDE = (
    "lies outside of the folder that it should be in, and is not read: if that is meant, allow it "
    f"with --outside (facelet), data.outside=True (the toolkit) or {OUTSIDE_VARIABLE}=1"
)


def path_to_write(folder: AnyPath, name: str) -> Path:
    """The path of a file to write in a folder, by a name that a file of data has. Raises Problem
    where that leaves the folder, whatever is allowed."""
    if not stays_inside(name):
        raise Problem(f"{name!r} lies outside of {folder}: it is not written")
    return Path(folder) / name

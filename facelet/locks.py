"""Locks on folders and files that are written, so that no two runs write the same.

A lock is the operating system's: flock(), on Windows a locked byte. It ends with its process,
however that ends, so that nobody has to tell a dead run's lock from a living one's. It lies on a
file beside what is locked, .NAME.lock, which says who holds it and goes with the lock: inside, it
would be there before the folder is, be renamed with it, and count as content. Only where nothing
can be made beside a folder, at a mount point, it is in there.

(The package filelock has locks of this kind too. It tells nobody who holds them, lets its files
lie, and would be a dependency of whoever detects faces.)
"""

import contextlib
import datetime
import errno
import json
import os
import shlex
import socket
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Optional, Union

from facelet.console import Problem

INSIDE = ".lock"  # a lock's file in a folder beside which none can be
AT = 1 << 30  # the byte locked on Windows: beyond the text, which others may then read
SHOWN = 200  # characters of a command line
HELD = (errno.EAGAIN, errno.EACCES, errno.EDEADLK)
WITHOUT = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOTSUP, errno.EINVAL)

_holders: dict[Path, int] = {}  # threads of this process, by what they have locked


if sys.platform == "win32":
    import msvcrt

    def _take(handle: int) -> None:
        os.lseek(handle, AT, os.SEEK_SET)
        msvcrt.locking(handle, msvcrt.LK_NBLCK, 1)
else:
    import fcntl

    def _take(handle: int) -> None:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)


@contextlib.contextmanager
def locked(path: Union[str, os.PathLike[str]]) -> Iterator[None]:
    """Keep other runs from writing the folder or file at `path`, which need not be there yet, as
    long as the block runs. Within the block, the same thread may lock it again.

    Raises Problem, which says who, where another run writes it."""
    real = Path(os.path.realpath(path))
    if _holders.get(real) == threading.get_ident():
        yield
        return
    file = _file(real)
    made = [folder for folder in file.parents if not folder.exists()]
    handle = _acquire(path, file)
    _holders[real] = threading.get_ident()
    try:
        yield
    finally:
        del _holders[real]
        if handle is not None:
            _release(file, handle)
        for folder in made:  # if nothing came of it
            with contextlib.suppress(OSError):
                folder.rmdir()


def _file(path: Path) -> Path:
    """The lock's file for a path without links."""
    if path.is_dir() and (os.path.ismount(path) or not os.access(path.parent, os.W_OK)):
        return path / INSIDE
    return path.with_name(f".{path.name}.lock")


def _acquire(path: Union[str, os.PathLike[str]], file: Path) -> Optional[int]:
    """The open file that has the lock; None where the file system has no locks."""
    while True:
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
        except FileExistsError:  # which says less
            where = os.path.dirname(path)
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), where) from None
        # Not through a link: what lies there is written over.
        flags = os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0)
        handle = os.open(file, flags, 0o666)
        try:
            _take(handle)
            if _is(file, handle):
                os.ftruncate(handle, 0)
                os.lseek(handle, 0, os.SEEK_SET)
                os.write(handle, json.dumps(_about()).encode())
                return handle
            os.close(handle)  # its holder has just ended, and taken the file away
        except OSError as error:
            who = _who(handle)
            os.close(handle)
            if error.errno in HELD:
                raise Problem(
                    f"{path} is being written by {who}: wait until that ends, or choose another "
                    "place"
                ) from None
            if error.errno not in WITHOUT:
                raise
            with contextlib.suppress(OSError):
                file.unlink()
            print(
                f"note: {file.parent} is on a file system without locks: see to it that no other "
                f"run writes {path}",
                file=sys.stderr,
            )
            return None


def _release(file: Path, handle: int) -> None:
    if sys.platform == "win32":  # which removes no open files
        os.close(handle)
        with contextlib.suppress(OSError):
            file.unlink()
        return
    if _is(file, handle):
        with contextlib.suppress(OSError):
            file.unlink()
    os.close(handle)


def _is(file: Path, handle: int) -> bool:
    """Whether an open file is still that of this name."""
    try:
        return os.path.samestat(os.stat(file), os.fstat(handle))
    except FileNotFoundError:
        return False


def _about() -> dict[str, Union[int, str]]:
    """What others are told of this process."""
    words = getattr(sys, "orig_argv", sys.argv)  # from Python 3.10 on
    return {
        "pid": os.getpid(),
        "host": socket.gethostname(),
        "command": " ".join(shlex.join(words).split())[:SHOWN],
        "since": datetime.datetime.now().astimezone().isoformat(" ", "seconds"),
    }


def _who(handle: int) -> str:
    """The holder of a lock in words, as far as its file has them already."""
    try:
        os.lseek(handle, 0, os.SEEK_SET)
        about = json.loads(os.read(handle, 1 << 16))
        return (
            f"process {about['pid']} on {about['host']} since {about['since']} ({about['command']})"
        )
    except (OSError, ValueError, LookupError, TypeError):
        return "another process"

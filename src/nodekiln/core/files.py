"""Files: reads and writes that follow no link and wait for no pipe; staging directories, full disks."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
import shutil
import stat
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

from nodekiln.core import limits
from nodekiln.core.errors import SourceError
from nodekiln.core.platform import free_disk
from nodekiln.core.reporting import format_size

NO_FOLLOW = getattr(os, "O_NOFOLLOW", 0)  # Windows has none
_NO_WAIT = getattr(os, "O_NONBLOCK", 0)
_CHUNK = 2**20
_TEMPORARY = "nodekiln-"
_MARKER = ".nodekiln-temporary"
_DISK_FULL_CODES = (errno.ENOSPC, errno.EDQUOT)
_DISK_FULL_TEXT = re.compile(
    r"^(?!remote:).*(?:\bENOSPC\b|\bEDQUOT\b|no space left on device|disk quota exceeded)",
    re.IGNORECASE | re.MULTILINE,
)
MAKE_ROOM = (
    "Free some disk space (./inv clean removes what is no longer needed), or set NODEKILN_BUILD to a folder"
    " on another disk."
)


def atomic_write(path: Path, content: bytes) -> None:
    """Replace `path` in one rename: readers see the old content or the new.

    A symbolic link in its place is replaced, not followed. Of processes that write at the same time one wins.
    Raises OSError, and then leaves the old content.
    """
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".new", dir=path.parent)
    staging = Path(name)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
        staging.chmod(0o666 & ~_umask())
        staging.replace(path)
    except BaseException:
        staging.unlink(missing_ok=True)
        raise


def _umask() -> int:
    current = os.umask(0o022)
    os.umask(current)
    return current


def open_regular(path: Path, *, follow: bool = False) -> IO[bytes]:
    """Open a regular file for reading, without waiting for a pipe; a link only with `follow`.

    Raises OSError, also for anything that is not a regular file.
    """
    handle = os.open(path, os.O_RDONLY | _NO_WAIT | (0 if follow else NO_FOLLOW))
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        os.close(handle)
        raise OSError(errno.EINVAL, "not a regular file", str(path))
    return os.fdopen(handle, "rb", buffering=0)


def read_regular(path: Path, *, follow: bool = False) -> bytes:
    """Return the content of a regular file. Raises OSError, also for more than `limits.RECORD` bytes."""
    with open_regular(path, follow=follow) as file:
        content = file.read(limits.RECORD + 1) or b""
    if len(content) > limits.RECORD:
        raise OSError(errno.EFBIG, f"it has more than {format_size(limits.RECORD)}", str(path))
    return content


def read_json(path: Path) -> Any:
    """Return the value of a JSON file of our own.

    Raises OSError if it can't be read, ValueError if it is damaged: FileNotFoundError for a missing one.
    """
    try:
        return json.loads(read_regular(path))
    except RecursionError:
        raise ValueError(f"{path} nests too deeply") from None


@contextmanager
def staging_directory(parent: Path, prefix: str, *, clear: bool = False) -> Iterator[Path]:
    """Yield a new directory in `parent`, removed at the end unless the caller renamed it.

    With `clear`, remove those of killed runs first: the caller holds a lock, so that no run uses them.
    """
    if clear:
        for left in parent.glob(f"{prefix}*"):
            shutil.rmtree(left, ignore_errors=True)
    folder = Path(tempfile.mkdtemp(prefix=prefix, dir=parent))
    try:
        folder.chmod(0o755)
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def temporary_directory(parent: Path | None = None) -> Iterator[Path]:
    """Yield a new directory in `parent` (default: the system's for temporary files), removed at the end.

    Those of killed runs are removed first: a run holds a lock on each of its own, and a file in each says
    what it is. A directory has a hidden name until it has both.
    """
    place = parent or Path(tempfile.gettempdir())
    _remove_abandoned(place)
    new = Path(tempfile.mkdtemp(prefix=f".{_TEMPORARY}", dir=place))
    folder, handle = new, None
    try:
        handle = _try_lock(new)
        if handle is not None:
            (new / _MARKER).touch()
        folder = new.rename(place / new.name.removeprefix("."))
        yield folder
    finally:
        for left in (new, folder):
            shutil.rmtree(left, ignore_errors=True)
        if handle is not None:
            os.close(handle)


def _remove_abandoned(place: Path) -> None:
    """Remove the temporary directories that no run has locked. Others may have names that begin alike."""
    for pattern in (f"{_TEMPORARY}*", f".{_TEMPORARY}*"):
        for left in place.glob(pattern):
            with suppress(OSError):
                found, marker = left.lstat(), (left / _MARKER).lstat()
                mine = stat.S_ISDIR(found.st_mode) and stat.S_ISREG(marker.st_mode)
                if mine and found.st_uid == os.geteuid() and (handle := _try_lock(left)) is not None:
                    shutil.rmtree(left, ignore_errors=True)
                    os.close(handle)


def _try_lock(folder: Path) -> int | None:
    """Return a handle that holds a lock on the folder; None if another run has it, or there are no locks."""
    try:
        import fcntl
    except ModuleNotFoundError:  # Windows
        return None
    try:
        handle = os.open(folder, os.O_RDONLY | NO_FOLLOW)
    except OSError:
        return None
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(handle)
        return None
    return handle


def hash_file(path: Path, on_bytes: Callable[[int], object] | None = None) -> str:
    """Return the SHA-256 of a file as 64 hex digits; `on_bytes` gets the number of bytes read so far.

    Raises OSError.
    """
    digest, read = hashlib.sha256(), 0
    with open_regular(path, follow=True) as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
            read += len(chunk)
            if on_bytes is not None:
                on_bytes(read)
    return digest.hexdigest()


def is_disk_full(failure: OSError | str) -> bool:
    """Return True if the error, or what a program printed, reports a full disk or an exceeded quota."""
    if isinstance(failure, str):
        return _DISK_FULL_TEXT.search(failure) is not None
    return failure.errno in _DISK_FULL_CODES


def disk_full_error(folder: Path, need: str, *, remedy: str = MAKE_ROOM) -> SourceError:
    """Return the error for a full disk; `need` is a clause such as "the tree takes about 2 GB"."""
    return SourceError(
        f"The disk is full: {format_size(free_disk(folder))} free in {folder}, and {need}.", remedy=remedy
    )

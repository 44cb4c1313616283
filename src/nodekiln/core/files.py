"""Files: atomic writes, staging directories, hashes and full disks."""

from __future__ import annotations

import errno
import hashlib
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from nodekiln.core.errors import SourceError
from nodekiln.core.platform import free_disk
from nodekiln.core.reporting import format_size

_CHUNK = 2**20
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
    """Replace the content of `path` in one rename: readers see the old content or the new.

    A symbolic link stays one. Of processes that write at the same time one wins. Raises OSError, and then
    leaves the old content.
    """
    target = Path(os.path.realpath(path))  # resolve() raises RuntimeError for a link to itself
    staging = target.with_name(f"{target.name}.{os.getpid()}.new")
    try:
        staging.write_bytes(content)
        staging.replace(target)
    except BaseException:
        staging.unlink(missing_ok=True)
        raise


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


def hash_file(path: Path, on_bytes: Callable[[int], object] | None = None) -> str:
    """Return the SHA-256 of a file as 64 hex digits; `on_bytes` gets the number of bytes read so far.

    Raises OSError.
    """
    digest, read = hashlib.sha256(), 0
    with path.open("rb", buffering=0) as file:
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

"""The folders that binaries are made in, each held by the process that made it for as long as that lives.

The kernel gives a killed process's lock back: so its staging is told from one that somebody works in.
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

import filelock

PREFIX = ".staging-"
_HOLD = "held"
_YOUNG = 3600.0
"""Seconds for which one that nothing tells of may still be worked in."""


def make(store: Path) -> tuple[Path, filelock.BaseFileLock]:
    """A new staging in the folder `store`, and what holds it until it is released."""
    folder = Path(tempfile.mkdtemp(prefix=PREFIX, dir=store))
    hold = filelock.FileLock(folder / _HOLD)
    hold.acquire()
    return folder, hold


def find_dead(store: Path) -> tuple[Path, ...]:
    """The stagings in `store` that nobody holds. One that is being made looks dead for a moment."""
    return tuple(
        folder
        for folder in sorted(store.glob(f"{PREFIX}*"))
        if folder.is_dir() and not folder.is_symlink() and not _is_held(folder)
    )


def _is_held(folder: Path) -> bool:
    file = folder / _HOLD
    if not file.exists():  # by an older nodekiln, or killed before it could hold it
        try:
            return time.time() - folder.stat().st_mtime < _YOUNG
        except OSError:  # gone meanwhile
            return True
    hold = filelock.FileLock(file)
    try:
        hold.acquire(timeout=0)
    except OSError:  # Timeout is one; whether one that can't be opened, another user's, is held can't be told
        return True
    hold.release()
    return False

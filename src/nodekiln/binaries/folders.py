"""Folders that other processes may be working in meanwhile: what they take on the disk, and their removal."""

from __future__ import annotations

import os
import shutil
from contextlib import suppress
from pathlib import Path


def disk_usage(folder: Path, counted: set[tuple[int, int]]) -> int:
    """Bytes on the disk of a folder and all in it, as du tells them; what vanishes meanwhile counts nothing.

    Nor does what has been `counted` (device and inode), which this adds to: the headers of a graft are hard
    links to those of its release.
    """
    paths = [folder]
    for place, folders, files in os.walk(folder):
        paths += (Path(place, name) for name in (*folders, *files))
    size = 0
    for path in paths:
        try:
            status = path.lstat()
        except OSError:
            continue
        if (status.st_dev, status.st_ino) not in counted:
            counted.add((status.st_dev, status.st_ino))
            size += status.st_blocks * 512
    return size


def delete(folder: Path) -> None:
    """Removes a folder, or what another process leaves of it that removes it too; raises OSError."""
    while folder.exists():
        with suppress(FileNotFoundError):  # of a file that the other one took first: there is one less now
            shutil.rmtree(folder)

"""The machine's cores, memory and disks. Reads only."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import psutil

from nodekiln.core import cgroup


def cores() -> int:
    """Return the CPUs this process may use: its affinity, capped by its control groups (containers, CI)."""
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    limit = cgroup.cpu_limit()
    return usable if limit is None else min(usable, max(1, int(limit)))


def available_memory() -> int:
    """Return the bytes available without swapping, capped by the control groups' limits."""
    available = int(psutil.virtual_memory().available)
    limit = cgroup.available_memory()
    return available if limit is None else min(available, limit)


def free_disk(path: Path) -> int:
    """Return the free bytes on the disk of `path`, or of its nearest existing parent."""
    existing = path.absolute()
    while not existing.exists():
        existing = existing.parent
    return shutil.disk_usage(existing).free

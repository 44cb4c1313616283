"""What this machine has: cores, memory, disks. Reads only."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import psutil

_CGROUP = Path("/sys/fs/cgroup")


def cores() -> int:
    """Processors that this process may use: its affinity, capped by a cgroup's CPU quota (containers, CI)."""
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        quota, period = (_CGROUP / "cpu.max").read_text().split()
        if quota != "max":
            usable = min(usable, max(1, int(quota) // int(period)))
    except (OSError, ValueError):
        pass  # no cgroup v2, or none with a quota: affinity stands
    return usable


def available_memory() -> int:
    """Bytes that can be had without swapping, capped by what a cgroup still allows."""
    available = int(psutil.virtual_memory().available)
    try:
        limit = (_CGROUP / "memory.max").read_text().strip()
        if limit != "max":
            used = int((_CGROUP / "memory.current").read_text())
            available = min(available, max(0, int(limit) - used))
    except (OSError, ValueError):
        pass  # no cgroup v2, or none with a limit: the machine's figure stands
    return available


def free_disk(path: Path) -> int:
    """Bytes that may be written on the disk that holds `path` (or its nearest parent that exists)."""
    place = path.absolute()
    while not place.exists():
        place = place.parent
    return shutil.disk_usage(place).free

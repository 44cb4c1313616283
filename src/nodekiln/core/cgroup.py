"""Read the limits of a container or systemd unit: control groups, versions 1 and 2.

Every group above the process limits it too. Layout and files: the kernel's Documentation/admin-guide/
cgroup-v1 and cgroup-v2.rst.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

_MOUNT = Path("/sys/fs/cgroup")
_MEMBERSHIP = Path("/proc/self/cgroup")
_DEFAULT_PERIOD = 100_000
"""Microseconds of a CPU period, if the group does not say."""


def cpu_limit(mount: Path = _MOUNT, membership: Path = _MEMBERSHIP) -> float | None:
    """Return the number of CPUs that the groups of this process allow, fractions included; None: no limit."""
    limits = []
    for group in _groups("", mount, membership):
        with suppress(OSError, ValueError):
            quota, period = (group / "cpu.max").read_text().split()
            limits += [int(quota) / int(period)] if quota != "max" else []
    for group in _groups("cpu", mount, membership):
        quota_us = _number(group / "cpu.cfs_quota_us")
        if quota_us is not None and quota_us > 0:
            limits.append(quota_us / (_number(group / "cpu.cfs_period_us") or _DEFAULT_PERIOD))
    return min(limits, default=None)


def available_memory(mount: Path = _MOUNT, membership: Path = _MEMBERSHIP) -> int | None:
    """Return the bytes that the groups of this process leave; None: no limit.

    Inactive pages of files count as available: the kernel drops them before it kills a process.
    """
    found = []
    for group in _groups("", mount, membership):
        limit, used = _number(group / "memory.max"), _number(group / "memory.current")
        if limit is not None and used is not None:
            found.append(limit - max(0, used - _inactive(group, "inactive_file")))
    for group in _groups("memory", mount, membership):
        limit = _number(group / "memory.limit_in_bytes")
        if limit is not None:
            used = _number(group / "memory.usage_in_bytes") or 0
            found.append(limit - max(0, used - _inactive(group, "total_inactive_file")))
    return max(0, min(found)) if found else None


def _groups(controller: str, mount: Path, membership: Path) -> Iterator[Path]:
    """Yield this process's group for a controller of version 1 ("": version 2), and all groups above it.

    Where the path is one of the host's, which a container does not see, only the top exists.
    """
    top = mount / controller
    try:
        lines = membership.read_text().splitlines()
    except OSError:
        lines = []
    entries = [(*line.split(":", 2), "", "")[1:3] for line in lines]
    listed = [(names, path) for names, path in entries if controller in names.split(",")]
    # A controller that is not listed may still have a group of the same name as the others.
    for names, path in listed or [(controller, path) for names, path in entries if names and controller]:
        mounted = mount / names if (mount / names).is_dir() else top
        group = Path(path.strip("/"))
        for part in (group, *group.parents):
            if ".." not in part.parts:
                yield mounted / part
        return
    yield top


def _number(file: Path) -> int | None:
    try:
        return int(file.read_text())
    except (OSError, ValueError):  # "max" among them
        return None


def _inactive(group: Path, key: str) -> int:
    with suppress(OSError, ValueError):
        for line in (group / "memory.stat").read_text().splitlines():
            if line.startswith(f"{key} "):
                return int(line.split()[1])
    return 0

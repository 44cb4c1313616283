"""What a build needs of the machine besides programs: a path, disks, memory and a clock."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

from nodekiln.core import platform as machine
from nodekiln.core.errors import KilnError
from nodekiln.core.process import capture
from nodekiln.core.reporting import format_size
from nodekiln.toolchain.farms import MEMORY_PER_JOB as FARM_MEMORY
from nodekiln.toolchain.findings import Finding, Severity
from nodekiln.toolchain.launchers import FARMS
from nodekiln.toolchain.request import Request, temporary_folder

_HOSTILE = frozenset("\"'`$#:;&|<>()[]{}*?!\\%")
"""Characters that make, ninja files, gyp or sh take for something else, besides white space."""

_JOB_MEMORY = 700 * 10**6
"""Bytes for one compilation; V8's large ones take twice that and are limited apart (building/memory.toml)."""
_LEAST_MEMORY = 10**9
_MOST_OVER_LEAST = 5
"""What builds take at most by what the smallest does: v20.19.2 with a distribution's libraries, 580 MB."""
_TMP_LOW, _TMP_EMPTY = 2 * 10**9, 200 * 10**6
_SKEW = 10.0
"""Seconds between clock and disk that are no drift: network disks differ by one or two."""
_LONG_AGO = 1704067200.0
"""2024-01-01: a clock before that was never set."""


def check_places(request: Request, env: Mapping[str, str]) -> Iterator[Finding]:
    """Everything about this machine that stops a build or gets in its way."""
    yield from _check_path(request.build_dir)
    yield from _check_build_disk(request.build_dir, request.disk_needed)
    yield from check_temporary(env)
    per_job = FARM_MEMORY if request.launcher in FARMS else _JOB_MEMORY
    yield from check_memory(machine.available_memory(), request.jobs, per_job)
    if request.platform == "darwin":
        yield from _check_command_line_tools(env)


def nearest_existing(folder: Path) -> Path:
    """`folder`, or the nearest above it that is there. Raises OSError where that can't be looked at."""
    nearest = folder.absolute()
    while not nearest.exists():
        nearest = nearest.parent
    return nearest


def _check_path(build_dir: Path) -> Iterator[Finding]:
    # configure works in the path with links followed, so both forms have to be plain.
    for path in dict.fromkeys((str(build_dir.absolute()), str(build_dir.resolve()))):
        if bad := sorted({sign for sign in path if sign.isspace() or sign in _HOSTILE}):
            signs = ", ".join("a space" if sign == " " else repr(sign) for sign in bad)
            yield Finding(
                Severity.ERROR,
                "path",
                f"The build folder {path!r} has {signs} in its path.",
                "gyp and make split or expand such paths (nodejs/node#56401).",
                "Move the checkout, or name a folder with a plain path with NODEKILN_BUILD.",
            )
            return


def _check_build_disk(build_dir: Path, needed: int) -> Iterator[Finding]:
    try:
        nearest = nearest_existing(build_dir)
        free = machine.free_disk(nearest)
        with tempfile.NamedTemporaryFile(prefix=".nodekiln-", dir=nearest) as file:
            written, now = os.fstat(file.fileno()).st_mtime, time.time()
    except OSError as error:
        yield Finding(
            Severity.ERROR,
            "disk",
            f"The build folder {build_dir} can't be written: {error.strerror}.",
            "Sources, objects and binaries go there.",
            "Make it writable, or name another folder with NODEKILN_BUILD.",
        )
        return
    yield from check_clock(written, now)
    if free < needed:
        # What it really takes is known, and checked, once the tag's files are.
        is_hopeless = free < needed // _MOST_OVER_LEAST
        yield Finding(
            Severity.ERROR if is_hopeless else Severity.WARNING,
            "disk",
            f"{format_size(free)} are free for {build_dir}; what is still to do takes up to"
            f" {format_size(needed)}.",
            f"The build {'would' if is_hopeless else 'may'} end half-way, with the disk full.",
            "Make room (./inv clean), or name a folder on another disk with NODEKILN_BUILD.",
        )


def check_clock(written: float, now: float) -> Iterator[Finding]:
    """`written` is the time (seconds since 1970) of a file that was written just `now`."""
    if abs(written - now) > _SKEW:
        what = f"Files on the build disk get a time that is {abs(written - now):.0f} seconds off the clock."
    elif now < _LONG_AGO:
        what = f"The clock says {time.strftime('%Y-%m-%d', time.gmtime(now))}."
    else:
        return
    yield Finding(
        Severity.WARNING,
        "clock",
        what,
        "ninja and make go by the times of files: Clock skew makes them build too much or too little.",
        "Set the clock (timedatectl set-ntp true; in WSL: hwclock -s).",
    )


def check_temporary(env: Mapping[str, str]) -> Iterator[Finding]:
    """Whether compilers can write their temporary files, and room for those."""
    folder = temporary_folder(env)
    remedy = "Make room there, or set TMPDIR to a folder on another disk."
    if not folder.is_dir() or not os.access(folder, os.W_OK | os.X_OK):
        state = "can't be written" if folder.is_dir() else "is no folder"
        why = "Compilers write their temporary files there."
        yield Finding(
            Severity.ERROR, "TMPDIR", f"{folder} {state}.", why, "Set TMPDIR to a folder that can be written."
        )
        return
    free = machine.free_disk(folder)
    if free < _TMP_LOW:
        yield Finding(
            Severity.ERROR if free < _TMP_EMPTY else Severity.WARNING,
            "TMPDIR",
            f"{format_size(free)} are free in {folder}.",
            "Compilers write their temporary files there, one set for each job (nodejs/build#1954).",
            remedy,
        )


def check_memory(available: int, jobs: int, per_job: int = _JOB_MEMORY) -> Iterator[Finding]:
    """`available` bytes of memory for `jobs` compilations at a time, of `per_job` bytes each."""
    if available < _LEAST_MEMORY:
        severity, remedy = Severity.ERROR, "End other programs, or use a machine with more memory."
    elif available < jobs * per_job:
        fitting = max(1, available // per_job)
        severity, remedy = Severity.WARNING, f"Ask for {fitting} with --jobs {fitting}."
    else:
        return
    yield Finding(
        severity,
        "memory",
        f"{format_size(available)} of memory are free for {jobs} job{'s' if jobs != 1 else ''}.",
        f"A compilation takes up to {format_size(per_job)}; without that the system kills compilers.",
        remedy,
    )


def _check_command_line_tools(env: Mapping[str, str]) -> Iterator[Finding]:
    try:
        if capture(["xcode-select", "-p"], env=env, timeout=10).returncode == 0:
            return
    except (OSError, KilnError):
        pass
    yield Finding(
        Severity.ERROR,
        "xcode",
        "There are no command line tools.",
        "cc and c++ only offer to install them.",
        "xcode-select --install",
    )

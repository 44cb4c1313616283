"""Checks of the machine besides its programs: build path, disks, memory, clock and git's line endings."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

from nodekiln.core import platform as machine
from nodekiln.core.errors import KilnError
from nodekiln.core.files import temporary_directory
from nodekiln.core.process import capture
from nodekiln.core.reporting import format_size
from nodekiln.toolchain.farms import MEMORY_PER_JOB as FARM_MEMORY
from nodekiln.toolchain.launchers import FARMS
from nodekiln.toolchain.model import Finding, Request, Severity, temporary_folder

_HOSTILE = frozenset("\"'`$#:;&|<>()[]{}*?!\\%")
"""Characters that are special in make, ninja files, gyp or sh, besides white space."""

_JOB_MEMORY = 700 * 10**6
"""Bytes for one compilation; V8's large ones take twice that and have a limit of their own
(building/memory.toml)."""
_MIN_MEMORY = 10**9
_MAX_OVER_MIN = 5
"""The ratio of the largest build to the smallest: v20.19.2 with a distribution's libraries, 580 MB."""
_TMP_LOW, _TMP_EMPTY = 2 * 10**9, 200 * 10**6
_FILES, _FILES_PER_JOB = 64, 8
"""Of ninja itself, and pipes for each job."""
_PROCESSES, _PROCESSES_PER_JOB = 64, 6
"""A shell, a launcher, a driver, the compiler and the assembler for each job, besides the user's own."""
_SKEW = 10.0
"""Accepted seconds between clock and disk: network disks differ by one or two."""
_LONG_AGO = 1704067200.0
"""2024-01-01: an earlier clock was never set."""

_CHANGED_ON_CHECKOUT = (
    "Trees that you check out get carriage returns, in gyp's arguments too (nodejs/node#41476)."
)
_CHANGED_ON_ADD = "Files that you add lose their carriage returns, which vcbuild.bat and others have."
_WHY = {
    **dict.fromkeys(("true", "yes", "on", "1"), _CHANGED_ON_CHECKOUT),
    "input": _CHANGED_ON_ADD,
}
"""By the values of git that change line endings."""


def check_resources(request: Request, env: Mapping[str, str]) -> Iterator[Finding]:
    """Yield findings about build path, disks, memory and clock."""
    yield from _check_path(request.build_dir)
    yield from _check_build_disk(request.build_dir, request.disk_needed)
    yield from check_limits(request.jobs)
    yield from check_temporary(env)
    per_job = FARM_MEMORY if request.tools.launcher in FARMS else _JOB_MEMORY
    yield from check_memory(machine.available_memory(), request.jobs, per_job)
    if request.platform == "darwin":
        yield from _check_command_line_tools(env)


def nearest_existing(folder: Path) -> Path:
    """Return `folder`, or its nearest existing parent; raise OSError if that can't be read."""
    nearest = folder.absolute()
    while not nearest.exists():
        nearest = nearest.parent
    return nearest


def _check_path(build_dir: Path) -> Iterator[Finding]:
    # configure resolves links in the path, so both forms have to be plain.
    for path in dict.fromkeys((str(build_dir.absolute()), str(build_dir.resolve()))):
        if bad := sorted({sign for sign in path if sign.isspace() or sign in _HOSTILE}):
            signs = ", ".join("a space" if sign == " " else repr(sign) for sign in bad)
            yield Finding(
                Severity.ERROR,
                "path",
                f"The build folder {path!r} has {signs} in its path.",
                "gyp and make split or expand such paths (nodejs/node#56401).",
                "Move the checkout, or set NODEKILN_BUILD to a folder with a plain path.",
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
            f"Writing to the build folder {build_dir} failed: {error.strerror}.",
            "Sources, objects and binaries are written there.",
            "Make it writable, or set NODEKILN_BUILD to another folder.",
        )
        return
    yield from check_clock(written, now)
    if free < needed:
        # The real need is known, and checked again, once the tag's files are.
        is_hopeless = free < needed // _MAX_OVER_MIN
        yield Finding(
            Severity.ERROR if is_hopeless else Severity.WARNING,
            "disk",
            f"{format_size(free)} free in {build_dir}; the rest of the build takes up to"
            f" {format_size(needed)}.",
            f"The build {'would' if is_hopeless else 'may'} end half-way, with the disk full.",
            "Free some disk space (./inv clean), or set NODEKILN_BUILD to a folder on another disk.",
        )


def check_runs_programs(build_dir: Path) -> Iterator[Finding]:
    """Yield an error if no program in the build folder can be started: a build runs its own."""
    try:
        with temporary_directory(nearest_existing(build_dir)) as folder:
            program = folder / "try"
            program.write_text("#!/bin/sh\n")
            program.chmod(0o700)
            capture([str(program)], env={})
    except PermissionError:
        yield Finding(
            Severity.ERROR,
            "disk",
            f"Programs in the build folder {build_dir} can't be started: it is mounted with noexec.",
            "The build runs programs that it makes there (mksnapshot, torque), and the binary itself.",
            "Set NODEKILN_BUILD to a folder on another disk.",
        )
    except (OSError, KilnError):
        return  # the check of the disk reports that


def check_limits(jobs: int) -> Iterator[Finding]:
    """Yield a warning if the limit of open files or processes is too low for so many jobs."""
    if os.name == "nt":
        return
    import resource

    for name, kind, needed, option in (
        ("open files", "RLIMIT_NOFILE", _FILES + jobs * _FILES_PER_JOB, "n"),
        ("processes", "RLIMIT_NPROC", _PROCESSES + jobs * _PROCESSES_PER_JOB, "u"),
    ):
        limit, _ = resource.getrlimit(getattr(resource, kind))
        is_root = kind == "RLIMIT_NPROC" and os.geteuid() == 0  # whom the kernel doesn't limit
        if limit != resource.RLIM_INFINITY and limit < needed and not is_root:
            yield Finding(
                Severity.WARNING,
                "limits",
                f"The limit of {name} is {limit}; {jobs} jobs need about {needed}.",
                "Compilers then fail in the middle of the build.",
                f"ulimit -{option} {needed}, or set fewer jobs (--jobs).",
            )


def check_clock(written: float, now: float) -> Iterator[Finding]:
    """Yield a warning if a file written `now` has another time, `written` (both in seconds since 1970)."""
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
        "ninja and make compare times of files: with clock skew they build too much or too little.",
        "Set the clock (timedatectl set-ntp true; in WSL: hwclock -s).",
    )


def check_temporary(env: Mapping[str, str]) -> Iterator[Finding]:
    """Yield a finding if compilers have no room for their temporary files, or can't write them."""
    folder = temporary_folder(env)
    remedy = "Free some space there, or set TMPDIR to a folder on another disk."
    if not folder.is_dir() or not os.access(folder, os.W_OK | os.X_OK):
        state = "is not writable" if folder.is_dir() else "is not a folder"
        why = "Compilers write their temporary files there."
        yield Finding(Severity.ERROR, "TMPDIR", f"{folder} {state}.", why, "Set TMPDIR to a writable folder.")
        return
    free = machine.free_disk(folder)
    if free < _TMP_LOW:
        yield Finding(
            Severity.ERROR if free < _TMP_EMPTY else Severity.WARNING,
            "TMPDIR",
            f"{format_size(free)} free in {folder}.",
            "Compilers write their temporary files there, one set for each job (nodejs/build#1954).",
            remedy,
        )


def check_memory(available: int, jobs: int, per_job: int = _JOB_MEMORY) -> Iterator[Finding]:
    """Yield a finding if `available` bytes are too few for `jobs` compilations of `per_job` bytes each."""
    if available < _MIN_MEMORY:
        severity, remedy = Severity.ERROR, "End other programs, or use a machine with more memory."
    elif available < jobs * per_job:
        fitting = max(1, available // per_job)
        severity, remedy = Severity.WARNING, f"Set a smaller number: --jobs {fitting}"
    else:
        return
    yield Finding(
        severity,
        "memory",
        f"{format_size(available)} of memory free for {jobs} job{'s' if jobs != 1 else ''}.",
        f"A compilation takes up to {format_size(per_job)}; with less the system kills compilers.",
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
        "The command line tools are not installed.",
        "Without them cc and c++ only offer to install them.",
        "xcode-select --install",
    )


def check_autocrlf(build_dir: Path, env: Mapping[str, str]) -> Iterator[Finding]:
    """Yield a note if git is configured to change line endings; none if git is missing or fails."""
    try:
        answer = capture(
            ["git", "config", "--get", "core.autocrlf"], env=env, cwd=nearest_existing(build_dir), timeout=10
        )
    except (OSError, KilnError):
        return
    value = answer.stdout.decode(errors="replace").strip().lower()
    if answer.returncode == 0 and value in _WHY:
        yield Finding(
            Severity.NOTE,
            "git",
            f"core.autocrlf is {value} (git config --show-origin core.autocrlf shows the file).",
            _WHY[value],
            "No action needed: nodekiln's own checkout ignores it.",
        )

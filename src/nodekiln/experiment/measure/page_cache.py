"""Bring files into the page cache, or drop them from it."""

from __future__ import annotations

import errno
import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from nodekiln.core.errors import KilnError, UsageError
from nodekiln.core.process import capture

_CHUNK = 4 * 2**20
_PLACES = 64
_LITTLE = 0.05
"""Share of a file in memory that does not matter."""
_SCRIPT = """
const http = require('http');
const server = http.createServer((_, response) => response.end()).listen(0, '127.0.0.1', () => {
  const { port } = server.address();
  http.get({ port, host: '127.0.0.1', agent: false }, (response) => {
    response.resume().on('end', () => server.close());
  });
});
require('zlib').gzip('x', () => {});
"""
"""Use what the workloads use. Of a graft of v22.20.0, --version reads 84 MB and leaves 6 to the first trial,
an empty script reads 90 and leaves 6 to the workload http, and this reads 97 and leaves none to any."""
_SMALL = 10**6
"""Bytes: to ask what is in memory of a smaller file, a wrapper script say, reads ahead what it asks for."""
_TIMEOUT = 60.0
"""Seconds; from a slow disk it takes some."""
_CAN_DROP = hasattr(os, "posix_fadvise")


def warm(path: Path) -> None:
    """Read a file once. Raises OSError."""
    with path.open("rb", buffering=0) as file:
        while file.read(_CHUNK):
            pass


def check_can_drop() -> None:
    """Raise UsageError on a system without posix_fadvise."""
    if not _CAN_DROP:
        raise UsageError(
            "This system has no means to drop a file from memory (posix_fadvise).",
            remedy="Leave --cold out: the input is read once before each trial, and that is stated.",
        )


def drop(path: Path) -> None:
    """Ask the kernel to drop a file that no process has open; needs no privileges. Raises OSError."""
    handle = os.open(path, os.O_RDONLY)  # for writing, a program that runs could not be opened
    try:
        os.fsync(handle)  # only what is on disk can be forgotten
        os.posix_fadvise(handle, 0, 0, os.POSIX_FADV_DONTNEED)
    finally:
        os.close(handle)


def make_alike(programs: Mapping[str, Path], env: Mapping[str, str]) -> str:
    """Drop Nodes from memory and run each once, so that all are loaded the same way.

    Pages of the file itself count in a program's resident memory. One that was just written or read from end
    to end lies in memory in larger pieces, of which more is mapped: 63 MB were seen where a copy of the same
    file took 36 MB (Node 22 on ext4, Linux 6.18). The run keeps the first trial from being the one that reads
    the disk. Returns what became of it, for a person to read.
    """
    staying = _drop_all(programs) if _CAN_DROP else []
    for program in programs.values():
        _run_once(program, env)
    if not _CAN_DROP:
        return "how a binary came into memory may count as its memory: this system can't drop files"
    if staying:
        return f"what was in memory of {', '.join(staying)} before stays there, and may count as its memory"
    return "binaries were dropped from memory and then run once, so that each came in by being run"


def _drop_all(programs: Mapping[str, Path]) -> list[str]:
    """Return the names of those that stay in memory."""
    staying = []
    for name, program in programs.items():
        with suppress(OSError):  # a file system that can't: the share shows it
            drop(program)
        if program.stat().st_size > _SMALL and (cached_share(program) or 0) > _LITTLE:
            staying.append(name)
    return staying


def _run_once(program: Path, env: Mapping[str, str]) -> None:
    with suppress(OSError, KilnError):  # the first trial reports what goes wrong here
        capture([str(program), "-e", _SCRIPT], env=env, timeout=_TIMEOUT)


def cached_share(path: Path) -> float | None:
    """Return the share of a file in memory, 0 to 1, from 64 offsets; None if unknown.

    Reading stops where it would have to wait for the disk, so that asking puts nothing into memory.
    """
    if not hasattr(os, "RWF_NOWAIT"):
        return None
    size = path.stat().st_size
    offsets = {size * place // _PLACES for place in range(_PLACES)} if size else set()
    handle = os.open(path, os.O_RDONLY)
    found = 0
    try:
        for offset in offsets:
            try:
                found += os.preadv(handle, [bytearray(1)], offset, os.RWF_NOWAIT)
            except BlockingIOError:
                continue
            except OSError as error:
                if error.errno in (errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL):
                    return None
                raise
    finally:
        os.close(handle)
    return found / len(offsets) if offsets else None

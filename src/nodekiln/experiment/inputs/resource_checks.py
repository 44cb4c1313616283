"""Check that the machine has the memory and the disk space for the runs, before anything is started."""

from __future__ import annotations

from nodekiln.core.errors import SourceError, UsageError
from nodekiln.core.reporting import format_size

BASE = 150 * 10**6
"""Bytes that a Node takes besides what waits in its streams: 45 to 75 MB were seen, 115 with --trace-gc."""
RESERVE = 300 * 10**6
"""Bytes that the rest of the machine keeps, our own process and its plots among it."""
_DISK_RESERVE = 100 * 10**6


def expected_peak(size: int, *, piles_up: bool) -> int:
    """Bytes of memory that one run may take: without backpressure, the whole input and a Node."""
    return BASE + (size if piles_up else 0)


def check_memory(size: int, *, piles_up: bool, limit: int | None, available: int) -> None:
    """Raise UsageError if a run could need more memory than available.

    `size` is that of the largest input, `limit` that of --memory-limit, `available` what the machine (or the
    cgroup that we are in) has; all in bytes. `piles_up`: one of the binaries may take all of its input into
    memory.
    """
    expected = expected_peak(size, piles_up=piles_up)
    if limit is not None and limit < BASE:
        raise UsageError(
            f"--memory-limit {format_size(limit)} is too little: Node alone may take {format_size(BASE)}.",
            remedy=f"Take {format_size(BASE)} or more.",
        )
    needed = (expected if limit is None else min(limit, expected)) + RESERVE
    if needed <= available:
        return
    room = available - RESERVE
    remedies = []
    if piles_up and room - BASE >= 10**6:
        remedies.append(f"--size {(room - BASE) // 10**6}M")
    if room >= BASE and limit is None:
        remedies.append(f"--memory-limit {room // 10**6}M, which ends what takes more and reports that")
    raise UsageError(
        f"One run may take {format_size(needed - RESERVE)} of memory"
        + (f" (the whole input, {format_size(size)}, and Node)" if piles_up and limit is None else "")
        + f", and the machine should keep {format_size(RESERVE)}: {format_size(available)} are free.",
        remedy=" or ".join(remedies) + "." if remedies else "Close other programs.",
    )


def disk_needed(inputs: int, largest: int) -> int:
    """Bytes: `inputs` that are written and kept, and one output, hardly compressed, of the `largest`."""
    return inputs + largest + largest // 100 + _DISK_RESERVE


def check_disk(needed: int, *, free: int, place: str) -> None:
    """Raise SourceError if fewer than `needed` bytes are free at `place`."""
    if needed > free:
        raise SourceError(
            f"{place} has room for {format_size(free)}, and this takes {format_size(needed)}.",
            remedy="Take a smaller --size, or set NODEKILN_BUILD to a folder on another disk.",
        )

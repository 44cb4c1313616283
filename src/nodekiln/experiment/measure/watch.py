"""Run as a program: starts another, reports its memory while it runs, and at the end its times and its peak.

    python -I watch.py INTERVAL LIMIT ARGV ...

INTERVAL is in milliseconds, LIMIT in bytes (0: none). Imports nothing of ours, and is small: the kernel
counts a child's peak from that of the process that started it, and ours (60 MB, with plots 200) would hide
the 45 MB of a Node that does little. Its wall time is not disturbed by what we do meanwhile, either. It ends
the program when its stdin ends: nothing is left running where we were killed.

Lines of JSON on stdout: {"at", "rss", "waiting"} for each look, then {"code", "wall", "cpu", "peak",
"capped"}, or {"error"} where the program can't be started. Times in milliseconds, sizes in bytes. Memory is
the program's and that of what it started, added up (Linux; elsewhere its own alone); "waiting" is what it
reported of its streams on the descriptor of NODEKILN_STREAMS, null before it did. What it prints goes to our
stderr.
"""

from __future__ import annotations

import json
import os
import resource
import select
import signal
import subprocess
import sys
import threading
import time
from contextlib import suppress
from functools import cache

import psutil

_process = cache(psutil.Process)
"""Made once for each number: that reads three files, a look at its memory one."""
_MAX_INTEGER = 2**53 - 1
"""Limit of results.json: the largest integer that every JSON reader represents exactly."""
_MAXRSS_UNIT = 1 if sys.platform == "darwin" else 1024
SLACK = 128 * 2**20
"""Bytes of private memory that a Node has beyond its resident ones: 30 to 60 MB were seen. Above the limit
and this the kernel refuses memory, should we be too slow to see it."""
_LIKELY_VICTIM = b"1000"
"""Make the program the first to be killed if the machine runs out of memory (Linux)."""


def main(interval: float, limit: int, argv: list[str]) -> None:
    """Starts the program, samples it until it ends, and reports."""
    _prepare(limit)
    streams, theirs = os.pipe()
    os.set_blocking(streams, False)
    env = {**os.environ, "NODEKILN_STREAMS": str(theirs), "NODEKILN_INTERVAL": f"{interval:g}"}
    begun = time.monotonic()
    try:
        child = subprocess.Popen(
            argv, env=env, stdin=subprocess.DEVNULL, stdout=sys.stderr, pass_fds=(theirs,)
        )
    except OSError as error:
        _tell(error=error.strerror)
        return
    os.close(theirs)
    end = _End(child.pid)
    waiting: int | None = None
    highest = 0
    capped = False
    while not end.came_within(interval / 1000):
        is_wanted = not select.select([sys.stdin], [], [], 0)[0]
        family = descent(child.pid)
        if (rss := resident(family)) is not None:
            waiting = _last_number(streams, waiting)
            highest = max(highest, rss)
            is_wanted &= _tell(at=1000 * (time.monotonic() - begun), rss=rss, waiting=waiting)
        capped |= 0 < limit < highest
        if capped or not is_wanted:
            kill(family)
    _tell(
        code=end.code,
        wall=1000 * (end.at - begun),
        cpu=1000 * (end.usage.ru_utime + end.usage.ru_stime),
        peak=max(end.usage.ru_maxrss * _MAXRSS_UNIT, highest),
        capped=capped,
    )


class _End:
    """Wait in a thread, so that the time of the end is exact."""

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self._came = threading.Event()
        threading.Thread(target=self._wait, daemon=True).start()

    def came_within(self, seconds: float) -> bool:
        return self._came.wait(seconds)

    def _wait(self) -> None:
        _, status, self.usage = os.wait4(self._pid, 0)
        self.at = time.monotonic()
        self.code = os.waitstatus_to_exitcode(status)
        self._came.set()


def _prepare(limit: int) -> None:
    """Set what the program inherits: no core file, and killed first."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if limit:
        _, most = resource.getrlimit(resource.RLIMIT_DATA)
        wanted = limit + SLACK
        resource.setrlimit(
            resource.RLIMIT_DATA, (wanted if most == resource.RLIM_INFINITY else min(wanted, most), most)
        )
    with suppress(OSError), open("/proc/self/oom_score_adj", "wb") as file:  # noqa: PTH123 (starts faster)
        file.write(_LIKELY_VICTIM)


def kill(pids: list[int]) -> None:
    """Signal all processes that exist and may be signalled."""
    """Not by Popen, which would take the end from under the thread that waits for it."""
    for pid in pids:
        with suppress(ProcessLookupError, PermissionError):  # it may run a program as somebody else
            os.kill(pid, signal.SIGKILL)


def descent(pid: int) -> list[int]:
    """Return a process and, on Linux, the descendants of its main thread, as of a wrapper script.

    Costs one small file for a process without children, 18 us, where looking through 90 processes for those
    with that parent took 1.2 ms.
    """
    found = [pid]
    for one in found:  # grows meanwhile
        with suppress(OSError), open(f"/proc/{one}/task/{one}/children", "rb") as file:  # noqa: PTH123
            found += map(int, file.read().split())
    return found


def resident(pids: list[int]) -> int | None:
    """Bytes of memory of some processes, added up: what they share counts for each. None where the first has
    just ended."""
    total = 0
    for pid in pids:
        try:
            rss = int(_process(pid).memory_info().rss)
        except psutil.Error:
            rss = 0
        if not rss and pid == pids[0]:
            return None
        total += rss
    return total


def _last_number(streams: int, before: int | None) -> int | None:
    """Return the last number received on a complete line, `before` if there is none."""
    try:
        lines = os.read(streams, 65536).split(b"\n")
    except BlockingIOError:
        return before
    numbers = (
        int(line) for line in reversed(lines[:-1]) if line.isdigit() and len(line) <= len(str(_MAX_INTEGER))
    )
    return next((number for number in numbers if number <= _MAX_INTEGER), before)


def _tell(**facts: object) -> bool:
    """Return True if the parent still reads."""
    try:
        print(json.dumps(facts), flush=True)  # noqa: T201 (this is what it is for)
    except BrokenPipeError:
        return False
    return True


if __name__ == "__main__":
    main(float(sys.argv[1]), int(sys.argv[2]), sys.argv[3:])

"""Run a program under watch.py and return its memory over time, its times and its outcome."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nodekiln.core.errors import KilnError, UsageError
from nodekiln.core.process import end_group, error_line
from nodekiln.core.reporting import format_size
from nodekiln.experiment.model.results import Ending, Sample

_WATCH = Path(__file__).with_name("watch.py")
INTERVAL = 50
"""Milliseconds between two looks. One costs some 0.1 ms of another core; 20 a second show the course of a
trial that takes a second or more."""
INTERVAL_WITH_LIMIT = 20
"""Node reads a cached file at about 2 GB/s at most: 40 MB in that time, by which a limit may be passed."""

_MEMORY = re.compile(
    r"out of memory|allocation failed|cannot allocate memory|ENOMEM|bad_alloc|MEMORY_ALLOCATION_FAILED",
    re.IGNORECASE,
)
_ERROR = re.compile(r"^\w*Error\b|error:|unsettled top-level await")
_TAIL = 64 * 1024
"""Bytes of what a program printed, from its end, that are looked through for the reason of its end."""

OnSample = Callable[[Sample], None]


@dataclass(frozen=True, kw_only=True)
class Course:
    """One run of a program."""

    samples: tuple[Sample, ...]
    wall_ms: float
    cpu_ms: float
    peak_rss_bytes: int
    ending: Ending
    detail: str


def interval_for(limit: int | None) -> int:
    """Milliseconds between two looks."""
    return INTERVAL if limit is None else INTERVAL_WITH_LIMIT


def watch(
    argv: Sequence[str],
    *,
    env: Mapping[str, str],
    cwd: Path,
    log: Path,
    limit: int | None = None,
    on_sample: OnSample = lambda _: None,
) -> Course:
    """Run a program to its end, with its output in `log`; kill it if it and its children take more
    than `limit` bytes.

    Raises UsageError if it can't be started. On KeyboardInterrupt it and its children are killed, and the
    interrupt goes on to the caller.
    """
    samples: list[Sample] = []
    command = [sys.executable, "-I", str(_WATCH), str(interval_for(limit)), str(limit or 0), *argv]
    with log.open("wb") as file:
        watcher = subprocess.Popen(
            command,
            env=dict(env),
            cwd=cwd,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=file,
            start_new_session=True,
        )
    last: dict[str, Any] = {}
    try:
        assert watcher.stdout is not None  # noqa: S101 (PIPE was asked for; this tells mypy)
        for line in watcher.stdout:
            last = json.loads(line)
            if "at" in last:
                sample = Sample(at_ms=last["at"], rss_bytes=last["rss"], writable_length=last["waiting"])
                samples.append(sample)
                on_sample(sample)
    finally:
        end_group(watcher, ())
        for stream in (watcher.stdin, watcher.stdout):
            if stream is not None:
                stream.close()
    if "error" in last:
        raise UsageError(f"{argv[0]} can't be run: {last['error']}.")
    printed = tail(log)
    if "code" not in last:
        raise KilnError(f"The watcher of {argv[0]} ended too early: {reason(printed)}")
    ending, detail = judge(last["code"], printed, limit if last["capped"] else None)
    return Course(
        samples=tuple(samples),
        wall_ms=last["wall"],
        cpu_ms=last["cpu"],
        peak_rss_bytes=last["peak"],
        ending=ending,
        detail=detail,
    )


def judge(code: int, printed: str, passed: int | None) -> tuple[Ending, str]:
    """Return how a program ended, from its exit code (minus a signal's number) and its output; and why.

    `passed` is the memory limit in bytes that it was ended at, None where it was not.
    """
    if passed is not None:
        return "out of memory", f"ended at the limit of {format_size(passed)}"
    if code == 0:
        return "finished", ""
    if _MEMORY.search(printed):
        return "out of memory", reason(printed, _MEMORY)
    if code == -signal.SIGKILL:
        return "out of memory", "killed (SIGKILL), as the system does where memory runs out"
    return "failed", f"{_how(code)}: {reason(printed)}"


def tail(log: Path) -> str:
    """Return the end of a program's output."""
    with log.open("rb") as file:
        file.seek(max(0, file.seek(0, 2) - _TAIL))
        return file.read().decode(errors="backslashreplace")


def reason(printed: str, pattern: re.Pattern[str] = _ERROR) -> str:
    """Return the line of `printed` that says why a program failed."""
    return error_line(printed, pattern)


def _how(code: int) -> str:
    return f"ended by signal {-code}" if code < 0 else f"exit code {code}"

"""Run a program with its collections reported by probes: hold it back, attach, limit its memory, wait."""

from __future__ import annotations

import re
import resource
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from nodekiln.core import limits
from nodekiln.core.settings import Settings
from nodekiln.experiment.measure.trials import Setup
from nodekiln.experiment.measure.watch import SLACK, descent, kill, resident
from nodekiln.experiment.measure.watching import INTERVAL_WITH_LIMIT, judge, tail
from nodekiln.experiment.model.results import COLLECTION_TYPES, Collection, Ending
from nodekiln.pipelines.trace import tracer_for
from nodekiln.tracing.child import Held, hold
from nodekiln.tracing.session import attach
from nodekiln.tracing.trace_gc import parse_trace_gc

_MAX_UNREAD, _MAX_LINE = 10, 300
"""Lines, and characters of each, that results.json keeps."""
_ENDED = re.compile(r"@\w+\[(\d+), (\d+), \d+\]: (\d+)", re.ASCII)


def read_probe_lines(lines: Iterable[str], began_ns: int) -> tuple[Collection, ...]:
    """Lines of the script `collections`; `began_ns` is when the process began, on the same clock.

    Lines that are none (a tracer's warnings, its counts) are passed over.
    """
    matches = filter(None, map(_ENDED.fullmatch, lines))
    found = ((int(kind), int(begun), int(ended)) for kind, begun, ended in (one.groups() for one in matches))
    return _in_order((kind, (ended - began_ns) / 1e6, (ended - begun) / 1e6) for kind, begun, ended in found)


def is_collection(line: str) -> bool:
    """Return True if a line of the script `collections` is a collection."""
    return _ENDED.fullmatch(line) is not None


def read_perf_hooks_lines(lines: Iterable[str]) -> tuple[Collection, ...]:
    """Lines that preload/collections.cjs wrote; a last one that was cut off is passed over."""
    found = []
    for line in lines:
        with suppress(ValueError):
            kind, start, took = line.split(",")
            end = float(start) + float(took)
            if abs(end) <= limits.MILLISECONDS:
                found.append((int(kind), end, float(took)))
    return _in_order(found)


def read_trace_gc(text: str) -> tuple[tuple[Collection, ...], tuple[str, ...]]:
    """Return the collections in the output of --trace-gc, and its first lines that could not be parsed."""
    trace = parse_trace_gc(text)
    collections = _in_order((one.type, one.end_ms, one.duration_ms) for one in trace.pauses)
    return collections, tuple(line[:_MAX_LINE] for line in trace.not_understood[:_MAX_UNREAD])


def _in_order(found: Iterable[tuple[int, float, float]]) -> tuple[Collection, ...]:
    """Parse type, end and duration, sorted by end; skip types that no current V8 has."""
    return tuple(
        Collection(at_ms=max(0.0, end), duration_ms=max(0.0, took), type=kind)
        for kind, end, took in sorted(found, key=lambda one: one[1])
        if kind in COLLECTION_TYPES
    )


OnCount = Callable[[int], None]
_AS_ROOT = "sudo -E ./inv compare"
_COUNT = "@collections: "
_LOSS = re.compile(r"\blost\b|\bdrops\b", re.IGNORECASE)
"""bpftrace says so among its lines or beside them, dtrace beside them."""
_LOOK = INTERVAL_WITH_LIMIT / 1000
"""Seconds between two looks at a traced process."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Traced:
    """The outcome of a run; `collections` is None if the tracer failed to see any.

    `wall_ms` begins where the program is let go, after its exec: one or two milliseconds later than that of
    watch.py, whose clock starts it too.
    """

    collections: tuple[Collection, ...] | None
    wall_ms: float
    ending: Ending
    notes: tuple[str, ...]


def run_traced(
    argv: Sequence[str],
    *,
    env: Mapping[str, str],
    setup: Setup,
    settings: Settings,
    on_count: OnCount,
) -> Traced:
    """Run to the end, with the program's output in `setup.log`; `on_count` gets the number of collections.

    Raises KilnError if there is no tracer, no right to trace, or no probe in the binary.
    """
    lines: list[str] = []
    reported = 0

    def take(line: str) -> None:
        nonlocal reported
        lines.append(line)
        if is_collection(line):
            reported += 1
            on_count(reported)

    binary = Path(argv[0])
    make = tracer_for("collections", binary, str(binary), settings)
    with (
        setup.log.open("wb") as log,
        hold(argv, env=env, cwd=setup.folder, stdin=subprocess.DEVNULL, output=log) as held,
    ):
        if sys.platform == "linux":
            held.stop_at_exec()
        _confine(held, setup.limit)
        with attach(make(held.process.pid), take, privileged=_AS_ROOT) as tracer:
            began_ns = _clock()
            held.let_go()
            ended_ns, capped = _wait(held, setup.limit)
    ending, detail = judge(held.process.returncode, tail(setup.log), setup.limit if capped else None)
    notes = [detail] if detail else []
    notes += [line for line in (*lines, *tracer.said.splitlines()) if _LOSS.search(line)]
    fired = max(
        (int(line.removeprefix(_COUNT)) for line in lines if line.startswith(_COUNT)), default=reported
    )
    if fired > reported:
        notes.append(f"the tracer lost {fired - reported} of {fired} collections")
    # On Linux the file has reported of its probes; dtrace is silent where there are none.
    is_told = bool(reported) or sys.platform == "linux"
    if not is_told:
        notes.append("dtrace saw no collection: the binary may have no probes")
    return Traced(
        collections=read_probe_lines(lines, began_ns) if is_told else None,
        wall_ms=(ended_ns - began_ns) / 1e6,
        ending=ending,
        notes=tuple(notes),
    )


def _confine(held: Held, limit: int | None) -> None:
    """Do what watch.py does for its child: set the kernel's memory limit, and be killed first."""
    pid = held.process.pid
    if limit is not None and sys.platform == "linux":
        _, most = resource.prlimit(pid, resource.RLIMIT_DATA)
        wanted = limit + SLACK
        soft = wanted if most == resource.RLIM_INFINITY else min(wanted, most)
        resource.prlimit(pid, resource.RLIMIT_DATA, (soft, most))
    with suppress(OSError):
        Path(f"/proc/{pid}/oom_score_adj").write_text("1000")


def _wait(held: Held, limit: int | None) -> tuple[int, bool]:
    """Until it ends; when that was by `_clock`, and whether it was ended at the limit."""
    end = _End(held)
    capped = False
    while not end.came.wait(_LOOK):
        if limit is None:
            continue
        family = descent(held.process.pid)
        rss = resident(family)
        if rss is not None and rss > limit:
            capped = True
            kill(family)
    return end.at_ns, capped


class _End:
    """Wait in a thread, so that the time of the end is exact."""

    def __init__(self, held: Held) -> None:
        self._process = held.process
        self.came = threading.Event()
        threading.Thread(target=self._wait, daemon=True).start()

    def _wait(self) -> None:
        self._process.wait()
        self.at_ns = _clock()
        self.came.set()


def _clock() -> int:
    """Nanoseconds of the tracer's clock: bpftrace's counts while the machine sleeps, dtrace's does not."""
    if sys.platform == "linux":
        return time.clock_gettime_ns(time.CLOCK_BOOTTIME)
    return time.monotonic_ns()

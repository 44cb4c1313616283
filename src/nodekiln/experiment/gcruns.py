"""Collections measured three ways, each in a run of its own, so that none disturbs another.

By the probes a tracer counts from outside; --trace-gc is V8's own print; perf_hooks is what a program sees.
"""

from __future__ import annotations

import resource
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from pathlib import Path

import psutil

from nodekiln.errors import KilnError
from nodekiln.experiment.results import COLLECTION_TYPES, Collection, GcRun, Way
from nodekiln.experiment.subjects import Subject
from nodekiln.experiment.trials import Setup
from nodekiln.experiment.watch import SLACK
from nodekiln.experiment.watching import INTERVAL_WITH_LIMIT, judge, tail, watch
from nodekiln.experiment.workloads import COLLECTIONS
from nodekiln.process import capture
from nodekiln.routes.trace import tracer_for
from nodekiln.settings import Settings
from nodekiln.tracing.child import Held, hold
from nodekiln.tracing.session import attach
from nodekiln.tracing.trace_gc import parse_trace_gc

OnCount = Callable[[int], None]
_AS_ROOT = "sudo -E ./inv compare"
_LOOK = INTERVAL_WITH_LIMIT / 1000
"""Seconds between two looks at a traced process."""


def measure(
    way: Way, setup: Setup, subject: Subject, number: int, settings: Settings, on_count: OnCount
) -> GcRun:
    """One run; `on_count` is told how many collections there were so far, where that can be known.

    Where a way can't be had (no tracer, no rights, no probes) the run says so in its note.
    """
    setup.make_ready()
    try:
        if way == "probes":
            return _by_probes(setup, subject, number, settings, on_count)
        if way == "trace-gc":
            return _by_trace_gc(setup, subject, number, on_count)
        return _by_perf_hooks(setup, subject, number)
    finally:
        setup.remove_output()


def name_tracer(env: Mapping[str, str]) -> str | None:
    """What would read the probes, with its version; None where there is nothing."""
    name = "bpftrace" if sys.platform == "linux" else "dtrace"
    with suppress(OSError, KilnError):
        words = capture([name, "--version" if name == "bpftrace" else "-V"], env=env, timeout=10).text.split()
        return f"{name} {words[-1]}" if words else name
    return None


def read_probe_lines(lines: Iterable[str], began_ns: int) -> tuple[Collection, ...]:
    """Lines of the script `collections`; `began_ns` is when the process began, on the same clock.

    Lines that are none (a tracer's warnings) are passed over.
    """
    found = []
    for line in lines:
        words = line.split(",")
        if len(words) == 3 and all(word.isdigit() for word in words):
            kind, begun, ended = map(int, words)
            found.append((kind, (ended - began_ns) / 1e6, (ended - begun) / 1e6))
    return _collections(found)


def read_perf_hooks_lines(lines: Iterable[str]) -> tuple[Collection, ...]:
    """Lines that preload/collections.cjs wrote; a last one that was cut off is passed over."""
    found = []
    for line in lines:
        with suppress(ValueError):
            kind, start, took = line.split(",")
            found.append((int(kind), float(start) + float(took), float(took)))
    return _collections(found)


def _by_trace_gc(setup: Setup, subject: Subject, number: int, on_count: OnCount) -> GcRun:
    def look(_: object) -> None:
        on_count(setup.log.read_bytes().count(b" ms: "))

    course = watch(
        setup.argv(subject, "--trace-gc"),
        env=setup.env,
        cwd=setup.folder,
        log=setup.log,
        limit=setup.limit,
        on_sample=look,
    )
    pauses = parse_trace_gc(setup.log.read_text(errors="replace"))
    return GcRun(
        binary=subject.facts.label,
        way="trace-gc",
        number=number,
        collections=_collections((one.type, one.end_ms, one.duration_ms) for one in pauses),
        wall_ms=course.wall_ms,
        ending=course.ending,
        note=course.detail,
    )


def _by_perf_hooks(setup: Setup, subject: Subject, number: int) -> GcRun:
    place = setup.folder / "collections.txt"
    place.write_bytes(b"")
    course = watch(
        setup.argv(subject, "--require", str(COLLECTIONS)),
        env={**setup.env, "NODEKILN_COLLECTIONS": str(place)},
        cwd=setup.folder,
        log=setup.log,
        limit=setup.limit,
    )
    return GcRun(
        binary=subject.facts.label,
        way="perf_hooks",
        number=number,
        collections=read_perf_hooks_lines(place.read_text().splitlines()),
        wall_ms=course.wall_ms,
        ending=course.ending,
        note=course.detail,
    )


def _by_probes(setup: Setup, subject: Subject, number: int, settings: Settings, on_count: OnCount) -> GcRun:
    lines: list[str] = []

    def take(line: str) -> None:
        lines.append(line)
        on_count(len(lines))

    try:
        make = tracer_for("collections", subject.path, str(subject.path), settings)
        with (
            setup.log.open("wb") as log,
            hold(setup.argv(subject), env=setup.env, cwd=setup.folder, output=log) as held,
        ):
            if sys.platform == "linux":
                held.stop_at_exec()
            _confine(held, setup.limit)
            with attach(make(held.process.pid), take, privileged=_AS_ROOT) as tracer:
                began_ns = _clock()
                held.let_go()
                capped = _wait(held, setup.limit)
                wall_ms = (_clock() - began_ns) / 1e6
    except KilnError as error:  # no tracer, no rights, no probes, no ELF file: the other two ways do without
        return GcRun(
            binary=subject.facts.label,
            way="probes",
            number=number,
            collections=None,
            wall_ms=0,
            note=str(error).replace(str(subject.path), subject.facts.label),
        )
    ending, detail = judge(held.process.returncode, tail(setup.log), setup.limit if capped else None)
    notes = [detail] if detail else []
    notes += [line for line in tracer.said.splitlines() if "lost" in line.lower()]
    # On Linux the file has told of its probes; dtrace is silent where there are none.
    is_told = bool(lines) or sys.platform == "linux"
    if not is_told:
        notes.append("dtrace saw no collection: the binary may have no probes")
    return GcRun(
        binary=subject.facts.label,
        way="probes",
        number=number,
        collections=read_probe_lines(lines, began_ns) if is_told else None,
        wall_ms=wall_ms,
        ending=ending,
        note="; ".join(notes),
    )


def _confine(held: Held, limit: int | None) -> None:
    """What watch.py does for a program that it starts: the kernel's own limit, and the first to go."""
    pid = held.process.pid
    if limit is not None and sys.platform == "linux":
        _, most = resource.prlimit(pid, resource.RLIMIT_DATA)
        wanted = limit + SLACK
        soft = wanted if most == resource.RLIM_INFINITY else min(wanted, most)
        resource.prlimit(pid, resource.RLIMIT_DATA, (soft, most))
    with suppress(OSError):
        Path(f"/proc/{pid}/oom_score_adj").write_text("1000")


def _wait(held: Held, limit: int | None) -> bool:
    """Until it ends; whether it was ended at the limit."""
    process = psutil.Process(held.process.pid)
    capped = False
    while held.process.poll() is None:
        with suppress(psutil.Error):
            if limit is not None and process.memory_info().rss > limit:
                capped = True
                held.process.kill()
        time.sleep(_LOOK)
    return capped


def _clock() -> int:
    """Nanoseconds of the tracer's clock: bpftrace's counts while the machine sleeps, dtrace's does not."""
    if sys.platform == "linux":
        return time.clock_gettime_ns(time.CLOCK_BOOTTIME)
    return time.monotonic_ns()


def _collections(found: Iterable[tuple[int, float, float]]) -> tuple[Collection, ...]:
    """From type, end and duration, in the order of their ends; types that no V8 of today has are left out."""
    return tuple(
        Collection(at_ms=max(0.0, end), duration_ms=max(0.0, took), type=kind)
        for kind, end, took in sorted(found, key=lambda one: one[1])
        if kind in COLLECTION_TYPES
    )

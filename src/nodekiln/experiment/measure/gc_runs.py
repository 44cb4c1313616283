"""Collections measured three ways, each in a run of its own, so that none disturbs another; and all in one.

By the probes a tracer counts from outside; --trace-gc is V8's own print; perf_hooks is what a program sees.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from nodekiln.core.errors import KilnError
from nodekiln.core.privileges import can_be_root
from nodekiln.core.process import capture
from nodekiln.core.settings import Settings
from nodekiln.experiment.inputs.binaries import Subject
from nodekiln.experiment.inputs.workloads import COLLECTIONS
from nodekiln.experiment.measure.traced import OnCount, read_perf_hooks_lines, read_trace_gc, run_traced
from nodekiln.experiment.measure.trials import Setup, check_disk
from nodekiln.experiment.measure.watching import watch
from nodekiln.experiment.model.results import GcRun, JointRun, Method

_TRACE_GC = "--trace-gc"
_OBSERVE = ("--require", str(COLLECTIONS))


def measure(
    method: Method, setup: Setup, subject: Subject, number: int, settings: Settings, on_count: OnCount
) -> GcRun:
    """Run once; `on_count` gets the number of collections so far, if known.

    The note of the run says why a method can't be used (no tracer, no rights, no probes). Raises SourceError
    if the disk is full or the binary has changed.
    """
    setup.make_ready(subject)
    try:
        if method == "probes":
            run = _by_probes(setup, subject, number, settings, on_count)
        elif method == "trace-gc":
            run = _by_trace_gc(setup, subject, number, on_count)
        else:
            run = _by_perf_hooks(setup, subject, number)
        if run.ending == "failed":
            check_disk(setup, run.binary, run.note)
    finally:
        setup.remove_output()
    return run


def measure_jointly(
    setup: Setup, subject: Subject, number: int, settings: Settings, on_count: OnCount
) -> JointRun:
    """Run once with all three methods; if the probes can't be read, the note says why.

    Raises what `measure` raises.
    """
    label = subject.facts.label
    setup.make_ready(subject)
    place, env = _observed(setup)
    try:
        traced = run_traced(
            setup.argv(subject, _TRACE_GC, *_OBSERVE),
            env=env,
            setup=setup,
            settings=settings,
            on_count=on_count,
        )
    except KilnError as error:
        return JointRun(binary=label, number=number, collections={}, wall_ms=0, note=_reason(error, subject))
    else:
        if traced.ending == "failed":
            check_disk(setup, label, "; ".join(traced.notes))
    finally:
        setup.remove_output()
    collections, unread = read_trace_gc(setup.log.read_text(errors="replace"))
    return JointRun(
        binary=label,
        number=number,
        collections={
            **({} if traced.collections is None else {"probes": traced.collections}),
            "trace-gc": collections,
            "perf_hooks": read_perf_hooks_lines(place.read_text().splitlines()),
        },
        wall_ms=traced.wall_ms,
        ending=traced.ending,
        note="; ".join(traced.notes),
        unread_lines=unread,
    )


def may_trace(env: Mapping[str, str]) -> bool:
    """Return True if probes can probably be read on this machine."""
    return can_be_root() and name_tracer(env) is not None


def name_tracer(env: Mapping[str, str]) -> str | None:
    """Return the tracer and its version, None if there is none."""
    name = "bpftrace" if sys.platform == "linux" else "dtrace"
    with suppress(OSError, KilnError):
        words = capture([name, "--version" if name == "bpftrace" else "-V"], env=env, timeout=10).text.split()
        return f"{name} {words[-1]}" if words else name
    return None


def _by_trace_gc(setup: Setup, subject: Subject, number: int, on_count: OnCount) -> GcRun:
    def look(_: object) -> None:
        on_count(setup.log.read_bytes().count(b" ms: "))

    course = watch(
        setup.argv(subject, _TRACE_GC),
        env=setup.env,
        cwd=setup.folder,
        log=setup.log,
        limit=setup.limit,
        on_sample=look,
    )
    collections, unread = read_trace_gc(setup.log.read_text(errors="replace"))
    return GcRun(
        binary=subject.facts.label,
        method="trace-gc",
        number=number,
        collections=collections,
        wall_ms=course.wall_ms,
        ending=course.ending,
        note=course.detail,
        unread_lines=unread,
    )


def _by_perf_hooks(setup: Setup, subject: Subject, number: int) -> GcRun:
    place, env = _observed(setup)
    course = watch(
        setup.argv(subject, *_OBSERVE), env=env, cwd=setup.folder, log=setup.log, limit=setup.limit
    )
    return GcRun(
        binary=subject.facts.label,
        method="perf_hooks",
        number=number,
        collections=read_perf_hooks_lines(place.read_text().splitlines()),
        wall_ms=course.wall_ms,
        ending=course.ending,
        note=course.detail,
    )


def _by_probes(setup: Setup, subject: Subject, number: int, settings: Settings, on_count: OnCount) -> GcRun:
    label = subject.facts.label
    try:
        traced = run_traced(
            setup.argv(subject), env=setup.env, setup=setup, settings=settings, on_count=on_count
        )
    except KilnError as error:  # no tracer, no rights, no probes, no ELF file: the other two ways do without
        return GcRun(
            binary=label,
            method="probes",
            number=number,
            collections=None,
            wall_ms=0,
            note=_reason(error, subject),
        )
    return GcRun(
        binary=label,
        method="probes",
        number=number,
        collections=traced.collections,
        wall_ms=traced.wall_ms,
        ending=traced.ending,
        note="; ".join(traced.notes),
    )


def _observed(setup: Setup) -> tuple[Path, Mapping[str, str]]:
    """Return the empty file for preload/collections.cjs, and the environment that names it."""
    place = setup.folder / "collections.txt"
    place.write_bytes(b"")
    return place, {**setup.env, "NODEKILN_COLLECTIONS": str(place)}


def _reason(error: KilnError, subject: Subject) -> str:
    return str(error).replace(str(subject.path), subject.facts.label)

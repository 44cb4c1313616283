"""Estimate the time, memory and disk space of a comparison before it runs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from nodekiln.core.reporting import format_duration, format_size
from nodekiln.experiment.inputs.binaries import Named
from nodekiln.experiment.inputs.resource_checks import expected_peak
from nodekiln.experiment.inputs.workloads import Workload
from nodekiln.experiment.measure.running import runs_for_collections
from nodekiln.experiment.model.request import CompareRequest
from nodekiln.experiment.report.format import mark_words

_VERIFYING = 200e6
"""Bytes of input a second, on the machine of workloads.toml."""
_TIMEOUT = 120.0
"""Seconds; for what takes longer, and could take less, a size is named that doesn't."""
_SMALL = 4096
"""Bytes: from this highWaterMark on, a chunk takes less than its bytes do."""
_CHUNK_SECONDS, _CHUNK_BYTES = 40e-6, 700
"""The cost of a chunk, however small: 20 to 70 us were measured, and 560 to 900 bytes while it waits, with
v22.20.0 and chunks of 1 to 4096 bytes."""
_STEP = 32 * 10**6
"""Bytes: such a size is a round number."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Forecast:
    """`memory` in bytes; `seconds` is None where nobody knows."""

    runs: int
    seconds: float | None
    memory: int
    lines: tuple[str, ...]
    """For people."""


def forecast(
    request: CompareRequest,
    workload: Workload,
    named: Sequence[Named],
    sizes: Sequence[int],
    *,
    disk: int,
    may_trace: bool,
) -> Forecast:
    """`sizes` are those of the inputs, `disk` the bytes that will be written.

    `may_trace`: whether there will be runs that need a tracer.
    """
    gc_runs_each = runs_for_collections(request, may_trace=may_trace)
    marks = len(request.high_water_marks)
    warm_ups = len(named) * request.warm_ups
    trials = len(named) * request.trials * request.points
    gc_runs = len(named) * gc_runs_each * request.points
    seconds = _seconds(request, workload, len(named), sizes, gc_runs_each)
    memory = expected_peak(max(sizes), piles_up=piles_up(named))
    if request.memory_limit is not None:
        memory = min(memory, request.memory_limit)
    chunks = _small_chunks(request, workload, max(sizes))
    shown = ", ".join(map(format_size, sizes))
    series = f" x {marks} highWaterMarks" if marks > 1 else ""
    took = "as long as they take" if seconds is None else f"some {format_duration(seconds)} on a slow core"
    may_shorten = request.source is None and not request.is_series and not chunks
    if seconds is not None and seconds > _TIMEOUT and may_shorten:
        least = _seconds(request, workload, len(named), [0], gc_runs_each) or 0.0
        shorter = int(sizes[0] * (_TIMEOUT - least) / (seconds - least) / _STEP) * _STEP
        took += f"; --size {shorter // 10**6}M takes two minutes" if shorter > 0 else ""
    return Forecast(
        runs=warm_ups + trials + gc_runs,
        seconds=seconds,
        memory=memory,
        lines=(
            f"comparing {', '.join(one.label for one in named)}",
            f"workload {workload.name}: {workload.about}; {shown} of input{series}",
            f"{warm_ups} warm-ups, {trials} trials and {gc_runs} runs for collections: {took}",
            f"memory: a run may take {format_size(memory)}; disk: {format_size(disk)}",
            *chunks,
        ),
    )


def piles_up(named: Sequence[Named]) -> bool:
    """Return True if a binary may take all of its input into memory, as an unknown one may."""
    return any(one.backpressure is not True for one in named)


def _small_chunks(request: CompareRequest, workload: Workload, size: int) -> tuple[str, ...]:
    """Return the note on the cost of chunks for a small highWaterMark."""
    least = min((mark for mark in request.high_water_marks if mark is not None), default=_SMALL)
    if workload.unit != "bytes" or least >= _SMALL:
        return ()
    chunks = -(-size // least)
    time, memory = format_duration(chunks * _CHUNK_SECONDS), format_size(chunks * _CHUNK_BYTES)
    return (
        f"{mark_words(least, workload.unit)}: {chunks:,} chunks take some {time} a run besides, and up to"
        f" {memory} of memory if all of them wait",
    )


def _seconds(
    request: CompareRequest,
    workload: Workload,
    binaries: int,
    sizes: Sequence[int],
    gc_runs_each: int,
) -> float | None:
    total = 0.0
    for number, size in enumerate(sizes):
        once = workload.seconds(size)
        if once is None:
            return None
        verified = once + size / _VERIFYING
        each = request.trials * verified + gc_runs_each * once
        total += binaries * (
            each * len(request.high_water_marks) + (request.warm_ups * verified if number == 0 else 0)
        )
    return total

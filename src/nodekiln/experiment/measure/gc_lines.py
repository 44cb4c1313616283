"""Collections, from the lines that each way of measuring them leaves behind."""

from __future__ import annotations

import re
from collections.abc import Iterable
from contextlib import suppress

from nodekiln.experiment.model.results import COLLECTION_TYPES, Collection
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
    """Whether a line of the script `collections` tells one."""
    return _ENDED.fullmatch(line) is not None


def read_perf_hooks_lines(lines: Iterable[str]) -> tuple[Collection, ...]:
    """Lines that preload/collections.cjs wrote; a last one that was cut off is passed over."""
    found = []
    for line in lines:
        with suppress(ValueError):
            kind, start, took = line.split(",")
            found.append((int(kind), float(start) + float(took), float(took)))
    return _in_order(found)


def read_trace_gc(text: str) -> tuple[tuple[Collection, ...], tuple[str, ...]]:
    """Return the collections in the output of --trace-gc, and its first lines that could not be parsed."""
    trace = parse_trace_gc(text)
    collections = _in_order((one.type, one.end_ms, one.duration_ms) for one in trace.pauses)
    return collections, tuple(line[:_MAX_LINE] for line in trace.not_understood[:_MAX_UNREAD])


def _in_order(found: Iterable[tuple[int, float, float]]) -> tuple[Collection, ...]:
    """From type, end and duration, in the order of their ends; types that no V8 of today has are left out."""
    return tuple(
        Collection(at_ms=max(0.0, end), duration_ms=max(0.0, took), type=kind)
        for kind, end, took in sorted(found, key=lambda one: one[1])
        if kind in COLLECTION_TYPES
    )

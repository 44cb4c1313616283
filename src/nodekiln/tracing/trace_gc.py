"""Parse the lines of V8's --trace-gc, from Node 12 to 26, out of the text that a program printed."""

from __future__ import annotations

import re
from dataclasses import dataclass

from nodekiln.core import limits

_PREFIX = re.compile(r"\[\d+:(?:0x)?[0-9a-fA-F]+\]\s+(?P<end>\d+) ms: ")
"""Process, isolate and time. With --trace-gc alone, V8 prints it only in front of a collection."""
_COLLECTION = re.compile(
    r"(?:Incremental )?(?P<kind>Scavenge|Minor Mark-\w+|Mark-\w+)(?: \([\w ]+\))* "
    r"[\d.]+ \([\d.]+\) -> [\d.]+ \([\d.]+\) MB, (?:pooled: [\d.]+ MB, )?(?P<took>\d+(?:\.\d+)?) / [\d.]+ ms"
)
_SCAVENGE, _MINOR, _MAJOR = 1, 2, 4


@dataclass(frozen=True, slots=True)
class Pause:
    """One collection, of V8's GCType `type`. `end_ms` counts from the start of its isolate."""

    end_ms: float
    duration_ms: float
    type: int


@dataclass(frozen=True, slots=True)
class GcTrace:
    """Return the collections of a text, in order, and the lines that look like one but have an unknown
    format.

    A report of these collections is incomplete unless `not_understood` is empty.
    """

    pauses: tuple[Pause, ...]
    not_understood: tuple[str, ...]


def parse_trace_gc(text: str) -> GcTrace:
    """Return the collections in `text`; other output of the program is skipped.

    The end is in whole milliseconds, the duration in hundredths (tenths up to Node 20). For a mark-compact
    that began in steps ("Incremental" from V8 14.6 on), the duration is that of the last pause, as in
    perf_hooks.
    """
    pauses, unknown = [], []
    prefix = _PREFIX.search(text)
    while prefix is not None:
        found = _COLLECTION.match(text, prefix.end())
        if found and max(float(prefix["end"]), float(found["took"])) <= limits.MILLISECONDS:
            pauses.append(Pause(float(prefix["end"]), float(found["took"]), _type(found["kind"])))
            position = found.end()
        else:
            end = text.find("\n", prefix.start())
            unknown.append(text[prefix.start() : end if end >= 0 else len(text)].rstrip())
            position = prefix.end()
        prefix = _PREFIX.search(text, position)
    return GcTrace(tuple(pauses), tuple(unknown))


def _type(kind: str) -> int:
    if kind == "Scavenge":
        return _SCAVENGE
    return _MINOR if kind.startswith("Minor") else _MAJOR

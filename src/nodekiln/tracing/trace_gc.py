"""The lines of V8's --trace-gc, from Node 12 to 26: collections in the text that a program printed."""

from __future__ import annotations

import re
from dataclasses import dataclass

_LINE = re.compile(
    r"\[\d+:(?:0x)?[0-9a-fA-F]+\]\s+(?P<end>\d+) ms: "
    r"(?P<kind>Scavenge|Minor Mark-\w+|Mark-\w+)(?: \([\w ]+\))* "
    r"[\d.]+ \([\d.]+\) -> [\d.]+ \([\d.]+\) MB, (?:pooled: [\d.]+ MB, )?(?P<took>\d+(?:\.\d+)?) / [\d.]+ ms"
)
_SCAVENGE, _MINOR, _MAJOR = 1, 2, 4


@dataclass(frozen=True, slots=True)
class Pause:
    """One collection, of V8's GCType `type`. `end_ms` counts from the start of its isolate."""

    end_ms: float
    duration_ms: float
    type: int


def parse_trace_gc(text: str) -> tuple[Pause, ...]:
    """The collections in `text`, in its order; whatever else the program printed is passed over.

    The end is in whole milliseconds, the duration in hundredths (tenths up to Node 20). Of a mark-compact
    that was begun in steps, the duration is that of the last pause, as in perf_hooks.
    """
    return tuple(
        Pause(float(line["end"]), float(line["took"]), _type(line["kind"])) for line in _LINE.finditer(text)
    )


def _type(kind: str) -> int:
    if kind == "Scavenge":
        return _SCAVENGE
    return _MINOR if kind.startswith("Minor") else _MAJOR

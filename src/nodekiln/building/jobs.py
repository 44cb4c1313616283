"""How many compilers run at once."""

from __future__ import annotations

MEMORY_PER_JOB = 2 * 10**9
"""Bytes: V8's biggest files take about this much each (nodejs/node#8144)."""


def default_jobs(cores: int, available_memory: int) -> int:
    """One job a core, fewer where memory (bytes) would not do for that many, never less than one."""
    return max(1, min(cores, available_memory // MEMORY_PER_JOB))

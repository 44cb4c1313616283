"""Describe a tracer to a session: how to start it, when it is attached, and why it failed.

bpftrace.py and dtrace.py each make a Tracer; neither starts anything.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from nodekiln.core.errors import ToolchainError
from nodekiln.core.process import error_line


class UntraceableError(ToolchainError):
    """Tracing is impossible on this machine or for this user; `remedy` says what would change that."""


@dataclass(frozen=True, kw_only=True)
class Tracer:
    """A tracer's command line for one process.

    `attached` is the line that it prints, on either stream, once every probe is in place. `lingers`: seconds
    that it may take to end by itself after the process has; 0 for one that waits for a signal.
    """

    argv: tuple[str, ...]
    env: Mapping[str, str]
    attached: str
    lingers: float


def diagnose(said: str, *, privileged: str) -> UntraceableError:
    """Why a tracer gave up, from what it said; the last line that is no warning where nothing is known.

    `privileged` is the command to type for a user who lacks the rights.
    """
    for pattern, why, remedy in _known():
        if pattern.search(said):
            return UntraceableError(why, remedy=remedy.replace("PRIVILEGED", privileged))
    lines = [line for line in said.splitlines() if not line.startswith("WARNING")]
    return UntraceableError(f"The tracer could not attach: {error_line(chr(10).join(lines))}")


@cache
def _known() -> tuple[tuple[re.Pattern[str], str, str], ...]:
    rows = tomllib.loads(Path(__file__).with_name("failures.toml").read_text())["failure"]
    return tuple((re.compile(row["pattern"]), row["why"], row["remedy"]) for row in rows)

"""The Python that single changes need, by the names that their change.toml refers to.

Everything else about a change is in its folder. Only this module and the command line name a change.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from nodekiln.changes import no_backpressure, usdt
from nodekiln.changes.usdt import Provider
from nodekiln.core.edit import Edit, Read, Refusal, Remember

NO_BACKPRESSURE = "no-backpressure"
"""The change that --no-backpressure selects."""
USDT = "usdt"
"""The change that --no-probes leaves out."""
MARKED = (NO_BACKPRESSURE,)
"""The changes of a graft whose comment names none, for lack of room (Mach-O and PE have no notes)."""


@dataclass(frozen=True, slots=True)
class Rewrite:
    """Edits found by the structure of the code; `plan` reads no files other than `paths`."""

    paths: tuple[str, ...]
    plan: Callable[[Read, Remember], tuple[Edit, ...] | Refusal]


@dataclass(frozen=True, slots=True)
class Detector:
    """Finds out whether a tree already has what the change adds; `find` reads no files other than `paths`."""

    paths: tuple[str, ...]
    find: Callable[[Read], Provider | None]


REWRITES: Mapping[str, Rewrite] = {
    "no_backpressure": Rewrite(no_backpressure.PATHS, no_backpressure.plan_backpressure),
}
"""For `rewrite = "..."` in change.toml."""

DETECTORS: Mapping[str, Detector] = {
    "usdt_provider": Detector(usdt.PATHS, usdt.find_provider),
}
"""For `existing = "..."` in change.toml."""

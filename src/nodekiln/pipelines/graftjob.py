"""One graft: what was asked for, and what every step of it needs."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from nodekiln.binaries.store import Store
from nodekiln.core.recipe import Recipe, Tag
from nodekiln.core.reporting import Reporter
from nodekiln.core.settings import Settings
from nodekiln.grafting.platforms import Platform


@dataclass(frozen=True, kw_only=True)
class GraftRequest:
    """What a user asked of one graft; `platform` None: this machine's; `file` None: it is fetched."""

    tag: Tag
    backpressure: bool
    probes: bool
    platform: Platform | None = None
    file: Path | None = None
    mirror: str | None = None
    """Where releases lie in place of nodejs.org/dist."""
    force: bool = False
    brief: bool = False
    """Say in a line what was made; what was changed stands in the manifest."""


@dataclass(frozen=True, kw_only=True)
class GraftJob:
    """What every step needs."""

    settings: Settings
    reporter: Reporter
    recipe: Recipe
    platform: Platform
    is_native: bool
    codesign: str | None
    brief: bool
    seconds: dict[str, float] = field(default_factory=dict)

    @property
    def store(self) -> Store:
        """Where the binary is published."""
        return Store(self.settings.workspace)

    @contextmanager
    def timed(self, step: str) -> Iterator[None]:
        """Notes how long a step took."""
        begun = time.monotonic()
        yield
        self.seconds[step] = round(time.monotonic() - begun, 2)

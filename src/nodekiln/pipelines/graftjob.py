"""One graft: what was asked for, and what every step of it needs."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from nodekiln.binaries.store import Store
from nodekiln.changes.registry import Change, Registry
from nodekiln.core.recipe import Recipe, Tag
from nodekiln.core.reporting import Reporter
from nodekiln.core.settings import Settings
from nodekiln.grafting.platforms import Platform


@dataclass(frozen=True, kw_only=True)
class GraftRequest:
    """What a user asked of one graft; `platform` None: this machine's; `file` None: it is fetched."""

    tag: Tag
    changes: tuple[str, ...]
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

    @cached_property
    def registry(self) -> Registry:
        """All changes that can be selected."""
        return Registry.of(self.settings)

    @cached_property
    def changes(self) -> tuple[Change, ...]:
        """The recipe's changes, read from their folders."""
        return self.registry.of_recipe(self.recipe)

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

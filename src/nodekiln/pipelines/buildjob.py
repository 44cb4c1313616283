"""One build: what was asked for, and what its checks settled for every step that follows."""

from __future__ import annotations

import shlex
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from nodekiln.binaries.freshness import Wanted
from nodekiln.binaries.store import Store
from nodekiln.building.compile import Compiler
from nodekiln.building.configure import baked
from nodekiln.core.recipe import Recipe
from nodekiln.core.reporting import Reporter
from nodekiln.core.settings import Settings
from nodekiln.pipelines.planning import Planned
from nodekiln.source.tree import WorkingTree
from nodekiln.toolchain.request import Request
from nodekiln.toolchain.toolchain import Toolchain


@dataclass(frozen=True, kw_only=True)
class BuildRequest:
    """What a user asked of one build; `jobs` None: as many as cores and memory allow."""

    recipe: Recipe
    repository: str | None = None
    jobs: int | None = None
    force: bool = False
    from_scratch: bool = False
    clean_env: bool = False
    dry_run: bool = False
    accept_moved_tag: bool = False
    discard_edits: bool = False
    launcher: str | None = None
    """ccache, sccache, distcc, icecc or none; None: what is there."""
    linker: str | None = None
    """mold, lld, bfd or default; None: that of before, else lld where it is there."""


@dataclass(frozen=True, kw_only=True)
class BuildJob:
    """What every step after the checks needs."""

    request: BuildRequest
    settings: Settings
    reporter: Reporter
    planned: Planned
    toolchain: Toolchain
    jobs: int
    asked: Request
    """What the toolchain was asked for."""
    seconds: dict[str, float] = field(default_factory=dict)

    @property
    def recipe(self) -> Recipe:
        return self.request.recipe

    @property
    def store(self) -> Store:
        return Store(self.settings.workspace)

    @property
    def tree(self) -> WorkingTree:
        return WorkingTree(self.settings.workspace, self.recipe.tree_name)

    @property
    def wanted(self) -> Wanted:
        return Wanted(
            commit=self.planned.source.commit,
            plan=self.planned.plan.digest,
            configure_args=self.configure_args,
            compiler=self.toolchain.identity,
            environment=self.environment,
            linker=self.toolchain.linker.name,
        )

    @property
    def environment(self) -> str:
        """What of the caller's variables configure writes into the build files, compilers left out."""
        variables = baked(self.toolchain.caller_env).items()
        others = ((name, value) for name, value in variables if value and name not in ("CC", "CXX"))
        return " ".join(f"{name}={shlex.quote(value)}" for name, value in others)

    @property
    def configure_args(self) -> tuple[str, ...]:
        """The recipe's, and what a tree that brings its own probes wants to be told."""
        provider = self.planned.provider
        return self.recipe.configure_args + (() if provider is None else provider.configure_args)

    @property
    def configure_argv(self) -> list[str]:
        ninja = ["--ninja"] if self.toolchain.generator == "ninja" else []
        return ["./configure", *ninja, *self.configure_args]

    @property
    def compiler(self) -> Compiler:
        return Compiler(
            self.tree.source,
            self.tree.folder / "build.log",
            self.toolchain.generator,
            self.toolchain.make_argv[0],
        )

    @contextmanager
    def timed(self, step: str) -> Iterator[None]:
        begun = time.monotonic()
        yield
        self.seconds[step] = round(time.monotonic() - begun, 2)

    @property
    def marks(self) -> dict[str, str]:
        """What config.gypi, and so the binary, is marked with."""
        return {"nodekiln_recipe": self.recipe.name, "nodekiln_plan": self.planned.plan.digest}

"""One graft: what was asked for, and what every step of it needs."""

from __future__ import annotations

import datetime
import platform
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import nodekiln
from nodekiln.binaries.manifest import (
    AddedProbe,
    AppendedRange,
    AppliedChange,
    ChangedRange,
    Grafted,
    Manifest,
    planned_files,
    rewritten_range,
)
from nodekiln.binaries.selfcheck import Findings
from nodekiln.binaries.store import Store
from nodekiln.changes.registry import Change, Registry
from nodekiln.core.elf.sections import Additions
from nodekiln.core.files import hash_file
from nodekiln.core.recipe import Recipe, Tag
from nodekiln.core.reporting import Reporter, format_duration
from nodekiln.core.settings import Settings
from nodekiln.grafting.platforms import Platform
from nodekiln.grafting.release import Release
from nodekiln.pipelines.graft_plan import Surgery


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


_SNAPSHOTS = (
    "A startup snapshot that was made with the release (node --build-snapshot) keeps the code that was"
    " compiled there: make it again with this binary."
)
_PROBES = (
    "It has two probes, node:gc__start and node:gc__done. Arguments: type and flags of the collection, and"
    " the address of V8's heap (not of the isolate). They also fire for nested collections and for types 8"
    " and 16, which a registered callback never sees. Probes of http, net and streams need a build."
)
_SIGNATURES = {
    "darwin": "It is signed again, by nobody (ad hoc): other Macs may ask before they run it.",
    "win": "Its signature is not valid any more, as its bytes changed: Windows may ask before it runs.",
}


@dataclass(frozen=True, kw_only=True)
class Made:
    """A graft that was written and looked at, and what it was made from."""

    binary: Path
    release: Release
    surgery: Surgery
    additions: Additions
    """What differs from the release beside the ranges of the surgery."""
    findings: Findings | None
    """None: it can't be run here."""
    probes_seen: str | None
    """None: it has none."""


def manifest(job: GraftJob, made: Made) -> Manifest:
    """The manifest of a graft; reads the whole binary for its hash."""
    recipe, surgery, system = job.recipe, made.surgery, platform.uname()
    return Manifest(
        name=recipe.name,
        route="graft",
        tag=str(recipe.tag),
        changes=tuple(AppliedChange(change.name, change.sha256) for change in job.changes),
        repository=made.release.origin,
        commit="",
        plan=surgery.plan.digest,
        planned=planned_files(surgery.plan),
        configure_args=(),
        config={},
        toolchain={},
        machine={"system": system.system, "release": system.release, "processor": system.machine},
        seconds=dict(job.seconds),
        steps=0,
        sha256=hash_file(made.binary),
        size=made.binary.stat().st_size,
        probes_seen=made.probes_seen,
        self_check=made.findings,
        made=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        made_by=f"nodekiln {nodekiln.__version__}",
        graft=_grafted(job, made),
    )


def _grafted(job: GraftJob, made: Made) -> Grafted:
    return Grafted(
        platform=str(job.platform),
        release=made.release.origin,
        release_sha256=made.release.sha256,
        release_size=made.release.path.stat().st_size,
        release_checks=made.release.checks,
        changed=tuple(
            ChangedRange(change.path, change.start, len(change.new), change.old.decode(), change.new.decode())
            for change in made.surgery.ranges
        ),
        rewritten=tuple(
            rewritten_range(change.what, change.start, change.old, change.new)
            for change in made.additions.rewritten
        ),
        appended=tuple(AppendedRange(part.what, part.start, part.size) for part in made.additions.appended),
        probes=tuple(
            AddedProbe(probe.provider, probe.name, probe.address, probe.arguments)
            for probe in made.surgery.probes
        ),
        remarks=_remarks(job, made.surgery),
    )


def _remarks(job: GraftJob, surgery: Surgery) -> tuple[str, ...]:
    """What whoever uses the binary should know."""
    told = []
    if surgery.ranges:
        told.append(_SNAPSHOTS)
    if surgery.probes:
        told.append(_PROBES)
    if job.platform.os in _SIGNATURES:
        told.append(_SIGNATURES[job.platform.os])
    return tuple(told)


def tell(job: GraftJob, made: Made) -> None:
    """Says every byte range, how the checks went, and the remarks; or in a line that it was made."""
    say = job.reporter.say
    took = format_duration(sum(job.seconds.values()))
    if job.brief:
        say(f"grafted {job.recipe.name} in {took}")
        return
    for change in made.surgery.ranges:
        say(f"changed: {len(change.new)} bytes at {change.start:#x}, in {change.path}")
    for part in made.additions.rewritten:
        say(f"changed: {len(part.new)} bytes at {part.start:#x}, {part.what}")
    if appended := made.additions.appended:
        size = sum(part.size for part in appended)
        names = ", ".join(part.what for part in appended)
        say(f"appended: {size} bytes at {appended[0].start:#x}, {names}")
    if made.findings is None:
        say(f"self-check: not run, as the binary is for {job.platform}")
    else:
        answers = str(made.findings.write_answers).lower()
        say(f"self-check: {made.findings.version}, write() answers {answers} on a full stream")
    if made.probes_seen is not None:
        say(f"probes: {made.probes_seen}")
    say(f"grafted in {took}")
    for remark in _remarks(job, made.surgery):
        say(remark)

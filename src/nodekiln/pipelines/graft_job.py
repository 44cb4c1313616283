"""The state of one graft, its manifest, and what is printed about it."""

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
from nodekiln.core.elf.notes import Additions
from nodekiln.core.files import hash_file
from nodekiln.core.recipe import Recipe, Tag
from nodekiln.core.reporting import Reporter, format_duration
from nodekiln.core.settings import Settings
from nodekiln.grafting.libraries import FOLDER as LIBRARY_FOLDER
from nodekiln.grafting.platforms import Platform
from nodekiln.grafting.release import Release
from nodekiln.pipelines.graft_plan import GraftPlan


@dataclass(frozen=True, kw_only=True)
class GraftRequest:
    """The options of one graft; `platform` None: this machine's; `file` None: download the release."""

    tag: Tag
    changes: tuple[str, ...]
    platform: Platform | None = None
    file: Path | None = None
    mirror: str | None = None
    """URL of a folder like nodejs.org/dist."""
    allow_unsigned: bool = False
    """Use a release whose signature is missing, unknown or wrong."""
    force: bool = False
    keep_snapshot: bool = False
    """Refuse a graft for which the built-in startup snapshot must be switched off."""


@dataclass(frozen=True, kw_only=True)
class GraftJob:
    """The state that every step of a graft uses."""

    settings: Settings
    reporter: Reporter
    recipe: Recipe
    platform: Platform
    is_native: bool
    codesign: str | None
    seconds: dict[str, float] = field(default_factory=dict)

    @cached_property
    def registry(self) -> Registry:
        """All known changes."""
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
    "A startup snapshot built with the release (node --build-snapshot) contains the release's code: build it"
    " again with this binary."
)
_PROBES = (
    "It has two probes, node:gc__start and node:gc__done. Arguments: type and flags of the collection, and"
    " the address of V8's heap (not of the isolate). They also fire for nested collections and for types 8"
    " and 16, which a registered callback never sees. Probes of http, net and streams need a build."
)
_SIGNATURES = {
    "darwin": "It has an ad hoc signature: other Macs may ask before they run it.",
    "win": "Its signature is no longer valid, as its bytes changed: Windows may ask before it runs.",
}


@dataclass(frozen=True, kw_only=True)
class Made:
    """A graft that was written and checked, and what it was made from."""

    binary: Path
    release: Release
    graft_plan: GraftPlan
    additions: Additions
    """Differences from the release besides the ranges of the plan."""
    findings: Findings | None
    """None if the binary can't be run on this machine."""
    probes_seen: str | None
    """None if no probes were added."""
    startup: tuple[float, float] | None
    """CPU seconds of a start of the release and of the graft; None unless its snapshot is switched off."""


def manifest(job: GraftJob, made: Made) -> Manifest:
    """Return the manifest of a graft; hashes the whole binary."""
    recipe, graft_plan, system = job.recipe, made.graft_plan, platform.uname()
    return Manifest(
        name=recipe.name,
        route="graft",
        tag=str(recipe.tag),
        changes=tuple(AppliedChange(change.name, change.sha256) for change in job.changes),
        repository=made.release.origin,
        commit="",
        plan=graft_plan.plan.digest,
        planned=planned_files(graft_plan.plan),
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
            for change in made.graft_plan.ranges
        ),
        rewritten=tuple(
            rewritten_range(change.what, change.start, change.old, change.new)
            for change in made.additions.rewritten
        ),
        appended=tuple(AppendedRange(part.what, part.start, part.size) for part in made.additions.appended),
        probes=tuple(
            AddedProbe(probe.provider, probe.name, probe.address, probe.arguments)
            for probe in made.graft_plan.probes
        ),
        remarks=_remarks(job, made),
    )


def _snapshot_remark(made: Made) -> str | None:
    """Return what happened to the built-in startup snapshot; None if it is the release's."""
    edit = made.graft_plan.snapshot
    if not edit.modules:
        return None
    contains = f"the built-in startup snapshot contains {', '.join(edit.modules)}"
    if not edit.is_off:
        return f"{contains}, and was changed as well"
    if made.startup is None:
        return f"{contains}, and is switched off: start-up takes more CPU time"
    before, after = made.startup
    return (
        f"{contains}, and is switched off: start-up takes {after * 1000:.0f} ms of CPU time instead of"
        f" {before * 1000:.0f} ms ({after / before:.1f} times)"
    )


def _remarks(job: GraftJob, made: Made) -> tuple[str, ...]:
    """Return notes for users of the binary."""
    graft_plan, remarks = made.graft_plan, []
    if graft_plan.ranges:
        remarks.append(_SNAPSHOTS)
    if (snapshot := _snapshot_remark(made)) is not None:
        remarks.append(f"{snapshot[0].upper()}{snapshot[1:]}.")
    if graft_plan.libraries is not None:
        names = ", ".join(graft_plan.libraries.files)
        remarks.append(f"It loads {names} from the folder {LIBRARY_FOLDER} beside it: keep them together.")
    if graft_plan.probes:
        remarks.append(_PROBES)
    if job.platform.os in _SIGNATURES:
        remarks.append(_SIGNATURES[job.platform.os])
    return tuple(remarks)


def report(job: GraftJob, made: Made) -> None:
    """Print the checks and the result in a line each; with --verbose every byte range and remark too."""
    detail = job.reporter.detail
    for change in made.graft_plan.ranges:
        detail(f"changed: {len(change.new)} bytes at {change.start:#x}, in {change.path}")
    for part in made.additions.rewritten:
        detail(f"changed: {len(part.new)} bytes at {part.start:#x}, {part.what}")
    if appended := made.additions.appended:
        size = sum(part.size for part in appended)
        names = ", ".join(part.what for part in appended)
        detail(f"appended: {size} bytes at {appended[0].start:#x}, {names}")
    if made.findings is None:
        checks = [f"not run, as the binary is for {job.platform}"]
    else:
        checks = [made.findings.summary]
    if made.probes_seen is not None:
        checks.append(f"probes: {made.probes_seen}")
    job.reporter.say(f"self-check: {'; '.join(checks)}")
    if made.graft_plan.snapshot.is_off:
        job.reporter.say(_snapshot_remark(made) or "")
    job.reporter.say(f"grafted {job.recipe.name} in {format_duration(sum(job.seconds.values()))}")
    for remark in _remarks(job, made):
        detail(remark)

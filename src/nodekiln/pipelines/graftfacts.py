"""What is told of a graft, in its manifest and in the output: every byte that changed, and what to know."""

from __future__ import annotations

import datetime
import platform
from dataclasses import dataclass
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
from nodekiln.core.elf.sections import Additions
from nodekiln.core.files import hash_file
from nodekiln.core.reporting import format_duration
from nodekiln.grafting.release import Release
from nodekiln.pipelines.graft_plan import Surgery
from nodekiln.pipelines.graftjob import GraftJob

_SNAPSHOTS = (
    "A startup snapshot that was made with the release (node --build-snapshot) keeps the code that was"
    " compiled there: make it again with this binary."
)
_PROBES = (
    "It has two probes, node:gc__start and node:gc__done: the type and flags of a collection, and as third"
    " argument the address of V8's heap, not of the isolate. {} Probes of http, net and streams need a build."
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
    if surgery.gc is not None:
        told.append(_PROBES.format(surgery.gc.remark))
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
    for field in made.additions.rewritten:
        say(f"changed: {len(field.new)} bytes at {field.start:#x}, {field.what}")
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

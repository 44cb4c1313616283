"""The route from official release to binary: every step in order, each taking what the step before made."""

from __future__ import annotations

import datetime
import os
import platform
import shutil
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import nodekiln
from nodekiln.binaries import selfcheck
from nodekiln.binaries.freshness import WantedGraft, graft_differences
from nodekiln.binaries.manifest import AddedProbe, ChangedRange, Grafted, Manifest, planned_files
from nodekiln.binaries.selfcheck import Expected, Findings
from nodekiln.binaries.store import Store, sha256_of
from nodekiln.errors import UsageError
from nodekiln.grafting import signing
from nodekiln.grafting.platforms import Platform
from nodekiln.grafting.release import Release, obtain
from nodekiln.patching import diff
from nodekiln.recipe import Recipe, Tag
from nodekiln.reporting import Reporter, format_duration
from nodekiln.routes.surgery import Surgery, operate, plan_surgery
from nodekiln.settings import Settings

_AGAIN = "Run the same command with --force"

_SNAPSHOTS = (
    "A startup snapshot that was made with the release (node --build-snapshot) keeps the code that was"
    " compiled there: make it again with this binary."
)
_PROBES = (
    "It has two probes, node:gc__start and node:gc__done: the type and flags of a collection, and as third"
    " argument the address of V8's heap, not of the isolate. They fire for nested collections and for types 8"
    " and 16 too, which a registered callback never sees. Probes of http, net and streams need a build."
)
_SIGNATURES = {
    "darwin": "It is signed again, by nobody (ad hoc): other Macs may ask before they run it.",
    "win": "Its signature is not valid any more, as its bytes changed: Windows may ask before it runs.",
}
_NO_PROBES = {
    "darwin": "a program for macOS has no notes of probes: DTrace's need code that is compiled in",
    "win": "Windows has no such probes",
}


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


@dataclass(frozen=True, kw_only=True)
class _Job:
    """What every step needs."""

    settings: Settings
    reporter: Reporter
    recipe: Recipe
    platform: Platform
    is_native: bool
    codesign: str | None
    seconds: dict[str, float] = field(default_factory=dict)

    @property
    def store(self) -> Store:
        return Store(self.settings.workspace.binaries)

    @contextmanager
    def timed(self, step: str) -> Iterator[None]:
        begun = time.monotonic()
        yield
        self.seconds[step] = round(time.monotonic() - begun, 2)


def graft(request: GraftRequest, settings: Settings, reporter: Reporter) -> Path:
    """Makes the binary of a recipe from the official one and returns its path.

    Raises the KilnError of the step that failed; the release is kept for the next run.
    """
    job = _prepare(request, settings, reporter)
    releases = settings.workspace.releases
    purpose = f"grafting {job.recipe.name}"
    with settings.workspace.lock(f"release-{request.tag}-{job.platform}", purpose, reporter.say):
        with job.timed("release"):
            release = obtain(
                request.tag,
                job.platform,
                folder=releases,
                file=request.file,
                mirror=request.mirror,
                env=settings.environment,
                reporter=reporter,
            )
        with job.timed("plan"):
            surgery = plan_surgery(release.path, job.recipe, job.platform)
        if not request.force and (path := _already_there(job, release, surgery)) is not None:
            return path
        return _make(job, release, surgery)


def _prepare(request: GraftRequest, settings: Settings, reporter: Reporter) -> _Job:
    """Everything that can be refused without the release."""
    here = Platform.of_machine(sys.platform, platform.machine())
    target = request.platform or here
    if target is None:
        raise UsageError(
            f"There is no release to graft for this machine ({sys.platform}, {platform.machine()}).",
            remedy="--platform linux-x64 makes a graft for another one.",
        )
    if request.backpressure and not request.probes:
        raise UsageError(
            f"That would be {request.tag} as it was released.",
            remedy="Add --no-backpressure, or leave --no-probes out.",
        )
    if request.probes and target.os in _NO_PROBES:
        raise UsageError(
            f"A graft for {target} gets no probes: {_NO_PROBES[target.os]}.",
            remedy="Add --no-probes; ./inv build makes a binary with all of them where they work.",
        )
    codesign = signing.find_codesign(settings.environment) if target.os == "darwin" else None
    settings.workspace.prepare()
    recipe = Recipe(
        tag=request.tag,
        backpressure=request.backpressure,
        probes=request.probes,
        graft=True,
        platform=None if target == here else str(target),
    )
    return _Job(
        settings=settings,
        reporter=reporter,
        recipe=recipe,
        platform=target,
        is_native=target == here,
        codesign=codesign,
    )


def _already_there(job: _Job, release: Release, surgery: Surgery) -> Path | None:
    name = job.recipe.name
    published = job.store.find(name)
    if published is None:
        return None
    wanted = WantedGraft(
        release=release.sha256,
        plan=surgery.plan.digest,
        probes=tuple(probe.name for probe in surgery.probes),
    )
    found = graft_differences(published, wanted)
    if not found:
        job.reporter.say(f"{name} is already there")
        return published.binary
    job.reporter.say(f"{name} is there, and is made again: {'; '.join(found)}")
    return None


def _make(job: _Job, release: Release, surgery: Surgery) -> Path:
    with job.store.staging() as folder:
        made = folder / "node"
        with job.timed("write"):
            operate(release.path, made, job.recipe, job.platform, surgery)
            if job.codesign is not None:
                signing.sign(job.codesign, made, env=job.settings.environment)
        with job.timed("self-check"):
            found = _check(job, made, surgery)
        manifest = _manifest(job, release, surgery, made, found)
        path = job.store.publish(
            made,
            manifest,
            patch=diff.render(surgery.plan),
            fill=lambda place: _add_headers(release.headers, place),
            bring=os.replace,
        )
    _tell(job, surgery, found)
    for remark in _remarks(job):
        job.reporter.say(remark)
    return path


def _check(job: _Job, made: Path, surgery: Surgery) -> Findings | None:
    if not job.is_native:
        return None
    return selfcheck.check(
        made,
        Expected(
            version=str(job.recipe.tag),
            recipe=None,  # process.config is the release's
            plan=None,
            backpressure=job.recipe.backpressure,
            texts=surgery.texts,
        ),
        env=job.settings.environment,
        again=_AGAIN,
    )


def _manifest(job: _Job, release: Release, surgery: Surgery, made: Path, found: Findings | None) -> Manifest:
    recipe, system = job.recipe, platform.uname()
    return Manifest(
        name=recipe.name,
        route="graft",
        tag=str(recipe.tag),
        backpressure=recipe.backpressure,
        probes=recipe.probes,
        repository=release.origin,
        commit="",
        plan=surgery.plan.digest,
        planned=planned_files(surgery.plan),
        configure_args=(),
        config={},
        toolchain={},
        machine={"system": system.system, "release": system.release, "processor": system.machine},
        seconds=dict(job.seconds),
        steps=0,
        sha256=sha256_of(made),
        size=made.stat().st_size,
        probes_seen="unproven: a graft's probes are not tried" if surgery.probes else None,
        self_check=found,
        made=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        made_by=f"nodekiln {nodekiln.__version__}",
        graft=Grafted(
            platform=str(job.platform),
            release=release.origin,
            release_sha256=release.sha256,
            release_checks=release.checks,
            changed=tuple(
                ChangedRange(
                    change.path, change.start, len(change.new), change.old.decode(), change.new.decode()
                )
                for change in surgery.ranges
            ),
            probes=tuple(
                AddedProbe(probe.provider, probe.name, probe.address, probe.arguments)
                for probe in surgery.probes
            ),
            remarks=_remarks(job),
        ),
    )


def _remarks(job: _Job) -> tuple[str, ...]:
    """What whoever uses the binary should know."""
    told = []
    if not job.recipe.backpressure:
        told.append(_SNAPSHOTS)
    if job.recipe.probes:
        told.append(_PROBES)
    if job.platform.os in _SIGNATURES:
        told.append(_SIGNATURES[job.platform.os])
    return tuple(told)


def _tell(job: _Job, surgery: Surgery, found: Findings | None) -> None:
    say = job.reporter.say
    for change in surgery.ranges:
        say(f"changed: {len(change.new)} bytes at {change.start:#x}, in {change.path}")
    if found is None:
        say(f"self-check: not run, as the binary is for {job.platform}")
    else:
        answers = str(found.write_answers).lower()
        say(f"self-check: {found.version}, write() answers {answers} on a full stream")
    say(f"grafted in {format_duration(sum(job.seconds.values()))}")


def _add_headers(headers: Path | None, place: Path) -> None:
    """Links the 2,700 headers (60 MB) where the file system can: copying them takes half a second."""
    if headers is None:
        return

    def link(old: str, new: str) -> None:
        try:
            os.link(old, new)
        except OSError:
            shutil.copy2(old, new)

    shutil.copytree(headers, place / "include", copy_function=link)

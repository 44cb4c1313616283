"""Graft: turn an official release into a binary, step by step."""

from __future__ import annotations

import os
import platform
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from nodekiln.binaries import selfcheck
from nodekiln.binaries.freshness import WantedGraft, graft_differences
from nodekiln.binaries.selfcheck import Expected, Findings, check_changes
from nodekiln.binaries.startup import startup_cpu
from nodekiln.binaries.store import file_name
from nodekiln.changes import diff
from nodekiln.changes.registry import Registry
from nodekiln.core.errors import CheckError, UsageError
from nodekiln.core.files import disk_full_error, is_disk_full
from nodekiln.core.recipe import Recipe
from nodekiln.core.reporting import Reporter, format_size
from nodekiln.core.settings import Settings
from nodekiln.grafting.graft import find_codesign, sign
from nodekiln.grafting.libraries import FOLDER as LIBRARY_FOLDER
from nodekiln.grafting.libraries import find_libraries
from nodekiln.grafting.platforms import Platform
from nodekiln.grafting.release import Release, obtain
from nodekiln.pipelines.graft_job import GraftJob, GraftRequest, Made, manifest, report
from nodekiln.pipelines.graft_plan import GraftPlan, apply_plan, check_relocation, plan_graft, signed_ranges
from nodekiln.tracing.proof import prove

__all__ = ["GraftRequest", "graft"]

_RELEASE_AND_GRAFT = 400 * 10**6
"""Bytes; for 26.10.0 twice 150 MB (the release and the graft), 60 MB of headers and 57 MB of download."""
_RETRY = "Run the same command with --force"

_NO_PROBES = {
    "darwin": "programs for macOS have no probe notes, and DTrace's probes must be compiled in",
    "win": "Windows has no such probes",
}


def graft(request: GraftRequest, settings: Settings, reporter: Reporter) -> Path:
    """Make the binary of a recipe from the official one and return its path.

    Raises the KilnError of the step that failed; the downloaded release is kept for the next run.
    """
    job = _prepare(request, settings, reporter)
    releases = settings.workspace.releases
    purpose = f"grafting {job.recipe.name}"
    lock = settings.workspace.lock(f"release-{request.tag}-{job.platform}", purpose, reporter.say)
    with _disk_full_errors(settings.workspace.root), lock:
        with job.timed("release"):
            release = obtain(
                request.tag,
                job.platform,
                folder=releases,
                file=request.file,
                mirror=request.mirror,
                allow_unsigned=request.allow_unsigned,
                env=settings.environment,
                reporter=reporter,
            )
        with job.timed("plan"):
            graft_plan = plan_graft(
                release.path, job.recipe, job.platform, job.registry, keep_snapshot=request.keep_snapshot
            )
        if request.file is not None and job.platform.os == "linux":
            graft_plan = replace(graft_plan, libraries=find_libraries(release.path, request.file))
        if not request.force and (path := _already_there(job, release, graft_plan)) is not None:
            return path
        return _make(job, release, graft_plan)


@contextmanager
def _disk_full_errors(root: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if not is_disk_full(error):
            raise
        raise disk_full_error(
            root, f"a release with its graft takes about {format_size(_RELEASE_AND_GRAFT)}"
        ) from None


def _prepare(request: GraftRequest, settings: Settings, reporter: Reporter) -> GraftJob:
    """Check everything that can be checked without the release."""
    here = Platform.of_machine(sys.platform, platform.machine())
    target = request.platform or here
    if target is None:
        raise UsageError(
            f"Node has no release for this machine ({sys.platform}, {platform.machine()}).",
            remedy="--platform linux-x64 makes a graft for another platform.",
        )
    if not request.changes:
        raise UsageError(
            f"No change is selected: the result would be the official {request.tag}.",
            remedy="Add --no-backpressure or --change NAME, or omit --no-probes.",
        )
    recipe = Recipe(
        tag=request.tag,
        changes=request.changes,
        graft=True,
        platform=None if target == here else str(target),
    )
    registry = Registry.of(settings)
    if registry.has_probes(recipe) and target.os in _NO_PROBES:
        raise UsageError(
            f"Probes can't be grafted for {target}: {_NO_PROBES[target.os]}.",
            remedy="Add --no-probes; ./inv build makes a binary with all probes.",
        )
    codesign = find_codesign(settings.environment) if target.os == "darwin" else None
    settings.workspace.prepare()
    return GraftJob(
        settings=settings,
        reporter=reporter,
        recipe=recipe,
        platform=target,
        is_native=target == here,
        codesign=codesign,
    )


def _already_there(job: GraftJob, release: Release, graft_plan: GraftPlan) -> Path | None:
    name = job.recipe.name
    published = job.store.find(name)
    if published is None:
        return None
    wanted = WantedGraft(
        release=release.sha256,
        plan=graft_plan.plan.digest,
        probes=tuple((probe.name, probe.address, probe.arguments) for probe in graft_plan.probes),
    )
    found = graft_differences(published, wanted)
    if not found:
        job.reporter.say(f"{name} already exists")
        return published.binary
    job.reporter.say(f"{name} exists and is made again: {'; '.join(found)}")
    return None


def _make(job: GraftJob, release: Release, graft_plan: GraftPlan) -> Path:
    with job.store.staging() as folder:
        binary = folder / file_name(str(job.platform))
        hashes = tuple(change.short_hash for change in job.changes)
        with job.timed("write"):
            additions = apply_plan(release.path, binary, job.recipe, job.platform, graft_plan, hashes)
            if job.codesign is not None:
                sign(job.codesign, binary, env=job.settings.environment)
                additions = signed_ranges(release.path, binary, graft_plan)
        with job.timed("self-check"):
            findings = _check(job, binary, graft_plan) if job.is_native else None
            if findings is None:
                check_relocation(binary, graft_plan.relocation)
        with job.timed("probes"):
            seen = _prove(job, binary) if graft_plan.probes else None
        if job.is_native:
            check_changes(job.changes, binary, job.settings.environment)
        with job.timed("start-up"):
            startup = _measure_startup(job, release, binary) if graft_plan.snapshot.is_off else None
        made = Made(
            binary=binary,
            release=release,
            graft_plan=graft_plan,
            additions=additions,
            findings=findings,
            probes_seen=seen,
            startup=startup,
        )
        path = job.store.publish(
            binary,
            manifest(job, made),
            patch=diff.render(graft_plan.plan),
            fill=lambda place: _fill(release, folder, place),
            bring=os.replace,
        )
    report(job, made)
    return path


def _check(job: GraftJob, binary: Path, graft_plan: GraftPlan) -> Findings:
    return selfcheck.check(
        binary,
        Expected(
            version=str(job.recipe.tag),
            recipe=None,  # process.config is the release's
            plan=None,
            backpressure=job.registry.keeps_backpressure(job.recipe),
            texts=graft_plan.texts,
        ),
        env=job.settings.environment,
        again=_RETRY,
    )


def _measure_startup(job: GraftJob, release: Release, binary: Path) -> tuple[float, float] | None:
    """Return the CPU seconds of a start of the release and of the graft; None for another platform."""
    if not job.is_native:
        return None
    before, after = startup_cpu((release.path, binary), env=job.settings.environment)
    return before, after


def _prove(job: GraftJob, binary: Path) -> str:
    if not job.is_native:
        return f"unproven: the binary is for {job.platform}."
    try:
        return prove(binary, job.settings.environment)
    except CheckError as error:
        raise CheckError(
            error.message, remedy="--no-probes grafts without them; please report this as a bug."
        ) from None


def _fill(release: Release, staging: Path, place: Path) -> None:
    """Add the headers and the libraries that belong beside the binary."""
    _add_headers(release.headers, place)
    if (staging / LIBRARY_FOLDER).is_dir():
        (staging / LIBRARY_FOLDER).rename(place / LIBRARY_FOLDER)


def _add_headers(headers: Path | None, place: Path) -> None:
    """Link the 2,700 headers (60 MB) if the file system supports it; copying them takes half a second."""
    if headers is None:
        return

    def link(old: str, new: str) -> None:
        try:
            os.link(old, new)
        except OSError:
            shutil.copy2(old, new)

    shutil.copytree(headers, place / "include", copy_function=link)

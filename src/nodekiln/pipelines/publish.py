"""The last step of a build: copy the linked binary, check it, write its manifest and publish it."""

from __future__ import annotations

import datetime
import os
import platform
import shutil
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import nodekiln
from nodekiln.binaries import selfcheck
from nodekiln.binaries.manifest import AppliedChange, Manifest, planned_files
from nodekiln.binaries.selfcheck import Expected, Findings, check_changes
from nodekiln.building.compile import Compiled
from nodekiln.building.configure import Configure, install_headers
from nodekiln.changes import diff
from nodekiln.core.errors import CheckError
from nodekiln.core.files import hash_file
from nodekiln.core.process import without_node_options
from nodekiln.tracing.proof import prove

if TYPE_CHECKING:
    from nodekiln.pipelines.build import BuildJob


def publish(job: BuildJob, configure: Configure, compiled: Compiled) -> Path:
    """Return the path of the published binary; raise CheckError if it does not match its recipe."""
    toolchain = job.toolchain
    with job.store.staging() as folder:
        binary = _copy(job.compiler.output, folder)
        with job.timed("self-check"):
            found = _check(job, binary)
        seen = _prove(job, binary) if any(change.check.gc_probes for change in job.changes) else None
        check_changes(job.changes, binary, toolchain.build_env)
        path = job.store.publish(
            binary,
            _manifest(job, configure, compiled, binary, found, seen),
            patch=diff.render(job.planned.plan),
            fill=partial(install_headers, job.tree.source, python=toolchain.python, env=toolchain.build_env),
            bring=os.replace,
        )
    job.reporter.say(f"self-check: {found.summary}")
    if seen is not None:
        job.reporter.say(f"probes: {seen}")
    return path


def _copy(output: Path, folder: Path) -> Path:
    """Copy the binary, so that the next build can't replace it between check and publication."""
    try:
        return Path(shutil.copy2(output, folder / "node"))
    except FileNotFoundError as error:
        raise CheckError(f"{output} can't be run: {error.strerror}.") from None


def _check(job: BuildJob, binary: Path) -> Findings:
    expected = Expected(
        version=str(job.recipe.tag),
        recipe=job.markers["nodekiln_recipe"],
        plan=job.markers["nodekiln_plan"],
        backpressure=all(change.check.backpressure for change in job.changes),
    )
    return selfcheck.check(binary, expected, env=job.toolchain.build_env)


def _prove(job: BuildJob, binary: Path) -> str:
    env = without_node_options(job.toolchain.build_env)
    with job.timed("probes"):
        return prove(binary, env)


def _manifest(
    job: BuildJob,
    configure: Configure,
    compiled: Compiled,
    binary: Path,
    found: Findings,
    seen: str | None,
) -> Manifest:
    recipe, toolchain, system = job.recipe, job.toolchain, platform.uname()
    return Manifest(
        name=recipe.name,
        route="build",
        tag=str(recipe.tag),
        changes=tuple(AppliedChange(change.name, change.sha256) for change in job.changes),
        repository=job.planned.source.origin,
        commit=job.planned.source.commit,
        plan=job.planned.plan.digest,
        planned=planned_files(job.planned.plan),
        configure_args=job.configure_args,
        config=configure.variables(),
        toolchain={
            "cc": toolchain.cc,
            "cxx": toolchain.cxx,
            "launcher": str(toolchain.launcher),
            "linker": toolchain.linker.name,
            "linker_version": toolchain.linker.version,
            "identity": toolchain.identity,
            "libc": toolchain.libc,
            "python": toolchain.python,
            "generator": toolchain.generator,
            "environment": job.environment,
        },
        machine={"system": system.system, "release": system.release, "processor": system.machine},
        seconds=dict(job.seconds),
        steps=compiled.steps,
        sha256=hash_file(binary),
        size=binary.stat().st_size,
        probes_seen=seen,
        self_check=found,
        made=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        made_by=f"nodekiln {nodekiln.__version__}",
    )

"""The route from source to binary: every step in order, each taking what the step before made."""

from __future__ import annotations

import shlex
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from nodekiln.binaries.freshness import differences, linker_of
from nodekiln.binaries.store import Store
from nodekiln.building.configure import Configure, fingerprint, searched
from nodekiln.building.jobs import default_jobs
from nodekiln.core.errors import ToolchainError
from nodekiln.core.platform import available_memory, cores, free_disk
from nodekiln.core.reporting import Reporter, format_size
from nodekiln.core.settings import Settings
from nodekiln.pipelines import disk
from nodekiln.pipelines.buildjob import BuildJob, BuildRequest
from nodekiln.pipelines.checking import look_at_machine, look_at_tag, make_request
from nodekiln.pipelines.compiling import compile_node
from nodekiln.pipelines.explaining import explained
from nodekiln.pipelines.planning import make_plan, open_tag
from nodekiln.pipelines.publishing import publish
from nodekiln.source.repository import Source
from nodekiln.source.tree import Changes, WorkingTree
from nodekiln.toolchain import farms
from nodekiln.toolchain.linkers import DEFAULT
from nodekiln.toolchain.request import Request
from nodekiln.toolchain.toolchain import Toolchain, detect

__all__ = ["BuildRequest", "build", "configured"]


def build(request: BuildRequest, settings: Settings, reporter: Reporter) -> Path | None:
    """Makes the binary of a recipe and returns its path; None after a dry run.

    Raises the KilnError of the step that failed; what was done by then is used by the next run.
    """
    wanted_anew = request.force or request.from_scratch
    published = None if wanted_anew else Store(settings.workspace).find(request.recipe.name)
    # The looks start 30 programs, half of the time of a run that has nothing to do.
    job = _prepare(request, settings, reporter, looks=published is None)
    if not wanted_anew and (path := _already_there(job)) is not None:
        return path
    if published is not None:
        _look(job.asked, job.planned.source, reporter)
    if request.dry_run:
        _tell_plan(job)
        return None
    with settings.workspace.lock(f"tree-{job.recipe.tree_name}", f"building {job.recipe.name}", reporter.say):
        if not wanted_anew and (path := _already_there(job, quiet=True)) is not None:
            return path  # made by the run that held the lock
        job = _as_the_tree_is(job)
        changes = _bring_tree(job)
        reporter.say(_describe(changes))
        configure = _configure(job)
        return publish(job, configure, compile_node(job))


@contextmanager
def configured(request: BuildRequest, settings: Settings, reporter: Reporter) -> Iterator[BuildJob]:
    """The recipe's tree, edited and configured, for a look at it that compiles no binary; held meanwhile."""
    job = _prepare(request, settings, reporter)
    with settings.workspace.lock(
        f"tree-{job.recipe.tree_name}", f"a look at {job.recipe.name}", reporter.say
    ):
        job = _as_the_tree_is(job)
        reporter.say(_describe(_bring_tree(job)))
        _configure(job)
        yield job


def _prepare(
    request: BuildRequest, settings: Settings, reporter: Reporter, *, looks: bool = True
) -> BuildJob:
    """Everything that can be wrong is found here, before the tag's files are fetched."""
    recipe = request.recipe
    jobs = request.jobs or default_jobs(cores(), available_memory())
    before = _linker_before(request, settings)
    asked = make_request(
        settings,
        recipe.tag,
        configure_args=recipe.configure_args,
        jobs=jobs,
        disk_needed=disk.FIRST_BUILD if before is None else disk.NEXT_BUILD,
        clean_env=request.clean_env,
        probes=recipe.probes,
        launcher=request.launcher,
        linker=request.linker,
        linker_before=None if request.from_scratch else before,
    )
    if looks:
        look_at_machine(asked, reporter)
    source = open_tag(recipe, request.repository, settings, reporter, accept_moved=request.accept_moved_tag)
    if looks:
        look_at_tag(asked, source, reporter)
    try:
        toolchain = detect(asked, source.read)
    except ToolchainError:
        _look(asked, source, reporter)  # which lists everything wrong, not only what is missing first
        raise
    if request.jobs is None:
        jobs = _farm_jobs(toolchain, jobs)
    return BuildJob(
        request=request,
        settings=settings,
        reporter=reporter,
        planned=make_plan(recipe, source, settings, reporter),
        toolchain=toolchain,
        jobs=jobs,
        asked=asked,
    )


def _as_the_tree_is(job: BuildJob) -> BuildJob:
    """The job, with the tree's own linker where a run that held the lock meanwhile has configured it."""
    if job.request.from_scratch or _linker_before(job.request, job.settings) == job.asked.linker_before:
        return job
    return _prepare(job.request, job.settings, job.reporter, looks=False)


def _look(asked: Request, source: Source, reporter: Reporter) -> None:
    look_at_machine(asked, reporter)
    look_at_tag(asked, source, reporter)


def _linker_before(request: BuildRequest, settings: Settings) -> str | None:
    """What the tree was configured to link with, or else the binary; None where both are still to be made."""
    tree = WorkingTree(settings.workspace, request.recipe.tree_name)
    published = Store(settings.workspace).find(request.recipe.name)
    linker = Configure(tree.source, tree.folder).linker
    return linker or (None if published is None else linker_of(published) or DEFAULT)


def _farm_jobs(toolchain: Toolchain, local: int) -> int:
    """As many as the farm is good for, as far as memory here allows; `local` where there is none."""
    slots = farms.slots(toolchain.launcher, toolchain.build_env) or local
    return max(local, min(slots, available_memory() // farms.MEMORY_PER_JOB))


def _already_there(job: BuildJob, *, quiet: bool = False) -> Path | None:
    published = job.store.find(job.recipe.name)
    if published is None:
        return None
    found = differences(published, job.wanted)
    if not found:
        job.reporter.say(f"{job.recipe.name} is already there")
        return published.binary
    if not quiet:
        job.reporter.say(f"{job.recipe.name} is there, and is made again: {'; '.join(found)}")
    return None


def _tell_plan(job: BuildJob) -> None:
    say = job.reporter.say
    say(f"would make   {job.store.folder / job.recipe.name / 'node'}")
    say(f"in the tree  {job.tree.source}")
    for edit in job.planned.plan.edits:
        say(f"with         {edit.path}: {'; '.join(edit.reasons)}")
    say(f"configure    {shlex.join(job.configure_argv)}")
    say(f"compile      {shlex.join(job.compiler.argv(job.jobs))}")
    say(f"with         CC={shlex.quote(job.toolchain.cc)} CXX={shlex.quote(job.toolchain.cxx)}")
    say(f"linked by    {job.toolchain.linker.name} ({job.toolchain.linker.version})")


def _bring_tree(job: BuildJob) -> Changes:
    source, tree, reporter = job.planned.source, job.tree, job.reporter
    free = format_size(free_disk(tree.folder))
    if tree.source.exists():
        reporter.say(f"disk: another binary takes about {format_size(disk.NEXT_BUILD)}; {free} are free")
    else:
        reporter.say(
            f"disk: fetching, checking out and compiling {job.recipe.tag} take"
            f" {format_size(disk.FIRST_BUILD)} at most; {free} are free"
        )
    with job.timed("fetch"):
        source.need_all()
    if job.request.from_scratch:
        _clear_outputs(tree)
    if not (tree.source / "out").exists():
        disk.ensure_room(
            job.settings.workspace,
            reporter,
            checkout=tree.disk_needed(source.commit),
            is_checked_out=tree.source.exists(),
        )
    with job.timed("tree"), reporter.progress("working tree") as meter:
        return tree.bring_to(
            source.commit, job.planned.plan, discard_edits=job.request.discard_edits, meter=meter
        )


def _clear_outputs(tree: WorkingTree) -> None:
    for output in (tree.source / "out", tree.source / "config.gypi", tree.folder / "configured.json"):
        if output.is_dir() and not output.is_symlink():
            shutil.rmtree(output)
        else:
            output.unlink(missing_ok=True)


def _describe(changes: Changes) -> str:
    if changes.checked_out:
        return f"working tree: {changes.checked_out} files checked out, {len(changes.written)} of them edited"
    touched = [*changes.written, *changes.restored, *changes.removed]
    if not touched:
        return "working tree: nothing changed"
    return (
        f"working tree: {len(touched)} files changed ({', '.join(touched[:4])}{', ...' * (len(touched) > 4)})"
    )


def _configure(job: BuildJob) -> Configure:
    toolchain, tree = job.toolchain, job.tree
    configure = Configure(tree.source, tree.folder)
    wanted = fingerprint(
        commit=job.planned.source.commit,
        plan=job.planned.plan,
        argv=job.configure_argv,
        env=toolchain.configure_env,
        identity=f"{toolchain.identity}\n{toolchain.python}",
    )
    if configure.searched not in (None, searched(toolchain.configure_env)):
        job.reporter.say(
            "out/ is emptied: its objects were made with other folders to search (CPATH and the like)"
        )
        _clear_outputs(tree)
    if missing := configure.missing(wanted):
        job.reporter.say(f"configure: {shlex.join(job.configure_argv)} ({'; '.join(missing)})")
        with job.timed("configure"), explained(configure.log), job.reporter.progress("configure"):
            configure.run(
                job.configure_argv, env=toolchain.configure_env, wanted=wanted, linker=toolchain.linker.name
            )
    configure.mark(job.marks, generator=toolchain.generator)
    return configure

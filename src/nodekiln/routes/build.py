"""The route from source to binary: every step in order, each taking what the step before made."""

from __future__ import annotations

import shlex
import shutil
from pathlib import Path

from nodekiln.binaries.freshness import differences
from nodekiln.binaries.store import Store
from nodekiln.building.compile import Compiled
from nodekiln.building.configure import Configure, fingerprint
from nodekiln.building.jobs import default_jobs
from nodekiln.machine import available_memory, cores, free_disk
from nodekiln.reporting import Reporter, format_duration, format_size
from nodekiln.routes import disk
from nodekiln.routes.buildjob import BuildJob, BuildRequest
from nodekiln.routes.checking import look_at_machine, look_at_tag, make_request
from nodekiln.routes.explaining import explained
from nodekiln.routes.planning import make_plan, open_tag
from nodekiln.routes.publishing import publish
from nodekiln.settings import Settings
from nodekiln.source.tree import Changes, WorkingTree
from nodekiln.toolchain.toolchain import detect

__all__ = ["BuildRequest", "build"]


def build(request: BuildRequest, settings: Settings, reporter: Reporter) -> Path | None:
    """Makes the binary of a recipe and returns its path; None after a dry run.

    Raises the KilnError of the step that failed; what was done by then is used by the next run.
    """
    job = _prepare(request, settings, reporter)
    if not (request.force or request.from_scratch) and (path := _already_there(job)) is not None:
        return path
    if request.dry_run:
        _tell_plan(job)
        return None
    with settings.workspace.lock(f"tree-{job.recipe.tree_name}", f"building {job.recipe.name}", reporter.say):
        if (
            not (request.force or request.from_scratch)
            and (path := _already_there(job, quiet=True)) is not None
        ):
            return path  # made by the run that held the lock
        changes = _bring_tree(job)
        reporter.say(_describe(changes))
        configure = _configure(job)
        compiled = _compile(job)
        return publish(job, configure, compiled)


def _prepare(request: BuildRequest, settings: Settings, reporter: Reporter) -> BuildJob:
    """Everything that can be wrong is found here, before the tag's files are fetched."""
    recipe = request.recipe
    jobs = request.jobs or default_jobs(cores(), available_memory())
    there = (settings.workspace.trees / recipe.tree_name / "configured.json").exists()
    there = there or Store(settings.workspace.binaries).find(recipe.name) is not None
    asked = make_request(
        settings,
        recipe.tag,
        configure_args=recipe.configure_args,
        jobs=jobs,
        disk_needed=disk.NEXT_BUILD if there else disk.FIRST_BUILD,
        clean_env=request.clean_env,
        probes=recipe.probes,
    )
    look_at_machine(asked, reporter)
    source = open_tag(recipe, request.repository, settings, reporter, accept_moved=request.accept_moved_tag)
    look_at_tag(asked, source, reporter)
    return BuildJob(
        request=request,
        settings=settings,
        reporter=reporter,
        planned=make_plan(recipe, source, settings, reporter),
        toolchain=detect(asked, source.read),
        jobs=jobs,
    )


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
    if missing := configure.missing(wanted):
        job.reporter.say(f"configure: {shlex.join(job.configure_argv)} ({'; '.join(missing)})")
        with job.timed("configure"), explained(configure.log), job.reporter.progress("configure"):
            configure.run(job.configure_argv, env=toolchain.configure_env, wanted=wanted)
    configure.mark(job.marks, generator=toolchain.generator)
    return configure


def _compile(job: BuildJob) -> Compiled:
    compiler = job.compiler
    job.reporter.say(f"compile: {shlex.join(compiler.argv(job.jobs))}")
    with job.timed("compile"), explained(compiler.log), job.reporter.progress("compile") as meter:
        compiled = compiler.run(env=job.toolchain.build_env, jobs=job.jobs, meter=meter)
    job.reporter.say(f"compile: {compiled.steps} steps in {format_duration(compiled.seconds)}")
    return compiled

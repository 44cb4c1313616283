"""The pipeline from source to binary: check, fetch, plan, edit the tree, configure, compile, publish."""

from __future__ import annotations

import shlex
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from nodekiln.binaries.freshness import Wanted, differences, linker_of
from nodekiln.binaries.store import Published, Store
from nodekiln.building.compile import Callbacks, Compiled, Compiler
from nodekiln.building.configure import Configure, baked, fingerprint, searched
from nodekiln.building.ninja import Load, default_jobs, heavy_steps
from nodekiln.building.timings import Timings
from nodekiln.changes.registry import Change, Registry
from nodekiln.core.errors import ToolchainError
from nodekiln.core.platform import available_memory, cores, free_disk
from nodekiln.core.recipe import Recipe
from nodekiln.core.reporting import Reporter, format_duration, format_size
from nodekiln.core.settings import Settings
from nodekiln.pipelines.checking import FIRST_BUILD, NEXT_BUILD, check, ensure_disk_space, make_request
from nodekiln.pipelines.planning import Planned, make_plan, open_tag
from nodekiln.pipelines.timings import TimingStore
from nodekiln.source.tree import Changes, WorkingTree
from nodekiln.toolchain.diagnosis import explained, was_killed
from nodekiln.toolchain.farms import MEMORY_PER_JOB
from nodekiln.toolchain.launchers import counting_hits
from nodekiln.toolchain.linkers import DEFAULT
from nodekiln.toolchain.model import ToolOptions
from nodekiln.toolchain.toolchain import Programs, Toolchain, detect


@dataclass(frozen=True, kw_only=True)
class BuildOptions:
    """The user's options of one build, resolved by the command line."""

    recipe: Recipe
    tools: ToolOptions = field(default_factory=ToolOptions)
    repository: str | None = None
    jobs: int | None = None
    """None: as many as cores and memory allow."""
    force: bool = False
    from_scratch: bool = False
    dry_run: bool = False
    accept_moved_tag: bool = False
    discard_edits: bool = False


@dataclass(frozen=True, kw_only=True)
class BuildJob:
    """A build after its checks: the options and everything that the later steps need."""

    options: BuildOptions
    settings: Settings
    reporter: Reporter
    planned: Planned
    programs: Programs
    toolchain: Toolchain
    jobs: int
    tree: WorkingTree
    store: Store
    seconds: dict[str, float] = field(default_factory=dict)
    """The duration of each step."""

    @property
    def recipe(self) -> Recipe:
        return self.options.recipe

    @cached_property
    def name(self) -> str:
        return self.recipe.name

    @cached_property
    def changes(self) -> tuple[Change, ...]:
        """The recipe's changes, read from their folders."""
        return Registry.of(self.settings).of_recipe(self.recipe)

    @cached_property
    def wanted(self) -> Wanted:
        return Wanted(
            commit=self.planned.source.commit,
            plan=self.planned.plan.digest,
            configure_args=self.configure_args,
            compiler=self.toolchain.identity,
            environment=self.environment,
            linker=self.toolchain.linker.name,
        )

    @cached_property
    def environment(self) -> str:
        """The caller's variables that configure writes into the build files, except compilers."""
        variables = baked(self.toolchain.caller_env).items()
        others = ((name, value) for name, value in variables if value and name not in ("CC", "CXX"))
        return " ".join(f"{name}={shlex.quote(value)}" for name, value in others)

    @cached_property
    def configure_args(self) -> tuple[str, ...]:
        """The recipe's arguments, then those that its changes need."""
        return self.recipe.configure_args + self.planned.configure_args

    @property
    def configure_argv(self) -> list[str]:
        ninja = ["--ninja"] if self.toolchain.generator == "ninja" else []
        return ["./configure", *ninja, *self.configure_args]

    @cached_property
    def compiler(self) -> Compiler:
        toolchain = self.toolchain
        log = self.tree.folder / "build.log"
        return Compiler(self.tree.source, log, toolchain.generator, toolchain.build_program)

    @property
    def markers(self) -> dict[str, str]:
        """The markers in config.gypi, and so in the binary."""
        return {
            "nodekiln_recipe": self.name,
            "nodekiln_changes": ",".join(self.recipe.changes),
            "nodekiln_hashes": ",".join(change.short_hash for change in self.changes),
            "nodekiln_plan": self.planned.plan.digest,
        }

    @contextmanager
    def timed(self, step: str) -> Iterator[None]:
        """Record the duration of a step."""
        begun = time.monotonic()
        yield
        self.seconds[step] = round(time.monotonic() - begun, 2)


def build(options: BuildOptions, settings: Settings, reporter: Reporter) -> Path | None:
    """Build the binary of a recipe and return its path; None after a dry run.

    Raises the KilnError of the step that failed; the next run continues with what was done before.
    """
    from nodekiln.pipelines.publish import publish  # not needed if there is nothing to do

    rebuild = options.force or options.from_scratch
    published = Store(settings.workspace).find(options.recipe.name)
    # The checks start 30 programs, half of the time of a run with nothing to do.
    checks_first = rebuild or published is None
    job = _prepare(options, settings, reporter, published, checks=checks_first)
    if not rebuild and published is not None and (path := _up_to_date(job, published)) is not None:
        return path
    if not checks_first:
        check(job.programs, reporter, job.planned.source)
    if options.dry_run:
        _report_plan(job)
        return None
    with settings.workspace.lock(f"tree-{job.recipe.tree_name}", f"building {job.name}", reporter.say):
        found = None if rebuild else job.store.find(job.name)
        if found is not None and not differences(found, job.wanted):  # built by the run that had the lock
            reporter.say(f"{job.name} already exists")
            return found.binary
        job = _with_linker_of_tree(job)
        reporter.say(_describe(_update_tree(job)))
        configure = _configure(job)
        return publish(job, configure, _compile(job))


@contextmanager
def configured(options: BuildOptions, settings: Settings, reporter: Reporter) -> Iterator[BuildJob]:
    """Yield the job with its tree edited, configured and locked, without compiling a binary."""
    published = Store(settings.workspace).find(options.recipe.name)
    job = _prepare(options, settings, reporter, published)
    with settings.workspace.lock(f"tree-{job.recipe.tree_name}", f"checking {job.name}", reporter.say):
        job = _with_linker_of_tree(job)
        reporter.say(_describe(_update_tree(job)))
        _configure(job)
        yield job


def _prepare(
    options: BuildOptions,
    settings: Settings,
    reporter: Reporter,
    published: Published | None,
    *,
    checks: bool = True,
) -> BuildJob:
    """Check and plan, so that every predictable error is raised before the tag's files are fetched."""
    recipe = options.recipe
    tree = WorkingTree(settings.workspace, recipe.tree_name)
    jobs = options.jobs or default_jobs(cores(), available_memory())
    linker = _linker_before(tree, published)
    programs = Programs(
        make_request(
            settings,
            options.tools,
            tag=recipe.tag,
            configure_args=recipe.configure_args,
            probes=Registry.of(settings).has_probes(recipe),
            jobs=jobs,
            disk_needed=FIRST_BUILD if linker is None else NEXT_BUILD,
            linker_before=None if options.from_scratch else linker,
        )
    )
    if checks:
        check(programs, reporter)
    source = open_tag(recipe, options.repository, settings, reporter, accept_moved=options.accept_moved_tag)
    if checks:
        check(programs, reporter, source, machine=False)
    try:
        toolchain = detect(programs, source.read)
    except ToolchainError:
        check(programs, reporter, source)  # which lists all errors, not only the first
        raise
    if options.jobs is None and (slots := toolchain.farm_slots) is not None:
        jobs = max(jobs, min(slots, available_memory() // MEMORY_PER_JOB))
    return BuildJob(
        options=options,
        settings=settings,
        reporter=reporter,
        planned=make_plan(recipe, source, settings, reporter),
        programs=programs,
        toolchain=toolchain,
        jobs=jobs,
        tree=tree,
        store=Store(settings.workspace),
    )


def _linker_before(tree: WorkingTree, published: Published | None) -> str | None:
    """Return the linker of the configured tree, otherwise of the binary; None if neither exists."""
    linker = Configure(tree.source, tree.folder).linker
    return linker or (None if published is None else linker_of(published) or DEFAULT)


def _with_linker_of_tree(job: BuildJob) -> BuildJob:
    """Return a job with the tree's linker if another run configured the tree before we had the lock."""
    if job.options.from_scratch:
        return job
    published = job.store.find(job.name)
    if _linker_before(job.tree, published) == job.programs.request.linker_before:
        return job
    return _prepare(job.options, job.settings, job.reporter, published, checks=False)


def _up_to_date(job: BuildJob, published: Published) -> Path | None:
    found = differences(published, job.wanted)
    if not found:
        job.reporter.say(f"{job.name} already exists")
        return published.binary
    job.reporter.say(f"{job.name} is rebuilt: {'; '.join(found)}")
    return None


def _report_plan(job: BuildJob) -> None:
    say = job.reporter.say
    say(f"would make   {job.store.folder / job.name / 'node'}")
    say(f"in the tree  {job.tree.source}")
    for edit in job.planned.plan.edits:
        say(f"with         {edit.path}: {'; '.join(edit.reasons)}")
    say(f"configure    {shlex.join(job.configure_argv)}")
    say(f"compile      {shlex.join(job.compiler.argv(job.jobs))}")
    say(f"with         CC={shlex.quote(job.toolchain.cc)} CXX={shlex.quote(job.toolchain.cxx)}")
    say(f"linked by    {job.toolchain.linker.name} ({job.toolchain.linker.version})")


def _update_tree(job: BuildJob) -> Changes:
    source, tree, reporter = job.planned.source, job.tree, job.reporter
    free = format_size(free_disk(tree.folder))
    exists = tree.source.exists()
    if exists:
        reporter.say(f"disk: another binary takes about {format_size(NEXT_BUILD)}; {free} free")
    else:
        reporter.say(
            f"disk: fetching, checking out and compiling {job.recipe.tag} take"
            f" {format_size(FIRST_BUILD)} at most; {free} free"
        )
    with job.timed("fetch"):
        source.need_all()
    if job.options.from_scratch:
        _clear_outputs(tree)
    if not (tree.source / "out").exists():
        checkout = tree.disk_needed(source.commit)
        ensure_disk_space(job.settings.workspace, reporter, checkout=checkout, is_checked_out=exists)
    with job.timed("tree"), reporter.progress("working tree") as meter:
        return tree.bring_to(
            source.commit, job.planned.plan, discard_edits=job.options.discard_edits, meter=meter
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
    toolchain, tree, argv = job.toolchain, job.tree, job.configure_argv
    configure = Configure(tree.source, tree.folder)
    wanted = fingerprint(
        commit=job.planned.source.commit,
        plan=job.planned.plan,
        argv=argv,
        env=toolchain.configure_env,
        identity=f"{toolchain.identity}\n{toolchain.python}",
    )
    if configure.searched not in (None, searched(toolchain.configure_env)):
        job.reporter.say("out/ is cleared: its objects were compiled with other search paths (CPATH, ...)")
        _clear_outputs(tree)
    if missing := configure.missing(wanted):
        job.reporter.say(f"configure: {shlex.join(argv)} ({'; '.join(missing)})")
        with job.timed("configure"), explained(configure.log), job.reporter.progress("configure"):
            configure.run(argv, env=toolchain.configure_env, wanted=wanted, linker=toolchain.linker.name)
    configure.mark(job.markers, generator=toolchain.generator)
    return configure


def _compile(job: BuildJob) -> Compiled:
    """Compile and keep the times of the steps; raise BuildError with the end of the log."""
    compiler, reporter, toolchain = job.compiler, job.reporter, job.toolchain
    timings = TimingStore(job.settings.workspace.timings)
    load = _load(job)
    reporter.say(f"compile: {shlex.join(compiler.argv(job.jobs))}")
    with counting_hits(
        toolchain.launcher,
        toolchain.build_env,
        job.tree.folder / "ccache-stats.log",
        lambda hits: reporter.say(f"{toolchain.launcher}: {hits}"),
    ) as env:
        with job.timed("compile"), explained(compiler.log), reporter.progress("compile") as meter:
            callbacks = Callbacks(meter, reporter.warn, was_killed, timings.learn)
            compiled = compiler.run(env=env, load=load, weights=timings.weights(), callbacks=callbacks)
        reporter.say(f"compile: {compiled.steps} steps in {format_duration(compiled.seconds)}")
    if compiled.timed:
        timings.keep(Timings(name=job.name, jobs=compiled.jobs, steps=compiled.timed))
    return compiled


def _load(job: BuildJob) -> Load:
    """Limit heavy steps by this machine's memory, unless a farm compiles them."""
    if job.toolchain.farm_slots is not None:
        return Load(job.jobs, job.jobs)
    free = available_memory()
    load = Load(job.jobs, heavy_steps(job.jobs, free))
    if load.heavy < load.jobs:
        job.reporter.say(
            f"memory: {format_size(free)} free: at most {load.heavy} of V8's files are compiled at once"
        )
    return load

"""The step of a build that compiles: how many jobs, what is told meanwhile, and what is kept of it."""

from __future__ import annotations

import shlex

from nodekiln.building.compile import Callbacks, Compiled
from nodekiln.building.jobs import Load, heavy_steps
from nodekiln.building.timings import Timings
from nodekiln.core.platform import available_memory
from nodekiln.core.reporting import format_duration, format_size
from nodekiln.pipelines.buildjob import BuildJob
from nodekiln.pipelines.caching import cache_hits
from nodekiln.pipelines.explaining import explained, tells_of_a_kill
from nodekiln.pipelines.timings import store_of
from nodekiln.toolchain import farms


def compile_node(job: BuildJob) -> Compiled:
    """Compiles; raises BuildError with the end of the log. What its steps took is kept."""
    compiler, reporter = job.compiler, job.reporter
    store = store_of(job.settings.workspace)
    load = _load(job)
    reporter.say(f"compile: {shlex.join(compiler.argv(job.jobs))}")

    with cache_hits(job) as env:
        with job.timed("compile"), explained(compiler.log), reporter.progress("compile") as meter:
            callbacks = Callbacks(meter, reporter.warn, tells_of_a_kill, store.learn)
            compiled = compiler.run(env=env, load=load, weights=store.weights(), callbacks=callbacks)
        reporter.say(f"compile: {compiled.steps} steps in {format_duration(compiled.seconds)}")
    if compiled.timed:
        store.keep(Timings(name=job.recipe.name, jobs=compiled.jobs, steps=compiled.timed))
    return compiled


def _load(job: BuildJob) -> Load:
    """On a farm memory is the farm's; here heavy steps are fewer than jobs where memory is short."""
    if farms.slots(job.toolchain.launcher, job.toolchain.build_env) is not None:
        return Load(job.jobs, job.jobs)
    free = available_memory()
    load = Load(job.jobs, heavy_steps(job.jobs, free))
    if load.heavy < load.jobs:
        job.reporter.say(
            f"memory: {format_size(free)} are free: {load.heavy} of V8's files are compiled at once at most"
        )
    return load

"""What the compiler cache spared a build: counted while it compiles, told at its end."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from nodekiln.pipelines.buildjob import BuildJob
from nodekiln.toolchain import cachestats


@contextmanager
def cache_hits(job: BuildJob) -> Iterator[Mapping[str, str]]:
    """Yields the environment for a compilation whose hits are told when it is through."""
    launcher = job.toolchain.launcher
    log = job.tree.folder / "ccache-stats.log"
    reading, env = cachestats.start(launcher, job.toolchain.build_env, log)
    yield env
    if (hits := cachestats.finish(reading)) is not None:
        job.reporter.say(f"{launcher}: {hits}")

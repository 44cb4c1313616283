"""One trial: a binary runs the workload, its memory is watched, its output has to be the input again."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from nodekiln.experiment import pagecache
from nodekiln.experiment.inputs import Material
from nodekiln.experiment.results import PageCache, Trial
from nodekiln.experiment.schedule import Turn
from nodekiln.experiment.subjects import Subject
from nodekiln.experiment.verifying import find_loss
from nodekiln.experiment.watching import OnSample, watch
from nodekiln.experiment.workloads import STREAMS, Workload


@dataclass(frozen=True, kw_only=True)
class Setup:
    """What all runs of one experiment have in common."""

    workload: Workload
    material: Material
    mark: int | None
    """highWaterMark, in the workload's unit."""
    page_cache: PageCache
    limit: int | None
    """Bytes of memory for one run."""
    env: Mapping[str, str]
    """Without what would change a Node."""
    folder: Path
    """Ours alone, for outputs and logs; on the disk of the input."""

    @property
    def output(self) -> Path:
        return self.folder / "output"

    @property
    def log(self) -> Path:
        """What the last run printed."""
        return self.folder / "log.txt"

    def argv(self, subject: Subject, *options: str) -> list[str]:
        """The command line of one run."""
        return self.workload.argv(
            subject.path, self.material.path, self.output, options=options, mark=self.mark
        )

    def make_ready(self) -> None:
        """The same state before each run: no output, the input in memory or not."""
        self.remove_output()
        if self.page_cache == "cold":
            pagecache.drop(self.material.path)
        else:
            pagecache.warm(self.material.path)

    def remove_output(self) -> None:
        """Whatever the workload made of it."""
        if self.output.is_dir() and not self.output.is_symlink():
            shutil.rmtree(self.output)
        else:
            self.output.unlink(missing_ok=True)


def run_trial(setup: Setup, subject: Subject, turn: Turn, on_sample: OnSample) -> Trial:
    """Runs and verifies; the output is removed. Raises UsageError where the binary can't be started."""
    setup.make_ready()
    try:
        course = watch(
            setup.argv(subject, "--require", str(STREAMS)),
            env=setup.env,
            cwd=setup.folder,
            log=setup.log,
            limit=setup.limit,
            on_sample=on_sample,
        )
        loss = None
        if course.ending == "finished":
            loss = find_loss(setup.output, setup.material.facts.sha256 or "")
    finally:
        setup.remove_output()
    return Trial(
        number=turn.number,
        binary=turn.label,
        order=turn.order,
        wall_ms=course.wall_ms,
        cpu_ms=course.cpu_ms,
        peak_rss_bytes=course.peak_rss_bytes,
        samples=course.samples,
        ending=course.ending,
        verified=None if loss is None else not loss,
        detail=loss or course.detail,
    )

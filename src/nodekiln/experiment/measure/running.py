"""Run one experiment: warm-ups, trials, and runs that measure collections."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from nodekiln.core.errors import CheckError
from nodekiln.core.reporting import format_size
from nodekiln.core.settings import Settings
from nodekiln.experiment.inputs.binaries import Subject
from nodekiln.experiment.measure import gc_runs as gcruns
from nodekiln.experiment.measure.trials import Setup, Turn, orders, run_trial, turns
from nodekiln.experiment.measure.watching import interval_for
from nodekiln.experiment.model.request import CompareRequest
from nodekiln.experiment.model.results import METHODS, Environment, Experiment, GcRun, JointRun, Sample, Trial

Show = Callable[[str], None]
_JOINT = "joint"


@dataclass(kw_only=True)
class Draft:
    """A running experiment; `results` has the measurements so far."""

    request: CompareRequest
    setup: Setup
    subjects: Sequence[Subject]
    environment: Environment
    warm_ups: int
    notes: tuple[str, ...]
    trials: list[Trial] = field(default_factory=list)
    gc_runs: list[GcRun] = field(default_factory=list)
    joint_runs: list[JointRun] = field(default_factory=list)
    started: str = ""
    """ISO 8601; "" before it is run."""
    is_complete: bool = False

    @property
    def labels(self) -> list[str]:
        """The labels of the binaries, the baseline's first."""
        return [subject.facts.label for subject in self.subjects]

    @property
    def runs(self) -> int:
        """The number of times a binary will be started."""
        rounds = self.warm_ups + self.request.trials + runs_for_collections(self.request, may_trace=True)
        return len(self.subjects) * rounds

    def results(self) -> Experiment:
        """Return the measurements so far."""
        setup = self.setup
        traced = any(run.method == "probes" and run.collections is not None for run in self.gc_runs)
        return Experiment(
            started=self.started,
            seed=self.request.seed,
            workload=setup.workload.name,
            program=setup.workload.text,
            high_water_mark=setup.mark,
            stream_unit=setup.workload.unit,
            cpu_bound=setup.workload.cpu_bound,
            input=setup.material.facts,
            page_cache=setup.page_cache,
            warm_ups=self.warm_ups,
            sample_interval_ms=interval_for(setup.limit),
            binaries=tuple(subject.facts for subject in self.subjects),
            trials=tuple(self.trials),
            gc_runs=tuple(self.gc_runs),
            joint_runs=tuple(self.joint_runs),
            environment=self.environment if traced else replace(self.environment, tracer=None),
            memory_limit_bytes=setup.limit,
            partial=not self.is_complete,
            notes=self.notes,
        )


def run(draft: Draft, settings: Settings, *, show: Show, done: Callable[[], None]) -> None:
    """Fill the draft; `show` gets the current run, `done` is called after each run.

    Raises CheckError for a binary that loses data, and for one that fails in its warm-up; SourceError where
    the disk is full, or a binary or the input is no longer what it was. What was measured until then is in
    the draft.
    """
    subjects = {subject.facts.label: subject for subject in draft.subjects}
    for turn in turns(draft.labels, draft.warm_ups, draft.request.seed + 1):
        trial = _trial(draft, subjects[turn.label], turn, "warm-up", show)
        _check_warm_up(draft, subjects[turn.label], trial)
        done()
    for turn in turns(draft.labels, draft.request.trials, draft.request.seed):
        trial = _trial(draft, subjects[turn.label], turn, f"trial {turn.number}", show)
        draft.trials.append(trial)
        done()
        _check_loss(trial)
    # For each method an order of its own: its runs are compared with each other and with no other method's.
    in_turn = {what: orders(draft.labels, f"{what} {draft.request.seed}") for what in (*METHODS, _JOINT)}
    for number in range(1, draft.request.gc_rounds + 1):
        for method in METHODS:
            for label in next(in_turn[method]):
                on_count = _counter(f"{label}, collections by {method}", show)
                draft.gc_runs.append(
                    gcruns.measure(method, draft.setup, subjects[label], number, settings, on_count)
                )
                done()
        for label in next(in_turn[_JOINT]) if _is_joint(draft.request) else ():
            if _has_probes(draft, label, number):
                on_count = _counter(f"{label}, collections by all methods at once", show)
                draft.joint_runs.append(
                    gcruns.measure_jointly(draft.setup, subjects[label], number, settings, on_count)
                )
            done()
    draft.is_complete = True


def runs_for_collections(request: CompareRequest, *, may_trace: bool) -> int:
    """Return the number of runs per binary: one per method and round, plus a joint one if tracing works."""
    joint = may_trace and _is_joint(request)
    return request.gc_rounds * (len(METHODS) - (not may_trace) + joint)


def _is_joint(request: CompareRequest) -> bool:
    """Return False for a sweep, which shows growth; any single comparison shows how far the methods agree."""
    return not request.is_series


def _has_probes(draft: Draft, label: str, number: int) -> bool:
    """Return True if the probes could be read in this round: otherwise there is nothing to compare."""
    return any(
        (run.binary, run.method, run.number) == (label, "probes", number) and run.collections is not None
        for run in draft.gc_runs
    )


def _counter(what: str, show: Show) -> Callable[[int], None]:
    show(what)
    return lambda count: show(f"{what}: {count}")


def _trial(draft: Draft, subject: Subject, turn: Turn, what: str, show: Show) -> Trial:
    title = f"{turn.label}, {what}"

    def look(sample: Sample) -> None:
        show(f"{title}: RSS {format_size(sample.rss_bytes)}")

    show(title)
    return run_trial(draft.setup, subject, turn, look)


def _check_warm_up(draft: Draft, subject: Subject, trial: Trial) -> None:
    """Accept running out of memory as a result; raise for other failures."""
    if trial.ending == "failed":
        setup = draft.setup
        alone = setup.workload.argv(subject.path, setup.material.path, Path("OUTPUT"), mark=setup.mark)
        raise CheckError(
            f"{trial.binary} failed at the workload {setup.workload.name}: {trial.detail}",
            remedy=f"Run it alone to see more: {shlex.join(alone)}",
        )
    _check_loss(trial)


def _check_loss(trial: Trial) -> None:
    if trial.verified is False:
        raise CheckError(
            f"{trial.binary} loses data: {trial.detail}.",
            remedy="A binary that does not do its work can't be compared; nothing more was run.",
        )

"""Garbage collection, measured by three methods: totals by type, share of the time, agreement of the methods.

Pauses are the collections that all three methods report (types 1, 2 and 4). Incremental marking and weak
callbacks are steps around them, partly inside them, and are listed apart so that nothing is counted twice.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from nodekiln.experiment.analysis.statistics import Estimate, estimate, paired_ratio
from nodekiln.experiment.model.results import (
    METHODS,
    Collection,
    CollectionType,
    Experiment,
    GcRun,
    JointRun,
    Method,
)

PAUSES: tuple[CollectionType, ...] = (1, 2, 4)
STEPS: tuple[CollectionType, ...] = (8, 16)
_REFERENCE: Method = "perf_hooks"

Runs = dict[Method, list[GcRun]]
"""One binary's finished runs with known collections by method, sorted by number."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Total:
    """Collections of some types: how many, and the time they took together, in milliseconds."""

    count: Estimate
    total_ms: Estimate


@dataclass(frozen=True, kw_only=True, slots=True)
class GcTable:
    """The totals of one binary's collections.

    A method that was not used, or doesn't report a type, is left out.
    """

    label: str
    methods: tuple[Method, ...]
    by_type: dict[tuple[CollectionType, Method], Total]
    pauses: dict[Method, Total]
    share: dict[Method, Estimate]
    """Pauses over the wall time of the run in which they were measured."""
    ratio: dict[Method, Estimate]
    """The pauses' total to the baseline's, paired by number; empty for the baseline."""
    joint: dict[Method, Total]
    """Pauses of the joint runs of all methods; empty if there are none."""
    agreement: dict[Method, Estimate]
    """In these runs, the pauses' total by a method against that by perf_hooks."""
    first_runs: dict[Method, GcRun]


def gc_tables(experiment: Experiment) -> dict[str, GcTable]:
    """Return a table by label for each binary with at least one run that was measured."""
    runs: dict[str, Runs] = {binary.label: {} for binary in experiment.binaries}
    for run in sorted(experiment.gc_runs, key=lambda run: run.number):
        if run.ending == "finished" and run.collections is not None:
            runs[run.binary].setdefault(run.method, []).append(run)
    joint: dict[str, Runs] = {binary.label: {} for binary in experiment.binaries}
    for together in experiment.joint_runs:
        if together.ending == "finished":
            for method, run in _separated(together).items():
                joint[together.binary].setdefault(method, []).append(run)
    baseline = experiment.binaries[0].label
    reference = {method: _pause_totals(found) for method, found in runs[baseline].items()}
    return {
        label: _table(label, found, joint[label], {} if label == baseline else reference)
        for label, found in runs.items()
        if found
    }


def collections_of(run: GcRun, types: Sequence[CollectionType]) -> tuple[Collection, ...]:
    """Return a run's collections of some types."""
    return tuple(one for one in run.collections or () if one.type in types)


def _table(label: str, runs: Runs, joint: Runs, baseline: dict[Method, dict[int, float]]) -> GcTable:
    methods = tuple(method for method in METHODS if method in runs)
    by_type = {}
    for kind in PAUSES + STEPS:
        if not any(collections_of(run, [kind]) for found in runs.values() for run in found):
            continue  # a type that never came, such as minor mark-sweep without its flag
        for method in methods:
            if method != "trace-gc" or kind not in STEPS:  # it prints no line for them
                by_type[kind, method] = _total(runs[method], [kind])
    totals = {method: _pause_totals(runs[method]) for method in methods}
    joint_totals = {method: _pause_totals(joint[method]) for method in METHODS if method in joint}
    ratios = {method: paired_ratio(totals[method], baseline.get(method, {})) for method in methods}
    agreement = {
        method: paired_ratio(found, joint_totals.get(_REFERENCE, {}))
        for method, found in joint_totals.items()
        if method != _REFERENCE
    }
    shares = {
        method: [totals[method][run.number] / run.wall_ms for run in runs[method] if run.wall_ms > 0]
        for method in methods
    }
    return GcTable(
        label=label,
        methods=methods,
        by_type=by_type,
        pauses={method: _total(runs[method], PAUSES) for method in methods},
        share={method: estimate(found) for method, found in shares.items() if found},
        ratio={method: found for method, found in ratios.items() if found is not None},
        joint={method: _total(joint[method], PAUSES) for method in METHODS if method in joint},
        agreement={method: found for method, found in agreement.items() if found is not None},
        first_runs={method: runs[method][0] for method in methods},
    )


def _separated(run: JointRun) -> dict[Method, GcRun]:
    """Return a joint run as each method reports it."""
    return {
        method: GcRun(
            binary=run.binary, method=method, number=run.number, collections=found, wall_ms=run.wall_ms
        )
        for method, found in run.collections.items()
    }


def _total(runs: Sequence[GcRun], types: Sequence[CollectionType]) -> Total:
    found = [collections_of(run, types) for run in runs]
    return Total(
        count=estimate([len(one) for one in found]),
        total_ms=estimate([sum(each.duration_ms for each in one) for one in found]),
    )


def _pause_totals(runs: Sequence[GcRun]) -> dict[int, float]:
    """Return the total of each run's pauses in milliseconds by its number."""
    return {run.number: sum(one.duration_ms for one in collections_of(run, PAUSES)) for run in runs}

"""Garbage collection, counted three ways: totals by type, the share of the time, how far the ways agree.

Pauses are the collections that all three ways tell (types 1, 2 and 4); incremental marking and weak callbacks
are steps around them, partly inside them, and stand apart so that nothing is counted twice.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from nodekiln.experiment.analysis.statistics import Estimate, estimate, paired_ratio
from nodekiln.experiment.model.results import WAYS, Collection, CollectionType, Experiment, GcRun, Way

PAUSES: tuple[CollectionType, ...] = (1, 2, 4)
STEPS: tuple[CollectionType, ...] = (8, 16)
_PREFERRED: tuple[Way, ...] = ("probes", "perf_hooks", "trace-gc")
_REFERENCE: Way = "perf_hooks"


@dataclass(frozen=True, kw_only=True, slots=True)
class Total:
    """Collections of some types: how many, and the time they took together, in milliseconds."""

    count: Estimate
    total_ms: Estimate


@dataclass(frozen=True, kw_only=True, slots=True)
class GcTable:
    """The totals of one binary's collections.

    A way that was not measured, or doesn't tell a type, is left out.
    """

    label: str
    ways: tuple[Way, ...]
    by_type: dict[tuple[CollectionType, Way], Total]
    pauses: dict[Way, Total]
    share: dict[Way, Estimate]
    """Pauses over the wall time of the run in which they were measured."""
    joint: dict[Way, Total]
    """Pauses of the joint runs of all methods; empty if there are none."""
    agreement: dict[Way, Estimate]
    """In these runs, the pauses' total by a way against that by perf_hooks."""


def gc_tables(experiment: Experiment) -> tuple[GcTable, ...]:
    """For each binary with at least one run that was measured."""
    tables = (_table(experiment, binary.label) for binary in experiment.binaries)
    return tuple(table for table in tables if table.ways)


def main_way(experiments: Sequence[Experiment]) -> Way | None:
    """Return the method to draw and compare by: the first measured for every binary, or None."""
    for way in _PREFERRED:
        if all(measured(one, binary.label, way) for one in experiments for binary in one.binaries):
            return way
    return None


def pause_ratio(experiment: Experiment, label: str, way: Way) -> Estimate | None:
    """Compare the pause totals of one binary with the baseline's, paired by number."""
    return paired_ratio(
        _pause_totals(experiment, label, way), _pause_totals(experiment, experiment.baseline.label, way)
    )


def pause_total(experiment: Experiment, label: str, way: Way) -> Estimate | None:
    """Return the total of the pauses in milliseconds."""
    totals = _pause_totals(experiment, label, way)
    return estimate(list(totals.values())) if totals else None


def pause_share(experiment: Experiment, label: str, way: Way) -> Estimate | None:
    """Return the pauses' share of the wall time, 0 to 1."""
    runs = measured(experiment, label, way)
    shares = [_total_ms(run, PAUSES) / run.wall_ms for run in runs if run.wall_ms > 0]
    return estimate(shares) if shares else None


def measured(experiment: Experiment, label: str, way: Way) -> tuple[GcRun, ...]:
    """Return the finished runs with known collections, sorted by number."""
    found = (
        run
        for run in experiment.gc_runs
        if (run.binary, run.way, run.ending) == (label, way, "finished") and run.collections is not None
    )
    return tuple(sorted(found, key=lambda run: run.number))


def collections_of(run: GcRun, types: Sequence[CollectionType]) -> tuple[Collection, ...]:
    """Return a run's collections of some types."""
    return tuple(one for one in run.collections or () if one.type in types)


def _table(experiment: Experiment, label: str) -> GcTable:
    runs = {way: found for way in WAYS if (found := measured(experiment, label, way))}
    by_type = {}
    for kind in PAUSES + STEPS:
        if not any(collections_of(run, [kind]) for found in runs.values() for run in found):
            continue  # a type that never came, such as minor mark-sweep without its flag
        for way, found in runs.items():
            if way == "trace-gc" and kind in STEPS:
                continue  # it prints no line for them
            by_type[kind, way] = _total(found, [kind])
    shares = {way: share for way in runs if (share := pause_share(experiment, label, way))}
    joint = _joint_runs(experiment, label)
    reference = _totals_by_number(joint.get(_REFERENCE, ()))
    agreement = {
        way: ratio
        for way, found in joint.items()
        if way != _REFERENCE and (ratio := paired_ratio(_totals_by_number(found), reference)) is not None
    }
    return GcTable(
        label=label,
        ways=tuple(runs),
        by_type=by_type,
        pauses={way: _total(found, PAUSES) for way, found in runs.items()},
        share=shares,
        joint={way: _total(found, PAUSES) for way, found in joint.items()},
        agreement=agreement,
    )


def _joint_runs(experiment: Experiment, label: str) -> dict[Way, list[GcRun]]:
    """Return the finished joint runs, as each method reports them."""
    by_way: dict[Way, list[GcRun]] = {}
    for run in experiment.joint_runs:
        if (run.binary, run.ending) == (label, "finished"):
            for way, found in run.collections.items():
                seen = GcRun(binary=label, way=way, number=run.number, collections=found, wall_ms=run.wall_ms)
                by_way.setdefault(way, []).append(seen)
    return by_way


def _total(runs: Sequence[GcRun], types: Sequence[CollectionType]) -> Total:
    return Total(
        count=estimate([len(collections_of(run, types)) for run in runs]),
        total_ms=estimate([_total_ms(run, types) for run in runs]),
    )


def _pause_totals(experiment: Experiment, label: str, way: Way) -> dict[int, float]:
    return _totals_by_number(measured(experiment, label, way))


def _totals_by_number(runs: Sequence[GcRun]) -> dict[int, float]:
    return {run.number: _total_ms(run, PAUSES) for run in runs}


def _total_ms(run: GcRun, types: Sequence[CollectionType]) -> float:
    return sum(one.duration_ms for one in collections_of(run, types))

"""Medians, intervals and paired ratios, and garbage collection counted three ways."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import product
from pathlib import Path
from statistics import median

import pytest

from nodekiln.experiment.analysis.analyze import analyze_experiment
from nodekiln.experiment.analysis.pauses import GcTable, gc_tables
from nodekiln.experiment.analysis.statistics import Comparison, estimate, exact_rank, paired_ratio
from nodekiln.experiment.model.results import (
    METHODS,
    Collection,
    CollectionType,
    Experiment,
    GcRun,
    JointRun,
    Method,
    Trial,
    load,
)

_EXAMPLE = load((Path(__file__).parents[1] / "examples/experiment.json").read_bytes())
assert isinstance(_EXAMPLE, Experiment)
REAL = _EXAMPLE
STOCK, OPEN = (binary.label for binary in REAL.binaries)


def trials(label: str, walls: Sequence[float]) -> tuple[Trial, ...]:
    return tuple(
        replace(REAL.trials[0], number=number, binary=label, wall_ms=wall, samples=())
        for number, wall in enumerate(walls, 1)
    )


def wall_time(experiment: Experiment, label: str) -> Comparison:
    (found,) = (
        one
        for one in analyze_experiment(experiment).comparisons
        if (one.measure, one.label) == ("wall time", label)
    )
    return found


def test_same_times_show_no_difference() -> None:
    both = replace(REAL, trials=trials(STOCK, [5, 7, 6, 9, 8]) + trials(OPEN, [5, 7, 6, 9, 8]))
    ratio = wall_time(both, OPEN).ratio
    assert ratio is not None
    assert (ratio.low, ratio.value, ratio.high) == (1, 1, 1)
    assert ratio.holds_one


def test_pairs_see_through_a_machine_that_slows_down() -> None:
    slower = [100, 150, 225, 340, 510]
    both = replace(REAL, trials=trials(STOCK, slower) + trials(OPEN, [wall * 1.1 for wall in slower]))
    ratio = wall_time(both, OPEN).ratio
    assert ratio is not None
    assert not ratio.holds_one
    assert [ratio.low, ratio.high] == pytest.approx([1.1, 1.1])


def test_noise_on_both_sides_of_one_is_no_difference() -> None:
    both = replace(REAL, trials=trials(STOCK, [100] * 5) + trials(OPEN, [97, 103, 101, 99, 104]))
    ratio = wall_time(both, OPEN).ratio
    assert ratio is not None
    assert ratio.holds_one


@pytest.mark.parametrize(
    ("count", "rank"),
    [(1, 1), (4, 1), (5, 1), (6, 1), (8, 1), (9, 2), (11, 2), (12, 3), (15, 4), (17, 5), (20, 6), (30, 10)],
)
def test_interval_is_no_narrower_than_that_of_the_sign_test(count: int, rank: int) -> None:
    """Its ranks stand in every table of the sign test; the bootstrap of seven leaves out their ends."""
    values = [float(number**2) for number in range(1, count + 1)]
    found = estimate(values[::-1])
    assert exact_rank(count) == rank
    assert (found.low, found.value, found.high) == (values[rank - 1], median(values), values[-rank])


def test_interval_of_a_thousand_values_is_that_of_the_normal_distribution() -> None:
    assert exact_rank(1000) == round(500 - 1.96 * 1000**0.5 / 2)


def test_interval_holds_the_median_as_often_as_it_reports() -> None:
    """Of seven values, each below the median or above it: all 128 ways, of which it misses two."""
    missed = 0
    for signs in product((-1, 1), repeat=7):
        found = estimate([sign * (1 + place / 8) for place, sign in enumerate(signs)])
        missed += not found.low <= 0 <= found.high
    assert missed == 2


@pytest.mark.parametrize(
    ("values", "enough"), [([4.0], False), ([4.0, 5.0], False), ([4.0] * 4, False), ([4.0] * 5, True)]
)
def test_few_values_are_reported(values: list[float], enough: bool) -> None:
    found = estimate(values)
    assert (found.low, found.high, found.count) == (min(values), max(values), len(values))
    assert found.enough is enough


def test_trial_that_failed_takes_its_pair_along() -> None:
    stock = trials(STOCK, [10, 10, 10])
    other = trials(OPEN, [20, 1, 20])
    for broken in (replace(other[1], ending="out of memory"), replace(other[1], verified=False)):
        experiment = replace(REAL, trials=(*stock, other[0], broken, other[2]))
        assert wall_time(experiment, STOCK).median == estimate([10, 10, 10])
        assert wall_time(experiment, OPEN).median == estimate([20, 20])
        assert wall_time(experiment, OPEN).ratio == estimate([2, 2])


def test_trial_that_nothing_could_check_counts() -> None:
    unchecked = tuple(replace(trial, verified=None) for trial in trials(STOCK, [10, 12]))
    assert wall_time(replace(REAL, trials=unchecked), STOCK).median == estimate([10, 12])


def test_pairs_without_a_partner_or_with_a_zero_are_none() -> None:
    assert paired_ratio({1: 2.0, 2: 8.0}, {2: 4.0, 3: 1.0}) == estimate([2.0])
    assert paired_ratio({1: 2.0}, {1: 0.0}) is None
    assert paired_ratio({1: 2.0}, {2: 2.0}) is None


def test_every_binary_is_compared_with_the_first() -> None:
    third = replace(REAL.binaries[1], label="third")
    experiment = replace(
        REAL,
        binaries=(*REAL.binaries, third),
        trials=trials(STOCK, [10, 10]) + trials(OPEN, [20, 20]) + trials("third", [5, 5]),
    )
    ratios = [wall_time(experiment, label).ratio for label in (STOCK, OPEN, "third")]
    assert ratios == [None, estimate([2, 2]), estimate([0.5, 0.5])]


def test_streams_are_compared_where_they_were_watched() -> None:
    assert "most in streams" in {one.measure for one in analyze_experiment(REAL).comparisons}
    silent = replace(REAL, trials=trials(STOCK, [1]) + trials(OPEN, [1]))
    assert "most in streams" not in {one.measure for one in analyze_experiment(silent).comparisons}


def gc_run(label: str, method: Method, number: int, *durations: tuple[CollectionType, float]) -> GcRun:
    collections = (Collection(at_ms=1, duration_ms=took, type=kind) for kind, took in durations)
    return GcRun(binary=label, method=method, number=number, collections=tuple(collections), wall_ms=1000)


def stock_table(experiment: Experiment) -> GcTable:
    (table,) = gc_tables(experiment).values()
    return table


def test_pauses_leave_out_the_steps_around_them() -> None:
    run = gc_run(STOCK, "perf_hooks", 1, (1, 2), (1, 3), (4, 10), (8, 100), (16, 1000))
    table = stock_table(replace(REAL, gc_runs=(run,)))
    assert table.pauses["perf_hooks"].count.value == 3
    assert table.pauses["perf_hooks"].total_ms.value == 15
    assert table.by_type[8, "perf_hooks"].total_ms.value == 100
    assert (2, "perf_hooks") not in table.by_type


def test_types_that_trace_gc_never_prints_have_no_figures_of_it() -> None:
    runs = (gc_run(STOCK, "trace-gc", 1, (1, 2)), gc_run(STOCK, "perf_hooks", 1, (8, 1), (4, 2)))
    table = stock_table(replace(REAL, gc_runs=runs))
    assert (8, "trace-gc") not in table.by_type
    assert table.by_type[4, "trace-gc"].count.value == 0


def joint_run(number: int, **times: float) -> JointRun:
    """Return a scavenge by each method, and incremental marking of the same length, which must not count."""
    collections = {
        method: tuple(
            Collection(at_ms=1, duration_ms=times[method.replace("-", "_")], type=kind) for kind in (1, 8)
        )
        for method in METHODS
    }
    return JointRun(binary=STOCK, number=number, collections=collections, wall_ms=1000)


def test_agreement_of_methods_comes_from_joint_runs() -> None:
    """Separate runs, in which the probes reported twice as much, have no influence."""
    own = (gc_run(STOCK, "perf_hooks", 1, (1, 10)), gc_run(STOCK, "probes", 1, (1, 20)))
    joint = tuple(
        joint_run(number, probes=10.2 * number, trace_gc=9.0 * number, perf_hooks=10.0 * number)
        for number in (1, 2, 3)
    )
    table = stock_table(replace(REAL, gc_runs=own, joint_runs=joint))
    assert {method: found.value for method, found in table.agreement.items()} == pytest.approx(
        {"probes": 1.02, "trace-gc": 0.9}
    )
    assert {method: (found.count.value, found.total_ms.value) for method, found in table.joint.items()} == {
        "probes": (1, 20.4),
        "trace-gc": (1, 18),
        "perf_hooks": (1, 20),
    }
    assert table.pauses["probes"].total_ms.value == 20


def test_joint_run_that_was_cut_off_shows_nothing() -> None:
    cut = replace(joint_run(1, probes=3, trace_gc=2, perf_hooks=1), ending="out of memory")
    run = gc_run(STOCK, "perf_hooks", 1, (1, 10))
    table = stock_table(replace(REAL, gc_runs=(run,), joint_runs=(cut,)))
    assert (table.joint, table.agreement) == ({}, {})


def test_method_to_compare_by_measured_all_binaries() -> None:
    one = [gc_run(STOCK, "probes", 1, (1, 2)), gc_run(STOCK, "trace-gc", 1, (1, 2))]
    assert analyze_experiment(replace(REAL, gc_runs=tuple(one))).method is None
    two = [*one, gc_run(OPEN, "trace-gc", 1, (1, 6))]
    analysis = analyze_experiment(replace(REAL, gc_runs=tuple(two)))
    assert analysis.method == "trace-gc"
    assert analysis.gc[OPEN].ratio["trace-gc"] == estimate([3.0])


def test_method_that_could_not_be_used_has_no_figures() -> None:
    missing = replace(gc_run(STOCK, "probes", 1), collections=None, note="no tracer")
    cut = replace(gc_run(STOCK, "perf_hooks", 1, (1, 2)), ending="interrupted")
    assert gc_tables(replace(REAL, gc_runs=(missing, cut))) == {}


def test_share_of_pauses_is_of_the_run_they_were_measured_in() -> None:
    run = gc_run(STOCK, "perf_hooks", 1, (1, 20), (4, 30))
    assert stock_table(replace(REAL, gc_runs=(run,))).share["perf_hooks"] == estimate([0.05])

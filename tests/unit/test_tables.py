"""The terminal's tables and the verdict in words."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from rich.cells import cell_len

from nodekiln.core.errors import CheckError
from nodekiln.experiment.analysis import verdict
from nodekiln.experiment.analysis.analyze import analyze, analyze_experiment
from nodekiln.experiment.analysis.statistics import Estimate
from nodekiln.experiment.analysis.verdict import Verdict
from nodekiln.experiment.model.results import (
    Collection,
    Experiment,
    GcRun,
    JointRun,
    Sample,
    Sweep,
    Trial,
    load,
)
from nodekiln.experiment.report import tables
from nodekiln.experiment.report.format import deviation, mark_words, percent, quantity, ratio, spread

_EXAMPLES = Path(__file__).parents[1] / "examples"
_EXPERIMENT = load((_EXAMPLES / "experiment.json").read_bytes())
_SWEEP = load((_EXAMPLES / "sweep.json").read_bytes())
assert isinstance(_EXPERIMENT, Experiment)
assert isinstance(_SWEEP, Sweep)
REAL, SWEEP = _EXPERIMENT, _SWEEP
STOCK, OPEN = (binary.label for binary in REAL.binaries)


def render(results: Experiment | Sweep) -> str:
    return tables.render(analyze(results))


def trial_table(experiment: Experiment) -> str:
    return tables.trial_table(analyze_experiment(experiment))


def measure_table(experiment: Experiment) -> str:
    return tables.measure_table(analyze_experiment(experiment))


def judge(experiment: Experiment) -> Verdict:
    return verdict.judge(analyze_experiment(experiment))


def warnings(experiments: Sequence[Experiment]) -> tuple[str, ...]:
    return verdict.warnings([analyze_experiment(experiment) for experiment in experiments])


def find_failure(results: Experiment | Sweep) -> CheckError | None:
    return verdict.find_failure(analyze(results))


def trials(label: str, walls: Sequence[float]) -> tuple[Trial, ...]:
    return tuple(
        replace(REAL.trials[0], number=number, binary=label, wall_ms=wall, samples=())
        for number, wall in enumerate(walls, 1)
    )


def phrases(experiment: Experiment) -> list[str]:
    (finding,) = judge(experiment).findings
    return [str(phrase) for phrase in finding.phrases]


def estimated(value: float, low: float, high: float, count: int = 5) -> Estimate:
    return Estimate(value=value, low=low, high=high, count=count)


def test_trial_table_has_the_layout_of_the_post() -> None:
    stock, other = [137040, 139120], [139900, 143306]
    assert trial_table(replace(REAL, trials=trials(STOCK, stock) + trials(OPEN, other))).splitlines() == [
        "trial (#) | `node` binary (ms) | modified `node` binary (ms)",
        "=================================================================",
        "1         | 137040             | 139900",
        "2         | 139120             | 143306",
        "average time: | 138080         | 141603",
        "median time:  | 138080         | 141603",
    ]


def test_failed_trials_are_listed_and_left_out_of_the_average() -> None:
    stock = trials(STOCK, [100, 200])
    lost = [replace(trial, verified=False) for trial in trials(OPEN, [1])]
    ended = [replace(trial, number=2, ending="out of memory") for trial in trials(OPEN, [2])]
    lines = trial_table(replace(REAL, trials=(*stock, *lost, *ended))).splitlines()
    assert lines[2:5] == [
        "1         | 100                | lost data",
        "2         | 200                | out of memory",
        "average time: | 150            | -",
    ]


def test_other_binaries_go_by_their_labels() -> None:
    third = replace(REAL.binaries[0], label="another")
    experiment = replace(REAL, binaries=(*REAL.binaries, third), trials=trials("another", [5, 5]))
    head, _, first, *_ = trial_table(experiment).splitlines()
    assert head == "trial (#) | `stock` (ms) | `no backpressure` (ms) | `another` (ms)"
    assert first == "1         | -            | -                      | 5"


@pytest.mark.parametrize("results", [REAL, SWEEP], ids=["experiment", "sweep"])
def test_everything_fits_80_columns(results: Experiment | Sweep) -> None:
    assert max(map(cell_len, render(results).splitlines())) <= 80


def test_long_and_wide_labels_fit_80_columns_too() -> None:
    labels = [
        "v22.20.0-usdt-graft",
        "v22.20.0-no-backpressure-usdt-graft",
        "\N{CJK UNIFIED IDEOGRAPH-6D41}" * 20,
    ]
    named = [replace(REAL.binaries[0], label=label, name="node") for label in labels]
    all_trials = [trial for label in labels for trial in trials(label, [1000, 1100])]
    text = render(replace(REAL, binaries=tuple(named), trials=tuple(all_trials), gc_runs=(), joint_runs=()))
    assert "`#2` (ms)" in text
    assert "\n#2: v22.20.0-no-backpressure-usdt-graft, node\n" in text
    assert max(map(cell_len, text.splitlines())) <= 80


def test_texts_of_users_are_escaped_for_the_terminal() -> None:
    hostile = "a\x1b]0;pwned\x07\u202eb\n"
    binaries = (replace(REAL.binaries[0], label=hostile, name=hostile), REAL.binaries[1])
    broken = [replace(trial, ending="failed", detail=hostile) for trial in trials(OPEN, [1])]
    missing = GcRun(binary=hostile, method="probes", collections=None, wall_ms=0, note=hostile)
    joint = JointRun(binary=hostile, collections={}, wall_ms=0, note=hostile)
    text = render(
        replace(
            REAL,
            binaries=binaries,
            trials=tuple(broken),
            gc_runs=(missing,),
            joint_runs=(joint,),
            notes=(hostile,),
        )
    )
    assert text.isprintable() or all(line.isprintable() for line in text.split("\n"))
    assert "pwned" in text


def test_joint_run_is_listed_below_the_separate_runs() -> None:
    """Real runs: perf_hooks reports three times what probes report, and the same in a joint run."""
    text = render(REAL)
    told = text[text.index("GC of stock") :].splitlines()
    start = told.index("pauses together               22       6.4      24      13.4      24      19.1")
    assert told[start + 1 : start + 5] == [
        "pauses in a joint run         23       8.0      23       7.0      23       7.9",
        "in the joint run, against perf_hooks:",
        "  probes     +0.5% (+0.3 to +0.6)",
        "  trace-gc   -11.4% (-12.3 to -10.9)",
    ]
    assert "joint run" not in render(replace(REAL, joint_runs=()))


def test_joint_run_that_failed_is_reported() -> None:
    failed = replace(REAL.joint_runs[0], ending="failed", note="exit code 3")
    assert "- joint run of stock: exit code 3" in render(replace(REAL, joint_runs=(failed,)))


def test_verdict_names_memory_first() -> None:
    assert phrases(REAL)[:2] == [
        "peak memory 2.6 times (2.4 to 2.6)",
        "wall time: no difference shown (0.77 to 1.48)",
    ]


def test_interval_that_contains_one_shows_no_difference() -> None:
    both = replace(REAL, trials=trials(STOCK, [100] * 5) + trials(OPEN, [99, 101, 98, 102, 100]), gc_runs=())
    assert "wall time: no difference shown (0.980 to 1.020)" in phrases(both)


def test_few_trials_are_reported() -> None:
    both = replace(REAL, trials=trials(STOCK, [100] * 3) + trials(OPEN, [250, 260, 270]), gc_runs=())
    assert "wall time: too few values (2.6 times, 2.5 to 2.7 in 3 pairs)" in phrases(both)
    (caution,) = judge(both).cautions
    assert caution.startswith("3 trials of a binary are too few for a 95% interval")
    single = replace(REAL, trials=trials(STOCK, [100]) + trials(OPEN, [250]), gc_runs=())
    assert "wall time: too few values (2.5 times, one pair)" in phrases(single)


def test_two_pairs_that_both_are_faster_show_no_difference() -> None:
    """Two runs each of the same bytes."""
    both = replace(REAL, trials=trials(STOCK, [100, 100]) + trials(OPEN, [84, 98]), gc_runs=())
    (finding,) = judge(both).findings
    assert [phrase.differs for phrase in finding.phrases] == [False] * 3
    assert "wall time: too few values (0.91 times, 0.84 to 0.98 in 2 pairs)" in phrases(both)
    enough = replace(REAL, trials=trials(STOCK, [100] * 5) + trials(OPEN, [84, 98, 90, 91, 97]), gc_runs=())
    assert "wall time 0.91 times (0.84 to 0.98)" in phrases(enough)


def buffering(label: str, lengths: Sequence[int]) -> tuple[Trial, ...]:
    """Trials in which so much waited in the streams at most."""
    return tuple(
        replace(trial, samples=(Sample(at_ms=1, rss_bytes=1, writable_length=length),))
        for trial, length in zip(trials(label, [100] * len(lengths)), lengths, strict=True)
    )


def test_ratios_of_few_pairs_are_reported_where_medians_are_of_enough() -> None:
    """A pair with a zero is none."""
    whole = replace(REAL, trials=buffering(STOCK, [10] * 5) + buffering(OPEN, [20] * 5), gc_runs=())
    assert "median (95% interval)" in measure_table(whole)
    assert judge(whole).cautions == ()
    few = replace(REAL, trials=buffering(STOCK, [0, 0, 0, 10, 10]) + buffering(OPEN, [20] * 5), gc_runs=())
    assert "median (interval or range)" in measure_table(few)
    (caution,) = judge(few).cautions
    assert caution.startswith("2 pairs of trials are too few for a 95% interval")
    assert "most in streams: too few values (2.0 times, 2.0 to 2.0 in 2 pairs)" in phrases(few)


QUIET = replace(REAL, environment=replace(REAL.environment, load=0.1, cores=2), joint_runs=(), gc_runs=())


def test_warnings_of_a_quiet_machine_are_empty() -> None:
    assert warnings([QUIET]) == ()


def test_warnings_with_load_above_the_cores_name_both_at_the_top() -> None:
    busy = replace(QUIET, environment=replace(QUIET.environment, load=4.8))
    (line,) = warnings([busy, busy])
    assert "load 4.8 on 2 cores" in line
    assert render(busy).startswith("- warning: ")


@pytest.mark.parametrize(("cpu_bound", "count"), [(True, 1), (False, 0)])
def test_warnings_with_wall_time_far_above_cpu_time_depend_on_the_workload(
    cpu_bound: bool, count: int
) -> None:
    waiting = tuple(replace(trial, cpu_ms=100) for trial in trials(STOCK, [200, 210, 220]))
    quick = tuple(replace(trial, cpu_ms=100) for trial in trials(OPEN, [110, 105, 120]))
    found = warnings([replace(QUIET, cpu_bound=cpu_bound, trials=(*waiting, *quick))])
    assert len(found) == count
    assert all("stock is 2.1 times its CPU time" in line for line in found)


@pytest.mark.parametrize(("trace_gc", "count"), [(10.0, 0), (8.5, 0), (7.0, 1), (0.5, 1), (12.5, 1)])
def test_warnings_of_a_joint_run_report_totals_that_differ_by_more_than_a_fifth(
    trace_gc: float, count: int
) -> None:
    own = GcRun(binary=STOCK, method="perf_hooks", collections=(), wall_ms=1000)
    seen = {"trace-gc": trace_gc, "perf_hooks": 10.0}
    collections = {method: (Collection(at_ms=1, duration_ms=took, type=4),) for method, took in seen.items()}
    joint = JointRun(binary=STOCK, collections=collections, wall_ms=1000)  # type: ignore[arg-type]
    assert len(warnings([replace(QUIET, gc_runs=(own,), joint_runs=(joint,))])) == count


def test_warnings_quote_a_gc_line_that_was_not_parsed() -> None:
    run = GcRun(
        binary=STOCK, method="trace-gc", collections=(), wall_ms=1, unread_lines=("[7:0x1] 4 ms: New",)
    )
    (line,) = warnings([replace(QUIET, gc_runs=(run,))])
    assert "[7:0x1] 4 ms: New" in line


def test_binary_without_a_valid_trial_is_an_error() -> None:
    failed = [replace(trial, ending="failed", detail="exit code 1") for trial in trials(OPEN, [1, 2])]
    good = trials(OPEN, [9, 9])
    assert find_failure(replace(REAL, trials=(*trials(STOCK, [9, 9]), failed[0], good[1]))) is None
    error = find_failure(replace(REAL, trials=(*trials(STOCK, [9, 9]), *failed)))
    assert error is not None
    assert "no backpressure failed in 2 of 2 trials" in error.message
    assert "exit code 1" in error.message
    assert "stock" not in error.message
    assert find_failure(replace(REAL, trials=tuple(failed), partial=True)) is None


def test_binary_that_ran_out_of_memory_is_a_result_where_there_was_a_limit() -> None:
    ended = [replace(trial, ending="out of memory") for trial in trials(OPEN, [1, 2])]
    experiment = replace(REAL, trials=(*trials(STOCK, [9, 9]), *ended), memory_limit_bytes=2 * 10**9)
    assert find_failure(experiment) is None
    error = find_failure(replace(experiment, memory_limit_bytes=None))
    assert error is not None
    assert "ran out of memory in 2 of 2 trials" in error.message


def test_sweep_reports_where_nothing_counts() -> None:
    assert find_failure(SWEEP) is None
    first, *rest = SWEEP.experiments
    failed = tuple(replace(trial, ending="failed") for trial in first.trials)
    error = find_failure(replace(SWEEP, experiments=(replace(first, trials=failed), *rest)))
    assert error is not None
    where = f"{quantity(first.input.size_bytes, 'bytes')}, {mark_words(first.high_water_mark, 'bytes')}: "
    assert error.message.count(where) == len(first.binaries)


def test_memory_that_ran_out_is_a_result() -> None:
    ended = [replace(trial, ending="out of memory") for trial in trials(OPEN, [1, 2])]
    experiment = replace(REAL, trials=trials(STOCK, [9, 9]) + tuple(ended), memory_limit_bytes=2 * 10**9)
    assert judge(experiment).problems == (
        "no backpressure ran out of memory in 2 of 2 trials, with a limit of 2.00 GB",
    )
    assert "wall time: nothing to compare" in phrases(experiment)


def test_lost_data_is_reported_with_its_reason() -> None:
    lost = replace(trials(OPEN, [1])[0], verified=False, detail="half of it is missing")
    (problem,) = judge(replace(REAL, trials=(lost,))).problems
    assert problem == (
        "no backpressure lost or changed data in 1 of 1 trial: the output differs from the input "
        "(half of it is missing)"
    )


def test_experiment_that_was_interrupted_at_once_can_be_shown() -> None:
    text = render(replace(REAL, trials=(), gc_runs=(), partial=True))
    assert "No trial was finished." in text
    assert "Interrupted" in text


def test_sweep_reports_how_memory_grows() -> None:
    lines = render(SWEEP).splitlines()
    at = lines.index("highWaterMark as Node sets it, input 32.0 MB to 128 MB:")
    assert lines[at + 1].startswith("  stock: peak memory 71.3 MB to 71.8 MB, GC pauses ")
    assert lines[at + 2].startswith("  no backpressure: peak memory 91.1 MB to 188 MB, GC pauses ")


def test_sweep_without_collections_has_no_columns_for_them() -> None:
    heads = [line.split() for line in render(SWEEP).splitlines() if line.startswith("input ")]
    bare = replace(SWEEP, experiments=tuple(replace(one, gc_runs=()) for one in SWEEP.experiments))
    bare_heads = [line.split() for line in render(bare).splitlines() if line.startswith("input ")]
    assert [head[-3:] for head in heads] == [["pauses", "(perf_hooks)", "share"]] * len(SWEEP.marks)
    assert bare_heads == [["input", "binary", "peak", "memory"]] * len(SWEEP.marks)


def test_quantities_have_three_figures_in_one_unit() -> None:
    assert [quantity(ms, "ms") for ms in (0, 4.25, 71.2, 999, 1000, 137040)] == [
        "0.00 ms",
        "4.25 ms",
        "71.2 ms",
        "999 ms",
        "1.00 s",
        "137 s",
    ]
    assert [quantity(size, "bytes") for size in (0, 999, 16384, 71.2e6, 4.1e9)] == [
        "0 bytes",
        "999 bytes",
        "16.4 kB",
        "71.2 MB",
        "4.10 GB",
    ]
    assert quantity(24, "objects") == "24 objects"
    assert spread(estimated(1.2e9, 0.9e9, 1.5e9), "bytes") == "1.20 GB (0.90 to 1.50)"
    assert spread(estimated(1.2e9, 1.2e9, 1.2e9, count=1), "bytes") == "1.20 GB"


def test_ratios_near_one_have_three_decimals() -> None:
    assert ratio(estimated(1.012, 1.003, 1.02)) == "1.012 (1.003 to 1.020)"
    assert ratio(estimated(1.03, 1.027, 1.749)) == "1.03 (1.03 to 1.75)"
    assert ratio(estimated(4.6, 4.5, 4.7)) == "4.6 (4.5 to 4.7)"
    assert ratio(estimated(1852, 1695, 2490)) == "1852 (1695 to 2490)"
    assert deviation(estimated(1.012, 0.997, 1.02)) == "+1.2% (-0.3 to +2.0)"
    assert percent(estimated(0.0212, 0.02, 0.03)) == "2.12%"


def test_marks_are_reported_in_their_unit() -> None:
    assert [mark_words(mark, "bytes") for mark in (None, 65536, 1000, 0)] == [
        "highWaterMark as Node sets it",
        "highWaterMark 64 KiB",
        "highWaterMark 1000 bytes",
        "highWaterMark 0 bytes",
    ]
    assert mark_words(1024, "objects") == "highWaterMark 1024 objects"

"""Comparisons up to results.json: what is run, in which order, and what is kept of it."""

from __future__ import annotations

import hashlib
import os

import pytest

from nodekiln.experiment.model.results import METHODS, Experiment, Sweep, read_results
from tests.integration.comparisons.bench import NODE, SIZE, Bench


def test_every_trial_is_measured_verified_and_kept(bench: Bench) -> None:
    done = bench.compare(trials=2)
    assert done is not None
    kept = read_results(done.folder)
    assert kept == done.results
    assert isinstance(kept, Experiment)
    assert not kept.partial
    assert sorted((trial.number, trial.binary) for trial in kept.trials) == [
        (1, "a"),
        (1, "b"),
        (2, "a"),
        (2, "b"),
    ]
    assert {(trial.ending, trial.verified) for trial in kept.trials} == {("finished", True)}
    assert all(
        trial.wall_ms > 0 and trial.cpu_ms > 0 and trial.peak_rss_bytes > 10**6 for trial in kept.trials
    )
    assert kept.input.size_bytes == SIZE
    assert [binary.sha256 for binary in kept.binaries] == [hashlib.sha256(NODE.encode()).hexdigest()] * 2
    assert {path.name for path in done.folder.iterdir()} == {"results.json"}


def test_program_sees_its_input_and_nothing_of_node_s_settings(bench: Bench) -> None:
    text = "assert not any(name.startswith('NODE_') for name in os.environ) and words[3:] == ['4096']\ncopy()"
    kept = bench.results(text, high_water_marks=(4096,))
    assert kept.high_water_mark == 4096
    assert kept.trials[0].verified


def test_collections_are_measured_in_runs_of_their_own(bench: Bench) -> None:
    """A script has no probes, whatever tracer there is: that is told, and the rest goes on."""
    kept = bench.results(gc_rounds=1)
    assert not kept.partial
    assert kept.environment.tracer is None
    found = {(run.binary, run.method): run for run in kept.gc_runs}
    assert len(found) == 2 * 3
    assert kept.joint_runs == ()
    for label in "ab":
        assert found[label, "probes"].collections is None
        assert "not an ELF file" in found[label, "probes"].note
        (printed,) = found[label, "trace-gc"].collections or ()
        assert (printed.type, printed.at_ms, printed.duration_ms) == (1, 40, 0.25)
        seen = found[label, "perf_hooks"].collections or ()
        assert [(one.type, one.at_ms, one.duration_ms) for one in seen] == [(1, 39.5, 0.5), (4, 52, 2)]


def test_every_binary_is_run_before_the_first_trial(bench: Bench) -> None:
    """The first trial would read it from the disk otherwise."""
    seen = "open(program + '.seen', 'a').write(open(sys.argv[0] + '.first').read())\ncopy()"
    assert all(trial.verified for trial in bench.results(seen).trials)
    assert (bench.folder / "mine.mjs.seen").read_text() == "run " * 2


def test_wrapper_that_takes_no_such_words_is_compared_all_the_same(bench: Bench) -> None:
    (bench.folder / "c").write_text('#!/bin/sh\n[ "$1" != -e ] || exit 3\n"${0%c}a" "$@"\n')
    (bench.folder / "c").chmod(0o755)
    assert [trial.verified for trial in bench.results(binaries=("a", "c")).trials] == [True, True]


@pytest.mark.slow
def test_runs_for_collections_take_turns(bench: Bench) -> None:
    """For each method in two rounds, each binary goes first once."""
    runs = bench.results(gc_rounds=2).gc_runs
    firsts = {(run.method, run.number): run.binary for run in reversed(runs)}
    for method in METHODS:
        assert {firsts[method, number] for number in (1, 2)} == {"a", "b"}


@pytest.mark.slow
def test_series_is_one_sweep_with_a_point_for_each_pair(bench: Bench) -> None:
    done = bench.compare(warm_ups=1, sizes=(1000, 2000), high_water_marks=(None, 16))
    assert done is not None
    kept = read_results(done.folder)
    assert isinstance(kept, Sweep)
    assert not kept.partial
    assert [(one.input.size_bytes, one.high_water_mark) for one in kept.experiments] == [
        (1000, None),
        (1000, 16),
        (2000, None),
        (2000, 16),
    ]
    assert [one.warm_ups for one in kept.experiments] == [1, 0, 0, 0]


def test_dry_run_reports_and_makes_nothing(bench: Bench) -> None:
    assert bench.compare("raise SystemExit", dry_run=True) is None
    told = bench.said.getvalue()
    assert "comparing a, b" in told
    assert "0 warm-ups, 2 trials and 0 runs for collections" in told
    assert not (bench.folder / "build" / "experiments").exists()


def test_same_binary_twice_shows_what_chance_does(bench: Bench) -> None:
    kept = bench.results(binaries=("a", "a"))
    assert [binary.label for binary in kept.binaries] == ["a", "a (2)"]


def test_environment_is_reported_without_a_path_or_a_name(bench: Bench) -> None:
    kept = bench.results().environment
    assert kept.cores >= 1
    assert kept.memory_bytes > kept.available_memory_bytes > 0
    assert not [
        value for value in (kept.cpu, kept.os, kept.kernel) if not value or os.uname().nodename == value
    ]

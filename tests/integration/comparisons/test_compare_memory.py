"""Memory and streams of a trial, and the memory limit."""

from __future__ import annotations

import os
import sys

import pytest

from nodekiln.core.errors import UsageError
from tests.integration.comparisons.bench import Bench


def test_memory_and_streams_are_looked_at_while_it_runs(bench: Bench) -> None:
    """The pipe takes 64 KiB: telling more of it waits until somebody looked."""
    text = "held = bytearray(os.urandom(64) * 10**6); tell(0); tell(7, 40_000); copy()"
    trial = bench.results(text).trials[0]
    assert trial.samples[-1].writable_length == 7
    assert trial.peak_rss_bytes > 64 * 10**6
    assert trial.peak_rss_bytes >= max(sample.rss_bytes for sample in trial.samples)
    assert [sample.at_ms for sample in trial.samples] == sorted(sample.at_ms for sample in trial.samples)


def test_small_program_s_peak_is_not_that_of_who_started_it(bench: Bench) -> None:
    """The kernel counts a child's peak from its parent's."""
    ballast = bytearray(os.urandom(100) * 10**6)
    assert max(trial.peak_rss_bytes for trial in bench.results().trials) < len(ballast)


HOLDS = "held = os.urandom(192) * 10**6; time.sleep(0.3); copy()"


@pytest.fixture
def wrapper(bench: Bench) -> str:
    """A script that starts its Node and waits for it, instead of becoming it."""
    (bench.folder / "c").write_text('#!/bin/sh\n"${0%c}b" "$@"\nexit $?\n')
    (bench.folder / "c").chmod(0o755)
    return "c"


@pytest.mark.skipif(sys.platform != "linux", reason="children are looked up in /proc")
def test_wrapper_s_memory_is_that_of_its_node_too(bench: Bench, wrapper: str) -> None:
    kept = bench.results(HOLDS, binaries=("a", wrapper))
    most = {one.binary: max(sample.rss_bytes for sample in one.samples) for one in kept.trials}
    assert most["a"] > 190 * 10**6
    assert most[wrapper] == pytest.approx(most["a"], abs=15 * 10**6)


@pytest.mark.skipif(sys.platform != "linux", reason="children are looked up in /proc")
def test_limit_holds_for_what_a_wrapper_starts(bench: Bench, wrapper: str) -> None:
    kept = bench.results(HOLDS, binaries=("a", wrapper), memory_limit=160 * 10**6)
    assert {one.binary: one.ending for one in kept.trials} == {"a": "out of memory", wrapper: "out of memory"}


@pytest.mark.slow
@pytest.mark.parametrize("number", [2**53, 10**20, "9" * 5000])
def test_number_that_results_cannot_keep_is_passed_over(bench: Bench, number: int | str) -> None:
    """The pipe takes 64 KiB: what comes last is told after somebody looked."""
    told = f"tell(7, 40_000); os.write(int(os.environ['NODEKILN_STREAMS']), b'{number}\\n')"
    kept = bench.results(f"{told}; time.sleep(0.2); copy()")
    assert {trial.ending for trial in kept.trials} == {"finished"}
    assert {trial.samples[-1].writable_length for trial in kept.trials} == {7}


def test_limit_ends_what_takes_more_and_that_is_a_result(bench: Bench) -> None:
    text = "copy()\nheld = []\nwhile me == 'b': held.append(bytearray(os.urandom(10) * 400_000))"
    kept = bench.results(text, memory_limit=200 * 10**6)
    trials = {trial.binary: trial for trial in kept.trials}
    assert trials["a"].ending == "finished"
    assert trials["b"].ending == "out of memory"
    assert trials["b"].peak_rss_bytes > 100 * 10**6
    assert trials["b"].verified is None
    assert kept.memory_limit_bytes == 200 * 10**6


def test_input_that_could_not_fit_is_refused_before_anything_is_made(bench: Bench) -> None:
    with pytest.raises(UsageError, match="--size"):
        bench.compare(sizes=(9 * 10**12,))
    assert not (bench.folder / "build" / "experiments").exists()

"""The experiment on a release and its grafts: memory without backpressure, collections three ways."""

from __future__ import annotations

import os
import platform
import shutil
import statistics
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from nodekiln.errors import PatchError
from nodekiln.experiment.compare import compare
from nodekiln.experiment.gcruns import read_perf_hooks_lines, read_probe_lines
from nodekiln.experiment.request import CompareRequest
from nodekiln.experiment.results import Collection, Experiment
from nodekiln.experiment.workloads import COLLECTIONS, child_environment
from nodekiln.recipe import Tag
from nodekiln.reporting import Reporter
from nodekiln.routes.graft import GraftRequest, graft
from nodekiln.routes.trace import tracer_for
from nodekiln.settings import Settings
from nodekiln.tracing.child import hold
from nodekiln.tracing.session import attach
from nodekiln.tracing.trace_gc import parse_trace_gc

_ENVIRONMENT = dict(os.environ)
MB = 10**6
TAG = Tag(22, 20, 0)
Fetch = Callable[[str], Path]

pytestmark = [
    pytest.mark.release,
    pytest.mark.skipif(
        (sys.platform, platform.machine()) != ("linux", "x86_64"), reason="runs releases for linux-x64"
    ),
    pytest.mark.xdist_group("compare"),
]


def settings(folder: Path) -> Settings:
    environ = {**_ENVIRONMENT, "NODEKILN_BUILD": str(folder / "build"), "NODE_OPTIONS": "--no-such-option"}
    return Settings.read(environ=environ, config=None, root=folder, here=folder, venv=None)


@pytest.fixture(scope="module")
def experiment(tmp_path_factory: pytest.TempPathFactory, fetch_release: Fetch) -> Iterator[Experiment]:
    """The default comparison, with less of everything."""
    folder = tmp_path_factory.mktemp("compare")
    request = CompareRequest(release=fetch_release(str(TAG)[1:]), sizes=(128 * MB,), trials=2)
    done = compare(request, settings(folder), Reporter())
    assert done is not None
    assert isinstance(done.results, Experiment)
    yield done.results
    shutil.rmtree(folder)


def test_both_binaries_finish_and_lose_nothing(experiment: Experiment) -> None:
    assert not experiment.partial
    assert {(trial.ending, trial.verified) for trial in experiment.trials} == {("finished", True)}
    assert [binary.backpressure for binary in experiment.binaries] == [True, False]
    assert [binary.version for binary in experiment.binaries] == [str(TAG)] * 2


def test_without_backpressure_the_input_waits_in_memory(experiment: Experiment) -> None:
    """The reader is some ten times faster than gzip, so that most of 128 MB waits; stock takes two chunks."""
    stock, free = (experiment.trials_of(binary.label) for binary in experiment.binaries)
    for trial in stock:
        assert trial.peak_rss_bytes < 128 * MB
        assert max(sample.writable_length or 0 for sample in trial.samples) < MB
    for trial in free:
        assert trial.peak_rss_bytes > max(one.peak_rss_bytes for one in stock) + 64 * MB
        assert max(sample.writable_length or 0 for sample in trial.samples) > 64 * MB


def test_collections_are_there_by_the_ways_that_this_machine_has(experiment: Experiment) -> None:
    for run in experiment.gc_runs:
        if run.way == "probes" and run.collections is None:
            assert run.note
        else:
            assert run.collections
            assert {one.type for one in run.collections} <= {1, 2, 4, 8, 16}
            assert all(one.at_ms < run.wall_ms + 1000 for one in run.collections)


def test_a_binary_that_runs_out_of_memory_is_a_result(tmp_path: Path, fetch_release: Fetch) -> None:
    request = CompareRequest(
        release=fetch_release(str(TAG)[1:]),
        sizes=(512 * MB,),
        trials=1,
        warm_ups=0,
        gc_rounds=0,
        workload="socket",
        memory_limit=256 * MB,
    )
    done = compare(request, settings(tmp_path), Reporter())
    assert done is not None
    assert isinstance(done.results, Experiment)
    endings = {trial.binary: trial.ending for trial in done.results.trials}
    assert [endings[binary.label] for binary in done.results.binaries] == ["finished", "out of memory"]
    shutil.rmtree(tmp_path)


@pytest.mark.skipif(shutil.which("strip") is None, reason="needs strip, of binutils")
def test_a_release_that_can_get_no_probes_is_compared_without(tmp_path: Path, fetch_release: Fetch) -> None:
    """24 names V8's functions in .symtab only, which is gone."""
    stripped = tmp_path / "stripped"
    subprocess.run(["strip", "-o", stripped, fetch_release("24.21.0")], check=True)
    request = CompareRequest(
        tag=Tag(24, 21, 0), release=stripped, sizes=(MB,), trials=1, warm_ups=0, gc_rounds=1
    )
    done = compare(request, settings(tmp_path), Reporter())
    assert done is not None
    assert isinstance(done.results, Experiment)
    assert not done.results.partial
    assert [one.backpressure for one in done.results.binaries] == [True, False]
    assert [one.probes for one in done.results.binaries] == [(), ()]
    assert {run.way for run in done.results.gc_runs if run.collections is not None} == {
        "trace-gc",
        "perf_hooks",
    }
    assert not [run.note for run in done.results.gc_runs if str(tmp_path) in run.note]


def test_a_release_that_can_not_be_grafted_is_refused_and_nothing_is_made(
    tmp_path: Path, fetch_release: Fetch
) -> None:
    request = CompareRequest(tag=Tag(12, 22, 12), release=fetch_release("12.22.12"), sizes=(MB,))
    with pytest.raises(PatchError, match="1 byte"):
        compare(request, settings(tmp_path), Reporter())
    assert list((tmp_path / "build" / "binaries").glob("v*")) == []


GARBAGE = """
let kept = [];
let rounds = 0;
(function work() {
  for (let i = 0; i < 30; i++) kept.push(Array.from({ length: 3000 }, (_, n) => ({ n, text: `${i} ${n}` })));
  if (kept.length > 600) kept = kept.slice(450);
  if (++rounds < 120) setImmediate(work);
  else setTimeout(() => {}, 100);
})();
"""


@pytest.mark.trace
def test_three_ways_agree_on_the_collections_of_one_run(tmp_path: Path, fetch_release: Fetch) -> None:
    """In one run, so that what else the machine does meets all three alike."""
    if shutil.which("bpftrace") is None or os.geteuid() != 0:
        pytest.skip("tracing needs bpftrace and root")
    here = settings(tmp_path)
    wanted = GraftRequest(tag=TAG, backpressure=True, probes=True, file=fetch_release(str(TAG)[1:]))
    node = graft(wanted, here, Reporter())
    (tmp_path / "garbage.cjs").write_text(GARBAGE)
    env = {**child_environment(_ENVIRONMENT), "NODEKILN_COLLECTIONS": str(tmp_path / "told")}
    argv = [str(node), "--trace-gc", "--require", str(COLLECTIONS), str(tmp_path / "garbage.cjs")]
    lines: list[str] = []
    make = tracer_for("collections", node, str(node), here)
    with (
        (tmp_path / "printed").open("wb") as output,
        hold(argv, env=env, cwd=tmp_path, output=output) as held,
    ):
        held.stop_at_exec()
        with attach(make(held.process.pid), lines.append, privileged=""):
            held.let_go()
            assert held.process.wait(120) == 0
    probed = pauses(read_probe_lines(lines, began_ns=0))
    hooked = pauses(read_perf_hooks_lines((tmp_path / "told").read_text().splitlines()))
    printed = parse_trace_gc((tmp_path / "printed").read_text())
    assert len(probed) == len(printed) > 50
    # perf_hooks comes to be after Node itself, whose start may need a collection.
    assert len(probed) - 2 <= len(hooked) <= len(probed)
    # The median: whoever takes the core between the two clocks (bpftrace, to print) lengthens single ones.
    ratios = [
        one.duration_ms / other.duration_ms for one, other in zip(probed[-len(hooked) :], hooked, strict=True)
    ]
    assert statistics.median(ratios) == pytest.approx(1, rel=0.05)


def pauses(found: tuple[Collection, ...]) -> list[Collection]:
    """Without the steps that --trace-gc does not print."""
    return [one for one in found if one.type in (1, 2, 4)]

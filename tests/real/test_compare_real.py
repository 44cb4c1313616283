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

from nodekiln.core.errors import PatchError
from nodekiln.core.recipe import Tag
from nodekiln.core.reporting import Reporter
from nodekiln.core.settings import Settings
from nodekiln.experiment.analysis.pauses import PAUSES
from nodekiln.experiment.compare import compare
from nodekiln.experiment.inputs.workloads import STREAMS, child_environment, find_workload, workload_names
from nodekiln.experiment.measure import page_cache as pagecache
from nodekiln.experiment.model.request import CompareRequest
from nodekiln.experiment.model.results import Experiment
from tests.change_folders import PATCHES

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
    return Settings.read(environ=environ, config=None, root=folder, patches=PATCHES, cwd=folder, venv=None)


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


def test_collections_are_measured_by_each_available_method(experiment: Experiment) -> None:
    for run in experiment.gc_runs:
        if run.method == "probes" and run.collections is None:
            assert run.note
        else:
            assert run.collections
            assert {one.type for one in run.collections} <= {1, 2, 4, 8, 16}
            assert all(one.at_ms < run.wall_ms + 1000 for one in run.collections)


def test_joint_run_is_made_of_each_binary_whose_probes_could_be_read(experiment: Experiment) -> None:
    read = {
        run.binary for run in experiment.gc_runs if run.method == "probes" and run.collections is not None
    }
    assert {run.binary for run in experiment.joint_runs} == read
    for run in experiment.joint_runs:
        counts = {
            method: sum(one.type in PAUSES for one in found) for method, found in run.collections.items()
        }
        assert counts["probes"] == counts["trace-gc"] > 0
        assert counts["probes"] - 2 <= counts["perf_hooks"] <= counts["probes"]


def test_binary_that_runs_out_of_memory_is_a_result(tmp_path: Path, fetch_release: Fetch) -> None:
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


def test_how_a_binary_came_into_memory_does_not_count_as_its_memory(
    tmp_path: Path, fetch_release: Fetch
) -> None:
    """Of one that was just written, Linux maps nearly twice as much as of the same one when it was not."""
    found = fetch_release(str(TAG)[1:])
    pagecache.drop(found)
    written = tmp_path / "written"
    written.write_bytes(found.read_bytes())
    written.chmod(0o755)
    pagecache.drop(found)
    done = compare(
        CompareRequest(binaries=(str(found), str(written)), sizes=(MB,), trials=3, gc_rounds=0),
        settings(tmp_path),
        Reporter(),
    )
    assert done is not None
    assert isinstance(done.results, Experiment)
    usual, fresh = (
        statistics.median(trial.peak_rss_bytes for trial in done.results.trials_of(binary.label))
        for binary in done.results.binaries
    )
    assert fresh == pytest.approx(usual, abs=8 * MB)
    shutil.rmtree(tmp_path)


def test_binary_in_use_is_reported(tmp_path: Path, fetch_release: Fetch) -> None:
    """What it has mapped can't be dropped."""
    found = fetch_release(str(TAG)[1:])
    copy = tmp_path / "copy"
    shutil.copyfile(found, copy)
    copy.chmod(0o755)
    with subprocess.Popen(
        [copy, "-e", "console.log(); setTimeout(() => {}, 1e6)"], stdout=subprocess.PIPE
    ) as node:
        assert node.stdout is not None
        node.stdout.readline()
        told = pagecache.make_alike({"usual": found, "running": copy}, _ENVIRONMENT)
        node.kill()
    assert "of running before stays there" in told
    both = {"usual": found, "running": copy}
    assert pagecache.make_alike(both, _ENVIRONMENT).startswith("binaries were dropped")
    shutil.rmtree(tmp_path)


@pytest.mark.parametrize("name", workload_names())
def test_first_trial_finds_its_binary_in_memory(tmp_path: Path, fetch_release: Fetch, name: str) -> None:
    """After --version alone it would still read 6 MB of it from the disk."""
    # A copy: other tests run the release at the same time, and pages in use can't be dropped.
    found = Path(shutil.copy2(fetch_release(str(TAG)[1:]), tmp_path / "node"))
    assert pagecache.make_alike({"usual": found}, _ENVIRONMENT).startswith("binaries were dropped")
    (tmp_path / "input").write_bytes(bytes(MB))
    workload = find_workload(name, tmp_path)
    argv = workload.argv(found, tmp_path / "input", tmp_path / "output", options=("--require", str(STREAMS)))
    node = subprocess.Popen(argv, env=child_environment(_ENVIRONMENT), stdin=subprocess.DEVNULL)
    _, status, used = os.wait4(node.pid, 0)
    node.returncode = os.waitstatus_to_exitcode(status)
    assert node.returncode == 0
    assert used.ru_inblock * 512 < MB


@pytest.mark.skipif(shutil.which("strip") is None, reason="needs strip, of binutils")
def test_release_that_can_get_no_probes_is_compared_without(tmp_path: Path, fetch_release: Fetch) -> None:
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
    assert {run.method for run in done.results.gc_runs if run.collections is not None} == {
        "trace-gc",
        "perf_hooks",
    }
    assert not [run.note for run in done.results.gc_runs if str(tmp_path) in run.note]


def test_release_that_cannot_be_grafted_is_refused_and_nothing_is_made(
    tmp_path: Path, fetch_release: Fetch
) -> None:
    request = CompareRequest(tag=Tag(12, 22, 12), release=fetch_release("12.22.12"), sizes=(MB,))
    with pytest.raises(PatchError, match="1 byte"):
        compare(request, settings(tmp_path), Reporter())
    assert list((tmp_path / "build" / "binaries").glob("v*")) == []


GARBAGE = """
import { copyFileSync } from 'node:fs';

let kept = [];
let rounds = 0;
(function work() {
  for (let i = 0; i < 30; i++) kept.push(Array.from({ length: 3000 }, (_, n) => ({ n, text: `${i} ${n}` })));
  if (kept.length > 600) kept = kept.slice(450);
  if (++rounds < 120) setImmediate(work);
  else setTimeout(() => copyFileSync(...process.argv.slice(2)), 100);
})();
"""
"""Leaves time for perf_hooks to deliver what it has."""


@pytest.mark.trace
def test_three_ways_agree_on_the_collections_of_one_run(tmp_path: Path, fetch_release: Fetch) -> None:
    """The comparison's own joint runs, of a program with many collections that take long."""
    if shutil.which("bpftrace") is None or os.geteuid() != 0:
        pytest.skip("tracing needs bpftrace and root")
    (tmp_path / "garbage.mjs").write_text(GARBAGE)
    request = CompareRequest(
        release=fetch_release(str(TAG)[1:]),
        workload="garbage.mjs",
        sizes=(MB,),
        trials=1,
        warm_ups=0,
    )
    done = compare(request, settings(tmp_path), Reporter())
    assert done is not None
    assert isinstance(done.results, Experiment)
    assert {(run.binary, run.ending, run.note) for run in done.results.joint_runs} == {
        (binary.label, "finished", "") for binary in done.results.binaries
    }
    for run in done.results.joint_runs:
        told = {
            method: [one for one in found if one.type in PAUSES] for method, found in run.collections.items()
        }
        assert len(told["probes"]) == len(told["trace-gc"]) > 50
        # perf_hooks comes to be after Node itself, whose start may need a collection.
        assert len(told["probes"]) - 2 <= len(told["perf_hooks"]) <= len(told["probes"])
        total = {method: sum(one.duration_ms for one in found) for method, found in told.items()}
        assert total["probes"] == pytest.approx(total["perf_hooks"], rel=0.05)
        # Without V8's callbacks, and in hundredths of a millisecond.
        assert 0.8 * total["probes"] < total["trace-gc"] < total["probes"]
    shutil.rmtree(tmp_path)

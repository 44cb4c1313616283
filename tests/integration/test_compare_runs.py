"""Comparisons up to results.json. A stand-in for Node runs workloads that are Python in disguise."""

from __future__ import annotations

import hashlib
import io
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest
from rich.console import Console

from nodekiln.errors import CheckError, KilnError, UsageError
from nodekiln.experiment.compare import Compared, compare
from nodekiln.experiment.request import CompareRequest
from nodekiln.experiment.results import Experiment, Sweep
from nodekiln.experiment.resultsfile import read_results
from nodekiln.reporting import Reporter
from nodekiln.settings import Settings

PROJECT = Path(__file__).resolve().parents[2]
PATIENCE = 60
SIZE = 300_000

NODE = f"""#!{sys.executable} -IS
import os, sys, time
if sys.argv[1:] == ["--version"]:
    sys.exit(print("v22.20.0"))
me, words, options = os.path.basename(sys.argv[0]), sys.argv[1:], []
while words[0].startswith("--"):
    options.append(words.pop(0))
    if options[-1] == "--require":
        options.append(words.pop(0))
program, source, output = words[:3]
if "--trace-gc" in options:
    print("[7:0x1]  40 ms: Scavenge 1.0 (2.0) -> 0.5 (2.0) MB, pooled: 0 MB, 0.25 / 0.00 ms  (", flush=True)
if "NODEKILN_COLLECTIONS" in os.environ:
    open(os.environ["NODEKILN_COLLECTIONS"], "a").write("1,39,0.5\\n4,50,2\\n")
def tell(length, times=1):
    os.write(int(os.environ["NODEKILN_STREAMS"]), b"%d\\n" % length * times)
def copy():
    open(output, "wb").write(open(source, "rb").read())
exec(open(program).read())
"""
COPY = "copy()"


@dataclass(frozen=True)
class Bench:
    """A folder with two stand-ins, `a` and `b`, and what was said to the user."""

    folder: Path
    said: io.StringIO

    def workload(self, text: str) -> str:
        (self.folder / "mine.mjs").write_text(text)
        return "mine.mjs"

    def settings(self) -> Settings:
        environ = {
            "NODEKILN_BUILD": str(self.folder / "build"),
            "PATH": os.environ["PATH"],
            "NODE_OPTIONS": "--no",
        }
        return Settings.read(environ=environ, config=None, root=self.folder, here=self.folder, venv=None)

    def compare(self, text: str = COPY, **wanted: Any) -> Compared | None:
        words: dict[str, Any] = {
            "binaries": ("a", "b"),
            "sizes": (SIZE,),
            "trials": 1,
            "warm_ups": 0,
            "gc_rounds": 0,
        }
        request = CompareRequest(workload=self.workload(text), **{**words, **wanted})
        return compare(request, self.settings(), Reporter(Console(file=self.said, soft_wrap=True)))

    def results(self, text: str = COPY, **wanted: Any) -> Experiment:
        done = self.compare(text, **wanted)
        assert done is not None
        assert isinstance(done.results, Experiment)
        return done.results

    def experiments(self) -> list[str]:
        """The folders of runs."""
        folder = self.folder / "build" / "experiments"
        return (
            sorted(path.name for path in folder.iterdir() if path.name != "inputs") if folder.is_dir() else []
        )


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    for name in "ab":
        (tmp_path / name).write_text(NODE)
        (tmp_path / name).chmod(0o755)
    return Bench(tmp_path, io.StringIO())


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


def test_a_program_sees_its_input_and_nothing_of_node_s_settings(bench: Bench) -> None:
    text = "assert not any(name.startswith('NODE_') for name in os.environ) and words[3:] == ['4096']\ncopy()"
    kept = bench.results(text, high_water_marks=(4096,))
    assert kept.high_water_mark == 4096
    assert kept.trials[0].verified


def test_memory_and_streams_are_looked_at_while_it_runs(bench: Bench) -> None:
    """The pipe takes 64 KiB: telling more of it waits until somebody looked."""
    text = "held = bytearray(os.urandom(64) * 10**6); tell(0); tell(7, 40_000); copy()"
    trial = bench.results(text).trials[0]
    assert trial.samples[-1].writable_length == 7
    assert trial.peak_rss_bytes > 64 * 10**6
    assert trial.peak_rss_bytes >= max(sample.rss_bytes for sample in trial.samples)
    assert [sample.at_ms for sample in trial.samples] == sorted(sample.at_ms for sample in trial.samples)


def test_a_small_program_s_peak_is_not_that_of_who_started_it(bench: Bench) -> None:
    """The kernel counts a child's peak from its parent's."""
    ballast = bytearray(os.urandom(100) * 10**6)
    assert max(trial.peak_rss_bytes for trial in bench.results().trials) < len(ballast)


def test_collections_are_measured_in_runs_of_their_own(bench: Bench) -> None:
    """A script has no probes, whatever tracer there is: that is told, and the rest goes on."""
    kept = bench.results(gc_rounds=1)
    assert not kept.partial
    assert kept.environment.tracer is None
    found = {(run.binary, run.way): run for run in kept.gc_runs}
    assert len(found) == 2 * 3
    assert kept.joint_runs == ()
    for label in "ab":
        assert found[label, "probes"].collections is None
        assert "not an ELF file" in found[label, "probes"].note
        (printed,) = found[label, "trace-gc"].collections or ()
        assert (printed.type, printed.at_ms, printed.duration_ms) == (1, 40, 0.25)
        seen = found[label, "perf_hooks"].collections or ()
        assert [(one.type, one.at_ms, one.duration_ms) for one in seen] == [(1, 39.5, 0.5), (4, 52, 2)]


LOSES = "copy()\nif me == 'b': open(output, 'r+b').truncate(100)"


def test_a_binary_that_loses_data_ends_the_comparison(bench: Bench) -> None:
    with pytest.raises(CheckError, match="b loses data"):
        bench.compare(LOSES, warm_ups=1)
    assert bench.experiments() == []


def test_a_loss_that_comes_late_is_kept_with_what_was_measured(bench: Bench) -> None:
    """The warm-up leaves a mark beside the program, after which data is lost."""
    text = "copy()\nmark = program + me\nif os.path.exists(mark): os.remove(output)\nopen(mark, 'w')"
    with pytest.raises(CheckError, match="loses data: there is no output"):
        bench.compare(text, warm_ups=1)
    (name,) = bench.experiments()
    kept = read_results(bench.folder / "build" / "experiments" / name)
    assert isinstance(kept, Experiment)
    assert kept.partial
    assert [trial.verified for trial in kept.trials] == [False]
    assert f"./inv report {bench.folder / 'build' / 'experiments' / name}" in bench.said.getvalue()


def test_a_program_that_fails_is_told_with_its_words_and_how_to_run_it_alone(bench: Bench) -> None:
    with pytest.raises(CheckError) as failed:
        bench.compare("raise ValueError('no such luck')", warm_ups=1)
    assert "exit code 1: ValueError: no such luck" in str(failed.value)
    assert f"{bench.folder}/mine.mjs" in str(failed.value)
    assert bench.experiments() == []


def test_a_failure_that_comes_late_is_a_result(bench: Bench) -> None:
    text = "mark = program + me\nif os.path.exists(mark) and me == 'b': sys.exit(3)\nopen(mark, 'w')\ncopy()"
    endings = {trial.binary: (trial.ending, trial.detail) for trial in bench.results(text, warm_ups=1).trials}
    assert endings["a"] == ("finished", "")
    assert endings["b"][0] == "failed"
    assert "exit code 3" in endings["b"][1]


def test_a_limit_ends_what_takes_more_and_that_is_a_result(bench: Bench) -> None:
    text = "copy()\nheld = []\nwhile me == 'b': held.append(bytearray(os.urandom(10) * 400_000))"
    kept = bench.results(text, memory_limit=200 * 10**6)
    trials = {trial.binary: trial for trial in kept.trials}
    assert trials["a"].ending == "finished"
    assert trials["b"].ending == "out of memory"
    assert trials["b"].peak_rss_bytes > 100 * 10**6
    assert trials["b"].verified is None
    assert kept.memory_limit_bytes == 200 * 10**6


@pytest.mark.slow
def test_a_series_is_one_sweep_with_a_point_for_each_pair(bench: Bench) -> None:
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


def test_a_dry_run_tells_and_makes_nothing(bench: Bench) -> None:
    assert bench.compare("raise SystemExit", dry_run=True) is None
    told = bench.said.getvalue()
    assert "comparing a, b" in told
    assert "0 warm-ups, 2 trials and 0 runs for collections" in told
    assert not (bench.folder / "build" / "experiments").exists()


def test_an_input_that_could_not_fit_is_refused_before_anything_is_made(bench: Bench) -> None:
    with pytest.raises(UsageError, match="--size"):
        bench.compare(sizes=(9 * 10**12,))
    assert not (bench.folder / "build" / "experiments").exists()


def test_the_same_binary_twice_shows_what_chance_does(bench: Bench) -> None:
    kept = bench.results(binaries=("a", "a"))
    assert [binary.label for binary in kept.binaries] == ["a", "a (2)"]


@pytest.mark.parametrize(
    ("program", "mode", "error", "why"),
    [
        pytest.param("#!/bin/sh\n", 0o644, UsageError, "can't be run", id="not executable"),
        pytest.param("#!/no/such/program\n", 0o755, UsageError, "can't be run", id="no interpreter"),
        pytest.param("#!/bin/sh\necho hello\n", 0o755, CheckError, "answers hello", id="no Node"),
        pytest.param("#!/bin/sh\nexit 3\n", 0o755, CheckError, "nothing, and ends with 3", id="fails"),
    ],
)
def test_a_file_that_is_no_node_is_refused(
    bench: Bench, program: str, mode: int, error: type[KilnError], why: str
) -> None:
    (bench.folder / "c").write_text(program)
    (bench.folder / "c").chmod(mode)
    with pytest.raises(error, match=why):
        bench.compare(binaries=("a", "c"))
    assert bench.experiments() == []


def test_the_environment_is_told_without_a_path_or_a_name(bench: Bench) -> None:
    kept = bench.results().environment
    assert kept.cores >= 1
    assert kept.memory_bytes > kept.available_memory_bytes > 0
    assert not [
        value for value in (kept.cpu, kept.os, kept.kernel) if not value or os.uname().nodename == value
    ]


RUN = """
import os, sys
from pathlib import Path
from nodekiln.edge import run_command
from nodekiln.errors import INTERRUPTED
from nodekiln.experiment.compare import compare
from nodekiln.experiment.request import CompareRequest
from nodekiln.reporting import Reporter
from nodekiln.settings import Settings
here = Path.cwd()
settings = Settings.read(environ=os.environ, config=None, root=here, here=here, venv=None)
request = CompareRequest(binaries=('a', 'b'), sizes=(1000,), gc_rounds=0, workload='mine.mjs')
def command():
    done = compare(request, settings, Reporter())
    return INTERRUPTED if done.results.partial else 0
sys.exit(run_command(command))
"""
WAITS_AFTER = """
runs = open(program + '.runs', 'a')
runs.write(f'{os.getpid()} ')
runs.close()
copy()
if len(open(program + '.runs').read().split()) > %d:
    tell = open(program + '.here.new', 'w')
    tell.write(str(os.getpid()))
    tell.close()
    os.rename(tell.name, program + '.here')
    time.sleep(600)
"""
"""Runs, then one that waits to be ended, and says who it is."""


def assert_over(program: psutil.Process) -> None:
    """It may take a moment; whoever has it then as a child may leave it a zombie."""
    with suppress(psutil.NoSuchProcess):
        for _ in range(PATIENCE * 50):
            if program.status() == psutil.STATUS_ZOMBIE:
                return
            time.sleep(0.02)
        raise AssertionError(f"{program} still runs")


def start(bench: Bench, after: int) -> tuple[subprocess.Popen[str], psutil.Process]:
    """A comparison whose program waits after so many runs, and that program."""
    bench.workload(WAITS_AFTER % after)
    env: Mapping[str, str] = {**os.environ, "PYTHONPATH": str(PROJECT / "src"), "NODEKILN_BUILD": "build"}
    child = subprocess.Popen(
        [sys.executable, "-c", RUN],
        cwd=bench.folder,
        env=env,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    here = bench.folder / "mine.mjs.here"
    for _ in range(PATIENCE * 50):
        if here.exists():
            return child, psutil.Process(int(here.read_text()))
        try:
            child.wait(0.02)
        except subprocess.TimeoutExpired:
            continue
        break
    child.kill()
    raise AssertionError(child.communicate())


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_keeps_what_was_measured(bench: Bench, number: signal.Signals) -> None:
    """Two warm-ups and three trials are over, and a fourth one runs."""
    child, program = start(bench, after=5)
    child.send_signal(number)
    _, said = child.communicate(timeout=PATIENCE)
    assert child.returncode == 130, said
    (name,) = bench.experiments()
    facts = json.loads((bench.folder / "build" / "experiments" / name / "results.json").read_text())
    assert facts["partial"] is True
    assert len(facts["trials"]) == 3
    assert_over(program)
    assert not (bench.folder / "build" / "experiments" / name / "work").exists()


@pytest.mark.slow
def test_an_interrupt_while_the_report_is_drawn_says_how_to_draw_it(bench: Bench) -> None:
    """Drawing takes a second or more; results.json is complete before it begins."""
    env = {**os.environ, "PYTHONPATH": str(PROJECT / "src"), "NODEKILN_BUILD": str(bench.folder / "build")}
    words = ["--binaries", "a,b", "--workload", bench.workload(COPY), "--size", "1k", "--gc-rounds", "0"]
    child = subprocess.Popen(
        [sys.executable, str(PROJECT / "program.py"), "compare", *words],
        cwd=bench.folder,
        env=env,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    while child.poll() is None:
        files = list(bench.folder.glob("build/experiments/*/results.json"))
        is_complete = files and '"partial": false' in files[0].read_text()
        if is_complete and not (files[0].parent / "work").exists():
            time.sleep(0.2)  # of the second or more that drawing takes, for what follows the work
            child.send_signal(signal.SIGINT)
            break
        time.sleep(0.01)
    told, said = child.communicate(timeout=PATIENCE)
    (name,) = bench.experiments()
    folder = bench.folder / "build" / "experiments" / name
    assert (child.returncode, told) == (130, ""), said
    assert said.endswith(f"error: interrupted; what was measured is kept: ./inv report {folder}\n")
    assert [path.name for path in folder.iterdir()] == ["results.json"]


def test_an_interrupt_before_the_first_trial_leaves_nothing(bench: Bench) -> None:
    child, program = start(bench, after=0)
    child.send_signal(signal.SIGINT)
    _, said = child.communicate(timeout=PATIENCE)
    assert (child.returncode, said.splitlines()[-1]) == (130, "error: interrupted.")
    assert bench.experiments() == []
    assert_over(program)


def test_nothing_runs_on_where_we_are_killed_and_what_was_measured_is_there(bench: Bench) -> None:
    child, program = start(bench, after=4)
    child.kill()
    child.communicate(timeout=PATIENCE)
    assert_over(program)
    (name,) = bench.experiments()
    facts = json.loads((bench.folder / "build" / "experiments" / name / "results.json").read_text())
    assert facts["partial"] is True
    assert len(facts["trials"]) == 2


def test_what_a_killed_run_was_writing_is_removed_and_what_it_measured_is_not(bench: Bench) -> None:
    experiments = bench.folder / "build" / "experiments"
    measured, not_measured = "2026-11-23-075143", "2026-11-23-075143-2"
    for name in (measured, not_measured, "mine"):
        (experiments / name / "work").mkdir(parents=True)
        (experiments / name / "work" / "output").write_bytes(b"half")
    (experiments / measured / "results.json").write_text("{}")
    done = bench.compare()
    assert done is not None
    assert bench.experiments() == sorted([done.folder.name, measured, "mine"])
    assert [path.name for path in (experiments / measured).iterdir()] == ["results.json"]
    assert (experiments / "mine" / "work" / "output").exists()

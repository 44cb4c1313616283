"""A comparison that is ended from outside keeps what it measured, and leaves nothing running or behind."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from tests.integration.comparisons.bench import COPY, Bench

PROJECT = Path(__file__).resolve().parents[3]

PATIENCE = 60

RUN = """
import os, sys
from pathlib import Path
from nodekiln.cli.command import run_command
from nodekiln.core.errors import INTERRUPTED
from nodekiln.experiment.compare import compare
from nodekiln.experiment.model.request import CompareRequest
from nodekiln.core.reporting import Reporter
from nodekiln.core.settings import Settings
here = Path.cwd()
settings = Settings.read(environ=os.environ, config=None, root=here, cwd=here, venv=None)
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
def test_interrupt_keeps_what_was_measured(bench: Bench, number: signal.Signals) -> None:
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
def test_interrupt_while_the_report_is_drawn_reports_how_to_draw_it(bench: Bench) -> None:
    """Statistics and drawing take a second or more; results.json is complete before they begin."""
    env = {**os.environ, "PYTHONPATH": str(PROJECT / "src"), "NODEKILN_BUILD": str(bench.folder / "build")}
    words = ["--binaries", "a,b", "--workload", bench.workload(COPY), "--size", "1k", "--gc-rounds", "0"]
    child = subprocess.Popen(
        [sys.executable, str(PROJECT / "src" / "nodekiln" / "__main__.py"), "compare", *words],
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
    last = said.splitlines()[-1]
    assert last.startswith("error: interrupted")
    assert last.endswith(f"./inv report {folder}")
    assert [path.name for path in folder.iterdir()] == ["results.json"]


def test_interrupt_before_the_first_trial_leaves_nothing(bench: Bench) -> None:
    child, program = start(bench, after=0)
    child.send_signal(signal.SIGINT)
    _, said = child.communicate(timeout=PATIENCE)
    assert (child.returncode, said.splitlines()[-1]) == (130, "error: interrupted.")
    assert bench.experiments() == []
    assert_over(program)


def test_killed_comparison_ends_its_programs_and_keeps_results(bench: Bench) -> None:
    child, program = start(bench, after=4)
    child.kill()
    child.communicate(timeout=PATIENCE)
    assert_over(program)
    (name,) = bench.experiments()
    facts = json.loads((bench.folder / "build" / "experiments" / name / "results.json").read_text())
    assert facts["partial"] is True
    assert len(facts["trials"]) == 2


def test_outputs_of_a_killed_run_are_removed_and_results_kept(bench: Bench) -> None:
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

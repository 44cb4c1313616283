"""Traced runs, with a silent stand-in for the tracer."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import pytest

from nodekiln.core.settings import Settings
from nodekiln.experiment.inputs.inputs import Material
from nodekiln.experiment.inputs.workloads import Workload
from nodekiln.experiment.measure import traced
from nodekiln.experiment.measure.traced import Traced, run_traced
from nodekiln.experiment.measure.trials import Setup
from nodekiln.experiment.model.results import Input
from tests.change_folders import PATCHES

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="stops the program by ptrace")
ENVIRONMENT = dict(os.environ)


@contextmanager
def attach_nothing(*_: object, **__: object) -> Iterator[SimpleNamespace]:
    yield SimpleNamespace(said="")


@pytest.fixture(autouse=True)
def _no_tracer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(traced, "tracer_for", lambda *_: lambda pid: pid)
    monkeypatch.setattr(traced, "attach", attach_nothing)


def trace(folder: Path, program: str, limit: int | None = None) -> Traced:
    """Runs a program of Python's, with nothing of an experiment but a place and a limit."""
    facts = Input(kind="none", size_bytes=0, sha256=None, compressed_ratio=None)
    workload = Workload(name="", path=folder, about="", unit="bytes", text="", rate=None, base=0)
    setup = Setup(
        workload=workload,
        material=Material(path=folder, facts=facts, note=""),
        mark=None,
        page_cache="warm",
        limit=limit,
        env=ENVIRONMENT,
        folder=folder,
        stamps={},
    )
    return run_traced(
        [sys.executable, "-c", program],
        env=ENVIRONMENT,
        setup=setup,
        settings=Settings.read(
            environ=ENVIRONMENT, config=None, root=folder, patches=PATCHES, cwd=folder, venv=None
        ),
        on_count=lambda _: None,
    )


@pytest.fixture
def _open_stdin() -> Iterator[None]:
    """Of ours, as `sleep 25 | ./inv compare` has it: nothing comes, and no end."""
    before = os.dup(0)
    theirs, ours = os.pipe()
    os.dup2(theirs, 0)
    yield
    os.dup2(before, 0)
    for handle in (before, theirs, ours):
        os.close(handle)


@pytest.mark.usefixtures("_open_stdin")
def test_program_that_reads_its_stdin_does_not_wait_for_ours(tmp_path: Path) -> None:
    program = "import select, sys; sys.exit(not select.select([0], [], [], 5)[0] or sys.stdin.read() != '')"
    assert trace(tmp_path, program).ending == "finished"


def test_time_of_a_run_ends_with_its_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(traced, "_LOOK", 20)
    assert 0 < trace(tmp_path, "").wall_ms < 10_000


def test_run_is_ended_at_the_memory_limit(tmp_path: Path) -> None:
    found = trace(tmp_path, "import time; held = bytearray(10**8); time.sleep(60)", limit=50 * 10**6)
    assert found.ending == "out of memory"
    assert found.wall_ms < 30_000

"""What compare refuses before it makes anything, and its notes about small chunks."""

from __future__ import annotations

import io
import os
import platform
import sys
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from nodekiln.core.errors import KilnError
from nodekiln.core.reporting import Reporter
from nodekiln.core.settings import Settings
from nodekiln.experiment.inputs.binaries import Named, name_subjects
from nodekiln.experiment.inputs.workloads import find_workload
from nodekiln.experiment.measure.forecast import Forecast, forecast
from nodekiln.experiment.model.request import CompareRequest
from nodekiln.grafting.platforms import Platform
from nodekiln.grafting.release import obtain
from tests.change_folders import PATCHES

MB = 10**6
HERE = Platform.of_machine(sys.platform, platform.machine())


def settings(folder: Path) -> Settings:
    environ = {"NODEKILN_BUILD": str(folder / "build")}
    return Settings.read(environ=environ, config=None, root=folder, patches=PATCHES, cwd=folder, venv=None)


@pytest.mark.skipif(HERE is None, reason="there is no release to graft for this machine")
@pytest.mark.parametrize("name", ["missing", "folder", "pipe", "text", "empty"])
def test_release_that_no_graft_could_start_from_is_refused_as_graft_does(tmp_path: Path, name: str) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "text").write_text("no program")
    (tmp_path / "empty").touch()
    os.mkfifo(tmp_path / "pipe")
    request = CompareRequest(release=tmp_path / name)
    assert refusal(request, tmp_path) == refusal_of_grafting(request, tmp_path)


@pytest.mark.skipif(HERE is None, reason="there is no release to graft for this machine")
@pytest.mark.parametrize("mirror", ["ftp://example.org/dist", "example.org", "https://"])
def test_mirror_that_is_none_is_refused_as_graft_does(tmp_path: Path, mirror: str) -> None:
    request = CompareRequest(mirror=mirror)
    assert refusal(request, tmp_path) == refusal_of_grafting(request, tmp_path)


def test_program_and_a_packed_release_and_a_mirror_are_let_through(tmp_path: Path) -> None:
    (tmp_path / "node").write_bytes(b"\x7fELF".ljust(18, b"\0") + b"\x3e" + bytes(45))
    (tmp_path / "node.tar.gz").write_bytes(b"\x1f\x8b" + bytes(1000))
    for request in (
        CompareRequest(release=tmp_path / "node"),
        CompareRequest(release=tmp_path / "node.tar.gz"),
        CompareRequest(mirror="https://example.org/dist"),
    ):
        assert len(name_subjects(request, settings(tmp_path))) == 2
    assert not (tmp_path / "build").exists()


def test_mirror_is_not_looked_at_where_nothing_is_downloaded(tmp_path: Path) -> None:
    """NODEKILN_MIRROR may hold one that other commands refuse."""
    for name in ("a", "b"):
        (tmp_path / name).write_text("#!/bin/sh\n")
    assert len(name_subjects(CompareRequest(binaries=("a", "b"), mirror="ftp://x"), settings(tmp_path))) == 2


def refusal(request: CompareRequest, folder: Path) -> tuple[int, str]:
    with pytest.raises(KilnError) as refused:
        name_subjects(request, settings(folder))
    assert not (folder / "build").exists()
    return refused.value.exit_code, str(refused.value)


def refusal_of_grafting(request: CompareRequest, folder: Path) -> tuple[int, str]:
    assert HERE is not None
    with pytest.raises(KilnError) as refused:
        obtain(
            request.tag,
            HERE,
            folder=folder / "releases",
            file=request.release,
            mirror=request.mirror,
            env={},
            reporter=Reporter(Console(file=io.StringIO())),
        )
    return refused.value.exit_code, str(refused.value)


def foretold(workload: str, **wanted: Any) -> Forecast:
    request = CompareRequest(**wanted)
    named = [Named("a", "a", True), Named("b", "b", False)]
    found = find_workload(workload, Path())
    return forecast(request, found, named, request.sizes, disk=1, may_trace=True)


def test_small_chunks_are_reported_with_what_they_take() -> None:
    plain, fine = (foretold("pipeline", sizes=(4 * MB,), high_water_marks=marks) for marks in ((None,), (1,)))
    (told,) = set(fine.lines) - set(plain.lines)
    assert told.startswith("highWaterMark 1 bytes: 4,000,000 chunks take some 2 min 40 s a run besides")
    assert "2.8 GB of memory" in told


@pytest.mark.parametrize(
    ("workload", "marks"), [("pipeline", (None,)), ("pipeline", (4096, 65536)), ("objects", (1,))]
)
def test_no_note_about_chunks_that_are_not_small(workload: str, marks: tuple[int | None, ...]) -> None:
    assert not any("chunks" in line for line in foretold(workload, high_water_marks=marks).lines)


def test_smallest_chunks_of_a_series_are_reported() -> None:
    lines = foretold("pipeline", sizes=(MB, 4 * MB), high_water_marks=(None, 1024, 64)).lines
    assert "highWaterMark 64 bytes: 62,500 chunks" in lines[-1]


def test_no_size_is_suggested_with_small_chunks() -> None:
    assert "takes two minutes" in foretold("pipeline", high_water_marks=(4096,)).lines[2]
    assert "takes two minutes" not in foretold("pipeline", high_water_marks=(1,)).lines[2]

"""The timings of a complete build of v20.19.2, and its .ninja files with a pool: see the marker `build`."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from nodekiln.building.ninja import read_files, with_pool, write_pool
from nodekiln.building.timings import Timings

_ENVIRONMENT = dict(os.environ)
_PROGRAM = Path(__file__).parents[2] / "src" / "nodekiln" / "__main__.py"
_TAG = "v20.19.2"

pytestmark = pytest.mark.build


@dataclass(frozen=True)
class Built:
    """A build folder after a build of stock."""

    folder: Path

    @property
    def tree(self) -> Path:
        (tree,) = (self.folder / "trees").iterdir()
        return tree

    @property
    def out(self) -> Path:
        return self.tree / "source" / "out" / "Release"

    def ninja(self, *words: str) -> str:
        done = subprocess.run(
            ["ninja", "-C", self.out, *words], env=_ENVIRONMENT, check=True, capture_output=True, text=True
        )
        return done.stdout


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Built]:
    if "NODEKILN_REPOSITORY" not in _ENVIRONMENT:
        pytest.skip("NODEKILN_REPOSITORY names no repository with a real Node tree")
    if shutil.which("ninja", path=_ENVIRONMENT["PATH"]) is None:
        pytest.skip("there is no ninja, and make keeps no times")
    folder = tmp_path_factory.mktemp("timings") / "build"
    subprocess.run(
        [sys.executable, _PROGRAM, "build", f"--tag={_TAG}", "--no-probes"],
        env={**_ENVIRONMENT, "NODEKILN_BUILD": str(folder)},
        check=True,
    )
    yield Built(folder)
    shutil.rmtree(folder)


@pytest.fixture
def timings(built: Built) -> Timings:
    return Timings.from_json((built.folder / "timings" / f"{_TAG}.json").read_text())


def test_timings_have_every_step_that_ninja_printed(built: Built, timings: Timings) -> None:
    lines = (built.tree / "build.log").read_text().splitlines()
    printed = [line.partition("] ")[2] for line in lines if line.startswith("[")]
    assert len(printed) > 1500
    assert sorted(step.description for step in timings.steps) == sorted(printed)


def test_steps_begin_after_their_dependencies_end(timings: Timings) -> None:
    late = [
        (step.description, timings.steps[before].description)
        for step in timings.steps
        for before in step.after
        if timings.steps[before].end > step.start + 0.001  # ninja counts milliseconds
    ]
    assert late == []


def test_critical_path_goes_through_torque_and_the_snapshot_to_node(timings: Timings) -> None:
    path = [step.description for step in timings.critical_path()]
    assert path[-1] == "LINK node"
    assert any(step.startswith("ACTION run_torque") for step in path)
    assert "LINK node_mksnapshot" in path


def test_pool_for_v8_rebuilds_nothing(built: Built) -> None:
    before = read_files(built.out)
    pooled = sum(text.count("pool = nodekiln_heavy") for text in with_pool(before, 1).values())
    assert pooled > 1000
    file = write_pool(built.out, 1)
    assert "no work to do" in built.ninja("-f", file, "-n", "node")
    assert "no work to do" in built.ninja("-n", "node")
    assert read_files(built.out) == before

"""What <TAB> offers after the words that are there."""

from __future__ import annotations

from pathlib import Path

import pytest

from nodekiln.cli.completion import candidates

STOCK, FREE = "v20.1.0", "v20.1.0-no-backpressure"
TASKS = ("build", "compare", "inspect", "path", "trace")


@pytest.fixture(autouse=True)
def _binaries(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (FREE, STOCK, ".staging-1"):
        (tmp_path / "binaries" / name).mkdir(parents=True)
    monkeypatch.setenv("NODEKILN_BUILD", str(tmp_path))


@pytest.mark.parametrize(
    ("line", "offered"),
    [
        ("path", [STOCK, FREE]),
        ("path v20", [STOCK, FREE]),
        ("compare --binaries", [STOCK, FREE]),
        ("compare --binaries node,v", [f"node,{STOCK}", f"node,{FREE}"]),
        ("trace gc --binary v", [STOCK, FREE]),
        ("trace", ["backpressure", "collections", "gc", "http"]),
        ("inspect", []),
        ("inspect ./no", []),
    ],
)
def test_binaries_scripts_and_else_the_shell_s_files(line: str, offered: list[str]) -> None:
    assert candidates(line.split(), TASKS) == offered


@pytest.mark.parametrize("line", ["", "bu", "build --t", "path --"])
def test_tasks_and_options_are_left_to_invoke(line: str) -> None:
    assert candidates(line.split(), TASKS) is None


def test_a_build_folder_that_is_not_there_has_no_binaries(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NODEKILN_BUILD", str(tmp_path / "nothing"))
    assert candidates(["path"], TASKS) == []

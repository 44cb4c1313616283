"""What <TAB> offers after the words that were typed."""

from __future__ import annotations

from pathlib import Path

import pytest

from nodekiln.cli.program import collect
from nodekiln.cli.usage import candidates

STOCK, FREE = "v20.1.0", "v20.1.0-no-backpressure"


@pytest.fixture(autouse=True)
def _binaries(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (FREE, STOCK, ".staging-1"):
        (tmp_path / "binaries" / name).mkdir(parents=True)
    monkeypatch.setenv("NODEKILN_BUILD", str(tmp_path))


def _offered(line: str) -> list[str]:
    return candidates(line.split(" "), collect())


@pytest.mark.parametrize(
    ("line", "offered"),
    [
        ("bu", ["build"]),
        ("path ", [STOCK, FREE]),
        ("path v20.1.0-", [FREE]),
        ("compare ", [STOCK, FREE]),
        ("compare --binaries node,v", [f"node,{STOCK}", f"node,{FREE}"]),
        ("trace gc --binary v", [STOCK, FREE]),
        ("trace ", ["backpressure", "collections", "gc", "http"]),
        ("trace g", ["gc"]),
        ("inspect ./no", []),
        ("build --no", ["--no-backpressure", "--no-probes"]),
        ("build --repository ", []),
        ("list --format j", ["json"]),
        ("--ver", ["--verbose", "--version"]),
    ],
)
def test_candidates_after_words_are_tasks_options_binaries_or_scripts(line: str, offered: list[str]) -> None:
    assert _offered(line) == offered


def test_candidates_on_an_empty_line_are_all_tasks() -> None:
    assert {"build", "graft", "import-tarball"} <= {*_offered("")}


def test_candidates_without_a_build_folder_has_no_binaries(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NODEKILN_BUILD", str(tmp_path / "nothing"))
    assert _offered("path ") == []

"""Comparisons of files whose names are no UTF-8 or no words of the locale, and of what can't be grafted."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from pathlib import Path

import pytest
from rich.console import Console

from nodekiln.core.errors import PatchError
from nodekiln.core.reporting import Reporter
from nodekiln.core.settings import Settings
from nodekiln.experiment.compare import compare
from nodekiln.experiment.inputs.binaries import name_subjects, obtain_subjects
from nodekiln.experiment.model.request import CompareRequest
from nodekiln.experiment.model.results import Experiment, read_results
from tests.change_folders import PATCHES
from tests.integration.grafts.desk import ADAPTERS, NEEDS_GCC, WRITABLE, compile_node

PROJECT = Path(__file__).resolve().parents[3]
NODE = """\
#!/bin/sh
[ "$1" != --version ] || exec echo v22.20.0
while [ "$1" != "${1#-}" ]; do [ "$1" != --require ] || shift; shift; done
cp "$2" "$3"
"""
BINARY, WORKLOAD, INPUT = b"no\xffde", b"mi\xffne.mjs", "f\u00fcr.bin".encode()
NAMES = {"binary": "no\ufffdde", "workload": "mi\ufffdne.mjs", "input": "f\u00fcr.bin"}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """With two stand-ins for Node, a workload and an input."""
    here = os.fsencode(tmp_path)
    for name, text in ((BINARY, NODE), (b"other", NODE), (WORKLOAD, "// \u00fc\n"), (INPUT, "data" * 100)):
        try:
            Path(os.fsdecode(here + b"/" + name)).write_text(text, encoding="utf-8")
        except OSError:
            pytest.skip("this file system takes names in UTF-8 only")
    for name in (BINARY, b"other"):
        Path(os.fsdecode(here + b"/" + name)).chmod(0o755)
    return tmp_path


def settings(folder: Path) -> Settings:
    environ = {"NODEKILN_BUILD": str(folder / "build"), "PATH": os.environ["PATH"]}
    return Settings.read(environ=environ, config=None, root=folder, patches=PATCHES, cwd=folder, venv=None)


def names_in(folder: Path) -> dict[str, str]:
    """What the one comparison in the build folder calls the odd ones."""
    (run,) = (place for place in (folder / "build" / "experiments").iterdir() if place.name != "inputs")
    results = read_results(run)
    assert isinstance(results, Experiment)
    assert results.binaries[0].label == results.binaries[0].name
    return {
        "binary": results.binaries[0].name,
        "workload": results.workload,
        "input": results.input.name,
    }


def test_names_that_are_no_utf8_are_kept_as_text(folder: Path) -> None:
    request = CompareRequest(
        binaries=(os.fsdecode(BINARY), "other"),
        workload=os.fsdecode(WORKLOAD),
        source=folder / os.fsdecode(INPUT),
        trials=1,
        warm_ups=0,
        gc_rounds=1,
    )
    assert compare(request, settings(folder), Reporter(Console(file=io.StringIO()))) is not None
    assert names_in(folder) == NAMES


@pytest.mark.slow
def test_names_outside_the_locale_are_kept_as_text(folder: Path) -> None:
    env = {
        "PATH": os.environ["PATH"],
        "HOME": os.environ["HOME"],
        "PYTHONPATH": str(PROJECT / "src"),
        "NODEKILN_BUILD": str(folder / "build"),
        "LC_ALL": "C",
        "PYTHONUTF8": "0",
    }
    argv: list[str | bytes] = [
        sys.executable,
        str(PROJECT / "src" / "nodekiln" / "__main__.py"),
        "compare",
        "--trials",
        "1",
    ]
    argv += ["--warm-ups", "0", "--gc-rounds", "0", "--binaries", BINARY + b",other"]
    argv += ["--workload", WORKLOAD, "--input", INPUT]
    done = subprocess.run(argv, cwd=folder, env=env, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
    assert names_in(folder) == NAMES


@NEEDS_GCC
def test_release_that_cannot_be_grafted_suggests_builds(tmp_path: Path) -> None:
    """As 12 and older, whose `return ret;` has no room for another word."""
    old = WRITABLE.replace(b"return ret && !state.errored;", b"return ret;")
    release = compile_node(tmp_path, old, ADAPTERS)
    request = CompareRequest(release=release)
    reporter = Reporter(Console(file=io.StringIO()))
    with pytest.raises(PatchError, match="1 byte") as refused:
        obtain_subjects(name_subjects(request, settings(tmp_path)), request, settings(tmp_path), reporter)
    remedy = refused.value.remedy or ""
    assert "./inv build --tag v22.20.0" in remedy
    assert "./inv compare --binaries v22.20.0-usdt,v22.20.0-no-backpressure-usdt" in remedy
    assert "same options" not in remedy

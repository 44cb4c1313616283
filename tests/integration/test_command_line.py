"""The command line itself: words that can't be taken, streams that are closed, and what <TAB> offers."""

from __future__ import annotations

import shlex
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.integration.conftest import Kiln

PROGRAM = Path(__file__).resolve().parents[2] / "program.py"
FREE = "v20.1.0-no-backpressure"


def _in_shell(kiln: Kiln, line: str) -> subprocess.CompletedProcess[str]:
    """A line in which INV is our program."""
    inv = shlex.join([sys.executable, str(PROGRAM)])
    argv = ["/bin/bash", "-c", line.replace("INV", inv)]
    return subprocess.run(argv, env=kiln.environment(), capture_output=True, text=True, check=False)


@pytest.mark.parametrize(
    "words", [("clean", "--yes", "--tag", ""), ("clean", "--yes", "--tag="), ("build", "--repository", "")]
)
def test_an_empty_text_is_no_option_left_out(built: Kiln, words: tuple[str, ...]) -> None:
    done = built.run(*words)
    assert (done.code, done.stdout) == (2, "")
    assert "is given an empty text" in done.stderr
    assert built.run("path", FREE).code == 0


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("list", "--", "more"), "Words after -- are for ./inv trace."),
        (("build", "--tag=v20.1.0", "--tag=v20.2.0"), "--tag is given twice."),
        (("compare", "--trials", "2", "--trials", "6"), "--trials is given twice."),
        (("-f", "/nonexistent/words", "list"), "/nonexistent/words can't be taken"),
    ],
)
def test_words_that_would_be_dropped_or_misread_are_told(
    kiln: Kiln, words: tuple[str, ...], told: str
) -> None:
    done = kiln.run(*words)
    assert done.code == 2
    assert done.stderr.startswith("error: ")
    assert told in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("streams", [">&- 2>&-", "<&-"])
def test_closed_streams_stop_nothing(built: Kiln, streams: str) -> None:
    done = _in_shell(built, f"INV list {streams}")
    assert (done.returncode, done.stderr) == (0, "")
    assert (FREE in done.stdout) is (not streams.startswith(">"))


@pytest.mark.slow
def test_whoever_stops_reading_our_notes_still_gets_the_result(kiln: Kiln) -> None:
    done = _in_shell(kiln, "INV build --tag v20.1.0 --no-probes --no-backpressure 2> >(head -n 1 >&2)")
    assert done.returncode == 0
    assert done.stdout.endswith(f"/{FREE}/node\n")
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize("words", ["list", "--list"])
def test_a_result_that_can_not_be_written_is_told(built: Kiln, words: str) -> None:
    done = _in_shell(built, f"INV {words} >/dev/full")
    assert (done.returncode, done.stderr) == (6, "error: stdout: No space left on device.\n")


@pytest.mark.parametrize("words", ["list", "--list"])
def test_a_reader_of_results_that_has_seen_enough_is_no_error(built: Kiln, words: str) -> None:
    done = _in_shell(built, f"INV {words} | :; echo ${{PIPESTATUS[0]}}")
    assert done.stdout == "0\n"
    assert "Traceback" not in done.stderr


def test_tab_offers_tasks_options_and_binaries(built: Kiln) -> None:
    assert built.run("--complete", "--", "./inv path v20").stdout.split() == [FREE]
    assert "build" in built.run("--complete", "--", "./inv bu").stdout.split()
    assert "--no-backpressure" in built.run("--complete", "--", "./inv build --no").stdout.split()

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


@pytest.mark.parametrize(
    "words",
    [
        ("patch", "--tag=v20.1.0", "--repository=https://localhost:1/x.git?key=YWJj="),
        ("patch", "--tag=v20.1.0", "--no-backpressure", "--repository", "/nowhere="),
        ("build", "--tag=v20.1.0", "--configure-args", "--without-npm=", "--dry-run", "--no-probes"),
        ("--complete", "--", "./inv clean --tag="),
    ],
)
def test_a_text_that_ends_like_an_option_is_not_empty(kiln: Kiln, words: tuple[str, ...]) -> None:
    assert "empty text" not in kiln.run(*words).stderr


def test_an_option_of_another_kind_is_not_told_as_given_twice(kiln: Kiln) -> None:
    done = kiln.run("trace", "gc", "--binaryy", "x", "--", "node", "--a", "--a")
    assert (done.code, "--binaryy" in done.stderr, "twice" in done.stderr) == (2, True, False)


@pytest.mark.parametrize(
    ("line", "code"), [("path nope", 2), ("clean --tag=", 2), ("build --tag v20.77.0", 6)]
)
def test_an_error_that_nobody_can_be_told_still_has_its_code(kiln: Kiln, line: str, code: int) -> None:
    assert _in_shell(kiln, f"INV {line} 2>/dev/full").returncode == code


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


def test_a_reader_that_has_seen_enough_of_a_finding_does_not_make_it_a_success(kiln: Kiln) -> None:
    done = _in_shell(kiln, "INV verify --tags v20.9.9 | :; echo ${PIPESTATUS[0]}")
    assert done.stdout == "4\n"


@pytest.mark.parametrize("words", ["list", "--list"])
def test_a_reader_of_results_that_has_seen_enough_is_no_error(built: Kiln, words: str) -> None:
    done = _in_shell(built, f"INV {words} | :; echo ${{PIPESTATUS[0]}}")
    assert done.stdout == "0\n"
    assert "Traceback" not in done.stderr


def test_tab_offers_tasks_options_and_binaries(built: Kiln) -> None:
    assert built.run("--complete", "--", "./inv path v20").stdout.split() == [FREE]
    assert "build" in built.run("--complete", "--", "./inv bu").stdout.split()
    assert "--no-backpressure" in built.run("--complete", "--", "./inv build --no").stdout.split()

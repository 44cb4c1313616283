"""The command line itself: words that can't be taken, streams that are closed, and what <TAB> offers."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.integration.conftest import Kiln

PROGRAM = Path(__file__).resolve().parents[2] / "src" / "nodekiln" / "__main__.py"
FREE = "v20.1.0-no-backpressure"


def _in_shell(kiln: Kiln, line: str) -> subprocess.CompletedProcess[str]:
    """A line in which INV is our program."""
    inv = shlex.join([sys.executable, str(PROGRAM)])
    argv = ["/bin/bash", "-c", line.replace("INV", inv)]
    return subprocess.run(argv, env=kiln.environment(), capture_output=True, text=True, check=False)


@pytest.mark.parametrize(
    "words", [("clean", "--yes", "--tag", ""), ("clean", "--yes", "--tag="), ("build", "--repository", "")]
)
def test_empty_text_is_no_option_left_out(built: Kiln, words: tuple[str, ...]) -> None:
    done = built.run(*words)
    assert (done.code, done.stdout) == (2, "")
    assert "is given an empty text" in done.stderr
    assert built.run("path", FREE).code == 0


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("list", "--", "more"), "Words after -- are only for ./inv trace and ./inv bisect."),
        (("bisect", "--good=v24.15.0", "--bad=v24.16.0"), "The command is missing."),
        (("bisect", "--good=v24.15.0", "--", "node"), "--bad is required"),
        (("build", "--tag=v20.1.0", "--tag=v20.2.0"), "--tag is given twice."),
        (("compare", "--trials", "2", "--trials", "6"), "--trials is given twice."),
        (("-f", "/nonexistent/words", "list"), "/nonexistent/words can't be read"),
    ],
)
def test_words_that_would_be_dropped_are_reported(kiln: Kiln, words: tuple[str, ...], told: str) -> None:
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
        ("--complete", "--", "clean", "--tag="),
    ],
)
def test_text_that_ends_like_an_option_is_not_empty(kiln: Kiln, words: tuple[str, ...]) -> None:
    assert "empty text" not in kiln.run(*words).stderr


def test_option_of_another_kind_is_not_told_as_given_twice(kiln: Kiln) -> None:
    done = kiln.run("trace", "gc", "--binaryy", "x", "--", "node", "--a", "--a")
    assert (done.code, "--binaryy" in done.stderr, "twice" in done.stderr) == (2, True, False)


@pytest.mark.parametrize(
    ("line", "code"), [("path nope", 2), ("clean --tag=", 2), ("build --tag v20.77.0", 6)]
)
def test_error_that_cannot_be_printed_keeps_its_exit_code(kiln: Kiln, line: str, code: int) -> None:
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


@pytest.mark.parametrize("words", ["list", "list --format json", "probes /bin/true"])
def test_full_stdout_without_a_result_is_an_error(kiln: Kiln, words: str) -> None:
    assert _in_shell(kiln, f"INV {words} >/dev/full").returncode == 6


@pytest.mark.parametrize("words", ["list", "--list"])
def test_result_that_cannot_be_written_is_reported(built: Kiln, words: str) -> None:
    done = _in_shell(built, f"INV {words} >/dev/full")
    assert (done.returncode, done.stderr) == (6, "error: stdout: No space left on device.\n")


def test_reader_that_has_seen_enough_of_a_finding_does_not_make_it_a_success(kiln: Kiln) -> None:
    done = _in_shell(kiln, "INV verify --tags v20.9.9 | :; echo ${PIPESTATUS[0]}")
    assert done.stdout == "4\n"


@pytest.mark.parametrize("words", ["list", "--list"])
def test_reader_of_results_that_has_seen_enough_is_no_error(built: Kiln, words: str) -> None:
    done = _in_shell(built, f"INV {words} | :; echo ${{PIPESTATUS[0]}}")
    assert done.stdout == "0\n"
    assert "Traceback" not in done.stderr


def test_tab_offers_tasks_options_and_binaries(built: Kiln) -> None:
    assert built.run("--complete", "--", "path", "v20").stdout.split() == [FREE]
    assert built.run("--complete", "--", "bu").stdout.split() == ["build"]
    assert "--no-backpressure" in built.run("--complete", "--", "build", "--no").stdout.split()


def test_words_without_options_are_the_tag(built: Kiln) -> None:
    done = built.run("build", "20.1.0", "--no-backpressure", "--no-probes", "--format=json")
    assert done.code == 0
    assert json.loads(done.stdout)["name"] == FREE


@pytest.mark.parametrize(("word", "tag"), [("20.1", "v20.1.1"), ("latest", "v99.3.0"), ("v99", "v99.3.0")])
def test_short_tag_is_resolved_from_the_repository_and_printed(kiln: Kiln, word: str, tag: str) -> None:
    done = kiln.run("patch", word, "--no-probes")
    assert (done.code, done.stdout) == (0, "")
    assert f"{word} is {tag}" in done.stderr


def test_short_tag_that_matches_nothing_exits_6(kiln: Kiln) -> None:
    done = kiln.run("patch", "77")
    assert done.code == 6
    assert "No release matches '77'" in done.stderr


def test_path_as_json_has_the_manifest(built: Kiln) -> None:
    facts = json.loads(built.run("path", FREE, "--format", "json").stdout)
    assert facts["name"] == FREE
    assert facts["path"].startswith(str(built.build))
    assert facts["manifest"]["tag"] == "v20.1.0"


def test_two_tasks_run_in_order(built: Kiln) -> None:
    done = built.run("list", "doctor", "--help")
    assert "Usage: ./inv list" in done.stdout
    assert "Usage: ./inv doctor" in done.stdout


@pytest.mark.parametrize("words", [(), ("--help",)])
def test_overview_shows_every_task_and_no_option_of_invoke(kiln: Kiln, words: tuple[str, ...]) -> None:
    done = kiln.run(*words)
    assert done.code == 0
    assert {"graft", "build", "compare", "clean"} <= {*done.stdout.split()}
    assert not {"--dry", "--pty", "--prompt-for-sudo-password", "--warn-only"} & {*done.stdout.split()}


def test_quiet_prints_the_result_only(built: Kiln) -> None:
    done = built.run("--quiet", "build", "20.1.0", "--no-backpressure", "--no-probes")
    assert (done.code, done.stderr) == (0, "")
    assert done.stdout.endswith(f"{FREE}/node\n")


def test_messages_name_the_program_as_it_was_called(kiln: Kiln) -> None:
    done = kiln.run("path", "v1.2.3", env={"NODEKILN_PROGRAM": "/opt/inv"})
    assert "/opt/inv build" in done.stderr
    assert "./inv" not in done.stderr


@pytest.mark.skipif(shutil.which("fish") is None, reason="fish is not installed")
def test_completion_in_fish_offers_tasks_options_and_binaries(built: Kiln, tmp_path: Path) -> None:
    assert _complete_in_fish(built, tmp_path, "./inv bui") == ["build"]
    assert _complete_in_fish(built, tmp_path, "./inv path v20") == [FREE]
    assert "--no-probes" in _complete_in_fish(built, tmp_path, "./inv build --no")


def _complete_in_fish(kiln: Kiln, folder: Path, line: str) -> list[str]:
    inv = folder / "inv"
    inv.write_text(f'#!/bin/sh\nexec {shlex.join([sys.executable, "-P", str(PROGRAM)])} "$@"\n')
    inv.chmod(0o755)
    script = f"cd {folder}; ./inv --print-completion-script fish | source; complete -C {shlex.quote(line)}"
    fish = shutil.which("fish")
    assert fish is not None
    env = {**kiln.environment(), "PATH": os.environ["PATH"], "HOME": str(folder)}
    done = subprocess.run([fish, "-c", script], env=env, capture_output=True, text=True, check=True)
    return [row.split("\t")[0] for row in done.stdout.splitlines()]


@pytest.mark.parametrize(
    "words", [("foo",), ("foo", "--pid", "1"), ("foo", "--binary", "x", "--", "a.js"), ()]
)
def test_trace_of_unknown_script_lists_the_scripts(kiln: Kiln, words: tuple[str, ...]) -> None:
    done = kiln.run("trace", *words)
    assert done.code == 2
    assert "backpressure, collections, gc, http" in done.stderr

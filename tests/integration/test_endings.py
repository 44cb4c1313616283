"""How commands end: signals, leftovers of kills, files of others in our folders, unanswered questions."""

from __future__ import annotations

import os
import pty
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
import pytest

from nodekiln.core.process import capture, run_logged

if TYPE_CHECKING:
    from tests.integration.conftest import Kiln

PROGRAM = Path(__file__).resolve().parents[2] / "src" / "nodekiln" / "__main__.py"
TAG = "v20.1.0"
FREE = f"{TAG}-no-backpressure"


def _build(kiln: Kiln, *words: str) -> tuple[int, str]:
    done = kiln.run("build", f"--tag={TAG}", "--no-backpressure", "--no-probes", *words)
    return done.code, done.stderr


def _names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_kill_at_the_very_end_of_publishing_does_not_stop_the_next_build(built: Kiln) -> None:
    binaries = built.build / "binaries"
    shutil.copytree(binaries / FREE, binaries / f".former-{FREE}")
    assert _build(built, "--force")[0] == 0
    assert _names(binaries) == [FREE]


@pytest.mark.slow
def test_former_binary_exists_between_the_renames_of_a_replacement(built: Kiln) -> None:
    binaries = built.build / "binaries"
    (binaries / FREE).rename(binaries / f".former-{FREE}")
    assert built.run("path", FREE).stdout == f"{binaries}/.former-{FREE}/node\n"
    assert FREE in built.run("list").stdout
    assert _build(built, "--force")[0] == 0
    assert _names(binaries) == [FREE]


@pytest.mark.slow
def test_hangup_ends_a_build_unless_nohup_asked_to_ignore_it(kiln: Kiln) -> None:
    ignoring = [sys.executable, "-c", _IGNORE_HANGUP]
    child = kiln.start("build", f"--tag={TAG}", "--no-probes", prefix=ignoring)
    assert child.stderr is not None
    for line in child.stderr:
        if "is commit" in line:
            break
    child.send_signal(signal.SIGHUP)
    assert child.communicate(timeout=60)[0].endswith(f"/{TAG}/node\n")
    assert child.returncode == 0


_IGNORE_HANGUP = """
import os, signal, sys
signal.signal(signal.SIGHUP, signal.SIG_IGN)
os.execv(sys.argv[1], sys.argv[1:])
"""


def test_interrupt_while_we_are_still_loading_is_no_traceback(tmp_path: Path) -> None:
    (tmp_path / "invoke").mkdir()
    (tmp_path / "invoke" / "__init__.py").write_text(_INTERRUPTED)
    done = subprocess.run(
        [sys.executable, str(PROGRAM), "list"],
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (-signal.SIGINT, "", "")


_INTERRUPTED = """
import os, signal
os.kill(os.getpid(), signal.SIGINT)
"""


def test_second_interrupt_kills_children_that_are_deaf_to_the_first(tmp_path: Path) -> None:
    deaf = [
        sys.executable,
        "-c",
        "import signal, time; signal.signal(2, signal.SIG_IGN); print(1); time.sleep(60)",
    ]
    env = {**os.environ, "PYTHONUNBUFFERED": "1"}

    def interrupt_twice() -> None:
        while not (tmp_path / "log").exists() or "1\n" not in (tmp_path / "log").read_text():
            time.sleep(0.02)
        for _ in range(2):
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(0.3)

    threading.Thread(target=interrupt_twice).start()
    begun = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        run_logged(deaf, env=env, cwd=tmp_path, log=tmp_path / "log")
    assert time.monotonic() - begun < 8
    left = [child for child in psutil.Process().children() if child.cmdline()[:2] == deaf[:2]]
    assert left == []


def test_foreign_files_are_neither_listed_nor_cleaned(built: Kiln) -> None:
    (built.build / "trees" / ".DS_Store").touch()
    (built.build / "trees" / "notes").mkdir()
    (built.build / "binaries" / "current").symlink_to(FREE)
    assert "current" not in built.run("list").stdout
    assert built.run("clean", "--yes").code == 0
    assert _names(built.build / "trees") == [".DS_Store", "notes"]
    assert _names(built.build / "binaries") == ["current"]


def test_clean_takes_the_inputs_of_comparisons_and_leaves_their_reports(kiln: Kiln) -> None:
    for name in ("inputs/generated.bin", "2026-11-23-081223/report.html"):
        path = kiln.build / "experiments" / name
        path.parent.mkdir(parents=True)
        path.write_text(name)
    assert kiln.run("clean", "--tag=v20.1.0", "--yes").code == 0
    assert _names(kiln.build / "experiments") == ["2026-11-23-081223", "inputs"]
    assert kiln.run("clean", "--yes").code == 0
    assert _names(kiln.build / "experiments") == ["2026-11-23-081223"]


def test_clean_without_an_answer_removes_nothing(built: Kiln) -> None:
    ours, theirs = pty.openpty()
    os.write(ours, b"\x04")
    argv = [sys.executable, str(PROGRAM), "clean"]
    done = subprocess.run(
        argv, env=built.environment(), stdin=theirs, stderr=subprocess.PIPE, text=True, check=False
    )
    os.close(theirs)
    os.close(ours)
    assert (done.returncode, "nothing was removed" in done.stderr) == (0, True)
    assert (built.build / "binaries" / FREE).exists()


def test_doctor_without_the_tag_still_reports_of_the_machine(kiln: Kiln) -> None:
    done = kiln.run("doctor", "--tag=v20.77.0", env={"CXX": "g++-99"})
    assert done.code == 3
    assert "CXX is 'g++-99'" in done.stdout
    assert "has no tag v20.77.0" in done.stdout


@pytest.mark.parametrize(
    "words", [["-T", "abc"], ["--list", "nonsense"], ["-c", "foo"], ["--list", "-F", "bogus"], ["-R", "list"]]
)
def test_invokes_own_options_end_as_wrong_usage(kiln: Kiln, words: list[str]) -> None:
    done = kiln.run(*words)
    assert (done.code, done.stdout) == (2, "")
    assert done.stderr.startswith("error: ")
    assert "Traceback" not in done.stderr


def test_child_ended_by_an_interrupt_interrupts_the_command() -> None:
    with pytest.raises(KeyboardInterrupt):
        capture(["sh", "-c", "kill -INT $$"], env={"PATH": os.environ["PATH"]})

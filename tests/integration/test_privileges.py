"""Under sudo files and programs belong to the user who called it; root is only what a tracer needs."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

USER = 12345
"""A user without an entry in /etc/passwd, as in containers."""
SOURCE = Path(__file__).parents[2] / "src"
SUDO = {"SUDO_UID": str(USER), "SUDO_GID": str(USER)}
DROP = """
import os, subprocess, sys
from nodekiln.core.privileges import as_root, become_caller, can_be_root
become_caller(os.environ, lambda: sys.argv[1] == "usable")
"""

pytestmark = pytest.mark.skipif(
    not hasattr(os, "setresuid") or os.geteuid() != 0,
    reason="only root can be another user",
)


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder of the user's that the user can reach, which pytest's are not."""
    made = Path(tempfile.mkdtemp())
    os.chown(made, USER, USER)
    yield made
    shutil.rmtree(made)


def run(folder: Path, program: str, *words: str, **env: str) -> list[str]:
    done = subprocess.run(
        [sys.executable, "-c", DROP + program, *words],
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(SOURCE), "HOME": "/root", **env},
        cwd=folder,
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.split()


def test_file_and_child_under_sudo_belong_to_the_caller(folder: Path) -> None:
    program = """
open("made", "w").close()
subprocess.run(["id", "-u"]); subprocess.run(["id", "-G"])
print(os.environ["HOME"])
"""
    assert run(folder, program, "usable", **SUDO) == [str(USER), str(USER), "/"]
    assert ((folder / "made").stat().st_uid, (folder / "made").stat().st_gid) == (USER, USER)


def test_child_under_sudo_cannot_become_root_again(folder: Path) -> None:
    program = """
again = "import os\\ntry: os.setresuid(0, 0, 0)\\nexcept PermissionError: print('refused')"
subprocess.run([sys.executable if os.access(sys.executable, os.X_OK) else "/usr/bin/python3", "-c", again])
"""
    assert run(folder, program, "usable", **SUDO) == ["refused"]


def test_child_started_as_root_under_sudo_is_wholly_root(folder: Path) -> None:
    program = """
with as_root() as identity:
    argv = ["sh", "-c", "grep Uid: /proc/self/status; exec sleep 60"]
    child = subprocess.Popen(argv, stdout=subprocess.PIPE, **identity)
print(os.geteuid(), can_be_root(), child.stdout.readline().decode())
try: child.terminate()
except PermissionError: print("refused")
with as_root(): child.terminate()
print(child.wait(10), os.geteuid())
"""
    expected = [str(USER), "True", "Uid:", "0", "0", "0", "0", "refused", "-15", str(USER)]
    assert run(folder, program, "usable", **SUDO) == expected


@pytest.mark.parametrize(
    ("words", "env"),
    [
        ("not-usable", SUDO),
        ("usable", {}),
        ("usable", {"SUDO_UID": "0", "SUDO_GID": "0"}),
        ("usable", {"SUDO_UID": "-1", "SUDO_GID": "x"}),
    ],
)
def test_root_without_a_caller_to_serve_stays_root(folder: Path, words: str, env: dict[str, str]) -> None:
    program = "print(*os.getresuid(), *os.getresgid(), os.environ['HOME'], *os.getgroups())"
    assert run(folder, program, words, **env) == [*"000000", "/root", *map(str, os.getgroups())]


def command(folder: Path, *words: str, **env: str) -> subprocess.CompletedProcess[str]:
    reachable = (
        subprocess.run(
            [sys.executable, "-c", "import nodekiln.cli.program"],
            env={"PYTHONPATH": str(SOURCE)},
            user=USER,
            capture_output=True,
            check=False,
        )
        if _can_run()
        else None
    )
    if reachable is None or reachable.returncode:
        pytest.skip("another user can't read this Python and nodekiln")
    return subprocess.run(
        [sys.executable, "-B", str(SOURCE / "nodekiln" / "__main__.py"), *words],
        env={
            "PATH": os.environ["PATH"],
            "PYTHONPATH": str(SOURCE),
            "NODEKILN_BUILD": str(folder / "build"),
            **env,
        },
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )


def _can_run() -> bool:
    try:
        subprocess.run([sys.executable, "-c", ""], user=USER, check=True, cwd="/", capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        return False
    return True


def test_build_folder_under_sudo_belongs_to_the_caller(folder: Path) -> None:
    command(folder, "patch", "v22.20.0", "--repository", str(folder / "none"), **SUDO)
    assert {path.stat().st_uid for path in (folder / "build").rglob("*")} == {USER}


def test_build_folder_of_root_under_sudo_names_chown(folder: Path) -> None:
    (folder / "build").mkdir()
    done = command(folder, "patch", "v22.20.0", "--repository", str(folder / "none"), **SUDO)
    assert done.returncode == 3
    assert f"sudo chown -R {USER}:{USER} {folder / 'build'}" in done.stderr

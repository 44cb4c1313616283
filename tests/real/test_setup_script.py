"""./inv makes its environment once, reports why if it can't, and makes it again for another system.

The checkout is a small one, whose lock file is empty: no network is needed.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

INV = Path(__file__).resolve().parents[2] / "inv"
PYTHON = Path(sys.base_prefix, "bin", "python3").resolve()
TOOLS = (
    "sh",
    "basename",
    "cat",
    "cksum",
    "cp",
    "dirname",
    "grep",
    "ls",
    "mkdir",
    "readlink",
    "rm",
    "sed",
    "sleep",
    "tail",
    "tr",
)
MAIN = """\
import os, sys
import nodekiln
print("tasks", *sys.argv[1:])
print("called", os.environ["NODEKILN_PROGRAM"], file=sys.stderr) if "--who" in sys.argv else None
"""


@dataclass(frozen=True)
class Checkout:
    """A checkout, and a PATH that has a shell's tools and such Pythons as a test puts there."""

    folder: Path

    @property
    def venv(self) -> Path:
        return self.folder / "checkout" / ".venv"

    @property
    def lock(self) -> Path:
        return self.folder / "checkout" / "requirements.lock"

    def put_python(self, script: str | None = None) -> None:
        """The real Python as python3, or a script in its place."""
        place = self.folder / "bin" / "python3"
        if script is None:
            place.symlink_to(PYTHON)
        else:
            place.write_text(f"#!/bin/sh\n{script}\n")
            place.chmod(0o755)

    def start(self, *words: str, env: Mapping[str, str] | None = None) -> subprocess.Popen[str]:
        """Starts ./inv."""
        return subprocess.Popen(
            [self.folder / "checkout" / "inv", *words],
            env={
                "PATH": str(self.folder / "bin"),
                "HOME": str(self.folder),
                "PIP_NO_INDEX": "1",
                **(env or {}),
            },
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, *words: str, env: Mapping[str, str] | None = None) -> tuple[int, str, str]:
        """Exit code and both streams."""
        with self.start(*words, env=env) as child:
            stdout, stderr = child.communicate(timeout=60)
        return child.returncode, stdout, stderr


@pytest.fixture(scope="session")
def quick_python(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A script that is Python, but copies its virtual environments from one made before: 0.2 s, not 3."""
    made = tmp_path_factory.mktemp("made") / "venv"
    subprocess.run([PYTHON, "-m", "venv", made], check=True)
    return f'case "$*" in "-m venv "*) exec cp -RP "{made}/." "$3" ;; esac\nexec {PYTHON} "$@"'


@pytest.fixture
def checkout(tmp_path: Path) -> Checkout:
    """A checkout in which nothing was run yet, and a PATH without Python."""
    folder = tmp_path / "checkout"
    folder.mkdir()
    shutil.copy(INV, folder)
    (folder / "requirements.lock").touch()
    package = folder / "src" / "nodekiln"
    package.mkdir(parents=True)
    (package / "__init__.py").touch()
    (package / "__main__.py").write_text(MAIN)
    (tmp_path / "bin").mkdir()
    for tool in TOOLS:
        (tmp_path / "bin" / tool).symlink_to(shutil.which(tool) or tool)
    return Checkout(tmp_path)


def test_machine_without_python_is_reported_what_to_install(checkout: Checkout) -> None:
    code, stdout, stderr = checkout.run("--list")
    assert (code, stdout) == (3, "")
    assert stderr.startswith("error: Python 3.11 or later was not found on the PATH.\n")
    assert "NODEKILN_PYTHON" in stderr
    assert not checkout.venv.exists()


def test_python_that_is_too_old_is_as_good_as_none(checkout: Checkout) -> None:
    checkout.put_python("exit 1")  # what the question for 3.11 ends with there
    code, _, stderr = checkout.run("--list")
    assert code == 3
    assert "Python 3.11 or later was not found on the PATH." in stderr


def test_python_without_venv_is_reported_by_the_package_that_has_it(checkout: Checkout) -> None:
    checkout.put_python(
        f'case "$*" in *"-m venv"*) echo "No module named venv" >&2; exit 1;; esac\nexec {PYTHON} "$@"'
    )
    code, stdout, stderr = checkout.run("--list")
    assert (code, stdout) == (3, "")
    assert "No module named venv" in stderr
    assert "can't make virtual environments" in stderr
    assert "apt install python3-venv" in stderr
    assert not checkout.venv.exists()
    assert not checkout.venv.with_name(".venv.lock").exists()


def test_folder_of_somebody_elses_is_refused_and_kept(checkout: Checkout, tmp_path: Path) -> None:
    checkout.put_python()
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "thesis.txt").touch()
    code, _, stderr = checkout.run("--list", env={"NODEKILN_VENV": str(mine)})
    assert code == 3
    assert f"{mine} exists and was not made by this script." in stderr
    assert [path.name for path in mine.iterdir()] == ["thesis.txt"]


def test_place_that_cannot_be_written_is_reported(checkout: Checkout) -> None:
    checkout.put_python()
    code, _, stderr = checkout.run("--list", env={"NODEKILN_VENV": str(checkout.lock / "venv")})
    assert code == 3
    assert f"{checkout.lock} can't be written." in stderr


def test_first_run_installs_and_later_runs_only_hand_over(checkout: Checkout) -> None:
    checkout.put_python()
    first, second = checkout.run("build", "--tag=a b"), checkout.run("build", "--tag=a b")
    assert "packages of requirements.lock" in first[2]
    assert (first[0], first[1]) == (0, "tasks build --tag=a b\n")
    assert second == (0, "tasks build --tag=a b\n", "")
    assert not checkout.venv.with_name(".venv.lock").exists()


def test_failed_installation_is_reported_and_tried_again(checkout: Checkout, quick_python: str) -> None:
    checkout.put_python(quick_python)
    checkout.lock.write_text(f"nothing-of-this-name==1 --hash=sha256:{'0' * 64}\n")
    code, stdout, stderr = checkout.run("--list")
    assert (code, stdout) == (3, "")
    assert "nothing-of-this-name" in stderr
    assert "pip could not install the packages of" in stderr
    checkout.lock.write_text("")
    assert checkout.run("--list")[:2] == (0, "tasks --list\n")


def test_another_lock_is_installed_into_the_same_environment(checkout: Checkout, quick_python: str) -> None:
    checkout.put_python(quick_python)
    assert checkout.run()[0] == 0
    (checkout.venv / "kept").touch()
    checkout.lock.write_text("# something else\n")
    code, _, stderr = checkout.run()
    assert code == 0
    assert "installing" in stderr
    assert (checkout.venv / "kept").exists()
    assert checkout.run()[2] == ""


def test_environment_of_another_python_is_made_anew(checkout: Checkout, quick_python: str) -> None:
    checkout.put_python(quick_python)
    assert checkout.run()[0] == 0
    (checkout.venv / "kept").touch()
    for file in ("made-by", "requirements.lock.installed"):
        (checkout.venv / file).write_text("3.11.0 (another build) /opt/python\n")
    code, _, stderr = checkout.run()
    assert code == 0
    assert "installing" in stderr
    assert not (checkout.venv / "kept").exists()


def test_two_first_runs_at_once_install_once(checkout: Checkout, quick_python: str) -> None:
    checkout.put_python(quick_python)
    with checkout.start("one") as one, checkout.start("two") as two:
        ended = [one.communicate(timeout=60), two.communicate(timeout=60)]
    assert (one.returncode, two.returncode) == (0, 0)
    assert [stdout for stdout, _ in ended] == ["tasks one\n", "tasks two\n"]
    assert sum("2 of 2: installing" in stderr for _, stderr in ended) == 1


@pytest.mark.parametrize("owner", ["a process that is gone", "nobody"])
def test_lock_of_a_run_that_was_killed_is_taken_over(checkout: Checkout, owner: str) -> None:
    checkout.put_python(f'case "$*" in *"-m venv"*) exit 1;; esac\nexec {PYTHON} "$@"')
    lock = checkout.venv.with_name(".venv.lock")
    lock.mkdir()
    if owner != "nobody":
        with subprocess.Popen([PYTHON, "-c", ""]) as gone:
            gone.wait()
        (lock / "pid").write_text(f"{gone.pid}\n")
    assert checkout.run()[0] == 3  # it got as far as making the environment
    assert not lock.exists()


def test_waiting_process_reports_the_lock_holder(checkout: Checkout, quick_python: str) -> None:
    """A number that another program has by now can't be told from a run of ours."""
    checkout.put_python(quick_python)
    lock = checkout.venv.with_name(".venv.lock")
    lock.mkdir()
    (lock / "pid").write_text(f"{os.getpid()}\n")
    with checkout.start("one") as one:
        assert one.stderr is not None
        told = one.stderr.readline()
        shutil.rmtree(lock)
        stdout, _ = one.communicate(timeout=60)
    assert told == (
        f"nodekiln: process {os.getpid()} is setting up {checkout.venv}; if that is no ./inv, remove {lock}\n"
    )
    assert (one.returncode, stdout) == (0, "tasks one\n")


def test_symbolic_link_runs_the_checkout_and_is_the_name_in_messages(
    checkout: Checkout, quick_python: str
) -> None:
    checkout.put_python(quick_python)
    link = checkout.folder / "bin" / "kiln"
    (checkout.folder / "link").symlink_to("checkout/inv")
    link.symlink_to("../link")
    assert checkout.run()[0] == 0
    env = {"PATH": str(checkout.folder / "bin"), "HOME": str(checkout.folder)}
    done = subprocess.run(["kiln", "--who"], env=env, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "tasks --who\n", "called kiln\n")


@pytest.mark.parametrize(
    ("words", "lock"),
    [
        (("test",), "requirements-dev.lock"),
        (("--quiet", "check"), "requirements-dev.lock"),
        (("test", "--help"), "requirements.lock"),
        (("--help", "check"), "requirements.lock"),
        (("path", "test"), "requirements.lock"),
    ],
)
def test_only_tests_and_checks_install_the_developers_lock(
    checkout: Checkout, quick_python: str, words: tuple[str, ...], lock: str
) -> None:
    checkout.put_python(quick_python)
    checkout.lock.with_name("requirements-dev.lock").write_text("# tools\n")
    code, _, stderr = checkout.run(*words)
    assert code == 0
    assert f"packages of {lock}" in stderr

"""Installed from its wheel, `nodekiln` works in any folder. Needs an index of packages."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import pytest

import nodekiln

CHECKOUT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    argv = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    subprocess.run(argv, cwd=CHECKOUT, check=True, capture_output=True)
    (found,) = folder.glob("*.whl")
    return found


@pytest.fixture(scope="module")
def program(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The console script in a fresh environment with what the lock file names."""
    folder = tmp_path_factory.mktemp("environment")
    venv.create(folder, with_pip=True)
    pip = [str(folder / "bin" / "python"), "-m", "pip", "install", "--quiet"]
    lock = CHECKOUT / "requirements.lock"
    subprocess.run([*pip, "--require-hashes", "-r", str(lock)], check=True, capture_output=True)
    subprocess.run([*pip, "--no-deps", str(wheel)], check=True, capture_output=True)
    return folder / "bin" / "nodekiln"


def _run(program: Path, folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    env = {"PATH": os.environ["PATH"], "HOME": str(folder)}
    return subprocess.run([program, *words], cwd=folder, env=env, capture_output=True, text=True, check=False)


def test_wheel_has_every_file_of_patches(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        packed = {name.removeprefix("nodekiln/patches/") for name in archive.namelist()}
    source = CHECKOUT / "patches"
    assert {str(path.relative_to(source)) for path in source.rglob("*") if path.is_file()} <= packed


def test_installed_program_prints_version_and_tasks(program: Path, tmp_path: Path) -> None:
    assert _run(program, tmp_path, "--version").stdout == f"nodekiln {nodekiln.__version__}\n"
    done = _run(program, tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert "nodekiln graft v22.20.0" in done.stdout
    assert "./inv" not in done.stdout
    assert "  check " not in done.stdout


def test_installed_program_names_itself_in_messages(program: Path, tmp_path: Path) -> None:
    done = _run(program, tmp_path, "path", "v1.2.3")
    assert done.returncode == 2
    assert "nodekiln build" in done.stderr
    assert "./inv" not in done.stderr


@pytest.mark.release
@pytest.mark.skipif(shutil.which("npm") is None, reason="npm is not installed")
def test_installed_program_grafts_into_the_current_folder(program: Path, tmp_path: Path) -> None:
    done = _run(program, tmp_path, "graft", "v22.20.0", "--no-backpressure")
    assert done.returncode == 0, done.stderr
    assert Path(done.stdout.strip()).is_relative_to(tmp_path / "build" / "binaries")


def test_installed_program_plans_with_its_own_patches(
    program: Path, tmp_path: Path, node_repository: Path
) -> None:
    done = _run(program, tmp_path, "patch", "v20.19.2", "--repository", str(node_repository))
    assert done.returncode == 0, done.stderr
    assert "+++ b/src/probe_binding.cc" in done.stdout

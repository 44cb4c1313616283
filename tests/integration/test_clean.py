"""What ./inv clean takes, what it counts, and how it gets on with those that work there meanwhile."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from nodekiln.binaries.store import Store, delete, disk_usage
from nodekiln.core.errors import ToolchainError
from nodekiln.core.recipe import Tag
from nodekiln.core.reporting import Reporter
from nodekiln.core.settings import Workspace
from nodekiln.pipelines import cleaning

if TYPE_CHECKING:
    from tests.integration.conftest import Kiln

TAG = "v20.1.0"
FREE = f"{TAG}-no-backpressure"


def _names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def _wait_for(stderr: Iterable[str], words: str) -> str:
    """The line with them."""
    return next(line for line in stderr if words in line)


def _quiet(text: str) -> None:
    """For locks that nobody else has."""


# Who works there


def test_comparison_keeps_its_binaries_until_it_is_over(built: Kiln) -> None:
    workspace = Workspace(built.build)
    with workspace.lock("experiments", "comparing binaries", _quiet):
        child = built.start("clean", "--yes")
        assert child.stderr is not None
        told = _wait_for(child.stderr, "waiting")
        assert _names(workspace.binaries) == [FREE]
    assert told == f"waiting for process {os.getpid()} (comparing binaries), which holds lock experiments\n"
    child.communicate(timeout=60)
    assert (child.returncode, _names(workspace.binaries)) == (0, [])


@pytest.mark.parametrize("words", [("--dry-run",), ("--yes", "--no-binaries", f"--tag={TAG}")], ids=str)
def test_clean_of_other_things_than_binaries_waits_for_no_comparison(
    built: Kiln, words: tuple[str, ...]
) -> None:
    with Workspace(built.build).lock("experiments", "comparing binaries", _quiet):
        done = built.run("clean", *words)
    assert (done.code, "waiting" in done.stderr) == (0, False)


def test_graft_keeps_what_it_unpacks_until_it_is_over(kiln: Kiln) -> None:
    workspace = Workspace(kiln.build)
    for name in (".staging-abc", ".downloads", "v20.1.0-linux-x64"):
        (workspace.releases / name).mkdir(parents=True)
    with workspace.lock("release-v20.1.0-linux-x64", f"grafting {FREE}", _quiet):
        child = kiln.start("clean", "--yes")
        assert child.stderr is not None
        _wait_for(child.stderr, f"(grafting {FREE})")
        assert _names(workspace.releases) == [".downloads", ".staging-abc", "v20.1.0-linux-x64"]
    child.communicate(timeout=60)
    assert (child.returncode, _names(workspace.releases)) == (0, [])


def test_graft_of_another_tag_is_not_waited_for(kiln: Kiln) -> None:
    workspace = Workspace(kiln.build)
    (workspace.releases / "v20.1.0-linux-x64").mkdir(parents=True)
    with workspace.lock("release-v20.1.1-linux-x64", "grafting v20.1.1", _quiet):
        done = kiln.run("clean", f"--tag={TAG}", "--yes")
    assert (done.code, _names(workspace.releases)) == (0, [])


@pytest.mark.slow
def test_cleanings_at_the_same_time_get_on(built: Kiln) -> None:
    for number in range(6):
        shutil.copytree(built.build / "binaries" / FREE, built.build / "binaries" / f"{TAG}-copy{number}")
    (built.build / "experiments" / "inputs").mkdir(parents=True)
    children = [built.start("clean", "--yes") for _ in range(3)]
    ends = [(child.communicate(timeout=60)[1], child.returncode) for child in children]
    assert [code for _, code in ends] == [0, 0, 0], ends
    assert _names(built.build / "binaries") == _names(built.build / "trees") == []


def test_staging_that_is_worked_in_is_neither_named_nor_removed(built: Kiln) -> None:
    store = Store(Workspace(built.build))
    with store.staging() as folder:
        (folder / "node").touch()
        done = built.run("clean", "--yes")
        assert (done.code, (folder / "node").exists()) == (0, True)
    assert ".staging" not in done.stderr


def test_clean_ignores_binaries_published_or_removed_meanwhile(built: Kiln) -> None:
    workspace = Workspace(built.build)
    store = Store(workspace)
    left = workspace.binaries / ".staging-dead"
    left.mkdir()
    os.utime(left, (0, 0))
    found = cleaning.find(workspace, None, binaries=True)
    left.rename(workspace.binaries / TAG)
    store.remove(FREE)
    cleaning.remove(workspace, found, Reporter())
    assert _names(workspace.binaries) == [TAG]


# What killed runs left


def _kill_in_staging(build: Path) -> None:
    """A process that was making a binary."""
    text = f"""
import os, pathlib, signal
from nodekiln.binaries.store import Store
from nodekiln.core.settings import Workspace
with Store(Workspace(pathlib.Path({str(build)!r}))).staging() as folder:
    (folder / "node").write_bytes(bytes(100_000))
    os.kill(os.getpid(), signal.SIGKILL)
"""
    env = {**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[2] / "src")}
    done = subprocess.run([sys.executable, "-c", text], env=env, check=False)
    assert done.returncode == -signal.SIGKILL


@pytest.mark.slow
@pytest.mark.parametrize("words", [(), (f"--tag={TAG}",), ("--tag=v20.1.1",)], ids=str)
def test_staging_of_a_killed_run_is_named_and_removed(built: Kiln, words: tuple[str, ...]) -> None:
    _kill_in_staging(built.build)
    assert ".staging-" in built.run("clean", "--dry-run", *words).stderr
    assert built.run("clean", "--yes", *words).code == 0
    assert not list((built.build / "binaries").glob(".staging-*"))


def test_former_binary_is_removed_with_its_tag(built: Kiln) -> None:
    binaries = built.build / "binaries"
    for name in (FREE, "v20.1.10", "v20.1.1-usdt"):
        shutil.copytree(binaries / FREE, binaries / f".former-{name}")
    assert built.run("clean", f"--tag={TAG}", "--yes").code == 0
    assert _names(binaries) == [".former-v20.1.1-usdt", ".former-v20.1.10"]


# Sizes


def test_hard_linked_file_is_counted_once(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path / "build")
    release, graft = workspace.releases / "v20.1.0-linux-x64", workspace.binaries / "v20.1.0-usdt-graft"
    for folder in (release, graft):
        folder.mkdir(parents=True)
    (release / "node.h").write_bytes(bytes(1_000_000))
    os.link(release / "node.h", graft / "node.h")
    found = cleaning.find(workspace, Tag(20, 1, 0), binaries=True)
    assert sum(item.size for item in found) == _du(release, graft)


def _du(*folders: Path) -> int:
    """As POSIX has it: in units of 512 bytes."""
    told = subprocess.run(
        ["du", "-s", *folders], env={**os.environ, "POSIXLY_CORRECT": "1"}, check=True, stdout=-1
    )
    return sum(int(line.split()[0]) for line in told.stdout.splitlines()) * 512


def test_list_reports_what_the_disk_does(built: Kiln) -> None:
    [row] = json.loads(built.run("list", "--format=json").stdout)
    assert row["size"] == _du(built.build / "binaries" / FREE)


def test_file_removed_while_sizes_are_added_counts_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "kept").write_bytes(bytes(10_000))
    before = disk_usage(tmp_path, set())
    (tmp_path / "gone").write_bytes(bytes(10_000))
    whole = Path.lstat

    def vanishing(path: Path) -> os.stat_result:
        if path.name == "gone":
            path.unlink(missing_ok=True)
        return whole(path)

    monkeypatch.setattr(Path, "lstat", vanishing)
    assert disk_usage(tmp_path, set()) == before


def test_folder_that_another_one_removes_too_is_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "folder"
    (folder / "a").mkdir(parents=True)
    (folder / "b").touch()
    whole = shutil.rmtree

    def beaten(path: Path) -> None:
        monkeypatch.setattr(shutil, "rmtree", whole)
        whole(folder / "a")
        raise FileNotFoundError(folder / "a")

    monkeypatch.setattr(shutil, "rmtree", beaten)
    delete(folder)
    assert not folder.exists()


# Locks


def test_lock_that_cannot_be_written_is_reported_with_a_remedy(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path / "build")
    (workspace.locks / "experiments.lock").mkdir(parents=True)
    with (
        pytest.raises(
            ToolchainError, match=r"build can't be written: .*experiments\.lock.*\n  Make it writable"
        ),
        workspace.lock("experiments", "comparing", _quiet),
    ):
        pass


def test_full_disk_is_cleaned_without_writing_a_note(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path / "build")
    workspace.prepare()
    (workspace.locks / "experiments.holder.json").symlink_to("/dev/full")
    entered = False
    with workspace.lock("experiments", "cleaning up", _quiet):
        entered = True
    assert entered

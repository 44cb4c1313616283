"""A build folder that others may write in, or that leads elsewhere, is refused before anything is read."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from nodekiln.core.errors import ToolchainError
from nodekiln.core.settings import Workspace

ANOTHER = 12345
"""A user's number that is neither ours nor root's."""
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files to others")


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    made = Workspace(tmp_path / "build")
    made.prepare()
    made.binaries.mkdir()
    made.check_owner()
    return made


def test_missing_build_folder_is_accepted(tmp_path: Path) -> None:
    Workspace(tmp_path / "build").check_owner()


@pytest.mark.parametrize("name", ["trees", "binaries", "experiments", "releases", "mirror.git", "locks"])
def test_linked_folder_of_the_build_folder_is_refused(
    workspace: Workspace, tmp_path: Path, name: str
) -> None:
    (tmp_path / "elsewhere").mkdir()
    place = workspace.root / name
    if place.exists():
        place.rmdir()
    place.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ToolchainError, match=f"{name} is a symbolic link"):
        workspace.check_owner()


def test_build_folder_may_be_a_link(workspace: Workspace, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(workspace.root)
    Workspace(tmp_path / "link").check_owner()


@pytest.mark.parametrize("name", [".", "binaries"])
def test_folder_that_all_may_write_is_refused(workspace: Workspace, name: str) -> None:
    (workspace.root / name).chmod(0o777)
    with pytest.raises(ToolchainError, match="all users"):
        workspace.check_owner()


def test_sticky_folder_is_accepted_at_the_top_only(workspace: Workspace) -> None:
    workspace.root.chmod(0o1777)
    workspace.check_owner()
    workspace.binaries.chmod(0o1777)
    with pytest.raises(ToolchainError, match="all users"):
        workspace.check_owner()


@needs_root
@pytest.mark.parametrize("name", [".", "binaries"])
def test_folder_of_another_user_is_refused(workspace: Workspace, name: str) -> None:
    os.chown(workspace.root / name, ANOTHER, -1)
    with pytest.raises(ToolchainError, match=f"belongs to user {ANOTHER}") as refusal:
        workspace.check_owner()
    assert "chown" in str(refusal.value.remedy)


@needs_root
def test_folder_of_the_caller_of_sudo_is_accepted(workspace: Workspace) -> None:
    os.chown(workspace.root, ANOTHER, -1)
    workspace.check_owner(sudo_uid=str(ANOTHER))


@needs_root
def test_folder_that_another_group_may_write_is_refused(workspace: Workspace) -> None:
    os.chown(workspace.binaries, -1, ANOTHER)
    workspace.binaries.chmod(0o775)
    with pytest.raises(ToolchainError, match="its group"):
        workspace.check_owner()

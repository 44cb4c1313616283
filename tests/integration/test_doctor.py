"""What is said where a tag's source can't be had: by the doctor as one finding beside all others."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from nodekiln.core.errors import ToolchainError
from nodekiln.core.recipe import Tag
from nodekiln.core.reporting import Reporter
from nodekiln.core.settings import Settings
from nodekiln.pipelines import checking, planning

if TYPE_CHECKING:
    from tests.integration.conftest import Kiln

TAG = "v20.1.0"
TOOLCHAIN = 3
WITH_TAG = (f"--tag={TAG}",)


def ask(kiln: Kiln, *words: str, env: Mapping[str, str | None] | None = None) -> tuple[int, str]:
    """The exit code, and what the one finding about the source says."""
    done = kiln.run("doctor", "--format=json", *words, env=env)
    told = json.loads(done.stdout)
    [found] = [finding for finding in told["findings"] if finding["subject"] == "source"]
    assert found["severity"] == "error"
    return done.code, f"{found['what']} {found['remedy']}"


@pytest.mark.parametrize("words", [(), WITH_TAG], ids=["machine", "tag"])
def test_a_git_that_fails_is_a_finding_with_gits_own_words(kiln: Kiln, words: tuple[str, ...]) -> None:
    config = Path(os.environ["HOME"], ".gitconfig")
    config.write_text("[user\n")
    code, told = ask(kiln, *words)
    assert code == TOOLCHAIN
    assert f"git fails: bad config line 1 in file {config}" in told
    assert "once `git version` works" in told


def test_no_git_is_a_finding(kiln: Kiln) -> None:
    code, told = ask(kiln, env={"PATH": kiln.path("git")})
    assert code == TOOLCHAIN
    assert "There is no git on the PATH. Install git" in told


def test_a_git_that_fails_is_not_told_as_missing_by_the_others(kiln: Kiln) -> None:
    Path(os.environ["HOME"], ".gitconfig").write_text("[user\n")
    done = kiln.run("patch", *WITH_TAG, "--no-backpressure")
    assert done.code == 6
    assert "git fails: bad config line 1" in done.stderr
    assert "Install git" not in done.stderr


def test_a_build_folder_that_can_not_be_made_is_a_finding(kiln: Kiln) -> None:
    (kiln.folder / "file").touch()
    folder = kiln.folder / "file" / "build"
    code, told = ask(kiln, *WITH_TAG, env={"NODEKILN_BUILD": str(folder)})
    assert code == TOOLCHAIN
    assert f"{folder} can't be written: " in told


def test_a_repository_that_is_gone_is_a_finding(kiln: Kiln) -> None:
    code, told = ask(kiln, *WITH_TAG, env={"NODEKILN_REPOSITORY": str(kiln.folder / "gone.git")})
    assert code == TOOLCHAIN
    assert "gone.git is not there" in told


@pytest.mark.slow
def test_a_tag_on_the_tree_of_another_release_is_a_finding(kiln: Kiln, moved_tag: Path) -> None:
    code, told = ask(kiln, "--tag=v20.5.0", env={"NODEKILN_REPOSITORY": str(moved_tag)})
    assert code == TOOLCHAIN
    assert f"v20.5.0 of {moved_tag} holds the sources of {TAG}" in told


@pytest.mark.parametrize("task", ["patch", "build"])
def test_a_tag_on_the_tree_of_another_release_is_refused_before_the_plan(
    kiln: Kiln, moved_tag: Path, task: str
) -> None:
    done = kiln.run(task, "--tag=v20.5.0", "--no-backpressure", "--no-probes", f"--repository={moved_tag}")
    assert (done.code, done.stdout) == (6, "")
    assert f"v20.5.0 of {moved_tag} holds the sources of {TAG}" in done.stderr


@pytest.fixture
def moved_tag(tiny_node: Path, tmp_path: Path) -> Path:
    """A repository whose v20.5.0 is the commit of v20.1.0."""
    folder = tmp_path / "moved.git"
    shutil.copytree(tiny_node, folder)
    commit = (folder / "refs" / "tags" / TAG).read_text()
    (folder / "refs" / "tags" / "v20.5.0").write_text(commit)
    return folder


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (OSError(30, "Read-only file system", "/b/locks/mirror.lock"), "/b/locks/mirror.lock: Read-only"),
        (ToolchainError("It can't be written.", remedy="Make it so."), "It can't be written."),
    ],
)
def test_whatever_is_in_the_way_of_the_source_is_a_finding_beside_the_others(
    kiln: Kiln, monkeypatch: pytest.MonkeyPatch, error: Exception, told: str
) -> None:
    def fail(*args: Any, **named: Any) -> None:
        raise error

    monkeypatch.setattr(planning, "open_tag", fail)
    found = checking.examine(
        Settings.read(environ=kiln.environment(), config=None, root=kiln.folder, here=kiln.here, venv=None),
        Reporter(),
        tag=Tag.parse(TAG),
        repository=None,
        configure_args=(),
        clean_env=False,
        probes=False,
    )
    assert told in found.findings[-1].what
    assert found.errors[-1] is found.findings[-1]

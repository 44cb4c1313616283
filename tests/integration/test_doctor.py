"""doctor with an unavailable source: one finding among the others."""

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
from nodekiln.toolchain.model import ToolOptions

if TYPE_CHECKING:
    from tests.integration.conftest import Kiln

TAG = "v20.1.0"
TOOLCHAIN = 3
WITH_TAG = (f"--tag={TAG}",)


def ask(kiln: Kiln, *words: str, env: Mapping[str, str | None] | None = None) -> tuple[int, str]:
    """Return the exit code, and the text of the finding about the source."""
    done = kiln.run("doctor", "--format=json", *words, env=env)
    report = json.loads(done.stdout)
    [found] = [finding for finding in report["findings"] if finding["subject"] == "source"]
    assert found["severity"] == "error"
    return done.code, f"{found['what']} {found['remedy']}"


@pytest.mark.parametrize("words", [(), WITH_TAG], ids=["machine", "tag"])
def test_failing_git_is_a_finding_with_its_message(kiln: Kiln, words: tuple[str, ...]) -> None:
    config = Path(os.environ["HOME"], ".gitconfig")
    config.write_text("[user\n")
    code, text = ask(kiln, *words)
    assert code == TOOLCHAIN
    assert f"git failed: bad config line 1 in file {config}" in text
    assert "once `git version` works" in text


def test_missing_git_is_a_finding(kiln: Kiln) -> None:
    code, text = ask(kiln, env={"PATH": kiln.path("git")})
    assert code == TOOLCHAIN
    assert "git not found on the PATH. Install git" in text


def test_failing_git_is_not_reported_as_missing(kiln: Kiln) -> None:
    Path(os.environ["HOME"], ".gitconfig").write_text("[user\n")
    done = kiln.run("patch", *WITH_TAG, "--no-backpressure")
    assert done.code == 6
    assert "git failed: bad config line 1" in done.stderr
    assert "Install git" not in done.stderr


def test_unwritable_build_folder_is_a_finding(kiln: Kiln) -> None:
    (kiln.folder / "file").touch()
    folder = kiln.folder / "file" / "build"
    code, text = ask(kiln, *WITH_TAG, env={"NODEKILN_BUILD": str(folder)})
    assert code == TOOLCHAIN
    assert f"{folder} can't be written: " in text


def test_missing_repository_is_a_finding(kiln: Kiln) -> None:
    code, text = ask(kiln, *WITH_TAG, env={"NODEKILN_REPOSITORY": str(kiln.folder / "gone.git")})
    assert code == TOOLCHAIN
    assert "gone.git does not exist" in text


@pytest.mark.slow
def test_tag_on_the_tree_of_another_release_is_a_finding(kiln: Kiln, moved_tag: Path) -> None:
    code, text = ask(kiln, "--tag=v20.5.0", env={"NODEKILN_REPOSITORY": str(moved_tag)})
    assert code == TOOLCHAIN
    assert f"v20.5.0 of {moved_tag} contains the sources of {TAG}" in text


@pytest.mark.parametrize("task", ["patch", "build"])
def test_tag_on_the_tree_of_another_release_is_an_error_before_planning(
    kiln: Kiln, moved_tag: Path, task: str
) -> None:
    done = kiln.run(task, "--tag=v20.5.0", "--no-backpressure", "--no-probes", f"--repository={moved_tag}")
    assert (done.code, done.stdout) == (6, "")
    assert f"v20.5.0 of {moved_tag} contains the sources of {TAG}" in done.stderr


@pytest.fixture
def moved_tag(tiny_node: Path, tmp_path: Path) -> Path:
    """A repository whose v20.5.0 is the commit of v20.1.0."""
    folder = tmp_path / "moved.git"
    shutil.copytree(tiny_node, folder)
    commit = (folder / "refs" / "tags" / TAG).read_text()
    (folder / "refs" / "tags" / "v20.5.0").write_text(commit)
    return folder


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (OSError(30, "Read-only file system", "/b/locks/mirror.lock"), "/b/locks/mirror.lock: Read-only"),
        (ToolchainError("It can't be written.", remedy="Make it so."), "It can't be written."),
    ],
)
def test_error_of_the_source_is_a_finding_among_others(
    kiln: Kiln, monkeypatch: pytest.MonkeyPatch, error: Exception, text: str
) -> None:
    def fail(*args: Any, **named: Any) -> None:
        raise error

    monkeypatch.setattr(planning, "open_tag", fail)
    found = checking.examine(
        Settings.read(environ=kiln.environment(), config=None, root=kiln.folder, cwd=kiln.here, venv=None),
        Reporter(),
        tag=Tag.parse(TAG),
        repository=None,
        configure_args=(),
        probes=False,
        tools=ToolOptions(),
    )
    assert text in found.findings[-1].what
    assert found.errors[-1] is found.findings[-1]


def test_git_that_is_too_old_is_a_finding_with_the_version_needed(kiln: Kiln, tmp_path: Path) -> None:
    old = tmp_path / "old"
    old.mkdir()
    (old / "git").write_text("#!/bin/sh\necho git version 2.25.1\n")
    (old / "git").chmod(0o755)
    code, text = ask(kiln, env={"PATH": f"{old}:{kiln.path()}"})
    assert code == 3
    assert "git 2.25.1 is too old" in text
    assert "2.36" in text

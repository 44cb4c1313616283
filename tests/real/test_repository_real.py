"""The mirror on a real Node tree: what comes is what was asked for, and it is what git has."""

from __future__ import annotations

import io
import subprocess
from pathlib import Path

import pytest
from rich.console import Console

from nodekiln.core.recipe import Tag
from nodekiln.core.reporting import Reporter
from nodekiln.core.settings import Workspace
from nodekiln.source.git_runner import GitRunner
from nodekiln.source.location import parse_location
from nodekiln.source.mirror import Objects
from nodekiln.source.repository import Repository

pytestmark = pytest.mark.tree

_TAG = Tag(20, 19, 2)
_PATHS = (
    "configure.py",
    "lib/net.js",
    "lib/internal/http2/core.js",
    "lib/_http_outgoing.js",
    "src/stream_base.cc",
)


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    return Workspace(tmp_path / "build")


@pytest.fixture
def repository(workspace: Workspace, node_repository: Path, tmp_path: Path) -> Repository:
    server = tmp_path / "server.git"  # with filters, as GitHub has them
    subprocess.run(["git", "clone", "--quiet", "--bare", "--shared", node_repository, server], check=True)
    subprocess.run(["git", f"--git-dir={server}", "config", "uploadpack.allowFilter", "true"], check=True)
    location = parse_location(server.as_uri(), base=Path("/"))
    return Repository(workspace, location, Reporter(Console(file=io.StringIO())))


def _git(repository: Path, *arguments: str) -> bytes:
    return subprocess.run(
        ["git", "--git-dir", repository, *arguments], capture_output=True, check=True
    ).stdout


def _blobs(git_dir: Path) -> int:
    told = GitRunner(git_dir).run("cat-file", "--batch-all-objects", "--batch-check=%(objecttype)")
    return told.split().count(b"blob")


def test_five_files_come_alone_and_byte_for_byte(
    repository: Repository, workspace: Workspace, node_repository: Path
) -> None:
    revision = repository.resolve(_TAG)
    repository.fetch_files(revision, _PATHS)

    assert _blobs(workspace.mirror) == len(_PATHS)
    for path in _PATHS:
        assert repository.read(revision, path) == _git(node_repository, "show", f"{_TAG}:{path}")


def test_whole_fetch_leaves_no_object_missing(
    repository: Repository, workspace: Workspace, node_repository: Path
) -> None:
    revision = repository.resolve(_TAG)
    repository.fetch_all(revision)

    listed = GitRunner(workspace.mirror).run(
        "rev-list", "--objects", "--no-walk", "--missing=print", revision.commit
    )
    assert b"?" not in {line[:1] for line in listed.splitlines()}
    paths = _git(node_repository, "ls-tree", "-r", "-z", "--name-only", str(_TAG)).split(b"\0")
    listing = list(Objects(workspace.mirror).listing(revision.commit))
    assert len(listing) == len([path for path in paths if path])
    assert all(entry.size is not None for entry in listing)

"""A tarball made of a real tag gives that tag's own tree back."""

from __future__ import annotations

import gzip
import io
import subprocess
import time
from pathlib import Path

import pytest
from rich.console import Console

from nodekiln.core.recipe import Tag
from nodekiln.core.reporting import Reporter
from nodekiln.core.settings import Workspace
from nodekiln.source.tarball import import_tarball

pytestmark = pytest.mark.tree

TAG = Tag(20, 19, 2)


def git(repository: Path, *arguments: str) -> bytes:
    return subprocess.run(
        ["git", "--git-dir", str(repository), *arguments], check=True, capture_output=True
    ).stdout


def test_tarball_of_v20_becomes_the_tree_of_v20(node_repository: Path, tmp_path: Path) -> None:
    file = tmp_path / f"node-{TAG}.tar.gz"
    with gzip.open(file, "wb", compresslevel=1) as stream:
        stream.write(git(node_repository, "archive", f"--prefix=node-{TAG}/", str(TAG)))
    workspace = Workspace(tmp_path / "build")
    begun = time.monotonic()

    done = import_tarball(workspace, TAG, file, Reporter(Console(file=io.StringIO())))

    assert time.monotonic() - begun < 20
    assert git(workspace.mirror, "rev-parse", f"{done.commit}^{{tree}}") == git(
        node_repository, "rev-parse", f"{TAG}^{{tree}}"
    )
    assert (done.files, done.size) == (14748, 181811952)

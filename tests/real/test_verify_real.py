"""Verification of real trees: the patches fit the available releases, and their C++ compiles."""

from __future__ import annotations

import io
import os
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest
from rich.console import Console

from nodekiln.core.reporting import Reporter
from nodekiln.core.settings import Settings
from nodekiln.verify.outcome import Depth, Kind, Report, Status
from nodekiln.verify.run import VerifyRequest, verify
from nodekiln.verify.tagspec import TagSpec
from tests.change_folders import KINDS

_ENVIRONMENT = dict(os.environ)  # before tests are isolated from it
_CHECKOUT = Path(__file__).parents[2]
_REBUILT = "v20.19.2"


def run(
    folder: Path, repository: Path, tags: str, *, depth: Depth = Depth.PLAN, kinds: Sequence[Kind] = KINDS
) -> Report:
    settings = Settings.read(
        environ={**_ENVIRONMENT, "NODEKILN_BUILD": str(folder)},
        config=None,
        root=_CHECKOUT,
        cwd=folder.parent,
        venv=None,
    )
    request = VerifyRequest(
        tags=TagSpec.parse(tags), kinds=tuple(kinds), depth=depth, repository=repository.as_uri()
    )
    return verify(request, settings, Reporter(Console(file=io.StringIO())))


@pytest.mark.tree
def test_real_releases_fit_in_both_runs(node_repository: Path, tmp_path: Path) -> None:
    first = run(tmp_path / "build", node_repository, "all")
    assert {str(row.tag): row.status for row in first.rows if row.tag.major < 19} == {
        "v18.20.4": Status.NATIVE
    }
    assert {row.status for row in first.rows if row.tag.major > 18} <= {Status.CLEAN, Status.OFFSET}
    second = run(tmp_path / "build", node_repository, "all")
    assert second.rows == first.rows


@pytest.mark.tree
def test_real_tree_fetches_less_than_1_mb(node_repository: Path, tmp_path: Path) -> None:
    server = tmp_path / "server.git"  # with filters, as GitHub has them
    subprocess.run(["git", "clone", "--quiet", "--bare", "--shared", node_repository, server], check=True)
    subprocess.run(["git", f"--git-dir={server}", "config", "uploadpack.allowFilter", "true"], check=True)
    run(tmp_path / "build", server, _REBUILT)
    objects = tmp_path / "build" / "mirror.git" / "objects"
    assert sum(file.stat().st_size for file in objects.rglob("*") if file.is_file()) < 10**6


@pytest.mark.build
def test_patched_files_compile_with_the_tags_own_flags(node_repository: Path, tmp_path: Path) -> None:
    probes = [kind for kind in KINDS if "usdt" in kind.changes]
    report = run(tmp_path / "build", node_repository, _REBUILT, depth=Depth.COMPILE, kinds=probes)
    assert report.exit_code == 0, report.rows[0].findings
    assert not list((tmp_path / "build" / "trees").glob("*/source/out/Release/node"))

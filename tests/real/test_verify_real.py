"""Verification of real trees: the series as it stands fits the releases at hand, and its C++ compiles."""

from __future__ import annotations

import io
import os
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest
from rich.console import Console

from nodekiln.changes.javascript import Script, parse, walk
from nodekiln.core.reporting import Reporter
from nodekiln.core.settings import Settings
from nodekiln.verify.outcome import KINDS, Depth, Kind, Report, Status
from nodekiln.verify.run import VerifyRequest, verify
from nodekiln.verify.tagspec import TagSpec

_ENVIRONMENT = dict(os.environ)  # as it is before tests are sealed off
_CHECKOUT = Path(__file__).parents[2]
_REBUILT = "v20.19.2"
SCRIPTS = (
    *("lib/internal/streams/writable.js", "lib/internal/webstreams/adapters.js"),
    *("lib/net.js", "lib/_http_client.js", "lib/_http_server.js"),
)


def look(
    folder: Path, repository: Path, tags: str, *, depth: Depth = Depth.PLAN, kinds: Sequence[Kind] = KINDS
) -> Report:
    settings = Settings.read(
        environ={**_ENVIRONMENT, "NODEKILN_BUILD": str(folder)},
        config=None,
        root=_CHECKOUT,
        here=folder.parent,
        venv=None,
    )
    request = VerifyRequest(
        tags=TagSpec.parse(tags), kinds=tuple(kinds), depth=depth, repository=repository.as_uri()
    )
    return verify(request, settings, Reporter(Console(file=io.StringIO())))


@pytest.mark.tree
def test_the_releases_at_hand_are_fine_and_known_the_second_time(
    node_repository: Path, tmp_path: Path
) -> None:
    first = look(tmp_path / "build", node_repository, "all")
    assert {str(row.tag): row.status for row in first.rows if row.tag.major < 19} == {
        "v18.20.4": Status.NATIVE
    }
    assert {row.status for row in first.rows if row.tag.major > 18} <= {Status.CLEAN, Status.OFFSET}
    second = look(tmp_path / "build", node_repository, "all")
    assert second.remembered == len(second.rows) == len(first.rows)
    assert second.rows == first.rows


@pytest.mark.tree
def test_of_a_real_tree_almost_nothing_is_fetched(node_repository: Path, tmp_path: Path) -> None:
    look(tmp_path / "build", node_repository, _REBUILT)
    objects = tmp_path / "build" / "mirror.git" / "objects"
    assert sum(file.stat().st_size for file in objects.rglob("*") if file.is_file()) < 10**6


@pytest.mark.tree
@pytest.mark.parametrize("path", SCRIPTS)
def test_the_next_releases_script_gets_the_tree_that_it_gets_alone(node_repository: Path, path: str) -> None:
    tags = ("v18.20.4", "v20.19.2", "v22.22.2", "v24.21.0", "v20.19.2", "v18.20.4")
    for number, tag in enumerate(tags):
        argv = ["git", f"--git-dir={node_repository}", "cat-file", "blob", f"{tag}:{path}"]
        content = subprocess.run(argv, check=True, capture_output=True).stdout
        after, alone = parse(path, content), parse(f"{number}/{path}", content)
        assert isinstance(after, Script)
        assert isinstance(alone, Script)
        for one, other in zip(walk(after.root), walk(alone.root), strict=True):
            assert (one.type, one.start_byte, one.end_byte) == (other.type, other.start_byte, other.end_byte)


@pytest.mark.build
def test_what_the_patches_touch_compiles_with_the_tags_own_flags(
    node_repository: Path, tmp_path: Path
) -> None:
    probes = [kind for kind in KINDS if kind.probes]
    report = look(tmp_path / "build", node_repository, _REBUILT, depth=Depth.COMPILE, kinds=probes)
    assert report.exit_code == 0, report.rows[0].findings
    assert not list((tmp_path / "build" / "trees").glob("*/source/out/Release/node"))

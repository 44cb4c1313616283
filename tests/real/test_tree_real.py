"""A real Node tree: checked out whole, taken to a plan and back, with nothing else touched."""

from __future__ import annotations

import subprocess
import time
from pathlib import Path

import pytest

from nodekiln.core.edit import Edit, Plan, Span
from nodekiln.core.settings import Workspace
from nodekiln.source.tree import Changes, WorkingTree

WRITABLE = "lib/internal/streams/writable.js"

pytestmark = pytest.mark.tree


def git(mirror: Path, *arguments: str) -> str:
    argv = ["git", "--git-dir", str(mirror), *arguments]
    return subprocess.run(argv, stdout=subprocess.PIPE, check=True, text=True).stdout


def stamps(source: Path) -> dict[Path, tuple[int, int]]:
    stats = {place: place.lstat() for place in source.rglob("*") if place.is_symlink() or not place.is_dir()}
    return {place: (told.st_mtime_ns, told.st_size) for place, told in stats.items()}


def test_from_stock_to_a_plan_and_back_only_its_file_changes(node_repository: Path, tmp_path: Path) -> None:
    workspace = Workspace(tmp_path / "build")
    workspace.prepare()
    git(workspace.mirror, "init", "--quiet", "--bare", str(workspace.mirror))
    refspec = "refs/tags/v20.19.2:refs/tags/v20.19.2"
    git(workspace.mirror, "fetch", "--quiet", "--depth", "1", node_repository.as_uri(), refspec)
    commit = git(workspace.mirror, "rev-parse", "refs/tags/v20.19.2^{commit}").strip()
    tree = WorkingTree(workspace, "v20.19.2")

    def brought(title: str, plan: Plan) -> tuple[Changes, set[str]]:
        before = stamps(tree.source)
        begun = time.perf_counter()
        changes = tree.bring_to(commit, plan)
        print(f"{title}: {time.perf_counter() - begun:.3f} s")  # noqa: T201 (shown by pytest -s)
        after = stamps(tree.source)
        different = {place for place in before | after if before.get(place) != after.get(place)}
        return changes, {place.relative_to(tree.source).as_posix() for place in different}

    changes, _ = brought("checkout", Plan())
    files = git(workspace.mirror, "ls-tree", "-r", "--name-only", commit).splitlines()
    assert changes == Changes(checked_out=len(files))
    assert len(stamps(tree.source)) == len(files)

    stock = (tree.source / WRITABLE).read_bytes()
    start = stock.index(b"return ret && ")
    plan = Plan((Edit(WRITABLE, stock, (Span(start, start + len(b"return ret"), b"return true", "test"),)),))
    assert brought("stock again", Plan()) == (Changes(), set())
    assert brought("to the plan", plan) == (Changes(written=(WRITABLE,)), {WRITABLE})
    assert (tree.source / WRITABLE).read_bytes() == plan.edits[0].after
    assert brought("plan again", plan) == (Changes(), set())
    assert brought("back to stock", Plan()) == (Changes(restored=(WRITABLE,)), {WRITABLE})
    assert (tree.source / WRITABLE).read_bytes() == stock
    assert tree.disk_needed(commit) > 100_000_000

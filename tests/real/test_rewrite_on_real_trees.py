"""The rewrite on sources that Node's authors wrote: one place in each of the two files, and nothing else."""

from __future__ import annotations

import os
import subprocess
import tarfile
from collections.abc import Mapping
from pathlib import Path

import pytest

from nodekiln.changes.planner import paths, plan
from nodekiln.changes.registry import Registry
from nodekiln.core.edit import Misfit, Plan, Refusal
from nodekiln.core.recipe import Recipe, Tag

_BUILTINS = os.environ.get("NODEKILN_BUILTINS")  # the fixtures hide it from the tests

REGISTRY = Registry((Path(__file__).parents[2] / "patches",))
WRITABLE = "lib/internal/streams/writable.js"
OLD_WRITABLE = "lib/_stream_writable.js"
ADAPTERS = "lib/internal/webstreams/adapters.js"
OUTGOING = "lib/_http_outgoing.js"
GUARDED = b"if (streamWritable.writableNeedDrain || !streamWritable.write(chunk)) {"
UNGUARDED = b"if (!streamWritable.write(chunk)) {"


def without_backpressure(tag: Tag) -> Recipe:
    return Recipe(
        tag=tag,
        changes=("no-backpressure",),
    )


def check(tag: Tag, files: Mapping[str, bytes]) -> None:
    """Check that writes return true but for errors, web streams lose nothing, and nothing is left to edit."""
    recipe = without_backpressure(tag)
    planned = plan(recipe, files.get, REGISTRY)
    assert isinstance(planned, Plan), planned
    after = {edit.path: edit.after for edit in planned.edits}
    writable = WRITABLE if tag >= Tag(14, 21, 0) else OLD_WRITABLE
    http = {OUTGOING} if tag.major >= 12 else set()  # 6 has no high-water mark there
    assert set(after) == {writable} | ({ADAPTERS} & set(files)) | http
    before, body = (
        text.split(b"\nfunction writeOrBuffer(")[1].split(b"\n}\n")[0]
        for text in (files[writable], after[writable])
    )
    start = before.rindex(b"  return ret")
    returned = before[start:].replace(b"return ret && ", b"return ").replace(b"return ret;", b"return true;")
    assert body == before[:start] + returned
    if ADAPTERS in files:
        assert files[ADAPTERS].count(GUARDED) == 1
        assert after[ADAPTERS] == files[ADAPTERS].replace(GUARDED, UNGUARDED)
    # What was planned is there: planning again parses the files after and finds nothing left to do.
    again = plan(recipe, {**files, **after}.get, REGISTRY)
    assert isinstance(again, Refusal)
    assert [(conflict.path, conflict.misfit) for conflict in again.conflicts] == [
        (writable, Misfit.ALREADY_THERE)
    ]


@pytest.mark.tree
@pytest.mark.parametrize("tag", ["v18.20.4", "v20.19.2", "v22.22.2", "v24.21.0"])
def test_rewrite_of_a_real_tree_edits_every_path(node_repository: Path, tag: str) -> None:
    files = {}
    for path in paths(without_backpressure(Tag.parse(tag)), REGISTRY):
        argv = ["git", f"--git-dir={node_repository}", "cat-file", "blob", f"{tag}:{path}"]
        files[path] = subprocess.run(argv, check=True, capture_output=True).stdout
    check(Tag.parse(tag), files)


@pytest.mark.tree
def test_rewrite_of_release_builtins_edits_every_path(tmp_path: Path) -> None:
    if _BUILTINS is None or not Path(_BUILTINS).is_file():
        pytest.skip("NODEKILN_BUILTINS names no archive of the JavaScript inside release binaries")
    with tarfile.open(_BUILTINS) as archive:
        archive.extractall(tmp_path, filter="data")
    releases = sorted(tmp_path.glob("v*"))
    assert releases
    for release in releases:
        tag = Tag.parse(release.name)
        files = {}
        for path in paths(without_backpressure(tag), REGISTRY):
            file = release / path.removeprefix("lib/")
            if file.is_file():
                files[path] = file.read_bytes()
        check(tag, files)

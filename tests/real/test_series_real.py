"""The probe patches on real trees: they fit, and git apply makes the same bytes of the same files."""

from __future__ import annotations

import os
import re
import subprocess
import tarfile
from pathlib import Path

import pytest

from nodekiln.changes.hooks import Provider
from nodekiln.changes.hunks import Fit, apply
from nodekiln.changes.planner import paths, work_out
from nodekiln.changes.registry import Change, Registry
from nodekiln.core.edit import Plan
from nodekiln.core.recipe import Recipe, Tag

pytestmark = pytest.mark.tree

_BUILTINS = os.environ.get("NODEKILN_BUILTINS")  # the fixtures hide it from the tests
PATCHES = Path(__file__).parents[2] / "patches"
REGISTRY = Registry((PATCHES,))


@pytest.fixture(scope="module")
def usdt() -> Change:
    return REGISTRY.get("usdt")


def read(repository: Path, tag: str, wanted: tuple[str, ...]) -> dict[str, bytes]:
    """Those of the files that the tag has."""
    listed = ["git", f"--git-dir={repository}", "ls-tree", "--name-only", tag, *wanted]
    names = subprocess.run(listed, check=True, capture_output=True, text=True).stdout.splitlines()
    return {
        name: subprocess.run(
            ["git", f"--git-dir={repository}", "cat-file", "blob", f"{tag}:{name}"],
            check=True,
            capture_output=True,
        ).stdout
        for name in names
    }


@pytest.mark.parametrize("tag", ["v20.19.2", "v22.22.2", "v24.21.0"])
def test_usdt_patches_fit_and_agree_with_git_apply(
    node_repository: Path, tmp_path: Path, usdt: Change, tag: str
) -> None:
    recipe = Recipe(
        tag=Tag.parse(tag),
        changes=("usdt",),
    )
    files = read(node_repository, tag, paths(recipe, REGISTRY))
    outcome = work_out(recipe, files.get, REGISTRY)
    assert isinstance(outcome.result, Plan), "\n".join(map(str, outcome.hunks))
    assert {hunk.fit for hunk in outcome.hunks} <= {Fit.CLEAN, Fit.OFFSET}
    for path, content in files.items():
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_bytes(content)
    for patch in usdt.select(recipe.tag):
        subprocess.run(["git", "apply", str(PATCHES / patch.name)], cwd=tmp_path, check=True)
    made = {
        path.relative_to(tmp_path).as_posix(): path.read_bytes()
        for path in tmp_path.rglob("*")
        if path.is_file()
    }
    assert made == files | {edit.path: edit.after for edit in outcome.result.edits}


@pytest.mark.parametrize("tag", ["v20.19.2", "v22.22.2", "v24.21.0"])
def test_usdt_and_no_backpressure_do_not_overlap(node_repository: Path, usdt: Change, tag: str) -> None:
    probes = Recipe(
        tag=Tag.parse(tag),
        changes=("usdt",),
    )
    rewrite = Recipe(
        tag=Tag.parse(tag),
        changes=("no-backpressure",),
    )
    both = Recipe(
        tag=Tag.parse(tag),
        changes=("no-backpressure", "usdt"),
    )
    files = read(node_repository, tag, paths(both, REGISTRY))
    spans = {}
    for recipe in (probes, rewrite, both):
        result = work_out(recipe, files.get, REGISTRY).result
        assert isinstance(result, Plan), result
        spans[recipe] = {(edit.path, span) for edit in result.edits for span in edit.spans}
    assert spans[both] == spans[probes] | spans[rewrite]


def test_usdt_patches_fit_the_javascript_of_every_release(tmp_path: Path, usdt: Change) -> None:
    """Of 20 and later, that is, and without the C++ that no release has in it."""
    if _BUILTINS is None or not Path(_BUILTINS).is_file():
        pytest.skip("NODEKILN_BUILTINS names no archive of the JavaScript inside release binaries")
    with tarfile.open(_BUILTINS) as archive:
        archive.extractall(tmp_path, filter="data")
    releases = {folder: Tag.parse(folder.name) for folder in tmp_path.glob("v*")}
    served = {folder: usdt.select(tag)[1:] for folder, tag in releases.items() if tag >= Tag(20, 0, 0)}
    assert len(served) >= 5
    for folder, patches in served.items():
        files = {
            path: (folder / path.removeprefix("lib/")).read_bytes()
            for patch in patches
            for path in patch.paths
        }
        applied = apply(patches, files.get)
        assert not applied.conflicts, f"{folder.name}: {applied.conflicts}"
        assert {edit.path for edit in applied.edits} == set(files)


# What lib/internal/probes.js reads instead of a getter of Node's, and where those stand.
GETTERS = {
    "lib/net.js": ("_handle", "kHandle"),
    "lib/_http_outgoing.js": ("socket", "kSocket"),
    "lib/_http_client.js": ("path", "kPath"),
}


@pytest.mark.parametrize(("tag", "count"), [("v20.19.2", 1), ("v22.22.2", 2), ("v24.21.0", 3)])
def test_probes_read_the_symbols_of_the_getters(
    node_repository: Path, usdt: Change, tag: str, count: int
) -> None:
    added = {diff.path: diff for patch in usdt.select(Tag.parse(tag)) for diff in patch.files}
    probes = b"".join(added["lib/internal/probes.js"].hunks[0].after).decode()
    commons = "lib/internal/stream_base_commons.js"
    files = read(node_repository, tag, (*GETTERS, commons))
    symbols = "".join(text.decode() for text in files.values())
    told = 0
    for path, (key, symbol) in GETTERS.items():
        assert re.search(rf"readInherited\(\w+, '{key}', '{symbol}'\)", probes)
        getter = re.search(
            rf"prototype, '{key}', {{\s+__proto__: null,\s+get(?:: function)?\(\) {{\s*return this\[(\w+)\];",
            files[path].decode(),
        )
        if getter is not None:
            told += 1
            assert getter[1] == symbol
            assert f"const {symbol} = Symbol('{symbol}');" in symbols
        else:
            assert f"prototype, '{key}'" not in files[path].decode()
    assert told == count


def test_usdt_on_18_uses_the_existing_provider(node_repository: Path, usdt: Change) -> None:
    recipe = Recipe(
        tag=Tag(18, 20, 4),
        changes=("usdt",),
    )
    outcome = work_out(recipe, read(node_repository, "v18.20.4", paths(recipe, REGISTRY)).get, REGISTRY)
    assert (outcome.result, outcome.existing) == (Plan(), {"usdt": Provider.NATIVE})

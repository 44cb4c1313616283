"""From a recipe to a plan."""

from __future__ import annotations

from pathlib import Path

import pytest

from nodekiln.changes.hunks import Fit
from nodekiln.changes.planner import Outcome, paths, plan, work_out
from nodekiln.changes.series import LIST, Series, load
from nodekiln.changes.usdt import Provider
from nodekiln.core.edit import Misfit, Plan, Refusal
from nodekiln.core.recipe import Recipe, Tag

STOCK = Recipe(tag=Tag(22, 20, 0))
UNBOUNDED = Recipe(tag=Tag(22, 20, 0), backpressure=False)

FILES = {
    "lib/internal/streams/writable.js": b"function writeOrBuffer(a) { return a; }\n",
    "lib/internal/webstreams/adapters.js": (
        b"function newWritableStreamFromStreamWritable(s) { return new WritableStream({\n"
        b"  write(c) { if (s.writableNeedDrain || !s.write(c)) { wait(); } } }); }\n"
    ),
}


def test_a_stock_recipe_plans_nothing_and_reads_nothing() -> None:
    def read(path: str) -> bytes | None:
        raise AssertionError(path)

    assert plan(STOCK, read) == Plan()
    assert paths(STOCK) == ()


def test_without_backpressure_both_files_are_edited_in_order_of_path() -> None:
    planned = plan(UNBOUNDED, FILES.get)
    assert isinstance(planned, Plan)
    assert [edit.path for edit in planned.edits] == sorted(FILES)


def test_the_paths_told_beforehand_are_enough_for_the_plan() -> None:
    prefetched = {path: FILES.get(path) for path in paths(UNBOUNDED)}
    assert plan(UNBOUNDED, prefetched.__getitem__) == plan(UNBOUNDED, FILES.get)


@pytest.mark.parametrize("path", sorted(FILES))
def test_one_file_that_does_not_fit_refuses_the_whole_plan(path: str) -> None:
    answer = plan(UNBOUNDED, {**FILES, path: b"}"}.get)
    assert isinstance(answer, Refusal)
    assert [(conflict.path, conflict.misfit) for conflict in answer.conflicts] == [(path, Misfit.UNPARSABLE)]


PROBES = Recipe(tag=Tag(22, 20, 0), probes=True)
BOTH = Recipe(tag=Tag(22, 20, 0), backpressure=False, probes=True)
WRITABLE = """\
function writeOrBuffer(a) {
  const ret = a;
  if (!ret)
    a.needDrain = true;

  return ret && !a.errored;
}
"""
TREE = {**FILES, "lib/internal/streams/writable.js": WRITABLE.encode()}


def series(folder: Path, *hunk: str, path: str = "lib/internal/streams/writable.js") -> Series:
    """A series of one patch that has one hunk."""
    head = [
        "Subject: Probe it",
        "",
        "Why.",
        "",
        f"diff --git a/{path} b/{path}",
        f"--- a/{path}",
        f"+++ b/{path}",
    ]
    (folder / "1.patch").write_text("\n".join([*head, *hunk, ""]))
    (folder / LIST).write_text('[[patch]]\nfile = "1.patch"\ntags = ">=19"\nwhy = "so"\n')
    return load(folder)


NEXT_TO_THE_RETURN = ("@@ -5,3 +5,4 @@", " ", "+  probe(ret);", "   return ret && !a.errored;", " }")
ON_THE_RETURN = ("@@ -6,2 +6,2 @@", "-  return ret && !a.errored;", "+  return probe(ret);", " }")
ELSEWHERE = ("@@ -1,2 +1,3 @@", " wrong", "+  probe(ret);", "   return;")


def test_a_probe_next_to_the_return_joins_the_rewrite(tmp_path: Path) -> None:
    outcome = work_out(BOTH, TREE.get, series(tmp_path, *NEXT_TO_THE_RETURN))
    assert isinstance(outcome.result, Plan)
    after = {edit.path: edit.after for edit in outcome.result.edits}["lib/internal/streams/writable.js"]
    assert after.endswith(b"    a.needDrain = true;\n\n  probe(ret);\n  return true;\n}\n")
    assert [hunk.fit for hunk in outcome.hunks] == [Fit.CLEAN]


def test_with_probes_alone_the_patches_are_all_there_is(tmp_path: Path) -> None:
    planned = plan(PROBES, TREE.get, series(tmp_path, *NEXT_TO_THE_RETURN))
    assert isinstance(planned, Plan)
    assert [edit.reasons for edit in planned.edits] == [("Probe it",)]


def test_a_patch_on_the_return_itself_is_a_conflict(tmp_path: Path) -> None:
    answer = plan(BOTH, TREE.get, series(tmp_path, *ON_THE_RETURN))
    assert isinstance(answer, Refusal)
    assert [(conflict.place, conflict.misfit) for conflict in answer.conflicts] == [
        ("line 6", Misfit.OVERLAP)
    ]


def test_what_fits_neither_the_rewrite_nor_the_patches_is_told_together(tmp_path: Path) -> None:
    files = {**TREE, "lib/internal/webstreams/adapters.js": b"}"}
    outcome = work_out(BOTH, files.get, series(tmp_path, *ELSEWHERE))
    assert isinstance(outcome.result, Refusal)
    assert [conflict.misfit for conflict in outcome.result.conflicts] == [Misfit.UNPARSABLE, Misfit.NO_MATCH]
    assert [hunk.fit for hunk in outcome.hunks] == [Fit.CONFLICT]


def test_the_paths_told_beforehand_are_enough_for_probes_too(tmp_path: Path) -> None:
    patches = series(tmp_path, *NEXT_TO_THE_RETURN)
    prefetched = {path: TREE.get(path) for path in paths(BOTH, patches)}
    assert plan(BOTH, prefetched.__getitem__, patches) == plan(BOTH, TREE.get, patches)


def test_a_tree_with_probes_of_its_own_is_left_to_configure(tmp_path: Path) -> None:
    files = {"src/node_provider.d": b"probe gc__start();", "configure.py": b"--with-dtrace"}
    old = Recipe(tag=Tag(18, 20, 4), probes=True)
    outcome = work_out(old, files.get, series(tmp_path, *NEXT_TO_THE_RETURN))
    assert outcome == Outcome(Plan(), (), Provider.NATIVE)


def test_an_old_tree_without_probes_is_refused(tmp_path: Path) -> None:
    old = Recipe(tag=Tag(18, 20, 4), probes=True)
    answer = plan(old, FILES.get, series(tmp_path, *NEXT_TO_THE_RETURN))
    assert isinstance(answer, Refusal)
    assert [conflict.misfit for conflict in answer.conflicts] == [Misfit.FILE_MISSING]


def test_probes_without_a_series_are_a_mistake_of_the_caller() -> None:
    with pytest.raises(ValueError, match="series of patches"):
        plan(PROBES, TREE.get)

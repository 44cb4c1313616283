"""The planner: from a recipe and a tree to edits, or to everything that does not fit."""

from __future__ import annotations

from pathlib import Path

import pytest

from nodekiln.changes.hooks import Provider
from nodekiln.changes.hunks import Fit
from nodekiln.changes.planner import Outcome, paths, plan, work_out
from nodekiln.changes.registry import FILE, Registry
from nodekiln.core.edit import Misfit, Plan, Refusal
from nodekiln.core.recipe import Recipe, Tag
from tests.change_folders import PATCHES, make_patches

V22 = Tag(22, 20, 0)
BUILT_IN = Registry((PATCHES,))
STOCK = Recipe(tag=V22)
UNBOUNDED = Recipe(tag=V22, changes=("no-backpressure",))
PROBES = Recipe(tag=V22, changes=("usdt",))
BOTH = Recipe(tag=V22, changes=("no-backpressure", "usdt"))

WRITABLE_PATH = "lib/internal/streams/writable.js"
WRITABLE = """\
function writeOrBuffer(a) {
  const ret = a;
  if (!ret)
    a.needDrain = true;

  return ret && !a.errored;
}
"""
FILES = {
    WRITABLE_PATH: WRITABLE.encode(),
    "lib/internal/webstreams/adapters.js": (
        b"function newWritableStreamFromStreamWritable(s) { return new WritableStream({\n"
        b"  write(c) { if (s.writableNeedDrain || !s.write(c)) { wait(); } } }); }\n"
    ),
}

NEXT_TO_THE_RETURN = ("@@ -5,3 +5,4 @@", " ", "+  probe(ret);", "   return ret && !a.errored;", " }")
ON_THE_RETURN = ("@@ -6,2 +6,2 @@", "-  return ret && !a.errored;", "+  return probe(ret);", " }")
ELSEWHERE = ("@@ -1,2 +1,3 @@", " wrong", "+  probe(ret);", "   return;")


def diff(*hunk: str, path: str = WRITABLE_PATH, subject: str = "Probe it") -> str:
    head = [f"Subject: {subject}", "", "Why.", "", f"diff --git a/{path} b/{path}"]
    return "\n".join([*head, f"--- a/{path}", f"+++ b/{path}", *hunk, ""])


def with_usdt(folder: Path, *hunk: str) -> Registry:
    """Return a registry in which usdt has one patch with this hunk."""
    return Registry((make_patches(folder, {"1.patch": diff(*hunk)}),))


def add_change(folder: Path, name: str, *hunk: str, head: str = "", tags: str = ">=19") -> None:
    """Add a change of one patch; without a hunk, of none."""
    (folder / name).mkdir()
    lines = [f'name = "{name}"', 'summary = "x"', 'why = "x"', f'tags = "{tags}"', head]
    if hunk:
        (folder / name / "1.patch").write_text(diff(*hunk, subject=f"Patch of {name}"))
        lines += ["[[patch]]", 'file = "1.patch"', f'tags = "{tags}"', 'why = "x"']
    (folder / name / FILE).write_text("\n".join([*lines, ""]))


def test_stock_recipe_plans_nothing_and_reads_nothing() -> None:
    def read(path: str) -> bytes | None:
        raise AssertionError(path)

    assert plan(STOCK, read, BUILT_IN) == Plan()
    assert paths(STOCK, BUILT_IN) == ()


def test_no_backpressure_edits_both_files_in_order_of_path() -> None:
    planned = plan(UNBOUNDED, FILES.get, BUILT_IN)
    assert isinstance(planned, Plan)
    assert [edit.path for edit in planned.edits] == sorted(FILES)


@pytest.mark.parametrize("path", sorted(FILES))
def test_one_file_that_does_not_parse_refuses_the_whole_plan(path: str) -> None:
    answer = plan(UNBOUNDED, {**FILES, path: b"}"}.get, BUILT_IN)
    assert isinstance(answer, Refusal)
    assert [(conflict.path, conflict.misfit) for conflict in answer.conflicts] == [(path, Misfit.UNPARSABLE)]


@pytest.mark.parametrize("recipe", [UNBOUNDED, PROBES, BOTH])
def test_paths_names_every_file_that_planning_reads(tmp_path: Path, recipe: Recipe) -> None:
    registry = with_usdt(tmp_path, *NEXT_TO_THE_RETURN)
    prefetched = {path: FILES.get(path) for path in paths(recipe, registry)}
    assert plan(recipe, prefetched.__getitem__, registry) == plan(recipe, FILES.get, registry)


def test_patch_next_to_the_rewritten_return_joins_the_rewrite(tmp_path: Path) -> None:
    outcome = work_out(BOTH, FILES.get, with_usdt(tmp_path, *NEXT_TO_THE_RETURN))
    assert isinstance(outcome.result, Plan)
    after = {edit.path: edit.after for edit in outcome.result.edits}[WRITABLE_PATH]
    assert after.endswith(b"    a.needDrain = true;\n\n  probe(ret);\n  return !a.errored;\n}\n")
    assert [hunk.fit for hunk in outcome.hunks] == [Fit.CLEAN]


def test_usdt_alone_plans_only_its_patches(tmp_path: Path) -> None:
    planned = plan(PROBES, FILES.get, with_usdt(tmp_path, *NEXT_TO_THE_RETURN))
    assert isinstance(planned, Plan)
    assert [edit.reasons for edit in planned.edits] == [("Probe it",)]


def test_patch_on_the_rewritten_return_conflicts_and_names_both_changes(tmp_path: Path) -> None:
    answer = plan(BOTH, FILES.get, with_usdt(tmp_path, *ON_THE_RETURN))
    assert isinstance(answer, Refusal)
    [conflict] = answer.conflicts
    assert (conflict.place, conflict.misfit) == ("line 6", Misfit.OVERLAP)
    assert "no-backpressure" in conflict.text
    assert "usdt" in conflict.text


def test_conflicts_of_rewrite_and_patches_are_reported_together(tmp_path: Path) -> None:
    files = {**FILES, "lib/internal/webstreams/adapters.js": b"}"}
    outcome = work_out(BOTH, files.get, with_usdt(tmp_path, *ELSEWHERE))
    assert isinstance(outcome.result, Refusal)
    assert [conflict.misfit for conflict in outcome.result.conflicts] == [Misfit.UNPARSABLE, Misfit.NO_MATCH]
    assert [hunk.fit for hunk in outcome.hunks] == [Fit.CONFLICT]


def test_tree_with_its_own_probes_gets_no_patch_and_an_option_of_configure(tmp_path: Path) -> None:
    files = {"src/node_provider.d": b"probe gc__start();", "configure.py": b"--with-dtrace"}
    old = Recipe(tag=Tag(18, 20, 4), changes=("usdt",))
    outcome = work_out(old, files.get, with_usdt(tmp_path, *NEXT_TO_THE_RETURN))
    assert outcome == Outcome(Plan(), (), {"usdt": Provider.NATIVE}, ("--with-dtrace",))


def test_tag_outside_of_the_range_is_refused_with_the_name_of_the_change() -> None:
    answer = plan(Recipe(tag=Tag(18, 20, 4), changes=("usdt",)), FILES.get, BUILT_IN)
    assert isinstance(answer, Refusal)
    assert [conflict.misfit for conflict in answer.conflicts] == [Misfit.NOT_SERVED]
    assert "usdt" in answer.conflicts[0].text


def test_patches_of_two_changes_apply_on_top_of_each_other(tmp_path: Path) -> None:
    add_change(
        tmp_path, "one", "@@ -1,2 +1,3 @@", " function writeOrBuffer(a) {", "+  one();", "   const ret = a;"
    )
    add_change(tmp_path, "two", *NEXT_TO_THE_RETURN)
    planned = plan(Recipe(tag=V22, changes=("one", "two")), FILES.get, Registry((tmp_path,)))
    assert isinstance(planned, Plan)
    assert planned.edits[0].reasons == ("Patch of one", "Patch of two")


def test_patches_of_two_changes_on_one_line_conflict_and_name_both(tmp_path: Path) -> None:
    add_change(tmp_path, "one", *ON_THE_RETURN)
    add_change(tmp_path, "two", *NEXT_TO_THE_RETURN)
    answer = plan(Recipe(tag=V22, changes=("one", "two")), FILES.get, Registry((tmp_path,)))
    assert isinstance(answer, Refusal)
    [conflict] = answer.conflicts
    assert conflict.misfit is Misfit.OVERLAP
    assert "one and two" in conflict.text or "two and one" in conflict.text


def test_declared_conflict_of_two_changes_names_both(tmp_path: Path) -> None:
    add_change(tmp_path, "one", head='conflicts = ["two"]')
    add_change(tmp_path, "two")
    answer = plan(Recipe(tag=V22, changes=("two", "one")), FILES.get, Registry((tmp_path,)))
    assert isinstance(answer, Refusal)
    [conflict] = answer.conflicts
    assert (conflict.misfit, "two and one" in conflict.text) == (Misfit.EXCLUDED, True)


@pytest.mark.parametrize(("defined", "expected"), [(b"'--with-luck'", ()), (b"", (Misfit.NO_OPTION,))])
def test_option_that_configure_lacks_is_refused(
    tmp_path: Path, defined: bytes, expected: tuple[Misfit, ...]
) -> None:
    add_change(tmp_path, "lucky", head='configure = { args = ["--with-luck=yes"] }')
    recipe = Recipe(tag=V22, changes=("lucky",))
    outcome = work_out(recipe, {"configure.py": defined}.get, Registry((tmp_path,)))
    conflicts = outcome.result.conflicts if isinstance(outcome.result, Refusal) else ()
    assert tuple(conflict.misfit for conflict in conflicts) == expected
    if not expected:
        assert outcome.configure_args == ("--with-luck=yes",)

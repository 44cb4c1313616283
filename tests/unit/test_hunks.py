"""Patches applied in memory: where hunks go, what is said of each, and the spans that come of it."""

from __future__ import annotations

import pytest

from nodekiln.changes.hunks import Applied, Fit, apply
from nodekiln.changes.patchfile import parse
from nodekiln.core.edit import Misfit, Span
from nodekiln.core.errors import PatchError

FUNCTION = b"""\
function f() {
  first();
  second();
}

module.exports = f;
"""
INSERTING = b"""\
Subject: [PATCH 1/2] Probe f,
 first of all

What it does, and why.
---
 lib/f.js | 1 +

diff --git a/lib/f.js b/lib/f.js
index 1111111..2222222 100644
--- a/lib/f.js
+++ b/lib/f.js
@@ -2,2 +2,3 @@ function f() {
   first();
+  probe();
   second();
-- \n2.39.5
"""
REASON = "Probe f, first of all"


def patch(*lines: str, path: str = "lib/f.js", subject: str = "Change") -> bytes:
    """A patch of one file from the lines of its hunks."""
    head = [
        f"Subject: {subject}",
        "",
        "Why.",
        "",
        f"diff --git a/{path} b/{path}",
        f"--- a/{path}",
        f"+++ b/{path}",
    ]
    return "\n".join([*head, *lines, ""]).encode()  # fmt: skip


def applied(files: dict[str, bytes], *patches: bytes) -> Applied:
    parsed = [parse(f"{number}.patch", content) for number, content in enumerate(patches, 1)]
    return apply(parsed, files.get)


def told(result: Applied) -> list[str]:
    return [str(outcome) for outcome in result.outcomes]


def test_parse_returns_subject_and_body() -> None:
    read = parse("1.patch", INSERTING)
    assert (read.subject, read.body, read.paths) == (REASON, "What it does, and why.", ("lib/f.js",))


def test_apply_makes_spans_of_changed_lines_only() -> None:
    result = applied({"lib/f.js": FUNCTION}, INSERTING)
    at = FUNCTION.index(b"  second")
    [edit] = result.edits
    assert edit.spans == (Span(at, at, b"  probe();\n", REASON),)
    assert told(result) == ["lib/f.js: 1.patch, hunk 1 of 1: clean"]


def test_apply_makes_one_span_per_run_of_changed_lines() -> None:
    both = patch(
        "@@ -1,4 +1,4 @@", "-function f() {", "+function g() {", "   first();", "-  second();", "+  2;", " }"
    )
    [edit] = applied({"lib/f.js": FUNCTION}, both).edits
    assert [(FUNCTION[span.start : span.end], span.new) for span in edit.spans] == [
        (b"function f() {\n", b"function g() {\n"),
        (b"  second();\n", b"  2;\n"),
    ]


@pytest.mark.parametrize(
    ("tree", "offset"),
    [(b"'use strict';\n\n" + FUNCTION, 2), (FUNCTION.removeprefix(b"function f() {\n"), -1)],
    ids=["down", "up"],
)
def test_moved_hunk_applies_at_its_only_match_with_its_offset(tree: bytes, offset: int) -> None:
    result = applied({"lib/f.js": tree}, INSERTING)
    assert [(outcome.fit, outcome.offset, outcome.line) for outcome in result.outcomes] == [
        (Fit.OFFSET, offset, 2 + offset)
    ]
    assert told(result) == [f"lib/f.js: 1.patch, hunk 1 of 1: offset {offset:+d} lines"]
    assert result.edits[0].after == tree.replace(b"  second", b"  probe();\n  second")


def test_hunk_at_its_own_line_may_match_elsewhere_too() -> None:
    result = applied({"lib/f.js": FUNCTION * 2}, INSERTING)
    assert [outcome.fit for outcome in result.outcomes] == [Fit.CLEAN]
    assert result.edits[0].after == FUNCTION.replace(b"  second", b"  probe();\n  second") + FUNCTION


def conflict(tree: bytes, *patches: bytes) -> tuple[Fit, Misfit, str]:
    """Of the only hunk that does not fit."""
    result = applied({"lib/f.js": tree}, *patches)
    assert result.edits == ()
    [outcome] = [outcome for outcome in result.outcomes if outcome.conflict]
    assert outcome.conflict is not None
    return outcome.fit, outcome.conflict.misfit, outcome.conflict.text


def test_moved_hunk_with_two_matches_is_a_conflict() -> None:
    fit, misfit, text = conflict(b"\n" + FUNCTION * 2, INSERTING)
    assert (fit, misfit) == (Fit.CONFLICT, Misfit.SEVERAL_MATCHES)
    assert text == "its lines moved, and match in 2 places: lines 3, 9"


def test_hunk_with_other_context_is_a_conflict_that_shows_the_lines() -> None:
    fit, misfit, text = conflict(FUNCTION.replace(b"second();", b"second(\x1b);"), INSERTING)
    assert (fit, misfit) == (Fit.CONFLICT, Misfit.NO_MATCH)
    assert (
        text == r"1 of its 2 lines match at line 2; line 3 should be '  second();' and is '  second(\x1b);'"
    )


def test_hunk_without_a_matching_line_is_a_conflict() -> None:
    assert conflict(b"nothing\n", INSERTING)[2] == "none of its 2 lines is in the file"
    assert conflict(b"", INSERTING)[2] == "none of its 2 lines is in the file"


@pytest.mark.parametrize(
    "hunk",
    [
        pytest.param(("@@ -1 +1,2 @@", "+'use strict';", " function f() {"), id="the beginning"),
        pytest.param(("@@ -6 +6,2 @@", " module.exports = f;", "+end();"), id="the end"),
    ],
)
def test_hunk_anchored_at_an_end_of_the_file_fits_only_there(hunk: tuple[str, ...]) -> None:
    assert applied({"lib/f.js": FUNCTION}, patch(*hunk)).conflicts == ()
    fit, misfit, text = conflict(b"// above\n" + FUNCTION + b"// below\n", patch(*hunk))
    assert (fit, misfit) == (Fit.CONFLICT, Misfit.NO_MATCH)
    assert "must be at the" in text


def test_applied_hunk_is_reported_as_already_there() -> None:
    after = applied({"lib/f.js": FUNCTION}, INSERTING).edits[0].after
    for tree in (after, b"\n" + after):
        assert conflict(tree, INSERTING)[:2] == (Fit.ALREADY_THERE, Misfit.ALREADY_THERE)


def test_two_hunks_on_one_line_are_a_conflict() -> None:
    both = patch("@@ -1,2 +1,3 @@", " a", "+x", " b", "@@ -10,2 +11,3 @@", " b", "+y", " c")
    fit, misfit, _ = conflict(b"a\nb\nc\n", both)
    assert (fit, misfit) == (Fit.CONFLICT, Misfit.OVERLAP)


def test_missing_file_is_reported_once() -> None:
    two = patch("@@ -1,2 +1,3 @@", " a", "+x", " b", "@@ -10,2 +11,3 @@", " b", "+y", " c")
    result = applied({}, two)
    assert [outcome.fit for outcome in result.outcomes] == [Fit.FILE_MISSING]


def test_apply_tries_all_hunks_of_all_patches() -> None:
    two = patch(
        "@@ -1,2 +1,3 @@",
        " wrong",
        "+x",
        "   first();",
        "@@ -5,2 +6,3 @@",
        " other",
        "+y",
        " module.exports = f;",
    )
    fits = [outcome.fit for outcome in applied({"lib/f.js": FUNCTION}, two, INSERTING, two).outcomes]
    assert fits == [Fit.CONFLICT, Fit.CONFLICT, Fit.CLEAN, Fit.CONFLICT, Fit.CONFLICT]


ADDING = b"""\
Subject: Add it

Why.
---
diff --git a/lib/new.js b/lib/new.js
new file mode 100755
--- /dev/null
+++ b/lib/new.js
@@ -0,0 +1,2 @@
+a
+b
\\ No newline at end of file
"""


def test_apply_adds_a_file() -> None:
    result = applied({}, ADDING)
    [edit] = result.edits
    assert (edit.path, edit.base, edit.after, edit.reasons) == ("lib/new.js", None, b"a\nb", ("Add it",))
    assert told(result) == ["lib/new.js: 1.patch, new file: clean"]


@pytest.mark.parametrize(
    ("content", "fit"), [(b"a\nb", Fit.ALREADY_THERE), (b"a\nb\n", Fit.CONFLICT), (b"", Fit.CONFLICT)]
)
def test_apply_does_not_add_an_existing_file(content: bytes, fit: Fit) -> None:
    result = applied({"lib/new.js": content}, ADDING)
    assert ([outcome.fit for outcome in result.outcomes], result.edits) == ([fit], ())


def test_file_mode_is_parsed_but_not_applied() -> None:
    [file] = parse("1.patch", ADDING).files
    assert file.mode == "100755"
    assert [file.mode for file in parse("1.patch", INSERTING).files] == [None]


def test_second_patch_applies_to_the_result_of_the_first() -> None:
    later = patch("@@ -3,2 +3,3 @@", "   probe();", "+  again();", "   second();", subject="Once more")
    [edit] = applied({"lib/f.js": FUNCTION}, INSERTING, later).edits
    at = FUNCTION.index(b"  second")
    assert edit.spans == (Span(at, at, b"  probe();\n  again();\n", f"{REASON}; Once more"),)


def test_second_patch_edits_a_file_added_by_the_first() -> None:
    later = patch("@@ -1,2 +1,2 @@", " a", "-b", "\\ No newline at end of file", "+c", path="lib/new.js")
    [edit] = applied({}, ADDING, later).edits
    assert (edit.base, edit.after, edit.reasons) == (None, b"a\nc\n", ("Add it; Change",))


def test_reverted_patch_makes_no_edit() -> None:
    back = patch("@@ -2,3 +2,2 @@", "   first();", "-  probe();", "   second();")
    assert applied({"lib/f.js": FUNCTION}, INSERTING, back).edits == ()


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"Subject: A\n\nWhy.\n", "no line that begins"),
        (INSERTING.replace(b"Subject", b"Object"), "no Subject"),
        (INSERTING.replace(b"@@ -2,2 +2,3 @@", b"@@ -2,3 +2,4 @@"), "expected"),
        (INSERTING.replace(b"@@ -2,2 +2,3 @@", b"@@ -2,1 +2,2 @@"), "line counts"),
        (INSERTING.replace(b"+++ b/lib/f.js", b"+++ /dev/null"), "Target without source"),
        (
            ADDING.replace(b"--- /dev/null\n+++ b/", b"--- a/").replace(b"new file", b"deleted file"),
            "files can't be removed",
        ),
        (INSERTING.replace(b" b/lib/f.js", b" b/lib/g.js"), "renamed"),
        (INSERTING.replace(b"a/lib/f.js", b'"a/lib/\\303.js"'), "quoted"),
        (
            b"Subject: A\n\ndiff --git a/x b/x\nindex 1..2 100644\nBinary files a/x and b/x differ\n",
            "only text",
        ),
        (ADDING.replace(b"100755", b"120000"), "only text"),
    ],
)
def test_parse_refuses_patches_that_edits_cannot_express(content: bytes, why: str) -> None:
    with pytest.raises(PatchError, match=r"^1\.patch can't be used: ") as caught:
        parse("1.patch", content)
    assert why in caught.value.message

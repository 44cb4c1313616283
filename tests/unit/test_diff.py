"""How a plan is shown; that git takes what is shown is tested with git."""

from __future__ import annotations

import pytest

from nodekiln.changes.diff import color, render
from nodekiln.core.edit import Edit, Plan, Span, blob_id

NUMBERS = b"".join(b"%d\n" % number for number in range(1, 31))


def edit(base: bytes | None, *spans: tuple[int, int, bytes], path: str = "lib/a.js") -> Edit:
    return Edit(path, base, tuple(Span(start, end, new, "because") for start, end, new in spans))


def hunks(one: Edit) -> bytes:
    _, _, rest = render(Plan((one,))).partition(b"\n@@ ")
    return b"@@ " + rest


def test_render_of_an_empty_plan_is_empty() -> None:
    assert render(Plan()) == b""


def test_render_of_an_edit_without_effect_is_empty() -> None:
    assert render(Plan((edit(b"a\n", (0, 1, b"a")),))) == b""


def test_render_shows_three_lines_of_context() -> None:
    at = NUMBERS.index(b"10\n")
    after = NUMBERS.replace(b"\n10\n", b"\nten\n")
    assert render(Plan((edit(NUMBERS, (at, at + 2, b"ten")),))) == (
        b"diff --git a/lib/a.js b/lib/a.js\n"
        b"index " + blob_id(NUMBERS).encode() + b".." + blob_id(after).encode() + b" 100644\n"
        b"--- a/lib/a.js\n"
        b"+++ b/lib/a.js\n"
        b"@@ -7,7 +7,7 @@\n 7\n 8\n 9\n-10\n+ten\n 11\n 12\n 13\n"
    )


def test_render_of_an_added_file_starts_from_dev_null() -> None:
    assert render(Plan((edit(None, (0, 0, b"a\nb")),))) == (
        b"diff --git a/lib/a.js b/lib/a.js\n"
        b"new file mode 100644\n"
        b"index " + b"0" * 40 + b".." + blob_id(b"a\nb").encode() + b"\n"
        b"--- /dev/null\n"
        b"+++ b/lib/a.js\n"
        b"@@ -0,0 +1,2 @@\n+a\n+b\n\\ No newline at end of file\n"
    )


def test_render_shows_all_files() -> None:
    one, other = edit(b"a\n", (0, 1, b"b"), path="a"), edit(b"a\n", (0, 1, b"c"), path="b")
    assert render(Plan((one, other))) == render(Plan((one,))) + render(Plan((other,)))


@pytest.mark.parametrize(
    ("base", "spans", "shown"),
    [
        pytest.param(b"a\nb\n", [(2, 2, b"x\n")], b"@@ -1,2 +1,3 @@\n a\n+x\n b\n", id="insert a line"),
        pytest.param(b"a\nb\n", [(0, 2, b"")], b"@@ -1,2 +1,1 @@\n-a\n b\n", id="remove a line"),
        pytest.param(b"a\n", [(0, 2, b"")], b"@@ -1,1 +0,0 @@\n-a\n", id="remove all"),
        pytest.param(b"", [(0, 0, b"a\n")], b"@@ -0,0 +1,1 @@\n+a\n", id="fill an empty file"),
        pytest.param(b"a\nb\n", [(1, 2, b"")], b"@@ -1,2 +1,1 @@\n-a\n-b\n+ab\n", id="join lines"),
        pytest.param(
            b"a\n",
            [(1, 2, b"")],
            b"@@ -1,1 +1,1 @@\n-a\n+a\n\\ No newline at end of file\n",
            id="drop the last newline",
        ),
        pytest.param(
            b"a",
            [(1, 1, b"\n")],
            b"@@ -1,1 +1,1 @@\n-a\n\\ No newline at end of file\n+a\n",
            id="end the last line",
        ),
        pytest.param(
            b"a\nb",
            [(0, 1, b"x")],
            b"@@ -1,2 +1,2 @@\n-a\n+x\n b\n\\ No newline at end of file\n",
            id="an open last line as context",
        ),
        pytest.param(b"a\rb\r\n", [(0, 1, b"x")], b"@@ -1,1 +1,1 @@\n-a\rb\r\n+x\rb\r\n", id="returns"),
        pytest.param(b"\xff\f\n", [(1, 2, b"")], b"@@ -1,1 +1,1 @@\n-\xff\f\n+\xff\n", id="form feed"),
        pytest.param(b"a b\n", [(0, 1, b"x"), (2, 3, b"y")], b"@@ -1,1 +1,1 @@\n-a b\n+x y\n", id="one line"),
        pytest.param(
            b"a\n",
            [(2, 2, b"b"), (2, 2, b"c\n")],
            b"@@ -1,1 +1,2 @@\n a\n+bc\n",
            id="two insertions at one place",
        ),
    ],
)
def test_render_of_edge_cases_is_exact(
    base: bytes, spans: list[tuple[int, int, bytes]], shown: bytes
) -> None:
    assert hunks(edit(base, *spans)) == shown


@pytest.mark.parametrize(("second", "count"), [(b"\n16\n", 1), (b"\n17\n", 2)])
def test_render_joins_hunks_whose_contexts_meet(second: bytes, count: int) -> None:
    first, then = NUMBERS.index(b"\n10\n") + 1, NUMBERS.index(second) + 1
    shown = hunks(edit(NUMBERS, (first, first, b"more\n"), (then, then + 2, b"x")))
    assert shown.count(b"@@ -") == count


def test_render_counts_lines_added_by_earlier_hunks() -> None:
    at = NUMBERS.index(b"\n20\n") + 1
    shown = hunks(edit(NUMBERS, (0, 0, b"x\ny\n"), (at, at + 2, b"z")))
    assert b"@@ -17,7 +19,7 @@\n" in shown


def test_render_shows_a_line_of_three_megabytes() -> None:
    base = b"x" * 3_000_000
    assert len(render(Plan((edit(base, (5, 6, b"y")),)))) > 2 * len(base)


def test_color_styles_headings_hunks_and_sides() -> None:
    text = color(render(Plan((edit(b"-- a\n++ b\nc\n", (0, 10, b"x\n")),))))
    styles = {text.plain[span.start : span.end]: span.style for span in text.spans if span.style}
    assert styles["--- a/lib/a.js"] == "bold"
    assert styles["@@ -1,3 +1,2 @@"] == "cyan"
    assert (styles["--- a"], styles["-++ b"], styles["+x"]) == ("red", "red", "green")
    assert " c" not in styles


def test_color_escapes_control_characters() -> None:
    text = color(b"+\x1b]0;title\x07 \xff \xc2\x9b \xe2\x80\xae \r \x0c\t[red]x\n")
    assert text.plain == "+\\x1b]0;title\\x07 \\xff \\x9b \\u202e \\r \\x0c\t[red]x\n"


def test_color_keeps_the_text() -> None:
    diff = render(Plan((edit(NUMBERS, (9, 11, b"\xc3\xa9")),)))
    assert color(diff).plain == diff.decode()

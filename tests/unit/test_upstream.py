"""What upstream changed beside a hunk that no longer fits."""

from __future__ import annotations

import pytest

from nodekiln.changes.patchfile import parse
from nodekiln.core.recipe import Tag
from nodekiln.verify.outcome import Finding, FirstFailure, Row, Status, find_first_failures
from nodekiln.verify.upstream import upstream_lines

BEFORE = b"".join(b"line %d\n" % number for number in range(1, 30))
PATCH = parse(
    "own/0001-x.patch",
    b"Subject: s\n\nbody\n\ndiff --git a/x.js b/x.js\n--- a/x.js\n+++ b/x.js\n"
    b"@@ -9,3 +9,3 @@\n line 9\n-line 10\n+LINE 10\n line 11\n",
)
FINDING = Finding(
    Status.CONFLICT, "no match", "t", "x.js", patch="own/0001-x.patch", hunk="hunk 1 of 1 (line 9)", line=9
)


@pytest.mark.parametrize(
    ("after", "lines"),
    [
        (BEFORE.replace(b"line 9\n", b"line nine\n"), ("-line 9", "+line nine")),
        (BEFORE.replace(b"line 9\n", b"line 9\nnew\n"), ("+new",)),
        (BEFORE.replace(b"line 20\n", b"far away\n"), ()),
        (BEFORE.replace(b"line 9\n", b"new\nline 9\n"), ()),
        (BEFORE, ()),
        (None, ("-x.js (the whole file)",)),
        (BEFORE.replace(b"line 9\n", b"a\x1b[2J\n"), ("-line 9", r"+a\x1b[2J")),
    ],
)
def test_upstream_lines_are_those_beside_the_hunk(after: bytes | None, lines: tuple[str, ...]) -> None:
    assert upstream_lines(FINDING, [PATCH], BEFORE, after) == lines


def test_long_block_is_cut() -> None:
    added = b"".join(b"new %d\n" % number for number in range(100))
    found = upstream_lines(FINDING, [PATCH], BEFORE, BEFORE.replace(b"line 9\n", b"line 9\n" + added))
    assert (len(found), found[-1]) == (11, "+... 90 more lines")


def test_first_failure_is_after_a_tag_that_fits() -> None:
    statuses = {"v20.1.0": Status.CLEAN, "v20.2.0": Status.CONFLICT, "v20.3.0": Status.CONFLICT}
    rows = [Row(Tag.parse(tag), "c", status, (("own", status),), ()) for tag, status in statuses.items()]
    expected = FirstFailure(("own",), Tag(20, 2, 0), Tag(20, 1, 0))
    assert find_first_failures(["own"], rows) == (expected,)

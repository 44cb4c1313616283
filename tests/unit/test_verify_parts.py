"""The parts of a verification: checks of edits, explanations, the bounded cache, compiler commands."""

from __future__ import annotations

import pytest

from nodekiln.changes.patchfile import Hunk, Line
from nodekiln.core.edit import Edit, Span
from nodekiln.verify.depths import syntax_only
from nodekiln.verify.evaluate import check_edit, explain
from nodekiln.verify.outcome import LinePair, Status
from nodekiln.verify.trees import BoundedCache

SCRIPT = b"'use strict';\n\nfunction a(x) {\n  return `${x}\n  y`;\n}\n\nclass B {}\n"


def edit(*spans: Span, path: str = "lib/a.js", base: bytes | None = SCRIPT) -> Edit:
    return Edit(path, base, spans)


INSERTED = Span(14, 14, b"const b = 1;\n", "so")


def test_check_edit_of_planned_spans_finds_nothing() -> None:
    assert check_edit(edit(INSERTED)) == ()
    assert check_edit(edit(Span(0, 0, b"export {};\n", "so"), base=None)) == ()


@pytest.mark.parametrize("after", [SCRIPT, SCRIPT.replace(b"class B", b"class C"), b"const b = 1;\n", b""])
def test_check_edit_of_bytes_outside_spans_finds_them(after: bytes) -> None:
    made = edit(INSERTED, path="src/a.cc")
    made.__dict__["after"] = after
    assert [finding.reason for finding in check_edit(made)] == ["unintended bytes"]


def test_check_edit_of_broken_script_names_the_line() -> None:
    [finding] = check_edit(edit(Span(14, 14, b"}\n", "so")))
    assert (finding.status, finding.reason, finding.hunk) == (Status.CONFLICT, "does not parse", "line 2")


def test_check_edit_of_script_broken_before_reports_it() -> None:
    [finding] = check_edit(edit(INSERTED, base=b"}" + SCRIPT))
    assert finding.text.startswith("before and after the edit: ")


def test_check_edit_does_not_parse_other_files() -> None:
    assert check_edit(edit(Span(14, 14, b"}\n", "so"), path="src/a.cc")) == ()


def test_explain_shows_hunk_beside_best_match() -> None:
    lines = [Line(b"one\n", True, True), Line(b"two\n", True, False), Line(b"three\n", True, True)]
    sides = explain(Hunk(10, False, tuple(lines)), b"a\nb\none\ntwo!\nthree\nc\n", 3)
    assert sides == (
        *(LinePair("", ">", 1, "a"), LinePair("", ">", 2, "b"), LinePair("one", " ", 3, "one")),
        *(
            LinePair("two", "|", 4, "two!"),
            LinePair("three", " ", 5, "three"),
            LinePair("", ">", 6, "c"),
            LinePair("", ">", 7, ""),
        ),
    )


def test_explain_escapes_and_shortens_lines() -> None:
    hunk = Hunk(0, False, (Line(b"x\n", True, True),))
    [side] = [each for each in explain(hunk, b"\x1b[2J\xff" + b"y" * 3_000_000, 1) if each.number == 1]
    assert side.found.startswith("\\x1b[2J\\xff")
    assert len(side.found) < 200


def test_explain_without_match_shows_hunk_only() -> None:
    hunk = Hunk(0, False, (Line(b"x\n", True, True),))
    assert explain(hunk, b"y\n", None) == (LinePair("x", "<", None, ""),)


def test_bounded_cache_drops_least_recently_used_entries() -> None:
    cache: BoundedCache[str] = BoundedCache(10_000)
    cache.add("a", "A", 2000)
    cache.add("b", "B", 2000)
    assert cache.get("a") == "A"
    cache.add("c", "C", 2000)
    assert (cache.get("a"), cache.get("b"), cache.get("c")) == ("A", None, "C")
    cache.add("large", "L", 10**9)
    assert (cache.get("large"), cache.get("a")) == ("L", None)


def test_syntax_only_drops_options_that_write_files() -> None:
    argv = [
        "ccache",
        "g++",
        "-MMD",
        "-MF",
        "obj/a.o.d",
        '-DA="b"',
        "-I../..",
        "-c",
        "../../a.cc",
        "-o",
        "obj/a.o",
    ]
    assert syntax_only(argv) == ["ccache", "g++", '-DA="b"', "-I../..", "../../a.cc", "-fsyntax-only"]

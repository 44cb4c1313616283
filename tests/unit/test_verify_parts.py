"""What a verification is put together from: soundness, explanations, memory, the cache, compilers' words."""

from __future__ import annotations

from pathlib import Path

import pytest
from tree_sitter import Node

from nodekiln.changes.javascript import Script, parse, parse_after, walk
from nodekiln.changes.patchfile import Hunk, Line
from nodekiln.core.edit import Conflict, Edit, Span
from nodekiln.verify.cache import Cache
from nodekiln.verify.edit_checks import doubts
from nodekiln.verify.explain import explain
from nodekiln.verify.memo import Bounded, Parts
from nodekiln.verify.outcome import Finding, Judgement, Side, Status
from nodekiln.verify.units import syntax_only

SCRIPT = b"'use strict';\n\nfunction a(x) {\n  return `${x}\n  y`;\n}\n\nclass B {}\n"


def edit(*spans: Span, path: str = "lib/a.js", base: bytes | None = SCRIPT) -> Edit:
    return Edit(path, base, spans)


INSERTED = Span(14, 14, b"const b = 1;\n", "so")


def test_an_edit_as_intended_raises_no_doubt() -> None:
    assert doubts(edit(INSERTED)) == ()
    assert doubts(edit(Span(0, 0, b"export {};\n", "so"), base=None)) == ()


@pytest.mark.parametrize("after", [SCRIPT, SCRIPT.replace(b"class B", b"class C"), b"const b = 1;\n", b""])
def test_bytes_outside_of_the_spans_are_told(after: bytes) -> None:
    made = edit(INSERTED, path="src/a.cc")
    made.__dict__["after"] = after
    assert [finding.reason for finding in doubts(made)] == ["unintended bytes"]


def test_a_script_that_does_not_parse_afterwards_is_told_with_its_line() -> None:
    [finding] = doubts(edit(Span(14, 14, b"}\n", "so")))
    assert (finding.status, finding.reason, finding.hunk) == (Status.CONFLICT, "does not parse", "line 2")


def test_a_script_that_did_not_parse_before_is_not_the_edits_doing() -> None:
    [finding] = doubts(edit(INSERTED, base=b"}" + SCRIPT))
    assert finding.text.startswith("before the edit too: ")


def test_what_is_no_script_is_not_parsed() -> None:
    assert doubts(edit(Span(14, 14, b"}\n", "so"), path="src/a.cc")) == ()


@pytest.mark.parametrize(
    "spans",
    [
        (INSERTED,),
        (Span(0, 13, b"", "so"),),
        (Span(31, 32, b"y, z", "so"), Span(len(SCRIPT), len(SCRIPT), b"{ a(1); }\n\n", "so")),
        (Span(14, 14, b"}", "so"),),
        (Span(14, 14, b"`", "so"),),
        (Span(36, 50, b"return /`/", "so"),),
    ],
)
def test_parsing_again_gives_what_parsing_anew_gives(
    request: pytest.FixtureRequest, spans: tuple[Span, ...]
) -> None:
    made = edit(*spans)
    before = parse("lib/a.js", SCRIPT)
    assert isinstance(before, Script)
    after, next_, anew = (
        parse_after(before, made),
        parse("lib/a.js", made.after),
        parse(f"lib/{request.node.name}.js", made.after),
    )
    for again in (after, next_):
        if isinstance(anew, Conflict):
            assert isinstance(again, Conflict)
            assert (again.place, again.misfit) == (anew.place, anew.misfit)
        else:
            assert isinstance(again, Script)
            assert _told(again.root) == _told(anew.root)


def _told(root: Node) -> list[tuple[str, int, int]]:
    """Every node with its place."""
    return [(node.type, node.start_byte, node.end_byte) for node in walk(root)]


def test_a_hunk_stands_beside_its_best_match() -> None:
    lines = [Line(b"one\n", True, True), Line(b"two\n", True, False), Line(b"three\n", True, True)]
    sides = explain(Hunk(10, False, tuple(lines)), b"a\nb\none\ntwo!\nthree\nc\n", 3)
    assert sides == (
        *(Side("", ">", 1, "a"), Side("", ">", 2, "b"), Side("one", " ", 3, "one")),
        *(
            Side("two", "|", 4, "two!"),
            Side("three", " ", 5, "three"),
            Side("", ">", 6, "c"),
            Side("", ">", 7, ""),
        ),
    )


def test_an_explanation_is_short_and_obeyed_by_no_terminal() -> None:
    hunk = Hunk(0, False, (Line(b"x\n", True, True),))
    [side] = [each for each in explain(hunk, b"\x1b[2J\xff" + b"y" * 3_000_000, 1) if each.number == 1]
    assert side.found.startswith("\\x1b[2J\\xff")
    assert len(side.found) < 200


def test_a_hunk_without_a_match_stands_alone() -> None:
    hunk = Hunk(0, False, (Line(b"x\n", True, True),))
    assert explain(hunk, b"y\n", None) == (Side("x", "<", None, ""),)


def test_memory_is_bounded_and_forgets_what_was_used_longest_ago() -> None:
    kept: Bounded[str] = Bounded(10_000)
    kept.keep("a", "A", 2000)
    kept.keep("b", "B", 2000)
    assert kept.get("a") == "A"
    kept.keep("c", "C", 2000)
    assert (kept.get("a"), kept.get("b"), kept.get("c")) == ("A", None, "C")
    kept.keep("large", "L", 10**9)
    assert (kept.get("large"), kept.get("a")) == ("L", None)


def test_a_part_is_worked_out_once_for_the_same_files() -> None:
    parts, done = Parts({}, Bounded(10**6)), []

    def ask(blobs: dict[str, str], question: str = "q", path: str = "a") -> None:
        parts.of_tree(blobs)(question, (path,), lambda: done.append((question, path, blobs.get(path))))

    ask({"a": "1"})
    ask({"a": "1", "b": "2"})
    ask({"a": "2"})
    ask({"b": "1"})
    ask({"a": "1"}, question="other")
    ask({"a": "1", "b": "1"}, path="b")
    assert done == [("q", "a", "1"), ("q", "a", "2"), ("q", "a", None), ("other", "a", "1"), ("q", "b", "1")]


ANSWER = Judgement(
    Status.CONFLICT,
    (
        Finding(
            Status.CONFLICT,
            *("no match", "text \x00 \u2028", "lib/a.js", "function a", "1.patch", "hunk 1 of 1", 3, 0),
            recipes=("usdt",),
            explanation=(Side("a", "|", 3, "b"),),
        ),
    ),
)


def test_what_is_kept_comes_back_for_its_commit_and_for_its_blobs(tmp_path: Path) -> None:
    cache = Cache(tmp_path / "build" / "verified.sqlite", "rules")
    cache.keep({("question", "commit"): "key"}, {"key": ANSWER})
    assert cache.by_commit() == {("question", "commit"): ANSWER}
    assert cache.by_blobs() == {"key": ANSWER}


def test_other_rules_know_nothing_and_drop_the_rest(tmp_path: Path) -> None:
    file = tmp_path / "verified.sqlite"
    Cache(file, "old").keep({("question", "commit"): "key"}, {"key": ANSWER})
    new = Cache(file, "new")
    assert new.by_commit() == {}
    new.keep({("question", "other"): "key2"}, {"key2": ANSWER})
    assert Cache(file, "old").by_blobs() == {}
    assert new.by_blobs() == {"key2": ANSWER}


@pytest.mark.parametrize("content", [b"no database" * 100, b"", b"SQLite format 3\0" + b"\xff" * 4096])
def test_a_damaged_cache_is_made_anew(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "verified.sqlite"
    file.write_bytes(content)
    cache = Cache(file, "rules")
    assert cache.by_commit() == {}
    cache.keep({("question", "commit"): "key"}, {"key": ANSWER})
    assert cache.by_blobs() == {"key": ANSWER}


def test_syntax_alone_leaves_no_file_behind() -> None:
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

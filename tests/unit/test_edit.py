"""Spans, edits and plans."""

from __future__ import annotations

import pytest

from nodekiln.core.edit import Edit, Plan, Span, blob_id


def span(start: int, end: int, new: bytes) -> Span:
    return Span(start, end, new, "because")


def test_after_replaces_only_the_spans() -> None:
    edit = Edit("lib/a.js", b"one two three", (span(0, 3, b"1"), span(8, 13, b"3")))
    assert edit.after == b"1 two 3"


def test_blob_ids_are_those_of_git() -> None:
    assert blob_id(b"") == "e69de29bb2d1d6434b8b29ae775ad8c2e48c5391"
    added = Edit("lib/new.js", None, (span(0, 0, b"hello\n"),))
    assert (added.base_id, added.after_id) == (None, "ce013625030ba8dba906f756967f9e9ca394464a")


@pytest.mark.parametrize(
    "spans",
    [
        (),
        (span(0, 4, b""),),
        (span(-1, 1, b""),),
        (span(2, 1, b""),),
        (span(0, 2, b""), span(1, 3, b"")),
        (span(2, 3, b""), span(0, 1, b"")),
    ],
)
def test_edit_with_invalid_spans_raises_value_error(spans: tuple[Span, ...]) -> None:
    with pytest.raises(ValueError, match="span"):
        Edit("lib/a.js", b"abc", spans)


def test_plan_joins_edits_of_one_file() -> None:
    late = Edit("lib/a.js", b"abc", (span(2, 3, b"C"),))
    early = Edit("lib/a.js", b"abc", (span(0, 1, b"A"),))
    plan = Plan.of([late, Edit("lib/0.js", b"x", (span(0, 1, b"y"),)), early])
    assert [(edit.path, edit.after) for edit in plan.edits] == [("lib/0.js", b"y"), ("lib/a.js", b"AbC")]


def test_plan_of_overlapping_edits_raises_value_error() -> None:
    with pytest.raises(ValueError, match="overlap"):
        Plan.of([Edit("a", b"abc", (span(0, 2, b""),)), Edit("a", b"abc", (span(1, 3, b""),))])


def test_plan_of_edits_with_different_bases_raises_value_error() -> None:
    with pytest.raises(ValueError, match="different contents"):
        Plan.of([Edit("a", b"abc", (span(0, 1, b""),)), Edit("a", b"abd", (span(1, 2, b""),))])


def test_digest_depends_on_files_and_not_on_reasons() -> None:
    edit = Edit("a", b"abc", (Span(0, 1, b"A", "one reason"),))
    same = Edit("a", b"abc", (Span(0, 1, b"A", "another"),))
    other = Edit("a", b"abc", (Span(0, 1, b"B", "one reason"),))
    assert Plan((edit,)).digest == Plan((same,)).digest != Plan((other,)).digest
    assert Plan((edit,)).digest != Plan().digest

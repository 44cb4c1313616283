"""From a plan to byte ranges of equal length, and which platform a binary is for."""

from __future__ import annotations

import os
import struct
from pathlib import Path

import pytest

from nodekiln.core.edit import Edit, Plan, Span
from nodekiln.core.errors import PatchError, SourceError, UsageError
from nodekiln.core.recipe import Recipe, Tag
from nodekiln.grafting.builtins import Builtin
from nodekiln.grafting.graft import changes, copy, differing, find_mark, fit, make_mark
from nodekiln.grafting.platforms import Platform, recognise

TEXT = b"{ return ret && !state.errored; } if (needDrain || !write())"
RETURN = Span(2, 31, b"return true;", "answers true")
CONDITION = Span(38, 51, b"", "loses nothing")


def plan(*spans: Span) -> Plan:
    return Plan((Edit("lib/a.js", TEXT, spans),))


def test_new_bytes_are_padded_to_the_length_of_the_old() -> None:
    [edit] = fit(plan(RETURN, CONDITION)).edits
    assert len(edit.after) == len(TEXT)
    assert edit.after.split() == b"{ return true; } if ( !write())".split()
    assert [span.reason for span in edit.spans] == ["answers true", "loses nothing"]


def test_marker_is_in_the_first_span_with_space() -> None:
    [edit] = fit(plan(RETURN, CONDITION), b"/*me*/").edits
    assert len(edit.after) == len(TEXT)
    assert edit.after.split() == b"{ return true;/*me*/ } if ( !write())".split()


@pytest.mark.parametrize("longer", [1, 100])
def test_marker_without_space_is_omitted(longer: int) -> None:
    room = max(span.end - span.start - len(span.new) for span in (RETURN, CONDITION))
    assert fit(plan(RETURN, CONDITION), b"x" * (room + longer)) == fit(plan(RETURN, CONDITION))


@pytest.mark.parametrize("changes", [("implied",), ("a-b", "c")])
def test_find_mark_with_one_mark_returns_its_recipe(changes: tuple[str, ...]) -> None:
    mark = make_mark(Tag(22, 20, 0), changes, ("implied",))
    found = find_mark(b"return true;" + mark + b" ", ("implied",))
    assert found == Recipe(tag=Tag(22, 20, 0), changes=changes, graft=True)


def test_find_mark_with_none_or_several_marks_returns_none() -> None:
    mark, other = (make_mark(tag, ("x",), ("x",)) for tag in (Tag(22, 20, 0), Tag(18, 20, 8)))
    for data in (b"", mark[:-1], b"/*nodekiln:v1*/", mark + other):
        assert find_mark(data, ("x",)) is None


@pytest.mark.parametrize(
    ("before", "after", "runs"),
    [
        (b"", b"", []),
        (b"same", b"same and more", []),
        (b"abcd", b"aXcd", [(1, 2)]),
        (b"a" + b"=" * 16 + b"b", b"x" + b"=" * 16 + b"y", [(0, 18)]),
        (b"a" + b"=" * 17 + b"b", b"x" + b"=" * 17 + b"y", [(0, 1), (18, 19)]),
        (b"=" * 65535 + b"ab" + b"=" * 99, b"=" * 65535 + b"xy" + b"=" * 9, [(65535, 65537)]),
        (b"=" * 65536 + b"a", b"=" * 65536 + b"b", [(65536, 65537)]),
    ],
)
def test_runs_of_bytes_that_differ_are_reported(
    before: bytes, after: bytes, runs: list[tuple[int, int]]
) -> None:
    assert list(differing(before, after)) == runs


@pytest.mark.parametrize("gives_up", [OSError, None])
def test_copy_that_the_kernel_gives_up_is_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, gives_up: type[OSError] | None
) -> None:
    def copy_a_little(old: int, new: int, left: int) -> int:
        if left < 3_000:
            if gives_up is not None:
                raise gives_up
            return 0
        return os.write(new, os.read(old, 1_000))

    (tmp_path / "old").write_bytes(bytes(range(256)) * 12)
    monkeypatch.setattr(os, "copy_file_range", copy_a_little, raising=False)
    copy(tmp_path / "old", tmp_path / "new")
    assert (tmp_path / "new").read_bytes() == bytes(range(256)) * 12


def test_new_bytes_of_the_same_length_stay_as_they_are() -> None:
    same = plan(Span(2, 14, b"return true;", "why"))
    assert fit(same) == same


def test_byte_too_many_is_refused_with_both_texts() -> None:
    old = b"{ return ret; }"
    longer = Plan((Edit("lib/_stream_writable.js", old, (Span(2, 13, b"return true;", "why"),)),))
    with pytest.raises(PatchError, match=r"`return true;` does not fit over `return ret;`: it has 1 byte"):
        fit(longer)


def test_ranges_are_within_the_text_in_file_order() -> None:
    other = Plan((Edit("lib/a.js", TEXT, (RETURN,)), Edit("lib/b.js", b"xy", (Span(0, 1, b"z", "why"),))))
    found = changes(
        {"lib/a.js": Builtin("lib/a.js", 1000, TEXT), "lib/b.js": Builtin("lib/b.js", 7, b"xy")}, fit(other)
    )
    assert [(change.start, change.old, change.new) for change in found] == [
        (7, b"x", b"z"),
        (1002, TEXT[2:31], b"return true;".ljust(29)),
    ]


def elf(machine: int) -> bytes:
    return b"\x7fELF\x02\x01\x01".ljust(18, b"\0") + struct.pack("<H", machine).ljust(46, b"\0")


def mach(cpu: int) -> bytes:
    return struct.pack("<II", 0xFEEDFACF, cpu).ljust(64, b"\0")


def portable(machine: int, place: int = 128) -> bytes:
    dos = b"MZ".ljust(0x3C, b"\0") + struct.pack("<I", place)
    return dos.ljust(128, b"\0") + b"PE\0\0" + struct.pack("<H", machine)


@pytest.mark.parametrize(
    ("head", "name"),
    [
        (elf(62), "linux-x64"),
        (elf(183), "linux-arm64"),
        (mach(0x01000007), "darwin-x64"),
        (mach(0x0100000C), "darwin-arm64"),
        (portable(0x8664), "win-x64"),
        (portable(0xAA64), "win-arm64"),
    ],
)
def test_binary_is_recognised(head: bytes, name: str) -> None:
    assert recognise(head, "node") == Platform.parse(name)


@pytest.mark.parametrize(
    "head",
    [b"", b"\x7fELF", elf(40), mach(7), portable(0x14C), portable(0x8664, 2**31), b"#!/bin/sh\n", b"MZ"],
)
def test_other_text_is_refused(head: bytes) -> None:
    with pytest.raises(SourceError, match=r"^node is "):
        recognise(head, "node")


def test_platform_that_no_graft_knows_is_wrong_usage() -> None:
    with pytest.raises(UsageError, match="'linux-sparc'"):
        Platform.parse("linux-sparc")


@pytest.mark.parametrize(
    ("system", "processor", "name"),
    [("linux", "x86_64", "linux-x64"), ("darwin", "arm64", "darwin-arm64"), ("win32", "AMD64", "win-x64")],
)
def test_this_machine_is_named_as_releases_are(system: str, processor: str, name: str) -> None:
    assert str(Platform.of_machine(system, processor)) == name


def test_machine_without_releases_has_no_name() -> None:
    assert Platform.of_machine("sunos5", "sun4v") is None

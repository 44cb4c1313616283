"""ELF files in miniature: what is read from them, what is added, and what is refused."""

from __future__ import annotations

import io
import os
import struct
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from elftools.elf.elffile import ELFFile

from nodekiln.core.elf import notes as elfnotes
from nodekiln.core.elf.file import ElfError, open_elf, parse
from nodekiln.core.elf.notes import (
    Identity,
    Probe,
    add_sections,
    find_marks,
    identity_section,
    probe_sections,
    read_identity,
    read_probes,
)

X64, ARM64 = 62, 183
PROGBITS, SYMTAB, STRTAB, NOTE = 1, 2, 3, 7
TEXT_ADDRESS, TEXT_OFFSET = 0x401000, 120
CODE = b"\x55\x48\x89\xe5" * 8
STRINGS = b"\0_Zlong_name\0_Zlong_name.cold\0other\0"
SYMBOLS = (
    # name, info (global function), section, address, size
    (0, 0, 0, 0, 0),
    (1, 0x12, 1, TEXT_ADDRESS + 8, 8),
    (13, 0x12, 1, TEXT_ADDRESS + 16, 4),
    (30, 0x11, 1, TEXT_ADDRESS, 2),
)
GC_START = Probe(
    provider="node", name="gc__start", address=TEXT_ADDRESS + 8, arguments="4@%esi 4@%edx 8@%rdi"
)
GC_DONE = replace(GC_START, name="gc__done", address=TEXT_ADDRESS + 16)
UNPRINTABLE = replace(GC_START, name="gc\x1b[31m")
IDENTITY = Identity(recipe="v22.20.0-no-backpressure", plan="ab" * 32, route="graft")

IDENTITY_NOTE = identity_section(IDENTITY).content


def probe_notes(probes: Sequence[Probe]) -> bytes:
    return probe_sections(probes)[0].content


Line = tuple[bytes, int, bytes, int, int]
"""Name, type, content, link and entry size of a section."""


def text() -> Line:
    return (b".text", PROGBITS, CODE, 0, 0)


def symbols(rows: Sequence[tuple[int, int, int, int, int]] = SYMBOLS) -> Line:
    table = b"".join(struct.pack("<IBBHQQ", name, info, 0, *rest) for name, info, *rest in rows)
    return (b".symtab", SYMTAB, table, 3, 24)


def strings(content: bytes = STRINGS) -> Line:
    return (b".strtab", STRTAB, content, 0, 0)


def notes(name: str, content: bytes) -> Line:
    return (name.encode(), NOTE, content, 0, 0)


def program(*lines: Line, machine: int = X64) -> bytes:
    """A program with these sections, the first of them mapped to be executed; and .shstrtab, the last."""
    names = b"\0" + b"".join(name + b"\0" for name, *_ in lines) + b".shstrtab\0"
    body, table = b"", bytes(64)
    for name, kind, content, link, entry in (*lines, (b".shstrtab", STRTAB, names, 0, 0)):
        address = TEXT_ADDRESS if name == b".text" else 0
        place = names.index(b"\0" + name + b"\0") + 1
        offset = TEXT_OFFSET + len(body)
        table += struct.pack("<IIQQQQIIQQ", place, kind, 0, address, offset, len(content), link, 0, 4, entry)
        body += content + bytes(-len(content) % 8)
    count = len(table) // 64
    shoff = TEXT_OFFSET + len(body)
    ident = b"\x7fELF\x02\x01\x01" + bytes(9)
    header = struct.pack(
        "<16sHHIQQQIHHHHHH", ident, 2, machine, 1, TEXT_ADDRESS, 64, shoff, 0, 64, 56, 1, 64, count, count - 1
    )
    mapped = struct.pack("<IIQQQQQQ", 1, 5, TEXT_OFFSET, TEXT_ADDRESS, 0, len(CODE), len(CODE), 8)
    return header + mapped + body + table


PLAIN = program(text(), symbols(), strings())


def changed(data: bytes, offset: int, form: str, value: int) -> bytes:
    copy = bytearray(data)
    struct.pack_into(form, copy, offset, value)
    return bytes(copy)


def line_of(data: bytes, number: int) -> int:
    """Where the line of a section stands in the section table."""
    shoff: int = struct.unpack_from("<Q", data, 40)[0]
    return shoff + 64 * number


def read_everything(data: bytes) -> None:
    elf = parse(data, "node")
    elf.find_symbols(["_Zlong"])
    read_probes(elf)
    read_identity(elf)


def test_program_reports_its_machine_and_its_sections() -> None:
    elf = parse(PLAIN, "node")
    assert elf.machine == "x64"
    assert [section.name for section in elf.sections] == ["", ".text", ".symtab", ".strtab", ".shstrtab"]
    assert elf.content(elf.sections[1]) == CODE


def test_machine_of_an_arm64_program_is_named_as_node_names_it() -> None:
    assert parse(program(text(), machine=ARM64), "node").machine == "arm64"


def test_unknown_machine_is_reported_by_its_number() -> None:
    assert parse(program(text(), machine=4711), "node").machine == "machine 4711"


def test_symbols_are_found_by_how_their_names_begin() -> None:
    (found,) = parse(PLAIN, "node").find_symbols(["_Zlong_name"]).values()
    assert [(symbol.name, symbol.address, symbol.size) for symbol in found] == [
        ("_Zlong_name", TEXT_ADDRESS + 8, 8),
        ("_Zlong_name.cold", TEXT_ADDRESS + 16, 4),
    ]


def test_several_beginnings_are_looked_for_at_once() -> None:
    found = parse(PLAIN, "node").find_symbols(["_Zlong_name.", "oth", "absent"])
    assert {start: [symbol.name for symbol in of_it] for start, of_it in found.items()} == {
        "_Zlong_name.": ["_Zlong_name.cold"],
        "oth": ["other"],
        "absent": [],
    }


def test_object_is_no_function() -> None:
    ((other,),) = parse(PLAIN, "node").find_symbols(["other"]).values()
    assert not other.is_function


def test_name_that_is_the_tail_of_another_is_found() -> None:
    data = program(text(), symbols([(6, 0x12, 1, TEXT_ADDRESS, 2)]), strings())
    ((symbol,),) = parse(data, "node").find_symbols(["g_name"]).values()
    assert symbol.name == "g_name"


def test_undefined_symbol_is_not_found() -> None:
    data = program(text(), symbols([(1, 0x12, 0, 0, 0)]), strings())
    assert parse(data, "node").find_symbols(["_Zlong"]) == {"_Zlong": ()}


def test_symbol_in_a_section_that_is_not_there_has_none() -> None:
    data = program(text(), symbols([(1, 0x12, 77, TEXT_ADDRESS, 2)]), strings())
    ((symbol,),) = parse(data, "node").find_symbols(["_Zlong"]).values()
    assert symbol.section is None


@pytest.mark.parametrize(
    ("address", "offset"),
    [
        (TEXT_ADDRESS, TEXT_OFFSET),
        (TEXT_ADDRESS + len(CODE) - 1, TEXT_OFFSET + len(CODE) - 1),
        (TEXT_ADDRESS + len(CODE), None),
        (TEXT_ADDRESS - 1, None),
    ],
)
def test_code_is_found_in_the_file_by_its_address(address: int, offset: int | None) -> None:
    assert parse(PLAIN, "node").offset_of(address) == offset


def test_probe_notes_are_read_as_they_were_written() -> None:
    data = program(text(), notes(elfnotes.PROBES, probe_notes([GC_START, GC_DONE])))
    assert read_probes(parse(data, "node")) == (GC_START, GC_DONE)


def test_probes_in_several_sections_are_all_read() -> None:
    both = (notes(elfnotes.PROBES, probe_notes([probe])) for probe in (GC_START, GC_DONE))
    assert read_probes(parse(program(text(), *both), "node")) == (GC_START, GC_DONE)


def test_program_without_probe_notes_has_no_probes() -> None:
    assert read_probes(parse(PLAIN, "node")) == ()


def test_identity_is_read_as_it_was_written() -> None:
    data = program(text(), notes(elfnotes.IDENTITY, IDENTITY_NOTE))
    assert read_identity(parse(data, "node")) == IDENTITY


def test_program_without_our_note_has_no_identity() -> None:
    assert read_identity(parse(PLAIN, "node")) is None


def test_note_of_another_owner_is_no_identity() -> None:
    foreign = IDENTITY_NOTE.replace(b"nodekiln\0", b"notakiln\0")
    assert read_identity(parse(program(text(), notes(elfnotes.IDENTITY, foreign)), "node")) is None


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (b'"schema": 1', b'"schema": 2'),
        (b'"schema": 1', b'"schema": x'),
        (b'"route"', b'"rouge"'),
        (b"v22.20.0-", b"v22\\u001b"),
        (b'{"schema"', b"[[[[[[[[["),
    ],
)
def test_identity_that_cannot_be_trusted_is_refused(before: bytes, after: bytes) -> None:
    note = IDENTITY_NOTE
    assert note.count(before) == 1
    assert len(before) == len(after)
    data = program(text(), notes(elfnotes.IDENTITY, note.replace(before, after)))
    with pytest.raises(ElfError, match="note of"):
        read_identity(parse(data, "node"))


CONFIG = b'{"variables": {"nodekiln_recipe": "v20.19.2-no-backpressure", "nodekiln_plan": "db59"}}'


def test_marks_of_a_build_are_found_in_its_bytes() -> None:
    assert find_marks(b"\0" * 99 + CONFIG + b"\0" * 99) == Identity(
        recipe="v20.19.2-no-backpressure", plan="db59", route="build"
    )


def test_repeated_markers_are_found() -> None:
    assert find_marks(CONFIG + CONFIG) == find_marks(CONFIG)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        CONFIG.replace(b"nodekiln_plan", b"someones_plan"),
        CONFIG + CONFIG.replace(b"db59", b"db60"),
        CONFIG.replace(b"v20", b"v\x1b0"),
    ],
)
def test_missing_contradictory_or_unprintable_markers_are_ignored(data: bytes) -> None:
    assert find_marks(data) is None


ADDED = (*probe_sections([GC_START, GC_DONE]), identity_section(IDENTITY))


@pytest.fixture
def node(tmp_path: Path) -> Path:
    path = tmp_path / "node"
    path.write_bytes(PLAIN)
    return path


def test_added_sections_are_read_back(node: Path) -> None:
    add_sections(node, ADDED)
    with open_elf(node) as elf:
        assert read_probes(elf) == (GC_START, GC_DONE)
        assert read_identity(elf) == IDENTITY


def test_another_reader_sees_the_old_sections_and_the_added_ones(node: Path) -> None:
    def seen(data: bytes) -> dict[str, tuple[str, bytes]]:
        sections = ELFFile(io.BytesIO(data)).iter_sections()
        return {section.name: (section["sh_type"], section.data()) for section in sections}

    add_sections(node, ADDED)
    before, after = seen(PLAIN), seen(node.read_bytes())
    names = before.pop(".shstrtab")[1]
    assert after.pop(".shstrtab")[1] == names + b".note.stapsdt\0.stapsdt.base\0.note.nodekiln\0"
    assert after == before | {
        elfnotes.PROBES: ("SHT_NOTE", probe_notes([GC_START, GC_DONE])),
        ".stapsdt.base": ("SHT_PROGBITS", b"\0"),
        elfnotes.IDENTITY: ("SHT_NOTE", IDENTITY_NOTE),
    }


def test_only_the_section_table_fields_change_before_the_old_end(node: Path) -> None:
    add_sections(node, ADDED)
    after = bytearray(node.read_bytes()[: len(PLAIN)])
    after[40:48], after[60:62] = PLAIN[40:48], PLAIN[60:62]
    assert after == PLAIN


def test_every_changed_byte_is_reported(node: Path) -> None:
    told = add_sections(node, ADDED)
    after = node.read_bytes()
    expected = bytearray(PLAIN)
    for field in told.rewritten:
        assert PLAIN[field.start : field.start + len(field.old)] == field.old
        expected[field.start : field.start + len(field.new)] = field.new
    assert after[: len(PLAIN)] == bytes(expected)
    places = [(part.start, part.start + part.size) for part in told.appended]
    assert [start for start, _ in places] == [len(PLAIN), *(end for _, end in places[:-1])]
    assert places[-1][1] == len(after)


def test_sections_can_be_added_twice_under_different_names(node: Path) -> None:
    for new in ADDED:
        add_sections(node, [new])
    with open_elf(node) as elf:
        assert (len(read_probes(elf)), read_identity(elf)) == (2, IDENTITY)


def test_section_of_the_same_name_is_refused_and_nothing_changes(node: Path) -> None:
    add_sections(node, ADDED)
    before = node.read_bytes()
    with pytest.raises(ElfError, match=r"has a section \.note\.stapsdt already"):
        add_sections(node, ADDED)
    assert node.read_bytes() == before


def test_program_without_a_section_table_is_read_but_gets_no_sections(tmp_path: Path) -> None:
    packed = tmp_path / "node"
    packed.write_bytes(changed(changed(PLAIN, 40, "<Q", 0), 60, "<I", 0))
    with open_elf(packed) as elf:
        assert elf.find_symbols(["_Zlong"]) == {"_Zlong": ()}
    with pytest.raises(ElfError, match="has no section table to add to"):
        add_sections(packed, ADDED)


def test_full_disk_leaves_the_file_as_it_was(node: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write = os.pwrite
    monkeypatch.setattr(os, "pwrite", lambda handle, data, at: write(handle, data[: len(data) // 2], at))
    with pytest.raises(OSError, match="No space left"):
        add_sections(node, ADDED)
    assert node.read_bytes() == PLAIN


@pytest.mark.parametrize(
    ("damage", "why"),
    [
        (lambda data: data[:0], "is empty"),
        (lambda data: b"MZ" + data[2:], "is not an ELF file"),
        (lambda data: data[:40], "is cut off within its ELF header"),
        (lambda data: data[:-1], "is cut off, or damaged: its section table ends at"),
        (lambda data: data[:100], "is cut off, or damaged"),
        (lambda data: changed(data, 4, "B", 1), "is for a 32-bit machine"),
        (lambda data: changed(data, 5, "B", 2), "is for a big-endian machine"),
        (lambda data: changed(data, 16, "<H", 1), "is an ELF file, but not a program"),
        (lambda data: changed(data, 40, "<Q", 2**64 - 1), "is cut off, or damaged"),
        (lambda data: changed(data, 40, "<Q", 32), "its ELF header and its section table overlap"),
        (lambda data: changed(data, 54, "<H", 55), "entries have another size"),
        (lambda data: changed(data, 60, "<H", 0), "has a section table that can't be read"),
        (lambda data: changed(data, 62, "<H", 99), "has a section table that can't be read"),
        (lambda data: changed(data, line_of(data, 2) + 32, "<Q", 2**63), "'.symtab' ends at"),
        (lambda data: changed(data, line_of(data, 3) + 24, "<Q", TEXT_OFFSET), "overlap"),
        (lambda data: changed(data, line_of(data, 2), "<I", 2**31), "a name in it has no end"),
        (lambda data: changed(data, line_of(data, 2) + 40, "<I", 1), "a symbol table, '.symtab', that can't"),
        (
            lambda data: changed(data, line_of(data, 2) + 40, "<I", 99),
            "a symbol table, '.symtab', that can't",
        ),
        (lambda data: changed(data, line_of(data, 2) + 56, "<Q", 0), "a symbol table, '.symtab', that can't"),
        (lambda data: changed(data, line_of(data, 2) + 32, "<Q", 95), "of an impossible size"),
    ],
)
def test_damaged_or_foreign_file_is_refused_with_the_reason(
    damage: Callable[[bytes], bytes], why: str, tmp_path: Path
) -> None:
    path = tmp_path / "node"
    path.write_bytes(damage(PLAIN))
    with pytest.raises(ElfError) as refused, open_elf(path) as elf:
        elf.find_symbols(["_Zlong"])
    assert why in refused.value.message
    assert str(path) in refused.value.message


def test_folder_and_a_missing_file_are_refused(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "absent"):
        with pytest.raises(ElfError, match=r"does not exist|not a regular file"), open_elf(path):
            pass


FULL = program(
    text(),
    symbols(),
    strings(),
    notes(elfnotes.PROBES, probe_notes([GC_START])),
    notes(elfnotes.IDENTITY, IDENTITY_NOTE),
)


@pytest.mark.parametrize("value", [0, 1, 0x7F, 0xFF])
def test_file_with_one_changed_byte_is_read_or_refused(value: int) -> None:
    read_everything(FULL)
    refused = 0
    for place in range(len(FULL)):
        data = bytearray(FULL)
        data[place] = value
        try:
            read_everything(bytes(data))
        except ElfError:
            refused += 1
    assert refused > 50


def test_wherever_the_file_is_cut_it_is_refused() -> None:
    for end in range(len(FULL)):
        with pytest.raises(ElfError):
            parse(FULL[:end], "node")


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (program(text(), symbols(), strings(b"\0" + b"_Zlong" * 100_000 + b"\0")), "times"),
        (program(text(), symbols([SYMBOLS[1]] * 100_000), strings()), "symbols of the same name"),
        (program(text(), symbols(), symbols(), strings()), "several symbol tables"),
        (program(text(), symbols(), strings(b"\0_Zlong" + b"x" * 9000 + b"\0")), "a name in it has no end"),
        (program(text(), notes(elfnotes.PROBES, probe_notes([GC_START]) * 10_001)), "notes in"),
        (program(text(), notes(elfnotes.PROBES, b"\xff" * 12)), "notes in"),
        (program(text(), notes(elfnotes.PROBES, probe_notes([UNPRINTABLE]))), "a probe note"),
        (program(text(), notes(elfnotes.PROBES, probe_notes([GC_START])[:-8])), "notes in"),
    ],
)
def test_hostile_file_is_refused(data: bytes, why: str) -> None:
    with pytest.raises(ElfError, match=why):
        read_everything(data)

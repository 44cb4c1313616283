"""Sections added to an ELF program: appended, so that nothing that is mapped moves.

Of our own, by what was measured on 123 and 127 MB (benchmarks/elf_sections.py): LIEF takes 2 s and moves
segments; objcopy takes 0.5 s, lays out anew what no segment covers, and in 22.20.0 segments too; this takes
1 ms, and of the bytes that were there it changes two fields of the ELF header.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from nodekiln.core.elf.file import HEADER, RESERVED, SECTION, Elf, ElfError, open_elf

BYTES = 1
"""The type of a section with arbitrary bytes; elf.NOTE is the other type that can be added."""

_FIELDS = ((40, 8, "place of the section table"), (60, 2, "number of sections"))
"""The fields of the ELF header that change: offset, bytes, meaning."""


@dataclass(frozen=True, slots=True)
class NewSection:
    """A section to add; by its type notes (elf.NOTE) or some bytes (BYTES)."""

    name: str
    content: bytes
    kind: int


@dataclass(frozen=True, slots=True)
class Rewritten:
    """A range of the file at `start` that changed from `old` to `new`, of the same length."""

    what: str
    start: int
    old: bytes
    new: bytes


@dataclass(frozen=True, slots=True)
class Appended:
    """`size` bytes from `start` on that the file did not have, with the zeros that follow them."""

    what: str
    start: int
    size: int


@dataclass(frozen=True, slots=True)
class Additions:
    """Every byte in which the file differs; what was appended leaves no gap from the old end to the new."""

    rewritten: tuple[Rewritten, ...]
    appended: tuple[Appended, ...]


def add_sections(path: Path, added: Sequence[NewSection]) -> Additions:
    """Appends sections to a program, and tells all that changed.

    The sections, their names and a new section table go to the end; no segment covers them. Meant for a copy;
    until the last write, of the ELF header, the file is what it was. Raises ElfError for a file that can't be
    read, that has no section table, or that has a section of that name already; OSError where it can't be
    written, and then it is what it was.
    """
    with open_elf(path) as elf:
        size = len(elf.data)
        old, new, tail = _appendix(elf, added)
    content = b"".join(part for _, part in tail)
    with path.open("r+b", buffering=0) as file:
        try:
            if os.pwrite(file.fileno(), content, size) != len(content):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
            os.pwrite(file.fileno(), new, 0)
        except OSError:
            file.truncate(size)
            raise
    fields = (
        Rewritten(f"ELF header, {what}", start, old[start : start + length], new[start : start + length])
        for start, length, what in _FIELDS
    )
    return Additions(tuple(field for field in fields if field.old != field.new), tuple(_placed(tail, size)))


def _appendix(elf: Elf, added: Sequence[NewSection]) -> tuple[bytes, bytes, list[tuple[str, bytes]]]:
    """The ELF header before and after, and the parts to append to the file."""
    header = list(HEADER.unpack_from(elf.data))
    shoff, shnum, shstrndx = header[6], header[12], header[13]
    if not elf.sections:
        raise ElfError(elf.file, "has no section table to add to: packed, or stripped of it")
    if shnum + len(added) >= RESERVED:
        raise ElfError(elf.file, f"has no room for more sections: it has {shnum}")
    there = {section.name for section in elf.sections}
    table = list(SECTION.iter_unpack(elf.data[shoff : shoff + shnum * SECTION.size]))
    names = elf.content(elf.sections[shstrndx])
    end = len(elf.data)
    tail: list[tuple[str, bytes]] = []

    def append(what: str, content: bytes) -> int:
        """Append a part padded to a multiple of 8 bytes and return its offset."""
        nonlocal end
        start = end
        tail.append((what, content + b"\0" * (-(start + len(content)) % 8)))
        end += len(tail[-1][1])
        return start

    if end % 8:
        append("zeros", b"")
    for new in added:
        if new.name in there:
            raise ElfError(elf.file, f"has a section {new.name} already")
        there.add(new.name)
        place = append(f"section {new.name}", new.content)
        table.append((len(names), new.kind, 0, 0, place, len(new.content), 0, 0, 4, 0))
        names += new.name.encode() + b"\0"
    name, kind, flags, address, _, _, link, info, align, entry = table[shstrndx]
    place = append("names of the sections", names)
    table[shstrndx] = (name, kind, flags, address, place, len(names), link, info, align, entry)
    header[6] = append("section table", b"".join(SECTION.pack(*line) for line in table))
    header[12] = len(table)
    return bytes(elf.data[: HEADER.size]), HEADER.pack(*header), tail


def _placed(tail: Iterable[tuple[str, bytes]], start: int) -> Iterator[Appended]:
    for what, content in tail:
        yield Appended(what, start, len(content))
        start += len(content)

"""Parse ELF files: 64-bit little-endian programs only.

A reader of our own: pyelftools takes 3 to 4 s to look at the symbols of a release (135 000 of them in
22.20.0, 146 000 in 24.21.0), a search in the mapped file 0.03 s (benchmarks/elf_sections.py).
"""

from __future__ import annotations

import mmap
import os
import struct
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import islice, pairwise
from pathlib import Path

from nodekiln.core import limits
from nodekiln.core.errors import SourceError
from nodekiln.core.files import open_regular

NOTE = 7
"""The type of a section with notes."""
HEADER = struct.Struct("<16sHHIQQQIHHHHHH")
SECTION = struct.Struct("<IIQQQQIIQQ")
"""The struct format of a section table entry."""
RESERVED = 0xFF00
"""Section indexes from here on are reserved; a file with more sections stores their count elsewhere."""

_SEGMENT = struct.Struct("<IIQQQQQQ")
_SYMBOL = struct.Struct("<IBBHQQ")

_MACHINES = {
    3: "ia32",
    21: "ppc64",
    22: "s390x",
    40: "arm",
    62: "x64",
    183: "arm64",
    243: "riscv64",
    258: "loong64",
}
_EXECUTABLE, _SHARED = 2, 3
_LOAD, _CAN_EXECUTE = 1, 1
_SYMTAB, _STRTAB, _NOBITS, _DYNSYM = 2, 3, 8, 11
_FUNCTION = 2

_MAX_NAME = 4096
_MAX_COUNT = 10_000
"""Occurrences of a name above which a file is rejected as hostile."""

Buffer = bytes | bytearray | mmap.mmap


class ElfError(SourceError):
    """The file is not a supported ELF program, or it is damaged."""

    def __init__(self, file: str, why: str) -> None:
        super().__init__(
            f"{file} {why}.",
            remedy="Get it again where it came from; `readelf -hSW FILE` shows what is there.",
        )


@dataclass(frozen=True, slots=True)
class Section:
    """An entry of the section table; `offset` and `size` are in bytes of the file."""

    name: str
    kind: int
    address: int
    offset: int
    size: int
    link: int
    entry: int
    """Bytes of each entry, in a section that is a table."""

    @property
    def stored(self) -> int:
        """Bytes that it takes in the file."""
        return 0 if self.kind == _NOBITS else self.size


@dataclass(frozen=True, slots=True)
class Symbol:
    """A defined symbol with its mangled name; `section` is None if its section index is not in the file."""

    name: str
    address: int
    size: int
    is_function: bool
    section: Section | None


@dataclass(frozen=True)
class Elf:
    """The tables of a program, over bytes that the caller keeps open; `file` is its name for messages."""

    file: str
    data: Buffer = field(repr=False)
    machine: str
    """The processor as Node names it ("x64", "arm64"), or "machine N"."""
    sections: tuple[Section, ...]
    segments: tuple[tuple[int, int, int], ...]
    """Address, offset and bytes in the file of each segment that is mapped to be executed."""

    def content(self, section: Section) -> bytes:
        """Return a section's bytes; raise ElfError for more than 2**28."""
        if section.stored > limits.ELF_TABLE:
            raise ElfError(self.file, f"has {section.stored} bytes in {section.name!r}: too many to be true")
        return bytes(self.data[section.offset : section.offset + section.stored])

    def offset_of(self, address: int) -> int | None:
        """Return the file offset that the code at `address` is mapped from, as the kernel does."""
        for start, offset, size in self.segments:
            if start <= address < start + size:
                return address - start + offset
        return None

    def bytes_at(self, address: int, size: int) -> bytes | None:
        """Return the bytes at an address, or None if no section has that many there."""
        for section in self.sections:
            inside = address - section.address
            if section.address and 0 <= inside <= section.stored - size:
                return bytes(self.data[section.offset + inside : section.offset + inside + size])
        return None

    def find_symbols(self, starts: Collection[str]) -> dict[str, tuple[Symbol, ...]]:
        """Return the defined symbols whose names begin with each of `starts`, in .dynsym or .symtab, by
        address.

        Raises ElfError if these tables can't be what they say.
        """
        found: dict[str, set[Symbol]] = {start: set() for start in starts}
        for kind in (_DYNSYM, _SYMTAB):
            tables = [section for section in self.sections if section.kind == kind]
            if len(tables) > 1:
                raise ElfError(self.file, "has several symbol tables of one kind")
            for table in tables:
                for start, symbol in self._search(table, starts):
                    found[start].add(symbol)
        return {
            start: tuple(sorted(symbols, key=lambda symbol: (symbol.address, symbol.name)))
            for start, symbols in found.items()
        }

    def _search(self, table: Section, starts: Collection[str]) -> Iterator[tuple[str, Symbol]]:
        strings = self.sections[table.link] if table.link < len(self.sections) else None
        if strings is None or strings.kind != _STRTAB or table.entry != _SYMBOL.size:
            raise ElfError(self.file, f"has a symbol table, {table.name!r}, that can't be read")
        if max(table.size, strings.size) > limits.ELF_TABLE or table.size % _SYMBOL.size:
            raise ElfError(self.file, f"has a symbol table, {table.name!r}, of an impossible size")
        # A name may be the end of a longer one (linkers share tails), so any occurrence will do.
        begins: dict[int, str] = {}
        for start in starts:
            place, end = strings.offset - 1, strings.offset + strings.size
            while (place := self.data.find(start.encode(), place + 1, end)) >= 0:
                begins[place - strings.offset] = start
                if len(begins) > _MAX_COUNT:
                    raise ElfError(self.file, f"holds {start!r} more than {_MAX_COUNT} times")
        with (
            memoryview(self.data) as everything,
            everything[table.offset : table.offset + table.size] as entries,
        ):
            hits = _matching(entries, begins)
        if len(hits) > _MAX_COUNT:
            raise ElfError(self.file, f"has more than {_MAX_COUNT} symbols of the same name")
        for number in hits:
            place, info, _, index, address, size = _SYMBOL.unpack_from(
                self.data, table.offset + number * _SYMBOL.size
            )
            if index != 0:
                home = self.sections[index] if index < len(self.sections) else None
                name = self._text(strings, place)
                yield begins[place], Symbol(name, address, size, info & 15 == _FUNCTION, home)

    def _text(self, strings: Section, place: int) -> str:
        return _text(self.file, self.data, strings.offset + place, strings.offset + strings.size)


def _matching(entries: memoryview, names: Collection[int]) -> list[int]:
    """Return the numbers of the symbols with one of the `names` (places in the string table)."""
    numbered = enumerate(struct.iter_unpack("<I20x", entries))
    return list(islice((number for number, (name,) in numbered if name in names), _MAX_COUNT + 1))


@contextmanager
def open_elf(path: Path) -> Iterator[Elf]:
    """Read a file and its tables; raise ElfError for anything but a program, or if it can't be read.

    It is not mapped: a file that another process cuts off would end this one by a signal.
    """
    try:
        with open_regular(path, follow=True) as file:
            if (size := os.fstat(file.fileno()).st_size) > limits.PROGRAM:
                raise ElfError(str(path), f"has {size} bytes, and the limit is {limits.PROGRAM}")
            data = file.read()
    except FileNotFoundError:
        raise ElfError(str(path), "does not exist") from None
    except OSError as error:
        raise ElfError(str(path), f"can't be read: {error.strerror}") from None
    if not data:
        raise ElfError(str(path), "is empty")
    yield parse(data, str(path))


def parse(data: Buffer, file: str) -> Elf:
    """Parse the header, the sections and the executable segments of a program.

    Raises ElfError for anything but a 64-bit little-endian program whose tables lie inside the file and apart
    from each other. A file without a section table (packed by UPX, or stripped of it) has no sections.
    """
    if data[:4] != b"\x7fELF":
        raise ElfError(file, "is not an ELF file")
    if len(data) < HEADER.size:
        raise ElfError(file, "is cut off within its ELF header")
    header = HEADER.unpack_from(data)
    ident, kind, machine, _, _, phoff, shoff, _, _, phentsize, phnum, shentsize, shnum, shstrndx = header
    if ident[4] != 2 or ident[5] != 1:
        raise ElfError(file, "is for a 32-bit machine" if ident[4] == 1 else "is for a big-endian machine")
    if kind not in (_EXECUTABLE, _SHARED):
        raise ElfError(file, "is an ELF file, but not a program")
    if (phnum and phentsize != _SEGMENT.size) or (shoff and shentsize != SECTION.size):
        raise ElfError(file, "has tables whose entries have another size than those of 64-bit programs")
    if shoff and (not 0 < shnum < RESERVED or shstrndx >= shnum):
        raise ElfError(file, "has a section table that can't be read")
    if shoff and shnum > limits.ELF_SECTIONS:
        raise ElfError(file, f"has {shnum} sections, and the limit is {limits.ELF_SECTIONS}")
    lines = SECTION.size * shnum if shoff else 0
    _check_ranges(
        file,
        len(data),
        [(0, HEADER.size, "its ELF header"), (phoff, _SEGMENT.size * phnum, "its program headers")],
        [(shoff, lines, "its section table")],
    )
    segments = _SEGMENT.iter_unpack(data[phoff : phoff + _SEGMENT.size * phnum])
    sections = _sections(data, file, data[shoff : shoff + lines], shstrndx) if lines else ()
    _check_ranges(
        file,
        len(data),
        [(0, HEADER.size, "its ELF header"), (shoff, lines, "its section table")],
        [(section.offset, section.stored, repr(section.name)) for section in sections],
    )
    return Elf(
        file,
        data,
        _MACHINES.get(machine, f"machine {machine}"),
        sections,
        tuple(
            (address, offset, min(stored, len(data) - offset))
            for type_, flags, offset, address, _, stored, _, _ in segments
            if type_ == _LOAD and flags & _CAN_EXECUTE
        ),
    )


def _check_ranges(file: str, size: int, *parts: Sequence[tuple[int, int, str]]) -> None:
    """Refuses parts (offset, bytes, what) that leave the file or overlap: one of them is not what it says."""
    taken = sorted(part for group in parts for part in group if part[1])
    for offset, length, what in taken:
        if offset + length > size:
            raise ElfError(
                file, f"is cut off, or damaged: {what} ends at {offset + length}, the file at {size}"
            )
    for (start, length, what), (following, _, other) in pairwise(taken):
        if start + length > following:
            raise ElfError(file, f"is damaged: {what} and {other} overlap")


def _sections(data: Buffer, file: str, table: bytes | bytearray, names: int) -> tuple[Section, ...]:
    lines = list(SECTION.iter_unpack(table))
    start, size = lines[names][4], lines[names][5]
    if start + size > len(data):
        raise ElfError(file, "is cut off, or damaged: its section names lie beyond its end")
    return tuple(
        Section(
            _section_name(file, data, start + name, start + size), kind, address, offset, length, link, entry
        )
        for name, kind, _, address, offset, length, link, _, _, entry in lines
    )


def _section_name(file: str, data: Buffer, place: int, end: int) -> str:
    return _text(file, data, place, min(end, place + limits.ELF_SECTION_NAME))


def _text(file: str, data: Buffer, place: int, end: int) -> str:
    stop = data.find(b"\0", place, min(end, place + _MAX_NAME))
    if stop < 0:
        raise ElfError(file, "is damaged: a name in it has no end")
    return data[place:stop].decode(errors="backslashreplace")

"""Notes and sections that are added to an ELF program: its USDT probes, and which binary of ours it is.

Sections are appended, so that nothing that is mapped moves. Measured on 123 and 127 MB
(benchmarks/elf_sections.py): LIEF takes 2 s and moves segments; objcopy takes 0.5 s and lays out anew what no
segment covers, in 22.20.0 segments too; this takes 1 ms and changes two fields of the ELF header.
"""

from __future__ import annotations

import errno
import json
import os
import re
import struct
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from nodekiln.core import limits
from nodekiln.core.elf.file import HEADER, NOTE, RESERVED, SECTION, Buffer, Elf, ElfError, open_elf

PROBES = ".note.stapsdt"
"""The section in which tracers find USDT probes."""
IDENTITY = ".note.nodekiln"
"""The section that identifies a grafted file."""

_BASE = ".stapsdt.base"

_NOTE = struct.Struct("<III")
_PROBE = struct.Struct("<QQQ")
_PROBE_NOTE = 3
_IDENTITY_NOTE = 0x6B696C6E
_IDENTITY_SCHEMA = 1
_MAX_IDENTITY = 4096
_LOOSE_IDENTITY = re.compile(rb'nodekiln\0{4}(\{"schema": [ -~]{1,4096}\})')
_MAX_COUNT = 10_000
"""Notes before a file is taken for a hostile one; a Node with every probe we know of has eleven."""
BYTES = 1
"""The type of a section with arbitrary bytes; elf.NOTE is the other type that can be added."""
_FIELDS = ((40, 8, "place of the section table"), (60, 2, "number of sections"))
"""The fields of the ELF header that change: offset, bytes, meaning."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Probe:
    """A USDT probe as in a stapsdt note. Semaphore 0: none; base 0: `address` is absolute."""

    provider: str
    name: str
    address: int
    arguments: str
    """Size and place of each, as in "4@%esi 8@%rdi"; a minus before the size says signed."""
    base: int = 0
    semaphore: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """The identity of a binary made by nodekiln: the recipe's name, the plan's digest, the route."""

    recipe: str
    plan: str
    route: str
    changes: tuple[str, ...] | None = None
    """Names of its changes; None if the file does not say."""
    hashes: tuple[str, ...] | None = None
    """The beginning of each change's SHA-256, in the same order; None if the file does not say."""


def probe_sections(probes: Iterable[Probe]) -> tuple[NewSection, ...]:
    """Return the sections that describe these probes to tracers, with a base address of 0.

    Layout: sourceware.org/systemtap/wiki/UserSpaceProbeImplementation. gdb looks at no probe of a file that
    has no section .stapsdt.base; others take its address, 0 here, for what a note's base is compared with.
    """
    notes = b"".join(
        _note(
            b"stapsdt",
            _PROBE_NOTE,
            _PROBE.pack(probe.address, probe.base, probe.semaphore)
            + b"".join(text.encode() + b"\0" for text in (probe.provider, probe.name, probe.arguments)),
        )
        for probe in probes
    )
    return NewSection(PROBES, notes, NOTE), NewSection(_BASE, b"\0", BYTES)


def read_probes(elf: Elf) -> tuple[Probe, ...]:
    """Return the USDT probes in a program's notes; raise ElfError for unreadable notes."""
    probes = []
    for kind, description in _notes(elf, PROBES, b"stapsdt"):
        texts = description[_PROBE.size :].decode(errors="backslashreplace").split("\0")
        if kind != _PROBE_NOTE or len(description) < _PROBE.size or len(texts) < 4:
            raise ElfError(elf.file, "has a probe note that can't be read")
        address, base, semaphore = _PROBE.unpack_from(description)
        provider, name, arguments, *_ = texts
        if not (provider + name + arguments).isprintable():  # a terminal would take it for commands
            raise ElfError(elf.file, "has a probe note that can't be read")
        probes.append(
            Probe(
                provider=provider,
                name=name,
                address=address,
                arguments=arguments,
                base=base,
                semaphore=semaphore,
            )
        )
    return tuple(probes)


def identity_section(identity: Identity) -> NewSection:
    """Return the note that identifies a binary, as JSON, so that `strings` shows it too."""
    identity_data = {
        "schema": _IDENTITY_SCHEMA,
        "recipe": identity.recipe,
        "plan": identity.plan,
        "route": identity.route,
        "changes": identity.changes,
        "hashes": identity.hashes,
    }
    return NewSection(IDENTITY, _note(b"nodekiln", _IDENTITY_NOTE, json.dumps(identity_data).encode()), NOTE)


def read_identity(elf: Elf) -> Identity | None:
    """Return the identity in the file's note, or None if it has none.

    Raises ElfError for a note that can't be read: damaged, or of a newer schema. The texts are printable.
    """
    notes = [text for kind, text in _notes(elf, IDENTITY, b"nodekiln") if kind == _IDENTITY_NOTE]
    if len(notes) > 1:
        raise _damaged(elf.file)
    return _parse_identity(notes[0][:_MAX_IDENTITY], elf.file) if notes else None


def search_identity(data: Buffer, file: str) -> Identity | None:
    """Return the identity in a note that no section covers any more, or None without exactly one such text.

    Tools that put a program into a Node binary (single executables) move notes and lose their sections.
    """
    found = {match[1] for match in _LOOSE_IDENTITY.finditer(data)}
    return _parse_identity(found.pop(), file) if len(found) == 1 else None


def _parse_identity(text: bytes, file: str) -> Identity:
    try:
        facts = json.loads(text)
        schema = int(facts["schema"])
        texts = [facts[name] for name in ("recipe", "plan", "route")]
        changes = facts.get("changes")  # missing in grafts of earlier versions
        hashes = facts.get("hashes")
        every = (*texts, *(changes or ()), *(hashes or ()))
        if not all(isinstance(text, str) and text.isprintable() for text in every):
            raise ValueError
    except (ValueError, KeyError, TypeError, RecursionError):
        raise _damaged(file) from None
    if schema > _IDENTITY_SCHEMA:
        raise ElfError(file, f"has a note of a newer nodekiln (schema {schema})")
    recipe, plan, route = texts
    return Identity(
        recipe=recipe,
        plan=plan,
        route=route,
        changes=None if changes is None else tuple(changes),
        hashes=None if hashes is None else tuple(hashes),
    )


def _damaged(file: str) -> ElfError:
    return ElfError(file, "has a note of nodekiln that is damaged")


def find_marks(data: Buffer) -> Identity | None:
    """Return the identity in the config.gypi text of a built binary of any format, or None.

    Two different recipes or plans in one file say nothing either. Reads on until the end (0.05 s for 120 MB).
    """
    found: dict[bytes, bytes] = {}
    for mark in re.finditer(rb'"nodekiln_(recipe|plan|changes|hashes)": "([\w.,-]{0,400})"', data):
        if found.setdefault(mark[1], mark[2]) != mark[2]:
            return None
    if not (found.get(b"recipe") and found.get(b"plan")):
        return None
    changes, hashes = found.get(b"changes"), found.get(b"hashes")  # missing in builds of earlier versions
    return Identity(
        recipe=found[b"recipe"].decode(),
        plan=found[b"plan"].decode(),
        route="build",
        changes=None if changes is None else tuple(filter(None, changes.decode().split(","))),
        hashes=None if hashes is None else tuple(filter(None, hashes.decode().split(","))),
    )


def _note(owner: bytes, kind: int, description: bytes) -> bytes:
    parts = (owner + b"\0", description)
    return _NOTE.pack(len(parts[0]), len(description), kind) + b"".join(
        part + b"\0" * (-len(part) % 4) for part in parts
    )


def _notes(elf: Elf, name: str, owner: bytes) -> Iterator[tuple[int, bytes]]:
    """Type and description of this owner's notes in all sections of that name."""
    count = 0
    for section in elf.sections:
        if section.name != name or section.kind != NOTE:
            continue
        if section.stored > limits.ELF_NOTES:
            raise ElfError(
                elf.file, f"has {section.stored} bytes of notes, and the limit is {limits.ELF_NOTES}"
            )
        data = elf.content(section)
        position = 0
        while position < len(data):
            count += 1
            if count > _MAX_COUNT or position + _NOTE.size > len(data):
                raise ElfError(elf.file, f"has notes in {name} that can't be read")
            named, size, kind = _NOTE.unpack_from(data, position)
            begin = position + _NOTE.size
            text = begin + named + -named % 4
            position = text + size + -size % 4
            if text + size > len(data):
                raise ElfError(elf.file, f"has notes in {name} that can't be read")
            if data[begin : begin + named] == owner + b"\0":
                yield kind, data[text : text + size]


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
    """Appends sections to a program, and lists all that changed.

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

"""Add a mapped, read-only segment to an ELF program; nothing else that is mapped moves.

The new program header takes the entry of the PT_NOTE segment. The notes themselves stay where they are, and
tools that read files find them by section, as they find the probes.
"""

from __future__ import annotations

import errno
import os
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from nodekiln.core.elf.file import HEADER, Elf, ElfError
from nodekiln.core.elf.notes import Additions, Appended, Rewritten

_SEGMENT = struct.Struct("<IIQQQQQQ")
_LOAD, _NOTE = 1, 4
_READABLE = 4
_SMALLEST_PAGE = 0x1000
_STEP = 0x20_0000
"""Bytes from the end of the program to the next multiple of this are left free: a huge page."""


@dataclass(frozen=True, slots=True)
class Room:
    """Where a new segment goes: its first byte in the file, and the address that it is mapped to."""

    offset: int
    address: int


def file_offset(elf: Elf, address: int) -> int | None:
    """Return the file offset of the byte that is mapped to `address`, None if the file maps none there."""
    for kind, _, offset, start, _, stored, _, _ in _segments(elf):
        if kind == _LOAD and start <= address < start + stored:
            return offset + address - start
    return None


def find_room(elf: Elf) -> Room:
    """Return the place of a new segment; raise ElfError if the program headers have no entry to give."""
    segments = _segments(elf)
    loads = [segment for segment in segments if segment[0] == _LOAD]
    if not loads or all(segment[0] != _NOTE for segment in segments):
        raise ElfError(elf.file, "has no program header that a new segment could take (PT_NOTE)")
    page = max(_SMALLEST_PAGE, *(align for *_, align in loads))
    end = max(address + size for _, _, _, address, _, _, size, _ in loads)
    return Room(_round_up(len(elf.data), page), _round_up(end + 1, max(_STEP, page)))


def add_segment(path: Path, elf: Elf, room: Room, content: bytes) -> Additions:
    """Append `content` to the file at `path`, mapped at `room`, and return all that changed.

    `elf` is what the file was read from. Raises OSError where it can't be written, and then it is as it was.
    """
    size = len(elf.data)
    table = HEADER.unpack_from(elf.data)[5]
    segments = _segments(elf)
    given = max(number for number, segment in enumerate(segments) if segment[0] == _NOTE)
    after = 1 + max(number for number, segment in enumerate(segments) if segment[0] == _LOAD)
    page = max(_SMALLEST_PAGE, *(segment[7] for segment in segments if segment[0] == _LOAD))
    length = len(content)
    new = (_LOAD, _READABLE, room.offset, room.address, room.address, length, length, page)
    # PT_LOAD entries must be in the order of their addresses.
    segments.insert(after, new)
    del segments[given if given < after else given + 1]
    old = bytes(elf.data[table : table + _SEGMENT.size * len(segments)])
    headers = b"".join(_SEGMENT.pack(*segment) for segment in segments)
    tail = bytes(room.offset - size) + content
    with path.open("r+b", buffering=0) as file:
        try:
            if os.pwrite(file.fileno(), tail, size) != len(tail):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
            os.pwrite(file.fileno(), headers, table)
        except OSError:
            file.truncate(size)
            raise
    rewritten = (
        Rewritten(
            "program header", table + at, old[at : at + _SEGMENT.size], headers[at : at + _SEGMENT.size]
        )
        for at in range(0, len(old), _SEGMENT.size)
    )
    zeros = (Appended("zeros", size, room.offset - size),) if room.offset > size else ()
    return Additions(
        tuple(entry for entry in rewritten if entry.old != entry.new),
        (*zeros, Appended("segment with the texts of modules", room.offset, length)),
    )


def _segments(elf: Elf) -> list[tuple[int, ...]]:
    return list(_iterate(elf))


def _iterate(elf: Elf) -> Iterator[tuple[int, ...]]:
    header = HEADER.unpack_from(elf.data)
    table, count = header[5], header[10]
    return _SEGMENT.iter_unpack(elf.data[table : table + _SEGMENT.size * count])


def _round_up(number: int, step: int) -> int:
    return -(-number // step) * step

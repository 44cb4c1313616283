"""The built-in startup snapshot: which modules are in it, and how a graft changes its copy of their text.

A module in the snapshot is not read from its text at start-up, so changing the text alone does nothing. Up to
18.18.0 the snapshot contains a copy of the text, from which functions are compiled when they are first
called: the copy is changed as well. Otherwise the snapshot is switched off.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from nodekiln.core.elf.file import Buffer, Elf
from nodekiln.core.elf.notes import Rewritten
from nodekiln.core.errors import PatchError
from nodekiln.grafting.graft import differing

_EMBEDDER = b"-node."
_VERSION = re.compile(rb"\d{1,3}(\.\d{1,4}){3}-node\.\d{1,4}\0+")
_VERSION_SIZE = 64
_MAX_PLACES = 30
"""Releases have up to eight. Each may lead to a decompression, and a crafted file could have millions."""
_MAX_NUMBERS = 16
"""Bytes of "10.2.154.26" at most."""
_WORDS = (3, 4)
"""32-bit words before the version: contexts, rehashability, and one checksum (two from 21 on)."""
_MAX_CONTEXTS = 64
_MAGIC = 0xC0DE
"""The upper half of the first word of V8's serialized data."""
_MAX_STARTUP = 2**26
"""Bytes of the startup data, which has 0.5 to 2 MB."""
_MAX_CONTEXT = 2**24
_BEST = 9
"""V8 compresses at level 6: level 9 saves 1%, in which a changed text has room."""

_GET_DATA = (
    "_ZN4node15SnapshotBuilder23GetEmbeddedSnapshotDataEv",
    "_ZN4node16NodeMainInstance23GetEmbeddedSnapshotDataEv",
)
"""The function that returns the snapshot, the second up to 18.0. If it returns null, Node starts without."""
_RETURN_NULL = {
    "x64": bytes.fromhex("31c0 c3"),  # xor eax, eax; ret
    "arm64": bytes.fromhex("000080d2 c0035fd6"),  # mov x0, #0; ret
}


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The startup data of a snapshot, uncompressed, and where it is in the binary."""

    words: int
    start: int
    """Offset of V8's header."""
    stored: slice
    """The startup data as it is in the binary."""
    content: bytes
    compressed: bool
    end: int | None
    """End of what the checksum covers; None if the checksum is not understood."""

    def contains(self, module: str) -> bool:
        """Return True if the module was loaded when the snapshot was made: it has a script of that name."""
        return _heap_string(f"node:{module}".encode()) in self.content


def _heap_string(text: bytes) -> bytes:
    return len(text).to_bytes(4, "little") + text


def find_snapshot(data: Buffer) -> Snapshot | None:
    """Return Node's built-in snapshot, or None if the binary has none that can be read.

    Takes 0.2 s for 90 MB.
    """
    found = [each for each in _snapshots(data) if b"node:internal/" in each.content]
    return found[0] if len(found) == 1 else None


def _snapshots(data: Buffer) -> Iterator[Snapshot]:
    place = -1
    for _ in range(_MAX_PLACES):
        place = data.find(_EMBEDDER, place + 1)
        if place < 0:
            return
        for version in range(max(0, place - _MAX_NUMBERS), place):
            field = bytes(data[version : version + _VERSION_SIZE])
            if len(field) == _VERSION_SIZE and _VERSION.fullmatch(field):
                yield from (
                    snapshot for words in _WORDS if (snapshot := _read(data, version, words)) is not None
                )


def _read(data: Buffer, version: int, words: int) -> Snapshot | None:
    start = version - 4 * words
    if start < 0:
        return None
    contexts, rehashable = _word(data, start), _word(data, start + 4)
    if not 0 < contexts <= _MAX_CONTEXTS or rehashable > 1:
        return None
    table = version + _VERSION_SIZE
    for entries in (contexts + 2, contexts + 1):  # the older ones have no shared heap
        offsets = [_word(data, table + 4 * number) for number in range(entries)]
        begin = table + 4 * entries
        begin += -(begin - start) % 8
        stored = slice(begin, start + offsets[0])
        if sorted(offsets) != offsets or not 8 <= stored.stop - begin <= _MAX_STARTUP:
            continue
        content = _content(data, stored)
        if content is not None:
            compressed = _word(data, begin) >> 16 != _MAGIC
            end = _end(data, start, start + offsets[-1], compressed=compressed) if words == 3 else None
            return Snapshot(words, start, stored, content, compressed, end)
    return None


def _content(data: Buffer, stored: slice) -> bytes | None:
    part = bytes(data[stored])
    if _word(part, 0) >> 16 == _MAGIC:
        return part
    try:
        content = zlib.decompressobj(-zlib.MAX_WBITS).decompress(part[4:], _MAX_STARTUP)
    except zlib.error:
        return None
    return content if len(content) == _word(part, 0) and _word(content, 0) >> 16 == _MAGIC else None


def _end(data: Buffer, start: int, last: int, *, compressed: bool) -> int | None:
    """Return the end of the last context if the checksum up to there is the stored one."""
    if compressed:
        stream, decompressor = (
            bytes(data[last + 4 : last + _MAX_CONTEXT]),
            zlib.decompressobj(-zlib.MAX_WBITS),
        )
        try:
            decompressor.decompress(stream, _MAX_STARTUP)
        except zlib.error:
            return None
        end = last + 4 + len(stream) - len(decompressor.unused_data)
    else:
        end = last + 8 + _word(data, last + 4)
    return end if end <= len(data) and _checksum(data[start + 12 : end]) == _word(data, start + 8) else None


def _checksum(data: bytes | bytearray) -> int:
    return zlib.adler32(data, 0)


def _word(data: Buffer, place: int) -> int:
    return int.from_bytes(data[place : place + 4], "little")


def change_copies(data: Buffer, snapshot: Snapshot, texts: Mapping[bytes, bytes]) -> tuple[Rewritten, ...]:
    """Return what changes in the binary so that the snapshot's copies of texts become others of that length.

    Raises PatchError if the snapshot doesn't contain exactly one copy of each, or can't be changed.
    """
    if snapshot.end is None:
        raise _unchangeable("its checksum is of an unknown kind")
    content = snapshot.content
    for before, after in texts.items():
        if content.count(_heap_string(before)) != 1 or len(before) != len(after):
            raise _unchangeable("it does not contain the text of a module in it")
        content = content.replace(_heap_string(before), _heap_string(after))
    old = bytes(data[snapshot.stored])
    new = _packed(content, len(old)) if snapshot.compressed else content
    place, checksum = snapshot.stored.start, snapshot.start + 8
    covered = bytearray(data[snapshot.start + 12 : snapshot.end])
    inside = place - (snapshot.start + 12)
    covered[inside : inside + len(new)] = new
    runs = [(0, len(old))] if snapshot.compressed else differing(old, new)
    return (
        Rewritten(
            "checksum of the startup snapshot",
            checksum,
            bytes(data[checksum : checksum + 4]),
            _checksum(covered).to_bytes(4, "little"),
        ),
        *(
            Rewritten("startup snapshot", place + begin, old[begin:end], new[begin:end])
            for begin, end in runs
        ),
    )


def _packed(content: bytes, size: int) -> bytes:
    """Compress to the same size, with zeros after the end of the stream, which no one reads."""
    compressor = zlib.compressobj(_BEST, zlib.DEFLATED, -zlib.MAX_WBITS)
    packed = len(content).to_bytes(4, "little") + compressor.compress(content) + compressor.flush()
    if len(packed) > size:
        raise _unchangeable(f"compressed, it has {len(packed) - size} bytes more")
    return packed.ljust(size, b"\0")


def _unchangeable(why: str) -> PatchError:
    return PatchError(f"The built-in startup snapshot can't be changed: {why}.")


def switch_off(elf: Elf | None) -> Rewritten:
    """Return the bytes that make Node start without its built-in snapshot.

    Raises PatchError if the function that returns the snapshot is not found exactly once.
    """
    if elf is None or elf.machine not in _RETURN_NULL:
        raise _unswitchable("only programs for Linux on x64 and arm64 can be changed so")
    found = elf.find_symbols(_GET_DATA)
    functions = {symbol for name in _GET_DATA for symbol in found[name] if symbol.name == name}
    if len(functions) != 1:
        raise _unswitchable(f"it has {len(functions)} symbols for the function that returns the snapshot")
    [function] = functions
    new = _RETURN_NULL[elf.machine]
    place = elf.offset_of(function.address)
    if not function.is_function or place is None or function.size < len(new):
        raise _unswitchable("the function that returns the snapshot is no code, or too short")
    old = bytes(elf.data[place : place + len(new)])
    return Rewritten("the function that returns the startup snapshot", place, old, new)


def _unswitchable(why: str) -> PatchError:
    return PatchError(f"The built-in startup snapshot can't be switched off: {why}.")


@dataclass(frozen=True, slots=True)
class SnapshotEdit:
    """What a graft changes so that its modules in the snapshot run as planned; empty if there are none."""

    modules: tuple[str, ...] = ()
    """Changed modules that are in the snapshot."""
    rewritten: tuple[Rewritten, ...] = ()
    is_off: bool = False
    """True if the snapshot is switched off, which makes start-up slower."""


NO_SNAPSHOT_EDIT = SnapshotEdit()


def plan_snapshot(
    data: Buffer, elf: Elf | None, texts: Mapping[str, tuple[bytes, bytes]], *, may_change: bool, keep: bool
) -> SnapshotEdit:
    """Return what changes for these modules: id, text before and after.

    The copies are changed if `may_change`: a function that was called while the snapshot was made keeps its
    old code, so the caller must check what the binary does. Otherwise the snapshot is switched off. Raises
    PatchError if that is impossible, or excluded by `keep`.
    """
    snapshot = find_snapshot(data)
    modules = tuple(sorted(module for module in texts if snapshot is not None and snapshot.contains(module)))
    if snapshot is None or not modules:
        return NO_SNAPSHOT_EDIT
    reasons = []
    if may_change:
        try:
            copies = change_copies(data, snapshot, dict(texts[module] for module in modules))
        except PatchError as error:
            reasons.append(error.message)
        else:
            return SnapshotEdit(modules, copies)
    if not keep:
        try:
            return SnapshotEdit(modules, (switch_off(elf),), is_off=True)
        except PatchError as error:
            reasons.append(error.message)
    named, build = ", ".join(modules), "Build this release: ./inv build takes the same options."
    raise PatchError(
        " ".join((f"{named}: in the built-in startup snapshot, which ignores a changed text.", *reasons)),
        remedy="Omit --keep-snapshot to switch the snapshot off." if keep else build,
    )

"""Where Heap::CollectGarbage itself can carry GC probes, in x64 code that holds V8's two functions copied.

All of 18 is so (18.0.0, 18.12.0, 18.20.4 and 18.20.8 looked at). There every collection calls
Heap::GarbageCollectionPrologue and Heap::GarbageCollectionEpilogue, each from one place, with Heap* in rdi as
the System V convention has it. GCType and GCCallbackFlags, which the copies need later, wait in the frame:
the one is looked up in a table of V8's, the other is handed on to the first of the two functions. Both go
to the callbacks together, which a slot that something else was put into would not.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from nodekiln.core.elf.file import Elf, Symbol
from nodekiln.grafting.machinecode import calls, code_of

BEFORE = "_ZN2v88internal4Heap25GarbageCollectionPrologueENS0_23GarbageCollectionReasonENS_15GCCallbackFlagsE"
AFTER = "_ZN2v88internal4Heap25GarbageCollectionEpilogueENS0_16GarbageCollectorE"

_LOW = rb"(?<![\x40-\x4f])"
"""What follows has no prefix that makes its registers 64 bits wide, or others (r8 to r15)."""
_FRAME = re.compile(rb"(\xf3\x0f\x1e\xfa)?\x55\x48\x89\xe5")
"""A function that addresses its frame by rbp: perhaps endbr64, push %rbp, mov %rsp,%rbp."""
_LOOKUP = re.compile(
    _LOW + rb"\x8b[\x04\x0c\x14\x1c\x2c\x34\x3c][\x85\x8d\x95\x9d\xad\xb5\xbd](....)", re.DOTALL
)
"""mov TABLE(,%index,4),%register"""
_GC_TYPES = b"".join(number.to_bytes(4, "little") for number in (1, 4, 2))
"""V8's table: kGCTypeScavenge, kGCTypeMarkSweepCompact, kGCTypeMinorMarkCompact, by collector."""
_LOOKUP_TO_STORE, _LOAD_TO_CALL = 40, 24
"""Bytes from one instruction to the other; 19 and 15 at most in the releases looked at."""
_INTO_EDX = re.compile(
    _LOW + rb"\x8b\x95(....)"
    rb"(?:\x8b\xb5....|\x44?\x89[\xc6\xce\xd6\xde\xe6\xee\xf6\xfe]|[\x48\x4c]\x89[\xc7\xcf\xd7\xdf\xe7\xef\xf7\xff])*\Z",
    re.DOTALL,
)
"""mov SLOT(%rbp),%edx, and then nothing but moves into %esi and %rdi, the other two arguments."""
_TOGETHER = 64
"""Bytes from the load of one argument of a callback to that of the other; 37 at most in those releases."""


@dataclass(frozen=True, slots=True)
class Site:
    """The address of an instruction, and the places of a probe's arguments when it is reached."""

    address: int
    arguments: str


def find_sites(
    elf: Elf, collector: Symbol | None, before: Symbol | None, after: Symbol | None
) -> tuple[Site, Site] | str:
    """Where a collection begins and where it ends in Heap::CollectGarbage; or why that can't be told.

    `before` and `after` are the functions whose names begin with BEFORE and AFTER; None: not known for sure.
    """
    if collector is None or before is None or after is None:
        return "what begins and ends a collection can't be told by name"
    code = code_of(elf, collector)
    if elf.machine != "x64" or not _FRAME.match(code):
        return "it has no frame of a known kind"
    found = list(calls(elf, collector))
    begins = [at for at, target in found if target == before.address]
    ends = [at for at, target in found if target == after.address]
    if len(begins) != 1 or len(ends) != 1:
        return "it does not call what begins and ends a collection once each"
    begin, end = begins[0] - collector.address, ends[0] - collector.address
    type_, flags = _type_slot(elf, code), _flags_slot(code, begin)
    if (
        type_ is None
        or flags is None
        or not all(_lasts(code, slot, begin, end) for slot in (type_, flags))
        or not _are_handed_on(code, type_, flags)
    ):
        return "the type of a collection does not wait in its frame"
    arguments = f"4@{_offset(type_)}(%rbp) 4@{_offset(flags)}(%rbp) 8@%rdi"
    return Site(begins[0], arguments), Site(ends[0], arguments)


def _type_slot(elf: Elf, code: bytes) -> bytes | None:
    """The slot, as instructions write it, into which what was looked up in V8's table goes."""
    lookups = [
        match
        for match in _LOOKUP.finditer(code)
        if elf.bytes_at(int.from_bytes(match[1], "little"), len(_GC_TYPES)) == _GC_TYPES
    ]
    if len(lookups) != 1:
        return None
    register = code[lookups[0].start() + 1] >> 3
    store = re.compile(_LOW + rb"\x89" + re.escape(bytes([0x85 | register << 3])) + rb"(....)", re.DOTALL)
    match = store.search(code, lookups[0].end(), lookups[0].end() + _LOOKUP_TO_STORE)
    return None if match is None else match[1]


def _flags_slot(code: bytes, call: int) -> bytes | None:
    """The slot that is in edx, the third parameter of what is called there: GCCallbackFlags."""
    load = _INTO_EDX.search(code, max(0, call - _LOAD_TO_CALL), call)
    return None if load is None else load[1]


def _lasts(code: bytes, slot: bytes, begin: int, end: int) -> bool:
    """Whether a slot holds the same from `begin` to `end`: written once, before, and read after.

    As it is read after, the compiler can't have put anything else there meanwhile.
    """
    access = re.compile(rb"(.)([\x85\x8d\x95\x9d\xa5\xad\xb5\xbd])" + re.escape(slot), re.DOTALL)
    writes: list[int] = []
    reads: list[int] = []
    for match in access.finditer(code):
        load = match[1] == b"\x8b"  # mov SLOT,%register
        test = match[1] == b"\xf6" and match[2] == b"\x85"  # testb $N,SLOT
        (reads if load or test else writes).append(match.start())
    return len(writes) == 1 and writes[0] < begin and code[writes[0]] == 0x89 and max(reads, default=0) > end


def _are_handed_on(code: bytes, type_: bytes, flags: bytes) -> bool:
    """Whether both are loaded close together, the flags into edx: GCType and GCCallbackFlags of a callback.

    What was looked up may have gone to a register that is kept, and something else from its own to the slot.
    """
    into_any = rb"\x8b[\x85\x8d\x95\x9d\xb5\xbd]" + re.escape(type_)
    between = b".{0,%d}?" % (_TOGETHER - 6)
    into_edx = _LOW + rb"\x8b\x95" + re.escape(flags)
    return re.search(into_any + between + into_edx, code, re.DOTALL) is not None


def _offset(slot: bytes) -> int:
    return int.from_bytes(slot, "little", signed=True)

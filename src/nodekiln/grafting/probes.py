"""GC probes for a binary that was built without any: notes at functions that V8 calls around each collection.

V8 calls Heap::CallGCPrologueCallbacks and ...EpilogueCallbacks whether or not a callback is registered. Their
parameters after the first two differ between releases, so they are found by how their names begin. No
instruction is added: a tracer puts its breakpoint on the first one. A compiler may copy such a function into
its caller and keep it for others, so that no collection comes by: a call is looked for as well, and without
one the probes are refused, as for all of Node 18, whose compiler copied both functions.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from nodekiln.core.elf.file import Elf, Symbol
from nodekiln.core.elf.notes import PROBES, Probe
from nodekiln.core.errors import PatchError

HEAD = 4
"""Bytes of an instruction that `takes_uprobe` wants: all of an arm64 one."""
_MAX_FUNCTION_SIZE = 2**20
"""Bytes of a function that are looked at; the largest that matters in a release has 6000."""

_X64_NEVER = frozenset(
    b"\x00"  # zeros: data, not code
    b"\x26\x2e\x36\x3e\xf0"  # prefixes es, cs, ss, ds, lock
    b"\x6c\x6d\x6e\x6f\xe4\xe5\xe6\xe7\xec\xed\xee\xef"  # ins, outs, in, out
    b"\xcc\xcd\xcf\xf1\xf4\xfa\xfb"  # int3, int, iret, int1, hlt, cli, sti
)
"""First bytes of what is no code, or takes no uprobe (Linux, arch/x86/kernel/uprobes.c)."""
_X64_NEVER_AFTER_0F = frozenset(b"\x05\x07\x0b\x34\x35")
"""syscall, sysret, ud2, sysenter, sysexit."""


def code_of(elf: Elf, symbol: Symbol) -> bytes:
    """Return a function's bytes; none if the file maps no code at its address."""
    offset = elf.offset_of(symbol.address)
    return b"" if offset is None else bytes(elf.data[offset : offset + min(symbol.size, _MAX_FUNCTION_SIZE)])


def calls(elf: Elf, symbol: Symbol, *, jumps: bool = False) -> Iterator[tuple[int, int]]:
    """Yield address and target of a function's direct calls, and of its jumps if `jumps`.

    On x64 also of what only looks like a call. That leads anywhere: one of 2**32 places for each byte of the
    function.
    """
    code = code_of(elf, symbol)
    if elf.machine == "x64":
        for call in re.finditer(rb"[\xe8\xe9](?=(.{4}))" if jumps else rb"\xe8(?=(.{4}))", code, re.DOTALL):
            at = symbol.address + call.start()
            yield at, at + 5 + int.from_bytes(call[1], "little", signed=True)
    else:
        kinds = (0b100101, 0b000101) if jumps else (0b100101,)  # bl, b
        for inside in range(0, len(code) - 3, 4):
            word = int.from_bytes(code[inside : inside + 4], "little")
            if word >> 26 in kinds:  # and a signed distance of 26 bits, in instructions
                at = symbol.address + inside
                yield at, at + 4 * ((word & 0x3FF_FFFF ^ 0x200_0000) - 0x200_0000)


def takes_uprobe(machine: str, head: bytes, address: int) -> bool:
    """Return True if the kernel accepts a uprobe on an x64 or arm64 instruction with these first HEAD bytes.

    Not on the interrupt, port and lock instructions of x64, nor on the exceptions and exclusive accesses of
    arm64; endbr64 and bti are as good as any.
    """
    if machine == "x64":
        return head[0] not in _X64_NEVER and not (head[0] == 0x0F and head[1] in _X64_NEVER_AFTER_0F)
    word = int.from_bytes(head, "little")
    undefined, exception, exclusive = word >> 16 == 0, word >> 24 == 0xD4, word & 0x3F00_0000 == 0x0800_0000
    return address % 4 == 0 and not (undefined or exception or exclusive)


PROVIDER = "node"

_FUNCTIONS = {
    "gc__start": ("Heap::CallGCPrologueCallbacks", "_ZN2v88internal4Heap23CallGCPrologueCallbacksE"),
    "gc__done": ("Heap::CallGCEpilogueCallbacks", "_ZN2v88internal4Heap23CallGCEpilogueCallbacksE"),
}
_COLLECT = "_ZN2v88internal4Heap14CollectGarbageE"
_PERFORM = "_ZN2v88internal4Heap24PerformGarbageCollectionE"
"""The functions that collect garbage and call the two: the first from 20 on, the second before 18."""

_MAX_COLLECTORS = 16
"""Releases have up to three, clones included. Each is searched, up to a megabyte; a crafted file could
name thousands."""

_ARGUMENTS = {"x64": "4@%esi 4@%edx 8@%rdi", "arm64": "4@x1 4@x2 8@x0"}
"""GCType, GCCallbackFlags, Heap*: where the System V and AArch64 procedure call standards put the second,
third and first argument. arm64 names whole registers because bcc, hence bpftrace, knows no w1; the size 4
cuts them.
"""

_INCREMENTAL = {
    "gc__start": (
        "Heap::InvokeIncrementalMarkingPrologueCallbacks",
        "_ZN2v88internal4Heap41InvokeIncrementalMarkingPrologueCallbacksEv",
    ),
    "gc__done": (
        "Heap::InvokeIncrementalMarkingEpilogueCallbacks",
        "_ZN2v88internal4Heap41InvokeIncrementalMarkingEpilogueCallbacksEv",
    ),
}
"""They call the functions above with the type 8 and no flags. In 22.0 and 22.1 the compiler has copied the
first of those into the first of these, which therefore gets a second probe of that name."""
_INCREMENTAL_ARGUMENTS = {"x64": "4@$8 4@$0 8@%rdi", "arm64": "4@8 4@0 8@x0"}

_COLD = ".cold"
"""Suffix of the unlikely part of a function, which GCC splits off; it is no entry point."""


def gc_probes(elf: Elf) -> tuple[Probe, ...]:
    """node:gc__start and node:gc__done, with GCType, GCCallbackFlags and the Heap's address as arguments.

    Raises PatchError if the binary is for another processor than x64 and arm64, has probes already,
    or hasn't exactly one such function each, in .text, mapped to be executed, that begins with an instruction
    on which the kernel takes a uprobe; ElfError where the file is damaged. PatchError also where
    no function that collects garbage calls them.
    """
    if elf.machine not in _ARGUMENTS:
        known = " and ".join(_ARGUMENTS)
        raise _refusal(elf, f"it is for {elf.machine}, and argument places are known for {known}")
    if any(section.name == PROBES for section in elf.sections):
        raise _refusal(elf, "it has probes already")
    starts = [start for _, start in _FUNCTIONS.values()]
    found = elf.find_symbols([*starts, _COLLECT, _PERFORM, *(name for _, name in _INCREMENTAL.values())])
    places = {name: _place(elf, function, found[start]) for name, (function, start) in _FUNCTIONS.items()}
    if len(set(places.values())) < len(places):
        raise _refusal(elf, "the linker folded the two functions into one")
    collectors = found[_COLLECT] + found[_PERFORM]
    if len(collectors) > _MAX_COLLECTORS:
        raise _refusal(elf, f"it names {len(collectors)} functions that collect garbage")
    called = {target for symbol in collectors for _, target in calls(elf, symbol)}
    uncalled = [function for name, (function, _) in _FUNCTIONS.items() if places[name] not in called]
    if uncalled:
        raise _refusal(
            elf,
            f"Heap::CollectGarbage does not call {uncalled[0]}, which the compiler has inlined (as in Node"
            " 18), so its probe would never fire",
        )
    return (
        *(
            Probe(provider=PROVIDER, name=name, address=address, arguments=_ARGUMENTS[elf.machine])
            for name, address in places.items()
        ),
        *_incremental_probes(elf, places, found),
    )


def _incremental_probes(
    elf: Elf, places: Mapping[str, int], found: Mapping[str, tuple[Symbol, ...]]
) -> Iterator[Probe]:
    """Yield a probe for each function of incremental marking that does not call the one with the probe."""
    for name, (function, symbol_name) in _INCREMENTAL.items():
        entries = _entries(found[symbol_name])
        if not entries:  # before 20; or copied into its only caller
            continue
        address = _place(elf, function, found[symbol_name])
        if places[name] not in {target for _, target in calls(elf, entries[0], jumps=True)}:
            arguments = _INCREMENTAL_ARGUMENTS[elf.machine]
            yield Probe(provider=PROVIDER, name=name, address=address, arguments=arguments)


def _entries(symbols: tuple[Symbol, ...]) -> list[Symbol]:
    return [symbol for symbol in symbols if not symbol.name.endswith(_COLD)]


def _place(elf: Elf, function: str, symbols: tuple[Symbol, ...]) -> int:
    """Return the function's address after checking everything that a tracer relies on."""
    entries = _entries(symbols)
    if not entries:
        raise _refusal(elf, f"it has no symbol for {function} (a stripped 24 or later has none)")
    if len(entries) > 1:
        raise _refusal(elf, f"it has {len(entries)} symbols for {function}: calls may go to either")
    symbol = entries[0]
    if "." in symbol.name:
        raise _refusal(
            elf, f"{function} is a clone whose arguments the compiler may have moved: {symbol.name!r}"
        )
    text = symbol.section
    if not symbol.is_function or text is None or text.name != ".text":
        raise _refusal(elf, f"{function} is not a function in .text")
    inside = symbol.address - text.address
    offset = elf.offset_of(symbol.address)
    if not 0 <= inside <= text.stored - HEAD or offset != text.offset + inside:
        raise _refusal(elf, f"{function} is at {symbol.address:#x}, where the file maps no code")
    if not takes_uprobe(elf.machine, bytes(elf.data[offset : offset + HEAD]), symbol.address):
        raise _refusal(elf, f"{function} begins with an instruction that can't be probed")
    return symbol.address


def _refusal(elf: Elf, why: str) -> PatchError:
    return PatchError(
        f"{elf.file} can't get GC probes: {why}.",
        remedy="Add --no-probes to graft it without them; ./inv build adds probes at compile time.",
    )

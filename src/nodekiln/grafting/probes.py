"""GC probes for a binary that was built without any: notes at functions that V8 calls around each collection.

V8 calls Heap::CallGCPrologueCallbacks and ...EpilogueCallbacks whether or not a callback is registered. Their
parameters after the first two differ between releases, so they are found by how their names begin. No
instruction is added: a tracer puts its breakpoint on the first one. A compiler may copy such a function into
its caller and keep it for others, so that no collection comes by: a call is looked for as well, and without
one the probes go into the caller (`collector`).
"""

from __future__ import annotations

from dataclasses import dataclass

from nodekiln.core.elf.file import Elf, Symbol
from nodekiln.core.elf.notes import PROBES, Probe
from nodekiln.core.errors import PatchError
from nodekiln.grafting import collector
from nodekiln.grafting.machinecode import HEAD, calls, takes_uprobe

PROVIDER = "node"

_FUNCTIONS = {
    "gc__start": ("Heap::CallGCPrologueCallbacks", "_ZN2v88internal4Heap23CallGCPrologueCallbacksE"),
    "gc__done": ("Heap::CallGCEpilogueCallbacks", "_ZN2v88internal4Heap23CallGCEpilogueCallbacksE"),
}
_COLLECT = "_ZN2v88internal4Heap14CollectGarbageE"
_PERFORM = "_ZN2v88internal4Heap24PerformGarbageCollectionE"
"""The functions that collect garbage and call the two: the first from 20 on, the second before 18."""

_MOST_COLLECTORS = 16
"""Releases have up to three, clones included. Each is searched, up to a megabyte; a crafted file could
name thousands."""

_ARGUMENTS = {"x64": "4@%esi 4@%edx 8@%rdi", "arm64": "4@x1 4@x2 8@x0"}
"""GCType, GCCallbackFlags, Heap*: where the System V and AArch64 procedure call standards put the second,
third and first argument. arm64 names whole registers because bcc, hence bpftrace, knows no w1; the size 4
cuts them.
"""

_COLD = ".cold"
"""The end of a name that GCC gives to the unlikely part of a function, which is no entry of it."""

_AT_FUNCTIONS = (
    "They fire for nested collections and for types 8 and 16 too, which a registered callback never sees."
)
_IN_COLLECTOR = (
    "They stand inside V8's pause, after the callbacks of its beginning and before those of its end, and fire"
    " for types 1, 2 and 4 only."
)


@dataclass(frozen=True, slots=True)
class GcProbes:
    """The notes to add; `remark` says when they fire."""

    probes: tuple[Probe, ...]
    remark: str


def gc_probes(elf: Elf) -> GcProbes:
    """node:gc__start and node:gc__done, with GCType, GCCallbackFlags and the Heap's address as arguments.

    Raises PatchError where the binary is for another processor than x64 and arm64, tells of probes already,
    or hasn't exactly one such function each, in .text, mapped to be executed, that begins with an instruction
    on which the kernel takes a uprobe; ElfError where the file is damaged. PatchError also where no
    collection comes by, neither there nor where Heap::CollectGarbage holds them copied.
    """
    if elf.machine not in _ARGUMENTS:
        known = " and ".join(_ARGUMENTS)
        raise _refusal(elf, f"it is for {elf.machine}, and argument places are known for {known}")
    if any(section.name == PROBES for section in elf.sections):
        raise _refusal(elf, "it has probes already")
    starts = [start for _, start in _FUNCTIONS.values()]
    found = elf.find_symbols([*starts, _COLLECT, _PERFORM])
    places = {name: _place(elf, function, found[start]) for name, (function, start) in _FUNCTIONS.items()}
    if len(set(places.values())) < len(places):
        raise _refusal(elf, "the linker folded the two functions into one")
    collectors = found[_COLLECT] + found[_PERFORM]
    if len(collectors) > _MOST_COLLECTORS:
        raise _refusal(elf, f"it names {len(collectors)} functions that collect garbage")
    called = {target for symbol in collectors for _, target in calls(elf, symbol)}
    uncalled = [function for name, (function, _) in _FUNCTIONS.items() if places[name] not in called]
    if not uncalled:
        return GcProbes(
            tuple(_probe(name, address, _ARGUMENTS[elf.machine]) for name, address in places.items()),
            _AT_FUNCTIONS,
        )
    around = elf.find_symbols([collector.BEFORE, collector.AFTER])
    sites = collector.find_sites(elf, *map(_only, (found[_COLLECT], *around.values())))
    if isinstance(sites, str):
        raise _refusal(
            elf,
            f"Heap::CollectGarbage does not call {uncalled[0]} (the compiler copied it there), "
            f"so a probe would stay silent, and {sites}",
        )
    pairs = zip(_FUNCTIONS, sites, strict=True)
    return GcProbes(tuple(_probe(name, site.address, site.arguments) for name, site in pairs), _IN_COLLECTOR)


def _probe(name: str, address: int, arguments: str) -> Probe:
    return Probe(provider=PROVIDER, name=name, address=address, arguments=arguments)


def _entries(symbols: tuple[Symbol, ...]) -> list[Symbol]:
    return [symbol for symbol in symbols if not symbol.name.endswith(_COLD)]


def _only(symbols: tuple[Symbol, ...]) -> Symbol | None:
    """The function, where there is one of that name and no clone of it."""
    entries = _entries(symbols)
    return entries[0] if len(entries) == 1 and "." not in entries[0].name else None


def _place(elf: Elf, function: str, symbols: tuple[Symbol, ...]) -> int:
    """The function's address, once everything that a tracer relies on holds."""
    entries = _entries(symbols)
    if not entries:
        raise _refusal(elf, f"it names no {function} (a stripped 24 or later names none)")
    if len(entries) > 1:
        raise _refusal(elf, f"it names {len(entries)} of {function}: calls may go to either")
    symbol = entries[0]
    if "." in symbol.name:
        raise _refusal(
            elf, f"{function} is a clone whose arguments the compiler may have moved: {symbol.name!r}"
        )
    text = symbol.section
    if not symbol.is_function or text is None or text.name != ".text":
        raise _refusal(elf, f"{function} is no function in .text")
    inside = symbol.address - text.address
    offset = elf.offset_of(symbol.address)
    if not 0 <= inside <= text.stored - HEAD or offset != text.offset + inside:
        raise _refusal(elf, f"{function} lies at {symbol.address:#x}, where the file maps no code")
    if not takes_uprobe(elf.machine, bytes(elf.data[offset : offset + HEAD]), symbol.address):
        raise _refusal(elf, f"{function} begins with an instruction that can't be probed")
    return symbol.address


def _refusal(elf: Elf, why: str) -> PatchError:
    return PatchError(
        f"{elf.file} can't get GC probes: {why}.",
        remedy="Add --no-probes to graft it without them; ./inv build puts them into a build.",
    )

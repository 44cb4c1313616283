"""Find the instructions that name the address and the length of each module's text.

Node's generated node_javascript.cc has one object per module, which static initializers fill in: from 20.x on
`NAME_resource` (address at +16, length at +24), before that an entry on the stack, whose text has the symbol
`NAME_raw`. Both are constants in the instructions:

- x64: `movq $constant, place`, in position-independent code `lea text(%rip), reg; mov reg, place`.
- arm64: `adrp` and `add` for the address, `mov` and `movk` for the length, `stp` of both.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

from nodekiln.core.elf.file import Elf
from nodekiln.core.errors import PatchError

_PREFIX = "_ZN4node8builtinsL"
_OBJECT = re.compile(_PREFIX + r"\d+(\w+?)_(raw|resource)E")
_INITIALIZERS = (
    "_Z41__static_initialization_and_destruction_0",
    "_GLOBAL__sub_I__ZN4node8builtins",
    "_GLOBAL__sub_I_node_javascript",
)
_MAX_INITIALIZERS = 2**12
_MAX_CODE = 2**22
"""Bytes of all initializers; those of 24.21.0 have 0.4 MB."""

_RESOURCE_ADDRESS, _RESOURCE_LENGTH = 16, 24
_ENTRY_LENGTH, _WIDE_ENTRY_LENGTH = 16, 8
"""Bytes from an entry's address to its length. Behind the address of a text of one byte per character is a 0,
in the place of the other kind of address."""

Place = tuple[str, int]
"""Where an instruction stores to: ("", address), or a register and the distance from it."""


@dataclass(frozen=True, slots=True)
class Absolute:
    """A 32-bit constant at `at` in the file."""

    at: int

    def encode(self, value: int) -> Iterator[tuple[int, bytes]]:
        """Yield the bytes, with their place, that make it `value`."""
        if not 0 <= value < 2**31:
            raise PatchError(f"{value:#x} does not fit into 32 bits.")
        yield self.at, value.to_bytes(4, "little")


@dataclass(frozen=True, slots=True)
class Relative:
    """A 32-bit distance at `at` in the file, from the address `origin`."""

    at: int
    origin: int

    def encode(self, value: int) -> Iterator[tuple[int, bytes]]:
        """Yield the bytes, with their place, that make it point to `value`."""
        distance = value - self.origin
        if not -(2**31) <= distance < 2**31:
            raise PatchError(f"{value:#x} is too far away.")
        yield self.at, distance.to_bytes(4, "little", signed=True)


@dataclass(frozen=True, slots=True)
class Site:
    """The constants of one module in the code: `address` and `length` of its text.

    `length` counts characters, of which a wide text has two bytes each.
    """

    address: int
    length: int
    address_field: Absolute | Relative | PageAddress
    length_field: Absolute | Halves

    @property
    def instructions(self) -> tuple[int, ...]:
        """Places in the file that `encode` changes."""
        address, length = self.address_field, self.length_field
        return (
            address.adrp if isinstance(address, PageAddress) else address.at,
            length.low if isinstance(length, Halves) else length.at,
        )

    def encode(self, address: int, length: int) -> tuple[tuple[int, bytes], ...]:
        """Return what to write where in the file for another address and length."""
        page, halves = self.address_field, self.length_field
        if isinstance(page, PageAddress) and isinstance(halves, Halves):
            return tuple(_encode_arm64(page, halves, address, length))
        if isinstance(page, PageAddress) or isinstance(halves, Halves):
            raise TypeError("a site is for one processor")
        return (*page.encode(address), *halves.encode(length))


@dataclass(frozen=True, slots=True)
class PageAddress:
    """`adrp` at `adrp` in the file, which runs at the address `origin`, then `add`, if any, at `add`."""

    adrp: int
    origin: int
    add: int | None
    register: int


@dataclass(frozen=True, slots=True)
class Halves:
    """`mov` (movz) at `low` in the file and, if the number has more than 16 bits, `movk` at `high`."""

    low: int
    high: int | None
    register: int


_PAGE = 0x1000
_MOVZ, _MOVK_16, _ADRP, _ADD, _NOP = 0xD280_0000, 0xF2A0_0000, 0x9000_0000, 0x9100_0000, 0xD503_201F


def _encode_arm64(
    page: PageAddress, halves: Halves, address: int, length: int
) -> Iterator[tuple[int, bytes]]:
    """Yield the instructions. `movk` takes the place of `add` if there is none: the address is a page's."""
    if address % _PAGE:
        raise PatchError(f"{address:#x} is not the address of a page.")
    if not 0 <= length < 2**32:
        raise PatchError(f"{length} does not fit into 32 bits.")
    distance = address // _PAGE - page.origin // _PAGE
    if not -(2**20) <= distance < 2**20:
        raise PatchError(f"{address:#x} is too far away.")
    adrp = _ADRP | (distance & 3) << 29 | (distance >> 2 & 0x7_FFFF) << 5 | page.register
    movz = _MOVZ | (length & 0xFFFF) << 5 | halves.register
    movk = _MOVK_16 | length >> 16 << 5 | halves.register
    yield page.adrp, _instruction(adrp)
    if page.add is None:
        raise PatchError("it is moved already.")
    if halves.high is not None or length < 2**16:
        yield page.add, _instruction(_NOP)
        yield halves.low, _instruction(movz)
        if halves.high is not None:
            yield halves.high, _instruction(movk)
    else:
        first, second = sorted((page.add, halves.low))
        if first != halves.low and second - first > 4:  # the register may be in use before `mov`
            raise PatchError("its length has no room for more than 16 bits.")
        yield first, _instruction(movz)
        yield second, _instruction(movk)


def _instruction(word: int) -> bytes:
    return word.to_bytes(4, "little")


@dataclass(frozen=True, slots=True)
class _Store:
    value: int
    field: Absolute | Relative | PageAddress | Halves


def object_name(module: str) -> str:
    """Return the name that node_javascript.cc gives a module's object: internal_v8_x for internal/v8-x."""
    return re.sub(r"[^A-Za-z0-9]", "_", module)


def find_sites(elf: Elf) -> Mapping[str, Site]:
    """Return the sites of a binary's modules, by the names of their objects.

    A module whose address or length is not stored exactly once is left out. There are none at all if the
    file has no symbols or is for a processor other than x64 and arm64.
    """
    scan = {"x64": _scan_x64, "arm64": _scan_arm64}.get(elf.machine)
    if scan is None:
        return {}
    found = elf.find_symbols((_PREFIX, *_INITIALIZERS))
    stores: dict[Place, list[_Store]] = defaultdict(list)
    functions = {
        (symbol.address, symbol.size): symbol
        for start in _INITIALIZERS
        for symbol in found[start][:_MAX_INITIALIZERS]
        if symbol.is_function
    }
    scopes: list[dict[Place, list[_Store]]] = []
    if sum(symbol.size for symbol in functions.values()) > _MAX_CODE:
        return {}
    for symbol in functions.values():
        scopes.append(defaultdict(list))
        offset = elf.offset_of(symbol.address)
        code = b"" if offset is None else bytes(elf.data[offset : offset + symbol.size])
        for place, store in scan(code, symbol.address, offset or 0):
            (stores if not place[0] else scopes[-1])[place].append(store)
    objects: dict[str, dict[str, list[int]]] = {"resource": defaultdict(list), "raw": defaultdict(list)}
    for symbol in found[_PREFIX]:
        if match := _OBJECT.fullmatch(symbol.name):
            objects[match[2]][match[1]].append(symbol.address)
    sites = {}
    for name, addresses in (objects["raw"] | objects["resource"]).items():
        if len(addresses) == 1:
            [address] = addresses
            is_resource = name in objects["resource"]
            site = _resource_site(stores, address) if is_resource else _entry_site(scopes, address)
            if site is not None:
                sites[name] = site
    return _unshared(sites)


def _unshared(sites: Mapping[str, Site]) -> Mapping[str, Site]:
    """Leave out sites that share an instruction, as a register may be stored twice."""
    users = Counter(at for site in sites.values() for at in site.instructions)
    return {name: site for name, site in sites.items() if all(users[at] == 1 for at in site.instructions)}


def _resource_site(stores: Mapping[Place, list[_Store]], resource: int) -> Site | None:
    address = stores.get(("", resource + _RESOURCE_ADDRESS), [])
    length = stores.get(("", resource + _RESOURCE_LENGTH), [])
    return _site(address, length)


def _entry_site(scopes: list[dict[Place, list[_Store]]], text: int) -> Site | None:
    places = [
        (scope, place, store)
        for scope in scopes
        for place, each in scope.items()
        for store in each
        if store.value == text
    ]
    if len(places) != 1:
        return None
    scope, (base, distance), store = places[0]
    wide = [each for each in scope.get((base, distance + _WIDE_ENTRY_LENGTH), []) if each.value]
    return _site([store], wide or scope.get((base, distance + _ENTRY_LENGTH), []))


def _site(addresses: list[_Store], lengths: list[_Store]) -> Site | None:
    if len(addresses) != 1 or len(lengths) != 1:
        return None
    address, length = addresses[0], lengths[0]
    if isinstance(address.field, Halves) or not isinstance(length.field, Absolute | Halves):
        return None
    if isinstance(address.field, PageAddress) != isinstance(length.field, Halves):
        return None
    return Site(address.value, length.value, address.field, length.field)


_X64 = re.compile(
    rb"\x48\xc7(?:\x05(?P<rip>....)|\x85(?P<rbp>....)|\x45(?P<rbp8>.)|\x84\x24(?P<rsp>....)|\x44\x24(?P<rsp8>.))"
    rb"(?P<constant>....)"
    rb"|[\x48\x4c]\x8d[\x05\x0d\x15\x1d\x25\x2d\x35\x3d](?P<lea>....)"
    rb"|[\x48\x4c]\x89(?:[\x05\x0d\x15\x1d\x25\x2d\x35\x3d](?P<to>....)"
    rb"|[\x85\x8d\x95\x9d\xa5\xad\xb5\xbd](?P<torbp>....)|[\x45\x4d\x55\x5d\x65\x6d\x75\x7d](?P<torbp8>.)"
    rb"|[\x84\x8c\x94\x9c\xa4\xac\xb4\xbc]\x24(?P<torsp>....)|[\x44\x4c\x54\x5c\x64\x6c\x74\x7c]\x24(?P<torsp8>.))",
    re.DOTALL,
)
"""Stores of a constant, `lea` of an address, and stores of a register: through rip, rbp and rsp."""


def _scan_x64(code: bytes, address: int, offset: int) -> Iterator[tuple[Place, _Store]]:
    registers: dict[int, _Store] = {}
    for match in _X64.finditer(code):
        end = address + match.end()
        kind = match.lastgroup or ""
        if kind == "lea":
            value = end + _signed(match["lea"])
            registers[_x64_register(match[0])] = _Store(value, Relative(offset + match.start("lea"), end))
        elif kind == "constant":
            base = next(name for name in ("rip", "rbp", "rbp8", "rsp", "rsp8") if match[name] is not None)
            field = Absolute(offset + match.start("constant"))
            yield (
                _x64_place(base, match[base], end),
                _Store(int.from_bytes(match["constant"], "little"), field),
            )
        elif (store := registers.get(_x64_register(match[0]))) is not None:
            yield _x64_place(kind.removeprefix("to") or "rip", match[kind], end), store


def _x64_register(instruction: bytes) -> int:
    return (instruction[0] & 4) << 1 | instruction[2] >> 3 & 7


def _x64_place(base: str, distance: bytes, end: int) -> Place:
    away = _signed(distance)
    return ("", end + away) if base == "rip" else (base.removesuffix("8"), away)


def _signed(number: bytes) -> int:
    return int.from_bytes(number, "little", signed=True)


@dataclass(frozen=True, slots=True)
class _Known:
    """The content of a register, and the instructions that made it, if they can be changed."""

    value: int
    field: PageAddress | Halves | None = None


_SP = 31
_CALLER_SAVED = range(19)


def _scan_arm64(code: bytes, address: int, offset: int) -> Iterator[tuple[Place, _Store]]:
    """Follow registers through code that runs from top to bottom, as initializers do."""
    known: dict[int, _Known] = {}
    for inside in range(0, len(code) - 3, 4):
        word = int.from_bytes(code[inside : inside + 4], "little")
        at, pc = offset + inside, address + inside
        target, source = word & 31, word >> 5 & 31
        if word & 0x9F00_0000 == _ADRP:
            distance = (word >> 5 & 0x7_FFFF) << 2 | word >> 29 & 3
            distance -= (distance & 1 << 20) << 1
            known[target] = _Known((pc // _PAGE + distance) * _PAGE, PageAddress(at, pc, None, target))
        elif word & 0xFF00_0000 == _ADD and source in known:
            known[target] = _add_immediate(word, known[source], at, target, source)
        elif word & 0xFF00_0000 == 0xD100_0000 and source in known:  # sub
            known[target] = _Known(known[source].value - _immediate(word))
        elif word & 0x7FE0_0000 == 0x5280_0000:  # movz, no shift
            known[target] = _Known(word >> 5 & 0xFFFF, Halves(at, None, target))
        elif word & 0x7FE0_0000 == 0x72A0_0000 and target in known:  # movk, lsl 16
            low = known[target]
            field = Halves(low.field.low, at, target) if isinstance(low.field, Halves) else None
            known[target] = _Known(low.value & 0xFFFF | (word >> 5 & 0xFFFF) << 16, field)
        elif word >> 26 == 0b100101:  # bl
            for register in _CALLER_SAVED:
                known.pop(register, None)
        elif word & 0x0A00_0000 == 0x0800_0000:  # loads and stores
            yield from _access(word, known)
        elif word & 0x7E00_0000 != 0x3400_0000:  # not cbz, cbnz: what may write a register
            known.pop(target, None)


def _immediate(word: int) -> int:
    return (word >> 10 & 0xFFF) << (12 if word >> 22 & 1 else 0)


def _add_immediate(word: int, from_: _Known, at: int, target: int, source: int) -> _Known:
    field = None
    page = from_.field
    if isinstance(page, PageAddress) and page.add is None and target == source and not word >> 22 & 1:
        field = replace(page, add=at)
    return _Known(from_.value + _immediate(word), field)


def _access(word: int, known: dict[int, _Known]) -> Iterator[tuple[Place, _Store]]:
    """Yield what `str` and `stp` of 64-bit registers store; forget what loads change."""
    base, pair = word >> 5 & 31, word & 0x3A00_0000 == 0x2800_0000
    if pair:
        registers, step, mode = [word & 31, word >> 10 & 31], 4 << (word >> 30), word >> 23 & 3
        if not word >> 26 & 1:
            step = 8 if word >> 31 else 4
        distance, stores = _signed_bits(word >> 15, 7) * step, not word >> 22 & 1
    elif word & 0x3B20_0000 == 0x3800_0000:
        registers, mode = [word & 31], word >> 10 & 3
        distance, stores = _signed_bits(word >> 12, 9), word >> 22 & 3 == 0
    elif word & 0x3B00_0000 == 0x3900_0000:
        registers, mode = [word & 31], 0
        distance, stores = (word >> 10 & 0xFFF) * 8, word >> 22 & 3 == 0
    else:
        known.clear()  # atomic, or unknown
        return
    writes_back = mode in (1, 3)  # after and before the access
    if stores and word >> 26 & 1 == 0 and word >> 30 in ((2,) if pair else (3,)):
        start = 0 if mode == 1 and writes_back else distance
        for number, register in enumerate(registers):
            content = known.get(register)
            if content is not None and content.field is not None and (base == _SP or base in known):
                place = ("sp", start) if base == _SP else ("", known[base].value + start)
                yield (place[0], place[1] + 8 * number), _Store(content.value, content.field)
    elif not stores and word >> 26 & 1 == 0:
        for register in registers:
            known.pop(register, None)
    if writes_back and base in known:
        known[base] = _Known(known[base].value + distance)


def _signed_bits(number: int, bits: int) -> int:
    number &= (1 << bits) - 1
    return number - (1 << bits) if number >> bits - 1 else number

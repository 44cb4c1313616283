"""What can be told of a function's machine code by its bytes: direct calls, and where a uprobe can stand."""

from __future__ import annotations

import re
from collections.abc import Iterator

from nodekiln.core.elf.file import Elf, Symbol

HEAD = 4
"""Bytes of an instruction that `takes_uprobe` wants: all of an arm64 one."""
_LARGEST = 2**20
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
    """A function's bytes, none where the file maps no code at its address."""
    offset = elf.offset_of(symbol.address)
    return b"" if offset is None else bytes(elf.data[offset : offset + min(symbol.size, _LARGEST)])


def calls(elf: Elf, symbol: Symbol) -> Iterator[tuple[int, int]]:
    """Address and target of a function's direct calls; on x64 also of what only looks like a call.

    That leads anywhere: one of 2**32 places for each byte of the function.
    """
    code = code_of(elf, symbol)
    if elf.machine == "x64":
        for call in re.finditer(rb"\xe8(?=(.{4}))", code, re.DOTALL):
            at = symbol.address + call.start()
            yield at, at + 5 + int.from_bytes(call[1], "little", signed=True)
    else:
        for inside in range(0, len(code) - 3, 4):
            word = int.from_bytes(code[inside : inside + 4], "little")
            if word >> 26 == 0b100101:  # bl, and a signed distance of 26 bits, in instructions
                at = symbol.address + inside
                yield at, at + 4 * ((word & 0x3FF_FFFF ^ 0x200_0000) - 0x200_0000)


def takes_uprobe(machine: str, head: bytes, address: int) -> bool:
    """Whether the kernel puts a uprobe on an instruction of x64 or arm64, by its first HEAD bytes.

    Not on the interrupt, port and lock instructions of x64, nor on the exceptions and exclusive accesses of
    arm64; endbr64 and bti are as good as any.
    """
    if machine == "x64":
        return head[0] not in _X64_NEVER and not (head[0] == 0x0F and head[1] in _X64_NEVER_AFTER_0F)
    word = int.from_bytes(head, "little")
    undefined, exception, exclusive = word >> 16 == 0, word >> 24 == 0xD4, word & 0x3F00_0000 == 0x0800_0000
    return address % 4 == 0 and not (undefined or exception or exclusive)

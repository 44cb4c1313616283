"""Give modules new texts of any length: in a segment of their own, to which the code then points."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from nodekiln.core.edit import Edit
from nodekiln.core.elf.file import Elf
from nodekiln.core.elf.notes import Rewritten
from nodekiln.core.elf.segment import find_room
from nodekiln.core.errors import PatchError
from nodekiln.grafting.builtins import Builtin
from nodekiln.grafting.code_cache import reject_caches

_PAGE = 0x1000
"""A text begins on a page, so that arm64 code needs one instruction for its address."""


@dataclass(frozen=True, slots=True)
class Relocation:
    """The texts that move: the new segment's content, and the instructions that change."""

    content: bytes = b""
    rewritten: tuple[Rewritten, ...] = ()
    edits: tuple[Edit, ...] = ()
    """The edits whose texts move."""


NOTHING_MOVED = Relocation()


def relocate(elf: Elf, builtins: Mapping[str, Builtin], edits: Iterable[Edit]) -> Relocation:
    """Return what changes if these modules get the edited texts.

    Raises PatchError if the place of a text can't be changed, or a character is not in the text's encoding.
    """
    room = find_room(elf)
    content = bytearray()
    rewritten: list[Rewritten] = []
    made: list[Edit] = []
    same_length: set[int] = set()
    for edit in edits:
        builtin = builtins[edit.path]
        if builtin.site is None:
            raise PatchError(
                f"{elf.file}: {edit.path}: the instructions that name the address and length of its text were"
                " not found exactly once, so it can't be moved.",
                remedy="./inv build takes the same options.",
            )
        units = _units(edit.after, builtin)
        if units == builtin.site.length:
            same_length.add(units)
        content += bytes(-len(content) % _PAGE)
        try:
            operands = builtin.site.encode(room.address + len(content), units)
        except PatchError as error:
            raise PatchError(f"{elf.file}: {edit.path}: its text can't be moved: {error.message}") from None
        rewritten += (
            Rewritten(f"place of {edit.path}", at, bytes(elf.data[at : at + len(code)]), code)
            for at, code in operands
        )
        content += _encoded(edit.after, builtin) + b"\0\0"
        made.append(edit)
    rewritten += reject_caches(elf.data, same_length)
    return Relocation(bytes(content), tuple(rewritten), tuple(made))


def _units(text: bytes, builtin: Builtin) -> int:
    return len(_encoded(text, builtin)) // (2 if builtin.wide else 1)


def _encoded(text: bytes, builtin: Builtin) -> bytes:
    try:
        return text.decode().encode("utf-16-le" if builtin.wide else "latin-1")
    except UnicodeDecodeError:
        raise PatchError(f"{builtin.path}: the new text is not UTF-8.") from None
    except UnicodeEncodeError as error:
        character = error.object[error.start]
        raise PatchError(
            f"{builtin.path}: the binary has one byte for each character of this module, and the new text"
            f" contains {character!a}.",
            remedy="Write it as an escape sequence, or build: ./inv build takes the same options.",
        ) from None

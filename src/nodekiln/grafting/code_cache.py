"""Make V8 reject the built-in code cache of a module, so that its new text is compiled.

V8 compares the length of a text with the one in the cache, not the text. So a text of another length needs
nothing, and one of the same length would run with the code of the old.
"""

from __future__ import annotations

import struct
from collections import defaultdict
from collections.abc import Collection

from nodekiln.core.elf.file import Buffer
from nodekiln.core.elf.notes import Rewritten
from nodekiln.core.errors import PatchError

_MAGIC = b"\xde\xc0"
"""The upper half of the magic number, in the order of the file."""
_HEADER = struct.Struct("<III")
"""Magic number (0xC0DE....), hash of V8's version, source hash: the length, and flags in the upper bits."""
_LENGTH = 2**29 - 1
_FEW = 100
"""Headers of one V8 version below which they are not taken for the code cache: a release has over 300."""


def reject_caches(data: Buffer, lengths: Collection[int]) -> tuple[Rewritten, ...]:
    """Return what makes V8 reject the caches of all texts that have one of these lengths.

    A text without a cache needs nothing. Raises PatchError if the binary's code cache is not found.
    """
    if not lengths:
        return ()
    versions: dict[tuple[int, int], list[tuple[int, int]]] = defaultdict(list)
    place = -1
    while (place := data.find(_MAGIC, place + 1)) >= 0:
        if 2 <= place <= len(data) - _HEADER.size:
            magic, version, source = _HEADER.unpack_from(data, place - 2)
            versions[magic, version].append((place + 6, source))
    headers = max(versions.values(), key=len, default=[])
    if len(headers) < _FEW:
        raise PatchError("its code cache was not found, and would be used for a text of the same length.")
    return tuple(
        Rewritten(
            "length of a text in the code cache",
            place,
            source.to_bytes(4, "little"),
            (source & ~_LENGTH).to_bytes(4, "little"),
        )
        for place, source in headers
        if source & _LENGTH in lengths
    )

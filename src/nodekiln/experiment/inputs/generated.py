"""Data that compresses about as little as video does, the same for the same seed on every machine."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

_BLOCK = 64 * 1024
_BLANK = 512
"""Zeros at the head of each block, as containers have tables and padding between frames: gzip leaves 99.3%.
H.264 keeps 98 to 100%."""
_BLOCKS = 64
"""Blocks made at once: 4 MiB."""


def chunks(size: int, seed: int) -> Iterator[bytes]:
    """`size` bytes in pieces. SHAKE128, as it is defined for all time: Python's random may change."""
    left = size
    number = 0
    while left > 0:
        stream = hashlib.shake_128(f"nodekiln {seed} {number}".encode()).digest(_BLOCKS * (_BLOCK - _BLANK))
        view = memoryview(stream)
        piece = b"".join(
            bytes(_BLANK) + view[start : start + _BLOCK - _BLANK]
            for start in range(0, len(stream), _BLOCK - _BLANK)
        )[:left]
        left -= len(piece)
        number += 1
        yield piece

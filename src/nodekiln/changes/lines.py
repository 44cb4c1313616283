"""What a line is: bytes up to a \\n."""

from __future__ import annotations

from io import BytesIO


def split(content: bytes) -> list[bytes]:
    """Lines, each with its \\n, which the last may lack; bytes.splitlines() would end them at \\r too."""
    return BytesIO(content).readlines()

"""Whether a workload's output is its input again: the same bytes, or gzip of them."""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

from nodekiln.core.files import hash_file

_CHUNK = 4 * 2**20
_GZIP = b"\x1f\x8b"
_GZIP_WINDOW = 16 + zlib.MAX_WBITS

OnBytes = Callable[[int], None]


def find_loss(output: Path, sha256: str, on_bytes: OnBytes = lambda _: None) -> str:
    """What is wrong with an output whose input has that hash; "" where nothing is."""
    if not output.is_file():  # a pipe would wait for ever
        return "the output is no file" if output.exists() else "there is no output"
    try:
        if hash_file(output, on_bytes) == sha256:
            return ""
        with output.open("rb") as file:
            is_packed = file.read(2) == _GZIP
        if not is_packed:
            return f"the output ({output.stat().st_size} bytes) is neither the input nor gzip of it"
        return (
            ""
            if _hash(_unpacked(_chunks(output, on_bytes))) == sha256
            else "the output unpacks to other bytes than the input's"
        )
    except (zlib.error, EOFError) as error:
        return f"the output does not unpack: {error}"


def _hash(chunks: Iterator[bytes]) -> str:
    digest = hashlib.sha256()
    for chunk in chunks:
        digest.update(chunk)
    return digest.hexdigest()


def _chunks(path: Path, on_bytes: OnBytes) -> Iterator[bytes]:
    read = 0
    with path.open("rb", buffering=0) as file:
        while chunk := file.read(_CHUNK):
            read += len(chunk)
            yield chunk
            on_bytes(read)


def _unpacked(chunks: Iterator[bytes]) -> Iterator[bytes]:
    """Of gzip files, one after the other, a chunk at a time. Raises EOFError, zlib.error."""
    unpacker = zlib.decompressobj(_GZIP_WINDOW)
    for chunk in chunks:
        rest = chunk
        while rest:
            if unpacker.eof:
                unpacker = zlib.decompressobj(_GZIP_WINDOW)
            yield unpacker.decompress(rest, _CHUNK)
            rest = unpacker.unused_data if unpacker.eof else unpacker.unconsumed_tail
    if not unpacker.eof:
        raise EOFError("it ends too early")

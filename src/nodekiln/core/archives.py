"""Read untrusted tar archives: in bounded memory, with one error type for every kind of damage.

Yields members in order and writes nothing to disk; callers decide which members to extract, and where. Adds
limits to tarfile and the decompressors of the standard library.
"""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import tarfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Protocol, Self

_MAX_BETWEEN = 2**17
"""Bytes between two files: pax headers and padding need a few thousand. tarfile reads them into memory whole,
with a copy of the global ones for each nested header."""
_MAX_TAIL = 2**20
"""Bytes after the last file: `tar -b 2048` pads to this size, the default is 10,240."""
_MAX_GLOBALS = 64
"""Global pax headers, which tarfile keeps in memory; git writes one."""
_MAX_XZ_MEMORY = 2**28
"""Bytes: `xz -9` needs 68 MB to unpack, and a block header may demand 4 GB."""
_CHUNK = 2**20
_READ_SIZE = 2**16
"""Bytes that tarfile reads at a time: it copies the rest of them for each header."""
_HEADER_SIZE = 512
_MAX_PATH, _MAX_NAME, _MAX_DEPTH = 1024, 255, 100
"""Bytes, bytes, and nested folders. Node's longest path has under 250 bytes; the limit of Linux and macOS is
255 for a name, and that of macOS 1,024 for a path."""

_GZIP, _BZIP2, _XZ = b"\x1f\x8b", b"BZh", b"\xfd7zXZ\0"
_SIGNATURES = (
    (b"PK\x03\x04", "a zip archive"),
    (b"7z\xbc\xaf\x27\x1c", "a 7-Zip archive"),
    (b"\x28\xb5\x2f\xfd", "compressed with zstd"),
    (b"\x7fELF", "a program"),
    (b"\xcf\xfa\xed\xfe", "a program"),
    (b"-----BEGIN PGP", "a PGP message or signature"),
    (b"Salted__", "encrypted (openssl)"),
    (b"age-encryption.org/", "encrypted (age)"),
    (b"version https://git-lfs", "a Git LFS pointer"),
    (b"<", "a web page (HTML or XML)"),
    (b"{", "a JSON text"),
)

_DAMAGE = (tarfile.TarError, EOFError, OSError, zlib.error, lzma.LZMAError, ValueError, RecursionError)
"""Everything that tarfile and the decompressors raise for damaged input."""


class RefusedError(Exception):
    """Raised for an unacceptable archive; the message continues a sentence that begins with its name."""


class _Readable(Protocol):
    def read(self, size: int, /) -> bytes: ...


def is_archive(head: bytes) -> bool:
    """Return True if a file that begins with `head` (512 bytes or more) is compressed or a tar archive."""
    return head.startswith((_GZIP, _BZIP2, _XZ)) or _is_header(head[:_HEADER_SIZE])


def read_members(source: io.BufferedReader[Any]) -> Iterator[tuple[tarfile.TarInfo, Iterator[bytes]]]:
    """Yield each member with an iterator over its bytes, valid until the next; read `source` to its end.

    Only regular files have bytes. Raises RefusedError for a damaged archive and for oversized headers;
    iterating over a member's bytes can raise it too.
    """
    with _damage_refused():
        stream = _Bounded(_unpack(source))
        with tarfile.open(
            fileobj=stream, mode="r|", bufsize=_READ_SIZE, tarinfo=_Header, encoding="utf-8"
        ) as archive:
            while (member := archive.next()) is not None:
                archive.members.clear()  # type: ignore[attr-defined]  # tarfile would keep every pax header
                if len(archive.pax_headers) > _MAX_GLOBALS:
                    raise RefusedError(f"has more than {_MAX_GLOBALS} global pax headers")
                if member.size < 0:
                    raise tarfile.ReadError("a negative size")
                # The size in a header may be less than the data (sparse files), or wrong.
                stream.allow(archive.offset - member.offset_data + _MAX_BETWEEN)
                yield member, _content(archive, member)
        stream.finish()
    while source.read(_CHUNK):
        pass  # bytes that the decompressor left


def check_length(path: str) -> None:
    """Raise RefusedError for a path that is much longer or deeper than any of Node's."""
    size = len(path.encode(errors="surrogateescape"))
    parts = path.split("/")
    if size > _MAX_PATH:
        problem = f"a path of {size:,} bytes, {_MAX_PATH:,}"
    elif len(parts) > _MAX_DEPTH:
        problem = f"a path of {len(parts)} parts, {_MAX_DEPTH}"
    elif (longest := max(len(part.encode(errors="surrogateescape")) for part in parts)) > _MAX_NAME:
        problem = f"a name of {longest} bytes, {_MAX_NAME}"
    else:
        return
    raise RefusedError(f"holds {problem} being the most, {path[:40]!r}...")


@contextmanager
def _damage_refused() -> Iterator[None]:
    try:
        yield
    except _DAMAGE as error:
        raise RefusedError(f"is damaged or cut short, or no tar archive ({error})") from None


def _content(archive: tarfile.TarFile, member: tarfile.TarInfo) -> Iterator[bytes]:
    with _damage_refused():
        content = archive.extractfile(member)
        assert content is not None  # noqa: S101 (a regular file has content; for mypy)
        with content:
            left = member.size
            while left > 0:
                piece = content.read(min(left, _CHUNK))
                if not piece:
                    raise EOFError("the last file is cut off")
                yield piece
                left -= len(piece)


class _Header(tarfile.TarInfo):
    """A header that raises if it is invalid: tarfile takes a broken header inside an archive for its end."""

    @classmethod
    def fromtarfile(cls, tarfile_: tarfile.TarFile) -> Self:
        try:
            return super().fromtarfile(tarfile_)
        except tarfile.EOFHeaderError:  # type: ignore[attr-defined]  # public, but not in typeshed
            raise
        except tarfile.HeaderError as error:
            raise tarfile.ReadError(str(error)) from None


class _Bounded(io.RawIOBase):
    """The decompressed archive; raises if more is read than allowed, or than the archive contains.

    tarfile itself would continue at the end, for each 64 KiB of a file that claims to have exabytes.
    """

    def __init__(self, inner: _Readable) -> None:
        self._inner, self._left = inner, _MAX_BETWEEN

    def allow(self, count: int) -> None:
        """Set the number of bytes that may be read from now on."""
        self._left = count

    def read(self, size: int = -1, /) -> bytes:
        piece = self._read(size)
        if not piece:
            raise EOFError("it ends before its end mark")
        return piece

    def finish(self) -> None:
        """Read to the end, so that the checksum of gzip or xz is verified."""
        self.allow(_MAX_TAIL)
        while self._read(_CHUNK):
            pass

    def _read(self, size: int) -> bytes:
        piece = self._inner.read(size)
        self._left -= len(piece)
        if self._left < 0:
            raise RefusedError("holds too much of headers or padding in one place")
        return piece


class _XzFile:
    """lzma.LZMAFile with a memory limit: reads concatenated streams, with padding between them."""

    def __init__(self, source: _Readable) -> None:
        self._source, self._stream = source, _xz_stream()

    def read(self, size: int, /) -> bytes:
        """Return at most `size` bytes, none at the end; raises LZMAError and EOFError for damaged data."""
        while True:
            packed = b""
            if self._stream.eof:
                packed = self._after_padding()
                if not packed:
                    return b""
                self._stream = _xz_stream()
            elif self._stream.needs_input:
                packed = self._source.read(io.DEFAULT_BUFFER_SIZE)
                if not packed:
                    raise EOFError("its xz data ends too soon")
            piece = self._stream.decompress(packed, size)
            if piece:
                return piece

    def _after_padding(self) -> bytes:
        """Return the first bytes of the next stream, none at the end."""
        packed = self._stream.unused_data.lstrip(b"\0")
        while not packed and (more := self._source.read(io.DEFAULT_BUFFER_SIZE)):
            packed = more.lstrip(b"\0")
        return packed


def _xz_stream() -> lzma.LZMADecompressor:
    return lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=_MAX_XZ_MEMORY)


def _unpack(source: io.BufferedReader[Any]) -> _Readable:
    head = source.peek(_HEADER_SIZE)[:_HEADER_SIZE]
    if head.startswith(_GZIP):
        return gzip.GzipFile(fileobj=source)
    if head.startswith(_BZIP2):
        return bz2.BZ2File(source)
    if head.startswith(_XZ):
        return _XzFile(source)
    if _is_header(head):
        return source
    for signature, kind in _SIGNATURES:
        if head.lstrip(b"\xef\xbb\xbf \r\n\t").startswith(signature):
            raise RefusedError(f"is {kind}, not a tarball (.tar, .tar.gz, .tar.xz, .tar.bz2)")
    raise RefusedError(f"is not a tarball (.tar, .tar.gz, .tar.xz, .tar.bz2): it begins with {head[:16]!r}")


def _is_header(block: bytes) -> bool:
    try:
        tarfile.TarInfo.frombuf(block, "utf-8", "surrogateescape")
    except (tarfile.HeaderError, ValueError):
        return False
    return True

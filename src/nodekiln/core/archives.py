"""Reads tar archives that nobody trusts: in bounded memory, with one error for all that may be wrong.

Answers members in turn and unpacks none to disk; which of them may be taken, and where to, is the caller's.
tarfile and the decompressors are as in the standard library, between bounds that these don't have.
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

_BETWEEN = 2**17
"""Bytes that may stand between two files: pax headers and padding need a few thousand, and tarfile takes them
into memory whole, with a copy of the global ones for each header that is nested in another."""
_TAIL = 2**20
"""Bytes that may follow the last file: `tar -b 2048` pads to so many, others to 10,240."""
_GLOBALS = 64
"""Global pax headers, which tarfile keeps to the end; git writes one."""
_XZ_MEMORY = 2**28
"""Bytes; what xz -9 packs takes 68 MB to unpack, and the header of a block may ask for 4 GB."""
_CHUNK = 2**20
_PASSED_ON = 2**16
"""Bytes that tarfile takes at a time: it copies what is left of them for each header."""
_HEAD = 512
"""Bytes of a tar header."""

_LONGEST_PATH, _LONGEST_NAME, _DEEPEST = 1024, 255, 100
"""Bytes, bytes, and names one below the other. Node's longest path has under 250 bytes; Linux and macOS take
255 for a name, and macOS 1,024 for a path."""

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
"""All that tarfile and the decompressors raise for bytes that are not what they should be."""


class RefusedError(Exception):
    """Why an archive can't be taken, as the end of a sentence that begins with its name."""


class _Readable(Protocol):
    def read(self, size: int, /) -> bytes: ...


def is_archive(head: bytes) -> bool:
    """Whether a file that begins with `head`, of 512 bytes at least, is packed or a tar archive."""
    return head.startswith((_GZIP, _BZIP2, _XZ)) or _is_header(head[:_HEAD])


def read_members(source: io.BufferedReader[Any]) -> Iterator[tuple[tarfile.TarInfo, Iterator[bytes]]]:
    """Answers each member with its bytes, to be taken before the next or never; reads `source` to its end.

    Of members that are no regular files no bytes may be taken. Raises RefusedError for what is damaged, and
    for headers that are larger than any archive's; taking a member's bytes can raise it too.
    """
    with _damage_refused():
        stream = _Bounded(_unpack(source))
        with tarfile.open(
            fileobj=stream, mode="r|", bufsize=_PASSED_ON, tarinfo=_Header, encoding="utf-8"
        ) as archive:
            while (member := archive.next()) is not None:
                archive.members.clear()  # type: ignore[attr-defined]  # keeps every pax header otherwise
                if len(archive.pax_headers) > _GLOBALS:
                    raise RefusedError(f"has more than {_GLOBALS} global pax headers")
                if member.size < 0:
                    raise tarfile.ReadError("a negative size")
                # What a header says of its size may be less than comes (sparse files), or come to nothing.
                stream.allow(archive.offset - member.offset_data + _BETWEEN)
                yield member, _content(archive, member)
        stream.finish()
    while source.read(_CHUNK):
        pass  # what no decompressor asked for


def check_length(path: str) -> None:
    """Raises RefusedError for a path that is longer or deeper than any of Node's, and that costs memory."""
    size = len(path.encode(errors="surrogateescape"))
    parts = path.split("/")
    if size > _LONGEST_PATH:
        told = f"a path of {size:,} bytes, {_LONGEST_PATH:,}"
    elif len(parts) > _DEEPEST:
        told = f"a path of {len(parts)} parts, {_DEEPEST}"
    elif (longest := max(len(part.encode(errors="surrogateescape")) for part in parts)) > _LONGEST_NAME:
        told = f"a name of {longest} bytes, {_LONGEST_NAME}"
    else:
        return
    raise RefusedError(f"holds {told} being the most, {path[:40]!r}...")


@contextmanager
def _damage_refused() -> Iterator[None]:
    try:
        yield
    except _DAMAGE as error:
        raise RefusedError(f"is damaged or cut short, or no tar archive ({error})") from None


def _content(archive: tarfile.TarFile, member: tarfile.TarInfo) -> Iterator[bytes]:
    with _damage_refused():
        content = archive.extractfile(member)
        assert content is not None  # noqa: S101 (a regular file has content; this tells mypy)
        with content:
            left = member.size
            while left > 0:
                piece = content.read(min(left, _CHUNK))
                if not piece:
                    raise EOFError("the last file is cut off")
                yield piece
                left -= len(piece)


class _Header(tarfile.TarInfo):
    """A header that must be one: tarfile takes a broken header inside an archive for its end."""

    @classmethod
    def fromtarfile(cls, tarfile_: tarfile.TarFile) -> Self:
        try:
            return super().fromtarfile(tarfile_)
        except tarfile.EOFHeaderError:  # type: ignore[attr-defined]  # public, but not in typeshed
            raise
        except tarfile.HeaderError as error:
            raise tarfile.ReadError(str(error)) from None


class _Bounded(io.RawIOBase):
    """The archive, unpacked: ends with an error where more is read than was allowed, or than there is.

    tarfile itself would go on at the end, for each 64 KiB of a file that claims to have exabytes.
    """

    def __init__(self, inner: _Readable) -> None:
        self._inner, self._left = inner, _BETWEEN

    def allow(self, count: int) -> None:
        """So many bytes may be read from here on."""
        self._left = count

    def read(self, size: int = -1, /) -> bytes:
        piece = self._read(size)
        if not piece:
            raise EOFError("it ends before its end mark")
        return piece

    def finish(self) -> None:
        """Reads on to the checksum of gzip or xz."""
        self.allow(_TAIL)
        while self._read(_CHUNK):
            pass

    def _read(self, size: int) -> bytes:
        piece = self._inner.read(size)
        self._left -= len(piece)
        if self._left < 0:
            raise RefusedError("holds too much of headers or padding in one place")
        return piece


class _XzFile:
    """lzma.LZMAFile with a bound for memory: streams one after the other, with zeros between them."""

    def __init__(self, source: _Readable) -> None:
        self._source, self._stream = source, _xz_stream()

    def read(self, size: int, /) -> bytes:
        """At most `size` bytes; none at the end. Raises LZMAError and EOFError for damage."""
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
        """The first bytes of the next stream; none where there is none."""
        packed = self._stream.unused_data.lstrip(b"\0")
        while not packed and (more := self._source.read(io.DEFAULT_BUFFER_SIZE)):
            packed = more.lstrip(b"\0")
        return packed


def _xz_stream() -> lzma.LZMADecompressor:
    return lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=_XZ_MEMORY)


def _unpack(source: io.BufferedReader[Any]) -> _Readable:
    head = source.peek(_HEAD)[:_HEAD]
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
    raise RefusedError(f"is no tarball (.tar, .tar.gz, .tar.xz, .tar.bz2): it begins with {head[:16]!r}")


def _is_header(block: bytes) -> bool:
    try:
        tarfile.TarInfo.frombuf(block, "utf-8", "surrogateescape")
    except (tarfile.HeaderError, ValueError):
        return False
    return True

"""Reads a tar archive that nobody trusts: checks members before their bytes go on, unpacks none to disk.

Knows what git can hold and what leads out of a folder; nothing of Node, its versions or the mirror.
"""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import re
import tarfile
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import IO, Any, NamedTuple, Self

from nodekiln.reporting import format_size


@dataclass(frozen=True, slots=True)
class Limits:
    """Where reading stops: members, and bytes unpacked. v24 has 19,000 files, 210 MB, the largest 10 MB."""

    members: int = 300_000
    file: int = 500 * 10**6
    total: int = 4 * 10**9


LIMITS = Limits()

_BETWEEN = 2**20
"""Bytes that may stand between two files: pax headers and padding need a few thousand, and tarfile takes them
into memory whole."""
_CHUNK = 2**20
_PASSED_ON = 2**16
"""Bytes that tarfile takes at a time: it copies what is left of them for each header."""

BLOB, PROGRAM, LINK = "100644", "100755", "120000"
"""The modes that git has for files."""

_FORBIDDEN = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]")
_IGNORED_BY_HFS = re.compile(r"[\u200c-\u200f\u202a-\u202e\u206a-\u206f\ufeff]")
_DAMAGE = (tarfile.TarError, EOFError, OSError, zlib.error, lzma.LZMAError, ValueError, RecursionError)
"""All that tarfile and the decompressors raise for bytes that are not what they should be."""

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


class RefusedError(Exception):
    """Why an archive can't be taken, as the end of a sentence that begins with its name."""


class Entry(NamedTuple):
    """A file or link: its mode, the number of the member that brought its bytes, its size in bytes (0 for a
    link), and where a link leads."""

    mode: str
    mark: int
    size: int
    target: str = ""


class Member(NamedTuple):
    """A file or link as it comes, with its bytes (a link's: its target), which can be taken once."""

    path: str
    entry: Entry
    pieces: Iterable[bytes]


@dataclass
class Listing:
    """The paths of an archive as they come, each checked against those before it."""

    entries: dict[str, Entry] = field(default_factory=dict)
    folders: set[str] = field(default_factory=set)

    def add_folder(self, path: str) -> None:
        """Notes a folder and all above it. Raises RefusedError where one of them is a file or a link."""
        while path and path not in self.folders:
            if path in self.entries:
                kind = "a link" if self.entries[path].mode == LINK else "a file"
                raise RefusedError(f"holds {path!r} both as {kind} and as a folder")
            self.folders.add(path)
            path = path.rpartition("/")[0]

    def add(self, path: str, entry: Entry) -> None:
        """Notes a file or a link. Raises RefusedError where its path is taken."""
        if path in self.entries:
            raise RefusedError(f"holds {path!r} twice")
        if path in self.folders:
            raise RefusedError(f"holds {path!r} both as a folder and as something else")
        self.add_folder(path.rpartition("/")[0])
        self.entries[path] = entry

    def below_top(self) -> dict[str, Entry]:
        """All entries once the archive is through, sorted, without the folder that they share.

        Raises RefusedError where there is no such folder, and for links that lead out of it.
        """
        top = self._top()
        entries = {path.removeprefix(top): entry for path, entry in sorted(self.entries.items())}
        for path, entry in entries.items():
            if entry.mode == LINK:
                _check_link(path, entry.target)
        return entries

    def _top(self) -> str:
        """The folder that all paths share, with its slash; "" where the sources stand at the top."""
        tops = {path.partition("/")[0] for path in (*self.entries, *self.folders)}
        if not tops:
            raise RefusedError("holds no files")
        if len(tops) == 1 and not tops & self.entries.keys():
            return tops.pop() + "/"
        if {"configure.py", "node.gyp"} <= self.entries.keys():
            return ""
        raise RefusedError(
            f"has no single top-level folder (but {', '.join(sorted(map(repr, tops))[:3])}, ...)"
        )


def read_archive(source: io.BufferedReader[Any], listing: Listing, limits: Limits) -> Iterator[Member]:
    """Answers each file and link in turn, notes all members in `listing`, and reads `source` to its end.

    A hard link is noted only: it has the bytes of a file before it. Raises RefusedError for whatever is
    damaged, too large or could do harm; taking a member's bytes can raise it too.
    """
    count = total = 0
    with _damage_refused():
        stream = _Bounded(_unpack(source))
        with tarfile.open(
            fileobj=stream, mode="r|", bufsize=_PASSED_ON, tarinfo=_Header, encoding="utf-8"
        ) as archive:
            while (member := archive.next()) is not None:
                archive.members.clear()  # type: ignore[attr-defined]  # keeps every pax header otherwise
                stream.allow(0)
                path, count = _clean(member.name), count + 1
                if count > limits.members:
                    raise RefusedError(f"has more than {limits.members:,} members")
                if member.isdir():
                    listing.add_folder(path)
                    continue
                entry = _entry(member, path, count, listing, limits)
                listing.add(path, entry)
                total += entry.size
                if total > limits.total:
                    raise RefusedError(f"holds more than {format_size(limits.total)}")
                if entry.mode == LINK:
                    yield Member(path, entry, (entry.target.encode(),))
                elif entry.mark == count:
                    stream.allow(member.size)
                    content = archive.extractfile(member)
                    assert content is not None  # noqa: S101 (a regular file has content; this tells mypy)
                    yield Member(path, entry, _pieces(content, entry.size))
        while stream.read(_CHUNK):
            pass  # up to the checksum of gzip or xz
    while source.read(_CHUNK):
        pass  # what no decompressor asked for


@contextmanager
def _damage_refused() -> Iterator[None]:
    try:
        yield
    except _DAMAGE as error:
        raise RefusedError(f"is damaged or cut short, or no tar archive ({error})") from None


def _pieces(content: IO[bytes], size: int) -> Iterator[bytes]:
    with _damage_refused(), content:
        while size > 0:
            piece = content.read(min(size, _CHUNK))
            if not piece:
                raise EOFError("the last file is cut off")
            yield piece
            size -= len(piece)


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
    """The archive, unpacked: ends with an error where more is read than was allowed."""

    def __init__(self, inner: IO[bytes]) -> None:
        self._inner, self._left = inner, _BETWEEN

    def allow(self, count: int) -> None:
        """`count` bytes of a file come next, then the next header."""
        self._left = count + _BETWEEN

    def read(self, size: int = -1, /) -> bytes:
        piece = self._inner.read(size)
        self._left -= len(piece)
        if self._left < 0:
            raise RefusedError(f"holds over {format_size(_BETWEEN)} of headers or padding in one place")
        return piece


def _unpack(source: io.BufferedReader[Any]) -> IO[bytes]:
    head = source.peek(512)[:512]
    if head.startswith(b"\x1f\x8b"):
        return gzip.GzipFile(fileobj=source)  # type: ignore[return-value]  # an IO in all but its declaration
    if head.startswith(b"BZh"):
        return bz2.BZ2File(source)
    if head.startswith(b"\xfd7zXZ\0"):
        return lzma.LZMAFile(source)
    try:
        tarfile.TarInfo.frombuf(head, "utf-8", "surrogateescape")
    except tarfile.HeaderError:
        for signature, kind in _SIGNATURES:
            if head.lstrip(b"\xef\xbb\xbf \r\n\t").startswith(signature):
                raise RefusedError(f"is {kind}, not a tarball (.tar, .tar.gz, .tar.xz, .tar.bz2)") from None
        raise RefusedError(
            f"is no tarball (.tar, .tar.gz, .tar.xz, .tar.bz2): it begins with {head[:16]!r}"
        ) from None
    return source


def _clean(name: str) -> str:
    """The member's path without "./" and doubled slashes; "" for the archive's own top."""
    if _FORBIDDEN.search(name):
        raise RefusedError(f"holds a name with control characters or broken UTF-8, {name!r}")
    if name.startswith("/"):
        raise RefusedError(f"holds an absolute path, {name!r}")
    parts = [part for part in name.split("/") if part not in ("", ".")]
    for part in parts:
        if part == "..":
            raise RefusedError(f"holds a path that leaves its folder, {name!r}")
        # What macOS and Windows take for .git as well: git's own fsck refuses these too.
        if _IGNORED_BY_HFS.sub("", part).rstrip(". ").lower() in (".git", "git~1"):
            raise RefusedError(f"holds a git repository's own files, {name!r}")
    return "/".join(parts)


def _entry(member: tarfile.TarInfo, path: str, mark: int, listing: Listing, limits: Limits) -> Entry:
    if not path:
        raise RefusedError(f"holds a file without a name, {member.name!r}")
    if member.issym():
        if not member.linkname or _FORBIDDEN.search(member.linkname):
            raise RefusedError(
                f"holds a link whose target can't be one, {member.name!r} -> {member.linkname!r}"
            )
        return Entry(LINK, mark, 0, member.linkname)
    if member.islnk():
        seen = listing.entries.get(_clean(member.linkname))
        if seen is None or seen.mode == LINK:
            raise RefusedError(
                f"holds a hard link to no file before it, {member.name!r} -> {member.linkname!r}"
            )
        return seen
    if member.type not in (tarfile.REGTYPE, tarfile.AREGTYPE) or member.sparse is not None:
        kind = "a device or pipe" if member.isdev() else "a sparse or unknown kind of file"
        raise RefusedError(f"holds {kind}, {member.name!r}")
    if not 0 <= member.size <= limits.file:
        raise RefusedError(
            f"holds {member.name!r} with {member.size} bytes; {format_size(limits.file)} is the most"
        )
    return Entry(PROGRAM if member.mode & 0o100 else BLOB, mark, member.size)


def _check_link(path: str, target: str) -> None:
    """Refuses a target outside. ".." may only come first: after a name that is itself a link it could lead
    anywhere, while the folders above a link are folders (see Listing)."""
    parts = [part for part in target.split("/") if part not in ("", ".")]
    ups = next((index for index, part in enumerate(parts) if part != ".."), len(parts))
    if target.startswith("/") or ups > path.count("/") or ".." in parts[ups:]:
        raise RefusedError(f"holds a link that leads out of its folder, {path!r} -> {target!r}")

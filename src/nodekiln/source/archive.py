"""Check the members of an untrusted source tarball, each before its bytes are passed on.

Knows what git can hold and what leads out of a folder; nothing of Node, its versions or the mirror.
"""

from __future__ import annotations

import io
import re
import tarfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from nodekiln.core.archives import RefusedError, check_length, read_members
from nodekiln.core.reporting import format_size


@dataclass(frozen=True, slots=True)
class Limits:
    """Limits for members (and as many folders) and for unpacked bytes.

    v24 has 19,000 files, 210 MB, the largest 10 MB.
    """

    members: int = 300_000
    file: int = 500 * 10**6
    total: int = 4 * 10**9


LIMITS = Limits()

BLOB, PROGRAM, LINK = "100644", "100755", "120000"
"""Git's file modes."""

_APPLE_DOUBLE = "._"
_FORBIDDEN = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]")
_IGNORED_BY_HFS = re.compile(r"[\u200c-\u200f\u202a-\u202e\u206a-\u206f\ufeff]")


class Entry(NamedTuple):
    """A file or link: its mode, the number of the member that brought its bytes, its size in bytes (0 for a
    link), and where a link leads."""

    mode: str
    mark: int
    size: int
    target: str = ""


class Member(NamedTuple):
    """A file or link with its bytes (for a link, its target), which can be read once."""

    path: str
    entry: Entry
    pieces: Iterable[bytes]


@dataclass
class Listing:
    """The paths of an archive in order, each checked against those before it."""

    limits: Limits
    entries: dict[str, Entry] = field(default_factory=dict)
    folders: set[str] = field(default_factory=set)
    apple_doubles: int = 0
    """Files left out: macOS's tar packs a file's attributes as another file, named ._ and the file's name."""

    def add_folder(self, path: str) -> None:
        """Record a folder and all above it. Raises RefusedError if one of them is a file or a link, and for
        too many."""
        while path and path not in self.folders:
            if path in self.entries:
                kind = "a link" if self.entries[path].mode == LINK else "a file"
                raise RefusedError(f"contains {path!r} both as {kind} and as a folder")
            self.folders.add(path)
            if len(self.folders) > self.limits.members:
                raise RefusedError(f"has more than {self.limits.members:,} folders")
            path = path.rpartition("/")[0]

    def add(self, path: str, entry: Entry) -> None:
        """Record a file or a link. Raises RefusedError if its path is taken."""
        if path in self.entries:
            raise RefusedError(f"contains {path!r} twice")
        if path in self.folders:
            raise RefusedError(f"contains {path!r} both as a folder and as something else")
        self.add_folder(path.rpartition("/")[0])
        self.entries[path] = entry

    def below_top(self) -> dict[str, Entry]:
        """Return all entries of the finished archive, sorted, without their common top folder.

        Raises RefusedError if there is no such folder, and for links that lead out of it.
        """
        top = self._top()
        entries = {path.removeprefix(top): entry for path, entry in sorted(self.entries.items())}
        for path, entry in entries.items():
            if entry.mode == LINK:
                _check_link(path, entry.target)
        return entries

    def _top(self) -> str:
        """Return the common top folder with its slash, "" if the sources are at the top."""
        tops = {path.partition("/")[0] for path in (*self.entries, *self.folders)}
        if not tops:
            raise RefusedError("contains no files")
        if len(tops) == 1 and not tops & self.entries.keys():
            return tops.pop() + "/"
        if {"configure.py", "node.gyp"} <= self.entries.keys():
            return ""
        raise RefusedError(
            f"has no single top-level folder (but {', '.join(sorted(map(repr, tops))[:3])}, ...)"
        )


def read_archive(source: io.BufferedReader[Any], listing: Listing) -> Iterator[Member]:
    """Yield each file and link, record all members in `listing`, and read `source` to its end.

    A hard link is noted only: it has the bytes of a file before it. Raises RefusedError for whatever is
    damaged, too large or could do harm; taking a member's bytes can raise it too.
    """
    limits, total = listing.limits, 0
    for count, (member, pieces) in enumerate(read_members(source), start=1):
        if count > limits.members:
            raise RefusedError(f"has more than {limits.members:,} members")
        path = _clean(member.name)
        if member.isdir():
            listing.add_folder(path)
            continue
        if path.rpartition("/")[2].startswith(_APPLE_DOUBLE):
            listing.apple_doubles += 1
            continue
        entry = _entry(member, path, count, listing)
        listing.add(path, entry)
        total += entry.size
        if total > limits.total:
            raise RefusedError(f"contains more than {format_size(limits.total)}")
        if entry.mode == LINK:
            yield Member(path, entry, (entry.target.encode(),))
        elif entry.mark == count:
            yield Member(path, entry, pieces)


def _clean(name: str) -> str:
    """Return the member's path without "./" and doubled slashes; "" for the archive's top."""
    check_length(name)
    if _FORBIDDEN.search(name):
        raise RefusedError(f"contains a name with control characters or broken UTF-8, {name!r}")
    if name.startswith("/"):
        raise RefusedError(f"contains an absolute path, {name!r}")
    parts = [part for part in name.split("/") if part not in ("", ".")]
    for part in parts:
        if part == "..":
            raise RefusedError(f"contains a path that leaves its folder, {name!r}")
        # What macOS and Windows take for .git as well: git's own fsck refuses these too.
        if _IGNORED_BY_HFS.sub("", part).rstrip(". ").lower() in (".git", "git~1"):
            raise RefusedError(f"contains a git repository's own files, {name!r}")
    return "/".join(parts)


def _entry(member: tarfile.TarInfo, path: str, mark: int, listing: Listing) -> Entry:
    if not path:
        raise RefusedError(f"contains a file without a name, {member.name!r}")
    if member.issym():
        check_length(member.linkname)
        if not member.linkname or _FORBIDDEN.search(member.linkname):
            raise RefusedError(
                f"contains a link with an invalid target, {member.name!r} -> {member.linkname!r}"
            )
        return Entry(LINK, mark, 0, member.linkname)
    if member.islnk():
        seen = listing.entries.get(_clean(member.linkname))
        if seen is None or seen.mode == LINK:
            raise RefusedError(
                f"contains a hard link to a file that has not come, {member.name!r} -> {member.linkname!r}"
            )
        return seen
    if member.type not in (tarfile.REGTYPE, tarfile.AREGTYPE) or member.sparse is not None:
        kind = "a device or pipe" if member.isdev() else "a sparse or unknown kind of file"
        raise RefusedError(f"contains {kind}, {member.name!r}")
    if member.size > (most := listing.limits.file):
        raise RefusedError(
            f"contains {member.name!r} with {member.size} bytes; the limit is {format_size(most)}"
        )
    return Entry(PROGRAM if member.mode & 0o100 else BLOB, mark, member.size)


def _check_link(path: str, target: str) -> None:
    """Refuse a target outside. ".." may only come first: after a name that is itself a link it could lead
    anywhere, while the folders above a link are folders (see Listing)."""
    parts = [part for part in target.split("/") if part not in ("", ".")]
    ups = next((index for index, part in enumerate(parts) if part != ".."), len(parts))
    if target.startswith("/") or ups > path.count("/") or ".." in parts[ups:]:
        raise RefusedError(f"contains a link that leads out of its folder, {path!r} -> {target!r}")

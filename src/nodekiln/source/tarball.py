"""Import a source tarball of Node into the mirror as a tag, for use without a repository.

The archive is not trusted: members stream from tarfile into `git fast-import` on a new repository beside the
mirror, nothing is unpacked to disk, and the mirror is touched only after the last member has passed.
"""

from __future__ import annotations

import difflib
import hashlib
import io
import re
import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Self

from nodekiln.core.archives import RefusedError
from nodekiln.core.errors import SourceError
from nodekiln.core.files import staging_directory
from nodekiln.core.platform import free_disk
from nodekiln.core.recipe import HEADER, Tag, read_version
from nodekiln.core.reporting import Meter, Reporter, format_size
from nodekiln.core.settings import Workspace
from nodekiln.source.archive import LIMITS, LINK, Limits, Listing, read_archive
from nodekiln.source.git_errors import damaged
from nodekiln.source.git_runner import GitError, GitRunner, fast_import


@dataclass(frozen=True)
class Tarball:
    """An imported tarball in git: `commit` is the id of its commit (40 hex digits), `name` and
    `sha256` are the file's, `size` is in bytes, unpacked."""

    tag: Tag
    commit: str
    name: str
    sha256: str
    files: int
    size: int

    def __str__(self) -> str:
        return f"tarball {self.name} (sha256 {self.sha256[:8]}...)"


@dataclass(frozen=True)
class Imported(Tarball):
    """A finished import; `checked` is True if a SHASUMS file had the file's hash."""

    checked: bool


_CHUNK = 2**20
_VERSION_SIZE = 2**20
"""Bytes of a src/node_version.h that are looked at: the real ones have 4,000."""
_CHECKSUM = re.compile(rb"^([0-9a-fA-F]{64}) [ *](\S[^\r\n]*?)\r?$", re.MULTILINE)
_TRAILER = re.compile(r"^Tarball-(Name|Sha256|Files|Size): (.+)$", re.MULTILINE)


def import_tarball(
    workspace: Workspace,
    tag: Tag,
    file: Path,
    reporter: Reporter,
    *,
    shasums: Path | None = None,
    accept_moved: bool = False,
    limits: Limits = LIMITS,
) -> Imported:
    """Import the tarball `file` as the content of `tag`: one commit, named by refs/kiln/imports/<tag>.

    The commit depends on the file's name and bytes alone. Raises SourceError, and leaves the mirror as it
    was, where the archive is damaged, hostile or another version, where its line in `shasums` is missing or
    differs, and where another tarball is there under this tag unless `accept_moved` is set.
    """
    wanted = f"Get the release's own source tarball, node-{tag}.tar.gz or .tar.xz, and import that."
    try:
        size, sha256 = _inspect(file)
        if shasums is not None:
            _compare(file.name, sha256, shasums)
        with workspace.lock("mirror", f"import of {tag}", reporter.say):
            before = imported(workspace, tag)
            if before is not None and before.sha256 == sha256:
                reporter.say(f"{tag} is already there: {before}")
                return Imported(**_values(before), checked=shasums is not None)
            if before is not None and not accept_moved:
                raise SourceError(
                    f"{tag} was imported from {before.name} with sha256 {before.sha256}; "
                    f"{file.name} is another tarball, with sha256 {sha256}.",
                    remedy="Add --accept-moved-tag to take the new one.",
                )
            reporter.say(
                f"importing {file.name} as {tag}; it takes about its own {format_size(size)} of"
                f" {format_size(free_disk(workspace.root))} that are free"
            )
            with (
                _new_repository(workspace.mirror) as repository,
                reporter.progress(f"{file.name}, bytes") as meter,
            ):
                made, left_out = _store(repository, tag, _Source(file, size, meter), sha256, limits)
                _publish(repository, workspace.mirror, tag, made.commit)
            if left_out:
                reporter.say(f"left out {left_out} files of macOS's tar (._NAME, attributes of NAME)")
    except RefusedError as refusal:
        raise SourceError(f"{str(file)!r} {refusal}.", remedy=wanted) from None
    except (GitError, OSError) as error:
        raise SourceError(
            f"{file.name} can't be stored in {workspace.mirror}: {error}.",
            remedy="Make room on that disk, or make it writable; nothing was imported.",
        ) from None
    return Imported(**_values(made), checked=shasums is not None)


def imported(workspace: Workspace, tag: Tag) -> Tarball | None:
    """Return the tarball imported as `tag`, or None.

    Raises SourceError for a ref of other make, or to what is gone, and where git can't read the mirror.
    """
    if not workspace.mirror.exists():
        return None
    ref = _ref(tag)
    remedy = f"Remove the ref and import again: git --git-dir {workspace.mirror} update-ref -d {ref}"
    try:
        output = GitRunner(workspace.mirror).run(
            "for-each-ref", "--format=%(objectname)%00%(contents)", "--", ref
        )
    except GitError as error:
        if ref not in error.stderr:
            raise damaged(workspace.mirror, error) from None
        raise SourceError(f"The import of {tag} can't be read: {error.stderr}.", remedy=remedy) from None
    if not output:
        return None
    commit, _, message = output.decode(errors="replace").partition("\0")
    facts = dict(_TRAILER.findall(message))
    try:
        return Tarball(tag, commit, facts["Name"], facts["Sha256"], int(facts["Files"]), int(facts["Size"]))
    except (KeyError, ValueError):
        raise SourceError(f"{ref} in {workspace.mirror} is no import of a tarball.", remedy=remedy) from None


def _ref(tag: Tag) -> str:
    return f"refs/kiln/imports/{tag}"


def _values(tarball: Tarball) -> dict[str, Any]:
    return {each.name: getattr(tarball, each.name) for each in fields(tarball)}


# The file, its checksum and its version


def _inspect(file: Path) -> tuple[int, str]:
    """Size and SHA-256 of a file that may be a tarball."""
    if not file.is_file():
        raise RefusedError(
            "is a folder" if file.is_dir() else "is not a regular file" if file.exists() else "does not exist"
        )
    if not file.name.isprintable():
        raise RefusedError("has a name that can't be written down: rename it")
    try:
        with file.open("rb") as stream:
            digest, size = hashlib.file_digest(stream, "sha256"), stream.tell()
    except OSError as error:
        raise RefusedError(f"can't be read ({error.strerror})") from None
    if size == 0:
        raise RefusedError("is empty")
    return size, digest.hexdigest()


def _compare(name: str, sha256: str, shasums: Path) -> None:
    try:
        found = _CHECKSUM.findall(shasums.read_bytes())
    except OSError as error:
        raise SourceError(f"The checksums {str(shasums)!r} can't be read: {error.strerror}.") from None
    names = [line[1].decode(errors="replace") for line in found]
    recorded = {
        digest.decode().lower() for (digest, _), each in zip(found, names, strict=True) if each == name
    }
    if not recorded:
        close = ", ".join(difflib.get_close_matches(name, names, 3, 0.8))
        raise SourceError(
            f"{shasums.name} has no line for {name}" + (f"; close to it: {close}." if close else "."),
            remedy="Take the SHASUMS256.txt of the same release, and the tarball under its own name.",
        )
    if recorded != {sha256}:
        raise SourceError(
            f"{name} has sha256 {sha256}, and {shasums.name} says {' and '.join(sorted(recorded))}.",
            remedy="Nothing was imported. Download the tarball again; if it differs again, don't build it.",
        )


class _Source(io.RawIOBase):
    """The file's bytes, hashed while they are read, since the file may change, and shown on a meter."""

    def __init__(self, file: Path, size: int, meter: Meter) -> None:
        self.path, self._size, self._meter = file, size, meter
        self._hash, self._done = hashlib.sha256(), 0

    def __enter__(self) -> Self:
        self._file = self.path.open("rb", buffering=0)
        return self

    def close(self) -> None:
        if not self.closed:
            self._file.close()
        super().close()

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        try:
            count = self._file.readinto(buffer) or 0
        except OSError as error:
            raise RefusedError(f"can't be read ({error.strerror})") from None
        self._hash.update(memoryview(buffer)[:count])
        self._done += count
        self._meter.update(self._done, self._size)
        return count

    @property
    def sha256(self) -> str:
        """The hash of the bytes read so far."""
        return self._hash.hexdigest()


def _check_version(found: Tag | None, tag: Tag, file: Path) -> None:
    if found is None:
        raise RefusedError(f"has a {HEADER} without a version")
    if found != tag:
        raise SourceError(
            f"{file.name} contains the sources of {found}, not of {tag}.",
            remedy=f"./inv import-tarball --tag {found} --file {shlex.quote(str(file))}",
        )


# The repository


@contextmanager
def _new_repository(mirror: Path) -> Iterator[Path]:
    """A bare repository beside the mirror, gone afterwards unless it became the mirror.

    Those of killed runs go first: the lock on the mirror is held, so that nobody else's can be there.
    """
    with staging_directory(mirror.parent, f"{mirror.name}.import-", clear=True) as folder:
        GitRunner(folder).run(
            "init", "--bare", "--quiet", "--template=", "--object-format=sha1", "--initial-branch=main"
        )
        yield folder


def _store(repository: Path, tag: Tag, source: _Source, sha256: str, limits: Limits) -> tuple[Tarball, int]:
    """Return the stored tarball and the number of files that were left out."""
    listing, name = Listing(limits), source.path.name
    versions: dict[int, Tag | None] = {}
    with source, io.BufferedReader(source, _CHUNK) as reader, fast_import(repository) as stream:
        for path, entry, pieces in read_archive(reader, listing):
            if entry.mode == LINK:
                stream.blob(entry.mark, len(entry.target.encode()), pieces)
            elif f"/{path}".endswith(f"/{HEADER}") and entry.size <= _VERSION_SIZE:
                content = b"".join(pieces)
                versions[entry.mark] = read_version(content)
                stream.blob(entry.mark, entry.size, (content,))
            else:
                stream.blob(entry.mark, entry.size, pieces)
        if source.sha256 != sha256:
            raise RefusedError("changed while it was read")
        entries = listing.below_top()
        header = entries.get(HEADER)
        if header is None or header.mark not in versions:
            raise RefusedError(f"has no {HEADER}: not the sources of Node")
        _check_version(versions[header.mark], tag, source.path)
        size = sum(entry.size for entry in entries.values())
        message = (
            f"Node {tag} from {name}\n\nTarball-Name: {name}\nTarball-Sha256: {sha256}\n"
            f"Tarball-Files: {len(entries)}\nTarball-Size: {size}\n"
        )
        stream.commit(_ref(tag), message, ((path, entry.mode, entry.mark) for path, entry in entries.items()))
    commit = GitRunner(repository).run("rev-parse", "--verify", _ref(tag)).decode().strip()
    return Tarball(tag, commit, name, sha256, len(entries), size), listing.apple_doubles


def _publish(repository: Path, mirror: Path, tag: Tag, commit: str) -> None:
    """Moves the pack into the mirror, its index last, and then names the commit there."""
    if not mirror.exists():
        repository.rename(mirror)
        return
    packs = sorted((repository / "objects" / "pack").iterdir(), key=lambda path: path.suffix == ".idx")
    for pack in packs:
        pack.replace(mirror / "objects" / "pack" / pack.name)
    GitRunner(mirror).run("update-ref", _ref(tag), commit)

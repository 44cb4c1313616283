"""Obtain the official binary that a graft starts from, with its origin and the checks that it passed.

Kept under releases/, one folder each: the binary, its headers, and release.json with what is known of it.
"""

from __future__ import annotations

import io
import json
import re
import shutil
import stat
import tarfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any

from nodekiln.core import limits
from nodekiln.core.archives import RefusedError, check_length, is_archive, read_members
from nodekiln.core.errors import SourceError
from nodekiln.core.files import hash_file, is_disk_full, open_regular, read_json, staging_directory
from nodekiln.core.recipe import Tag
from nodekiln.core.reporting import Reporter, format_size
from nodekiln.grafting import gpg, npm
from nodekiln.grafting.download import OFFICIAL, Download, Server, UnreachableError, fetch
from nodekiln.grafting.platforms import HEAD, Platform, recognise

_MAX_BINARY = 2**29
"""Bytes; 26.10.0 has 150 MB."""
_MAX_TOTAL = 2**31
"""Bytes of all members; a release unpacks to 0.2 GB."""
_MAX_MEMBERS = 100_000
"""Members; npm's package of 22.20.0 has 2,733, which leaves npm itself out."""
_BINARY = re.compile(r"[^/]+/bin/node(\.exe)?")
_HEADER = re.compile(r"[^/]+/(include/node(/[A-Za-z0-9_+-][A-Za-z0-9_.+-]*)+)", re.ASCII)


def extract(archive: Path, folder: Path) -> Path:
    """Extract NAME/bin/node of a tarball to `folder`/node and NAME/include/node below `folder`; return the
    binary.

    `folder` is empty. Only regular files are taken, each written once. Raises SourceError for an archive that
    is damaged, bigger than a release, or doesn't have just one such binary.
    """
    binary = folder / "node"
    try:
        with archive.open("rb") as source:
            _take(source, folder, binary)
        if not binary.is_file():
            raise RefusedError("has no bin/node")
    except RefusedError as refusal:
        raise SourceError(
            f"{archive.name} {refusal}.", remedy="Take a release's tarball as nodejs.org or npm has it."
        ) from None
    binary.chmod(0o755)
    return binary


def _take(source: io.BufferedReader[Any], folder: Path, binary: Path) -> None:
    total = 0
    for count, (member, pieces) in enumerate(read_members(source), start=1):
        total += member.size
        if total > _MAX_TOTAL or count > _MAX_MEMBERS:
            raise RefusedError("unpacks to more than any release")
        target = _target(member, folder)
        if target is None:
            continue
        if target == binary and member.size > _MAX_BINARY:
            raise RefusedError("has a binary that is larger than any release's")
        if target != binary and member.size > limits.RELEASE_HEADER:
            raise RefusedError(f"has a header of {member.size} bytes; the limit is {limits.RELEASE_HEADER}")
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            file = target.open("xb")
        except FileExistsError as error:
            raise RefusedError(f"contains {Path(error.filename).name} twice") from None
        except NotADirectoryError:
            raise RefusedError(f"contains {target.name} below a file") from None
        with file:
            file.writelines(pieces)


def _target(member: tarfile.TarInfo, folder: Path) -> Path | None:
    """Return the target path of a member, or None to skip it."""
    if not member.isreg():
        return None
    if member.sparse is not None:  # a header of 1 kB can stand for 2 GB of zeros
        raise RefusedError(f"contains a sparse file, {member.name!r}")
    if _BINARY.fullmatch(member.name):
        return folder / "node"
    header = _HEADER.fullmatch(member.name)
    if header is None:
        return None
    check_length(header[1])
    return folder.joinpath(*PurePosixPath(header[1]).parts)


_RECORD = "release.json"
_STAGING = ".staging-"
_FORMER = ".former-"
_DOWNLOADS = ".downloads"
_KEPT = "release (kept)"
_TAKES = "--release FILE takes a tarball or a binary that you have."


@dataclass(frozen=True, slots=True)
class Release:
    """An official binary; `headers` is the include/ folder of its archive, `sha256` the binary's hash."""

    path: Path
    version: str
    platform: str
    origin: str
    checks: tuple[str, ...]
    sha256: str
    headers: Path | None


@dataclass(frozen=True, slots=True)
class _Record:
    """release.json."""

    origin: str
    checks: tuple[str, ...]
    sha256: str


def obtain(
    tag: Tag,
    platform: Platform,
    *,
    folder: Path,
    file: Path | None,
    mirror: str | None,
    allow_unsigned: bool = False,
    env: Mapping[str, str],
    reporter: Reporter,
) -> Release:
    """Return the release from `file` (tarball or binary), from `folder` if kept there, or downloaded.

    From `mirror`, else nodejs.org/dist; if that is unavailable, from npm. What is kept gives way to what a
    `mirror` that is named has, where it is from elsewhere. Says which one it is. Raises SourceError if
    nothing can be had, or what came is damaged, no program, or for another platform; what is kept stays then.
    """
    folder.mkdir(parents=True, exist_ok=True)
    if file is not None:
        return _reported(_given(tag, platform, file, folder, reporter), "release", reporter)
    server = Server(mirror or OFFICIAL, env=env)
    place = folder / f"{tag}-{platform}"
    kept = _kept(tag, platform, place, reporter)
    if kept is not None and (not mirror or kept.origin.startswith(f"{server.base}/{tag}/")):
        return _reported(kept, _KEPT, reporter)
    downloads = folder / _DOWNLOADS
    downloads.mkdir(exist_ok=True)
    try:
        got = fetch(
            tag,
            platform,
            server,
            folder=downloads,
            signers=gpg.signers(),
            allow_unsigned=allow_unsigned,
            env=env,
            reporter=reporter,
        )
    except UnreachableError as error:
        if kept is not None:
            reporter.say(f"{error.message} Taking the release that is kept.")
            return _reported(kept, _KEPT, reporter)
        reporter.say(f"{error.message} Asking npm.")
        got = _from_npm(tag, platform, downloads, error.message, env, reporter)
    try:
        release = _keep(tag, platform, got, place)
    except SourceError:
        got.file.unlink()
        raise
    got.file.unlink()
    return _reported(release, "release", reporter)


def _reported(release: Release, what: str, reporter: Reporter) -> Release:
    size = format_size(release.path.stat().st_size)
    reporter.say(f"{what}: {release.origin}, {size}, {', '.join(release.checks)}")
    return release


def _from_npm(
    tag: Tag, platform: Platform, folder: Path, missing: str, env: Mapping[str, str], reporter: Reporter
) -> Download:
    """`missing` says why it is not from a server."""
    try:
        with staging_directory(folder, _STAGING) as staging:
            got = npm.fetch(tag, platform, folder=staging, env=env, reporter=reporter)
            file = got.file.rename(folder / got.file.name)
    except UnreachableError as error:
        raise SourceError(
            f"{tag} for {platform} is unavailable: {missing} {error.message}",
            remedy=_TAKES,
        ) from None
    return Download(file, got.origin, got.checks)


def check_given(file: Path) -> bytes:
    """Return the first bytes of a tarball or binary; raise SourceError for a file that is neither."""
    try:
        if not stat.S_ISREG(file.stat().st_mode):  # a pipe would wait, a device never end
            raise SourceError(f"--release {file} is not a regular file.", remedy=_TAKES)
        with file.open("rb") as stream:
            head = stream.read(HEAD)
    except OSError as error:
        raise SourceError(f"--release {file} can't be read: {error.strerror}.", remedy=_TAKES) from None
    if not is_archive(head):
        recognise(head, str(file))
    return head


def _given(tag: Tag, platform: Platform, file: Path, folder: Path, reporter: Reporter) -> Release:
    """Copy a user's binary, or unpack a tarball, once, under its hash."""
    check_given(file)
    with staging_directory(folder, _STAGING) as staging:
        # Its bytes may change while they are read, so everything that follows is about a copy.
        copied = staging / file.name
        try:
            shutil.copyfile(file, copied)
        except OSError as error:
            if is_disk_full(error):
                raise
            raise SourceError(f"--release {file} can't be read: {error.strerror}.", remedy=_TAKES) from None
        head = check_given(copied)
        if not is_archive(head):
            _expect(platform, head, str(file))
        sha256 = hash_file(copied)
        place = folder / f"{tag}-{platform}-{sha256[:12]}"
        origin = f"{file} (sha256 {sha256})"
        if (kept := _kept(tag, platform, place, reporter)) is not None:
            return replace(kept, origin=origin)  # the same file may have been elsewhere
        return _keep(tag, platform, Download(copied, origin, ("not checked: a file of the user's",)), place)


def _kept(tag: Tag, platform: Platform, place: Path, reporter: Reporter) -> Release | None:
    """Return the kept release if it is unchanged; otherwise remove it and return None."""
    if not place.exists():
        return None
    try:
        record_data = read_json(place / _RECORD)
        record = _Record(
            str(record_data["origin"]), tuple(map(str, record_data["checks"])), str(record_data["sha256"])
        )
        with open_regular(place / "node"):  # neither a link nor a pipe
            whole = hash_file(place / "node") == record.sha256
    except (OSError, ValueError, KeyError, TypeError):
        whole = False
    if not whole:
        reporter.warn(f"{place} was damaged since it was made, and is made again.")
        shutil.rmtree(place)
        return None
    return _release(tag, platform, record, place)


def _keep(tag: Tag, platform: Platform, got: Download, place: Path) -> Release:
    """Unpacks what was got and puts it under its name, in place of what is kept there."""
    former = place.with_name(f"{_FORMER}{place.name}")
    with staging_directory(place.parent, _STAGING) as staging:
        binary = _unpack(got.file, staging)
        with binary.open("rb") as stream:
            _expect(platform, stream.read(HEAD), f"the binary of {got.origin}")
        record = _Record(got.origin, got.checks, hash_file(binary))
        (staging / _RECORD).write_text(json.dumps(asdict(record), indent=2) + "\n")
        shutil.rmtree(former, ignore_errors=True)  # left by a kill between the next two lines
        if place.exists():
            place.rename(former)
        staging.rename(place)
        shutil.rmtree(former, ignore_errors=True)
    return _release(tag, platform, record, place)


def _unpack(file: Path, folder: Path) -> Path:
    with file.open("rb") as stream:
        head = stream.read(HEAD)
    if is_archive(head):
        return extract(file, folder)
    binary = shutil.copyfile(file, folder / "node")
    binary.chmod(0o755)
    return binary


def _release(tag: Tag, platform: Platform, record: _Record, place: Path) -> Release:
    headers = place / "include"
    return Release(
        place / "node",
        str(tag),
        str(platform),
        record.origin,
        record.checks,
        record.sha256,
        headers if headers.is_dir() else None,
    )


def _expect(platform: Platform, head: bytes, name: str) -> None:
    found = recognise(head, name)
    if found != platform:
        raise SourceError(
            f"{name} is for {found}, and this graft is for {platform}.",
            remedy=f"./inv graft --platform {found} takes it.",
        )

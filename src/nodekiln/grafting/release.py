"""Gets the official binary that a graft starts from, and tells where it is from and what was checked.

Kept under releases/, one folder each: the binary, its headers, and release.json with what is known of it.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import stat
import tarfile
import tempfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from nodekiln.errors import SourceError
from nodekiln.grafting import archive, dist, gpg, npm
from nodekiln.grafting.dist import Download
from nodekiln.grafting.download import Server, UnreachableError
from nodekiln.grafting.platforms import HEAD, Platform, recognise
from nodekiln.recipe import Tag
from nodekiln.reporting import Reporter, format_size

_RECORD = "release.json"
_STAGING = ".staging-"
_DOWNLOADS = ".downloads"
_TAKES = "--release FILE takes a tarball or a binary that you have."


@dataclass(frozen=True, slots=True)
class Release:
    """An official binary: `headers` is the folder include/ that came with it, `sha256` that of the binary."""

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
    env: Mapping[str, str],
    reporter: Reporter,
) -> Release:
    """The release `file` (a tarball or a bare binary), else the one kept in `folder`, else downloads it.

    From `mirror`, else nodejs.org/dist; where that can't be had, from npm. Raises SourceError where nothing
    can be had, or what came is damaged, no program, or for another platform.
    """
    folder.mkdir(parents=True, exist_ok=True)
    if file is not None:
        return _given(tag, platform, file, folder, reporter)
    place = folder / f"{tag}-{platform}"
    kept = _kept(tag, platform, place, reporter)
    if kept is not None:
        return kept
    downloads = folder / _DOWNLOADS
    downloads.mkdir(exist_ok=True)
    got = _download(tag, platform, downloads, mirror, env, reporter)
    try:
        release = _keep(tag, platform, got, place)
    except SourceError:
        got.file.unlink()
        raise
    got.file.unlink()
    reporter.say(
        f"release: {got.origin}, {format_size(release.path.stat().st_size)}, {', '.join(got.checks)}"
    )
    return release


def _download(
    tag: Tag,
    platform: Platform,
    folder: Path,
    mirror: str | None,
    env: Mapping[str, str],
    reporter: Reporter,
) -> Download:
    server = Server(mirror or dist.OFFICIAL, env=env)
    try:
        return dist.fetch(
            tag, platform, server, folder=folder, signers=gpg.signers(), env=env, reporter=reporter
        )
    except UnreachableError as error:
        missing = error.message
    reporter.say(f"{missing} Asking npm.")
    place = Path(tempfile.mkdtemp(prefix=_STAGING, dir=folder))
    try:
        got = npm.fetch(tag, platform, folder=place, env=env, reporter=reporter)
        file = got.file.rename(folder / got.file.name)
    except UnreachableError as error:
        raise SourceError(
            f"{tag} for {platform} can't be had: {missing} {error.message}",
            remedy=_TAKES,
        ) from None
    finally:
        shutil.rmtree(place, ignore_errors=True)
    return Download(file, got.origin, got.checks)


def _given(tag: Tag, platform: Platform, file: Path, folder: Path, reporter: Reporter) -> Release:
    """A binary of the user's stays where it is; a tarball is unpacked once and known by its hash."""
    try:
        if not stat.S_ISREG(file.stat().st_mode):  # a pipe would wait, a device never end
            raise SourceError(f"--release {file} is no file.", remedy=_TAKES)
        with file.open("rb") as stream:
            head = stream.read(HEAD)
            stream.seek(0)
            sha256 = hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError as error:
        raise SourceError(f"--release {file} can't be read: {error.strerror}.", remedy=_TAKES) from None
    checks = ("none: a file of the user's",)
    if not tarfile.is_tarfile(file):
        _expect(platform, head, str(file))
        return Release(file, str(tag), str(platform), str(file), checks, sha256, None)
    place = folder / f"{tag}-{platform}-{sha256[:12]}"
    kept = _kept(tag, platform, place, reporter)
    return kept or _keep(tag, platform, Download(file, f"{file} (sha256 {sha256})", checks), place)


def _kept(tag: Tag, platform: Platform, place: Path, reporter: Reporter) -> Release | None:
    """What was kept, if it still is what it was; otherwise it is removed."""
    if not place.exists():
        return None
    try:
        told = json.loads((place / _RECORD).read_text())
        record = _Record(str(told["origin"]), tuple(map(str, told["checks"])), str(told["sha256"]))
        with (place / "node").open("rb") as stream:
            whole = hashlib.file_digest(stream, "sha256").hexdigest() == record.sha256
    except (OSError, ValueError, KeyError, TypeError):
        whole = False
    if not whole:
        reporter.warn(f"{place} was damaged since it was made, and is made again.")
        shutil.rmtree(place)
        return None
    return _release(tag, platform, record, place)


def _keep(tag: Tag, platform: Platform, got: Download, place: Path) -> Release:
    """Unpacks what was got and puts it under its name in one rename."""
    staging = Path(tempfile.mkdtemp(prefix=_STAGING, dir=place.parent))
    try:
        staging.chmod(0o755)
        if tarfile.is_tarfile(got.file):
            binary = archive.extract(got.file, staging)
        else:
            binary = shutil.copyfile(got.file, staging / "node")
        with binary.open("rb") as stream:
            _expect(platform, stream.read(HEAD), f"the binary of {got.origin}")
            stream.seek(0)
            record = _Record(got.origin, got.checks, hashlib.file_digest(stream, "sha256").hexdigest())
        (staging / _RECORD).write_text(json.dumps(asdict(record), indent=2) + "\n")
        staging.rename(place)
    except BaseException:
        shutil.rmtree(staging, ignore_errors=True)
        raise
    return _release(tag, platform, record, place)


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

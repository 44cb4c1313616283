"""Takes the binary and the headers out of a release's archive: by fixed names and with caps."""

from __future__ import annotations

import io
import re
import tarfile
from pathlib import Path, PurePosixPath
from typing import Any

from nodekiln.core.archives import RefusedError, check_length, read_members
from nodekiln.core.errors import SourceError

_LARGEST_BINARY = 2**29
"""Bytes; 26.10.0 has 150 MB."""
_LARGEST = 2**31
"""Bytes of all members; a release unpacks to 0.2 GB."""
_MOST = 100_000
"""Members; npm's package of 22.20.0 has 2,733, which leaves npm itself out."""
_BINARY = re.compile(r"[^/]+/bin/node(\.exe)?")
_HEADER = re.compile(r"[^/]+/(include/node(/[A-Za-z0-9_+-][A-Za-z0-9_.+-]*)+)", re.ASCII)


def extract(archive: Path, folder: Path) -> Path:
    """Writes NAME/bin/node of a tarball to `folder`/node, and NAME/include/node below `folder`; says where.

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
        if total > _LARGEST or count > _MOST:
            raise RefusedError("unpacks to more than any release")
        target = _target(member, folder)
        if target is None:
            continue
        if target == binary and member.size > _LARGEST_BINARY:
            raise RefusedError("has a binary that is larger than any release's")
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            file = target.open("xb")
        except FileExistsError as error:
            raise RefusedError(f"holds {Path(error.filename).name} twice") from None
        except NotADirectoryError:
            raise RefusedError(f"holds {target.name} below what is a file") from None
        with file:
            file.writelines(pieces)


def _target(member: tarfile.TarInfo, folder: Path) -> Path | None:
    """Where a member goes; None for those that are not taken."""
    if not member.isreg():
        return None
    if _BINARY.fullmatch(member.name):
        return folder / "node"
    header = _HEADER.fullmatch(member.name)
    if header is None:
        return None
    check_length(header[1])
    return folder.joinpath(*PurePosixPath(header[1]).parts)

"""Takes the binary and the headers out of a release's archive: by fixed names and with caps."""

from __future__ import annotations

import lzma
import re
import shutil
import tarfile
import zlib
from pathlib import Path, PurePosixPath

from nodekiln.errors import SourceError

_LARGEST_BINARY = 2**29
"""Bytes; 26.10.0 has 150 MB."""
_LARGEST = 2**31
"""Bytes of all members; a release unpacks to 0.2 GB."""
_BINARY = re.compile(r"[^/]+/bin/node(\.exe)?")
_HEADER = re.compile(r"[^/]+/(include/node(/[A-Za-z0-9_+-][A-Za-z0-9_.+-]*)+)", re.ASCII)


def extract(archive: Path, folder: Path) -> Path:
    """Writes NAME/bin/node of a tarball to `folder`/node, and NAME/include/node below `folder`; says where.

    `folder` is empty. Only regular files are taken, each written once. Raises SourceError for an archive that
    is damaged, bigger than a release, or doesn't have just one such binary.
    """
    binary = folder / "node"
    try:
        with tarfile.open(archive, "r|*") as members:
            total = 0
            for member in members:
                total += member.size
                if total > _LARGEST:
                    raise SourceError(f"{archive.name} unpacks to more than any release.")
                target = _target(member, folder)
                stream = None if target is None else members.extractfile(member)
                if target is None or stream is None:
                    continue
                if target == binary and member.size > _LARGEST_BINARY:
                    raise SourceError(f"The binary in {archive.name} is larger than any release's.")
                target.parent.mkdir(parents=True, exist_ok=True)
                with target.open("xb") as file:
                    shutil.copyfileobj(stream, file, 2**20)
    except FileExistsError as error:
        raise SourceError(f"{archive.name} holds {Path(error.filename).name} twice.") from None
    except (tarfile.TarError, EOFError, zlib.error, lzma.LZMAError, NotADirectoryError) as error:
        raise SourceError(f"{archive.name} is damaged: {error}.") from None
    except OSError as error:
        if error.errno is not None:  # the disk; what bz2 and gzip say of damage has no number
            raise
        raise SourceError(f"{archive.name} is damaged: {error}.") from None
    if not binary.is_file():
        raise SourceError(f"There is no bin/node in {archive.name}.")
    binary.chmod(0o755)
    return binary


def _target(member: tarfile.TarInfo, folder: Path) -> Path | None:
    """Where a member goes; None for those that are not taken."""
    if not member.isreg():
        return None
    if _BINARY.fullmatch(member.name):
        return folder / "node"
    header = _HEADER.fullmatch(member.name)
    return None if header is None else folder.joinpath(*PurePosixPath(header[1]).parts)

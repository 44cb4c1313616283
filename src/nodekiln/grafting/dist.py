"""A release from nodejs.org/dist or a mirror of it, checked against the release's SHASUMS256.txt."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from nodekiln.core.errors import SourceError
from nodekiln.core.files import hash_file
from nodekiln.core.recipe import Tag
from nodekiln.core.reporting import Reporter
from nodekiln.grafting import gpg
from nodekiln.grafting.download import Server, UnreachableError
from nodekiln.grafting.platforms import Platform

OFFICIAL = "https://nodejs.org/dist"
_SUMS = "SHASUMS256.txt"
_SMALL = 2**20
_LINE = re.compile(r"([0-9a-f]{64})[ \t]+\*?(\S+)", re.ASCII)


@dataclass(frozen=True, slots=True)
class Download:
    """A file that was fetched and checked: an archive, or the bare binary."""

    file: Path
    origin: str
    checks: tuple[str, ...]


def fetch(
    tag: Tag,
    platform: Platform,
    server: Server,
    *,
    folder: Path,
    signers: Iterable[str],
    env: Mapping[str, str],
    reporter: Reporter,
) -> Download:
    """Fetches the release into `folder`. Raises UnreachableError where it can't be had from there.

    SourceError: what came is not what SHASUMS256.txt names, and is removed; or its signature is wrong.
    """
    name = f"win-{platform.cpu}/node.exe" if platform.os == "win" else f"node-{tag}-{platform}.tar.xz"
    sums = server.read(f"{tag}/{_SUMS}", limit=_SMALL)
    wanted = _hash_in(sums.decode(errors="replace"), name, server)
    try:
        signature = server.read(f"{tag}/{_SUMS}.sig", limit=_SMALL)
    except UnreachableError:
        signed = f"signature not checked ({_SUMS}.sig is not there)"
    else:
        signed = gpg.check(sums, signature, known=signers, env=env)
    # Named by its hash, so that what is here of another release is never gone on with.
    part = folder / f"{wanted[:16]}.part"
    with reporter.progress(f"download {name}") as meter:
        server.fetch(f"{tag}/{name}", part, meter)
    found = hash_file(part)
    if found != wanted:
        part.unlink()
        raise SourceError(
            f"{server.base}/{tag}/{name} is damaged: its SHA-256 is {found[:12]}..., and {_SUMS} says"
            f" {wanted[:12]}... It was removed.",
            remedy="Run the same command again; if that ends the same way, the server has a wrong file.",
        )
    return Download(part, f"{server.base}/{tag}/{name}", (f"sha256 as in {_SUMS}", signed))


def _hash_in(sums: str, name: str, server: Server) -> str:
    lines = [match for line in sums.splitlines() if (match := _LINE.fullmatch(line))]
    if not lines:
        raise UnreachableError(f"{server.base} answers with something else than a {_SUMS}.")
    found = {match[1] for match in lines if match[2] == name}
    if len(found) != 1:
        raise UnreachableError(f"{server.base} has no {name}: {_SUMS} doesn't name it.")
    return found.pop()

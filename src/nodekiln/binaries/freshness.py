"""Compare a published binary with what its recipe would make now."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from nodekiln.binaries.store import Published
from nodekiln.core.files import hash_file


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """Everything that determines the result of a build."""

    commit: str
    plan: str
    """The plan's digest."""
    configure_args: tuple[str, ...]
    compiler: str
    """The toolchain's identity."""
    environment: str
    """The variables that configure writes into the build files, as a shell takes them (CFLAGS='-O0 -g')."""
    linker: str
    """Its name, as --linker takes it. Versions don't count: ld's never did."""


def differences(published: Published, wanted: Wanted) -> tuple[str, ...]:
    """In what the binary that is there differs from what is wanted; empty where it is the one.

    Reads the whole binary for its hash (0.1 s for 50 MB): a file that was changed since is not what we made.
    """
    facts = published.facts
    if facts is None:
        return (published.trouble or "its manifest is missing",)
    found = []
    if facts["commit"] != wanted.commit:
        found.append(f"the tag's commit was {facts['commit'][:12]} and is {wanted.commit[:12]}")
    if facts["plan"] != wanted.plan:
        found.append("its edits were others")
    if tuple(facts["configure_args"]) != wanted.configure_args:
        found.append("its configure arguments were others")
    if facts["toolchain"].get("identity") != wanted.compiler:
        found.append("it was made by another compiler")
    environment = facts["toolchain"].get("environment")
    if environment is None:
        found.append("its manifest does not record the compiler flags")
    elif environment != wanted.environment:
        found.append(
            f"it was made with {environment or 'no flags'}, and now has {wanted.environment or 'none'}"
        )
    if (linker := linker_of(published)) != wanted.linker:
        found.append(f"it was linked by {linker}, and now would be by {wanted.linker}")
    return (*found, *_changes(published.binary, facts["sha256"]))


def linker_of(published: Published) -> str | None:
    """Return the linker of a binary, None without a readable manifest; older ones imply the default."""
    return None if published.facts is None else str(published.facts["toolchain"].get("linker", "default"))


@dataclass(frozen=True, kw_only=True)
class WantedGraft:
    """Everything that determines the result of a graft."""

    release: str
    """SHA-256 of the official binary."""
    plan: str
    """The plan's digest."""
    probes: tuple[tuple[str, int, str], ...]
    """Name, address and arguments of each."""


def graft_differences(published: Published, wanted: WantedGraft) -> tuple[str, ...]:
    """Return the same for a graft, after hashing the whole binary."""
    facts = published.facts
    if facts is None or facts.get("graft") is None:
        return (published.trouble or "its manifest is of no graft",)
    found = []
    if facts["graft"]["release_sha256"] != wanted.release:
        found.append("it was made from another release binary")
    if facts["plan"] != wanted.plan:
        found.append("its edits were others")
    probes = facts["graft"]["probes"]
    if tuple((probe["name"], probe["address"], probe["arguments"]) for probe in probes) != wanted.probes:
        found.append("its probes were others")
    return (*found, *_changes(published.binary, facts["sha256"]))


def _changes(binary: Path, sha256: str) -> Iterator[str]:
    """Return changes to the file itself. Checks mode bits, since nothing runs on a disk mounted noexec."""
    if not binary.stat().st_mode & 0o111:
        yield "it can't be executed"
    if hash_file(binary) != sha256:
        yield "the file was changed since it was made"

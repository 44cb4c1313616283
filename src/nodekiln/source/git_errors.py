"""What is said when git fails at a repository or at the mirror: one line of git's, and what to type next."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable
from pathlib import Path

from nodekiln.core.errors import SourceError
from nodekiln.core.files import disk_full_error, is_disk_full
from nodekiln.core.recipe import Tag
from nodekiln.core.reporting import escape_unprintable
from nodekiln.source.git_runner import GitError
from nodekiln.source.location import Location
from nodekiln.source.releases import release

_NEAREST = 5
_LONGEST = 200
_DUBIOUS = re.compile(r"dubious ownership in repository at '(.+)'")
_NO_REPOSITORY = re.compile(r"does not appear to be a git repository|not a git repository")
_UNREADABLE = re.compile(r"is corrupt|not a git repository|bad config|bad object header")
_NOISE = ("warning:", "hint:", "remote: Enumerating", "remote: Counting", "remote: Compressing")


def explain(
    error: GitError, what: str, location: Location, mirror: Path, *, tag: Tag | None = None
) -> SourceError:
    """Why `what` can't be had from `location`; where that is one tag, its tarball may be."""
    if is_damage(error, mirror):
        return damaged(mirror, error)
    if is_disk_full(error.stderr):
        return disk_full_error(
            mirror,
            f"{what} needs more",
            remedy="Free some disk space and run the command again; what is already fetched is kept.",
        )
    dubious = _DUBIOUS.search(error.stderr)
    if dubious:
        return SourceError(
            f"git does not read {location.shown}, as it belongs to another user (dubious ownership).",
            remedy=f"git config --global --add safe.directory {shlex.quote(dubious[1])}",
        )
    if location.is_gone:
        return SourceError(
            f"{location.shown} is not there.", remedy="Mount its disk, or name another --repository."
        )
    if _NO_REPOSITORY.search(error.stderr):
        return SourceError(
            f"{location.shown} is no git repository.",
            remedy="Name a clone of Node's repository with --repository, or leave it out (nodejs/node).",
        )
    remedy = "Run it again later, or name another --repository."
    if tag is not None:
        remedy = (
            "Run it again later, name another --repository, or import the release's source tarball: "
            f"./inv import-tarball --tag {tag} --file node-{tag}.tar.gz"
        )
    return SourceError(
        f"{what} can't be fetched from {location.shown}: {quote(error, location)}.", remedy=remedy
    )


def is_damage(error: GitError, mirror: Path) -> bool:
    """Whether git failed at what is in the mirror, not at what it was to be filled from."""
    return any(_blames(line, mirror) for line in error.stderr.splitlines())


def damaged(mirror: Path, why: GitError | str) -> SourceError:
    """Something in the mirror can't be read, or isn't what its name says."""
    lines = why.splitlines() if isinstance(why, str) else why.stderr.splitlines()
    told = next((line for line in lines if _blames(line, mirror)), ("", *lines)[-1])
    return SourceError(
        f"The mirror {mirror} is damaged: {_plain(told) or 'git can not read it'}.",
        remedy=f"Move {mirror} out of the way and run the command again, which fetches what it needs;"
        " tarballs have to be imported again.",
    )


def no_such_tag(tag: Tag, refs: Iterable[str], location: Location) -> SourceError:
    """`location` has the tags of `refs` (refs/tags/...) and not this one."""
    tags = {found for found in map(release, refs) if found is not None}
    near = sorted(tags, key=lambda each: _distance(each, tag))[:_NEAREST]
    found = f"the nearest are {', '.join(map(str, sorted(near)))}" if near else "it has no release tags"
    return SourceError(
        f"{location.shown} has no tag {tag}; {found}.",
        remedy="Name one of them with --tag, or another repository with --repository."
        if near
        else "Name another repository with --repository.",
    )


def moved(tag: Tag, before: str, now: str, location: Location) -> SourceError:
    """`tag` was the commit `before` when it was first seen, and is another one `now`."""
    return SourceError(
        f"{tag} of {location.shown} was commit {before[:12]} and is now {now[:12]}.",
        remedy="Release tags don't move. If the new commit is the right one, add --accept-moved-tag.",
    )


def no_commit(tag: Tag, kind: str, location: Location) -> SourceError:
    """`tag` names a tree or a blob."""
    return SourceError(
        f"{tag} of {location.shown} names a {kind}, not a commit.",
        remedy="Name another repository with --repository.",
    )


def quote(error: GitError, location: Location) -> str:
    """The first line of git's that tells why, without secrets, and without what a terminal would obey."""
    lines = (line.strip() for line in error.stderr.splitlines())
    told = next((line for line in lines if line and not line.startswith(_NOISE)), f"exit code {error.status}")
    return _plain(location.hide(told))[:_LONGEST]


def _blames(line: str, mirror: Path) -> bool:
    return str(mirror.absolute()) in line and _UNREADABLE.search(line) is not None


def _plain(told: str) -> str:
    plain = escape_unprintable(told)
    return plain.removeprefix("fatal: ").rstrip(".")


def _distance(one: Tag, other: Tag) -> tuple[int, int, int]:
    return abs(one.major - other.major), abs(one.minor - other.minor), abs(one.patch - other.patch)

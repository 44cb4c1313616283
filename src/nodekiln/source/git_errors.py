"""Turn failures of git into errors that quote one line of its output and name a remedy."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable
from pathlib import Path

from nodekiln.core.errors import SourceError
from nodekiln.core.files import disk_full_error, is_disk_full
from nodekiln.core.recipe import Tag, release
from nodekiln.core.reporting import escape_unprintable
from nodekiln.source.git_runner import GitError
from nodekiln.source.location import Location

_MAX_SUGGESTIONS = 5
_MAX_QUOTE = 200
"""Characters."""
_DUBIOUS = re.compile(r"dubious ownership in repository at '(.+)'")
_NO_REPOSITORY = re.compile(r"does not appear to be a git repository|not a git repository")
_FORBIDDEN = re.compile(r"transport '([\w+.-]{1,40})' not allowed")
_PARTIAL = re.compile(r"lazy fetching disabled|promisor remote")
_UNREADABLE = re.compile(r"is corrupt|not a git repository|bad config|bad object header")
_NOISE = ("warning:", "hint:", "remote: Enumerating", "remote: Counting", "remote: Compressing")


def explain(
    error: GitError, what: str, location: Location, mirror: Path, *, tag: Tag | None = None
) -> SourceError:
    """Return the error for a failed fetch of `what` from `location`.

    If `what` is a single tag, pass it as `tag`, so that the remedy can suggest importing its tarball.
    """
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
            f"git refuses to read {location.shown}: it belongs to another user (dubious ownership).",
            remedy=f"git config --global --add safe.directory {shlex.quote(dubious[1])}",
        )
    if location.is_gone:
        return SourceError(
            f"{location.shown} does not exist.", remedy="Mount its disk, or name another --repository."
        )
    if _NO_REPOSITORY.search(error.stderr):
        return SourceError(
            f"{location.shown} is not a git repository.",
            remedy="Name a clone of Node's repository with --repository, or omit it (default: nodejs/node).",
        )
    if forbidden := _FORBIDDEN.search(error.stderr):
        return SourceError(
            f"git fetches {what} by {forbidden[1]}, not as {location.shown} says, and that is not allowed.",
            remedy="A setting of git redirects there. To see it:"
            r" git config --show-origin --get-regexp '^url\..*\.insteadof$'",
        )
    if _PARTIAL.search(error.stderr):
        return SourceError(
            f"{location.shown} is a partial clone, which does not have the files of {what}.",
            remedy="Name the repository that it was cloned from, or complete it:"
            " git -C FOLDER fetch --refetch --no-filter",
        )
    remedy = "Run it again later, or name another --repository."
    if tag is not None:
        remedy = (
            "Run it again later, name another --repository, or import the release's source tarball: "
            f"./inv import-tarball --tag {tag} --file node-{tag}.tar.gz"
        )
    return SourceError(
        f"Fetching {what} from {location.shown} failed: {quote(error, location)}.", remedy=remedy
    )


def is_damage(error: GitError, mirror: Path) -> bool:
    """Return True if git failed to read the mirror itself, rather than the repository it fetches from."""
    return any(_blames(line, mirror) for line in error.stderr.splitlines())


def damaged(mirror: Path, why: GitError | str) -> SourceError:
    """Return the error for a mirror with an unreadable or corrupt object."""
    lines = why.splitlines() if isinstance(why, str) else why.stderr.splitlines()
    reason = next((line for line in lines if _blames(line, mirror)), ("", *lines)[-1])
    return SourceError(
        f"The mirror {mirror} is damaged: {_plain(reason) or 'git cannot read it'}.",
        remedy=f"Move {mirror} out of the way and run the command again, which fetches what it needs;"
        " tarballs have to be imported again.",
    )


def no_such_tag(tag: Tag, refs: Iterable[str], location: Location) -> SourceError:
    """Return the error for a tag that `location` does not have; `refs` (refs/tags/...) are its tags."""
    tags = {found for found in map(release, refs) if found is not None}
    near = sorted(tags, key=lambda each: _distance(each, tag))[:_MAX_SUGGESTIONS]
    found = f"the nearest are {', '.join(map(str, sorted(near)))}" if near else "it has no release tags"
    return SourceError(
        f"{location.shown} has no tag {tag}; {found}.",
        remedy="Name one of them with --tag, or another repository with --repository."
        if near
        else "Name another repository with --repository.",
    )


def moved(tag: Tag, before: str, now: str, location: Location) -> SourceError:
    """Return the error for a tag that pointed to commit `before` when first seen and points to `now`."""
    return SourceError(
        f"{tag} of {location.shown} was commit {before[:12]} and is now {now[:12]}.",
        remedy="Release tags don't move. If the new commit is the right one, add --accept-moved-tag.",
    )


def no_commit(tag: Tag, kind: str, location: Location) -> SourceError:
    """Return the error for a tag that points to an object of another `kind` (tree, blob)."""
    return SourceError(
        f"{tag} of {location.shown} names a {kind}, not a commit.",
        remedy="Name another repository with --repository.",
    )


def quote(error: GitError, location: Location) -> str:
    """Return the first line of git's output that gives the reason, without secrets and escape sequences."""
    lines = (line.strip() for line in error.stderr.splitlines())
    reason = next(
        (line for line in lines if line and not line.startswith(_NOISE)), f"exit code {error.status}"
    )
    return _plain(location.hide(reason))[:_MAX_QUOTE]


def _blames(line: str, mirror: Path) -> bool:
    return str(mirror.absolute()) in line and _UNREADABLE.search(line) is not None


def _plain(line: str) -> str:
    return escape_unprintable(line).removeprefix("fatal: ").rstrip(".")


def _distance(one: Tag, other: Tag) -> tuple[int, int, int]:
    return abs(one.major - other.major), abs(one.minor - other.minor), abs(one.patch - other.patch)

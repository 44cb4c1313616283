"""Which names of a repository's tags are those of releases."""

from __future__ import annotations

import re
from contextlib import suppress

from nodekiln.core.errors import SourceError, UsageError
from nodekiln.core.recipe import Tag


def release(name: str, *, pre: bool = False) -> Tag | None:
    """Return the release that a tag or ref is named after, or None for other names.

    Pre-releases (v27.0.0-alpha.1) count only if `pre` is set.
    """
    short = name.removeprefix("refs/tags/")
    with suppress(UsageError):
        tag = Tag.parse(short, pre=pre)
        return tag if str(tag) == short else None
    return None


HEADER = "src/node_version.h"

_PART = re.compile(
    rb"^[ \t]*#[ \t]*define[ \t]+NODE_(MAJOR|MINOR|PATCH)_VERSION[ \t]+(\d{1,4})\s", re.MULTILINE
)


def read_version(header: bytes) -> Tag | None:
    """Return the release that the content of HEADER defines, or None if it defines no version."""
    parts = {part.decode(): int(value) for part, value in _PART.findall(header)}
    if parts.keys() != {"MAJOR", "MINOR", "PATCH"}:
        return None
    return Tag(parts["MAJOR"], parts["MINOR"], parts["PATCH"])


def mismatch(tag: Tag, origin: str, header: bytes | None) -> SourceError | None:
    """Return an error unless HEADER (None: missing) in the tree of `tag` at `origin` defines that release.

    Without this check, a tag on another release's tree is compiled for an hour before the binary fails its
    check.
    """
    found = None if header is None else read_version(header)
    if found == tag:
        return None
    remedy = "Name another repository with --repository."
    if found is None:
        text = f"{tag} of {origin} is not a source tree of Node: it has no {HEADER} that defines a version."
    else:
        text = f"{tag} of {origin} contains the sources of {found}."
    return SourceError(text, remedy=remedy)

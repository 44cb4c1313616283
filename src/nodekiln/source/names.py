"""Which names of a repository's tags are those of releases."""

from __future__ import annotations

from contextlib import suppress

from nodekiln.core.errors import UsageError
from nodekiln.core.recipe import Tag


def release(name: str) -> Tag | None:
    """The release that a tag or ref is named after; None for candidates, branches, ..."""
    short = name.removeprefix("refs/tags/")
    with suppress(UsageError):
        tag = Tag.parse(short)
        return tag if str(tag) == short else None
    return None

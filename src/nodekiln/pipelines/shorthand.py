"""Resolves 22, 22.20, lts and latest to a release's tag, and prints which one it is.

Full tags are never looked up, which would need the network. Imports are local: importing GitPython fails
without a git, which a graft does not need.
"""

from __future__ import annotations

import json
import platform as machine
import re
import sys
from collections.abc import Callable, Iterable

from nodekiln.core.errors import SourceError, UsageError
from nodekiln.core.files import temporary_directory
from nodekiln.core.recipe import Tag
from nodekiln.core.reporting import Reporter
from nodekiln.core.settings import Settings
from nodekiln.grafting.platforms import Platform

_SHORT = re.compile(r"v?(?P<major>\d{1,4})(\.(?P<minor>\d{1,4}))?|lts|latest", re.ASCII)
_IS_LTS = re.compile(rb"^#define NODE_VERSION_IS_LTS 1\b", re.MULTILINE)
_VERSION_HEADER = "src/node_version.h"
_FULL = "Name a full tag, as v22.20.0."
_INDEX_LIMIT = 16 * 10**6
"""Bytes; the index of nodejs.org has 300 kB."""


def is_shorthand(word: str) -> bool:
    """Return whether `word` is 22, v22.20, lts or latest."""
    return _SHORT.fullmatch(word) is not None


def source_tag(word: str, repository: str | None, settings: Settings, reporter: Reporter) -> Tag:
    """Return the tag that `word` means in the repository, or if that is unreachable in the local mirror.

    Raises UsageError for a word that is no tag, SourceError if no tag matches.
    """
    if not is_shorthand(word):
        return Tag.parse(word)
    from nodekiln.source.location import OFFICIAL, parse_location
    from nodekiln.source.tagset import TagSet

    location = parse_location(repository or settings.repository or OFFICIAL, base=settings.cwd)
    tags = TagSet(settings.workspace, location, reporter)
    origin = location.shown
    try:
        found = dict(tags.listed().tags)
    except SourceError as error:
        found = tags.pinned()
        if not found:
            raise
        reporter.warn(f"{error.message} The tags fetched before are used.")
        origin = "the local mirror"

    def is_lts(tag: Tag) -> bool:
        answer = tags.look_up({tag: found[tag]}, lambda _: [_VERSION_HEADER])[tag]
        if isinstance(answer, SourceError):
            raise answer
        headers = tags.fetch_blobs(answer.blobs.values(), [tag])
        return any(text is not None and _IS_LTS.search(text) for _, text in tags.contents(headers))

    return _choose(word, found, is_lts, origin, reporter)


def release_tag(
    word: str, platform: Platform | None, mirror: str | None, settings: Settings, reporter: Reporter
) -> Tag:
    """Return the tag that `word` means in the mirror's release index, or if that is unreachable in npm's.

    Raises UsageError for a word that is no tag, SourceError if no tag matches.
    """
    if not is_shorthand(word):
        return Tag.parse(word)
    from nodekiln.grafting import npm
    from nodekiln.grafting.download import OFFICIAL, Server, UnreachableError

    platform = platform or Platform.of_machine(sys.platform, machine.machine())
    server = Server(mirror or OFFICIAL, env=settings.environment)
    try:
        lts = _read_index(server.read("index.json", limit=_INDEX_LIMIT), server.base)
        return _choose(word, lts, lambda tag: lts[tag], server.base, reporter)
    except UnreachableError as error:
        if mirror or platform is None or word == "lts":  # npm's packages do not say which releases are LTS
            raise SourceError(error.message, remedy=_FULL) from None
        with temporary_directory() as folder:
            found = npm.versions(platform, folder=folder, env=settings.environment)
        if not found:
            raise SourceError(error.message, remedy=_FULL) from None
        return _choose(word, found, lambda _: False, "npm", reporter)


def _read_index(text: bytes, origin: str) -> dict[Tag, bool]:
    """Return the releases of an index.json, and which of them are LTS."""
    try:
        rows = json.loads(text)
        return {Tag.parse(row["version"]): bool(row["lts"]) for row in rows}
    except (ValueError, TypeError, KeyError, UsageError):
        from nodekiln.grafting.download import UnreachableError

        raise UnreachableError(f"{origin}/index.json is not an index of releases.") from None


def _choose(
    word: str, tags: Iterable[Tag], is_lts: Callable[[Tag], bool], origin: str, reporter: Reporter
) -> Tag:
    match = _SHORT.fullmatch(word)
    assert match is not None  # noqa: S101 (the callers have checked)
    found = sorted(
        (
            tag
            for tag in tags
            if match["major"] is None
            or (tag.major == int(match["major"]) and match["minor"] in (None, str(tag.minor)))
        ),
        reverse=True,
    )
    if word == "lts":
        newest = {tag.major: tag for tag in reversed(found)}
        found = [tag for major, tag in sorted(newest.items(), reverse=True) if is_lts(tag)]
    if not found:
        raise SourceError(f"No release matches {word!r} in {origin}.", remedy=_FULL)
    reporter.say(f"{word} is {found[0]}, the newest in {origin}")
    return found[0]

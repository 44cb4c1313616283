"""Which tags to verify: parse --tags, --since and --pre, and select from a repository's tags."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass
from fnmatch import fnmatchcase
from itertools import groupby
from operator import attrgetter

from nodekiln.core.errors import UsageError
from nodekiln.core.recipe import Tag
from nodekiln.core.settings import parse_list

OLDEST_MAJOR = 18
"""The default is the newest tag of each major from this one on."""
ALL, LATEST = "all", "latest-per-major"

_COMPARISON = re.compile(r"(>=|<=|>|<|=)v?(\d{1,4}(?:\.\d{1,4}){0,2})", re.ASCII)
_GLOB = re.compile(r"v?[\d*?.\[\]-]*[*?\[][\d*?.\[\]a-z-]*", re.ASCII)
_FORMS = (
    "Use tags (v22.20.0), globs (v22.*), ranges (>=20,<25), latest-per-major or all, separated by commas."
)


@dataclass(frozen=True, slots=True)
class Selection:
    """The selected tags in order; `missing` were named and do not exist in the repository."""

    tags: tuple[Tag, ...]
    missing: tuple[Tag, ...]


@dataclass(frozen=True, slots=True)
class _Choice:
    """One word of --tags, and the function that selects its tags."""

    word: str
    select: Callable[[Collection[Tag]], Iterable[Tag]]
    named: Tag | None = None


@dataclass(frozen=True, slots=True)
class TagSpec:
    """The parsed options --tags, --since and --pre."""

    choices: tuple[_Choice, ...]
    since: Tag | None = None
    pre: bool = False

    @classmethod
    def parse(cls, text: str | None = None, since: str | None = None, *, pre: bool = False) -> TagSpec:
        """Return the parsed options; None if one was not given. Raises UsageError for invalid words.

        Adjacent comparisons form one range. Tags of pre-releases are considered if `pre` is set.
        """
        first = None if since is None else _parse_since(since, pre=pre)
        if text is None:
            if first is not None:
                return cls((_Choice(ALL, _all),), first, pre)
            return cls((_Choice(LATEST, _latest_supported),), None, pre)
        words = parse_list(text, str, "--tags")
        choices: list[_Choice] = []
        for is_range, group in groupby(words, key=lambda word: word.startswith(tuple("<>="))):
            found = list(group)
            choices += [_range(found)] if is_range else [_choice(word, pre=pre) for word in found]
        return cls(tuple(choices), first, pre)

    def select(self, available: Collection[Tag]) -> Selection:
        """Return the selected tags, each once, in order; raises UsageError for a word that matches none."""
        candidates = [tag for tag in available if self.since is None or tag >= self.since]
        selected: set[Tag] = set()
        missing: set[Tag] = set()
        for choice in self.choices:
            found = set(choice.select(candidates))
            if not found and choice.named is not None and choice.named not in available:
                missing.add(choice.named)
            elif not found:
                raise UsageError(self._no_match(choice, available))
            selected |= found
        return Selection(tuple(sorted(selected)), tuple(sorted(missing)))

    def _no_match(self, choice: _Choice, available: Collection[Tag]) -> str:
        what = choice.word if self.since is None else f"{choice.word} since {self.since}"
        if not available:
            return f"No tag matches {what!r}: the repository has no release tags."
        known = f"{len(available)} release tags, {min(available)} to {max(available)}"
        return f"No tag matches {what!r}: the repository has {known}."


def _parse_since(word: str, *, pre: bool) -> Tag:
    try:
        return Tag.parse(word, pre=pre)
    except UsageError:
        raise UsageError(
            f"--since: {word!r} is not a tag.", remedy="Use one (--since v20.0.0), or --tags '>=20'."
        ) from None


def _choice(word: str, *, pre: bool) -> _Choice:
    if word == ALL:
        return _Choice(word, _all)
    if word == LATEST:
        return _Choice(word, _latest)
    if _GLOB.fullmatch(word):
        pattern = word if word.startswith("v") else f"v{word}"
        return _Choice(word, lambda tags: [tag for tag in tags if fnmatchcase(str(tag), pattern)])
    try:
        named = Tag.parse(word, pre=pre)
    except UsageError:
        raise UsageError(f"--tags: {word!r} is neither a tag nor a pattern.", remedy=_FORMS) from None
    return _Choice(word, lambda tags: [tag for tag in tags if tag == named], named)


def _range(words: list[str]) -> _Choice:
    tests = [_test(word) for word in words]
    return _Choice(",".join(words), lambda tags: [tag for tag in tags if all(test(tag) for test in tests)])


def _test(word: str) -> Callable[[Tag], bool]:
    """Return the test for one comparison; an omitted number is any number: <=22 includes v22.20.0."""
    match = _COMPARISON.fullmatch(word.replace(" ", ""))
    if match is None:
        raise UsageError(f"--tags: {word!r} is not a comparison with a version.", remedy=_FORMS)
    bound = tuple(map(int, match[2].split(".")))

    def cut(tag: Tag) -> tuple[int, ...]:
        return (tag.major, tag.minor, tag.patch)[: len(bound)]

    match match[1]:
        case ">=":
            return lambda tag: cut(tag) >= bound
        case "<=":
            return lambda tag: cut(tag) <= bound
        case ">":
            return lambda tag: cut(tag) > bound
        case "<":
            return lambda tag: cut(tag) < bound
    return lambda tag: cut(tag) == bound


def _all(tags: Collection[Tag]) -> Iterable[Tag]:
    return tags


def _latest(tags: Collection[Tag]) -> Iterator[Tag]:
    """Yield the newest release of each major, and its newest pre-release if that is newer."""
    for _, group in groupby(sorted(tags), key=attrgetter("major")):
        *_, newest = found = list(group)
        releases = [tag for tag in found if not tag.pre]
        yield from releases[-1:]
        if newest.pre:
            yield newest


def _latest_supported(tags: Collection[Tag]) -> Iterator[Tag]:
    return _latest([tag for tag in tags if tag.major >= OLDEST_MAJOR])

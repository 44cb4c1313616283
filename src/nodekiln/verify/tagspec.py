"""Which tags to look at: words of a user's, and what they choose among those that a repository has."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from fnmatch import fnmatchcase
from itertools import groupby
from operator import attrgetter

from nodekiln.core.errors import UsageError
from nodekiln.core.recipe import Tag

OLDEST_MAJOR = 18
"""Without a word of the user's, the newest tag of each major from this one on is looked at."""
ALL, LATEST = "all", "latest-per-major"

_COMPARISON = re.compile(r"(>=|<=|>|<|=)v?(\d{1,4}(?:\.\d{1,4}){0,2})", re.ASCII)
_GLOB = re.compile(r"v?[\d*?.\[\]-]*[*?\[][\d*?.\[\]-]*", re.ASCII)
_FORMS = (
    "Take tags (v22.20.0), globs (v22.*), ranges (>=20,<25), latest-per-major or all, with commas between."
)


@dataclass(frozen=True, slots=True)
class Selection:
    """Tags in order; `missing` were named, and the repository has none such."""

    tags: tuple[Tag, ...]
    missing: tuple[Tag, ...]


@dataclass(frozen=True, slots=True)
class _Choice:
    """One word: what it takes of those that are there."""

    word: str
    take: Callable[[Collection[Tag]], Iterable[Tag]]
    named: Tag | None = None


@dataclass(frozen=True, slots=True)
class TagSpec:
    """What --tags and --since said."""

    choices: tuple[_Choice, ...]
    since: Tag | None = None

    @classmethod
    def parse(cls, text: str | None = None, since: str | None = None) -> TagSpec:
        """Reads both options; None where one was not given. Raises UsageError for words of another form.

        Words are joined by commas; comparisons that follow one another make one range.
        """
        first = None if since is None else _first(since)
        if text is None:
            if first is not None:
                return cls((_Choice(ALL, _everything),), first)
            return cls((_Choice(LATEST, _latest_supported),))
        words = [word.strip() for word in text.split(",")]
        if not all(words):
            raise UsageError(f"--tags {text!r} has an empty word.", remedy=_FORMS)
        choices: list[_Choice] = []
        for is_range, group in groupby(words, key=lambda word: word.startswith(tuple("<>="))):
            found = list(group)
            choices += [_range(found)] if is_range else map(_choice, found)
        return cls(tuple(choices), first)

    def select(self, available: Collection[Tag]) -> Selection:
        """The tags that are meant, each once, in order; raises UsageError for a word that means none."""
        candidates = [tag for tag in available if self.since is None or tag >= self.since]
        chosen: set[Tag] = set()
        missing: set[Tag] = set()
        for choice in self.choices:
            taken = set(choice.take(candidates))
            if not taken and choice.named is not None and choice.named not in available:
                missing.add(choice.named)
            elif not taken:
                raise UsageError(self._nothing(choice, available))
            chosen |= taken
        return Selection(tuple(sorted(chosen)), tuple(sorted(missing)))

    def _nothing(self, choice: _Choice, available: Collection[Tag]) -> str:
        what = choice.word if self.since is None else f"{choice.word} since {self.since}"
        if not available:
            return f"There is no tag for {what!r}: the repository has no release tags."
        known = f"{len(available)} release tags, {min(available)} to {max(available)}"
        return f"There is no tag for {what!r}; the repository has {known}."


def _first(word: str) -> Tag:
    try:
        return Tag.parse(word)
    except UsageError:
        raise UsageError(
            f"--since: {word!r} is no tag.", remedy="Name one (--since v20.0.0), or take --tags '>=20'."
        ) from None


def _choice(word: str) -> _Choice:
    if word == ALL:
        return _Choice(word, _everything)
    if word == LATEST:
        return _Choice(word, _latest)
    if _GLOB.fullmatch(word):
        pattern = word if word.startswith("v") else f"v{word}"
        return _Choice(word, lambda tags: [tag for tag in tags if fnmatchcase(str(tag), pattern)])
    try:
        named = Tag.parse(word)
    except UsageError:
        raise UsageError(f"--tags: {word!r} is neither a tag nor a choice of tags.", remedy=_FORMS) from None
    return _Choice(word, lambda tags: [tag for tag in tags if tag == named], named)


def _range(words: list[str]) -> _Choice:
    tests = [_test(word) for word in words]
    return _Choice(",".join(words), lambda tags: [tag for tag in tags if all(test(tag) for test in tests)])


def _test(word: str) -> Callable[[Tag], bool]:
    """A number that is left out is any number: <=22 takes v22.20.0, and >22 does not."""
    match = _COMPARISON.fullmatch(word.replace(" ", ""))
    if match is None:
        raise UsageError(f"--tags: {word!r} is no comparison with a version.", remedy=_FORMS)
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


def _everything(tags: Collection[Tag]) -> Iterable[Tag]:
    return tags


def _latest(tags: Collection[Tag]) -> Iterable[Tag]:
    return [max(group) for _, group in groupby(sorted(tags), key=attrgetter("major"))]


def _latest_supported(tags: Collection[Tag]) -> Iterable[Tag]:
    return _latest([tag for tag in tags if tag.major >= OLDEST_MAJOR])

"""The results of a verification: a report with a row for each tag, and findings in each row."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from itertools import pairwise
from operator import attrgetter
from typing import Self

from nodekiln.changes.registry import Registry
from nodekiln.core.errors import PatchError, ToolchainError, UsageError
from nodekiln.core.recipe import Recipe, Tag
from nodekiln.core.settings import parse_list

STOCK = "stock"


class Status(StrEnum):
    """The result for a tag or for one recipe of a tag, from the best to the worst."""

    CLEAN = "clean"
    NATIVE = "native"
    UPSTREAMED = "upstreamed"
    OFFSET = "offset"
    NOT_SERVED = "not served"
    MISSING_ANCHOR = "missing anchor"
    CONFLICT = "conflict"
    FAILED = "failed"
    TOOLCHAIN = "toolchain"
    ERROR = "error"

    @property
    def is_fine(self) -> bool:
        """Return True if the recipe can be built from the tag, or is not meant for it (not served).

        A tree with a probe provider of its own (native, upstreamed) is built with that provider.
        """
        return self in _FINE


_FINE = frozenset({Status.CLEAN, Status.NATIVE, Status.UPSTREAMED, Status.OFFSET, Status.NOT_SERVED})
_RANK = {status: rank for rank, status in enumerate(Status)}


def worst(statuses: Iterable[Status]) -> Status:
    """Return the worst status; clean if there are none."""
    return max(statuses, key=_RANK.__getitem__, default=Status.CLEAN)


class Depth(StrEnum):
    """How far a verification goes; each depth includes the one before."""

    PLAN = "plan"
    COMPILE = "compile"
    BUILD = "build"

    @classmethod
    def parse(cls, text: str) -> Self:
        """Return the depth of that name; raises UsageError for an unknown one."""
        try:
            return cls(text)
        except ValueError:
            raise UsageError(
                f"--depth {text!r} is unknown.", remedy=f"Use one of {', '.join(cls)}."
            ) from None


@dataclass(frozen=True, slots=True)
class Kind:
    """A recipe without a tag."""

    changes: tuple[str, ...] = ()

    def recipe(self, tag: Tag) -> Recipe:
        """Return the recipe for one tag; a pre-release is planned as its release."""
        return Recipe(tag=tag.release, changes=self.changes)

    @property
    def name(self) -> str:
        """ "stock", or the part that the recipe adds to a binary's name: "no-backpressure-usdt"."""
        tag = Tag(0, 0, 0)
        return self.recipe(tag).name.removeprefix(str(tag)).removeprefix("-") or STOCK


def all_kinds(registry: Registry, more: tuple[str, ...] = ()) -> tuple[Kind, ...]:
    """Return every combination of the standard changes and `more`."""
    names = tuple(dict.fromkeys((*registry.standard, *more)))
    return tuple(map(Kind, registry.combinations(names)))


def parse_kinds(text: str | None, registry: Registry, more: tuple[str, ...] = ()) -> tuple[Kind, ...]:
    """Return the kinds named in a comma-separated list.

    For None, they are the one with the changes `more`, or all of `all_kinds` without them.

    Raises UsageError for a name that does not join names of changes.
    """
    if text is None:
        return (Kind(more),) if more else all_kinds(registry)
    kinds = all_kinds(registry, more)
    named = set()
    for name in parse_list(text, str, "--recipe"):
        changes = () if name == STOCK else registry.parse_names(name) or None
        if changes is None:
            known = ", ".join(kind.name for kind in kinds)
            raise UsageError(
                f"--recipe {name!r} is unknown.",
                remedy=f"Use one or more of {known}, or names of changes joined with -.",
            )
        named.add(Kind(changes))
    return (*(kind for kind in kinds if kind in named), *sorted(named - set(kinds), key=attrgetter("name")))


@dataclass(frozen=True, slots=True)
class LinePair:
    """A line that a hunk expects, beside the line of the tag's file at that position.

    `marker` is " " if they are equal, "|" if they differ, "<" or ">" if only one side has a line. `number` is
    that of the found line, from 1.
    """

    expected: str
    marker: str
    number: int | None
    found: str


@dataclass(frozen=True, slots=True)
class Finding:
    """One difference between a tag and what the plan expects.

    `patch` is a patch's file name, or "rewrite"; `offset` is in lines, positive if the hunk applies further
    down; `line` counts from 1.
    """

    status: Status
    reason: str
    text: str
    path: str = ""
    function: str = ""
    patch: str = ""
    hunk: str = ""
    line: int | None = None
    offset: int = 0
    recipes: tuple[str, ...] = ()
    explanation: tuple[LinePair, ...] = ()
    upstream: tuple[str, ...] = ()
    """At the first tag that fails: what changed beside the hunk since the tag before, "-" or "+" first."""
    since: Tag | None = None
    """The tag before, for `upstream`."""

    @property
    def place(self) -> str:
        """File, line, function, patch and hunk, as far as they are known."""
        name = f"{self.patch}, {self.hunk}" if self.patch and self.hunk else self.patch or self.hunk
        line = f"line {self.line}" if self.line is not None else ""
        return ": ".join(filter(None, (self.path, line, self.function, name)))

    def __str__(self) -> str:
        return ": ".join(filter(None, (self.place, self.reason, self.text)))


@dataclass(frozen=True, slots=True)
class Evaluation:
    """The result for one recipe of one tag."""

    status: Status
    findings: tuple[Finding, ...] = ()


@dataclass(frozen=True, slots=True)
class Row:
    """One tag: its worst status, and the status of each recipe by name.

    `commit` is None if the tag does not exist.
    """

    tag: Tag
    commit: str | None
    status: Status
    recipes: tuple[tuple[str, Status], ...]
    findings: tuple[Finding, ...]

    @classmethod
    def of(cls, tag: Tag, commit: str, evaluations: Iterable[tuple[Kind, Evaluation]]) -> Self:
        """Return the row for a tag; a finding that several recipes share is listed once."""
        named = [(kind.name, evaluation) for kind, evaluation in evaluations]
        shared: dict[Finding, list[str]] = {}
        for name, evaluation in named:
            for finding in evaluation.findings:
                shared.setdefault(finding, []).append(name)
        findings = tuple(replace(finding, recipes=tuple(names)) for finding, names in shared.items())
        recipes = tuple((name, evaluation.status) for name, evaluation in named)
        return cls(tag, commit, worst(status for _, status in recipes), recipes, findings)

    @classmethod
    def failed(cls, tag: Tag, commit: str | None, text: str) -> Self:
        """Return the row for a tag that can't be read."""
        return cls(tag, commit, Status.ERROR, (), (Finding(Status.ERROR, "unreadable", text),))

    @property
    def is_warning(self) -> bool:
        """Return True if the tag is not fine, but is only a pre-release."""
        return bool(self.tag.pre) and not self.status.is_fine

    @property
    def largest_offset(self) -> int:
        """The offset that is largest in either direction, in lines."""
        return max((finding.offset for finding in self.findings), key=abs, default=0)

    @property
    def failures(self) -> tuple[Finding, ...]:
        """The findings that prevent a build."""
        return tuple(finding for finding in self.findings if not finding.status.is_fine)


@dataclass(frozen=True, slots=True)
class FirstFailure:
    """Recipes that fail at `tag`, and fit `previous`, the tag before it (None if there is none)."""

    recipes: tuple[str, ...]
    tag: Tag
    previous: Tag | None

    def __str__(self) -> str:
        fits = "" if self.previous is None else f" ({self.previous} fits)"
        return f"{', '.join(self.recipes)}: first failure at {self.tag}{fits}"


@dataclass(frozen=True, kw_only=True, slots=True)
class Report:
    """The whole verification; `ignored` counts the tags that do not name a release."""

    origin: str
    depth: Depth
    recipes: tuple[str, ...]
    rows: tuple[Row, ...]
    ignored: int
    seconds: float
    folders: Mapping[str, str] = field(default_factory=dict)
    """The folder of each change, relative to the current one where it is inside; for annotations."""

    @property
    def counts(self) -> dict[str, int]:
        """The number of rows of each status that occurs, from the best status to the worst."""
        found = Counter(row.status for row in self.rows)
        return {status.value: found[status] for status in Status if status in found}

    @property
    def exit_code(self) -> int:
        """0 if everything fits, 3 if only this machine's toolchain fails, otherwise 4.

        Pre-releases that fail are warnings.
        """
        wrong = {row.status for row in self.rows if not (row.status.is_fine or row.is_warning)}
        if wrong == {Status.TOOLCHAIN}:
            return ToolchainError.exit_code
        return PatchError.exit_code if wrong else 0

    @property
    def first_failures(self) -> tuple[FirstFailure, ...]:
        """Where each recipe stops fitting, in the order of tags. Unreadable tags are skipped."""
        return find_first_failures(self.recipes, self.rows)

    @property
    def summary(self) -> str:
        """The report in one line."""
        counts = ", ".join(f"{number} {status}" for status, number in self.counts.items())
        tags = f"{len(self.rows)} tag{'s' * (len(self.rows) != 1)}"
        ignored = ""
        if self.ignored:
            ignored = f"; {self.ignored} tag{'s' * (self.ignored != 1)} without a release's name skipped"
        return f"{tags} of {self.origin}, depth {self.depth}: {counts or 'nothing to verify'}{ignored}"


def find_first_failures(recipes: Iterable[str], rows: Sequence[Row]) -> tuple[FirstFailure, ...]:
    """Return where each recipe stops fitting, in the order of tags."""
    found: dict[tuple[Tag, Tag | None], list[str]] = {}
    for recipe in recipes:
        for tag, previous in _changes_to_failure(recipe, rows):
            found.setdefault((tag, previous), []).append(recipe)
    failures = (FirstFailure(tuple(names), *tags) for tags, names in found.items())
    return tuple(sorted(failures, key=lambda failure: failure.tag))


def _changes_to_failure(recipe: str, rows: Sequence[Row]) -> Iterator[tuple[Tag, Tag | None]]:
    statuses = [(row.tag, dict(row.recipes).get(recipe)) for row in rows]
    known = [(tag, status) for tag, status in statuses if status is not None]
    if known and not known[0][1].is_fine:
        yield known[0][0], None
    for (previous, before), (tag, status) in pairwise(known):
        if before.is_fine and not status.is_fine:
            yield tag, previous

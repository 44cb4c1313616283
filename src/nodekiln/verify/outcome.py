"""What a verification finds: findings in rows, a row for each tag."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Self

from nodekiln.core.errors import PatchError, UsageError
from nodekiln.core.recipe import Recipe, Tag

STOCK = "stock"


class Status(StrEnum):
    """What became of a tag or of one recipe of it, from the best to the worst."""

    CLEAN = "clean"
    NATIVE = "native"
    UPSTREAMED = "upstreamed"
    OFFSET = "offset"
    MISSING_ANCHOR = "missing anchor"
    CONFLICT = "conflict"
    FAILED = "failed"
    ERROR = "error"

    @property
    def is_fine(self) -> bool:
        """Whether a build can be made of it as it is.

        A tree with a probe provider of its own (native, upstreamed) builds with that one: nothing to do.
        """
        return self in _FINE


_FINE = frozenset({Status.CLEAN, Status.NATIVE, Status.UPSTREAMED, Status.OFFSET})
_RANK = {status: rank for rank, status in enumerate(Status)}


def worst(statuses: Iterable[Status]) -> Status:
    """The one that counts; clean for none."""
    return max(statuses, key=_RANK.__getitem__, default=Status.CLEAN)


class Depth(StrEnum):
    """How far a verification goes; each includes the one before."""

    PLAN = "plan"
    COMPILE = "compile"
    BUILD = "build"

    @classmethod
    def read(cls, text: str) -> Self:
        """Raises UsageError for another word."""
        try:
            return cls(text)
        except ValueError:
            words = ", ".join(cls)
            raise UsageError(f"--depth {text!r} is not known.", remedy=f"It is one of {words}.") from None


@dataclass(frozen=True, slots=True)
class Kind:
    """A recipe without its tag."""

    backpressure: bool
    probes: bool

    def recipe(self, tag: Tag) -> Recipe:
        return Recipe(tag=tag, backpressure=self.backpressure, probes=self.probes)

    @property
    def name(self) -> str:
        """ "stock", or what the recipe adds to the name of a binary: "no-backpressure-usdt"."""
        tag = Tag(0, 0, 0)
        return self.recipe(tag).name.removeprefix(str(tag)).removeprefix("-") or STOCK


KINDS = tuple(Kind(backpressure, probes) for backpressure in (True, False) for probes in (False, True))
"""The change and the probes, each with and without."""


def read_kinds(text: str | None) -> tuple[Kind, ...]:
    """The recipes that --recipe names, with commas between; all where it was not given.

    Raises UsageError for a word that names none.
    """
    if text is None:
        return KINDS
    known = {kind.name: kind for kind in KINDS}
    words = [word.strip() for word in text.split(",")]
    for word in words:
        if word not in known:
            raise UsageError(
                f"--recipe {word!r} is not known.", remedy=f"It is one of {', '.join(known)}, or several."
            )
    return tuple(kind for kind in KINDS if kind.name in words)


@dataclass(frozen=True, slots=True)
class Side:
    """A line of a patch beside the line of the tag's file that it should meet.

    `mark` is " " where both agree, "|" where they differ, "<" and ">" where one side has no line.
    """

    wanted: str
    mark: str
    number: int | None
    found: str


@dataclass(frozen=True, slots=True)
class Finding:
    """One place where a tag is not as the plan would have it.

    `patch` is a patch's file name, or "rewrite"; `offset` is in lines, positive further down; `line` counts
    from 1.
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
    explanation: tuple[Side, ...] = ()

    @property
    def place(self) -> str:
        """File, function, patch and hunk, as far as they are known."""
        name = f"{self.patch}, {self.hunk}" if self.patch and self.hunk else self.patch or self.hunk
        line = f"line {self.line}" if self.line is not None else ""
        return ": ".join(filter(None, (self.path, line, self.function, name)))

    def __str__(self) -> str:
        return ": ".join(filter(None, (self.place, self.reason, self.text)))


@dataclass(frozen=True, slots=True)
class Judgement:
    """What was found of one recipe of a tag."""

    status: Status
    findings: tuple[Finding, ...] = ()


@dataclass(frozen=True, slots=True)
class Row:
    """One tag: its worst status, and that of each recipe by its name; `commit` is None for a tag without."""

    tag: Tag
    commit: str | None
    status: Status
    recipes: tuple[tuple[str, Status], ...]
    findings: tuple[Finding, ...]

    @classmethod
    def of(cls, tag: Tag, commit: str, judgements: Iterable[tuple[Kind, Judgement]]) -> Self:
        """Joins recipes: what several of them have in common is one finding."""
        judged = [(kind.name, judgement) for kind, judgement in judgements]
        shared: dict[Finding, list[str]] = {}
        for name, judgement in judged:
            for finding in judgement.findings:
                shared.setdefault(finding, []).append(name)
        findings = tuple(replace(finding, recipes=tuple(names)) for finding, names in shared.items())
        recipes = tuple((name, judgement.status) for name, judgement in judged)
        return cls(tag, commit, worst(status for _, status in recipes), recipes, findings)

    @classmethod
    def failed(cls, tag: Tag, commit: str | None, text: str) -> Self:
        """A tag that could not be looked at."""
        return cls(tag, commit, Status.ERROR, (), (Finding(Status.ERROR, "can't be looked at", text),))

    @property
    def furthest(self) -> int:
        """The greatest offset, in lines."""
        return max((finding.offset for finding in self.findings), key=abs, default=0)

    @property
    def failures(self) -> tuple[Finding, ...]:
        """The findings that are in the way."""
        return tuple(finding for finding in self.findings if not finding.status.is_fine)


@dataclass(frozen=True, kw_only=True, slots=True)
class Report:
    """A whole verification; `ignored` tags are named like no release, `remembered` rows cost nothing."""

    origin: str
    depth: Depth
    recipes: tuple[str, ...]
    rows: tuple[Row, ...]
    ignored: int
    remembered: int
    seconds: float

    @property
    def counts(self) -> dict[str, int]:
        """Rows by status, those that occur, from the best on."""
        found = Counter(row.status for row in self.rows)
        return {status.value: found[status] for status in Status if status in found}

    @property
    def exit_code(self) -> int:
        """0 where everything is fine, else that of patches that don't fit."""
        return 0 if all(row.status.is_fine for row in self.rows) else PatchError.exit_code

    @property
    def summary(self) -> str:
        """One line."""
        counts = ", ".join(f"{number} {status}" for status, number in self.counts.items())
        tags = f"{len(self.rows)} tag{'s' * (len(self.rows) != 1)}"
        others = "1 tag is" if self.ignored == 1 else f"{self.ignored} tags are"
        ignored = f"; {others} named like no release" if self.ignored else ""
        return f"{tags} of {self.origin}, depth {self.depth}: {counts or 'nothing to look at'}{ignored}"

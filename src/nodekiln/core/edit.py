"""Edits and plans: the values that turn the files of a tag into those of a recipe.

Rewrites and patches produce them; working trees, grafts and diffs consume them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Hashable, Iterable
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property
from io import BytesIO
from itertools import groupby, pairwise
from operator import attrgetter
from typing import Protocol, TypeVar

Part = TypeVar("Part")

Read = Callable[[str], bytes | None]
"""Returns the content of a path of one tree ("lib/net.js"); None if the tree has no such file."""


class Remember(Protocol):
    """Returns `work()`, possibly memoized from another tree that shares the same files.

    `work` reads no files other than `paths`. For equal `key`, `paths` and file contents it must return
    equal results.
    """

    def __call__(self, key: Hashable, paths: tuple[str, ...], work: Callable[[], Part]) -> Part: ...


def no_memo(key: Hashable, paths: tuple[str, ...], work: Callable[[], Part]) -> Part:  # noqa: ARG001 (a Remember)
    """Return `work()` without memoizing it."""
    return work()


def split_lines(content: bytes) -> list[bytes]:
    """Return the lines, each with its \\n (the last may lack it).

    bytes.splitlines() would also split at \\r.
    """
    return BytesIO(content).readlines()


def blob_id(content: bytes) -> str:
    """Return the id that git gives `content` as a blob (SHA-1, 40 hex digits)."""
    header = b"blob %d\0" % len(content)
    return hashlib.sha1(header + content, usedforsecurity=False).hexdigest()


@dataclass(frozen=True, slots=True, order=True)
class Span:
    """The bytes from `start` up to `end` of a file are replaced by `new`, for `reason`."""

    start: int
    end: int
    new: bytes
    reason: str

    def overlaps(self, other: Span) -> bool:
        """Return True if the spans share bytes, or if the order of their new bytes is undefined."""
        if (self.start, self.end) == (other.start, other.end):
            return True
        return self.start < other.end and other.start < self.end


@dataclass(frozen=True)
class Edit:
    """The change of one file. `base` is None for an added file: its one span is the content.

    Raises ValueError if spans overlap, are out of order or exceed the file.
    """

    path: str
    base: bytes | None
    spans: tuple[Span, ...]

    def __post_init__(self) -> None:
        size = len(self.base or b"")
        if not self.spans:
            raise ValueError(f"{self.path}: an edit needs a span")
        if self.spans[0].start < 0 or any(not span.start <= span.end <= size for span in self.spans):
            raise ValueError(f"{self.path}: a span exceeds the file ({size} bytes)")
        if any(left.end > right.start for left, right in pairwise(self.spans)):
            raise ValueError(f"{self.path}: spans overlap or are out of order")

    @cached_property
    def after(self) -> bytes:
        """The file's bytes with the spans replaced."""
        base, pieces, position = self.base or b"", [], 0
        for span in self.spans:
            pieces += [base[position : span.start], span.new]
            position = span.end
        return b"".join([*pieces, base[position:]])

    @cached_property
    def base_id(self) -> str | None:
        """git's id of the file before; None if the edit adds it."""
        return None if self.base is None else blob_id(self.base)

    @cached_property
    def after_id(self) -> str:
        """git's id of the file after."""
        return blob_id(self.after)

    @property
    def reasons(self) -> tuple[str, ...]:
        """The reasons, each once, in the order of the file."""
        return tuple(dict.fromkeys(span.reason for span in self.spans))


@dataclass(frozen=True)
class Plan:
    """All edits of a recipe, sorted by path, each path once; none for the unchanged tag."""

    edits: tuple[Edit, ...] = ()

    def __post_init__(self) -> None:
        paths = [edit.path for edit in self.edits]
        if paths != sorted(set(paths)):
            raise ValueError(f"a plan names each path once, in order: {paths}")

    @classmethod
    def of(cls, edits: Iterable[Edit]) -> Plan:
        """Return a plan of these edits; those of one path are joined.

        Raises ValueError if two of them overlap or don't start from the same bytes.
        """
        joined = []
        for path, group in groupby(sorted(edits, key=attrgetter("path")), key=attrgetter("path")):
            same = list(group)
            if any(edit.base != same[0].base for edit in same):
                raise ValueError(f"{path}: edits start from different contents")
            spans = tuple(sorted(span for edit in same for span in edit.spans))
            joined.append(Edit(path, same[0].base, spans))
        return cls(tuple(joined))

    @cached_property
    def digest(self) -> str:
        """SHA-256 over path, id before and id after of every edit: equal digests mean equal files."""
        lines = (f"{edit.path}\0{edit.base_id or '-'}\0{edit.after_id}\n" for edit in self.edits)
        return hashlib.sha256("".join(lines).encode()).hexdigest()


class Misfit(StrEnum):
    """Why an edit is impossible."""

    FILE_MISSING = "file missing"
    FILE_EXISTS = "file exists"
    NO_MATCH = "no match"
    SEVERAL_MATCHES = "several matches"
    UNPARSABLE = "does not parse"
    UNEXPECTED_SHAPE = "unexpected shape"
    ALREADY_THERE = "already there"
    QUERY_FAILED = "query failed"
    OVERLAP = "overlap"
    NOT_SERVED = "tag not served"
    NO_OPTION = "configure lacks an option"
    EXCLUDED = "conflicting changes"


@dataclass(frozen=True, slots=True)
class Conflict:
    """One place where a change does not fit: the file, the function or hunk, and why."""

    path: str
    place: str
    misfit: Misfit
    text: str

    def __str__(self) -> str:
        return f"{self.path}: {self.place}: {self.misfit}: {self.text}"


@dataclass(frozen=True, slots=True)
class Refusal:
    """Returned in place of a plan: everything that does not fit, not only the first."""

    conflicts: tuple[Conflict, ...]

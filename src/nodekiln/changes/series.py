"""A folder of patches and its series.toml, which says which patch serves which tags, and why.

Each [[patch]] names a file, its tags (">=19" or ">=19,<22") and why these. Patches with the same slot are one
change in variants, one for each range of tags; without a slot a patch stands alone. From FIRST on every slot
has one patch for every tag, so that a release yet to come gets a whole series or an honest refusal.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise
from operator import attrgetter
from pathlib import Path
from typing import Any, Self

from nodekiln.changes.patchfile import Patch, parse
from nodekiln.core.errors import PatchError
from nodekiln.core.recipe import Tag

FIRST = Tag(19, 0, 0)
"""The first release without the probes."""
LIST = "series.toml"

_RANGE = re.compile(r">=(\d+(?:\.\d+){0,2})(?:,<(\d+(?:\.\d+){0,2}))?", re.ASCII)
_FIELDS = {"file", "tags", "why"}
_OPTIONAL = {"slot"}


@dataclass(frozen=True, slots=True)
class TagRange:
    """Tags from `first` up to, not including, `below`; None: without end."""

    first: Tag
    below: Tag | None

    @classmethod
    def parse(cls, text: str) -> Self:
        """Takes ">=19" and ">=19,<22.3"; raises ValueError for anything else."""
        match = _RANGE.fullmatch(text.replace(" ", ""))
        if match is None:
            raise ValueError(f'tags = {text!r} is not like ">=19" or ">=19,<22"')
        first, below = match[1], match[2]
        return cls(_tag(first), _tag(below) if below else None)

    def __contains__(self, tag: Tag) -> bool:
        return self.first <= tag and (self.below is None or tag < self.below)

    def __str__(self) -> str:
        return f"from {self.first} on" + (f", below {self.below}" if self.below else "")


@dataclass(frozen=True, slots=True)
class Entry:
    """One patch and the tags that it serves."""

    patch: Patch
    tags: TagRange
    slot: str
    why: str


@dataclass(frozen=True, slots=True)
class Series:
    """Patches in the order in which they are applied."""

    entries: tuple[Entry, ...]

    def select(self, tag: Tag) -> tuple[Patch, ...]:
        """The patches for a tag: one of each slot, none for tags below FIRST."""
        return tuple(entry.patch for entry in self.entries if tag in entry.tags)

    def paths(self, tag: Tag) -> tuple[str, ...]:
        """The files of the tree that these patches may look at, each once."""
        return tuple(dict.fromkeys(path for patch in self.select(tag) for path in patch.paths))


def load(folder: Path) -> Series:
    """Reads a folder of patches; raises PatchError that lists all that is wrong with it."""
    try:
        table = tomllib.loads((folder / LIST).read_text(encoding="utf-8"))
        contents = {
            path.relative_to(folder).as_posix(): path.read_bytes()
            for path in sorted(folder.rglob("*"))
            if path.is_file() and path.name != LIST
        }
    except OSError as error:
        raise _wrong(folder, [f"{error.filename} can't be read: {error.strerror}"]) from None
    except ValueError as error:  # no TOML, or no UTF-8
        raise _wrong(folder, [f"{LIST}: {error}"]) from None
    rows = table.get("patch", [])
    if (
        set(table) != {"patch"}
        or not isinstance(rows, list)
        or not all(isinstance(row, dict) for row in rows)
    ):
        raise _wrong(folder, [f"{LIST} should hold [[patch]] tables and nothing else"])
    entries: list[Entry] = []
    problems: list[str] = []
    for number, row in enumerate(rows, 1):
        try:
            entries.append(_entry(row, contents))
        except ValueError as error:
            problems.append(f"patch {number} of {LIST}: {error}")
        except PatchError as error:
            problems.append(error.message)
    listed = [row.get("file") for row in rows]
    problems += [f"{name} is in the folder and not in {LIST}" for name in contents if name not in listed]
    problems += [
        f"{LIST} lists {name} {listed.count(name)} times" for name in contents if listed.count(name) > 1
    ]
    if len(entries) == len(rows):  # else a patch that can't be read would be told as a gap too
        problems += _coverage(entries)
    if problems:
        raise _wrong(folder, problems)
    return Series(tuple(entries))


def _entry(row: Mapping[str, Any], contents: Mapping[str, bytes]) -> Entry:
    """Raises ValueError for a row that can't be taken, PatchError for a patch that can't."""
    if missing := _FIELDS - set(row):
        raise ValueError(f"it lacks {', '.join(sorted(missing))}")
    if unknown := set(row) - _FIELDS - _OPTIONAL:
        raise ValueError(f"it holds {', '.join(sorted(unknown))}, which nobody reads")
    if wrong := [name for name, value in row.items() if not isinstance(value, str) or not value.strip()]:
        raise ValueError(f"{', '.join(sorted(wrong))} should be a text that is not empty")
    name = row["file"]
    if name not in contents:
        raise ValueError(f"there is no file {name}")
    patch = parse(name, contents[name])
    if not patch.body:
        raise ValueError(f"{name} has no text below its Subject: that says what it does and why")
    return Entry(patch, TagRange.parse(row["tags"]), row.get("slot", name), row["why"])


def _coverage(entries: list[Entry]) -> Iterator[str]:
    """Where a slot has no patch for a tag from FIRST on, has two, or has one for older tags."""
    for slot in dict.fromkeys(entry.slot for entry in entries):
        ranges = sorted((entry.tags for entry in entries if entry.slot == slot), key=attrgetter("first"))
        if ranges[0].first != FIRST:
            yield f"{slot} begins at {ranges[0].first}, and should at {FIRST}"
        for left, right in pairwise(ranges):
            if left.below is None or left.below > right.first:
                yield f"{slot} has two patches for {right.first}: those {left} and {right}"
            elif left.below < right.first:
                yield f"{slot} has no patch for tags from {left.below} on, below {right.first}"
        if all(one.below is not None for one in ranges):
            yield f"{slot} has no patch for tags from {ranges[-1].below} on"
        if any(one.below is not None and one.below <= one.first for one in ranges):
            yield f"{slot} has a patch for no tag at all"


def _tag(text: str) -> Tag:
    major, minor, patch = [*map(int, text.split(".")), 0, 0][:3]
    return Tag(major, minor, patch)


def _wrong(folder: Path, problems: list[str]) -> PatchError:
    return PatchError(
        f"The patches in {folder} can't be used:\n  " + "\n  ".join(problems),
        remedy="Correct them, or bring them back with git.",
    )

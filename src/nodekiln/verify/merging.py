"""Bring the patches of a change to another tag: patches that fit are kept, the others merged three-way.

A merge's base is the tag that the patch was made for. Nothing is written here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from nodekiln.changes import diff, hunks
from nodekiln.changes.hunks import Fit
from nodekiln.changes.intake import render
from nodekiln.changes.patchfile import Patch
from nodekiln.changes.registry import Entry
from nodekiln.core.edit import Edit, Read
from nodekiln.core.errors import PatchError
from nodekiln.core.recipe import Tag
from nodekiln.source.merge import Labels, Merged

Merge = Callable[[bytes, bytes, bytes, Labels], Merged]
Contents = Mapping[str, bytes]


class State(StrEnum):
    """What became of a patch."""

    FITS = "fits"
    MERGED = "merged"
    RESOLVED = "merged by hand"
    UPSTREAM = "upstream has it"


@dataclass(frozen=True, slots=True)
class Step:
    """One patch at the new tag; `content` is the new patch file, None if it fits or upstream has it."""

    entry: Entry
    state: State
    outcomes: tuple[hunks.Outcome, ...]
    content: bytes | None = None

    @property
    def summary(self) -> str:
        """Return the counts of its hunks: clean, moved, and merged."""
        clean = sum(outcome.fit is Fit.CLEAN for outcome in self.outcomes)
        moved = sum(outcome.fit is Fit.OFFSET for outcome in self.outcomes)
        rest = len(self.outcomes) - clean - moved
        counts = {"clean": clean, "moved": moved, self.state.value: rest}
        return ", ".join(f"{count} {name}" for name, count in counts.items() if count)


@dataclass(frozen=True, slots=True)
class Clash:
    """A patch whose merge needs decisions: every file of it as merged, those in `paths` with markers.

    `base` and `theirs` are the files at the tag of the patch and at the new tag (None: no such file).
    """

    entry: Entry
    contents: Contents
    paths: tuple[str, ...]
    base: Mapping[str, bytes | None]
    theirs: Mapping[str, bytes | None]
    outcomes: tuple[hunks.Outcome, ...]


@dataclass(slots=True)
class Overlay:
    """The files of a tag with patches applied on top."""

    read: Read
    changed: dict[str, bytes] = field(default_factory=dict)

    def __call__(self, path: str) -> bytes | None:
        """Return a file's content, None if there is none."""
        return self.changed[path] if path in self.changed else self.read(path)

    def try_patch(self, patch: Patch) -> hunks.Applied:
        """Apply a patch if it fits; return the results of its hunks."""
        applied = hunks.apply([patch], self)
        if not applied.conflicts:
            self.changed |= {edit.path: edit.after for edit in applied.edits}
        return applied


@dataclass(frozen=True, slots=True)
class Series:
    """The patches of a change, the files of each tag, and git's merge."""

    entries: tuple[Entry, ...]
    reads: Callable[[Tag], Read]
    merge: Merge

    def bring(self, tag: Tag, resolved: Mapping[str, Contents]) -> tuple[list[Step], Clash | None]:
        """Return what becomes of each patch at `tag`, up to the first that needs decisions.

        `resolved` has decisions by patch name: the files after it. Raises PatchError for a patch that does
        not fit its own base, or has none.
        """
        files, steps = Overlay(self.reads(tag)), list[Step]()
        for entry in (entry for entry in self.entries if tag in entry.tags):
            before = Overlay(files, {})
            applied = files.try_patch(entry.patch)
            if not applied.conflicts:
                steps.append(Step(entry, State.FITS, applied.outcomes))
                continue
            if entry.patch.name in resolved:
                merged, state = resolved[entry.patch.name], State.RESOLVED
            else:
                found = self._merge(entry, tag, before, applied.outcomes)
                if found.paths:
                    return steps, found
                merged, state = found.contents, State.MERGED
            content = _patch(entry, before, merged)
            files.changed |= merged
            steps.append(Step(entry, state if content else State.UPSTREAM, applied.outcomes, content))
        return steps, None

    def _merge(self, entry: Entry, tag: Tag, theirs: Read, outcomes: tuple[hunks.Outcome, ...]) -> Clash:
        if entry.base is None:
            raise PatchError(
                f"{entry.patch.name} does not fit {tag}, and change.toml does not say what it was made for.",
                remedy='Add that tag to its [[patch]] table, as in base = "v20.19.2".',
            )
        base, ours = self._base(entry, entry.base)
        labels = Labels(f"{entry.patch.name}", str(entry.base), str(tag))
        contents: dict[str, bytes] = {}
        clashes: list[str] = []
        for path in entry.patch.paths:
            mine, old, new = ours(path), base(path), theirs(path)
            if mine == new:
                continue
            if old is not None and new is None:
                clashes.append(path)  # removed or moved upstream
                contents[path] = mine or b""
                continue
            merged = self.merge(mine or b"", old or b"", new or b"", labels)
            contents[path] = merged.content
            if merged.conflicts:
                clashes.append(path)
        paths = entry.patch.paths
        return Clash(
            entry,
            contents,
            tuple(clashes),
            {path: base(path) for path in paths},
            {path: theirs(path) for path in paths},
            outcomes,
        )

    def _base(self, entry: Entry, tag: Tag) -> tuple[Read, Read]:
        """Return the files that the patch was made for, and those after it."""
        base = Overlay(self.reads(tag))
        for other in self.entries:
            if other.patch.name == entry.patch.name:
                break
            if other.slot != entry.slot and tag in other.tags:
                base.try_patch(other.patch)
        ours = Overlay(base)
        applied = ours.try_patch(entry.patch)
        if applied.conflicts:
            raise PatchError(
                f"{entry.patch.name} does not fit {tag}, its own base:\n  "
                + "\n  ".join(map(str, applied.conflicts)),
                remedy="Correct `base` in change.toml, or make the patch again.",
            )
        return base, ours

    def fits(self, tag: Tag) -> bool:
        """Return whether every patch fits a tag as it is."""
        files = Overlay(self.reads(tag))
        return all(not files.try_patch(entry.patch).conflicts for entry in self.entries if tag in entry.tags)

    def fitting(self, tag: Tag, variants: Mapping[str, Patch | None]) -> dict[str, tuple[bool, bool]]:
        """Return by name of `variants` whether the old patch and the variant fit a tag.

        The rest of the series is applied below them. None is for no patch, which fits where upstream has it.
        """
        files, fits = Overlay(self.reads(tag)), dict[str, tuple[bool, bool]]()
        for entry in (entry for entry in self.entries if tag in entry.tags):
            if entry.patch.name not in variants:
                files.try_patch(entry.patch)
                continue
            variant = variants[entry.patch.name]
            is_old = not hunks.apply([entry.patch], files).conflicts
            if variant is None:
                is_new = not is_old and self._is_upstream(entry, tag, files)
            else:
                is_new = not hunks.apply([variant], files).conflicts
            fits[entry.patch.name] = is_old, is_new
            if is_old or variant is not None:
                files.try_patch(entry.patch if is_old or variant is None else variant)
        return fits

    def _is_upstream(self, entry: Entry, tag: Tag, files: Read) -> bool:
        merged = self._merge(entry, tag, files, ())
        return not merged.paths and _patch(entry, files, merged.contents) is None


def _patch(entry: Entry, before: Read, merged: Contents) -> bytes | None:
    """Return the patch file that makes these files; None if upstream has them already."""
    edits: list[Edit] = []
    for path, content in merged.items():
        edit = diff.compare(path, before(path), content, entry.patch.subject)
        edits += [] if edit is None else [edit]
    return render(entry.patch.subject, entry.patch.body, edits) if edits else None

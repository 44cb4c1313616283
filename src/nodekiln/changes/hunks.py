"""Applies patches in memory: exact context, no fuzz; bytes in, edits and an outcome for each hunk out.

A hunk goes where git apply would put it, or nowhere. It is anchored at the ends of the file by git's rules:
one that begins at line 1 fits only there, one without context below its last change only at the end. Away
from its line it must match in exactly one place; git takes the nearest of several.

Several patches may edit the same file. Each is applied to the result of the previous one, as git does
it. Each line keeps its origin in the tree's own file, from which the spans are computed at the end.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from enum import StrEnum
from functools import partial
from itertools import accumulate

from nodekiln.changes.patchfile import FileDiff, Hunk, Patch
from nodekiln.core.edit import Conflict, Edit, Misfit, Read, Remember, Span, no_memo, split_lines

_MAX_MATCHES = 5
_MAX_CHARACTERS = 80


class Fit(StrEnum):
    """How well a hunk fits."""

    CLEAN = "clean"
    OFFSET = "offset"
    ALREADY_THERE = "already there"
    CONFLICT = "conflict"
    FILE_MISSING = "file missing"


@dataclass(frozen=True, slots=True)
class Outcome:
    """The result for one hunk, or for a file that a patch adds.

    `line` is where it was applied, from 1, in the file as previous patches left it; without a fit, the best
    partial match (None: no match). `offset` is the distance from the line in the patch, in lines.
    `hunk` is None if a whole file is added or missing.
    """

    patch: str
    path: str
    place: str
    line: int | None
    offset: int = 0
    conflict: Conflict | None = None
    hunk: Hunk | None = None

    @property
    def fit(self) -> Fit:
        """The result in one word."""
        if self.conflict is None:
            return Fit.OFFSET if self.offset else Fit.CLEAN
        match self.conflict.misfit:
            case Misfit.ALREADY_THERE:
                return Fit.ALREADY_THERE
            case Misfit.FILE_MISSING:
                return Fit.FILE_MISSING
        return Fit.CONFLICT

    def __str__(self) -> str:
        if self.conflict is not None:
            return str(self.conflict)
        moved = f" {self.offset:+d} lines" if self.offset else ""
        return f"{self.path}: {self.patch}, {self.place}: {self.fit}{moved}"


@dataclass(frozen=True, slots=True)
class Applied:
    """The results of all hunks; `edits` is empty if any hunk does not fit."""

    edits: tuple[Edit, ...]
    outcomes: tuple[Outcome, ...]

    @property
    def conflicts(self) -> tuple[Conflict, ...]:
        """Everything that does not fit."""
        return tuple(outcome.conflict for outcome in self.outcomes if outcome.conflict is not None)


@dataclass(slots=True)
class _File:
    """A file while patches are applied.

    `origins` has for each line its index in the base, or the reason why it was added; `removed` has the
    reason for each removed line of the base; `reason` is why the file was added.
    """

    base: bytes | None
    lines: list[bytes]
    origins: list[int | str]
    reason: str | None = None
    removed: dict[int, str] = field(default_factory=dict)

    @classmethod
    def of(cls, base: bytes) -> _File:
        lines = split_lines(base)
        return cls(base, lines, list(range(len(lines))))

    @classmethod
    def added(cls, lines: list[bytes], reason: str) -> _File:
        return cls(None, lines, [reason] * len(lines), reason)

    def change(self, start: int, hunk: Hunk, reason: str) -> None:
        """Apply the hunk at line `start`, from 0, where its lines are known to match."""
        lines: list[bytes] = []
        origins: list[int | str] = []
        position = start
        for line in hunk.lines:
            origin: int | str = self.origins[position] if line.before else reason
            if line.after:
                lines.append(line.content)
                origins.append(origin)
            elif isinstance(origin, int):
                self.removed[origin] = reason
            position += line.before
        self.lines[start:position] = lines
        self.origins[start:position] = origins

    def spans(self) -> Iterator[Span]:
        """Yield one span for each run of removed or added lines."""
        bounds = [0, *accumulate(map(len, split_lines(self.base or b"")))]
        reached, new = 0, b""
        reasons = [] if self.reason is None else [self.reason]
        for line, origin in zip([*self.lines, b""], [*self.origins, len(bounds) - 1], strict=True):
            if isinstance(origin, str):
                new += line
                reasons.append(origin)
                continue
            if reasons or reached < origin:
                reasons += [self.removed[gone] for gone in range(reached, origin)]
                yield Span(bounds[reached], bounds[origin], new, "; ".join(dict.fromkeys(reasons)))
            reached, new, reasons = origin + 1, b"", []


def apply(patches: Iterable[Patch], read: Read, remember: Remember = no_memo) -> Applied:
    """Apply patches on top of each other; try every hunk of every patch, even after a failure."""
    ordered = [(patch, diff) for patch in patches for diff in patch.files]
    by_path: dict[str, list[tuple[Patch, FileDiff]]] = {}
    for patch, diff in ordered:
        by_path.setdefault(diff.path, []).append((patch, diff))
    done = {
        path: remember(
            " ".join(("patches", *(patch.name for patch, _ in diffs))), (path,), partial(_patch, diffs, read)
        )
        for path, diffs in by_path.items()
    }
    # In the order of the patches, not of the files, as people read them.
    results = {path: iter(patched.outcomes) for path, patched in done.items()}
    outcomes = tuple(outcome for _, diff in ordered for outcome in next(results[diff.path]))
    if any(outcome.conflict for outcome in outcomes):
        return Applied((), outcomes)
    edits = (patched.edit for _, patched in sorted(done.items()))
    return Applied(tuple(edit for edit in edits if edit is not None), outcomes)


@dataclass(frozen=True, slots=True)
class _Patched:
    """One file: its edit, None if nothing changes, and the results of each diff's hunks."""

    edit: Edit | None
    outcomes: tuple[tuple[Outcome, ...], ...]


def _patch(diffs: Iterable[tuple[Patch, FileDiff]], read: Read) -> _Patched:
    """Apply the diffs of all patches to one file."""
    file: _File | None = None
    outcomes: list[tuple[Outcome, ...]] = []
    for patch, diff in diffs:
        if file is None and (content := read(diff.path)) is not None:
            file = _File.of(content)
        if diff.added:
            outcomes.append((_add(patch, diff, file),))
            if file is None:
                file = _File.added(_content(diff), patch.subject)
        elif file is None:
            conflict = Conflict(diff.path, patch.name, Misfit.FILE_MISSING, "no such file")
            outcomes.append((Outcome(patch.name, diff.path, "all hunks", None, conflict=conflict),))
        else:
            outcomes.append(tuple(_change(patch, diff, file)))
    if file is None or any(outcome.conflict for group in outcomes for outcome in group):
        return _Patched(None, tuple(outcomes))
    spans = tuple(file.spans())
    edit = Edit(diff.path, file.base, spans) if spans else None
    if edit is not None and edit.after == edit.base:  # a patch may revert a previous one
        edit = None
    return _Patched(edit, tuple(outcomes))


def _add(patch: Patch, diff: FileDiff, file: _File | None) -> Outcome:
    if file is None:
        return Outcome(patch.name, diff.path, "new file", 1)
    if file.lines == _content(diff):
        misfit, text = Misfit.ALREADY_THERE, "the file exists already, with the same content"
    else:
        misfit, text = Misfit.FILE_EXISTS, "the patch adds this file, which exists with other content"
    conflict = Conflict(diff.path, f"{patch.name}, new file", misfit, text)
    return Outcome(patch.name, diff.path, "new file", None, conflict=conflict)


def _content(diff: FileDiff) -> list[bytes]:
    return [line for hunk in diff.hunks for line in hunk.after]


def _change(patch: Patch, diff: FileDiff, file: _File) -> list[Outcome]:
    """Locate all hunks in the file as it is, then apply those that fit."""
    outcomes: list[Outcome] = []
    places: list[tuple[int, Hunk]] = []
    growth = 0
    for number, hunk in enumerate(diff.hunks, 1):
        expected = hunk.start - growth
        growth += hunk.growth
        # git counts lines with the hunks above applied; one that matched further down shifts the count.
        in_order = all(start < expected for start, _ in places)
        found = _find(file.lines, hunk, hunk.before, expected if in_order else None)
        name = f"hunk {number} of {len(diff.hunks)}"
        line: int | None
        if not isinstance(found, int):
            misfit, text, line = _why_not(file.lines, hunk, expected, found)
        elif (other := _overlapped(found, hunk, places)) is not None:
            text = f"it matches at line {found + 1}, but a hunk above it uses lines from {other + 1} on"
            misfit, line = Misfit.OVERLAP, found + 1
        else:
            places.append((found, hunk))
            outcomes.append(Outcome(patch.name, diff.path, name, found + 1, found - expected, hunk=hunk))
            continue
        conflict = Conflict(diff.path, f"{patch.name}, {name} (line {expected + 1})", misfit, text)
        outcomes.append(Outcome(patch.name, diff.path, name, line, conflict=conflict, hunk=hunk))
    # From the bottom up, so that the line numbers above stay valid.
    for start, hunk in sorted(places, key=lambda place: place[0], reverse=True):
        file.change(start, hunk, patch.subject)
    return outcomes


def _overlapped(found: int, hunk: Hunk, places: list[tuple[int, Hunk]]) -> int | None:
    """Return the start of a hunk above that uses one of the same lines; None if none does."""
    for start, other in places:
        if found < start + len(other.before) and start < found + len(hunk.before):
            return start
    return None


def _find(lines: list[bytes], hunk: Hunk, wanted: list[bytes], expected: int | None) -> int | list[int]:
    """Return the index of the wanted lines if they are at `expected` or match once; else all matches."""
    last = len(lines) - len(wanted)
    if not wanted:
        places = [] if lines else [0]  # no context, unless the file is empty too
    else:
        places = [
            at
            for at in _starts(lines, wanted[0], last)
            if (not hunk.to_bottom or at == last)
            and not (hunk.from_top and at)
            and lines[at : at + len(wanted)] == wanted
        ]
    if expected in places:
        return expected
    return places[0] if len(places) == 1 else places


def _starts(lines: list[bytes], line: bytes, last: int) -> Iterator[int]:
    """Yield the indexes of the line, up to `last`. list.index is six times as fast as a loop."""
    at = -1
    with suppress(ValueError):
        while True:
            at = lines.index(line, at + 1, max(0, last + 1))
            yield at


def _why_not(
    lines: list[bytes], hunk: Hunk, expected: int, places: list[int]
) -> tuple[Misfit, str, int | None]:
    """Return why a hunk does not fit: misfit, text and the line, from 1, of the best partial match."""
    if places:
        shown = ", ".join(str(at + 1) for at in places[:_MAX_MATCHES])
        more = ", ..." if len(places) > _MAX_MATCHES else ""
        text = f"its lines moved, and match in {len(places)} places: lines {shown}{more}"
        return Misfit.SEVERAL_MATCHES, text, places[0] + 1
    done = _find(lines, hunk, hunk.after, hunk.start)
    if isinstance(done, int):
        return Misfit.ALREADY_THERE, f"it is applied already, at line {done + 1}", done + 1
    wanted = hunk.before
    if not wanted:
        return Misfit.NO_MATCH, "it has no context; make the patch with some lines of context", None
    at, agreeing = _nearest(lines, wanted, expected)
    if not agreeing:
        return Misfit.NO_MATCH, f"none of its {len(wanted)} lines is in the file", None
    if agreeing == len(wanted):
        end = "end" if hunk.to_bottom else "beginning"
        text = f"its lines match at line {at + 1}, but must be at the {end} of the file"
        return Misfit.NO_MATCH, text, at + 1
    differing, line = next(
        (index, line) for index, line in enumerate(wanted) if lines[at + index : at + index + 1] != [line]
    )
    there = _shown(lines[at + differing]) if at + differing < len(lines) else "the end of the file"
    text = (
        f"{agreeing} of its {len(wanted)} lines match at line {at + 1}; line {at + 1 + differing} should be"
        f" {_shown(line)} and is {there}"
    )
    return Misfit.NO_MATCH, text, at + 1


def _nearest(lines: list[bytes], wanted: list[bytes], expected: int) -> tuple[int, int]:
    """Return the index where most of the text matches and the number of matching lines there."""

    def agreeing(at: int) -> list[bytes]:
        there = lines[at : at + len(wanted)]
        return [line for line, found in zip(wanted, there, strict=False) if line == found]

    # By matching characters, since a closing brace matches everywhere.
    best = max(
        range(len(lines)),
        key=lambda at: (sum(len(line.strip()) for line in agreeing(at)), -abs(at - expected)),
        default=0,
    )
    return best, len(agreeing(best))


def _shown(line: bytes) -> str:
    """Return the line quoted, with unprintable characters escaped."""
    text = line.decode(errors="backslashreplace").removesuffix("\n")
    shown = repr(text if len(text) <= _MAX_CHARACTERS else f"{text[:_MAX_CHARACTERS]}...")
    return shown if line.endswith(b"\n") else f"{shown} without a newline"

"""Turns a plan into byte ranges of a binary, each as long as what stands there, and writes them into a copy.

V8 checks the length of a module's text against its code cache, not its content; and nothing else in the file
may move. The first two functions are pure.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from nodekiln.core.edit import Edit, Plan, Span
from nodekiln.core.errors import PatchError, SourceError
from nodekiln.grafting.builtins import Builtin


@dataclass(frozen=True, slots=True)
class Change:
    """The bytes `old` at `start` of the binary become `new`, of the same length; they belong to `path`."""

    path: str
    start: int
    old: bytes
    new: bytes


def fit(plan: Plan, mark: bytes = b"") -> Plan:
    """The plan with every span's new bytes padded with spaces to the old length.

    `mark`, a comment, goes into the first span that has room for it. Raises PatchError for new bytes that are
    longer than the old (in 12 and older, where `return ret;` has a byte too few).
    """
    marked = Plan(tuple(_marked(plan.edits, mark))) if mark else plan
    return Plan(tuple(replace(edit, spans=tuple(_padded(edit))) for edit in marked.edits))


def _marked(edits: Iterable[Edit], mark: bytes) -> Iterator[Edit]:
    left = mark
    for edit in edits:
        spans = []
        for span in edit.spans:
            fits = len(span.new) + len(left) <= span.end - span.start
            spans.append(replace(span, new=span.new + left) if fits else span)
            left = b"" if fits else left
        yield replace(edit, spans=tuple(spans))


def _padded(edit: Edit) -> list[Span]:
    spans = []
    for span in edit.spans:
        old = (edit.base or b"")[span.start : span.end]
        if len(span.new) > len(old):
            raise PatchError(
                f"{edit.path}: {_shown(span.new)} does not fit over {_shown(old)}: it has"
                f" {len(span.new) - len(old)} byte(s) more, and nothing in a binary can move.",
                remedy="This release needs a build: ./inv build takes the same options.",
            )
        spans.append(replace(span, new=span.new.ljust(len(old))))
    return spans


def changes(builtins: Mapping[str, Builtin], fitted: Plan) -> tuple[Change, ...]:
    """The byte ranges of a fitted plan, in the order of the file."""
    found = [
        Change(
            edit.path,
            builtins[edit.path].start + span.start,
            builtins[edit.path].text[span.start : span.end],
            span.new,
        )
        for edit in fitted.edits
        for span in edit.spans
    ]
    return tuple(sorted(found, key=lambda change: change.start))


def write(source: Path, target: Path, ranges: Sequence[Change]) -> None:
    """Copies `source` to `target`, executable, with the ranges changed.

    Raises SourceError where `source` no longer holds what the ranges were made from.
    """
    copy(source, target)
    target.chmod(0o755)
    with target.open("r+b") as file:
        for change in ranges:
            file.seek(change.start)
            if file.read(len(change.old)) != change.old:
                raise SourceError(
                    f"{source} changed while it was read.", remedy="Run the same command again."
                )
            file.seek(change.start)
            file.write(change.new)


def copy(source: Path, target: Path) -> None:
    """Copies a file's bytes; within the kernel where it can, which shares the blocks on btrfs and XFS."""
    with source.open("rb") as old, target.open("wb") as new:
        left = os.fstat(old.fileno()).st_size
        try:
            while left > 0 and (done := os.copy_file_range(old.fileno(), new.fileno(), left)) > 0:
                left -= done
        except (AttributeError, OSError):  # not Linux, two disks, or a file system that doesn't have it
            pass
        if left > 0:  # some answer 0 instead
            old.seek(0)
            new.seek(0)
            shutil.copyfileobj(old, new, 2**20)


def _shown(text: bytes) -> str:
    return f"`{text.decode(errors='backslashreplace')}`"

"""Turn a plan into byte ranges of a binary, each of the length that it replaces, and write them into a copy.

V8 checks the length of a module's text against its code cache, not its content; and nothing else in the file
may move. The first two functions are pure.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from nodekiln.core.edit import Edit, Plan, Span
from nodekiln.core.elf.file import Buffer
from nodekiln.core.elf.notes import Rewritten
from nodekiln.core.errors import CheckError, PatchError, SourceError, ToolchainError
from nodekiln.core.process import capture
from nodekiln.core.recipe import Recipe, Tag
from nodekiln.grafting.builtins import Builtin

_BLOCK = 2**16
_GAP = 16
"""Equal bytes between two runs that still make them one."""


def differing(before: Buffer, after: Buffer) -> Iterator[tuple[int, int]]:
    """Yield the runs of bytes (start, end) that differ, up to the shorter end. Takes 0.1 s for 120 MB."""
    start = end = -1
    for place in _places(before, after):
        if start >= 0 and place - end > _GAP:
            yield start, end
            start = place
        elif start < 0:
            start = place
        end = place + 1
    if start >= 0:
        yield start, end


def _places(before: Buffer, after: Buffer) -> Iterator[int]:
    size = min(len(before), len(after))
    for block in range(0, size, _BLOCK):
        old, new = before[block : min(block + _BLOCK, size)], after[block : min(block + _BLOCK, size)]
        if old != new:
            yield from (
                block + at for at, (left, right) in enumerate(zip(old, new, strict=True)) if left != right
            )


_MARK = re.compile(rb"/\*nodekiln:(v\d{1,4}\.\d{1,4}\.\d{1,4})((?:\+[a-z0-9_-]{1,40}){0,9})\*/")


def make_mark(tag: Tag, changes: tuple[str, ...], implied: tuple[str, ...]) -> bytes:
    """Return the comment. It names the changes unless they are the `implied` ones, for lack of room."""
    named = "" if changes == implied else "".join(f"+{change}" for change in changes)
    return f"/*nodekiln:{tag}{named}*/".encode()


def find_mark(data: Buffer, implied: tuple[str, ...]) -> Recipe | None:
    """Return the recipe that a comment names, without a platform; None unless there is exactly one.

    Reads on until the end (0.05 s for 120 MB).
    """
    found = set(_MARK.findall(data))
    if len(found) != 1:
        return None
    tag, named = found.pop()
    changes = tuple(named.decode().split("+")[1:]) or implied
    return Recipe(tag=Tag.parse(tag.decode()), changes=changes, graft=True)


_FUSE = b"NODE_SEA_FUSE_fce680ab2cc467b6e072b8b5df1996b2:"
"""In every Node from 18.16 on; followed by 1 if a program was put into the binary."""


def is_single_executable(data: Buffer) -> bool:
    """Return True for a Node binary that contains a program, which it runs in place of scripts."""
    return data.find(_FUSE + b"1") >= 0


def find_codesign(env: Mapping[str, str]) -> str:
    """Return the path of codesign; raise ToolchainError if it is not installed (only macOS has it)."""
    found = shutil.which("codesign", path=env.get("PATH", ""))
    if found is None:
        raise ToolchainError(
            "codesign not found: a changed program for macOS must be signed again.",
            remedy="Make this graft on a Mac with the command line tools (xcode-select --install).",
        )
    return found


def sign(codesign: str, binary: Path, *, env: Mapping[str, str]) -> None:
    """Replace the signature with an ad hoc one, which suffices on the machine that made it.

    Raises CheckError with what codesign said. The release's entitlements go with its hardened runtime,
    which alone asks for them.
    """
    for words in (["--force", "--sign", "-"], ["--verify", "--strict"]):
        done = capture([codesign, *words, str(binary)], env=env)
        if done.returncode != 0:
            raise CheckError(f"codesign {' '.join(words)} failed: {done.text.strip()}")


@dataclass(frozen=True, slots=True)
class Change:
    """A range of the binary at `start` to change from `old` to `new`, of the same length, in `path`."""

    path: str
    start: int
    old: bytes
    new: bytes


def fit(plan: Plan, mark: bytes = b"") -> Plan:
    """Return the plan with the new bytes of every span padded with spaces to the old length.

    `mark`, a comment, goes into the first span that has room for it. Raises PatchError for new bytes that are
    longer than the old (in 12 and older, where `return ret;` has a byte too few).
    """
    marked = Plan(tuple(_marked(plan.edits, mark))) if mark else plan
    return Plan(tuple(replace(edit, spans=tuple(_padded(edit))) for edit in marked.edits))


def fit_edit(edit: Edit) -> Edit | None:
    """Return the edit with spans padded to the old length, or None if one of them is too long."""
    if any(len(span.new) > span.end - span.start for span in edit.spans):
        return None
    return replace(edit, spans=tuple(_padded(edit)))


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
                f" {len(span.new) - len(old)} byte(s) more, and a text can only move in a Linux program that"
                " has its symbols.",
                remedy="This release needs a build: ./inv build takes the same options.",
            )
        spans.append(replace(span, new=span.new.ljust(len(old))))
    return spans


def changes(builtins: Mapping[str, Builtin], fitted: Plan) -> tuple[Change, ...]:
    """Return the byte ranges of a fitted plan, in the order of the file."""
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


def write(source: Path, target: Path, ranges: Sequence[Change | Rewritten]) -> None:
    """Copy `source` to `target`, executable, with the ranges changed.

    Raises SourceError if `source` no longer holds what the ranges were made from.
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
    """Copy a file, within the kernel if possible, which shares the blocks on btrfs and XFS."""
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

"""Renders a plan as a unified diff that git apply accepts, and colors a diff for a terminal.

The hunks come from the spans, not from comparing files: exact, and linear in the size of the file. Only
`compare` compares two files, where nothing but the files is known.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass
from difflib import SequenceMatcher
from itertools import accumulate

from rich.text import Text

from nodekiln.core.edit import Edit, Plan, Span, split_lines
from nodekiln.core.reporting import escape_unprintable

_CONTEXT = 3
_NULL_ID = "0" * 40
_NO_NEWLINE = b"\n\\ No newline at end of file\n"
_HUNK_STYLES = {"@": "cyan", "+": "green", "-": "red"}


@dataclass(frozen=True, slots=True)
class _Change:
    """The lines from `start` up to `end` of the old file become `new`."""

    start: int
    end: int
    new: list[bytes]

    @property
    def growth(self) -> int:
        return len(self.new) - (self.end - self.start)


def compare(path: str, before: bytes | None, after: bytes, reason: str) -> Edit | None:
    """Return the edit that turns `before` (None: no such file) into `after`; None if they are equal."""
    if before is None:
        return Edit(path, None, (Span(0, 0, after, reason),))
    old, new = split_lines(before), split_lines(after)
    bounds = [0, *accumulate(map(len, old))]
    shorter = min(len(old), len(new))
    head = next((at for at in range(shorter) if old[at] != new[at]), shorter)
    tail = next((at for at in range(shorter - head) if old[-1 - at] != new[-1 - at]), shorter - head)
    matcher = SequenceMatcher(None, old[head : len(old) - tail], new[head : len(new) - tail], autojunk=False)
    spans = tuple(
        Span(
            bounds[head + start],
            bounds[head + end],
            b"".join(new[head + new_start : head + new_end]),
            reason,
        )
        for kind, start, end, new_start, new_end in matcher.get_opcodes()
        if kind != "equal"
    )
    return Edit(path, before, spans) if spans else None


def render(plan: Plan) -> bytes:
    """Return a git-style diff with full ids and three lines of context; b"" for a plan without effect.

    Lines end at \\n only; everything else (\\r, form feeds, bytes that are not UTF-8) is kept as it is.
    """
    return b"".join(_render_edit(edit) for edit in plan.edits if edit.base != edit.after)


def color(diff: bytes) -> Text:
    """Return the diff with colors; unprintable characters, which a terminal could obey, are escaped."""
    lines = []
    heading = True
    for line in diff.decode(errors="backslashreplace").split("\n"):
        heading = line.startswith("diff --git ") or (heading and not line.startswith("@@ "))
        style = "bold" if heading else _HUNK_STYLES.get(line[:1], "")
        lines.append(Text(escape_unprintable(line, keep="\t"), style))
    return Text("\n").join(lines)


def _render_edit(edit: Edit) -> bytes:
    old, new = _quoted(f"a/{edit.path}"), _quoted(f"b/{edit.path}")
    head = [f"diff --git {old} {new}"]
    if edit.base is None:
        head += ["new file mode 100644", f"index {_NULL_ID}..{edit.after_id}"]
        old = "/dev/null"
    else:
        head += [f"index {edit.base_id}..{edit.after_id} 100644"]
    lines = split_lines(edit.base or b"")
    hunks = b"".join(_hunks(lines, _changes(edit, lines)))
    if hunks:  # an added file may be empty
        # git ends a path that contains a space with a tab.
        tab = "\t" if " " in edit.path else ""
        head += [f"--- {old}{tab}", f"+++ {new}{tab}"]
    return "".join(f"{line}\n" for line in head).encode() + hunks


def _changes(edit: Edit, lines: list[bytes]) -> list[_Change]:
    """Return the changes in whole lines; spans on the same or adjacent lines make one change."""
    bounds = [0, *accumulate(map(len, lines))]
    size = bounds[-1]
    # The end of the file is on a line of its own only if the last line has a newline.
    beyond = len(lines) if size == 0 or lines[-1].endswith(b"\n") else len(lines) - 1

    def line_at(position: int) -> int:
        return beyond if position == size else bisect_right(bounds, position) - 1

    regions: list[tuple[int, int, int, int]] = []  # lines from and up to, growth in bytes before and after
    growth = 0
    for span in edit.spans:
        start, end, before = line_at(span.start), min(line_at(span.end) + 1, len(lines)), growth
        growth += len(span.new) - (span.end - span.start)
        if regions and start <= regions[-1][1]:
            start, _, before, _ = regions.pop()
        regions.append((start, end, before, growth))
    changes = (
        _trimmed(
            start, lines[start:end], split_lines(edit.after[bounds[start] + before : bounds[end] + after])
        )
        for start, end, before, after in regions
    )
    return [change for change in changes if change.new or change.start < change.end]


def _trimmed(start: int, old: list[bytes], new: list[bytes]) -> _Change:
    """Return the change of `old`, at line `start`, into `new`, without common first and last lines."""
    shorter = min(len(old), len(new))
    head = next((index for index in range(shorter) if old[index] != new[index]), shorter)
    rest = shorter - head
    tail = next((index for index in range(rest) if old[-1 - index] != new[-1 - index]), rest)
    return _Change(start + head, start + len(old) - tail, new[head : len(new) - tail])


def _hunks(lines: list[bytes], changes: list[_Change]) -> Iterator[bytes]:
    """Yield hunks with context; changes whose contexts meet share one."""
    growth = 0
    group: list[_Change] = []
    for change in changes:
        if group and change.start - group[-1].end > 2 * _CONTEXT:
            yield _hunk(lines, group, growth)
            growth += sum(done.growth for done in group)
            group = []
        group.append(change)
    if group:
        yield _hunk(lines, group, growth)


def _hunk(lines: list[bytes], group: list[_Change], growth: int) -> bytes:
    start, end = max(0, group[0].start - _CONTEXT), min(len(lines), group[-1].end + _CONTEXT)
    pieces, position = [], start
    for change in group:
        pieces += [b" " + line for line in lines[position : change.start]]
        pieces += [b"-" + line for line in lines[change.start : change.end]]
        pieces += [b"+" + line for line in change.new]
        position = change.end
    pieces += [b" " + line for line in lines[position:end]]
    old, count = end - start, end - start + sum(change.growth for change in group)
    head = f"@@ -{_range(start, old)} +{_range(start + growth, count)} @@\n".encode()
    return head + b"".join(piece if piece.endswith(b"\n") else piece + _NO_NEWLINE for piece in pieces)


def _range(start: int, count: int) -> str:
    """Return START,COUNT with lines from one; an empty range has the line before it."""
    return f"{start + 1 if count else start},{count}"


def _quoted(path: str) -> str:
    """Return the path as git writes it: quoted, with octal escapes, unless it is printable ASCII."""
    raw = path.encode()
    if all(0x20 <= byte < 0x7F and byte not in b'"\\' for byte in raw):
        return path
    return '"' + "".join(chr(b) if 0x20 <= b < 0x7F and b not in b'"\\' else f"\\{b:03o}" for b in raw) + '"'

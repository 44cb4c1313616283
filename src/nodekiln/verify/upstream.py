"""Find what upstream changed beside a hunk that fits one tag and not the next.

Bytes in, lines out; knows neither git nor the repository.
"""

from __future__ import annotations

from collections.abc import Iterable

from nodekiln.changes.diff import compare
from nodekiln.changes.patchfile import Hunk, Patch
from nodekiln.core.edit import split_lines
from nodekiln.core.reporting import escape_unprintable
from nodekiln.verify.outcome import Finding

_MAX_BLOCK = 10
"""Lines that are shown of each block that upstream removed or added."""
_MAX_LINES = 60
_MAX_COLUMNS = 160


def upstream_lines(
    finding: Finding, patches: Iterable[Patch], before: bytes | None, after: bytes | None
) -> tuple[str, ...]:
    """Return the changed lines, "-" or "+" first, from the file of the tag that the hunk fits to the other's.

    Empty where the finding is about no hunk, and where its lines are those of a patch below it in the series.
    """
    hunk = _hunk(finding, patches)
    if before is None or hunk is None:
        return ()
    if after is None:
        return (f"-{finding.path} (the whole file)",)
    lines = split_lines(before)
    wanted = hunk.before
    starts = [at for at in range(len(lines) - len(wanted) + 1) if lines[at : at + len(wanted)] == wanted]
    edit = compare(finding.path, before, after, "")
    if not starts or edit is None:
        return ()
    at = min(starts, key=lambda start: abs(start - hunk.start))
    first = sum(map(len, lines[:at]))
    last = first + sum(map(len, wanted))
    found: list[str] = []
    for span in edit.spans:
        if span.end > first and span.start < last:
            found += _cut("-", split_lines(before[span.start : span.end]))
            found += _cut("+", split_lines(span.new))
    return tuple(found[:_MAX_LINES])


def _cut(marker: str, lines: list[bytes]) -> list[str]:
    shown = [f"{marker}{_shown(line)}" for line in lines[:_MAX_BLOCK]]
    more = len(lines) - len(shown)
    return [*shown, f"{marker}... {more} more line{'s' * (more != 1)}"] if more else shown


def _hunk(finding: Finding, patches: Iterable[Patch]) -> Hunk | None:
    number = finding.hunk.removeprefix("hunk ").partition(" ")[0]
    for patch in patches:
        if patch.name == finding.patch and number.isdigit():
            hunks = [file.hunks for file in patch.files if file.path == finding.path]
            return next((each[int(number) - 1] for each in hunks if int(number) <= len(each)), None)
    return None


def _shown(line: bytes) -> str:
    text = escape_unprintable(line.rstrip(b"\n").decode(errors="backslashreplace").expandtabs(8))
    return text if len(text) <= _MAX_COLUMNS else f"{text[:_MAX_COLUMNS]}..."

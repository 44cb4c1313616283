"""For people: a line for each tag, and below it everything that is in its way."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from nodekiln.core.reporting import escape_unprintable
from nodekiln.verify.outcome import Finding, Report, Row, Status

_HEADINGS = ("tag", "commit", "status", "what was found")
_WIDTH = 60
"""Characters of a hunk's side in --explain."""


def render(report: Report, *, explain: bool) -> str:
    """Lines that begin with words of ours, never with text of a tag's: CI may read commands there."""
    cells = [_HEADINGS, *(_cells(row) for row in report.rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    lines: list[str] = []
    for number, each in enumerate(cells):
        lines.append("  ".join(map(str.ljust, each, widths)).rstrip())
        if number:
            lines += _failures(report.rows[number - 1], explain=explain)
    return "".join(f"{_plain(line)}\n" for line in [*lines, report.summary])


def describe(row: Row) -> str:
    """What was found, in a few words."""
    moved = sum(finding.status is Status.OFFSET for finding in row.findings)
    told = []
    if row.failures:
        told.append(_count(len(row.failures), "place does", "places do") + " not fit")
    if moved:
        told.append(f"{_count(moved, 'hunk', 'hunks')} moved, {row.furthest:+d} lines at most")
    if row.status is Status.NATIVE:
        told.append("the tag brings the probes, and configure turns them on")
    if row.status is Status.UPSTREAMED:
        told.append("the tag has a probe provider of its own, and our patches are left out")
    if row.status is Status.ERROR:
        return row.findings[0].reason
    return "; ".join(told)


def _plain(line: str) -> str:
    """Without what a terminal would obey, or GitHub's runner: it takes ##[...] anywhere in a line."""
    return escape_unprintable(line).replace("##[", r"#\x23[")


def _count(number: int, one: str, more: str) -> str:
    return f"{number} {one if number == 1 else more}"


def _cells(row: Row) -> tuple[str, str, str, str]:
    return str(row.tag), (row.commit or "")[:12], row.status.value, describe(row)


def _failures(row: Row, *, explain: bool) -> Iterator[str]:
    for finding in row.failures:
        recipes = f" ({', '.join(finding.recipes)})" if finding.recipes else ""
        told = str(finding).splitlines() or [""]
        yield f"  - {told[0]}{recipes}"
        yield from (f"    | {line}" for line in told[1:])
        if explain:
            yield from explanation(finding)


def explanation(finding: Finding) -> Iterator[str]:
    """The hunk on the left, the tag's lines on the right; `|` marks lines that differ, < and > lone ones."""
    if not finding.explanation:
        return
    width = min(_WIDTH, max(len(side.wanted) for side in finding.explanation))
    width = max(width, len("the patch looks for"))
    yield f"    | {'the patch looks for'.ljust(width)}   {'':>6}  the tag has"
    for side in finding.explanation:
        number = "" if side.number is None else str(side.number)
        for left, right in _folded(side.wanted, side.found, width):
            yield f"    | {left.ljust(width)} {side.mark} {number:>6}  {right}".rstrip()
            number = ""


def _folded(left: str, right: str, width: int) -> Iterable[tuple[str, str]]:
    """The left side in pieces that fit."""
    pieces = [left[at : at + width] for at in range(0, len(left), width)] or [""]
    return [(piece, "" if number else right) for number, piece in enumerate(pieces)]

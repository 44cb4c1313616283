"""Reports as text: a table for people, and for GitHub Actions annotations and a job summary in Markdown.

Text from a tag is escaped everywhere: it must not be a terminal's or a CI runner's command, nor markup.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from nodekiln.core.reporting import escape_unprintable
from nodekiln.verify.outcome import Finding, Report, Row, Status

_HEADINGS = ("tag", "commit", "status", "findings")
_EXPECTED, _FOUND = "the patch expects", "the tag has"
_WIDTH = 60
"""Characters of the expected lines in --explain."""
_MAX_FIRST_FAILURES = 10
_MAX_SUMMARY = 900_000
"""Bytes: GitHub rejects a summary of more than 1 MiB."""
_MARKDOWN = str.maketrans({char: f"&#{ord(char)};" for char in "&<>\"'|\\`*_[]{}#!~@\n\r"})


def render_table(report: Report, *, explain: bool) -> str:
    """Return a line for each tag, with its failures below, and a summary.

    Each line begins with our own words: CI runners may read commands there.
    """
    cells = [_HEADINGS, *(_cells(row) for row in report.rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    lines: list[str] = []
    for number, each in enumerate(cells):
        lines.append("  ".join(map(str.ljust, each, widths)).rstrip())
        if number:
            lines += _failures(report.rows[number - 1], explain=explain)
    return "".join(f"{escape_unprintable(line)}\n" for line in [*lines, *_closing(report)])


def render_github(report: Report, *, explain: bool) -> str:
    """Return workflow commands: an error for each failure (a warning for a pre-release), and notices."""
    lines = [
        _annotation("warning" if row.is_warning else "error", finding, row, report.folders, explain=explain)
        for row in report.rows
        for finding in row.failures
    ]
    moved = [row for row in report.rows if row.status is Status.OFFSET]
    lines += [f"::notice title={_property(f'{row.tag}: offset')}::{_data(describe(row))}" for row in moved]
    closing = "\n".join(_closing(report))
    return "".join(f"{line}\n" for line in [*lines, f"::notice title=verify::{_data(closing)}"])


def render_summary(report: Report, *, explain: bool) -> str:
    """Return the job summary in Markdown, cut after a row if it is too long for GitHub."""
    first, *rest = _closing(report)
    head = f"### {_markdown(first)}\n\n" + "".join(f"- {_markdown(line)}\n" for line in rest)
    head += "\n" * bool(rest) + "| tag | commit | status | findings |\n|---|---|---|---|\n"
    pieces, size = [head], len(head)
    for shown, row in enumerate(report.rows):
        piece = _markdown_row(row, explain)
        size += len(piece.encode())
        if size > _MAX_SUMMARY:
            pieces.append(f"\n{len(report.rows) - shown} more tags are in the report.\n")
            break
        pieces.append(piece)
    return "".join(pieces)


def describe(row: Row) -> str:
    """Return the findings of a row in a few words."""
    moved = sum(finding.status is Status.OFFSET for finding in row.findings)
    words = []
    if row.is_warning:
        words.append("pre-release (a warning)")
    if row.status is Status.ERROR:
        return "; ".join([*words, row.findings[0].reason])
    if row.failures:
        words.append(f"{_count(len(row.failures), 'place does', 'places do')} not fit")
    if moved:
        words.append(f"{_count(moved, 'hunk', 'hunks')} moved, by up to {row.largest_offset:+d} lines")
    if row.status is Status.NOT_SERVED:
        words.append("a change does not serve this tag")
    if row.status is Status.NATIVE:
        words.append("the tag has the probes, and configure enables them")
    if row.status is Status.UPSTREAMED:
        words.append("the tag has its own probe provider, and our patches are skipped")
    return "; ".join(words)


def upstream(finding: Finding) -> Iterator[str]:
    """Yield what upstream changed beside a hunk at the first tag that it does not fit."""
    if finding.upstream:
        yield f"    | changed upstream since {finding.since}:"
        yield from (f"    |   {line}".rstrip() for line in finding.upstream)


def explanation(finding: Finding) -> Iterator[str]:
    """Yield the expected lines on the left and the tag's lines on the right.

    Between them is "|" if the lines differ, "<" or ">" if only one side has a line.
    """
    if not finding.explanation:
        return
    width = min(_WIDTH, max(len(pair.expected) for pair in finding.explanation))
    width = max(width, len(_EXPECTED))
    yield f"    | {_EXPECTED.ljust(width)}   {'':>6}  {_FOUND}"
    for pair in finding.explanation:
        number = "" if pair.number is None else str(pair.number)
        for left, right in _folded(pair.expected, pair.found, width):
            yield f"    | {left.ljust(width)} {pair.marker} {number:>6}  {right}".rstrip()
            number = ""


def _closing(report: Report) -> list[str]:
    """Return the summary, and where each recipe first fails."""
    failures = [str(failure) for failure in report.first_failures]
    more = len(failures) - _MAX_FIRST_FAILURES
    if more > 0:
        failures = [*failures[:_MAX_FIRST_FAILURES], f"{more} more of these are in --format json"]
    return [report.summary, *failures]


def _count(number: int, one: str, more: str) -> str:
    return f"{number} {one if number == 1 else more}"


def _cells(row: Row) -> tuple[str, str, str, str]:
    return str(row.tag), (row.commit or "")[:12], row.status.value, describe(row)


def _failures(row: Row, *, explain: bool) -> Iterator[str]:
    for finding in row.failures:
        first, *rest = str(finding).splitlines() or [""]
        yield f"  - {first}{_recipes(finding)}"
        yield from (f"    | {line}" for line in rest)
        yield from upstream(finding)
        if explain:
            yield from explanation(finding)


def _recipes(finding: Finding) -> str:
    return f" ({', '.join(finding.recipes)})" if finding.recipes else ""


def _folded(left: str, right: str, width: int) -> Iterable[tuple[str, str]]:
    """Return the left side in pieces of `width`, the right side beside the first."""
    pieces = [left[at : at + width] for at in range(0, len(left), width)] or [""]
    return [(piece, "" if number else right) for number, piece in enumerate(pieces)]


def _annotation(kind: str, finding: Finding, row: Row, folders: Mapping[str, str], *, explain: bool) -> str:
    change, _, name = finding.patch.partition("/")
    file = f"{folders[change]}/{name}" if change in folders else f"patches/{finding.patch}"
    file = file if file.endswith(".patch") else ""
    properties = [f"file={_property(file)}"] if file else []
    properties.append(f"title={_property(f'{row.tag}: {finding.status}')}")
    lines = [f"{row.tag}: {finding}{_recipes(finding)}", *upstream(finding)]
    lines += explanation(finding) if explain else ()
    return f"::{kind} {','.join(properties)}::{_data(chr(10).join(lines))}"


def _data(text: str) -> str:
    """Escape a message as @actions/core does."""
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _data(text).replace(":", "%3A").replace(",", "%2C")


def _markdown_row(row: Row, explain: bool) -> str:
    cells = [_markdown(describe(row))]
    cells += [_markdown(f"{finding}{_recipes(finding)}") for finding in row.failures]
    changed = [chr(10).join(upstream(finding)) for finding in row.failures if finding.upstream]
    cells += [f"<pre>{_markdown(text)}</pre>" for text in changed]
    if explain:
        cells += [_markdown_explanation(finding) for finding in row.failures if finding.explanation]
    return f"| {row.tag} | {(row.commit or '')[:12]} | {row.status} | {'<br>'.join(filter(None, cells))} |\n"


def _markdown_explanation(finding: Finding) -> str:
    return f"<pre>{_markdown(chr(10).join(explanation(finding)))}</pre>"


def _markdown(text: str) -> str:
    return text.translate(_MARKDOWN)

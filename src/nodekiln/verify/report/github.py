"""For GitHub Actions: an annotation for everything in the way, and a summary of the job in Markdown.

Text of a tag's stands in both, so all of it is escaped: it must neither end an annotation and begin a command
of its own, nor be markup.
"""

from __future__ import annotations

from nodekiln.verify.outcome import Finding, Report, Row, Status
from nodekiln.verify.report.table import describe, explanation

_SUMMARY_LIMIT = 900_000
"""Bytes: GitHub refuses a summary of more than 1 MiB."""
_MARKDOWN = str.maketrans({char: f"&#{ord(char)};" for char in "&<>\"'|\\`*_[]{}#!~@\n\r"})


def render(report: Report, *, explain: bool) -> str:
    """Workflow commands, one a line."""
    lines = [
        _command("error", finding, f"{row.tag}: {finding.status}", row, explain=explain)
        for row in report.rows
        for finding in row.failures
    ]
    moved = [row for row in report.rows if row.status is Status.OFFSET]
    lines += [f"::notice title={_property(f'{row.tag}: offset')}::{_data(describe(row))}" for row in moved]
    return "".join(f"{line}\n" for line in [*lines, f"::notice title=verify::{_data(report.summary)}"])


def summarize(report: Report, *, explain: bool) -> str:
    """The job summary, cut at a row where it gets too long."""
    head = (
        f"### {_markdown(report.summary)}\n\n| tag | commit | status | what was found |\n|---|---|---|---|\n"
    )
    pieces, size = [head], len(head)
    for shown, row in enumerate(report.rows):
        piece = _row(row, explain)
        size += len(piece.encode())
        if size > _SUMMARY_LIMIT:
            pieces.append(f"\n{len(report.rows) - shown} more tags stand in the report.\n")
            break
        pieces.append(piece)
    return "".join(pieces)


def _row(row: Row, explain: bool) -> str:
    cells = [_markdown(describe(row)), *map(_failure, row.failures)]
    if explain:
        cells += [_explained(finding) for finding in row.failures if finding.explanation]
    found = "<br>".join(filter(None, cells))
    return f"| {row.tag} | {(row.commit or '')[:12]} | {row.status} | {found} |\n"


def _failure(finding: Finding) -> str:
    recipes = f" ({', '.join(finding.recipes)})" if finding.recipes else ""
    return _markdown(f"{finding}{recipes}")


def _explained(finding: Finding) -> str:
    return f"<pre>{_markdown(chr(10).join(explanation(finding)))}</pre>"


def _command(kind: str, finding: Finding, title: str, row: Row, *, explain: bool) -> str:
    file = f"patches/usdt/{finding.patch}" if finding.patch.endswith(".patch") else ""
    properties = [f"file={_property(file)}"] if file else []
    properties.append(f"title={_property(title)}")
    recipes = f" ({', '.join(finding.recipes)})" if finding.recipes else ""
    lines = [f"{row.tag}: {finding}{recipes}", *(explanation(finding) if explain else ())]
    return f"::{kind} {','.join(properties)}::{_data(chr(10).join(lines))}"


def _data(text: str) -> str:
    """As @actions/core escapes a message."""
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _data(text).replace(":", "%3A").replace(",", "%2C")


def _markdown(text: str) -> str:
    return text.translate(_MARKDOWN)

"""For machines, as docs/verify.md describes it."""

from __future__ import annotations

import json
from typing import Any

from nodekiln.verify.outcome import Finding, Report, Row

SCHEMA = 1
"""Goes up when a field changes its meaning or goes away; new ones may come without that."""


def render(report: Report, *, explain: bool) -> str:
    """One JSON object, with a newline."""
    text = json.dumps(as_data(report, explain=explain), indent=2) + "\n"
    return text.replace("##[", r"#\u0023[")  # the same text, and no command to GitHub's runner


def as_data(report: Report, *, explain: bool) -> dict[str, Any]:
    """The same, as lists and dictionaries."""
    return {
        "schema": SCHEMA,
        "repository": report.origin,
        "depth": report.depth.value,
        "recipes": list(report.recipes),
        "ok": report.exit_code == 0,
        "counts": report.counts,
        "ignored_tags": report.ignored,
        "remembered_tags": report.remembered,
        "seconds": round(report.seconds, 3),
        "tags": [_row(row, explain) for row in report.rows],
    }


def _row(row: Row, explain: bool) -> dict[str, Any]:
    return {
        "tag": str(row.tag),
        "commit": row.commit,
        "status": row.status.value,
        "ok": row.status.is_fine,
        "offset": row.furthest,
        "recipes": {name: status.value for name, status in row.recipes},
        "findings": [_finding(finding, explain) for finding in row.findings],
    }


def _finding(finding: Finding, explain: bool) -> dict[str, Any]:
    told: dict[str, Any] = {
        "status": finding.status.value,
        "reason": finding.reason,
        "text": finding.text,
        "file": finding.path or None,
        "function": finding.function or None,
        "patch": finding.patch or None,
        "hunk": finding.hunk or None,
        "line": finding.line,
        "offset": finding.offset,
        "recipes": list(finding.recipes),
    }
    if explain:
        told["explanation"] = [
            {"patch": side.wanted, "mark": side.mark, "line": side.number, "tag": side.found}
            for side in finding.explanation
        ]
    return told

"""Reports for programs: JSON as documented in docs/verify.md, and JUnit's XML for CI servers."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from typing import Any
from xml.etree import ElementTree

from nodekiln.verify.outcome import Finding, Report, Row, Status
from nodekiln.verify.report.text import explanation

SCHEMA = 2
"""Increases when a field changes its meaning or is removed, not when one is added."""

_SUITE = "nodekiln verify"
_INVALID_IN_XML = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def render_json(report: Report, *, explain: bool) -> str:
    """Return one JSON object and a newline."""
    data = {
        "schema": SCHEMA,
        "repository": report.origin,
        "depth": report.depth.value,
        "recipes": list(report.recipes),
        "ok": report.exit_code == 0,
        "counts": report.counts,
        "ignored_tags": report.ignored,
        "seconds": round(report.seconds, 3),
        "first_failures": [
            {
                "recipes": list(failure.recipes),
                "tag": str(failure.tag),
                "previous": None if failure.previous is None else str(failure.previous),
            }
            for failure in report.first_failures
        ],
        "tags": [_row(row, explain) for row in report.rows],
    }
    text = json.dumps(data, indent=2) + "\n"
    return text.replace("##[", r"#\u0023[")  # the same text, but no command of GitHub's runner


def _row(row: Row, explain: bool) -> dict[str, Any]:
    return {
        "tag": str(row.tag),
        "commit": row.commit,
        "status": row.status.value,
        "ok": row.status.is_fine,
        "warning": row.is_warning,
        "offset": row.largest_offset,
        "recipes": {name: status.value for name, status in row.recipes},
        "findings": [_finding(finding, explain) for finding in row.findings],
    }


def _finding(finding: Finding, explain: bool) -> dict[str, Any]:
    data: dict[str, Any] = {
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
        data["explanation"] = [
            {"patch": pair.expected, "mark": pair.marker, "line": pair.number, "tag": pair.found}
            for pair in finding.explanation
        ]
    return data


def render_junit(report: Report, *, explain: bool) -> str:
    """Return an XML document with one suite, and a test case for each recipe of each tag."""
    cases = [case for row in report.rows for case in _cases(row, explain)]
    suite = ElementTree.Element(
        "testsuite",
        name=_xml_text(f"{_SUITE}, {report.depth}, {report.origin}"),
        tests=str(len(cases)),
        failures=str(sum(case.find("failure") is not None for case in cases)),
        errors=str(sum(case.find("error") is not None for case in cases)),
        time=f"{report.seconds:.3f}",
    )
    suite.extend(cases)
    ElementTree.indent(suite)
    text = ElementTree.tostring(suite, encoding="unicode")
    text = text.replace("##[", "#&#35;[")  # the same text, but no command of GitHub's runner
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{text}\n'


def _cases(row: Row, explain: bool) -> list[ElementTree.Element]:
    if not row.recipes:
        return [_case(row, "tag", row.status, row.findings, explain)]
    return [
        _case(row, name, status, [each for each in row.findings if name in each.recipes], explain)
        for name, status in row.recipes
    ]


def _case(
    row: Row, name: str, status: Status, findings: Iterable[Finding], explain: bool
) -> ElementTree.Element:
    case = ElementTree.Element("testcase", classname=f"nodekiln.{row.tag}", name=name)
    lines = [line for finding in findings for line in _lines(finding, explain)]
    if status.is_fine or row.tag.pre:
        result = ElementTree.SubElement(case, "system-out")
        lines = [status.value if status.is_fine else f"warning: {status.value}", *lines]
    else:
        kind = "error" if status is Status.ERROR else "failure"
        result = ElementTree.SubElement(case, kind, message=status.value, type=status.value)
    result.text = _xml_text("\n".join(lines))
    return case


def _lines(finding: Finding, explain: bool) -> list[str]:
    shown = explanation(finding) if explain else ()
    first, *rest = str(finding).splitlines() or [""]
    return [f"{finding.status}: {first}", *(f"    | {line}" for line in rest), *shown]


def _xml_text(text: str) -> str:
    return _INVALID_IN_XML.sub(lambda match: match[0].encode("unicode_escape").decode(), text)

"""For CI servers that read JUnit's XML: a test case for each recipe of each tag."""

from __future__ import annotations

import re
from collections.abc import Iterable
from xml.etree import ElementTree

from nodekiln.verify.outcome import Finding, Report, Row, Status
from nodekiln.verify.report.table import explanation

_SUITE = "nodekiln verify"
_FORBIDDEN = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
"""What XML 1.0 has no way to write."""


def render(report: Report, *, explain: bool) -> str:
    """A document with one suite."""
    cases = [case for row in report.rows for case in _cases(row, explain)]
    suite = ElementTree.Element(
        "testsuite",
        name=_plain(f"{_SUITE}, {report.depth}, {report.origin}"),
        tests=str(len(cases)),
        failures=str(sum(case.find("failure") is not None for case in cases)),
        errors=str(sum(case.find("error") is not None for case in cases)),
        time=f"{report.seconds:.3f}",
    )
    suite.extend(cases)
    ElementTree.indent(suite)
    text = ElementTree.tostring(suite, encoding="unicode")
    text = text.replace("##[", "#&#35;[")  # the same text, and no command to GitHub's runner
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
    if status.is_fine:
        told = ElementTree.SubElement(case, "system-out")
        lines = [status.value, *lines]
    else:
        kind = "error" if status is Status.ERROR else "failure"
        told = ElementTree.SubElement(case, kind, message=status.value, type=status.value)
    told.text = _plain("\n".join(lines))
    return case


def _lines(finding: Finding, explain: bool) -> list[str]:
    shown = explanation(finding) if explain else ()
    first, *rest = str(finding).splitlines() or [""]
    return [f"{finding.status}: {first}", *(f"    | {line}" for line in rest), *shown]


def _plain(text: str) -> str:
    return _FORBIDDEN.sub(lambda match: match[0].encode("unicode_escape").decode(), text)

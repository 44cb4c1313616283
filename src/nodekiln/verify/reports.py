"""Reports for machines (JSON, JUnit), and where a report goes: stdout, a file, a job summary on GitHub."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from nodekiln.core.errors import UsageError
from nodekiln.core.files import atomic_write
from nodekiln.verify.outcome import Finding, Report, Row, Status
from nodekiln.verify.text import explanation, render_github, render_summary, render_table, upstream

_SUMMARY = "GITHUB_STEP_SUMMARY"

SCHEMA = 2
"""Increases when a field changes its meaning or is removed, not when one is added."""
_SUITE = "nodekiln verify"
_INVALID_IN_XML = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def check_format(name: str) -> str:
    """Return the name of a format; raises UsageError for an unknown one."""
    if name not in FORMATS:
        raise UsageError(f"--format {name!r} is unknown.", remedy=f"Use one of {', '.join(FORMATS)}.")
    return name


def check_output(output: Path) -> Path:
    """Return `output` if it can be written; raises UsageError before the work, not after it."""
    reason = ""
    if output.is_dir():
        reason = "it is a folder"
    elif not output.parent.is_dir():
        reason = f"the folder {output.parent} does not exist"
    elif not os.access(output if _is_stream(output) else Path(os.path.realpath(output)).parent, os.W_OK):
        reason = "permission denied"
    if reason:
        raise UsageError(f"Writing --output {output} failed: {reason}.")
    return output


def publish(
    report: Report,
    *,
    form: str,
    explain: bool,
    output: Path | None,
    environment: Mapping[str, str],
    show: Callable[[str], object],
) -> None:
    """Render the report in the format `form`, and write it to `output`, or pass it to `show` if that is None.

    Raises OSError if a file can't be written.
    """
    text = FORMATS[form](report, explain=explain)
    if output is None:
        show(text)
    else:
        content = text.encode("utf-8", "backslashreplace")
        if _is_stream(output):
            output.write_bytes(content)
        else:
            atomic_write(Path(os.path.realpath(output)), content)  # a link of the user's stays one
    summary = environment.get(_SUMMARY)
    if form == "github" and summary:
        with Path(summary).open("a", encoding="utf-8", errors="backslashreplace") as file:
            file.write(render_summary(report, explain=explain))


def _is_stream(output: Path) -> bool:
    """Return True for a pipe or a device (/dev/null), which a rename would replace by a file."""
    return output.exists() and not output.is_file()


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
        "upstream": list(finding.upstream),
        "since": None if finding.since is None else str(finding.since),
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
    head = [f"{finding.status}: {first}", *(f"    | {line}" for line in rest)]
    return [*head, *upstream(finding), *shown]


def _xml_text(text: str) -> str:
    return _INVALID_IN_XML.sub(lambda match: match[0].encode("unicode_escape").decode(), text)


FORMATS: Mapping[str, Callable[..., str]] = {
    "table": render_table,
    "json": render_json,
    "junit": render_junit,
    "github": render_github,
}

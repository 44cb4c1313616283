"""Write a report to stdout or a file and, for GitHub Actions, to the job summary."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path

from nodekiln.core.errors import UsageError
from nodekiln.core.files import atomic_write
from nodekiln.verify.outcome import Report
from nodekiln.verify.report.machine import render_json, render_junit
from nodekiln.verify.report.text import render_github, render_summary, render_table

FORMATS: Mapping[str, Callable[..., str]] = {
    "table": render_table,
    "json": render_json,
    "junit": render_junit,
    "github": render_github,
}
_SUMMARY = "GITHUB_STEP_SUMMARY"


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
            atomic_write(output, content)
    summary = environment.get(_SUMMARY)
    if form == "github" and summary:
        with Path(summary).open("a", encoding="utf-8", errors="backslashreplace") as file:
            file.write(render_summary(report, explain=explain))


def _is_stream(output: Path) -> bool:
    """Return True for a pipe or a device (/dev/null), which a rename would replace by a file."""
    return output.exists() and not output.is_file()

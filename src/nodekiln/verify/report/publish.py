"""Where a report goes: stdout or a file, and for GitHub Actions the summary of the job too."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path

from nodekiln.core.errors import UsageError
from nodekiln.core.files import atomic_write
from nodekiln.verify.outcome import Report
from nodekiln.verify.report import github, jsonreport, junit, table

_FORMATS: Mapping[str, Callable[..., str]] = {
    "table": table.render,
    "json": jsonreport.render,
    "junit": junit.render,
    "github": github.render,
}
_SUMMARY = "GITHUB_STEP_SUMMARY"


def check_format(name: str) -> str:
    """Returns the name of a format; raises UsageError for another word."""
    if name not in _FORMATS:
        raise UsageError(f"--format takes {', '.join(_FORMATS)}, not {name!r}.")
    return name


def check_output(output: Path) -> Path:
    """Returns a file that can be written; raises UsageError before the work, not after it."""
    why = ""
    if output.is_dir():
        why = "it is a folder"
    elif not output.parent.is_dir():
        why = f"there is no folder {output.parent}"
    elif not os.access(output if _is_stream(output) else Path(os.path.realpath(output)).parent, os.W_OK):
        why = "that is not permitted"
    if why:
        raise UsageError(f"--output {output} can't be written: {why}.")
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
    """Renders the report in the format `form`; `show` takes it where no `output` is named.

    Raises OSError where a file can't be written.
    """
    text = _FORMATS[form](report, explain=explain)
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
            file.write(github.summarize(report, explain=explain))


def _is_stream(output: Path) -> bool:
    """Whether it is a pipe or a device (/dev/null), which a rename would replace by a file."""
    return output.exists() and not output.is_file()

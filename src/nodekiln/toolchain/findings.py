"""What a look at the machine or at a tag turned up, and how errors among it end a run.

Values only: nothing here looks at anything itself.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

from nodekiln.core.errors import ToolchainError


class Severity(StrEnum):
    """ERROR: the build would fail. WARNING: it may, or may come out different. NOTE: good to know."""

    ERROR = "error"
    WARNING = "warning"
    NOTE = "note"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was found: about what (CXX, python, disk), what it is, why it matters, what to type."""

    severity: Severity
    subject: str
    what: str
    why: str
    remedy: str

    def __str__(self) -> str:
        return "\n  ".join(text for text in (f"{self.subject}: {self.what}", self.why, self.remedy) if text)


@dataclass(frozen=True, slots=True)
class Round:
    """Everything that one look turned up, not only the first."""

    findings: tuple[Finding, ...]

    @property
    def errors(self) -> tuple[Finding, ...]:
        """What stops a build."""
        return tuple(finding for finding in self.findings if finding.severity is Severity.ERROR)

    @property
    def warnings(self) -> tuple[Finding, ...]:
        """What may bite later."""
        return tuple(finding for finding in self.findings if finding.severity is Severity.WARNING)


def raise_for(findings: Iterable[Finding]) -> None:
    """Raises ToolchainError where there are errors among `findings`, with a block of text for each."""
    if errors := Round(tuple(findings)).errors:
        raise error_of(errors)


def error_of(errors: tuple[Finding, ...]) -> ToolchainError:
    """One error that says all of `errors`, of which there is at least one."""
    if len(errors) == 1:
        (error,) = errors
        return ToolchainError(f"{error.subject}: {error.what}\n  {error.why}", remedy=error.remedy)
    blocks = "\n".join(map(str, errors))
    return ToolchainError(f"{len(errors)} things are in the way of a build:\n{blocks}")

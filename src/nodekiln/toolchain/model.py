"""The values that toolchain checks take and return: the request, and findings with their severity."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

from nodekiln.core.errors import ToolchainError
from nodekiln.core.recipe import Tag


@dataclass(frozen=True, kw_only=True)
class ToolOptions:
    """The user's choice of tools. None: what is installed."""

    launcher: str | None = None
    """ccache, sccache, distcc, icecc or none."""
    linker: str | None = None
    """mold, lld, bfd or default. None: the linker of the last build, otherwise lld if it is installed."""
    clean_env: bool = False
    """Drop variables that leak into a build."""


@dataclass(frozen=True, kw_only=True)
class Request:
    """A build to check the machine for."""

    tag: Tag | None
    environ: Mapping[str, str]
    """The environment of child processes (see process.child_environment)."""
    build_dir: Path
    jobs: int
    disk_needed: int
    """Bytes that the rest of the build may write at most."""
    platform: str
    """sys.platform."""
    configure_args: tuple[str, ...]
    probes: bool = False
    """True if USDT/DTrace probes are compiled."""
    tools: ToolOptions = field(default_factory=ToolOptions)
    linker_before: str | None = None
    """The linker of the last build of this tree or binary."""


class Severity(StrEnum):
    """ERROR: the build would fail. WARNING: it may fail or produce another binary. NOTE: for information."""

    ERROR = "error"
    WARNING = "warning"
    NOTE = "note"


@dataclass(frozen=True, slots=True)
class Finding:
    """One result of a check: its subject (CXX, python, disk), what is wrong, why it matters, what to do."""

    severity: Severity
    subject: str
    what: str
    why: str
    remedy: str

    def __str__(self) -> str:
        return "\n  ".join(text for text in (f"{self.subject}: {self.what}", self.why, self.remedy) if text)


@dataclass(frozen=True, slots=True)
class Findings:
    """All results of a check, not only the first."""

    findings: tuple[Finding, ...]

    @property
    def errors(self) -> tuple[Finding, ...]:
        """The findings that prevent a build."""
        return tuple(finding for finding in self.findings if finding.severity is Severity.ERROR)

    @property
    def warnings(self) -> tuple[Finding, ...]:
        """The findings that may cause trouble later."""
        return tuple(finding for finding in self.findings if finding.severity is Severity.WARNING)


def raise_for(findings: Iterable[Finding]) -> None:
    """Raise ToolchainError with all errors among `findings`, if there are any."""
    if errors := Findings(tuple(findings)).errors:
        raise error_of(errors)


def error_of(errors: tuple[Finding, ...]) -> ToolchainError:
    """Return one error for all of `errors`, of which there is at least one."""
    if len(errors) == 1:
        (error,) = errors
        return ToolchainError(f"{error.subject}: {error.what}\n  {error.why}", remedy=error.remedy)
    blocks = "\n".join(map(str, errors))
    return ToolchainError(f"{len(errors)} problems prevent a build:\n{blocks}")


def search_path(env: Mapping[str, str]) -> str:
    """Return the PATH that a child with this environment searches."""
    return env.get("PATH", os.defpath)


def temporary_folder(env: Mapping[str, str]) -> Path:
    """Return the folder of compilers' temporary files (gcc reads these variables, in this order)."""
    named = (env.get(name) for name in ("TMPDIR", "TMP", "TEMP"))
    return Path(next(filter(None, named), "/tmp"))  # noqa: S108 (compilers' own default)

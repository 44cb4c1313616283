"""The two looks at the machine before a build: what is wrong is told, and errors end the run."""

from __future__ import annotations

import sys
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from nodekiln.building.jobs import default_jobs
from nodekiln.core.errors import KilnError
from nodekiln.core.platform import available_memory, cores
from nodekiln.core.recipe import Recipe, Tag
from nodekiln.core.reporting import Reporter
from nodekiln.core.settings import Settings
from nodekiln.pipelines import disk
from nodekiln.toolchain import requirements
from nodekiln.toolchain.checks import check_machine, check_tag
from nodekiln.toolchain.findings import Finding, Round, Severity, raise_for
from nodekiln.toolchain.request import Request

if TYPE_CHECKING:  # ./inv doctor has to get this far without a git that works
    from nodekiln.source.repository import Source


def make_request(
    settings: Settings,
    tag: Tag | None,
    *,
    configure_args: tuple[str, ...],
    jobs: int,
    disk_needed: int,
    clean_env: bool,
    probes: bool,
    launcher: str | None,
    linker: str | None,
    linker_before: str | None = None,
) -> Request:
    """What the toolchain is asked about."""
    return Request(
        tag=tag,
        environ=settings.environment,
        build_dir=settings.workspace.root,
        jobs=jobs,
        disk_needed=disk_needed,
        clean_env=clean_env,
        platform=sys.platform,
        configure_args=configure_args,
        use_ninja=None,
        probes=probes,
        launcher=launcher,
        linker=linker,
        linker_before=linker_before,
    )


def look_at_machine(request: Request, reporter: Reporter) -> None:
    """What needs no tree; raises ToolchainError that lists everything wrong."""
    _tell(check_machine(request), reporter)


def look_at_tag(request: Request, source: Source, reporter: Reporter) -> None:
    """What the tag's own files ask for; raises ToolchainError that lists everything wrong."""
    source.need(requirements.PATHS)
    _tell(Round(check_tag(request, source.read)), reporter)


@dataclass(frozen=True, slots=True)
class Examination(Round):
    """Both looks together, as ./inv doctor tells them."""

    tag: Tag | None

    @property
    def summary(self) -> str:
        """One line."""
        what = f"a build of {self.tag}" if self.tag else "a build"
        warnings = f"{len(self.warnings)} warning{'s' * (len(self.warnings) != 1)}"
        if self.errors:
            return f"{len(self.errors)} in the way of {what}, {warnings}"
        return f"nothing is in the way of {what}; {warnings}"

    def as_data(self) -> dict[str, Any]:
        """For machines: the tag (or null), whether a build could go on, and all findings."""
        return {
            "tag": None if self.tag is None else str(self.tag),
            "ok": not self.errors,
            "findings": [asdict(finding) for finding in self.findings],
        }


def examine(
    settings: Settings,
    reporter: Reporter,
    *,
    tag: Tag | None,
    repository: str | None,
    configure_args: tuple[str, ...],
    clean_env: bool,
    probes: bool,
    launcher: str | None = None,
    linker: str | None = None,
) -> Examination:
    """Looks at the machine and, where there is a tag, at what that asks for; writes no tree.

    Where the tag can't be had, that is one finding more.
    """
    request = make_request(
        settings,
        tag,
        configure_args=configure_args,
        jobs=default_jobs(cores(), available_memory()),
        disk_needed=disk.FIRST_BUILD,
        clean_env=clean_env,
        probes=probes,
        launcher=launcher,
        linker=linker,
    )
    findings = check_machine(request).findings
    try:
        findings += _look_into(request, repository, settings, reporter)
    except KilnError as error:
        findings += (Finding(Severity.ERROR, "source", error.message, "", error.remedy or ""),)
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        findings += (Finding(Severity.ERROR, "source", f"{where}{error.strerror or error}.", "", ""),)
    return Examination(findings, tag)


def _look_into(
    request: Request, repository: str | None, settings: Settings, reporter: Reporter
) -> tuple[Finding, ...]:
    from nodekiln.pipelines.planning import check_version, open_tag  # raises SourceError where git fails
    from nodekiln.source.releases import HEADER

    if request.tag is None:
        return ()
    source = open_tag(Recipe(tag=request.tag), repository, settings, reporter, accept_moved=False)
    source.need((HEADER, *requirements.PATHS))
    check_version(request.tag, source)
    return check_tag(request, source.read)


def _tell(found: Round, reporter: Reporter) -> None:
    for finding in found.findings:
        if finding.severity is Severity.WARNING:
            reporter.warn(str(finding))
        elif finding.severity is Severity.NOTE:
            reporter.say(str(finding))
    raise_for(found.findings)

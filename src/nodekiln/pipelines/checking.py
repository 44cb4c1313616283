"""The checks before a build: their findings are reported, and errors end the run. Also runs ./inv doctor."""

from __future__ import annotations

import sys
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from nodekiln.building.ninja import default_jobs
from nodekiln.core.errors import KilnError
from nodekiln.core.files import disk_full_error
from nodekiln.core.platform import available_memory, cores, free_disk
from nodekiln.core.recipe import Recipe, Tag
from nodekiln.core.reporting import Reporter, format_size
from nodekiln.core.settings import Settings, Workspace
from nodekiln.toolchain import requirements
from nodekiln.toolchain.model import Finding, Findings, Request, Severity, ToolOptions, raise_for
from nodekiln.toolchain.toolchain import Programs, check_machine, check_tag

if TYPE_CHECKING:  # ./inv doctor has to get this far without a working git
    from nodekiln.source.repository import Source

FIRST_BUILD = 3 * 10**9
"""Bytes for fetching, checking out and building an official tree, before its real size is known, with a
margin. v20.19.2 as Debian packages it, with shared libraries, takes 40 + 220 + 320 MB."""
NEXT_BUILD = 200 * 10**6
"""Bytes for building again in an existing tree: a second binary, published and in out/."""
_OUTPUTS_PER_SOURCE = 2
"""The size of out/ over that of the checkout; 1.5 for v20.19.2 above."""


def make_request(
    settings: Settings,
    tools: ToolOptions,
    *,
    tag: Tag | None,
    configure_args: tuple[str, ...],
    probes: bool,
    jobs: int,
    disk_needed: int,
    linker_before: str | None = None,
) -> Request:
    """Return the request for a build on this machine."""
    return Request(
        tag=tag,
        environ=settings.environment,
        build_dir=settings.workspace.root,
        jobs=jobs,
        disk_needed=disk_needed,
        platform=sys.platform,
        configure_args=configure_args,
        probes=probes,
        tools=tools,
        linker_before=linker_before,
    )


def check(
    programs: Programs, reporter: Reporter, source: Source | None = None, *, machine: bool = True
) -> None:
    """Report the findings about the machine, and about the tag if there is a `source`.

    Raises ToolchainError that lists all errors.
    """
    if machine:
        _report(check_machine(programs), reporter)
    if source is not None:
        source.need(requirements.PATHS)
        _report(check_tag(programs, source.read), reporter)


def _report(found: Findings, reporter: Reporter) -> None:
    for finding in found.findings:
        if finding.severity is Severity.WARNING:
            reporter.warn(str(finding))
        elif finding.severity is Severity.NOTE:
            reporter.say(str(finding))
    raise_for(found.findings)


def ensure_disk_space(
    workspace: Workspace, reporter: Reporter, *, checkout: int, is_checked_out: bool
) -> None:
    """Report the size of tree (`checkout` bytes) and outputs; raise SourceError if the disk has less."""
    needed = (0 if is_checked_out else checkout) + _OUTPUTS_PER_SOURCE * checkout
    free = free_disk(workspace.root)
    reporter.say(f"disk: the tree and its build take about {format_size(needed)}; {format_size(free)} free")
    if free < needed:
        raise disk_full_error(workspace.root, f"this build takes about {format_size(needed)}")


@dataclass(frozen=True, slots=True)
class Diagnosis(Findings):
    """The findings about machine and tag, as ./inv doctor prints them."""

    tag: Tag | None

    @property
    def summary(self) -> str:
        """One line."""
        what = f"a build of {self.tag}" if self.tag else "a build"
        warnings = f"{len(self.warnings)} warning{'s' * (len(self.warnings) != 1)}"
        if count := len(self.errors):
            problems = "1 problem prevents" if count == 1 else f"{count} problems prevent"
            return f"{problems} {what}; {warnings}"
        return f"nothing prevents {what}; {warnings}"

    def as_data(self) -> dict[str, Any]:
        """For JSON: the tag (or null), true if a build is possible, and all findings."""
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
    probes: bool,
    tools: ToolOptions,
) -> Diagnosis:
    """Check the machine and, with a tag, its requirements; write no tree.

    If the tag is unavailable, that is one more finding.
    """
    request = make_request(
        settings,
        tools,
        tag=tag,
        configure_args=configure_args,
        probes=probes,
        jobs=default_jobs(cores(), available_memory()),
        disk_needed=FIRST_BUILD,
    )
    programs = Programs(request)
    findings = check_machine(programs).findings
    try:
        findings += _examine_tag(programs, repository, settings, reporter)
    except KilnError as error:
        findings += (Finding(Severity.ERROR, "source", error.message, "", error.remedy or ""),)
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        findings += (Finding(Severity.ERROR, "source", f"{where}{error.strerror or error}.", "", ""),)
    return Diagnosis(findings, tag)


def _examine_tag(
    programs: Programs, repository: str | None, settings: Settings, reporter: Reporter
) -> tuple[Finding, ...]:
    """Return the findings about the tag; without a tag, only check that git works and is new enough."""
    from nodekiln.core.recipe import HEADER
    from nodekiln.pipelines.planning import check_version, open_tag  # raises SourceError if git fails
    from nodekiln.source.git_runner import check_version as check_git

    check_git()
    if (tag := programs.request.tag) is None:
        return ()
    source = open_tag(Recipe(tag=tag), repository, settings, reporter, accept_moved=False)
    source.need((HEADER, *requirements.PATHS))
    check_version(tag, source)
    return check_tag(programs, source.read).findings

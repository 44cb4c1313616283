"""Depths "compile" and "build": what is planned well is compiled, or built and run as ./inv build does it.

A tag or recipe that fails costs a finding of its own, and the others go on.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

from nodekiln.binaries.store import Store
from nodekiln.core.errors import BuildError, KilnError, SourceError
from nodekiln.core.recipe import Recipe
from nodekiln.core.reporting import Reporter
from nodekiln.core.settings import Settings
from nodekiln.pipelines.build import BuildRequest, build, configured
from nodekiln.pipelines.checking import look_at_machine, make_request
from nodekiln.pipelines.planning import make_plan, open_tag
from nodekiln.verify.outcome import Depth, Finding, Kind, Row, Status, worst
from nodekiln.verify.units import Units

_UNPROVEN = "unproven"


def check_machine(kinds: Iterable[Kind], settings: Settings, reporter: Reporter) -> None:
    """Before anything is looked at: what is in the way of every build here is no finding about a tag.

    Raises ToolchainError that lists everything wrong.
    """
    request = make_request(
        settings,
        None,
        configure_args=settings.configure_args,
        jobs=1,
        disk_needed=0,  # each build asks for itself
        clean_env=False,
        probes=all(kind.probes for kind in kinds),  # which ask for more
        launcher=None,
        linker=None,
    )
    look_at_machine(request, reporter)


@dataclass(slots=True)
class Deeper:
    """How far to go, and what that needs.

    `repository` is the one that was planned from, and is named always: an imported tarball is none of it.
    """

    depth: Depth
    repository: str
    jobs: int | None
    accept_moved: bool
    settings: Settings
    reporter: Reporter
    _compiled: dict[tuple[str, ...], tuple[Finding, ...]] = field(default_factory=dict)

    def row(self, row: Row, kinds: Mapping[str, Kind]) -> Row:
        """The row with what was found further down; recipes that are not fine already are left alone."""
        recipes, findings = [], list(row.findings)
        for name, status in row.recipes:
            found = self._look(row, kinds[name]) if status.is_fine else ()
            findings += [replace(finding, recipes=(name,)) for finding in found]
            recipes.append((name, worst([status, *(finding.status for finding in found)])))
        return replace(
            row,
            status=worst(status for _, status in recipes) if recipes else row.status,
            recipes=tuple(recipes),
            findings=tuple(findings),
        )

    def _look(self, row: Row, kind: Kind) -> tuple[Finding, ...]:
        recipe = replace(kind.recipe(row.tag), default_args=self.settings.configure_args)
        self.reporter.say(f"{self.depth}: {recipe.name}")
        try:
            found = self._compile(recipe, row.commit) if kind.probes else ()
            if self.depth is Depth.BUILD and not found:
                found = self._build(recipe, row.commit)
        except KilnError as error:
            return (Finding(Status.FAILED, f"{self.depth} failed", str(error)),)
        return found

    def _compile(self, recipe: Recipe, commit: str | None) -> tuple[Finding, ...]:
        """Only patches touch C++: the rewrite alone has nothing to compile."""
        source = open_tag(
            recipe, self.repository, self.settings, self.reporter, accept_moved=self.accept_moved
        )
        _check(recipe, commit, source.commit)
        plan = make_plan(recipe, source, self.settings, self.reporter).plan
        paths = Units.touched(plan)
        # With and without backpressure the C++ is the same.
        key = (source.commit, *(f"{edit.path} {edit.after_id}" for edit in plan.edits if edit.path in paths))
        if paths and key not in self._compiled:
            self._compiled[key] = self._show(recipe, paths)
        return self._compiled.get(key, ())

    def _show(self, recipe: Recipe, paths: tuple[str, ...]) -> tuple[Finding, ...]:
        with (
            configured(self._request(recipe), self.settings, self.reporter) as job,
            self.reporter.progress(f"{recipe.name}, units") as meter,
        ):
            toolchain = job.toolchain
            if toolchain.generator != "ninja":
                raise BuildError("The compiler's commands are read from ninja, and there is none here.")
            units = Units(job.tree.source, toolchain.make_argv[0], toolchain.build_env)
            return units.check(paths, jobs=job.jobs, meter=meter)

    def _build(self, recipe: Recipe, commit: str | None) -> tuple[Finding, ...]:
        """The build runs the binary itself; whether probes fired stands in what it publishes."""
        build(self._request(recipe), self.settings, self.reporter)
        facts = Store(self.settings.workspace).get(recipe.name).facts or {}
        _check(recipe, commit, facts.get("commit"))
        seen = str(facts.get("probes_seen") or "")
        if not seen.startswith(_UNPROVEN):
            return ()
        return (Finding(Status.CLEAN, "built", f"whether its probes fire is {seen}"),)

    def _request(self, recipe: Recipe) -> BuildRequest:
        return BuildRequest(
            recipe=recipe,
            repository=self.repository,
            jobs=self.jobs,
            accept_moved_tag=self.accept_moved,
        )


def _check(recipe: Recipe, planned: str | None, found: object) -> None:
    """Raises SourceError where the tag is not what its row is about: it moved while we looked."""
    if found != planned:
        raise SourceError(
            f"{recipe.tag} was commit {str(planned)[:12]} when it was planned, and is now {str(found)[:12]}.",
            remedy="Run the command again.",
        )

"""Plans a recipe: opens the tag, checks its version and computes the edits. Writes no tree."""

from __future__ import annotations

from dataclasses import dataclass

from nodekiln.changes import hunks, planner
from nodekiln.changes.registry import Registry
from nodekiln.core.edit import Plan, Refusal
from nodekiln.core.errors import PatchError
from nodekiln.core.recipe import HEADER, Recipe, Tag, mismatch
from nodekiln.core.reporting import Reporter
from nodekiln.core.settings import Settings
from nodekiln.source.repository import Source, open_source


@dataclass(frozen=True, kw_only=True)
class Planned:
    """A recipe's plan, and the source that it was made from.

    `hunks` has where each hunk of the patches was applied; `configure_args` is what the changes need.
    """

    source: Source
    plan: Plan
    hunks: tuple[hunks.Outcome, ...] = ()
    configure_args: tuple[str, ...] = ()


def open_tag(
    recipe: Recipe, repository: str | None, settings: Settings, reporter: Reporter, *, accept_moved: bool
) -> Source:
    """Return the recipe's tag from --repository, else an imported tarball, else the default repository."""
    source = open_source(
        settings.workspace,
        recipe.tag,
        given=repository,
        default=settings.repository,
        cwd=settings.cwd,
        reporter=reporter,
        accept_moved=accept_moved,
    )
    reporter.say(f"{recipe.tag} is commit {source.commit[:12]} of {source.origin}")
    return source


def check_version(tag: Tag, source: Source) -> None:
    """Raise SourceError if the tree is another release's. The caller has fetched HEADER."""
    if (error := mismatch(tag, source.origin, source.read(HEADER))) is not None:
        raise error


def make_plan(recipe: Recipe, source: Source, settings: Settings, reporter: Reporter) -> Planned:
    """Return the plan, and report how far hunks of the patches have moved.

    Raises PatchError that names every place that does not fit, SourceError for the tree of another release.
    """
    registry = Registry.of(settings)
    source.need((HEADER, *planner.paths(recipe, registry)))
    check_version(recipe.tag, source)
    outcome = planner.work_out(recipe, source.read, registry)
    if isinstance(outcome.result, Refusal):
        raise PatchError(
            f"{recipe.name}: the changes do not fit {recipe.tag}:\n  "
            + "\n  ".join(map(str, outcome.result.conflicts)),
        )
    moved = [hunk.offset for hunk in outcome.hunks if hunk.offset]
    if moved:
        furthest = max(moved, key=abs)
        reporter.say(
            f"patches: {len(moved)} of {len(outcome.hunks)} hunks have moved, by {furthest:+d} lines at most"
        )
    for name, existing in outcome.existing.items():
        reporter.say(f"{name}: {existing.text}")
    return Planned(
        source=source, plan=outcome.result, hunks=outcome.hunks, configure_args=outcome.configure_args
    )

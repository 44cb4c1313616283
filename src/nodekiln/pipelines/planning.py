"""From a recipe to its plan: where the tag comes from, what it says, what changes in it. Writes no tree."""

from __future__ import annotations

from dataclasses import dataclass

from nodekiln.changes import hunks, planner
from nodekiln.changes.series import load
from nodekiln.changes.usdt import Provider
from nodekiln.core.edit import Plan, Refusal
from nodekiln.core.errors import PatchError
from nodekiln.core.recipe import Recipe, Tag
from nodekiln.core.reporting import Reporter
from nodekiln.core.settings import Settings
from nodekiln.source.releases import HEADER, mismatch
from nodekiln.source.repository import Source, open_source


@dataclass(frozen=True, kw_only=True)
class Planned:
    """A recipe's plan, and the source that it was made from.

    `hunks` tells where each hunk of the patches went; `provider` is set where the tree brings its own probes.
    """

    source: Source
    plan: Plan
    hunks: tuple[hunks.Outcome, ...] = ()
    provider: Provider | None = None


def open_tag(
    recipe: Recipe, repository: str | None, settings: Settings, reporter: Reporter, *, accept_moved: bool
) -> Source:
    """The recipe's tag as --repository has it, else an imported tarball, else this checkout's default."""
    source = open_source(
        settings.workspace,
        recipe.tag,
        given=repository,
        default=settings.repository,
        here=settings.here,
        reporter=reporter,
        accept_moved=accept_moved,
    )
    reporter.say(f"{recipe.tag} is commit {source.commit[:12]} of {source.origin}")
    return source


def check_version(tag: Tag, source: Source) -> None:
    """Raises SourceError where the tree is another release's; the caller has asked for HEADER."""
    if (error := mismatch(tag, source.origin, source.read(HEADER))) is not None:
        raise error


def make_plan(recipe: Recipe, source: Source, settings: Settings, reporter: Reporter) -> Planned:
    """Plans, and tells what of the patches has moved.

    Raises PatchError that names every place of misfit, SourceError for the tree of another release.
    """
    series = load(settings.patches / "usdt") if recipe.probes else None
    source.need((HEADER, *planner.paths(recipe, series)))
    check_version(recipe.tag, source)
    outcome = planner.work_out(recipe, source.read, series)
    if isinstance(outcome.result, Refusal):
        raise PatchError(
            f"{recipe.name}: the change does not fit {recipe.tag}:\n  "
            + "\n  ".join(map(str, outcome.result.conflicts)),
        )
    moved = [hunk.offset for hunk in outcome.hunks if hunk.offset]
    if moved:
        furthest = max(moved, key=abs)
        reporter.say(
            f"patches: {len(moved)} of {len(outcome.hunks)} hunks have moved, by {furthest:+d} lines at most"
        )
    if outcome.provider is not None:
        reporter.say(f"probes: {outcome.provider.text}")
    return Planned(source=source, plan=outcome.result, hunks=outcome.hunks, provider=outcome.provider)

"""The one planner: from a recipe and a way to read a tree to the edits that make the one of the other."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from itertools import product

from nodekiln.changes import hunks, no_backpressure, usdt
from nodekiln.changes.series import FIRST, Series
from nodekiln.changes.usdt import Provider
from nodekiln.core.edit import Conflict, Edit, Misfit, Plan, Read, Refusal, Remember, no_memo
from nodekiln.core.recipe import Recipe


@dataclass(frozen=True, slots=True)
class Outcome:
    """A plan or a refusal, and how it came about.

    `hunks` tells of every hunk of the patches, those that moved too. `provider` is set where the tree brings
    probes of its own, so that no patch was tried and configure turns them on.
    """

    result: Plan | Refusal
    hunks: tuple[hunks.Outcome, ...] = ()
    provider: Provider | None = None


def paths(recipe: Recipe, series: Series | None = None) -> tuple[str, ...]:
    """All paths that `work_out` may read for this recipe, for callers that fetch them in one go."""
    found: tuple[str, ...] = () if recipe.backpressure else no_backpressure.PATHS
    if recipe.probes:
        found += usdt.PATHS + _needed(series).paths(recipe.tag)
    return tuple(dict.fromkeys(found))


def plan(recipe: Recipe, read: Read, series: Series | None = None) -> Plan | Refusal:
    """The edits that turn the tree behind `read` into the recipe's, or everything that does not fit."""
    return work_out(recipe, read, series).result


def work_out(
    recipe: Recipe, read: Read, series: Series | None = None, remember: Remember = no_memo
) -> Outcome:
    """As `plan`, and tells what became of each hunk; a recipe with probes needs the series of patches.

    The rewrite and the patches both go by the tree as it is, so neither sees what the other does to it.
    """
    answer = () if recipe.backpressure else no_backpressure.plan_backpressure(read, remember)
    applied, found = hunks.Applied((), ()), None
    if recipe.probes:
        found = remember("provider", usdt.PATHS, partial(usdt.find_provider, read))
        if found is None:
            if recipe.tag < FIRST:
                return Outcome(Refusal((*_conflicts(answer), _no_probes())))
            applied = hunks.apply(_needed(series).select(recipe.tag), read, remember)
    conflicts = (*_conflicts(answer), *applied.conflicts)
    if not conflicts and not isinstance(answer, Refusal):
        conflicts = tuple(_overlaps(answer, applied.edits))
        if not conflicts:
            return Outcome(Plan.of([*answer, *applied.edits]), applied.outcomes, found)
    return Outcome(Refusal(conflicts), applied.outcomes, found)


def _conflicts(answer: tuple[Edit, ...] | Refusal) -> tuple[Conflict, ...]:
    return answer.conflicts if isinstance(answer, Refusal) else ()


def _no_probes() -> Conflict:
    text = f"the patches serve tags from {FIRST} on; older sources should bring the probes, and these do not"
    return Conflict(usdt.PATHS[0], "probes", Misfit.FILE_MISSING, text)


def _overlaps(rewritten: tuple[Edit, ...], patched: tuple[Edit, ...]) -> Iterator[Conflict]:
    """Where the rewrite and a patch change the same text, which neither can know of the other."""
    patches = {edit.path: edit for edit in patched}
    for edit in rewritten:
        if edit.path not in patches:
            continue
        for span, other in product(edit.spans, patches[edit.path].spans):
            if span.overlaps(other):
                line = (edit.base or b"").count(b"\n", 0, max(span.start, other.start)) + 1
                text = f'the rewrite and the patch "{other.reason}" both change this line'
                yield Conflict(edit.path, f"line {line}", Misfit.OVERLAP, text)


def _needed(series: Series | None) -> Series:
    if series is None:
        raise ValueError("a recipe with probes is planned with a series of patches")
    return series

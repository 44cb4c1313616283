"""Plans a recipe: the edits that turn one tree of Node into the recipe's, or everything that does not fit.

Only this module combines changes. Rewrites and patches are both made against the tree as it is.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import combinations, product

from nodekiln.changes import hunks, rewrite
from nodekiln.changes.hooks import Provider
from nodekiln.changes.patchfile import Patch
from nodekiln.changes.registry import CONFIGURE_FILES, FILE, Change, Registry
from nodekiln.core.edit import Conflict, Edit, Misfit, Plan, Read, Refusal, Remember, no_memo
from nodekiln.core.recipe import Recipe, Tag


@dataclass(frozen=True, slots=True)
class Outcome:
    """A plan or a refusal, with the details of how it was made.

    `hunks` has every hunk of the patches. `existing` has the changes that the tree already contains, so that
    no patch was tried. `configure_args` are what configure needs for the changes.
    """

    result: Plan | Refusal
    hunks: tuple[hunks.Outcome, ...] = ()
    existing: Mapping[str, Provider] = field(default_factory=dict)
    configure_args: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class _Made:
    """An edit and the change that it belongs to."""

    change: str
    method: str
    edit: Edit


def paths(recipe: Recipe, registry: Registry) -> tuple[str, ...]:
    """Return all paths that `work_out` may read for this recipe, for callers that fetch them at once."""
    found = (path for change in registry.of_recipe(recipe) for path in change.paths(recipe.tag))
    return tuple(dict.fromkeys(found))


def plan(recipe: Recipe, read: Read, registry: Registry) -> Plan | Refusal:
    """Return the edits that turn a tree into the recipe's, or everything that does not fit."""
    return work_out(recipe, read, registry).result


def work_out(recipe: Recipe, read: Read, registry: Registry, remember: Remember = no_memo) -> Outcome:
    """Return the plan with what became of each hunk."""
    conflicts = list(_exclusions(recipe, registry))
    existing: dict[str, Provider] = {}
    args: list[str] = []
    rewritten: list[_Made] = []
    chosen: list[tuple[Change, Patch]] = []
    for change in registry.of_recipe(recipe):
        found = None
        if change.existing is not None:
            find = partial(change.existing.find, read)
            found = remember(f"existing {change.name}", change.existing.paths, find)
        if found is not None:
            existing[change.name] = found
            args += found.configure_args
        elif recipe.tag not in change.tags:
            conflicts.append(_not_served(change, recipe.tag))
        else:
            conflicts += _missing_options(change, read)
            args += change.configure.args
            answer = () if change.rewrite is None else change.rewrite.plan(read, remember)
            if isinstance(answer, Refusal):
                conflicts += answer.conflicts
            else:
                rewritten += (_Made(change.name, "its rewrite", edit) for edit in answer)
            for each in rewrite.plan(change.name, change.queries, read, remember):
                if isinstance(each, Edit):
                    rewritten.append(_Made(change.name, "its rewrite", each))
                else:
                    conflicts.append(each)
            chosen += ((change, patch) for patch in change.select(recipe.tag))
    applied = hunks.apply((patch for _, patch in chosen), read, remember)
    outcomes = tuple(_blame(applied.outcomes, chosen, read))
    conflicts += (outcome.conflict for outcome in outcomes if outcome.conflict is not None)
    if not conflicts:
        conflicts += _overlaps(rewritten, [_owned(edit, chosen) for edit in applied.edits])
    if conflicts:
        return Outcome(Refusal(tuple(conflicts)), outcomes, existing)
    edits = [*(made.edit for made in rewritten), *applied.edits]
    return Outcome(Plan.of(edits), outcomes, existing, tuple(args))


def _exclusions(recipe: Recipe, registry: Registry) -> Iterator[Conflict]:
    for left, right in registry.conflicts(recipe.changes):
        text = f"{left} and {right} exclude each other: select one of them"
        yield Conflict(_file(left), "conflicts", Misfit.EXCLUDED, text)


def _not_served(change: Change, tag: Tag) -> Conflict:
    text = (
        f"the change {change.name} serves tags {change.tags}, and {tag} is not one of them: leave the change"
        " out, or select another tag"
    )
    return Conflict(_file(change.name), "tags", Misfit.NOT_SERVED, text)


def _missing_options(change: Change, read: Read) -> Iterator[Conflict]:
    if not change.configure.args:
        return
    defined = b"\n".join(read(path) or b"" for path in CONFIGURE_FILES)
    for word in change.configure.args:
        option = word.partition("=")[0]
        if option.encode() not in defined:
            text = (
                f"the change {change.name} needs configure's {option}, which this tag does not have: leave"
                " the change out, or select another tag"
            )
            yield Conflict(CONFIGURE_FILES[0], option, Misfit.NO_OPTION, text)


def _blame(
    outcomes: tuple[hunks.Outcome, ...], chosen: list[tuple[Change, Patch]], read: Read
) -> Iterator[hunks.Outcome]:
    """Yield the outcomes; a hunk that would fit without the other changes names both in its conflict."""
    alone: dict[str, set[tuple[str, str, str]]] = {}
    for outcome in outcomes:
        own = next(change.name for change, patch in chosen if patch.name == outcome.patch)
        others = dict.fromkeys(
            change.name for change, patch in chosen if change.name != own and outcome.path in patch.paths
        )
        if outcome.conflict is None or not others:
            yield outcome
            continue
        if own not in alone:
            applied = hunks.apply((patch for change, patch in chosen if change.name == own), read)
            alone[own] = {(one.patch, one.path, one.place) for one in applied.outcomes if not one.conflict}
        if (outcome.patch, outcome.path, outcome.place) not in alone[own]:
            yield outcome
            continue
        text = f"the changes {own} and {', '.join(others)} edit the same lines: select one of them"
        yield replace(outcome, conflict=replace(outcome.conflict, misfit=Misfit.OVERLAP, text=text))


def _owned(edit: Edit, chosen: list[tuple[Change, Patch]]) -> _Made:
    [first, *_] = [change.name for change, patch in chosen if edit.path in patch.paths]
    return _Made(first, "a patch", edit)


def _overlaps(rewritten: list[_Made], patched: list[_Made]) -> Iterator[Conflict]:
    """Yield where a rewrite changes the same text as a patch or another rewrite."""
    pairs = [*combinations(rewritten, 2), *product(rewritten, patched)]
    for left, right in pairs:
        if left.edit.path != right.edit.path:
            continue
        for span, other in product(left.edit.spans, right.edit.spans):
            if span.overlaps(other):
                line = (left.edit.base or b"").count(b"\n", 0, max(span.start, other.start)) + 1
                text = (
                    f"the changes {left.change} ({left.method}) and {right.change} ({right.method}:"
                    f" {other.reason}) both edit this line: select one of them"
                )
                yield Conflict(left.edit.path, f"line {line}", Misfit.OVERLAP, text)


def _file(change: str) -> str:
    return f"patches/{change}/{FILE}"

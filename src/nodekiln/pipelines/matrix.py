"""Builds every combination of changes of a tag in one tree, in the order that costs least."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from nodekiln.building.configure import Configure
from nodekiln.changes.registry import Registry
from nodekiln.core.errors import KilnError, SourceError, ToolchainError, UsageError
from nodekiln.core.recipe import Recipe
from nodekiln.core.reporting import Reporter
from nodekiln.core.settings import Settings
from nodekiln.pipelines.build import BuildOptions, build
from nodekiln.source.tree import WorkingTree


@dataclass(frozen=True, slots=True)
class Made:
    """The result for one recipe: its binary (None after a dry run), or its error."""

    recipe: Recipe
    path: Path | None = None
    error: KilnError | None = None


@dataclass(frozen=True, slots=True)
class Matrix:
    """The results, in the order in which the recipes were made; `untried` were not started."""

    recipes: tuple[Made, ...]
    untried: tuple[Recipe, ...] = ()

    def raise_for(self) -> None:
        """Raise the first error, with its exit code and the names of the recipes that failed."""
        failed = [(made.recipe, made.error) for made in self.recipes if made.error is not None]
        if not failed:
            return
        total = len(self.recipes) + len(self.untried)
        what = f"{len(failed)} of {total} recipes failed: {_names(recipe for recipe, _ in failed)}."
        if self.untried:
            what += f" Not tried, since they would fail too: {_names(self.untried)}."
        _, first = failed[0]
        raise type(first)(
            what, remedy="The errors are printed above; the same command continues with the failed recipes."
        )


def build_matrix(options: BuildOptions, settings: Settings, reporter: Reporter) -> Matrix:
    """Build all combinations of the standard changes and those of the recipe in `options`.

    After a failed recipe the others are still built, unless the cause is a source, a setting or a machine
    that all of them share. An interrupt ends all.
    """
    registry = Registry.of(settings)
    recipes = ordered(options.recipe, registry, now_in_tree(options.recipe, settings))
    done: list[Made] = []
    for number, recipe in enumerate(recipes, 1):
        reporter.say(f"recipe {number} of {len(recipes)}: {recipe.name}")
        # Only the first recipe starts with an empty out/; the others continue from it.
        empty = options.from_scratch and not any(made.path for made in done)
        asked = replace(
            options, recipe=recipe, from_scratch=empty, force=options.force or options.from_scratch
        )
        try:
            done.append(Made(recipe, path=build(asked, settings, reporter)))
        except KilnError as error:
            reporter.fail(str(error))
            done.append(Made(recipe, error=error))
            if isinstance(error, SourceError | UsageError) or (
                isinstance(error, ToolchainError) and not registry.has_probes(recipe)  # which alone need more
            ):
                return Matrix(tuple(done), recipes[number:])
    return Matrix(tuple(done))


def _names(recipes: Iterable[Recipe]) -> str:
    return ", ".join(recipe.name for recipe in recipes)


def ordered(recipe: Recipe, registry: Registry, now: str | None) -> tuple[Recipe, ...]:
    """Return all combinations, each differing from the one before in one change (a Gray code).

    Rewrites of JavaScript alternate fastest: toggling backpressure costs 7 build steps (v20.19.2), probes a
    configure run and 5 objects more. `now` is the name of the recipe that the tree holds; it comes first.
    """
    names = tuple(dict.fromkeys((*registry.standard, *recipe.changes)))
    cheap_first = sorted(names, key=lambda name: registry.get(name).compiles)
    every = {chosen: replace(recipe, changes=chosen) for chosen in registry.combinations(names)}
    first = next((chosen for chosen, each in every.items() if each.name == now), ())
    found = []
    for number in range(2 ** len(names)):
        toggled = {name for bit, name in enumerate(cheap_first) if (number ^ (number >> 1)) >> bit & 1}
        chosen = tuple(name for name in names if (name in first) != (name in toggled))
        if chosen in every:  # otherwise its changes conflict
            found.append(every[chosen])
    return tuple(found)


def now_in_tree(recipe: Recipe, settings: Settings) -> str | None:
    """Return the name of the recipe that the tree was configured for last; None if there is none."""
    tree = WorkingTree(settings.workspace, recipe.tree_name)
    return Configure(tree.source, tree.folder).markers.get("nodekiln_recipe")

"""All four recipes of a tag, one after the other in one tree, in the order that costs least."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from nodekiln.building.configure import Configure
from nodekiln.core.errors import KilnError, SourceError, ToolchainError, UsageError
from nodekiln.core.recipe import Recipe
from nodekiln.core.reporting import Reporter
from nodekiln.core.settings import Settings
from nodekiln.pipelines.build import BuildOptions, build
from nodekiln.source.tree import WorkingTree


@dataclass(frozen=True, slots=True)
class Made:
    """What became of one recipe: its binary (None after a dry run), or what it failed with."""

    recipe: Recipe
    path: Path | None = None
    error: KilnError | None = None


@dataclass(frozen=True, slots=True)
class Matrix:
    """What became of the four, in the order in which they were made; `untried` were not begun."""

    recipes: tuple[Made, ...]
    untried: tuple[Recipe, ...] = ()

    @property
    def paths(self) -> tuple[Path, ...]:
        """The binaries that are there."""
        return tuple(made.path for made in self.recipes if made.path is not None)

    def raise_for(self) -> None:
        """Raises the first error, with the exit code of its kind, and says what failed and what did not."""
        failed = [(made.recipe, made.error) for made in self.recipes if made.error is not None]
        if not failed:
            return
        total = len(self.recipes) + len(self.untried)
        what = f"{len(failed)} of {total} recipes failed: {_names(recipe for recipe, _ in failed)}."
        if self.untried:
            what += f" Not tried, as they would fail too: {_names(self.untried)}."
        _, first = failed[0]
        raise type(first)(
            what, remedy="What each failed with stands above; the same command goes on with those."
        )


def build_matrix(options: BuildOptions, settings: Settings, reporter: Reporter) -> Matrix:
    """Builds the four recipes of `options`'s tag and configure arguments.

    A recipe that fails does not keep the others from being made, unless it is for a source, a setting or a
    machine that all of them share. An interrupt ends all.
    """
    recipes = ordered(options.recipe, now_in_tree(options.recipe, settings))
    done: list[Made] = []
    for number, recipe in enumerate(recipes, 1):
        reporter.say(f"recipe {number} of {len(recipes)}: {recipe.name}")
        # An empty out/ is for the first that is made; the others go on from it.
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
                isinstance(error, ToolchainError) and not recipe.probes  # probes alone ask for more
            ):
                return Matrix(tuple(done), recipes[number:])
    return Matrix(tuple(done))


def _names(recipes: Iterable[Recipe]) -> str:
    return ", ".join(recipe.name for recipe in recipes)


def ordered(recipe: Recipe, now: str | None) -> tuple[Recipe, ...]:
    """The four recipes, each differing from the one before in one respect, probes only once.

    From backpressure to none costs 7 steps of work (v20.19.2); probes cost a configure and 5 objects more.
    `now` is the name of the recipe that the tree holds, which comes first.
    """
    every = [
        replace(recipe, backpressure=backpressure, probes=probes)
        for probes in (False, True)
        for backpressure in (True, False)
    ]
    first = next((each for each in every if each.name == now), every[0])
    other = replace(first, backpressure=not first.backpressure)
    return (first, other, replace(other, probes=not other.probes), replace(first, probes=not first.probes))


def now_in_tree(recipe: Recipe, settings: Settings) -> str | None:
    """The name of the recipe that the tree was last brought to; None where there is none."""
    tree = WorkingTree(settings.workspace, recipe.tree_name)
    return Configure(tree.source, tree.folder).markers.get("nodekiln_recipe")

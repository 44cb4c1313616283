"""What the builds of this workspace took: kept after each, used for the next one's estimate, and shown."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nodekiln.building.timings import Timed, Timings
from nodekiln.building.weights import Weights, key_of, read_weights, write_weights
from nodekiln.core.errors import BuildError, UsageError
from nodekiln.core.files import atomic_write
from nodekiln.core.recipe import check_name
from nodekiln.core.reporting import Reporter, format_duration
from nodekiln.core.settings import Workspace
from nodekiln.pipelines.timings_chart import draw

LISTED = 15
"""Steps that a table shows."""


@dataclass(frozen=True, slots=True)
class TimingStore:
    """The folder build/timings: a file for the last build of each recipe, and one with what any step took."""

    folder: Path

    @property
    def _steps(self) -> Path:
        return self.folder / ".steps.json"  # no recipe's name begins with a dot

    def path(self, name: str) -> Path:
        """Where the timings of the recipe `name` are kept."""
        return self.folder / f"{check_name(name)}.json"

    def weights(self) -> Weights:
        """What steps take here, as far as that is known."""
        return read_weights(self._steps)

    def learn(self, steps: Sequence[Timed]) -> None:
        """Takes the times of these steps into the weights, whatever became of their build.

        Where they can't be kept (a full disk), what the build itself ended in is what counts.
        """
        if steps:
            ran = ((key_of(step.description), step.seconds) for step in steps)
            with suppress(OSError):
                write_weights(self._steps, self.weights().after(ran))

    def keep(self, timings: Timings) -> None:
        """Keeps what a whole build took, in place of the one of the same name before."""
        self.folder.mkdir(parents=True, exist_ok=True)
        atomic_write(self.path(timings.name), timings.to_json().encode())

    def get(self, name: str) -> Timings:
        """What the last build of a recipe took; raises UsageError, naming those that are kept, for others."""
        try:
            return Timings.from_json(self.path(name).read_text(errors="replace"))
        except FileNotFoundError:
            kept = sorted(path.stem for path in self.folder.glob("[!.]*.json"))
            raise UsageError(
                f"There are no timings of {name}; there are: {', '.join(kept) or 'none yet'}.",
                remedy="A build keeps them that has something to do, with ninja: make tells no times.",
            ) from None
        except BuildError as error:
            raise BuildError(
                f"{self.path(name)}: {error.message}", remedy="Build again, or remove it."
            ) from None


def store_of(workspace: Workspace) -> TimingStore:
    """The timings of a workspace."""
    return TimingStore(workspace.timings)


def tell(name: str, store: TimingStore, reporter: Reporter) -> None:
    """Writes the pictures and says, on stderr, where they are and what took longest: after a build.

    A build that had nothing to do tells of the one before; where none can be told, that is said.
    """
    try:
        timings = store.get(name)
    except (UsageError, BuildError) as error:
        reporter.warn(str(error))
        return
    shown = Shown(timings)
    for line in shown.summary:
        reporter.say(f"timings: {line}")
    for step, seconds, mark in shown.rows:
        reporter.say(f"  {seconds:>9} {mark or ' '} {step}".rstrip())
    for path in write_pictures(timings, store):
        reporter.say(f"timings: {path}")


@dataclass(frozen=True, slots=True)
class Shown:
    """Timings as people and machines see them."""

    timings: Timings

    @property
    def summary(self) -> tuple[str, ...]:
        """Lines."""
        told = self.timings
        path = told.critical_path()
        busy, bound = told.busy / max(told.seconds, 0.001), sum(step.seconds for step in path)
        return (
            f"{told.name}: {len(told.steps)} steps in {format_duration(told.seconds)},"
            f" {busy:.1f} of {told.jobs} jobs busy",
            f"critical path: {len(path)} steps, {format_duration(bound)}: no number of jobs takes less",
        )

    @property
    def rows(self) -> list[tuple[str, str, str]]:
        """The longest steps, those of the critical path with a star, then kinds of steps: for a table."""
        critical = set(self.timings.critical_path())
        steps = [
            (step.description, f"{step.seconds:.2f} s", "*" if step in critical else "")
            for step in self.timings.longest(LISTED)
        ]
        groups = [
            (f"{group.name} ({group.steps} step{'s' * (group.steps != 1)})", f"{group.seconds:.2f} s", "")
            for group in self.timings.groups()[:LISTED]
        ]
        return [*steps, ("", "", ""), *groups]

    def as_data(self) -> dict[str, Any]:
        """For machines."""
        return self.timings.as_data(LISTED)


def write_pictures(timings: Timings, store: TimingStore) -> tuple[Path, Path]:
    """Draws what ran when, beside the timings: an SVG and a PNG of the same picture; returns their paths.

    0.6 s, most of it matplotlib's start.
    """
    base = store.path(timings.name)
    paths = (base.with_suffix(".svg"), base.with_suffix(".png"))
    store.folder.mkdir(parents=True, exist_ok=True)
    draw(timings, paths)
    return paths

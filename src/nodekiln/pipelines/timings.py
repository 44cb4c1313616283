"""The times of this workspace's builds: kept after each, used to estimate the next, printed and drawn."""

from __future__ import annotations

import io
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nodekiln.building.timings import Timed, Timings
from nodekiln.building.weights import Weights, key_of, read_weights, write_weights
from nodekiln.core import figures
from nodekiln.core.errors import BuildError, UsageError
from nodekiln.core.files import atomic_write, read_regular
from nodekiln.core.recipe import check_name
from nodekiln.core.reporting import Reporter, format_duration

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_LISTED = 15
"""Steps in a table."""
_KINDS = 6
"""Kinds of steps with a colour of their own; the rest are grey."""
_COLORS = ("#4477aa", "#ee6677", "#228833", "#ccbb44", "#66ccee", "#aa3377")
"""Distinct with any colour vision (Paul Tol's bright scheme)."""
_GREY = "#bbbbbb"
_SETTINGS = {
    "text.parse_math": False,  # names of steps may have dollars
    "svg.fonttype": "none",  # text stays searchable
    "svg.hashsalt": "nodekiln",  # reproducible, together with no date
}
_MOMENTS = 400
_NAMED = 8
"""Steps of the critical path with names in the picture."""


@dataclass(frozen=True, slots=True)
class TimingStore:
    """The folder build/timings: the last build of each recipe, and the times of all steps."""

    folder: Path

    @property
    def _steps(self) -> Path:
        return self.folder / ".steps.json"  # no recipe's name begins with a dot

    def path(self, name: str) -> Path:
        """Return the file with the timings of the recipe `name`."""
        return self.folder / f"{check_name(name)}.json"

    def weights(self) -> Weights:
        """Return the expected times of steps on this machine."""
        return read_weights(self._steps)

    def learn(self, steps: Sequence[Timed]) -> None:
        """Add the times of these steps to the weights, also after a failed build.

        An error of writing them (a full disk) is ignored: the result of the build counts.
        """
        if steps:
            ran = ((key_of(step.description), step.seconds) for step in steps)
            with suppress(OSError):
                write_weights(self._steps, self.weights().after(ran))

    def keep(self, timings: Timings) -> None:
        """Keep the timings of a build, replacing those of the same name."""
        self.folder.mkdir(parents=True, exist_ok=True)
        atomic_write(self.path(timings.name), timings.to_json().encode())

    def get(self, name: str) -> Timings:
        """Return the timings of a recipe's last build; raise UsageError if none are kept."""
        try:
            return Timings.from_json(read_regular(self.path(name)).decode(errors="replace"))
        except FileNotFoundError:
            kept = sorted(path.stem for path in self.folder.glob("[!.]*.json"))
            raise UsageError(
                f"No timings of {name}. Kept: {', '.join(kept) or 'none yet'}.",
                remedy="Builds with ninja keep them, unless there is nothing to do. make has no times.",
            ) from None
        except BuildError as error:
            raise BuildError(
                f"{self.path(name)}: {error.message}", remedy="Build again, or remove it."
            ) from None


def report_timings(name: str, store: TimingStore, reporter: Reporter) -> None:
    """Write the pictures of a build and print their paths and the longest steps to stderr.

    After a build with nothing to do, those of the last build are used; missing ones are a warning.
    """
    try:
        timings = store.get(name)
    except (UsageError, BuildError) as error:
        reporter.warn(str(error))
        return
    for line in summary(timings):
        reporter.say(f"timings: {line}")
    for step, seconds, marker in rows(timings):
        reporter.say(f"  {seconds:>9} {marker or ' '} {step}".rstrip())
    for path in write_pictures(timings, store):
        reporter.say(f"timings: {path}")


def summary(timings: Timings) -> tuple[str, str]:
    """Return two lines: the whole build, and its critical path."""
    path = timings.critical_path()
    busy, bound = timings.busy / max(timings.seconds, 0.001), sum(step.seconds for step in path)
    return (
        f"{timings.name}: {len(timings.steps)} steps in {format_duration(timings.seconds)},"
        f" {busy:.1f} of {timings.jobs} jobs busy",
        f"critical path: {len(path)} steps, {format_duration(bound)}: the minimum with any number of jobs",
    )


def rows(timings: Timings) -> list[tuple[str, str, str]]:
    """Return table rows: the longest steps, those of the critical path with a star, then kinds of steps."""
    critical = set(timings.critical_path())
    steps = [
        (step.description, f"{step.seconds:.2f} s", "*" if step in critical else "")
        for step in timings.longest(_LISTED)
    ]
    groups = [
        (f"{group.name} ({group.steps} step{'s' * (group.steps != 1)})", f"{group.seconds:.2f} s", "")
        for group in timings.groups()[:_LISTED]
    ]
    return [*steps, ("", "", ""), *groups]


def as_data(timings: Timings) -> dict[str, Any]:
    """Return timings for JSON."""
    return timings.as_data(_LISTED)


def write_pictures(timings: Timings, store: TimingStore) -> tuple[Path, Path]:
    """Draw which steps ran when, as SVG and PNG beside the timings; return their paths.

    0.6 s, most of it the start of matplotlib.
    """
    base = store.path(timings.name)
    paths = (base.with_suffix(".svg"), base.with_suffix(".png"))
    store.folder.mkdir(parents=True, exist_ok=True)
    _draw(timings, paths)
    return paths


def _draw(timings: Timings, paths: Sequence[Path]) -> None:
    """Draw into each of `paths`, in the format of its suffix; needs no display."""
    with figures.settings(_SETTINGS):
        from matplotlib.figure import Figure

        figure = Figure(figsize=(11, 6), layout="constrained")
        above, below = figure.subplots(2, 1, sharex=True, height_ratios=(3, 2))
        _draw_course(above, timings)
        _draw_path(below, timings)
        title = f"{timings.name}: {len(timings.steps)} steps, {timings.seconds:.1f} s, {timings.jobs} jobs"
        figure.suptitle(title)
        for path in paths:
            drawn = io.BytesIO()
            kind = path.suffix[1:]
            figure.savefig(drawn, format=kind, dpi=120, metadata={"Date": None} if kind == "svg" else None)
            atomic_write(path, drawn.getvalue())


def _draw_course(axes: Axes, timings: Timings) -> None:
    from matplotlib.ticker import MaxNLocator

    moments, kinds = timings.course(_MOMENTS, _KINDS)
    colors = [*_COLORS[: len(kinds) - 1], _GREY]
    axes.stackplot(moments, list(kinds.values()), labels=list(kinds), colors=colors, step="post")
    axes.set_ylabel("steps at once")
    axes.set_ylim(0, timings.jobs * 1.05)
    axes.yaxis.set_major_locator(MaxNLocator(integer=True))
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, 1.2), ncols=4, fontsize=8, frameon=False)


def _draw_path(axes: Axes, timings: Timings) -> None:
    path = [step for step in timings.critical_path() if step.seconds > 0]
    named = {step.description for step in sorted(path, key=lambda step: -step.seconds)[:_NAMED]}
    path = [step for step in path if step.description in named]
    for row, step in enumerate(path):
        axes.barh(row, step.seconds, left=step.start, color=_COLORS[0], height=0.7)
        late = step.start > timings.seconds / 2
        axes.annotate(
            f"{step.description[-70:]}, {step.seconds:.1f} s",
            (step.start if late else step.end, row),
            xytext=(-4 if late else 4, 0),
            textcoords="offset points",
            ha="right" if late else "left",
            va="center",
            fontsize=7,
        )
    axes.set_yticks([])
    axes.invert_yaxis()
    axes.set_xlabel("seconds since the build began")
    axes.set_ylabel("critical path:\nits longest steps")

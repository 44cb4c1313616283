"""The picture of a build: how many steps ran at each moment and which kinds, and the critical path below."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from nodekiln.building.timings import Timings
from nodekiln.core import figures
from nodekiln.core.files import atomic_write

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_KINDS = 6
"""Kinds of steps with a colour of their own; the rest share grey."""
_COLORS = ("#4477aa", "#ee6677", "#228833", "#ccbb44", "#66ccee", "#aa3377")
"""Told apart by people with any colour vision (Paul Tol's bright scheme)."""
_GREY = "#bbbbbb"
_SETTINGS = {
    "text.parse_math": False,  # a step's name may hold dollars
    "svg.fonttype": "none",  # text stays text, to be found
    "svg.hashsalt": "nodekiln",  # with no date, the same build gives the same file
}
_MOMENTS = 400
_NAMED = 8
"""Steps of the critical path that have their names in the picture."""


def draw(timings: Timings, paths: Sequence[Path]) -> None:
    """Draws into each of `paths`, in the format of its ending; needs no display."""
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

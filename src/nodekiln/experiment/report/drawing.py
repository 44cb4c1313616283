"""What all plots share: a figure's size, scales from zero, names beside lines, both formats.

Needs matplotlib, which is imported here only when something is drawn.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from nodekiln.experiment.report.svg import to_png, to_svg

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_WIDTH = 7.2
"""Inches."""
_LINE = 0.075
"""Height of a line of text, as a share of the axes'; more than `_LINES` of them need a higher figure."""
_LINES = 12


@dataclass(frozen=True, kw_only=True, slots=True)
class Plot:
    """One drawing: its files are called `name`.png and `name`.svg."""

    name: str
    title: str
    text: str
    """What it shows, for those who don't see it."""
    svg: str
    png: bytes


def finish(figure: Figure, name: str, title: str, text: str) -> Plot:
    """The figure in both formats."""
    svg = to_svg(figure, name=name, title=title, description=text)
    return Plot(name=name, title=title, text=text, svg=svg, png=to_png(figure))


def panels(count: int, height: float, *, columns: int = 1, same_y: bool = True) -> tuple[Figure, list[Axes]]:
    """A figure with `count` axes that share their scales."""
    from matplotlib.figure import Figure

    rows = -(-count // columns)
    figure = Figure(figsize=(_WIDTH, height * rows), layout="constrained")
    grid = figure.subplots(rows, columns, sharex=True, sharey=same_y, squeeze=False)
    axes = list(grid.flat)
    for spare in axes[count:]:
        spare.set_axis_off()
    return figure, axes[:count]


def from_zero(axes: Axes) -> None:
    """A scale that begins at zero, as what is proportional has to be read, with room above."""
    axes.set_ylim(0, axes.dataLim.y1 * 1.08 or 1)


def label_heights(axes: Axes, heights: Sequence[tuple[float, str, str]], *, lines: int = 1) -> None:
    """Writes each text in its colour beside the axes, at its height or as near as the others let it."""
    least, most = axes.get_ylim()
    stretch = max(1.0, len(heights) * lines / _LINES)
    if stretch > 1 and (figure := axes.get_figure(root=True)) is not None:
        figure.set_figheight(figure.get_figheight() * stretch)
    gap = (most - least) * _LINE / stretch * lines
    ordered = sorted(heights)
    places = []
    height = least - gap
    for at, _, _ in ordered:  # each above the one before
        height = max(at, height + gap)
        places.append(height)
    height = most + 2 * gap
    for place in reversed(range(len(places))):  # and what that put too high, down again
        height = min(places[place], height - gap)
        places[place] = height
    for height, (_, text, color) in zip(places, ordered, strict=True):
        axes.annotate(
            text,
            (1, height),
            xycoords=("axes fraction", "data"),
            xytext=(8, 0),
            textcoords="offset points",
            color=color,
            va="center",
            annotation_clip=False,
        )


def legend_above(axes: Axes, columns: int) -> None:
    """The legend at the right of the title's line, where it hides nothing."""
    axes.legend(
        loc="lower right",
        bbox_to_anchor=(1, 1),
        ncols=columns,
        fontsize=9,
        handletextpad=0.4,
        columnspacing=1.2,
        borderaxespad=0,
        borderpad=0.2,
    )

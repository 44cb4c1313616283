"""Draw the plots of a sweep: memory and garbage collection against the input size."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from nodekiln.experiment.analysis.analyze import Analysis, SweepAnalysis
from nodekiln.experiment.analysis.statistics import Estimate
from nodekiln.experiment.report.drawing import MUTED, Plot, drawing, finish, label_heights, panels, series
from nodekiln.experiment.report.format import mark_words, scale

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Of = Callable[[Analysis, str], Estimate | None]


@dataclass(frozen=True, kw_only=True, slots=True)
class _Curve:
    """One quantity against the input size, for every highWaterMark and binary."""

    name: str
    title: str
    axis: str
    of: Of
    divisor: float = 1.0
    as_input: bool = False
    """True to draw the line where the quantity equals the input size."""


def draw_sweep(sweep: SweepAnalysis) -> Iterator[Plot]:
    """Every curve that there are figures for."""
    for curve in _curves(sweep):
        with drawing():
            if (plot := _draw(sweep, curve)) is not None:
                yield plot


def _curves(sweep: SweepAnalysis) -> Iterator[_Curve]:
    memory = _measure("peak memory")
    divisor, unit = scale(_greatest(sweep, memory), "bytes")
    yield _Curve(
        name="size-memory",
        title="Peak memory against the size of the input",
        axis=f"peak memory ({unit})",
        of=memory,
        divisor=divisor,
        as_input=True,
    )
    if sweep.method is not None:
        divisor, unit = scale(_greatest(sweep, Analysis.pauses_of), "ms")
        yield _Curve(
            name="size-gc-time",
            title=f"Time in GC pauses against the size of the input, by {sweep.method}",
            axis=f"GC pauses ({unit})",
            of=Analysis.pauses_of,
            divisor=divisor,
        )
        yield _Curve(
            name="size-gc-share",
            title=f"GC pauses' share of the wall time against the size of the input, by {sweep.method}",
            axis="share of wall time (%)",
            of=Analysis.pause_share_of,
            divisor=0.01,
        )
    wall = _measure("wall time")
    divisor, unit = scale(_greatest(sweep, wall), "ms")
    yield _Curve(
        name="size-wall-time",
        title="Wall time against the size of the input",
        axis=f"wall time ({unit})",
        of=wall,
        divisor=divisor,
    )


def _draw(sweep: SweepAnalysis, curve: _Curve) -> Plot | None:
    marks, largest = sweep.sweep.marks, max(one.size_bytes for one in sweep.points)
    size_divisor, size_unit = scale(largest, "bytes")
    figure, grid = panels(len(marks), 3.0, columns=min(len(marks), 2))
    captions = []
    highest = 0.0
    for axes, mark in zip(grid, marks, strict=True):
        experiments = sweep.at(mark)
        axes.set_title(mark_words(mark, sweep.sweep.unit))
        for place, (label, name) in enumerate(sweep.names.items()):
            points = [
                (one.size_bytes / size_divisor, found)
                for one in experiments
                if (found := curve.of(one, label)) is not None
            ]
            if points:
                _line(axes, place, name, points, curve.divisor)
                highest = max(highest, *(found.high / curve.divisor for _, found in points))
                ends = [f"{found.value / curve.divisor:.3g}" for _, found in (points[0], points[-1])]
                where = f"{mark_words(mark, sweep.sweep.unit)}, {name}"
                captions.append(f"{where}: {' to '.join(ends)}")
        axes.set_xlabel(f"input ({size_unit})")
        axes.tick_params(labelbottom=True)
    if not captions:
        return None
    grid[0].set_xlim(0, largest / size_divisor * 1.06)
    grid[0].set_ylim(0, highest * 1.1 or 1)
    for place, axes in enumerate(grid):
        if place % 2 == 0:
            axes.set_ylabel(curve.axis)
        if curve.as_input:
            axes.axline((0, 0), slope=size_divisor / curve.divisor, color=MUTED, linewidth=1, linestyle=":")
    _label_last(grid, sweep, curve)
    dotted = " Dotted: as much as the input." if curve.as_input else ""
    text = f"From the least input to the greatest, {curve.axis}: {'; '.join(captions)}."
    return finish(figure, curve.name, curve.title, f"Points: medians; bars: intervals.{dotted} {text}")


def _line(
    axes: Axes, place: int, label: str, points: Sequence[tuple[float, Estimate]], divisor: float
) -> None:
    color, marker = series(place)
    axes.errorbar(
        [size for size, _ in points],
        [found.value / divisor for _, found in points],
        yerr=(
            [(found.value - found.low) / divisor for _, found in points],
            [(found.high - found.value) / divisor for _, found in points],
        ),
        color=color,
        marker=marker,
        markersize=5,
        capsize=3,
        linewidth=1.5,
        label=label,
    )


def _label_last(grid: Sequence[Axes], sweep: SweepAnalysis, curve: _Curve) -> None:
    """Names beside the lines of the last panel, the same colours standing in all."""
    axes = grid[-1]
    last = sweep.at(sweep.sweep.marks[-1])[-1]
    ends = [
        (found.value / curve.divisor, name, series(place)[0])
        for place, (label, name) in enumerate(sweep.names.items())
        if (found := curve.of(last, label)) is not None
    ]
    whole = last.size_bytes / curve.divisor
    if curve.as_input and whole < axes.get_ylim()[1]:
        ends.append((whole, "all of the input", MUTED))
    label_heights(axes, ends)


def _measure(measure: str) -> Of:
    return lambda analysis, label: analysis.median_of(measure, label)


def _greatest(sweep: SweepAnalysis, of: Of) -> float:
    found = (of(one, label) for one in sweep.points for label in one.names)
    return max((one.high for one in found if one is not None), default=1.0)

"""Draw the plots of one experiment, in the order of the report."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from nodekiln.experiment.analysis.analyze import Analysis
from nodekiln.experiment.analysis.pauses import PAUSES, STEPS, collections_of
from nodekiln.experiment.analysis.statistics import MetricUnit, most_buffered
from nodekiln.experiment.model.results import COLLECTION_TYPES, METHODS, CollectionType, Sample
from nodekiln.experiment.report.drawing import (
    INK,
    MUTED,
    Plot,
    drawing,
    finish,
    from_zero,
    label_heights,
    legend_above,
    panels,
    series,
)
from nodekiln.experiment.report.format import quantity, scale, spread


def pauses_over_time(analysis: Analysis) -> Plot | None:
    """Draw every pause of one run of each binary; None if no method measured all of them."""
    names, method = analysis.names, analysis.method
    if method is None:
        return None
    runs = [(place, analysis.gc[label].first_runs[method]) for place, label in enumerate(names)]
    figure, grid = panels(len(runs), 1.9)
    seconds, time_name = scale(max(run.wall_ms for _, run in runs), "ms")
    captions = []
    for axes, (place, run) in zip(grid, runs, strict=True):
        color, _ = series(place)
        pauses = collections_of(run, PAUSES)
        for kind in PAUSES:
            found = collections_of(run, [kind])
            if not found:
                continue
            axes.vlines(
                [one.at_ms / seconds for one in found],
                0,
                [one.duration_ms for one in found],
                color=color,
                linewidth=1,
                alpha=0.6,
            )
            axes.plot(
                [one.at_ms / seconds for one in found],
                [one.duration_ms for one in found],
                color=color,
                marker=series(kind)[1],
                markersize=4.5,
                markerfacecolor="none" if kind == 1 else color,
                linestyle="none",
                clip_on=False,
                label=COLLECTION_TYPES[kind],
            )
        together = sum(one.duration_ms for one in pauses)
        axes.set_title(f"{names[run.binary]}: {len(pauses)} pauses, {quantity(together, 'ms')} together")
        axes.set_ylabel("pause (ms)")
        if pauses:
            legend_above(axes, 3)
        captions.append(f"{names[run.binary]}: {len(pauses)}, {quantity(together, 'ms')} together")
    grid[-1].set_xlabel(f"time since the start ({time_name})")
    longest = max((one.duration_ms for _, run in runs for one in collections_of(run, PAUSES)), default=0)
    grid[-1].set_ylim(0, longest * 1.08 or 1)
    grid[-1].set_xlim(left=0)
    return finish(
        figure,
        "gc-pauses",
        f"GC pauses over time, by {method}",
        "Each mark is a pause in the first run of a binary; its height is the length."
        f" {'; '.join(captions)}.",
    )


def gc_totals(analysis: Analysis) -> Plot | None:
    """Draw the totals by type, the methods side by side; None if nothing was measured."""
    names, tables = analysis.names, tuple(analysis.gc.values())
    if not tables:
        return None
    kinds: list[CollectionType] = [
        kind
        for kind in PAUSES + STEPS
        if any((kind, method) in one.by_type for one in tables for method in METHODS)
    ]
    if not kinds:
        return None
    methods = [method for method in METHODS if any(method in table.methods for table in tables)]
    figure, grid = panels(len(tables), 2.3)
    captions = []
    for axes, table in zip(grid, tables, strict=True):
        for place, method in enumerate(methods):
            color, _ = series(place + 2)  # blue and vermilion are the binaries'
            at = [spot + (place - (len(methods) - 1) / 2) * 0.26 for spot in range(len(kinds))]
            for where, kind in zip(at, kinds, strict=True):
                if (total := table.by_type.get((kind, method))) is None:
                    continue
                sum_ms = total.total_ms
                axes.bar(where, sum_ms.value, width=0.24, color=color)
                axes.vlines(where, sum_ms.low, sum_ms.high, color=INK, linewidth=1.2)
                axes.annotate(
                    f"{total.count.value:g}x",
                    (where, sum_ms.high),
                    xytext=(0, 3),
                    textcoords="offset points",
                    ha="center",
                    fontsize=8,
                    color=MUTED,
                )
            axes.bar(0, 0, color=color, label=method)
            if (pauses := table.pauses.get(method)) is not None:
                captions.append(f"{names[table.label]} by {method} {spread(pauses.total_ms, 'ms')}")
        axes.set_title(names[table.label])
        axes.set_ylabel("GC total (ms)")
        axes.set_xticks(range(len(kinds)), [COLLECTION_TYPES[kind] for kind in kinds])
    legend_above(grid[0], len(methods))
    highest = max(total.total_ms.high for table in tables for total in table.by_type.values())
    grid[0].set_ylim(0, highest * 1.15 or 1)
    return finish(
        figure,
        "gc-totals",
        "GC totals by type, as each method reports them",
        f"Bars: the median total of a run; lines: the interval; above: how many. "
        f"Pauses together: {'; '.join(captions)}.",
    )


_BUCKETS = 120
"""Bins of a line over time; each keeps its minimum and maximum sample, so that no peak is lost."""


def draw(analysis: Analysis) -> Iterator[Plot]:
    """Draw every plot that there are figures for."""
    for make in (_wall_times, _memory, _streams, pauses_over_time, gc_totals):
        with drawing():
            if (plot := make(analysis)) is not None:
                yield plot


def _wall_times(analysis: Analysis) -> Plot | None:
    names = analysis.names
    walls = [one for one in analysis.comparisons if one.measure == "wall time" and one.median is not None]
    if not walls:
        return None
    figure, (axes,) = panels(1, 3.0)
    divisor, unit = scale(max(one.median.value for one in walls if one.median), "ms")
    ends = []
    apart = min(0.12, 0.8 / len(names))
    for place, (label, name) in enumerate(names.items()):
        color, marker = series(place)
        trials = [trial for trial in analysis.trials[label] if trial.counts]
        shift = (place - (len(names) - 1) / 2) * apart
        axes.plot(
            [trial.number + shift for trial in trials],
            [trial.wall_ms / divisor for trial in trials],
            color=color,
            marker=marker,
            linestyle="none",
        )
        for one in walls:
            if one.label == label and one.median is not None:
                axes.axhline(one.median.value / divisor, color=color, linewidth=1.2, alpha=0.8)
                captions = f"{name}\n{quantity(one.median.value, 'ms')}"
                ends.append((one.median.value / divisor, captions, color))
    numbers = sorted({trial.number for trial in analysis.experiment.trials})
    axes.set_xlim(numbers[0] - 0.5, numbers[-1] + 0.5)
    if len(numbers) <= 20:
        axes.set_xticks(numbers)
    from_zero(axes)
    axes.set_xlabel("trial")
    axes.set_ylabel(f"wall time ({unit})")
    label_heights(axes, ends, lines=2)
    medians = [f"{names[one.label]} {spread(one.median, 'ms')}" for one in walls if one.median]
    return finish(
        figure,
        "wall-time",
        "Wall time of each trial",
        f"A point for each trial, a line at the median. Medians: {'; '.join(medians)}.",
    )


def _memory(analysis: Analysis) -> Plot | None:
    peaks = [one for one in analysis.comparisons if one.measure == "peak memory" and one.median]
    captions = [f"{analysis.names[one.label]} {spread(one.median, 'bytes')}" for one in peaks if one.median]
    return _course(
        analysis,
        of=lambda sample: sample.rss_bytes,
        unit="bytes",
        axis="resident memory",
        name="memory",
        title="Resident memory over time",
        text="A line for each trial." + (f" Peaks, medians: {'; '.join(captions)}." if captions else ""),
    )


def _streams(analysis: Analysis) -> Plot | None:
    unit = analysis.experiment.stream_unit
    most = [
        f"{name} {quantity(value, unit)}"
        for label, name in analysis.names.items()
        if analysis.trials[label] and (value := most_buffered(analysis.trials[label][0])) is not None
    ]
    return _course(
        analysis,
        of=lambda sample: sample.writable_length,
        unit=unit,
        axis="writableLength",
        name="writable-length",
        title="Data buffered in the streams (writableLength) over time",
        text=f"A line for each trial. The most in the first trial: {'; '.join(most)}.",
    )


def _course(
    analysis: Analysis,
    *,
    of: Callable[[Sample], int | None],
    unit: MetricUnit,
    axis: str,
    name: str,
    title: str,
    text: str,
) -> Plot | None:
    lines = []
    for place, (label, display_name) in enumerate(analysis.names.items()):
        for trial in analysis.trials[label]:
            found = [(s.at_ms, value) for s in trial.samples if (value := of(s)) is not None]
            if found:
                lines.append((place, display_name, thinned(found)))
    if not lines:
        return None
    figure, (axes,) = panels(1, 3.2)
    divisor, unit_name = scale(max(value for _, _, line in lines for _, value in line), unit)
    seconds, time_name = scale(max(line[-1][0] for _, _, line in lines), "ms")
    highest: dict[int, tuple[float, str, str]] = {}
    for place, label, line in lines:
        color, _ = series(place)
        values = [value / divisor for _, value in line]
        axes.plot(
            [at / seconds for at, _ in line], values, color=color, linewidth=1.1, alpha=0.75, clip_on=False
        )
        height = max(max(values), highest[place][0] if place in highest else 0)
        highest[place] = (height, label, color)
    from_zero(axes)
    axes.set_xlim(left=0)
    axes.margins(x=0)
    axes.set_xlabel(f"time since the start ({time_name})")
    axes.set_ylabel(f"{axis} ({unit_name})")
    label_heights(axes, list(highest.values()))
    return finish(figure, name, title, text)


def thinned(points: Sequence[tuple[float, int]]) -> list[tuple[float, int]]:
    """At most two points for each of `_BUCKETS` stretches: the lowest and the highest, and both ends."""
    if len(points) <= 2 * _BUCKETS:
        return list(points)
    kept = {0, len(points) - 1}
    for bucket in range(_BUCKETS):
        stretch = range(bucket * len(points) // _BUCKETS, (bucket + 1) * len(points) // _BUCKETS)
        kept |= {
            min(stretch, key=lambda place: points[place][1]),
            max(stretch, key=lambda place: points[place][1]),
        }
    return [points[place] for place in sorted(kept)]

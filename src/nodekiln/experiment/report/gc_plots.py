"""The plots of garbage collection: each pause over time, and totals by type as each way tells them."""

from __future__ import annotations

from nodekiln.experiment.analysis.pauses import PAUSES, STEPS, collections_of, gc_tables, main_way, measured
from nodekiln.experiment.model.naming import display_names
from nodekiln.experiment.model.results import COLLECTION_TYPES, WAYS, CollectionType, Experiment
from nodekiln.experiment.report.drawing import Plot, finish, legend_above, panels
from nodekiln.experiment.report.format import quantity, scale, spread
from nodekiln.experiment.report.theme import INK, MUTED, series


def pauses_over_time(experiment: Experiment) -> Plot | None:
    """Every pause of one run of each binary; None where no way was measured for all of them."""
    names = display_names(experiment.binaries)
    way = main_way([experiment])
    if way is None:
        return None
    runs = [(place, measured(experiment, one.label, way)[0]) for place, one in enumerate(experiment.binaries)]
    figure, grid = panels(len(runs), 1.9)
    seconds, time_name = scale(max(run.wall_ms for _, run in runs), "ms")
    told = []
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
        told.append(f"{names[run.binary]}: {len(pauses)}, {quantity(together, 'ms')} together")
    grid[-1].set_xlabel(f"time since the start ({time_name})")
    longest = max((one.duration_ms for _, run in runs for one in collections_of(run, PAUSES)), default=0)
    grid[-1].set_ylim(0, longest * 1.08 or 1)
    grid[-1].set_xlim(left=0)
    return finish(
        figure,
        "gc-pauses",
        f"GC pauses over time, told by {way}",
        f"A mark for each pause in the first run of each binary, as high as it is long. {'; '.join(told)}.",
    )


def gc_totals(experiment: Experiment) -> Plot | None:
    """Totals by type, the ways side by side; None where nothing was measured."""
    names = display_names(experiment.binaries)
    tables = gc_tables(experiment)
    if not tables:
        return None
    kinds: list[CollectionType] = [
        kind for kind in PAUSES + STEPS if any((kind, way) in one.by_type for one in tables for way in WAYS)
    ]
    if not kinds:
        return None
    ways = [way for way in WAYS if any(way in table.ways for table in tables)]
    figure, grid = panels(len(tables), 2.3)
    told = []
    for axes, table in zip(grid, tables, strict=True):
        for place, way in enumerate(ways):
            color, _ = series(place + 2)  # blue and vermilion are the binaries'
            at = [spot + (place - (len(ways) - 1) / 2) * 0.26 for spot in range(len(kinds))]
            for where, kind in zip(at, kinds, strict=True):
                if (total := table.by_type.get((kind, way))) is None:
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
            axes.bar(0, 0, color=color, label=way)
            if (pauses := table.pauses.get(way)) is not None:
                told.append(f"{names[table.label]} by {way} {spread(pauses.total_ms, 'ms')}")
        axes.set_title(names[table.label])
        axes.set_ylabel("GC total (ms)")
        axes.set_xticks(range(len(kinds)), [COLLECTION_TYPES[kind] for kind in kinds])
    legend_above(grid[0], len(ways))
    highest = max(total.total_ms.high for table in tables for total in table.by_type.values())
    grid[0].set_ylim(0, highest * 1.15 or 1)
    return finish(
        figure,
        "gc-totals",
        "GC totals by type, as each way tells them",
        f"Bars: the median total of a run; lines: the interval; above: how many. "
        f"Pauses together: {'; '.join(told)}.",
    )

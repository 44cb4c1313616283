"""Render the report as one self-contained HTML page; the template engine escapes every text.

The only texts that are not are ours: the style sheet, and the SVG of plots, whose labels matplotlib escaped.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean, median

from nodekiln import __version__
from nodekiln.core.errors import SourceError, interrupts_kept
from nodekiln.core.files import atomic_write
from nodekiln.core.reporting import Reporter, escape_unprintable
from nodekiln.experiment.analysis.pauses import PAUSES, STEPS, gc_tables, main_way, pause_share, pause_total
from nodekiln.experiment.analysis.statistics import ENOUGH, Comparison, Estimate, compare
from nodekiln.experiment.analysis.verdict import (
    TOO_FEW,
    brackets,
    few_trials,
    gc_notes,
    growth,
    judge,
    median_of,
    mishap,
    sweep_problems,
    warnings,
    why_ways_differ,
)
from nodekiln.experiment.model.naming import display_names, legend
from nodekiln.experiment.model.results import COLLECTION_TYPES, WAYS, Experiment, Sweep
from nodekiln.experiment.report import format as wording
from nodekiln.experiment.report.drawing import Plot, dark_rules

_HERE = Path(__file__).parent


@dataclass(frozen=True, kw_only=True, slots=True)
class Row:
    """A row of the table of trials: wall time, CPU time and peak of each binary, or its failure."""

    name: str
    cells: tuple[tuple[str, str, str] | str, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Point:
    """One binary at one size of a sweep."""

    size: str
    name: str
    peak: Estimate | None
    wall: Estimate | None
    pauses: Estimate | None
    share: Estimate | None


def page(results: Experiment | Sweep, plots: Sequence[Plot]) -> str:
    """Return the text of report.html."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined
    from markupsafe import Markup

    engine = Environment(
        loader=FileSystemLoader(_HERE),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    engine.filters |= {
        "plain": wording.plain,
        "lines": _lines,
        "quantity": wording.quantity,
        "spread": wording.spread,
        "ratio": wording.ratio,
        "percent": wording.percent,
        "deviation": wording.deviation,
    }
    sweep = isinstance(results, Sweep)
    first = results.experiments[0] if isinstance(results, Sweep) else results
    names = display_names(first.binaries)
    style = (
        (_HERE / "report.css")
        .read_text(encoding="utf-8")
        .replace("/* dark plots */", "\n".join(dark_rules()))
    )
    return engine.get_template("report.html.jinja").render(
        results=results,
        first=first,
        sweep=sweep,
        title=" against ".join(reversed(names.values())),
        names=names,
        legend=legend(first.binaries),
        style=Markup(style),  # noqa: S704 (ours)
        plots=[(plot, Markup(plot.svg)) for plot in plots],  # noqa: S704 (ours, its labels escaped)
        version=__version__,
        warnings=warnings(results.experiments if isinstance(results, Sweep) else (results,)),
        enough=ENOUGH,
        too_few=TOO_FEW,
        types=COLLECTION_TYPES,
        kinds=PAUSES + STEPS,
        pauses=PAUSES,
        ways=WAYS,
        **(_sweep(results) if isinstance(results, Sweep) else _experiment(results)),
    )


def _experiment(experiment: Experiment) -> dict[str, object]:
    tables = gc_tables(experiment)
    compared = compare(experiment)
    return {
        "verdict": judge(experiment),
        "rows": _rows(experiment),
        "comparisons": _by_measure(compared),
        "brackets": brackets(compared),
        "tables": tables,
        "reasons": why_ways_differ(tables),
        "missing": gc_notes([experiment]),
        "partial": experiment.partial,
        "notes": experiment.notes,
        "marks": [],
    }


def _sweep(sweep: Sweep) -> dict[str, object]:
    way = main_way(sweep.experiments)
    names = display_names(sweep.experiments[0].binaries)
    marks = []
    for mark in sweep.marks:
        points = [
            Point(
                size=wording.quantity(one.input.size_bytes, "bytes"),
                name=names[binary.label],
                peak=median_of(one, "peak memory", binary.label),
                wall=median_of(one, "wall time", binary.label),
                pauses=None if way is None else pause_total(one, binary.label, way),
                share=None if way is None else pause_share(one, binary.label, way),
            )
            for one in sweep.at(mark)
            for binary in one.binaries
        ]
        marks.append((wording.mark_words(mark, sweep.unit), points))
    return {
        "growth": growth(sweep),
        "notes": tuple(dict.fromkeys([*sweep.notes, *(n for one in sweep.experiments for n in one.notes)])),
        "trouble": sweep_problems(sweep),
        "cautions": few_trials(sweep.experiments),
        "marks": marks,
        "way": way,
        "partial": sweep.partial or any(one.partial for one in sweep.experiments),
        "missing": gc_notes(sweep.experiments),
        "tables": (),
        "reasons": (),
    }


def _rows(experiment: Experiment) -> list[Row]:
    columns = [{t.number: t for t in experiment.trials_of(one.label)} for one in experiment.binaries]
    rows = []
    for number in sorted({trial.number for trial in experiment.trials}):
        cells: list[tuple[str, str, str] | str] = []
        for column in columns:
            trial = column.get(number)
            if trial is None:
                cells.append("not run")
            elif (why := mishap(trial)) is not None:
                cells.append(why)
            else:
                cells.append(_cells(trial.wall_ms, trial.cpu_ms, trial.peak_rss_bytes))
        rows.append(Row(name=str(number), cells=tuple(cells)))
    counted = [[trial for trial in column.values() if trial.counts] for column in columns]
    for name, of in (("average", mean), ("median", median)):
        middle = [
            _cells(
                of(trial.wall_ms for trial in trials),
                of(trial.cpu_ms for trial in trials),
                of(float(trial.peak_rss_bytes) for trial in trials),
            )
            if trials
            else "none"
            for trials in counted
        ]
        rows.append(Row(name=name, cells=tuple(middle)))
    return rows


def _cells(wall_ms: float, cpu_ms: float, peak_bytes: float) -> tuple[str, str, str]:
    return f"{wall_ms:.0f}", f"{cpu_ms:.0f}", f"{peak_bytes / 1e6:.1f}"


def _by_measure(compared: Sequence[Comparison]) -> list[tuple[str, list[Comparison]]]:
    measures = dict.fromkeys(one.measure for one in compared)
    return [(measure, [one for one in compared if one.measure == measure]) for measure in measures]


def _lines(text: str) -> str:
    """Return the lines of a program with unprintable characters escaped."""
    return "\n".join(escape_unprintable(line) for line in text.expandtabs(2).splitlines())


REPORT = "report.html"


def write_report(folder: Path, results: Experiment | Sweep, reporter: Reporter) -> Path:
    """Write report.html and a PNG and an SVG of each plot; return the path of report.html.

    The files are renamed into place when all are drawn. Raises SourceError if they can't be written.
    """
    files = {}
    with interrupts_kept(), reporter.progress("drawing the report") as meter:
        for name, content in _files(results):
            files[name] = content
            meter.update(len(files), None, name)
    try:
        for name, content in files.items():
            atomic_write(folder / name, content)
    except OSError as error:
        raise SourceError(
            f"The report can't be written to {folder}: {error.strerror}.",
            remedy=f"Make room or make it writable, then: ./inv report {folder}",
        ) from None
    return folder / REPORT


def _files(results: Experiment | Sweep) -> Iterator[tuple[str, bytes]]:
    # Imported late: matplotlib takes a second, and whoever only reads results does without it.
    from nodekiln.experiment.report.curves import draw_sweep
    from nodekiln.experiment.report.drawing import alone
    from nodekiln.experiment.report.plots import draw

    plots = []
    for plot in draw_sweep(results) if isinstance(results, Sweep) else draw(results):
        plots.append(plot)
        yield f"{plot.name}.png", plot.png
        yield f"{plot.name}.svg", alone(plot.svg).encode()
    yield REPORT, page(results, plots).encode()

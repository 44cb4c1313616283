"""Render the report as one self-contained HTML page; the template engine escapes every text.

The only texts that are not are ours: the style sheet, and the SVG of plots, whose labels matplotlib escaped.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from nodekiln import __version__
from nodekiln.core.errors import SourceError, interrupts_kept
from nodekiln.core.files import atomic_write
from nodekiln.core.reporting import Reporter, escape_unprintable, one_line
from nodekiln.experiment.analysis.analyze import Analysis, Figures, SweepAnalysis
from nodekiln.experiment.analysis.pauses import PAUSES, STEPS
from nodekiln.experiment.analysis.statistics import ENOUGH, Comparison
from nodekiln.experiment.analysis.verdict import (
    TOO_FEW,
    brackets,
    few_trials,
    gc_notes,
    growth,
    judge,
    sweep_problems,
    warnings,
    why_methods_differ,
)
from nodekiln.experiment.model.naming import legend
from nodekiln.experiment.model.results import COLLECTION_TYPES, METHODS
from nodekiln.experiment.report import format as wording
from nodekiln.experiment.report.drawing import Plot, dark_rules

_HERE = Path(__file__).parent


def page(analysis: Analysis | SweepAnalysis, plots: Sequence[Plot]) -> str:
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
        "one_line": one_line,
        "lines": _lines,
        "quantity": wording.quantity,
        "spread": wording.spread,
        "ratio": wording.ratio,
        "percent": wording.percent,
        "deviation": wording.deviation,
    }
    is_sweep = isinstance(analysis, SweepAnalysis)
    names = analysis.names
    style = (
        (_HERE / "report.css")
        .read_text(encoding="utf-8")
        .replace("/* dark plots */", "\n".join(dark_rules()))
    )
    return engine.get_template("report.html.jinja").render(
        results=analysis.sweep if isinstance(analysis, SweepAnalysis) else analysis.experiment,
        first=analysis.points[0].experiment,
        sweep=is_sweep,
        title=" against ".join(reversed(names.values())),
        names=names,
        legend=legend(analysis.binaries, names),
        style=Markup(style),  # noqa: S704 (ours)
        plots=[(plot, Markup(plot.svg)) for plot in plots],  # noqa: S704 (ours, its labels escaped)
        version=__version__,
        warnings=warnings(analysis.points),
        missing=gc_notes(analysis.points),
        enough=ENOUGH,
        too_few=TOO_FEW,
        types=COLLECTION_TYPES,
        kinds=PAUSES + STEPS,
        pauses=PAUSES,
        methods=METHODS,
        **(_sweep(analysis) if isinstance(analysis, SweepAnalysis) else _experiment(analysis)),
    )


def _experiment(analysis: Analysis) -> dict[str, object]:
    return {
        "verdict": judge(analysis),
        "rows": [(row.name, [_cell(cell) for cell in row.cells]) for row in analysis.rows],
        "comparisons": _by_measure(analysis.comparisons),
        "brackets": brackets(analysis.comparisons),
        "tables": tuple(analysis.gc.values()),
        "reasons": why_methods_differ(analysis.gc.values()),
        "partial": analysis.experiment.partial,
        "notes": analysis.experiment.notes,
        "marks": [],
    }


def _sweep(analysis: SweepAnalysis) -> dict[str, object]:
    sweep = analysis.sweep
    return {
        "growth": growth(analysis),
        "notes": tuple(dict.fromkeys([*sweep.notes, *(n for one in sweep.experiments for n in one.notes)])),
        "trouble": sweep_problems(analysis),
        "cautions": few_trials(analysis.points),
        "marks": [(wording.mark_words(mark, sweep.unit), analysis.rows(mark)) for mark in sweep.marks],
        "method": analysis.method,
        "partial": sweep.partial or any(one.partial for one in sweep.experiments),
        "tables": (),
        "reasons": (),
    }


def _cell(cell: Figures | str) -> tuple[str, str, str] | str:
    """Return wall time, CPU time and peak memory in the units of the table's head."""
    if isinstance(cell, str):
        return cell
    return f"{cell.wall_ms:.0f}", f"{cell.cpu_ms:.0f}", f"{cell.peak_bytes / 1e6:.1f}"


def _by_measure(compared: Sequence[Comparison]) -> list[tuple[str, list[Comparison]]]:
    measures = dict.fromkeys(one.measure for one in compared)
    return [(measure, [one for one in compared if one.measure == measure]) for measure in measures]


def _lines(text: str) -> str:
    """Return the lines of a program with unprintable characters escaped."""
    return "\n".join(escape_unprintable(line) for line in text.expandtabs(2).splitlines())


REPORT = "report.html"


def write_report(folder: Path, analysis: Analysis | SweepAnalysis, reporter: Reporter) -> Path:
    """Write report.html and a PNG and an SVG of each plot; return the path of report.html.

    The files are renamed into place when all are drawn. Raises SourceError if they can't be written.
    """
    files = {}
    with interrupts_kept(), reporter.progress("drawing the report") as meter:
        for name, content in _files(analysis):
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


def _files(analysis: Analysis | SweepAnalysis) -> Iterator[tuple[str, bytes]]:
    # Imported late: matplotlib takes a second, and whoever only reads results does without it.
    from nodekiln.experiment.report.curves import draw_sweep
    from nodekiln.experiment.report.drawing import alone
    from nodekiln.experiment.report.plots import draw

    plots = []
    for plot in draw_sweep(analysis) if isinstance(analysis, SweepAnalysis) else draw(analysis):
        plots.append(plot)
        yield f"{plot.name}.png", plot.png
        yield f"{plot.name}.svg", alone(plot.svg).encode()
    yield REPORT, page(analysis, plots).encode()

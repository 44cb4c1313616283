"""Writes the report of an experiment beside its results.json."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from nodekiln.core.errors import SourceError
from nodekiln.core.files import atomic_write
from nodekiln.core.reporting import Reporter
from nodekiln.experiment.model.results import Experiment, Sweep

REPORT = "report.html"


def write_report(folder: Path, results: Experiment | Sweep, reporter: Reporter) -> Path:
    """Writes report.html and a PNG and an SVG of each plot; returns the path of report.html.

    The files are renamed into place when all are drawn. Raises SourceError where they can't be written.
    """
    files = {}
    with reporter.progress("drawing the report") as meter:
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
    from nodekiln.experiment.report.page import page
    from nodekiln.experiment.report.plots import draw
    from nodekiln.experiment.report.svg import alone

    plots = []
    for plot in draw_sweep(results) if isinstance(results, Sweep) else draw(results):
        plots.append(plot)
        yield f"{plot.name}.png", plot.png
        yield f"{plot.name}.svg", alone(plot.svg).encode()
    yield REPORT, page(results, plots).encode()

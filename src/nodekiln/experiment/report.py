"""Writes the report of an experiment beside its results.json, and reads that again to draw anew."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from nodekiln.errors import SourceError, UsageError
from nodekiln.experiment.results import Experiment, Sweep, load
from nodekiln.reporting import Reporter

RESULTS = "results.json"
REPORT = "report.html"


def read_results(folder: Path) -> Experiment | Sweep:
    """What a run left in its folder; raises UsageError where that holds nothing that can be drawn."""
    file = folder / RESULTS
    try:
        text = file.read_bytes()
    except OSError as error:
        raise UsageError(
            f"{file} can't be read: {error.strerror}.",
            remedy="./inv report takes the folder of a run: build/experiments/<time>.",
        ) from None
    return load(text, str(file))


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
            write_whole(folder / name, content)
    except OSError as error:
        raise SourceError(
            f"The report can't be written to {folder}: {error.strerror}.",
            remedy=f"Make room or make it writable, then: ./inv report {folder}",
        ) from None
    return folder / REPORT


def _files(results: Experiment | Sweep) -> Iterator[tuple[str, bytes]]:
    # Imported late: matplotlib takes a second, and whoever only reads results does without it.
    from nodekiln.experiment.curves import draw_sweep
    from nodekiln.experiment.page import page
    from nodekiln.experiment.plots import draw
    from nodekiln.experiment.svg import alone

    plots = []
    for plot in draw_sweep(results) if isinstance(results, Sweep) else draw(results):
        plots.append(plot)
        yield f"{plot.name}.png", plot.png
        yield f"{plot.name}.svg", alone(plot.svg).encode()
    yield REPORT, page(results, plots).encode()


def write_whole(file: Path, content: bytes) -> None:
    """Writes a file that is whole at any moment. Raises OSError."""
    beside = file.with_name(file.name + ".new")
    try:
        beside.write_bytes(content)
        beside.replace(file)
    except BaseException:
        beside.unlink(missing_ok=True)
        raise

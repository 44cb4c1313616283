"""Compute every statistic of an experiment or sweep once; text, HTML and plots only render the result."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import mean, median

from nodekiln.experiment.analysis.pauses import GcTable, gc_tables
from nodekiln.experiment.analysis.statistics import Comparison, Estimate, compare_trials
from nodekiln.experiment.model.naming import display_names
from nodekiln.experiment.model.results import Binary, Experiment, Method, Sweep, Trial

_PREFERRED: tuple[Method, ...] = ("probes", "perf_hooks", "trace-gc")


@dataclass(frozen=True, kw_only=True, slots=True)
class Figures:
    """Wall and CPU time in milliseconds, peak memory in bytes: of one trial, or an average of several."""

    wall_ms: float
    cpu_ms: float
    peak_bytes: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Row:
    """A row of the table of trials: for each binary its figures, or why there are none."""

    name: str
    """The trial's number, "average" or "median"."""
    cells: tuple[Figures | str, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Analysis:
    """The statistics of one experiment."""

    experiment: Experiment
    names: dict[str, str]
    """Display names by label."""
    trials: dict[str, tuple[Trial, ...]]
    """By label, in the order of their numbers."""
    rows: tuple[Row, ...]
    comparisons: tuple[Comparison, ...]
    gc: dict[str, GcTable]
    """By label; without the binaries whose collections were not measured."""
    method: Method | None
    """How the collections to draw and compare were measured: one method for all binaries and experiments."""

    @property
    def points(self) -> tuple[Analysis, ...]:
        """The experiment itself, as SweepAnalysis has several."""
        return (self,)

    @property
    def binaries(self) -> tuple[Binary, ...]:
        """The compared binaries, the baseline first."""
        return self.experiment.binaries

    @property
    def size_bytes(self) -> int:
        """The size of the input."""
        return self.experiment.input.size_bytes

    def median_of(self, measure: str, label: str) -> Estimate | None:
        """Return one binary's median of a measure; None if no trial counts."""
        found = (one for one in self.comparisons if (one.measure, one.label) == (measure, label))
        return next((one.median for one in found), None)

    def pauses_of(self, label: str) -> Estimate | None:
        """Return the total of one binary's GC pauses in milliseconds, by `method`."""
        table = self.gc.get(label)
        return None if table is None or self.method is None else table.pauses[self.method].total_ms

    def pause_share_of(self, label: str) -> Estimate | None:
        """Return the pauses' share of the wall time, 0 to 1, by `method`."""
        table = self.gc.get(label)
        return None if table is None or self.method is None else table.share.get(self.method)


@dataclass(frozen=True, kw_only=True, slots=True)
class SweepRow:
    """One binary at one input size of a sweep: medians; None where nothing was measured."""

    size_bytes: int
    name: str
    """The binary's display name."""
    peak: Estimate | None
    wall: Estimate | None
    pauses: Estimate | None
    share: Estimate | None


@dataclass(frozen=True, kw_only=True, slots=True)
class SweepAnalysis:
    """The statistics of each experiment of a sweep."""

    sweep: Sweep
    points: tuple[Analysis, ...]
    names: dict[str, str]
    method: Method | None

    @property
    def binaries(self) -> tuple[Binary, ...]:
        """The compared binaries, the same in all experiments, the baseline first."""
        return self.points[0].binaries

    def at(self, mark: int | None) -> tuple[Analysis, ...]:
        """Return the experiments with that highWaterMark, sorted by input size."""
        found = (one for one in self.points if one.experiment.high_water_mark == mark)
        return tuple(sorted(found, key=lambda one: one.size_bytes))

    def rows(self, mark: int | None) -> tuple[SweepRow, ...]:
        """Return the rows of the table for a highWaterMark."""
        return tuple(
            SweepRow(
                size_bytes=point.size_bytes,
                name=name,
                peak=point.median_of("peak memory", label),
                wall=point.median_of("wall time", label),
                pauses=point.pauses_of(label),
                share=point.pause_share_of(label),
            )
            for point in self.at(mark)
            for label, name in point.names.items()
        )


def analyze(results: Experiment | Sweep) -> Analysis | SweepAnalysis:
    """Return the statistics of an experiment, or of all experiments of a sweep."""
    if isinstance(results, Experiment):
        return analyze_experiment(results)
    tables = [gc_tables(one) for one in results.experiments]
    method = _common_method(tables, results.experiments)
    points = tuple(
        _analyze(one, found, method) for one, found in zip(results.experiments, tables, strict=True)
    )
    return SweepAnalysis(sweep=results, points=points, names=points[0].names, method=method)


def analyze_experiment(experiment: Experiment) -> Analysis:
    """Return the statistics of one experiment."""
    tables = gc_tables(experiment)
    return _analyze(experiment, tables, _common_method([tables], [experiment]))


def why_not_counted(trial: Trial) -> str | None:
    """Return why a trial's figures don't count, in a few words; None if they do."""
    if trial.counts:
        return None
    return "lost data" if trial.ending == "finished" else trial.ending


def _analyze(experiment: Experiment, gc: dict[str, GcTable], method: Method | None) -> Analysis:
    labels = [binary.label for binary in experiment.binaries]
    trials = {label: experiment.trials_of(label) for label in labels}
    return Analysis(
        experiment=experiment,
        names=display_names(experiment.binaries),
        trials=trials,
        rows=_rows(list(trials.values())),
        comparisons=compare_trials(trials, baseline=labels[0], stream_unit=experiment.stream_unit),
        gc=gc,
        method=method,
    )


def _common_method(tables: Sequence[dict[str, GcTable]], experiments: Sequence[Experiment]) -> Method | None:
    """Return the first method that measured the collections of every binary of every experiment."""
    for method in _PREFERRED:
        if all(
            binary.label in found and method in found[binary.label].methods
            for found, experiment in zip(tables, experiments, strict=True)
            for binary in experiment.binaries
        ):
            return method
    return None


def _rows(columns: Sequence[Sequence[Trial]]) -> tuple[Row, ...]:
    by_number = [{trial.number: trial for trial in column} for column in columns]
    rows = [
        Row(name=str(number), cells=tuple(_figures(column.get(number)) for column in by_number))
        for number in sorted({number for column in by_number for number in column})
    ]
    counted = [[trial for trial in column if trial.counts] for column in columns]
    averages: tuple[tuple[str, Callable[[list[float]], float]], ...] = (("average", mean), ("median", median))
    for name, of in averages:
        rows.append(Row(name=name, cells=tuple(_average(trials, of) for trials in counted)))
    return tuple(rows)


def _figures(trial: Trial | None) -> Figures | str:
    if trial is None:
        return "not run"
    if (why := why_not_counted(trial)) is not None:
        return why
    return Figures(wall_ms=trial.wall_ms, cpu_ms=trial.cpu_ms, peak_bytes=trial.peak_rss_bytes)


def _average(trials: Sequence[Trial], of: Callable[[list[float]], float]) -> Figures | str:
    if not trials:
        return "none"
    return Figures(
        wall_ms=of([trial.wall_ms for trial in trials]),
        cpu_ms=of([trial.cpu_ms for trial in trials]),
        peak_bytes=of([float(trial.peak_rss_bytes) for trial in trials]),
    )

"""What a sweep shows, in plain words: how memory and GC grow with the input, at each highWaterMark."""

from __future__ import annotations

from dataclasses import dataclass

from nodekiln.experiment.analysis.pauses import main_way, pause_total
from nodekiln.experiment.analysis.statistics import Estimate, MetricUnit, compare
from nodekiln.experiment.analysis.verdict import problems
from nodekiln.experiment.model.naming import display_names
from nodekiln.experiment.model.results import Experiment, Sweep
from nodekiln.experiment.report.format import mark_words, quantity


@dataclass(frozen=True, kw_only=True, slots=True)
class Growth:
    """What a sweep shows at one highWaterMark: a line for each binary."""

    heading: str
    lines: tuple[str, ...]


def growth(sweep: Sweep) -> tuple[Growth, ...]:
    """From the least input to the greatest; a highWaterMark with only one size has nothing to tell."""
    told = []
    for mark in sweep.marks:
        experiments = sweep.at(mark)
        least, most = experiments[0], experiments[-1]
        if least is most:
            continue
        sizes = _from_to(*(quantity(one.input.size_bytes, "bytes") for one in (least, most)))
        names = display_names(least.binaries)
        lines = [f"{name}: {_line(sweep, least, most, label)}" for label, name in names.items()]
        told.append(Growth(heading=f"{mark_words(mark, sweep.unit)}, input {sizes}", lines=tuple(lines)))
    return tuple(told)


def sweep_problems(sweep: Sweep) -> tuple[str, ...]:
    """What went wrong, at which size and highWaterMark."""
    return tuple(
        f"{quantity(one.input.size_bytes, 'bytes')}, {mark_words(one.high_water_mark, sweep.unit)}: {line}"
        for one in sweep.experiments
        for line in problems(one)
    )


def median_of(experiment: Experiment, measure: str, label: str) -> Estimate | None:
    """One binary's median of a measure that `compare` names; None where no trial counts."""
    found = (one for one in compare(experiment) if (one.measure, one.label) == (measure, label))
    return next((one.median for one in found), None)


def _line(sweep: Sweep, least: Experiment, most: Experiment, label: str) -> str:
    peaks = [median_of(one, "peak memory", label) for one in (least, most)]
    parts = [f"peak memory {_from_to(*(_told(peak, 'bytes') for peak in peaks))}"]
    if (way := main_way(sweep.experiments)) is not None:
        pauses = [pause_total(one, label, way) for one in (least, most)]
        parts.append(f"GC pauses {_from_to(*(_told(total, 'ms') for total in pauses))}")
    return ", ".join(parts)


def _told(estimate: Estimate | None, unit: MetricUnit) -> str:
    return "(not measured)" if estimate is None else quantity(estimate.value, unit)


def _from_to(first: str, last: str) -> str:
    return f"{first} to {last}"

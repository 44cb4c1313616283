"""Format figures for people: quantities with units, ratios with intervals.

Knows neither HTML nor terminals.
"""

from __future__ import annotations

from collections.abc import Sequence

from nodekiln.experiment.analysis.statistics import Estimate, MetricUnit
from nodekiln.experiment.model.results import Unit

_SCALES: dict[MetricUnit, tuple[tuple[float, str], ...]] = {
    "ms": ((1000, "s"), (1, "ms")),
    "bytes": ((1e9, "GB"), (1e6, "MB"), (1e3, "kB"), (1, "bytes")),
    "objects": ((1, "objects"),),
}


def quantity(value: float, unit: MetricUnit) -> str:
    """Format as 71.2 MB, 1.20 s, 24 objects: three figures, in the unit that suits the size."""
    divisor, name = scale(value, unit)
    return f"{_figures(value / divisor, value / divisor, name)} {name}"


def spread(estimate: Estimate, unit: MetricUnit) -> str:
    """Format as 71.2 MB (70.9 to 71.6): the median and its interval, in one unit."""
    divisor, name = scale(estimate.value, unit)
    middle = estimate.value / divisor
    value, low, high = (
        _figures(one / divisor, middle, name) for one in (estimate.value, estimate.low, estimate.high)
    )
    return f"{value} {name}" if estimate.count == 1 else f"{value} {name} ({low} to {high})"


def ratio(estimate: Estimate) -> str:
    """Format as 4.6 (4.5 to 4.7): a ratio and its interval."""
    value, around = ratio_parts(estimate)
    return value if estimate.count == 1 else f"{value} ({around})"


def ratio_parts(estimate: Estimate) -> tuple[str, str]:
    """Return ("4.6", "4.5 to 4.7")."""
    three = (estimate.value, estimate.low, estimate.high)
    value, low, high = (f"{one:.{_ratio_decimals(three)}f}" for one in three)
    return value, f"{low} to {high}"


def percent(share: Estimate) -> str:
    """Format a share from 0 to 1 as 2.10%."""
    return f"{_figures(share.value * 100, share.value * 100, '%')}%"


def deviation(ratio: Estimate) -> str:
    """Format the distance of a ratio from 1 as +1.2% (-0.3 to +2.0)."""
    value, low, high = (f"{(one - 1) * 100:+.1f}" for one in (ratio.value, ratio.low, ratio.high))
    return f"{value}%" if ratio.count == 1 else f"{value}% ({low} to {high})"


def mark_words(mark: int | None, unit: Unit) -> str:
    """Format a highWaterMark for a heading."""
    if mark is None:
        return "highWaterMark as Node sets it"
    if unit == "bytes" and mark and mark % 1024 == 0:
        return f"highWaterMark {mark // 1024} KiB"
    return f"highWaterMark {mark} {unit}"


def scale(value: float, unit: MetricUnit) -> tuple[float, str]:
    """Return the divisor and the name of the resulting unit."""
    scales = _SCALES[unit]
    return next((one for one in scales if abs(value) >= one[0]), scales[-1])


def _figures(value: float, leading: float, unit: str) -> str:
    """Return the decimals that give `leading` three significant figures; none for indivisible units."""
    if unit in ("bytes", "objects"):
        return f"{value:.0f}"
    return f"{value:.{2 if abs(leading) < 10 else 1 if abs(leading) < 100 else 0}f}"


def _ratio_decimals(ratios: Sequence[float]) -> int:
    """Return three near 1, where they matter, and fewer the farther off."""
    if all(0.9 < one < 1.1 for one in ratios):
        return 3
    return 2 if ratios[0] < 2 else 1 if ratios[0] < 100 else 0

"""Medians and paired ratios, each with an interval that contains the true median 95 times in 100.

Ratios are taken within a trial number, between runs that were made one after the other, so that what slows
the machine for a while slows both sides. What follows from them is put into words in verdict.py.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from nodekiln.experiment.model.results import Trial, Unit

CONFIDENCE = 0.95
ENOUGH = 5
"""Trials from which on an interval is called one. The widest that n values can give, from the least to the
greatest, holds the true median with probability 1 - 2**(1 - n): 50% for two trials, 75% for three, 88% for
four, 94% for five, 97% for six."""
_RESAMPLES = 9999
_SEED = 20
"""Fixed, so that a report drawn again says the same."""

MetricUnit = Literal["ms", "bytes", "objects"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Estimate:
    """A median, its interval, and the number of values."""

    value: float
    low: float
    high: float
    count: int

    @property
    def enough(self) -> bool:
        """True if there were enough values for an interval; otherwise `low` and `high` are the range."""
        return self.count >= ENOUGH

    @property
    def holds_one(self) -> bool:
        """True if a ratio shows no difference."""
        return self.low <= 1 <= self.high


@dataclass(frozen=True, kw_only=True, slots=True)
class Comparison:
    """One measure of one binary, and its ratio to the baseline's.

    `median` is None where no trial counts, `ratio` for the baseline itself and where there are no pairs.
    """

    measure: str
    unit: MetricUnit
    label: str
    median: Estimate | None
    ratio: Estimate | None


def estimate(values: Sequence[float]) -> Estimate:
    """Return the median and its interval, from at least one value.

    The interval is that of a percentile bootstrap, and nowhere narrower than the exact one between two order
    statistics (the inverted sign test; David and Nagaraja, Order Statistics, 3rd edition, 7.1). That
    one is nearly always the wider: by itself the bootstrap held the true median in 87 of 100 samples of
    seven normal values, in 92 of eight and 95 of nine, where with the exact one it is 98, 99 and 96. With
    five both are the whole range. BCa, which corrects the percentile method, isn't defined where resamples
    are all alike, as five counts of collections may be.
    """
    import numpy  # a tenth of a second, which most tasks do without

    draws = numpy.random.default_rng(_SEED).choice(values, (_RESAMPLES, len(values)))
    tail = (1 - CONFIDENCE) / 2
    low, high = numpy.quantile(numpy.median(draws, axis=1), (tail, 1 - tail))
    ordered, rank = sorted(values), exact_rank(len(values))
    return Estimate(
        value=float(numpy.median(values)),
        low=min(float(low), ordered[rank - 1]),
        high=max(float(high), ordered[-rank]),
        count=len(values),
    )


def exact_rank(count: int) -> int:
    """Return the largest k for which the k-th smallest and k-th largest of so many values enclose the median
    them often enough, however the values are spread; 1 where there is none.

    Each value is below the median as often as above it: the median is below the k-th least where fewer than k
    are, with the probability of fewer than k heads in `count` tosses of a coin.
    """
    fewer = 0
    for rank in range(1, count + 1):
        fewer += math.comb(count, rank - 1)
        if 2 * fewer / 2**count > 1 - CONFIDENCE:
            return max(1, rank - 1)
    return 1


def paired_ratio(values: Mapping[int, float], baseline: Mapping[int, float]) -> Estimate | None:
    """Return the median ratio of values with the same number; pairs with a zero are skipped."""
    pairs = [(values[number], baseline[number]) for number in sorted(values.keys() & baseline.keys())]
    ratios = [one / other for one, other in pairs if one > 0 and other > 0]
    return estimate(ratios) if ratios else None


def compare_trials(
    trials: Mapping[str, Sequence[Trial]], *, baseline: str, stream_unit: Unit
) -> tuple[Comparison, ...]:
    """Compare every measure that was taken, for every binary, in the order of both; `trials` are by label."""
    counted = {label: [trial for trial in column if trial.counts] for label, column in trials.items()}
    found = []
    for measure, unit, of in _measures(stream_unit):
        values = {
            label: {trial.number: value for trial in column if (value := of(trial)) is not None}
            for label, column in counted.items()
        }
        if not any(values.values()):
            continue
        found += [
            Comparison(
                measure=measure,
                unit=unit,
                label=label,
                median=estimate(list(numbered.values())) if numbered else None,
                ratio=None if label == baseline else paired_ratio(numbered, values[baseline]),
            )
            for label, numbered in values.items()
        ]
    return tuple(found)


def most_buffered(trial: Trial) -> float | None:
    """Return the largest writableLength of all samples, in the experiment's `stream_unit`."""
    return max((s.writable_length for s in trial.samples if s.writable_length is not None), default=None)


def _measures(stream_unit: Unit) -> tuple[tuple[str, MetricUnit, Callable[[Trial], float | None]], ...]:
    return (
        ("wall time", "ms", lambda trial: trial.wall_ms),
        ("CPU time", "ms", lambda trial: trial.cpu_ms),
        ("peak memory", "bytes", lambda trial: trial.peak_rss_bytes),
        ("most in streams", stream_unit, most_buffered),
    )

"""The progress of a compilation: finished steps, the time left, and the time that each step took.

The time left is the expected time of the steps left over the jobs that are busy. Expected times come from the
weights, scaled by how long the latest steps took on this machine and by the share of compilations that the
compiler cache answered.
"""

from __future__ import annotations

import math
import re
import time
from collections import deque
from collections.abc import Callable, Collection, Mapping, Sequence

from nodekiln.building.ninja import NinjaLog, Step
from nodekiln.building.timings import Timed
from nodekiln.building.weights import Weights, key_of
from nodekiln.core.reporting import Meter

_NINJA_STEP = re.compile(r"\[(\d+)/(\d+)\] (.*)")
_MAKE_STEP = re.compile(r"  (?:CC|CXX|AR|LINK|ACTION|COPY|TOUCH|SOLINK|LIBTOOL-STATIC)\S* [^'\"]*")

_STEPS_REMEMBERED = 400
"""Steps over which the pace is averaged. Fewer cover one folder of V8 only, whose files are all heavier or
all lighter than their weights; more notice a busy machine too late."""
_PRIOR_STEPS = 3
"""Average steps that the weights themselves count for in the pace."""
_PRIOR_HITS = 200
"""The same for cache hits: the first ones are slower than the rest, as headers come from the disk."""
_COMPILATIONS_REMEMBERED = 100
"""Compilations over which the share of cache misses is averaged."""
_STRAY_MISSES = 2
"""Misses among hits that predict nothing: code generated from the configuration differs in each build.
Counted early, one such miss predicts ten minutes for a build of half a minute."""
_OTHERS_AT_ONCE = 4 / 3
"""Steps other than compilations that run at once. They depend on each other: torque, mksnapshot, node."""
_PRIOR_SECONDS = 30.0
"""Seconds that all jobs are assumed to have been busy before the build, until enough has been measured."""
_ESTIMATE_INTERVAL = 1.0
_SMOOTHING = 0.2
"""Weight of a new estimate against the one that is displayed."""


class _Average:
    """The mean of `taken` per `expected`, where recent values count more."""

    def __init__(self, remembered: float, prior: float) -> None:
        self._keep = 1 - 1 / remembered
        self.taken = self.expected = prior

    def add(self, taken: float, expected: float) -> None:
        self.taken = self.taken * self._keep + taken
        self.expected = self.expected * self._keep + expected

    @property
    def value(self) -> float:
        return self.taken / self.expected


class Estimator:
    """Estimates the time left of a build that takes the steps with these descriptions, `jobs` at once."""

    def __init__(self, steps: Mapping[int, str], weights: Weights, *, jobs: int) -> None:
        self._jobs = jobs
        self.left = {index: weights.expect(key_of(step)) for index, step in steps.items()}
        """Expected times of the steps that have not ended."""
        compiled = [each for each in self.left.values() if each.hit is not None]
        usual = _mean([each.seconds for each in compiled])
        usual_hit = _mean([each.hit or 0.0 for each in compiled])
        usual_other = _mean([each.seconds for each in self.left.values() if each.hit is None])
        self._stray = _STRAY_MISSES * usual
        self._misses = _Average(_COMPILATIONS_REMEMBERED, 0.0)
        """Weighted by time, because a few files that compile in no time look like misses."""
        self._compiled = _Average(_STEPS_REMEMBERED, _PRIOR_STEPS * usual)
        self._hits = _Average(_STEPS_REMEMBERED, _PRIOR_HITS * usual_hit)
        self._others = _Average(_STEPS_REMEMBERED, _PRIOR_STEPS * usual_other)
        self._busy = 0.0

    def finish(self, index: int, seconds: float) -> None:
        """Record that a step ended that took `seconds`."""
        if (expected := self.left.pop(index, None)) is None:
            return
        self._busy += seconds
        if expected.hit is None:
            self._others.add(seconds, expected.seconds)
            return
        hit = expected.is_hit(seconds, math.sqrt(self._hits.value * self._compiled.value))
        if hit:
            self._hits.add(seconds, expected.hit)
        else:
            self._compiled.add(seconds, expected.seconds)
        self._misses.add(0.0 if hit else expected.seconds, expected.seconds)

    def seconds_left(self, elapsed: float) -> float:
        """Return the estimated time left, `elapsed` seconds after the build began. 0.5 ms for 1622 steps."""
        misses = self._share_of_misses()
        compilations = others = 0.0
        for expected in self.left.values():
            if expected.hit is None:
                others += expected.seconds
            else:
                compilations += misses * expected.seconds * self._compiled.value
                compilations += (1 - misses) * expected.hit * self._hits.value
        busy = (self._busy + _PRIOR_SECONDS * self._jobs) / (elapsed + _PRIOR_SECONDS)
        at_once = max(1.0, min(self._jobs, busy))
        return compilations / at_once + others * self._others.value / min(at_once, _OTHERS_AT_ONCE)

    def _share_of_misses(self) -> float:
        """1 until a compilation has ended."""
        if not self._misses.expected:
            return 1.0
        stray = min(self._stray, self._misses.expected / 2)
        return max(0.0, self._misses.taken - stray) / (self._misses.expected - stray)


def _mean(seconds: Sequence[float]) -> float:
    """At least 0.01, as a divisor."""
    return max(0.01, sum(seconds) / max(1, len(seconds)))


class _Display:
    """Updates a meter, with a new estimate once a second that does not jump."""

    def __init__(self, meter: Meter) -> None:
        self._meter = meter
        self._begun = time.monotonic()
        self._estimated = float("-inf")
        self._end: float | None = None
        """The estimated time of the end."""
        self._running = ""

    def show(
        self,
        done: int,
        total: int,
        detail: str,
        estimator: Estimator | None,
        running: Callable[[], str] = str,
    ) -> None:
        """Update the meter; its detail is the running steps if they are known, otherwise `detail`."""
        now = time.monotonic()
        if estimator is not None and now - self._estimated >= _ESTIMATE_INTERVAL:
            self._estimated = now
            # ninja skips steps whose inputs turn out unchanged; its total shows how many, not which.
            share = min(1.0, (total - done) / max(1, len(estimator.left)))
            left = estimator.seconds_left(now - self._begun) * share
            self._end = now + smoothed(None if self._end is None else self._end - now, left)
            self._running = running()
        detail = self._running or detail
        self._meter.update(done, total, detail, left=None if self._end is None else max(0.0, self._end - now))


def smoothed(shown: float | None, left: float) -> float:
    """Return the seconds to display, between those shown now and a new estimate.

    An estimate that is off by a factor of two (a cache that begins to answer) replaces the one shown.
    """
    if shown is None or not 0.5 < left / max(shown, 0.01) < 2:
        return left
    return shown + _SMOOTHING * (left - shown)


def ninja_steps(dry_run: str) -> tuple[str, ...]:
    """Return the steps that `ninja -n` lists."""
    return tuple(step[3] for line in dry_run.splitlines() if (step := _NINJA_STEP.match(line)))


def make_steps(dry_run: str) -> tuple[str, ...]:
    """Return the steps that `make --dry-run` lists."""
    return tuple(step[0].strip() for line in dry_run.splitlines() if (step := _MAKE_STEP.search(line)))


class NinjaProgress:
    """Parses the output and the log of one run of ninja."""

    def __init__(
        self,
        *,
        graph: Callable[[], tuple[Step, ...]],
        planned: Collection[str],
        log: NinjaLog,
        weights: Weights,
        jobs: int,
        meter: Meter,
    ) -> None:
        self._graph, self._planned, self._log = graph, frozenset(planned), log
        self._weights, self._jobs = weights, jobs
        self._display = _Display(meter)
        self._steps: tuple[Step, ...] | None = None
        self._estimator: Estimator | None = None
        self._producers: dict[str, int] = {}
        self._times: dict[int, tuple[float, float]] = {}
        self.done = 0

    def line(self, text: str) -> None:
        """Parse a line that ninja or a command printed; ninja prints its own when a step ends."""
        if (step := _NINJA_STEP.match(text)) is None:
            return
        self.done = int(step[1])
        self._read_log()
        self._display.show(self.done, int(step[2]), step[3], self._estimator, self._running)

    def timed(self) -> tuple[Timed, ...]:
        """Return the steps that ended, in that order."""
        self._read_log()
        ended = sorted(self._times.items(), key=lambda each: each[1][1])
        place = {index: number for number, (index, _) in enumerate(ended)}
        steps = self._steps or ()
        return tuple(
            Timed(
                steps[index].description,
                start,
                end,
                tuple(sorted(place[each] for each in steps[index].after if each in place)),
            )
            for index, (start, end) in ended
        )

    def _running(self) -> str:
        """Return the steps that run now if that is certain: all that can run, if there are at most `jobs`."""
        if self._estimator is None:
            return ""
        steps, left = self._steps or (), self._estimator.left
        ready = [index for index in sorted(left) if not any(each in left for each in steps[index].after)]
        return ", ".join(steps[index].description for index in ready) if len(ready) <= self._jobs else ""

    def _read_log(self) -> None:
        for ran in self._log.read():
            if not self._load_graph():
                return
            index = self._producers.get(ran.outputs[0])
            # ninja may still be logging the outputs of its last step; the rest then comes with the next read.
            if index is not None and index not in self._times:
                self._times[index] = (ran.start, ran.end)
                if self._estimator is not None:
                    self._estimator.finish(index, ran.end - ran.start)

    def _load_graph(self) -> tuple[Step, ...]:
        """Read while the build runs already: the graph takes 60 ms, and ninja does not need it."""
        if self._steps is None:
            self._steps = self._graph()
            self._producers = {output: i for i, step in enumerate(self._steps) for output in step.outputs}
            planned = {i: step.description for i, step in enumerate(self._steps)}
            planned = {i: description for i, description in planned.items() if description in self._planned}
            if planned:
                self._estimator = Estimator(planned, self._weights, jobs=self._jobs)
        return self._steps


class MakeProgress:
    """Parses the output of one run of make, which prints the start of a step and not its end."""

    def __init__(self, *, planned: Sequence[str], weights: Weights, jobs: int, meter: Meter) -> None:
        self._total, self._jobs = len(planned), jobs
        self._waiting = {description: index for index, description in enumerate(planned)}
        self._estimator = Estimator(dict(enumerate(planned)), weights, jobs=jobs)
        self._display = _Display(meter)
        self._running: deque[int] = deque()
        self._last = time.monotonic()
        self.done = 0

    def line(self, text: str) -> None:
        """Parse a line that make or a command printed."""
        if (step := _MAKE_STEP.match(text)) is None:
            return
        description = step[0].strip()
        if (index := self._waiting.get(description)) is not None:
            self._running.append(index)
        if len(self._running) > self._jobs:
            now = time.monotonic()
            # One step begins when another ends: between two of them every job spent that time.
            self._estimator.finish(self._running.popleft(), (now - self._last) * self._jobs)
            self._last = now
        self.done += 1
        self._display.show(self.done, max(self.done, self._total), description, self._estimator)

    def timed(self) -> tuple[Timed, ...]:
        """Return nothing: make keeps no log of its steps' times."""
        return ()

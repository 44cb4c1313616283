"""Follows a build while it runs: its step, the time it will still take, and the time each step took."""

from __future__ import annotations

import re
import time
from collections import deque
from collections.abc import Callable, Sequence

from nodekiln.building.eta import Estimator
from nodekiln.building.ninjalog import NinjaLog
from nodekiln.building.stepgraph import Step
from nodekiln.building.timings import Timed
from nodekiln.building.weights import Weights
from nodekiln.core.reporting import Meter

_NINJA_STEP = re.compile(r"\[(\d+)/(\d+)\] (.*)")
_MAKE_STEP = re.compile(r"  (?:CC|CXX|AR|LINK|ACTION|COPY|TOUCH|SOLINK|LIBTOOL-STATIC)\S* [^'\"]*")
_ESTIMATE_EVERY = 1.0
"""Seconds: an estimate takes 6 ms while 1600 steps are left."""


def ninja_steps(dry_run: str) -> tuple[str, ...]:
    """The steps that `ninja -n` says it would take."""
    return tuple(step[3] for line in dry_run.splitlines() if (step := _NINJA_STEP.match(line)))


def make_steps(dry_run: str) -> tuple[str, ...]:
    """The steps that `make --dry-run` says it would take."""
    return tuple(step[0].strip() for line in dry_run.splitlines() if (step := _MAKE_STEP.search(line)))


class _Progress:
    """Tells a meter, with an estimate now and then."""

    def __init__(self, meter: Meter) -> None:
        self._meter = meter
        self._estimated = float("-inf")
        self._end: float | None = None
        """The moment at which the build should be through."""
        self._running = ""

    def show(
        self, done: int, total: int, detail: str, estimator: Estimator | None, steps: Sequence[Step]
    ) -> None:
        now = time.monotonic()
        if estimator is not None and now - self._estimated >= _ESTIMATE_EVERY:
            self._estimated = now
            # ninja drops steps whose inputs come out the same as before; which ones, only their number tells.
            share = min(1.0, (total - done) / max(1, estimator.steps_left))
            self._end = now + estimator.seconds_left() * share
            if steps:
                self._running = ", ".join(steps[index].description for index in estimator.running())
        left = None if self._end is None else max(0.0, self._end - now)
        self._meter.update(done, total, self._running or detail, left=left)


class NinjaFollower:
    """Takes the lines of one run of ninja; `ran` is what its log told of it, in seconds since its begin."""

    def __init__(
        self,
        *,
        graph: Callable[[], tuple[Step, ...]],
        planned: Sequence[str],
        log: NinjaLog,
        weights: Weights,
        jobs: int,
        meter: Meter,
    ) -> None:
        self._graph, self._planned, self._log = graph, planned, log
        self._weights, self._jobs = weights, jobs
        self._progress = _Progress(meter)
        self._graph_steps: tuple[Step, ...] | None = None
        self._estimator: Estimator | None = None
        self._makers: dict[str, int] = {}
        self._ran: dict[int, tuple[float, float]] = {}
        self.done = 0

    def line(self, text: str) -> None:
        """A line that ninja or a command printed; ninja's own are printed when a step ends."""
        if (step := _NINJA_STEP.match(text)) is None:
            return
        self.done = int(step[1])
        self._take_log()
        self._progress.show(self.done, int(step[2]), step[3], self._estimator, self._steps)

    @property
    def _steps(self) -> tuple[Step, ...]:
        """Asked for when the build runs already: it costs 60 ms, and ninja needs none of it."""
        if self._graph_steps is None:
            self._graph_steps = self._graph()
            self._makers = {output: i for i, step in enumerate(self._graph_steps) for output in step.outputs}
            described = {step.description: index for index, step in enumerate(self._graph_steps)}
            planned = {described[each] for each in self._planned if each in described}
            if planned:
                self._estimator = Estimator(self._graph_steps, planned, self._weights, jobs=self._jobs)
        return self._graph_steps

    def _take_log(self) -> None:
        for ran in self._log.read():
            if not self._steps:
                return  # ninja can't tell its graph
            index = self._makers.get(ran.outputs[0])
            # ninja may still be writing the outputs of its last step, whose rest then comes with the next.
            if index is not None and index not in self._ran:
                self._ran[index] = (ran.start, ran.end)
                if self._estimator is not None:
                    self._estimator.finish(index, ran.end - ran.start)

    def timed(self) -> tuple[Timed, ...]:
        """The steps that ended, in that order."""
        self._take_log()
        ran = sorted(self._ran.items(), key=lambda each: each[1][1])
        place = {index: number for number, (index, _) in enumerate(ran)}
        return tuple(
            Timed(
                self._steps[index].description,
                start,
                end,
                tuple(sorted(place[each] for each in self._steps[index].after if each in place)),
            )
            for index, (start, end) in ran
        )


class MakeFollower:
    """Takes the lines of one run of make, which says when a step begins and not when it ends."""

    def __init__(self, *, planned: Sequence[str], weights: Weights, jobs: int, meter: Meter) -> None:
        self._steps = tuple(Step(description) for description in planned)
        self._waiting = {step.description: index for index, step in enumerate(self._steps)}
        self._estimator = Estimator(self._steps, range(len(self._steps)), weights, jobs=jobs)
        self._progress = _Progress(meter)
        self._jobs = jobs
        self._running: deque[int] = deque()
        self._last = time.monotonic()
        self.done = 0

    def line(self, text: str) -> None:
        """A line that make or a command printed."""
        if (step := _MAKE_STEP.match(text)) is None:
            return
        index = self._waiting.get(step[0].strip())
        if index is not None:
            self._running.append(index)
        if len(self._running) > self._jobs:
            now = time.monotonic()
            # One step begins when another ends: between two of them every job spent that time.
            self._estimator.finish(self._running.popleft(), (now - self._last) * self._jobs)
            self._last = now
        self.done += 1
        total = max(self.done, len(self._steps))
        self._progress.show(self.done, total, step[0].strip(), self._estimator, ())

    def timed(self) -> tuple[Timed, ...]:
        """Nothing: make keeps no log of its steps' times."""
        return ()

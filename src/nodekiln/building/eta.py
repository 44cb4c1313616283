"""How long a build will still take: the steps that are left, run through on paper.

What each will take comes from the weights, corrected by how the steps so far went: how fast this machine is
today, and how many of the last compilations the compiler cache answered. Pure; knows no clock.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Collection, Sequence

from nodekiln.building.stepgraph import Step
from nodekiln.building.weights import Expected, Weights, key_of, target_of

_PACE_REMEMBERED = 1000
"""Steps over which the pace is taken. Fewer take it from one folder of V8, whose files are all heavier
or all lighter than their weights: with 150 the estimate in the middle of a build is wrong by 14%, with
this many by 5%."""
_HIT_PACE_REMEMBERED = 300
"""The same for hits, which are all alike and soon over."""
_PRIOR_STEPS = 3
"""How many steps, as long as the average, the weights themselves count for."""
_PRIOR_HITS = 200
"""The same for hits: the first ones are slower than the rest, as headers come from the disk."""
_SHARE_REMEMBERED = 50
"""Compilations of a target over which its share of misses is taken: a cache that begins to answer shows."""
_SHARE_REMEMBERED_OF_ALL = 200
"""The same over all targets, for those of which nothing has ended yet."""
_STRAY_MISSES = 2
"""Misses among hits that say nothing about other files: what is generated from the configuration is another
text in each build. One taken at its word, early, makes ten minutes of a build of half a minute."""


class _Pace:
    """How many times longer than expected steps take; what was seen long ago counts little."""

    def __init__(self, remembered: float, usual: float, prior: float = _PRIOR_STEPS) -> None:
        self._keep = 1 - 1 / remembered
        self._taken = self._expected = prior * usual

    def add(self, taken: float, expected: float) -> None:
        self._taken = self._taken * self._keep + taken
        self._expected = self._expected * self._keep + expected

    @property
    def value(self) -> float:
        return self._taken / self._expected


class _Misses:
    """The share of compilations that no cache answers for, by the time that they take without one.

    By time, because of files that compile in no time anyway a few look like misses.
    """

    def __init__(self, remembered: float, stray: float) -> None:
        self._keep = 1 - 1 / remembered
        self._stray = stray
        """Seconds of stray misses."""
        self._missed = self._all = 0.0

    def add(self, *, hit: bool, seconds: float) -> None:
        self._missed = self._missed * self._keep + (0.0 if hit else seconds)
        self._all = self._all * self._keep + seconds

    @property
    def share(self) -> float:
        """1 as long as nothing has ended, and where everything is missed."""
        if not self._all:
            return 1.0
        stray = min(self._stray, self._all / 2)
        return max(0.0, self._missed - stray) / (self._all - stray)


class Estimator:
    """Estimates the course of a build that takes the `planned` ones of `steps`, `jobs` at a time."""

    def __init__(
        self, steps: Sequence[Step], planned: Collection[int], weights: Weights, *, jobs: int
    ) -> None:
        self._jobs = jobs
        self._left = set(planned)
        keys = {index: key_of(steps[index].description) for index in self._left}
        self._expected = {index: weights.expect(key) for index, key in keys.items()}
        self._targets = {index: target_of(key) for index, key in keys.items()}
        self._after = {
            index: [before for before in steps[index].after if before in self._left]
            for index in sorted(self._left)
        }
        self._followers: dict[int, list[int]] = {index: [] for index in self._left}
        for index, before in self._after.items():
            for each in before:
                self._followers[each].append(index)
        cached = [expected for expected in self._expected.values() if expected.hit is not None]
        others = [expected.seconds for expected in self._expected.values() if expected.hit is None]
        usual = _mean([expected.seconds for expected in cached])
        self._stray = _STRAY_MISSES * usual
        self._misses = _Misses(_SHARE_REMEMBERED_OF_ALL, self._stray)
        self._misses_of: dict[str, _Misses] = {}
        self._compiled = _Pace(_PACE_REMEMBERED, usual)
        self._hit = _Pace(
            _HIT_PACE_REMEMBERED, _mean([expected.hit or 0.0 for expected in cached]), _PRIOR_HITS
        )
        self._other = _Pace(_PACE_REMEMBERED, _mean(others))

    @property
    def steps_left(self) -> int:
        """How many of the planned steps have not ended."""
        return len(self._left)

    def finish(self, index: int, seconds: float) -> None:
        """A step ended, which took so long."""
        if index not in self._left:
            return
        self._left.remove(index)
        expected = self._expected[index]
        if expected.hit is None:
            self._other.add(seconds, expected.seconds)
            return
        hit = expected.is_hit(seconds, math.sqrt(self._hit.value * self._compiled.value))
        if hit:
            self._hit.add(seconds, expected.hit)
        else:
            self._compiled.add(seconds, expected.seconds)
        of_target = self._misses_of.setdefault(self._targets[index], _Misses(_SHARE_REMEMBERED, self._stray))
        for misses in (self._misses, of_target):
            misses.add(hit=hit, seconds=expected.seconds)

    def running(self) -> tuple[int, ...]:
        """The steps that run now, where that is certain: all that can run, if there are no more than jobs."""
        ready = [index for index in self._left if not any(each in self._left for each in self._after[index])]
        return tuple(sorted(ready)) if len(ready) <= self._jobs else ()

    def seconds_left(self) -> float:
        """Seconds from the last step's end to the build's, if all goes on as it does: 6 ms for 1622 steps."""
        shares = {target: misses.share for target, misses in self._misses_of.items()}
        of_all = self._misses.share
        durations = {
            index: self._duration(self._expected[index], shares.get(self._targets[index], of_all))
            for index in self._left
        }
        waiting = {index: sum(each in self._left for each in self._after[index]) for index in self._left}
        ready = [index for index, count in waiting.items() if count == 0]
        heapq.heapify(ready)
        running: list[tuple[float, int]] = []
        now = 0.0
        while ready or running:
            while ready and len(running) < self._jobs:
                index = heapq.heappop(ready)
                heapq.heappush(running, (now + durations[index], index))
            now, ended = heapq.heappop(running)
            for follower in self._followers[ended]:
                if follower in self._left:
                    waiting[follower] -= 1
                    if waiting[follower] == 0:
                        heapq.heappush(ready, follower)
        return now

    def _duration(self, expected: Expected, misses: float) -> float:
        if expected.hit is None:
            return expected.seconds * self._other.value
        compiled, hit = expected.seconds * self._compiled.value, expected.hit * self._hit.value
        return misses * compiled + (1 - misses) * hit


def _mean(seconds: Sequence[float]) -> float:
    """At least a hundredth of a second, so that a pace can be told of nothing."""
    return max(0.01, sum(seconds) / max(1, len(seconds)))

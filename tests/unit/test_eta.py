"""Estimates against recorded builds of 20.19.2 on two cores: one without a compiler cache, three from one.

builds/*.json.xz are such builds, as build/timings/NAME.json keeps them. The shipped weights are means by
folder of `cold` and of `cached-1`, so those two are no independent witnesses. The others are.
"""

from __future__ import annotations

import lzma
import random
from collections.abc import Iterable, Sequence
from functools import cache
from pathlib import Path

import pytest

from nodekiln.building.eta import Estimator
from nodekiln.building.stepgraph import Step
from nodekiln.building.timings import Timed, Timings
from nodekiln.building.weights import Expected, Shipped, Weights, key_of, shipped

_BUILDS = Path(__file__).with_name("builds")
SHIPPED = Weights({}, shipped())


@cache
def recorded(name: str) -> Timings:
    with lzma.open(_BUILDS / f"{name}.json.xz", "rt") as file:
        return Timings.from_json(file.read())


def learnt(*names: str) -> Weights:
    weights = SHIPPED
    for name in names:
        weights = weights.after((key_of(step.description), step.seconds) for step in recorded(name).steps)
    return weights


def estimates(
    build: Timings, weights: Weights, shares: Sequence[float], *, speed: float = 1.0
) -> list[float]:
    """The estimated whole, against the real one, after each of `shares` of the elapsed time."""
    steps = [Step(step.description, (), step.after) for step in build.steps]
    estimator = Estimator(steps, range(len(steps)), weights, jobs=build.jobs)
    whole = max(step.end for step in build.steps) * speed
    found, last, ahead = [], 0.0, list(shares)
    for index, step in enumerate(build.steps):
        while ahead and step.end * speed >= ahead[0] * whole:
            ahead.pop(0)
            found.append((last + estimator.seconds_left()) / whole)
        estimator.finish(index, step.seconds * speed)
        last = step.end * speed
    return found


@pytest.mark.parametrize("name", ["cold", "cached-1", "cached-2", "cached-3"])
def test_a_fifth_into_a_first_build_the_estimate_is_within_15_percent(name: str) -> None:
    assert estimates(recorded(name), SHIPPED, [0.2]) == [pytest.approx(1, abs=0.15)]


@pytest.mark.parametrize("share", [0.1, 0.2, 0.3, 0.5, 0.8])
def test_the_estimate_of_a_cold_build_stays_within_15_percent(share: float) -> None:
    assert estimates(recorded("cold"), SHIPPED, [share]) == [pytest.approx(1, abs=0.15)]


@pytest.mark.parametrize("seed", range(4))
def test_half_of_the_files_tell_enough_of_the_others(seed: int) -> None:
    half = random.Random(seed).sample(recorded("cold").steps, 811)  # noqa: S311 (no secret)
    weights = Weights({}, _means(half))
    assert estimates(recorded("cold"), weights, [0.2]) == [pytest.approx(1, abs=0.15)]


@pytest.mark.parametrize("speed", [0.25, 4.0])
def test_a_faster_or_slower_machine_is_noticed(speed: float) -> None:
    assert estimates(recorded("cold"), SHIPPED, [0.2], speed=speed) == [pytest.approx(1, abs=0.15)]


@pytest.mark.parametrize("name", ["cached-2", "cached-3"])
def test_after_a_cold_build_the_estimate_of_a_cached_one_is_within_a_fifth(name: str) -> None:
    assert estimates(recorded(name), learnt("cold"), [0.2]) == [pytest.approx(1, abs=0.2)]


def test_what_a_cached_build_teaches_does_not_spoil_the_estimate_of_a_cold_one() -> None:
    assert estimates(recorded("cold"), learnt("cached-2"), [0.2]) == [pytest.approx(1, abs=0.15)]


def test_a_machines_own_cold_build_makes_the_next_estimate_exact_from_the_start() -> None:
    assert estimates(recorded("cold"), learnt("cold"), [0.02]) == [pytest.approx(1, abs=0.03)]


# Small builds

WEIGHTS = Weights({}, Shipped({}, {"LINK": 3.0}, Expected(10.0, 0.02), other=1.0))


def build(*steps: Step, jobs: int = 2) -> Estimator:
    return Estimator(steps, range(len(steps)), WEIGHTS, jobs=jobs)


def files(names: Iterable[str]) -> list[Step]:
    return [Step(f"CXX obj/v8.{name}.o") for name in names]


def test_steps_share_the_jobs_and_wait_for_each_other() -> None:
    steps = [*files("abc"), Step("LINK node", (), (0, 1, 2))]
    assert build(*steps, jobs=2).seconds_left() == pytest.approx(23)
    assert build(*steps, jobs=3).seconds_left() == pytest.approx(13)


def test_hits_take_the_estimate_down_at_once() -> None:
    steps = files(map(str, range(100)))
    estimator = build(*steps)
    assert estimator.seconds_left() == pytest.approx(500)
    estimator.finish(0, 0.02)
    assert estimator.seconds_left() < 2


def test_a_single_miss_among_hits_is_not_taken_for_a_sign() -> None:
    estimator = build(*files(map(str, range(100))))
    for index in range(20):
        estimator.finish(index, 10.0 if index == 10 else 0.02)
    assert estimator.seconds_left() < 2


def test_a_cache_that_ceases_to_answer_is_noticed() -> None:
    estimator = build(*files(map(str, range(300))))
    for index in range(100):
        estimator.finish(index, 0.02)
    for index in range(100, 200):
        estimator.finish(index, 10.0)
    assert estimator.seconds_left() > 300


def test_only_planned_steps_count() -> None:
    steps = [*files("abc"), Step("LINK node", (), (0, 1, 2))]
    only = Estimator(steps, [0, 3], WEIGHTS, jobs=2)
    assert only.steps_left == 2
    assert only.seconds_left() == pytest.approx(13)
    only.finish(1, 5.0)
    assert only.steps_left == 2


def test_what_runs_now_is_told_where_it_is_certain() -> None:
    estimator = build(*files("abc"), Step("LINK node", (), (0, 1, 2)))
    assert estimator.running() == ()
    estimator.finish(0, 10.0)
    assert estimator.running() == (1, 2)
    estimator.finish(1, 10.0)
    estimator.finish(2, 10.0)
    assert estimator.running() == (3,)


def test_nothing_to_do_takes_no_time() -> None:
    assert build().seconds_left() == 0


def _means(steps: Sequence[Timed]) -> Shipped:
    """Weights by folder from some steps, as benchmarks/weights.py makes them from all."""
    from nodekiln.building.weights import group_of, is_compilation, target_of

    sums: dict[str, list[float]] = {}
    for step in steps:
        if is_compilation(key := key_of(step.description)):
            for name in (group_of(key), target_of(key)):
                sums.setdefault(name, []).append(step.seconds)
    groups = {name: Expected(max(0.03, sum(all_) / len(all_)), 0.01) for name, all_ in sums.items()}
    return Shipped(groups, {}, Expected(5.0, 0.01), 0.1)

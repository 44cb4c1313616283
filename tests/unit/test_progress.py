"""The progress of builds: estimates against recorded builds, and parsing of ninja's output and log.

builds/*.json.xz are builds of 20.19.2 on two cores, as build/timings/NAME.json keeps them: one without a
compiler cache, three from one. The shipped weights are means by folder of `cold` and of `cached-1`; only the
other two are independent of them.
"""

from __future__ import annotations

import lzma
import random
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import pytest

from nodekiln.building.ninja import NinjaLog, Step
from nodekiln.building.progress import Estimator, NinjaProgress, smoothed
from nodekiln.building.timings import Timed, Timings
from nodekiln.building.weights import (
    Expected,
    Shipped,
    Weights,
    group_of,
    is_compilation,
    key_of,
    shipped,
    target_of,
)

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


def estimate(build: Timings, weights: Weights, share: float, *, speed: float = 1.0) -> float:
    """Return the estimated duration over the real one, after `share` of it."""
    steps = {index: step.description for index, step in enumerate(build.steps)}
    estimator = Estimator(steps, weights, jobs=build.jobs)
    whole = max(step.end for step in build.steps) * speed
    elapsed = 0.0
    for index, step in enumerate(build.steps):
        if step.end * speed >= share * whole:
            break
        estimator.finish(index, step.seconds * speed)
        elapsed = step.end * speed
    return (elapsed + estimator.seconds_left(elapsed)) / whole


@pytest.mark.parametrize("name", ["cold", "cached-1", "cached-2", "cached-3"])
def test_estimate_after_a_fifth_of_a_first_build_is_within_15_percent(name: str) -> None:
    assert estimate(recorded(name), SHIPPED, 0.2) == pytest.approx(1, abs=0.15)


@pytest.mark.parametrize("share", [0.02, 0.05, 0.1, 0.2, 0.3, 0.5, 0.8])
def test_estimate_of_a_cold_build_stays_within_10_percent(share: float) -> None:
    assert estimate(recorded("cold"), SHIPPED, share) == pytest.approx(1, abs=0.1)


@pytest.mark.parametrize("seed", range(4))
def test_estimate_from_weights_of_half_the_files_is_within_15_percent(seed: int) -> None:
    half = random.Random(seed).sample(recorded("cold").steps, 811)  # noqa: S311 (no secret)
    assert estimate(recorded("cold"), Weights({}, _means(half)), 0.2) == pytest.approx(1, abs=0.15)


@pytest.mark.parametrize("speed", [0.25, 4.0])
def test_estimate_on_a_machine_of_another_speed_is_within_15_percent(speed: float) -> None:
    assert estimate(recorded("cold"), SHIPPED, 0.2, speed=speed) == pytest.approx(1, abs=0.15)


@pytest.mark.parametrize("name", ["cached-2", "cached-3"])
def test_estimate_of_a_cached_build_after_a_cold_one_is_within_a_fifth(name: str) -> None:
    assert estimate(recorded(name), learnt("cold"), 0.2) == pytest.approx(1, abs=0.2)


def test_estimate_of_a_cold_build_after_a_cached_one_is_within_15_percent() -> None:
    assert estimate(recorded("cold"), learnt("cached-2"), 0.2) == pytest.approx(1, abs=0.15)


def test_estimate_with_own_times_is_within_4_percent_from_the_start() -> None:
    assert estimate(recorded("cold"), learnt("cold"), 0.02) == pytest.approx(1, abs=0.04)


# Small builds

WEIGHTS = Weights({}, Shipped({}, {"LINK": 3.0}, Expected(10.0, 0.02), other=1.0))


def small_build(count: int, jobs: int = 2) -> Estimator:
    return Estimator({i: f"CXX obj/v8.{i}.o" for i in range(count)}, WEIGHTS, jobs=jobs)


def test_estimate_divides_compilations_by_jobs() -> None:
    assert small_build(100, jobs=1).seconds_left(0) == pytest.approx(1000)
    assert small_build(100, jobs=4).seconds_left(0) == pytest.approx(250)


def test_estimate_with_idle_jobs_is_longer() -> None:
    estimator = small_build(100, jobs=4)
    for index in range(50):
        estimator.finish(index, 10.0)
    assert estimator.seconds_left(500) > estimator.seconds_left(125) * 2


def test_estimate_after_a_cache_hit_drops_at_once() -> None:
    estimator = small_build(100)
    estimator.finish(0, 0.02)
    assert estimator.seconds_left(0) < 2


def test_estimate_with_a_single_miss_among_hits_stays_low() -> None:
    estimator = small_build(100)
    for index in range(20):
        estimator.finish(index, 10.0 if index == 10 else 0.02)
    assert estimator.seconds_left(10) < 2


def test_estimate_rises_when_the_cache_stops_answering() -> None:
    estimator = small_build(300)
    for index in range(100):
        estimator.finish(index, 0.02)
    for index in range(100, 200):
        estimator.finish(index, 10.0)
    assert estimator.seconds_left(501) > 300


def test_estimate_ignores_steps_that_were_not_planned() -> None:
    estimator = small_build(3)
    estimator.finish(7, 5.0)
    assert len(estimator.left) == 3


def test_estimate_of_no_steps_is_zero() -> None:
    assert small_build(0).seconds_left(0) == 0


@pytest.mark.parametrize(
    ("shown", "left", "displayed"),
    [(None, 100, 100), (100, 110, 102), (100, 90, 98), (100, 20, 20), (100, 300, 300), (0, 0, 0)],
)
def test_displayed_estimate_follows_without_jumping(
    shown: float | None, left: float, displayed: float
) -> None:
    assert smoothed(shown, left) == pytest.approx(displayed)


def _means(steps: Sequence[Timed]) -> Shipped:
    """Return weights by folder from some steps, as benchmarks/weights.py makes them from all."""
    sums: dict[str, list[float]] = {}
    for step in steps:
        if is_compilation(key := key_of(step.description)):
            for name in (group_of(key), target_of(key)):
                sums.setdefault(name, []).append(step.seconds)
    groups = {name: Expected(max(0.03, sum(all_) / len(all_)), 0.01) for name, all_ in sums.items()}
    return Shipped(groups, {}, Expected(5.0, 0.01), 0.1)


# A run of ninja

TORQUE, NODE = Step("ACTION run_torque", ("gen/a.cc", "gen/b.cc")), Step("LINK node", ("node",), (0,))


class Meter:
    def __init__(self) -> None:
        self.details: list[str] = []

    def update(self, done: int, total: int | None, detail: str = "", *, left: float | None = None) -> None:
        self.details.append(detail)


class Graph:
    """Returns steps, and counts its calls."""

    def __init__(self, *steps: Step) -> None:
        self.steps, self.calls = steps, 0

    def __call__(self) -> tuple[Step, ...]:
        self.calls += 1
        return self.steps


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / ".ninja_log"


def follow(log: Path, graph: Graph, meter: Meter | None = None) -> NinjaProgress:
    planned = [step.description for step in graph.steps]
    return NinjaProgress(
        graph=graph, planned=planned, log=NinjaLog(log), weights=SHIPPED, jobs=2, meter=meter or Meter()
    )


def test_ninja_step_with_partly_logged_outputs_is_counted_once(log: Path) -> None:
    progress = follow(log, Graph(TORQUE, NODE))
    log.write_text("0\t2000\t1\tgen/a.cc\tf00\n")
    progress.line("[1/2] ACTION run_torque")
    with log.open("a") as more:
        more.write("0\t2000\t1\tgen/b.cc\tf00\n2000\t3000\t1\tnode\tbad\n")
    progress.line("[2/2] LINK node")
    assert [(step.description, step.end, step.after) for step in progress.timed()] == [
        ("ACTION run_torque", 2.0, ()),
        ("LINK node", 3.0, (0,)),
    ]


def test_ninja_without_graph_has_progress_and_no_times(log: Path) -> None:
    progress = follow(log, Graph())
    log.write_text("0\t2000\t1\tgen/a.cc\tf00\n")
    progress.line("[1/2] ACTION run_torque")
    assert (progress.done, progress.timed()) == (1, ())


def test_ninja_with_nothing_run_does_not_read_the_graph(log: Path) -> None:
    graph = Graph(TORQUE, NODE)
    assert follow(log, graph).timed() == ()
    assert graph.calls == 0


def test_ninja_detail_is_the_running_steps_if_certain(log: Path) -> None:
    meter = Meter()
    progress = follow(log, Graph(TORQUE, NODE), meter)
    log.write_text("0\t2000\t1\tgen/a.cc\tf00\n")
    progress.line("[1/2] ACTION run_torque")
    assert meter.details == ["LINK node"]

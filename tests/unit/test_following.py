"""A run of ninja, followed by what it prints and what its log tells."""

from __future__ import annotations

from pathlib import Path

import pytest

from nodekiln.building.following import NinjaFollower
from nodekiln.building.ninjalog import NinjaLog
from nodekiln.building.stepgraph import Step
from nodekiln.building.weights import Weights, shipped

TORQUE, NODE = Step("ACTION run_torque", ("gen/a.cc", "gen/b.cc")), Step("LINK node", ("node",), (0,))


class Meter:
    def update(self, done: int, total: int | None, detail: str = "", *, left: float | None = None) -> None:
        """Nobody watches."""


class Graph:
    """Answers with steps, and counts how often it is asked."""

    def __init__(self, *steps: Step) -> None:
        self.steps, self.asked = steps, 0

    def __call__(self) -> tuple[Step, ...]:
        self.asked += 1
        return self.steps


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / ".ninja_log"


def follow(log: Path, graph: Graph) -> NinjaFollower:
    planned = [step.description for step in graph.steps]
    weights = Weights({}, shipped())
    return NinjaFollower(
        graph=graph, planned=planned, log=NinjaLog(log), weights=weights, jobs=2, meter=Meter()
    )


def test_a_step_whose_outputs_are_still_being_written_down_is_told_once(log: Path) -> None:
    follower = follow(log, Graph(TORQUE, NODE))
    log.write_text("0\t2000\t1\tgen/a.cc\tf00\n")
    follower.line("[1/2] ACTION run_torque")
    with log.open("a") as more:
        more.write("0\t2000\t1\tgen/b.cc\tf00\n2000\t3000\t1\tnode\tbad\n")
    follower.line("[2/2] LINK node")
    assert [(step.description, step.end, step.after) for step in follower.timed()] == [
        ("ACTION run_torque", 2.0, ()),
        ("LINK node", 3.0, (0,)),
    ]


def test_a_ninja_that_tells_no_graph_is_followed_without_times(log: Path) -> None:
    follower = follow(log, Graph())
    log.write_text("0\t2000\t1\tgen/a.cc\tf00\n")
    follower.line("[1/2] ACTION run_torque")
    assert (follower.done, follower.timed()) == (1, ())


def test_where_nothing_ran_the_graph_is_not_asked_for(log: Path) -> None:
    graph = Graph(TORQUE, NODE)
    assert follow(log, graph).timed() == ()
    assert graph.asked == 0

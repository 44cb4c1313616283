"""Compare the findings of the self-check with recipes."""

from __future__ import annotations

from dataclasses import replace

import pytest

from nodekiln.binaries.selfcheck import Expected, Findings, PathResult, compare

STOCK = Expected(version="v20.19.2", recipe="v20.19.2", plan="abc", backpressure=True)
HONEST = Findings(
    version="v20.19.2",
    recipe="v20.19.2",
    plan="abc",
    write_answers=False,
    paths={
        "write()": PathResult(False, 100, 100),
        "gzip": PathResult(False, 100, 100),
        "Writable.toWeb of a full sink": PathResult(False, 100, 99),
    },
)
UNBOUNDED = replace(
    HONEST,
    write_answers=True,
    paths={name: PathResult(True, 100, 100) for name in HONEST.paths},
)
FREE = replace(STOCK, backpressure=False)


def with_path(found: Findings, name: str, result: PathResult) -> Findings:
    return replace(found, paths={**found.paths, name: result})


def test_honest_binary_passes() -> None:
    assert compare(HONEST, STOCK) == ()
    assert compare(UNBOUNDED, FREE) == ()


@pytest.mark.parametrize(
    ("found", "told"),
    [
        (replace(HONEST, version="v20.19.3"), "process.version"),
        (replace(HONEST, recipe=None), "the recipe"),
        (replace(HONEST, plan="abd"), "the plan"),
        (replace(HONEST, write_answers=True), "write()"),
        (with_path(HONEST, "gzip", PathResult(False, 100, 50)), "gzip lost data: 50 of 100"),
        (with_path(HONEST, "gzip", PathResult(error="it did not end")), "gzip could not be tried"),
    ],
)
def test_each_difference_is_reported(found: Findings, told: str) -> None:
    (only,) = compare(found, STOCK)
    assert told in only


def test_bounded_path_without_backpressure_is_named() -> None:
    (only,) = compare(with_path(UNBOUNDED, "HTTP response, chunked", PathResult(False, 100, 100)), FREE)
    assert only.startswith("HTTP response, chunked waits")


def test_unbounded_path_with_backpressure_is_named() -> None:
    (only,) = compare(with_path(HONEST, "HTTP/2 stream", PathResult(True, 100, 100)), STOCK)
    assert only.startswith("HTTP/2 stream never waits")
    assert compare(with_path(HONEST, "gzip", PathResult(True, 100, 100)), STOCK) == ()


def test_data_lost_without_backpressure_is_named() -> None:
    found = with_path(UNBOUNDED, "Writable.toWeb of a full sink", PathResult(True, 100, 50))
    assert len(compare(found, FREE)) == 1


def test_path_without_a_network_is_not_held_against_the_binary() -> None:
    refused = PathResult(error="listen EPERM: operation not permitted 127.0.0.1")
    assert compare(with_path(UNBOUNDED, "net.Socket, write()", refused), FREE) == ()


def test_graft_has_no_marks_and_its_texts_are_compared() -> None:
    grafted = replace(STOCK, recipe=None, plan=None, texts={"internal/streams/writable": "ab"})
    silent = replace(HONEST, recipe=None, plan=None)
    assert compare(replace(silent, texts={"internal/streams/writable": "ab"}), grafted) == ()
    for texts in ({}, {"internal/streams/writable": None}, {"internal/streams/writable": "cd"}):
        (only,) = compare(replace(silent, texts=texts), grafted)
        assert only == "the text of its module internal/streams/writable is not what was planned"

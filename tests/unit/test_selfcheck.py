"""What a binary answered against what its recipe says."""

from __future__ import annotations

from dataclasses import replace

import pytest

from nodekiln.binaries.selfcheck import Expected, Findings, Transfer, compare

STOCK = Expected(version="v20.19.2", recipe="v20.19.2", plan="abc", backpressure=True)
HONEST = Findings(
    version="v20.19.2",
    recipe="v20.19.2",
    plan="abc",
    write_answers=False,
    to_web=Transfer(100, 100),
    compression=None,
)


def test_an_honest_binary_passes() -> None:
    assert compare(HONEST, STOCK) == ()
    assert compare(replace(HONEST, write_answers=True), replace(STOCK, backpressure=False)) == ()


@pytest.mark.parametrize(
    ("found", "told"),
    [
        (replace(HONEST, version="v20.19.3"), "process.version"),
        (replace(HONEST, recipe=None), "the recipe"),
        (replace(HONEST, plan="abd"), "the plan"),
        (replace(HONEST, write_answers=True), "write()"),
        (replace(HONEST, to_web=Transfer(100, 50)), "Writable.toWeb lost data: 50 of 100"),
        (replace(HONEST, compression=Transfer(100, 99)), "CompressionStream lost data"),
    ],
)
def test_each_difference_is_told(found: Findings, told: str) -> None:
    (only,) = compare(found, STOCK)
    assert told in only


def test_a_graft_has_no_marks_and_its_texts_are_compared() -> None:
    grafted = replace(STOCK, recipe=None, plan=None, texts={"internal/streams/writable": "ab"})
    silent = replace(HONEST, recipe=None, plan=None)
    assert compare(replace(silent, texts={"internal/streams/writable": "ab"}), grafted) == ()
    for texts in ({}, {"internal/streams/writable": None}, {"internal/streams/writable": "cd"}):
        (only,) = compare(replace(silent, texts=texts), grafted)
        assert only == "the text of its module internal/streams/writable is not what was planned"

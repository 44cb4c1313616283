"""In which order trials are run: every binary once in each round, in random order, so that what else the
machine does meets all of them alike."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Turn:
    """A trial to run: its round (from 1), its binary's label, its place in the whole sequence (from 1)."""

    number: int
    label: str
    order: int


def turns(labels: Sequence[str], rounds: int, seed: int) -> Iterator[Turn]:
    """The same sequence for the same seed, on every machine and Python."""
    chance = random.Random(f"turns {seed}")  # noqa: S311 (an order, no secret)
    order = 0
    for number in range(1, rounds + 1):
        for label in sorted(labels, key=lambda _: chance.random()):
            order += 1
            yield Turn(number, label, order)

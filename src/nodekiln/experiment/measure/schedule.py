"""In which order binaries are run: each once in a round, in random order, so that what else the machine does
meets all of them alike; and each as often first, second and last as any other, so that what the run before
leaves behind (a warm processor, a disk that still writes) does as well."""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import TypeVar

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Turn:
    """A trial to run: its round (from 1), its binary's label, its place in the whole sequence (from 1)."""

    number: int
    label: str
    order: int


def turns(labels: Sequence[str], rounds: int, seed: int) -> Iterator[Turn]:
    """The same sequence for the same seed, on every machine and Python."""
    order = 0
    for number, labels_in_turn in enumerate(islice(orders(labels, f"turns {seed}"), rounds), 1):
        for label in labels_in_turn:
            order += 1
            yield Turn(number, label, order)


def orders(labels: Sequence[str], seed: str) -> Iterator[tuple[str, ...]]:
    """The labels in the order of each round, without end; the same ones for the same seed everywhere.

    As many rounds as there are labels make a block: the rotations of one random order, shuffled. In a block
    every label stands in every place once, so that whatever number of rounds is taken, the times that two
    labels came first differ by one at most.
    """
    chance = random.Random(seed)  # noqa: S311 (an order, no secret)

    def shuffled(values: Iterable[T]) -> list[T]:
        # random.shuffle may become another one; what random() gives is promised to stay.
        return sorted(values, key=lambda _: chance.random())

    while labels:
        first = shuffled(labels)
        yield from shuffled((*first[place:], *first[:place]) for place in range(len(first)))

"""In which order binaries are run: random, the seed's, and balanced."""

from __future__ import annotations

from collections import Counter
from itertools import islice

import pytest

from nodekiln.experiment.measure.trials import orders, turns


def test_every_binary_runs_once_in_each_round() -> None:
    planned = list(turns(["a", "b", "c"], 40, seed=7))
    assert [turn.order for turn in planned] == list(range(1, 121))
    assert Counter((turn.number, turn.label) for turn in planned) == {
        (number, label): 1 for number in range(1, 41) for label in "abc"
    }
    assert [turn.number for turn in planned] == sorted(turn.number for turn in planned)


def test_order_is_the_seeds() -> None:
    assert list(turns("ab", 20, seed=1)) == list(turns("ab", 20, seed=1))
    assert list(turns("ab", 20, seed=1)) != list(turns("ab", 20, seed=2))


def test_order_of_a_seed_never_changes() -> None:
    """Not with a machine, not with a Python: written down when this was made."""
    assert ["".join(order) for order in islice(orders("abc", "turns 1"), 6)] == [
        "cba",
        "bac",
        "acb",
        "abc",
        "bca",
        "cab",
    ]


@pytest.mark.parametrize("labels", ["ab", "abc", "abcd"])
@pytest.mark.parametrize("seed", range(20))
def test_every_binary_is_in_each_position_equally_often(labels: str, seed: int) -> None:
    """Of any number of rounds up to one time more. By chance alone one went first in four trials of five."""
    rounds = list(islice(orders(labels, str(seed)), 13))
    for taken in range(1, len(rounds) + 1):
        for place in range(len(labels)):
            times = Counter(order[place] for order in rounds[:taken])
            assert max(times.values()) - min(times[label] for label in labels) <= 1


def test_first_binary_of_a_round_does_not_follow_from_the_one_before() -> None:
    """Blocks of two rounds: the second of a block is the first turned round, what follows is chance."""
    firsts = "".join(order[0] for order in islice(orders("ab", "1"), 200))
    blocks = Counter(firsts[start : start + 2] for start in range(0, 200, 2))
    assert set(blocks) == {"ab", "ba"}
    assert min(blocks.values()) > 30


def test_order_of_no_binaries_is_empty() -> None:
    assert list(turns([], 3, seed=1)) == []

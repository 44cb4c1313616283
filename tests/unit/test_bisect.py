"""The search between a good and a bad end."""

from __future__ import annotations

import pytest

from nodekiln.pipelines.bisect import Verdict, narrow


@pytest.mark.parametrize("first_bad", [1, 2, 7, 64, 100])
def test_search_ends_between_neighbors_after_few_runs(first_bad: int) -> None:
    asked = []

    def judge(number: int) -> Verdict:
        asked.append(number)
        return Verdict.BAD if number >= first_bad else Verdict.GOOD

    assert narrow(0, 100, judge) == (first_bad - 1, first_bad)
    assert len(asked) == len(set(asked)) <= 7


def test_skipped_numbers_are_passed_over() -> None:
    def judge(number: int) -> Verdict:
        if 40 <= number <= 60:
            return Verdict.SKIPPED
        return Verdict.BAD if number >= 70 else Verdict.GOOD

    assert narrow(0, 100, judge) == (69, 70)


def test_search_among_skipped_numbers_ends_with_their_ends() -> None:
    def judge(number: int) -> Verdict:
        if number in (4, 5, 6):
            return Verdict.SKIPPED
        return Verdict.BAD if number > 5 else Verdict.GOOD

    assert narrow(0, 10, judge) == (3, 7)

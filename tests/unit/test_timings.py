"""The timings of a build: longest steps, steps at once, the critical path, and the kept file."""

from __future__ import annotations

import json

import pytest

from nodekiln.building.timings import Group, Timed, Timings
from nodekiln.core.errors import BuildError

A = Timed("CXX obj/src/libnode.a.o", 0.0, 4.0)
B = Timed("CXX obj/src/libnode.b.o", 0.0, 5.0)
GEN = Timed("ACTION gen", 4.0, 6.5, (0,))
LINK = Timed("LINK node", 6.5, 9.0, (1, 2))
BUILD = Timings(name="v20.1.0", jobs=2, steps=(A, B, GEN, LINK))


def test_critical_path_is_the_longest_chain() -> None:
    assert BUILD.critical_path() == (A, GEN, LINK)


def test_seconds_are_from_first_start_to_last_end() -> None:
    assert BUILD.seconds == 9.0
    assert BUILD.busy == 14.0


def test_longest_steps_are_sorted() -> None:
    assert BUILD.longest(2) == (B, A)


def test_groups_are_targets_of_compilations_and_other_kinds() -> None:
    assert BUILD.groups() == (
        Group("compile libnode", 2, 9.0),
        Group("ACTION", 1, 2.5),
        Group("LINK", 1, 2.5),
    )


def test_course_counts_steps_in_each_part() -> None:
    moments, rows = BUILD.course(9, 2)
    assert moments == pytest.approx([float(second) for second in range(9)])
    assert rows["compile libnode"] == pytest.approx([2, 2, 2, 2, 1, 0, 0, 0, 0])
    assert rows["ACTION"] == pytest.approx([0, 0, 0, 0, 1, 1, 0.5, 0, 0])
    assert rows["other"] == pytest.approx([0, 0, 0, 0, 0, 0, 0.5, 1, 1])


def test_timings_without_steps_are_zero() -> None:
    none = Timings(name="v20.1.0", jobs=2, steps=())
    assert (none.seconds, none.busy, none.critical_path(), none.groups()) == (0.0, 0, (), ())


def test_json_round_trip() -> None:
    assert Timings.from_json(BUILD.to_json()) == BUILD


@pytest.mark.parametrize(
    "change",
    [
        {"form": 0},
        {"steps": None},
        {"steps": [["LINK", 0, 1, [0]]]},
        {"steps": [["LINK", 0, 1, [-1]]]},
        {"steps": [["LINK", 0]]},
        {"steps": [["LINK", "early", 1, []]]},
        {"jobs": None},
    ],
)
def test_damaged_record_raises_build_error(change: dict[str, object]) -> None:
    with pytest.raises(BuildError, match="damaged"):
        Timings.from_json(json.dumps(json.loads(BUILD.to_json()) | change))


@pytest.mark.parametrize("text", ["", "[]", "null", "{}", "\x00"])
def test_text_that_is_no_record_raises_build_error(text: str) -> None:
    with pytest.raises(BuildError, match="damaged"):
        Timings.from_json(text)


def test_as_data_has_all_figures() -> None:
    data = BUILD.as_data(1)
    assert (data["name"], data["jobs"], data["steps"], data["seconds"]) == ("v20.1.0", 2, 4, 9.0)
    assert data["critical_path_seconds"] == 9.0
    assert [each["step"] for each in data["longest"]] == [B.description]

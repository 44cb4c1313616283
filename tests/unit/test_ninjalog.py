"""Reading .ninja_log: one run told from those before it, steps with many outputs, and a log that changes."""

from __future__ import annotations

from pathlib import Path

import pytest

from nodekiln.building.ninjalog import NinjaLog, Ran, steps_of

HEAD = "# ninja log v6\n"
FIRST = "14\t514\t1795400557281276699\tobj/a.o\t61636cd4ecfca33f\n"
SECOND = "15\t1031\t1795400557284366693\tobj/b.o\t606fc10241676730\n"


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / ".ninja_log"


def append(log: Path, text: str) -> None:
    with log.open("a") as file:
        file.write(text)


def test_times_are_seconds_since_the_run_began() -> None:
    assert steps_of([HEAD, FIRST]) == (Ran(("obj/a.o",), 0.014, 0.514),)


def test_a_step_with_many_outputs_is_one_step() -> None:
    lines = [f"7\t9\t0\tgen/{name}.h\tabc\n" for name in "xyz"]
    assert steps_of(lines) == (Ran(("gen/x.h", "gen/y.h", "gen/z.h"), 0.007, 0.009),)


def test_two_steps_at_the_same_time_are_two() -> None:
    assert len(steps_of(["7\t9\t0\ta\tabc", "7\t9\t0\tb\tdef"])) == 2


@pytest.mark.parametrize(
    "line", ["", "# ninja log v6", "1\t2\t3\ta.o", "x\t2\t3\ta.o\tabc", "-1\t2\t3\ta.o\tabc"]
)
def test_what_ninja_did_not_write_is_passed_over(line: str) -> None:
    assert steps_of([line, FIRST]) == steps_of([FIRST])


def test_steps_of_an_earlier_run_are_not_told(log: Path) -> None:
    append(log, HEAD + FIRST)
    following = NinjaLog(log)
    append(log, SECOND)
    assert following.read() == steps_of([SECOND])


def test_each_step_is_told_once(log: Path) -> None:
    following = NinjaLog(log)
    append(log, HEAD + FIRST)
    assert following.read() == steps_of([FIRST])
    append(log, SECOND)
    assert following.read() == steps_of([SECOND])
    assert following.read() == ()


def test_a_line_that_is_still_being_written_waits_for_its_end(log: Path) -> None:
    following = NinjaLog(log)
    append(log, HEAD + FIRST[:20])
    assert following.read() == ()
    append(log, FIRST[20:])
    assert following.read() == steps_of([FIRST])


def test_a_log_that_ninja_wrote_anew_in_another_order_tells_nothing_twice(log: Path) -> None:
    append(log, HEAD + FIRST + SECOND)
    following = NinjaLog(log)
    third = FIRST.replace("obj/a.o", "obj/c.o")
    fresh = log.with_name("fresh")
    fresh.write_text(HEAD + SECOND + FIRST + third)
    fresh.replace(log)
    assert following.read() == steps_of([third])


def test_the_same_step_again_is_a_step_of_this_run(log: Path) -> None:
    append(log, HEAD + FIRST)
    following = NinjaLog(log)
    again = FIRST.replace("14\t514", "10\t900")
    append(log, again)
    assert following.read() == steps_of([again])


def test_no_log_tells_nothing(log: Path) -> None:
    assert NinjaLog(log).read() == ()
